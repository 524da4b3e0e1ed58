"""Builds what an exchange works with (`exchange.ports.Gateway`) from the configuration."""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from ... import registry
from ...accounting import prices as price_table
from ...accounting.base import Prices
from ...auth.base import Authenticator
from ...cache.base import ResponseCache
from ...config.cluster_names import cluster_names
from ...config.envoy_versions import order_of
from ...config.schema import Config
from ...dialects.base import Dialect, ModelCard
from ...exchange.body_shape import ShapeBounds
from ...exchange.envoy_faults import CODES as ENVOY_CODES
from ...exchange.path_router import PathRouter as Routes
from ...exchange.ports import Gateway, Sink
from ...limits.base import MICRO, Limiter
from ...model.plan import Candidate
from ...model.settlement import Settlement
from ...operations.base import OperationFormat
from ...providers.credentials.refresh import CredentialRefreshers
from ...routing.base import ModelTable, PassthroughEndpoint, PassthroughEndpoints, Planner
from ...routing.breaker import CircuitTable, LocalCircuitTable
from ...server.work_thread import ThreadRunner
from ...store.snapshot import EMPTY, ManagedState
from ...telemetry.base import Tracer
from ...telemetry.metrics import LabelNames
from . import limits as build_limits
from .access import IdentitySources, build_access, build_voucher, reasons
from .providers import build_providers
from .routing import build_planner

DEFAULT_DIALECT = "openai_chat"
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


def build_formats() -> dict[str, OperationFormat]:
    return {name: registry.load("operations", name) for name in registry.names("operations")}


def build_endpoints(config: Config) -> PassthroughEndpoints:
    return PassthroughEndpoints(
        [PassthroughEndpoint(path, row.provider, row.tenants) for path, row in config.endpoints.items()]
    )


class Previous(NamedTuple):
    """What was in force until now."""

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
    slots: CircuitTable | None = None,
    circuit_opened: Callable[[Candidate], None] = lambda _: None,
    limiter: Limiter | None = None,
    keepers: CredentialRefreshers | None = None,
    tracer: Tracer | None = None,
    managed: ManagedState = EMPTY,
    authenticator: Authenticator | None = None,
    before: Previous | None = None,
    *,
    editions: bool = False,
) -> Gateway:
    """`sinks`: what takes each settlement, after the planner. `keepers`: what renews the providers' credentials once it
    is started. `slots`: where the circuits are kept; this process' own where not given. `before`: whose place this one
    takes. `editions`: how Envoy's clusters are named (config/cluster_names.py). Raises ConfigError where the config
    names what does not exist."""
    dialects, formats, endpoints = build_dialects(), build_formats(), build_endpoints(config)
    models = ModelTable(config.rows())
    same_providers = before is not None and before.config.providers == config.providers
    providers = before.gateway.providers if before is not None and same_providers else build_providers(config, keepers)
    planner: Planner
    if before is not None and same_providers and _plans_alike(before.config, config):
        planner = before.gateway.planner  # it has learnt who is fast
    else:
        planner = build_planner(config, models, providers, prices, slots or LocalCircuitTable(), circuit_opened)

    def learn(settlement: Settlement) -> None:
        if settlement.plan is not None:
            planner.learn(settlement.model, settlement.plan, settlement.tries)

    return Gateway(
        dialects=dialects,
        routes=Routes(dialects, formats, endpoints.paths),
        default_dialect=DEFAULT_DIALECT,
        authenticator=authenticator or IdentitySources(config, report).authenticator(managed),
        models=models,
        planner=planner,
        providers=providers,
        formats=formats,
        endpoints=endpoints,
        clusters=cluster_names(config, editions=editions),
        prices=prices,
        cards=tuple(ModelCard(name, models.candidates(name)[0].provider) for name in models.names),
        sinks=(learn, *sinks),
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
        large_body_runner=before.gateway.large_body_runner if before is not None else ThreadRunner(),
        tracer=tracer,
        chains=order_of(config) != "priority_group",
        response_phase_opt_in=config.asks_for_responses,
        adds_access_log_facts=config.envoy.access_log != "off",
    )


def overrides(config: Config) -> Iterator[price_table.Override]:
    """Prices that the configuration gives itself."""
    for row in config.prices:
        given = row.model_dump(exclude={"provider", "model"}, exclude_none=True)
        dollars = {kind: Decimal(micro) / MICRO for kind, micro in given.items()}
        yield price_table.Override(row.provider, row.model, **dollars)


def metric_names(config: Config) -> LabelNames:
    return LabelNames(
        tenants=frozenset(caller.tenant for caller in config.callers),
        models=frozenset(config.models),
        providers=frozenset(config.providers),
        dialects=frozenset(registry.names("dialects")),
        codes=frozenset(reasons(config)) | ENVOY_CODES,
    )


def version_of(config: Config, managed: ManagedState) -> str:
    """Of what is in force: the configuration, and the revision of what the admin API has changed since."""
    fingerprint = config.fingerprint()
    return f"{fingerprint}+{managed.revision}" if config.has_admin_api else fingerprint
