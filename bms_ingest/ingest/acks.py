"""Acknowledges deliveries in the order they were received, once they are settled; the last step of the path.

The broker needs PUBACKs in receive order [MQTT-4.6.0-2], and an acknowledgement that overtakes another
would leave a hole that mosquitto's packet ids run into after 65,535 messages. So what goes out is always a
prefix of what came in.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from bms_ingest.errors import BrokerUnavailable
from bms_ingest.ingest.session import Session
from bms_ingest.log import get_logger
from bms_ingest.metrics import Metrics
from bms_ingest.models import Delivery

log = get_logger(__name__)


class Acknowledger:
    """Holds the deliveries in flight of the current connection; synchronous, loop's thread only.

    A connection's deliveries become void when it ends: `end` forgets them, the broker sends them again, and
    `settle` passes over whatever a slow writer still brings from before.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._in_flight: deque[Delivery] = deque()
        self._session: Session | None = None
        self._metrics = metrics
        metrics.oldest_unacked_seconds.set_function(self.oldest_seconds)

    def begin(self, session: Session) -> None:
        """Start on a new connection with nothing in flight."""
        self._in_flight.clear()
        self._session = session

    def end(self) -> None:
        """Void everything in flight: the connection is gone."""
        self._in_flight.clear()
        self._session = None

    def track(self, deliveries: Iterable[Delivery]) -> None:
        """Take note of deliveries, in receive order, before anyone can settle them."""
        self._in_flight.extend(delivery for delivery in deliveries if delivery.packet_id)

    def settle(self, deliveries: Iterable[Delivery]) -> None:
        """Mark deliveries as stored or quarantined; acknowledge each one that nothing earlier holds back."""
        for delivery in deliveries:
            delivery.settled = True
        ready: list[Delivery] = []
        while self._in_flight and self._in_flight[0].settled:
            ready.append(self._in_flight.popleft())
        if not ready or self._session is None:
            return
        try:
            self._session.acknowledge(ready)
        except BrokerUnavailable as error:
            # Harmless: the broker sends them again and they turn out to be duplicates.
            log.info("acknowledgement_void", deliveries=len(ready), error=str(error))
        else:
            self._metrics.messages_acknowledged.inc(len(ready))

    def oldest_seconds(self) -> float:
        """Age of the oldest delivery in flight; 0 when there is none."""
        return time.monotonic() - self._in_flight[0].arrived_seconds if self._in_flight else 0.0

    @property
    def in_flight(self) -> int:
        """How many deliveries of this connection are not acknowledged."""
        return len(self._in_flight)
