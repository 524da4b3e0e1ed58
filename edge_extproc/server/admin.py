"""The admin port: health, readiness and metrics over HTTP, open to whoever reaches it: they change nothing and show no
secret. The admin API beside them (admin_api.py) asks for a token.

It is served by the supervisor, so that it answers whatever state the workers are in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from ..telemetry.background import TaskState
from .admin_door import MAX_CONNECTIONS, MAX_HEADERS, Admits, Door, HeadersInTime

# Prometheus' text format, and the one that has exemplars: a scraper says that it takes it.
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

MetricsSource: TypeAlias = Callable[[bool], Awaitable[bytes]]
"""Whether it is to be OpenMetrics, to an exposition."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Each part by name, and whether it serves."""

    parts: Mapping[str, bool]
    beside: Mapping[str, str] = field(default_factory=dict)
    """What not every request needs: `up`, or `down` with the reason, where one is known."""
    tasks: Mapping[str, TaskState] = field(default_factory=dict)
    """Background tasks of the supervisor that have failed since it started."""
    quarantined_rows: int = 0
    """Rows that the ledger could not take."""

    @property
    def ready(self) -> bool:
        return all(self.parts.values())


async def _no_envoy() -> bytes | None:
    return None


def build(
    readiness: Callable[[], Awaitable[Readiness]],
    metrics: MetricsSource,
    envoy_metrics: Callable[[], Awaitable[bytes | None]] = _no_envoy,
    api: ASGIApp | None = None,
    configuration: Callable[[], Mapping[str, object]] = dict,
) -> Starlette:
    """`api`: the admin API (admin_api.py), which has all other paths. `configuration`: which one is in force, and what
    became of the last one that was read."""

    async def healthz(request: Request) -> Response:
        """This process is alive."""
        del request
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """Requests can be served: 503 as long as a part is missing, and which one."""
        del request
        found = await readiness()
        body: dict[str, object] = {
            "ready": found.ready,
            "parts": {n: "serving" if up else "down" for n, up in found.parts.items()},
        }
        if found.beside:
            body["beside"] = dict(found.beside)
        if found.tasks:
            body["tasks"] = {
                name: {"state": "running" if task.is_running else "failed", "failures": task.failures}
                | ({"error": task.error} if task.error is not None else {})
                for name, task in found.tasks.items()
            }
        if found.quarantined_rows:
            body["ledger"] = {"quarantined_rows": found.quarantined_rows}
        return JSONResponse(body, status_code=200 if found.ready else 503)

    async def exposition(request: Request) -> Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        kind = OPENMETRICS if openmetrics else TEXT
        return Response(await metrics(openmetrics), headers={"content-type": kind})

    async def of_envoy(request: Request) -> Response:
        """What Envoy counts of our listener, filters and providers: 503 where it does not answer."""
        del request
        found = await envoy_metrics()
        return Response(found or b"", headers={"content-type": TEXT}, status_code=200 if found is not None else 503)

    async def config(request: Request) -> Response:
        del request
        return JSONResponse(configuration())

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
            Route("/metrics/envoy", of_envoy),
            Route("/config", config),
            *([Mount("/", api)] if api is not None else []),
        ]
    )


class AdminServer(uvicorn.Server):
    """uvicorn, but signals belong to the supervisor, and one can wait for it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def until_started(self) -> None:
        await self._listening.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def everybody(path: str, headers: Sequence[tuple[str, str]]) -> bool:
    del path, headers
    return True


def server(
    app: ASGIApp, address: str, port: int, *, admits: Admits = everybody, hosts: Collection[str] = ()
) -> AdminServer:
    """`admits`: who may send a body. `hosts`: names under which the port may be reached, besides addresses and
    localhost; without any, a loopback address has no other name, and another address any."""
    known = hosts if hosts or ipaddress.ip_address(address).is_loopback else None
    return AdminServer(
        uvicorn.Config(
            Door(app, admits, known),
            host=address,
            port=port,
            http=HeadersInTime,
            h11_max_incomplete_event_size=MAX_HEADERS,
            limit_concurrency=MAX_CONNECTIONS,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
        )
    )
