"""How long to wait before trying again: exponential with jitter, so that replicas spread out."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Growing delays, until `reset` after a success.

    Args:
        first_seconds: upper bound of the first delay; it doubles with each one.
        most_seconds: upper bound of every delay.
        jitter: uniform number in [0, 1); a test may give its own.
    """

    def __init__(
        self, first_seconds: float, most_seconds: float, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._jitter = jitter
        self._tries = 0

    def next_seconds(self) -> float:
        """Return the next delay; never below half its bound, so that a fault is never hammered."""
        bound = min(self._most, self._first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return bound * (0.5 + 0.5 * self._jitter())

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._tries = 0
