"""Migrations: once each, in order, together with their bookkeeping, and nobody is held up."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from bms_ingest.db.migrations import MigrationReport, Migrator
from bms_ingest.db.pool import Database
from bms_ingest.errors import MigrationError, StoreUnavailable
from bms_ingest.sql import load_queries, sql_directory
from tests.fixtures.postgres import database_settings
from tests.integration.db import QUERIES, SCRIPTS

SQL = load_queries("migrations", QUERIES)
SHIPPED = tuple(sorted(path.stem for path in (sql_directory() / "migrations").glob("*.sql")))
SHIPPED_FUNCTIONS = tuple(sorted(path.stem for path in (sql_directory() / "functions").glob("*.sql")))

Put = Callable[[str, str], None]


@pytest.fixture
async def empty(empty_database_dsn: str) -> AsyncIterator[Database]:
    """An open pool on a database without a schema, whose statements may take 200 ms."""
    settings = database_settings(empty_database_dsn, statement_timeout=timedelta(milliseconds=200))
    database = Database(settings, application_name="test", size=4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A folder for migrations and functions of the test's own."""
    (tmp_path / "migrations").mkdir()
    (tmp_path / "functions").mkdir()
    return tmp_path


@pytest.fixture
def put(scripts: Path) -> Put:
    """`put("create_first", "migrations/0001_first")` lays a script where the Migrator finds it."""

    def place(script: str, name: str) -> None:
        shutil.copyfile(SCRIPTS / f"{script}.sql", scripts / f"{name}.sql")

    return place


async def value(database: Database, query: str, *arguments: object) -> object:
    async with database.connection() as connection:
        return await connection.fetchval(SQL[query], *arguments)


async def test_empty_database_gets_everything_once(empty: Database) -> None:
    migrator = Migrator(empty)
    before = await migrator.status()
    assert (before.applied, before.pending, before.functions_changed) == ((), SHIPPED, SHIPPED_FUNCTIONS)
    assert "bms-ingest migrate" in (before.trouble() or "")
    assert await migrator.run() == MigrationReport(SHIPPED, SHIPPED_FUNCTIONS)
    after = await migrator.status()
    assert after.current
    assert after.trouble() is None
    assert after.applied == SHIPPED
    assert await migrator.run() == MigrationReport((), ())


async def test_asking_for_the_status_changes_nothing(empty: Database) -> None:
    await Migrator(empty).status()
    assert await value(empty, "relation_exists", "schema_migrations") is False


async def test_two_that_start_at_once_share_the_work(empty: Database) -> None:
    reports = await asyncio.gather(*(Migrator(empty).run() for _ in range(3)))
    assert sorted(len(report.migrations) for report in reports) == [0, 0, len(SHIPPED)]
    assert sorted(len(report.functions) for report in reports) == [0, 0, len(SHIPPED_FUNCTIONS)]


async def test_second_starter_gives_up_when_its_turn_does_not_come(empty: Database) -> None:
    lock = load_queries("migrations")["try_lock"]
    async with empty.connection() as other:
        assert await other.fetchval(lock)
        with pytest.raises(StoreUnavailable, match="another migration"):
            await Migrator(empty, patience=timedelta(milliseconds=50)).run()
        await other.fetchval(load_queries("migrations")["unlock"])
    await Migrator(empty).run()


async def test_lock_is_given_back_after_a_failure(
    empty: Database, empty_database_dsn: str, scripts: Path, put: Put
) -> None:
    put("fail_halfway", "migrations/0001_fail")
    with pytest.raises(MigrationError):
        await Migrator(empty, directory=scripts).run()
    other = await asyncpg.connect(empty_database_dsn)  # The pool's own connection could take it again anyway.
    assert await other.fetchval(load_queries("migrations")["try_lock"]) is True
    await other.close()


async def test_new_migration_is_applied_after_the_old_ones(empty: Database, scripts: Path, put: Put) -> None:
    put("create_first", "migrations/0001_first")
    await Migrator(empty, directory=scripts).run()
    put("alter_first", "migrations/0002_note")
    migrator = Migrator(empty, directory=scripts)
    assert (await migrator.status()).pending == ("0002_note",)
    assert await migrator.run() == MigrationReport(("0002_note",), ())


async def test_edited_migration_is_refused(empty: Database, scripts: Path, put: Put) -> None:
    put("create_first", "migrations/0001_first")
    migrator = Migrator(empty, directory=scripts)
    await migrator.run()
    put("edited_first", "migrations/0001_first")
    put("alter_first", "migrations/0002_note")
    assert (await migrator.status()).edited == ("0001_first",)
    with pytest.raises(MigrationError, match=r"0001_first.*put the files back"):
        await migrator.run()
    assert (await migrator.status()).pending == ("0002_note",)


async def test_migration_of_a_newer_version_is_refused(empty: Database, scripts: Path, put: Put) -> None:
    put("create_first", "migrations/0001_first")
    put("alter_first", "migrations/0002_note")
    migrator = Migrator(empty, directory=scripts)
    await migrator.run()
    (scripts / "migrations/0002_note.sql").unlink()
    assert (await migrator.status()).unknown == ("0002_note",)
    with pytest.raises(MigrationError, match=r"0002_note.*install that version"):
        await migrator.run()


async def test_failing_migration_leaves_nothing_and_those_before_it_stay(
    empty: Database, scripts: Path, put: Put
) -> None:
    put("create_first", "migrations/0001_first")
    put("fail_halfway", "migrations/0002_fail")
    put("create_second", "migrations/0003_second")
    migrator = Migrator(empty, directory=scripts)
    with pytest.raises(
        MigrationError, match=r"migration 0002_fail failed and was rolled back: .*halfway_pkey"
    ):
        await migrator.run()
    status = await migrator.status()
    assert (status.applied, status.pending) == (("0001_first",), ("0002_fail", "0003_second"))
    assert await value(empty, "relation_exists", "first") is True
    assert await value(empty, "relation_exists", "halfway") is False


async def test_function_is_applied_again_only_when_it_changed(
    empty: Database, scripts: Path, put: Put
) -> None:
    put("answer_one", "functions/answer")
    migrator = Migrator(empty, directory=scripts)
    assert await migrator.run() == MigrationReport((), ("answer",))
    assert await migrator.run() == MigrationReport((), ())
    assert await value(empty, "answer") == 1
    put("answer_two", "functions/answer")
    assert (await migrator.status()).functions_changed == ("answer",)
    assert await migrator.run() == MigrationReport((), ("answer",))
    assert await value(empty, "answer") == 2
    assert (await migrator.status()).current


async def test_long_migration_outlives_the_statement_timeout(
    empty: Database, scripts: Path, put: Put
) -> None:
    put("create_second", "migrations/0001_second")
    await Migrator(empty, directory=scripts).run()
    async with empty.connection() as connection:
        with pytest.raises(asyncpg.QueryCanceledError):  # The limit is back for everybody else.
            await connection.execute((SCRIPTS / "create_second.sql").read_text().replace("second", "third"))


async def test_migration_waits_for_its_lock_in_short_tries(
    empty: Database, empty_database_dsn: str, scripts: Path, put: Put
) -> None:
    put("create_first", "migrations/0001_first")
    await Migrator(empty, directory=scripts).run()
    put("alter_first", "migrations/0002_note")
    migrator = Migrator(empty, directory=scripts, lock_timeout=timedelta(milliseconds=50))
    holder = await asyncpg.connect(empty_database_dsn)
    await holder.execute("begin")
    await holder.execute(SQL["hold_first"])
    run = asyncio.create_task(migrator.run())
    for waiting in (True, False, True):  # It let the others pass after its lock_timeout, and came back.
        async with asyncio.timeout(10):
            while await holder.fetchval(SQL["somebody_waits"]) is not waiting:
                await asyncio.sleep(0.002)
    assert not run.done()
    await holder.execute("commit")
    assert await run == MigrationReport(("0002_note",), ())
    await holder.close()


async def test_migration_that_never_gets_its_lock_says_what_to_do(
    empty: Database, empty_database_dsn: str, scripts: Path, put: Put
) -> None:
    put("create_first", "migrations/0001_first")
    await Migrator(empty, directory=scripts).run()
    put("alter_first", "migrations/0002_note")
    holder = await asyncpg.connect(empty_database_dsn)
    await holder.execute("begin")
    await holder.execute(SQL["hold_first"])
    impatient = Migrator(
        empty, directory=scripts, lock_timeout=timedelta(milliseconds=20), patience=timedelta(milliseconds=1)
    )
    with pytest.raises(MigrationError, match="0002_note could not get its locks; end the long transactions"):
        await impatient.run()
    await holder.close()


@pytest.mark.parametrize("name", ["note", "1_note", "0002-note"])
async def test_file_that_is_no_migration_is_refused(
    empty: Database, scripts: Path, put: Put, name: str
) -> None:
    put("create_first", f"migrations/{name}")
    with pytest.raises(MigrationError, match="not named like a migration"):
        await Migrator(empty, directory=scripts).run()


async def test_two_migrations_of_one_number_are_refused(empty: Database, scripts: Path, put: Put) -> None:
    put("create_first", "migrations/0001_first")
    put("create_second", "migrations/0001_second")
    with pytest.raises(MigrationError, match="same number"):
        await Migrator(empty, directory=scripts).run()
