"""How fast a counter grows."""

from __future__ import annotations

from collections import deque


class Rate:
    """Increase per second of a counter over the last seconds.

    Args:
        window_seconds: how far back it looks.
    """

    def __init__(self, window_seconds: float = 3.0) -> None:
        self._window = window_seconds
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, at_seconds: float, value: int) -> float:
        """Note the counter at a monotonic time and return its rate."""
        self._seen.append((at_seconds, value))
        while len(self._seen) > 2 and self._seen[0][0] < at_seconds - self._window:
            self._seen.popleft()
        first_at, first = self._seen[0]
        return (value - first) / (at_seconds - first_at) if at_seconds > first_at else 0.0
