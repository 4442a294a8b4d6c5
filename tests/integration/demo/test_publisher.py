"""The simulator against a real broker: all arrives, in order, and a broken connection loses nothing."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiomqtt
import pytest

from bms_ingest.addresses import parse_broker_url
from bms_ingest.demo.embedded import EmbeddedBroker, free_port, mosquitto_path
from bms_ingest.demo.faults import FaultPlan
from bms_ingest.demo.fleet import make_fleet
from bms_ingest.demo.publisher import Publisher
from bms_ingest.demo.simulation import Plan, Simulation
from bms_ingest.demo.stream import FleetStream, Outgoing
from bms_ingest.demo.target import target_from_url
from bms_ingest.errors import BrokerRefused, BrokerUnavailable

START = datetime(2026, 3, 1, tzinfo=UTC)
DEADLINE_SECONDS = 40.0


def messages(hours: float = 10.0) -> list[Outgoing]:
    """What twelve sites say in so many hours, faults included."""
    fleet = FleetStream(make_fleet(range(1, 13)), start=START, plan=FaultPlan.even(0.2))
    return list(fleet.history(START + timedelta(hours=hours)))


async def one_by_one(items: list[Outgoing], pause_seconds: float = 0.0) -> AsyncIterator[Outgoing]:
    """Hand out messages, with a pause in front of each."""
    for item in items:
        await asyncio.sleep(pause_seconds)
        yield item


@asynccontextmanager
async def subscribed(broker: EmbeddedBroker, *filters: str) -> AsyncIterator[list[aiomqtt.Message]]:
    """Collect what the broker hands to a subscriber."""
    collected: list[aiomqtt.Message] = []

    async def collect(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            collected.append(message)

    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic_filter in filters:
            await client.subscribe(topic_filter, qos=1)
        task = asyncio.create_task(collect(client))
        try:
            yield collected
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def timestamp(message: aiomqtt.Message) -> datetime:
    """When the one reading of a message was taken."""
    assert isinstance(message.payload, bytes)
    value = json.loads(message.payload)["timestamp"]
    if isinstance(value, int):
        return datetime.fromtimestamp(value / 1000.0, UTC)
    return datetime.fromisoformat(value)


async def until(condition: object) -> None:
    """Wait for a condition, for 40 s at most."""
    assert callable(condition)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def test_everything_acknowledged_reaches_a_subscriber_in_order(broker: EmbeddedBroker) -> None:
    published = messages()
    publisher = Publisher(parse_broker_url(broker.url))
    async with subscribed(broker, "bms/sites/+/telemetry") as received:
        await publisher.run(one_by_one(published))
        await until(lambda: len(received) >= len(published))
    assert publisher.acknowledged.messages == publisher.sent.messages == len(published)
    assert publisher.unacknowledged == 0
    assert [(str(m.topic), m.payload) for m in received] == [(m.topic, m.payload) for m in published]


async def test_many_messages_are_on_their_way_at_once(broker: EmbeddedBroker) -> None:
    publisher = Publisher(parse_broker_url(broker.url), window=50)
    most = 0

    async def watched() -> AsyncIterator[Outgoing]:
        nonlocal most
        for message in messages():
            most = max(most, publisher.unacknowledged)
            yield message
            await asyncio.sleep(0)

    await publisher.run(watched())
    assert 10 < most <= 50


async def test_broken_connection_loses_nothing(mosquitto: EmbeddedBroker) -> None:
    published = messages(4.0)
    publisher = Publisher(parse_broker_url(mosquitto.url))
    running = asyncio.create_task(publisher.run(one_by_one(published, 0.001)))
    await until(lambda: publisher.acknowledged.messages > 50)
    mosquitto.kill()
    await until(lambda: not publisher.connected)
    open_when_lost = publisher.unacknowledged
    mosquitto.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await running
    assert publisher.connections == 2
    assert publisher.acknowledged.messages == len(published)
    assert publisher.sent.messages == len(published) + open_when_lost
    expected = Counter(m.fault for m in published if m.fault is not None)
    assert publisher.acknowledged.faults == expected


async def test_first_connection_that_fails_is_told(tmp_path: Path) -> None:
    publisher = Publisher(parse_broker_url(f"mqtt://127.0.0.1:{free_port()}"))
    with pytest.raises(BrokerUnavailable, match="no connection to the broker"):
        await publisher.run(one_by_one(messages(1.0)))


@pytest.fixture
def locked_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A mosquitto that wants a password nobody has."""
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: refused credentials are not tested")
    directory = tmp_path_factory.mktemp("locked")
    configuration = directory / "given.conf"
    configuration.write_text("allow_anonymous false\n")
    broker = EmbeddedBroker(directory / "broker", kind="mosquitto", configuration=configuration)
    broker.start()
    yield broker
    broker.stop()


async def test_refusal_is_told_apart_and_names_no_password(locked_broker: EmbeddedBroker) -> None:
    publisher = Publisher(parse_broker_url(f"mqtt://somebody:geheim@127.0.0.1:{locked_broker.port}"))
    with pytest.raises(BrokerRefused, match="refused") as caught:
        await publisher.run(one_by_one(messages(1.0)))
    assert "geheim" not in str(caught.value)


async def test_sites_are_online_while_it_runs_and_offline_afterwards(broker: EmbeddedBroker) -> None:
    plan = Plan(history=timedelta(hours=6), speed_up=1e6)
    simulation = Simulation(make_fleet([7, 8, 9]), target_from_url(broker.url), plan)
    async with subscribed(broker, "bms/sites/+/status") as statuses:
        running = asyncio.create_task(simulation.run())
        await until(lambda: simulation.publisher.acknowledged.messages > 100)
        async with subscribed(broker, "bms/sites/8/status") as retained:
            await until(lambda: retained)
            assert (retained[0].retain, retained[0].payload) == (True, b"online")
        simulation.stop()
        await running
        await until(lambda: len(statuses) == 6)
    assert [m.payload for m in statuses] == [b"online"] * 3 + [b"offline"] * 3
    assert {str(m.topic) for m in statuses} == {f"bms/sites/{site}/status" for site in (7, 8, 9)}
    async with subscribed(broker, "bms/sites/8/status") as retained:
        await until(lambda: retained)
        assert (retained[0].retain, retained[0].payload) == (True, b"offline")


async def test_timestamps_never_lie_in_the_future(broker: EmbeddedBroker) -> None:
    begun = datetime.now(UTC)
    plan = Plan(history=timedelta(hours=1), speed_up=7200.0, live_interval=timedelta(milliseconds=200))
    simulation = Simulation(make_fleet(range(1, 6)), target_from_url(broker.url), plan)
    async with subscribed(broker, "bms/sites/+/telemetry") as received:
        running = asyncio.create_task(simulation.run())
        while len(received) < 5 * 12 + 50:
            seen = len(received)
            await until(lambda seen=seen: len(received) > seen)
            now = datetime.now(UTC)
            assert all(timestamp(message) <= now for message in received[seen:])
        simulation.stop()
        await running
    history = [moment for moment in map(timestamp, received) if moment < begun]
    assert history
    assert begun - min(history) <= timedelta(hours=1, minutes=5)
    assert len(history) < len(received), "it must have gone live"


async def test_rate_is_a_limit(broker: EmbeddedBroker) -> None:
    plan = Plan(history=timedelta(days=2), speed_up=1e9, rate=200.0)
    simulation = Simulation(make_fleet(range(1, 6)), target_from_url(broker.url), plan)
    begun = asyncio.get_running_loop().time()
    running = asyncio.create_task(simulation.run())
    await until(lambda: simulation.publisher.sent.messages >= 150)
    elapsed_seconds = asyncio.get_running_loop().time() - begun
    simulation.stop()
    await running
    assert simulation.publisher.sent.messages <= 200.0 * elapsed_seconds + 20


async def test_encrypted_broker_is_checked_against_authorities() -> None:
    publisher = Publisher(parse_broker_url("mqtts://127.0.0.1:8883"))
    assert publisher.tls is not None
    assert publisher.tls.verify_mode is ssl.CERT_REQUIRED
    assert publisher.tls.check_hostname
