"""`Gateway`: everything that an exchange uses. The worker's wiring makes it, and it never changes.

An exchange keeps the gateway with which it began, so a new configuration applies only to new exchanges.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ..accounting.base import Prices
from ..auth.base import AccessControl, Authenticator
from ..auth.identity_seal import IdentitySeal
from ..cache.base import ResponseCache
from ..conversations.base import ConversationStore
from ..dialects.base import Dialect, ModelCard
from ..limits.base import Limiter
from ..model.call import Call
from ..model.envoy_names import CLUSTER, chain_name, pair_name
from ..model.explanation import Explanation
from ..model.plan import Plan
from ..model.settlement import Settlement
from ..model.wire_names import WireNames
from ..operations.base import OperationFormat
from ..providers.base import Provider
from ..records.batches import Batches
from ..records.owners import ObjectOwners
from ..records.prompt_segments import PromptSegments
from ..records.prompt_turns import PromptCaches
from ..records.reasoning import ReasoningAccounts
from ..records.repeats import Repeats
from ..routing.base import ModelTable, PassthroughEndpoints, Planner
from ..routing.taken_out import NONE_TAKEN_OUT, TakenOutProviders
from ..telemetry.base import Tracer
from .body_limits import DEFAULT_LIMITS, BodyLimits
from .body_shape import GENEROUS, ShapeBounds
from .consumer_routes import NO_ROUTES, ConsumerRoutes
from .host_terms import HostTermsSearch
from .large_bodies import AT_ONCE, WorkRunner, continue_at_once
from .mcp_settings import McpSettings
from .object_ids import IdSearch
from .path_router import PathRouter
from .socket_settings import NO_SOCKETS, SocketSettings
from .worst_case import UNCONFIGURED, OutputBounds, PromptSearch

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.call_guard import Guardrails

Sink: TypeAlias = Callable[[Settlement], None]
"""Takes a settlement: metrics, the access log, limits, traces."""
LedgerSink: TypeAlias = Callable[[Settlement, Explanation | None], None]
"""Takes a settlement, and why its request went as it did."""


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds, for durations."""
        ...

    def time(self) -> float:
        """Unix time, seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Gateway:
    dialects: Mapping[str, Dialect]
    routes: PathRouter
    default_dialect: str
    """The dialect for errors if the path belongs to no dialect."""
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
    """Logs an exception that is a bug of the gateway."""
    ledger: LedgerSink | None = None
    """Called before the other sinks. None: there is no ledger."""
    explains: bool = False
    """Whether the ledger gets explanations."""
    cache: ResponseCache | None = None
    conversations: ConversationStore | None = None
    """None: the gateway stores no conversations."""
    guardrails: Guardrails | None = None
    """None: there are no rules about texts."""
    identity_seal: IdentitySeal | None = None
    """Set where ext_authz runs before ext_proc: its sealed identity is accepted."""
    access: AccessControl | None = None
    """None if no role or policy restricts anything."""
    owners: ObjectOwners | None = None
    """None: no account of a provider is shared by tenants."""
    batches: Batches | None = None
    """None: batches are neither priced nor settled."""
    reasoning: ReasoningAccounts | None = None
    """None: all providers of encrypted reasoning use one account."""
    repeats: Repeats | None = None
    """None: idempotency keys have no effect here."""
    prompt_caches: PromptCaches | None = None
    """None: how much a provider read from its prompt cache is never explained."""
    session_headers: tuple[str, ...] = ()
    """The request headers that name the caller's session; the first that is there counts."""
    limiter: Limiter | None = None
    """None if no caller has a limit."""
    taken_out: TakenOutProviders = NONE_TAKEN_OUT
    """Providers that get no new attempts."""
    bounds: OutputBounds = UNCONFIGURED
    """Bounds of the cost of a call."""
    shape: ShapeBounds = GENEROUS
    """Bounds of the shape of a body."""
    body_limits: BodyLimits = DEFAULT_LIMITS
    """The size limits of requests, and of responses that are read whole."""
    response_headers: tuple[str, ...] = ()
    """Names or globs of providers' response headers that callers get, besides those that every caller gets."""
    large_body_runner: WorkRunner = AT_ONCE
    """Runs the work on large bodies."""
    give_way: Callable[[], Awaitable[None]] = continue_at_once
    """Lets other exchanges go on within the work on a large chunk of a stream."""
    tracer: Tracer | None = None
    chains: bool = False
    """Envoy is older than 1.40: a header names a composite cluster that holds the order of the plan."""
    response_phase_opt_in: bool = False
    """The proxy sends response phases only if the answer to the request headers enables them."""
    sockets: SocketSettings = NO_SOCKETS
    mcp: McpSettings | None = None
    """None: there are no MCP servers."""
    adds_access_log_facts: bool = False
    """Envoy's access log shows the facts of each exchange."""
    consumer: ConsumerRoutes = NO_ROUTES
    """For streams without a role."""
    route_seal: IdentitySeal | None = None
    """Seals the identity of a caller between a stream that chooses a route and the next one. None: none chooses."""
    wire_names: WireNames = field(init=False)
    """The field names of all dialects, for searches in bodies of every caller."""
    prompt_search: PromptSearch = field(init=False)
    id_searches: Mapping[bool, IdSearch] = field(init=False)
    """By whether a path is passed on unread."""
    host_terms: HostTermsSearch = field(init=False)
    segments: PromptSegments = field(init=False)
    keeps_account_state: bool = field(init=False)
    """Whether it records state at providers' accounts: owners of objects, batches or encrypted reasoning."""

    def __post_init__(self) -> None:
        names = WireNames.of_all([dialect.wire_names for dialect in self.dialects.values()])
        object.__setattr__(self, "wire_names", names)
        object.__setattr__(self, "prompt_search", PromptSearch.of(names))
        object.__setattr__(self, "id_searches", {True: IdSearch.of_passed(names), False: IdSearch.of_chats(names)})
        object.__setattr__(self, "host_terms", HostTermsSearch.of(names))
        object.__setattr__(self, "segments", PromptSegments(names))
        records = (self.owners, self.batches, self.reasoning)
        object.__setattr__(self, "keeps_account_state", any(each is not None for each in records))

    def error_dialect(self, call: Call) -> Dialect:
        """The dialect of error responses to a call."""
        return self.dialects[call.error_dialect or call.dialect]

    def dialect_of_error(self, headers: Mapping[str, str]) -> Dialect | None:
        """The dialect that marks an error response with these headers; None if no dialect does. AWS writes every error
        in one format, whatever the format of the request."""
        for dialect in self.dialects.values():
            if any(headers.get(name) for name in dialect.error_headers):
                return dialect
        return None

    def cluster_header(self, plan: Plan) -> tuple[tuple[str, str], ...]:
        """The header that names a plan's cluster, for an Envoy that takes no order of clusters. Hedged calls always set
        it, so that attempt 1 is encoded for the endpoint that Envoy picks."""
        if plan.hedged:
            return ((CLUSTER, pair_name(*(self.clusters[c.provider] for c in plan.candidates))),)
        if not self.chains:
            return ()
        clusters = [self.clusters[c.provider] for c in plan.candidates[: plan.max_attempts or len(plan.candidates)]]
        return ((CLUSTER, chain_name(clusters) if len(clusters) > 1 else clusters[0]),)

    def order(self, plan: Plan) -> tuple[str, ...]:
        """The clusters of a plan in their order; empty for an Envoy that takes no order. Envoy does not follow the
        order for a hedged attempt, but a composite cluster does."""
        if self.chains:
            return ()
        if plan.hedged:
            return (pair_name(*(self.clusters[c.provider] for c in plan.candidates)),)
        return tuple([self.clusters[c.provider] for c in plan.candidates])
