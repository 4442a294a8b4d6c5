"""Reads what lies in quarantine; for `bms-ingest quarantine`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import asyncpg

from bms_ingest.models import Reason
from bms_ingest.sql import load_queries


class _Database(Protocol):
    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]: ...


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries to list; None takes all."""

    site_id: int | None = None
    reason: Reason | None = None
    since: datetime | None = None
    """UTC-aware; compared with the last time the entry was received."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One entry without its payload."""

    id: int
    reason: str
    detail: str
    topic: str
    site_id: int | None
    position: int | None
    """0-based place in the payload's array; None when the message was not an array."""
    payload_bytes: int
    occurrences: int
    first_received_at: datetime
    last_received_at: datetime
    settled_at: datetime | None
    """When it was replayed or given up; None while somebody should look at it."""


class QuarantineEntries:
    """Lists and finds entries.

    Args:
        database: an open pool.
    """

    def __init__(self, database: _Database) -> None:
        self._database = database
        self._queries = load_queries("quarantine_list")

    async def newest(self, wanted: EntryFilter) -> list[QuarantineEntry]:
        """Return the newest entries that fit, the one received last first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                self._queries["list_entries"], wanted.site_id, wanted.reason, wanted.since, wanted.limit
            )
            return [QuarantineEntry(*row) for row in rows]

    async def find(self, entry_id: int) -> tuple[QuarantineEntry, bytes] | None:
        """Return an entry and its payload exactly as it came; None when there is no such entry."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(self._queries["find_entry"], entry_id)
        if row is None:
            return None
        *columns, payload = row
        return QuarantineEntry(*columns), bytes(payload)
