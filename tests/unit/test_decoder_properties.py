"""What holds for every payload: nothing raises, nothing vanishes, neighbours and bytes stay as they are."""

from __future__ import annotations

import json
import math
import struct
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bms_ingest.ingest.decoder import camel_case
from bms_ingest.ingest.elements import cut
from bms_ingest.models import METRICS, Decoded, Reading, Reason
from bms_ingest.settings_limits import DEFAULT_LIMITS
from tests.unit.decoding import NOW, RECEIVED, SITE, decode, readings, written

SPELLED = {spelling: name for name in METRICS for spelling in (name, camel_case(name))}
NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1e-999",
    "-0",
    "0.0",
    "1" * 400,
    "1" * 5000,
    "1E5",
    "1" * 400 + ".5",
]
JSON_TEXTS = st.recursive(
    st.sampled_from(
        [*NUMBERS, "null", "true", "false", '""', '"\\ud800"', '"\\u0000"', '"2025-11-22T17:00Z"']
    )
    | st.integers().map(str)
    | st.floats().map(json.dumps)
    | st.text(max_size=10).map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(
            st.tuples(
                st.sampled_from(["timestamp", "siteId", "site_id", "readings", *SPELLED])
                | st.text(max_size=5),
                inner,
            ),
            max_size=5,
        ).map(lambda items: "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in items) + "}")
    ),
    max_leaves=12,
)


def check_ledger(decoded: Decoded) -> None:
    """Check what holds for every result, whatever went in."""
    assert len(decoded.readings) + len(decoded.rejections) >= 1
    assert decoded.unknown_fields >= 0
    rejected = [rejection.position for rejection in decoded.rejections]
    if decoded.positions is None:
        assert len(decoded.readings) + len(decoded.rejections) == 1
        assert rejected in ([], [None])
    else:
        assert len(decoded.positions) == len(decoded.readings)
        places = [*decoded.positions, *(place for place in rejected if place is not None)]
        assert sorted(places) == list(range(len(places)))
        assert None not in rejected
    for rejection in decoded.rejections:
        rejection.detail.encode()
        assert "\0" not in rejection.detail + rejection.topic
        assert "\n" not in rejection.detail
        assert 0 < len(rejection.detail) < 500
        assert rejection.payload in decoded.delivery.payload
    for reading in decoded.readings:
        check_storable(reading)


def check_storable(reading: Reading) -> None:
    """Check that PostgreSQL takes the row: float4 columns, finite, in range, at least one metric."""
    assert (reading.site_id, reading.received_at) == (SITE, RECEIVED)
    assert NOW - timedelta(days=90) <= reading.timestamp <= NOW + timedelta(minutes=10)
    assert any(value is not None for value in reading[3:])
    for name, value in zip(METRICS, reading[3:], strict=True):
        if value is not None:
            assert type(value) is float
            assert math.isfinite(struct.unpack("f", struct.pack("f", value))[0])
            assert DEFAULT_LIMITS[name][0] <= value <= DEFAULT_LIMITS[name][1]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_end_as_readings_or_rejections(payload: bytes) -> None:
    check_ledger(decode(payload))


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]",:0123456789.eE+-\\ud8truefalsnINy \n\t'), max_size=60))
def test_anything_that_looks_like_json_ends_as_readings_or_rejections(text: str) -> None:
    check_ledger(decode(text))


@settings(deadline=None, max_examples=400)
@given(JSON_TEXTS)
def test_any_json_ends_as_readings_or_rejections(text: str) -> None:
    check_ledger(decode(text.encode(errors="surrogatepass")))


@settings(deadline=None)
@given(st.data(), readings(), st.integers(0, 200), st.binary(max_size=3))
def test_a_damaged_reading_ends_as_readings_or_rejections(
    data: st.DataObject, reading: Reading, place: int, damage: bytes
) -> None:
    payload = json.dumps(data.draw(written(reading))).encode()

    check_ledger(decode(payload[:place] + damage + payload[place + len(damage) :]))
    check_ledger(decode(b"[" + payload + b"," + payload[:place] + damage + payload[place + 1 :] + b"]"))
    check_ledger(decode(payload[:place]))


@settings(deadline=None)
@given(st.data(), readings())
def test_a_valid_reading_round_trips_in_every_spelling(data: st.DataObject, reading: Reading) -> None:
    decoded = decode(data.draw(written(reading)))

    assert decoded.rejections == ()
    assert list(decoded.readings) == [reading]
    assert decoded.unknown_fields == 0


def acceptable(fields: dict[str, Any]) -> bool:
    """Say in the plainest way whether a reading with these fields is to be stored."""
    if not all(fields.get(name) in (None, SITE, str(SITE)) for name in ("siteId", "site_id")):
        return False
    if any(isinstance(fields.get(name), bool) for name in ("siteId", "site_id")):
        return False
    stamp = fields.get("timestamp")
    if isinstance(stamp, str):
        moment = datetime.fromisoformat(stamp)
    elif isinstance(stamp, int) and not isinstance(stamp, bool):
        moment = datetime.fromtimestamp(stamp if abs(stamp) <= 2e10 else stamp / 1000, tz=NOW.tzinfo)
    else:
        return False
    if moment.tzinfo is None or not NOW - timedelta(days=90) <= moment <= NOW + timedelta(minutes=10):
        return False
    values: dict[str, set[float]] = {}
    for spelling, name in SPELLED.items():
        value = fields.get(spelling)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not DEFAULT_LIMITS[name][0] <= value <= DEFAULT_LIMITS[name][1]:
            return False
        values.setdefault(name, set()).add(float(value))
    return bool(values) and all(len(several) == 1 for several in values.values())


METRIC_VALUES: st.SearchStrategy[Any] = (
    st.floats(-100, 2000)
    | st.integers(-10, 1600)
    | st.sampled_from(
        [None, 0, 1, True, "1", math.nan, math.inf, 1e300, 10**30, [], {}, 100, 100.0, 150.0, 1500]
    )
)
STAMPS: st.SearchStrategy[Any] = st.sampled_from(
    [
        "2025-11-22T17:00:00Z",
        "2025-11-22T17:00:00+05:00",
        "2025-11-22T17:00:00",
        "2025-08-24T17:05:00Z",
        "2025-08-24T17:04:59Z",
        1763830800,
        1763830800000,
        0,
        True,
        None,
        [],
    ]
)


@settings(deadline=None, max_examples=500)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "timestamp": STAMPS,
            "siteId": st.sampled_from([SITE, str(SITE), 17.0, None, 1, True, "x"]),
            "site_id": st.sampled_from([SITE, 18]),
            "other": METRIC_VALUES,
            **dict.fromkeys([*METRICS[:4], *map(camel_case, METRICS[:4]), "loadPowerKw"], METRIC_VALUES),
        },
    )
)
@example({"timestamp": 1763830800, "batteryCurrent": 1})
def test_what_is_accepted_is_exactly_what_the_contract_says(fields: dict[str, Any]) -> None:
    decoded = decode(fields)

    check_ledger(decoded)
    assert bool(decoded.readings) is acceptable(fields)


@settings(deadline=None, max_examples=300)
@given(st.lists(JSON_TEXTS, min_size=1, max_size=5), st.sampled_from(["", " ", "\n\t\r "]), st.booleans())
def test_an_element_fares_in_an_array_as_it_does_alone(
    elements: list[str], blanks: str, wrapped: bool
) -> None:
    raw = [element.encode(errors="surrogatepass") for element in elements]
    array = b"[" + b",".join(blanks.encode() + element + blanks.encode() for element in raw) + b"]"
    together = decode(b'{"readings":' + array + b"}" if wrapped else array)

    check_ledger(together)
    assume(together.positions is not None)
    outcomes: dict[int, object] = dict(zip(together.positions or (), together.readings, strict=True))
    outcomes |= {item.position: item.reason for item in together.rejections if item.position is not None}
    assert len(outcomes) == len(raw)
    for item in together.rejections:
        assert item.position is not None
        assert item.payload == raw[item.position]
    for place, element in enumerate(raw):
        alone = decode(element)
        if alone.positions is None and "readings" not in str(element):
            assert outcomes[place] == (alone.readings[0] if alone.readings else alone.rejections[0].reason)


@settings(deadline=None)
@given(st.data(), st.lists(readings(), min_size=1, max_size=6), JSON_TEXTS)
def test_one_bad_element_leaves_its_neighbours(data: st.DataObject, good: list[Reading], bad: str) -> None:
    assume(not decode(bad.encode(errors="surrogatepass")).readings)
    place = data.draw(st.integers(0, len(good)))
    elements = [json.dumps(data.draw(written(reading))).encode() for reading in good]
    elements.insert(place, bad.encode(errors="surrogatepass"))

    decoded = decode(b"[" + b", ".join(elements) + b"]")

    assert list(decoded.readings) == good
    assert list(decoded.positions or ()) == [i for i in range(len(elements)) if i != place]
    (rejection,) = decoded.rejections
    assert (rejection.position, rejection.payload) == (place, elements[place])


@settings(deadline=None)
@given(st.lists(JSON_TEXTS, max_size=5), st.dictionaries(st.text(max_size=5), JSON_TEXTS, max_size=3))
def test_cut_pieces_are_the_exact_bytes(elements: list[str], around: dict[str, str]) -> None:
    assume("readings" not in around)
    raw = [element.encode(errors="surrogatepass") for element in elements]
    array = b"[ " + b" ,".join(raw) + b"\n]"
    fields = [
        json.dumps(name).encode() + b" : " + text.encode(errors="surrogatepass")
        for name, text in around.items()
    ]
    payload = b"{" + b",".join([*fields, b'"readings":' + array]) + b"}"

    for whole in (array, payload):
        pieces = cut(whole, most_elements=10)
        assert pieces is not None
        assert pieces.elements == raw


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"1",
        b"[1",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1]x",
        b"{}x",
        b'{"a"}',
        b'{"a":1,}',
        b"{a:1}",
        b'{"readings":1}',
        b'{"a":[1]}',
        b"[1,2,3,4]",
        b"[" * 100_000,
        b"{" + b'"a":1,' * 4 + b'"readings":[1]}',
    ],
)
def test_what_is_no_array_is_not_cut(payload: bytes) -> None:
    assert cut(payload, most_elements=3) is None


def test_reasons_of_the_decoder_are_all_reached_by_the_tables() -> None:
    later = {Reason.UNKNOWN_SITE, Reason.CONFLICT, Reason.REFUSED}
    samples = [
        (b"", "x"),
        (b"x" * 100_001, None),
        (b"x", None),
        (b"1", None),
        (b'{"siteId":1}', None),
        (b"{}", None),
        (b'{"timestamp":"2025-11-22T17:00:00"}', None),
        (b'{"timestamp":0}', None),
        (b'{"timestamp":1763830800}', None),
        (b'{"timestamp":1763830800,"gridVoltage":"x"}', None),
        (b'{"timestamp":1763830800,"gridVoltage":NaN}', None),
        (b'{"timestamp":1763830800,"gridVoltage":5000}', None),
    ]
    reached = {
        rejection.reason
        for payload, topic in samples
        for rejection in (decode(payload) if topic is None else decode(payload, topic)).rejections
    }

    assert reached == set(Reason) - later
