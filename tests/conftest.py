"""Fixtures of every suite; each room's live in a module of their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.brokers", "tests.fixtures.daemon"]

_own_root = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give each run a root of its own for temporary directories.

    A second run as root closes pytest's shared one to others, and servers that run as an unprivileged user
    lose their data under their feet.
    """
    if config.option.basetemp is None:
        config.stash[_own_root] = Path(tempfile.mkdtemp(prefix="bms-ingest-test-"))
        config.option.basetemp = str(config.stash[_own_root] / "run")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Iterator[None]:
    """Remove it after the last fixture is gone, unless a failure may want to be looked at."""
    yield
    root = session.config.stash.get(_own_root, None)
    if root is not None and exitstatus == 0:
        shutil.rmtree(root, ignore_errors=True)
