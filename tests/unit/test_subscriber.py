"""How soon the subscriber comes back, and what it says about the session it finds."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from bms_ingest.backoff import Backoff
from bms_ingest.errors import BrokerUnavailable
from bms_ingest.ingest.acks import Acknowledger
from bms_ingest.ingest.subscriber import STEADY_SECONDS, Subscriber
from bms_ingest.metrics import Metrics
from bms_ingest.models import Delivery
from tests.unit.pipeline import RecordingSession

CONNECTS = 8


class BreakingBroker:
    """Accepts every connection and ends it at once."""

    def __init__(self) -> None:
        self.connects = 0
        self.enough = asyncio.Event()

    async def connect(self, generation: int) -> RecordingSession:
        self.connects += 1
        if self.connects == CONNECTS:
            self.enough.set()
        return RecordingSession(generation)


class NotedBackoff(Backoff):
    """Remembers the delays and makes them short."""

    def __init__(self) -> None:
        super().__init__(1.0, 16.0, jitter=lambda: 1.0)
        self.delays: list[float] = []

    def next_seconds(self) -> float:
        self.delays.append(super().next_seconds())
        return 0.0


class Nowhere:
    async def take_in(self, deliveries: Sequence[Delivery]) -> None:
        raise AssertionError("nothing arrives")


async def delays(step_seconds: float) -> list[float]:
    """Delays after connections that end at once, by a clock that goes on by a step each time it is read."""
    broker, backoff, metrics = BreakingBroker(), NotedBackoff(), Metrics()
    readings = itertools.count(0.0, step_seconds)
    subscriber = Subscriber(
        broker,
        "a/+/b",
        Nowhere(),
        Acknowledger(metrics),
        metrics,
        backoff=backoff,
        clock=lambda: next(readings),
    )
    running = asyncio.create_task(subscriber.run())
    async with asyncio.timeout(10):
        await broker.enough.wait()
    subscriber.stop()
    await running
    return backoff.delays[: CONNECTS - 1]


async def test_connection_that_keeps_breaking_is_made_again_ever_more_slowly() -> None:
    assert await delays(STEADY_SECONDS / 2) == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]


async def test_connection_that_lasted_is_made_again_soon() -> None:
    assert set(await delays(STEADY_SECONDS)) == {1.0}


class ForgetfulBroker(BreakingBroker):
    """Away for the first three attempts, and then without our session on each connection."""

    async def connect(self, generation: int) -> RecordingSession:
        session = await super().connect(generation)
        if self.connects <= 3:
            raise BrokerUnavailable("refused")
        session.session_present = False
        return session


async def test_only_a_session_that_was_there_before_can_be_lost() -> None:
    broker, metrics = ForgetfulBroker(), Metrics()
    subscriber = Subscriber(
        broker, "a/+/b", Nowhere(), Acknowledger(metrics), metrics, backoff=NotedBackoff()
    )
    running = asyncio.create_task(subscriber.run())
    seen = set()
    async with asyncio.timeout(10):
        while not broker.enough.is_set():
            lost = metrics.registry.get_sample_value("bms_ingest_mqtt_sessions_lost_total")
            reconnects = metrics.registry.get_sample_value("bms_ingest_mqtt_reconnects_total")
            seen.add((broker.connects, lost, reconnects))
            await asyncio.sleep(0)
    subscriber.stop()
    await running
    assert all(lost == reconnects == 0 for connects, lost, reconnects in seen if connects <= 3)
    assert {(4, 0.0, 0.0), (5, 1.0, 1.0)} <= seen
