"""Tells somebody's server that a limit is nearly used, or wholly: off the path, and never twice at once.

A message that cannot be delivered is tried again twice and then left: the metric and the header told it too.
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
_TRIES = 3
_BETWEEN = 1.0
_MAX_QUEUE = 1_000


class Webhook:
    def __init__(self, url: str, secret: bytes | None, report: Callable[[BaseException], None]) -> None:
        self._url = url
        self._secret = secret
        self._report = report
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(_MAX_QUEUE)
        self._task: asyncio.Task[None] | None = None

    def tell(self, rule: LimitRule, used: int) -> None:
        """Never waits; where a thousand wait already, one more is left out."""
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
        # Proxies of the environment are for callers of this machine, and a redirect could lead inside.
        async with httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False, follow_redirects=False) as client:
            while True:
                await self._deliver(client, await self._queue.get())

    async def _deliver(self, client: httpx2.AsyncClient, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        if self._secret is not None:
            headers["x-edge-signature"] = "sha256=" + hmac.digest(self._secret, body, "sha256").hex()
        for left in reversed(range(_TRIES)):
            try:
                answer = await client.post(self._url, content=body, headers=headers)
                answer.raise_for_status()
            except httpx2.HTTPError as error:
                if not left:
                    self._report(error)
                    return
                await asyncio.sleep(_BETWEEN)
            else:
                return
