"""Cuts a payload into the exact bytes of its array's elements, for when one of them is rejected. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

READINGS = "readings"

_BLANKS = re.compile(r"[ \t\n\r]*")
_Span = tuple[int, int]


def _leave(text: str) -> None:
    """Take a number without converting it: long digits would cost quadratic time, or be refused."""


_VALUE = json.JSONDecoder(parse_int=_leave, parse_float=_leave, parse_constant=_leave)


@dataclass(frozen=True, slots=True)
class Pieces:
    """The bytes of each element, in order, and of each field beside `readings` in the object around them."""

    elements: list[bytes]
    around: dict[str, bytes] = field(default_factory=dict)


def cut(payload: bytes, most_elements: int) -> Pieces | None:
    """Cut an array, or an object with an array `readings`, at its commas.

    Only the structure is read: an element may hold broken UTF-8, lone surrogates or numbers of any length.
    Of a repeated field the last one counts, as in every parser here.

    Returns:
        The pieces; None when the structure is broken or something else, nested too deep for this machine's
        stack, or longer than `most_elements`.
    """
    # one character a byte, so that positions in the text are positions in the payload; the bytes of other
    # characters in UTF-8 are all above ASCII and cannot be mistaken for structure
    text = payload.decode("latin-1")
    try:
        return _cut(text, payload, most_elements)
    except (ValueError, RecursionError):
        return None


def _cut(text: str, payload: bytes, most_elements: int) -> Pieces:
    start = _skip_blanks(text, 0)
    fields: dict[str, _Span] = {}
    if text.startswith("{", start):
        fields, end = _fields(text, start, most_elements)
        start, _ = fields.pop(READINGS, (end, end))
        spans, _ = _elements(text, start, most_elements)
    else:
        spans, end = _elements(text, start, most_elements)
    if _skip_blanks(text, end) != len(text):
        raise ValueError("something follows the end")
    return Pieces(
        elements=[payload[first:behind] for first, behind in spans],
        around={name: payload[first:behind] for name, (first, behind) in fields.items()},
    )


def _skip_blanks(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return at if blanks is None else blanks.end()


def _elements(text: str, at: int, most: int) -> tuple[list[_Span], int]:
    """Return where each element of the array at `at` begins and ends, and where the array ends."""
    if not text.startswith("[", at):
        raise ValueError("not an array")
    at = _skip_blanks(text, at + 1)
    spans: list[_Span] = []
    if text.startswith("]", at):
        return spans, at + 1
    while len(spans) < most:
        _, end = _VALUE.raw_decode(text, at)
        spans.append((at, end))
        at, closed = _behind_comma(text, end, "]")
        if closed:
            return spans, at
    raise ValueError("too many elements")


def _fields(text: str, at: int, most: int) -> tuple[dict[str, _Span], int]:
    """Return where each field's value in the object at `at` begins and ends, and where the object ends."""
    at = _skip_blanks(text, at + 1)
    spans: dict[str, _Span] = {}
    if text.startswith("}", at):
        return spans, at + 1
    for _ in range(most):
        if not text.startswith('"', at):
            raise ValueError("not a name")
        name, end = _VALUE.raw_decode(text, at)
        at = _skip_blanks(text, end)
        if not text.startswith(":", at):
            raise ValueError("no colon behind a name")
        at = _skip_blanks(text, at + 1)
        _, end = _VALUE.raw_decode(text, at)
        spans[name] = (at, end)
        at, closed = _behind_comma(text, end, "}")
        if closed:
            return spans, at
    raise ValueError("too many fields")


def _behind_comma(text: str, at: int, bracket: str) -> tuple[int, bool]:
    """Return where the next element begins, or where the whole ends and True."""
    at = _skip_blanks(text, at)
    if text.startswith(bracket, at):
        return at + 1, True
    if not text.startswith(",", at):
        raise ValueError("no comma behind a value")
    return _skip_blanks(text, at + 1), False
