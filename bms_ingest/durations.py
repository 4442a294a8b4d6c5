"""Durations as operators write them ("90d", "10 min", "50ms", "PT30S", 30) to `timedelta`, and back. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS_SECONDS = {
    **dict.fromkeys(("us", "µs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
}
_PART = re.compile(r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[a-zµ]+)\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?\s*", re.ASCII)
_SHOWN_UNITS = (
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
)
_EXAMPLE = 'write a duration such as "30s", "10 min" or "90d"'


def parse_duration(value: object) -> object:
    """Turn a number of seconds or a text such as "1h 30min" into a `timedelta`.

    What is neither is returned as it is, ISO 8601 ("P90D", "PT0.05S") included: pydantic judges it next.

    Raises:
        ValueError: a boolean, NaN, or longer than a `timedelta` can be.
    """
    if isinstance(value, bool):
        raise ValueError(f"is true or false; {_EXAMPLE}")
    try:
        if isinstance(value, (int, float)):
            return timedelta(seconds=value)
        if isinstance(value, str):
            return _parse_text(value)
    except OverflowError:
        raise ValueError(f"is longer than any duration can be; {_EXAMPLE}") from None
    except ValueError:
        raise ValueError(f"is not a number of seconds; {_EXAMPLE}") from None
    return value


def _parse_text(text: str) -> object:
    if _NUMBER.fullmatch(text):
        return timedelta(seconds=float(text))
    total, end = timedelta(0), 0
    while part := _PART.match(text, end):
        unit_seconds = _UNITS_SECONDS.get(part["unit"])
        if unit_seconds is None:
            return text
        total += timedelta(seconds=float(part["number"]) * unit_seconds)
        end = part.end()
    return total if end and end == len(text) else text


def format_duration(duration: timedelta) -> str:
    """Write a duration in the largest unit that keeps it a whole number, such as "90d" or "50ms".

    `parse_duration` reads it back to the same value.
    """
    microseconds = duration // timedelta(microseconds=1)
    for unit, size in _SHOWN_UNITS:
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us" if microseconds else "0s"
