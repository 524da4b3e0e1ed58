"""A client of the admin interface of the gateway's Envoy: readiness, statistics, sampling and draining."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT = 2.0
_MAX_BYTES = 16 << 20
# The statistics of our listener, filters and providers, and of the process. The others are a thousand lines more.
_STATISTICS = r"^(cluster\.(provider_|agent)|http\.edge|listener\.|listener_manager|cluster_manager|server\.|runtime\.)"

_ACTIVE = "http.edge.downstream_rq_active"
# Statistics for each kind of resource: the applied version, and the number of rejected updates.
_APPLIED = {
    "clusters": "cluster_manager.cds.version_text",
    "listeners": "listener_manager.lds.version_text",
    "routes": "http.edge.rds.edge.version_text",
}
_REJECTED = {
    "clusters": "cluster_manager.cds.update_rejected",
    "listeners": "listener_manager.lds.update_rejected",
    "routes": "http.edge.rds.edge.update_rejected",
}
_WARMING = ("cluster_manager.warming_clusters", "listener_manager.total_listeners_warming")
_RESOURCES = rf"^({'|'.join(re.escape(name) for name in (*_APPLIED.values(), *_REJECTED.values(), *_WARMING))})$"


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """The state of the resources that Envoy reads from files, by kind: clusters, listeners, routes."""

    applied: Mapping[str, str]
    """The version of the applied file."""
    rejected: Mapping[str, int]
    """The number of files that Envoy has rejected since its start."""
    warming: int
    """The number of resources that are accepted and not yet in use."""


class EnvoyAdminClient:
    """`at`: a Unix socket, or a port of 127.0.0.1. No method raises: a request that fails has the result None, False or
    0, and a request may take two seconds."""

    def __init__(self, at: Path | int) -> None:
        self._at = at

    async def ready(self) -> bool:
        return await self._get("/ready") is not None

    async def metrics(self) -> bytes | None:
        """The statistics that Envoy has used, in the Prometheus text format. None: Envoy does not answer."""
        return await self._get(f"/stats/prometheus?usedonly&filter={_quoted(_STATISTICS)}")

    async def resources(self) -> ResourceStatus | None:
        """None: Envoy does not answer."""
        body = await self._get(f"/stats?filter={_quoted(_RESOURCES)}")
        if body is None:
            return None
        values = dict(line.split(": ", 1) for line in body.decode().splitlines() if ": " in line)
        return ResourceStatus(
            {kind: values.get(name, "").strip('"') for kind, name in _APPLIED.items()},
            {kind: int(values.get(name, 0)) for kind, name in _REJECTED.items()},
            sum(int(values.get(name, 0)) for name in _WARMING),
        )

    async def sample(self, percent: int) -> bool:
        """Sets the percentage of sampled traces, for those that begin at Envoy. Returns whether Envoy accepted it."""
        return await self._request("POST", f"/runtime_modify?tracing.random_sampling={percent}") is not None

    async def drain(self) -> bool:
        """Closes the listeners to new connections. An open connection ends after its current request. Returns whether
        Envoy accepted it."""
        answers = await self._request("POST", "/healthcheck/fail"), await self._request("POST", "/drain_listeners")
        return None not in answers

    async def active_requests(self) -> int:
        """The number of callers' requests in progress. 0 if Envoy does not answer."""
        body = await self._get("/stats?filter=" + _quoted(rf"^{_ACTIVE}$"))
        number = (body or b"").decode(errors="replace").strip().rpartition(" ")[2]
        return int(number) if number.isdigit() else 0

    async def _get(self, path: str) -> bytes | None:
        return await self._request("GET", path)

    async def _request(self, method: str, path: str) -> bytes | None:
        """The body of a response with status 200. None: another status, or no response."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                if isinstance(self._at, int):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._at)
                else:
                    reader, writer = await asyncio.open_unix_connection(str(self._at))
                try:
                    head = f"{method} {path} HTTP/1.1\r\nhost: envoy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    writer.write(head.encode())
                    response = await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        fields, _, body = response[:_MAX_BYTES].partition(b"\r\n\r\n")
        if not fields.startswith(b"HTTP/1.1 200"):
            return None
        return b"".join(_chunks(body)) if b"transfer-encoding: chunked" in fields.lower() else body


def _chunks(body: bytes) -> Iterator[bytes]:
    at = 0
    while (line := body.find(b"\r\n", at)) >= 0 and (size := int(body[at:line], 16)):
        yield body[line + 2 : line + 2 + size]
        at = line + 2 + size + 2


def _quoted(pattern: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", lambda match: f"%{ord(match.group()):02X}", pattern)
