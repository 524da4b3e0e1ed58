"""Sends requests to the gateway's own listener."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2

from .bridge import GatewayUnreachable, Headers, StreamedReply

_CONNECT_SECONDS = 5.0


class _Reply:
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.aiter_raw():
                yield chunk
        except httpx2.HTTPError as error:
            raise GatewayUnreachable("the gateway has closed the connection before the end of the response") from error


class OwnListener:
    """A pool of connections without cookies. The gateway's own timeouts end what takes too long."""

    def __init__(self, url: Callable[[], str]) -> None:
        """`url`: of the listener, as this machine reaches it."""
        self._url = url
        # The certificate of the own listener is for its public name, and the connection stays on this machine.
        self._transport = httpx2.AsyncHTTPTransport(
            verify=False, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        )

    @asynccontextmanager
    async def responses(self, headers: Headers, body: bytes) -> AsyncIterator[StreamedReply]:
        """Sends POST /v1/responses. Raises GatewayUnreachable."""
        request = httpx2.Request(
            "POST",
            f"{self._url()}/v1/responses",
            headers=headers,
            content=body,
            extensions={"timeout": {"connect": _CONNECT_SECONDS, "read": None, "write": None, "pool": None}},
        )
        try:
            response = await self._transport.handle_async_request(request)
        except httpx2.HTTPError as error:
            raise GatewayUnreachable("the gateway does not answer") from error
        try:
            yield _Reply(response)
        finally:
            await response.aclose()

    async def close(self) -> None:
        await self._transport.aclose()
