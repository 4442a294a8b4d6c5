"""Turns what was typed into values; a mistake is told with what to type instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from bms_ingest.durations import parse_duration

_MOMENT = "write a moment such as 2026-03-01T12:00Z, or how long ago it was, such as 2h or 7d"


def duration(text: str) -> timedelta:
    """Read a positive duration such as 30s, 5min, 1h."""
    parsed = _parse(text)
    if parsed is None or parsed <= timedelta(0):
        raise typer.BadParameter(f"{text!r} is not a duration; write one such as 30s, 5min or 1h")
    return parsed


def moment(text: str) -> datetime:
    """Read a moment, or how long ago it was; without an offset it is UTC."""
    ago = _parse(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - ago
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither; {_MOMENT}") from None


def plain_text(text: str) -> str:
    """Read a name: something that can be seen, without blanks around it."""
    name = text.strip()
    if not name or not name.isprintable():
        raise typer.BadParameter(
            f"{text!r} is blank or holds an invisible character; write a name such as Acme"
        )
    return name


def _parse(text: str) -> timedelta | None:
    try:
        parsed = parse_duration(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, timedelta) else None
