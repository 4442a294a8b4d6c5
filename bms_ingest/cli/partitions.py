"""`bms-ingest partitions`: the monthly partitions of the readings."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import typer

from bms_ingest.cli.invocation import SETTINGS_EPILOG, JsonOption, opened_database, settings_of, work
from bms_ingest.cli.output import print_json, print_table
from bms_ingest.maintenance.partitions import PartitionInfo, Partitions, PartitionsResult
from bms_ingest.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Monthly partitions of the readings.")


@app.command("list", epilog=SETTINGS_EPILOG)
def list_partitions(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the partitions, oldest first, with their size.

    \b
    Example:
      bms-ingest partitions list
    """
    found = work(_list(settings_of(context)))
    if as_json:
        print_json([asdict(partition) for partition in found])
        return
    print_table(
        ("partition", "from", "until", "rows (about)", "MiB"),
        (
            (
                partition.name,
                f"{partition.lower_bound:%Y-%m-%d}",
                f"{partition.upper_bound:%Y-%m-%d}",
                partition.rows_estimate,
                f"{partition.bytes / 2**20:.1f}",
            )
            for partition in found
        ),
        empty="there are no partitions; make them with: bms-ingest partitions ensure",
        right=("rows (about)", "MiB"),
    )


@app.command(epilog=SETTINGS_EPILOG)
def ensure(context: typer.Context) -> None:
    """Make the partitions that are missing, from the oldest month that is kept to some months ahead.

    The daemon does the same every hour; this is for a machine where it does not run, or may not.

    \b
    Example:
      BMS_INGEST_PARTITIONS__MONTHS_AHEAD=6 bms-ingest partitions ensure
    """
    result = work(_ensure(settings_of(context)))
    for name in result.created:
        typer.echo(f"created partition {name}")
    if not result.created:
        typer.echo("nothing to do: every partition is there")
    typer.echo(f"readings until {result.horizon:%Y-%m-%d} (UTC, excluded) have a partition")


async def _list(settings: Settings) -> list[PartitionInfo]:
    async with opened_database(settings) as database:
        return await Partitions(database, settings.partitions, settings.retention.raw).list()


async def _ensure(settings: Settings) -> PartitionsResult:
    async with opened_database(settings) as database:
        partitions = Partitions(database, settings.partitions, settings.retention.raw)
        return await partitions.run_once(datetime.now(UTC))
