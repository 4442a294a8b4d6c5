"""What `/readyz` asks: schema, broker, database, partition horizon; each answers with None or what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from bms_ingest.db.migrations import Migrator
from bms_ingest.db.pool import Database
from bms_ingest.ingest.committer import Committer
from bms_ingest.ingest.subscriber import Subscriber
from bms_ingest.ingest.writer import Writer
from bms_ingest.maintenance.partitions import Partitions
from bms_ingest.sql import load_queries
from bms_ingest.web.checks import Check

HORIZON_NEEDED = timedelta(days=7)
"""With less than this ahead, somebody must look before readings have nowhere to go."""


def readiness_checks(
    migrator: Migrator,
    database: Database,
    subscriber: Subscriber,
    writer: Writer,
    committer: Committer,
    partitions: Partitions,
) -> Sequence[Check]:
    """Make the checks of a daemon's stages; each raises StoreError when the database does not answer."""
    ping = load_queries("readiness")["ping"]

    async def database_answers() -> str | None:
        async with database.connection() as connection:
            if await connection.fetchval(ping):
                return "the database is a standby and takes no writes; point database.dsn at the primary"
        trouble = writer.trouble or committer.trouble
        return f"the last batch waits: {trouble}" if trouble else None

    async def schema_is_current() -> str | None:
        return (await migrator.status()).trouble()

    async def broker_is_subscribed() -> str | None:
        return subscriber.trouble

    async def partitions_reach() -> str | None:
        ahead = await partitions.horizon() - datetime.now(UTC)
        if ahead < HORIZON_NEEDED:
            return f"partitions reach only {ahead.days} days ahead; run: bms-ingest partitions ensure"
        return None

    return (
        Check("database", database_answers),
        Check("schema", schema_is_current),
        Check("broker", broker_is_subscribed),
        Check("partitions", partitions_reach),
    )
