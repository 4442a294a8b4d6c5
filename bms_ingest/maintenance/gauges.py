"""Reads from the database what no process can count: open alerts, sites online, rollup lag, horizon."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Protocol

import asyncpg

from bms_ingest.metrics import SEVERITIES, Metrics
from bms_ingest.sql import load_queries


class Database(Protocol):
    """What this job asks of the database room."""

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection; library errors leave as StoreError."""


class Horizon(Protocol):
    """What this job asks of the partitions."""

    async def horizon(self) -> datetime:
        """Until when partitions exist without a gap, exclusive."""


class Gauges:
    """Sets the gauges whose truth is in the database, so that every replica exports the same."""

    def __init__(self, database: Database, partitions: Horizon, metrics: Metrics) -> None:
        self._database = database
        self._partitions = partitions
        self._metrics = metrics
        self._queries = load_queries("gauges")
        metrics.partition_horizon_days.set(0)

    async def run_once(self) -> None:
        """Read and set every gauge.

        Raises:
            StoreError: the database could not answer; the gauges keep their last values.
        """
        async with self._database.connection() as connection:
            alerts = {
                row["severity"]: row["alerts"] for row in await connection.fetch(self._queries["open_alerts"])
            }
            for severity in SEVERITIES:
                self._metrics.alerts_open.labels(severity).set(alerts.get(severity, 0))
            self._metrics.sites_online.set(await connection.fetchval(self._queries["sites_online"]))
            self._metrics.rollup_lag_seconds.set(
                await connection.fetchval(self._queries["rollup_lag_seconds"])
            )
        ahead = await self._partitions.horizon() - datetime.now(UTC)
        self._metrics.partition_horizon_days.set(round(ahead.total_seconds() / 86_400, 2))
