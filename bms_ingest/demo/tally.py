"""Counts what was published and what a correct daemon must have made of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bms_ingest.demo.faults import Fault
from bms_ingest.demo.stream import Outgoing
from bms_ingest.models import Reason


@dataclass
class Tally:
    """What a number of messages come to."""

    messages: int = 0
    payload_bytes: int = 0
    stored: int = 0
    """Readings that must be rows."""
    duplicate: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    faults: Counter[Fault] = field(default_factory=Counter)

    def add(self, message: Outgoing) -> None:
        """Count one message."""
        self.messages += 1
        self.payload_bytes += len(message.payload)
        self.stored += message.stored
        self.duplicate += message.duplicate
        if message.rejected is not None:
            self.rejected[message.rejected] += 1
        if message.fault is not None:
            self.faults[message.fault] += 1

    @property
    def entries(self) -> int:
        """What all messages count in the daemon's ledger: readings and rejections."""
        return self.stored + self.duplicate + self.rejected.total()
