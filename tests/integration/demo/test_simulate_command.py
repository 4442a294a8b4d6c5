"""`bms-ingest simulate` as its user runs it: a process, a broker, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aiomqtt
import pytest

from bms_ingest.demo.embedded import EmbeddedBroker, free_port

DEADLINE_SECONDS = 60.0


@contextmanager
def simulate(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command with nothing of our own configuration; it is gone afterwards."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BMS_INGEST_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "bms_ingest", "simulate", *arguments],
        env={**environment, "COLUMNS": "200", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def numbers(output: str) -> dict[str, int]:
    """The rows of the summary that end in a number."""
    rows = (line.strip().rpartition("  ") for line in output.splitlines())
    return {
        name.strip(): int(value.replace(",", ""))
        for name, _, value in rows
        if value.strip().replace(",", "").isdigit()
    }


async def status_of_first_site(broker: EmbeddedBroker, wanted: bytes) -> None:
    """Wait until the retained status of site 1 is the wanted word."""
    async with asyncio.timeout(DEADLINE_SECONDS), aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("bms/sites/1/status", qos=1)
        async for message in client.messages:
            if message.payload == wanted:
                return


def test_it_publishes_for_the_duration_and_accounts_for_it(broker: EmbeddedBroker) -> None:
    arguments = ("--sites", "5", "--speed-up", "20000", "--duration", "2s", "--faults", "0.2")
    with simulate("--url", broker.url, *arguments) as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    found = numbers(output)
    assert found["published"] == found["acknowledged by the broker"] > 100
    assert found["not acknowledged"] == 0
    assert found["stored"] > 100
    assert found["quarantined as not_json"] > 0
    assert "bytes that are not JSON" in output


@pytest.mark.parametrize("variables", [{}, {"BMS_INGEST_MQTT__URL": ""}])
def test_without_a_broker_it_says_what_to_write(variables: dict[str, str]) -> None:
    with simulate(**variables) as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2
    assert "--url" in output
    assert "mqtt://" in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "http://somebody:geheim@host"),
        ("--url", "mqtt://localhost", "--fault", "gremlins=0.1"),
        ("--url", "mqtt://localhost", "--fault", "garbage=1.1"),
        ("--url", "mqtt://localhost", "--interval", "soon"),
    ],
)
def test_wrong_usage_is_told_without_secrets(arguments: tuple[str, ...]) -> None:
    with simulate(*arguments) as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2, output
    assert "geheim" not in output
    assert "Traceback" not in output


def test_broker_of_the_settings_is_used_and_a_database_is_not_needed(broker: EmbeddedBroker) -> None:
    url = broker.url.replace("mqtt://", "mqtt://somebody:geheim@")
    with simulate(
        "--sites", "3", "--interval", "1s", "--duration", "2s", BMS_INGEST_MQTT__URL=url
    ) as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    assert numbers(output)["acknowledged by the broker"] > 3
    assert "geheim" not in output


def test_unreachable_broker_is_a_failure_at_work() -> None:
    with simulate("--url", f"mqtt://127.0.0.1:{free_port()}", "--duration", "5s") as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "no connection to the broker" in output
    assert "Traceback" not in output


async def test_interrupt_settles_what_is_on_its_way(broker: EmbeddedBroker) -> None:
    arguments = ("--sites", "20", "--speed-up", "5000", "--history", "2d")
    with simulate("--url", broker.url, *arguments) as process:
        await status_of_first_site(broker, b"online")
        process.send_signal(signal.SIGINT)
        output, _ = await asyncio.to_thread(process.communicate, timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, output
    found = numbers(output)
    assert found["published"] == found["acknowledged by the broker"]
    await status_of_first_site(broker, b"offline")


async def test_broker_tells_of_a_gateway_that_died(broker: EmbeddedBroker) -> None:
    with simulate("--url", broker.url, "--sites", "2") as process:
        await status_of_first_site(broker, b"online")
        process.kill()
        await status_of_first_site(broker, b"offline")


def test_second_interrupt_ends_it_at_once(mosquitto: EmbeddedBroker) -> None:
    with simulate(
        "--url", mosquitto.url, "--sites", "20", "--speed-up", "5000", "--history", "9d"
    ) as process:
        deadline = time.monotonic() + DEADLINE_SECONDS
        assert process.stdout is not None
        while "acknowledged" not in process.stdout.readline():
            assert time.monotonic() < deadline
        # A stopped broker acknowledges nothing more, so that the first signal alone would wait for it.
        os.kill(mosquitto.pid, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
            code = process.wait(5.0)
        finally:
            os.kill(mosquitto.pid, signal.SIGCONT)
    assert code == 130
