"""The program `bms-ingest`: its commands, its global options, and what its exit code means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bms_ingest import __version__
from bms_ingest.cli import config, partitions, quarantine, sites
from bms_ingest.cli.demo import demo
from bms_ingest.cli.doctor import doctor
from bms_ingest.cli.invocation import SETTINGS_EPILOG, Invocation
from bms_ingest.cli.migrate import migrate
from bms_ingest.cli.output import make_streams_robust
from bms_ingest.cli.prose import fill_help
from bms_ingest.cli.run import run
from bms_ingest.cli.simulate import simulate
from bms_ingest.errors import BmsIngestError, SettingsError

EXIT_FAILED = 1
EXIT_WRONG_SETTINGS = 2

app = typer.Typer(
    name="bms-ingest",
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A pretty traceback shows local variables, and with them passwords.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed at work, 2 wrong usage or configuration, 130 interrupted.",
)

app.command(epilog=SETTINGS_EPILOG)(run)
app.command(epilog=SETTINGS_EPILOG)(migrate)
app.command(epilog=SETTINGS_EPILOG)(doctor)
app.command()(demo)
app.command()(simulate)
app.add_typer(config.app, name="config")
app.add_typer(sites.app, name="sites")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(partitions.app, name="partitions")
fill_help(app)


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    make_streams_robust()
    try:
        app(prog_name="bms-ingest")
    except BmsIngestError as error:
        for line in str(error).splitlines():
            typer.echo(f"bms-ingest: {line}", err=True)
        sys.exit(EXIT_WRONG_SETTINGS if isinstance(error, SettingsError) else EXIT_FAILED)
    except OSError as error:
        # Of files and of our own output (a full disk); what servers do is a BmsIngestError by now.
        typer.echo(f"bms-ingest: cannot go on: {error}", err=True)
        sys.exit(EXIT_FAILED)


@app.callback()
def program(
    context: typer.Context,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar="BMS_INGEST_CONFIG",
            # The settings say it better than typer does.
            readable=False,
            help="TOML file with the settings; goes before the command.",
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=lambda value: _print_version(value)),
    ] = False,
) -> None:
    """Turn MQTT telemetry of battery, solar and backup-power sites into trusted PostgreSQL rows.

    \b
    Try it without anything:      bms-ingest demo
    Set up a database:            bms-ingest migrate
    Register a site:              bms-ingest sites add --organization Acme --name "Tower 7"
    Find out what is wrong:       bms-ingest doctor
    Run the daemon:               bms-ingest --config /etc/bms-ingest/bms-ingest.toml run
    """
    context.obj = Invocation(config_file)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bms-ingest {__version__}")
        raise typer.Exit
