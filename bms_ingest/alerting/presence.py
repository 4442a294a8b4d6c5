"""Keeps `sites.last_seen_at`: an observer of committed batches."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import asyncpg

from bms_ingest.models import Committed
from bms_ingest.sql import load_queries


class Database(Protocol):
    """What presence asks of the database room."""

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """Lend a connection; library errors leave as StoreError."""


class Presence:
    """Moves each site's last-seen time forward, in one statement a batch.

    Last seen is event time, the newest reading's timestamp, but never later than its arrival: a site whose
    clock runs ahead is not present in the future. Seeing a batch twice changes nothing.
    """

    name = "presence"

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statement = load_queries("presence")["touch_last_seen"]

    async def observe(self, committed: Committed) -> None:
        """Record the newest reading of every site in the batch.

        Raises:
            StoreError: the database could not take it.
        """
        seen: dict[int, datetime] = {}
        for reading in committed.present:
            at = min(reading.timestamp, reading.received_at)
            known = seen.get(reading.site_id)
            if known is None or known < at:
                seen[reading.site_id] = at
        if not seen:
            return
        async with self._database.connection() as connection:
            await connection.execute(self._statement, list(seen), list(seen.values()))
