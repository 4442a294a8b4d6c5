"""sites and quarantine, on a real database with what the daemon would have left there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from bms_ingest.ingest.quarantine import Quarantine
from bms_ingest.models import Reason, Rejection
from tests.fixtures.postgres import MakeSite
from tests.integration.cli.conftest import BmsIngest

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rejection(
    site_id: int | None, payload: bytes, reason: Reason = Reason.UNKNOWN_SITE, **more: Any
) -> Rejection:
    facts: dict[str, Any] = {
        "detail": f"because of {reason}",
        "topic": f"bms/sites/{site_id}/telemetry",
        "position": None,
        "received_at": NOW,
    }
    return Rejection(reason=reason, site_id=site_id, payload=payload, **(facts | more))


async def keep(connection: asyncpg.Connection, *rejections: Rejection) -> None:
    for one in rejections:
        await Quarantine().add(connection, [one])


@pytest.mark.parametrize("given", ["Bahnhöfe & Söhne", "bahnhofe-sohne", "BAHNHÖFE & SÖHNE"])
def test_add_makes_an_organization_once_and_finds_it_by_name_and_slug(
    bms_ingest: BmsIngest, database_dsn: str, given: str
) -> None:
    first = bms_ingest(
        "sites", "add", "--organization", "Bahnhöfe & Söhne", "--name", "Nord", DATABASE__DSN=database_dsn
    )
    assert first.code == 0, first.err
    assert first.text == (
        "added organization bahnhofe-sohne\n"
        "added site 1 of bahnhofe-sohne\n"
        "its gateway publishes to bms/sites/1/telemetry\n"
    )
    second = bms_ingest(
        "sites", "add", "--organization", given, "--name", "Süd", "--json", DATABASE__DSN=database_dsn
    ).json()
    assert (second["organization"], second["organization_is_new"]) == ("bahnhofe-sohne", False)


def test_add_stores_everything_and_prints_the_topic_of_the_settings(
    bms_ingest: BmsIngest, database_dsn: str
) -> None:
    finished = bms_ingest(
        *("sites", "add", "--organization", "acme", "--name", "Tower 7", "--id", "4711"),
        *(
            "--latitude",
            "-33.9",
            "--longitude",
            "18.4",
            "--nominal-voltage",
            "48",
            "--expected-interval",
            "90s",
        ),
        "--json",
        DATABASE__DSN=database_dsn,
        MQTT__TELEMETRY_TOPIC="plant/{site_id}/readings",
    )
    assert finished.json() == {
        "id": 4711,
        "organization": "acme",
        "name": "Tower 7",
        "status": "active",
        "latitude": -33.9,
        "longitude": 18.4,
        "nominal_voltage": 48.0,
        "expected_interval_seconds": 90.0,
        "last_seen_at": None,
        "topic": "plant/4711/readings",
        "organization_is_new": True,
    }


def test_a_chosen_id_is_taken_once_and_the_sequence_goes_on_behind_it(
    bms_ingest: BmsIngest, database_dsn: str
) -> None:
    def add(*more: str) -> Any:
        return bms_ingest(
            "sites", "add", "--organization", "a", "--name", "n", *more, DATABASE__DSN=database_dsn
        )

    assert add("--id", "7").code == 0
    again = add("--id", "7")
    assert again.code == 1
    assert again.err.splitlines() == [
        "bms-ingest: the id 7 is taken by another site; see: bms-ingest sites list"
    ]
    assert add("--id", "3").code == 0
    assert add("--json").json()["id"] == 8


def test_an_organization_without_latin_letters_is_refused_with_advice(
    bms_ingest: BmsIngest, database_dsn: str
) -> None:
    finished = bms_ingest("sites", "add", "--organization", "电力", "--name", "n", DATABASE__DSN=database_dsn)
    assert finished.code == 1
    assert "write a name with Latin letters or digits" in finished.err
    assert bms_ingest("sites", "list", DATABASE__DSN=database_dsn).text.startswith(
        "there are no sites; add one"
    )


async def test_an_ambiguous_organization_is_refused_and_its_slug_taken(
    bms_ingest: BmsIngest, database_dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "insert into organizations (name, slug) values ('Acme', 'acme-1'), ('ACME', 'acme-2')"
    )
    ambiguous = bms_ingest(
        "sites", "add", "--organization", "acme", "--name", "n", DATABASE__DSN=database_dsn
    )
    assert ambiguous.code == 1
    assert "write a slug, such as acme-1, acme-2" in ambiguous.err
    assert (
        bms_ingest("sites", "add", "--organization", "acme-2", "--name", "n", DATABASE__DSN=database_dsn).code
        == 0
    )


async def test_list_shows_the_sites_of_everybody_or_of_one(
    bms_ingest: BmsIngest, database_dsn: str, connection: asyncpg.Connection, make_site: MakeSite
) -> None:
    site, other = await make_site(name="Nord"), await make_site(name="Süd")
    await connection.execute("update sites set last_seen_at = $1 where id = $2", NOW, site.id)
    everybody = bms_ingest("sites", "list", "--json", DATABASE__DSN=database_dsn).json()
    assert [row["id"] for row in everybody] == [site.id, other.id]
    slug = everybody[0]["organization"]
    one = bms_ingest("sites", "list", "--organization", slug, "--json", DATABASE__DSN=database_dsn).json()
    assert [(row["id"], row["last_seen_at"]) for row in one] == [(site.id, "2026-03-01T12:00:00+00:00")]
    table = bms_ingest("sites", "list", DATABASE__DSN=database_dsn).text
    assert "2026-03-01 12:00:00Z" in table
    assert "Süd" in table


def test_list_of_an_organization_without_sites_names_it(bms_ingest: BmsIngest, database_dsn: str) -> None:
    finished = bms_ingest("sites", "list", "--organization", "Nobody", DATABASE__DSN=database_dsn)
    assert finished.text == "no organization of that name has sites: Nobody\n"


async def test_pending_shows_only_sites_that_nobody_registered(
    bms_ingest: BmsIngest, database_dsn: str, connection: asyncpg.Connection, make_site: MakeSite
) -> None:
    known = await make_site()
    later = NOW + timedelta(hours=1)
    await keep(
        connection,
        rejection(900_001, b'{"old": 1}'),
        rejection(900_001, b'{"old": 1}'),
        rejection(900_001, b'{"new": "\x1b[31m"}', received_at=later),
        rejection(900_002, b"x" * 1000),
        rejection(900_003, b"nonsense", Reason.NOT_JSON),
        rejection(known.id, b"registered since"),
        rejection(900_004, b"settled"),
    )
    await connection.execute("update quarantine set settled_at = now() where site_id = 900004")
    finished = bms_ingest("sites", "pending", "--json", DATABASE__DSN=database_dsn)
    assert finished.code == 0, finished.err
    first, second = finished.json()
    assert first == {
        "id": 900_001,
        "first_seen_at": NOW.isoformat(),
        "last_seen_at": later.isoformat(),
        "entries": 2,
        "occurrences": 3,
        "topic": "bms/sites/900001/telemetry",
        "sample": '{"new": "\x1b[31m"}',
    }
    assert (second["id"], second["sample"]) == (900_002, "x" * 200)
    table = bms_ingest("sites", "pending", DATABASE__DSN=database_dsn).text
    assert "\x1b" not in table
    assert '{"new": "\\x1b[31m"}' in table
    added = bms_ingest(
        "sites", "add", "--organization", "a", "--name", "n", "--id", "900001", DATABASE__DSN=database_dsn
    )
    assert added.code == 0
    left = bms_ingest("sites", "pending", "--json", DATABASE__DSN=database_dsn).json()
    assert [row["id"] for row in left] == [900_002]


async def test_quarantine_list_filters_by_site_reason_time_and_number(
    bms_ingest: BmsIngest, database_dsn: str, connection: asyncpg.Connection
) -> None:
    await keep(
        connection,
        rejection(1, b"a", Reason.NOT_JSON, received_at=NOW),
        rejection(1, b"b", Reason.OUT_OF_RANGE, position=3, received_at=NOW + timedelta(minutes=1)),
        rejection(2, b"c", Reason.NOT_JSON, received_at=NOW + timedelta(minutes=2)),
        rejection(None, b"d", Reason.BAD_TOPIC, topic="bms/other", received_at=NOW + timedelta(minutes=3)),
        rejection(2, b"c", Reason.NOT_JSON, received_at=NOW + timedelta(minutes=4)),
    )

    def listed(*options: str) -> list[tuple[int | None, str]]:
        finished = bms_ingest("quarantine", "list", "--json", *options, DATABASE__DSN=database_dsn)
        assert finished.code == 0, finished.err
        return [(entry["site_id"], entry["reason"]) for entry in finished.json()]

    assert listed() == [(2, "not_json"), (None, "bad_topic"), (1, "out_of_range"), (1, "not_json")]
    assert listed("--site", "1") == [(1, "out_of_range"), (1, "not_json")]
    assert listed("--reason", "not_json") == [(2, "not_json"), (1, "not_json")]
    assert listed("--since", "2026-03-01T12:02Z") == [(2, "not_json"), (None, "bad_topic")]
    assert listed("--since", "1min") == []
    assert listed("--limit", "1") == [(2, "not_json")]
    table = bms_ingest("quarantine", "list", DATABASE__DSN=database_dsn).text
    assert "because of out_of_range" in table
    assert "bms/other" in table
    (newest,) = bms_ingest("quarantine", "list", "--limit", "1", "--json", DATABASE__DSN=database_dsn).json()
    assert (newest["occurrences"], newest["position"], newest["payload_bytes"]) == (2, None, 1)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b'{"name": "H\xc3\xb6he",\n "x": 1}', '{"name": "Höhe",\n "x": 1}\n'),
        (b"text\x1b]0;title\x07", "text\\x1b]0;title\\x07\n"),
        (b"\xff\xfe\x00AB", "00000000  ff fe 00 41 42                                   ...AB\n"),
        (b"", "\n"),
    ],
)
async def test_quarantine_show_prints_text_or_a_hex_dump_and_raw_bytes_on_request(
    bms_ingest: BmsIngest, database_dsn: str, connection: asyncpg.Connection, payload: bytes, shown: str
) -> None:
    await keep(connection, rejection(7, payload, Reason.NOT_JSON, detail="no JSON"))
    entry_id = str(await connection.fetchval("select id from quarantine"))
    finished = bms_ingest("quarantine", "show", entry_id, DATABASE__DSN=database_dsn)
    assert finished.code == 0, finished.err
    facts, _, body = finished.text.partition("\n\n")
    assert body == shown
    assert "detail             no JSON" in facts
    raw = bms_ingest("quarantine", "show", entry_id, "--raw", DATABASE__DSN=database_dsn)
    assert (raw.out, raw.err) == (payload, "")
    document = json.loads(
        bms_ingest("quarantine", "show", entry_id, "--json", DATABASE__DSN=database_dsn).out
    )
    kept = document["payload_text"]
    assert (bytes.fromhex(document["payload_hex"]) if kept is None else kept.encode()) == payload


def test_quarantine_show_of_nothing_is_1(bms_ingest: BmsIngest, database_dsn: str) -> None:
    finished = bms_ingest("quarantine", "show", "12", DATABASE__DSN=database_dsn)
    assert (finished.code, finished.out) == (1, b"")
    assert finished.err == "bms-ingest: there is no quarantine entry 12; see: bms-ingest quarantine list\n"
