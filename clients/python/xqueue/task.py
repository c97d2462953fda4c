"""A task, as it is asked for and as the server answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any, Union

Json = Any
"""What `json.dumps` takes."""

Duration = Union[int, float, str]
"""Seconds, or a string with units: `90`, `"90s"`, `"1h30m"`."""

FINAL_STATUSES = frozenset({"success", "failed", "canceled", "timeout"})


@dataclass(frozen=True)
class NewTask:
    """A task to submit. What is left out has the default of its handler, or of XQueue."""

    type: str
    payload: Json = None
    """Any JSON; None is `{}`."""
    priority: int | None = None
    """0–9, 0 to 9; tasks with a higher priority run first; default 0."""
    delay: Duration | None = None
    """How long it may not start yet; not together with `run_at`."""
    run_at: datetime | None = None
    max_retry: int | None = None
    """Retries after the first attempt; default 3."""
    queue_timeout: Duration | None = None
    """How long it may wait for its first start; default 10 minutes, 0 for no limit."""
    process_timeout: Duration | None = None
    """How long one attempt may run; default 5 minutes, 0 for no limit."""
    tags: Mapping[str, str] | None = None
    group: str | None = None
    """A tenant, account or customer; the groups of a type take turns."""
    uses: Mapping[str, int] | None = None
    """Units of named limits that it uses while it runs: `{"gpu": 1}`; default what its handler declares."""
    after: Sequence[str | int] | None = None
    """Tasks to wait for: ids, or with `submit_many` also the places of earlier ones, from 0."""
    on_failure: str | None = None
    """When one of those ends without success: `cancel` it too (default), `run` it all the same, or `wait` for a retry."""
    batch: str | None = None
    """A name that tasks are counted, listed, canceled and retried under together."""
    idempotency_key: str | None = None
    """The same key with the same task is submitted once, however often it is called."""

    def to_json(self) -> dict[str, Json]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.run_at is not None:
            given["run_at"] = self.run_at.astimezone(timezone.utc).isoformat(timespec="milliseconds")
        if self.after is not None:
            given["after"] = list(self.after)
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Task:
    """A task as it stands. Durations are seconds."""

    id: str
    type: str
    payload: Json
    priority: int
    status: str
    """`pending`, `processing`, `success`, `failed`, `canceled` or `timeout`."""
    attempts: int
    """Runs that ended by themselves or by their time-out."""
    deliveries: int
    """Times it was handed to a worker: a lost worker adds a delivery, not an attempt."""
    max_retry: int
    queue_timeout: float
    process_timeout: float
    timeout_reason: str | None
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    updated_at: datetime
    completed_at: datetime | None
    worker_id: str | None
    progress: Json
    result: Json
    error: str | None
    tags: Mapping[str, str]
    idempotency_key: str | None
    group: str | None
    uses: Mapping[str, int]
    """Units of named limits that it uses while it runs; None from a server of an earlier version."""
    after: Sequence[str]
    """The tasks that it waits for, or has waited for."""
    on_failure: str
    batch: str | None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    @classmethod
    def from_json(cls, answer: Mapping[str, Json]) -> Task:
        """Fields that this version does not know are left out."""
        known: dict[str, Any] = {name: answer.get(name) for name in _TASK_FIELDS}
        for name in ("created_at", "run_at", "started_at", "updated_at", "completed_at"):
            known[name] = _time(known[name])
        # A frozen class sets each field by itself, which takes longer than everything else here.
        task = cls.__new__(cls)
        task.__dict__.update(known)
        return task


_TASK_FIELDS = tuple(field.name for field in fields(Task))


class Predecessor:
    """
    A task that another one has waited for, as it ended. Where all results together have more than 1 MiB, some come
    without: these are read from the server when `result` or `error` is first asked for, which needs the lease.
    """

    def __init__(
        self, answer: Mapping[str, Json], read: Callable[[str], Mapping[str, Json]] | None = None
    ) -> None:
        self._answer = answer
        self._read = read

    @property
    def id(self) -> str:
        return self._answer["id"]

    @property
    def type(self) -> str:
        return self._answer["type"]

    @property
    def status(self) -> str | None:
        """None: it is not known any more."""
        return self._answer["status"]

    @property
    def result(self) -> Json:
        return self._whole().get("result")

    @property
    def error(self) -> str | None:
        return self._whole().get("error")

    def _whole(self) -> Mapping[str, Json]:
        if self._answer.get("omitted") and self._read:
            self._answer = self._read(self.id)
        return self._answer

    def __repr__(self) -> str:
        return f"Predecessor(id={self.id!r}, type={self.type!r}, status={self.status!r})"


def _time(text: str | None) -> datetime | None:
    # Before Python 3.11 `fromisoformat` does not read the Z.
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))
