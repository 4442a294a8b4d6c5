"""Acknowledgements leave in receive order, only for what is settled, and never for an earlier connection."""

from __future__ import annotations

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bms_ingest.ingest.acks import Acknowledger
from bms_ingest.metrics import Metrics
from bms_ingest.models import Delivery
from tests.unit.pipeline import RecordingSession, delivery


class AcknowledgerMachine(RuleBasedStateMachine):
    """Any order of receiving, settling, losing the connection and connecting again."""

    @initialize()
    def start(self) -> None:
        self.metrics = Metrics()
        self.acknowledger = Acknowledger(self.metrics)
        self.everything: list[Delivery] = []
        self.generation = 0
        self.sessions: list[RecordingSession] = []
        self.received: dict[int, list[Delivery]] = {}
        self.connect()

    @rule()
    def connect(self) -> None:
        self.acknowledger.end()
        self.generation += 1
        self.sessions.append(RecordingSession(self.generation))
        self.received[self.generation] = []
        self.acknowledger.begin(self.sessions[-1])

    @rule(count=strategies.integers(1, 5), qos0=strategies.booleans())
    def receive(self, count: int, qos0: bool) -> None:
        burst = [
            delivery(
                0 if qos0 and index == 0 else len(self.everything) + index + 1, generation=self.generation
            )
            for index in range(count)
        ]
        self.acknowledger.track(burst)
        self.received[self.generation] += [each for each in burst if each.packet_id]
        self.everything += burst

    @precondition(lambda self: self.everything)
    @rule(data=strategies.data())
    def settle(self, data: strategies.DataObject) -> None:
        chosen = data.draw(strategies.lists(strategies.sampled_from(self.everything), max_size=6))
        self.acknowledger.settle(chosen)

    @rule()
    def lose_connection_unnoticed(self) -> None:
        self.sessions[-1].broken = True

    @invariant()
    def acknowledged_is_a_settled_prefix_of_what_was_received(self) -> None:
        for session in self.sessions:
            received = self.received[session.generation]
            assert session.acknowledged == received[: len(session.acknowledged)]
            assert all(each.settled for each in session.acknowledged)

    @invariant()
    def nothing_settled_waits_at_the_front(self) -> None:
        session = self.sessions[-1]
        waiting = self.received[self.generation][len(session.acknowledged) :]
        if not session.broken:
            assert not waiting or not waiting[0].settled
            assert self.acknowledger.in_flight == len(waiting)

    @invariant()
    def every_puback_is_counted(self) -> None:
        counted = self.metrics.registry.get_sample_value("bms_ingest_messages_acknowledged_total")
        assert counted == sum(len(session.acknowledged) for session in self.sessions)


AcknowledgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAcknowledger = AcknowledgerMachine.TestCase


def test_oldest_age_is_that_of_the_first_delivery_in_flight() -> None:
    acknowledger = Acknowledger(Metrics())
    acknowledger.begin(RecordingSession(1))
    assert acknowledger.oldest_seconds() == 0
    old, young = delivery(1), delivery(2)
    old.arrived_seconds -= 100
    acknowledger.track([old, young])
    assert 100 <= acknowledger.oldest_seconds() < 200
    acknowledger.settle([old])
    assert acknowledger.oldest_seconds() < 100
