"""Calls the admin API in this process, with the credential of a user."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/admin/v1"


class ApiRefused(Exception):
    """The API has answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def path_of(*parts: str) -> str:
    """A path of the API, of names that a user has typed. Raises ApiRefused for a name that would change the path."""
    for part in parts:
        if not part or "/" in part:
            raise ApiRefused(400, "invalid_name", f"{part[:64]!r} is no name: a name is not empty and has no slash")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


class ApiClient:
    """The API for one user. `credential`: the token or the key that the user has signed in with."""

    def __init__(self, api: ASGIApp, credential: str) -> None:
        self._api = api
        self._credential = credential

    async def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Raises ApiRefused."""
        return await self.call("GET", path, query=query)

    async def call(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, body: object = None
    ) -> Any:
        """The decoded body of the answer; None if it has none. Raises ApiRefused."""
        received = await self._answer(method, path, query, b"" if body is None else json.dumps(body).encode())
        return json.loads(received) if received else None

    async def _answer(self, method: str, path: str, query: Mapping[str, object] | None, sent: bytes) -> bytes:
        status, received = 500, bytearray()

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                received.extend(message.get("body", b""))

        await self._api(self._scope(method, path, query, sent), _receiving(sent), send)
        if status >= 400:
            error = json.loads(received)["error"]
            raise ApiRefused(status, error["code"], error["message"])
        return bytes(received)

    def forwarded(
        self, path: str, query: Mapping[str, object], filename: str, refusal: Callable[[int, str], Response]
    ) -> Response:
        """A response that streams the answer of the API to GET as a file to save. `refusal`: the response for an error
        of the API, of its status and message."""
        disposition = (b"content-disposition", f'attachment; filename="{filename}"'.encode())
        return _Forwarded(self._api, self._scope("GET", path, query, b""), None, (disposition,), refusal)

    def streamed(self, path: str, body: object, refusal: Callable[[int, str], Response]) -> Response:
        """A response that streams the answer of the API to POST."""
        sent = json.dumps(body).encode()
        return _Forwarded(self._api, self._scope("POST", path, None, sent), sent, (), refusal)

    async def events(self, path: str, body: object) -> list[tuple[str, dict[str, str]]]:
        """The events of the API's answer to POST, once it has ended. Raises ApiRefused."""
        text = (await self._answer("POST", path, None, json.dumps(body).encode())).decode()
        events = (block.partition("\n") for block in text.split("\n\n") if block)
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, _, data in events]

    def _scope(self, method: str, path: str, query: Mapping[str, object] | None, body: bytes) -> Scope:
        raw = f"{PREFIX}{path}"
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {self._credential}".encode("latin-1"))]
        if body:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "root_path": "",
            "query_string": urlencode(given, doseq=True).encode(),
            "headers": headers,
            "client": None,
            "server": None,
            "state": {},
        }


class _Forwarded(Response):
    """`body`: what the API gets; None: what the browser has sent."""

    def __init__(
        self,
        api: ASGIApp,
        inner: Scope,
        body: bytes | None,
        more: tuple[tuple[bytes, bytes], ...],
        refusal: Callable[[int, str], Response],
    ) -> None:
        super().__init__()
        self._api = api
        self._inner = inner
        self._body = body
        self._more = more
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused_status, refused = 0, bytearray()

        async def named(message: Message) -> None:
            nonlocal refused_status
            if message["type"] == "http.response.start":
                if message["status"] >= 400:
                    refused_status = message["status"]
                    return
                message = {**message, "headers": [*message["headers"], *self._more]}
            elif refused_status:
                refused.extend(message.get("body", b""))
                return
            await send(message)

        await self._api(self._inner, receive if self._body is None else _receiving(self._body), named)
        if refused_status:
            await self._refusal(refused_status, json.loads(refused)["error"]["message"])(scope, receive, send)


def _receiving(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        # The client of a call in this process does not disconnect.
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    return receive
