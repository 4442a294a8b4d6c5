"""A batch is acknowledged only after its commit and its observers, and never forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from bms_ingest.backoff import Backoff
from bms_ingest.errors import BadRow, PartitionMissing, StoreUnavailable
from bms_ingest.ingest.acks import Acknowledger
from bms_ingest.ingest.batcher import Batcher
from bms_ingest.ingest.committer import Committer
from bms_ingest.metrics import Metrics
from bms_ingest.models import Batch, Committed
from bms_ingest.settings import BatchSettings
from tests.unit.pipeline import RecordingSession, committed, decoded


class Stage:
    """Writer and observer in one: notes what happens in what order, and fails as often as told."""

    name = "stage"

    def __init__(self, session: RecordingSession) -> None:
        self.session = session
        self.steps: list[tuple[str, int]] = []
        self.write_errors: list[Exception] = []
        self.observe_errors: list[Exception] = []

    async def write(self, batch: Batch) -> Committed:
        self.steps.append(("write", len(self.session.acknowledged)))
        if self.write_errors:
            raise self.write_errors.pop()
        return committed(batch)

    async def observe(self, _: Committed) -> None:
        self.steps.append(("observe", len(self.session.acknowledged)))
        if self.observe_errors:
            raise self.observe_errors.pop()


class Bench:
    """A committer with one delivery in its batcher."""

    def __init__(self) -> None:
        self.session = RecordingSession(1)
        self.stage = Stage(self.session)
        self.metrics = Metrics()
        self.acknowledger = Acknowledger(self.metrics)
        self.acknowledger.begin(self.session)
        self.batcher = Batcher(BatchSettings(max_rows=1, max_wait=timedelta(hours=1)))
        self.committer = Committer(
            self.batcher,
            self.stage,
            [self.stage],
            self.acknowledger,
            self.metrics,
            backoff=Backoff(0.0001, 0.0001),
        )

    async def feed(self, packet_id: int) -> None:
        item = decoded(packet_id)
        self.acknowledger.track([item.delivery])
        await self.batcher.put(item)

    def sample(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"bms_ingest_{name}")


async def test_batch_is_acknowledged_only_after_commit_and_observers() -> None:
    bench = Bench()
    await bench.feed(1)
    bench.batcher.drain()
    await bench.committer.run()
    assert bench.stage.steps == [("write", 0), ("observe", 0)]
    assert len(bench.session.acknowledged) == 1
    assert (bench.sample("readings_stored_total"), bench.sample("readings_pending")) == (1, 0)


async def test_observer_is_repeated_until_the_database_takes_it() -> None:
    bench = Bench()
    bench.stage.observe_errors = [StoreUnavailable("away"), StoreUnavailable("away")]
    await bench.feed(1)
    bench.batcher.drain()
    await bench.committer.run()
    assert bench.stage.steps == [("write", 0), ("observe", 0), ("observe", 0), ("observe", 0)]
    assert len(bench.session.acknowledged) == 1


@pytest.mark.parametrize("mistake", [ZeroDivisionError(), BadRow("never possible"), PartitionMissing("none")])
async def test_mistake_in_an_observer_is_counted_and_does_not_stop_the_stream(mistake: Exception) -> None:
    bench = Bench()
    bench.stage.observe_errors = [mistake]
    await bench.feed(1)
    await bench.feed(2)
    bench.batcher.drain()
    await bench.committer.run()
    assert len(bench.session.acknowledged) == 2
    value = bench.metrics.registry.get_sample_value(
        "bms_ingest_observer_failures_total", {"observer": "stage"}
    )
    assert value == 1


async def test_batch_in_hand_survives_a_crash_of_the_committer() -> None:
    bench = Bench()
    bench.stage.write_errors = [ZeroDivisionError()]
    await bench.feed(1)
    bench.batcher.drain()
    with pytest.raises(ZeroDivisionError):
        await bench.committer.run()
    assert bench.session.acknowledged == []
    assert bench.sample("readings_pending") == 1
    await bench.committer.run()
    assert len(bench.session.acknowledged) == 1
    assert (bench.sample("readings_stored_total"), bench.sample("readings_pending")) == (1, 0)


async def test_cancelled_committer_acknowledges_nothing_it_did_not_commit() -> None:
    bench = Bench()
    blocked = asyncio.Event()

    async def write(_: Batch) -> Committed:
        blocked.set()
        await asyncio.Event().wait()
        raise AssertionError

    bench.stage.write = write  # type: ignore[method-assign, assignment]
    await bench.feed(1)
    running = asyncio.create_task(bench.committer.run())
    await asyncio.wait_for(blocked.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.session.acknowledged == []
    assert bench.committer.pending_rows == 1


async def test_waiting_for_an_observer_is_said_until_it_is_over() -> None:
    bench = Bench()
    troubles: list[str | None] = []

    async def observe(_: Committed) -> None:
        troubles.append(bench.committer.trouble)
        if len(troubles) == 1:
            raise StoreUnavailable("the row is locked")

    bench.stage.observe = observe  # type: ignore[method-assign]
    await bench.feed(1)
    bench.batcher.drain()
    await bench.committer.run()
    assert troubles == [None, "stage cannot record the last batch: the row is locked"]
    assert bench.committer.trouble is None
