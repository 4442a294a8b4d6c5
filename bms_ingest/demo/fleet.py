"""The sites of a simulated fleet: where they stand and what is built there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Dialect(StrEnum):
    """How a site's gateway writes its readings; the topic contract allows all of them."""

    CAMEL_ISO = "camel_iso"
    SNAKE_ISO = "snake_iso"
    CAMEL_EPOCH = "camel_epoch"


@dataclass(frozen=True, slots=True)
class Place:
    """A town with the grid that is there; coordinates in degrees, volts between phase and neutral."""

    name: str
    latitude: float
    longitude: float
    grid_volts: float
    grid_hertz: float
    mean_celsius: float
    outages_per_day: float


@dataclass(frozen=True, slots=True)
class Site:
    """One site with battery, solar, grid connection and two inverters; never changes."""

    site_id: int
    seed: int
    """Everything random about this site derives from it."""
    name: str
    place: Place
    latitude: float
    longitude: float
    nominal_volts: float
    battery_kwh: float
    battery_kw: float
    """Highest power of the battery, either way."""
    state_of_health: float
    """Percent of `battery_kwh` that is left."""
    reserve: float
    """Share of the battery, 0..1, that is kept for grid failures."""
    solar_kw_peak: float
    inverter_kw: float
    """Rated AC power of each of the two inverters."""
    inverter_share: float
    """What the first inverter carries of the whole, 0..1."""
    export_limit_kw: float
    daily_kwh: float
    dialect: Dialect


_PLACES = (
    Place("Lagos", 6.52, 3.38, 230.0, 50.0, 27.0, 0.9),
    Place("Nairobi", -1.29, 36.82, 240.0, 50.0, 19.0, 0.4),
    Place("Johannesburg", -26.20, 28.05, 230.0, 50.0, 16.0, 0.8),
    Place("Beirut", 33.89, 35.50, 230.0, 50.0, 21.0, 1.2),
    Place("Karachi", 24.86, 67.01, 230.0, 50.0, 26.0, 0.8),
    Place("Dhaka", 23.81, 90.41, 230.0, 50.0, 26.0, 0.6),
    Place("Manila", 14.60, 120.98, 230.0, 60.0, 27.0, 0.4),
    Place("Darwin", -12.46, 130.84, 230.0, 50.0, 27.0, 0.1),
    Place("Puerto Rico", 18.22, -66.43, 120.0, 60.0, 26.0, 0.5),
    Place("Phoenix", 33.45, -112.07, 120.0, 60.0, 24.0, 0.05),
    Place("Recife", -8.05, -34.88, 220.0, 60.0, 26.0, 0.2),
    Place("Seville", 37.39, -5.98, 230.0, 50.0, 19.0, 0.05),
)


def make_fleet(site_ids: Sequence[int], *, seed: int = 1) -> list[Site]:
    """Build one site for each id; the same ids and seed give the same fleet.

    Sites take their places in turn, scattered some 30 km around them.
    """
    return [_make_site(site_id, index, seed) for index, site_id in enumerate(site_ids)]


def _make_site(site_id: int, index: int, seed: int) -> Site:
    random = Random(f"site {seed} {index}")
    place = _PLACES[index % len(_PLACES)]
    daily_kwh = random.uniform(60.0, 70.0)
    return Site(
        site_id=site_id,
        seed=random.getrandbits(48),
        name=f"{place.name} {index // len(_PLACES) + 1}",
        place=place,
        latitude=round(place.latitude + random.uniform(-0.3, 0.3), 5),
        longitude=round(place.longitude + random.uniform(-0.3, 0.3), 5),
        nominal_volts=random.choice((480.0, 500.0, 500.0, 512.0)),
        battery_kwh=float(random.choice((60, 80, 100, 120))),
        battery_kw=float(random.choice((15, 20, 25))),
        state_of_health=round(random.uniform(86.0, 100.0), 1),
        reserve=random.choice((0.4, 0.5, 0.6)),
        solar_kw_peak=round(random.uniform(12.0, 24.0), 1),
        inverter_kw=random.choice((8.0, 10.0, 12.0)),
        inverter_share=random.uniform(0.47, 0.53),
        export_limit_kw=random.choice((0.0, 5.0, 10.0)),
        daily_kwh=round(daily_kwh, 2),
        dialect=random.choice((Dialect.CAMEL_ISO, Dialect.CAMEL_ISO, Dialect.SNAKE_ISO, Dialect.CAMEL_EPOCH)),
    )
