"""Takes what the library receives and hands it over whole; the first thing a message meets."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import aiomqtt

from bms_ingest.models import Delivery
from bms_ingest.mqtt.publish_packet import Publish

MESSAGE_BYTES = 256
"""What a waiting message takes beside its payload and topic; else empty ones would count for nothing."""


class BurstQueue(asyncio.Queue[aiomqtt.Message]):
    """The queue that aiomqtt puts messages into; they leave as deliveries, all at once.

    aiomqtt's own iterator costs a task per message and swallows a message when it is cancelled. Nothing is
    ever discarded here: the session stops reading when `waiting_bytes` grows too large.
    """

    def __init__(self, generation: int) -> None:
        super().__init__()
        self._generation = generation
        self._deliveries: list[Delivery] = []
        self._arrival: tuple[datetime, float] | None = None
        self._stirred = asyncio.Event()
        self.waiting_bytes = 0
        """Memory of what waits to be taken, about."""
        self.received = 0
        """Messages since the beginning."""

    def begin_turn(self) -> None:
        """Forget the time of arrival: what comes from now on is read in a new turn of the loop."""
        self._arrival = None

    def put_nowait(self, message: aiomqtt.Message) -> None:
        """Append one message; called by aiomqtt in the loop's thread."""
        self.put_publish(
            Publish(
                message.topic.value, bytes(message.payload), message.qos, bool(message.retain), message.mid
            )
        )

    def put_publish(self, publish: Publish) -> None:
        """Append one message; in the loop's thread."""
        arrival = self._arrival
        if arrival is None:
            arrival = self._arrival = (datetime.now(UTC), time.monotonic())
        topic, payload, qos, retain, packet_id = publish
        self._deliveries.append(
            Delivery(topic, payload, qos, retain, packet_id, self._generation, arrival[0], arrival[1])
        )
        self.waiting_bytes += MESSAGE_BYTES + len(topic) + len(payload)
        self.received += 1
        self._stirred.set()

    def take(self) -> list[Delivery]:
        """Return everything that waits, in receive order, and start anew; empty when nothing waits."""
        taken, self._deliveries = self._deliveries, []
        self.waiting_bytes = 0
        self._stirred.clear()
        return taken

    async def stirred(self) -> None:
        """Wait until something was put or `stir` was called since the last `take`."""
        await self._stirred.wait()

    def stir(self) -> None:
        """Wake whoever waits, with or without a message."""
        self._stirred.set()
