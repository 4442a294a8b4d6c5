"""A real PostgreSQL in every state in which an operator may find it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest

from bms_ingest.db.migrations import Migrator
from bms_ingest.db.pool import Database
from bms_ingest.demo.embedded import EmbeddedPostgres, free_port
from bms_ingest.doctor.database import (
    WRITER_NAME,
    DatabaseExamination,
    Server,
    judge_clock,
    judge_horizon,
    judge_server,
    judge_writers,
)
from bms_ingest.doctor.result import Result, Status
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.settings import PartitionSettings
from tests.fixtures import postgres as fixtures
from tests.fixtures.postgres import RAW_RETENTION, database_settings, execute
from tests.integration.doctor.conftest import examined

Examine = Callable[..., Awaitable[dict[str, Result]]]


@pytest.fixture
async def examine_dsn() -> AsyncIterator[Examine]:
    """Examines the database of a DSN."""
    async with AsyncExitStack() as opened:

        async def examine(
            dsn: str, *, share_group: str | None = None, answer_seconds: float = 60
        ) -> dict[str, Result]:
            database = Database(database_settings(dsn), application_name="doctor", size=1)
            await database.open()
            opened.push_async_callback(database.close)
            partitions = Partitions(database, PartitionSettings(), RAW_RETENTION)
            return await examined(
                DatabaseExamination(
                    database,
                    Migrator(database),
                    partitions,
                    share_group=share_group,
                    answer_seconds=answer_seconds,
                )
            )

        yield examine


def statuses(results: dict[str, Result]) -> dict[str, Status]:
    return {check: result.status for check, result in results.items()}


def only(failing: str, status: Status = Status.FAIL) -> dict[str, Status]:
    """All is well but one check, and nobody writes."""
    fine = dict.fromkeys(("database", "clock", "schema", "privileges", "partitions"), Status.OK)
    return {**fine, "writers": Status.SKIP, failing: status}


async def test_a_migrated_database_is_well(examine_dsn: Examine, database_dsn: str) -> None:
    results = await examine_dsn(database_dsn)
    assert statuses(results) == only("writers", Status.SKIP)
    assert results["database"].found.startswith("PostgreSQL ")


async def test_a_server_that_is_down(examine_dsn: Examine) -> None:
    results = await examine_dsn(f"postgresql://postgres@127.0.0.1:{free_port()}/bms")
    assert results["database"].status is Status.FAIL
    assert "cannot connect" in results["database"].found
    assert "start the server" in str(results["database"].advice)
    assert {result.status for check, result in results.items() if check != "database"} == {Status.SKIP}


async def test_a_server_that_never_answers_is_given_up(examine_dsn: Examine, black_hole: int) -> None:
    results = await examine_dsn(f"postgresql://postgres@127.0.0.1:{black_hole}/bms", answer_seconds=0.1)
    assert results["database"].status is Status.FAIL
    assert results["database"].found == "did not answer within 0.1 s"


async def test_a_database_that_does_not_exist(examine_dsn: Examine, postgres: fixtures.Server) -> None:
    results = await examine_dsn(postgres.dsn("nowhere"))
    assert results["database"].status is Status.FAIL
    assert "create the database" in str(results["database"].advice)


async def test_a_wrong_password_is_named_and_not_shown(
    examine_dsn: Examine, own_postgres: EmbeddedPostgres
) -> None:
    await execute(own_postgres.dsn(), "create role gateway login password 'right-one'")
    own_postgres.stop()
    (own_postgres.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    own_postgres.start()
    address = urlsplit(own_postgres.dsn())
    results = await examine_dsn(f"postgresql://gateway:wrong-one@127.0.0.1:{address.port}/postgres")
    assert results["database"].status is Status.FAIL
    assert "check user and password" in str(results["database"].advice)
    assert "wrong-one" not in str(results)
    right = await examine_dsn(f"postgresql://gateway:right-one@127.0.0.1:{address.port}/postgres")
    assert right["database"].status is Status.OK


async def test_a_database_without_a_schema(examine_dsn: Examine, empty_database_dsn: str) -> None:
    results = await examine_dsn(empty_database_dsn)
    assert results["schema"].status is Status.FAIL
    assert results["schema"].advice == "run: bms-ingest migrate"
    assert results["privileges"].status is Status.SKIP


async def test_a_pending_migration(
    examine_dsn: Examine, database_dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "delete from schema_migrations where version = (select max(version) from schema_migrations)"
    )
    results = await examine_dsn(database_dsn)
    assert statuses(results) == only("schema")
    assert results["schema"].advice == "run: bms-ingest migrate"


async def test_an_edited_migration(
    examine_dsn: Examine, database_dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("update schema_migrations set checksum = 'other' where version = 1")
    results = await examine_dsn(database_dsn)
    assert statuses(results) == only("schema")
    assert "0001_organizations_and_sites" in results["schema"].found
    assert "put the files back" in str(results["schema"].advice)


@pytest.fixture
async def reader(postgres: fixtures.Server, database_dsn: str) -> AsyncIterator[str]:
    """DSN of a role of its own, which may log in and read the bookkeeping, on the test's database."""
    name = "doctor_reader"
    await execute(
        database_dsn,
        f"create role {name} login",
        f"grant select on schema_migrations, schema_functions to {name}",
    )
    yield database_dsn.replace("postgres@", f"{name}@").replace("postgres:postgres@", f"{name}@")
    await execute(database_dsn, f"drop owned by {name}", f"drop role {name}")


async def test_a_role_without_privileges_is_told_what_it_lacks(examine_dsn: Examine, reader: str) -> None:
    results = await examine_dsn(reader)
    privileges = results["privileges"]
    assert privileges.status is Status.FAIL
    for lacking in (
        "INSERT on table telemetry_readings",
        "UPDATE on table quarantine",
        "UPDATE (last_seen_at) on table sites",
        "USAGE on sequence telemetry_readings_id_seq",
    ):
        assert lacking in privileges.found
    assert "TEMPORARY" not in privileges.found


async def test_a_role_that_stores_but_cannot_make_partitions_is_a_warning(
    examine_dsn: Examine, reader: str, database_dsn: str
) -> None:
    await execute(
        database_dsn,
        "grant select, insert on telemetry_readings, rollup_dirty to doctor_reader",
        "grant select, insert, update on quarantine to doctor_reader",
        "grant select on sites, alerts to doctor_reader",
        "grant update (last_seen_at) on sites to doctor_reader",
        "grant usage on sequence telemetry_readings_id_seq to doctor_reader",
    )
    results = await examine_dsn(reader)
    assert statuses(results) == only("privileges", Status.WARN)
    assert "CREATE on schema public, ownership of telemetry_readings" in results["privileges"].found


async def test_partitions_that_end_today_or_soon(
    examine_dsn: Examine, database_dsn: str, connection: asyncpg.Connection
) -> None:
    ahead = await connection.fetch(
        "select name from telemetry_partitions() where upper_bound > now() order by lower_bound desc"
    )
    for partition in ahead[:-1]:
        await connection.execute(f"drop table {partition['name']}")
    short = await examine_dsn(database_dsn)
    assert short["partitions"].status in (Status.WARN, Status.FAIL)
    assert "partitions ensure" in str(short["partitions"].advice)
    await connection.execute(f"drop table {ahead[-1]['name']}")
    none = await examine_dsn(database_dsn)
    assert statuses(none) == only("partitions")
    assert none["partitions"].found == "there is none for the readings of today"


async def test_two_daemons_on_a_database_must_share(examine_dsn: Examine, database_dsn: str) -> None:
    writers = [
        await asyncpg.connect(database_dsn, server_settings={"application_name": WRITER_NAME})
        for _ in range(2)
    ]
    try:
        assert (await examine_dsn(database_dsn))["writers"].status is Status.WARN
        assert (await examine_dsn(database_dsn, share_group="g"))["writers"].status is Status.OK
    finally:
        for writer in writers:
            await writer.close()


@pytest.mark.parametrize(
    ("days", "status"),
    [(0, Status.FAIL), (6.9, Status.FAIL), (7.1, Status.WARN), (29.9, Status.WARN), (30.1, Status.OK)],
)
def test_horizon_is_wanted_30_days_ahead(days: float, status: Status) -> None:
    assert judge_horizon(timedelta(days=days)).status is status


def answer(**changes: object) -> Server:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    facts: dict[str, object] = {
        "version_number": 180_000,
        "version": "18.0",
        "standby": False,
        "role": "r",
        "database": "d",
        "now": now,
        "asked_at": now,
        "answered_at": now,
    }
    return Server(**(facts | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "status"),
    [(140_020, Status.FAIL), (150_001, Status.OK), (180_003, Status.OK), (190_000, Status.WARN)],
)
def test_versions_15_to_18_are_known(number: int, status: Status) -> None:
    assert judge_server(answer(version_number=number)).status is status


def test_a_standby_takes_no_writes() -> None:
    assert judge_server(answer(standby=True)).status is Status.FAIL


def test_clocks_may_differ_by_two_seconds_and_what_the_answer_took() -> None:
    def differing(offset: float, took: float = 0.0) -> Result:
        base = answer()
        asked = base.now - timedelta(seconds=offset + took / 2)
        return judge_clock(answer(asked_at=asked, answered_at=asked + timedelta(seconds=took)))

    assert differing(1.9).status is Status.OK
    assert differing(-1.9).status is Status.OK
    assert differing(2.4, took=1.0).status is Status.OK
    assert differing(3.0).found == "the database's clock is 3.0 s ahead of ours"
    assert differing(-3.0).found == "the database's clock is 3.0 s behind ours"
    assert differing(3.0).status is differing(-3.0).status is Status.WARN


def test_one_writer_is_fine_and_none_cannot_be_judged() -> None:
    assert judge_writers(1, None).status is Status.OK
    assert judge_writers(0, None).status is Status.SKIP


async def test_a_table_that_is_gone_does_not_hide_what_was_found(
    examine_dsn: Examine, database_dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("drop table rollup_dirty")
    results = await examine_dsn(database_dsn)
    assert results["schema"].status is Status.OK
    assert results["privileges"].status is Status.FAIL
    assert 'relation "rollup_dirty" does not exist' in results["privileges"].found
    assert results["partitions"].found == "not checked: privileges failed"
