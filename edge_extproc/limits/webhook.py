"""Posts a message to the operator's server when a limit is nearly or fully used.

A background task sends one message at a time. A message that cannot be delivered is retried twice and then dropped: the
metric and the response header have the same information.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable

import httpx2

from ..telemetry.background import BACKGROUND
from .base import MICRO, LimitRule

_TIMEOUT = 5.0
_ATTEMPTS = 3
_RETRY_DELAY = 1.0
_MAX_QUEUE = 1_000


class Webhook:
    """`secret`: signs each message with HMAC-SHA256. `report` receives the error of a message that is dropped."""

    def __init__(self, url: str, secret: bytes | None, report: Callable[[BaseException], None]) -> None:
        self._url = url
        self._secret = secret
        self._report = report
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_MAX_QUEUE)
        self._task: asyncio.Task[None] | None = None

    def enqueue(self, rule: LimitRule, used: int) -> None:
        """Queues a message and never waits. A message for a full queue is dropped."""
        dollars = rule.measure == "dollars"
        message = {
            "event": "limit.exceeded" if used >= rule.maximum else "limit.warning",
            "tenant": rule.tenant,
            "level": rule.level,
            "name": rule.name,
            "measure": rule.measure,
            "window": rule.window,
            "used": used / MICRO if dollars else used,
            "limit": rule.maximum / MICRO if dollars else rule.maximum,
            "hard": rule.hard,
        }
        if not self._queue.full():
            self._queue.put_nowait(json.dumps(message).encode())

    def start(self) -> None:
        self._task = BACKGROUND.start("limit_webhook", self._run)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        # trust_env: the proxies of the environment are for calls to providers. A redirect could lead to an internal
        # address.
        async with httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False, follow_redirects=False) as client:
            while True:
                await self._deliver(client, await self._queue.get())

    async def _deliver(self, client: httpx2.AsyncClient, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        if self._secret is not None:
            headers["x-edge-signature"] = "sha256=" + hmac.digest(self._secret, body, "sha256").hex()
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                answer = await client.post(self._url, content=body, headers=headers)
                answer.raise_for_status()
            except httpx2.HTTPError as error:
                if not attempts_left:
                    self._report(error)
                    return
                await asyncio.sleep(_RETRY_DELAY)
            else:
                return
