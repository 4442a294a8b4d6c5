"""What the demo asks of its own database: an organization with sites, and what became of the readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from bms_ingest.demo.fleet import Site
from bms_ingest.sql import load_queries

_COMMAND_SECONDS = 20.0
_PARTS = (
    ("inverter", "Northwall", "NW-3P"),
    ("inverter", "Northwall", "NW-3P"),
    ("battery", "Cellarium", "LFP Rack"),
    ("solar_panel", "Suncourt", "Mono 450"),
    ("grid_meter", "Countwell", "CW-2"),
)


@dataclass(frozen=True)
class Newest:
    """The newest reading of one site; V, kW and percent."""

    name: str
    timestamp: datetime
    battery_charge_level: float | None
    battery_power_kw: float | None
    solar_power_kw: float | None
    grid_power_kw: float | None
    grid_voltage: float | None
    load_power_kw: float | None


@dataclass(frozen=True)
class Quarantined:
    """What is in quarantine for one reason, with its newest entry as a sample."""

    reason: str
    occurrences: int
    detail: str
    topic: str


@dataclass(frozen=True)
class Presence:
    """How many sites there are, how many reported lately, and when one last did."""

    sites: int
    online: int
    last_seen_at: datetime | None


class DemoDatabase:
    """One connection to the demo's database, used by one task at a time."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._queries = load_queries("demo")

    @classmethod
    async def open(cls, dsn: str) -> DemoDatabase:
        """Connect.

        Raises:
            OSError, asyncpg.PostgresError: it does not answer.
        """
        connection = await asyncpg.connect(dsn, timeout=_COMMAND_SECONDS, command_timeout=_COMMAND_SECONDS)
        return cls(connection)

    async def close(self) -> None:
        """Disconnect; also from a server that is gone."""
        self._connection.terminate()

    async def add_sites(self, sites: Sequence[Site]) -> list[Site]:
        """Add an organization with these sites and their equipment; return them with the database's ids."""
        async with self._connection.transaction():
            organization = await self._connection.fetchval(self._queries["add_organization"])
            add_site = await self._connection.prepare(self._queries["add_site"])
            return [
                replace(site, site_id=await self._add_site(add_site, organization, site)) for site in sites
            ]

    async def _add_site(
        self, statement: asyncpg.prepared_stmt.PreparedStatement, organization: int, site: Site
    ) -> int:
        types, manufacturers, models = zip(*_PARTS, strict=True)
        capacities = [site.inverter_kw, site.inverter_kw, site.battery_kwh, site.solar_kw_peak, 30.0]
        site_id = await statement.fetchval(
            organization,
            site.name,
            site.latitude,
            site.longitude,
            site.nominal_volts,
            site.daily_kwh,
            types,
            manufacturers,
            models,
            capacities,
            site.state_of_health,
        )
        return int(site_id)

    async def newest(self, most: int) -> list[Newest]:
        """The newest reading of each of the sites that reported last."""
        return [Newest(*row) for row in await self._connection.fetch(self._queries["newest_readings"], most)]

    async def presence(self) -> Presence:
        """Count the sites."""
        return Presence(*await self._connection.fetchrow(self._queries["sites_seen"]))

    async def quarantine(self) -> list[Quarantined]:
        """What is in quarantine, by reason."""
        return [
            Quarantined(*row) for row in await self._connection.fetch(self._queries["quarantine_by_reason"])
        ]

    async def count_readings(self) -> int:
        """Count the rows of telemetry_readings."""
        return int(await self._connection.fetchval(self._queries["count_readings"]))
