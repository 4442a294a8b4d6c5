"""Gathers decoded deliveries into batches; stands between intake and committer and holds the bound on memory.

A batch is closed by `rows` (max_rows), `bytes` (max_bytes), `wait` (max_wait after its first delivery) or
`drain` (shutdown). A due batch that nobody takes yet goes on filling, so a slow database gets fewer, larger
batches. When `capacity` closed batches wait, `put` waits, and with it the broker.
"""

from __future__ import annotations

import asyncio
from collections import deque

from bms_ingest.models import Batch, Decoded
from bms_ingest.settings import BatchSettings


class Batcher:
    """A bounded queue of batches within one event loop.

    Deliveries leave in the order they came, and none is split. Cancelling `put` while it waits adds nothing;
    cancelling `take` takes nothing.
    """

    def __init__(self, settings: BatchSettings, *, capacity: int = 2) -> None:
        self._settings = settings
        self._capacity = capacity
        self._max_wait_seconds = settings.max_wait.total_seconds()
        self._open = Batch()
        self._closed: deque[Batch] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due = False
        self._draining = False
        self._takeable = asyncio.Event()
        self._space = asyncio.Event()
        self._space.set()
        self.pending_rows = 0
        """Readings and rejections in here, open batch included."""

    async def put(self, item: Decoded) -> None:
        """Add one decoded delivery; wait while the queue is full."""
        while len(self._closed) >= self._capacity:
            self._space.clear()
            await self._space.wait()
        before = self._open.rows
        self._open.add(item)
        self.pending_rows += self._open.rows - before
        if self._open.rows >= self._settings.max_rows:
            self._close("rows")
        elif self._open.payload_bytes >= self._settings.max_bytes:
            self._close("bytes")
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait_seconds, self._expire)

    async def take(self) -> Batch | None:
        """Wait for a batch to be due and take it; None when drained and empty."""
        while True:
            if not self._closed and self._open.decoded and (self._due or self._draining):
                self._close("wait" if self._due else "drain")
            if self._closed:
                batch = self._closed.popleft()
                self.pending_rows -= batch.rows
                self._space.set()
                return batch
            if self._draining:
                return None
            self._takeable.clear()
            await self._takeable.wait()

    def drain(self) -> None:
        """Hand out what is here without waiting for more; `take` returns None after the last batch."""
        self._draining = True
        self._takeable.set()

    def _expire(self) -> None:
        self._due = True
        self._takeable.set()

    def _close(self, trigger: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = False
        self._open.trigger = trigger
        self._closed.append(self._open)
        self._open = Batch()
        self._takeable.set()
