"""The state of a worker: the gateway of the current configuration, and how a new configuration replaces it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ..accounting import prices as price_table
from ..auth.identity import IdentitySources
from ..auth.merge import merge_policies
from ..config.schema import Config
from ..exchange.ports import Gateway, Sink
from ..model.limit_use import LimitUse
from ..model.managed import EMPTY, ManagedState
from ..model.plan import Candidate
from ..model.settlement import Settlement
from ..providers.credentials.refresh import CredentialRefreshers
from ..routing.breaker import circuit_name
from ..routing.shared import SharedCircuitTable
from ..store import snapshot
from ..telemetry import logs
from ..telemetry.metrics import Metrics
from ..telemetry.queue_metrics import SpanCounts
from .wiring.cache import build_cache, change_cache
from .wiring.gateway import Previous, build_gateway, metric_names, overrides, version_of
from .wiring.limits import build_limits, change_limits
from .wiring.records import build_records, build_repeats, repeat_settings
from .wiring.traces import build_traces, change_traces

# Seconds. A worker that waits for a credential does not serve yet; without one, it refuses its first requests.
CREDENTIAL_PATIENCE = 5.0


class WorkerState:
    """A new stream gets the current `gateway`; an open stream keeps the one that it began with. Counters, cached
    replies, circuit breakers and open exchanges stay through a reload."""

    def __init__(
        self,
        config: Config,
        index: int,
        metrics: Metrics,
        sinks: Iterable[Sink],
        managed: ManagedState,
        *,
        versioned_clusters: bool = False,
    ) -> None:
        self._config = config
        self._versioned_clusters = versioned_clusters
        self._metrics = metrics
        prices = price_table.compiled(config.agent.state_dir)
        self._prices = price_table.load(prices)
        metrics.priced_by(price_table.version(), prices.stat().st_mtime)
        self._circuits = SharedCircuitTable(config.agent.circuits_file)
        self._limits = build_limits(config, metrics.registry, logs.report, managed)
        self._records = build_records(config)
        self._repeats = build_repeats(config, self._records)
        self._identity = IdentitySources(config, logs.report)
        self._refreshers = CredentialRefreshers(time.time, metrics.credentials.renewed)
        self._reloading = asyncio.Lock()
        self.traces = build_traces(config, index)
        of_traces = (self.traces.settle,) if self.traces is not None else ()
        self._sinks = (*sinks, self._settle_limits, *of_traces)
        self.cache = build_cache(config, metrics)
        if self.cache is not None:
            metrics.watch_cache(self.cache.l1.counts)
        metrics.watch_circuits(self._is_open, self._maybe_open)
        self._watch_queues()
        self.gateway = self._build(config, managed, self._identity, self._refreshers, None)
        metrics.configured(version_of(config, managed), time.time())

    def _watch_queues(self) -> None:
        queues, cache, traces = self._metrics.queues, self.cache, self.traces
        queues.watch("limit_settlements", lambda: self._limits.unsettled() if self._limits is not None else 0)
        if cache is not None:
            queues.watch("equal_calls", lambda: cache.flights.waiting)
            if (l2 := cache.l2) is not None:
                queues.watch("cache_writes", lambda: l2.waiting)
        if traces is not None:
            queues.watch("spans", traces.sending.__len__)
            queues.watch_spans(lambda: SpanCounts(traces.sending.sent, traces.sending.failed, traces.sending.dropped))

    def _is_open(self, candidate: Candidate) -> bool:
        """Whether the circuit that all tenants share is open, or that of one tenant."""
        tenants = (None, *dict.fromkeys(caller.tenant for caller in self._config.callers))
        return any(self._circuits.read(circuit_name(candidate, tenant)).open_until for tenant in tenants)

    def _maybe_open(self) -> Iterator[Candidate]:
        """The configured candidates, if any circuit is open."""
        if self._circuits.all_closed():
            return
        models = self.gateway.models
        for name in models.names:
            yield from models.candidates(name)

    @property
    def config(self) -> Config:
        return self._config

    def stores(self) -> dict[str, str | None]:
        """Why each shared store cannot be used now, by name; None if it can."""
        states: dict[str, str | None] = {}
        if self._limits is not None and self._limits.shared:
            states["limiter"] = self._limits.down
        if self.cache is not None and self.cache.l2 is not None:
            states["cache"] = self.cache.l2.down
        if self._config.records_url() is not None or self._records.down is not None:
            states["records"] = self._records.down
        return states

    async def limit_uses(self) -> list[LimitUse]:
        """How much of each limit is used now. Empty without limits, or while their store is down."""
        return await self._limits.uses() if self._limits is not None else []

    async def start(self) -> None:
        if self._limits is not None:
            self._limits.start()
        if self.cache is not None:
            self.cache.start()
        self._repeats.start()
        self._identity.start()
        await self._refreshers.start(CREDENTIAL_PATIENCE)

    async def close(self) -> None:
        if self._limits is not None:
            await self._limits.close()
        await self._identity.close()
        await self._refreshers.stop()
        if self.cache is not None:
            await self.cache.close()
        await self._repeats.close()
        await self._records.close()

    async def reload(self, newer: Callable[[], Config | None]) -> None:
        """Applies a newer configuration, if there is one, and the managed state: all of it or nothing. Raises
        EdgeError."""
        async with self._reloading:  # of two at once, the one with the older state could end last
            config = await asyncio.to_thread(newer)
            managed = EMPTY
            if self._config.has_admin_api:
                managed = await asyncio.to_thread(snapshot.read, self._config.managed_file)
            if config is not None:
                await self._apply(config, managed)
            elif self._config.has_admin_api:
                await self._apply_managed(managed)
            self._metrics.configured(version_of(self._config, managed), time.time())

    async def _apply_managed(self, managed: ManagedState) -> None:
        authenticator = await asyncio.to_thread(self._identity.authenticator, managed)
        if self._limits is not None:
            change_limits(self._limits, self._config, managed)
        access = merge_policies(self._config, managed, self.gateway.wire_names)
        self.gateway = replace(self.gateway, authenticator=authenticator, access=access)

    async def _apply(self, config: Config, managed: ManagedState) -> None:
        refreshers, identity = self._refreshers, IdentitySources(config, logs.report, self._identity)
        if config.providers != self._config.providers:
            refreshers = CredentialRefreshers(time.time, self._metrics.credentials.renewed)
        if self._limits is None:
            registry = self._metrics.registry
            self._limits = await asyncio.to_thread(build_limits, config, registry, logs.report, managed)
            if self._limits is not None:
                self._limits.start()
        before = Previous(self._config, self.gateway)
        gateway = await asyncio.to_thread(self._build, config, managed, identity, refreshers, before)
        if refreshers is not self._refreshers:
            await refreshers.start(CREDENTIAL_PATIENCE)
        # From here on nothing can fail, and nothing awaits until all of it is applied.
        old_identity, old_refreshers = self._identity, self._refreshers
        if self._limits is not None:
            change_limits(self._limits, config, managed)
        if self.cache is not None:
            change_cache(self.cache, config)
        if self.traces is not None:
            change_traces(self.traces, config)
        self._repeats.settings = repeat_settings(config)
        logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=config.telemetry.log.format == "console")
        identity.start()
        self._metrics.names = metric_names(config)
        self._config, self._identity, self._refreshers = config, identity, refreshers
        self.gateway = gateway
        await old_identity.close(after=identity)
        if old_refreshers is not refreshers:
            await old_refreshers.stop()

    def _build(
        self,
        config: Config,
        managed: ManagedState,
        identity: IdentitySources,
        refreshers: CredentialRefreshers,
        before: Previous | None,
    ) -> Gateway:
        return build_gateway(
            config,
            self._prices.with_overrides(overrides(config)),
            self._sinks,
            logs.report,
            self.cache,
            self._circuits,
            self._metrics.circuit_opened,
            self._limits.limiter if self._limits is not None else None,
            refreshers,
            self.traces,
            managed,
            identity.authenticator(managed),
            before,
            self._records,
            self._repeats,
            versioned_clusters=self._versioned_clusters,
        )

    def _settle_limits(self, settlement: Settlement) -> None:
        if self._limits is not None:  # a reload may bring the first limits
            self._limits.limiter.settle(settlement)
