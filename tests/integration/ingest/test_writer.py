"""One batch becomes rows, duplicates and quarantine entries in one transaction, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from bms_ingest.backoff import Backoff
from bms_ingest.db.pool import Database
from bms_ingest.db.sqlstate import store_errors
from bms_ingest.ingest.writer import Writer
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.metrics import Metrics
from bms_ingest.models import METRICS, Batch, Committed, Decoded, Delivery, Reading, Reason, Rejection
from bms_ingest.settings import DatabaseSettings, PartitionSettings
from tests.fixtures.daemon import eventually
from tests.fixtures.postgres import MakeSite, Site

NOW = datetime.now(UTC).replace(microsecond=0)


def reading(site_id: int, minutes: float = 0, **metrics: Any) -> Reading:
    metrics = metrics or {"battery_voltage": 500.0}
    at = NOW - timedelta(minutes=minutes)
    return Reading(site_id, at, NOW, *(metrics.get(name) for name in METRICS))


def batch(
    *groups: list[Reading], payload: bytes = b'{"a": 1}', rejections: list[Rejection] | None = None
) -> Batch:
    """A batch with one delivery for each list of readings."""
    made = Batch(trigger="rows")
    for number, readings in enumerate(groups, start=1):
        delivery = Delivery("bms/sites/1/telemetry", payload, 1, False, number, 1, NOW, 0.0)
        positions = None if len(readings) == 1 else list(range(len(readings)))
        made.add(Decoded(delivery, readings, rejections or [], positions))
    return made


@pytest.fixture
async def write_database(database_dsn: str) -> AsyncIterator[Database]:
    settings = DatabaseSettings(dsn=SecretStr(database_dsn), lock_timeout=timedelta(milliseconds=200))
    made = Database(settings, application_name="writer under test", size=1, on_connect=Writer.prepare)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def site(site: Site) -> int:
    """Only its id matters here."""
    return site.id


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def writer(write_database: Database, database: Database, metrics: Metrics) -> Writer:
    partitions = Partitions(database, PartitionSettings(), timedelta(days=90))
    return Writer(
        write_database,
        partitions,
        store_errors,
        metrics,
        write_timeout_seconds=30,
        backoff=Backoff(0.01, 0.05),
        refused_backoff=Backoff(0.01, 0.05),
    )


def outcome(committed: Committed) -> tuple[int, int, dict[Reason, int]]:
    return committed.stored, committed.duplicates, committed.quarantined


async def test_batch_becomes_rows_with_every_value(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    values = {name: float(index) + 0.5 for index, name in enumerate(METRICS)}
    committed = await writer.write(batch([reading(site, **values)], [reading(site, 5, grid_voltage=230.0)]))
    assert outcome(committed) == (2, 0, {})
    assert len(committed.present) == 2
    row = await connection.fetchrow('SELECT * FROM telemetry_readings ORDER BY "timestamp" DESC LIMIT 1')
    assert {name: row[name] for name in METRICS} == values
    assert (row["site_id"], row["timestamp"], row["received_at"]) == (site, NOW, NOW)


async def test_repeated_batch_is_all_duplicates_and_dirties_nothing(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    again = batch([reading(site, minute) for minute in range(100)])
    assert outcome(await writer.write(again)) == (100, 0, {})
    dirty = await connection.fetch("SELECT site_id, hour FROM rollup_dirty")
    assert {row["hour"] for row in dirty} == {
        (NOW - timedelta(minutes=minute)).replace(minute=0, second=0) for minute in range(100)
    }
    committed = await writer.write(again)
    assert outcome(committed) == (0, 100, {})
    assert len(committed.present) == 100
    assert len(await connection.fetch("SELECT 1 FROM rollup_dirty")) == len(dirty)
    assert await connection.fetchval("SELECT count(*) FROM telemetry_readings") == 100


async def test_first_of_two_different_readings_stands_and_the_other_is_quarantined(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    first, other = reading(site, battery_voltage=500.0), reading(site, battery_voltage=501.0)
    committed = await writer.write(batch([first], [other], [first], payload=b'{"v": 501}'))
    assert outcome(committed) == (1, 1, {Reason.CONFLICT: 1})
    assert committed.present == [first, first]
    assert outcome(await writer.write(batch([other], payload=b'{"v": 501}'))) == (0, 0, {Reason.CONFLICT: 1})
    assert await connection.fetchval("SELECT battery_voltage FROM telemetry_readings") == 500.0
    entry = await connection.fetchrow("SELECT * FROM quarantine")
    assert (entry["reason"], entry["payload"], entry["occurrences"]) == ("conflict", b'{"v": 501}', 2)


async def test_readings_that_differ_only_beyond_the_precision_of_a_real_are_duplicates(
    writer: Writer, site: int
) -> None:
    assert outcome(await writer.write(batch([reading(site, battery_voltage=0.1)]))) == (1, 0, {})
    near = reading(site, battery_voltage=0.1 + 1e-12)
    assert outcome(await writer.write(batch([near]))) == (0, 1, {})


async def test_null_and_zero_are_different_readings(writer: Writer, site: int) -> None:
    await writer.write(batch([reading(site, battery_voltage=1.0, grid_power_kw=0.0)]))
    committed = await writer.write(batch([reading(site, battery_voltage=1.0)]))
    assert outcome(committed) == (0, 0, {Reason.CONFLICT: 1})


@pytest.mark.parametrize("unknown", [999_999, 2**31, 2**62])
async def test_unknown_site_is_quarantined_and_its_neighbours_are_stored(
    writer: Writer, connection: asyncpg.Connection, site: int, unknown: int
) -> None:
    committed = await writer.write(batch([reading(unknown)], [reading(site)]))
    assert outcome(committed) == (1, 0, {Reason.UNKNOWN_SITE: 1})
    assert (
        await connection.fetchval("SELECT site_id FROM quarantine WHERE reason = 'unknown_site'") == unknown
    )


async def test_element_of_an_array_is_quarantined_with_its_own_bytes(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    await writer.write(batch([reading(site, 1, battery_voltage=7.0)]))
    array = [reading(site, 0), reading(site, 1), reading(site, 2)]
    payload = b'[{"a": 1}, {"b": 2 }, {"c": 3}]'
    committed = await writer.write(batch(array, payload=payload))
    assert outcome(committed) == (2, 0, {Reason.CONFLICT: 1})
    entry = await connection.fetchrow("SELECT * FROM quarantine")
    assert (entry["payload"], entry["position"]) == (b'{"b": 2 }', 1)


async def test_bad_rows_leave_the_batch_and_the_others_are_stored(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    await connection.execute(
        "ALTER TABLE telemetry_readings ADD CONSTRAINT no_beast CHECK (battery_voltage IS DISTINCT FROM 666)"
    )
    bad = {3, 40, 41}
    readings = [
        reading(site, minute, battery_voltage=666.0 if minute in bad else 500.0) for minute in range(64)
    ]
    committed = await writer.write(batch(*([each] for each in readings)))
    assert outcome(committed) == (61, 0, {Reason.REFUSED: 3})
    assert len(committed.present) == 61
    assert await connection.fetchval("SELECT count(*) FROM telemetry_readings") == 61
    assert "no_beast" in await connection.fetchval("SELECT detail FROM quarantine LIMIT 1")


async def test_value_that_cannot_be_encoded_leaves_the_batch_too(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    committed = await writer.write(
        batch(
            [reading(site, 1)],
            [reading(site, 2, battery_voltage="high")],
            [reading(site, 3, battery_voltage=1e300)],
        )
    )
    assert outcome(committed) == (1, 0, {Reason.REFUSED: 2})
    assert await connection.fetchval("SELECT count(*) FROM telemetry_readings") == 1


async def test_missing_partition_of_late_data_is_created(
    writer: Writer, connection: asyncpg.Connection, site: int
) -> None:
    for row in await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
        " WHERE inhparent = 'telemetry_readings'::regclass"
    ):
        await connection.execute(f"DROP TABLE {row['name']}")
    committed = await writer.write(batch([reading(site)], [reading(site, 60 * 24 * 60)]))
    assert outcome(committed) == (2, 0, {})


async def test_rejections_share_an_entry_when_equal_and_hold_any_text(
    writer: Writer, connection: asyncpg.Connection
) -> None:
    odd = Rejection(
        Reason.NOT_JSON, "nul \x00 and \ud800", "bms/sites/\x00/telemetry", None, b"\x00\xff", None, NOW
    )
    again = Rejection(odd.reason, odd.detail, odd.topic, None, odd.payload, None, NOW + timedelta(minutes=5))
    first = await writer.write(batch([], rejections=[odd, again]))
    assert outcome(first) == (0, 0, {Reason.NOT_JSON: 2})
    await connection.execute("UPDATE quarantine SET settled_at = now()")
    await writer.write(batch([], rejections=[again]))
    entries = await connection.fetch("SELECT * FROM quarantine")
    assert [(row["payload"], row["occurrences"], row["settled_at"]) for row in entries] == [
        (b"\x00\xff", 3, None)
    ]
    assert entries[0]["last_received_at"] - entries[0]["first_received_at"] == timedelta(minutes=5)


async def test_writer_waits_for_a_locked_table_and_then_stores(
    writer: Writer, connection: asyncpg.Connection, site: int, metrics: Metrics
) -> None:
    def failures() -> float | None:
        return metrics.registry.get_sample_value(
            "bms_ingest_write_failures_total", {"error": "StoreUnavailable"}
        )

    async with connection.transaction():
        await connection.execute("LOCK TABLE telemetry_readings")
        writing = asyncio.create_task(writer.write(batch([reading(site)])))
        await eventually(failures, why="the writer did not notice the lock")
        assert writer.trouble is not None
    assert outcome(await asyncio.wait_for(writing, 30)) == (1, 0, {})
    assert writer.trouble is None


async def test_missing_table_is_complained_about_and_kept(
    writer: Writer, connection: asyncpg.Connection, site: int, metrics: Metrics
) -> None:
    await connection.execute("ALTER TABLE rollup_dirty RENAME TO elsewhere")
    writing = asyncio.create_task(writer.write(batch([reading(site)])))
    await eventually(
        lambda: metrics.registry.get_sample_value(
            "bms_ingest_write_failures_total", {"error": "StoreRefused"}
        ),
        why="the writer did not notice the missing table",
    )
    await connection.execute("ALTER TABLE elsewhere RENAME TO rollup_dirty")
    assert outcome(await asyncio.wait_for(writing, 30)) == (1, 0, {})


async def test_backend_terminated_in_the_middle_of_a_large_copy_does_not_hang(
    writer: Writer, connection: asyncpg.Connection, make_site: MakeSite
) -> None:
    sites = [(await make_site()).id for _ in range(20)]
    readings = [reading(site, minute) for minute in range(1_000) for site in sites]
    kills = 0

    async def kill() -> None:
        nonlocal kills
        while kills < 3:
            kills += await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE application_name = 'writer under test' AND state = 'active'"
            )

    killing = asyncio.create_task(kill())
    committed = await asyncio.wait_for(writer.write(batch(readings)), 60)
    killing.cancel()
    await asyncio.gather(killing, return_exceptions=True)
    assert committed.stored + committed.duplicates == len(readings)
    assert await connection.fetchval("SELECT count(*) FROM telemetry_readings") == len(readings)
    assert kills > 0
