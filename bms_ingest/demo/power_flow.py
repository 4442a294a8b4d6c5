"""How one site shares its power between sun, battery, grid and load, so that every kilowatt is accounted for.

Signs: solar, battery and grid are positive when they feed the site (battery: discharging, grid: import).
In every interval solar + battery + grid = load + losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bms_ingest.demo.fleet import Site
from bms_ingest.demo.surroundings import Surroundings

_STANDBY = 0.004
_PROPORTIONAL = 0.012
_QUADRATIC = 0.018
"""Losses of an inverter as shares of its rating: switched on, growing with the power, with its square."""
_GRID_CHARGE_SHARE = 0.2
"""Share of the battery's highest power with which the grid fills it up to the reserve."""


@dataclass(frozen=True, slots=True)
class BatteryLimits:
    """What the battery can do in this interval, in kW at its terminals, all positive."""

    discharge_kw: float
    """Down to empty."""
    discharge_to_reserve_kw: float
    charge_kw: float
    """Up to full."""
    charge_to_reserve_kw: float


@dataclass(frozen=True, slots=True)
class Flows:
    """Mean powers of one interval in kW."""

    solar_kw: float
    battery_kw: float
    grid_kw: float
    load_kw: float
    """What the consumers got; less than they asked for when the grid is gone and the battery empty."""
    inverter_kw: tuple[float, float]
    """AC power of each inverter: positive towards the load, negative when the grid charges the battery."""
    inverter_losses_kw: tuple[float, float]

    @property
    def losses_kw(self) -> float:
        """Losses of both inverters."""
        return sum(self.inverter_losses_kw)


class Inverters:
    """The pair of inverters between the DC bus (panels, battery) and the AC side (load, grid)."""

    def __init__(self, site: Site) -> None:
        self.rating_kw = 2.0 * site.inverter_kw
        self._shares = (site.inverter_share, 1.0 - site.inverter_share)
        self._standby = _STANDBY * site.inverter_kw
        self._quadratic = _QUADRATIC / site.inverter_kw

    def losses(self, ac_kw: float) -> tuple[float, float]:
        """Losses of each inverter when both together carry `ac_kw`, either way."""
        first, second = (self._loss(share * ac_kw) for share in self._shares)
        return first, second

    def split(self, ac_kw: float) -> tuple[float, float]:
        """AC power of each."""
        return self._shares[0] * ac_kw, self._shares[1] * ac_kw

    def dc_for(self, ac_kw: float) -> float:
        """DC power that gives `ac_kw` on the AC side."""
        return ac_kw + sum(self.losses(ac_kw))

    def ac_from(self, dc_kw: float) -> float:
        """AC power that `dc_kw` gives, the inverse of `dc_for`; negative when the grid must add to it."""
        quadratic = self._quadratic * sum(share * share for share in self._shares)
        rest = 2.0 * self._standby - dc_kw
        # dc = ac + standby + proportional·|ac| + quadratic·ac², solved for ac on either side of zero.
        linear = 1.0 + _PROPORTIONAL if rest <= 0.0 else 1.0 - _PROPORTIONAL
        root = math.sqrt(linear * linear - 4.0 * quadratic * rest)
        if rest <= 0.0:
            return (root - linear) / (2.0 * quadratic)
        return -(linear - root) / (2.0 * quadratic)

    def _loss(self, kw: float) -> float:
        return self._standby + _PROPORTIONAL * abs(kw) + self._quadratic * kw * kw


def share_power(site: Site, limits: BatteryLimits, around: Surroundings) -> Flows:
    """Decide every power of one interval.

    With the grid there, the sun serves the load, then the battery, then the grid; the battery serves the
    load down to the reserve, and the grid fills it up to the reserve. Without it, sun and battery carry the
    load alone; panels are throttled when nobody takes their power, consumers shed when nobody gives it.
    """
    inverters = Inverters(site)
    if around.grid_present:
        return _with_grid(site, inverters, limits, around)
    return _without_grid(inverters, limits, around)


def _with_grid(site: Site, inverters: Inverters, limits: BatteryLimits, around: Surroundings) -> Flows:
    load, solar = around.load_kw, around.solar_kw
    wanted = inverters.dc_for(load) - solar
    if limits.charge_to_reserve_kw > 0.0:
        from_grid = min(_GRID_CHARGE_SHARE * site.battery_kw, limits.charge_to_reserve_kw)
        battery = -min(limits.charge_kw, max(from_grid, -wanted))
    else:
        battery = min(max(wanted, -limits.charge_kw), limits.discharge_to_reserve_kw)
    highest_ac = min(load + site.export_limit_kw, inverters.rating_kw)
    surplus = solar + battery - inverters.dc_for(highest_ac)
    if surplus > 0.0:
        throttled = min(surplus, solar)
        solar -= throttled
        battery -= surplus - throttled
    ac = inverters.ac_from(solar + battery)
    return Flows(solar, battery, load - ac, load, inverters.split(ac), inverters.losses(ac))


def _without_grid(inverters: Inverters, limits: BatteryLimits, around: Surroundings) -> Flows:
    load = min(around.load_kw, inverters.rating_kw)
    needed = inverters.dc_for(load)
    battery = min(max(needed - around.solar_kw, -limits.charge_kw), limits.discharge_kw)
    solar = min(around.solar_kw, needed - battery)
    if solar + battery < needed:
        load = min(load, inverters.ac_from(solar + battery))
    if load <= 0.0:
        return Flows(0.0, 0.0, 0.0, 0.0, (0.0, 0.0), (0.0, 0.0))
    return Flows(solar, battery, 0.0, load, inverters.split(load), inverters.losses(load))
