"""What every implementation of `Session` promises about bursts, big messages and memory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from bms_ingest.models import Delivery
from tests.integration.mqtt.conftest import DEADLINE_SECONDS, Peer, payloads, publish, receive_count, until
from tests.integration.mqtt.wire import PUBLISH, WireTap

pytestmark = pytest.mark.asyncio


async def test_burst_of_20_000_arrives_complete_and_in_order(peer: Peer) -> None:
    session = await peer.subscribe()
    await session.close()
    expected = await publish(peer, 20_000, size_bytes=100)
    session = await peer.connect(2)
    deliveries: list[Delivery] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(deliveries) < 20_000:
            burst = await session.receive()
            session.acknowledge(burst)
            deliveries += burst
    assert payloads(deliveries) == expected


async def test_big_payload_arrives(peer: Peer) -> None:
    session = await peer.subscribe()
    (expected,) = await publish(peer, 1, size_bytes=10_000_000)
    (delivery,) = await receive_count(session, 1)
    assert delivery.payload == expected
    session.acknowledge([delivery])


async def test_reading_pauses_while_too_many_bytes_wait(peer: Peer, stack: AsyncExitStack) -> None:
    limit_bytes, size_bytes, count = 2_000_000, 900_000, 50
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url, read_buffer_bytes=limit_bytes)
    published = await publish(peer, count, size_bytes)

    def stuck() -> bool:
        assert tap.to_client is not None
        return tap.to_client.transport.get_write_buffer_size() > 0

    in_flight = count if peer.protocol == "5" or peer.server.kind == "nats" else 20
    await until(
        lambda: stuck() or tap.received_types.count(PUBLISH) >= in_flight, "the session reads no further"
    )
    assert peer.implementation.waiting_bytes(session) <= limit_bytes + size_bytes + 1_000
    deliveries: list[Delivery] = []
    while len(deliveries) < count:
        burst = await receive_count(session, 1)
        assert sum(len(delivery.payload) for delivery in burst) <= limit_bytes + size_bytes + 10
        session.acknowledge(burst)
        deliveries += burst
    assert payloads(deliveries) == published
