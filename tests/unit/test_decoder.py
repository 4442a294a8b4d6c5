"""What each kind of payload turns into: tables of what is accepted and of each reason of rejection."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from bms_ingest.ingest.decoder import MOST_READINGS, Decoder
from bms_ingest.models import METRICS, Reading, Reason
from bms_ingest.settings import Bounds
from tests.unit.decoding import MOMENT, NOW, RECEIVED, SITE, STAMP, TOPIC, decode, delivery, only_rejection

UNREADABLE = "This is not JSON that can be read: "


def with_metric(text: str) -> str:
    """Return one reading whose battery voltage is this JSON text."""
    return f'{{"timestamp":"{STAMP}","batteryVoltage":{text}}}'


@pytest.mark.parametrize("name", ["batteryVoltage", "battery_voltage"])
def test_one_reading_is_decoded_in_both_spellings(name: str) -> None:
    decoded = decode({"timestamp": STAMP, name: 48.5, "gridVoltage": None})

    (reading,) = decoded.readings
    assert reading == Reading(SITE, MOMENT, RECEIVED, 48.5, *[None] * 20)
    assert (decoded.positions, decoded.rejections, decoded.unknown_fields) == (None, (), 0)


def test_every_metric_has_its_column_in_both_spellings() -> None:
    camel = [
        "batteryVoltage",
        "batteryCurrent",
        "batteryChargeLevel",
        "batteryTemperature",
        "batteryStateOfHealth",
        "batteryPowerKw",
        "solarPowerKw",
        "solarEnergyKwh",
        "solarEfficiency",
        "inverter1PowerKw",
        "inverter1Efficiency",
        "inverter1Temperature",
        "inverter2PowerKw",
        "inverter2Efficiency",
        "inverter2Temperature",
        "gridVoltage",
        "gridFrequency",
        "gridPowerKw",
        "gridEnergyKwh",
        "loadPowerKw",
        "loadEnergyKwh",
    ]
    for names in (camel, METRICS):
        (reading,) = decode({"timestamp": STAMP, **{name: 1 + i for i, name in enumerate(names)}}).readings
        assert reading[3:] == tuple(float(1 + i) for i in range(21))


@pytest.mark.parametrize("wrap", [lambda array: array, lambda array: {"readings": array, "siteId": SITE}])
def test_array_is_decoded_with_positions(wrap: object) -> None:
    assert callable(wrap)
    array = [{"timestamp": STAMP, "loadPowerKw": value} for value in (1, 2, 3)]

    decoded = decode(wrap(array))

    assert [reading.load_power_kw for reading in decoded.readings] == [1.0, 2.0, 3.0]
    assert list(decoded.positions or ()) == [0, 1, 2]
    assert not decoded.rejections


def test_array_with_one_bad_element_loses_only_that_one() -> None:
    array = [{"timestamp": STAMP, "loadPowerKw": value} for value in range(100)]
    array[42]["loadPowerKw"] = "x"

    decoded = decode(array)

    assert len(decoded.readings) == 99
    (rejection,) = decoded.rejections
    assert (rejection.reason, rejection.position) == (Reason.WRONG_TYPE, 42)
    assert rejection.payload == json.dumps(array[42]).encode()
    assert (rejection.topic, rejection.site_id) == (TOPIC, SITE)
    assert 42 not in (decoded.positions or ())


@pytest.mark.parametrize(
    "bad", [b"NaN", b"1e999", b'"\\ud800"', b'"\xff"', b"1" * 5000, b"[" * 300 + b"]" * 300]
)
def test_element_that_breaks_the_parser_does_not_take_its_neighbours_along(bad: bytes) -> None:
    good = with_metric("48.5").encode()
    element = b'{"timestamp": "2025-11-22T17:00:00Z" , "batteryVoltage":' + bad + b"}"

    for before, behind in ((b"[", b"]"), (b' {"a":1,"readings" : [', b'],\n"b": null}\r\n')):
        decoded = decode(before + good + b",\n\t" + element + b" , " + good + behind)

        assert list(decoded.positions or ()) == [0, 2]
        (rejection,) = decoded.rejections
        assert (rejection.position, rejection.payload) == (1, element)
        assert decoded.unknown_fields == (2 if b"readings" in before else 0)


def test_unknown_fields_are_ignored_and_counted() -> None:
    reading = {"timestamp": STAMP, "siteId": SITE, "batteryVoltage": 48, "firmware": "1", "BatteryVoltage": 1}

    assert decode(reading).unknown_fields == 2
    assert decode([reading, reading]).unknown_fields == 4
    assert decode({"readings": [reading], "sentAt": 1, "site_id": SITE}).unknown_fields == 3


@pytest.mark.parametrize("site", [17, "17", 17.0, None])
def test_site_in_the_payload_may_repeat_the_topic(site: object) -> None:
    assert len(decode({"siteId": site, "timestamp": STAMP, "loadPowerKw": 1}).readings) == 1


@pytest.mark.parametrize("site", [18, "18", "017", " 17", 17.5, True, [17], {}, "", "x", 10**40])
@pytest.mark.parametrize("name", ["siteId", "site_id"])
def test_another_site_in_the_payload_is_refused(name: str, site: object) -> None:
    reading = {"timestamp": STAMP, "loadPowerKw": 1}

    reason, detail = only_rejection(decode({name: site, **reading}))
    assert reason is Reason.WRONG_SITE
    assert detail.startswith(f"{name} is ")
    assert detail.endswith("but the topic names site 17.")
    assert only_rejection(decode({name: site, "readings": [reading]}))[0] is Reason.WRONG_SITE
    (rejection,) = decode([{name: site, **reading}, reading]).rejections
    assert (rejection.reason, rejection.position) == (Reason.WRONG_SITE, 0)


def test_both_spellings_may_agree_but_not_differ() -> None:
    (reading,) = decode({"timestamp": STAMP, "gridVoltage": 230, "grid_voltage": 230.0}).readings
    assert reading.grid_voltage == 230.0

    for first, second in ((230.0, 231.0), (230, 231), (0.0, 1.0), (1.0, 0)):
        reason, detail = only_rejection(
            decode({"timestamp": STAMP, "gridVoltage": first, "grid_voltage": second})
        )
        assert reason is Reason.NOT_A_READING
        assert detail.startswith("grid_voltage is given in both spellings with different values, ")


def test_null_in_one_spelling_does_not_hide_the_other() -> None:
    for names in (("gridVoltage", "grid_voltage"), ("grid_voltage", "gridVoltage")):
        (reading,) = decode({"timestamp": STAMP, names[0]: None, names[1]: 230}).readings
        assert reading.grid_voltage == 230.0


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ('"48"', Reason.WRONG_TYPE, 'batteryVoltage is "48", but must be a number or null.'),
        ("true", Reason.WRONG_TYPE, "batteryVoltage is true, but must be a number or null."),
        ("[48]", Reason.WRONG_TYPE, "batteryVoltage is an array, but must be a number or null."),
        ("{}", Reason.WRONG_TYPE, "batteryVoltage is an object, but must be a number or null."),
        ('"\\u0000"', Reason.WRONG_TYPE, 'batteryVoltage is "\\u0000", but must be a number or null.'),
        ("NaN", Reason.NOT_FINITE, "batteryVoltage is NaN, which is not a finite number."),
        ("1e999", Reason.NOT_FINITE, "batteryVoltage is Infinity, which is not a finite number."),
        ("-Infinity", Reason.NOT_FINITE, "batteryVoltage is -Infinity, which is not a finite number."),
        ("1500.1", Reason.OUT_OF_RANGE, "batteryVoltage is 1500.1, outside its range of 0 to 1500."),
        ("-1", Reason.OUT_OF_RANGE, "batteryVoltage is -1, outside its range of 0 to 1500."),
        ("1e300", Reason.OUT_OF_RANGE, "batteryVoltage is 1e+300, outside its range of 0 to 1500."),
        (
            "1" * 4300,
            Reason.OUT_OF_RANGE,
            "batteryVoltage is a whole number of about 4300 digits, outside its range of 0 to 1500.",
        ),
        (
            "1" * 4301,
            Reason.NOT_FINITE,
            "A number has too many digits: number out of range at line 1 column 4355.",
        ),
    ],
)
def test_metric_that_is_no_number_in_range_is_refused(text: str, reason: Reason, detail: str) -> None:
    assert only_rejection(decode(with_metric(text))) == (reason, detail)


def test_long_values_are_cut_in_the_detail() -> None:
    _, detail = only_rejection(decode(with_metric('"' + "x" * 10_000 + '"')))

    assert detail == f'batteryVoltage is "{"x" * 80}"… (10000 characters), but must be a number or null.'


def test_metric_without_limits_must_still_fit_a_float4() -> None:
    decoder = Decoder(lambda _: 1, {}, timedelta(days=1), timedelta(days=1), 1000)

    def reasons(text: str) -> list[Reason]:
        return [item.reason for item in decoder.decode(delivery(with_metric(text).encode()), NOW).rejections]

    assert reasons("3.4028234663852886e38") == []
    assert reasons("3.5e38") == reasons("-3.5e38") == [Reason.OUT_OF_RANGE]


def test_limits_include_both_their_ends() -> None:
    decoder = Decoder(
        lambda _: 1, {"battery_voltage": Bounds(low=40, high=60)}, timedelta(days=1), timedelta(days=1), 1000
    )
    for text, accepted in (("40", 1), ("60.0", 1), ("39.999", 0), ("61", 0)):
        assert len(decoder.decode(delivery(with_metric(text).encode()), NOW).readings) == accepted


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"", Reason.NOT_JSON, "The payload is empty."),
        (b"  ", Reason.NOT_JSON, UNREADABLE + "EOF while parsing a value at line 1 column 2."),
        (b"hello", Reason.NOT_JSON, UNREADABLE + "expected value at line 1 column 1."),
        (b"\xef\xbb\xbf{}", Reason.NOT_JSON, UNREADABLE + "expected value at line 1 column 1."),
        (b"\x00\x01\xff", Reason.NOT_JSON, UNREADABLE + "expected value at line 1 column 1."),
        (b"[" * 50_000, Reason.NOT_JSON, UNREADABLE + "recursion limit exceeded at line 1 column 202."),
        (
            b'{"readings":' * 5_000,
            Reason.NOT_JSON,
            UNREADABLE + "recursion limit exceeded at line 1 column 2413.",
        ),
        (b"null", Reason.NOT_A_READING, "A payload is an object or an array, but this is null."),
        (b"1", Reason.NOT_A_READING, "A payload is an object or an array, but this is 1."),
        (b"NaN", Reason.NOT_A_READING, "A payload is an object or an array, but this is NaN."),
        (b'"x"', Reason.NOT_A_READING, 'A payload is an object or an array, but this is "x".'),
        (b"[]", Reason.NOT_A_READING, "The array of readings is empty."),
        (b'{"readings":[]}', Reason.NOT_A_READING, "The array of readings is empty."),
        (b'{"readings":7}', Reason.NOT_A_READING, "readings must be an array, but this is 7."),
        (
            b'{"readings":[{}],"gridVoltage":1}',
            Reason.NOT_A_READING,
            "gridVoltage stands beside readings; it belongs into one of them.",
        ),
        (b"{}", Reason.BAD_TIMESTAMP, "timestamp is missing."),
        (b'{"timestamp":1763830800}', Reason.NO_METRICS, "The reading has no metric that is not null."),
        (
            b'{"timestamp":1763830800,"gridVoltage":null,"x":1}',
            Reason.NO_METRICS,
            "The reading has no metric that is not null.",
        ),
        (b"x" * 100_001, Reason.TOO_LARGE, "The payload has 100001 bytes; at most 100000 are read."),
        (
            b"[" + b"1," * MOST_READINGS + b"1]",
            Reason.TOO_LARGE,
            "The array holds 2501 readings; at most 2500 are read.",
        ),
    ],
)
def test_payload_that_holds_no_readings_is_kept_whole(payload: bytes, reason: Reason, detail: str) -> None:
    assert only_rejection(decode(payload)) == (reason, detail)


@pytest.mark.parametrize("element", [b"1", b"null", b"[]", b'"x"', b"[[{}]]"])
def test_element_that_is_no_object_is_refused_alone(element: bytes) -> None:
    decoded = decode(b"[" + element + b"," + with_metric("1").encode() + b"]")

    (rejection,) = decoded.rejections
    assert (rejection.reason, rejection.position, rejection.payload) == (Reason.NOT_A_READING, 0, element)
    assert list(decoded.positions or ()) == [1]


def test_longest_array_is_read() -> None:
    decoded = decode(b"[" + b"1," * (MOST_READINGS - 1) + b"1]")

    assert len(decoded.rejections) == MOST_READINGS


def test_of_a_repeated_field_the_last_one_counts() -> None:
    (reading,) = decode(f'{{"timestamp":"{STAMP}","gridVoltage":"x","gridVoltage":230}}').readings
    assert reading.grid_voltage == 230.0

    decoded = decode(f'{{"readings":5,"readings":[{{}}],"readings":[1, {with_metric("1")}]}}')
    assert list(decoded.positions or ()) == [1]
    assert decoded.rejections[0].payload == b"1"


@pytest.mark.parametrize(
    "topic", ["bms/sites/x/telemetry", "", "bms/\x00/7", "bms/sites/\ud800/telemetry", "t" * 60_000]
)
def test_topic_without_a_site_is_refused_before_the_payload_is_read(topic: str) -> None:
    decoded = decode(b"not read", topic)

    reason, detail = only_rejection(decoded)
    (rejection,) = decoded.rejections
    assert reason is Reason.BAD_TOPIC
    assert detail.startswith("The topic ")
    assert len(detail) < 200
    assert rejection.site_id is None
    for text in (detail, rejection.topic):
        assert "\0" not in text
        text.encode()
