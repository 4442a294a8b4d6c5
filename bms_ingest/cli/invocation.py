"""What every command starts with: its settings, the log, and an event loop with the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bms_ingest import log
from bms_ingest.db.pool import Database
from bms_ingest.errors import BadRow, StoreError
from bms_ingest.settings import Settings, load_settings

SETTINGS_EPILOG = (
    "Settings: BMS_INGEST_DATABASE__DSN and BMS_INGEST_MQTT__URL at least (or ..._FILE, naming a file that "
    "holds it), in the environment or in the TOML file of --config; all of them: bms-ingest config show."
)
"""Stands below the help of every command that needs the settings."""

SCHEMA_MISSING = ("3F000", "42703", "42883", "42P01")
"""SQLSTATEs of a schema, column, function or table that is not there."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options; kept in the context of the command."""

    config: Path | None


def settings_of(context: typer.Context, *, daemon: bool = False) -> Settings:
    """Load the settings that the invocation names and set up logging.

    A command that is not the daemon prints what it did; the log says the same only at level debug.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    invocation: Invocation = context.obj
    settings = load_settings(invocation.config)
    quiet = settings.log.level == "info" and not daemon
    log.configure(settings.log.model_copy(update={"level": "warning"}) if quiet else settings.log)
    return settings


def work(task: Coroutine[Any, Any, T]) -> T:
    """Run the command's work in an event loop; Ctrl-C cancels it."""
    return asyncio.run(task)


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """An open pool, named so that `pg_stat_activity` tells it from the daemon's.

    Raises:
        StoreError: as `Database`; the message says where to look next.
    """
    database = Database(settings.database, application_name="bms-ingest command", size=1)
    await database.open()
    try:
        yield database
    except StoreError as error:
        raise type(error)(
            f"the database cannot do this: {error}; {_advice(error)}", sqlstate=error.sqlstate
        ) from error
    finally:
        await database.close()


def _advice(error: StoreError) -> str:
    if error.sqlstate in SCHEMA_MISSING:
        return "run: bms-ingest migrate"
    if isinstance(error, BadRow):
        return "write another value"
    return "find out more with: bms-ingest doctor"
