"""Monthly partitions: made ahead, made once, and never at the cost of a writer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from bms_ingest.db.pool import Database
from bms_ingest.errors import StoreRefused
from bms_ingest.maintenance.partitions import PartitionInfo, Partitions
from bms_ingest.settings import PartitionSettings
from bms_ingest.sql import load_queries
from tests.fixtures.postgres import Site, add_site, database_settings
from tests.integration.db import QUERIES
from tests.integration.db.dump_schema import migrate_only

SQL = load_queries("partitions", QUERIES)
RETENTION = timedelta(days=90)


@pytest.fixture
async def bare(empty_database_dsn: str) -> AsyncIterator[Database]:
    """A migrated database without any partition."""
    await migrate_only(empty_database_dsn)
    database = Database(database_settings(empty_database_dsn), application_name="test")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def writer(bare: Database, empty_database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the pool, for what is going on while a partition is made."""
    connection = await asyncpg.connect(empty_database_dsn)
    yield connection
    connection.terminate()


def partitions(database: Database, *, ahead: int = 3, retention: timedelta = RETENTION) -> Partitions:
    return Partitions(database, PartitionSettings(months_ahead=ahead), retention)


def names(*months: str) -> list[str]:
    return [f"telemetry_readings_{month}" for month in months]


async def test_months_from_retention_to_those_ahead_are_made_once(bare: Database) -> None:
    now = datetime(2029, 11, 15, 12, tzinfo=UTC)
    wanted = names("202908", "202909", "202910", "202911", "202912", "203001", "203002")
    first = await partitions(bare).run_once(now)
    assert first.created == wanted
    assert first.horizon == datetime(2030, 3, 1, tzinfo=UTC)
    again = await partitions(bare).run_once(now)
    assert (again.created, again.horizon) == ([], first.horizon)
    later = await partitions(bare).run_once(now + timedelta(days=30))
    assert later.created == names("203003")
    assert [partition.name for partition in await partitions(bare).list()] == [*wanted, *names("203003")]


async def test_bounds_are_months_in_utc_whatever_the_session_says(
    writer: asyncpg.Connection, bare: Database
) -> None:
    await writer.execute(SQL["session_in_new_york"])
    assert await writer.fetchval(SQL["create"], date(2029, 12, 31)) is True
    (partition,) = await partitions(bare).list()
    assert partition == PartitionInfo(
        name="telemetry_readings_202912",
        lower_bound=datetime(2029, 12, 1, tzinfo=UTC),
        upper_bound=datetime(2030, 1, 1, tzinfo=UTC),
        rows_estimate=None,
        bytes=8192,
    )
    assert partition.lower_bound.utcoffset() == timedelta(0)


async def test_reading_lands_in_its_month_to_the_microsecond(
    bare: Database, writer: asyncpg.Connection
) -> None:
    site = await add_site(writer)
    await writer.execute(SQL["create"], date(2029, 12, 1))
    await writer.execute(SQL["create"], date(2030, 1, 1))
    midnight = datetime(2030, 1, 1, tzinfo=UTC)
    moment_before = midnight - timedelta(microseconds=1)
    assert await writer.fetchval(SQL["store"], site.id, moment_before) == "telemetry_readings_202912"
    assert await writer.fetchval(SQL["store"], site.id, midnight) == "telemetry_readings_203001"
    assert await writer.fetchval(SQL["store_twice"], site.id, midnight) is None
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="reading_belongs_to_a_site"):
        await writer.execute(SQL["store"], 4711, midnight)
    await writer.execute(SQL["analyze"])
    assert [partition.rows_estimate for partition in await partitions(bare).list()] == [1, 1]


async def test_creating_does_not_wait_for_an_open_writer(bare: Database, writer: asyncpg.Connection) -> None:
    site = await add_site(writer)
    await writer.execute(SQL["create"], date(2030, 1, 1))
    async with bare.connection() as maker:
        await maker.execute(SQL["impatient"])
        async with writer.transaction():
            await writer.execute(SQL["store"], site.id, datetime(2030, 1, 7, tzinfo=UTC))
            assert await maker.fetchval(SQL["create"], date(2030, 2, 1)) is True
    # Not before the end of its transaction: PostgreSQL looks for new partitions when it takes a lock anew.
    await writer.execute(SQL["store"], site.id, datetime(2030, 2, 7, tzinfo=UTC))


async def test_writer_does_not_wait_for_an_open_creation(bare: Database, writer: asyncpg.Connection) -> None:
    site = await add_site(writer)
    await writer.execute(SQL["create"], date(2030, 1, 1))
    await writer.execute(SQL["impatient"])
    async with bare.connection() as maker, maker.transaction():
        assert await maker.fetchval(SQL["create"], date(2030, 2, 1)) is True
        assert await writer.fetchval(SQL["store"], site.id, datetime(2030, 1, 7, tzinfo=UTC))


async def test_creating_tries_again_while_somebody_changes_sites(
    bare: Database, writer: asyncpg.Connection
) -> None:
    """The foreign key of a new partition needs a lock on sites that an update of sites does not share."""
    site = await add_site(writer)
    await writer.execute("begin")
    await writer.execute(SQL["touch_site"], site.id)
    making = asyncio.create_task(partitions(bare).run_once(datetime(2030, 1, 15, tzinfo=UTC)))
    for waiting in (True, False, True):  # It let the others pass after its lock_timeout, and came back.
        async with asyncio.timeout(10):
            while await writer.fetchval(SQL["somebody_waits"]) is not waiting:
                await asyncio.sleep(0.002)
    assert not making.done()
    await writer.execute("commit")
    assert len((await making).created) == 7


async def test_two_that_create_at_once_make_each_month_once(bare: Database) -> None:
    now = datetime(2030, 1, 15, tzinfo=UTC)
    results = await asyncio.gather(*(partitions(bare).run_once(now) for _ in range(4)))
    created = [name for result in results for name in result.created]
    assert len(created) == 7
    assert len(set(created)) == 7
    assert {result.horizon for result in results} == {datetime(2030, 5, 1, tzinfo=UTC)}


async def test_table_in_the_way_is_named_and_left_alone(bare: Database, writer: asyncpg.Connection) -> None:
    await writer.execute(SQL["put_in_the_way"])
    with pytest.raises(
        StoreRefused, match="telemetry_readings_203001 exists but is not a partition"
    ) as caught:
        await partitions(bare).run_once(datetime(2030, 1, 15, tzinfo=UTC))
    assert caught.value.sqlstate == "42P07"
    assert await writer.fetchval(SQL["unattached"]) == 1


async def test_late_and_early_months_are_made_when_asked_for(bare: Database) -> None:
    now = datetime.now(UTC)
    oldest = (now - RETENTION).date()
    await partitions(bare).ensure_months([oldest, now.date(), now.date().replace(day=1)])
    await partitions(bare).ensure_months([now.date()])
    assert [partition.name for partition in await partitions(bare).list()] == names(
        f"{oldest:%Y%m}", f"{now:%Y%m}"
    )


@pytest.mark.parametrize("month", [date(2001, 1, 1), date(9999, 12, 1)])
async def test_month_far_from_those_taken_is_refused(bare: Database, month: date) -> None:
    with pytest.raises(StoreRefused, match=f"no partition is made for {month:%Y-%m}"):
        await partitions(bare).ensure_months([datetime.now(UTC).date(), month])
    assert await partitions(bare).list() == []


async def test_horizon_ends_at_the_first_gap(bare: Database, writer: asyncpg.Connection) -> None:
    keeper = partitions(bare)
    now = datetime(2029, 11, 15, tzinfo=UTC)
    assert await keeper.horizon(now) == now
    await keeper.run_once(now)
    assert await keeper.horizon(now) == datetime(2030, 3, 1, tzinfo=UTC)
    await writer.execute(SQL["drop_partition"])
    assert await keeper.horizon(now) == datetime(2030, 1, 1, tzinfo=UTC)
    assert await keeper.horizon(datetime(2030, 1, 2, tzinfo=UTC)) == datetime(2030, 1, 2, tzinfo=UTC)


async def test_horizon_counts_from_now_when_not_told(database: Database, site: Site) -> None:
    ahead = await partitions(database).horizon() - datetime.now(UTC)
    assert timedelta(days=89) < ahead < timedelta(days=125)
