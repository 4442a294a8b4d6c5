"""The timestamp of a reading: ISO 8601 with an offset, or seconds or milliseconds since 1970. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bms_ingest.ingest.refusals import RefusalError, describe
from bms_ingest.models import Reason

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS_ABOVE = 2e10
"""A number further from 0 is milliseconds, as in pydantic: 2e10 s is the year 2603, 2e10 ms August 1970."""

_EXAMPLE = "send for example 2025-11-22T17:05:00Z, or seconds or milliseconds since 1970"


def parse_timestamp(value: object) -> datetime:
    """Return the moment in UTC, to the microsecond; further digits are cut off.

    Raises:
        RefusalError: NAIVE_TIMESTAMP without an offset, BAD_TIMESTAMP for anything that is no moment of the
            years 1 to 9999.
    """
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is UTC:
                return moment
            # fromisoformat takes any character between date and time, and so some runs of digits
            if moment.tzinfo is None and not value.isdigit():
                raise RefusalError(
                    Reason.NAIVE_TIMESTAMP,
                    f"timestamp is {describe(value)}, without an offset; add Z or one such as +01:00.",
                )
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if -MILLISECONDS_ABOVE <= value <= MILLISECONDS_ABOVE:
                return EPOCH + timedelta(seconds=value)
            return EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    raise RefusalError(
        Reason.BAD_TIMESTAMP, f"timestamp is {describe(value)}, which is no moment in time; {_EXAMPLE}."
    )
