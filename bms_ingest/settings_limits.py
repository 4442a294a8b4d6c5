"""The physical range of each metric: wide defaults, narrowed by what the operator writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bms_ingest.models import METRICS
from bms_ingest.settings_tree import closest

_TEMPERATURE = (-60.0, 150.0)
_POWER = (-10_000.0, 10_000.0)
_ENERGY = (0.0, 1e9)
_PERCENT = (0.0, 100.0)
DEFAULT_LIMITS: Mapping[str, tuple[float, float]] = {
    "battery_voltage": (0.0, 1500.0),
    "battery_current": (-20_000.0, 20_000.0),
    "battery_charge_level": _PERCENT,
    "battery_temperature": _TEMPERATURE,
    "battery_state_of_health": _PERCENT,
    "battery_power_kw": _POWER,
    "solar_power_kw": _POWER,
    "solar_energy_kwh": _ENERGY,
    "solar_efficiency": _PERCENT,
    "inverter1_power_kw": _POWER,
    "inverter1_efficiency": _PERCENT,
    "inverter1_temperature": _TEMPERATURE,
    "inverter2_power_kw": _POWER,
    "inverter2_efficiency": _PERCENT,
    "inverter2_temperature": _TEMPERATURE,
    "grid_voltage": (0.0, 1000.0),
    "grid_frequency": (0.0, 100.0),
    "grid_power_kw": _POWER,
    # net of export, so it may be negative
    "grid_energy_kwh": (-1e9, 1e9),
    "load_power_kw": _POWER,
    "load_energy_kwh": _ENERGY,
}
"""Lowest and highest value of a 48 to 1000 V backup-power site, both included: V, A, %, °C, kW, kWh, Hz."""


def fill_limits(given: object) -> object:
    """Return limits of every metric: the ones given, and the default of each bound that is not given.

    What is not a table is returned as it is, for pydantic to refuse.

    Raises:
        ValueError: a name that is no metric.
    """
    if not isinstance(given, Mapping):
        return given
    for name in given:
        if name not in METRICS:
            close = closest(str(name), METRICS)
            meant = f"did you mean {close}?" if close else f"write one of {', '.join(METRICS)}"
            raise ValueError(f"names no metric {str(name)[:80]!r}; {meant}")
    limits: dict[str, object] = {}
    for name in METRICS:
        low, high = DEFAULT_LIMITS[name]
        own = given.get(name, {})
        limits[name] = {"low": low, "high": high, **own} if isinstance(own, Mapping) else own
    return limits
