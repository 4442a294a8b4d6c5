"""What the rooms hand to each other, from a delivery of the broker to a committed batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


@dataclass(slots=True, eq=False)
class Delivery:
    """One message as the broker handed it over, and what it takes to acknowledge it.

    `generation` numbers the connection it came over: after a reconnect the handle is void, because a
    PUBACK for it would delete whatever message has that packet id by then.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    """1..65535 at QoS 1 and 2; 0 at QoS 0, where there is nothing to acknowledge."""
    generation: int
    received_at: datetime
    """UTC, wall clock: what is stored."""
    arrived_seconds: float
    """Monotonic clock (`time.monotonic`): what ages and lags are measured with."""
    settled: bool = False
    """Stored or quarantined, observers done: may be acknowledged once everything before it may."""


class Reading(NamedTuple):
    """One reading of one site, in the column order of COPY; metrics are None where a sensor said nothing.

    Units: V, A, %, °C, kW, kWh, Hz as the field's name and the schema document say.
    """

    site_id: int
    timestamp: datetime
    """UTC; when the site took the reading."""
    received_at: datetime
    """UTC; when the broker handed it to us."""
    battery_voltage: float | None
    battery_current: float | None
    battery_charge_level: float | None
    battery_temperature: float | None
    battery_state_of_health: float | None
    battery_power_kw: float | None
    solar_power_kw: float | None
    solar_energy_kwh: float | None
    solar_efficiency: float | None
    inverter1_power_kw: float | None
    inverter1_efficiency: float | None
    inverter1_temperature: float | None
    inverter2_power_kw: float | None
    inverter2_efficiency: float | None
    inverter2_temperature: float | None
    grid_voltage: float | None
    grid_frequency: float | None
    grid_power_kw: float | None
    """Positive is import, negative export."""
    grid_energy_kwh: float | None
    load_power_kw: float | None
    load_energy_kwh: float | None


METRICS: tuple[str, ...] = Reading._fields[3:]
"""Column names of the 21 metrics, in the order of `Reading`."""


class Reason(StrEnum):
    """Why a payload or a reading is in quarantine; the values are stored and used as a metric label."""

    BAD_TOPIC = "bad_topic"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_A_READING = "not_a_reading"
    WRONG_SITE = "wrong_site"
    BAD_TIMESTAMP = "bad_timestamp"
    NAIVE_TIMESTAMP = "naive_timestamp"
    OUTSIDE_WINDOW = "outside_window"
    NO_METRICS = "no_metrics"
    WRONG_TYPE = "wrong_type"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_SITE = "unknown_site"
    CONFLICT = "conflict"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A payload, or one element of an array payload, on its way to quarantine."""

    reason: Reason
    detail: str
    """One sentence for a person: what was found and what was expected."""
    topic: str
    site_id: int | None
    """From the topic; None when the topic names no site."""
    payload: bytes
    """The message's bytes, or the bytes of this one element of an array, exactly as they came."""
    position: int | None
    """0-based place in the array; None when the message was not an array."""
    received_at: datetime


@dataclass(slots=True, eq=False)
class Decoded:
    """What one delivery turned into; every reading and every rejection counts once in the ledger."""

    delivery: Delivery
    readings: Sequence[Reading] = ()
    rejections: Sequence[Rejection] = ()
    positions: Sequence[int] | None = None
    """Place in the payload's array of each element of `readings`; None when the payload was one reading."""
    unknown_fields: int = 0


@dataclass(slots=True, eq=False)
class Batch:
    """Decoded deliveries that are written in one transaction and acknowledged together.

    A delivery is never split over two batches, so a batch carries everything its acknowledgement needs.
    """

    decoded: list[Decoded] = field(default_factory=list)
    rows: int = 0
    """Readings plus rejections."""
    payload_bytes: int = 0
    """Of payloads and topics."""
    trigger: str = ""
    """Why it was closed: rows, bytes, wait or drain."""

    def add(self, item: Decoded) -> None:
        """Append one decoded delivery."""
        self.decoded.append(item)
        self.rows += len(item.readings) + len(item.rejections)
        self.payload_bytes += len(item.delivery.payload) + len(item.delivery.topic)

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries, in receive order."""
        return [item.delivery for item in self.decoded]

    def readings(self) -> list[Reading]:
        """All readings, in receive order."""
        return [reading for item in self.decoded for reading in item.readings]


@dataclass(frozen=True, slots=True, eq=False)
class Committed:
    """One batch after its transaction: what observers see before the broker gets its acknowledgements.

    A redelivered reading counts as duplicate and is seen again: observers must be idempotent, because a
    crash may have come between the first commit and their turn.
    """

    batch: Batch
    present: Sequence[Reading]
    """Readings that are rows now, whether this transaction or an earlier one stored them."""
    stored: int
    duplicates: int
    quarantined: dict[Reason, int]
