"""One run of the simulator: a fleet, its messages, their pace, and the publisher, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bms_ingest.demo.faults import FaultPlan
from bms_ingest.demo.fleet import Site
from bms_ingest.demo.pace import paced, start_of_history
from bms_ingest.demo.publisher import Publisher
from bms_ingest.demo.stream import INTERVAL, FleetStream
from bms_ingest.demo.target import Target


@dataclass(frozen=True)
class Plan:
    """What a simulation does; every part has a default that suits a look at the program."""

    history: timedelta = timedelta(0)
    """How far back simulated time begins; below the daemon's raw retention (90 days by default)."""
    speed_up: float = 1.0
    interval: timedelta = INTERVAL
    live_interval: timedelta | None = None
    """How often sites send once simulated time has caught up; None keeps `interval`."""
    faults: FaultPlan = field(default_factory=FaultPlan)
    seed: int = 1
    rate: float | None = None
    """Most messages a second."""
    window: int = 100


class Simulation:
    """A fleet that publishes to one broker until it is stopped.

    Args:
        sites: ids as the daemon knows them.
        target: the broker.
    """

    def __init__(self, sites: Sequence[Site], target: Target, plan: Plan) -> None:
        self._plan = plan
        self._start = start_of_history(datetime.now(UTC), plan.history)
        self._stop = asyncio.Event()
        self.stream = FleetStream(
            sites,
            start=self._start,
            interval=plan.interval,
            plan=plan.faults,
            seed=plan.seed,
            telemetry_topic=target.telemetry_topic,
        )
        self.publisher = Publisher(
            target.address,
            tls=target.tls,
            window=plan.window,
            status_topics=[target.status_topic.replace("{site_id}", str(site.site_id)) for site in sites],
        )

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Send nothing new; `run` returns when the broker has acknowledged the rest."""
        self._stop.set()

    async def run(self) -> None:
        """Publish until `stop`.

        Raises:
            BrokerUnavailable: the first connection failed; later ones are tried for ever.
            BrokerRefused: the broker said no to our credentials, client id or protocol.
        """
        await self.publisher.run(
            paced(
                self.stream,
                start=self._start,
                speed_up=self._plan.speed_up,
                live_interval=self._plan.live_interval,
                rate=self._plan.rate,
                stop=self._stop,
            )
        )
