"""`sql/schema.sql` says what the migrations make, no more and no less."""

from __future__ import annotations

import re

import asyncpg
import pytest

from bms_ingest.demo.embedded import EmbeddedPostgres
from bms_ingest.sql import load_queries
from tests.fixtures.postgres import Server, execute
from tests.integration.db import QUERIES
from tests.integration.db.dump_schema import SCHEMA, SERVER_VERSION, dump_schema, migrate_only, pg_dump

SQL = load_queries("migrations", QUERIES)


@pytest.fixture
async def program(postgres: Server) -> str:
    """The pg_dump that words the schema as the file does."""
    connection = await asyncpg.connect(postgres.dsn())
    version = connection.get_server_version().major
    await connection.close()
    if version != SERVER_VERSION or not isinstance(postgres, EmbeddedPostgres):
        pytest.skip(
            f"the schema file is written by the pg_dump of PostgreSQL {SERVER_VERSION}; this is {version}"
        )
    return pg_dump(postgres)


async def test_migrations_from_empty_give_exactly_the_schema_file(
    program: str, empty_database_dsn: str
) -> None:
    await migrate_only(empty_database_dsn)
    assert dump_schema(program, empty_database_dsn) == SCHEMA.read_text(encoding="utf-8")


async def test_schema_file_gives_itself(program: str, empty_database_dsn: str) -> None:
    await execute(empty_database_dsn, SCHEMA.read_text(encoding="utf-8"))
    assert dump_schema(program, empty_database_dsn) == SCHEMA.read_text(encoding="utf-8")


def test_schema_file_holds_no_partition() -> None:
    text = SCHEMA.read_text(encoding="utf-8")
    assert "CREATE TABLE public.telemetry_readings (" in text
    assert re.search(r"telemetry_readings_\d", text) is None


async def test_database_of_the_schema_file_takes_partitions(empty_database_dsn: str) -> None:
    await execute(empty_database_dsn, SCHEMA.read_text(encoding="utf-8"))
    connection = await asyncpg.connect(empty_database_dsn)
    assert await connection.fetchval(SQL["create_a_partition"]) is True
    assert await connection.fetchval(SQL["count_partitions"]) == 1
    await connection.close()
