"""A session on aiomqtt, for MQTT 5 and 3.1.1, TCP, TLS and web sockets."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bms_ingest.errors import BrokerError, BrokerRefused, BrokerUnavailable
from bms_ingest.models import Delivery
from bms_ingest.mqtt.burst import BurstQueue
from bms_ingest.mqtt.paho_link import LinkLogger, PahoLink, close_orphans
from bms_ingest.mqtt.reason_codes import FAILURE, connect_error, subscribe_error
from bms_ingest.settings import MqttSettings

ProtocolVersion = Literal["5", "3.1.1"]

SESSION_NEVER_EXPIRES = 0xFFFF_FFFF


class ClosedWithoutAnswer(BrokerUnavailable):
    """The broker took the connection and closed it instead of answering CONNECT.

    A restarting broker does that, and so do old ones when they see a protocol version they do not know.
    """


class AiomqttSession:
    """One live connection of a persistent session; made by `open_session`, finished when it ends.

    Nothing is acknowledged but by `acknowledge`. While more than `read_buffer_bytes` wait to be
    received, nothing is read from the socket, pings included: if that lasts longer than the keep-alive, the
    connection may end, which costs a reconnect and loses nothing. A limit told to the broker (Maximum Packet
    Size) would not do: it silently drops larger messages [MQTT-3.1.2-25].
    """

    def __init__(
        self,
        client: aiomqtt.Client,
        link: PahoLink,
        burst: BurstQueue,
        *,
        generation: int,
        protocol: ProtocolVersion,
        session_present: bool,
        receive_maximum: int | None,
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._link = link
        self._burst = burst
        self._generation = generation
        self._protocol = protocol
        self._session_present = session_present
        self._receive_maximum = receive_maximum
        self._timeout_seconds = timeout_seconds

    @property
    def generation(self) -> int:
        """The number of this connection, carried by each of its deliveries."""
        return self._generation

    @property
    def protocol(self) -> str:
        """The MQTT version in use: "5" or "3.1.1"."""
        return self._protocol

    @property
    def session_present(self) -> bool:
        """Whether the broker still had our session."""
        return self._session_present

    @property
    def receive_maximum(self) -> int | None:
        """Most messages in flight that we granted; None on 3.1.1, where the broker decides."""
        return self._receive_maximum

    @property
    def waiting_bytes(self) -> int:
        """Memory of what arrived and was not received yet, about."""
        return self._burst.waiting_bytes

    async def subscribe(self, topic_filter: str) -> int:
        """Subscribe at QoS 1 and return the granted QoS.

        Raises:
            BrokerRefused: the broker answered with a failure code, or the filter is not one.
            BrokerUnavailable: the connection is gone, or no answer came within `connect_timeout`.
        """
        self._check_alive()
        asking = asyncio.ensure_future(self._client.subscribe(topic_filter, qos=1, timeout=math.inf))
        try:
            await asyncio.wait(
                (asking, self._link.ended),
                timeout=self._timeout_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            await _settle(asking)
        if asking.cancelled():
            self._check_alive()
            raise BrokerUnavailable(
                f"the broker did not answer the subscription within {self._timeout_seconds:g} s"
            )
        error = asking.exception()
        if isinstance(error, ValueError):
            raise BrokerRefused(f"{topic_filter!r} is not a topic filter: {error}") from error
        if error is not None:
            raise BrokerUnavailable(f"could not subscribe: {error}") from error
        code = _code(asking.result()[0])
        if code >= FAILURE:
            raise subscribe_error(code, topic_filter)
        return code

    async def receive(self) -> list[Delivery]:
        """Wait for messages and return everything that has arrived, in receive order, at least one.

        Cancellation loses nothing: messages leave only by being returned.

        Raises:
            BrokerUnavailable: the connection is gone and everything received before has been returned.
        """
        while not (deliveries := self._burst.take()):
            if self._link.ended.done():
                raise BrokerUnavailable(self._link.ended.result())
            await self._burst.stirred()
        self._link.resume()
        return deliveries

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Send PUBACKs in the order given; QoS 0 deliveries are passed over. Does not wait.

        Raises:
            BrokerUnavailable: the connection is gone, or a delivery belongs to another generation; nothing
                was sent then.
        """
        generation = self._generation
        for delivery in deliveries:
            if delivery.generation != generation:
                # Its packet id means another message by now: a PUBACK would delete that one.
                raise BrokerUnavailable(
                    f"a delivery of connection {delivery.generation} is void on connection {generation}"
                )
        self._check_alive()
        self._link.acknowledge(deliveries)

    async def close(self) -> None:
        """Send what was acknowledged, disconnect, keep the session at the broker.

        Safe to call twice and on a broken connection; takes `connect_timeout` at most.
        """
        await self._link.disconnect(self._timeout_seconds)

    def _check_alive(self) -> None:
        if not self._link.alive:
            raise BrokerUnavailable(
                self._link.ended.result() if self._link.ended.done() else "the connection was lost"
            )


async def open_session(
    settings: MqttSettings, protocol: ProtocolVersion, generation: int, tls: ssl.SSLContext | None = None
) -> AiomqttSession:
    """Connect once, with a fresh client, and return when the broker has accepted.

    Raises:
        ProtocolUnsupported: the broker says it does not speak this version.
        ClosedWithoutAnswer: the broker closed the connection instead of answering.
        BrokerUnavailable: refused, unreachable, timed out, busy.
        BrokerRefused: the broker answered with another failure code, or its certificate is not trusted.
    """
    timeout_seconds = settings.connect_timeout.total_seconds()
    burst, logger = BurstQueue(generation), LinkLogger()
    client = _client(settings, protocol, burst, logger, tls)
    link = PahoLink(
        client,
        burst,
        logger,
        client_id=settings.client_id,
        connect_timeout_seconds=timeout_seconds,
        read_buffer_bytes=settings.read_buffer_bytes,
    )
    try:
        session_present = await _connect(client, link, settings, protocol)
    except BaseException:
        link.drop("the connection was not made")
        raise
    return AiomqttSession(
        client,
        link,
        burst,
        generation=generation,
        protocol=protocol,
        session_present=session_present,
        receive_maximum=settings.receive_maximum if protocol == "5" else None,
        timeout_seconds=timeout_seconds,
    )


def _client(
    settings: MqttSettings,
    protocol: ProtocolVersion,
    burst: BurstQueue,
    logger: LinkLogger,
    tls: ssl.SSLContext | None,
) -> aiomqtt.Client:
    if protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = settings.receive_maximum
        properties.SessionExpiryInterval = min(
            math.ceil(settings.session_expiry.total_seconds()), SESSION_NEVER_EXPIRES
        )
        session: dict[str, Any] = {
            "protocol": aiomqtt.ProtocolVersion.V5,
            "clean_start": False,
            "properties": properties,
        }
    else:
        session = {
            "protocol": aiomqtt.ProtocolVersion.V311,
            "clean_session": False,
            "clean_start": MQTT_CLEAN_START_FIRST_ONLY,
        }
    if settings.uses_websocket:
        session |= {"transport": "websockets", "websocket_path": settings.websocket_path}

    def one_queue(maxsize: int) -> BurstQueue:
        return burst

    return aiomqtt.Client(
        settings.host,
        settings.port,
        username=settings.username,
        password=None if settings.password is None else settings.password.get_secret_value(),
        logger=logger,
        identifier=settings.client_id,
        queue_type=cast("type[asyncio.Queue[aiomqtt.Message]]", cast("Callable[[int], object]", one_queue)),
        keepalive=max(1, round(settings.keepalive.total_seconds())),
        timeout=math.inf,
        tls_context=tls,
        **session,
    )


async def _connect(
    client: aiomqtt.Client, link: PahoLink, settings: MqttSettings, protocol: ProtocolVersion
) -> bool:
    """Wait for the broker's answer and return whether it still had our session."""
    timeout_seconds = settings.connect_timeout.total_seconds()
    place = f"the broker at {settings.host}:{settings.port}"
    opening = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.wait(
            (opening, link.ended), timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        await _settle(opening)
    connack = link.connack
    if connack is not None and connack.code >= FAILURE:
        raise connect_error(connack.code, protocol)
    error = None if opening.cancelled() else opening.exception()
    if error is not None:
        close_orphans(error)
        raise _network_error(error, place) from error
    if connack is not None:
        # Should the connection have ended since, `receive` says so after what came before.
        return connack.session_present
    if link.ended.done():
        raise ClosedWithoutAnswer(
            f"{place} ended the connection instead of accepting MQTT {protocol}: {link.ended.result()}"
        )
    raise BrokerUnavailable(f"{place} did not answer within {timeout_seconds:g} s")


async def _settle(future: asyncio.Future[Any]) -> None:
    """Cancel what is not done and wait for its end, so that no task outlives its caller."""
    if not future.done():
        future.cancel()
        await asyncio.wait((future,))
    if not future.cancelled():
        # Looked at once, or the loop complains about an error that nobody saw.
        future.exception()


def _network_error(error: BaseException, place: str) -> BrokerError:
    # aiomqtt wraps with `from None`, so the error of the socket is only in the context.
    cause = error.__context__ if isinstance(error, aiomqtt.MqttError) and error.__context__ else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BrokerRefused(
            f"the certificate of {place} is not trusted: {cause.verify_message}; "
            "set mqtt.tls_ca_file to the authority that signed it, or the host in mqtt.url to a name it holds"
        )
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return BrokerRefused(
            f"no TLS connection with {place}: {cause.reason or cause}; "
            "check that the port is one for TLS, and mqtt.tls_cert_file"
        )
    return BrokerUnavailable(f"cannot reach {place}: {cause}")


def _code(reason: Any) -> int:
    return int(getattr(reason, "value", reason))
