"""The messages of a whole fleet in the order of their timestamps, faults included. No clock, no broker."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from bms_ingest.demo.faults import (
    HELD_READINGS,
    REJECTED_AS,
    Fault,
    FaultPlan,
    spoil,
    spoil_array,
    wrap_array,
)
from bms_ingest.demo.fleet import Site
from bms_ingest.demo.noise import uniform
from bms_ingest.demo.payload import Document, encode, write_reading
from bms_ingest.demo.site_model import SiteModel
from bms_ingest.models import Reason

TELEMETRY_TOPIC = "bms/sites/{site_id}/telemetry"
STATUS_TOPIC = "bms/sites/{site_id}/status"
INTERVAL = timedelta(minutes=5)
_UNKNOWN_SITES = 3


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish, and what a correct daemon makes of it."""

    topic: str
    payload: bytes
    stored: int = 0
    """Readings in it that become rows."""
    duplicate: int = 0
    rejected: Reason | None = None
    """Reason under which one thing in it goes to quarantine."""
    fault: Fault | None = None

    @property
    def entries(self) -> int:
        """What it counts in the daemon's ledger: readings and rejections."""
        return self.stored + self.duplicate + (self.rejected is not None)


@dataclass(slots=True)
class _Gateway:
    model: SiteModel
    random: Random
    topic: str
    holds_for: Fault | None
    held: list[Document]


class FleetStream:
    """Steps every site through time, whichever reading is due next.

    Each site reads at a second of its own within the interval, as gateways do that were switched on at
    different times. The same arguments and the same calls of `step` give the same messages.

    Args:
        sites: the fleet; their ids must be known to the daemon, and the ones just above the highest must not.
        start: UTC; the first readings come within one `interval` after it.
        interval: time between two readings of a site.
        plan: what goes wrong; nothing when None.
        telemetry_topic: with `{site_id}` in it.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        start: datetime,
        interval: timedelta = INTERVAL,
        plan: FaultPlan | None = None,
        seed: int = 1,
        telemetry_topic: str = TELEMETRY_TOPIC,
    ) -> None:
        self.sites = sites
        self._interval = interval
        self._plan = plan or FaultPlan()
        self._topic = telemetry_topic
        self._highest_id = max(site.site_id for site in sites)
        self._gateways = [
            _Gateway(
                SiteModel(site, start),
                Random(f"faults {seed} {site.site_id}"),
                telemetry_topic.replace("{site_id}", str(site.site_id)),
                None,
                [],
            )
            for site in sites
        ]
        self._phases = [_phase(site) for site in sites]
        self._due = [(start + self._phases[index] * interval, index) for index in range(len(sites))]
        heapq.heapify(self._due)

    @property
    def next_due(self) -> datetime:
        """Timestamp of the next reading."""
        return self._due[0][0]

    def step(self, now: datetime, live_interval: timedelta | None = None) -> list[Outgoing]:
        """Take the reading that is due next and return the messages it leads to: none, one or two.

        Args:
            now: wall clock, UTC; a skewed clock is ahead of it.
            live_interval: how often sites read once the reading after this one would lie in the future; the
                fleet then spreads itself over this interval from `now` on. None keeps the interval.
        """
        due, index = heapq.heappop(self._due)
        following = due + self._interval
        if live_interval is not None and following > now:
            following = due + live_interval
            if following <= now:
                following = now + self._phases[index] * live_interval
        heapq.heappush(self._due, (following, index))
        return self._read(self._gateways[index], due, now)

    def history(self, until: datetime) -> Iterator[Outgoing]:
        """Yield every message up to `until`, as fast as it is asked for."""
        while self.next_due <= until:
            yield from self.step(until)

    def _read(self, gateway: _Gateway, due: datetime, now: datetime) -> list[Outgoing]:
        sample = gateway.model.advance(due)
        document = write_reading(sample)
        if gateway.holds_for is not None:
            return self._hold(gateway, document)
        fault = self._plan.draw(gateway.random)
        if fault in (Fault.BAD_ELEMENT, Fault.LATE_BATCH):
            gateway.holds_for = fault
            return self._hold(gateway, document)
        good = Outgoing(gateway.topic, encode(document), stored=1)
        if fault is None:
            return [good]
        if fault is Fault.DUPLICATE:
            return [good, Outgoing(good.topic, good.payload, duplicate=1, fault=fault)]
        if fault is Fault.UNKNOWN_SITE:
            return [good, self._stray(gateway, document)]
        bad = Outgoing(
            gateway.topic,
            spoil(fault, document, sample, now, gateway.random),
            rejected=REJECTED_AS[fault],
            fault=fault,
        )
        return [good, bad] if fault is Fault.CONFLICT else [bad]

    def _hold(self, gateway: _Gateway, document: Document) -> list[Outgoing]:
        gateway.held.append(document)
        if len(gateway.held) < HELD_READINGS:
            return []
        held, fault = gateway.held, gateway.holds_for
        gateway.held, gateway.holds_for = [], None
        if fault is Fault.BAD_ELEMENT:
            payload = spoil_array(held)
            return [
                Outgoing(gateway.topic, payload, stored=len(held), rejected=REJECTED_AS[fault], fault=fault)
            ]
        return [Outgoing(gateway.topic, wrap_array(held, gateway.random), stored=len(held), fault=fault)]

    def _stray(self, gateway: _Gateway, document: Document) -> Outgoing:
        stranger = self._highest_id + 1 + gateway.random.randrange(_UNKNOWN_SITES)
        key = "site_id" if "site_id" in document else "siteId"
        return Outgoing(
            self._topic.replace("{site_id}", str(stranger)),
            encode({**document, key: stranger}),
            rejected=Reason.UNKNOWN_SITE,
            fault=Fault.UNKNOWN_SITE,
        )


def _phase(site: Site) -> float:
    """Share of the interval, over 0 and up to 1, after which the site reads."""
    return 1.0 - uniform(site.seed, -1)
