"""One site stepping through time: what its gateway would measure at the end of each interval.

A power is the mean over the interval since the previous reading, and an energy is that power times the
interval, so energies of consecutive readings add up to the energy of the whole time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from bms_ingest.demo.fleet import Site
from bms_ingest.demo.noise import uniform
from bms_ingest.demo.power_flow import BatteryLimits, Flows, share_power
from bms_ingest.demo.surroundings import Surroundings, surroundings_of

_ONE_WAY_EFFICIENCY = 0.975
_TAPER_FROM = 0.9
_RESISTANCE_OHM = 0.08
_THERMAL_SECONDS = 7200.0
_KELVIN_PER_KW = 0.45


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading before it is written down."""

    site: Site
    timestamp: datetime
    """UTC, end of the interval."""
    seconds: float
    """Length of the interval."""
    flows: Flows
    metrics: dict[str, float | None]
    """The 21 metrics by column name, in the order and units of `models.Reading`."""


class SiteModel:
    """The state of one site, moved forward by `advance`. The battery starts somewhere over its reserve."""

    def __init__(self, site: Site, start: datetime) -> None:
        self.site = site
        self.time = start
        self._capacity_kwh = site.battery_kwh * site.state_of_health / 100.0
        self._energy_kwh = self._capacity_kwh * (site.reserve + (1.0 - site.reserve) * uniform(site.seed, 0))
        self._celsius = surroundings_of(site, start).ambient_celsius

    @property
    def charge_level(self) -> float:
        """Percent of what the battery can hold today, 0..100."""
        return min(100.0, 100.0 * self._energy_kwh / self._capacity_kwh)

    def advance(self, until: datetime, around: Surroundings | None = None) -> Sample:
        """Move to `until` in one step and return what was measured on the way.

        Args:
            until: later than `time`; by minutes, because the middle stands for the whole interval.
            around: instead of the site's own surroundings.
        """
        seconds = (until - self.time).total_seconds()
        if around is None:
            around = surroundings_of(self.site, self.time + timedelta(seconds=seconds / 2.0))
        flows = share_power(self.site, self._limits(seconds / 3600.0), around)
        self._move_battery(flows.battery_kw, around.ambient_celsius, seconds)
        self.time = until
        return Sample(self.site, until, seconds, flows, self._metrics(flows, around, seconds / 3600.0))

    def _limits(self, hours: float) -> BatteryLimits:
        rate = self.site.battery_kw
        capacity, held = self._capacity_kwh, self._energy_kwh
        reserve = self.site.reserve * capacity
        tapered = rate * min(1.0, max(0.03, (1.0 - held / capacity) / (1.0 - _TAPER_FROM)))
        give, take = _ONE_WAY_EFFICIENCY / hours, 1.0 / (_ONE_WAY_EFFICIENCY * hours)
        return BatteryLimits(
            discharge_kw=min(rate, held * give),
            discharge_to_reserve_kw=min(rate, max(0.0, held - reserve) * give),
            charge_kw=min(tapered, max(0.0, capacity - held) * take),
            charge_to_reserve_kw=max(0.0, reserve - held) * take,
        )

    def _move_battery(self, power_kw: float, ambient_celsius: float, seconds: float) -> None:
        energy = power_kw * seconds / 3600.0
        self._energy_kwh -= energy / _ONE_WAY_EFFICIENCY if energy > 0.0 else energy * _ONE_WAY_EFFICIENCY
        self._energy_kwh = min(self._capacity_kwh, max(0.0, self._energy_kwh))
        goal = ambient_celsius + _KELVIN_PER_KW * abs(power_kw)
        self._celsius += (goal - self._celsius) * (1.0 - math.exp(-seconds / _THERMAL_SECONDS))

    def _metrics(self, flows: Flows, around: Surroundings, hours: float) -> dict[str, float | None]:
        volts, amperes = self._terminals(flows.battery_kw)
        first, second = (self._inverter(flows, index, around.ambient_celsius) for index in (0, 1))
        return {
            "battery_voltage": volts,
            "battery_current": amperes,
            "battery_charge_level": self.charge_level,
            "battery_temperature": self._celsius,
            "battery_state_of_health": self.site.state_of_health,
            "battery_power_kw": flows.battery_kw,
            "solar_power_kw": flows.solar_kw,
            "solar_energy_kwh": flows.solar_kw * hours,
            "solar_efficiency": around.solar_efficiency,
            "inverter1_power_kw": flows.inverter_kw[0],
            "inverter1_efficiency": first[0],
            "inverter1_temperature": first[1],
            "inverter2_power_kw": flows.inverter_kw[1],
            "inverter2_efficiency": second[0],
            "inverter2_temperature": second[1],
            "grid_voltage": around.grid_volts,
            "grid_frequency": around.grid_hertz,
            "grid_power_kw": flows.grid_kw,
            "grid_energy_kwh": flows.grid_kw * hours,
            "load_power_kw": flows.load_kw,
            "load_energy_kwh": flows.load_kw * hours,
        }

    def _terminals(self, power_kw: float) -> tuple[float, float]:
        """Voltage and current at the terminals, whose product is the power.

        The open voltage rises with the charge level, steeply at both ends, as that of lithium cells does; the
        current then solves power = (open voltage - resistance · current) · current.
        """
        level = self.charge_level / 100.0
        steep_ends = 0.06 * (1.0 - math.exp(-level / 0.06)) + 0.03 * math.exp((level - 1.0) / 0.04)
        open_volts = self.site.nominal_volts * (0.90 + steep_ends + 0.08 * level)
        watts = power_kw * 1000.0
        root = math.sqrt(open_volts * open_volts - 4.0 * _RESISTANCE_OHM * watts)
        amperes = (open_volts - root) / (2.0 * _RESISTANCE_OHM)
        return open_volts - _RESISTANCE_OHM * amperes, amperes

    def _inverter(self, flows: Flows, index: int, ambient_celsius: float) -> tuple[float, float]:
        """Efficiency in percent (0 when all it takes in is lost) and temperature in °C."""
        power, loss = flows.inverter_kw[index], flows.inverter_losses_kw[index]
        taken_in = power + loss if power > 0.0 else -power
        given_out = power if power > 0.0 else max(0.0, -power - loss)
        efficiency = 100.0 * given_out / taken_in if taken_in > 0.0 else 0.0
        return efficiency, ambient_celsius + 5.0 + 30.0 * abs(power) / self.site.inverter_kw
