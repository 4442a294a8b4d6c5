"""What every implementation of `Session` promises, on every protocol version and broker there is."""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from bms_ingest.errors import BrokerUnavailable
from bms_ingest.ingest.session import Session
from bms_ingest.models import Delivery
from tests.fixtures.brokers import Publisher
from tests.integration.mqtt.conftest import (
    DEADLINE_SECONDS,
    Peer,
    numbered,
    payloads,
    publish,
    receive_count,
    until,
)
from tests.integration.mqtt.wire import DISCONNECT, PUBACK, PUBLISH, WireTap

pytestmark = pytest.mark.asyncio


async def ids_acknowledged(tap: WireTap, count: int) -> list[int]:
    """Packet ids of the PUBACKs on the wire once there are `count` of them."""
    await until(lambda: len(tap.sent_of(PUBACK)) >= count, f"{count} PUBACKs")
    return [struct.unpack("!H", packet.body[:2])[0] for packet in tap.sent_of(PUBACK)]


async def test_delivery_carries_what_the_broker_sent(peer: Peer) -> None:
    session = await peer.subscribe(generation=7)
    before = time.monotonic()
    await publish(peer, 1)
    (delivery,) = await receive_count(session, 1)
    assert (delivery.topic, delivery.payload, delivery.qos, delivery.retain) == ("c/0", b"0", 1, False)
    assert (delivery.generation, session.generation, session.protocol) == (7, 7, peer.protocol)
    assert 1 <= delivery.packet_id <= 65_535
    assert before <= delivery.arrived_seconds <= time.monotonic()
    assert abs(datetime.now(UTC) - delivery.received_at) < timedelta(seconds=5)
    assert delivery.received_at.tzinfo is UTC


async def test_first_connect_has_no_session_and_the_next_one_finds_it(peer: Peer) -> None:
    session = await peer.subscribe()
    assert session.session_present is False
    await session.close()
    published = await publish(peer, 3)
    session = await peer.connect(2)
    assert session.session_present is True
    assert payloads(await receive_count(session, 3)) == published


async def redelivered(peer: Peer, generation: int, count: int) -> tuple[Session, list[Delivery]]:
    """Connect again and receive `count` different messages."""
    session = await peer.connect(generation)
    deliveries: dict[bytes, Delivery] = {}
    while len(deliveries) < count:
        for delivery in await receive_count(session, 1):
            deliveries.setdefault(delivery.payload, delivery)
    if peer.server.kind == "nats":
        # NATS takes up its round of redeliveries wherever it was.
        return session, sorted(deliveries.values(), key=lambda delivery: delivery.payload)
    return session, list(deliveries.values())


async def test_unacknowledged_messages_come_again_in_order(redelivering_peer: Peer) -> None:
    session = await redelivering_peer.subscribe()
    published = await publish(redelivering_peer, 10)
    await receive_count(session, 10)
    await session.close()
    _, deliveries = await redelivered(redelivering_peer, 2, 10)
    assert payloads(deliveries) == published


async def test_acknowledged_messages_do_not_come_again(redelivering_peer: Peer) -> None:
    session = await redelivering_peer.subscribe()
    published = await publish(redelivering_peer, 10)
    session.acknowledge((await receive_count(session, 10))[:6])
    await session.close()
    session, deliveries = await redelivered(redelivering_peer, 2, 4)
    assert payloads(deliveries) == published[6:]


async def test_acknowledgements_made_just_before_close_reach_the_broker(peer: Peer) -> None:
    session = await peer.subscribe(receive_maximum=5_000)
    await publish(peer, 2_000)
    seen = 0
    while seen < 2_000:
        deliveries = await receive_count(session, 1)
        session.acknowledge(deliveries)
        seen += len(deliveries)
    await session.close()
    session = await peer.connect(2)
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish("c/last", b"last")
    assert payloads(await receive_count(session, 1)) == [b"last"]


async def test_nothing_is_acknowledged_on_the_wire_before_acknowledge(
    peer: Peer, stack: AsyncExitStack
) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url)
    await publish(peer, 5)
    deliveries = await receive_count(session, 5)
    # The answer to a second request shows that everything written before it has passed.
    await session.subscribe("d/#")
    assert tap.sent_of(PUBACK) == []
    session.acknowledge(deliveries)
    assert await ids_acknowledged(tap, 5) == [delivery.packet_id for delivery in deliveries]


async def test_pubacks_leave_in_the_order_given(peer: Peer, stack: AsyncExitStack) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url)
    await publish(peer, 4)
    a, b, c, d = await receive_count(session, 4)
    session.acknowledge([a, c])
    session.acknowledge([b, d])
    assert await ids_acknowledged(tap, 4) == [one.packet_id for one in (a, c, b, d)]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_stale_delivery_is_refused_and_deletes_nothing(redelivering_peer: Peer) -> None:
    session = await redelivering_peer.subscribe()
    published = await publish(redelivering_peer, 3)
    stale = await receive_count(session, 3)
    await session.close()
    session, fresh = await redelivered(redelivering_peer, 2, 3)
    with pytest.raises(BrokerUnavailable, match="connection 1"):
        session.acknowledge(stale)
    with pytest.raises(BrokerUnavailable):
        session.acknowledge([fresh[0], stale[1]])
    await session.close()
    _, again = await redelivered(redelivering_peer, 3, 3)
    assert payloads(again) == published


async def test_acknowledge_after_close_is_refused(peer: Peer) -> None:
    session = await peer.subscribe()
    await publish(peer, 1)
    deliveries = await receive_count(session, 1)
    await session.close()
    with pytest.raises(BrokerUnavailable):
        session.acknowledge(deliveries)


async def test_receive_maximum_stops_the_broker_until_acknowledgements(peer: Peer) -> None:
    if peer.protocol != "5":
        assert (await peer.connect()).receive_maximum is None
        return
    session = await peer.subscribe(receive_maximum=20)
    assert session.receive_maximum == 20
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish_many(numbered(50))
        # QoS 0 is outside the window: when it is here, so is all that the broker wants to send.
        await publisher.publish("c/fence", b"fence", 0)
    held = await receive_count(session, 21)
    assert [delivery.qos for delivery in held] == [1] * 20 + [0]
    session.acknowledge(held)
    # How many come at once is up to the broker: mosquitto 2.0.11 forgets its window at the first PUBACK
    # (https://github.com/eclipse-mosquitto/mosquitto/issues/2301).
    more = await receive_count(session, 1)
    while len(more) < 30:
        session.acknowledge(more)
        more += await receive_count(session, 1)
    assert payloads(held[:20] + more) == [payload for _, payload in numbered(50)]


async def test_qos_0_has_no_packet_id_and_is_passed_over(peer: Peer, stack: AsyncExitStack) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url)
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish("c/0", b"unprotected", 0)
        (first,) = await receive_count(session, 1)
        await publisher.publish("c/1", b"protected", 1)
        (second,) = await receive_count(session, 1)
    assert (first.qos, first.packet_id, first.payload) == (0, 0, b"unprotected")
    session.acknowledge([first, second])
    assert await ids_acknowledged(tap, 1) == [second.packet_id]


async def test_retained_message_is_marked(peer: Peer) -> None:
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish("c/status", b"online", retain=True)
        session = await peer.subscribe()
        (retained,) = await receive_count(session, 1)
        await publisher.publish("c/status", b"offline", retain=True)
        (live,) = await receive_count(session, 1)
    assert (retained.payload, retained.retain) == (b"online", True)
    assert (live.payload, live.retain) == (b"offline", False)


async def test_subscribing_twice_is_harmless(peer: Peer) -> None:
    session = await peer.subscribe()
    assert await session.subscribe("c/#") == 1
    published = await publish(peer, 5)
    deliveries = await receive_count(session, 5)
    session.acknowledge(deliveries)
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish("c/last", b"last")
    deliveries += await receive_count(session, 1)
    assert payloads(deliveries) == [*published, b"last"]


async def test_receive_ends_promptly_when_the_broker_dies(peer: Peer) -> None:
    session = await peer.subscribe()
    receiving = asyncio.ensure_future(session.receive())
    peer.server.kill()
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable):
            await receiving
    with pytest.raises(BrokerUnavailable):
        await session.receive()
    with pytest.raises(BrokerUnavailable):
        await session.subscribe("d/#")


async def test_what_was_received_is_returned_before_the_loss_is_told(
    peer: Peer, stack: AsyncExitStack
) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url)
    published = await publish(peer, 5)
    await until(lambda: tap.received_types.count(PUBLISH) == 5, "five messages on the wire")
    await session.subscribe("d/#")
    peer.server.kill()
    ending = asyncio.ensure_future(session.subscribe("e/#"))
    with pytest.raises(BrokerUnavailable):
        await ending
    deliveries = await session.receive()
    assert payloads(deliveries) == published
    with pytest.raises(BrokerUnavailable):
        session.acknowledge(deliveries)
    with pytest.raises(BrokerUnavailable):
        await session.receive()


async def test_messages_survive_a_restart_of_the_broker(peer: Peer) -> None:
    if peer.server.kind == "nats":
        pytest.skip(
            "NATS redelivers after a time, not on reconnect; what it keeps over a restart is not tested"
        )
    session = await peer.subscribe()
    published = await publish(peer, 5)
    await receive_count(session, 5)
    peer.server.stop()
    with pytest.raises(BrokerUnavailable):
        await session.receive()
    peer.server.start()
    session = await peer.connect(2)
    assert session.session_present
    assert payloads(await receive_count(session, 5)) == published


async def test_close_says_disconnect_once(peer: Peer, stack: AsyncExitStack) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url)
    await session.close()
    await session.close()
    await until(lambda: tap.sent_of(DISCONNECT), "DISCONNECT on the wire")
    assert len(tap.sent_of(DISCONNECT)) == 1
    with pytest.raises(BrokerUnavailable):
        await session.receive()


async def test_close_ends_a_waiting_receive(peer: Peer) -> None:
    session = await peer.subscribe()
    receiving = asyncio.ensure_future(session.receive())
    await asyncio.sleep(0)
    await session.close()
    with pytest.raises(BrokerUnavailable):
        await receiving


async def test_close_on_a_broken_connection_is_quiet(peer: Peer) -> None:
    session = await peer.subscribe()
    peer.server.kill()
    with pytest.raises(BrokerUnavailable):
        await session.receive()
    await session.close()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_close_does_not_hang_on_a_dead_network(peer: Peer, stack: AsyncExitStack) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url, connect_timeout=0.5)
    tap.stall()
    # Enough to fill the buffers on the way, so that DISCONNECT cannot leave.
    asking = [asyncio.ensure_future(session.subscribe("d/" * 30_000)) for _ in range(200)]
    for _ in range(10):
        await asyncio.sleep(0)
    started = time.monotonic()
    await session.close()
    assert 0.4 <= time.monotonic() - started < 5
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(end, BrokerUnavailable) for end in ends)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_close_does_not_wait_for_a_broker_that_keeps_the_connection(
    peer: Peer, stack: AsyncExitStack
) -> None:
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url, connect_timeout=0.5)
    tap.stall()
    started = time.monotonic()
    await session.close()
    assert time.monotonic() - started < 5


async def test_cancelling_receive_loses_nothing(peer: Peer) -> None:
    session = await peer.subscribe()
    publishing = asyncio.ensure_future(publish(peer, 300))
    deliveries: list[Delivery] = []
    turns = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(deliveries) < 300:
            receiving = asyncio.ensure_future(session.receive())
            turns += 1
            for _ in range(turns % 4):
                await asyncio.sleep(0)
            receiving.cancel()
            try:
                taken = await receiving
            except asyncio.CancelledError:
                continue
            session.acknowledge(taken)
            deliveries += taken
    assert payloads(deliveries) == await publishing


async def test_another_client_with_our_id_is_named(peer: Peer) -> None:
    session = await peer.subscribe()
    other = await peer.connect(2)
    with pytest.raises(BrokerUnavailable) as told:
        await session.receive()
    # mosquitto 2.0.11 closes the old connection without DISCONNECT, so the reason is only a guess then.
    assert "another client" in str(told.value)
    assert peer.client_id in str(told.value)
    assert await other.subscribe("c/#") == 1
