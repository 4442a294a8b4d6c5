"""What happens to a site from outside: weather, load and grid, as pure functions of site and time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from bms_ingest.demo.fleet import Site
from bms_ingest.demo.noise import smooth, uniform
from bms_ingest.demo.sun import clear_sky_irradiance, sine_of_elevation, solar_hour

_OUTAGE_BLOCK_SECONDS = 6 * 3600
_SHORTEST_OUTAGE_SECONDS = 300.0
_LONGEST_OUTAGE_SECONDS = 5 * 3600.0
_SYSTEM_YIELD = 0.86
"""Share of the panels' rated output that reaches the DC bus: dirt, wiring, mismatch."""

_CLOUDS, _AMBIENT, _LOAD, _LOAD_FAST, _OUTAGE, _OUTAGE_START, _OUTAGE_LENGTH, _VOLTS, _HERTZ = range(9)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Averages over one interval; a failed grid has 0 V and 0 Hz."""

    solar_kw: float
    """What the panels could give to the DC bus."""
    solar_efficiency: float | None
    """Percent of the light that the panels turn into power; None in the dark."""
    ambient_celsius: float
    load_kw: float
    """What the site's consumers ask for."""
    grid_volts: float
    grid_hertz: float

    @property
    def grid_present(self) -> bool:
        """Whether the grid is there."""
        return self.grid_volts > 0.0


def surroundings_of(site: Site, moment: datetime) -> Surroundings:
    """Return what surrounds the site around `moment` (UTC), the middle of an interval of some minutes."""
    seconds = moment.timestamp()
    irradiance = clear_sky_irradiance(sine_of_elevation(moment, site.latitude, site.longitude))
    irradiance *= _clearness(site, seconds)
    ambient = _ambient_celsius(site, moment, seconds)
    solar_kw, efficiency = 0.0, None
    if irradiance > 1.0:
        # Cells run about 30 K over the air in full sun and lose 0.4 % of their output a kelvin over 25 °C.
        derating = 1.0 - 0.004 * (ambient + 0.03 * irradiance - 25.0)
        solar_kw = site.solar_kw_peak * irradiance / 1000.0 * _SYSTEM_YIELD * derating
        efficiency = 20.5 * derating
    failed = _grid_failed(site, seconds)
    volts = 0.97 + 0.06 * _noise(site, _VOLTS, seconds, 900.0)
    hertz = 0.2 * (_noise(site, _HERTZ, seconds, 120.0) - 0.5)
    return Surroundings(
        solar_kw=solar_kw,
        solar_efficiency=efficiency,
        ambient_celsius=ambient,
        load_kw=_load_kw(site, moment, seconds),
        grid_volts=0.0 if failed else site.place.grid_volts * volts,
        grid_hertz=0.0 if failed else site.place.grid_hertz + hertz,
    )


def _noise(site: Site, kind: int, seconds: float, period_seconds: float) -> float:
    return smooth(site.seed + kind, seconds / period_seconds)


def _clearness(site: Site, seconds: float) -> float:
    """Share of the clear sky's light that comes through the clouds: slow weather with quick gaps in it."""
    cover = 0.65 * _noise(site, _CLOUDS, seconds, 9 * 3600.0) + 0.35 * _noise(site, _CLOUDS, seconds, 1500.0)
    return 1.0 - 0.75 * max(0.0, cover - 0.35) / 0.65


def _ambient_celsius(site: Site, moment: datetime, seconds: float) -> float:
    day = moment.timetuple().tm_yday
    season = -math.cos(2.0 * math.pi * (day - 20) / 365.0) * site.latitude / 4.0
    warmest_at_three = math.cos(2.0 * math.pi * (solar_hour(moment, site.longitude) - 15.0) / 24.0)
    weather = 4.0 * (_noise(site, _AMBIENT, seconds, 43_200.0) - 0.5)
    return site.place.mean_celsius + season + 5.0 * warmest_at_three + weather


def _bump(hour: float, centre: float, width: float) -> float:
    distance = abs(hour - centre)
    return math.exp(-((min(distance, 24.0 - distance) / width) ** 2))


def _profile(hour: float) -> float:
    return 0.6 + 0.4 * _bump(hour, 7.5, 1.5) + 0.5 * _bump(hour, 14.0, 3.0) + 0.9 * _bump(hour, 19.5, 2.0)


_PROFILE_MEAN = sum(_profile(quarter / 4.0) for quarter in range(96)) / 96.0


def _load_kw(site: Site, moment: datetime, seconds: float) -> float:
    """Follows the day, and over a day comes to the site's daily consumption, a few percent more or less."""
    shape = _profile(solar_hour(moment, site.longitude)) / _PROFILE_MEAN
    slow = 0.85 + 0.3 * _noise(site, _LOAD, seconds, 3600.0)
    fast = 0.9 + 0.2 * _noise(site, _LOAD_FAST, seconds, 240.0)
    return site.daily_kwh / 24.0 * shape * slow * fast


def _grid_failed(site: Site, seconds: float) -> bool:
    block = int(seconds // _OUTAGE_BLOCK_SECONDS)
    return any(_outage_covers(site, index, seconds) for index in (block - 1, block))


def _outage_covers(site: Site, block: int, seconds: float) -> bool:
    """Whether the outage that starts in this block of six hours, if one does, covers the moment."""
    if uniform(site.seed + _OUTAGE, block) >= site.place.outages_per_day * _OUTAGE_BLOCK_SECONDS / 86_400.0:
        return False
    start = (block + uniform(site.seed + _OUTAGE_START, block)) * _OUTAGE_BLOCK_SECONDS
    spread = uniform(site.seed + _OUTAGE_LENGTH, block) ** 2
    length = _SHORTEST_OUTAGE_SECONDS + spread * (_LONGEST_OUTAGE_SECONDS - _SHORTEST_OUTAGE_SECONDS)
    return start <= seconds < start + length
