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
from ..cache.base import L3Tier
from ..config.provider import ProviderConfig
from ..config.schema import Config
from ..config.semantic import SemanticCacheConfig
from ..exchange.ports import Gateway, LedgerSink, Sink
from ..model.limit_use import LimitUse
from ..model.managed import EMPTY, ManagedState
from ..model.plan import Candidate
from ..model.provider_probe import ProviderPrice, ProviderProbe
from ..model.settlement import Settlement
from ..model.usage import Usage
from ..providers.base import Provider
from ..providers.credentials.refresh import CredentialRefreshers
from ..routing.breaker import circuit_name
from ..routing.shared import SharedCircuitTable
from ..routing.taken_out import taken_out_of
from ..store import snapshot
from ..telemetry import logs
from ..telemetry.metrics import Metrics
from ..telemetry.queue_metrics import SpanCounts
from .wiring.cache import build_cache, change_cache
from .wiring.conversations import build_conversations
from .wiring.gateway import Previous, build_gateway, metric_names, overrides, version_of
from .wiring.guardrails import WorkerGuardrails
from .wiring.limits import build_limits, change_limits
from .wiring.records import (
    build_prompt_caches,
    build_records,
    build_repeats,
    prompt_cache_settings,
    repeat_settings,
)
from .wiring.traces import build_traces, change_traces

# Seconds. A worker that waits for a credential or for an issuer's keys does not serve yet; without them, it refuses its
# first requests.
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
        ledger: LedgerSink | None = None,
        *,
        versioned_clusters: bool = False,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._versioned_clusters = versioned_clusters
        self._metrics = metrics
        prices = price_table.compiled(config.agent.state_dir)
        self._prices = price_table.load(prices)
        metrics.priced_by(price_table.version(), prices.stat().st_mtime)
        self._circuits = SharedCircuitTable(config.agent.circuits_file)
        self._limits = build_limits(config, metrics.registry, logs.report, managed)
        self._records = build_records(config)
        self._repeats = build_repeats(config, self._records)
        self._prompt_caches = build_prompt_caches(config, self._records)
        self._identity = IdentitySources(config, logs.report)
        self._refreshers = CredentialRefreshers(time.time, metrics.credentials.renewed)
        self._reloading = asyncio.Lock()
        self.traces = build_traces(config, index)
        of_traces = (self.traces.settle,) if self.traces is not None else ()
        self._sinks = (*sinks, self._settle_limits, *of_traces)
        self.conversations = build_conversations(config, metrics.conversations)
        self._cache_secrets = CredentialRefreshers(time.time, metrics.credentials.renewed)
        self.cache = build_cache(config, metrics, self._build_semantic)
        if self.cache is not None:
            metrics.watch_cache(self.cache.l1.counts)
            if self.cache.l3 is not None:
                metrics.semantic.watch(self.cache.l3.counts)
        metrics.watch_circuits(self._is_open, self._maybe_open)
        self._watch_queues()
        self._guardrails = WorkerGuardrails(config, metrics.credentials.renewed, metrics.guardrail_services)
        self._old_guardrails: WorkerGuardrails | None = None
        """Of the configuration before: exchanges may still use its services."""
        self.gateway = self._build(config, managed, self._identity, self._refreshers, self._guardrails, None)
        metrics.configured(version_of(config, managed), time.time())

    def _build_semantic(self, settings: SemanticCacheConfig) -> L3Tier:
        from .wiring.semantic import EmbeddingMeter, build_semantic  # not loaded without a semantic cache

        meter = EmbeddingMeter(lambda: self.gateway.prices, self._ledger, lambda: self._sinks)
        pepper, metrics = self._config.auth.pepper.reveal(), self._metrics
        return build_semantic(settings, pepper, metrics.semantic, self._cache_secrets, meter)

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
        if self.cache is not None and self.cache.l3 is not None:
            states["semantic_cache"] = self.cache.l3.down
        if self._config.records_url() is not None or self._records.down is not None:
            states["records"] = self._records.down
        if self.conversations is not None and self._config.conversations_url() is not None:
            states["conversations"] = self.conversations.down
        return states

    async def limit_uses(self) -> list[LimitUse]:
        """How much of each limit is used now. Empty without limits, or while their store is down."""
        return await self._limits.uses() if self._limits is not None else []

    async def probe(self, name: str) -> ProviderProbe | None:
        """Sends one request to a provider that costs nothing. None: there is no such provider."""
        provider, settings = self.gateway.providers.get(name), self._config.providers.get(name)
        if provider is None or settings is None:
            return None
        return await asyncio.to_thread(_probe, provider, settings)

    def provider_prices(self) -> list[ProviderPrice]:
        """Of the configured candidates that name their model."""
        gateway = self.gateway
        named = dict.fromkeys((c.provider, c.model) for row in self._config.rows().values() for c in row if c.model)

        def price(provider: str, model: str, usage: Usage) -> str | None:
            host = gateway.providers[provider]
            # Prices may be higher from a number of tokens on, which a thousand is below.
            dollars = gateway.prices.cost(host.price_list, model, usage, host=provider)
            return None if dollars is None else format((dollars * 1000).normalize(), "f")

        return [
            ProviderPrice(
                provider, model, price(provider, model, Usage(input=1000)), price(provider, model, Usage(output=1000))
            )
            for provider, model in named
        ]

    async def start(self) -> None:
        if self._limits is not None:
            self._limits.start()
        if self.cache is not None:
            self.cache.start()
        self._repeats.start()
        self._prompt_caches.start()
        await self._identity.start(CREDENTIAL_PATIENCE)
        await self._refreshers.start(CREDENTIAL_PATIENCE)
        await self._cache_secrets.start(CREDENTIAL_PATIENCE)
        await self._guardrails.start(CREDENTIAL_PATIENCE)

    async def close(self) -> None:
        if self._limits is not None:
            await self._limits.close()
        await self._identity.close()
        await self._refreshers.stop()
        if self.cache is not None:
            await self.cache.close()
        await self._cache_secrets.stop()
        await self._repeats.close()
        await self._prompt_caches.close()
        await self._records.close()
        if self.conversations is not None:
            await self.conversations.close()
        await self._guardrails.close()
        if self._old_guardrails is not None:
            await self._old_guardrails.close()

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
        self.gateway = replace(
            self.gateway, authenticator=authenticator, access=access, taken_out=taken_out_of(managed)
        )

    async def _apply(self, config: Config, managed: ManagedState) -> None:
        refreshers, identity = self._refreshers, IdentitySources(config, logs.report, self._identity)
        if config.providers != self._config.providers:
            refreshers = CredentialRefreshers(time.time, self._metrics.credentials.renewed)
        if self._limits is None:
            registry = self._metrics.registry
            self._limits = await asyncio.to_thread(build_limits, config, registry, logs.report, managed)
            if self._limits is not None:
                self._limits.start()
        guardrails = self._guardrails
        if not guardrails.serves(config):
            metrics = self._metrics
            guardrails = await asyncio.to_thread(
                WorkerGuardrails, config, metrics.credentials.renewed, metrics.guardrail_services
            )
        before = Previous(self._config, self.gateway)
        gateway = await asyncio.to_thread(self._build, config, managed, identity, refreshers, guardrails, before)
        if refreshers is not self._refreshers:
            await refreshers.start(CREDENTIAL_PATIENCE)
        if guardrails is not self._guardrails:
            await guardrails.start(CREDENTIAL_PATIENCE)
        await identity.start(CREDENTIAL_PATIENCE)
        # From here on nothing can fail, and nothing awaits until all of it is applied.
        old_identity, old_refreshers = self._identity, self._refreshers
        if self._limits is not None:
            change_limits(self._limits, config, managed)
        if self.cache is not None:
            change_cache(self.cache, config)
        if self.traces is not None:
            change_traces(self.traces, config)
        self._repeats.settings = repeat_settings(config)
        self._prompt_caches.settings = prompt_cache_settings(config)
        logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=logs.is_console(config.telemetry.log.format))
        self._metrics.names = metric_names(config)
        self._config, self._identity, self._refreshers = config, identity, refreshers
        self.gateway = gateway
        unused = None
        if guardrails is not self._guardrails:
            unused, self._old_guardrails, self._guardrails = self._old_guardrails, self._guardrails, guardrails
        await old_identity.close(after=identity)
        if old_refreshers is not refreshers:
            await old_refreshers.stop()
        if unused is not None:
            await unused.close()

    def _build(
        self,
        config: Config,
        managed: ManagedState,
        identity: IdentitySources,
        refreshers: CredentialRefreshers,
        guardrails: WorkerGuardrails,
        before: Previous | None,
    ) -> Gateway:
        return build_gateway(
            config,
            self._prices.with_overrides(overrides(config)),
            self._sinks,
            logs.report,
            self.cache,
            self.conversations,
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
            self._prompt_caches,
            guardrails.guardrails,
            self._ledger,
            versioned_clusters=self._versioned_clusters,
        )

    def _settle_limits(self, settlement: Settlement) -> None:
        if self._limits is not None:  # a reload may bring the first limits
            self._limits.limiter.settle(settlement)


def _probe(provider: Provider, settings: ProviderConfig) -> ProviderProbe:
    from ..providers.probe import probe  # imports an HTTP client, in the thread

    return probe(provider, settings, with_credential=True)
