"""The daemon that runs here, by its own HTTP server: is it ready, and does somebody else use its client id.

Two clients with one id throw each other out for ever. To try the id would do the same to a running daemon, so
the evidence is what that daemon has seen: a session taken over, or reconnects that do not stop.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from bms_ingest.doctor.result import Report, Result, fail, ok, skip, warn

REQUEST_TIMEOUT_SECONDS = 1.0
BETWEEN_SAMPLES_SECONDS = 1.5
TAKEN_OVER = "taken over"
"""The standard's words for the reason code 0x8E; `/readyz` quotes them."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the daemon said of itself."""

    readiness: Mapping[str, Any]
    """The body of /readyz."""
    metrics: Mapping[str, float]
    """Samples of /metrics, with their labels as Prometheus writes them."""


class NoDaemonError(Exception):
    """Nothing listens where the daemon would."""


class StrangeAnswerError(Exception):
    """Something else than the daemon has its port."""


class DaemonExamination:
    """Asks the daemon of the settings, if it runs on this machine.

    Args:
        host: where its HTTP server listens.
        port: its port; 0 means one that nobody knows.
        between_samples_seconds: how long to watch for reconnects.
    """

    def __init__(
        self, host: str, port: int, *, between_samples_seconds: float = BETWEEN_SAMPLES_SECONDS
    ) -> None:
        address = EVERYWHERE.get(host, host)
        self._port = port
        self._place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self._between_samples_seconds = between_samples_seconds

    @property
    def checks(self) -> Sequence[str]:
        """Names of the checks, in order."""
        return ("daemon", "qos 0 received", "client id")

    async def run(self, report: Report) -> None:
        """Look at the daemon twice."""
        if self._port == 0:
            report(skip("daemon", "cannot be found: http.port is 0, so its port is in its log only"))
            return
        try:
            before = await asyncio.to_thread(self._look)
            report(judge_readiness(before))
            report(judge_received(before))
            await asyncio.sleep(self._between_samples_seconds)
            report(
                judge_client_id(before, await asyncio.to_thread(self._look), self._between_samples_seconds)
            )
        except NoDaemonError:
            report(skip("daemon", f"none answers on {self._place}"))
        except StrangeAnswerError as error:
            report(
                warn(
                    "daemon",
                    f"{self._place} does not answer as ours would: {error}",
                    "stop what has that port, or set another http.port / BMS_INGEST_HTTP__PORT",
                )
            )

    def _look(self) -> Seen:
        readiness = json_object(self._get("/readyz"))
        return Seen(readiness, samples(self._get("/metrics")))

    def _get(self, page: str) -> str:
        # A proxy of the environment is not asked about this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{self._place}{page}", timeout=REQUEST_TIMEOUT_SECONDS) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 503:
                    return error.read().decode()
            raise StrangeAnswerError(f"{page} gives {error.code}") from None
        except TimeoutError:
            raise StrangeAnswerError(f"{page} takes longer than {REQUEST_TIMEOUT_SECONDS:g} s") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise StrangeAnswerError(f"no connection in {REQUEST_TIMEOUT_SECONDS:g} s") from None
            raise NoDaemonError from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise StrangeAnswerError(f"{page}: {type(error).__name__}") from None


def json_object(body: str) -> Mapping[str, Any]:
    """Read the body of /readyz.

    Raises:
        StrangeAnswerError: it is not one.
    """
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("checks"), dict):
        raise StrangeAnswerError("/readyz is not ours")
    return document


def samples(body: str) -> Mapping[str, float]:
    """Read the body of /metrics: values by name and labels, such as `name_total{qos="0"}`.

    Raises:
        StrangeAnswerError: it is not one.
    """
    found = {}
    try:
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    except ValueError:
        raise StrangeAnswerError("/metrics is not ours") from None
    if "bms_ingest_mqtt_reconnects_total" not in found:
        raise StrangeAnswerError("/metrics is not ours")
    return found


def judge_readiness(seen: Seen) -> Result:
    """The daemon itself says that it can work."""
    troubles = [
        f"{name}: {answer.get('detail')}"
        for name, answer in seen.readiness["checks"].items()
        if not answer.get("ok")
    ]
    if troubles:
        return fail(
            "daemon", f"runs and is not ready: {' / '.join(troubles)}", "do what it says; its log has more"
        )
    return ok("daemon", "runs, and is ready")


def judge_received(seen: Seen) -> Result:
    """What the daemon has counted since it started knows more than a second of listening."""
    at_zero = seen.metrics.get('bms_ingest_messages_received_total{qos="0"}', 0)
    total = sum(
        value
        for name, value in seen.metrics.items()
        if name.startswith("bms_ingest_messages_received_total{")
    )
    if at_zero:
        return warn(
            "qos 0 received",
            f"{at_zero:.0f} of {total:.0f} messages since the daemon started were published at QoS 0",
            "configure those gateways to publish at QoS 1; what they send during a restart is lost",
        )
    return ok("qos 0 received", f"none of {total:.0f} messages since the daemon started")


def judge_client_id(before: Seen, after: Seen, seconds: float) -> Result:
    """Nobody else connects with the daemon's client id."""
    advice = "give each daemon its own mqtt.client_id / BMS_INGEST_MQTT__CLIENT_ID, and look for an old one"
    trouble = str(after.readiness["checks"].get("broker", {}).get("detail"))
    if TAKEN_OVER in trouble:
        return fail("client id", f"another client uses the daemon's: {trouble}", advice)
    name = "bms_ingest_mqtt_reconnects_total"
    grown = after.metrics[name] - before.metrics[name]
    if grown > 0:
        return warn(
            "client id",
            f"the daemon reconnected {grown:.0f} times in {seconds:g} s, as with a second client of its id, "
            "or a broken network",
            advice,
        )
    return ok(
        "client id",
        f"no sign of a second client: no reconnect in {seconds:g} s, {after.metrics[name]:.0f} in all",
    )
