"""Runs the examinations side by side, within a deadline that nothing can stretch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from bms_ingest.doctor.result import Report, Result, Status, fail, skip

DEADLINE_SECONDS = 3.8
"""With cleaning up and the start of the program this stays below the five seconds that are promised."""
CLEANUP_SECONDS = 0.7


class Examination(Protocol):
    """Checks that build on each other, such as everything about the database."""

    @property
    def checks(self) -> Sequence[str]:
        """Names of its checks, in the order in which `run` reports them."""

    async def run(self, report: Report) -> None:
        """Report each result as soon as it is known; return early when the rest has become pointless."""


async def examine(
    examinations: Sequence[Examination],
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    cleanup_seconds: float = CLEANUP_SECONDS,
) -> list[Result]:
    """Return one result for every check, in order, whatever hangs.

    Examinations that are not finished at the deadline are cancelled and get `cleanup_seconds` to leave
    nothing behind; the check that did not come to an end is a failure.
    """
    found: dict[str, Result] = {}

    def report(result: Result) -> None:
        found[result.check] = result

    tasks = [asyncio.create_task(examination.run(report)) for examination in examinations]
    _, late = await asyncio.wait(tasks, timeout=deadline_seconds)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=cleanup_seconds)
    results = []
    for examination, task in zip(examinations, tasks, strict=True):
        reported = [found[check] for check in examination.checks if check in found]
        missing = [check for check in examination.checks if check not in found]
        results += [*reported, *_missing(missing, reported, task, task in late, deadline_seconds)]
    return results


def _missing(
    checks: Sequence[str], reported: Sequence[Result], task: asyncio.Task[None], late: bool, seconds: float
) -> list[Result]:
    if not checks:
        return []
    if late:
        hanging = fail(
            checks[0],
            f"did not come to an end within {seconds:g} s",
            "something between here and there swallows packets, or a server is overloaded; try again",
        )
        return [hanging, *(skip(check, f"not checked: {checks[0]} took too long") for check in checks[1:])]
    error = task.exception()
    if error is not None:
        broken = fail(
            checks[0], f"could not be checked: {type(error).__name__}: {error}", "report this as a mistake"
        )
        return [broken, *(skip(check, f"not checked: {checks[0]} broke") for check in checks[1:])]
    failed = [result.check for result in reported if result.status is Status.FAIL]
    because = f"{failed[-1]} failed" if failed else "nothing is there to be checked"
    return [skip(check, f"not checked: {because}") for check in checks]
