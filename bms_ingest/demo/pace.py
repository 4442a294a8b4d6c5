"""Decides when each message leaves: history in fast motion up to now, then as fast as the clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from bms_ingest.demo.stream import FleetStream, Outgoing

_SHORTEST_SLEEP_SECONDS = 0.005
"""Messages of the past may leave this much early, several at a time; live ones never do."""


def start_of_history(now: datetime, history: timedelta) -> datetime:
    """Return the five-minute mark at or before `now - history`."""
    start = now - history
    return start - timedelta(minutes=start.minute % 5, seconds=start.second, microseconds=start.microsecond)


async def paced(
    stream: FleetStream,
    *,
    start: datetime,
    speed_up: float,
    live_interval: timedelta | None,
    rate: float | None,
    stop: asyncio.Event,
) -> AsyncIterator[Outgoing]:
    """Yield the stream's messages when they are due, until `stop`.

    Simulated time begins at `start` and runs `speed_up` times as fast as the clock until it has caught up;
    from then on it is the clock, so that no timestamp lies in the future. Falling behind is made up for
    while in the past; live, readings that were missed are left out.

    Args:
        start: UTC; the one the stream began with.
        live_interval: see `FleetStream.step`.
        rate: most messages a second; None for no limit.
    """
    begun = datetime.now(UTC)
    free_at = time.monotonic()
    while not stop.is_set():
        due = stream.next_due
        leaves = max(begun + (due - start) / speed_up, due)
        delay = max((leaves - datetime.now(UTC)).total_seconds(), free_at - time.monotonic())
        if delay > (_SHORTEST_SLEEP_SECONDS if leaves > due else 0.0):
            await _sleep(delay, stop)
            continue
        for message in stream.step(datetime.now(UTC), live_interval):
            if rate is not None:
                free_at = max(free_at, time.monotonic() - 1.0 / rate) + 1.0 / rate
            yield message


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
