"""Runs the sessions' tests on both event loops, and makes sure that a session leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from pydantic import SecretStr

from bms_ingest.demo.embedded import EmbeddedBroker
from bms_ingest.ingest.session import Broker, Session
from bms_ingest.models import Delivery
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.settings import MqttSettings
from tests.fixtures.brokers import Publisher

DEADLINE_SECONDS = 15.0


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each test runs once on each loop."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the loop turn until a condition holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        await asyncio.sleep(0.005)


async def receive_count(session: Session, count: int) -> list[Delivery]:
    """Receive until at least `count` messages have come."""
    deliveries: list[Delivery] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(deliveries) < count:
            deliveries += await session.receive()
    return deliveries


def numbered(count: int, size_bytes: int = 0) -> list[tuple[str, bytes]]:
    """Messages that can be told apart."""
    return [(f"c/{n % 7}", b"%d" % n + b"." * size_bytes) for n in range(count)]


async def publish(peer: Peer, count: int, size_bytes: int = 0) -> list[bytes]:
    """Publish numbered messages and return their payloads."""
    messages = numbered(count, size_bytes)
    async with Publisher(peer.server.url) as publisher:
        await publisher.publish_many(messages)
    return [payload for _, payload in messages]


def payloads(deliveries: list[Delivery]) -> list[bytes]:
    """The payloads, in order."""
    return [delivery.payload for delivery in deliveries]


@dataclass(frozen=True)
class Implementation:
    """One way to make sessions."""

    broker: Callable[[MqttSettings], Broker]
    waiting_bytes: Callable[[Any], int]
    """Payload that arrived at a session and was not received yet."""


@dataclass
class Peer:
    """A broker and what it takes to connect to it over and over as the same client."""

    implementation: Implementation
    protocol: str
    server: EmbeddedBroker
    stack: AsyncExitStack
    client_id: str = "conformance"
    defaults: dict[str, Any] = field(default_factory=dict)

    def settings(self, **overrides: Any) -> MqttSettings:
        """Settings of the client, with a short time-out."""
        values: dict[str, Any] = {
            "url": SecretStr(self.server.url),
            "client_id": self.client_id,
            "protocol": self.protocol,
            "connect_timeout": 3,
        }
        return MqttSettings(**(values | self.defaults | overrides))

    def broker(self, **overrides: Any) -> Broker:
        """The implementation under test."""
        return self.implementation.broker(self.settings(**overrides))

    async def connect(self, generation: int = 1, **overrides: Any) -> Session:
        """Open a session that is closed at the end of the test."""
        session = await self.broker(**overrides).connect(generation)
        self.stack.push_async_callback(session.close)
        return session

    async def subscribe(self, generation: int = 1, topic_filter: str = "c/#", **overrides: Any) -> Session:
        """Open a session and subscribe."""
        session = await self.connect(generation, **overrides)
        assert await session.subscribe(topic_filter) == 1
        return session


def open_sockets() -> int:
    """How many sockets this process holds."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(descriptor).startswith("socket:")
    return count


@pytest_asyncio.fixture(autouse=True)
async def nothing_leaks() -> AsyncIterator[None]:
    """Every task, connection and dangling object of a test is gone at its end."""
    tasks, sockets = asyncio.all_tasks(), open_sockets()
    yield
    await until(lambda: not asyncio.all_tasks() - tasks - {asyncio.current_task()}, "all tasks ended")
    await until(lambda: open_sockets() <= sockets, "all sockets closed")
    # An error that nobody looked at is reported when its future goes.
    gc.collect(1)


@pytest_asyncio.fixture
async def stack(nothing_leaks: None) -> AsyncIterator[AsyncExitStack]:
    """Closes what a test opened."""
    async with AsyncExitStack() as opened:
        yield opened


AIOMQTT = Implementation(MqttBroker, lambda session: int(session.waiting_bytes))

PEERS = [
    pytest.param((AIOMQTT, "5", "mosquitto"), id="aiomqtt-5-mosquitto"),
    pytest.param((AIOMQTT, "3.1.1", "mosquitto"), id="aiomqtt-311-mosquitto"),
    pytest.param((AIOMQTT, "3.1.1", "nats"), id="aiomqtt-311-nats"),
]
"""A second implementation of `Session` joins the suite with its lines here."""


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Peer:
    """Each implementation with each protocol on each broker that speaks it."""
    implementation, protocol, server = request.param
    return Peer(implementation, protocol, request.getfixturevalue(server), stack)


@pytest.fixture(params=PEERS)
def redelivering_peer(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Peer:
    """As `peer`, but NATS, which redelivers after a time and not on reconnect, does so after a second."""
    implementation, protocol, server = request.param
    server = "impatient_nats" if server == "nats" else server
    return Peer(implementation, protocol, request.getfixturevalue(server), stack)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port on which nobody listens for the length of the test."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
