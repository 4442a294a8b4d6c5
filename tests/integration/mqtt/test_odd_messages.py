"""Messages that the standard allows and few send: they end no connection, and they fill no memory."""

from __future__ import annotations

import struct
from contextlib import AsyncExitStack
from typing import Literal

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import SecretStr

from bms_ingest.demo.embedded import EmbeddedBroker
from bms_ingest.errors import BrokerUnavailable
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.settings import MqttSettings
from tests.fixtures.brokers import Publisher
from tests.integration.mqtt.conftest import Peer, receive_count, until
from tests.integration.mqtt.wire import PUBLISH, ScriptedBroker, WireTap, answer

BYTE_ORDER_MARK = "\ufeff"
LEAST_BYTES = 200
"""What no implementation holds an empty message in less than."""
CONNACK = {"3.1.1": b"\x20\x02\x00\x00", "5": b"\x20\x03\x00\x00\x00"}


def packet(first_byte: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([first_byte, len(body)]) + body


async def test_byte_order_mark_in_a_user_property_passes(mosquitto: EmbeddedBroker) -> None:
    session = await MqttBroker(MqttSettings(url=SecretStr(mosquitto.url), protocol="5")).connect(1)
    try:
        await session.subscribe("a/#")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = ("firmware", f"{BYTE_ORDER_MARK}7")
        async with aiomqtt.Client(
            "127.0.0.1", mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5
        ) as publisher:
            await publisher.publish("a/b", b"odd", qos=1, properties=properties)
            await publisher.publish("a/b", b"plain", qos=1)
        deliveries = await receive_count(session, 2)
        session.acknowledge(deliveries)
    finally:
        await session.close()
    assert [delivery.payload for delivery in deliveries] == [b"odd", b"plain"]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("topic", "expected"),
    [(b"a/\xff\xfe", "a/\\xff\\xfe"), (b"a/+/#", "a/+/#"), ("a/\ufeff".encode(), "a/\ufeff")],
)
async def test_topic_of_any_bytes_passes(
    protocol: Literal["3.1.1", "5"], topic: bytes, expected: str
) -> None:
    body = struct.pack("!H", len(topic)) + topic + b"\x00\x07" + (b"\x00" if protocol == "5" else b"") + b"x"
    async with ScriptedBroker(answer(CONNACK[protocol] + packet(0x33, body))) as broker:
        session = await MqttBroker(MqttSettings(url=SecretStr(broker.url), protocol=protocol)).connect(1)
        (delivery,) = await receive_count(session, 1)
        await session.close()
    assert (delivery.topic, delivery.payload, delivery.packet_id) == (expected, b"x", 7)
    assert (delivery.qos, delivery.retain) == (1, True)


async def test_malformed_publish_ends_the_connection() -> None:
    async with ScriptedBroker(answer(CONNACK["5"] + packet(0x32, b"\x00\x20a"))) as broker:
        session = await MqttBroker(MqttSettings(url=SecretStr(broker.url), protocol="5")).connect(1)
        with pytest.raises(BrokerUnavailable):
            await session.receive()
        await session.close()


async def test_reading_pauses_while_too_many_empty_messages_wait(peer: Peer, stack: AsyncExitStack) -> None:
    limit_bytes, count = 1_048_576, 40_000
    tap = await stack.enter_async_context(WireTap(peer.server.port))
    session = await peer.subscribe(url=tap.url, read_buffer_bytes=limit_bytes)
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish_many((("c/0", b"") for _ in range(count)), qos=0)
        await publisher.publish("c/1", b"last")

        def stuck() -> bool:
            assert tap.to_client is not None
            return tap.to_client.transport.get_write_buffer_size() > 0

        await until(
            lambda: stuck() or tap.received_types.count(PUBLISH) > count, "the session reads no further"
        )
    deliveries = await session.receive()
    assert len(deliveries) * LEAST_BYTES < limit_bytes
    while deliveries[-1].payload != b"last":
        deliveries += await session.receive()
    assert len(deliveries) == count + 1
