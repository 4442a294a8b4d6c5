"""Connecting: which protocol is chosen, what each failure becomes, and that failures leave nothing behind."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

import pytest
from pydantic import SecretStr

from bms_ingest.demo.embedded import EmbeddedBroker
from bms_ingest.errors import BrokerRefused, BrokerUnavailable, ProtocolUnsupported
from bms_ingest.mqtt import broker as broker_module
from bms_ingest.mqtt.aiomqtt_session import ClosedWithoutAnswer
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.settings import MqttSettings
from tests.integration.mqtt.conftest import until
from tests.integration.mqtt.wire import (
    PUBLISH,
    Packet,
    ScriptedBroker,
    WireTap,
    answer,
    read_packet,
    until_gone,
)

pytestmark = pytest.mark.asyncio

ACCEPTED_5 = b"\x20\x03\x00\x00\x00"
ACCEPTED_311 = b"\x20\x02\x00\x00"
OLD_REFUSAL = b"\x20\x02\x00\x01"


def refusal_5(code: int) -> bytes:
    """CONNACK of MQTT 5 with a reason code."""
    return bytes([0x20, 3, 0, code, 0])


def settings(url: str, **overrides: Any) -> MqttSettings:
    """Settings with a short time-out."""
    return MqttSettings(**({"url": SecretStr(url), "connect_timeout": 3} | overrides))


async def test_auto_takes_mqtt_5_where_it_is_spoken(mosquitto: EmbeddedBroker) -> None:
    session = await MqttBroker(settings(mosquitto.url)).connect(1)
    assert session.protocol == "5"
    await session.close()


async def test_auto_falls_back_to_311_where_mqtt_5_is_refused(nats: EmbeddedBroker) -> None:
    async with WireTap(nats.port) as tap:
        broker = MqttBroker(settings(tap.url))
        for generation in (1, 2):
            session = await broker.connect(generation)
            assert session.protocol == "3.1.1"
            await session.close()
        levels = [packet.body[6] for packet in tap.sent_of(0x10)]
    assert levels == [5, 4, 4], "the refusal was not remembered"


async def test_mqtt_5_is_offered_again_after_a_while(
    nats: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "RETRY_NEWEST_SECONDS", 0.0)
    async with WireTap(nats.port) as tap:
        broker = MqttBroker(settings(tap.url))
        for generation in (1, 2):
            await (await broker.connect(generation)).close()
        assert [packet.body[6] for packet in tap.sent_of(0x10)] == [5, 4, 5, 4]


async def test_upgraded_broker_is_noticed_after_a_failed_connect() -> None:
    speaks = [OLD_REFUSAL, ACCEPTED_311, b"", ACCEPTED_5]

    async def script(_: Packet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(speaks.pop(0))
        if speaks and len(speaks) != 1:
            await until_gone(reader)

    async with ScriptedBroker(script) as scripted:
        broker = MqttBroker(settings(scripted.url))
        await (await broker.connect(1)).close()
        with pytest.raises(BrokerUnavailable):
            await broker.connect(2)
        session = await broker.connect(3)
        assert session.protocol == "5"
        await session.close()
        assert scripted.versions == [5, 4, 4, 5]


async def test_broker_that_closes_on_mqtt_5_gets_311_and_is_asked_again_next_time() -> None:
    async def script(connect: Packet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connect.body[6] == 4:
            writer.write(ACCEPTED_311)
            await until_gone(reader)

    async with ScriptedBroker(script) as scripted:
        broker = MqttBroker(settings(scripted.url))
        for generation in (1, 2):
            session = await broker.connect(generation)
            assert session.protocol == "3.1.1"
            await session.close()
        assert scripted.versions == [5, 4, 5, 4]


async def test_broker_that_closes_on_everything_is_unavailable() -> None:
    async def script(*_: object) -> None:
        return

    async with ScriptedBroker(script) as scripted:
        with pytest.raises(ClosedWithoutAnswer, match="without a word"):
            await MqttBroker(settings(scripted.url)).connect(1)
        assert scripted.versions == [5, 4]


async def test_network_error_is_no_reason_to_try_an_older_protocol(unused_port: int) -> None:
    with pytest.raises(BrokerUnavailable, match=rf"127\.0\.0\.1:{unused_port}.*refused") as failed:
        await MqttBroker(settings(f"mqtt://127.0.0.1:{unused_port}")).connect(1)
    assert "3.1.1" not in str(failed.value)
    assert failed.value.__cause__ is not None


async def test_unknown_host_is_unavailable() -> None:
    with pytest.raises(BrokerUnavailable, match=r"cannot reach the broker at no-such-host\.invalid"):
        await MqttBroker(settings("mqtt://no-such-host.invalid")).connect(1)


@pytest.mark.parametrize(
    ("packet", "protocol", "error", "words"),
    [
        (refusal_5(0x84), "5", ProtocolUnsupported, "mqtt.protocol"),
        (OLD_REFUSAL, "5", ProtocolUnsupported, "mqtt.protocol"),
        (refusal_5(0x85), "auto", BrokerRefused, "mqtt.client_id"),
        (refusal_5(0x86), "auto", BrokerRefused, "password"),
        (refusal_5(0x87), "auto", BrokerRefused, "not authorized"),
        (refusal_5(0x88), "auto", BrokerUnavailable, "server unavailable"),
        (refusal_5(0x89), "auto", BrokerUnavailable, "server busy"),
        (refusal_5(0x8A), "auto", BrokerRefused, "banned"),
        (refusal_5(0x8C), "auto", BrokerRefused, "authentication method"),
        (refusal_5(0x9D), "auto", BrokerRefused, "mqtt.url"),
        (b"\x20\x02\x00\x02", "3.1.1", BrokerRefused, "mqtt.client_id"),
        (b"\x20\x02\x00\x03", "3.1.1", BrokerUnavailable, "server unavailable"),
        (b"\x20\x02\x00\x04", "3.1.1", BrokerRefused, "password"),
        (b"\x20\x02\x00\x05", "3.1.1", BrokerRefused, "not authorized"),
        (b"\x20\x02\x00\x01", "3.1.1", BrokerUnavailable, "does not belong to this MQTT version"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10, "5", BrokerUnavailable, "the broker at 127.0.0.1"),
    ],
)
async def test_refusal_tells_whether_somebody_must_act(
    packet: bytes, protocol: str, error: type[Exception], words: str
) -> None:
    async with ScriptedBroker(answer(packet)) as scripted:
        with pytest.raises(error, match=words) as failed:
            await MqttBroker(settings(scripted.url, protocol=protocol, connect_timeout=1)).connect(1)
    assert type(failed.value) in (error, ClosedWithoutAnswer)


async def test_refused_subscription_names_the_filter() -> None:
    async def script(_: Packet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ACCEPTED_5)
        subscribe, _raw = await read_packet(reader)
        writer.write(b"\x90\x04" + subscribe.body[:2] + b"\x00\x9e")
        await until_gone(reader)

    async with ScriptedBroker(script) as scripted:
        session = await MqttBroker(settings(scripted.url)).connect(1)
        with pytest.raises(BrokerRefused, match=r"\$share/g/x.*mqtt\.share_group"):
            await session.subscribe("$share/g/x")
        with pytest.raises(BrokerRefused, match="not a topic filter"):
            await session.subscribe("a/#/b")
        await session.close()


async def test_takeover_told_by_the_broker_names_our_client_id() -> None:
    async def script(_: Packet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ACCEPTED_5 + b"\xe0\x01\x8e")
        await until_gone(reader)

    async with ScriptedBroker(script) as scripted:
        session = await MqttBroker(settings(scripted.url, client_id="twin")).connect(1)
        with pytest.raises(BrokerUnavailable, match=r"session taken over \(0x8e\).*'twin'"):
            await session.receive()
        await session.close()


async def test_garbage_from_the_broker_ends_the_connection() -> None:
    async def script(_: Packet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A PUBLISH whose topic is longer than the packet.
        writer.write(ACCEPTED_5 + b"\x32\x04\xff\xff\x00\x01")
        await until_gone(reader)

    async with ScriptedBroker(script) as scripted:
        session = await MqttBroker(settings(scripted.url)).connect(1)
        with pytest.raises(BrokerUnavailable):
            await session.receive()
        await session.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_wrong_password_is_refused_and_not_repeated_in_the_text(
    protocol: str, mosquitto: EmbeddedBroker
) -> None:
    passwords = mosquitto.directory / "passwords"
    await asyncio.to_thread(
        subprocess.run, ["mosquitto_passwd", "-b", "-c", str(passwords), "daemon", "right"], check=True
    )
    passwords.chmod(0o644)
    configuration = mosquitto.directory / "closed.conf"
    configuration.write_text(f"allow_anonymous false\npassword_file {passwords}\n")
    closed = EmbeddedBroker(mosquitto.directory / "closed", kind="mosquitto", configuration=configuration)
    closed.start()
    try:
        address = closed.url.removeprefix("mqtt://")
        session = await MqttBroker(settings(f"mqtt://daemon:right@{address}", protocol=protocol)).connect(1)
        await session.close()
        with pytest.raises(BrokerRefused) as failed:
            await MqttBroker(settings(f"mqtt://daemon:wr0ng-secret@{address}", protocol=protocol)).connect(1)
    finally:
        closed.stop()
    error: BaseException | None = failed.value
    while error is not None:
        assert "wr0ng-secret" not in repr(error)
        error = error.__cause__


async def test_silent_broker_times_out() -> None:
    async with ScriptedBroker(answer(b"")) as scripted:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.2 s"):
            await MqttBroker(settings(scripted.url, connect_timeout=0.2)).connect(1)
        assert time.monotonic() - started < 2


async def test_silent_subscription_times_out() -> None:
    async with ScriptedBroker(answer(ACCEPTED_5)) as scripted:
        session = await MqttBroker(settings(scripted.url, connect_timeout=0.2)).connect(1)
        with pytest.raises(BrokerUnavailable, match="did not answer the subscription"):
            await session.subscribe("a/#")
        await session.close()


async def test_cancelled_connect_closes_its_socket() -> None:
    async with ScriptedBroker(answer(b"")) as scripted:
        connecting = asyncio.ensure_future(MqttBroker(settings(scripted.url)).connect(1))
        await until(lambda: scripted.versions, "CONNECT arrived")
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_connect_cancelled_at_once_closes_its_socket_when_it_opens() -> None:
    async with ScriptedBroker(answer(b"")) as scripted:
        for _ in range(20):
            connecting = asyncio.ensure_future(MqttBroker(settings(scripted.url)).connect(1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting


async def test_many_failures_leave_nothing_behind(unused_port: int, stack: AsyncExitStack) -> None:
    refusing = await stack.enter_async_context(ScriptedBroker(answer(refusal_5(0x86))))
    silent = await stack.enter_async_context(ScriptedBroker(answer(b"")))
    for url in (f"mqtt://127.0.0.1:{unused_port}", refusing.url, silent.url):
        for _ in range(5):
            with pytest.raises((BrokerRefused, BrokerUnavailable)):
                await MqttBroker(settings(url, connect_timeout=0.1)).connect(1)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_keep_alive_notices_a_dead_network(mosquitto: EmbeddedBroker) -> None:
    async with WireTap(mosquitto.port) as tap:
        session = await MqttBroker(settings(tap.url, keepalive=1, connect_timeout=0.5)).connect(1)
        tap.stall()
        with pytest.raises(BrokerUnavailable, match=r"mqtt\.keepalive"):
            await session.receive()
        await session.close()


async def test_connect_asks_for_a_session_that_lasts_and_a_window(mosquitto: EmbeddedBroker) -> None:
    async with WireTap(mosquitto.port) as tap:
        wanted = settings(tap.url, receive_maximum=1_234, session_expiry=86_400, client_id="me", keepalive=7)
        await (await MqttBroker(wanted).connect(1)).close()
        (connect,) = tap.sent_of(0x10)
        clean_start = connect.body[7] & 0x02
        assert connect.body[:9] == b"\x00\x04MQTT\x05\x00\x00"
        assert clean_start == 0
        assert connect.body[9] == 7
        properties = connect.body[11 : 11 + connect.body[10]]
        assert b"\x11" + (86_400).to_bytes(4, "big") in properties
        assert b"\x21" + (1_234).to_bytes(2, "big") in properties
        assert len(properties) == 8, "nothing else is asked for, Maximum Packet Size least of all"


async def test_library_is_the_one_whose_inside_we_know(mosquitto: EmbeddedBroker) -> None:
    """The link touches private parts; another minor version must be read before it is allowed."""
    assert version("aiomqtt").startswith("2.5.")
    assert version("paho-mqtt").startswith("2.2.")
    async with WireTap(mosquitto.port) as tap:
        session = await MqttBroker(settings(tap.url)).connect(1)
        paho = session._link._paho
        assert paho._manual_ack is True
        assert callable(paho._sock_close)
        await session.subscribe("a/#")
        paho.publish("a/b", b"1", qos=1)
        await until(lambda: PUBLISH in tap.received_types, "our own message came back")
        (delivery,) = await session.receive()
        await session.close()
        session = await MqttBroker(settings(tap.url)).connect(2)
        (again,) = await session.receive()
        assert (again.payload, again.packet_id) == (delivery.payload, delivery.packet_id)
        session.acknowledge([again])
        await session.close()
    assert paho._sock is None
