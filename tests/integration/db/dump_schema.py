"""Writes `sql/schema.sql` from the migrations: python -m tests.integration.db.dump_schema."""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from pathlib import Path

from bms_ingest.db.migrations import Migrator
from bms_ingest.db.pool import Database
from bms_ingest.demo.embedded import EmbeddedPostgres
from bms_ingest.sql import sql_directory
from tests.fixtures.postgres import database_settings

SCHEMA = sql_directory() / "schema.sql"
SERVER_VERSION = 18
"""The major version whose pg_dump writes the file; others word some things differently."""

HEADER = """\
-- The whole schema as the migrations make it, to be read and compared; monthly partitions are not part of it.
-- Written by `make schema`, never by hand.

SET check_function_bodies = false;
"""

_NOISE = re.compile(r"^(--.*|SET .*;|SELECT pg_catalog\.set_config\(.*|\\(un)?restrict .*)$\n?", re.MULTILINE)


async def migrate_only(dsn: str) -> None:
    """Apply migrations and functions, and make no partition."""
    database = Database(database_settings(dsn), application_name="schema", size=1)
    await database.open()
    try:
        await Migrator(database).run()
    finally:
        await database.close()


def pg_dump(server: EmbeddedPostgres) -> str:
    """Path of the server's own pg_dump."""
    psql = server.psql()
    assert psql is not None
    return str(Path(psql).with_name("pg_dump"))


def dump_schema(program: str, dsn: str) -> str:
    """Return the schema of a database as text that depends on nothing but the schema."""
    command = [program, "--schema-only", "--no-owner", "--no-privileges", f"--dbname={dsn}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    text = re.sub(r"\n{3,}", "\n\n", _NOISE.sub("", done.stdout)).strip()
    return f"{HEADER}\n{text}\n"


def main() -> None:
    """Migrate an empty database of a server of our own and write what it is then."""
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory) / "postgres", options=["fsync=off"])
        server.start()
        try:
            asyncio.run(migrate_only(server.dsn()))
            SCHEMA.write_text(dump_schema(pg_dump(server), server.dsn()), encoding="utf-8")
        finally:
            server.stop()
    print(f"{SCHEMA.relative_to(Path.cwd())} written")


if __name__ == "__main__":
    main()
