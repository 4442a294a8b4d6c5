"""Writes one batch in one transaction: COPY to staging, merge, dirty log, quarantine; until it is done.

COPY is all or nothing, and so is a batch: a row that PostgreSQL can never take (SQLSTATE classes 22 and 23)
is found by halving the batch under savepoints and goes to quarantine, the others are stored. Everything else
that can go wrong passes by itself or needs a person; either way the data is kept and tried again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

import asyncpg

from bms_ingest.backoff import Backoff
from bms_ingest.errors import BadRow, PartitionMissing, StoreError, StoreRefused
from bms_ingest.ingest.decoder import MOST_READINGS
from bms_ingest.ingest.elements import cut
from bms_ingest.ingest.quarantine import Quarantine
from bms_ingest.log import RateLimited, get_logger
from bms_ingest.metrics import Metrics
from bms_ingest.models import Batch, Committed, Reading, Reason, Rejection
from bms_ingest.sql import load_queries

log = get_logger(__name__)

STAGED_COLUMNS = ("ordinal", *Reading._fields)
COMPLAINT_INTERVAL = timedelta(seconds=30)
CAREFUL_FACTOR = 10
"""How much longer a batch may take that is written piece by piece."""

Numbered = tuple[int, Reading]
"""A reading with its place in the batch."""


class Database(Protocol):
    """What the writer asks of the database room."""

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection; library errors leave as StoreError."""


class PartitionKeeper(Protocol):
    """What the writer asks of maintenance."""

    async def ensure_months(self, months: Iterable[date]) -> None:
        """Create the partitions of these months that are missing."""


@dataclass(slots=True)
class Outcome:
    """What became of some readings of a batch."""

    stored: int = 0
    misfits: dict[int, tuple[Reason, str]] = field(default_factory=dict)
    """Ordinal → why that reading is no row."""

    def join(self, other: Outcome) -> Outcome:
        """Both together."""
        return Outcome(self.stored + other.stored, self.misfits | other.misfits)


class Writer:
    """Stores batches, one at a time; never gives one up.

    A commit whose answer never came counts as failed; repeating it turns its rows into duplicates, which is
    what they are.

    Args:
        database: its connections need `prepare` run once each.
        partitions: makes the month that a late reading needs.
        errors: turns library errors raised within a borrowed connection into StoreError, which
            `connection()` does only on the way out.
        write_timeout_seconds: longest one attempt may take before its connection is given up.
        backoff: delays after what passes by itself.
        refused_backoff: delays after what needs a person.
    """

    def __init__(
        self,
        database: Database,
        partitions: PartitionKeeper,
        errors: Callable[[], AbstractContextManager[None]],
        metrics: Metrics,
        *,
        write_timeout_seconds: float,
        backoff: Backoff | None = None,
        refused_backoff: Backoff | None = None,
    ) -> None:
        self._database = database
        self._errors = errors
        self._partitions = partitions
        self._metrics = metrics
        self._timeout_seconds = write_timeout_seconds
        self._backoff = backoff or Backoff(0.1, 5.0)
        self._refused_backoff = refused_backoff or Backoff(1.0, 30.0)
        self._quarantine = Quarantine()
        self._queries = load_queries("ingest")
        self._complaints = RateLimited(log, COMPLAINT_INTERVAL)
        self.trouble: str | None = None
        """Why the batch in hand is not stored yet; None when the last attempt succeeded."""

    @staticmethod
    async def prepare(connection: asyncpg.Connection) -> None:
        """Make the staging table of a new connection."""
        await connection.execute(load_queries("ingest")["create_staging"])

    async def write(self, batch: Batch) -> Committed:
        """Store the batch, however often it takes, and say what became of each reading.

        Runs until it succeeds or is cancelled; a cancelled write may still have been committed.
        """
        careful = False
        self._backoff.reset()
        self._refused_backoff.reset()
        while True:
            try:
                committed = await self._attempt(batch, careful=careful)
            except BadRow as error:
                self._metrics.write_failures.labels("BadRow").inc()
                log.info("batch_written_piece_by_piece", rows=batch.rows, error=str(error))
                if careful:  # not even piece by piece: the rows are not what is bad
                    await self._wait(batch, error, self._refused_backoff)
                careful = True
            except PartitionMissing as error:
                await self._make_partitions(batch, error)
            except StoreError as error:
                refused = isinstance(error, StoreRefused)
                await self._wait(batch, error, self._refused_backoff if refused else self._backoff)
            else:
                if self.trouble is not None:
                    log.info("database_recovered")
                self.trouble = None
                return committed

    async def _wait(self, batch: Batch, error: StoreError, backoff: Backoff) -> None:
        self.trouble = str(error)
        self._metrics.write_failures.labels(type(error).__name__).inc()
        delay_seconds = backoff.next_seconds()
        complain = self._complaints.error if isinstance(error, StoreRefused) else self._complaints.warning
        complain(
            "write_waits",
            error=str(error),
            sqlstate=error.sqlstate,
            rows=batch.rows,
            retry_seconds=round(delay_seconds, 2),
        )
        await asyncio.sleep(delay_seconds)

    async def _make_partitions(self, batch: Batch, missing: PartitionMissing) -> None:
        months = {reading.timestamp.date().replace(day=1) for reading in batch.readings()}
        log.info("partition_missing", months=sorted(str(month) for month in months))
        try:
            await self._partitions.ensure_months(months)
        except StoreError as error:
            await self._wait(batch, error, self._backoff)
        else:
            # Made, yet missing again: somebody drops them; do not spin.
            self._metrics.write_failures.labels(type(missing).__name__).inc()
            await asyncio.sleep(self._backoff.next_seconds())

    async def _attempt(self, batch: Batch, *, careful: bool) -> Committed:
        rows: list[Numbered] = list(enumerate(batch.readings()))
        limit_seconds = self._timeout_seconds * (CAREFUL_FACTOR if careful else 1)
        store = self._store_carefully if careful else self._store
        # asyncpg's own timeouts do not bound a COPY whose backend was killed; this one ends the connection.
        with self._errors():
            async with (
                asyncio.timeout(limit_seconds),
                self._database.connection() as connection,
                _transaction(connection),
            ):
                outcome = await store(connection, rows) if rows else Outcome()
                rejections = [rejection for item in batch.decoded for rejection in item.rejections]
                rejections += _rejections(batch, outcome)
                await self._quarantine.add(connection, rejections)
        return Committed(
            batch=batch,
            present=[reading for ordinal, reading in rows if ordinal not in outcome.misfits],
            stored=outcome.stored,
            duplicates=len(rows) - outcome.stored - len(outcome.misfits),
            quarantined=dict(Counter(rejection.reason for rejection in rejections)),
        )

    async def _store(self, connection: asyncpg.Connection, rows: Sequence[Numbered]) -> Outcome:
        """Stage and merge; all of them or an error."""
        await connection.copy_records_to_table(
            "staged_readings",
            records=[(ordinal, *reading) for ordinal, reading in rows],
            columns=STAGED_COLUMNS,
        )
        stored = await connection.fetchval(self._queries["merge_staged"])
        if stored == len(rows):
            return Outcome(stored)
        misfits = await connection.fetch(self._queries["misfits_staged"])
        return Outcome(stored, {row["ordinal"]: _explain(Reason(row["reason"])) for row in misfits})

    async def _store_carefully(self, connection: asyncpg.Connection, rows: Sequence[Numbered]) -> Outcome:
        """Stage and merge under a savepoint; on a bad row, each half by itself, down to the row."""
        try:
            with self._errors():
                async with self._piece(connection):
                    await connection.execute(self._queries["clear_staging"])
                    return await self._store(connection, rows)
        except BadRow as error:
            if len(rows) == 1:
                return Outcome(misfits={rows[0][0]: (Reason.REFUSED, f"The database refuses it: {error}.")})
        middle = len(rows) // 2
        first = await self._store_carefully(connection, rows[:middle])
        return first.join(await self._store_carefully(connection, rows[middle:]))

    @asynccontextmanager
    async def _piece(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """Keep what the body writes, or undo it when it fails."""
        await connection.execute(self._queries["begin_piece"])
        try:
            yield
        except Exception:
            await connection.execute(self._queries["undo_piece"])
            raise
        await connection.execute(self._queries["keep_piece"])


@asynccontextmanager
async def _transaction(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Do as the library's own transaction, but leave at once when cancelled.

    The library would roll back first, and wait for a server that has gone silent until `command_timeout`. A
    cancelled use ends the connection anyway, and with it the transaction.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except Exception:
        await transaction.rollback()
        raise
    await transaction.commit()


def _rejections(batch: Batch, outcome: Outcome) -> list[Rejection]:
    """Find the bytes of each misfit again: the message, or its element of the message's array."""
    if not outcome.misfits:
        return []
    rejections: list[Rejection] = []
    ordinal = 0
    for item in batch.decoded:
        places = range(ordinal, ordinal + len(item.readings))
        ordinal = places.stop
        misfits = [place for place in places if place in outcome.misfits]
        pieces = cut(item.delivery.payload, MOST_READINGS) if misfits and item.positions is not None else None
        for place in misfits:
            reason, detail = outcome.misfits[place]
            position = None if item.positions is None else item.positions[place - places.start]
            rejections.append(
                Rejection(
                    reason=reason,
                    detail=detail,
                    topic=item.delivery.topic,
                    site_id=item.readings[place - places.start].site_id,
                    payload=item.delivery.payload
                    if pieces is None or position is None
                    else pieces.elements[position],
                    position=position,
                    received_at=item.delivery.received_at,
                )
            )
    return rejections


def _explain(reason: Reason) -> tuple[Reason, str]:
    if reason is Reason.CONFLICT:
        return (
            reason,
            "Another reading of this site and timestamp with other values is stored; the first one stands.",
        )
    return reason, "No site has this id; register it with: bms-ingest sites add --id ID."
