"""migrate, partitions and run, on a real database."""

from __future__ import annotations

import re
import secrets
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from bms_ingest.sql import load_queries
from tests.fixtures.daemon import eventually
from tests.integration.cli.conftest import BmsIngest, started


def test_migrate_says_what_it_did_and_then_that_nothing_is_left(
    bms_ingest: BmsIngest, empty_database_dsn: str
) -> None:
    first = bms_ingest("migrate", DATABASE__DSN=empty_database_dsn)
    assert first.code == 0, first.err
    assert "applied migration 0001_organizations_and_sites\n" in first.text
    assert f"created partition telemetry_readings_{datetime.now(UTC):%Y%m}\n" in first.text
    assert first.err == ""
    second = bms_ingest("migrate", DATABASE__DSN=empty_database_dsn)
    assert second.code == 0
    assert second.text.startswith("nothing to do: the schema is current\nreadings until ")


async def test_migrate_refuses_an_edited_migration_with_one_sentence(
    bms_ingest: BmsIngest, database_dsn: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("update schema_migrations set checksum = 'x' where version = 1")
    finished = bms_ingest("migrate", DATABASE__DSN=database_dsn)
    assert finished.code == 1
    (line,) = finished.err.splitlines()
    assert "0001_organizations_and_sites" in line


async def test_ctrl_c_is_130_without_a_traceback(
    database_dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    assert await connection.fetchval(load_queries("migrations")["try_lock"])
    err = tmp_path / "err"
    process = started("migrate", err=err, DATABASE__DSN=database_dsn, MQTT__URL="mqtt://127.0.0.1:1")
    try:
        await eventually(
            lambda: connection.fetchval(
                "select exists (select from pg_stat_activity where application_name = 'bms-ingest command' "
                "and datname = current_database() and query like '%lock%')"
            ),
            why="migrate does not wait for its turn",
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in err.read_text()


def test_partitions_are_listed_and_made(bms_ingest: BmsIngest, database_dsn: str) -> None:
    listed = bms_ingest("partitions", "list", "--json", DATABASE__DSN=database_dsn)
    assert listed.code == 0, listed.err
    before = listed.json()
    assert [partition["name"] for partition in before] == sorted(partition["name"] for partition in before)
    assert datetime.fromisoformat(before[0]["lower_bound"]).utcoffset() is not None
    ensured = bms_ingest("partitions", "ensure", DATABASE__DSN=database_dsn, PARTITIONS__MONTHS_AHEAD="5")
    assert ensured.text.count("created partition telemetry_readings_") == 2
    after = bms_ingest("partitions", "list", "--json", DATABASE__DSN=database_dsn).json()
    assert len(after) == len(before) + 2
    assert bms_ingest("partitions", "ensure", DATABASE__DSN=database_dsn).text.startswith("nothing to do")
    table = bms_ingest("partitions", "list", DATABASE__DSN=database_dsn).text
    assert all(partition["name"] in table for partition in after)


def test_a_database_without_our_schema_is_1_and_points_to_migrate(
    bms_ingest: BmsIngest, empty_database_dsn: str
) -> None:
    finished = bms_ingest("sites", "list", DATABASE__DSN=empty_database_dsn)
    assert finished.code == 1
    (line,) = finished.err.splitlines()
    assert 'relation "sites" does not exist' in line
    assert line.endswith("run: bms-ingest migrate")


async def test_migrate_by_a_role_that_owns_nothing_says_who_must(
    bms_ingest: BmsIngest, empty_database_dsn: str
) -> None:
    role = f"guest_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(empty_database_dsn)
    try:
        await connection.execute(f"create role {role} login password '{role}'")
        guest_dsn = re.sub("//[^@]*@", f"//{role}:{role}@", empty_database_dsn)
        finished = bms_ingest("migrate", DATABASE__DSN=guest_dsn)
        await connection.execute(f"drop role {role}")
    finally:
        await connection.close()
    assert finished.code == 1
    (line,) = finished.err.splitlines()
    assert "permission denied for schema public" in line
    assert line.endswith("run it as the role that owns the database and its tables")


def test_run_with_a_taken_port_is_1_with_one_sentence(bms_ingest: BmsIngest, database_dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = bms_ingest("run", DATABASE__DSN=database_dsn, HTTP__PORT=port)
    assert finished.code == 1
    assert finished.err.splitlines()[-1].startswith(f"bms-ingest: cannot listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in finished.err
