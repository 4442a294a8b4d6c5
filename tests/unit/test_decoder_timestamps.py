"""Which timestamps are read, and which are refused for what reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from bms_ingest.ingest.decoder import Decoder
from bms_ingest.models import Reason
from tests.unit.decoding import DECODER, LIMITS, MOMENT, NOW, decode, delivery, only_rejection


def with_timestamp(text: str) -> str:
    """Return one reading whose timestamp is this JSON text."""
    return f'{{"timestamp":{text},"batteryVoltage":48.5}}'


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ('"2025-11-22T17:00:00Z"', MOMENT),
        ('"2025-11-22T18:00:00+01:00"', MOMENT),
        ('"2025-11-22 17:00:00+00:00"', MOMENT),
        ('"20251122T170000Z"', MOMENT),
        ('"2025-11-22T17:00Z"', MOMENT),
        ('"2025-11-22T22:30:00+0530"', MOMENT),
        ('"2025-11-22T17:00:00.123456789Z"', MOMENT + timedelta(microseconds=123_456)),
        ("1763830800", MOMENT),
        ("1763830800.5", MOMENT + timedelta(milliseconds=500)),
        ("1763830800000", MOMENT),
        ("1763830800000.25", MOMENT + timedelta(microseconds=250)),
        ("1.7638308e9", MOMENT),
    ],
)
def test_timestamp_is_read_as_utc(text: str, moment: datetime) -> None:
    (reading,) = decode(with_timestamp(text)).readings

    assert reading.timestamp == moment
    assert reading.timestamp.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        '"145000-01-01T00:00:00Z"',
        '"yesterday"',
        '""',
        '"1763830800"',
        '"2025-13-01T00:00:00Z"',
        '"2025-11-22T17:00:60Z"',
        '"0001-01-01T00:00:00+14:00"',
        "true",
        "null",
        "{}",
        "[]",
        "NaN",
        "-Infinity",
        "1e999",
        "-1e300",
        "1" * 400,
        '"\\u0000"',
        '"2025-11-22T17:00:00+24:00"',
        '"1731123112345"',
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    reason, detail = only_rejection(decode(with_timestamp(text)))

    assert reason is Reason.BAD_TIMESTAMP
    assert detail.startswith("timestamp is ")
    assert "send for example 2025-11-22T17:05:00Z" in detail


@pytest.mark.parametrize("text", ['"2025-11-22T17:00:00"', '"2025-11-22"', '"2025-11-22 17:00"'])
def test_timestamp_without_an_offset_is_refused(text: str) -> None:
    assert only_rejection(decode(with_timestamp(text))) == (
        Reason.NAIVE_TIMESTAMP,
        f"timestamp is {text}, without an offset; add Z or one such as +01:00.",
    )


@pytest.mark.parametrize(
    ("offset", "accepted"),
    [
        (-timedelta(days=90), True),
        (-timedelta(days=90, microseconds=1), False),
        (timedelta(minutes=10), True),
        (timedelta(minutes=10, microseconds=1), False),
    ],
)
def test_time_window_includes_both_its_ends(offset: timedelta, accepted: bool) -> None:
    decoded = decode(with_timestamp(json.dumps((NOW + offset).isoformat())))

    assert bool(decoded.readings) is accepted
    assert [rejection.reason for rejection in decoded.rejections] == (
        [] if accepted else [Reason.OUTSIDE_WINDOW]
    )


@pytest.mark.parametrize(
    "text", ["0", '"9999-12-31T23:59:59Z"', '"0001-01-01T00:00:00Z"', "-1", "253402300799"]
)
def test_moment_of_another_age_is_outside_the_window(text: str) -> None:
    reason, detail = only_rejection(decode(with_timestamp(text)))

    assert reason is Reason.OUTSIDE_WINDOW
    assert detail.endswith(
        "outside the time window from 2025-08-24T17:05:00+00:00 to 2025-11-22T17:15:00+00:00."
    )


def test_window_that_no_calendar_holds_accepts_every_moment() -> None:
    decoder = Decoder(DECODER._site_of_topic, LIMITS, timedelta.max, timedelta.max, 1000)

    decoded = decoder.decode(delivery(with_timestamp('"0001-01-01T00:00:00Z"').encode()), NOW)

    assert len(decoded.readings) == 1


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        ("20000000000", "2603-10-11T11:33:20+00:00"),
        ("20000000001", "1970-08-20T11:33:20.001000+00:00"),
        ("-20000000000", "1336-03-23T12:26:40+00:00"),
        ("-20000000001", "1969-05-14T12:26:39.999000+00:00"),
    ],
)
def test_numbers_further_than_2e10_from_zero_are_milliseconds(number: str, moment: str) -> None:
    reason, detail = only_rejection(decode(with_timestamp(number)))

    assert reason is Reason.OUTSIDE_WINDOW
    assert detail.startswith(f"timestamp is {moment}, ")
