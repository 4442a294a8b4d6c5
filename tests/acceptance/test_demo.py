"""`bms-ingest demo` as a newcomer runs it: it balances, it ends when asked, and it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil
import pytest

from bms_ingest.demo.embedded import mosquitto_path
from bms_ingest.sql import load_queries

DEADLINE_SECONDS = 90.0
MARK = "BMS_DEMO_TEST_MARK"

pytestmark = pytest.mark.timeout(240)


class Demo:
    """One demo process with everything it starts, told apart by a variable that all of them inherit."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self._mark = uuid4().hex
        self._log = log
        environment = {**os.environ, MARK: self._mark, "PYTHONUNBUFFERED": "1"}
        # A demo must never touch what its user has configured.
        environment["BMS_INGEST_DATABASE__DSN"] = "postgresql://nobody@192.0.2.1:1/production"
        environment["BMS_INGEST_CONFIG"] = "/nonexistent/production.toml"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bms_ingest", "demo", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed until now."""
        return self._log.read_text()

    def until(self, condition: Callable[[], object], why: str) -> None:
        """Wait while it runs until a condition holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.process.poll() is None, f"it ended: {self.output}"
            assert time.monotonic() < deadline, f"{why}: {self.output}"
            time.sleep(0.02)

    def until_publishing(self) -> None:
        """Wait until readings have become rows."""
        self.until(lambda: re.search(r"stored [1-9]", self.output), "nothing was stored")

    def finish(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(seconds)

    def family(self) -> list[psutil.Process]:
        """Every living process that the demo started, its own included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def state_directory(self) -> Path:
        """Where it keeps its data."""
        found = re.search(r"\S+/bms-ingest-demo-\w+", self.output)
        assert found, self.output
        return Path(found[0])

    def assert_nothing_is_left(self) -> None:
        """Neither processes nor files."""
        assert [process.cmdline() for process in self.family()] == []
        assert not self.state_directory().exists()


@contextmanager
def running_demo(tmp_path: Path, *arguments: str) -> Iterator[Demo]:
    """A demo whose whole family is gone afterwards, also when the test failed."""
    demo = Demo(*arguments, log=tmp_path / f"demo-{uuid4().hex}.log")
    try:
        yield demo
    finally:
        for process in demo.family():
            process.kill()
        demo.process.wait()


def need(broker: str) -> None:
    """Skip what this machine has not got."""
    if broker == "mosquitto" and mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: the demo on it is not tested")


@pytest.mark.parametrize("broker", ["mosquitto", "nats"])
def test_demo_balances_and_leaves_nothing_twice_in_a_row(tmp_path: Path, broker: str) -> None:
    need(broker)
    for _ in range(2):
        with running_demo(tmp_path, "--duration", "8", "--sites", "20", "--broker", broker) as demo:
            assert demo.finish() == 0, demo.output
            assert f"starting the daemon on {broker}" in demo.output
            balanced = re.search(r"^balanced: received ([\d,]+) = stored ([\d,]+)", demo.output, re.MULTILINE)
            assert balanced, demo.output
            assert int(balanced[2].replace(",", "")) > 1_000
            assert "sites online 20/20" in demo.output
            assert re.search(r"not_json +[1-9]", demo.output)
            demo.assert_nothing_is_left()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_demo_early_with_balanced_books(tmp_path: Path, sign: signal.Signals) -> None:
    with running_demo(tmp_path, "--duration", "10min") as demo:
        demo.until_publishing()
        assert len(demo.family()) > 3, "demo, daemon, database and broker"
        demo.process.send_signal(sign)
        assert demo.finish() == 0, demo.output
        assert "balanced:" in demo.output
        assert "not balanced" not in demo.output
        demo.assert_nothing_is_left()


def test_second_signal_ends_the_demo_at_once(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--duration", "10min") as demo:
        demo.until_publishing()
        daemon = next(process for process in demo.family() if process.cmdline()[-1] == "run")
        # A stopped daemon settles nothing, so that the first signal alone would wait for it.
        daemon.suspend()
        demo.process.send_signal(signal.SIGINT)
        demo.until(lambda: "once more ends it" in demo.output, "the first signal was not heard")
        demo.process.send_signal(signal.SIGINT)
        assert demo.finish(20.0) == 130, demo.output
        assert "balanced:" not in demo.output
        assert "Traceback" not in demo.output
        demo.assert_nothing_is_left()


@pytest.mark.parametrize(
    "after", ["starting PostgreSQL", "starting the broker", "migrating", "starting the daemon"]
)
def test_two_signals_while_it_starts_leave_nothing(tmp_path: Path, after: str) -> None:
    with running_demo(tmp_path, "--duration", "10min") as demo:
        demo.until(lambda: after in demo.output, f"never came to {after}")
        demo.process.send_signal(signal.SIGINT)
        demo.process.send_signal(signal.SIGTERM)
        assert demo.finish(30.0) in (0, 130), demo.output
        assert "Traceback" not in demo.output
        assert "never retrieved" not in demo.output
        assert demo.family() == []


@pytest.mark.parametrize(
    ("victim", "told"),
    [
        ("run", "the daemon ended with exit code -9"),
        ("postgres", "PostgreSQL died"),
        ("broker", "the broker died"),
    ],
)
def test_death_of_a_process_is_told_and_is_a_failure(tmp_path: Path, victim: str, told: str) -> None:
    with running_demo(tmp_path, "--duration", "10min") as demo:
        demo.until_publishing()
        children = [process for process in demo.family() if process.ppid() == demo.process.pid]
        names = {
            "run": [process for process in children if process.cmdline()[-1] == "run"],
            "postgres": [process for process in children if "pgdata" in " ".join(process.cmdline())],
            "broker": [process for process in children if "/broker/" in " ".join(process.cmdline())],
        }
        (target,) = names[victim]
        target.kill()
        assert demo.finish() == 1, demo.output
        assert f"demo failed: {told}" in demo.output
        assert "Traceback" not in demo.output
        demo.assert_nothing_is_left()


async def test_stolen_row_is_found_and_is_a_failure(tmp_path: Path) -> None:
    steal = load_queries("demo", Path(__file__).parent / "queries")["steal_a_reading"]
    with running_demo(tmp_path, "--duration", "10min") as demo:
        demo.until_publishing()
        dsn = re.search(r"postgresql://\S+", demo.output)
        assert dsn
        connection = await asyncpg.connect(dsn[0])
        assert await connection.execute(steal) == "DELETE 1"
        await connection.close()
        demo.process.send_signal(signal.SIGINT)
        assert demo.finish() == 1, demo.output
        assert "not balanced:" in demo.output
        assert re.search(
            r"the daemon stored \d+ readings, but telemetry_readings holds \d+ rows", demo.output
        )
        demo.assert_nothing_is_left()


def test_kept_state_holds_the_daemons_log(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--duration", "3", "--sites", "5", "--keep") as demo:
        assert demo.finish() == 0, demo.output
        directory = demo.state_directory()
        try:
            assert "state directory kept" in demo.output
            assert "mqtt_connected" in (directory / "daemon.log").read_text()
            assert demo.family() == []
        finally:
            subprocess.run(["rm", "-rf", str(directory)], check=True)
