"""The repository's mosquitto.conf starts, keeps what the daemon needs, and means what its comments say."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from bms_ingest.demo.embedded import EmbeddedBroker, ServerProcess, free_port, mosquitto_path, unprivileged
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.settings import MqttSettings
from tests.fixtures.brokers import Publisher, PublishError

REPOSITORY = Path(__file__).parents[2]
CONFIGURATION = REPOSITORY / "mosquitto.conf"


def options() -> dict[str, str]:
    """The active lines: name and value."""
    lines = (line.partition(" ") for line in CONFIGURATION.read_text().splitlines())
    return {name: value for name, _, value in lines if name and not name.startswith("#")}


def uncommented(*names: str) -> str:
    """The commented options of these names, as lines of a configuration."""
    pattern = re.compile(rf"^#((?:{'|'.join(names)}) .*)$", re.MULTILINE)
    return "\n".join(pattern.findall(CONFIGURATION.read_text()))


class Machine:
    """A directory in place of the machine's own, and mosquitto in it."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.directory = EmbeddedBroker(directory, kind="mosquitto").directory
        self.server = ServerProcess("mosquitto", free_port(), self.directory / "log")
        self.address = f"127.0.0.1:{self.server.port}"
        self._binary = binary

    def start(self, configuration: str) -> None:
        """Run mosquitto on a configuration in which only port, paths and user are replaced."""
        text = configuration.replace("listener 1883 127.0.0.1", f"listener {self.server.port} 127.0.0.1")
        text = re.sub(r"/(var/lib|etc)/mosquitto/", f"{self.directory}/", text)
        if account := unprivileged():
            text += f"\nuser {account['user']}\n"
        (self.directory / "mosquitto.conf").write_text(text)
        self.server.spawn([self._binary, "-c", str(self.directory / "mosquitto.conf")])
        self.server.wait_for_port()

    def add_user(self, name: str, password: str) -> None:
        """Add to the password file."""
        file = self.directory / "passwords"
        create = [] if file.exists() else ["-c"]
        subprocess.run(["mosquitto_passwd", "-b", *create, str(file), name, password], check=True)
        file.chmod(0o644)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Somewhere to try the file out."""
    binary = mosquitto_path()
    if binary is None:
        pytest.skip("mosquitto is not installed: mosquitto.conf is not tried out")
    machine = Machine(binary, tmp_path_factory.mktemp("conf"))
    yield machine
    machine.server.end(signal.SIGTERM)


def test_persistence_and_limits_are_what_the_daemon_needs() -> None:
    found, daemon = options(), MqttSettings(url=SecretStr("mqtt://localhost"))
    assert found["persistence"] == "true"
    assert 1 <= int(found["autosave_interval"]) <= 10
    assert found["autosave_on_changes"] == "false"
    assert int(found["max_queued_messages"]) >= 10 * daemon.receive_maximum
    assert int(found["max_inflight_messages"]) >= daemon.receive_maximum
    assert int(found["max_packet_size"]) > daemon.max_payload_bytes
    assert int(found["max_keepalive"]) > daemon.keepalive.total_seconds()
    assert "message_size_limit" not in found


def test_only_loopback_is_open_without_a_password() -> None:
    listeners = [line for line in CONFIGURATION.read_text().splitlines() if line.startswith("listener")]
    assert listeners == ["listener 1883 127.0.0.1"]


async def test_file_starts_as_it_is_and_queues_more_than_the_default(machine: Machine) -> None:
    machine.start(CONFIGURATION.read_text())
    broker = MqttBroker(MqttSettings(url=SecretStr(f"mqtt://{machine.address}")))
    session = await broker.connect(1)
    assert session.protocol == "5"
    await session.subscribe("bms/sites/+/telemetry")
    await session.close()
    async with Publisher(f"mqtt://{machine.address}") as publisher:
        await publisher.publish_many(("bms/sites/1/telemetry", b"%d" % n) for n in range(3_000))
    session = await broker.connect(2)
    seen = 0
    while seen < 3_000:
        deliveries = await session.receive()
        session.acknowledge(deliveries)
        seen += len(deliveries)
    await session.close()


async def test_too_large_packet_ends_the_connection_instead_of_vanishing(machine: Machine) -> None:
    machine.start(CONFIGURATION.read_text())
    async with Publisher(f"mqtt://{machine.address}") as publisher:
        with pytest.raises(PublishError):
            await publisher.publish("bms/sites/1/telemetry", b"x" * (int(options()["max_packet_size"]) + 1))


def test_embedded_broker_takes_the_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: mosquitto.conf is not tried out")
    broker = EmbeddedBroker(
        tmp_path_factory.mktemp("embedded"), kind="mosquitto", configuration=CONFIGURATION
    )
    broker.start()
    try:
        assert broker.running
        assert "max_queued_messages 300000" in (broker.directory / "mosquitto.conf").read_text()
    finally:
        broker.stop()


async def test_access_rules_of_the_comments_bind_a_site_to_its_topics(machine: Machine) -> None:
    rules = re.findall(r"^#acl: (.*)$", CONFIGURATION.read_text(), re.MULTILINE)
    (machine.directory / "acl").write_text("\n".join(rules) + "\n")
    (machine.directory / "acl").chmod(0o644)
    machine.add_user("bms-ingest", "pw")
    machine.add_user("17", "pw")
    text = CONFIGURATION.read_text().replace("allow_anonymous true", "allow_anonymous false")
    machine.start(f"{text}\n{uncommented('password_file', 'acl_file')}\n")

    settings = MqttSettings(url=SecretStr(f"mqtt://bms-ingest:pw@{machine.address}"))
    session = await MqttBroker(settings).connect(1)
    assert await session.subscribe("bms/sites/+/telemetry") == 1
    async with Publisher(f"mqtt://17:pw@{machine.address}") as site:
        await site.publish("bms/sites/18/telemetry", b"forged")
        await site.publish("bms/sites/17/telemetry", b"own")
    (delivery,) = await session.receive()
    assert (delivery.topic, delivery.payload) == ("bms/sites/17/telemetry", b"own")
    assert await session.subscribe("bms/doctor/x") == 1
    async with Publisher(f"mqtt://bms-ingest:pw@{machine.address}") as doctor:
        await doctor.publish("bms/doctor/x", b"tried")
    async with asyncio.timeout(10):
        (delivery,) = await session.receive()
    assert delivery.payload == b"tried"
    await session.close()
    with pytest.raises(PublishError):
        async with Publisher(f"mqtt://{machine.address}"):
            pass
