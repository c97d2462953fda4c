"""The connections of a client: as many as there are concurrent calls, kept for the next ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from .connection import Connection


class Connections:
    """Safe to share between threads. A process that was forked opens its own connections."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._process = os.getpid()
        # At the start, so that a server that is no URL is reported at once.
        self._idle = [connect()]

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """A connection for one call. The latest one goes first, so that those beyond the need become idle."""
        if os.getpid() != self._process:
            self._forget()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            self._idle.append(connection)
            # The first one has been idle for longest.
            stale = self._idle.pop(0) if self._idle[0].is_stale() else None
        if stale:
            stale.close()

    def _forget(self) -> None:
        """After a fork the sockets belong to the parent process, and its lock may have been held."""
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._idle = []
