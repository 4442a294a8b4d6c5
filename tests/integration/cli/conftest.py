"""Runs the program as an operator does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)


BmsIngest = Callable[..., Finished]


def environment(**settings: str) -> dict[str, str]:
    """The environment without settings but those that are given after `BMS_INGEST_`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BMS_INGEST_")}
    return kept | {f"BMS_INGEST_{name}": value for name, value in settings.items()}


def arguments_of(*arguments: str) -> list[str]:
    """How to start the program."""
    return [sys.executable, "-m", "bms_ingest", *arguments]


def started(*arguments: str, err: Path, **settings: str) -> subprocess.Popen[bytes]:
    """Start a command that writes its standard error to a file; the caller ends it."""
    with err.open("wb") as output:
        return subprocess.Popen(
            arguments_of(*arguments), env=environment(**settings), stdout=subprocess.DEVNULL, stderr=output
        )


@pytest.fixture
def bms_ingest() -> BmsIngest:
    """`bms_ingest("sites", "list", DATABASE__DSN=…)` runs a command to its end; the broker is not there."""

    def run(*arguments: str, **settings: str) -> Finished:
        settings.setdefault("MQTT__URL", "mqtt://127.0.0.1:1")
        done = subprocess.run(
            arguments_of(*arguments),
            env=environment(**settings),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr.decode())

    return run
