"""One kept-alive HTTP connection: what is below JSON and retries."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from .errors import ServerUnreachable, XQueueError
from .task import Json

# Servers and proxies close idle connections after 60 s or more. A call on a connection that is being closed may be lost,
# so the client closes it first.
IDLE_SECONDS_MAX = 50.0
# The server has closed the connection. `RemoteDisconnected` is one of them.
CLOSED = (ConnectionResetError, BrokenPipeError)


class Answer(NamedTuple):
    body: Json
    date: datetime | None
    """The server's clock."""


class Connection:
    """For one thread at a time, but for `abort`, which another thread may call."""

    def __init__(self, server: str, key: str | None) -> None:
        url = urlsplit(server)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"server is {server!r}: it must be a URL as http://127.0.0.1:8080")
        self._server = server
        self._make: type[HTTPConnection | HTTPSConnection] = (
            HTTPSConnection if url.scheme == "https" else HTTPConnection
        )
        self._address = (url.hostname, url.port)
        self._path = f"{url.path.rstrip('/')}/api/v1"
        self._headers = {"Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._http: HTTPConnection | None = None
        self._aborted = False
        self._used_at = time.monotonic()

    def exchange(
        self,
        method: str,
        path: str,
        body: Json,
        timeout: float,
        *,
        repeatable: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        One call, whose body is JSON or already its bytes. Raises XQueueError for what the server refuses, ServerUnreachable where no answer came. If the server
        closes a kept connection before it answers, a repeatable call is sent again at once on another one.
        """
        text = body if body is None or isinstance(body, bytes) else json.dumps(body, allow_nan=False).encode()
        response = self._send(method, path, text, timeout, repeatable, headers or {})
        try:
            content = response.read()
        except (OSError, HTTPException) as error:
            raise self._broken(error, sent=True) from error
        self._used_at = time.monotonic()
        problem = _json(content)
        if response.status >= 300:
            # Also what is no answer of XQueue (a redirect, a proxy's error page) counts as refused.
            raise XQueueError(response.status, problem if isinstance(problem, dict) else {}, _retry_after(response))
        if problem is None and content.strip():
            raise XQueueError(response.status, {"detail": f"{self._server} answered no JSON: is it XQueue?"})
        return Answer(problem, _date(response))

    def is_stale(self) -> bool:
        """Whether it has been idle for so long that the server or a proxy may be closing it."""
        return time.monotonic() - self._used_at > IDLE_SECONDS_MAX

    def close(self) -> None:
        if self._http:
            self._http.close()
            self._http = None

    def __del__(self) -> None:
        if getattr(self, "_http", None):
            self.close()

    def abort(self) -> None:
        """Ends the call that is under way, and every later one."""
        self._aborted = True
        http = self._http
        sock = http.sock if http else None
        if sock:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has ended by itself.

    def _send(
        self, method: str, path: str, body: bytes | None, timeout: float, repeatable: bool, more: Mapping[str, str]
    ) -> HTTPResponse:
        kept = self._http
        http = self._connected(timeout)
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json", **more}
        try:
            http.request(method, self._path + path, body, headers)
            return http.getresponse()
        except CLOSED as error:
            broken = self._broken(error, sent=True)
            if not repeatable or http is not kept or self._aborted:
                raise broken from error
        except (OSError, HTTPException) as error:
            raise self._broken(error, sent=True) from error
        return self._send(method, path, body, timeout, repeatable, more)

    def _connected(self, timeout: float) -> HTTPConnection:
        if self._http and self._http.sock and (self.is_stale() or _is_readable(self._http.sock)):
            self.close()  # Nothing was asked, so what can be read is its end: the server closes idle connections.
        if self._http is None or self._http.sock is None:
            self._http = self._make(*self._address, timeout=timeout)
            try:
                self._http.connect()
            except OSError as error:
                raise self._broken(error, sent=False) from error
            self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._used_at = time.monotonic()
        self._http.sock.settimeout(timeout)
        if self._aborted:
            raise self._broken("the call was given up", sent=False)
        return self._http

    def _broken(self, why: object, *, sent: bool) -> ServerUnreachable:
        self.close()
        return ServerUnreachable(self._server, why or type(why).__name__, sent=sent)


# select() takes no descriptor above 1,023; poll() does, and unlike epoll needs none of its own.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def _is_readable(sock: socket.socket) -> bool:
    with _Selector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _json(content: bytes) -> Json:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _retry_after(response: HTTPResponse) -> float | None:
    text = response.getheader("Retry-After", "")
    return float(text) if text.isdigit() else None


def _date(response: HTTPResponse) -> datetime | None:
    try:
        return parsedate_to_datetime(response.getheader("Date", ""))
    except (TypeError, ValueError):
        return None
