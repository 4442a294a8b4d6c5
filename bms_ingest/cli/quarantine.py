"""`bms-ingest quarantine`: what could not be stored, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from bms_ingest.cli.arguments import moment
from bms_ingest.cli.invocation import SETTINGS_EPILOG, JsonOption, opened_database, settings_of, work
from bms_ingest.cli.output import cell, print_json, print_table, visible
from bms_ingest.db.quarantine_entries import EntryFilter, QuarantineEntries, QuarantineEntry
from bms_ingest.errors import BmsIngestError
from bms_ingest.models import Reason
from bms_ingest.settings import Settings

HEX_BYTES = 16
LARGEST_ID = 9_223_372_036_854_775_807

app = typer.Typer(no_args_is_help=True, help="Quarantine: what could not be stored, and why.")


@app.command("list", epilog=SETTINGS_EPILOG)
def list_entries(
    context: typer.Context,
    site: Annotated[
        int | None, typer.Option(max=LARGEST_ID, metavar="ID", help="Only what came on this site's topic.")
    ] = None,
    reason: Annotated[Reason | None, typer.Option(help="Only what was refused for this reason.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=moment, metavar="MOMENT|DURATION", help="Only what came since then: 2026-03-01T12:00Z, 2h."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what could not be stored, the newest first.

    The same payload refused again for the same reason is counted, not listed twice.

    \b
    Examples:
      bms-ingest quarantine list --since 1d
      bms-ingest quarantine list --site 7 --reason out_of_range --json
    """
    wanted = EntryFilter(site, reason, since, limit)
    found = work(_newest(settings_of(context), wanted))
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    print_table(
        ("id", "last received (UTC)", "reason", "topic", "times", "detail"),
        (
            (entry.id, entry.last_received_at, entry.reason, entry.topic, entry.occurrences, entry.detail)
            for entry in found
        ),
        empty="nothing is in quarantine that fits",
        right=("id", "times"),
    )


@app.command(epilog=SETTINGS_EPILOG)
def show(
    context: typer.Context,
    entry_id: Annotated[
        int, typer.Argument(metavar="ID", min=1, max=LARGEST_ID, help="As quarantine list shows it.")
    ],
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the payload's bytes exactly as they came, and nothing else.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one entry with its payload: as text when it is UTF-8, as a hex dump otherwise.

    \b
    Examples:
      bms-ingest quarantine show 12
      bms-ingest quarantine show 12 --raw > payload.bin
    """
    entry, payload = work(_find(settings_of(context), entry_id))
    if raw:
        sys.stdout.buffer.write(payload)
        sys.stdout.buffer.flush()
        return
    text = _as_text(payload)
    if as_json:
        print_json(
            {**asdict(entry), "payload_text": text, "payload_hex": payload.hex() if text is None else None}
        )
        return
    facts = asdict(entry)
    width = max(map(len, facts))
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {cell(value)}")
    typer.echo("")
    for line in hex_dump(payload) if text is None else [visible(text, keep="\n\t")]:
        typer.echo(line)


def hex_dump(payload: bytes) -> Iterator[str]:
    """Yield lines of offset, bytes and what of them is printable ASCII."""
    for offset in range(0, len(payload), HEX_BYTES):
        piece = payload[offset : offset + HEX_BYTES]
        signs = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        yield f"{offset:08x}  {piece.hex(' '):<{HEX_BYTES * 3 - 1}}  {signs}"


def _as_text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


async def _newest(settings: Settings, wanted: EntryFilter) -> list[QuarantineEntry]:
    async with opened_database(settings) as database:
        return await QuarantineEntries(database).newest(wanted)


async def _find(settings: Settings, entry_id: int) -> tuple[QuarantineEntry, bytes]:
    async with opened_database(settings) as database:
        found = await QuarantineEntries(database).find(entry_id)
    if found is None:
        raise BmsIngestError(f"there is no quarantine entry {entry_id}; see: bms-ingest quarantine list")
    return found
