"""Asks the parts of the daemon whether they can do their work, all at once and never for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bms_ingest.errors import BmsIngestError
from bms_ingest.log import get_logger

CHECK_TIMEOUT_SECONDS = 2.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of readiness.

    `ask` returns None when all is well, else one sentence: what is wrong and what to do. A `BmsIngestError`
    counts as such a sentence.
    """

    name: str
    ask: Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check answered; `detail` is None exactly when it is well."""

    name: str
    detail: str | None

    @property
    def ok(self) -> bool:
        """Whether the condition holds."""
        return self.detail is None


class Readiness:
    """Runs the checks side by side, each at most once at a time however many people ask.

    A check that hangs is cancelled and reported; if it survives even that, the next report waits for the
    same attempt instead of piling up another.
    """

    def __init__(self, checks: Sequence[Check], *, timeout_seconds: float = CHECK_TIMEOUT_SECONDS) -> None:
        self._checks = tuple(checks)
        self._timeout_seconds = timeout_seconds
        self._running: dict[str, asyncio.Task[str | None]] = {}

    async def report(self) -> list[Outcome]:
        """Return the outcome of every check, in their order, after at most the timeout."""
        tasks = [self._task(check) for check in self._checks]
        if not tasks:
            return []
        await asyncio.wait(tasks, timeout=self._timeout_seconds)
        return [self._outcome(check.name, task) for check, task in zip(self._checks, tasks, strict=True)]

    async def close(self) -> None:
        """Cancel what still runs."""
        running, self._running = list(self._running.values()), {}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _task(self, check: Check) -> asyncio.Task[str | None]:
        running = self._running.get(check.name)
        if running is None or running.done():
            running = asyncio.create_task(_ask(check), name=f"check {check.name}")
            self._running[check.name] = running
        return running

    def _outcome(self, name: str, task: asyncio.Task[str | None]) -> Outcome:
        if not task.done():
            task.cancel()
            return Outcome(
                name,
                f"did not answer within {self._timeout_seconds:g} s; look at what it needs, and at the log",
            )
        if task.cancelled():
            return Outcome(name, "was interrupted; ask again")
        return Outcome(name, task.result())


async def _ask(check: Check) -> str | None:
    try:
        return await check.ask()
    except BmsIngestError as error:
        return str(error)
    except Exception as error:
        log.exception("readiness_check_broken", check=check.name)
        return f"could not be checked ({type(error).__name__}); this is a mistake in the program, see the log"
