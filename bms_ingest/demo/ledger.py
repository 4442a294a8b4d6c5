"""Reads the daemon's ledger from its /metrics: received = stored + duplicate + quarantined + pending."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_SECONDS = 3.0
_PREFIX = "bms_ingest_"


@dataclass(frozen=True)
class Ledger:
    """Where every reading and every rejected payload that the daemon took in has gone."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)
    """By reason; reasons that never came up are left out."""
    pending: int = 0
    reconnects: int = 0
    """Connections to the broker after the first."""
    commit_lags: tuple[tuple[float, float], ...] = ()
    """Upper bound of each bucket in seconds and how many batches lie at or below it."""

    @property
    def settled(self) -> int:
        """Stored, duplicate and quarantined together."""
        return self.stored + self.duplicate + sum(self.quarantined.values())

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing and nothing counted twice."""
        return self.received == self.settled + self.pending

    def lag_below_seconds(self, share: float) -> float | None:
        """Bound of the bucket with this share (0..1) of all batches at or below it; None without any."""
        total = self.commit_lags[-1][1] if self.commit_lags else 0.0
        for bound, count in self.commit_lags:
            if total and count >= share * total:
                return bound
        return None


def parse_ledger(exposition: str) -> Ledger:
    """Read the ledger from the text format of Prometheus."""
    numbers: dict[str, float] = {}
    quarantined: dict[str, int] = {}
    lags: list[tuple[float, float]] = []
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            name = sample.name.removeprefix(_PREFIX)
            if name == "readings_quarantined_total":
                if sample.value:
                    quarantined[sample.labels["reason"]] = int(sample.value)
            elif name == "commit_lag_seconds_bucket":
                lags.append((float(sample.labels["le"]), sample.value))
            elif not sample.labels:
                numbers[name] = sample.value
    return Ledger(
        received=int(numbers.get("readings_received_total", 0)),
        stored=int(numbers.get("readings_stored_total", 0)),
        duplicate=int(numbers.get("readings_duplicate_total", 0)),
        quarantined=quarantined,
        pending=int(numbers.get("readings_pending", 0)),
        reconnects=int(numbers.get("mqtt_reconnects_total", 0)),
        commit_lags=tuple(sorted(lags)),
    )


async def fetch_ledger(port: int) -> Ledger | None:
    """Ask the daemon on 127.0.0.1; None when it does not answer."""
    status, text = await _get(port, "/metrics")
    return parse_ledger(text) if status == 200 else None


async def fetch_readiness(port: int) -> tuple[bool, str]:
    """Return whether the daemon is ready, and what its answer said."""
    status, text = await _get(port, "/readyz")
    return status == 200, text


async def _get(port: int, path: str) -> tuple[int, str]:
    """Return status and body; status 0 with the reason when there was no answer."""
    return await asyncio.to_thread(_get_blocking, f"http://127.0.0.1:{port}{path}")


def _get_blocking(url: str) -> tuple[int, str]:
    # Without a proxy: the environment's is for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)
