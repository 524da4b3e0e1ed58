"""What an exchange is given to work with: one immutable bundle, made by the composition root.

A stream keeps the bundle that it began with, so that a new config never meets a half-done exchange.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from ..accounting.base import Prices
from ..auth.base import AccessControl, Authenticator
from ..auth.vouching import IdentitySeal
from ..cache.base import ResponseCache
from ..dialects.base import Dialect, ModelCard, Route
from ..errors import NoSuchRoute, WrongMethod
from ..limits.base import Limiter
from ..model.envoy_names import CLUSTER, chain_name, pair_name
from ..model.plan import Plan
from ..model.settlement import Settlement
from ..operations.base import OperationFormat
from ..providers.base import Provider
from ..routing.base import ModelTable, PassthroughEndpoints, Planner
from ..telemetry.base import Tracer
from .body_shape import GENEROUS, ShapeBounds
from .events import Headers
from .large_bodies import AT_ONCE, WorkRunner
from .open import OpenExchanges
from .worst_case import UNCONFIGURED, OutputBounds


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds, for durations."""
        ...

    def time(self) -> float:
        """Unix time, seconds."""
        ...


# Headers that only the clients of one dialect send; they decide where a path is shared, as /v1/models is.
TELLING_HEADERS = {
    "anthropic-version": "anthropic_messages",
    "x-goog-api-client": "gemini_generate",
    "x-goog-api-key": "gemini_generate",
}

# Headers of a response that say in which dialect its error is told, whatever was asked in: AWS tells all of its own
# alike.
TELLING_ERRORS = {"x-amzn-errortype": "bedrock_converse"}

# WebSockets and WebRTC: not one request with one answer.
REALTIME = "/v1/realtime"

_PLACEHOLDER = re.compile(r"\{\w+\}")


class _Node:
    """One segment of the paths that hold a placeholder. A step is the segment itself, or "{}" and what follows the
    placeholder within its segment, which begins with a colon: Google's paths end in {model}:verb."""

    __slots__ = ("methods", "steps")

    def __init__(self) -> None:
        self.steps: dict[str, _Node] = {}
        self.methods: dict[str, tuple[Dialect, Route]] = {}

    def step(self, segment: str) -> _Node | None:
        """The most specific step wins, and there is no way back: a path costs its length."""
        found = self.steps.get(segment)
        if found is not None or not segment:
            return found
        name, colon, verb = segment.rpartition(":")
        if name and (found := self.steps.get("{}" + colon + verb)) is not None:
            return found
        return self.steps.get("{}")


class Routes:
    """Paths to the dialect that is spoken there."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        formats: Mapping[str, OperationFormat] = MappingProxyType({}),
        passed: Sequence[str] = (),
    ) -> None:
        """`passed` are paths that, with all below them, are only passed on."""
        self._by_path: dict[str, dict[str, tuple[Dialect, Route]]] = {}
        """As the dialects spell them, placeholders and all."""
        self._templates = _Node()
        self._by_header = {name: dialects[spoken] for name, spoken in TELLING_HEADERS.items() if spoken in dialects}
        for dialect in dialects.values():
            for route in dialect.routes:
                self._add(dialect, route)
        for form in formats.values():
            for route in form.routes:
                self._add(dialects[form.voice], route)
        self._passed = tuple(passed)
        self._passers = dialects.get(formats["passed"].voice) if "passed" in formats else None

    def _add(self, dialect: Dialect, route: Route) -> None:
        self._by_path.setdefault(route.path, {})[route.method] = (dialect, route)
        if "{" in route.path:
            self._node(route.path).methods[route.method] = (dialect, route)

    def _passing(self, method: str, path: str) -> tuple[Dialect, Route] | None:
        """Where config says that this path is passed on as it is."""
        if self._passers is None or not any(path == p or path.startswith(p + "/") for p in self._passed):
            return None
        return self._passers, Route(method, path, "passed", "passed")

    def _node(self, template: str) -> _Node:
        node = self._templates
        for segment in template.split("/"):
            node = node.steps.setdefault(_PLACEHOLDER.sub("{}", segment), _Node())
        return node

    def _methods(self, path: str) -> Mapping[str, tuple[Dialect, Route]] | None:
        """What may be done at this very path."""
        exact = self._by_path.get(path)
        if exact is not None:
            return exact
        node: _Node | None = self._templates
        for segment in path.split("/"):
            node = node.step(segment) if node is not None else None
        return node.methods or None if node is not None else None

    def match(self, method: str, path: str) -> tuple[Dialect, Route]:
        """`path` is without its query. Raises NoSuchRoute or WrongMethod, which say what there is."""
        methods = self._methods(path)
        # Whoever may GET may ask for the headers alone.
        found = (methods or {}).get("GET" if method == "HEAD" else method) or self._passing(method, path)
        if found is not None:
            return found
        if path == REALTIME or path.startswith(REALTIME + "/"):
            raise NoSuchRoute("realtime sessions do not go through this gateway; send requests, streamed or not")
        if methods is None:
            paths = ", ".join(sorted({*self._by_path, *self._passed}))
            raise NoSuchRoute(f"no API at {path!r}; have {paths}")
        raise WrongMethod(f"{method} is not a method of {path}; use {', '.join(sorted(methods))}")

    def voice(self, path: str, headers: Headers) -> Dialect | None:
        """The dialect in which to speak at this path, before we know more: a header that only one dialect's clients
        send, or the path itself, or a path that this one is below."""
        for name, _ in headers:
            spoken = self._by_header.get(name)
            if spoken is not None:
                return spoken
        methods = self._methods(path)
        if methods is not None:
            return next(iter(methods.values()))[0]
        for known, below in self._by_path.items():
            if path.startswith(known + "/"):
                return next(iter(below.values()))[0]
        return None


@dataclass(frozen=True, slots=True)
class Gateway:
    dialects: Mapping[str, Dialect]
    routes: Routes
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
    open: OpenExchanges
    settle: Callable[[Settlement], None]
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
