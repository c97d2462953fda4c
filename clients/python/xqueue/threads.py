"""The threads of a worker's handlers."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Callable

from .attempt import Attempt

# Attempts that wait are given back if none has started for this time, because the threads are occupied.
AHEAD_SECONDS_MAX = 0.02


class HandlerThreads:
    """
    Up to `most` threads, started when they are needed and used again. A thread that takes an attempt wakes the next one
    while there are more, so that handlers that end at once are run by few threads, which need not be switched.

    An attempt waits until a thread is free. Then it is passed to `run`, or before that to `give_back`, never to both.
    """

    def __init__(
        self, most: int, run: Callable[[Attempt], None], give_back: Callable[[Sequence[Attempt]], None]
    ) -> None:
        self._most = most
        self._run = run
        self._give_back = give_back
        self._waiting: deque[Attempt] = deque()
        lock = threading.Lock()
        self._changed, self._occupied = threading.Condition(lock), threading.Condition(lock)
        self._threads = 0
        self._idle = 0
        self._is_waking = False
        self._is_closed = False
        self._started = 0
        """Number of attempts."""

    def start(self, attempts: Sequence[Attempt]) -> None:
        """Runs them, each as soon as a thread is free."""
        with self._changed:
            if not self._is_closed:
                self._waiting.extend(attempts)
                self._wake()
                return
        if attempts:
            self._give_back(attempts)

    def recall(self, which: Callable[[Attempt], bool] = lambda _attempt: True) -> None:
        """Gives back those that wait, all or some."""
        recalled: list[Attempt] = []
        with self._changed:
            for _ in range(len(self._waiting)):
                attempt = self._waiting.popleft()
                (recalled if which(attempt) else self._waiting).append(attempt)
        if recalled:
            self._give_back(recalled)

    def close(self) -> None:
        """Starts no more: gives back those that wait, and those that still come."""
        with self._changed:
            self._is_closed = True
            self._occupied.notify()
        self.recall()

    def recall_late(self) -> None:
        """Gives back those that wait while all threads are occupied for too long, until it is closed."""
        while True:
            with self._changed:
                self._occupied.wait_for(lambda: self._is_closed or self._is_occupied())
                if self._is_closed:
                    return
                before = self._started
            time.sleep(AHEAD_SECONDS_MAX)
            if self._started == before:
                self.recall()

    def _is_occupied(self) -> bool:
        return bool(self._waiting) and self._threads == self._most and self._idle == 0 and not self._is_waking

    def _wake(self) -> None:
        if self._is_waking or not self._waiting:
            return
        if self._idle > 0:
            self._is_waking = True
            self._changed.notify()
        elif self._threads < self._most:
            threading.Thread(target=self._loop, name="xqueue-handler", daemon=True).start()
            self._is_waking = True
            self._threads += 1
        else:
            self._occupied.notify()

    def _loop(self) -> None:
        is_new = True
        while True:
            with self._changed:
                if is_new:
                    is_new = self._is_waking = False
                while not self._waiting:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                    self._is_waking = False
                attempt = self._waiting.popleft()
                self._started += 1
                self._wake()
            self._run(attempt)

