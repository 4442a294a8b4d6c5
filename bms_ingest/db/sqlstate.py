"""Sorts what the database and its library report into our errors, by SQLSTATE.

Everything that is not a reading's own fault keeps the reading: in doubt an error is one to try again.
Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from bms_ingest.errors import BadRow, PartitionMissing, StoreError, StoreRefused, StoreUnavailable

_PASSING_CODES = {
    "25006": "the server became a read-only standby in a failover; the next connection finds the new primary",
    "25P03": "our own idle transaction was ended by the server",
    "25P04": "our own long transaction was ended by the server",
    "40001": "a concurrent transaction won",
    "40003": "nobody knows whether it was done; the unique key settles it when it is done again",
    "40P01": "a deadlock was resolved at our cost",
    "55P03": "a lock was not to be had within lock_timeout",
    "57014": "the statement took longer than statement_timeout, or was cancelled",
}
_PASSING_CLASSES = {
    "08": "the connection broke",
    "53": "out of connections or memory",
    "57": "the server is stopping, starting or has crashed",
}
_DISK_FULL = "53100"  # In a passing class, but nothing frees a disk by itself.
_BAD_ROW_CLASSES = {
    "22": "a value the column's type cannot hold",
    "23": "a value that a constraint forbids",
}
_CHECK_VIOLATION = "23514"

_ENCODING_ERRORS = (ValueError, TypeError, OverflowError, struct.error)
"""What asyncpg raises in COPY for a Python value that it cannot send as the column's type; with the arguments
of a statement it raises DataError, which has SQLSTATE 22000."""

_ARGUMENT = re.compile(r"^(invalid input for query argument \$\d+): .* (\(.*\))$")
"""asyncpg's DataError quotes the whole argument before the reason; for COPY and arrays that is a payload."""

_MISCONFIGURED = (
    asyncpg.ClientConfigurationError,
    asyncpg.UnsupportedClientFeatureError,
    asyncpg.UnsupportedServerFeatureError,
)

LIBRARY_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    *_ENCODING_ERRORS,
)
"""What may come out of a use of the database; anything else is our own mistake and passes."""


def translate(error: BaseException) -> StoreError:
    """Return the error of ours that says what to do about a failure of the database.

    An error of ours is returned as it is. What nobody listed becomes StoreRefused: the data is kept.
    """
    if isinstance(error, StoreError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _translate_server_error(error)
    message = _one_line(str(error), error)
    # Before InterfaceError and ValueError, whose children these are.
    if isinstance(error, _MISCONFIGURED):
        return StoreRefused(message)
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)):
        return StoreUnavailable(message)
    if isinstance(error, _ENCODING_ERRORS):
        return BadRow(message)
    return StoreRefused(message)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the database library's errors raised inside into ours; CancelledError and all others pass.

    Raises:
        StoreError: the child that `translate` chooses, from the library's error.
    """
    try:
        yield
    except LIBRARY_ERRORS as error:
        raise translate(error) from error


def _translate_server_error(error: asyncpg.PostgresError) -> StoreError:
    code: str = error.sqlstate or ""
    kind: type[StoreError]
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        # 0A000 after a migration: the library forgets the statement, and the next try prepares it anew.
        kind = StoreUnavailable
    elif code == _DISK_FULL:
        kind = StoreRefused
    elif not code or code in _PASSING_CODES or code[:2] in _PASSING_CLASSES:
        kind = StoreUnavailable
    elif code == _CHECK_VIOLATION and not error.constraint_name:
        # "no partition of relation … found for row" has the code of a check constraint, but names none.
        kind = PartitionMissing
    elif code[:2] in _BAD_ROW_CLASSES:
        kind = BadRow
    else:
        kind = StoreRefused
    text = str(error)
    if kind in (BadRow, PartitionMissing) and error.detail:
        # "Failing row contains (…)": the values of a reading belong into no log.
        text = text.replace(f"DETAIL:  {error.detail}", "")
    return kind(_one_line(text, error), sqlstate=code or None)


def _one_line(text: str, error: BaseException) -> str:
    text = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    return _ARGUMENT.sub(r"\1 \2", text) or type(error).__name__
