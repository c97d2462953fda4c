"""The threads of a worker's handlers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Callable

from .attempt import Attempt


class HandlerThreads:
    """
    Up to `most` threads, started when they are needed and used again. A thread that takes an attempt wakes the next one
    while there are more, so that handlers that end at once are run by few threads, which need not be switched.
    """

    def __init__(self, most: int, run: Callable[[Attempt], None]) -> None:
        self._most = most
        self._run = run
        self._waiting: deque[Attempt] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._threads = 0
        self._idle = 0
        self._is_waking = False

    def start(self, attempts: Iterable[Attempt]) -> None:
        with self._changed:
            self._waiting.extend(attempts)
            self._wake()

    def _wake(self) -> None:
        if self._is_waking or not self._waiting:
            return
        if self._idle > 0:
            self._is_waking = True
            self._changed.notify()
        elif self._threads < self._most:
            self._is_waking = True
            self._threads += 1
            threading.Thread(target=self._loop, name="xqueue-handler", daemon=True).start()

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
                self._wake()
            self._run(attempt)
