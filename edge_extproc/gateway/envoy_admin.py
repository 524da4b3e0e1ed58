"""Asks Envoy's own admin interface, which only its owner can reach: is it ready, and what has it counted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 2.0
_MOST = 16 << 20
# What tells of our listener, filters, providers, and of the process. The rest is a thousand lines more.
_OURS = r"^(cluster\.(provider_|agent)|http\.edge|listener\.|listener_manager|cluster_manager|server\.|runtime\.)"

_ACTIVE = "http.edge.downstream_rq_active"
# Which resources were taken, by the version that their file gives; how often some were refused; what is being made
# ready.
_TAKEN = {
    "clusters": "cluster_manager.cds.version_text",
    "listeners": "listener_manager.lds.version_text",
    "routes": "http.edge.rds.edge.version_text",
}
_REFUSED = {
    "clusters": "cluster_manager.cds.update_rejected",
    "listeners": "listener_manager.lds.update_rejected",
    "routes": "http.edge.rds.edge.update_rejected",
}
_WARMING = ("cluster_manager.warming_clusters", "listener_manager.total_listeners_warming")
_RESOURCES = rf"^({'|'.join(re.escape(name) for name in (*_TAKEN.values(), *_REFUSED.values(), *_WARMING))})$"


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """What Envoy says of those that it reads from files."""

    taken: Mapping[str, str]
    """Kind to the version of its file that is in force."""
    refused: Mapping[str, int]
    """Kind to how often a file was refused, since the start."""
    warming: int
    """How many are taken, and not in use yet."""


class EnvoyAdminClient:
    """`at`: a Unix socket, or a port of 127.0.0.1."""

    def __init__(self, at: Path | int) -> None:
        self._at = at

    async def ready(self) -> bool:
        found = await self._get("/ready")
        return found is not None

    async def metrics(self) -> bytes | None:
        """Its statistics in Prometheus' text format, those that were used; None where it does not answer."""
        return await self._get(f"/stats/prometheus?usedonly&filter={_quoted(_OURS)}")

    async def resources(self) -> ResourceStatus | None:
        """None where it does not answer."""
        told = await self._get(f"/stats?filter={_quoted(_RESOURCES)}")
        if told is None:
            return None
        found = dict(line.split(": ", 1) for line in told.decode().splitlines() if ": " in line)
        return ResourceStatus(
            {kind: found.get(name, "").strip('"') for kind, name in _TAKEN.items()},
            {kind: int(found.get(name, 0)) for kind, name in _REFUSED.items()},
            sum(int(found.get(name, 0)) for name in _WARMING),
        )

    async def sample(self, percent: int) -> bool:
        """Of the traces that begin with Envoy, so many from now on. Whether it has taken it."""
        return await self._ask("POST", f"/runtime_modify?tracing.random_sampling={percent}") is not None

    async def drain(self) -> bool:
        """No new connection from now on; those there are end with their request. Whether it has taken it."""
        told = await self._ask("POST", "/healthcheck/fail"), await self._ask("POST", "/drain_listeners")
        return None not in told

    async def under_way(self) -> int:
        """How many requests of callers; none where it does not answer."""
        found = await self._get("/stats?filter=" + _quoted(rf"^{_ACTIVE}$"))
        number = (found or b"").decode(errors="replace").strip().rpartition(" ")[2]
        return int(number) if number.isdigit() else 0

    async def _get(self, path: str) -> bytes | None:
        return await self._ask("GET", path)

    async def _ask(self, method: str, path: str) -> bytes | None:
        """The body of a 200."""
        try:
            async with asyncio.timeout(_SECONDS):
                if isinstance(self._at, int):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._at)
                else:
                    reader, writer = await asyncio.open_unix_connection(str(self._at))
                try:
                    asked = f"{method} {path} HTTP/1.1\r\nhost: envoy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    writer.write(asked.encode())
                    whole = await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        head, _, body = whole[:_MOST].partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            return None
        return b"".join(_chunks(body)) if b"transfer-encoding: chunked" in head.lower() else body


def _chunks(body: bytes) -> Iterator[bytes]:
    at = 0
    while (line := body.find(b"\r\n", at)) >= 0 and (size := int(body[at:line], 16)):
        yield body[line + 2 : line + 2 + size]
        at = line + 2 + size + 2


def _quoted(pattern: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"%{ord(found.group()):02X}", pattern)
