"""Keeps the monthly partitions of telemetry_readings ahead of time, without holding up writers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import asyncpg
import structlog

from bms_ingest.backoff import Backoff
from bms_ingest.errors import StoreRefused, StoreUnavailable
from bms_ingest.settings import PartitionSettings
from bms_ingest.sql import load_queries

log = structlog.get_logger(__name__)

_TRIES = 20
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Database(Protocol):
    """What this job needs of a database."""

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection; its failures are StoreErrors."""


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One monthly partition; bounds are UTC, the upper one excluded."""

    name: str
    lower_bound: datetime
    upper_bound: datetime
    rows_estimate: int | None
    """From the last ANALYZE; None before the first."""
    bytes: int
    """Table and indexes."""


@dataclass(frozen=True, slots=True)
class PartitionsResult:
    """What one pass did."""

    created: list[str]
    """Names of the new partitions, oldest first."""
    horizon: datetime
    """Readings up to here, excluded, find a partition without a gap from now on."""


class Partitions:
    """Makes and lists the partitions. Safe to run in several processes at once.

    Args:
        database: lends connections.
        settings: how many months ahead.
        raw_retention: how far back readings are taken, and so months are made.
    """

    def __init__(self, database: Database, settings: PartitionSettings, raw_retention: timedelta) -> None:
        self._database = database
        self._settings = settings
        self._raw_retention = raw_retention
        self._queries = load_queries("partitions")

    async def run_once(self, now: datetime) -> PartitionsResult:
        """Make what is missing from the oldest month that is taken to the last one ahead.

        Each month is a short transaction of its own, tried again while somebody holds its locks.

        Raises:
            StoreUnavailable: the server is away, or the locks were not to be had in twenty tries.
            StoreRefused: privileges are missing, or a table is in the way.
        """
        created = [await self._create(month) for month in self._window(now)]
        return PartitionsResult([name for name in created if name], await self.horizon(now))

    async def ensure_months(self, months: Iterable[date]) -> None:
        """Make the partitions of late or early readings; any day of a month names it.

        Raises:
            StoreRefused: a month is more than one away from those that `run_once` keeps; nothing was made.
            StoreUnavailable: as in `run_once`.
        """
        wanted = sorted({month.replace(day=1) for month in months})
        window = self._window(datetime.now(UTC))
        # One month of grace: the reading was let in before midnight, and this runs after it.
        first, last = _months_after(window[0], -1), _months_after(window[-1], 1)
        strange = [month for month in wanted if not first <= month <= last]
        if strange:
            raise StoreRefused(
                f"no partition is made for {strange[0]:%Y-%m}: readings are taken from {first:%Y-%m} "
                f"to {last:%Y-%m}; check the clock and retention.raw"
            )
        for month in wanted:
            await self._create(month)

    async def list(self) -> list[PartitionInfo]:
        """Return every partition, oldest first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(self._queries["list_partitions"])
        return [PartitionInfo(*row) for row in rows]

    async def horizon(self, now: datetime | None = None) -> datetime:
        """Return until when, excluded, every reading finds its partition; `now` when none does."""
        horizon = now or datetime.now(UTC)
        for partition in await self.list():
            if partition.lower_bound <= horizon < partition.upper_bound:
                horizon = partition.upper_bound
        return horizon

    def _window(self, now: datetime) -> Sequence[date]:
        month = (now - self._raw_retention).astimezone(UTC).date().replace(day=1)
        last = _months_after(now.astimezone(UTC).date().replace(day=1), self._settings.months_ahead)
        months = [month]
        while months[-1] < last:
            months.append(_months_after(months[-1], 1))
        return months

    async def _create(self, month: date) -> str | None:
        """Make one partition; its name, or None when it was there."""
        backoff = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        tries_left = _TRIES
        while True:
            try:
                async with self._database.connection() as connection, connection.transaction():
                    await connection.execute(self._queries["wait_briefly_for_locks"])
                    created = await connection.fetchval(self._queries["create_partition"], month)
            except StoreUnavailable as error:
                tries_left -= 1
                if not tries_left:
                    raise
                log.debug("partition_waits", month=f"{month:%Y-%m}", error=str(error))
                await asyncio.sleep(backoff.next_seconds())
            else:
                break
        if not created:
            return None
        name = f"telemetry_readings_{month:%Y%m}"
        log.info("partition_created", partition=name)
        return name


def _months_after(month: date, count: int) -> date:
    years, index = divmod(month.month - 1 + count, 12)
    return date(month.year + years, index + 1, 1)
