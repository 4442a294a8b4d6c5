"""The fleet's messages: whose turn it is, what a fault does, and that the real decoder agrees."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_ingest.demo.faults import EXPLANATIONS, HELD_READINGS, REJECTED_AS, Fault, FaultPlan
from bms_ingest.demo.fleet import make_fleet
from bms_ingest.demo.stream import FleetStream, Outgoing
from bms_ingest.demo.tally import Tally
from bms_ingest.ingest.decoder import Decoder
from bms_ingest.models import Decoded, Delivery, Reason
from bms_ingest.mqtt.topics import TopicTemplate
from bms_ingest.settings import Bounds
from bms_ingest.settings_limits import DEFAULT_LIMITS

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)
SITES = 13
DECODER = Decoder(
    TopicTemplate("bms/sites/{site_id}/telemetry").site_id,
    {name: Bounds(low=low, high=high) for name, (low, high) in DEFAULT_LIMITS.items()},
    past=timedelta(days=90),
    ahead=timedelta(minutes=10),
    max_payload_bytes=1_048_576,
)
DECODED_AS = {
    fault: reason
    for fault, reason in REJECTED_AS.items()
    if reason not in (Reason.UNKNOWN_SITE, Reason.CONFLICT)
}
"""Faults that show before the database is asked."""


def stream(plan: FaultPlan | None = None, *, seed: int = 1, sites: int = SITES) -> FleetStream:
    """A fleet that begins at START."""
    return FleetStream(make_fleet(range(1, sites + 1), seed=seed), start=START, plan=plan, seed=seed)


def decode(message: Outgoing) -> Decoded:
    """What the daemon's decoder makes of a message."""
    delivery = Delivery(message.topic, message.payload, 1, False, 1, 1, NOW, 0.0)
    return DECODER.decode(delivery, NOW)


def test_without_faults_every_message_is_one_reading_of_its_own_site() -> None:
    messages = list(stream().history(START + timedelta(hours=2)))
    assert len(messages) == SITES * 24
    for message in messages:
        assert (message.stored, message.duplicate, message.rejected, message.fault) == (1, 0, None, None)
        decoded = decode(message)
        assert not decoded.rejections
        assert decoded.unknown_fields == 0
        (reading,) = decoded.readings
        assert message.topic == f"bms/sites/{reading.site_id}/telemetry"


def test_sites_read_in_turn_and_each_five_minutes_apart() -> None:
    readings = [decode(message).readings[0] for message in stream().history(START + timedelta(hours=3))]
    moments = [reading.timestamp for reading in readings]
    assert moments == sorted(moments)
    assert len(set(moments)) > SITES * 30, "sites must not all read at the same second"
    for site_id in range(1, SITES + 1):
        own = [reading.timestamp for reading in readings if reading.site_id == site_id]
        assert {later - earlier for earlier, later in pairwise(own)} == {timedelta(minutes=5)}


def test_readings_keep_their_energies_on_the_wire() -> None:
    readings = [decode(message).readings[0] for message in stream().history(START + timedelta(hours=12))]
    for reading in readings[SITES:]:
        assert reading.load_power_kw is not None
        assert reading.load_energy_kwh == pytest.approx(reading.load_power_kw / 12.0, abs=1e-4)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
@settings(max_examples=15, deadline=None)
def test_same_arguments_give_the_same_messages(seed: int, rate: float) -> None:
    first, second = (
        list(stream(FaultPlan.even(rate), seed=seed, sites=3).history(START + timedelta(hours=2)))
        for _ in range(2)
    )
    assert first == second
    assert first != list(
        stream(FaultPlan.even(rate), seed=seed + 1, sites=3).history(START + timedelta(hours=2))
    )


@pytest.mark.parametrize("fault", DECODED_AS)
def test_daemon_rejects_a_fault_for_the_reason_it_is_counted_under(fault: Fault) -> None:
    messages = list(stream(FaultPlan({fault: 1.0})).history(START + timedelta(hours=10)))
    assert len(messages) > 100
    for message in messages:
        decoded = decode(message)
        assert [rejection.reason for rejection in decoded.rejections] == [DECODED_AS[fault]]
        assert message.rejected is DECODED_AS[fault]
        assert len(decoded.readings) == message.stored
        assert message.fault is fault


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
@settings(max_examples=10, deadline=None)
def test_tally_counts_what_the_decoder_finds(seed: int, rate: float) -> None:
    tally, readings, rejections = Tally(), 0, Counter[Reason]()
    for message in stream(FaultPlan.even(rate), seed=seed).history(START + timedelta(hours=4)):
        tally.add(message)
        decoded = decode(message)
        readings += len(decoded.readings)
        rejections.update(rejection.reason for rejection in decoded.rejections)
    late = tally.rejected[Reason.CONFLICT] + tally.rejected[Reason.UNKNOWN_SITE]
    assert readings == tally.stored + tally.duplicate + late
    del tally.rejected[Reason.CONFLICT], tally.rejected[Reason.UNKNOWN_SITE]
    assert rejections == tally.rejected


def test_no_reading_of_the_fleet_has_the_key_of_another() -> None:
    stored = Counter[tuple[int, datetime]]()
    for message in stream(FaultPlan.even(0.5)).history(START + timedelta(hours=8)):
        if message.stored:
            stored.update((reading.site_id, reading.timestamp) for reading in decode(message).readings)
    assert set(stored.values()) == {1}


def test_duplicate_is_the_same_message_behind_the_first() -> None:
    messages = list(stream(FaultPlan({Fault.DUPLICATE: 1.0})).history(START + timedelta(hours=1)))
    for first, second in zip(messages[::2], messages[1::2], strict=True):
        assert (first.topic, first.payload) == (second.topic, second.payload)
        assert (first.stored, second.stored, second.duplicate) == (1, 0, 1)


def test_conflict_repeats_the_time_with_another_value() -> None:
    messages = list(stream(FaultPlan({Fault.CONFLICT: 1.0})).history(START + timedelta(hours=1)))
    for first, second in zip(messages[::2], messages[1::2], strict=True):
        (kept,), (other,) = decode(first).readings, decode(second).readings
        assert kept[:2] == other[:2]
        assert kept[3:] != other[3:]


def test_unknown_site_is_beyond_the_fleet() -> None:
    messages = stream(FaultPlan({Fault.UNKNOWN_SITE: 1.0})).history(START + timedelta(hours=2))
    strangers = [decode(m).readings[0].site_id for m in messages if m.fault is Fault.UNKNOWN_SITE]
    assert strangers
    assert min(strangers) > SITES


@pytest.mark.parametrize("fault", [Fault.LATE_BATCH, Fault.BAD_ELEMENT])
def test_held_readings_come_as_one_array_and_none_is_lost(fault: Fault) -> None:
    messages = list(stream(FaultPlan({fault: 1.0}), sites=2).history(START + timedelta(hours=5)))
    moments: list[datetime] = []
    for message in messages:
        assert message.stored == HELD_READINGS
        document: Any = json.loads(message.payload)
        elements = document if isinstance(document, list) else document["readings"]
        assert len(elements) == HELD_READINGS + (fault is Fault.BAD_ELEMENT)
        if message.topic == "bms/sites/1/telemetry":
            moments += [reading.timestamp for reading in decode(message).readings]
    assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(minutes=5)}


def test_gateway_goes_back_to_single_readings_after_an_array() -> None:
    for fault in (Fault.LATE_BATCH, Fault.BAD_ELEMENT):
        messages = list(stream(FaultPlan({fault: 0.05}), sites=1).history(NOW))
        arrays = [place for place, message in enumerate(messages) if message.fault is fault]
        assert len(arrays) > 2
        assert any(messages[place + 1].fault is None for place in arrays[:-1])


def test_both_kinds_of_array_are_sent() -> None:
    messages = stream(FaultPlan({Fault.LATE_BATCH: 1.0})).history(START + timedelta(hours=5))
    assert {message.payload[:1] for message in messages} == {b"[", b"{"}


def test_faults_strike_as_often_as_planned() -> None:
    tally = Tally()
    for message in stream(FaultPlan({Fault.GARBAGE: 0.1, Fault.DUPLICATE: 0.05})).history(NOW):
        tally.add(message)
    readings = SITES * 288
    assert tally.faults[Fault.GARBAGE] / readings == pytest.approx(0.1, rel=0.2)
    assert tally.faults[Fault.DUPLICATE] / readings == pytest.approx(0.05, rel=0.25)
    assert tally.entries == readings + tally.faults[Fault.DUPLICATE]


@pytest.mark.parametrize("rates", [{Fault.GARBAGE: 0.6, Fault.NOT_FINITE: 0.6}, {Fault.GARBAGE: -0.1}])
def test_impossible_fault_rates_are_refused(rates: dict[Fault, float]) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        FaultPlan(rates)


def test_own_rate_of_a_fault_goes_before_its_share() -> None:
    plan = FaultPlan.even(0.13, {Fault.GARBAGE: 0.5})
    assert plan.rates[Fault.GARBAGE] == 0.5
    assert plan.rates[Fault.CONFLICT] == pytest.approx(0.01)


def test_after_history_the_fleet_goes_live_without_a_backlog() -> None:
    fleet, live = stream(), timedelta(seconds=2)
    now = START + timedelta(hours=1, seconds=47)
    while fleet.next_due <= now:
        fleet.step(now, live)
    live_moments: list[datetime] = []
    for _ in range(SITES * 5):
        now = max(now, fleet.next_due)
        live_moments += [reading.timestamp for m in fleet.step(now, live) for reading in decode(m).readings]
    assert live_moments[-1] - live_moments[0] < 7 * live
    assert all(moment <= now for moment in live_moments)
    assert live_moments[0] > START + timedelta(hours=1, seconds=47)
    now += timedelta(minutes=3)
    for _ in range(SITES):
        fleet.step(now, live)
    assert fleet.next_due >= now, "what was missed while live is left out"


def test_topics_follow_the_template() -> None:
    fleet = FleetStream(
        make_fleet([4, 5]),
        start=START,
        plan=FaultPlan({Fault.UNKNOWN_SITE: 1.0}),
        telemetry_topic="x/{site_id}/t",
    )
    topics = {message.topic for message in fleet.history(START + timedelta(hours=1))}
    assert topics > {"x/4/t", "x/5/t"}
    assert all(topic.startswith("x/") and topic.endswith("/t") for topic in topics)


@pytest.mark.parametrize("fault", Fault)
def test_fault_is_documented_with_what_becomes_of_it(fault: Fault) -> None:
    page = Path(__file__).parents[2] / "docs" / "demo.md"
    (row,) = [line for line in page.read_text().splitlines() if line.startswith(f"| `{fault}` |")]
    assert EXPLANATIONS[fault] in row
    assert REJECTED_AS.get(fault, "") in row
