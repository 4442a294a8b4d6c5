"""The embedded broker takes over a mosquitto.conf that was written for another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import aiomqtt
import pytest

from bms_ingest.demo.embedded import EmbeddedBroker, mosquitto_path

FOREIGN = """
# a comment
per_listener_settings false
listener 1883 192.0.2.1
protocol mqtt
listener 8883
certfile /nonexistent/server.crt
keyfile /nonexistent/server.key
listener 9001
protocol websockets
user somebody-who-does-not-exist
persistence true
persistence_location /nonexistent/
pid_file /nonexistent/mosquitto.pid
log_dest file /nonexistent/mosquitto.log
allow_anonymous false
password_file /nonexistent/passwords
acl_file /nonexistent/acl
max_packet_size 2000
"""

Start = Callable[[str], EmbeddedBroker]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start mosquitto, open to all, from the text of a configuration."""
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: configurations of others are not tested")
    brokers = []

    def start_one(text: str) -> EmbeddedBroker:
        directory: Path = tmp_path_factory.mktemp("foreign")
        given = directory / "given.conf"
        given.write_text(text)
        broker = EmbeddedBroker(directory / "broker", kind="mosquitto", configuration=given, open_to_all=True)
        brokers.append(broker)
        broker.start()
        return broker

    yield start_one
    for broker in brokers:
        broker.stop()


async def test_foreign_listeners_paths_and_locks_are_replaced(start: Start) -> None:
    broker = start(FOREIGN)
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.publish("bms/sites/1/telemetry", b"{}", qos=1)


async def test_limits_of_the_configuration_stay(start: Start) -> None:
    broker = start(FOREIGN)
    with pytest.raises(aiomqtt.MqttError):
        async with aiomqtt.Client("127.0.0.1", broker.port, timeout=3.0) as client:
            await client.publish("bms/sites/1/telemetry", b"x" * 3000, qos=1)
