"""Tasks that crash are started again; jobs are repeated; trouble has a name."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bms_ingest import supervisor as supervisor_module
from bms_ingest.backoff import Backoff
from bms_ingest.errors import StoreUnavailable
from bms_ingest.metrics import Metrics
from bms_ingest.supervisor import Supervisor


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "Backoff", lambda *_: Backoff(0.0001, 0.0001))


async def test_crashed_task_is_started_again_counted_and_named() -> None:
    metrics = Metrics()
    supervisor = Supervisor(metrics)
    starts = 0

    async def task() -> None:
        nonlocal starts
        starts += 1
        if starts < 3:
            raise ZeroDivisionError("oh")

    supervisor.start("fragile", task)
    await asyncio.wait_for(supervisor.finished("fragile"), 5)
    assert starts == 3
    assert metrics.registry.get_sample_value("bms_ingest_task_failures_total", {"task": "fragile"}) == 2
    trouble = supervisor.trouble()
    assert trouble is not None
    assert "fragile" in trouble


async def test_task_that_never_crashed_is_exported_as_zero() -> None:
    metrics = Metrics()
    supervisor = Supervisor(metrics)

    async def task() -> None:
        return

    supervisor.start("sturdy", task)
    await asyncio.wait_for(supervisor.finished("sturdy"), 5)
    assert metrics.registry.get_sample_value("bms_ingest_task_failures_total", {"task": "sturdy"}) == 0


async def test_job_is_repeated_and_its_expected_failures_are_no_crash() -> None:
    supervisor = Supervisor(Metrics())
    runs = 0
    enough = asyncio.Event()

    async def run_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise StoreUnavailable("away")
        if runs == 4:
            enough.set()

    supervisor.repeat("job", timedelta(milliseconds=1), run_once)
    await asyncio.wait_for(enough.wait(), 5)
    assert supervisor.trouble() is None
    await supervisor.cancel()


async def test_cancel_ends_every_task() -> None:
    supervisor = Supervisor(Metrics())
    ended = asyncio.Event()

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor.start("waiting", task)
    await asyncio.sleep(0)
    await supervisor.cancel()
    assert ended.is_set()
