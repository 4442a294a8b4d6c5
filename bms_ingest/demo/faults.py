"""What goes wrong in the field, made to order: each fault knows what a correct daemon does with it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random

from bms_ingest.demo.payload import Document, encode, write_time
from bms_ingest.demo.site_model import Sample
from bms_ingest.models import Reason


class Fault(StrEnum):
    """The kinds of trouble a simulated gateway can make."""

    GARBAGE = "garbage"
    TRUNCATED = "truncated"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    NAIVE_TIMESTAMP = "naive_timestamp"
    CLOCK_AHEAD = "clock_ahead"
    WRONG_SITE = "wrong_site"
    UNKNOWN_SITE = "unknown_site"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    BAD_ELEMENT = "bad_element"
    LATE_BATCH = "late_batch"


EXPLANATIONS: Mapping[Fault, str] = {
    Fault.GARBAGE: "bytes that are not JSON",
    Fault.TRUNCATED: "JSON that ends in the middle",
    Fault.WRONG_TYPE: "text where a number belongs",
    Fault.NOT_FINITE: "NaN or 1e999 as a value",
    Fault.OUT_OF_RANGE: "a value nothing physical can have",
    Fault.NAIVE_TIMESTAMP: "a time without its offset from UTC",
    Fault.CLOCK_AHEAD: "a gateway whose clock is a day ahead",
    Fault.WRONG_SITE: "a payload that names another site than its topic",
    Fault.UNKNOWN_SITE: "a gateway nobody registered",
    Fault.DUPLICATE: "the same message again",
    Fault.CONFLICT: "the same time again with another value",
    Fault.BAD_ELEMENT: "an array with one bad reading among good ones",
    Fault.LATE_BATCH: "readings of an outage, sent late in one array",
}

REJECTED_AS: Mapping[Fault, Reason] = {
    Fault.GARBAGE: Reason.NOT_JSON,
    Fault.TRUNCATED: Reason.NOT_JSON,
    Fault.WRONG_TYPE: Reason.WRONG_TYPE,
    Fault.NOT_FINITE: Reason.NOT_FINITE,
    Fault.OUT_OF_RANGE: Reason.OUT_OF_RANGE,
    Fault.NAIVE_TIMESTAMP: Reason.NAIVE_TIMESTAMP,
    Fault.CLOCK_AHEAD: Reason.OUTSIDE_WINDOW,
    Fault.WRONG_SITE: Reason.WRONG_SITE,
    Fault.UNKNOWN_SITE: Reason.UNKNOWN_SITE,
    Fault.CONFLICT: Reason.CONFLICT,
    Fault.BAD_ELEMENT: Reason.OUT_OF_RANGE,
}
"""The reason under which the one bad thing in each fault's message belongs into quarantine."""

HELD_READINGS = 6
"""Readings that `BAD_ELEMENT` and `LATE_BATCH` hold back and send as one array."""


@dataclass(frozen=True)
class FaultPlan:
    """How often each fault strikes, as a share of readings, 0..1; together at most 1."""

    rates: Mapping[Fault, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            any(not 0.0 <= rate <= 1.0 for rate in self.rates.values())
            or sum(self.rates.values()) > 1.0 + 1e-9
        ):
            raise ValueError("fault rates must each be from 0 to 1 and together at most 1")

    @classmethod
    def even(cls, total: float, own: Mapping[Fault, float] | None = None) -> FaultPlan:
        """Share `total` among all faults evenly; those in `own` have their own rate instead."""
        return cls({**dict.fromkeys(Fault, total / len(Fault)), **(own or {})})

    def draw(self, random: Random) -> Fault | None:
        """Decide about one reading."""
        point = random.random()
        for fault, rate in self.rates.items():
            point -= rate
            if point < 0.0:
                return fault
        return None


def spoil(fault: Fault, document: Document, sample: Sample, now: datetime, random: Random) -> bytes:
    """Return the payload of one reading with this fault in it.

    Args:
        document: the reading as it should have been; left as it is.
        now: wall clock, UTC: what a clock can be ahead of.
    """
    match fault:
        case Fault.GARBAGE:
            return b"\x02\xff" + random.randbytes(random.randint(4, 60)) + b"\xfe\x03"
        case Fault.TRUNCATED:
            whole = encode(document)
            return whole[: random.randint(len(whole) // 4, len(whole) - 1)]
        case Fault.WRONG_TYPE:
            return encode(_with(document, "battery_temperature", "n/a"))
        case Fault.NOT_FINITE:
            # 1e999 is lawful JSON that every parser turns into infinity; NaN is what C gateways print.
            value = random.choice((math.nan, math.inf))
            return encode(_with(document, "solar_power_kw", value)).replace(b"Infinity", b"1e999")
        case Fault.OUT_OF_RANGE:
            return encode(_with(document, "battery_charge_level", 6553.5))
        case Fault.NAIVE_TIMESTAMP:
            naive = sample.timestamp.replace(tzinfo=None).isoformat(timespec="milliseconds")
            return encode({**document, "timestamp": naive})
        case Fault.CLOCK_AHEAD:
            ahead = write_time(now + timedelta(days=1), sample.site.dialect)
            return encode({**document, "timestamp": ahead})
        case Fault.WRONG_SITE:
            key = "site_id" if "site_id" in document else "siteId"
            return encode({**document, key: sample.site.site_id + 1})
        case Fault.CONFLICT:
            return encode(_with(document, "battery_state_of_health", 50.0))
        case _:
            raise ValueError(f"{fault} is not a fault of one reading")


def spoil_array(documents: list[Document]) -> bytes:
    """Return the readings as an array with one more in its middle whose value is out of range."""
    middle = len(documents) // 2
    bad = _with(documents[middle], "grid_frequency", 5000.0)
    return encode([*documents[:middle], bad, *documents[middle:]])


def wrap_array(documents: list[Document], random: Random) -> bytes:
    """Return the readings as an array, or as an object that holds one: both are in the contract."""
    if random.random() < 0.5:
        return encode(documents)
    return json.dumps({"readings": documents}, separators=(",", ":")).encode()


def _with(document: Document, metric: str, value: object) -> Document:
    head, *rest = metric.split("_")
    key = metric if metric in document else head + "".join(part.capitalize() for part in rest)
    return {**document, key: value}
