"""What a call can fail with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class XQueueError(Exception):
    """What the server refused: an RFC 9457 problem.

    `code` is stable (`unknown_type`, `queue_full`, `lease_lost`, …), `status` the HTTP status, the message says what
    to mend, and `errors` names each field that is wrong: `[{"path": "priority", "message": "must be <= 9"}]`.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"the server answered {status}")
        self.status = status
        self.code: str = problem.get("code", "internal")
        self.errors: list[dict[str, str]] = problem.get("errors", [])
        self.registered_types: list[str] = problem.get("registered_types", [])
        self.retry_after = retry_after


class ServerUnreachable(XQueueError):
    """No answer came. Unless `sent` is false, the call may have been carried out all the same."""

    def __init__(self, server: str, why: object, *, sent: bool) -> None:
        detail = f"{server} cannot be reached ({why}): check that `xqueue serve` runs there"
        super().__init__(0, {"code": "engine_unavailable", "detail": detail})
        self.sent = sent
