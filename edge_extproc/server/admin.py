"""The admin port: health, readiness, configuration and metrics over HTTP.

These routes need no token: they change nothing and show no secret. The admin API at the same port (admin_api.py) needs
one, and so do the admin pages (edge_extproc/pages). The supervisor serves the port, so that it answers whatever the
state of the workers is.
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
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from ..telemetry.background import TaskState
from .admin_admission import MAX_CONNECTIONS, MAX_HEADERS, NO_PAGE, AdmissionChecks, Admits, HeaderTimeoutProtocol
from .gone_readers import StopsForGoneReaders

# Prometheus' text format, and OpenMetrics, which has exemplars. A scraper names the formats that it accepts.
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# Where an identity provider leads the browser back to.
LINKED = ("/ui/oidc/callback",)
# Most often for a caller who has confused the two ports of a gateway.
NO_SUCH_PATH = "this is the admin port, and it has no such path; models are at the address of `listen`"

MetricsSource: TypeAlias = Callable[[bool], Awaitable[bytes]]
"""Takes whether to use OpenMetrics; returns the metrics as text."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of each part, by name."""

    parts: Mapping[str, bool]
    beside: Mapping[str, str] = field(default_factory=dict)
    """The state of components that not every request needs: `up`, or `down` with the reason if it is known."""
    tasks: Mapping[str, TaskState] = field(default_factory=dict)
    """Background tasks of the supervisor that have failed since the start."""
    quarantined_rows: int = 0
    """Rows that the ledger refused."""

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
    pages: ASGIApp | None = None,
) -> Starlette:
    """`api`: the admin API (admin_api.py), which gets all other paths. `configuration`: the active version, and the
    outcome of the last read. `pages`: the admin pages, to which / leads."""

    async def healthz(request: Request) -> Response:
        """Answers 200 as long as this process runs."""
        del request
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """Answers 200 if requests can be served, else 503; the body names the missing parts."""
        del request
        state = await readiness()
        body: dict[str, object] = {
            "ready": state.ready,
            "parts": {n: "serving" if up else "down" for n, up in state.parts.items()},
        }
        if state.beside:
            body["beside"] = dict(state.beside)
        if state.tasks:
            body["tasks"] = {
                name: {"state": "running" if task.is_running else "failed", "failures": task.failures}
                | ({"error": task.error} if task.error is not None else {})
                for name, task in state.tasks.items()
            }
        if state.quarantined_rows:
            body["ledger"] = {"quarantined_rows": state.quarantined_rows}
        return JSONResponse(body, status_code=200 if state.ready else 503)

    async def exposition(request: Request) -> Response:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        kind = OPENMETRICS if openmetrics else TEXT
        return Response(await metrics(openmetrics), headers={"content-type": kind})

    async def envoy_exposition(request: Request) -> Response:
        """Envoy's own metrics of the listener, filters and providers; 503 if Envoy does not answer."""
        del request
        text = await envoy_metrics()
        return Response(text or b"", headers={"content-type": TEXT}, status_code=200 if text is not None else 503)

    async def config(request: Request) -> Response:
        del request
        return JSONResponse(configuration())

    async def to_pages(request: Request) -> Response:
        del request
        return RedirectResponse("/ui/", 303)

    async def unknown(request: Request, error: Exception) -> Response:
        del request, error
        return JSONResponse({"error": {"code": "not_found", "message": NO_SUCH_PATH}}, 404, NO_PAGE)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
            Route("/metrics/envoy", envoy_exposition),
            Route("/config", config),
            *([Route("/", to_pages), Route("/ui", to_pages), Mount("/ui", pages)] if pages is not None else []),
            *([Mount("/", api)] if api is not None else []),
        ],
        exception_handlers={404: unknown},
    )


class AdminServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the supervisor and has an event for its start."""

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


def admit_all(path: str, headers: Sequence[tuple[str, str]]) -> bool:
    del path, headers
    return True


def server(
    app: ASGIApp,
    address: str,
    port: int,
    *,
    admits: Admits = admit_all,
    hosts: Collection[str] = (),
    linked: Collection[str] = (),
) -> AdminServer:
    """`admits`: whether a request may send a body. `hosts`: additional names of this port, beside addresses and
    localhost. Without any, a port at a loopback address has no other name, and a port at another address accepts any
    name. `linked`: paths to which another site may lead a browser."""
    known = hosts if hosts or ipaddress.ip_address(address).is_loopback else None
    return AdminServer(
        uvicorn.Config(
            AdmissionChecks(StopsForGoneReaders(app), admits, known, linked=linked),
            host=address,
            port=port,
            http=HeaderTimeoutProtocol,
            h11_max_incomplete_event_size=MAX_HEADERS,
            limit_concurrency=MAX_CONNECTIONS,
            log_config=None,
            access_log=False,
            lifespan="off",
            # Otherwise a client on this machine chooses its address, and so escapes the limit of sign-in attempts.
            proxy_headers=False,
            # There are none: a request for one is answered as any other.
            ws="none",
            server_header=False,
        )
    )
