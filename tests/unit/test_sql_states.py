"""Errors of the database, sorted into what to do about them."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import asyncpg
import pytest

from bms_ingest.db.sqlstate import store_errors, translate
from bms_ingest.errors import BadRow, PartitionMissing, StoreError, StoreRefused, StoreUnavailable

TRY_AGAIN = (
    "08000 08001 08003 08004 08006 08P01 25006 25P03 25P04 40001 40003 40P01 53000 53200 53300 53400 "
    "55P03 57000 57014 57P01 57P02 57P03 57P04 57P05"
)
CALL_A_PERSON = (
    "28000 28P01 3D000 42501 42P01 42703 42601 53100 0A000 54000 55006 58030 XX000 XX001 XX002 P0001 99999"
)
LOOK_AT_THE_ROW = "22003 22P02 22021 22007 23502 23503 23505 23P01"


def server_error(code: str, message: str = "something", **fields: Any) -> asyncpg.PostgresError:
    names = {"constraint": "n", "detail": "D", "hint": "H"}
    extra = {names[name]: value for name, value in fields.items()}
    return asyncpg.PostgresError.new({"S": "ERROR", "C": code, "M": message, **extra})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, StoreUnavailable) for code in TRY_AGAIN.split()),
        *((code, StoreRefused) for code in CALL_A_PERSON.split()),
        *((code, BadRow) for code in LOOK_AT_THE_ROW.split()),
    ],
)
def test_sqlstate_says_what_to_do(code: str, kind: type[StoreError]) -> None:
    error = translate(server_error(code))
    assert type(error) is kind
    assert error.sqlstate == code


def test_check_violation_without_a_constraint_is_a_missing_partition() -> None:
    missing = server_error("23514", 'no partition of relation "telemetry_readings" found for row')
    assert type(translate(missing)) is PartitionMissing
    assert type(translate(server_error("23514", constraint="site_name_is_not_blank"))) is BadRow


@pytest.mark.parametrize(
    "error",
    [
        OSError(113, "No route to host"),
        ConnectionRefusedError(111, "refused"),
        ConnectionResetError(),
        TimeoutError(),
        asyncio.IncompleteReadError(b"", 5),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("unexpected"),
        asyncpg.ProtocolError("unexpected"),
        asyncpg.OutdatedSchemaCacheError("changed"),
        asyncpg.TargetServerAttributeNotMatched("no primary"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.InvalidCachedStatementError("cached statement plan is invalid"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure_of_the_connection_is_tried_again(error: Exception) -> None:
    assert type(translate(error)) is StoreUnavailable


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DataError("invalid input for query argument $1"),
        ValueError("embedded null"),
        TypeError("a float is required"),
        OverflowError("value out of float32 range"),
        struct.error("argument out of range"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_value_that_cannot_be_sent_is_a_bad_row(error: Exception) -> None:
    assert type(translate(error)) is BadRow


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ClientConfigurationError("sslmode"),
        asyncpg.UnsupportedClientFeatureError("krb"),
        asyncpg.UnsupportedServerFeatureError("listen"),
        RuntimeError("unheard of"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_pass_by_itself_calls_a_person(error: Exception) -> None:
    assert type(translate(error)) is StoreRefused


def test_message_is_one_line_with_detail_and_hint() -> None:
    error = translate(
        server_error("53100", "could not extend file", detail="Wrote 0 bytes.", hint="Free some.")
    )
    assert str(error) == "could not extend file; DETAIL:  Wrote 0 bytes.; HINT:  Free some."
    assert str(translate(TimeoutError())) == "TimeoutError"


def test_message_of_a_bad_row_does_not_repeat_the_row() -> None:
    error = translate(
        server_error("23514", "violates check", detail="Failing row contains (1, 666).", hint="Do.")
    )
    assert str(error) == "violates check; HINT:  Do."
    error = translate(
        asyncpg.DataError("invalid input for query argument $2: [b'payload', 1] (expected str, got int)")
    )
    assert type(error) is BadRow
    assert str(error) == "invalid input for query argument $2 (expected str, got int)"


def test_our_own_error_stays_itself() -> None:
    error = BadRow("ours", sqlstate="22003")
    assert translate(error) is error
    with pytest.raises(BadRow) as caught, store_errors():
        raise error
    assert caught.value is error


def test_library_error_is_the_cause_of_ours() -> None:
    cause = server_error("40001")
    with pytest.raises(StoreUnavailable) as caught, store_errors():
        raise cause
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), KeyError("ours")])
def test_cancellation_and_mistakes_of_ours_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, store_errors():
        raise error
    assert caught.value is error
