"""Prints results on standard output: tables for people, one JSON document for programs."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bms_ingest.durations import format_duration

# Into a file or a pipe nothing is cut or folded, however long.
UNLIMITED_COLUMNS = 100_000


def make_streams_robust() -> None:
    """Let output survive what it is connected to.

    A character that its encoding lacks is escaped instead of ending the program; a stream that was closed
    before we started goes nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            forever = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until we end
            setattr(sys, name, forever)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(document: object) -> None:
    """Print one JSON document; moments as ISO 8601 with their offset."""
    # What backslashreplace makes of an "é" is no JSON.
    ascii_only = codecs.lookup(sys.stdout.encoding).name != "utf-8"
    typer.echo(json.dumps(document, indent=2, ensure_ascii=ascii_only, default=_plain))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, right: Sequence[str] = ()
) -> None:
    """Print rows under their columns, or the sentence `empty` when there are none.

    Args:
        columns: headings.
        rows: values; None is shown as a dash.
        empty: what to say, and what to do, when there is nothing to show.
        right: columns of numbers.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    if table.row_count == 0:
        typer.echo(empty)
        return
    console().print(table)


def console() -> Console:
    """A console on standard output, as wide as the terminal, or without limit where there is none."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNLIMITED_COLUMNS, highlight=False)


def cell(value: object) -> str:
    """Show one value; invisible characters are escaped, because topics and payloads come from strangers."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, timedelta):
        return format_duration(value)
    return visible(str(value))


def visible(text: str, *, keep: str = "") -> str:
    """Escape everything that a terminal might obey, except the characters of `keep`."""
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode()
        for character in text
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in JSON")
