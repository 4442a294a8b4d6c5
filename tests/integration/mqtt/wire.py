"""What is really on the wire: a tap between a session and its broker, and a broker that follows a script."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self

CONNECT, PUBLISH, PUBACK, SUBACK, DISCONNECT = 0x10, 0x30, 0x40, 0x90, 0xE0


class Packet(NamedTuple):
    """One MQTT packet: type (upper half of the first byte), the whole first byte, what follows the length."""

    type: int
    first: int
    body: bytes


async def read_packet(reader: asyncio.StreamReader) -> tuple[Packet, bytes]:
    """Read one packet; return it and its bytes as they came."""
    raw = bytearray(await reader.readexactly(1))
    length, shift = 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        raw.append(digit)
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            break
    body = await reader.readexactly(length)
    return Packet(raw[0] & 0xF0, raw[0], body), bytes(raw) + body


class Server(ABC):
    """A TCP server on a free port of 127.0.0.1 that ends all its connections when it is left."""

    async def __aenter__(self) -> Self:
        self._handlers: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """What to write into `mqtt.url`."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self.serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.transport.abort()

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection until it ends."""


class WireTap(Server):
    """Forwards between a client and a broker, packet by packet, and remembers what passed."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self.sent: list[Packet] = []
        """From the client to the broker."""
        self.received_types: list[int] = []
        """From the broker to the client: types only."""
        self.to_client: asyncio.StreamWriter | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    def stall(self) -> None:
        """Pass nothing on any more and read nothing, as a dead network does."""
        self._flowing.clear()

    def sent_of(self, packet_type: int) -> list[Packet]:
        """The client's packets of one type, in order."""
        return [packet for packet in self.sent if packet.type == packet_type]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward both ways until one side closes."""
        upstream, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        self.to_client = writer
        ways = [
            asyncio.ensure_future(self._forward(reader, to_broker, self.sent.append)),
            asyncio.ensure_future(
                self._forward(upstream, writer, lambda packet: self.received_types.append(packet.type))
            ),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_broker.transport.abort()

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, note: Callable[[Packet], None]
    ) -> None:
        while True:
            await self._flowing.wait()
            packet, raw = await read_packet(source)
            await self._flowing.wait()
            note(packet)
            target.write(raw)
            await target.drain()


Script = Callable[[Packet, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ScriptedBroker(Server):
    """Reads CONNECT and then does what the test says; for answers that no broker at hand gives on demand."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.versions: list[int] = []
        """Protocol level of each CONNECT: 4 is 3.1.1, 5 is 5."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Follow the script."""
        connect, _ = await read_packet(reader)
        self.versions.append(connect.body[6])
        await self._script(connect, reader, writer)
        await writer.drain()


async def until_gone(reader: asyncio.StreamReader) -> None:
    """Read until the client says DISCONNECT or closes."""
    while (await read_packet(reader))[0].type != DISCONNECT:
        pass


def answer(packet: bytes) -> Script:
    """A script that sends one packet and waits for the client to go."""

    async def script(_: Packet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(packet)
        await until_gone(reader)

    return script
