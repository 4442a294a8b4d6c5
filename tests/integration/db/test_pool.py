"""The pool: what it sets, which connections it lends again, and what errors leave it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from bms_ingest.db.pool import Database
from bms_ingest.demo.embedded import EmbeddedPostgres, free_port
from bms_ingest.errors import BadRow, PartitionMissing, StoreError, StoreRefused, StoreUnavailable
from bms_ingest.models import Reading
from bms_ingest.sql import load_queries
from tests.fixtures.postgres import Site, database_settings
from tests.integration.db import QUERIES

SQL = load_queries("pool", QUERIES)
ASLEEP = load_queries("activity", QUERIES)["somebody_sleeps"]
SECRET = "s3cret-of-the-database"

Open = Callable[..., Any]


@pytest.fixture
async def open_database(database_dsn: str) -> AsyncIterator[Open]:
    """`await open_database(size=1, statement_timeout=…)` opens a pool of the test's own."""
    opened: list[Database] = []

    async def open_it(
        dsn: str = database_dsn, *, size: int = 1, on_connect: Any = None, **settings: Any
    ) -> Database:
        # Copied in unchecked: the pool must keep a secret also where the settings let it through.
        checked = database_settings(database_dsn, **settings).model_copy(update={"dsn": SecretStr(dsn)})
        database = Database(checked, application_name="bms-test", size=size, on_connect=on_connect)
        await database.open()
        opened.append(database)
        return database

    yield open_it
    for database in opened:
        await database.close()


async def backend(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval(SQL["backend"]))


async def run(database: Database, query: str, *arguments: object) -> None:
    async with database.connection() as connection:
        await connection.execute(SQL[query], *arguments)


async def gone(watcher: asyncpg.Connection, pid: int) -> None:
    async with asyncio.timeout(10):
        while await watcher.fetchval(SQL["backend_exists"], pid):
            await asyncio.sleep(0.005)


async def asleep(watcher: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while not await watcher.fetchval(ASLEEP):
            await asyncio.sleep(0.005)


async def test_connection_has_the_limits_of_the_settings(open_database: Open) -> None:
    database = await open_database(
        statement_timeout=timedelta(seconds=7),
        lock_timeout=timedelta(milliseconds=1500),
        write_timeout=timedelta(9),
    )
    wanted = {
        "application_name": "bms-test",
        "TimeZone": "UTC",
        "statement_timeout": "7000",
        "lock_timeout": "1500",
        "idle_in_transaction_session_timeout": str(9 * 86_400_000),
    }
    async with database.connection() as connection:
        assert dict(await connection.fetch(SQL["settings"], list(wanted))) == wanted


async def test_connection_is_kept_with_its_temporary_tables(open_database: Open) -> None:
    connects: list[int] = []

    async def prepare(connection: asyncpg.Connection) -> None:
        await connection.execute(SQL["create_scratch"])
        connects.append(await connection.fetchval(SQL["backend"]))

    database = await open_database(on_connect=prepare)
    for _ in range(3):
        async with database.connection() as connection:
            assert await connection.fetchval(SQL["scratch_exists"])
    assert connects == [await backend(database)]


async def test_failing_preparation_is_an_error_of_ours_and_is_tried_again(open_database: Open) -> None:
    tries: list[int] = []

    async def prepare(connection: asyncpg.Connection) -> None:
        tries.append(1)
        if len(tries) == 1:
            await connection.execute(SQL["wrong"])

    database = await open_database(on_connect=prepare)
    with pytest.raises(StoreRefused) as caught:
        await backend(database)
    assert caught.value.sqlstate == "42703"
    assert await backend(database) > 0


async def test_pool_opens_while_the_server_is_down_and_serves_when_it_is_up(
    own_postgres: EmbeddedPostgres,
) -> None:
    own_postgres.stop()
    database = Database(database_settings(own_postgres.dsn()), application_name="test", size=1)
    await database.open()
    with pytest.raises(StoreUnavailable) as caught:
        await backend(database)
    assert caught.value.sqlstate is None
    assert isinstance(caught.value.__cause__, OSError)
    await asyncio.to_thread(own_postgres.start)
    assert await backend(database) > 0
    await database.close()


@pytest.mark.parametrize("stop", [EmbeddedPostgres.stop, EmbeddedPostgres.kill])
async def test_pool_recovers_when_the_server_went_in_the_middle_of_a_query(
    own_postgres: EmbeddedPostgres, stop: Callable[[EmbeddedPostgres], None]
) -> None:
    database = Database(database_settings(own_postgres.dsn()), application_name="test", size=2)
    await database.open()
    watcher_pid = await backend(database)
    query = asyncio.create_task(run(database, "sleep", 60.0))
    watcher = await asyncpg.connect(own_postgres.dsn())
    await asleep(watcher)
    await asyncio.to_thread(stop, own_postgres)
    with pytest.raises(StoreUnavailable):
        await query
    watcher.terminate()
    await asyncio.to_thread(own_postgres.start)
    assert await backend(database) != watcher_pid
    await database.close()


async def test_connection_ended_by_the_server_is_not_lent_again(
    open_database: Open, connection: asyncpg.Connection
) -> None:
    database = await open_database()
    pid = await backend(database)
    await connection.execute(SQL["terminate"], pid)
    await gone(connection, pid)
    pids = []
    for _ in range(2):
        with suppress(StoreUnavailable):  # The news may reach us only with the next statement.
            pids.append(await backend(database))
    assert pids
    assert pid not in pids


async def test_statement_that_takes_too_long_passes_and_spares_the_connection(open_database: Open) -> None:
    database = await open_database(statement_timeout=timedelta(milliseconds=50))
    pid = await backend(database)
    with pytest.raises(StoreUnavailable) as caught:
        await run(database, "sleep", 10.0)
    assert caught.value.sqlstate == "57014"
    assert await backend(database) == pid


async def test_lock_that_is_not_to_be_had_passes(
    open_database: Open, connection: asyncpg.Connection, site: Site
) -> None:
    database = await open_database(lock_timeout=timedelta(milliseconds=50))
    async with connection.transaction():
        await connection.execute(SQL["lock_site"], site.id)
        with pytest.raises(StoreUnavailable) as caught:
            await run(database, "touch_site", site.id)
    assert caught.value.sqlstate == "55P03"
    await run(database, "touch_site", site.id)


@pytest.mark.parametrize("within", [False, True])
async def test_timeout_of_ours_ends_the_connection(
    open_database: Open, connection: asyncpg.Connection, within: bool
) -> None:
    database = await open_database()
    pid = await backend(database)
    if within:
        with pytest.raises(StoreUnavailable):
            async with database.connection() as lent, asyncio.timeout(0.05):
                await lent.execute(SQL["sleep"], 60.0)
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), database.connection() as lent:
                await lent.execute(SQL["sleep"], 60.0)
    await gone(connection, pid)
    assert await backend(database) != pid


async def test_cancelled_use_stays_cancelled_and_ends_the_connection(
    open_database: Open, connection: asyncpg.Connection
) -> None:
    database = await open_database()
    pid = await backend(database)
    task = asyncio.create_task(run(database, "sleep", 60.0))
    await asleep(connection)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(connection, pid)
    assert await backend(database) != pid


async def test_open_transaction_is_not_lent_on(open_database: Open, connection: asyncpg.Connection) -> None:
    database = await open_database()
    async with database.connection() as lent:
        pid = await lent.fetchval(SQL["backend"])
        await lent.execute(SQL["begin"])
    await gone(connection, pid)
    assert await backend(database) != pid


async def test_body_may_end_the_connection_itself(open_database: Open) -> None:
    database = await open_database()
    for error in (KeyError("ours"), None):
        with suppress(KeyError):
            async with database.connection() as lent:
                lent.terminate()
                if error:
                    raise error
    assert await backend(database) > 0


async def test_waiting_for_a_busy_pool_can_be_cancelled(open_database: Open) -> None:
    database = await open_database()
    async with database.connection():
        waiting = asyncio.create_task(backend(database))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await backend(database) > 0


async def test_standby_is_left_for_a_new_connection(open_database: Open, site: Site) -> None:
    database = await open_database()
    pid = await backend(database)
    await run(database, "read_only")
    with pytest.raises(StoreUnavailable) as caught:
        await run(database, "touch_site", site.id)
    assert caught.value.sqlstate == "25006"
    assert await backend(database) != pid


async def test_statement_prepared_before_a_migration_passes(open_database: Open) -> None:
    database = await open_database(size=2)
    async with database.connection() as one, database.connection() as two:
        await one.execute(SQL["create_reshaped"])
        await two.fetch(SQL["read_reshaped"])
        await one.execute(SQL["reshape"])
        # In a transaction the library cannot prepare again by itself.
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with two.transaction():
                await two.fetch(SQL["read_reshaped"])


@pytest.mark.parametrize(
    ("query", "argument", "kind", "sqlstate"),
    [
        ("divide", 0, BadRow, "22012"),
        ("divide", "text", BadRow, "22000"),
        ("wrong", None, StoreRefused, "42703"),
    ],
)
async def test_error_of_a_statement_is_sorted_and_spares_the_connection(
    open_database: Open, query: str, argument: object, kind: type[StoreError], sqlstate: str | None
) -> None:
    database = await open_database()
    pid = await backend(database)
    with pytest.raises(kind) as caught:
        await run(database, query, *([] if argument is None else [argument]))
    assert caught.value.sqlstate == sqlstate
    assert caught.value.__cause__ is not None
    assert await backend(database) == pid


async def test_reading_of_a_month_without_partition_says_so(database: Database, site: Site) -> None:
    with pytest.raises(PartitionMissing, match="no partition"):
        await run(database, "store_reading", site.id, datetime(2001, 1, 1, tzinfo=UTC), 230.0)


async def test_reading_of_an_unknown_site_is_a_bad_row(database: Database) -> None:
    with pytest.raises(BadRow, match="reading_belongs_to_a_site") as caught:
        await run(database, "store_reading", 4711, datetime.now(UTC), 230.0)
    assert caught.value.sqlstate == "23503"


@pytest.mark.parametrize(
    "changes",
    [{"grid_voltage": 1e300}, {"grid_voltage": "high"}, {"site_id": 2**40}, {"timestamp": "yesterday"}],
)
async def test_value_that_cannot_be_sent_by_copy_is_a_bad_row(
    database: Database, site: Site, changes: dict[str, Any]
) -> None:
    now = datetime.now(UTC)
    reading = Reading(site.id, now, now, *[None] * 21)._replace(**changes)
    with pytest.raises(BadRow):
        async with database.connection() as connection:
            await connection.copy_records_to_table(
                "telemetry_readings", records=[reading], columns=Reading._fields
            )
    assert await backend(database) > 0


async def test_mistake_of_the_program_stays_what_it_is(open_database: Open) -> None:
    database = await open_database()
    pid = await backend(database)
    with pytest.raises(KeyError):
        async with database.connection():
            raise KeyError("ours")
    assert await backend(database) == pid


@pytest.mark.parametrize(
    ("dsn", "kind"),
    [
        (f"postgresql://bms:{SECRET}@127.0.0.1:{{port}}/bms", StoreUnavailable),
        (f"postgresql://bms:{SECRET}@no-such-host.invalid/bms", StoreUnavailable),
        (f"postgresql://bms:#{SECRET}@127.0.0.1/bms", StoreError),
        (f"postgresql://bms:/{SECRET}@127.0.0.1/bms", StoreError),
        (f"postgresql://bms@127.0.0.1:{SECRET}/bms", StoreRefused),
        (f"mysql://bms:{SECRET}@127.0.0.1/bms", StoreRefused),
        (f"bms:{SECRET}@127.0.0.1", StoreRefused),
        (f"postgresql://bms:{SECRET}@127.0.0.1/bms?sslmode={SECRET}", StoreRefused),
    ],
)
async def test_password_is_in_no_error(open_database: Open, dsn: str, kind: type[StoreError]) -> None:
    database = await open_database(dsn.format(port=free_port()))
    with pytest.raises(kind) as caught:
        await backend(database)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        error = error.__cause__


async def test_unknown_role_needs_a_person(open_database: Open, postgres: Any) -> None:
    database = await open_database(postgres.dsn().replace("postgres@", f"nobody-here:{SECRET}@"))
    with pytest.raises(StoreRefused) as caught:
        await backend(database)
    assert (caught.value.sqlstate or "").startswith("28")
    assert SECRET not in str(caught.value)


async def test_closed_pool_says_so(database: Database) -> None:
    await database.close()
    await database.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        await backend(database)


async def test_failed_connection_names_the_place_and_not_the_password() -> None:
    port = free_port()
    dsn = f"postgresql://someone:hunter2@127.0.0.1:{port}/bms"
    away = Database(database_settings(dsn), application_name="test", size=1)
    await away.open()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}.*database.dsn") as caught:
        async with away.connection():
            pass
    assert "hunter2" not in str(caught.value)
    await away.close()


async def test_missing_certificate_file_is_named(database_dsn: str, tmp_path: Path) -> None:
    missing = tmp_path / "root.crt"
    dsn = f"{database_dsn}?sslmode=verify-full&sslrootcert={missing}"
    away = Database(database_settings(dsn), application_name="test", size=1)
    await away.open()
    with pytest.raises(StoreRefused, match=r"database\.dsn"):
        async with away.connection():
            pass
    await away.close()
