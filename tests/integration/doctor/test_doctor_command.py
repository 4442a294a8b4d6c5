"""`bms-ingest doctor` as an operator runs it."""

from __future__ import annotations

from typing import Any

from bms_ingest.demo.embedded import EmbeddedBroker, free_port
from tests.integration.cli.conftest import BmsIngest
from tests.integration.cli.conftest import bms_ingest as bms_ingest


def statuses(document: list[dict[str, Any]]) -> dict[str, str]:
    return {line["check"]: line["status"] for line in document}


def test_a_clean_machine_is_well(bms_ingest: BmsIngest, database_dsn: str, mosquitto: EmbeddedBroker) -> None:
    settings = {"DATABASE__DSN": database_dsn, "MQTT__URL": mosquitto.url, "HTTP__PORT": str(free_port())}
    finished = bms_ingest("doctor", "--json", **settings)
    assert finished.code == 0, finished.text
    assert finished.err == ""
    found = statuses(finished.json())
    skipped = {check for check, status in found.items() if status == "skip"}
    assert {status for check, status in found.items() if check not in skipped} == {"ok"}
    assert skipped == {"writers", "daemon", "qos 0 received", "client id"}
    for line in finished.json():
        assert set(line) == {"check", "status", "found", "advice"}
    text = bms_ingest("doctor", **settings)
    assert text.code == 0
    assert text.text.splitlines()[-1] == f"{len(found) - 4} ok, 0 warnings, 0 failed"
    assert len(text.text.splitlines()) == len(found) + 1


def test_nothing_there_is_1_with_a_line_and_an_advice_each_and_no_secret(bms_ingest: BmsIngest) -> None:
    password = "never-" + "shown"
    settings = {
        "DATABASE__DSN": f"postgresql://ingest:{password}@127.0.0.1:{free_port()}/bms",
        "MQTT__URL": f"mqtt://ingest:{password}@127.0.0.1:{free_port()}",
        "HTTP__PORT": str(free_port()),
    }
    finished = bms_ingest("doctor", "--json", **settings)
    assert finished.code == 1
    failed = [line for line in finished.json() if line["status"] == "fail"]
    assert [line["check"] for line in failed] == ["database", "broker"]
    assert all(line["advice"] for line in failed)
    text = bms_ingest("doctor", **settings)
    assert text.code == 1
    assert password not in finished.text + finished.err + text.text + text.err
    assert "Traceback" not in finished.err + text.err


def test_servers_that_never_answer_get_their_lines(bms_ingest: BmsIngest, black_hole: int) -> None:
    finished = bms_ingest(
        "doctor",
        "--json",
        DATABASE__DSN=f"postgresql://ingest@127.0.0.1:{black_hole}/bms",
        MQTT__URL=f"mqtts://127.0.0.1:{black_hole}",
        HTTP__PORT=str(black_hole),
    )
    assert finished.code == 1
    found = {line["check"]: line for line in finished.json()}
    assert found["database"]["found"] == "did not answer within 2.5 s"
    assert found["broker"]["status"] == "fail"
    assert found["daemon"]["status"] == "warn"


def test_a_schema_that_is_missing_is_1(
    bms_ingest: BmsIngest, empty_database_dsn: str, broker: EmbeddedBroker
) -> None:
    finished = bms_ingest(
        "doctor", DATABASE__DSN=empty_database_dsn, MQTT__URL=broker.url, HTTP__PORT=str(free_port())
    )
    assert finished.code == 1
    assert "fail  schema " in finished.text
    assert "-> run: bms-ingest migrate" in finished.text


def test_the_share_group_of_the_daemon_is_not_joined(
    bms_ingest: BmsIngest, database_dsn: str, mosquitto: EmbeddedBroker
) -> None:
    finished = bms_ingest(
        "doctor",
        "--json",
        DATABASE__DSN=database_dsn,
        MQTT__URL=mosquitto.url,
        MQTT__SHARE_GROUP="fleet",
        HTTP__PORT=str(free_port()),
    )
    assert finished.code == 0
    (subscription,) = [line for line in finished.json() if line["check"] == "subscription"]
    assert subscription["found"].startswith("$share/fleet-doctor/bms/sites/+/telemetry is granted")
