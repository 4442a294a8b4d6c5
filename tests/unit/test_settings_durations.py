"""Durations as operators write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bms_ingest.durations import format_duration, parse_duration
from bms_ingest.settings_types import Seconds

DURATION: TypeAdapter[timedelta] = TypeAdapter(Seconds)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90d", timedelta(days=90)),
        ("10 min", timedelta(minutes=10)),
        ("50ms", timedelta(milliseconds=50)),
        ("30s", timedelta(seconds=30)),
        (" 1h 30min ", timedelta(minutes=90)),
        ("1.5 hours", timedelta(minutes=90)),
        ("2 weeks", timedelta(days=14)),
        ("5m", timedelta(minutes=5)),
        ("250us", timedelta(microseconds=250)),
        ("PT30S", timedelta(seconds=30)),
        ("P90D", timedelta(days=90)),
        ("30", timedelta(seconds=30)),
        ("0.05", timedelta(milliseconds=50)),
        (30, timedelta(seconds=30)),
        (0.05, timedelta(milliseconds=50)),
        (timedelta(days=1), timedelta(days=1)),
    ],
)
def test_duration_is_read_in_every_spelling(written: object, meant: timedelta) -> None:
    assert DURATION.validate_python(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "10 parsecs",
        "d",
        "-5s",
        "0",
        "-1",
        "0ms",
        "10 min x",
        "1e3",
        "1e9d",
        "9" * 40 + "d",
        True,
        None,
        1e300,
        float("nan"),
        float("inf"),
        "٣s",
        [],
        "36526d",
    ],
)
def test_what_is_no_positive_duration_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_525)))
def test_formatted_duration_reads_back_the_same(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "shown"),
    [
        (timedelta(days=90), "90d"),
        (timedelta(minutes=90), "90min"),
        (timedelta(milliseconds=50), "50ms"),
        (timedelta(microseconds=1_000_001), "1000001us"),
        (timedelta(0), "0s"),
    ],
)
def test_duration_is_shown_in_its_largest_whole_unit(duration: timedelta, shown: str) -> None:
    assert format_duration(duration) == shown
