"""Runs tasks: claims them over HTTP, runs each in a thread, reports their outcomes."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from random import random
from typing import Callable
from urllib.parse import quote

from .attempt import Attempt, Canceled, DoNotRetry, RateLimited, RetryAfter
from .client import Client
from .clock import ServerClock
from .connection import Connection
from .errors import ServerUnreachable, XQueueError
from .pace import Pace
from .report import NO_JSON, Report, failed, failed_with, released, succeeded
from .signals import stopped_by_signals
from .task import Json, Predecessor, Task
from .threads import HandlerThreads
from .turns import LEASE_LOST, TRY_LATER, Renewal, TurnAnswer, Turns

Handler = Callable[[Attempt], Json]

log = logging.getLogger("xqueue")

CONSUME_SECONDS = 20.0
# More than `CONSUME_SECONDS`: an answer that has not come by then is not coming, and the connection is replaced.
CONSUME_SILENCE_SECONDS_MAX = 30.0
# Leases live for 30 s unless the server is set otherwise; a cancel is heard of with a renewal.
HEARTBEAT_SECONDS = (0.2, 5.0)
REPORT_SECONDS_MAX = 30.0
LEAVE_SECONDS_MAX = 2.0
# The most of one call. A renewal has up to 16 KiB of progress.
CLAIMS_MAX = REPORTS_MAX = 1_000
REPORT_BYTES_MAX = 4 * 1024 * 1024
RENEWALS_MAX = 200
# An outcome is offered for this time after its lease has ended by the worker's clock: the server may have been away for
# all of it, and then the lease still counts.
SETTLE_PATIENCE_SECONDS = 60.0
BACKOFF_SECONDS = (0.1, 10.0)
LOST = "the lease was lost: out of time, or handed to another worker"
# After their time at shutdown, handlers that heed `canceled` get this long to end.
STOP_SECONDS = 1.0
# Time for an answer when the process stood still for longer than its leases; a pause of this length shows that it did.
ANSWER_SECONDS_MAX = 0.05
STILL_SECONDS = 1.0
# When the worker stops, the answer of the call that waits may be on its way. Without it, the tasks in it would stay with
# this worker until their leases end.
LAST_ANSWER_SECONDS_MAX = 0.5
# A signal is heeded within this time.
SIGNAL_SECONDS_MAX = 0.2


class Worker:
    """Runs up to `concurrency` tasks at once, each in a thread.

        worker = Worker({"resize": resize}, concurrency=4)
        worker.run()

    A handler gets an `Attempt` and returns the result as JSON. What it raises fails the attempt, which is tried again
    after the type's back-off; `DoNotRetry`, `RetryAfter` and `RateLimited` steer that. SIGTERM and SIGINT stop the worker: it takes no
    more tasks and gives the running ones `shutdown` seconds. What is left then goes to another worker when its lease
    ends, and costs no attempt; so do the tasks of a worker that dies. A handler must therefore stand to run twice.

    While handlers end within 5 ms, up to `claim_ahead` tasks are claimed that start when a thread is free; 0 for none.

    `worker_id` is its name in lists and at its tasks, up to 100 characters without control characters; default host and
    process.

    `settings` declares limits and defaults of types at the start, with the fields of `POST /api/v1/handlers`, as in
    `{"resize": {"concurrency": 2, "rate": {"max": 100, "per": "1m"}}}`. Operators overrule them.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        client: Client | None = None,
        *,
        concurrency: int = 4,
        claim_ahead: int = 128,
        shutdown: float = 30.0,
        worker_id: str | None = None,
        settings: Mapping[str, Mapping[str, Json]] | None = None,
    ) -> None:
        if not handlers:
            raise ValueError('handlers is empty: give at least one, as {"resize": resize}')
        if strangers := set(settings or ()) - set(handlers):
            raise ValueError(f"settings of {', '.join(sorted(strangers))}: there is no handler of that type")
        if claim_ahead < 0:
            raise ValueError(f"claim_ahead is {claim_ahead}: give 0 or more")
        for name, fields in (settings or {}).items():
            if not isinstance(fields, Mapping) or "type" in fields:
                raise ValueError(f'settings of {name}: give fields, as {{"concurrency": 2}}')
        self._handlers = dict(handlers)
        self._undeclared = dict(settings or {})
        self._types = sorted(self._handlers)
        self._client = client or Client()
        self._concurrency = concurrency
        self._shutdown = shutdown
        self._id = worker_id or f"{socket.gethostname()}-{os.getpid()}"[-100:]
        self._turns = Turns(self._client)
        self._clock = ServerClock()
        self._pace = Pace(concurrency, claim_ahead)
        self._threads = HandlerThreads(concurrency, self._run, self._give_back)
        lock = threading.Lock()
        self._may_claim, self._may_report = threading.Condition(lock), threading.Condition(lock)
        self._may_renew, self._idle = threading.Condition(lock), threading.Condition(lock)
        self._held: set[Attempt] = set()
        """Those that wait or run, and those that ended and whose outcome the server has not answered yet."""
        self._open = 0
        """Those that wait or run."""
        self._wanted = 0
        """Tasks that calls under way may bring."""
        self._reports: deque[Report] = deque()
        self._is_reporting = False
        self._stopping, self._claims_ended = threading.Event(), threading.Event()
        self._gone = False
        self._poll = self._client.connect()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Runs until `stop`. Raises XQueueError when the server refuses this worker, as for a wrong key."""
        # The loop has a thread of its own, so that a signal never interrupts what holds a lock.
        loop = threading.Thread(target=self._live, name="xqueue-loop", daemon=True)
        with stopped_by_signals(self.stop):
            loop.start()
            # A signal that arrives just before the wait, or in another thread, does not end it.
            while loop.is_alive():
                loop.join(SIGNAL_SECONDS_MAX)
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Takes no more tasks; `run` returns when the running ones have ended, or their time is over."""
        self._stopping.set()

    def _live(self) -> None:
        # Three loops make the calls: one waits for tasks, one reports outcomes and claims tasks with the same call, one
        # renews leases. Outcomes that come while a call is under way share the next one. A fourth makes no calls.
        threading.Thread(target=self._report, name="xqueue-reports", daemon=True).start()
        threading.Thread(target=self._renew, name="xqueue-renewals", daemon=True).start()
        threading.Thread(target=self._threads.recall_late, name="xqueue-ahead", daemon=True).start()
        threading.Thread(target=self._end_claims, name="xqueue-stop", daemon=True).start()
        try:
            self._claim()
        except BaseException as error:
            self._failure = error
        self._claims_ended.set()
        self._stopping.set()
        self._drain()
        with self._idle:
            self._gone = True
            self._may_report.notify_all()
            self._may_renew.notify_all()
        if not self._failure:
            self._leave()

    def _end_claims(self) -> None:
        self._stopping.wait()
        self._threads.close()
        # An older server cannot take back what has not started.
        if self._turns.is_old or not self._claims_ended.wait(LAST_ANSWER_SECONDS_MAX):
            self._poll.abort()

    def _claim(self) -> None:
        """Waits for tasks while there is room."""
        first, longest = BACKOFF_SECONDS
        delay = first
        goes_on = True
        while goes_on:
            try:
                self._declare()
                goes_on = self._wait_for_tasks()
            except XQueueError as error:
                if self._stopping.is_set():
                    return
                if error.status not in TRY_LATER:
                    raise
                if delay == first:
                    log.warning("no tasks can be taken, trying again: %s", error)
                self._stopping.wait(error.retry_after or delay * (1 - random() / 5))
                delay = min(delay * 2, longest)
            else:
                if delay != first:
                    log.info("tasks can be taken again")
                delay = first

    def _declare(self) -> None:
        if not self._undeclared:
            return
        handlers = [{**settings, "type": name} for name, settings in self._undeclared.items()]
        try:
            self._client.call("POST", "/handlers", {"handlers": handlers}, patience=0)
        except XQueueError as error:
            # For a key with bounds, and in older versions, the settings belong to the server alone.
            if error.status not in (403, 404, 405):
                raise
            log.warning("the server does not take the settings of %s: %s", ", ".join(self._undeclared), error)
        self._undeclared = {}

    def _wait_for_tasks(self) -> bool:
        room = self._wait_for_room()
        if room:
            # On a connection of its own: when that breaks, the server releases what it has just claimed for it.
            self._take((), (), room, timeout=CONSUME_SILENCE_SECONDS_MAX, wait=CONSUME_SECONDS, connection=self._poll)
        return room > 0

    def _take(
        self,
        reports: Sequence[Report],
        renewals: Sequence[Renewal],
        room: int,
        *,
        timeout: float,
        wait: float = 0,
        connection: Connection | None = None,
    ) -> TurnAnswer:
        """Makes a call, gives back the room that was reserved for it, and starts the tasks that it brought."""
        attempts: list[Attempt] = []
        try:
            # Also with reports alone: the store settles the leases of the worker that calls with less work.
            named = {"types": self._types, "worker_id": self._id, "concurrency": self._concurrency}
            worker = named if room or reports else {}
            claim = {**worker, "max": room, "wait": wait} if room else worker
            answer = self._turns.take(reports, renewals, claim, timeout=timeout, connection=connection)
            self._clock.answered(answer.date)
            for renewal, (item, problem) in zip(renewals, answer.renewals):
                self._renewed(renewal.attempt, item, problem)
            attempts = [self._attempt_of(lease) for lease in answer.leases]
        except BaseException:
            for renewal in renewals:
                if renewal.lines:
                    renewal.attempt.return_lines(renewal.lines)
            raise
        finally:
            with self._may_claim:
                self._wanted -= room
                self._open += len(attempts)
                self._held.update(attempts)
                if attempts:
                    self._may_renew.notify()
                elif room:
                    self._may_claim.notify()
        if self._stopping.is_set():
            self._threads.close()
        self._threads.start(attempts)
        return answer

    def _attempt_of(self, item: Mapping[str, Json]) -> Attempt:
        expires_at = self._clock.local(item["expires_at"])
        left = expires_at - time.time()
        shortest, longest = HEARTBEAT_SECONDS
        # A server from before there was such a thing tells of none.
        read = partial(self._predecessor, item["lease"])
        predecessors = [Predecessor(one, read) for one in item.get("predecessors", ())]
        task = Task.from_json(item["task"])
        attempt = Attempt(task, item["lease"], min(max(left / 3, shortest), longest), predecessors)
        attempt.renewed(expires_at)
        return attempt

    def _run(self, attempt: Attempt) -> None:
        if not attempt.may_start:
            self._give_back([attempt])
            return
        threading.current_thread().name = attempt.task.id
        begun = time.monotonic()
        try:
            report = succeeded(attempt, self._handlers[attempt.task.type](attempt))
        except Canceled as stop:
            report = failed(attempt, str(stop))
        except BaseException as error:  # Also SystemExit: a handler must not end the worker.
            _log_failure(attempt, error)
            report = failed_with(attempt, error)
        seconds = time.monotonic() - begun
        with self._may_report:
            self._pace.ended(seconds)
            self._ended(report)
        if "hold" in report.fields:
            # What was claimed ahead may not start either.
            self._threads.recall(lambda waiting: waiting.task.type == attempt.task.type)

    def _give_back(self, attempts: Sequence[Attempt]) -> None:
        """They have not started: another worker can run them, and no attempt counts."""
        with self._may_report:
            self._pace.slow()
            for attempt in attempts:
                self._ended(released(attempt))

    def _ended(self, report: Report) -> None:
        self._open -= 1
        if report.attempt.held:
            self._reports.append(report)
            self._may_report.notify()
        else:
            self._forget([report.attempt])
            self._may_claim.notify()

    def _report(self) -> None:
        """Reports outcomes, until the worker has gone."""
        first, longest = BACKOFF_SECONDS
        delay = first
        while True:
            with self._may_report:
                self._may_report.wait_for(lambda: self._reports or self._gone)
                if self._gone:
                    return
                reports = self._next_reports()
                self._is_reporting = True
                # A server without turns would get one more call for each report.
                room = 0 if self._turns.is_old else self._reserve()
            try:
                self._report_them(reports, room)
                delay = first
            except Exception as error:
                if not isinstance(error, XQueueError):
                    log.exception("outcomes could not be reported")
                time.sleep(getattr(error, "retry_after", None) or delay * (1 - random() / 5))
                delay = min(delay * 2, longest)

    def _next_reports(self) -> list[Report]:
        """For one call, bounded in count and bytes."""
        reports = [self._reports.popleft()]
        size = reports[0].size
        while self._reports and len(reports) < REPORTS_MAX and size < REPORT_BYTES_MAX:
            size += self._reports[0].size
            reports.append(self._reports.popleft())
        return reports

    def _report_them(self, reports: list[Report], room: int) -> None:
        again: list[Report] = []
        ended = []
        try:
            renewals = [self._renewal_of(report.attempt) for report in reports if report.attempt.has_news]
            answer = self._take(reports, renewals, room, timeout=REPORT_SECONDS_MAX)
            for report, problem in zip(reports, answer.outcomes):
                replacement = self._replacement(report, problem) if problem else None
                if replacement:
                    again.append(replacement)
                else:
                    ended.append(report.attempt)
        except Exception as error:
            # No answer that could be read: they are offered again, until their leases are surely lost.
            for report in reports:
                if report.attempt.is_surely_lost(SETTLE_PATIENCE_SECONDS):
                    task = report.attempt.task.id
                    log.warning("task %s will run again, its outcome could not be reported: %s", task, error)
                    ended.append(report.attempt)
                else:
                    again.append(report)
            raise
        finally:
            with self._may_claim:
                self._is_reporting = False
                self._reports.extendleft(reversed(again))
                self._forget(ended)
                self._may_claim.notify()

    def _replacement(self, report: Report, problem: XQueueError) -> Report | None:
        """What to report instead of an outcome that was refused."""
        replacement = None if problem.status == LEASE_LOST else report.instead(problem)
        if replacement is None:
            log.info("task %s: %s", report.attempt.task.id, problem)
        return replacement

    def _forget(self, attempts: Sequence[Attempt]) -> None:
        self._held.difference_update(attempts)
        if not self._held:
            self._idle.notify_all()

    def _renew(self) -> None:
        """Renews the leases that are due. Shares no call with the others, so that a slow one of those costs no lease."""
        stood_still = False
        while True:
            with self._may_renew:
                self._may_renew.wait_for(lambda: self._held or self._gone)
                if self._gone:
                    return
                now = time.monotonic()
                due = [attempt for attempt in self._held if attempt.is_due(now)]
            late = threading.Timer(ANSWER_SECONDS_MAX, self._give_up, [[one for one in due if not one.is_held()]])
            if stood_still:
                late.start()
            for start in range(0, len(due), RENEWALS_MAX):
                self._renew_them(due[start : start + RENEWALS_MAX])
            late.cancel()
            before = time.time()
            time.sleep(HEARTBEAT_SECONDS[0] / 2)
            stood_still = time.time() - before > STILL_SECONDS

    def _give_up(self, attempts: Sequence[Attempt]) -> None:
        """The process stood still until their leases were over, and the server does not say whether they are held."""
        for attempt in attempts:
            if not attempt.is_held():
                self._stop(attempt, LOST, held=False)

    def _renew_them(self, due: Sequence[Attempt]) -> None:
        try:
            self._take((), [self._renewal_of(attempt) for attempt in due], 0, timeout=HEARTBEAT_SECONDS[1])
        except Exception as error:
            for attempt in due:
                attempt.renew_soon()
            if not isinstance(error, ServerUnreachable):  # The other loops log that.
                log.warning("leases could not be renewed: %s", error)

    def _renewal_of(self, attempt: Attempt) -> Renewal:
        progress, lines = attempt.take_progress(time.monotonic()), attempt.take_lines()
        if progress is None:
            return Renewal(attempt, None, lines)
        try:
            return Renewal(attempt, json.dumps(progress, allow_nan=False), lines)
        except NO_JSON as error:
            log.warning("task %s reported progress that is no JSON: %s", attempt.task.id, error)
            return Renewal(attempt, None, lines)

    def _renewed(self, attempt: Attempt, item: Mapping[str, Json], problem: XQueueError | None) -> None:
        if problem and problem.status == LEASE_LOST:
            self._stop(attempt, LOST, held=False)
            return
        if problem:
            log.warning("task %s: its progress or its log was refused: %s", attempt.task.id, problem)
        if "expires_at" in item:
            attempt.renewed(self._clock.local(item["expires_at"]))
        if item.get("cancel_requested"):
            self._stop(attempt, "the task was canceled", held=True)

    def _stop(self, attempt: Attempt, why: str, *, held: bool) -> None:
        if not attempt.canceled:
            log.info("task %s is told to stop: %s", attempt.task.id, why)
        attempt.stop(why, held=held)
        self._threads.recall(lambda waiting: waiting is attempt)

    def _predecessor(self, lease: str, task_id: str) -> Json:
        return self._client.call("GET", f"/leases/{quote(lease, safe='')}/predecessors/{quote(task_id, safe='')}").body

    def _wait_for_room(self) -> int:
        """Room for a call that only claims: the report of an outcome claims as well. 0 when the worker is to stop."""
        with self._may_claim:
            while not self._stopping.is_set():
                room = 0 if self._is_reporting or self._reports else self._reserve()
                if room:
                    return room
                self._may_claim.wait(0.5)  # Not longer: `stop` does not notify.
            return 0

    def _reserve(self) -> int:
        """How many tasks more a call may bring."""
        if self._stopping.is_set():
            return 0
        # An older server cannot take back what has not started.
        most = self._concurrency + (0 if self._turns.is_old else self._pace.ahead())
        room = min(max(most - self._open - self._wanted, 0), CLAIMS_MAX)
        self._wanted += room
        return room

    def _drain(self) -> None:
        self._threads.close()
        if not self._wait_until_idle(self._shutdown):
            with self._idle:
                held = list(self._held)
            for attempt in held:
                # Nothing is reported: the lease ends by itself, and the task costs no attempt.
                self._stop(attempt, "the worker shuts down", held=False)
            self._wait_until_idle(STOP_SECONDS)
        self._poll.close()

    def _leave(self) -> None:
        """Takes the worker off the list. A server that cannot do so forgets it a minute later."""
        named = {"types": self._types, "worker_id": self._id, "leaving": True}
        try:
            self._turns.take((), (), named, timeout=LEAVE_SECONDS_MAX)
        except XQueueError as error:
            log.debug("the worker could not sign off: %s", error)

    def _wait_until_idle(self, seconds: float) -> bool:
        with self._idle:
            return self._idle.wait_for(lambda: not self._held, seconds)


def _log_failure(attempt: Attempt, error: BaseException) -> None:
    """A hold is no failure, and an error that the handler chose is no surprise; only the others are errors."""
    task = attempt.task
    if isinstance(error, RateLimited) and error.hold is not None:
        log.info("attempt %d of task %s of type %s holds its type: %s", attempt.number, task.id, task.type, error)
        return
    level = logging.WARNING if isinstance(error, (DoNotRetry, RetryAfter, RateLimited)) else logging.ERROR
    log.log(level, "attempt %d of task %s of type %s failed", attempt.number, task.id, task.type, exc_info=error)
