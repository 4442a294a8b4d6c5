"""`bms-ingest migrate`: the schema."""

from __future__ import annotations

from datetime import UTC, datetime

import typer

from bms_ingest.cli.invocation import opened_database, settings_of, work
from bms_ingest.db.migrations import MigrationReport, Migrator
from bms_ingest.maintenance.partitions import Partitions, PartitionsResult
from bms_ingest.settings import Settings


def migrate(context: typer.Context) -> None:
    """Bring the database to the schema of this version, and make the partitions ahead.

    Safe to run at any time, from several machines at once, and again after a failure: what is done is
    done, and a migration that fails leaves nothing behind. Run it before the first start and after every
    upgrade. It needs a role that owns the tables.

    \b
    Example:
      BMS_INGEST_DATABASE__DSN=postgresql://owner@localhost/bms bms-ingest migrate
    """
    report, partitions = work(_migrate(settings_of(context)))
    for name in report.migrations:
        typer.echo(f"applied migration {name}")
    for name in report.functions:
        typer.echo(f"applied functions of {name}")
    for name in partitions.created:
        typer.echo(f"created partition {name}")
    if not (report.migrations or report.functions or partitions.created):
        typer.echo("nothing to do: the schema is current")
    typer.echo(f"readings until {partitions.horizon:%Y-%m-%d} (UTC, excluded) have a partition")


async def _migrate(settings: Settings) -> tuple[MigrationReport, PartitionsResult]:
    async with opened_database(settings) as database:
        report = await Migrator(database).run()
        partitions = Partitions(database, settings.partitions, settings.retention.raw)
        return report, await partitions.run_once(datetime.now(UTC))
