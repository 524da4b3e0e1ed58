"""What a worker serves with now, and how a newer configuration takes its place."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ..accounting import prices as price_table
from ..config.schema import Config
from ..exchange.ports import Gateway, Sink
from ..model.plan import Candidate
from ..model.settlement import Settlement
from ..providers.credentials.refresh import CredentialRefreshers
from ..routing.breaker import circuit_name
from ..routing.shared import SharedCircuitTable
from ..store import snapshot
from ..store.snapshot import EMPTY, ManagedState
from ..telemetry import logs
from ..telemetry.metrics import Metrics
from ..telemetry.queue_metrics import SpanCounts
from .wiring import limits as build_limits
from .wiring.access import IdentitySources, build_access
from .wiring.cache import build_cache, change_cache
from .wiring.gateway import Previous, build_gateway, metric_names, overrides, version_of
from .wiring.traces import build_traces, change_traces

# A worker that waits for a credential serves nobody; one that does not refuses its first requests.
CREDENTIAL_PATIENCE = 5.0


class WorkerState:
    """What a worker works with. A new stream gets the `gateway` of now, one under way keeps its own; counters, what is
    cached, circuits and open exchanges outlive any change."""

    def __init__(
        self,
        config: Config,
        index: int,
        metrics: Metrics,
        sinks: Iterable[Sink],
        managed: ManagedState,
        *,
        editions: bool = False,
    ) -> None:
        self._config = config
        self._editions = editions
        self._metrics = metrics
        prices = price_table.compiled(config.agent.state_dir)
        self._prices = price_table.load(prices)
        metrics.priced_by(price_table.version(), prices.stat().st_mtime)
        self._slots = SharedCircuitTable(config.agent.circuits_file)
        self._limits = build_limits.of(config, metrics.registry, logs.report, managed)
        self._identity = IdentitySources(config, logs.report)
        self._keepers = CredentialRefreshers(time.time, metrics.credentials.renewed)
        self._reading = asyncio.Lock()
        self.traces = build_traces(config, index)
        of_traces = (self.traces.settle,) if self.traces is not None else ()
        self._sinks = (*sinks, self._settle_limits, *of_traces)
        self.cache = build_cache(config, metrics)
        if self.cache is not None:
            metrics.watch_cache(self.cache.near.counts)
        metrics.watch_circuits(
            lambda candidate: bool(self._slots.read(circuit_name(candidate)).open_until), self._perhaps_open
        )
        self._watch_queues()
        self.gateway = self._built(config, managed, self._identity, self._keepers, None)
        metrics.configured(version_of(config, managed), time.time())

    def _watch_queues(self) -> None:
        queues, cache, traces = self._metrics.queues, self.cache, self.traces
        queues.watch("limit_settlements", lambda: self._limits.unsettled() if self._limits is not None else 0)
        if cache is not None:
            queues.watch("equal_calls", lambda: cache.flights.waiting)
            if (far := cache.far) is not None:
                queues.watch("cache_writes", lambda: far.waiting)
        if traces is not None:
            queues.watch("spans", traces.sending.__len__)
            queues.watch_spans(lambda: SpanCounts(traces.sending.sent, traces.sending.failed, traces.sending.dropped))

    def _perhaps_open(self) -> Iterator[Candidate]:
        """What config names, if any circuit is open."""
        if self._slots.all_closed():
            return
        models = self.gateway.models
        for name in models.names:
            yield from models.candidates(name)

    @property
    def config(self) -> Config:
        return self._config

    def stores(self) -> dict[str, str | None]:
        """Of each store that is shared, why it cannot be used now; None where it can."""
        found: dict[str, str | None] = {}
        if self._limits is not None and self._limits.shared:
            found["limiter"] = self._limits.down
        if self.cache is not None and self.cache.far is not None:
            found["cache"] = self.cache.far.down
        return found

    async def start(self) -> None:
        if self._limits is not None:
            self._limits.start()
        if self.cache is not None:
            self.cache.start()
        self._identity.start()
        await self._keepers.start(CREDENTIAL_PATIENCE)

    async def close(self) -> None:
        if self._limits is not None:
            await self._limits.close()
        await self._identity.close()
        await self._keepers.stop()
        if self.cache is not None:
            await self.cache.close()

    async def reload(self, newer: Callable[[], Config | None]) -> None:
        """Takes over what has changed, whole or not at all: the configuration, where there is a newer one, and what the
        admin API manages. Raises EdgeError."""
        async with self._reading:  # of two at once, the one that read the older state could end last
            config = await asyncio.to_thread(newer)
            managed = EMPTY
            if self._config.has_admin_api:
                managed = await asyncio.to_thread(snapshot.read, self._config.managed_file)
            if config is not None:
                await self._take(config, managed)
            elif self._config.has_admin_api:
                await self._manage(managed)
            self._metrics.configured(version_of(self._config, managed), time.time())

    async def _manage(self, managed: ManagedState) -> None:
        authenticator = await asyncio.to_thread(self._identity.authenticator, managed)
        if self._limits is not None:
            self._limits.manage(self._config, managed)
        self.gateway = replace(self.gateway, authenticator=authenticator, access=build_access(self._config, managed))

    async def _take(self, config: Config, managed: ManagedState) -> None:
        keepers, identity = self._keepers, IdentitySources(config, logs.report, self._identity)
        if config.providers != self._config.providers:
            keepers = CredentialRefreshers(time.time, self._metrics.credentials.renewed)
        if self._limits is None:
            registry = self._metrics.registry
            self._limits = await asyncio.to_thread(build_limits.of, config, registry, logs.report, managed)
            if self._limits is not None:
                self._limits.start()
        before = Previous(self._config, self.gateway)
        gateway = await asyncio.to_thread(self._built, config, managed, identity, keepers, before)
        if keepers is not self._keepers:
            await keepers.start(CREDENTIAL_PATIENCE)
        # From here on nothing can fail, and nothing waits until all of it is in force.
        old = (self._identity, self._keepers)
        if self._limits is not None:
            self._limits.manage(config, managed)
        if self.cache is not None:
            change_cache(self.cache, config)
        if self.traces is not None:
            change_traces(self.traces, config)
        logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=config.telemetry.log.format == "console")
        identity.start()
        self._metrics.names = metric_names(config)
        self._config, self._identity, self._keepers = config, identity, keepers
        self.gateway = gateway
        await old[0].close(after=identity)
        if old[1] is not keepers:
            await old[1].stop()

    def _built(
        self,
        config: Config,
        managed: ManagedState,
        identity: IdentitySources,
        keepers: CredentialRefreshers,
        before: Previous | None,
    ) -> Gateway:
        return build_gateway(
            config,
            self._prices.with_overrides(overrides(config)),
            self._sinks,
            logs.report,
            self.cache,
            self._slots,
            self._metrics.circuit_opened,
            self._limits.limiter if self._limits is not None else None,
            keepers,
            self.traces,
            managed,
            identity.authenticator(managed),
            before,
            editions=self._editions,
        )

    def _settle_limits(self, settlement: Settlement) -> None:
        if self._limits is not None:  # a later configuration may bring the first ones
            self._limits.limiter.settle(settlement)
