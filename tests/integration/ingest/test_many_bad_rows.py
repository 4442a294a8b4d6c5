"""A batch of nothing but bad rows is taken apart on a server with few locks, and the stream goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from bms_ingest.db.pool import Database
from bms_ingest.db.sqlstate import store_errors
from bms_ingest.demo.embedded import EmbeddedPostgres
from bms_ingest.ingest.writer import Writer
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.metrics import Metrics
from bms_ingest.models import Reason
from bms_ingest.settings import PartitionSettings
from tests.fixtures.postgres import add_site, bin_directory, database_settings, migrate
from tests.integration.ingest.test_writer import batch, outcome, reading

BAD_ROWS = 1_500


@pytest.fixture
def few_locks(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server with room for fewer locks than there are bad rows."""
    options = ["fsync=off", "max_connections=10", "max_locks_per_transaction=20"]
    server = EmbeddedPostgres(tmp_path / "few-locks", bin_directory=bin_directory(), options=options)
    server.start()
    yield server
    server.stop()


async def test_batch_of_bad_rows_only_leaves_the_stream(few_locks: EmbeddedPostgres) -> None:
    dsn = few_locks.dsn()
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    site = (await add_site(connection)).id
    await connection.execute(
        "ALTER TABLE telemetry_readings ADD CONSTRAINT no_beast CHECK (battery_voltage IS DISTINCT FROM 666)"
    )
    database = Database(
        database_settings(dsn), application_name="writer under test", size=1, on_connect=Writer.prepare
    )
    await database.open()
    partitions = Partitions(database, PartitionSettings(), timedelta(days=90))
    metrics = Metrics()
    writer = Writer(database, partitions, store_errors, metrics, write_timeout_seconds=60)
    bad = [[reading(site, minute, battery_voltage=666.0)] for minute in range(BAD_ROWS)]
    try:
        committed = await asyncio.wait_for(writer.write(batch(*bad)), 60)
        assert outcome(committed) == (0, 0, {Reason.REFUSED: BAD_ROWS})
        assert outcome(await writer.write(batch([reading(site)]))) == (1, 0, {})
        failures = {"error": "StoreUnavailable"}
        assert metrics.registry.get_sample_value("bms_ingest_write_failures_total", failures) is None
    finally:
        await database.close()
        connection.terminate()
