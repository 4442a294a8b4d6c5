"""The daemon as a process, with a real broker and a real PostgreSQL: readings in, rows and quarantine out."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bms_ingest.demo.embedded import EmbeddedBroker, EmbeddedPostgres
from tests.chaos.ledger import Publishers
from tests.fixtures.brokers import Publisher
from tests.fixtures.daemon import DaemonProcess, eventually
from tests.fixtures.postgres import MakeSite, Site, add_site, migrate

SECRET = "hunter2-do-not-print"

GARBAGE: dict[str, bytes] = {
    "not JSON": b"battery is fine",
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "cut off": b'{"timestamp": "2026-',
    "deep nesting": b"[" * 100_000,
    "deep nesting, closed": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "null": b"null",
    "a number": b"42",
    "empty array": b"[]",
    "no timestamp": b'{"batteryVoltage": 500}',
    "no metrics": b'{"timestamp": NOW}',
    "NaN": b'{"timestamp": NOW, "batteryVoltage": NaN}',
    "infinity": b'{"timestamp": NOW, "batteryVoltage": 1e999}',
    "huge integer": b'{"timestamp": NOW, "batteryVoltage": ' + b"9" * 5_000 + b"}",
    "huge number": b'{"timestamp": NOW, "batteryVoltage": 1e300}',
    "string for a number": b'{"timestamp": NOW, "batteryVoltage": "500"}',
    "bool for a number": b'{"timestamp": NOW, "batteryVoltage": true}',
    "object for a number": b'{"timestamp": NOW, "batteryVoltage": {}}',
    "wrong site": b'{"timestamp": NOW, "batteryVoltage": 500, "siteId": 987654}',
    "naive time": b'{"timestamp": "2026-06-01T12:00:00", "batteryVoltage": 500}',
    "year 145,000": b'{"timestamp": 4513161600000000, "batteryVoltage": 500}',
    "long ago": b'{"timestamp": "1999-12-31T23:59:59Z", "batteryVoltage": 500}',
    "bool for a time": b'{"timestamp": true, "batteryVoltage": 500}',
    "10 MB": b'{"timestamp": NOW, "batteryVoltage": 500, "filler": "' + b"x" * 10_000_000 + b'"}',
    "NUL": b'{"timestamp": "\\u0000", "batteryVoltage": 500}',
    "lone surrogate": b'{"timestamp": "\\ud800", "batteryVoltage": 500}',
}


def now_json() -> bytes:
    return json.dumps(datetime.now(UTC).isoformat()).encode()


async def publish(broker: EmbeddedBroker, topic: str, payload: bytes) -> None:
    async with Publisher(broker.url) as publisher:
        await publisher.publish(topic, payload)


@pytest.fixture
async def daemon(
    database_dsn: str, broker: EmbeddedBroker, make_daemon: Callable[..., DaemonProcess]
) -> DaemonProcess:
    dsn = database_dsn.replace("postgres@", f"postgres:{SECRET}@")
    made = make_daemon(DATABASE__DSN=dsn, MQTT__URL=broker.url)
    made.start()
    await made.ready()
    return made


@pytest.fixture
def site(site: Site) -> int:
    """Only its id matters here."""
    return site.id


async def test_reading_published_with_mosquitto_pub_becomes_a_row(
    daemon: DaemonProcess, broker: EmbeddedBroker, connection: asyncpg.Connection, site: int
) -> None:
    client = shutil.which("mosquitto_pub")
    if client is None:
        pytest.skip("mosquitto_pub is not installed: left out is publishing with the stock client")
    message = json.dumps(
        {"timestamp": datetime.now(UTC).isoformat(), "batteryVoltage": 512.5, "grid_voltage": None}
    )
    command = [
        client,
        "-p",
        str(broker.port),
        "-q",
        "1",
        "-t",
        f"bms/sites/{site}/telemetry",
        "-m",
        message,
    ]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
    await eventually(
        lambda: connection.fetchval("SELECT count(*) = 1 FROM telemetry_readings"), why=daemon.tail()
    )
    row = await connection.fetchrow("SELECT * FROM telemetry_readings")
    assert (row["site_id"], row["battery_voltage"], row["grid_voltage"]) == (site, 512.5, None)
    await eventually(
        lambda: connection.fetchval("SELECT last_seen_at IS NOT NULL FROM sites WHERE id = $1", site),
        why="last_seen_at was not set",
    )


async def test_array_with_one_bad_element_gives_99_rows_and_one_quarantine_entry(
    daemon: DaemonProcess, broker: EmbeddedBroker, connection: asyncpg.Connection, site: int
) -> None:
    start = datetime.now(UTC) - timedelta(days=1)
    readings: list[dict[str, Any]] = [
        {
            "timestamp": (start + timedelta(minutes=5 * number)).isoformat(),
            "batteryChargeLevel": 50 + number / 10,
        }
        for number in range(100)
    ]
    readings[42]["batteryChargeLevel"] = 4200
    await publish(broker, f"bms/sites/{site}/telemetry", json.dumps(readings).encode())
    await eventually(
        lambda: connection.fetchval("SELECT count(*) = 99 FROM telemetry_readings"), why=daemon.tail()
    )
    entries = await connection.fetch("SELECT * FROM quarantine")
    assert [(entry["reason"], entry["position"]) for entry in entries] == [("out_of_range", 42)]
    assert json.loads(entries[0]["payload"]) == readings[42]
    await eventually(lambda: daemon.ledger()["pending"] == 0)
    assert daemon.ledger() == {"received": 100, "stored": 99, "duplicate": 0, "quarantined": 1, "pending": 0}


async def test_garbage_of_every_kind_is_quarantined_and_never_stops_the_stream(
    daemon: DaemonProcess, broker: EmbeddedBroker, connection: asyncpg.Connection, site: int
) -> None:
    async with Publisher(broker.url) as publisher:
        for payload in GARBAGE.values():
            await publisher.publish(f"bms/sites/{site}/telemetry", payload.replace(b"NOW", now_json()))
        await publisher.publish(
            f"bms/sites/{site + 1_000_000}/telemetry",
            b'{"timestamp": NOW, "batteryVoltage": 1}'.replace(b"NOW", now_json()),
        )
        await publisher.publish("bms/sites/north/telemetry", b"{}")
        await publisher.publish(
            f"bms/sites/{site}/telemetry",
            b'{"timestamp": NOW, "batteryVoltage": 500}'.replace(b"NOW", now_json()),
        )
    await eventually(
        lambda: connection.fetchval("SELECT count(*) = 1 FROM telemetry_readings"), why=daemon.tail()
    )
    entries = await connection.fetch("SELECT reason, payload FROM quarantine")
    assert len(entries) == len(GARBAGE) + 2, sorted(entry["reason"] for entry in entries)
    assert max(len(entry["payload"]) for entry in entries) > 10_000_000
    ledger = daemon.ledger()
    assert ledger["received"] == ledger["stored"] + ledger["quarantined"] == len(GARBAGE) + 3
    assert daemon.samples()["bms_ingest_oldest_unacked_seconds"] == 0


async def test_ledger_balances_at_every_scrape(
    daemon: DaemonProcess,
    broker: EmbeddedBroker,
    connection: asyncpg.Connection,
    make_site: MakeSite,
) -> None:
    publishers = Publishers([(await make_site()).id for _ in range(5)])
    stop = asyncio.Event()
    publishing = asyncio.create_task(publishers.run(broker, 1_000, stop))
    scrapes = 0
    while scrapes < 50 or len(publishers.acknowledged) < 1_000:
        ledger = await asyncio.to_thread(daemon.ledger)
        assert ledger["received"] == sum(ledger.values()) - ledger["received"], ledger
        scrapes += 1
    stop.set()
    await publishing
    await eventually(lambda: daemon.ledger()["stored"] == len(publishers.acknowledged), why=daemon.tail())
    assert (await publishers.judge(connection)).clean


async def test_sigterm_drains_and_acknowledges_what_was_received(
    daemon: DaemonProcess,
    broker: EmbeddedBroker,
    database_dsn: str,
    connection: asyncpg.Connection,
    make_site: MakeSite,
) -> None:
    publishers = Publishers([(await make_site()).id for _ in range(5)])
    stop = asyncio.Event()
    publishing = asyncio.create_task(publishers.run(broker, 1_000, stop))
    await eventually(lambda: len(publishers.acknowledged) > 500)
    assert await daemon.terminate() == 0, daemon.tail()
    stop.set()
    await publishing
    stored = await publishers.found(connection)
    daemon.start()
    await daemon.ready()
    await eventually(
        lambda: daemon.ledger()["stored"] == len(publishers.acknowledged) - stored, why=daemon.tail()
    )
    assert daemon.ledger()["duplicate"] == 0, (
        "everything that was stored had been acknowledged before the stop"
    )
    assert (await publishers.judge(connection)).clean


async def test_second_sigterm_stops_at_once(
    daemon: DaemonProcess, broker: EmbeddedBroker, connection: asyncpg.Connection, site: int
) -> None:
    async with connection.transaction():
        await connection.execute("LOCK TABLE telemetry_readings")
        payload = b'{"timestamp": NOW, "batteryVoltage": 500}'.replace(b"NOW", now_json())
        await publish(broker, f"bms/sites/{site}/telemetry", payload)
        await eventually(lambda: daemon.ledger()["pending"] == 1)
        daemon.signal(signal.SIGTERM)
        await eventually(lambda: "draining" in daemon.tail(), why=daemon.tail())
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended(seconds=10) == -signal.SIGTERM
    daemon.start()
    # A broker that redelivers by the clock (NATS: 30 s) needs longer than one that does so on reconnect.
    await eventually(
        lambda: connection.fetchval("SELECT count(*) = 1 FROM telemetry_readings"),
        seconds=60,
        why=daemon.tail(),
    )


async def test_nothing_prints_a_secret(
    daemon: DaemonProcess, broker: EmbeddedBroker, connection: asyncpg.Connection
) -> None:
    command_line = Path(f"/proc/{daemon.process.pid}/cmdline") if daemon.process else None
    assert command_line is not None
    assert SECRET.encode() not in command_line.read_bytes()
    for path in ("/metrics", "/readyz", "/healthz"):
        assert SECRET not in daemon.http(path)[1]
    broker.kill()
    await eventually(lambda: "mqtt_disconnected" in daemon.tail(), why=daemon.tail())
    await daemon.terminate()
    assert SECRET not in daemon.log.read_text()


async def test_daemon_waits_for_broker_and_database_and_names_what_fails(
    own_postgres: EmbeddedPostgres, broker: EmbeddedBroker, make_daemon: Callable[..., DaemonProcess]
) -> None:
    dsn = own_postgres.dsn()
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    site = (await add_site(connection)).id
    await connection.close()
    await asyncio.to_thread(own_postgres.stop)
    broker.stop()
    daemon = make_daemon(DATABASE__DSN=dsn, MQTT__URL=broker.url)
    daemon.start()
    await eventually(lambda: daemon.http("/readyz")[0] == 503, why=daemon.tail())

    def failing() -> set[str]:
        return {name for name, check in daemon.readiness()["checks"].items() if not check["ok"]}

    assert failing() == {"database", "schema", "broker", "partitions"}
    assert daemon.http("/healthz")[0] == 200
    broker.start()
    await eventually(lambda: "broker" not in failing(), why=daemon.tail())
    payload = b'{"timestamp": NOW, "batteryVoltage": 500}'.replace(b"NOW", now_json())
    await publish(broker, f"bms/sites/{site}/telemetry", payload)
    await eventually(lambda: daemon.ledger()["pending"] == 1, why=daemon.tail())
    await asyncio.to_thread(own_postgres.start)
    await daemon.ready()
    await eventually(lambda: daemon.ledger()["stored"] == 1, why=daemon.tail())
    assert await daemon.terminate() == 0


async def test_unmigrated_database_is_waited_for(
    empty_database_dsn: str, broker: EmbeddedBroker, make_daemon: Callable[..., DaemonProcess]
) -> None:
    daemon = make_daemon(DATABASE__DSN=empty_database_dsn, MQTT__URL=broker.url)
    daemon.start()
    await eventually(lambda: "bms-ingest migrate" in daemon.http("/readyz")[1], why=daemon.tail())
    assert await daemon.terminate() == 0
