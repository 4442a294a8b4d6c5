"""The burst queue hands over everything, once, in order, and counts what waits."""

from __future__ import annotations

import asyncio

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_ingest.mqtt.burst import MESSAGE_BYTES, BurstQueue


def message(payload: bytes, packet_id: int = 1) -> aiomqtt.Message:
    """A message as aiomqtt puts it."""
    return aiomqtt.Message("a/b", payload, 1, False, packet_id, None)


async def test_message_becomes_a_delivery_of_its_generation() -> None:
    queue = BurstQueue(generation=3)
    queue.put_nowait(aiomqtt.Message("a/b", b"x", 1, True, 17, None))
    (delivery,) = queue.take()
    assert (delivery.topic, delivery.payload, delivery.qos, delivery.retain) == ("a/b", b"x", 1, True)
    assert (delivery.packet_id, delivery.generation, delivery.settled) == (17, 3, False)


async def test_one_turn_has_one_time_of_arrival_and_the_next_another() -> None:
    queue = BurstQueue(1)
    queue.begin_turn()
    queue.put_nowait(message(b"1"))
    queue.put_nowait(message(b"2"))
    queue.begin_turn()
    queue.put_nowait(message(b"3"))
    first, second, third = queue.take()
    assert (first.received_at, first.arrived_seconds) == (second.received_at, second.arrived_seconds)
    assert third.arrived_seconds > second.arrived_seconds


@given(st.lists(st.one_of(st.binary(max_size=5), st.none()), max_size=40))
def test_takes_return_what_was_put_in_order_and_nothing_twice(steps: list[bytes | None]) -> None:
    async def play() -> None:
        queue, taken = BurstQueue(1), []
        for step in steps:
            if step is None:
                taken += queue.take()
                assert queue.waiting_bytes == 0
            else:
                queue.put_nowait(message(step))
        waiting = queue.waiting_bytes
        rest = queue.take()
        assert waiting == sum(MESSAGE_BYTES + len(one.topic) + len(one.payload) for one in rest)
        assert [one.payload for one in taken + rest] == [step for step in steps if step is not None]

    asyncio.run(play())


async def test_waiting_ends_with_a_message_or_a_stir() -> None:
    queue = BurstQueue(1)
    for with_message in (True, False):
        waiting = asyncio.ensure_future(queue.stirred())
        await asyncio.sleep(0)
        assert not waiting.done()
        if with_message:
            queue.put_nowait(message(b"x"))
        else:
            queue.stir()
        await asyncio.wait_for(waiting, 5)
        queue.take()


@pytest.mark.parametrize("count", [1, 10_000])
async def test_nothing_is_ever_discarded(count: int) -> None:
    queue = BurstQueue(1)
    for packet_id in range(count):
        queue.put_nowait(message(b"x", packet_id))
    assert len(queue.take()) == count
