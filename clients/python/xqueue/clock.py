"""How far this machine's clock is ahead of the server's."""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime

# Calls of which the one with the quickest answer tells the truth best, and the resolution of `Date`.
CALLS = 8
DATE_SECONDS = 1.0


class ServerClock:
    """
    Never says more than the truth: an answer that is read late, as after the process stood still, makes the clock seem
    ahead, and a lease longer than it is.
    """

    def __init__(self) -> None:
        self._ahead: deque[float] = deque(maxlen=CALLS)

    def answered(self, date: datetime | None) -> None:
        """Notes the `Date` of an answer that was read just now."""
        if date:
            self._ahead.append(time.time() - date.timestamp())

    def local(self, text: str) -> float:
        """A time of the server as `time.time()` of this machine."""
        ahead = min(self._ahead) - DATE_SECONDS if self._ahead else 0.0
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() + ahead
