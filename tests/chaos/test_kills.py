"""The promise under power cuts: what a publisher's PUBACK covered is a row, exactly once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from bms_ingest.demo.embedded import EmbeddedBroker, EmbeddedPostgres
from tests.chaos.ledger import Publishers
from tests.fixtures.daemon import DaemonProcess, eventually
from tests.fixtures.postgres import MakeSite, add_site, migrate

SEED = 20_260_601
MESSAGES_PER_SECOND = 1_000
KILLS = 10


async def _under_load(
    publishers: Publishers, broker: EmbeddedBroker, disturb: Callable[[], Awaitable[None]]
) -> None:
    """Publish while `disturb` runs."""
    stop = asyncio.Event()
    publishing = asyncio.create_task(publishers.run(broker, MESSAGES_PER_SECOND, stop))
    await eventually(
        lambda: len(publishers.acknowledged) > 500 or publishing.done(), why="nothing was published"
    )
    try:
        await disturb()
    finally:
        stop.set()
        await publishing


async def _all_found(publishers: Publishers, dsn: str, daemon: DaemonProcess) -> None:
    connection = await asyncpg.connect(dsn)
    try:

        async def complete() -> bool:
            return await publishers.found(connection) >= len(publishers.acknowledged)

        await eventually(complete, seconds=60, why=f"readings are missing\n{daemon.tail()}")
        verdict = await publishers.judge(connection)
    finally:
        await connection.close()
    assert verdict.clean, verdict
    assert verdict.acknowledged > MESSAGES_PER_SECOND


@pytest.mark.timeout(300)
async def test_daemon_killed_ten_times_under_load_loses_nothing_and_stores_nothing_twice(
    database_dsn: str,
    connection: asyncpg.Connection,
    make_site: MakeSite,
    broker: EmbeddedBroker,
    make_daemon: Callable[..., DaemonProcess],
) -> None:
    chance = random.Random(SEED)
    publishers = Publishers([(await make_site()).id for _ in range(20)])
    daemon = make_daemon(DATABASE__DSN=database_dsn, MQTT__URL=broker.url)
    daemon.start()
    await daemon.ready()

    async def kill_again_and_again() -> None:
        for number in range(KILLS):
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            if number % 2:
                await daemon.kill()
            else:
                # A lock holds the writer in the middle of a batch, where an early PUBACK would cost messages.
                async with connection.transaction():
                    await connection.execute("LOCK TABLE telemetry_readings")
                    await eventually(lambda: daemon.ledger()["pending"] > 0, why=daemon.tail())
                    await daemon.kill()
            daemon.start()
            await daemon.ready()

    await _under_load(publishers, broker, kill_again_and_again)
    await _all_found(publishers, database_dsn, daemon)


@pytest.mark.timeout(300)
async def test_database_killed_under_load_loses_nothing_and_stores_nothing_twice(
    own_postgres: EmbeddedPostgres,
    broker: EmbeddedBroker,
    make_daemon: Callable[..., DaemonProcess],
) -> None:
    chance = random.Random(SEED)
    dsn = own_postgres.dsn()
    await migrate(dsn)
    connection = await asyncpg.connect(dsn)
    publishers = Publishers([(await add_site(connection)).id for _ in range(20)])
    await connection.close()
    daemon = make_daemon(DATABASE__DSN=dsn, MQTT__URL=broker.url)
    daemon.start()
    await daemon.ready()

    async def kill_again_and_again() -> None:
        for _ in range(KILLS // 2):
            await asyncio.sleep(chance.uniform(0.05, 1.0))
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await asyncio.to_thread(own_postgres.start)
            await daemon.ready()

    await _under_load(publishers, broker, kill_again_and_again)
    await _all_found(publishers, dsn, daemon)
    assert daemon.process is not None
    assert daemon.process.poll() is None, "the daemon must survive its database"
