"""What a check found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is; only `fail` makes the command fail."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    """Not checked, because something before it failed or nothing is there to be looked at."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the doctor."""

    check: str
    status: Status
    found: str
    advice: str | None = None
    """What to do; None when there is nothing to do."""


Report = Callable[[Result], None]
"""Takes each result as soon as it is known."""


def ok(check: str, found: str) -> Result:
    """All is well."""
    return Result(check, Status.OK, found)


def warn(check: str, found: str, advice: str) -> Result:
    """It works, and will hurt some day."""
    return Result(check, Status.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Result:
    """The daemon cannot work like this, or loses what it should keep."""
    return Result(check, Status.FAIL, found, advice)


def skip(check: str, found: str) -> Result:
    """Nothing can be said."""
    return Result(check, Status.SKIP, found)
