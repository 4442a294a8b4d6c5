"""Takes deliveries in: decodes each and hands it to the batcher; counts the left side of the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from bms_ingest.ingest.batcher import Batcher
from bms_ingest.metrics import Metrics
from bms_ingest.models import Decoded, Delivery

TURN_SECONDS = 0.01
"""How long decoding goes on before other tasks get a turn: a burst of large payloads holds up nobody."""


class Decoding(Protocol):
    """What intake asks of the decoder."""

    def decode(self, delivery: Delivery, now: datetime) -> Decoded:
        """Turn one delivery into readings and rejections; never raises for any payload."""


class Intake:
    """The way into the pipeline for every door: MQTT now, HTTP later."""

    def __init__(
        self,
        decoder: Decoding,
        batcher: Batcher,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._decoder = decoder
        self._batcher = batcher
        self._metrics = metrics
        self._clock = clock

    async def take_in(self, deliveries: Sequence[Delivery]) -> None:
        """Decode deliveries and queue them, in order; wait while the pipeline is full.

        A delivery counts as received when the batcher has it, so cancelling in the middle leaves the ledger
        balanced and the rest with the broker.
        """
        now = self._clock()
        turn_ends = time.monotonic() + TURN_SECONDS
        for delivery in deliveries:
            if time.monotonic() >= turn_ends:
                await asyncio.sleep(0)
                turn_ends = time.monotonic() + TURN_SECONDS
            decoded = self._decoder.decode(delivery, now)
            await self._batcher.put(decoded)
            self._metrics.readings_received.inc(len(decoded.readings) + len(decoded.rejections))
            if decoded.unknown_fields:
                self._metrics.unknown_fields.inc(decoded.unknown_fields)
