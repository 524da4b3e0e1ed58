"""Checks that precede every route of the admin port: who may send a request, and how large it may be.

The checks run in this order, so that the supervisor buffers nothing from a peer without permission:

headers within a size and a time, or the connection is closed Host a name of this port, because a web page can point its
own name at a loopback address Origin only this port's own, because a page of another site can send requests, but must
name its origin admission the admin API's token (401), before the body is read body within a size (413) and a time (408)

A refused request closes its connection, so that the rest of its body is not read either.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import h11
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

# Bytes. The longest body of the API has a hundred models of 256 characters; JSON may need six bytes for each character.
MAX_BODY = 256 * 1024
MAX_HEADERS = 32 * 1024
HEADER_SECONDS = 10.0
BODY_SECONDS = 10.0
# Scrapers, probes and some people. Each connection costs the supervisor a file descriptor.
MAX_CONNECTIONS = 512

# Of an error, which a browser may show in place of a page: it runs nothing and is shown in no frame.
NO_PAGE = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

Admits: TypeAlias = Callable[[str, Sequence[tuple[str, str]]], bool]
"""Whether a request with this path and these headers may send its body."""


class AdmissionChecks:
    """The ASGI application with the checks. `hosts`: names of the port, beside addresses and localhost; None: any name.
    `seconds`: the time for a body. `linked`: paths to which another site may lead a browser."""

    def __init__(
        self,
        app: ASGIApp,
        admits: Admits,
        hosts: Collection[str] | None,
        seconds: float = BODY_SECONDS,
        *,
        linked: Collection[str] = (),
    ) -> None:
        self._app = app
        self._admits = admits
        self._hosts = hosts
        self._seconds = seconds
        self._linked = linked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal is None and _has_body(headers):
            receive, refusal = await self._body(receive)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, code, message = refusal
        answer_headers = {"connection": "close", **NO_PAGE}
        answer = JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=answer_headers)
        await answer(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> tuple[int, str, str] | None:
        host = [value for name, value in headers if name == "host"]
        if self._hosts is not None and (len(host) != 1 or not _is_known(host[0], self._hosts)):
            host_text = host[0] if host else ""
            return 421, "unknown_host", f"this port is not known as {host_text[:100]!r}; see admin.hosts"
        origins = [value for name, value in headers if name == "origin"]
        own = {f"{scheme}://{name}" for scheme in ("http", "https") for name in host}
        is_linked = method == "GET" and path in self._linked and ("sec-fetch-mode", "navigate") in headers
        is_foreign = ("sec-fetch-site", "cross-site") in headers and not is_linked
        if is_foreign or any(origin not in own for origin in origins):
            return 403, "foreign_origin", "a page of another site may not use this port"
        length = next((value for name, value in headers if name == "content-length"), "0")
        if not self._admits(path, headers):
            return 401, "unauthenticated", "send the header authorization: Bearer <admin token>, once"
        return _TOO_LARGE if int(length) > MAX_BODY else None

    async def _body(self, receive: Receive) -> tuple[Receive, tuple[int, str, str] | None]:
        """Reads the body, and returns a `receive` that replays it, or a refusal (status, code, message)."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return _replayed(message, receive), None
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY:
                        return receive, _TOO_LARGE
                    if not message.get("more_body"):
                        replayed = {"type": "http.request", "body": bytes(body), "more_body": False}
                        return _replayed(replayed, receive), None
        except TimeoutError:
            return receive, (408, "body_too_slow", f"the body did not come within {self._seconds:g} s")


_TOO_LARGE = (413, "body_too_large", f"a body may have up to {MAX_BODY} bytes here")


def _replayed(first: Message, receive: Receive) -> Receive:
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _has_body(headers: Sequence[tuple[str, str]]) -> bool:
    return any(name == "transfer-encoding" or (name == "content-length" and value != "0") for name, value in headers)


def _is_known(host: str, hosts: Collection[str]) -> bool:
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    name = name.strip("[]").lower().rstrip(".")
    if name == "localhost" or name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP/1 protocol with a time limit for a request's headers."""

    seconds = HEADER_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._too_slow)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self.transport.close()
