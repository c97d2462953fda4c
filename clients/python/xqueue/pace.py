"""How many tasks a worker claims ahead of those that it runs."""

from __future__ import annotations

# An attempt longer than this ends claiming ahead.
QUICK_SECONDS = 0.005
# Maximum work that is held but not started.
HELD_SECONDS = 0.005
# Number of quick attempts before claiming ahead, so that a worker after a crash claims only tasks that it runs.
QUICK_MIN = 100
WEIGHT = 1 / 32
# Below this, the clock measures itself.
MEAN_SECONDS_MIN = 0.00001


class Pace:
    """
    Measures how fast the handlers end. If they take no longer than a call, the calls dominate; then the worker holds
    further tasks, which start when threads become free.
    """

    def __init__(self, concurrency: int, ahead_max: int) -> None:
        self._concurrency = concurrency
        self._ahead_max = ahead_max
        self._quick = 0
        self._mean = QUICK_SECONDS

    def ended(self, seconds: float) -> None:
        """Records the duration of an attempt."""
        self._quick = 0 if seconds > QUICK_SECONDS else self._quick + 1
        self._mean += (seconds - self._mean) * WEIGHT

    def slow(self) -> None:
        """Held tasks have not started in time."""
        self._quick = 0

    def ahead(self) -> int:
        """Number of tasks to hold beside the running ones."""
        if self._quick < QUICK_MIN:
            return 0
        return min(self._ahead_max, int(HELD_SECONDS * self._concurrency / max(self._mean, MEAN_SECONDS_MIN)))
