"""What an exchange is given to work with: one immutable bundle, made by the composition root.

A stream keeps the bundle that it began with, so that a new config never meets a half-done exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ..accounting.base import Prices
from ..auth.base import AccessControl, Authenticator
from ..auth.vouching import IdentitySeal
from ..cache.base import ResponseCache
from ..dialects.base import Dialect, ModelCard
from ..limits.base import Limiter
from ..model.envoy_names import CLUSTER, chain_name, pair_name
from ..model.plan import Plan
from ..model.settlement import Settlement
from ..operations.base import OperationFormat
from ..providers.base import Provider
from ..routing.base import ModelTable, PassthroughEndpoints, Planner
from ..telemetry.base import Tracer
from .body_shape import GENEROUS, ShapeBounds
from .large_bodies import AT_ONCE, WorkRunner
from .path_router import PathRouter
from .worst_case import UNCONFIGURED, OutputBounds

Sink: TypeAlias = Callable[[Settlement], None]
"""Takes a settlement: a journal, metrics, the access log, limits, traces."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds, for durations."""
        ...

    def time(self) -> float:
        """Unix time, seconds."""
        ...


# Headers of an error response that name its dialect, whatever the dialect of the request. AWS writes all errors alike.
ERROR_DIALECT_HEADERS = {"x-amzn-errortype": "bedrock_converse"}


@dataclass(frozen=True, slots=True)
class Gateway:
    dialects: Mapping[str, Dialect]
    routes: PathRouter
    default_dialect: str
    """In which to answer where the path tells nothing."""
    authenticator: Authenticator
    models: ModelTable
    planner: Planner
    providers: Mapping[str, Provider]
    formats: Mapping[str, OperationFormat]
    """The wire formats of operations other than chat, by name."""
    endpoints: PassthroughEndpoints
    clusters: Mapping[str, str]
    """Provider name to the name of its Envoy cluster."""
    prices: Prices
    cards: tuple[ModelCard, ...]
    """The models that can be listed."""
    sinks: tuple[Sink, ...]
    """Called in their order with each settlement. The exception of one is reported, and the next one is called."""
    clock: Clock
    new_id: Callable[[], str]
    """Unguessable, and new each time."""
    report: Callable[[BaseException], None]
    """Tells of a bug of ours, for the log."""
    cache: ResponseCache | None = None
    voucher: IdentitySeal | None = None
    """Given where ext_authz runs before us: what it found out is believed."""
    access: AccessControl | None = None
    """None where no role or policy forbids anything."""
    limiter: Limiter | None = None
    """None where no caller has a limit."""
    bounds: OutputBounds = UNCONFIGURED
    """What a call can come to."""
    shape: ShapeBounds = GENEROUS
    """What a body may hold."""
    apart: WorkRunner = AT_ONCE
    """Where work on large bodies is done."""
    tracer: Tracer | None = None
    chains: bool = False
    """Envoy is older than 1.40: the order of a plan is a cluster's, which a header names."""
    asks: bool = False
    """Envoy tells of a response only where the answer to the request's headers has asked for it."""
    notes: bool = False
    """Whether somebody reads what Envoy's access log shows of an exchange."""

    def named(self, plan: Plan) -> tuple[tuple[str, str], ...]:
        """The header that names a plan's cluster, for an Envoy that takes no order; of a hedged call always, so that
        its first try is written for whom it reaches."""
        if plan.hedged:
            return ((CLUSTER, pair_name(*(self.clusters[c.provider] for c in plan.candidates))),)
        if not self.chains:
            return ()
        tried = [self.clusters[c.provider] for c in plan.candidates[: plan.tries or len(plan.candidates)]]
        return ((CLUSTER, chain_name(tried) if len(tried) > 1 else tried[0]),)

    def order(self, plan: Plan) -> tuple[str, ...]:
        """The clusters of a plan, one after the other; empty for an Envoy that takes no order. For a hedge Envoy does
        not go on in the order, but a composite cluster does."""
        if self.chains:
            return ()
        if plan.hedged:
            return (pair_name(*(self.clusters[c.provider] for c in plan.candidates)),)
        return tuple([self.clusters[c.provider] for c in plan.candidates])
