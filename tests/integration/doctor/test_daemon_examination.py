"""The daemon's own HTTP server, real, with what it would say in good and in bad times."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bms_ingest.demo.embedded import free_port
from bms_ingest.doctor.daemon import DaemonExamination
from bms_ingest.doctor.result import Result, Status
from bms_ingest.metrics import Metrics
from bms_ingest.settings import HttpSettings
from bms_ingest.web.checks import Check
from bms_ingest.web.server import HttpServer
from tests.integration.doctor.conftest import examined

TAKEN_OVER = (
    "the broker ended the connection: session taken over (0x8e); another client connected with our client id "
    "'bms-ingest'; give each its own mqtt.client_id"
)


class Daemon:
    """What /readyz and /metrics of a daemon show."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.trouble: str | None = None
        self.asked = 0
        self.reconnects_each_time = False
        self.port = 0

    async def broker(self) -> str | None:
        self.asked += 1
        if self.reconnects_each_time:
            self.metrics.mqtt_reconnects.inc()
        return self.trouble


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator[Daemon]:
    server = HttpServer(
        HttpSettings(port=0),
        daemon.metrics.registry,
        [Check("broker", daemon.broker)],
        lambda: None,
        check_timeout_seconds=30,
    )
    await server.start()
    daemon.port = server.port
    try:
        yield daemon
    finally:
        await server.stop()


async def look(port: int, host: str = "127.0.0.1") -> dict[str, Result]:
    return await examined(DaemonExamination(host, port, between_samples_seconds=0.01))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
async def test_a_daemon_that_is_ready(host: str) -> None:
    async with running(Daemon()) as daemon:
        daemon.metrics.messages_received.labels("1").inc(5)
        results = await look(daemon.port, host)
    assert {check: result.status for check, result in results.items()} == {
        "daemon": Status.OK,
        "qos 0 received": Status.OK,
        "client id": Status.OK,
    }
    assert "none of 5 messages" in results["qos 0 received"].found


async def test_a_daemon_that_is_not_ready_says_why() -> None:
    async with running(Daemon()) as daemon:
        daemon.trouble = "cannot reach the broker at h:1883"
        results = await look(daemon.port)
    assert results["daemon"].status is Status.FAIL
    assert "broker: cannot reach the broker at h:1883" in results["daemon"].found
    assert results["client id"].status is Status.OK


async def test_a_session_taken_over_is_a_second_client() -> None:
    async with running(Daemon()) as daemon:
        daemon.trouble = TAKEN_OVER
        results = await look(daemon.port)
    assert results["client id"].status is Status.FAIL
    assert "mqtt.client_id" in str(results["client id"].advice)


async def test_reconnects_while_we_look_are_suspicious() -> None:
    async with running(Daemon()) as daemon:
        daemon.reconnects_each_time = True
        results = await look(daemon.port)
        assert daemon.asked == 2
    assert results["client id"].status is Status.WARN


async def test_messages_at_qos_0_since_the_start_are_a_warning() -> None:
    async with running(Daemon()) as daemon:
        daemon.metrics.messages_received.labels("0").inc(2)
        daemon.metrics.messages_received.labels("1").inc(8)
        results = await look(daemon.port)
    assert results["qos 0 received"].status is Status.WARN
    assert results["qos 0 received"].found.startswith("2 of 10 messages")


async def test_no_daemon_is_no_fault() -> None:
    for port in (free_port(), 0):
        results = await look(port)
        assert {result.status for result in results.values()} == {Status.SKIP}


async def test_a_port_that_never_answers_is_a_warning(black_hole: int) -> None:
    results = await look(black_hole)
    assert results["daemon"].status is Status.WARN
    assert "takes longer than 1 s" in results["daemon"].found


@contextmanager
def stranger(status: int, body: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body"), [(404, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"checks": {}}'), (200, b"\xff")]
)
async def test_another_program_on_the_port_is_a_warning(status: int, body: bytes) -> None:
    with stranger(status, body) as port:
        results = await look(port)
    assert results["daemon"].status is Status.WARN
    assert "does not answer as ours would" in results["daemon"].found


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with running(Daemon()) as daemon:
        assert (await look(daemon.port))["daemon"].status is Status.OK
