"""Submit, look, wait, cancel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from random import random
from typing import Any, Callable
from urllib.parse import quote

from .connection import Answer, Connection
from .connections import Connections
from .errors import ServerUnreachable, XQueueError
from .submissions import Submissions
from .task import Json, NewTask, Task

CALL_SECONDS_MAX = 30.0
# The server lets a call wait for 60 s at most.
WAIT_SECONDS_MAX = 50.0
BACKOFF_SECONDS = (0.1, 5.0)
# Answers that a later call may not get: the key's rate or the queue is full, or the server has too many calls; nothing
# was done.
NOT_DONE = 429
OVERLOADED = "overloaded"
PERHAPS_DONE = (502, 503, 504)


class Client:
    """A server of XQueue. Safe to share between threads: there are as many connections as concurrent calls.

    `server` defaults to XQUEUE_SERVER or http://127.0.0.1:8080, `key` (an API key, where the server wants one) to
    XQUEUE_KEY. While the server is away or full, a call is repeated for up to `patience` seconds where that cannot do
    its work twice: a submission is, when it has an idempotency key, or was not sent at all.

    Every call raises XQueueError: what the server refused, or ServerUnreachable.
    """

    def __init__(self, server: str | None = None, key: str | None = None, *, patience: float = 10.0) -> None:
        self.server = server or os.environ.get("XQUEUE_SERVER") or "http://127.0.0.1:8080"
        self._key = key or os.environ.get("XQUEUE_KEY")
        self._patience = patience
        self._connections = Connections(self.connect)
        self._submissions = Submissions(self._post)

    def submit(self, type: str, payload: Json = None, **options: Any) -> Task:
        """
        Submits a task, durable when this returns; `options` are the fields of `NewTask`. Submissions of other threads
        while one is under way share a call; each gets its own task or error.
        """
        task = NewTask(type, payload, **options)
        body = task.to_json()
        answer = self._repeated(
            lambda: self._submissions.submit(body), task.idempotency_key is not None, self._patience
        )
        # A server from before shared calls answers some without their fields.
        return Task.from_json(answer) if "type" in answer else self.get(answer["id"])

    def submit_many(self, tasks: Iterable[NewTask]) -> list[str]:
        """Submits up to 10,000 tasks, all or none; their ids, in order."""
        batch = list(tasks)
        body = {"tasks": [task.to_json() for task in batch]}
        repeatable = all(task.idempotency_key is not None for task in batch)
        answer = self.call("POST", "/tasks/batch", body, repeatable=repeatable)
        return [task["id"] for task in answer.body["tasks"]]

    def get(self, task_id: str) -> Task:
        return Task.from_json(self.call("GET", _path_of(task_id)).body)

    def cancel(self, task_id: str) -> Task:
        """Cancels a task; a running one is asked to stop, and may still be `processing` in the answer."""
        return Task.from_json(self.call("DELETE", _path_of(task_id), repeatable=False).body)

    def purge(self, task_id: str) -> None:
        """Erases a finished task: payload, result, error, tags, idempotency key, and what events hold of it."""
        self.call("POST", f"{_path_of(task_id)}/purge", repeatable=False)

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """
        Waits for the end of a task, whatever that is: look at its `status`. Raises TimeoutError. It costs a call every
        50 seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            seconds = WAIT_SECONDS_MAX if until is None else min(until - time.monotonic(), WAIT_SECONDS_MAX)
            if seconds <= 0:
                task = self.get(task_id)
                if task.is_final:
                    return task
                raise TimeoutError(f"task {task_id} is {task.status} after {timeout} s")
            try:
                ended = self._wait_once(task_id, seconds)
            except XQueueError as error:
                if error.code != "too_many_calls":
                    raise
                # Others of its calls wait, or have used up the rate of the key: this one waits longer than a call may.
                pause = error.retry_after or BACKOFF_SECONDS[0]
                time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))
                continue
            if ended:
                # Of a task that does not exist, the answer has no more than its id.
                return Task.from_json(ended) if ended["status"] else self.get(task_id)

    def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        repeatable: bool = True,
        patience: float | None = None,
        timeout: float = CALL_SECONDS_MAX,
    ) -> Answer:
        """Any call of the HTTP API, as in `call("GET", "/stats")`."""

        def once() -> Answer:
            with self._connections.one() as connection:
                return connection.exchange(method, path, body, timeout, repeatable=repeatable)

        return self._repeated(once, repeatable, self._patience if patience is None else patience)

    def _post(self, path: str, body: bytes, repeatable: bool, headers: dict[str, str]) -> Answer:
        with self._connections.one() as connection:
            return connection.exchange("POST", path, body, CALL_SECONDS_MAX, repeatable=repeatable, headers=headers)

    def _repeated(self, once: Callable[[], Any], repeatable: bool, patience: float) -> Any:
        give_up_at = time.monotonic() + patience
        delay, delay_max = BACKOFF_SECONDS
        while True:
            try:
                return once()
            except XQueueError as error:
                # Later than told, so that not all return at once.
                wait = error.retry_after * (1 + random() / 5) if error.retry_after else delay * (1 - random() / 5)
                if not _may_repeat(error, repeatable) or time.monotonic() + wait > give_up_at:
                    raise
            time.sleep(wait)
            delay = min(delay * 2, delay_max)

    def connect(self) -> Connection:
        """A connection of its own to the same server."""
        return Connection(self.server, self._key)

    def _wait_once(self, task_id: str, seconds: float) -> Json:
        body = {"ids": [task_id], "wait": seconds}
        return self.call("POST", "/tasks/wait", body, timeout=seconds + CALL_SECONDS_MAX).body


def _path_of(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _may_repeat(error: XQueueError, repeatable: bool) -> bool:
    if isinstance(error, ServerUnreachable):
        return repeatable or not error.sent
    return error.status == NOT_DONE or error.code == OVERLOADED or (repeatable and error.status in PERHAPS_DONE)
