"""Deliveries, decoders and generated readings for the tests of the decoder."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from bms_ingest.ingest.decoder import Decoder, camel_case
from bms_ingest.models import METRICS, Decoded, Delivery, Reading, Reason
from bms_ingest.mqtt.topics import TopicTemplate
from bms_ingest.settings import Bounds
from bms_ingest.settings_limits import DEFAULT_LIMITS

NOW = datetime(2025, 11, 22, 17, 5, tzinfo=UTC)
RECEIVED = NOW - timedelta(milliseconds=3)
SITE = 17
STAMP = "2025-11-22T17:00:00Z"
MOMENT = datetime(2025, 11, 22, 17, tzinfo=UTC)
TOPIC = f"bms/sites/{SITE}/telemetry"
LIMITS = {name: Bounds(low=low, high=high) for name, (low, high) in DEFAULT_LIMITS.items()}

DECODER = Decoder(
    TopicTemplate("bms/sites/{site_id}/telemetry").site_id,
    LIMITS,
    past=timedelta(days=90),
    ahead=timedelta(minutes=10),
    max_payload_bytes=100_000,
)


def delivery(payload: bytes, topic: str = TOPIC) -> Delivery:
    """Return a message of the site as the broker would hand it over."""
    return Delivery(topic, payload, 1, False, 1, 1, RECEIVED, 0.0)


def decode(payload: bytes | str | object, topic: str = TOPIC) -> Decoded:
    """Decode bytes, JSON text, or anything else written as JSON."""
    if isinstance(payload, str):
        payload = payload.encode()
    elif not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return DECODER.decode(delivery(payload, topic), NOW)


def only_rejection(decoded: Decoded) -> tuple[Reason, str]:
    """Return reason and detail of a payload that was rejected whole."""
    assert not decoded.readings
    (rejection,) = decoded.rejections
    assert (rejection.payload, rejection.position) == (decoded.delivery.payload, None)
    assert rejection.received_at == decoded.delivery.received_at
    return rejection.reason, rejection.detail


def moments() -> st.SearchStrategy[datetime]:
    """Moments inside the time window."""
    ahead = st.timedeltas(min_value=-timedelta(days=90), max_value=timedelta(minutes=10))
    return ahead.map(lambda offset: NOW + offset)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    """Readings of the site that can be stored, with at least one metric."""
    values: list[float | None] = []
    for name in METRICS:
        low, high = DEFAULT_LIMITS[name]
        values.append(
            draw(st.none() | st.floats(low, high) | st.integers(math.ceil(low), int(high)).map(float))
        )
    if all(value is None for value in values):
        values[draw(st.integers(0, len(METRICS) - 1))] = 50.0
    return Reading(SITE, draw(moments()), RECEIVED, *values)


@st.composite
def written(draw: st.DrawFn, reading: Reading) -> dict[str, object]:
    """One of the ways to write a reading: either spelling, order, absent or null, ISO 8601 or epoch."""
    fields: dict[str, object] = {"timestamp": draw(st.sampled_from(spellings_of(reading.timestamp)))}
    for name in METRICS:
        value = getattr(reading, name)
        if value is None and draw(st.booleans()):
            continue
        shown = int(value) if value is not None and value == int(value) and draw(st.booleans()) else value
        fields[draw(st.sampled_from([name, camel_case(name)]))] = shown
    if draw(st.booleans()):
        fields[draw(st.sampled_from(["siteId", "site_id"]))] = draw(
            st.sampled_from([SITE, str(SITE), float(SITE)])
        )
    names = draw(st.permutations(list(fields)))
    return {name: fields[name] for name in names}


def spellings_of(moment: datetime) -> list[object]:
    """Return the moment in ISO 8601 with several offsets, and as microsecond-exact epoch numbers."""
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    iso = moment.isoformat()
    spellings: list[object] = [
        iso,
        iso.replace("+00:00", "Z"),
        iso.replace("T", " "),
        moment.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
    ]
    if microseconds % 1000 == 0:
        spellings.append(microseconds // 1000)
    if microseconds % 1_000_000 == 0:
        spellings.append(microseconds // 1_000_000)
    return spellings
