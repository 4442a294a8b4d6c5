"""Asks a broker what our session needs of it, without touching that session; for `bms-ingest doctor`.

A running daemon must not notice. So the probe uses client ids of its own (`<client_id>-doctor`, and the same
with `-publish` and `-listen`): the daemon's id would throw the daemon out. Its one persistent session holds a
private topic only, expires after half a minute and is wiped at the end, so that nothing is ever queued for
a probe that died. Telemetry is heard over a clean session outside the daemon's share group, because a member
of that group would be dealt messages that it takes to its grave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import islice
from typing import Any

import aiomqtt
from paho.mqtt.subscribeoptions import SubscribeOptions

from bms_ingest.errors import BrokerRefused, BrokerUnavailable
from bms_ingest.mqtt.aiomqtt_session import AiomqttSession
from bms_ingest.mqtt.broker import MqttBroker, tls_context
from bms_ingest.mqtt.reason_codes import FAILURE, subscribe_error
from bms_ingest.settings import MqttSettings

SESSION_EXPIRY = timedelta(seconds=30)
# paho waits as long as the keep-alive for a TLS handshake, in a thread that nobody can cancel.
KEEPALIVE = timedelta(seconds=2)
PUBLISHES_AT_A_TIME = 20
MOST_HEARD = 1_000
NO_RETAINED_MESSAGES = 2
"""Retain handling of a subscription, MQTT 5 [section 3.8.3.1]."""


class BrokerProbe:
    """A client beside the daemon's.

    Args:
        settings: the daemon's.
        receive_maximum: what to grant, MQTT 5 only.
        connect_timeout: longest time for one connection.
    """

    def __init__(self, settings: MqttSettings, *, receive_maximum: int, connect_timeout: timedelta) -> None:
        self._settings = settings.model_copy(
            update={
                "client_id": f"{settings.client_id}-doctor",
                "share_group": None,
                "receive_maximum": receive_maximum,
                "session_expiry": SESSION_EXPIRY,
                "keepalive": KEEPALIVE,
                "connect_timeout": connect_timeout,
            }
        )
        self._broker = MqttBroker(self._settings)
        self._generation = 0

    async def connect(self) -> AiomqttSession:
        """Open a connection to the probe's persistent session.

        Raises:
            BrokerError: as `MqttBroker.connect`.
        """
        self._generation += 1
        return await self._broker.connect(self._generation)

    async def publish(self, protocol: str, topic: str, payloads: Iterable[bytes]) -> None:
        """Publish at QoS 1 and return after the last PUBACK; the broker may drop what an ACL forbids.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        async with self._client(protocol, "-publish") as client:
            source = iter(payloads)
            while window := list(islice(source, PUBLISHES_AT_A_TIME)):
                await asyncio.gather(*(client.publish(topic, payload, qos=1) for payload in window))

    async def listen(self, protocol: str, topic_filter: str, seconds: float) -> tuple[int, Counter[int]]:
        """Subscribe at QoS 1 for a while; return the granted QoS and how many live messages came at which.

        Raises:
            BrokerRefused: the broker refuses the subscription.
            BrokerUnavailable: the connection is gone.
        """
        heard: Counter[int] = Counter()
        async with self._client(protocol, "-listen") as client:
            granted = await _subscribe(client, protocol, topic_filter)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for message in client.messages:
                        if not message.retain:
                            heard[message.qos] += 1
                        if heard.total() >= MOST_HEARD:
                            break
        return granted, heard

    async def forget(self, protocol: str) -> None:
        """Wipe the probe's persistent session at the broker.

        Raises:
            BrokerUnavailable: the connection is gone.
        """
        async with self._client(protocol):
            pass

    @asynccontextmanager
    async def _client(self, protocol: str, suffix: str = "") -> AsyncIterator[aiomqtt.Client]:
        """A connection with a clean session that ends with it."""
        settings = self._settings
        if protocol == "5":
            options: dict[str, Any] = {"protocol": aiomqtt.ProtocolVersion.V5, "clean_start": True}
        else:
            options = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": True}
        if settings.uses_websocket:
            options |= {"transport": "websockets", "websocket_path": settings.websocket_path}
        silent = logging.Logger("bms_ingest.mqtt.probe", logging.CRITICAL)
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            username=settings.username,
            password=None if settings.password is None else settings.password.get_secret_value(),
            identifier=settings.client_id + suffix,
            logger=silent,
            keepalive=round(settings.keepalive.total_seconds()),
            timeout=settings.connect_timeout.total_seconds(),
            tls_context=tls_context(settings) if settings.uses_tls else None,
            **options,
        )
        try:
            async with client:
                yield client
        except aiomqtt.MqttError as error:
            raise BrokerUnavailable(f"the connection was lost: {error}") from error
        except ValueError as error:
            raise BrokerRefused(f"that cannot be asked of a broker: {error}") from error


async def _subscribe(client: aiomqtt.Client, protocol: str, topic_filter: str) -> int:
    if protocol == "5":
        options = SubscribeOptions(qos=1, retainHandling=NO_RETAINED_MESSAGES)
        answer = await client.subscribe(topic_filter, options=options)
    else:
        answer = await client.subscribe(topic_filter, qos=1)
    granted: Any = answer[0]
    code = int(getattr(granted, "value", granted))
    if code >= FAILURE:
        raise subscribe_error(code, topic_filter)
    return code
