"""Publishes messages at QoS 1, many in flight at once, and sends again what a broken connection left open.

One connection carries the whole fleet. MQTT has one last will a connection [MQTT-3.1.2-8], so the will
speaks for the first site only; an orderly end says `offline` for every site.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from bms_ingest.addresses import BrokerAddress
from bms_ingest.backoff import Backoff
from bms_ingest.demo.stream import Outgoing
from bms_ingest.demo.tally import Tally
from bms_ingest.errors import BrokerRefused, BrokerUnavailable

_REFUSALS = {
    132: "it does not speak MQTT 3.1.1",
    133: "client id",
    134: "user name or password",
    135: "not authorized",
}
"""CONNACK codes that no second try mends, as paho translates those of MQTT 3.1.1."""
_KEEPALIVE_SECONDS = 20
_CONNECT_SECONDS = 10.0
_SETTLE_SECONDS = 10.0

# The library warns on every publish with ten others in flight, which is how this module works.
_QUIET = logging.getLogger("bms_ingest.demo.mqtt")
_QUIET.setLevel(logging.CRITICAL)


class Publisher:
    """Hands messages to one broker, in order; `run` once.

    What was sent when a connection broke is sent again over the next, ahead of everything else: the broker
    may then have it twice, as with any QoS 1 publisher.

    Args:
        address: user and password included.
        tls: for mqtts:// and wss://; the system's certificate authorities when None.
        window: most messages on their way at once; also what may be waiting here.
        status_topics: of every site; `online` is retained there while we are connected.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        tls: ssl.SSLContext | None = None,
        window: int = 100,
        status_topics: Sequence[str] = (),
    ) -> None:
        self.sent = Tally()
        """Everything handed to the broker, each time it was; an upper bound of what it has."""
        self.acknowledged = Tally()
        """What the broker said it has; each message once."""
        self.connections = 0
        self.connected = False
        self._address = address
        self.tls = tls or (ssl.create_default_context() if address.scheme in ("mqtts", "wss") else None)
        self._window = window
        self._status_topics = tuple(status_topics)
        self._queue: asyncio.Queue[Outgoing | None] = asyncio.Queue(maxsize=window)
        self._open: dict[int, Outgoing] = {}
        self._again: deque[Outgoing] = deque()
        self._number = 0
        self._identifier = f"bms-ingest-simulator-{uuid4().hex[:12]}"

    @property
    def unacknowledged(self) -> int:
        """Messages handed to the broker whose receipt it has not confirmed."""
        return len(self._open) + len(self._again)

    async def run(self, messages: AsyncIterator[Outgoing]) -> None:
        """Publish until `messages` ends and everything is acknowledged, then say `offline` and disconnect.

        When the messages have ended and the broker is away, it is given 10 s to come back.

        Raises:
            BrokerUnavailable: the very first connection failed.
            BrokerRefused: the broker said no to our credentials, client id or protocol.
        """
        feeder = asyncio.create_task(self._feed(messages), name="simulator feed")
        connecting = asyncio.create_task(self._stay_connected(), name="simulator connection")
        try:
            await asyncio.wait((feeder, connecting), return_when=asyncio.FIRST_COMPLETED)
            if feeder.done():
                feeder.result()
                await asyncio.wait((connecting,), timeout=_SETTLE_SECONDS)
            if connecting.done():
                connecting.result()
        finally:
            for task in (feeder, connecting):
                task.cancel()
            await asyncio.gather(feeder, connecting, return_exceptions=True)

    async def _feed(self, messages: AsyncIterator[Outgoing]) -> None:
        async for message in messages:
            await self._queue.put(message)
        # One end mark; whoever finds it puts it back for the next.
        await self._queue.put(None)

    async def _stay_connected(self) -> None:
        backoff = Backoff(0.5, 15.0)
        while True:
            try:
                await self._one_connection()
                return
            except BrokerUnavailable:
                if self.connections == 0:
                    raise
            await asyncio.sleep(backoff.next_seconds())

    async def _one_connection(self) -> None:
        """Publish over one connection until everything is done.

        Raises:
            BrokerUnavailable: it could not be opened, or broke; open messages are queued to be sent again.
            BrokerRefused: see `run`.
        """
        client = self._client()
        try:
            async with client:
                self.connections += 1
                self.connected = True
                await self._publish_all(client)
                self.connected = False
        except aiomqtt.MqttError as error:
            raise _translate(error) from error
        finally:
            self.connected = False
            self._again.extendleft(self._open[number] for number in sorted(self._open, reverse=True))
            self._open.clear()

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        client.pending_calls_threshold = self._window + len(self._status_topics) + 1
        await self._say(client, b"online")
        work = [asyncio.create_task(self._publish_some(client)) for _ in range(self._window)]
        # `publish` with no timeout does not notice a lost connection; waiting for a message does.
        watch = asyncio.create_task(_watch(client))
        everything = asyncio.gather(*work)
        try:
            await asyncio.wait((watch, everything), return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                watch.result()
            await everything
        finally:
            for task in (watch, *work):
                task.cancel()
            await asyncio.gather(watch, everything, *work, return_exceptions=True)
        await self._say(client, b"offline")

    async def _publish_some(self, client: aiomqtt.Client) -> None:
        """Publish one after the other; taking and sending are one step of the loop, which keeps the order."""
        while True:
            if self._again:
                message = self._again.popleft()
            else:
                taken = await self._queue.get()
                if taken is None:
                    self._queue.put_nowait(None)
                    return
                message = taken
            self._number += 1
            number = self._number
            self._open[number] = message
            self.sent.add(message)
            await client.publish(message.topic, message.payload, qos=1, timeout=math.inf)
            del self._open[number]
            self.acknowledged.add(message)

    async def _say(self, client: aiomqtt.Client, word: bytes) -> None:
        for first in range(0, len(self._status_topics), self._window):
            topics = self._status_topics[first : first + self._window]
            await asyncio.gather(*(client.publish(topic, word, qos=1, retain=True) for topic in topics))

    def _client(self) -> aiomqtt.Client:
        address = self._address
        will = None
        if self._status_topics:
            will = aiomqtt.Will(self._status_topics[0], b"offline", qos=1, retain=True)
        return aiomqtt.Client(
            address.host,
            address.port,
            username=address.username,
            password=address.password,
            identifier=self._identifier,
            will=will,
            transport="websockets" if address.scheme in ("ws", "wss") else "tcp",
            websocket_path=address.websocket_path or None,
            tls_context=self.tls,
            keepalive=_KEEPALIVE_SECONDS,
            timeout=_CONNECT_SECONDS,
            max_inflight_messages=self._window,
            logger=_QUIET,
        )


async def _watch(client: aiomqtt.Client) -> None:
    async for _ in client.messages:
        pass


def _translate(error: aiomqtt.MqttError) -> BrokerRefused | BrokerUnavailable:
    code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if isinstance(code, ReasonCode) and code.value in _REFUSALS:
        return BrokerRefused(f"the broker refused the connection: {_REFUSALS[code.value]}")
    return BrokerUnavailable(f"no connection to the broker: {error}")
