"""What every examination of the doctor is tested with."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from bms_ingest.doctor.examination import Examination, examine
from bms_ingest.doctor.result import Result

Examined = Callable[[Examination], Awaitable[dict[str, Result]]]


async def examined(examination: Examination) -> dict[str, Result]:
    """Results of one examination by check; the deadline is too long to matter."""
    results = await examine([examination], deadline_seconds=60, cleanup_seconds=60)
    assert [result.check for result in results] == list(examination.checks)
    return {result.check: result for result in results}


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Port of a server that lets everybody connect and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
