"""A connection that is reset is noticed at once, on every event loop, whatever is under way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
from pydantic import SecretStr

from bms_ingest.errors import BrokerUnavailable
from bms_ingest.ingest.session import Session
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.settings import MqttSettings
from tests.integration.mqtt.conftest import receive_count
from tests.integration.mqtt.wire import Packet, ScriptedBroker

CONNACK = b"\x20\x03\x00\x00\x00"
MESSAGE = b"\x32\x07\x00\x01a\x00\x07\x00x"
MESSAGES = 200
NOTICED_SECONDS = 5.0


@pytest.mark.parametrize("acknowledging", [False, True])
@pytest.mark.parametrize(
    "last", [b"", MESSAGE * 1_000, MESSAGE[:5]], ids=["silent", "behind a burst", "within a message"]
)
async def test_reset_is_noticed(acknowledging: bool, last: bytes) -> None:
    reset, gone = asyncio.Event(), asyncio.Event()

    async def script(_: Packet, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK + MESSAGE * MESSAGES)
        await writer.drain()
        await reset.wait()
        # With nothing to linger for, closing sends RST.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.write(last)
        writer.transport.abort()
        gone.set()

    async with ScriptedBroker(script) as broker:
        session = await MqttBroker(MqttSettings(url=SecretStr(broker.url), protocol="5")).connect(1)
        deliveries = await receive_count(session, MESSAGES)
        reset.set()
        await gone.wait()
        if acknowledging:
            # Either it is known already, or these go nowhere.
            with contextlib.suppress(BrokerUnavailable):
                session.acknowledge(deliveries)
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(_receive_for_ever(session), NOTICED_SECONDS)
        await session.close()


async def _receive_for_ever(session: Session) -> None:
    while True:
        await session.receive()
