"""The only place that reaches through aiomqtt to the paho client inside: acknowledgements, socket, CONNACK.

aiomqtt 2.5 has no public call for any of it, which is why its minor version is pinned; a test on the wire
fails when the library changes. See docs/adr/0005.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bms_ingest.models import Delivery
from bms_ingest.mqtt.burst import BurstQueue
from bms_ingest.mqtt.publish_packet import MalformedPublishError, parse_publish
from bms_ingest.mqtt.reason_codes import FAILURE, KEEP_ALIVE_TIMEOUT, PROTOCOL_ERROR, disconnect_reason

PACKETS_PER_TURN = 256
"""Most packets read before other tasks of the loop get their turn."""
HOUSEKEEPING_SECONDS = 1.0
"""How often keep-alive, and whether the socket still lives, is looked after."""
LINGER_SECONDS = 2.0
"""How long the broker may take to end the connection after DISCONNECT."""
LINGER_READ_BYTES = 65_536
QOS_2 = 0x04
"""Bit in the first byte of a PUBLISH."""


@dataclass(frozen=True, slots=True)
class Connack:
    """What the broker answered to CONNECT; `code` is an MQTT 5 reason code on either protocol."""

    code: int
    session_present: bool


class LinkLogger(logging.Logger):
    """Takes the libraries' log lines of one connection and keeps the last error instead of printing it.

    paho tells the reason of a lost connection only to its log.
    """

    def __init__(self) -> None:
        super().__init__("bms_ingest.mqtt.link", logging.ERROR)
        self.last_error: str | None = None

    def handle(self, record: logging.LogRecord) -> None:
        """Keep the text of one line."""
        self.last_error = record.getMessage()


class PahoLink:
    """One connection's socket and callbacks. Used from the event loop's thread only.

    paho opens the socket in a thread of the loop's executor; everything after that happens in the loop:
    reading, writing, keep-alive, and the acknowledgements, for which paho has no lock. aiomqtt's own socket
    callbacks are replaced, because they read one packet a turn and cannot pause, register a file descriptor
    a turn after it may have been closed, and do not notice a broker that closes instead of sending CONNACK.
    """

    def __init__(
        self,
        client: aiomqtt.Client,
        burst: BurstQueue,
        logger: LinkLogger,
        *,
        client_id: str,
        connect_timeout_seconds: float,
        read_buffer_bytes: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._burst = burst
        self._logger = logger
        self._client_id = client_id
        self._read_buffer_bytes = read_buffer_bytes
        self._opened = False
        self._socket: Any = None
        self._descriptor = -1
        self._paused = False
        self._housekeeping: asyncio.TimerHandle | None = None
        self.connack: Connack | None = None
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection is no more, with the reason as a sentence."""

        paho = self._paho = client._client  # noqa: SLF001 - no public way to the client inside
        self._has_properties = paho.protocol == MQTTProtocolVersion.MQTTv5
        paho.manual_ack_set(True)
        paho.connect_timeout = connect_timeout_seconds
        self._tell_aiomqtt = paho.on_connect
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        paho.on_socket_open = self._on_socket_open
        paho.on_socket_close = self._on_socket_close
        paho.on_socket_register_write = self._on_socket_register_write
        paho.on_socket_unregister_write = self._on_socket_unregister_write
        self._handle_exactly_once = paho._handle_publish  # noqa: SLF001 - the decoder can only be replaced
        paho._handle_publish = self._handle_publish  # type: ignore[method-assign]  # noqa: SLF001

    @property
    def alive(self) -> bool:
        """Whether the connection stands; paho's own ack() says success when it does not."""
        return not self.ended.done() and self._paho.is_connected()

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Queue PUBACKs in the order given; they leave in the next turn of the loop."""
        ack = self._paho.ack
        for delivery in deliveries:
            if delivery.packet_id:
                ack(delivery.packet_id, delivery.qos)

    def resume(self) -> None:
        """Read on when less than half of the buffer waits."""
        if self._paused and self._burst.waiting_bytes < self._read_buffer_bytes / 2:
            self._paused = False
            if self._socket is not None:
                self._watch(self._loop.add_reader, self._read)
                # Decrypted bytes inside a TLS socket do not make it readable.
                self._loop.call_soon(self._read)

    async def disconnect(self, timeout_seconds: float) -> None:
        """Send what waits and then DISCONNECT, and close when the broker did; close anyway after the timeout.

        Closing a socket that holds unread messages resets the connection, and a reset makes the broker forget
        the PUBACKs it has not read yet; so does our coming back before it has read them. paho closes as soon
        as DISCONNECT is written, so a second handle keeps the connection until the broker ends it.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self.drop, "the connection was closed")
            if not self.alive or self._socket is None:
                return
            lingering = stack.enter_context(socket.socket(fileno=os.dup(self._descriptor)))
            lingering.setblocking(False)
            self._paho.disconnect()
            await asyncio.wait((self.ended,), timeout=timeout_seconds)
            if not self.ended.done():
                return
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(min(timeout_seconds, LINGER_SECONDS)):
                    while await self._loop.sock_recv(lingering, LINGER_READ_BYTES):
                        pass

    def drop(self, reason: str) -> None:
        """Close the socket without a word; one that a thread is still opening is closed when it is open."""
        self._end(reason)
        if self._opened:
            self._close_socket()

    def _close_socket(self) -> None:
        paho = self._paho
        paho._sock_close()  # noqa: SLF001 - paho has no public way to close at once
        # Without its cycle of callbacks the client, and what it has buffered, goes at once.
        paho.on_connect = paho.on_disconnect = paho.on_message = None
        paho.on_subscribe = paho.on_unsubscribe = paho.on_publish = None
        paho.on_socket_open = paho.on_socket_close = None
        vars(paho).pop("_handle_publish", None)
        paho.on_socket_register_write = paho.on_socket_unregister_write = None

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
            self._burst.stir()

    def _on_connect(
        self,
        paho: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self.connack = Connack(reason.value, flags.session_present)
        if self._tell_aiomqtt is not None:
            self._tell_aiomqtt(paho, userdata, flags, reason, properties)  # type: ignore[call-arg, arg-type]

    def _on_disconnect(
        self,
        _paho: PahoClient,
        _userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(disconnect_reason(reason.value, self._client_id))
        elif reason.value < FAILURE:
            self._end("the connection was closed")
        elif reason.value == KEEP_ALIVE_TIMEOUT:
            self._end("the broker was silent for longer than mqtt.keepalive")
        elif reason.value == PROTOCOL_ERROR:
            self._end("the broker sent something that does not belong to this MQTT version")
        else:
            self._end(self._lost())

    def _lost(self) -> str:
        if self._logger.last_error is not None:
            return f"the connection was lost: {self._logger.last_error}"
        return (
            "the broker closed the connection without a word; if that repeats, look for another client with "
            f"our client id {self._client_id!r}"
        )

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._paho._in_packet  # noqa: SLF001 - as above
        first_byte = packet["command"]
        if first_byte & QOS_2:
            # Not what we subscribe to: left to paho, which knows the four steps of it.
            return self._handle_exactly_once()
        try:
            publish = parse_publish(first_byte, packet["packet"], properties=self._has_properties)
        except MalformedPublishError as error:
            self._logger.last_error = str(error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._burst.put_publish(publish)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _on_socket_open(self, _paho: PahoClient, _userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._attach, sock)

    def _attach(self, sock: Any) -> None:
        self._opened = True
        if self.ended.done():
            self._close_socket()
            return
        if not isinstance(sock, socket.socket):
            _mend_web_socket(sock)
        self._socket = sock
        self._descriptor = sock.fileno()
        self._watch(self._loop.add_reader, self._read)
        self._housekeeping = self._loop.call_later(HOUSEKEEPING_SECONDS, self._keep_house)

    def _on_socket_close(self, _paho: PahoClient, _userdata: Any, _sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._socket = None
        if self._housekeeping is not None:
            self._housekeeping.cancel()

    def _on_socket_register_write(self, _paho: PahoClient, _userdata: Any, _sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._watch_writable()
        else:
            self._loop.call_soon_threadsafe(self._watch_writable)

    def _watch_writable(self) -> None:
        if self._socket is not None:
            self._watch(self._loop.add_writer, self._write)

    def _watch(self, add: Callable[[int, Callable[[], None]], object], callback: Callable[[], None]) -> None:
        try:
            add(self._descriptor, callback)
        except (OSError, RuntimeError) as error:
            # uvloop has met an error of the socket already, and tells nobody.
            self._fail(error)

    def _on_socket_unregister_write(self, _paho: PahoClient, _userdata: Any, _sock: Any) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._descriptor)

    def _read(self) -> None:
        burst, paho = self._burst, self._paho
        burst.begin_turn()
        try:
            for _ in range(PACKETS_PER_TURN):
                if self._socket is None or self._paused:
                    return
                before = burst.received
                if paho.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return
                if burst.waiting_bytes > self._read_buffer_bytes:
                    self._pause()
                elif burst.received == before and not self._holds_decrypted():
                    return
        except Exception as error:  # noqa: BLE001 - a malformed packet raises anything in paho's decoders
            self._fail(error)
        else:
            if self._holds_decrypted():
                self._loop.call_soon(self._read)

    def _holds_decrypted(self) -> bool:
        pending = getattr(self._socket, "pending", None)
        return pending is not None and pending() > 0

    def _pause(self) -> None:
        self._paused = True
        self._loop.remove_reader(self._descriptor)

    def _write(self) -> None:
        try:
            self._paho.loop_write()
        except Exception as error:  # noqa: BLE001 - whatever it is, this connection is of no use any more
            self._fail(error)

    def _keep_house(self) -> None:
        self._housekeeping = self._loop.call_later(HOUSEKEEPING_SECONDS, self._keep_house)
        # When a socket fails, uvloop may forget whom to tell; reading finds out.
        self._read()
        self._paho.loop_misc()

    def _fail(self, error: Exception) -> None:
        self.drop(f"the connection was lost: {type(error).__name__}: {error}")


def _mend_web_socket(sock: Any) -> None:
    """Make a half-sent frame count as "try again".

    paho's web socket returns 0 then, upon which paho forgets the packet, finishes the frame in the name of
    the next packet, and so never sends that one.
    """
    send = sock.send

    def send_whole(data: bytes) -> int:
        sent: int = send(data)
        if sent == 0:
            raise BlockingIOError
        return sent

    sock.send = send_whole


def close_orphans(error: BaseException | None) -> None:
    """Close sockets that a failed connect left open.

    When a TLS or web socket handshake fails, paho drops the socket it had opened; only the frames of the
    traceback still know it.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            for value in list(frame.f_locals.values()):
                if isinstance(value, socket.socket):
                    value.close()
        error = error.__cause__ or error.__context__
