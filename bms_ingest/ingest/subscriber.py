"""Holds the session with the broker: connects, subscribes, hands deliveries on; first step of the path."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from bms_ingest.backoff import Backoff
from bms_ingest.errors import BrokerError, BrokerRefused
from bms_ingest.ingest.acks import Acknowledger
from bms_ingest.ingest.session import Broker, Session
from bms_ingest.log import get_logger
from bms_ingest.metrics import Metrics
from bms_ingest.models import Delivery

log = get_logger(__name__)

STEADY_SECONDS = 30.0
"""A connection that lasted this long is made again without a long delay; one that keeps breaking is not."""


class DeliverySink(Protocol):
    """Where deliveries go."""

    async def take_in(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries in receive order; waiting is the backpressure."""


class Subscriber:
    """One persistent subscription, over as many connections as it takes.

    `run` works until `stop`, which leaves the connection open so that what was received can still be
    acknowledged; `close` ends it. Whatever is not acknowledged by then stays with the broker.
    """

    def __init__(
        self,
        broker: Broker,
        topic_filter: str,
        sink: DeliverySink,
        acknowledger: Acknowledger,
        metrics: Metrics,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._topic_filter = topic_filter
        self._sink = sink
        self._acknowledger = acknowledger
        self._metrics = metrics
        self._backoff = backoff or Backoff(0.5, 15.0)
        self._generation = 0
        self._session: Session | None = None
        self._subscribed_seconds = math.inf
        self._was_subscribed = False
        self._stopping = asyncio.Event()
        self.trouble: str | None = "not connected to the broker yet"
        """Why no messages arrive, as one sentence; None while subscribed."""

    async def run(self) -> None:
        """Receive until `stop`; a lost or refused connection is tried again for ever, with growing delays."""
        working = asyncio.ensure_future(self._work())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)

    def stop(self) -> None:
        """Make `run` return soon and keep the connection for acknowledgements."""
        self._stopping.set()

    async def close(self) -> None:
        """End the connection in good order; the broker keeps the session."""
        session, self._session = self._session, None
        self._acknowledger.end()
        self._metrics.mqtt_connected.set(0)
        if session is not None:
            await session.close()

    async def _work(self) -> None:
        while True:
            try:
                session = await self._connect()
                await self._receive_forever(session)
            except BrokerError as error:
                await self._recover(error)

    async def _connect(self) -> Session:
        await self.close()
        self._generation += 1
        session = self._session = await self._broker.connect(self._generation)
        self._acknowledger.begin(session)
        granted_qos = await session.subscribe(self._topic_filter)
        if granted_qos < 1:
            raise BrokerRefused(
                f"the broker grants only QoS {granted_qos} for {self._topic_filter!r}: messages could "
                "be lost; raise the maximum QoS of the broker's listener"
            )
        self._report_connected(session)
        return session

    def _report_connected(self, session: Session) -> None:
        self.trouble = None
        self._subscribed_seconds = self._clock()
        self._metrics.mqtt_connected.set(1)
        facts = {"protocol": session.protocol, "session_present": session.session_present}
        if not self._was_subscribed:
            self._was_subscribed = True
            log.info("mqtt_connected", topic_filter=self._topic_filter, **facts)
            return
        self._metrics.mqtt_reconnects.inc()
        log.info("mqtt_reconnected", topic_filter=self._topic_filter, **facts)
        if not session.session_present:
            self._metrics.mqtt_sessions_lost.inc()
            log.error("mqtt_session_lost", hint="the broker forgot our session and what was queued in it")

    async def _receive_forever(self, session: Session) -> None:
        while True:
            deliveries = await session.receive()
            for qos, count in Counter(delivery.qos for delivery in deliveries).items():
                self._metrics.messages_received.labels(str(qos)).inc(count)
            self._acknowledger.track(deliveries)
            await self._sink.take_in(deliveries)

    async def _recover(self, error: BrokerError) -> None:
        self.trouble = str(error)
        if self._clock() - self._subscribed_seconds >= STEADY_SECONDS:
            self._backoff.reset()
        self._subscribed_seconds = math.inf
        await self.close()
        delay_seconds = self._backoff.next_seconds()
        report = log.error if isinstance(error, BrokerRefused) else log.warning
        report("mqtt_disconnected", error=str(error), retry_seconds=round(delay_seconds, 2))
        await asyncio.sleep(delay_seconds)
