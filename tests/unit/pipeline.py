"""Deliveries and small fakes of the Protocols along the path of a reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bms_ingest.errors import BrokerUnavailable
from bms_ingest.models import METRICS, Batch, Committed, Decoded, Delivery, Reading

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def delivery(packet_id: int = 1, *, generation: int = 1, payload: bytes = b"{}") -> Delivery:
    """A message at QoS 1, or at QoS 0 when `packet_id` is 0."""
    return Delivery(
        topic="bms/sites/7/telemetry",
        payload=payload,
        qos=1 if packet_id else 0,
        retain=False,
        packet_id=packet_id,
        generation=generation,
        received_at=NOW,
        arrived_seconds=time.monotonic(),
    )


def reading(site_id: int = 7, **metrics: float) -> Reading:
    """A reading with the metrics given and no others."""
    return Reading(site_id, NOW, NOW, *(metrics.get(name) for name in METRICS))


def decoded(packet_id: int = 1, rows: int = 1, *, payload: bytes = b"{}") -> Decoded:
    """A decoded delivery of that many readings."""
    return Decoded(delivery(packet_id, payload=payload), readings=[reading()] * rows)


def committed(batch: Batch) -> Committed:
    """The batch as if every reading had been stored."""
    return Committed(batch=batch, present=batch.readings(), stored=batch.rows, duplicates=0, quarantined={})


class RecordingSession:
    """A session that keeps what it was told to acknowledge."""

    protocol = "5"
    session_present = True
    receive_maximum = 100

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.acknowledged: list[Delivery] = []
        self.broken = False

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        if self.broken:
            raise BrokerUnavailable("connection lost")
        assert all(delivery.generation == self.generation for delivery in deliveries)
        self.acknowledged.extend(deliveries)

    async def subscribe(self, topic_filter: str) -> int:
        return 1

    async def receive(self) -> list[Delivery]:
        raise BrokerUnavailable("nothing comes from here")

    async def close(self) -> None:
        self.broken = True
