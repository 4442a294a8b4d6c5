"""The demo's verdict: everything that does not add up is found, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from bms_ingest.demo.ledger import Ledger
from bms_ingest.demo.show import Options, plan_for
from bms_ingest.demo.tally import Tally
from bms_ingest.demo.verdict import Evidence, contradictions
from bms_ingest.models import Reason


def tally(stored: int = 100, duplicate: int = 3, **rejected: int) -> Tally:
    """A tally with so many of each."""
    reasons = rejected or {"not_json": 5}
    return Tally(
        messages=stored + duplicate,
        stored=stored,
        duplicate=duplicate,
        rejected=Counter({Reason(reason): count for reason, count in reasons.items()}),
    )


BALANCED = Evidence(
    sent=tally(),
    acknowledged=tally(),
    ledger=Ledger(received=108, stored=100, duplicate=3, quarantined={"not_json": 5}),
    rows=100,
    quarantine={"not_json": 5},
)


def test_books_that_balance_are_not_complained_about() -> None:
    assert contradictions(BALANCED) == []


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (replace(BALANCED, rows=99), "holds 99 rows"),
        (replace(BALANCED, quarantine={"not_json": 4}), "table quarantine holds 4"),
        (replace(BALANCED, quarantine={"not_json": 5, "refused": 1}), "quarantined 0 as refused"),
        (replace(BALANCED, ledger=replace(BALANCED.ledger, received=109)), "received 109"),
        (
            replace(BALANCED, ledger=replace(BALANCED.ledger, received=110, pending=2)),
            "2 readings were still",
        ),
        (
            replace(BALANCED, sent=tally(101), acknowledged=tally(101)),
            "101 were published that must end as rows",
        ),
        (
            replace(BALANCED, sent=tally(99), acknowledged=tally(99)),
            "99 were published that must end as rows",
        ),
        (replace(BALANCED, sent=tally(100, 4), acknowledged=tally(100, 4)), "must end as duplicates"),
        (
            replace(BALANCED, sent=tally(not_json=6), acknowledged=tally(not_json=6)),
            "6 were published that must end as in quarantine as not_json, and 5 did",
        ),
        (
            replace(BALANCED, sent=tally(not_json=4), acknowledged=tally(not_json=4)),
            "must end as in quarantine as not_json",
        ),
    ],
)
def test_each_thing_that_does_not_add_up_is_named(evidence: Evidence, words: str) -> None:
    assert any(words in problem for problem in contradictions(evidence)), contradictions(evidence)


def test_what_was_sent_twice_may_be_there_once_or_twice() -> None:
    sent_again = replace(BALANCED, sent=tally(102, 3, not_json=6))
    assert contradictions(sent_again) == []
    twice = replace(sent_again, ledger=replace(BALANCED.ledger, received=110, duplicate=5))
    assert contradictions(twice) == []
    too_often = replace(sent_again, ledger=replace(BALANCED.ledger, received=111, duplicate=6))
    assert contradictions(too_often) != []


def test_redelivery_to_the_daemon_is_no_contradiction_but_a_lost_row_is() -> None:
    redelivered = replace(BALANCED.ledger, received=120, duplicate=15, reconnects=1)
    assert contradictions(replace(BALANCED, ledger=redelivered)) == []
    lost = replace(redelivered, received=119, stored=99)
    assert contradictions(replace(BALANCED, ledger=lost, rows=99)) != []


@pytest.mark.parametrize("sites", [1, 50, 2000])
@pytest.mark.parametrize("seconds", [5, 30, 600])
def test_history_fits_into_the_duration_and_the_time_window(sites: int, seconds: int) -> None:
    plan = plan_for(Options(duration=timedelta(seconds=seconds), sites=sites))
    catching_up_seconds = plan.history.total_seconds() / plan.speed_up
    assert 0.5 * seconds <= catching_up_seconds <= 0.7 * seconds
    assert timedelta(hours=1) <= plan.history <= timedelta(days=3)
    per_second = sites * plan.history / plan.interval / catching_up_seconds
    assert per_second <= 1500.1 or plan.history == timedelta(hours=1)
    assert plan.live_interval is not None
    assert sites / plan.live_interval.total_seconds() <= 100.0
