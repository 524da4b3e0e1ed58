"""The record of a finished exchange. It is made once, at the end of the exchange, however it ended."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

from .fault import FaultKind
from .frozen_dataclass import frozen_dataclass
from .plan import AttemptResult, Plan
from .rule_hit import RuleHit
from .trace import Trace, Transcript
from .usage import Usage

Outcome: TypeAlias = Literal[
    "ok",
    "rejected",  # the gateway refused the request with a 4xx
    "refused",  # the provider refused the request: unsupported, too long, filtered
    "upstream_error",  # the provider or the connection to it failed, and the caller got an error or a broken response
    "broken_stream",  # a stream began and broke before its end
    "caller_left",  # the caller disconnected
    "stopped",  # the worker was stopped during the exchange
    "gateway_error",  # a bug of the gateway
]


Booking: TypeAlias = Literal[
    "charge",  # the most that a new batch can cost
    "credit",  # the charge is taken back, because the usage is known: its cost is negative
    "usage",  # what the batch has used
]
HITS = ("hit", "semantic")
"""The results of a cache lookup that saved a call which the provider would have answered."""
SOCKET = "socket"
"""The operation of a WebSocket session. Its responses have settlements of their own, with their times and bytes."""
BATCH = "batch"
"""The operation of the bookings of a batch."""
BACKGROUND = "background"
"""The operation of the bookings of a reply in the background."""
QUESTION_VECTORS = "question_vectors"
"""The operation of the bookings of a provider of embeddings for the semantic cache."""
BOOKED = frozenset({BATCH, BACKGROUND, QUESTION_VECTORS})

Phase: TypeAlias = Literal[
    "request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers"
]

_TIMED_OUT = 504
_ERRORS = 400
"""The first status of an error response."""


@frozen_dataclass
class PhaseTime:
    """The agent's time for one kind of ext_proc message. All chunks of a body count together."""

    name: Phase
    at: float
    """Seconds from the request's headers to the first message of this kind."""
    seconds: float


@frozen_dataclass
class Settlement:
    """All data about one exchange for sinks. It contains no secret, and content only in `transcript`, so it may go to
    logs, metrics and traces."""

    exchange_id: str
    outcome: Outcome
    status: int | None
    """The status of the response to the caller; None if nothing was sent."""
    code: str | None
    """The error code of the gateway or of the provider; None without an error."""
    started_at: float
    """Unix time, seconds."""
    duration: float
    """Seconds from the request's headers to the end."""
    overhead: float
    """Seconds of `duration` that were spent in the agent."""
    time_to_first_token: float | None = None
    """Seconds to the first token of a streamed reply: a role, a ping or a comment is none."""
    tenant: str | None = None
    team: str | None = None
    user: str | None = None
    kind: FaultKind | None = None
    """The kind of the error, if `code` is a provider's own code."""
    key_id: str | None = None
    method: str = ""
    path: str = ""
    """Without the query."""
    dialect: str | None = None
    operation: str | None = None
    stream: bool = False
    model: str | None = None
    """The model name in the request if it is configured. Otherwise None, so that the number of labels is bounded."""
    provider: str | None = None
    upstream_model: str | None = None
    lane: Literal["raw", "cross"] | None = None
    attempts: int = 0
    finish: str | None = None
    usage: Usage | None = None
    estimated: bool = False
    """A part of `usage` is an estimate, because the reply was not complete."""
    unseen: bool = False
    """Nothing of the reply was seen, or it goes on in the background, so `usage` is an estimate from the request.
    Limits keep their reservation."""
    cost: Decimal | None = None
    """US dollars; None if nothing was used or the model has no price."""
    search_cost: Decimal | None = None
    """The part of `cost` for web searches of the provider; None if there were none."""
    unpriced: bool = False
    held: Decimal | None = None
    """US dollars that budgets count in place of `cost`: the reservation, where the cost is not known. None: they count
    the cost."""
    dropped: tuple[str, ...] = ()
    garbled: int = 0
    """The number of unreadable frames in the provider's stream."""
    request_bytes: int = 0
    response_bytes: int = 0
    request_id: str | None = None
    """Envoy's x-request-id."""
    trace_id: str | None = None
    cache: Literal["hit", "miss", "bypass", "stale", "semantic"] | None = None
    """None without a cache lookup. For a hit, `usage` is None and `cost` is zero: see `saved`."""
    cache_tier: str | None = None
    """The source of a hit: memory, flight (an equal call in progress), redis, or l3 (a call that means the same)."""
    similarity: float | None = None
    """The cosine of the call's question and that of the other call, for a hit in l3."""
    saved: Usage | None = None
    """The original usage of a reply from the cache."""
    saved_cost: Decimal | None = None
    """The original cost of a reply from the cache in US dollars; None without a price."""
    plan: Plan | None = None
    attempt_results: tuple[AttemptResult, ...] = ()
    """The result of each attempt, in order."""
    trace: Trace | None = None
    """The span of the exchange; None if it is not sampled."""
    transcript: Transcript | None = None
    """The prompt and the reply, for traces only, and only if the configuration enables it."""
    response_model: str | None = None
    """The model name in the reply; None if the format has none or no provider answered."""
    max_output_tokens: int | None = None
    phases: tuple[PhaseTime, ...] = ()
    """The times of the agent's phases, in order."""
    run: str | None = None
    """The run that the call is a part of."""
    run_parent: str | None = None
    """The run that `run` is a part of."""
    session: str | None = None
    """The session that the caller names."""
    guardrails: tuple[RuleHit, ...] = ()
    """What the guardrail rules did, to the request and to the reply."""
    booking: Booking | None = None
    """An entry of a batch, which is no exchange of its own: only the ledger, the log and sums of usage have it."""
    rpc_method: str | None = None
    """The method of a request to an MCP server. `provider` is then the server, and `model` the server and the tool."""

    @property
    def may_have_been_used(self) -> bool:
        """Whether a provider may have used tokens for this exchange without reporting them."""
        if self.lane is None:  # nothing was sent
            return False
        if self.cache == "stale":  # its attempts have failed; see below
            last = self.attempt_results[-1] if self.attempt_results else None
            return last is not None and last.status == _TIMED_OUT and last.reason == "unreachable"
        match self.outcome:
            case "rejected" | "refused":
                return False
            case "upstream_error":
                # An error response from a provider costs nothing. After a timeout, or if the connection broke after the
                # headers of a response, the provider may have used tokens.
                if self.provider is None:
                    return self.status == _TIMED_OUT
                return self.status is not None and self.status < _ERRORS
            case _:
                return True

    @property
    def time_per_output_token(self) -> float | None:
        """Average seconds between two tokens of a stream; None if it is unknown."""
        if self.time_to_first_token is None or self.usage is None or self.estimated or self.usage.completion < 2:
            return None
        return max(0.0, self.duration - self.time_to_first_token) / (self.usage.completion - 1)
