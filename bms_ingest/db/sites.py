"""Registered sites, and those that send without being registered; for `bms-ingest sites`."""

from __future__ import annotations

import re
import unicodedata
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import asyncpg

from bms_ingest.errors import BmsIngestError
from bms_ingest.sql import load_queries

SAMPLE_BYTES = 200


class _Database(Protocol):
    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]: ...


class SiteNotAddedError(BmsIngestError):
    """A site cannot be added as asked; the message says what to ask for instead."""


@dataclass(frozen=True, slots=True)
class NewSite:
    """A site to be added; what is None gets the table's default, an id the next free one."""

    organization: str
    """Name or slug; made when nobody has it."""
    name: str
    id: int | None = None
    latitude: float | None = None
    """Degrees, north is positive."""
    longitude: float | None = None
    """Degrees, east is positive."""
    nominal_voltage: float | None = None
    """V."""
    expected_interval: timedelta | None = None


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A registered site."""

    id: int
    organization: str
    """Slug."""
    name: str
    status: str
    latitude: float | None
    longitude: float | None
    nominal_voltage: float
    expected_interval: timedelta
    last_seen_at: datetime | None
    """Timestamp of the newest reading, UTC."""


@dataclass(frozen=True, slots=True)
class AddedSite:
    """What `Sites.add` did."""

    site: SiteRow
    organization_is_new: bool


@dataclass(frozen=True, slots=True)
class PendingSite:
    """A site that sends and is not registered."""

    id: int
    entries: int
    """Quarantine entries that wait for it."""
    occurrences: int
    """Readings or messages behind those entries."""
    first_seen_at: datetime
    last_seen_at: datetime
    topic: str
    sample: bytes
    """The first 200 bytes of its newest payload."""


class Sites:
    """Adds and lists sites.

    Args:
        database: an open pool.
    """

    def __init__(self, database: _Database) -> None:
        self._database = database
        self._queries = load_queries("sites")

    async def add(self, new: NewSite) -> AddedSite:
        """Add a site, and its organization when that is new, in one transaction.

        Raises:
            SiteNotAddedError: the id is taken, or the organization's name is ambiguous or holds nothing
                that a slug could be made of.
            BadRow: a value is not possible, such as a latitude of 91.
        """
        async with self._database.connection() as connection, connection.transaction():
            organization_id, is_new = await self._organization(connection, new.organization)
            site_id = await connection.fetchval(
                self._queries["add_site"],
                new.id,
                organization_id,
                new.name,
                new.latitude,
                new.longitude,
                new.nominal_voltage,
                new.expected_interval,
            )
            if site_id is None:
                raise SiteNotAddedError(
                    f"the id {new.id} is taken by another site; see: bms-ingest sites list"
                    if new.id is not None
                    else "the next free id was taken at the same moment; run the command again"
                )
            if new.id is not None:
                await connection.execute(self._queries["move_id_sequence_past"], new.id)
            row = await connection.fetchrow(self._queries["find_site"], site_id)
            return AddedSite(SiteRow(*row), is_new)

    async def registered(self, organization: str | None = None) -> list[SiteRow]:
        """Return every site, or those of an organization (name or slug), by id."""
        async with self._database.connection() as connection:
            return [
                SiteRow(*row) for row in await connection.fetch(self._queries["list_sites"], organization)
            ]

    async def pending(self) -> list[PendingSite]:
        """Return the sites that are known only from quarantine, the one heard last first."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(self._queries["list_pending"], SAMPLE_BYTES)
            return [PendingSite(*row) for row in rows]

    async def _organization(self, connection: asyncpg.Connection, wanted: str) -> tuple[int, bool]:
        slug = slug_of(wanted)
        found = await connection.fetch(self._queries["find_organizations"], slug, wanted.strip())
        if len(found) > 1 and found[0]["slug"] != slug:
            slugs = ", ".join(row["slug"] for row in found)
            raise SiteNotAddedError(
                f"several organizations are named {wanted!r}; write a slug, such as {slugs}"
            )
        if found:
            return found[0]["id"], False
        if not slug:
            raise SiteNotAddedError(
                f"no organization is named {wanted!r}, and no slug can be made of that; "
                "write a name with Latin letters or digits"
            )
        added = await connection.fetchrow(self._queries["add_organization"], wanted.strip(), slug)
        if added is None:
            raise SiteNotAddedError(
                f"the organization {slug} was added at the same moment; run the command again"
            )
        return added["id"], True


def slug_of(name: str) -> str:
    """Return a name as `organizations.slug` asks: lower case ASCII, hyphens; empty if nothing is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
