"""Changes the resources of the gateway's own Envoy while it runs.

Envoy watches files with its clusters, its listener and its routes. A change renames new files into place, clusters
first, and is applied when Envoy's statistics show the new version. If Envoy rejects it, the old files are restored. A
cluster that is no longer configured stays until no planned request can need it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from ..config.quantities import MAX_MESSAGE_TIMEOUT
from ..config.schema import Config
from ..envoy_config import validate
from ..errors import ConfigError
from ..model.envoy_names import AGENT
from ..telemetry.background import BACKGROUND
from .config_source import write_private
from .envoy_admin import EnvoyAdminClient

if TYPE_CHECKING:
    from ..envoy_config.dynamic import DynamicResources

Json: TypeAlias = dict[str, Any]

# Seconds. Envoy keeps the open connections of a replaced listener for so long: longer than any response streams.
DRAIN = 4 * 3600
# Seconds until Envoy must use a change. A new cluster waits for DNS, and Envoy's DNS timeout is shorter.
_APPLY_TIMEOUT = 30.0
_POLL_INTERVAL = 0.02
# Seconds for the agent's own work between attempts, in addition to the configured timeouts.
_MARGIN = 10.0


class OwnEnvoy:
    """The files of the gateway's own Envoy."""

    def __init__(
        self, config: Config, admin: EnvoyAdminClient, binary: str, lasting: Callable[[Config], float] | None = None
    ) -> None:
        """Renders the files. `lasting`: the longest time in seconds from the plan
        of a request to its last attempt. Raises ConfigError."""
        from ..envoy_config import dynamic as render_dynamic

        self._rendering = render_dynamic
        self._files = render_dynamic.DiscoveryFiles.of(config.agent.socket_dir)
        self._sampling = config.telemetry.otlp.sampling if config.telemetry.otlp is not None else 0
        self._admin = admin
        self._binary = binary
        self._lasting = lasting or longest_wait
        self._version = 0
        self._config = config
        self._current = self.rendered(config)
        self._before = (config, self._current)
        self._leaving: dict[str, tuple[Json, float]] = {}
        """Clusters that are no longer configured, with the monotonic time at which they can be removed."""
        self._changing = asyncio.Lock()
        self._clearing: asyncio.Task[None] | None = None

    def rendered(self, config: Config) -> DynamicResources:
        """Raises ConfigError."""
        return self._rendering.render(self._rendering.at_sampling(config, self._sampling), self._files)

    def start(self) -> Json:
        """Writes the files. Returns the bootstrap that refers to them."""
        self._write("clusters", self._current.clusters.values())
        self._write("routes", self._current.routes)
        self._write("listeners", self._current.listeners)
        return self._current.bootstrap

    async def change(self, config: Config) -> None:
        """Returns when Envoy uses it; the old clusters still exist. Raises ConfigError if Envoy rejects it or does not
        use it in time: then Envoy keeps the old resources."""
        resources = await asyncio.to_thread(self.rendered, config)
        if resources.whole != self._current.whole:
            await asyncio.to_thread(validate.validate, resources.whole, self._binary)
        async with self._changing:
            self._before = (self._config, self._current)
            await self._apply(config, resources)

    async def undo(self) -> None:
        """Reverts the last change, which not all workers could apply."""
        async with self._changing:
            try:
                await self._apply(*self._before)
            except ConfigError as error:
                structlog.get_logger().error("envoy_not_restored", error=error.message)

    async def close(self) -> None:
        if self._clearing is not None:
            self._clearing.cancel()
            await asyncio.gather(self._clearing, return_exceptions=True)
        for path in (self._files.clusters, self._files.listeners, self._files.routes):
            path.unlink(missing_ok=True)

    # --- a change

    async def _apply(self, config: Config, resources: DynamicResources) -> None:
        old = self._current
        there = {**{name: cluster for name, (cluster, _) in self._leaving.items()}, **old.clusters}
        for name, cluster in resources.clusters.items():
            if there.get(name, cluster) != cluster:
                raise ConfigError(f"cluster {name} cannot change while requests may still use it; restart the gateway")
        try:
            if resources.clusters.keys() - there.keys():
                await self._deliver("clusters", {**there, **resources.clusters}.values())
            if resources.routes != old.routes:
                await self._deliver("routes", resources.routes)
            if resources.listeners != old.listeners:
                await self._deliver("listeners", resources.listeners)
        except (ConfigError, OSError) as error:
            await self._restore(there)
            raise (
                error if isinstance(error, ConfigError) else ConfigError(f"cannot write Envoy's files: {error}")
            ) from error
        now, lasting = time.monotonic(), self._lasting(self._config)
        for name in resources.clusters:
            self._leaving.pop(name, None)
        for name, cluster in old.clusters.items():
            if name not in resources.clusters:
                # The old listener's connections use the old agent cluster until they are drained.
                used_for = lasting + (DRAIN if name.startswith(AGENT) else 0.0)
                self._leaving[name] = (cluster, now + used_for)
        self._config, self._current = config, resources
        # The task is started again, because a cluster of this change may be removable before the earlier ones.
        if self._clearing is not None:
            self._clearing.cancel()
        self._clearing = BACKGROUND.start("clear_clusters", self._clear) if self._leaving else None

    async def _restore(self, clusters: Mapping[str, Json]) -> None:
        """Restores the resources from before a change that failed."""
        for kind, resources in (
            ("listeners", self._current.listeners),
            ("routes", self._current.routes),
            ("clusters", clusters.values()),
        ):
            try:
                await self._deliver(kind, resources)
            except (ConfigError, OSError) as error:
                structlog.get_logger().error("envoy_not_restored", resources=kind, error=str(error))

    async def _clear(self) -> None:
        while self._leaving:
            await asyncio.sleep(max(0.0, min(when for _, when in self._leaving.values()) - time.monotonic()))
            async with self._changing:
                now = time.monotonic()
                remaining = {name: each for name, each in self._leaving.items() if each[1] > now}
                if len(remaining) == len(self._leaving):
                    continue
                self._leaving = remaining
                try:
                    await self._deliver(
                        "clusters", [*(each for each, _ in remaining.values()), *self._current.clusters.values()]
                    )
                except (ConfigError, OSError) as error:
                    # They are not used. The next change removes them.
                    structlog.get_logger().warning("clusters_not_removed", error=str(error))

    async def _deliver(self, kind: str, resources: Iterable[Json]) -> None:
        before = await self._admin.resources()
        if before is None:
            raise ConfigError("Envoy's admin interface does not answer")
        version = await asyncio.to_thread(self._write, kind, resources)
        try:
            async with asyncio.timeout(_APPLY_TIMEOUT):
                while True:
                    now = await self._admin.resources()
                    if now is not None and now.rejected[kind] > before.rejected[kind]:
                        raise ConfigError(f"Envoy rejects the new {kind}; its log gives the reason")
                    if now is not None and now.applied[kind] == version and not now.warming:
                        return
                    await asyncio.sleep(_POLL_INTERVAL)
        except TimeoutError:
            raise ConfigError(f"Envoy does not use the new {kind} after {_APPLY_TIMEOUT:g} s") from None

    def _write(self, kind: str, resources: Iterable[Json]) -> str:
        """Writes the file. Returns its version."""
        self._version += 1
        path: Path = getattr(self._files, kind)
        write_private(path, self._rendering.discovered(str(self._version), kind, list(resources)))
        return str(self._version)


def longest_wait(config: Config) -> float:
    """The longest time in seconds from the beginning of a request to the beginning of its last attempt."""
    timeouts, retries = config.timeouts, config.retries
    pause = max(retries.back_off.max, retries.retry_after)
    attempts = retries.attempts * (timeouts.first_byte + pause)
    attempts = min(attempts, timeouts.request) if timeouts.request else attempts
    return (timeouts.receive + MAX_MESSAGE_TIMEOUT + attempts).total_seconds() + _MARGIN
