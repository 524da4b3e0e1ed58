"""Builds what an exchange works with (`exchange.ports.Gateway`) from the configuration."""

from __future__ import annotations

import asyncio
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ... import dialects as dialects_room
from ... import registry
from ...accounting import prices as price_table
from ...accounting.base import Prices
from ...auth.base import Authenticator
from ...auth.identity import IdentitySources, build_seal, refusal_codes
from ...auth.merge import merge_policies
from ...cache.base import ResponseCache
from ...config.schema import Config
from ...conversations.base import ConversationStore
from ...dialects.base import Dialect, ModelCard
from ...exchange.body_limits import BodyLimits
from ...exchange.body_shape import ShapeBounds
from ...exchange.consumer_routes import ConsumerRoutes
from ...exchange.envoy_faults import CODES as ENVOY_CODES
from ...exchange.path_router import PathRouter
from ...exchange.ports import Gateway, LedgerSink, Sink
from ...exchange.socket_settings import SocketSettings
from ...limits.base import MICRO, Limiter
from ...model.envoy_names import CALLERS_HEADERS, socket_cluster_name
from ...model.managed import EMPTY, ManagedState
from ...model.plan import Candidate
from ...model.settlement import Settlement
from ...model.wire_names import WireNames
from ...operations.base import OperationFormat
from ...providers.credentials.refresh import CredentialRefreshers
from ...proxy.cluster_names import cluster_names
from ...proxy.envoy_versions import order_of
from ...records.base import RecordStore
from ...records.prompt_turns import PromptCaches
from ...records.repeats import Repeats
from ...routing.base import ModelTable, PassthroughEndpoint, PassthroughEndpoints, Planner
from ...routing.breaker import CircuitTable, LocalCircuitTable
from ...routing.taken_out import taken_out_of
from ...server.work_thread import ThreadRunner
from ...telemetry.base import Tracer
from ...telemetry.metrics import LabelNames
from .limits import build_bounds
from .mcp import build_mcp, mcp_names, origins_of
from .providers import build_providers
from .records import build_batches, build_owners, build_reasoning
from .routing import build_planner

if TYPE_CHECKING:  # not loaded without rules
    from ...guardrails.call_guard import Guardrails

_ID_BYTES = 18


class SystemClock:
    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def exchange_ids() -> Iterator[str]:
    """Ids of 144 random bits. Each draw releases the interpreter's lock to another thread, so 128 ids are drawn at a
    time."""
    while True:
        drawn = urlsafe_b64encode(secrets.token_bytes(_ID_BYTES * 128)).decode()
        length = len(drawn) // 128
        for at in range(0, len(drawn), length):
            yield drawn[at : at + length]


def build_dialects() -> dict[str, Dialect]:
    return {name: registry.load("dialects", name) for name in registry.names("dialects")}


def build_formats() -> dict[str, OperationFormat]:
    return {name: registry.load("operations", name) for name in registry.names("operations")}


def build_endpoints(config: Config) -> PassthroughEndpoints:
    return PassthroughEndpoints(
        [PassthroughEndpoint(path, row.provider, row.tenants, row.shared) for path, row in config.endpoints.items()]
    )


class Previous(NamedTuple):
    """The configuration that was served before, and its gateway."""

    config: Config
    gateway: Gateway


def _plans_alike(old: Config, new: Config) -> bool:
    return (old.models, old.routing, old.retries, old.prices) == (new.models, new.routing, new.retries, new.prices)


def build_gateway(
    config: Config,
    prices: Prices,
    sinks: Sequence[Sink],
    report: Callable[[BaseException], None],
    cache: ResponseCache | None = None,
    conversations: ConversationStore | None = None,
    circuits: CircuitTable | None = None,
    circuit_opened: Callable[[Candidate], None] = lambda _: None,
    limiter: Limiter | None = None,
    refreshers: CredentialRefreshers | None = None,
    tracer: Tracer | None = None,
    managed: ManagedState = EMPTY,
    authenticator: Authenticator | None = None,
    before: Previous | None = None,
    records: RecordStore | None = None,
    repeats: Repeats | None = None,
    prompt_caches: PromptCaches | None = None,
    guardrails: Guardrails | None = None,
    ledger: LedgerSink | None = None,
    *,
    versioned_clusters: bool = False,
) -> Gateway:
    """`sinks` receive each settlement, after `ledger` and the planner. `refreshers` renew the providers' credentials.
    `circuits`: the table of circuit breakers; without it, this process has its own. `before`: the gateway that this one
    replaces. `records`: the store of the owners of stored objects; without it, they are not checked.
    `versioned_clusters`: clusters are named with a digest (proxy/cluster_names.py). Raises ConfigError if the
    configuration names a plugin that does not exist."""
    dialects, formats, endpoints = build_dialects(), build_formats(), build_endpoints(config)
    names = WireNames.of_all(dialect.wire_names for dialect in dialects.values())
    models = ModelTable(config.rows())
    same_providers = before is not None and before.config.providers == config.providers
    providers = (
        before.gateway.providers if before is not None and same_providers else build_providers(config, refreshers)
    )
    planner: Planner
    if before is not None and same_providers and _plans_alike(before.config, config):
        planner = before.gateway.planner  # keeps what its strategies have learnt
    else:
        planner = build_planner(
            config, models, providers, prices, circuits or LocalCircuitTable(), circuit_opened, names
        )

    clusters = cluster_names(config, versioned=versioned_clusters)

    def learn(settlement: Settlement) -> None:
        if settlement.plan is not None:
            planner.record(settlement.model, settlement.plan, settlement.attempt_results, settlement.tenant or "")

    return Gateway(
        dialects=dialects,
        routes=PathRouter(dialects, formats, endpoints.paths, stores=conversations is not None),
        default_dialect=dialects_room.DEFAULT,
        authenticator=authenticator or IdentitySources(config, report).authenticator(managed),
        models=models,
        planner=planner,
        providers=providers,
        formats=formats,
        endpoints=endpoints,
        clusters=clusters,
        prices=prices,
        cards=tuple(ModelCard(name, models.candidates(name)[0].provider) for name in models.names),
        sinks=(learn, *sinks),
        clock=SystemClock(),
        new_id=exchange_ids().__next__,
        report=report,
        ledger=ledger,
        explains=ledger is not None and config.store is not None and config.store.explain,
        cache=cache,
        conversations=conversations,
        guardrails=guardrails,
        identity_seal=build_seal(config) if config.auth.trust_ext_authz else None,
        access=merge_policies(config, managed, names),
        owners=build_owners(config, records) if records is not None else None,
        batches=build_batches(config, records) if records is not None else None,
        reasoning=build_reasoning(config, providers, dialects, records) if records is not None else None,
        repeats=repeats if config.idempotency.enabled else None,
        prompt_caches=prompt_caches if config.prompt_cache.explain != "never" else None,
        session_headers=config.prompt_cache.session_headers,
        limiter=limiter,
        taken_out=taken_out_of(managed),
        bounds=build_bounds(config),
        shape=ShapeBounds(config.limits.messages, config.limits.parts, config.limits.tools, config.limits.json_values),
        body_limits=BodyLimits(config.limits.request_body, config.limits.response_body),
        response_headers=config.listen.response_headers,
        # One thread for the whole process: gateways of two configurations share it.
        large_body_runner=before.gateway.large_body_runner if before is not None else ThreadRunner(),
        give_way=partial(asyncio.sleep, 0),
        tracer=tracer,
        chains=order_of(config) != "priority_group",
        response_phase_opt_in=config.response_phase_opt_in,
        consumer=_consumer_routes(config, clusters),
        sockets=_sockets(config, clusters),
        mcp=build_mcp(config, versioned_clusters=versioned_clusters) if config.mcp_servers() else None,
        route_seal=build_seal(config) if config.agent.consumer.route_header else None,
        adds_access_log_facts=config.envoy.access_log != "off",
    )


def _sockets(config: Config, own: Mapping[str, str]) -> SocketSettings:
    """`own`: as below."""
    clusters = {name: socket_cluster_name(own[name]) for name in config.socket_providers()}
    return SocketSettings(clusters, origins_of(config), config.bridges_responses, config.limits.sockets)


def _consumer_routes(config: Config, own: Mapping[str, str]) -> ConsumerRoutes:
    """`own`: each provider's cluster in the rendered configuration."""
    consumer = config.agent.consumer
    return ConsumerRoutes(
        consumer.provider,
        (*((cluster, provider) for provider, cluster in own.items()), *consumer.routes.items()),
        consumer.route_header,
        consumer.full_duplex,
        frozenset((*CALLERS_HEADERS, *config.routing.caller_headers(config.models))),
    )


def overrides(config: Config) -> Iterator[price_table.Override]:
    """The prices in the configuration."""
    for row in config.prices:
        values = row.model_dump(exclude={"provider", "model", "tiers"}, exclude_none=True)
        dollars = {kind: Decimal(micro) / MICRO for kind, micro in values.items()}
        yield price_table.Override(row.provider, row.model, **dollars, tiers=row.tiers)


def metric_names(config: Config) -> LabelNames:
    servers = config.mcp_servers()
    return LabelNames(
        tenants=frozenset(caller.tenant for caller in config.callers),
        models=frozenset((*config.models, *mcp_names(config))),
        providers=frozenset((*config.providers, *servers)),
        dialects=frozenset((*registry.names("dialects"), *(("mcp",) if servers else ()))),
        codes=frozenset(refusal_codes(config)) | ENVOY_CODES,
    )


def version_of(config: Config, managed: ManagedState) -> str:
    """The configuration's fingerprint and, with an admin API, the revision of the managed state."""
    fingerprint = config.fingerprint()
    return f"{fingerprint}+{managed.revision}" if config.has_admin_api else fingerprint
