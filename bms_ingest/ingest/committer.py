"""Sees each batch through: written, observed, acknowledged, counted; only here deliveries are settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from bms_ingest.backoff import Backoff
from bms_ingest.errors import StoreRefused, StoreUnavailable
from bms_ingest.ingest.acks import Acknowledger
from bms_ingest.ingest.batcher import Batcher
from bms_ingest.log import RateLimited, get_logger
from bms_ingest.metrics import Metrics
from bms_ingest.models import Batch, Committed

log = get_logger(__name__)

COMPLAINT_INTERVAL = timedelta(seconds=30)


class Observer(Protocol):
    """Sees every committed batch before its messages are acknowledged.

    A crash may come between commit and observer, and then the batch comes again as duplicates: an observer
    must give the same result however often it sees a reading.
    """

    @property
    def name(self) -> str:
        """For logs and the metric `observer_failures`."""

    async def observe(self, committed: Committed) -> None:
        """Record what follows from the batch.

        Raises:
            StoreUnavailable, StoreRefused: the database could not take it; it is called again until it can.
            Exception: anything else is a mistake in the observer, which is passed over for this batch.
        """


class Writing(Protocol):
    """What the committer asks of the writer."""

    async def write(self, batch: Batch) -> Committed:
        """Store the batch in one transaction, however long that takes."""


class Committer:
    """Takes batches one by one; restarting `run` after a crash goes on with the batch in hand."""

    def __init__(
        self,
        batcher: Batcher,
        writer: Writing,
        observers: Sequence[Observer],
        acknowledger: Acknowledger,
        metrics: Metrics,
        *,
        backoff: Backoff | None = None,
    ) -> None:
        self._batcher = batcher
        self._writer = writer
        self._observers = tuple(observers)
        self._acknowledger = acknowledger
        self._metrics = metrics
        self._backoff = backoff or Backoff(0.1, 5.0)
        self._complaints = RateLimited(log, COMPLAINT_INTERVAL)
        self._in_hand: Batch | None = None
        self.trouble: str | None = None
        """Why the committed batch in hand is not acknowledged yet; None unless an observer waits."""
        for observer in self._observers:
            metrics.observer_failures.labels(observer.name)
        metrics.readings_pending.set_function(lambda: self._batcher.pending_rows + self.pending_rows)

    @property
    def pending_rows(self) -> int:
        """Readings and rejections of the batch in hand."""
        return self._in_hand.rows if self._in_hand is not None else 0

    async def run(self) -> None:
        """Work until the batcher is drained."""
        while True:
            if self._in_hand is None:
                self._in_hand = await self._batcher.take()
            if self._in_hand is None:
                return
            await self._see_through(self._in_hand)

    async def _see_through(self, batch: Batch) -> None:
        started = time.monotonic()
        committed = await self._writer.write(batch)
        now = time.monotonic()
        self._metrics.write_seconds.observe(now - started)
        self._metrics.commit_lag_seconds.observe(now - batch.decoded[0].delivery.arrived_seconds)
        for observer in self._observers:
            await self._show(observer, committed)
        self._acknowledger.settle(batch.deliveries)
        self._count(committed)

    async def _show(self, observer: Observer, committed: Committed) -> None:
        """Repeat while the database is the trouble; a mistake in an observer must not stop the stream."""
        self._backoff.reset()
        while True:
            try:
                await observer.observe(committed)
            except (StoreUnavailable, StoreRefused) as error:
                self.trouble = f"{observer.name} cannot record the last batch: {error}"
                delay_seconds = self._backoff.next_seconds()
                self._complaints.warning(
                    "observer_waits",
                    observer=observer.name,
                    error=str(error),
                    retry_seconds=round(delay_seconds, 2),
                )
                await asyncio.sleep(delay_seconds)
                continue
            except Exception:
                self._metrics.observer_failures.labels(observer.name).inc()
                log.exception("observer_failed", observer=observer.name, rows=committed.batch.rows)
            self.trouble = None
            return

    def _count(self, committed: Committed) -> None:
        """Move the batch from pending to its outcomes in one step: the ledger balances at every scrape."""
        self._in_hand = None
        metrics = self._metrics
        metrics.readings_stored.inc(committed.stored)
        metrics.readings_duplicate.inc(committed.duplicates)
        for reason, count in committed.quarantined.items():
            metrics.readings_quarantined.labels(reason).inc(count)
        metrics.batches.labels(committed.batch.trigger).inc()
        metrics.batch_rows.observe(committed.batch.rows)
