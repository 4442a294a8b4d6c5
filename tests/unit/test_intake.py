"""Intake gives other tasks their turn, and counts what the batcher has taken."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

from bms_ingest.ingest.batcher import Batcher
from bms_ingest.ingest.intake import TURN_SECONDS, Intake
from bms_ingest.metrics import Metrics
from bms_ingest.models import Decoded, Delivery
from bms_ingest.settings import BatchSettings
from tests.unit.pipeline import delivery, reading


class SlowDecoder:
    """Takes a whole turn for each delivery."""

    def decode(self, delivery: Delivery, now: datetime) -> Decoded:
        until = time.monotonic() + TURN_SECONDS
        while time.monotonic() < until:
            pass
        return Decoded(delivery, readings=[reading()])


def received(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("bms_ingest_readings_received_total")


async def test_other_tasks_get_a_turn_between_slow_payloads() -> None:
    metrics = Metrics()
    intake = Intake(SlowDecoder(), Batcher(BatchSettings(max_wait=timedelta(hours=1))), metrics)
    taking = asyncio.create_task(intake.take_in([delivery(number) for number in range(1, 6)]))
    turns = set()
    while not taking.done():
        turns.add(received(metrics))
        await asyncio.sleep(0)
    assert turns >= {1, 2, 3, 4}


async def test_delivery_counts_as_received_only_when_the_batcher_has_it() -> None:
    metrics = Metrics()
    batcher = Batcher(BatchSettings(max_rows=1, max_wait=timedelta(hours=1)), capacity=2)
    intake = Intake(SlowDecoder(), batcher, metrics)
    taking = asyncio.create_task(intake.take_in([delivery(number) for number in range(1, 6)]))
    while received(metrics) != 2:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert received(metrics) == batcher.pending_rows == 2
