"""A server process that goes silent in the middle of a batch costs one write_timeout, and not the stream."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from bms_ingest.db.pool import Database
from bms_ingest.db.sqlstate import store_errors
from bms_ingest.demo.embedded import EmbeddedPostgres
from bms_ingest.ingest.writer import Writer
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.metrics import Metrics
from bms_ingest.settings import PartitionSettings
from tests.fixtures.daemon import eventually
from tests.fixtures.postgres import add_site, database_settings, migrate
from tests.integration.ingest.test_writer import batch, reading

WRITE_TIMEOUT_SECONDS = 1.0
WAITING = """
    SELECT pid FROM pg_stat_activity WHERE application_name = 'writer under test' AND wait_event_type = 'Lock'
"""


@pytest.mark.parametrize("where", ["while it merges", "while it prepares a new connection"])
async def test_silent_server_process_is_given_up_after_the_write_timeout(
    own_postgres: EmbeddedPostgres, where: str
) -> None:
    dsn = own_postgres.dsn()
    await migrate(dsn)
    connection, watcher = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    site = (await add_site(connection)).id
    database = Database(
        database_settings(dsn), application_name="writer under test", size=1, on_connect=Writer.prepare
    )
    await database.open()
    writer = Writer(
        database,
        Partitions(database, PartitionSettings(), timedelta(days=90)),
        store_errors,
        Metrics(),
        write_timeout_seconds=WRITE_TIMEOUT_SECONDS,
    )
    if where == "while it merges":
        await writer.write(batch([reading(site, 1)]))
    stopped: list[int] = []

    async def waits_for_the_lock() -> bool:
        for row in await watcher.fetch(WAITING):
            stopped.append(row["pid"])
            os.kill(row["pid"], signal.SIGSTOP)
        return bool(stopped)

    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE telemetry_readings")
        writing = asyncio.create_task(writer.write(batch([reading(site)])))
        await eventually(waits_for_the_lock, why="the writer does not wait for the lock")
        await transaction.rollback()
        started = datetime.now(UTC)
        committed = await asyncio.wait_for(writing, 30)
        assert datetime.now(UTC) - started < timedelta(seconds=10 * WRITE_TIMEOUT_SECONDS)
        assert committed.stored == 1
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        await database.close()
        connection.terminate()
        watcher.terminate()
