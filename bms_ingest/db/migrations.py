"""Brings the schema to this version: each numbered migration once, each function file when it changes."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import asyncpg

from bms_ingest.db.sqlstate import store_errors
from bms_ingest.errors import MigrationError, StoreError, StoreUnavailable
from bms_ingest.sql import load_queries, sql_directory

_MIGRATION_NAME = re.compile(r"(?P<version>\d{4})_[a-z0-9_]+")
_BUSY_CODES = ("55P03", "40P01")  # lock_timeout and deadlock: others hold what the migration needs.
_NOT_ALLOWED = "42501"
_OWNER_WANTED = "; run it as the role that owns the database and its tables"
_POLL_SECONDS = 0.2
_NO_CLIENT_LIMIT_SECONDS = 7 * 24 * 3600.0


class _Database(Protocol):
    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]: ...


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """What the database has against what this program ships; names are file names without `.sql`."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    """Shipped and not applied, in the order in which they will be."""
    edited: tuple[str, ...]
    """Applied, and their file is no longer the one that was applied."""
    unknown: tuple[str, ...]
    """Applied by a newer version of the program, or by another program."""
    functions_changed: tuple[str, ...]

    @property
    def current(self) -> bool:
        """Whether nothing is left to do and nothing is wrong."""
        return self.trouble() is None

    def trouble(self) -> str | None:
        """Return one sentence with what is wrong and what to do; None when nothing is."""
        if self.unknown:
            return (
                f"the database has migrations that this version does not know: {', '.join(self.unknown)}; "
                "a newer bms-ingest migrated it, so install that version"
            )
        if self.edited:
            return (
                f"these migrations were edited after they were applied: {', '.join(self.edited)}; "
                "put the files back as they were and write the change as a new migration"
            )
        if self.pending:
            return f"migrations are missing: {', '.join(self.pending)}; run: bms-ingest migrate"
        if self.functions_changed:
            return f"functions are out of date: {', '.join(self.functions_changed)}; run: bms-ingest migrate"
        return None


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What one run did; both empty when the schema was current."""

    migrations: tuple[str, ...]
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Script:
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def version(self) -> int:
        return int(self.name[:4])


class Migrator:
    """Applies what `migrations/` and `functions/` hold; two that start at once take turns.

    Args:
        database: an open pool.
        directory: holds `migrations/` and `functions/`; the program's own when None.
        lock_timeout: how long a statement waits for a lock before it lets the writers behind it pass.
        patience: how long a run goes on trying to get its locks, or its turn.
    """

    def __init__(
        self,
        database: _Database,
        *,
        directory: Path | None = None,
        lock_timeout: timedelta = timedelta(seconds=2),
        patience: timedelta = timedelta(minutes=5),
    ) -> None:
        self._database = database
        self._directory = directory or sql_directory()
        self._lock_timeout = lock_timeout
        self._patience = patience
        self._queries = load_queries("migrations")

    async def status(self) -> MigrationStatus:
        """Compare the database with the files; changes nothing.

        Raises:
            MigrationError: the files themselves are not in order.
            StoreError: the database cannot be asked.
        """
        async with self._database.connection() as connection:
            return await self._status(connection)

    async def run(self) -> MigrationReport:
        """Apply what is missing, each migration in one transaction, then the functions that changed.

        A failure leaves the migrations before it in place; the next run goes on from there.

        Raises:
            MigrationError: an applied migration was edited or is unknown here, one fails, or its locks
                were not to be had; the message says what to do.
            StoreUnavailable: the connection broke, or another Migrator kept its turn for too long.
            StoreRefused: the database turns us away.
        """
        async with self._database.connection() as connection, self._turn(connection):
            if not await connection.fetchval(self._queries["bookkeeping_exists"]):
                await self._transact(connection, "the bookkeeping", self._queries["create_bookkeeping"])
            status = await self._status(connection)
            if status.unknown or status.edited:
                raise MigrationError(status.trouble())
            migrations = {script.name: script for script in self._migrations()}
            for name in status.pending:
                script = migrations[name]
                note = (self._queries["note_migration"], script.version, name, script.checksum)
                await self._transact(connection, f"migration {name}", script.text, note)
            functions = {script.name: script for script in self._functions()}
            for name in status.functions_changed:
                script = functions[name]
                note_function = (self._queries["note_function"], name, script.checksum)
                await self._transact(connection, f"function file {name}", script.text, note_function)
            return MigrationReport(status.pending, status.functions_changed)

    async def _status(self, connection: asyncpg.Connection) -> MigrationStatus:
        applied: dict[int, tuple[str, str]] = {}
        functions: dict[str, str] = {}
        if await connection.fetchval(self._queries["bookkeeping_exists"]):
            for version, name, checksum in await connection.fetch(self._queries["list_migrations"]):
                applied[version] = (name, checksum)
            functions = dict(await connection.fetch(self._queries["list_functions"]))
        shipped = {script.version: script for script in self._migrations()}
        return MigrationStatus(
            applied=tuple(name for name, _ in applied.values()),
            pending=tuple(script.name for version, script in shipped.items() if version not in applied),
            edited=tuple(
                script.name
                for version, script in shipped.items()
                if version in applied and applied[version] != (script.name, script.checksum)
            ),
            unknown=tuple(name for version, (name, _) in applied.items() if version not in shipped),
            functions_changed=tuple(
                script.name for script in self._functions() if functions.get(script.name) != script.checksum
            ),
        )

    def _migrations(self) -> list[_Script]:
        scripts = _read(self._directory / "migrations")
        versions = []
        for script in scripts:
            if not _MIGRATION_NAME.fullmatch(script.name):
                raise MigrationError(
                    f"{script.name}.sql is not named like a migration; write 0001_what_it_does.sql"
                )
            versions.append(script.version)
        if len(set(versions)) < len(versions):
            raise MigrationError(f"two migrations have the same number: {', '.join(s.name for s in scripts)}")
        return scripts

    def _functions(self) -> list[_Script]:
        return _read(self._directory / "functions")

    @asynccontextmanager
    async def _turn(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """Hold the lock of the Migrators; it ends with the connection, whatever happens to us."""
        deadline = time.monotonic() + self._patience.total_seconds()
        while not await connection.fetchval(self._queries["try_lock"]):
            if time.monotonic() >= deadline:
                raise StoreUnavailable("another migration of this database is still running")
            await asyncio.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            if not connection.is_closed():
                await connection.fetchval(self._queries["unlock"])

    async def _transact(
        self, connection: asyncpg.Connection, what: str, script: str, note: tuple[object, ...] | None = None
    ) -> None:
        """Run a script and its bookkeeping in one transaction, retried while others hold its locks."""
        deadline = time.monotonic() + self._patience.total_seconds()
        lock_timeout = f"{round(self._lock_timeout.total_seconds() * 1000)}ms"
        while True:
            try:
                with store_errors():
                    async with connection.transaction():
                        await connection.fetchrow(self._queries["allow_long_statements"], lock_timeout)
                        if note is not None:
                            await connection.execute(*note)
                        await connection.execute(script, timeout=_NO_CLIENT_LIMIT_SECONDS)
                return
            except StoreUnavailable as error:
                if error.sqlstate not in _BUSY_CODES:
                    raise
                if time.monotonic() >= deadline:
                    raise MigrationError(
                        f"{what} could not get its locks; end the long transactions that pg_stat_activity "
                        f"shows and run `bms-ingest migrate` again: {error}"
                    ) from error
            except StoreError as error:
                advice = _OWNER_WANTED if error.sqlstate == _NOT_ALLOWED else ""
                raise MigrationError(f"{what} failed and was rolled back: {error}{advice}") from error
            await asyncio.sleep(_POLL_SECONDS)


def _read(directory: Path) -> list[_Script]:
    return [_Script(path.stem, path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.sql"))]
