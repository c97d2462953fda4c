"""Lets concurrent submissions share calls."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from typing import Callable

from .connection import Answer
from .errors import XQueueError
from .task import Json

# The most of one shared call, and of one task in it.
SHARED_MAX = 1_000
SHARED_BYTES_MAX = 1024 * 1024
SHARED_TASK_BYTES_MAX = 64 * 1024
# A slow call under way delays others by no more than this.
WAIT_SECONDS_MAX = 0.01
# Refusals of a shared call that may concern only some of its tasks. None was accepted.
OF_SOME = (400, 404, 405, 409, 413)
PLACE = re.compile(r"tasks\[(\d+)\]")


class Submission:
    __slots__ = ("answer", "changed", "content", "error", "group", "is_alone", "is_repeatable", "type")

    def __init__(self, type: str, content: bytes, is_repeatable: bool) -> None:
        self.type = type
        self.content = content
        self.is_repeatable = is_repeatable
        self.answer: Json = None
        self.error: BaseException | None = None
        self.is_alone = False
        """Whether it is to be sent by itself."""
        self.group: list[Submission] = []
        """Those that its thread is to send, itself among them."""
        self.changed = threading.Lock()
        """Released when one of these has been set."""
        self.changed.acquire()


class Submissions:
    """
    A submission that finds no call of its type under way is sent at once. Those that come meanwhile go together with the
    next call, which one of their threads makes. Each gets its own answer or error. Types are not mixed: on a Redis
    Cluster only the tasks of one type are accepted in one step.

    `post` makes one call: its path, its body, whether it is repeatable, and its headers.
    """

    def __init__(self, post: Callable[[str, bytes, bool, dict[str, str]], Answer]) -> None:
        self._post = post
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Submission]] = {}
        self._under_way: dict[str, int] = {}
        self._is_old = False
        """Whether the server does not answer the tasks of a shared call in full."""

    def submit(self, task: dict[str, Json]) -> Json:
        """The task as the server answers it; of a shared call perhaps only its id and status."""
        content = json.dumps(task, allow_nan=False).encode()
        own = Submission(task["type"], content, task.get("idempotency_key") is not None)
        # Places in `after` would be those of the shared call.
        has_places = not all(isinstance(one, str) for one in task.get("after", ()))
        if has_places or self._is_old or len(content) > SHARED_TASK_BYTES_MAX:
            return self._alone(own)
        with self._lock:
            is_first = own.type not in self._under_way
            if is_first:
                self._under_way[own.type] = 1
            else:
                self._waiting.setdefault(own.type, []).append(own)
        if is_first:
            try:
                return self._alone(own)
            finally:
                self._next(own.type)
        return self._shared(own)

    def _alone(self, own: Submission) -> Json:
        return self._post("/tasks", own.content, own.is_repeatable, {}).body

    def _shared(self, own: Submission) -> Json:
        timeout = WAIT_SECONDS_MAX
        while True:
            if not own.changed.acquire(timeout=timeout):
                timeout = -1
                with self._lock:
                    if own not in self._waiting.get(own.type, ()):
                        continue
                    self._under_way[own.type] += 1
                    own.group = self._take(own)
            if own.group:
                self._lead(own)
            if own.is_alone:
                return self._alone(own)
            if own.error:
                raise own.error
            if own.answer is not None:
                return own.answer

    def _next(self, type: str) -> None:
        """Ends a call: one of those that came meanwhile makes the next one."""
        with self._lock:
            if type in self._waiting:
                leader = self._waiting[type][0]
                leader.group = self._take(leader)
                leader.changed.release()
            elif self._under_way[type] == 1:
                del self._under_way[type]
            else:
                self._under_way[type] -= 1

    def _take(self, leader: Submission) -> list[Submission]:
        group, rest, size = [leader], [], len(leader.content)
        for one in self._waiting[leader.type]:
            if one is leader:
                continue
            if len(group) < SHARED_MAX and size < SHARED_BYTES_MAX:
                group.append(one)
                size += len(one.content)
            else:
                rest.append(one)
        self._keep(leader.type, rest)
        return group

    def _keep(self, type: str, waiting: list[Submission]) -> None:
        if waiting:
            self._waiting[type] = waiting
        else:
            self._waiting.pop(type, None)

    def _lead(self, own: Submission) -> None:
        group, own.group = own.group, []
        again: list[Submission] = []
        try:
            if len(group) == 1:
                own.answer = self._alone(own)
            else:
                again = self._send(group)
        except BaseException as error:
            for one in group:
                one.error = error
        finally:
            if again:
                with self._lock:
                    self._keep(own.type, again + self._waiting.get(own.type, []))
            self._next(own.type)
            for one in group:
                if one is not own and one not in again:
                    one.changed.release()

    def _send(self, group: Sequence[Submission]) -> list[Submission]:
        """Sends them in one call; those that are to share another one."""
        content = b'{"tasks":[' + b",".join([one.content for one in group]) + b"]}"
        is_repeatable = all(one.is_repeatable for one in group)
        try:
            answer = self._post("/tasks/batch", content, is_repeatable, {"Prefer": "return=representation"})
        except XQueueError as error:
            if error.status not in OF_SOME and error.code != "queue_full":
                raise
            # Those that the refusal names get their own.
            places = [PLACE.match(field.get("path", "")) for field in error.errors]
            named = {int(place[1]) for place in places if place} or range(len(group))
            for index in named:
                group[index].is_alone = True
            return [one for one in group if not one.is_alone]
        for one, task in zip(group, answer.body["tasks"]):
            one.answer = task
        self._is_old = "type" not in answer.body["tasks"][0]
        return []
