"""The calls of a worker: each reports outcomes, renews leases and claims tasks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from .attempt import Attempt, Lines
from .client import Client
from .connection import Answer, Connection
from .errors import XQueueError
from .report import Report
from .task import Json

LEASE_LOST = 410
# The server has no such call.
UNKNOWN_CALL = (404, 405)
TRY_LATER = (0, 429, 500, 502, 503, 504)


@dataclass
class Renewal:
    attempt: Attempt
    progress: str | None = None
    """As JSON."""
    lines: Lines | None = None


@dataclass
class TurnAnswer:
    outcomes: list[XQueueError | None] = field(default_factory=list)
    """For each outcome the error with which it was refused, or None."""
    renewals: list[tuple[Mapping[str, Json], XQueueError | None]] = field(default_factory=list)
    leases: Sequence[Mapping[str, Json]] = ()
    date: datetime | None = None


class Turns:
    """A server from before there was `POST /tasks/turn` gets a call for each step instead."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.is_old = False
        """Whether the server has no such call."""

    def take(
        self,
        reports: Sequence[Report],
        renewals: Sequence[Renewal],
        claim: Mapping[str, Json],
        *,
        timeout: float,
        connection: Connection | None = None,
    ) -> TurnAnswer:
        """With nothing to report it waits for tasks. Raises XQueueError where the whole call has failed."""
        if self.is_old:
            return self._step_by_step(reports, renewals, claim, timeout, connection)
        try:
            answer = self._call("/tasks/turn", _body(reports, renewals, claim), timeout, connection)
        except XQueueError as error:
            if error.status in UNKNOWN_CALL:
                self.is_old = True
            # Otherwise one of the items cannot be read, or they are too large together: each gets its own answer.
            elif error.status in TRY_LATER or not (reports or renewals):
                raise
            return self._step_by_step(reports, renewals, claim, timeout, connection)
        body = answer.body if isinstance(answer.body, dict) else {}
        outcomes, renewed, leases = (body.get(name) for name in ("outcomes", "renewals", "leases"))
        if leases is None or (len(outcomes), len(renewed)) != (len(reports), len(renewals)):
            raise XQueueError(502, {"detail": "the answer to POST /tasks/turn lacks items: is a proxy in between?"})
        return TurnAnswer(
            [_problem(item) for item in outcomes],
            [(item, _problem(item)) for item in renewed],
            leases,
            answer.date,
        )

    def _step_by_step(
        self,
        reports: Sequence[Report],
        renewals: Sequence[Renewal],
        claim: Mapping[str, Json],
        timeout: float,
        connection: Connection | None,
    ) -> TurnAnswer:
        """The same in single calls. Raises the first error that passes, like a turn."""
        made = TurnAnswer()
        for renewal in renewals:
            made.renewals.append(self._renew(renewal, made, timeout))
        for report in reports:
            try:
                self._settle(report, timeout)
                made.outcomes.append(None)
            except XQueueError as error:
                if error.status in TRY_LATER:
                    raise
                made.outcomes.append(error)
        if claim.get("max") and not reports and not renewals:
            answer = self._call("/tasks/consume", json.dumps(claim), timeout, connection)
            made.leases, made.date = answer.body["leases"], answer.date
        return made

    def _settle(self, report: Report, timeout: float) -> None:
        if not report.is_release:
            self._of_lease(report.attempt.lease, report.verb, _object(report.fields), timeout)
        elif not self.is_old:  # An older server has no call that releases: the lease ends by itself.
            answer = self._call("/tasks/turn", _body([report], (), {}), timeout, None)
            if problem := _problem(answer.body["outcomes"][0]):
                raise problem

    def _renew(
        self, renewal: Renewal, made: TurnAnswer, timeout: float
    ) -> tuple[Mapping[str, Json], XQueueError | None]:
        lease, progress, lines = renewal.attempt.lease, renewal.progress, renewal.lines
        fields = {"progress": progress} if progress else {}
        if lines:
            fields["logs"] = _array(lines.texts)
        try:
            answer = self._of_lease(lease, "heartbeat", _object(fields), timeout)
            made.date = answer.date
            return answer.body, None
        except XQueueError as error:
            if error.status in TRY_LATER:
                raise
            if error.status != LEASE_LOST and fields:
                # Invalid progress must not cost the lease, nor lines that an older server does not take.
                return self._of_lease(lease, "heartbeat", "{}", timeout).body, error
            return {}, error

    def _of_lease(self, lease: str, verb: str, body: str, timeout: float) -> Answer:
        return self._call(f"/leases/{quote(lease, safe='')}/{verb}", body, timeout, None)

    def _call(self, path: str, body: str, timeout: float, connection: Connection | None) -> Answer:
        content = body.encode()
        if connection:
            return connection.exchange("POST", path, content, timeout, repeatable=True)
        return self._client.call("POST", path, content, patience=0, timeout=timeout)


def _body(reports: Sequence[Report], renewals: Sequence[Renewal], claim: Mapping[str, Json]) -> str:
    fields = {name: json.dumps(value) for name, value in claim.items()}
    if reports:
        items = (_object({"lease": f'"{report.attempt.lease}"', **report.fields}) for report in reports)
        fields["outcomes"] = f"[{','.join(items)}]"
    if renewals:
        items = (
            _object({"lease": f'"{one.attempt.lease}"', **({"progress": one.progress} if one.progress else {})})
            for one in renewals
        )
        fields["renewals"] = f"[{','.join(items)}]"
    logs = [(one.attempt.lease, one.lines) for one in renewals if one.lines]
    if logs:
        items = (
            _object({"lease": f'"{lease}"', "skipped": str(lines.skipped), "lines": _array(lines.texts)})
            for lease, lines in logs
        )
        fields["logs"] = f"[{','.join(items)}]"
    return _object(fields)


def _object(fields: Mapping[str, str]) -> str:
    """An object of values that are JSON already."""
    return "{" + ",".join([f'"{name}":{value}' for name, value in fields.items()]) + "}"


def _array(texts: Iterable[str]) -> str:
    return f"[{','.join(texts)}]"


def _problem(item: Mapping[str, Json]) -> XQueueError | None:
    problem = item.get("problem")
    return problem and XQueueError(problem["status"], problem)
