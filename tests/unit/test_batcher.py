"""Batches close for a stated reason, keep the order, and hold a bound."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from bms_ingest.ingest.batcher import Batcher
from bms_ingest.models import Batch
from bms_ingest.settings import BatchSettings
from tests.unit.pipeline import decoded

LONG = timedelta(hours=1)


def packet_ids(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [delivery.packet_id for delivery in batch.deliveries]


async def test_batch_closes_when_it_has_enough_rows() -> None:
    batcher = Batcher(BatchSettings(max_rows=3, max_wait=LONG))
    for packet_id in (1, 2, 3, 4):
        await batcher.put(decoded(packet_id))
    batch = await batcher.take()
    assert packet_ids(batch) == [1, 2, 3]
    assert batch is not None
    assert batch.trigger == "rows"
    assert batcher.pending_rows == 1


async def test_batch_closes_when_its_payloads_are_large() -> None:
    batcher = Batcher(BatchSettings(max_rows=100, max_wait=LONG, max_bytes=65_536))
    await batcher.put(decoded(1, payload=b"x" * 40_000))
    await batcher.put(decoded(2, payload=b"x" * 40_000))
    batch = await batcher.take()
    assert batch is not None
    assert (packet_ids(batch), batch.trigger) == ([1, 2], "bytes")


async def test_batch_is_due_after_its_wait_and_fills_until_taken() -> None:
    batcher = Batcher(BatchSettings(max_rows=100, max_wait=timedelta(milliseconds=1)))
    await batcher.put(decoded(1))
    while not batcher._due:
        await asyncio.sleep(0)
    await batcher.put(decoded(2))
    batch = await batcher.take()
    assert batch is not None
    assert (packet_ids(batch), batch.trigger) == ([1, 2], "wait")


async def test_take_waits_for_the_batch_to_be_due() -> None:
    batcher = Batcher(BatchSettings(max_rows=100, max_wait=timedelta(milliseconds=1)))
    taking = asyncio.create_task(batcher.take())
    await batcher.put(decoded(1))
    batch = await asyncio.wait_for(taking, 5)
    assert packet_ids(batch) == [1]


async def test_array_is_never_split() -> None:
    batcher = Batcher(BatchSettings(max_rows=3, max_wait=LONG))
    await batcher.put(decoded(1, rows=2))
    await batcher.put(decoded(2, rows=50))
    batch = await batcher.take()
    assert batch is not None
    assert (packet_ids(batch), batch.rows) == ([1, 2], 52)


async def test_put_waits_when_full_and_cancelling_it_adds_nothing() -> None:
    batcher = Batcher(BatchSettings(max_rows=1, max_wait=LONG), capacity=2)
    await batcher.put(decoded(1))
    await batcher.put(decoded(2))
    cancelled = asyncio.create_task(batcher.put(decoded(3)))
    waiting = asyncio.create_task(batcher.put(decoded(4)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not cancelled.done()
    assert not waiting.done()
    cancelled.cancel()
    assert packet_ids(await batcher.take()) == [1]
    await asyncio.wait_for(waiting, 5)
    batcher.drain()
    assert packet_ids(await batcher.take()) == [2]
    assert packet_ids(await batcher.take()) == [4]
    assert await batcher.take() is None
    assert batcher.pending_rows == 0


async def test_cancelled_take_loses_nothing() -> None:
    batcher = Batcher(BatchSettings(max_rows=1, max_wait=LONG))
    taking = asyncio.create_task(batcher.take())
    await asyncio.sleep(0)
    await batcher.put(decoded(1))
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert packet_ids(await batcher.take()) == [1]


async def test_drain_hands_out_the_open_batch_at_once() -> None:
    batcher = Batcher(BatchSettings(max_rows=100, max_wait=LONG))
    taking = asyncio.create_task(batcher.take())
    await batcher.put(decoded(1))
    batcher.drain()
    batch = await asyncio.wait_for(taking, 5)
    assert batch is not None
    assert (packet_ids(batch), batch.trigger) == ([1], "drain")
    assert await batcher.take() is None
