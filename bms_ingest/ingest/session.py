"""What the path of a reading asks of an MQTT session; `mqtt/` holds the implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bms_ingest.models import Delivery


class Session(Protocol):
    """One live connection of a persistent MQTT session. Used from the event loop's thread only.

    Nothing is acknowledged but by `acknowledge`. When the connection ends, for whatever reason, the object
    is finished: the broker sends what was not acknowledged again over the next connection.
    """

    @property
    def generation(self) -> int:
        """The number given to `Broker.connect`; every delivery of this connection carries it."""

    @property
    def protocol(self) -> str:
        """The MQTT version in use: "5" or "3.1.1"."""

    @property
    def session_present(self) -> bool:
        """Whether the broker still had our session, with its subscriptions and queue [MQTT-3.2.2-2]."""

    @property
    def receive_maximum(self) -> int | None:
        """Most messages in flight that we granted; None on 3.1.1, which leaves it to the broker."""

    async def subscribe(self, topic_filter: str) -> int:
        """Subscribe at QoS 1 and return the granted QoS.

        Raises:
            BrokerRefused: the broker answered with a failure code.
            BrokerUnavailable: the connection is gone.
        """

    async def receive(self) -> list[Delivery]:
        """Wait for messages and return everything that has arrived, in receive order, at least one.

        Cancellation loses nothing: what was not returned is returned by the next call.

        Raises:
            BrokerUnavailable: the connection is gone and everything received before has been returned.
        """

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Send PUBACKs in the order given; QoS 0 deliveries are passed over. Does not wait.

        Raises:
            BrokerUnavailable: the connection is gone, or a delivery belongs to another generation.
        """

    async def close(self) -> None:
        """Disconnect and keep the session at the broker. Safe to call twice and on a broken connection."""


class Broker(Protocol):
    """Makes sessions; holds what it takes to connect."""

    async def connect(self, generation: int) -> Session:
        """Open a connection to our persistent session.

        Raises:
            BrokerUnavailable: refused, unreachable, timed out.
            BrokerRefused: the broker answered with a failure code (credentials, client id, ACL).
        """
