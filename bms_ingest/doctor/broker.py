"""The broker: does it keep what it is given, and hand it over as our promise needs it.

All of it is tried with a client beside the daemon's, on a topic beside the sites'; see `Probe`. Where an
access list forbids that topic nothing can be said, and the line says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from bms_ingest.doctor.result import Report, Result, fail, ok, skip, warn
from bms_ingest.errors import BrokerError, BrokerRefused
from bms_ingest.models import Delivery

WINDOW_MESSAGES = 200
EXTRA_MESSAGES = 10
LISTEN_SECONDS = 1.2
PUBLISH_SECONDS = 1.0
FIRST_ARRIVAL_SECONDS = 0.8
QUIET_SECONDS = 0.3
FORGET_SECONDS = 0.5
PAYLOAD = b"bms-ingest doctor"


class ProbeSession(Protocol):
    """One connection of the probe's persistent session."""

    @property
    def protocol(self) -> str:
        """The MQTT version in use: "5" or "3.1.1"."""

    @property
    def session_present(self) -> bool:
        """Whether the broker still had the session."""

    async def subscribe(self, topic_filter: str) -> int:
        """Subscribe at QoS 1 and return the granted QoS."""

    async def receive(self) -> list[Delivery]:
        """Wait for messages; nothing is acknowledged."""

    async def close(self) -> None:
        """Disconnect and keep the session at the broker."""


class Probe(Protocol):
    """A client that a running daemon does not notice; its failures are BrokerErrors."""

    async def connect(self) -> ProbeSession:
        """Open a connection to the probe's own persistent session, granting 200 messages in flight."""

    async def publish(self, protocol: str, topic: str, payloads: Iterable[bytes]) -> None:
        """Publish at QoS 1 and return after the last PUBACK."""

    async def listen(self, protocol: str, topic_filter: str, seconds: float) -> tuple[int, Counter[int]]:
        """Subscribe for a while; return the granted QoS, and how many live messages came at which QoS."""

    async def forget(self, protocol: str) -> None:
        """Wipe the probe's session."""


class BrokerExamination:
    """Everything about the broker.

    Args:
        probe: a client of its own.
        telemetry_filter: what the daemon subscribes to, without its share group.
        share_group: a group that no daemon is in, when the daemon uses one.
        private_topic: below it a random level is added; nobody else may use it.
        batch_rows: most rows in a batch.
        receive_maximum: what the daemon grants.
        configured_protocol: "auto", "5" or "3.1.1".
    """

    def __init__(
        self,
        probe: Probe,
        *,
        telemetry_filter: str,
        share_group: str | None,
        private_topic: str,
        batch_rows: int,
        receive_maximum: int,
        configured_protocol: str,
    ) -> None:
        self._probe = probe
        self._share = f"$share/{share_group}/" if share_group else ""
        self._telemetry_filter = self._share + telemetry_filter
        self._topic = f"{private_topic}/{secrets.token_hex(8)}"
        self._batch_rows = batch_rows
        self._receive_maximum = receive_maximum
        self._configured_protocol = configured_protocol

    @property
    def checks(self) -> Sequence[str]:
        """Names of the checks, in order."""
        return ("broker", "protocol", "subscription", "qos 0", "session", "in flight")

    async def run(self, report: Report) -> None:
        """Connect, then listen to the sites and try the session side by side."""
        try:
            session = await self._fresh_session()
        except BrokerError as error:
            report(judge_unreachable(error))
            return
        protocol = session.protocol
        report(ok("broker", "reachable, and lets us in"))
        report(judge_protocol(protocol, self._configured_protocol))
        try:
            async with asyncio.TaskGroup() as together:
                together.create_task(self._listen(protocol, report))
                together.create_task(self._try_session(session, report))
        finally:
            await session.close()
            with contextlib.suppress(BrokerError, TimeoutError):
                async with asyncio.timeout(FORGET_SECONDS):
                    await self._probe.forget(protocol)

    async def _fresh_session(self) -> ProbeSession:
        """Connect; what a killed doctor left is wiped, as it would count as in flight."""
        session = await self._probe.connect()
        if session.session_present:
            await session.close()
            await self._probe.forget(session.protocol)
            session = await self._probe.connect()
        return session

    async def _listen(self, protocol: str, report: Report) -> None:
        try:
            granted, heard = await self._probe.listen(protocol, self._telemetry_filter, LISTEN_SECONDS)
        except BrokerError as error:
            report(judge_subscription_error(error))
            report(skip("qos 0", "not checked: subscription failed"))
            return
        report(judge_granted(granted, self._telemetry_filter))
        report(judge_heard(granted, heard, LISTEN_SECONDS))

    async def _try_session(self, session: ProbeSession, report: Report) -> None:
        """Subscribe, leave, let messages queue, come back: the session and the queue must be there."""
        try:
            await self._subscribe_privately(session)
            await session.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await self._probe.publish(
                        session.protocol, self._topic, [PAYLOAD] * (WINDOW_MESSAGES + EXTRA_MESSAGES)
                    )
            again = await self._probe.connect()
        except BrokerError as error:
            report(warn("session", f"could not be tried: {error}", "try again, and look at the broker's log"))
            report(skip("in flight", "not checked: session could not be tried"))
            return
        try:
            report(judge_session(again.session_present))
            if not again.session_present:
                report(skip("in flight", "not checked: session failed"))
                return
            arrived = await self._arrivals(again)
            report(
                judge_window(
                    arrived,
                    again.protocol,
                    topic=self._topic,
                    shared=bool(self._share),
                    batch_rows=self._batch_rows,
                    receive_maximum=self._receive_maximum,
                )
            )
        finally:
            await again.close()

    async def _subscribe_privately(self, session: ProbeSession) -> None:
        # Refused by an ACL: the session can be tried all the same; `judge_window` says why nothing comes.
        with contextlib.suppress(BrokerRefused):
            await session.subscribe(self._share + self._topic)

    async def _arrivals(self, session: ProbeSession) -> int:
        """Count what comes while nothing is acknowledged."""
        arrived = 0
        patience_seconds = FIRST_ARRIVAL_SECONDS
        with contextlib.suppress(TimeoutError, BrokerError):
            while True:
                async with asyncio.timeout(patience_seconds):
                    arrived += len(await session.receive())
                patience_seconds = QUIET_SECONDS
        return arrived


def judge_unreachable(error: BrokerError) -> Result:
    """The connection failed; the error says why and often what to do."""
    found, _, advice = str(error).partition("; ")
    return fail(
        "broker",
        found,
        advice
        or "start the broker, or correct scheme (mqtt, mqtts, ws, wss), host and port in mqtt.url / "
        "BMS_INGEST_MQTT__URL; see firewalls",
    )


def judge_protocol(protocol: str, configured: str) -> Result:
    """MQTT 5 lets us bound what is in flight and how long the session is kept."""
    if protocol == "5":
        return ok("protocol", "MQTT 5")
    if configured == "3.1.1":
        why = "as mqtt.protocol says"
        advice = "set mqtt.protocol to auto if the broker can do better"
    else:
        why = "the broker does not speak MQTT 5"
        advice = "use a broker that speaks MQTT 5 if you can"
    return warn(
        "protocol",
        f"MQTT 3.1.1, {why}: the broker decides how much is in flight and how long it keeps our session",
        advice,
    )


def judge_granted(granted: int, topic_filter: str) -> Result:
    """QoS 1 is what the promise rests on."""
    if granted < 1:
        return fail(
            "subscription",
            f"{topic_filter} is granted at QoS {granted} only: messages would be lost",
            "raise the maximum QoS of the broker's listener",
        )
    return ok("subscription", f"{topic_filter} is granted at QoS {granted}")


def judge_subscription_error(error: BrokerError) -> Result:
    """The telemetry cannot be subscribed to."""
    found, _, advice = str(error).partition("; ")
    return fail("subscription", found, advice or "try again, and look at the broker's log")


def judge_heard(granted: int, heard: Counter[int], seconds: float) -> Result:
    """What is published at QoS 0 is lost whenever the connection is."""
    total = heard.total()
    if granted < 1:
        return skip("qos 0", "cannot be seen: the subscription itself is at QoS 0")
    if not total:
        return ok(
            "qos 0", f"no telemetry came in {seconds:g} s of listening; the metrics of the daemon know more"
        )
    if heard[0]:
        return warn(
            "qos 0",
            f"{heard[0]} of {total} messages in {seconds:g} s came at QoS 0, which nobody can protect",
            "configure those gateways to publish at QoS 1",
        )
    return ok("qos 0", f"all {total} messages of {seconds:g} s were published at QoS 1 or 2")


def judge_session(session_present: bool) -> Result:
    """What comes while the daemon is away waits in its session."""
    if session_present:
        return ok("session", "kept while the client was away")
    return fail(
        "session",
        "the broker forgot it when the client left: what is sent while the daemon restarts is lost",
        "let the broker keep sessions (mosquitto: persistence true, a long persistent_client_expiration)",
    )


def judge_window(
    arrived: int, protocol: str, *, topic: str, shared: bool, batch_rows: int, receive_maximum: int
) -> Result:
    """A batch holds no more messages than the broker sends before it wants acknowledgements."""
    sent = WINDOW_MESSAGES + EXTRA_MESSAGES
    if arrived == 0:
        advice = (
            "if an access list forbids it, allow our user to read and write the topics above its last level"
        )
        if shared:
            advice += "; if none does, the broker has no shared subscriptions: unset mqtt.share_group"
        return warn(
            "in flight",
            f"could not be tried: nothing that was published to {topic} came back",
            advice,
        )
    if protocol == "5":
        if arrived > WINDOW_MESSAGES:
            return fail(
                "in flight",
                f"the broker sent {arrived} messages although the Receive Maximum was {WINDOW_MESSAGES}: "
                "nothing bounds what piles up here",
                "use a broker that honours Receive Maximum",
            )
        if arrived == WINDOW_MESSAGES:
            return ok(
                "in flight",
                f"the broker honours Receive Maximum; ours, {receive_maximum}, holds a batch of {batch_rows}",
            )
    elif arrived == sent:
        return ok("in flight", f"the broker sends at least {sent} messages before it wants acknowledgements")
    return warn(
        "in flight",
        f"the broker sends at most {arrived} messages before it wants acknowledgements: no batch is larger",
        f"raise the broker's limit towards batch.max_rows ({batch_rows}) (mosquitto: max_inflight_messages)",
    )
