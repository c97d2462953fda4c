"""Runs tasks: takes leases over HTTP, runs a thread for each, settles them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from random import random
from typing import Any, Callable
from urllib.parse import quote

from .attempt import Attempt, Canceled, DoNotRetry, RetryAfter
from .client import Client
from .errors import ServerUnreachable, XQueueError
from .task import Json, Predecessor, Task

Handler = Callable[[Attempt], Json]

log = logging.getLogger("xqueue")

CONSUME_SECONDS = 20.0
# More than `CONSUME_SECONDS`: an answer that has not come by then is not coming, and the connection is replaced.
CONSUME_SILENCE_SECONDS_MAX = 30.0
# Leases live for 30 s unless the server is set otherwise; a cancel is heard of with a heartbeat.
HEARTBEAT_SECONDS = (0.2, 5.0)
# An outcome is offered for as long; if the lease was lost meanwhile, the server says so at once.
SETTLE_PATIENCE_SECONDS = 60.0
# What json.dumps raises: also for a value that is nested too deep, or that another thread is changing.
NO_JSON = (TypeError, ValueError, RuntimeError)
BACKOFF_SECONDS = (0.1, 10.0)
# After their time at shutdown, handlers that heed `canceled` get this long to end.
STOP_SECONDS = 1.0
# A signal is heeded within this time.
SIGNAL_SECONDS_MAX = 0.2
ERROR_CHARS_MAX = 16_000
LEASE_LOST = 410
TRY_LATER = (0, 429, 500, 502, 503, 504)


class Worker:
    """Runs up to `concurrency` tasks at once, each in a thread.

        worker = Worker({"resize": resize}, concurrency=4)
        worker.run()

    A handler gets an `Attempt` and returns the result as JSON. What it raises fails the attempt, which is tried again
    after the type's back-off; `DoNotRetry` and `RetryAfter` steer that. SIGTERM and SIGINT stop the worker: it takes no
    more tasks and gives the running ones `shutdown` seconds. What is left then goes to another worker when its lease
    ends, and costs no attempt; so do the tasks of a worker that dies. A handler must therefore stand to run twice.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        client: Client | None = None,
        *,
        concurrency: int = 4,
        shutdown: float = 30.0,
        worker_id: str | None = None,
    ) -> None:
        if not handlers:
            raise ValueError('handlers is empty: give at least one, as {"resize": resize}')
        self._handlers = dict(handlers)
        self._client = client or Client()
        self._concurrency = concurrency
        self._shutdown = shutdown
        self._id = worker_id or f"{socket.gethostname()}-{os.getpid()}"[-100:]
        self._running: set[Attempt] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._gone = False
        self._poll = self._client.connect()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Runs until `stop`. Raises XQueueError when the server refuses this worker, as for a wrong key."""
        # The loop has a thread of its own, so that a signal never interrupts what holds a lock.
        loop = threading.Thread(target=self._live, name="xqueue-loop", daemon=True)
        before = self._listen_to_signals()
        try:
            loop.start()
            # A signal that arrives just before the wait, or in another thread, does not end it.
            while loop.is_alive():
                loop.join(SIGNAL_SECONDS_MAX)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Takes no more tasks; `run` returns when the running ones have ended, or their time is over."""
        self._stopping.set()
        self._poll.abort()

    def _live(self) -> None:
        threading.Thread(target=self._heartbeats, name="xqueue-heartbeats", daemon=True).start()
        try:
            self._take_tasks()
        except BaseException as error:
            self._failure = error
        self._drain()
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def _take_tasks(self) -> None:
        first, longest = BACKOFF_SECONDS
        delay = first
        while free := self._wait_for_room():
            try:
                for attempt in self._consume(free):
                    threading.Thread(target=self._run, args=(attempt,), name=attempt.task.id, daemon=True).start()
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

    def _consume(self, free: int) -> list[Attempt]:
        """Waits for tasks on a connection of its own: when that breaks, the server hands out nothing to nobody."""
        body = {"types": list(self._handlers), "max": free, "wait": CONSUME_SECONDS, "worker_id": self._id}
        answer, date = self._poll.exchange("POST", "/tasks/consume", body, CONSUME_SILENCE_SECONDS_MAX)
        attempts = []
        for item in answer["leases"]:
            # A third of what is left of the lease, both by the server's clock.
            now = date or datetime.now(timezone.utc)
            left = (datetime.fromisoformat(item["expires_at"].replace("Z", "+00:00")) - now).total_seconds()
            shortest, longest = HEARTBEAT_SECONDS
            heartbeat_seconds = min(max(left / 3, shortest), longest)
            # A server from before there was such a thing tells of none.
            read = partial(self._predecessor, item["lease"])
            predecessors = [Predecessor(one, read) for one in item.get("predecessors", [])]
            attempts.append(Attempt(Task.from_json(item["task"]), item["lease"], heartbeat_seconds, predecessors))
        with self._changed:
            self._running.update(attempts)
            self._changed.notify_all()
        return attempts

    def _run(self, attempt: Attempt) -> None:
        try:
            result = self._handlers[attempt.task.type](attempt)
            self._settle(attempt, "complete", {"result": result})
        except DoNotRetry as error:
            self._settle(attempt, "fail", {"error": _words(error), "retry": False})
        except RetryAfter as error:
            self._settle(attempt, "fail", _later(error))
        except Canceled as stop:
            self._settle(attempt, "fail", {"error": str(stop)})
        except BaseException as error:  # Also SystemExit: a handler must not end the worker.
            log.exception("task %s of type %s failed", attempt.task.id, attempt.task.type)
            self._settle(attempt, "fail", {"error": _words(error)})
        finally:
            with self._changed:
                self._running.discard(attempt)
                self._changed.notify_all()

    def _settle(self, attempt: Attempt, verb: str, body: dict[str, Json]) -> None:
        """Offers the outcome until the server has answered; renewed by the heartbeats until then."""
        if attempt.unsent:
            self._beat(attempt)
        if not attempt.held:
            return
        try:
            self._call(attempt, verb, body, patience=SETTLE_PATIENCE_SECONDS)
        except NO_JSON as error:
            self._settle(attempt, "fail", {"error": f"the result is no JSON: {error}", "retry": False})
        except XQueueError as error:
            if error.status == LEASE_LOST:
                log.info("task %s: %s", attempt.task.id, error)
            elif verb == "complete" and error.status in range(400, 429):
                self._settle(attempt, "fail", {"error": f"the result was refused: {error}", "retry": False})
            elif error.status in range(400, 429) and verb == "fail":
                self._fail_plainly(attempt, body, error)
            else:
                log.warning("task %s will run again, its outcome could not be told: %s", attempt.task.id, error)

    def _fail_plainly(self, attempt: Attempt, body: dict[str, Json], refusal: XQueueError) -> None:
        """A failure that is refused fails with the reason, and is tried again as it would have been."""
        plain: dict[str, Json] = {"error": f"the outcome was refused: {refusal}; {body.get('error')}"[:ERROR_CHARS_MAX]}
        if body.get("retry") is False:
            plain["retry"] = False
        try:
            self._call(attempt, "fail", plain, patience=SETTLE_PATIENCE_SECONDS)
        except XQueueError as error:
            log.warning("task %s will run again, its outcome could not be told: %s", attempt.task.id, error)

    def _heartbeats(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or self._gone)
                if self._gone:
                    return
                attempts = list(self._running)
            for attempt in attempts:
                if attempt.held and attempt.due_in(time.monotonic()) <= 0:
                    self._beat(attempt)
            time.sleep(HEARTBEAT_SECONDS[0] / 2)

    def _beat(self, attempt: Attempt) -> None:
        progress = attempt.take_progress(time.monotonic())
        try:
            answer = self._call(attempt, "heartbeat", {} if progress is None else {"progress": progress})
            if answer["cancel_requested"]:
                self._stop(attempt, "the task was canceled", held=True)
        except ServerUnreachable:
            pass  # The next one may arrive; the loop says that the server is away.
        except NO_JSON as error:
            log.warning("task %s reported progress that is no JSON: %s", attempt.task.id, error)
            self._beat(attempt)
        except XQueueError as error:
            if error.status == LEASE_LOST:
                self._stop(attempt, "the lease was lost: out of time, or handed to another worker", held=False)
            else:
                log.warning("task %s: a heartbeat was refused: %s", attempt.task.id, error)
                if progress is not None and error.status in range(400, 429):
                    self._beat(attempt)  # Without it: what is no progress must not cost the lease.

    def _stop(self, attempt: Attempt, why: str, *, held: bool) -> None:
        if not attempt.canceled:
            log.info("task %s is told to stop: %s", attempt.task.id, why)
        attempt.stop(why, held=held)

    def _call(self, attempt: Attempt, verb: str, body: Json, *, patience: float = 0.0) -> Json:
        path = f"/leases/{quote(attempt.lease, safe='')}/{verb}"
        return self._client.call("POST", path, body, patience=patience, timeout=HEARTBEAT_SECONDS[1]).body

    def _predecessor(self, lease: str, task_id: str) -> Json:
        return self._client.call("GET", f"/leases/{quote(lease, safe='')}/predecessors/{quote(task_id, safe='')}").body

    def _wait_for_room(self) -> int:
        """How many tasks more it can run; 0 when it is to stop."""
        with self._changed:
            while len(self._running) >= self._concurrency and not self._stopping.is_set():
                self._changed.wait(0.5)  # Not longer: `stop` does not notify.
            return 0 if self._stopping.is_set() else self._concurrency - len(self._running)

    def _drain(self) -> None:
        if not self._wait_until_idle(self._shutdown):
            for attempt in list(self._running):
                # Told to nobody: the lease ends by itself, and the task costs no attempt.
                self._stop(attempt, "the worker shuts down", held=False)
            self._wait_until_idle(STOP_SECONDS)
        self._poll.close()

    def _wait_until_idle(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, seconds)

    def _listen_to_signals(self) -> dict[int, Any]:
        """What the first signal asks for, the second one does not wait for."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        before: dict[int, Any] = {}

        def stop(number: int, _frame: object) -> None:
            signal.signal(number, before[number])
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, stop)
        return before


def _later(error: RetryAfter) -> dict[str, Json]:
    delay = error.delay
    if delay is not None:
        return {"error": _words(error), "delay": delay}
    note = f"(the delay {error.seconds!r} s is not valid, use at most 366 days: the type's back-off applies) "
    return {"error": (note[:200] + _words(error))[:ERROR_CHARS_MAX]}


def _words(error: BaseException) -> str:
    """The error in a line, then where it happened, unless the handler raised it to say something."""
    if isinstance(error, (DoNotRetry, RetryAfter)):
        return _text(error)[:ERROR_CHARS_MAX]
    where = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return f"{type(error).__name__}: {_text(error)}\n{where}"[:ERROR_CHARS_MAX]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unreadable:  # It is the handler's own class: its task fails, not its report.
        return f"its text cannot be read ({type(unreadable).__name__})"
