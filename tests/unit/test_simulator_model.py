"""The simulated site obeys physics: power balances, energies add up, the sun sets, batteries end."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_ingest.demo.fleet import Site, make_fleet
from bms_ingest.demo.noise import smooth
from bms_ingest.demo.power_flow import Inverters
from bms_ingest.demo.site_model import Sample, SiteModel
from bms_ingest.demo.sun import clear_sky_irradiance, sine_of_elevation, solar_hour
from bms_ingest.demo.surroundings import Surroundings, surroundings_of
from bms_ingest.models import METRICS
from bms_ingest.settings_limits import DEFAULT_LIMITS

FIVE_MINUTES = timedelta(minutes=5)
MIDNIGHT = datetime(2026, 6, 21, tzinfo=UTC)

sites = st.builds(
    lambda seed, index: make_fleet(range(1, index + 2), seed=seed)[index],
    st.integers(0, 2**32),
    st.integers(0, 23),
)
moments = st.integers(0, 6 * 365 * 86_400).map(lambda seconds: MIDNIGHT + timedelta(seconds=seconds))
steps = st.lists(st.integers(2, 900), min_size=1, max_size=40)
anything_outside = st.builds(
    Surroundings,
    solar_kw=st.floats(0.0, 30.0),
    solar_efficiency=st.just(20.0),
    ambient_celsius=st.floats(-30.0, 50.0),
    load_kw=st.floats(0.0, 40.0),
    grid_volts=st.sampled_from((0.0, 230.0)),
    grid_hertz=st.just(50.0),
)


def metric(sample: Sample, name: str) -> float:
    """Return a metric that must be there."""
    value = sample.metrics[name]
    assert value is not None
    return value


def imbalance_kw(sample: Sample) -> float:
    """What the site took in less what it gave out, by what its gateway measures."""
    taken_in = sum(metric(sample, name) for name in ("solar_power_kw", "grid_power_kw", "battery_power_kw"))
    return taken_in - metric(sample, "load_power_kw") - sample.flows.losses_kw


def walk(site: Site, start: datetime, count: int) -> list[Sample]:
    """Five-minute samples one after the other."""
    model = SiteModel(site, start)
    return [model.advance(start + number * FIVE_MINUTES) for number in range(1, count + 1)]


@given(sites, moments, st.lists(st.tuples(st.integers(2, 900), anything_outside), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_power_balances_and_the_battery_keeps_its_limits_whatever_happens_outside(
    site: Site, start: datetime, happenings: list[tuple[int, Surroundings]]
) -> None:
    model = SiteModel(site, start)
    for seconds, outside in happenings:
        sample = model.advance(model.time + timedelta(seconds=seconds), outside)
        assert abs(imbalance_kw(sample)) < 1e-9
        assert sample.flows.losses_kw >= 0.0
        assert 0.0 <= metric(sample, "battery_charge_level") <= 100.0
        assert abs(sample.flows.battery_kw) <= site.battery_kw + 1e-9
        assert -1e-9 <= sample.flows.solar_kw <= outside.solar_kw + 1e-9
        assert sample.flows.load_kw <= outside.load_kw + 1e-9
        ac_kw = metric(sample, "inverter1_power_kw") + metric(sample, "inverter2_power_kw")
        assert math.isclose(ac_kw + sample.flows.grid_kw, sample.flows.load_kw, abs_tol=1e-9)
        assert abs(ac_kw) <= 2.0 * site.inverter_kw + 1e-9
        assert sample.flows.grid_kw >= -site.export_limit_kw - 1e-9
        if not outside.grid_present:
            assert sample.flows.grid_kw == 0.0


@given(sites, moments, steps)
@settings(max_examples=60, deadline=None)
def test_energies_are_the_integral_of_the_powers(site: Site, start: datetime, seconds: list[int]) -> None:
    model = SiteModel(site, start)
    samples = [model.advance(model.time + timedelta(seconds=step)) for step in seconds]
    hours = sum(seconds) / 3600.0
    for source in ("solar", "grid", "load"):
        energy = sum(metric(sample, f"{source}_energy_kwh") for sample in samples)
        integral = sum(
            metric(sample, f"{source}_power_kw") * step / 3600.0
            for sample, step in zip(samples, seconds, strict=True)
        )
        assert math.isclose(energy, integral, abs_tol=1e-9 * max(1.0, hours))


@given(sites, moments, st.lists(st.tuples(st.integers(60, 900), anything_outside), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_battery_gives_back_no_more_than_it_took(
    site: Site, start: datetime, happenings: list[tuple[int, Surroundings]]
) -> None:
    model = SiteModel(site, start)
    capacity_kwh = site.battery_kwh * site.state_of_health / 100.0
    held_kwh = model.charge_level / 100.0 * capacity_kwh
    given_kwh = 0.0
    for seconds, outside in happenings:
        sample = model.advance(model.time + timedelta(seconds=seconds), outside)
        given_kwh += sample.flows.battery_kw * seconds / 3600.0
    assert given_kwh <= held_kwh - model.charge_level / 100.0 * capacity_kwh + 1e-6


@given(sites, moments)
@settings(max_examples=200, deadline=None)
def test_night_has_no_sun(site: Site, moment: datetime) -> None:
    sines = [
        sine_of_elevation(moment + offset, site.latitude, site.longitude)
        for offset in (timedelta(0), FIVE_MINUTES / 2, FIVE_MINUTES)
    ]
    sample = SiteModel(site, moment).advance(moment + FIVE_MINUTES)
    if max(sines) < 0.0:
        assert sample.flows.solar_kw == 0.0
        assert sample.metrics["solar_efficiency"] is None
    if min(sines) > 0.2:
        assert surroundings_of(site, moment + FIVE_MINUTES / 2).solar_kw > 0.0


@given(st.floats(-65.0, 65.0), st.floats(-180.0, 180.0))
def test_sun_culminates_where_astronomy_says(latitude: float, longitude: float) -> None:
    sines = [
        sine_of_elevation(MIDNIGHT + timedelta(minutes=minute), latitude, longitude)
        for minute in range(0, 1440, 4)
    ]
    highest = math.degrees(math.asin(max(sines)))
    # On the June solstice the sun stands over the tropic of Cancer, 23.44 degrees north.
    assert highest == pytest.approx(90.0 - abs(latitude - 23.44), abs=0.6)
    noon = MIDNIGHT + timedelta(minutes=4 * sines.index(max(sines)))
    # The equation of time is below two minutes then.
    assert abs((solar_hour(noon, longitude) - 12.0 + 12.0) % 24.0 - 12.0) < 0.15


def test_clear_noon_at_the_equator_gives_about_a_kilowatt() -> None:
    assert 1000.0 < clear_sky_irradiance(1.0) < 1100.0
    assert clear_sky_irradiance(0.0) == clear_sky_irradiance(-0.5) == 0.0


def failed_grid_at_night(load_kw: float) -> Surroundings:
    """A night without grid."""
    return Surroundings(0.0, None, 15.0, load_kw, 0.0, 0.0)


@given(sites, st.floats(0.5, 12.0))
@settings(max_examples=50, deadline=None)
def test_grid_failure_empties_the_battery_and_then_sheds_the_load(site: Site, load_kw: float) -> None:
    model = SiteModel(site, MIDNIGHT)
    first_level = model.charge_level
    outage = failed_grid_at_night(load_kw)
    samples = [model.advance(model.time + timedelta(minutes=15), outage) for _ in range(4 * 24 * 14)]
    levels = [first_level, *(metric(sample, "battery_charge_level") for sample in samples)]
    assert samples[0].flows.load_kw == pytest.approx(load_kw)
    assert all(later <= earlier for earlier, later in pairwise(levels))
    assert all(later < earlier for earlier, later in pairwise(levels) if earlier > 1.0)
    assert levels[-1] < 1.0
    assert samples[-1].flows.load_kw == 0.0
    assert metric(samples[-1], "grid_voltage") == metric(samples[-1], "grid_frequency") == 0.0


@given(sites)
@settings(max_examples=40, deadline=None)
def test_grid_fills_the_battery_up_to_its_reserve_and_no_further(site: Site) -> None:
    model = SiteModel(site, MIDNIGHT)
    for _ in range(4 * 24 * 14):
        model.advance(model.time + timedelta(minutes=15), failed_grid_at_night(3.0))
    night = replace(failed_grid_at_night(1.0), grid_volts=230.0, grid_hertz=50.0)
    for _ in range(4 * 24 * 4):
        model.advance(model.time + timedelta(minutes=15), night)
    assert model.charge_level == pytest.approx(100.0 * site.reserve, abs=0.5)


@given(sites, st.floats(-20.0, 20.0))
def test_inverter_curve_can_be_read_both_ways(site: Site, ac_kw: float) -> None:
    inverters = Inverters(site)
    assert inverters.ac_from(inverters.dc_for(ac_kw)) == pytest.approx(ac_kw, abs=1e-9)


@given(sites, moments, steps)
@settings(max_examples=40, deadline=None)
def test_every_metric_is_measured_and_physical(site: Site, start: datetime, seconds: list[int]) -> None:
    model = SiteModel(site, start)
    for step in seconds:
        sample = model.advance(model.time + timedelta(seconds=step))
        assert tuple(sample.metrics) == METRICS
        for name, value in sample.metrics.items():
            low, high = DEFAULT_LIMITS[name]
            assert value is None or low <= value <= high, name
        watts = metric(sample, "battery_voltage") * metric(sample, "battery_current")
        assert watts == pytest.approx(1000.0 * metric(sample, "battery_power_kw"), abs=1e-6)
        assert 0.85 < metric(sample, "battery_voltage") / site.nominal_volts < 1.15


def test_a_fleet_lives_through_days_as_sites_do() -> None:
    fleet = make_fleet(range(1, 25), seed=5)
    days = 4
    failures, exports, daily = 0, 0, []
    for site in fleet:
        samples = walk(site, MIDNIGHT, 288 * days)
        failures += sum(sample.metrics["grid_voltage"] == 0.0 for sample in samples)
        exports += sum(sample.flows.grid_kw < -0.1 for sample in samples)
        daily.append(sum(metric(sample, "load_energy_kwh") for sample in samples) / days)
        levels = [metric(sample, "battery_charge_level") for sample in samples]
        assert max(levels) - min(levels) > 5.0, "a battery must fill and empty"
        loads = [sample.flows.load_kw for sample in samples]
        assert max(loads) > 1.8 * min(load for load in loads if load > 0.0), "the load must follow the day"
    assert all(55.0 < kwh < 76.0 for kwh in daily)
    assert 60.0 < sum(daily) / len(daily) < 70.0
    assert 0.005 < failures / (288 * days * len(fleet)) < 0.2
    assert exports > 0


def test_sites_of_a_fleet_are_of_the_size_of_the_schema_document() -> None:
    for site in make_fleet(range(10, 110), seed=3):
        assert 60.0 <= site.daily_kwh <= 70.0
        assert -60.0 < site.latitude < 60.0
        assert -180.0 <= site.longitude <= 180.0
        assert 0.0 < site.reserve < 1.0


@given(st.integers(0, 2**48), st.floats(-1e6, 1e6))
def test_noise_is_smooth_and_bounded(seed: int, position: float) -> None:
    here, near = smooth(seed, position), smooth(seed, position + 1e-3)
    assert 0.0 <= here < 1.0
    assert abs(here - near) < 2e-3


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_same_seed_gives_the_same_site_and_samples(seed: int) -> None:
    first, second = (make_fleet([1, 2, 3], seed=seed)[2] for _ in range(2))
    assert first == second
    assert [s.metrics for s in walk(first, MIDNIGHT, 50)] == [s.metrics for s in walk(second, MIDNIGHT, 50)]
    other = make_fleet([1, 2, 3], seed=seed + 1)[2]
    assert [s.metrics for s in walk(first, MIDNIGHT, 5)] != [s.metrics for s in walk(other, MIDNIGHT, 5)]
