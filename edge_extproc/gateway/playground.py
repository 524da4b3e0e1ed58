"""Sends the calls of the playground through the gateway's listener, and gets their debug captures from the workers."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..config.envoy import listener_url
from ..config.schema import Config
from ..model.captured import CapturedRequest
from ..model.globs import is_glob
from .playground_code import as_curl, as_python, request_of

if TYPE_CHECKING:
    from ..server.admin_playground import PlaygroundCall, PlaygroundEvent
    from .worker_client import WorkerClient

_SECONDS = 120.0
_MOST_BYTES = 512 * 1024
# A worker ends its exchange a moment after the caller has the last byte.
_POLLS, _POLL_SECONDS = 20, 0.05


class Playground:
    """`with_envoy`: this process runs Envoy, so the configuration has the address of its listener."""

    def __init__(
        self, current: Callable[[], Config], workers: Callable[[], Sequence[WorkerClient]], *, with_envoy: bool
    ) -> None:
        self._current = current
        self._workers = workers
        self._with_envoy = with_envoy

    def url(self) -> str | None:
        config = self._current()
        if config.admin.gateway_url is not None:
            return config.admin.gateway_url.rstrip("/")
        return listener_url(config.listen) if self._with_envoy else None

    def models(self) -> list[str]:
        return sorted(name for name in self._current().models if not is_glob(name))

    async def send(self, call: PlaygroundCall, key_id: str, key: str) -> AsyncIterator[PlaygroundEvent]:
        import httpx2  # imported at the first use

        url = self.url() or ""
        request = request_of(call, url)
        yield "request", {"curl": as_curl(request), "python": as_python(request, call.model)}
        request_id = f"playground-{secrets.token_hex(16)}"
        await asyncio.gather(*(worker.expect_capture(request_id, key_id) for worker in self._workers()))
        headers = {**request.headers(key), "x-request-id": request_id}
        # The certificate of the own listener is for its public name, and the connection stays on this machine.
        is_own = self._current().admin.gateway_url is None
        began = time.monotonic()
        try:
            async with (
                httpx2.AsyncClient(verify=not is_own, timeout=_SECONDS, trust_env=False) as client,
                asyncio.timeout(_SECONDS),
                client.stream(
                    "POST", url + request.path, content=json.dumps(request.body).encode(), headers=headers
                ) as answer,
            ):
                shown = _lines(answer.headers.items())
                yield "head", {"status": str(answer.status_code), "headers": shown, "seconds": _since(began)}
                size = 0
                async for text in answer.aiter_text():
                    size += len(text)
                    if size > _MOST_BYTES:
                        yield "error", {"message": "the response is too long to be shown; the rest was not read"}
                        break
                    yield "data", {"text": text}
            yield "end", {"seconds": _since(began)}
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            yield "error", {"message": f"the gateway did not answer at {url}: {type(error).__name__}"}
        yield "capture", _shown(await self._capture(request_id))

    async def _capture(self, request_id: str) -> CapturedRequest | None:
        """The capture of the worker that had the request."""
        for _ in range(_POLLS):
            found = await asyncio.gather(*(worker.take_capture(request_id) for worker in self._workers()))
            capture = next((each for each in found if each is not None), None)
            if capture is not None:
                return capture
            await asyncio.sleep(_POLL_SECONDS)
        return None


def _shown(capture: CapturedRequest | None) -> dict[str, str]:
    if capture is None:
        return {"sent": "No provider was asked.", "received": ""}
    sent = [
        f"Attempt {number}\n{_lines(attempt.headers)}\n\n{attempt.body}{_cut(cut=attempt.cut)}"
        for number, attempt in enumerate(capture.attempts, 1)
    ]
    received = f"{_lines(capture.headers)}\n\n{capture.body}{_cut(cut=capture.cut)}" if capture.headers else ""
    return {"exchange": capture.exchange or "", "sent": "\n\n".join(sent), "received": received}


def _lines(headers: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in headers)


def _cut(*, cut: bool) -> str:
    return "\n(the rest is not kept)" if cut else ""


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.3f} s"
