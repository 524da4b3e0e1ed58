"""Stops the work for a page whose reader has closed it."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# They change nothing, so that they can be stopped at any moment.
_READING = ("GET", "HEAD")


class StopsForGoneReaders:
    """Cancels the application when the client of a GET has closed its connection. uvicorn leaves it running."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _READING:
            await self._app(scope, receive, send)
            return
        received: asyncio.Queue[Message] = asyncio.Queue()
        is_complete = False

        async def watch() -> None:
            while True:
                message = await receive()
                received.put_nowait(message)
                if message["type"] == "http.disconnect":
                    return

        async def noted(message: Message) -> None:
            nonlocal is_complete
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        answering = asyncio.ensure_future(self._answer(scope, received.get, noted))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
            # A server says the same after a complete response.
            if not is_complete and not answering.done():
                answering.cancel()
                await asyncio.wait((answering,))
            else:
                await answering
        finally:
            for task in (answering, watching):
                task.cancel()
        if not answering.cancelled():
            answering.result()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
