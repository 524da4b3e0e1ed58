"""The composition root: a config snapshot becomes wired objects. The only file that knows every room.

`run_worker` is one worker process from start to stop; `build_gateway` is what an exchange works with.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

import structlog

from . import __version__, build_limits, registry
from .accounting import prices as price_table
from .accounting.base import Prices
from .auth.base import Authenticator
from .build_access import Identity, build_access, build_voucher, reasons
from .build_authz import build_authz
from .build_cache import build_cache, change_cache
from .build_providers import build_providers
from .build_routing import build_planner
from .build_traces import build_traces, change_traces, unary_interceptors
from .cache.base import ResponseCache
from .config.editions import cluster_names
from .config.envoy_versions import order_of
from .config.names import ROLE
from .config.schema import Config
from .dialects.base import Dialect, ModelCard
from .errors import EdgeError, PeerError, StartError
from .exchange.attempt import AttemptExchange
from .exchange.envoy_faults import CODES as ENVOY_CODES
from .exchange.guard import GuardExchange
from .exchange.handler import Handler
from .exchange.open import OpenExchanges
from .exchange.ports import Gateway, Routes
from .exchange.router import RouterExchange
from .exchange.shape import ShapeBounds
from .limits.base import MICRO, Limiter
from .model.plan import Candidate
from .model.settlement import Settlement
from .operations.base import Format
from .providers.credentials.keeper import Keepers
from .routing.base import Endpoint, Endpoints, ModelTable, Planner
from .routing.breaker import OwnSlots, Slots, circuit_name
from .routing.shared import SharedSlots
from .server import worker
from .server.apart import OneThread
from .server.extproc import ExtProcService
from .server.introspect import Introspection
from .server.loop_lag import watch_loop
from .server.transport import mutual_tls
from .store import snapshot
from .store.journal import Journal
from .store.snapshot import EMPTY, Snapshot
from .telemetry import logs
from .telemetry.background import BACKGROUND, BackgroundMetrics
from .telemetry.base import Tracer
from .telemetry.metrics import Metrics, Names
from .telemetry.queue_metrics import Sent
from .telemetry.sinks import Sink, to_all

DEFAULT_DIALECT = "openai_chat"
# A worker that waits for a credential serves nobody; one that does not refuses its first requests.
CREDENTIAL_PATIENCE = 5.0
_ID_BYTES = 18


class SystemClock:
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def exchange_ids() -> Iterator[str]:
    """Ids of 144 random bits, drawn many at a time: each draw gives the interpreter's lock away, and whichever thread
    writes logs takes it."""
    while True:
        drawn = secrets.token_bytes(_ID_BYTES * 128)
        for at in range(0, len(drawn), _ID_BYTES):
            yield urlsafe_b64encode(drawn[at : at + _ID_BYTES]).decode()


def build_dialects() -> dict[str, Dialect]:
    return {name: registry.load("dialects", name) for name in registry.names("dialects")}


def build_formats() -> dict[str, Format]:
    return {name: registry.load("operations", name) for name in registry.names("operations")}


def build_endpoints(config: Config) -> Endpoints:
    return Endpoints([Endpoint(path, row.provider, row.tenants) for path, row in config.endpoints.items()])


class Before(NamedTuple):
    """What was in force until now."""

    config: Config
    gateway: Gateway


def _plans_alike(old: Config, new: Config) -> bool:
    return (old.models, old.routing, old.retries, old.prices) == (new.models, new.routing, new.retries, new.prices)


def build_gateway(
    config: Config,
    prices: Prices,
    settle: Callable[[Settlement], None],
    report: Callable[[BaseException], None],
    cache: ResponseCache | None = None,
    slots: Slots | None = None,
    circuit_opened: Callable[[Candidate], None] = lambda _: None,
    limiter: Limiter | None = None,
    keepers: Keepers | None = None,
    tracer: Tracer | None = None,
    managed: Snapshot = EMPTY,
    authenticator: Authenticator | None = None,
    before: Before | None = None,
    *,
    editions: bool = False,
) -> Gateway:
    """`keepers`: what renews the providers' credentials once it is started. `slots`: where the circuits are kept; this
    process' own where not given. `before`: whose place this one takes. `editions`: how Envoy's clusters are named
    (config/editions.py). Raises ConfigError where the config names what does not exist."""
    dialects, formats, endpoints = build_dialects(), build_formats(), build_endpoints(config)
    models = ModelTable(config.rows())
    same_providers = before is not None and before.config.providers == config.providers
    providers = before.gateway.providers if before is not None and same_providers else build_providers(config, keepers)
    planner: Planner
    if before is not None and same_providers and _plans_alike(before.config, config):
        planner = before.gateway.planner  # it has learnt who is fast
    else:
        planner = build_planner(config, models, providers, prices, slots or OwnSlots(), circuit_opened)

    def settled(settlement: Settlement) -> None:
        if settlement.plan is not None:
            planner.learn(settlement.model, settlement.plan, settlement.tries)
        settle(settlement)

    return Gateway(
        dialects=dialects,
        routes=Routes(dialects, formats, endpoints.paths),
        default_dialect=DEFAULT_DIALECT,
        authenticator=authenticator or Identity(config, report).authenticator(managed),
        models=models,
        planner=planner,
        providers=providers,
        formats=formats,
        endpoints=endpoints,
        clusters=cluster_names(config, editions=editions),
        prices=prices,
        cards=tuple(ModelCard(name, models.candidates(name)[0].provider) for name in models.names),
        # A try finds its exchange here, whichever configuration that began with.
        open=before.gateway.open if before is not None else OpenExchanges(),
        settle=settled,
        clock=SystemClock(),
        new_id=exchange_ids().__next__,
        report=report,
        cache=cache,
        voucher=build_voucher(config) if config.auth.trust_ext_authz else None,
        access=build_access(config, managed),
        limiter=limiter,
        bounds=build_limits.bounds(config),
        shape=ShapeBounds(config.limits.messages, config.limits.parts, config.limits.tools, config.limits.json_values),
        # One at a time in this process, whichever configuration an exchange began with.
        apart=before.gateway.apart if before is not None else OneThread(),
        tracer=tracer,
        chains=order_of(config) != "priority_group",
        asks=config.asks_for_responses,
        notes=config.envoy.access_log != "off",
    )


def overrides(config: Config) -> Iterator[price_table.Override]:
    """Prices that the configuration gives itself."""
    for row in config.prices:
        given = row.model_dump(exclude={"provider", "model"}, exclude_none=True)
        dollars = {kind: Decimal(micro) / MICRO for kind, micro in given.items()}
        yield price_table.Override(row.provider, row.model, **dollars)


def metric_names(config: Config) -> Names:
    return Names(
        tenants=frozenset(caller.tenant for caller in config.callers),
        models=frozenset(config.models),
        providers=frozenset(config.providers),
        dialects=frozenset(registry.names("dialects")),
        codes=frozenset(reasons(config)) | ENVOY_CODES,
    )


def version_of(config: Config, managed: Snapshot) -> str:
    """Of what is in force: the configuration, and the revision of what the admin API has changed since."""
    fingerprint = config.fingerprint()
    return f"{fingerprint}+{managed.revision}" if config.has_admin_api else fingerprint


def open_stream(current: Callable[[], Gateway], opened: Callable[[], None]) -> Callable[[Mapping[str, str]], Handler]:
    """What each new stream of Envoy's talks to, with what is in force then; `opened` is told of each that will be
    settled."""

    def choose(metadata: Mapping[str, str]) -> Handler:
        match metadata.get(ROLE):
            case "router":
                opened()
                return RouterExchange(current(), metadata.get("traceparent"))
            case "upstream":
                return AttemptExchange(current())
            case "guard":
                return GuardExchange(current())
            case role:
                raise PeerError(f"{ROLE}: {role!r}; expected router, upstream or guard")

    return choose


def open_journal(config: Config, index: int, failed: Callable[[], None]) -> Journal | None:
    """None where no ledger is kept. `failed` hears of each row that could not be written. Raises StartError."""

    def report(error: OSError) -> None:
        failed()
        logs.report(error)

    if config.store is None:
        return None
    directory = config.journal_dir()
    try:
        return Journal(directory, f"worker-{index}", on_error=report)
    except OSError as error:
        raise StartError(f"cannot write to {directory}: {error.strerror}; see agent.state_dir") from error


def _ease_the_interpreter() -> None:
    """For one busy loop beside threads that write logs. What was loaded so far stays: the collector need not look at
    it again each time. A thread that has the interpreter's lock gives it back after half a millisecond, not five."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(0.0005)


class InForce:
    """What a worker works with. A new stream gets the `gateway` of now, one under way keeps its own; counters, what is
    cached, circuits and open exchanges outlive any change."""

    def __init__(
        self,
        config: Config,
        index: int,
        metrics: Metrics,
        sinks: Iterable[Sink],
        managed: Snapshot,
        *,
        editions: bool = False,
    ) -> None:
        self._config = config
        self._editions = editions
        self._metrics = metrics
        prices = price_table.compiled(config.agent.state_dir)
        self._prices = price_table.load(prices)
        metrics.priced_by(price_table.version(), prices.stat().st_mtime)
        self._slots = SharedSlots(config.agent.circuits_file)
        self._limits = build_limits.of(config, metrics.registry, logs.report, managed)
        self._identity = Identity(config, logs.report)
        self._keepers = Keepers(time.time, metrics.credentials.renewed)
        self._reading = asyncio.Lock()
        self.traces = build_traces(config, index)
        of_traces = (self.traces.settle,) if self.traces is not None else ()
        self._settle = to_all((*sinks, self._settle_limits, *of_traces), logs.report)
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
            queues.watch_spans(lambda: Sent(traces.sending.sent, traces.sending.failed, traces.sending.dropped))

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

    async def _manage(self, managed: Snapshot) -> None:
        authenticator = await asyncio.to_thread(self._identity.authenticator, managed)
        if self._limits is not None:
            self._limits.manage(self._config, managed)
        self.gateway = replace(self.gateway, authenticator=authenticator, access=build_access(self._config, managed))

    async def _take(self, config: Config, managed: Snapshot) -> None:
        keepers, identity = self._keepers, Identity(config, logs.report, self._identity)
        if config.providers != self._config.providers:
            keepers = Keepers(time.time, self._metrics.credentials.renewed)
        if self._limits is None:
            registry = self._metrics.registry
            self._limits = await asyncio.to_thread(build_limits.of, config, registry, logs.report, managed)
            if self._limits is not None:
                self._limits.start()
        before = Before(self._config, self.gateway)
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
        self, config: Config, managed: Snapshot, identity: Identity, keepers: Keepers, before: Before | None
    ) -> Gateway:
        return build_gateway(
            config,
            self._prices.with_overrides(overrides(config)),
            self._settle,
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


async def run_worker(
    config: Config, index: int, newer: Callable[[], Config | None] = lambda: None, *, editions: bool = False
) -> None:
    """Serves on the socket of this index until SIGTERM or SIGINT. `newer` gives the config that came into force since
    it was asked last, if there is another; `editions`: how Envoy's clusters are named (config/editions.py). Raises
    StartError or ConfigError."""
    logs.set_up(config.telemetry.log.level, stream=sys.stderr, console=config.telemetry.log.format == "console")
    logs.catch_all()
    metrics = Metrics(metric_names(config), version=__version__, started_at=time.time())
    access = logs.AccessLog(
        sys.stdout.buffer,
        on_drop=metrics.lines_dropped,
        refused_per_second=config.telemetry.log.refused_per_second,
        on_spare=metrics.line_spared,
    )
    metrics.queues.watch("access_lines", lambda: access.waiting)
    journal = open_journal(config, index, metrics.journal_failed)

    def closed(settlement: Settlement) -> None:
        del settlement
        metrics.closed()

    of_journal = (journal.write,) if journal is not None else ()
    sinks = (*of_journal, closed, metrics.settle, access.write)
    managed = snapshot.read(config.managed_file) if config.has_admin_api else EMPTY
    force = InForce(config, index, metrics, sinks, managed, editions=editions)

    async def reload() -> None:
        try:
            await force.reload(newer)
        except EdgeError as error:
            structlog.get_logger().warning("config_not_taken", error=error.message)
            raise
        access.refused_per_second = force.config.telemetry.log.refused_per_second

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks = [BACKGROUND.start("loop_lag", lambda: watch_loop(metrics.loop_lagged))]
    metrics.registry.register(BackgroundMetrics(BACKGROUND))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = ExtProcService(open_stream(lambda: force.gateway, metrics.opened), logs.report)
    authz = build_authz(config, lambda: force.gateway, metrics.registry, access.write)
    address = config.agent.worker_addresses()[index]
    _ease_the_interpreter()
    await force.start()
    try:
        await worker.serve(
            address,
            (
                service,
                authz,
                Introspection(
                    metrics.snapshot,
                    force.cache.purge_json if force.cache is not None else None,
                    reload,
                    force.stores,
                ),
            ),
            stop,
            config.agent.shutdown_grace.total_seconds(),
            tls=mutual_tls(config.agent),
            group=config.agent.socket_access == "group",
            # What changed between our first look and now was told to nobody here.
            on_ready=lambda: tasks.append(asyncio.create_task(reload())),
            on_stopping=service.stop,
            interceptors=unary_interceptors(force.traces) if force.traces is not None else (),
            transport=config.agent.transport,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await force.close()
        access.close()
        if journal is not None:
            journal.close()
        if force.traces is not None:
            await asyncio.to_thread(force.traces.close)
