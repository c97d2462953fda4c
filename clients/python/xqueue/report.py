"""The outcome of an attempt, as the API takes it."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping

from .attempt import Attempt, DoNotRetry, RateLimited, RetryAfter
from .task import Json

ERROR_CHARS_MAX = 16_000
# What json.dumps raises: also for a value that is nested too deep, or that another thread is changing.
NO_JSON = (TypeError, ValueError, RuntimeError)


class Report:
    """A result, an error with its options, or a release: `fields` are JSON texts by their names."""

    __slots__ = ("attempt", "fields", "is_plain")

    def __init__(self, attempt: Attempt, fields: Mapping[str, str], *, is_plain: bool = False) -> None:
        self.attempt = attempt
        self.fields = fields
        self.is_plain = is_plain
        """Whether it has replaced a failure that was refused."""

    @property
    def is_release(self) -> bool:
        """Whether the handler has not run, so that no attempt counts."""
        return "release" in self.fields

    @property
    def verb(self) -> str:
        return "fail" if "error" in self.fields else "complete"

    @property
    def size(self) -> int:
        return sum(map(len, self.fields.values()))

    def instead(self, refusal: object) -> Report | None:
        """What replaces it, as the server has refused it; None for a replacement and a release."""
        if self.is_plain or self.is_release:
            return None
        if self.verb == "complete":
            return failed(self.attempt, f"the result was refused: {refusal}", retry=False)
        error = f"the outcome was refused: {refusal}; {json.loads(self.fields['error'])}"
        retry = self.fields.get("retry")
        kept = {} if retry is None else {"retry": retry}
        return Report(self.attempt, {"error": json.dumps(error[:ERROR_CHARS_MAX]), **kept}, is_plain=True)


def released(attempt: Attempt) -> Report:
    return Report(attempt, {"release": "true"})


def succeeded(attempt: Attempt, result: Json) -> Report:
    try:
        return Report(attempt, {"result": json.dumps(result, allow_nan=False), **_usage(attempt)})
    except NO_JSON as error:
        return failed(attempt, f"the result is no JSON: {error}", retry=False)


def failed(
    attempt: Attempt,
    error: str,
    *,
    retry: bool | None = None,
    delay: float | None = None,
    hold: float | None = None,
    limit: str | None = None,
) -> Report:
    options = {"retry": retry, "delay": delay, "hold": hold, "limit": limit}
    given = {name: json.dumps(value) for name, value in options.items() if value is not None}
    used = {} if hold is not None else _usage(attempt)
    return Report(attempt, {"error": json.dumps(error[:ERROR_CHARS_MAX]), **given, **used})


def _usage(attempt: Attempt) -> dict[str, str]:
    """What is no JSON is left out: the units that the rates have counted stay."""
    try:
        return {} if attempt.used is None else {"usage": json.dumps(attempt.used, allow_nan=False)}
    except NO_JSON:
        return {}


def failed_with(attempt: Attempt, error: BaseException) -> Report:
    """The failure that an exception of the handler stands for."""
    if isinstance(error, DoNotRetry):
        return failed(attempt, _text(error), retry=False)
    if isinstance(error, RetryAfter):
        if error.delay is not None:
            return failed(attempt, _text(error), delay=error.delay)
        note = f"(the delay {error.seconds!r} s is not valid, use at most 366 days: the type's back-off applies) "
        return failed(attempt, note[:200] + _text(error))
    if isinstance(error, RateLimited):
        if error.hold is not None:
            return failed(attempt, _text(error), hold=error.hold, limit=error.limit)
        use = "use more than 0 s and at most 24 hours"
        note = f"(the hold of {error.seconds!r} s is not valid, {use}: the type's back-off applies) "
        return failed(attempt, note[:200] + _text(error))
    where = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return failed(attempt, f"{type(error).__name__}: {_text(error)}\n{where}")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unreadable:  # It is the handler's own class: its task fails, not its report.
        return f"its text cannot be read ({type(unreadable).__name__})"
