"""Runs the daemon's named tasks: starts them again when they crash, repeats jobs, knows which is ill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bms_ingest.backoff import Backoff
from bms_ingest.errors import BmsIngestError
from bms_ingest.log import get_logger
from bms_ingest.metrics import Metrics

log = get_logger(__name__)

STEADY_SECONDS = 60.0
"""A task that ran this long before it crashed starts again without a long delay."""


class Supervisor:
    """Owner of every long-running task; nothing runs that it does not know by name.

    A task ends by returning. A crash is logged, counted, and followed by a new start after a growing delay.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._crashes: dict[str, str] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a task until it returns."""
        # A series that began with its first crash would show Prometheus no increase.
        self._metrics.task_failures.labels(name)
        self._tasks[name] = asyncio.create_task(self._keep(name, run), name=name)

    def repeat(self, name: str, interval: timedelta, run_once: Callable[[], Awaitable[object]]) -> None:
        """Run a job at once and then every `interval`; sooner after a failure, which is logged."""

        async def loop() -> None:
            backoff = Backoff(1.0, min(60.0, interval.total_seconds()))
            while True:
                try:
                    await run_once()
                    backoff.reset()
                    delay_seconds = interval.total_seconds()
                except BmsIngestError as error:
                    delay_seconds = backoff.next_seconds()
                    log.warning(
                        "job_failed", job=name, error=str(error), retry_seconds=round(delay_seconds, 1)
                    )
                await asyncio.sleep(delay_seconds)

        self.start(name, loop)

    async def finished(self, name: str) -> None:
        """Wait until a task has returned; cancelling the wait leaves the task alone."""
        await asyncio.wait((self._tasks[name],))

    async def cancel(self) -> None:
        """End everything that still runs."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def trouble(self) -> str | None:
        """Name a task that crashed and has not been steady since; None when all is well."""
        return next((f"{name} keeps crashing: {error}" for name, error in self._crashes.items()), None)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(0.5, 30.0)
        while True:
            started = time.monotonic()
            steady = asyncio.get_running_loop().call_later(STEADY_SECONDS, self._crashes.pop, name, None)
            try:
                return await run()
            except Exception as error:
                if time.monotonic() - started >= STEADY_SECONDS:
                    backoff.reset()
                delay_seconds = backoff.next_seconds()
                self._crashes[name] = f"{type(error).__name__}: {error}"
                self._metrics.task_failures.labels(name).inc()
                log.exception("task_crashed", task=name, restart_seconds=round(delay_seconds, 1))
            finally:
                steady.cancel()
            await asyncio.sleep(delay_seconds)
