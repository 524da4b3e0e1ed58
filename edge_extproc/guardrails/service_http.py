"""The HTTP client of services: one JSON request, one JSON object as the answer.

The host comes from the configuration alone: redirects are not followed, and the proxies of the environment are not
used. No error contains a URL, a header or a part of a body.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import httpx2
import msgspec

from ..errors import Unavailable
from .service_options import ServiceOptions

T = TypeVar("T")

FailureReason: TypeAlias = Literal[
    "timeout", "connection", "status", "answer", "credential", "size", "circuit", "other"
]
"""`answer`: it is not as documented. `circuit`: no request was sent after earlier failures."""

# Bytes of an answer, besides those of the texts that it may repeat.
_MAX_ANSWER = 1 << 20
# JSON writes one byte of text as six at most.
_LONGEST_ESCAPE = 6


class ServiceFailure(Exception):
    """A service did not answer, or not as documented. `text` completes "the service …"."""

    def __init__(self, reason: FailureReason, text: str) -> None:
        super().__init__(text)
        self.reason: FailureReason = reason
        self.text = text


def undocumented(what: str) -> ServiceFailure:
    """The failure of an answer that is not as documented. `what`: a name of the format, no value of the answer."""
    return ServiceFailure("answer", f"sent an answer that is not as documented: {what}")


RequestHeaders: TypeAlias = Callable[[str, str, bytes], Iterable[tuple[str, str]]]
"""The headers for a request to a host and a path, with this body. May raise Unavailable."""


def no_headers(host: str, path: str, body: bytes) -> Iterable[tuple[str, str]]:
    """Sends no credential."""
    del host, path, body
    return ()


class ServiceClient:
    """The connections of one worker to one service."""

    def __init__(self, url: str, options: ServiceOptions, headers: RequestHeaders = no_headers) -> None:
        """`headers`: the credential."""
        self._url = url
        self._headers = headers
        # Reading the authorities takes some 20 ms. A context without any trusts no server.
        context = (
            ssl.create_default_context(cafile=options.ca)
            if httpx2.URL(url).scheme == "https"
            else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        connections = options.connections
        self._client = httpx2.AsyncClient(
            verify=context,
            timeout=options.timeout.total_seconds(),
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
        )

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer. Raises ServiceFailure. `path`: escaped, with the query."""
        # With escapes, because a text may have surrogates, which UTF-8 does not have.
        content = json.dumps(body, separators=(",", ":")).encode()
        target = httpx2.URL(self._url + path)
        headers = [
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
        ]
        try:
            headers += self._headers(target.netloc.decode(), target.raw_path.decode(), content)
        except Unavailable as error:
            raise ServiceFailure("credential", "was not called, because there is no valid credential now") from error
        try:
            async with self._client.stream("POST", target, content=content, headers=headers) as answer:
                return await _read(answer, _MAX_ANSWER + _LONGEST_ESCAPE * len(content))
        except httpx2.TimeoutException as error:
            raise ServiceFailure("timeout", "did not answer in time") from error
        except httpx2.HTTPError as error:
            raise ServiceFailure("connection", f"could not be reached: {type(error).__name__}") from error

    async def close(self) -> None:
        await self._client.aclose()


async def _read(answer: httpx2.Response, most: int) -> dict[str, Any]:
    if not 200 <= answer.status_code < 300:
        raise ServiceFailure("status", f"answered with status {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise undocumented("it is compressed")
    body = bytearray()
    async for part in answer.aiter_raw():
        body += part
        if len(body) > most:
            raise undocumented(f"it is longer than {most} bytes")
    try:
        value = msgspec.json.decode(bytes(body))
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:  # ValueError: invalid UTF-8
        raise undocumented("it is not JSON") from error
    if not isinstance(value, dict):
        raise undocumented("it is not a JSON object")
    return value


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of concurrent requests. The first failure cancels the others and is raised."""
    if len(calls) == 1:
        return [await calls[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
