"""`bms-ingest config`: the settings in force."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from bms_ingest.cli.invocation import SETTINGS_EPILOG, JsonOption, settings_of
from bms_ingest.cli.output import print_json
from bms_ingest.settings import shown

app = typer.Typer(no_args_is_help=True, help="The settings in force.")


@app.command(epilog=SETTINGS_EPILOG)
def check(context: typer.Context) -> None:
    """Check the settings without connecting to anything: prints "ok", or a sentence for each mistake.

    The exit code is 2 when there is a mistake. To check what they lead to, use bms-ingest doctor.

    \b
    Example:
      bms-ingest --config config.toml config check
    """
    settings_of(context)
    typer.echo("ok")


@app.command(epilog=SETTINGS_EPILOG)
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show every setting as it is in force, defaults included and secrets masked.

    The form is that of the TOML file. The variable of `max_rows` below `[batch]` is
    BMS_INGEST_BATCH__MAX_ROWS.

    \b
    Example:
      bms-ingest --config config.toml config show
    """
    settings = shown(settings_of(context))
    if as_json:
        print_json(settings)
        return
    typer.echo("\n".join(toml_lines(settings)))


def toml_lines(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[str]:
    """Write nested dictionaries as the lines of a TOML file; what is None becomes a comment."""
    lines = []
    for name, value in table.items():
        if value is None:
            lines.append(f"# {name} is not set")
        elif not isinstance(value, Mapping):
            # A JSON string, number, boolean or list of them is one in TOML too.
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    if lines and path:
        lines.insert(0, f"[{'.'.join(path)}]")
    for name, value in table.items():
        if isinstance(value, Mapping):
            below = toml_lines(value, (*path, name))
            lines += ["", *below] if lines and below else below
    return lines
