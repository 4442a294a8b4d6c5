"""Whatever hangs or breaks, every check gets its line within the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bms_ingest.doctor.examination import examine
from bms_ingest.doctor.result import Report, Status, fail, ok


class Scripted:
    """An examination that does what it is told."""

    def __init__(self, checks: Sequence[str], act: Callable[[Report], Awaitable[None]]) -> None:
        self.checks = checks
        self._act = act

    async def run(self, report: Report) -> None:
        await self._act(report)


async def good(report: Report) -> None:
    report(ok("good", "fine"))


async def test_examinations_run_side_by_side_and_keep_their_order() -> None:
    meeting = asyncio.Barrier(2)

    def meet(name: str) -> Scripted:
        async def act(report: Report) -> None:
            await meeting.wait()
            report(ok(name, "met"))

        return Scripted([name], act)

    results = await examine([meet("a"), meet("b")], deadline_seconds=30)
    assert [(result.check, result.status) for result in results] == [("a", Status.OK), ("b", Status.OK)]


async def test_what_hangs_fails_at_the_deadline_and_hides_nothing_that_was_found() -> None:
    cleaned = asyncio.Event()

    async def hang(report: Report) -> None:
        report(ok("first", "fine"))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    results = await examine(
        [Scripted(["first", "second", "third"], hang), Scripted(["good"], good)], deadline_seconds=0.05
    )
    assert [(result.check, result.status) for result in results] == [
        ("first", Status.OK),
        ("second", Status.FAIL),
        ("third", Status.SKIP),
        ("good", Status.OK),
    ]
    assert results[1].found == "did not come to an end within 0.05 s"
    assert cleaned.is_set()


async def test_not_even_a_clean_up_that_hangs_stretches_the_deadline() -> None:
    release = asyncio.Event()

    async def stubborn(_report: Report) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    results = await examine([Scripted(["it"], stubborn)], deadline_seconds=0.05, cleanup_seconds=0.05)
    release.set()
    assert [(result.check, result.status) for result in results] == [("it", Status.FAIL)]


async def test_a_broken_check_is_a_failure_that_names_the_error() -> None:
    async def burst(_report: Report) -> None:
        raise ZeroDivisionError("by zero")

    first, second, third = await examine([Scripted(["a", "b"], burst), Scripted(["good"], good)])
    assert (first.status, first.found) == (Status.FAIL, "could not be checked: ZeroDivisionError: by zero")
    assert second.status is Status.SKIP
    assert third.status is Status.OK


async def test_what_a_failure_makes_pointless_is_skipped_with_the_reason() -> None:
    async def stop(report: Report) -> None:
        report(fail("a", "no", "do"))

    _, second = await examine([Scripted(["a", "b"], stop)])
    assert (second.status, second.found) == (Status.SKIP, "not checked: a failed")
