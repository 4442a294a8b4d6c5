"""TLS and web sockets, with real certificates and a real broker behind them."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bms_ingest.demo.embedded import EmbeddedBroker, ServerProcess, free_port, mosquitto_path, unprivileged
from bms_ingest.errors import BrokerRefused, BrokerUnavailable
from bms_ingest.mqtt import paho_link
from bms_ingest.mqtt.broker import MqttBroker
from bms_ingest.settings import MqttSettings
from tests.fixtures.brokers import Publisher
from tests.integration.mqtt.conftest import receive_count

pytestmark = pytest.mark.asyncio


def openssl(*words: str | Path) -> None:
    """Run one command of openssl."""
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def make_certificate(directory: Path, name: str, extension: str | None = None) -> None:
    """Make key and certificate: an authority without an extension, signed by it with one."""
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    words: list[str | Path] = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-keyout", key, "-subj", f"/CN={name}"]
    if extension is None:
        openssl(*words, "-x509", "-days", "2", "-out", certificate)
    else:
        request, options = directory / f"{name}.csr", directory / f"{name}.ext"
        options.write_text(extension)
        openssl(*words, "-out", request)
        authority: list[str | Path] = [
            "-CA",
            directory / "ca.crt",
            "-CAkey",
            directory / "ca.key",
            "-CAcreateserial",
        ]
        openssl(
            "x509", "-req", "-in", request, *authority, "-days", "2", "-extfile", options, "-out", certificate
        )
    key.chmod(0o644)


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """mosquitto leaves a web socket open after DISCONNECT."""
    monkeypatch.setattr(paho_link, "LINGER_SECONDS", 0.3)


@dataclass(frozen=True)
class Transports:
    """One mosquitto with a listener for each transport; certificates for "localhost" beside it."""

    directory: Path
    mqtt: int
    mqtts: int
    mqtts_with_certificate: int
    ws: int
    wss: int

    def settings(self, url: str, **overrides: Any) -> MqttSettings:
        """Settings of a client that trusts this broker's authority if the URL is an encrypted one."""
        values: dict[str, Any] = {"url": SecretStr(url), "connect_timeout": 3}
        if url.startswith(("mqtts", "wss")):
            values["tls_ca_file"] = self.directory / "ca.crt"
        return MqttSettings(**(values | overrides))


@pytest.fixture(scope="module")
def transports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transports]:
    """A broker that listens in every way."""
    binary = mosquitto_path()
    if binary is None or shutil.which("openssl") is None:
        pytest.skip("mosquitto or openssl is not installed: TLS and web sockets are not tested")
    directory = EmbeddedBroker(tmp_path_factory.mktemp("transports"), kind="mosquitto").directory
    make_certificate(directory, "ca")
    make_certificate(directory, "server", "subjectAltName=DNS:localhost")
    make_certificate(directory, "client", "extendedKeyUsage=clientAuth")
    ports = Transports(directory, *(free_port() for _ in range(5)))
    tls = f"cafile {directory}/ca.crt\ncertfile {directory}/server.crt\nkeyfile {directory}/server.key"
    lines = [
        "allow_anonymous true",
        f"listener {ports.mqtt} 127.0.0.1",
        f"listener {ports.mqtts} 127.0.0.1\n{tls}",
        f"listener {ports.mqtts_with_certificate} 127.0.0.1\n{tls}\nrequire_certificate true",
        f"listener {ports.ws} 127.0.0.1\nprotocol websockets",
        f"listener {ports.wss} 127.0.0.1\nprotocol websockets\n{tls}",
    ]
    if account := unprivileged():
        lines.append(f"user {account['user']}")
    (directory / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    # The port of the last listener: web sockets start after the others.
    server = ServerProcess("mosquitto", ports.wss, directory / "log")
    server.spawn([binary, "-c", str(directory / "mosquitto.conf")])
    try:
        server.wait_for_port()
        yield ports
    finally:
        server.end(signal.SIGTERM)


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize(("scheme", "protocol"), [("mqtts", "5"), ("ws", "3.1.1"), ("wss", "5")])
async def test_messages_pass_whole_and_in_order(
    scheme: str, protocol: str, transports: Transports, stack: AsyncExitStack, request: pytest.FixtureRequest
) -> None:
    port = getattr(transports, scheme)
    settings = transports.settings(
        f"{scheme}://localhost:{port}", protocol=protocol, client_id=request.node.name
    )
    session = await MqttBroker(settings).connect(1)
    stack.push_async_callback(session.close)
    topic = f"t/{scheme}/{protocol}"
    assert await session.subscribe(f"{topic}/#") == 1
    # mosquitto 2.0.11 sends a backlog over web sockets at a few hundred kilobytes a second.
    expected = [b"%d" % n + b"." * (n * 4) for n in range(200)]
    expected.append(b"x" * (2_000_000 if scheme == "mqtts" else 70_000))
    async with Publisher(f"mqtt://127.0.0.1:{transports.mqtt}") as publisher:
        await publisher.publish_many((f"{topic}/{n}", payload) for n, payload in enumerate(expected))
    received: list[bytes] = []
    while len(received) < len(expected):
        deliveries = await receive_count(session, 1)
        session.acknowledge(deliveries)
        received += [delivery.payload for delivery in deliveries]
    assert received == expected
    await session.close()
    session = await MqttBroker(settings).connect(2)
    stack.push_async_callback(session.close)
    assert session.session_present
    async with Publisher(f"mqtt://127.0.0.1:{transports.mqtt}") as publisher:
        await publisher.publish(f"{topic}/last", b"last")
    (last,) = await receive_count(session, 1)
    assert last.payload == b"last", "an acknowledgement did not reach the broker"


async def test_own_certificate_opens_the_listener_that_asks_for_one(
    transports: Transports, stack: AsyncExitStack
) -> None:
    url = f"mqtts://localhost:{transports.mqtts_with_certificate}"
    own = {
        "tls_cert_file": transports.directory / "client.crt",
        "tls_key_file": transports.directory / "client.key",
    }
    session = await MqttBroker(transports.settings(url, client_id="certified", **own)).connect(1)
    stack.push_async_callback(session.close)
    assert session.protocol == "5"
    with pytest.raises((BrokerUnavailable, BrokerRefused)):
        await MqttBroker(transports.settings(url)).connect(1)


async def test_unknown_authority_is_refused(transports: Transports) -> None:
    settings = transports.settings(f"mqtts://localhost:{transports.mqtts}", tls_ca_file=None)
    with pytest.raises(BrokerRefused, match=r"not trusted.*mqtt\.tls_ca_file"):
        await MqttBroker(settings).connect(1)


@pytest.mark.parametrize("scheme", ["mqtts", "wss"])
async def test_certificate_of_another_host_is_refused(scheme: str, transports: Transports) -> None:
    port = getattr(transports, scheme)
    with pytest.raises(BrokerRefused, match=r"certificate is not valid for '127\.0\.0\.1'"):
        await MqttBroker(transports.settings(f"{scheme}://127.0.0.1:{port}")).connect(1)


async def test_port_without_tls_is_named(transports: Transports) -> None:
    settings = transports.settings(f"mqtts://127.0.0.1:{transports.mqtt}", connect_timeout=1)
    with pytest.raises((BrokerRefused, BrokerUnavailable), match=f"127.0.0.1:{transports.mqtt}"):
        await MqttBroker(settings).connect(1)


async def test_certificate_that_is_none_is_named(transports: Transports, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    settings = transports.settings(f"mqtts://localhost:{transports.mqtts}", tls_ca_file=broken)
    with pytest.raises(BrokerRefused, match=r"mqtt\.tls_ca_file"):
        await MqttBroker(settings).connect(1)


async def test_port_without_web_sockets_is_unavailable(transports: Transports) -> None:
    settings = transports.settings(f"ws://127.0.0.1:{transports.mqtt}", connect_timeout=1)
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match=f"127.0.0.1:{transports.mqtt}"):
            await MqttBroker(settings).connect(1)
