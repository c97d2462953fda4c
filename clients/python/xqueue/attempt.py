"""One run of a handler, as the handler sees it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from .clock import DATE_SECONDS
from .task import Json, Predecessor, Task

# Longest delay of a retry.
DELAY_SECONDS_MAX = 366 * 86_400
# Longest and shortest hold of a type.
HOLD_SECONDS_MAX = 86_400
HOLD_SECONDS_MIN = 0.001
# Progress is sent after this pause, the last value of it.
PROGRESS_SECONDS_MIN = 0.2
# So are lines of the log, all of them.
LOG_SECONDS_MIN = 1.0
# Lines that wait to be sent; the oldest go first.
LOG_LINES_MAX = 1_000
LOG_CHARS_MAX = 256 * 1024
MESSAGE_CHARS_MAX = 8_000
LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
task_log = logging.getLogger("xqueue.task")


class DoNotRetry(Exception):
    """Raised by a handler: this task cannot succeed, do not try again."""


class RetryAfter(Exception):
    """
    Raised by a handler: try again, but not before so many seconds, up to 366 days. Counts as an attempt. What is no
    such time (`nan`, `inf`) is replaced by the back-off of the type, and the task's error says so.
    """

    def __init__(self, seconds: float, message: str | None = None) -> None:
        super().__init__(message or f"try again after {seconds} s")
        self.seconds = seconds

    @property
    def delay(self) -> float | None:
        """Seconds to wait, 0 for a time that is over; None for what is none."""
        return _usable(self.seconds, DELAY_SECONDS_MAX)


class RateLimited(Exception):
    """
    Raised by a handler whose service refuses further calls for some time, as with HTTP 429: no task of the type starts
    before so many seconds have passed, up to 24 hours, in any process, or with `limit` none that uses that named limit.
    The task runs again then, and no attempt counts. What is no such time (0 or less, `nan`, `inf`) counts as a failed
    attempt, and the task's error says so.
    """

    def __init__(self, seconds: float, message: str | None = None, *, limit: str | None = None) -> None:
        super().__init__(message or f"rate limited for {seconds} s")
        self.seconds = seconds
        self.limit = limit

    @property
    def hold(self) -> float | None:
        """Seconds to hold the type; None for what is none."""
        seconds = _usable(self.seconds, HOLD_SECONDS_MAX)
        return max(seconds, HOLD_SECONDS_MIN) if seconds else None


def _usable(seconds: object, most: float) -> float | None:
    if not isinstance(seconds, (int, float)) or not abs(seconds) <= most:
        return None
    return max(seconds, 0)


class Lines:
    """Lines as JSON, bounded in count and size."""

    def __init__(self) -> None:
        self.texts: deque[str] = deque()
        self.skipped = 0
        """The number of older lines that were left out."""
        self._chars = 0

    def add(self, text: str) -> None:
        self.texts.append(text)
        self._chars += len(text)
        while len(self.texts) > LOG_LINES_MAX or (self._chars > LOG_CHARS_MAX and len(self.texts) > 1):
            self._chars -= len(self.texts.popleft())
            self.skipped += 1

    def append(self, later: Lines) -> None:
        for text in later.texts:
            self.add(text)
        self.skipped += later.skipped


# Handlers write lines, and the loops take them. Few handlers write lines, so all share a lock.
_lock = threading.Lock()


def _line(message: object, level: str, fields: Mapping[str, object]) -> str:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": now, "level": level, "message": str(message)[:MESSAGE_CHARS_MAX]}
    if not fields:
        return json.dumps(line)
    try:
        return json.dumps({**line, "fields": fields}, allow_nan=False, default=str)
    except Exception as error:  # Whatever the handler logs, it must not fail for it.
        return json.dumps({**line, "fields": {"unreadable": type(error).__name__}})


class Canceled(BaseException):
    """The run is to end: its message says why. No `except Exception` of a handler swallows it."""


class Attempt:
    """What a handler gets: its task, and how to report and to be stopped."""

    def __init__(
        self, task: Task, lease: str, heartbeat_seconds: float, predecessors: Sequence[Predecessor] = ()
    ) -> None:
        self.task = task
        self.lease = lease
        self.predecessors = predecessors
        """The tasks that this one has waited for, in the order of its `after`, with what they came to."""
        self._heartbeat_seconds = heartbeat_seconds
        self._renew_at = self._held_until = time.monotonic() + heartbeat_seconds
        self._expires_at = time.time() + heartbeat_seconds
        self._progress: Json = None
        self._lines: Lines | None = None
        self._usage: dict[str, int] | None = None
        self._why: str | None = None
        # Most attempts neither wait nor are stopped, so the event is made when it is needed.
        self._stopped: threading.Event | None = None
        self._is_stopped = False
        self._held = True
        self._was_held = False

    @property
    def payload(self) -> Json:
        return self.task.payload

    @property
    def number(self) -> int:
        """1 for the first attempt."""
        return self.task.attempts + 1

    @property
    def fence(self) -> int:
        """
        Grows with each hand-out of the task: give it to the systems that you write to, and let them refuse a number that
        is lower than one that they have seen.
        """
        return self.task.deliveries

    def is_held(self) -> bool:
        """
        Whether the lease is held by the worker's clock. False as soon as another worker may run the task, as after the
        process stood still for longer than the lease. Makes no call.
        """
        return self._held and time.time() < self._expires_at

    def progress(self, value: Json) -> None:
        """Tells how far the task is: 0–100, or a dict of at most 16 KiB as JSON. Sent soon, the last value wins."""
        self._progress = value
        self._renew_at = min(self._renew_at, time.monotonic() + PROGRESS_SECONDS_MIN)

    def log(self, message: str, level: str = "info", **fields: object) -> None:
        """
        Writes a line that is kept with the task, and in the log of the process (the logger `xqueue.task`). Levels are
        trace, debug, info, warn, error and fatal; fields are values of JSON, others are written as text.
        """
        if level not in LEVELS:
            raise ValueError(f"level is {level!r}: use one of {', '.join(LEVELS)}")
        task_log.log(LEVELS[level], "task %s: %s", self.task.id, message, extra={"fields": fields})
        with _lock:
            self._lines = self._lines or Lines()
            self._lines.add(_line(message, level, fields))
        self._renew_at = min(self._renew_at, time.monotonic() + LOG_SECONDS_MIN)

    def usage(self, units: Mapping[str, int]) -> None:
        """
        Reports the units of named limits that the attempt has used in fact, `{"tokens": 900}`: it corrects what their
        rates have counted at the start. The latest value counts; it is sent with the outcome.
        """
        self._usage = dict(units)

    @property
    def canceled(self) -> bool:
        """Whether to stop: it was canceled, ran out of time, was lost, or the worker must go."""
        return self._is_stopped

    def check(self) -> None:
        """Raises Canceled when it is time to stop: for loops."""
        if self._is_stopped:
            raise Canceled(self._why)

    def sleep(self, seconds: float) -> None:
        """Sleeps, or raises Canceled as soon as it is time to stop."""
        stopped = self._stopped = self._stopped or threading.Event()
        if not self._is_stopped:
            stopped.wait(seconds)
        self.check()

    # What follows is for the worker.

    @property
    def used(self) -> dict[str, int] | None:
        return self._usage

    @property
    def held(self) -> bool:
        """Whether the outcome still counts."""
        return self._held

    def stop(self, why: str, *, held: bool) -> None:
        self._held = self._held and held
        self._why = self._why or why
        self._is_stopped = True
        if self._stopped:
            self._stopped.set()

    def is_due(self, now: float) -> bool:
        """Whether its lease is to be renewed."""
        return self._held and now >= self._renew_at

    def take_progress(self, now: float) -> Json:
        """What was reported since it was last taken, to send now, with which the lease is renewed."""
        self._renew_at = now + self._heartbeat_seconds
        value, self._progress = self._progress, None
        return value

    def take_lines(self) -> Lines | None:
        """The lines since the last call."""
        with _lock:
            lines, self._lines = self._lines, None
        return lines

    def return_lines(self, lines: Lines) -> None:
        """They could not be sent: they go before later ones."""
        with _lock:
            later, self._lines = self._lines, lines
            if later:
                lines.append(later)

    def renewed(self, expires_at: float) -> None:
        """Its lease is held until then, by the clock of this machine."""
        self._expires_at = expires_at
        self._was_held = self._was_held or expires_at > time.time()
        self._held_until = time.monotonic() + expires_at - time.time()

    def renew_soon(self) -> None:
        """Its renewal has failed."""
        self._renew_at = time.monotonic() + self._heartbeat_seconds / 5

    @property
    def may_start(self) -> bool:
        """
        False if it was canceled, or if its lease has ended by the worker's clock. A short lease can seem to have ended
        from the start, because that clock errs by up to a second.
        """
        error = 0 if self._was_held else DATE_SECONDS
        return not self._is_stopped and time.time() < self._expires_at + error

    def is_surely_lost(self, patience: float) -> bool:
        """Whether its lease ended so long ago that no report for it can count."""
        return time.monotonic() > self._held_until + patience

    @property
    def has_news(self) -> bool:
        """Whether there is progress or a line to send."""
        return self._progress is not None or self._lines is not None
