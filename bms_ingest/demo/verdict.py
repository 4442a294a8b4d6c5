"""Holds what was published against what the daemon says and what the tables hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bms_ingest.demo.ledger import Ledger
from bms_ingest.demo.tally import Tally
from bms_ingest.models import Reason


@dataclass(frozen=True)
class Evidence:
    """Everything known at the end of a run."""

    sent: Tally
    """Each attempt; more than `acknowledged` when a connection broke."""
    acknowledged: Tally
    ledger: Ledger
    rows: int
    """In telemetry_readings."""
    quarantine: Mapping[str, int]
    """Occurrences in the table quarantine, by reason."""


def contradictions(evidence: Evidence) -> list[str]:
    """Return a sentence for everything that does not add up; none means the books balance."""
    return [
        *_within_the_daemon(evidence),
        *_between_daemon_and_tables(evidence),
        *_against_published(evidence),
    ]


def _within_the_daemon(evidence: Evidence) -> Iterator[str]:
    ledger = evidence.ledger
    if not ledger.balanced:
        yield (
            f"the daemon received {ledger.received}, but stored, duplicate, quarantined and pending "
            f"come to {ledger.settled + ledger.pending}"
        )
    if ledger.pending:
        yield f"{ledger.pending} readings were still pending"


def _between_daemon_and_tables(evidence: Evidence) -> Iterator[str]:
    ledger = evidence.ledger
    if evidence.rows != ledger.stored:
        yield f"the daemon stored {ledger.stored} readings, but telemetry_readings holds {evidence.rows} rows"
    for reason in sorted({*ledger.quarantined, *evidence.quarantine}):
        counted, kept = ledger.quarantined.get(reason, 0), evidence.quarantine.get(reason, 0)
        if counted != kept:
            yield f"the daemon quarantined {counted} as {reason}, but the table quarantine holds {kept}"


def _against_published(evidence: Evidence) -> Iterator[str]:
    sent, acknowledged, ledger = evidence.sent, evidence.acknowledged, evidence.ledger
    # What the broker never confirmed it may have or not; what it has twice comes out as duplicates.
    doubtful = sent.stored - acknowledged.stored
    yield from _outside("rows", evidence.rows, acknowledged.stored, sent.stored)
    if ledger.reconnects:
        return
    yield from _outside("duplicates", ledger.duplicate, acknowledged.duplicate, sent.duplicate + doubtful)
    for reason in Reason:
        found = ledger.quarantined.get(reason.value, 0)
        yield from _outside(
            f"in quarantine as {reason}", found, acknowledged.rejected[reason], sent.rejected[reason]
        )


def _outside(what: str, found: int, least: int, most: int) -> Iterator[str]:
    if not least <= found <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        yield f"{wanted} were published that must end as {what}, and {found} did"
