"""The database: is it there, is it ours, may we do what the daemon does, and do the clocks agree."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from bms_ingest.doctor.result import Report, Result, fail, ok, skip, warn
from bms_ingest.errors import BmsIngestError, StoreError
from bms_ingest.sql import load_queries

ANSWER_SECONDS = 2.5
OLDEST_VERSION, NEWEST_VERSION = 15, 18
HORIZON_WANTED = timedelta(days=30)
HORIZON_NEEDED = timedelta(days=7)
CLOCK_TOLERANCE = timedelta(seconds=2)
UNREADABLE = "run bms-ingest migrate, and let this role read our tables"
WRITER_NAME = "bms-ingest writer"
"""`application_name` of the connection over which a daemon writes its batches."""


class Database(Protocol):
    """Where connections come from."""

    def connection(self) -> AbstractAsyncContextManager[Any]:
        """Lend a connection; its failures are StoreErrors."""


class SchemaStatus(Protocol):
    """What the migrations say about the database."""

    @property
    def applied(self) -> tuple[str, ...]:
        """Names of the migrations that were applied."""

    def trouble(self) -> str | None:
        """One sentence with what is wrong and what to do; None when nothing is."""


class Schema(Protocol):
    """Compares the database with the program."""

    async def status(self) -> SchemaStatus:
        """Compare; changes nothing."""


class Partitions(Protocol):
    """Knows the monthly partitions."""

    async def horizon(self, now: datetime | None = None) -> datetime:
        """Until when, excluded, every reading finds its partition."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who answered, and what time it was there and here."""

    version_number: int
    """As `server_version_num`: 180003 is 18.3."""
    version: str
    standby: bool
    role: str
    database: str
    now: datetime
    asked_at: datetime
    """Our clock before the question, as `answered_at` after the answer."""
    answered_at: datetime


class DatabaseExamination:
    """Everything about the database, over one connection at a time.

    Args:
        database: an open pool.
        schema: its migrations.
        partitions: its partitions.
        share_group: of the daemon's subscription.
        answer_seconds: how long the server may take to let us in and answer.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        partitions: Partitions,
        *,
        share_group: str | None,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._database = database
        self._schema = schema
        self._partitions = partitions
        self._share_group = share_group
        self._answer_seconds = answer_seconds
        self._queries = load_queries("doctor")

    @property
    def checks(self) -> Sequence[str]:
        """Names of the checks, in order."""
        return ("database", "clock", "schema", "privileges", "partitions", "writers")

    async def run(self, report: Report) -> None:
        """Look at one thing after the other; without a server or a schema the rest is pointless."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                server = await self._identify()
        except TimeoutError:
            report(judge_silence(self._answer_seconds))
            return
        except StoreError as error:
            report(judge_unreachable(error))
            return
        report(judge_server(server))
        report(judge_clock(server))
        try:
            status = await self._schema.status()
        except BmsIngestError as error:
            report(fail("schema", f"cannot be read: {error}", UNREADABLE))
            return
        report(judge_schema(status))
        if not status.applied:
            return
        try:
            await self._look_at_tables(server.role, report)
        except StoreError as error:
            report(fail("privileges", f"cannot be read: {error}", UNREADABLE))

    async def _look_at_tables(self, role: str, report: Report) -> None:
        async with self._database.connection() as connection:
            missing = await connection.fetch(self._queries["missing_privileges"])
            unmakeable = await connection.fetch(self._queries["missing_partition_privileges"])
            writers = await connection.fetchval(self._queries["count_writers"], WRITER_NAME)
        now = datetime.now(UTC)
        horizon = await self._partitions.horizon(now)
        report(judge_privileges(role, [lack for (lack,) in missing], [lack for (lack,) in unmakeable]))
        report(judge_horizon(horizon - now))
        report(judge_writers(writers, self._share_group))

    async def _identify(self) -> Server:
        async with self._database.connection() as connection:
            asked_at = datetime.now(UTC)
            row = await connection.fetchrow(self._queries["identify"])
            return Server(**row, asked_at=asked_at, answered_at=datetime.now(UTC))


def judge_silence(seconds: float) -> Result:
    """Nobody answered and nobody refused."""
    return fail(
        "database",
        f"did not answer within {seconds:g} s",
        "check the host and port of database.dsn / BMS_INGEST_DATABASE__DSN, and firewalls on the way",
    )


def judge_unreachable(error: StoreError) -> Result:
    """The connection failed; the SQLSTATE says whose fault it is."""
    found = f"cannot connect: {error}"
    code = error.sqlstate or ""
    if code.startswith("28"):
        return fail(
            "database", found, "check user and password in database.dsn, and pg_hba.conf of the server"
        )
    if code == "3D000":
        return fail("database", found, "create the database, or correct its name in database.dsn")
    if code == "53300":
        return fail("database", found, "raise max_connections of the server, or end idle connections")
    return fail("database", found, "start the server, or correct host and port in database.dsn")


def judge_server(server: Server) -> Result:
    """The version is one that we know, and it takes writes."""
    found = f"PostgreSQL {server.version}, database {server.database}, role {server.role}"
    major = server.version_number // 10_000
    if server.standby:
        return fail(
            "database",
            f"{found}: a standby, which takes no writes",
            "point database.dsn at the primary server",
        )
    if major < OLDEST_VERSION:
        return fail("database", found, f"upgrade the server to PostgreSQL {OLDEST_VERSION} or newer")
    if major > NEWEST_VERSION:
        return warn(
            "database",
            found,
            f"this version is tested up to PostgreSQL {NEWEST_VERSION}; watch it, or upgrade us",
        )
    return ok("database", found)


def judge_clock(server: Server) -> Result:
    """Our clock and the server's agree; how long the answer took bounds what can be known."""
    uncertainty = (server.answered_at - server.asked_at) / 2
    offset = server.now - (server.asked_at + uncertainty)
    seconds = offset.total_seconds()
    if abs(offset) > CLOCK_TOLERANCE + uncertainty:
        return warn(
            "clock",
            f"the database's clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} ours",
            "synchronise both with NTP: readings are judged by our clock, and presence by the database's",
        )
    return ok("clock", f"differs from the database's by {abs(seconds):.2f} s")


def judge_schema(status: SchemaStatus) -> Result:
    """Every migration of this version is applied, and none was edited."""
    if not status.applied:
        return fail("schema", "the database has no schema of ours", "run: bms-ingest migrate")
    trouble = status.trouble()
    if trouble:
        found, _, advice = trouble.rpartition("; ")
        return fail("schema", found or trouble, advice if found else "run: bms-ingest migrate")
    return ok("schema", f"current, {len(status.applied)} migrations")


def judge_privileges(role: str, missing: Sequence[str], missing_for_partitions: Sequence[str]) -> Result:
    """The role may do what the daemon does."""
    if missing:
        return fail(
            "privileges",
            f"{role} lacks {', '.join(missing)}",
            f"as the owner of the tables: GRANT ... TO {role}, or run the daemon as the owner",
        )
    if missing_for_partitions:
        return warn(
            "privileges",
            f"{role} stores readings but makes no partitions: it lacks {', '.join(missing_for_partitions)}",
            "run bms-ingest partitions ensure as the owner, every month",
        )
    return ok("privileges", f"{role} may do what the daemon does")


def judge_horizon(ahead: timedelta) -> Result:
    """Readings of the next weeks find a partition."""
    advice = "run: bms-ingest partitions ensure; the daemon does it every hour when it may"
    if ahead <= timedelta(0):
        return fail("partitions", "there is none for the readings of today", advice)
    found = f"readings of the next {ahead.days} days have one"
    if ahead < HORIZON_NEEDED:
        return fail("partitions", f"only {found}", advice)
    if ahead < HORIZON_WANTED:
        return warn("partitions", f"only {found}, and {HORIZON_WANTED.days} are wanted", advice)
    return ok("partitions", found)


def judge_writers(writers: int, share_group: str | None) -> Result:
    """Several daemons on one database must share a subscription."""
    if writers == 0:
        return skip("writers", "no daemon holds a connection for writing to this database")
    if writers > 1 and share_group is None:
        return warn(
            "writers",
            f"{writers} daemons write to this database, and mqtt.share_group is not set",
            "with one client id they throw each other out, with several each gets every message: set "
            "mqtt.share_group, and another mqtt.client_id for each, or stop all but one",
        )
    return ok("writers", f"{writers} daemon{'s' if writers > 1 else ''} with a connection for writing")
