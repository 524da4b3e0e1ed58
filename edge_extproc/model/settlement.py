"""What one exchange came to: written once, at its end, whichever way it ended."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias

from .fault import FaultKind
from .noun import noun
from .plan import AttemptResult, Plan
from .trace import Trace, Transcript
from .usage import Usage

Outcome: TypeAlias = Literal[
    "ok",
    "rejected",  # we refused the request: a 4xx of ours
    "refused",  # the provider did, for what the caller asked: what it is not fit for, too long, filtered
    "upstream_error",  # the provider (or the way to it) answered with an error, and the caller got that
    "broken_stream",  # a stream began and did not come to its end
    "caller_left",
    "stopped",  # the worker was stopped in mid-exchange
    "gateway_error",  # a bug of ours
]


Phase: TypeAlias = Literal[
    "request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers"
]

_TIMED_OUT = 504


@noun
class PhaseTime:
    """What the agent spent on one kind of message of Envoy's; all parts of a body together."""

    name: Phase
    at: float
    """Seconds since the request's headers, of the first one."""
    seconds: float


@noun
class Settlement:
    """Holds no content but in `talk`, and no secret: all of it may go to logs, metrics and traces."""

    exchange_id: str
    outcome: Outcome
    status: int | None
    """What the caller saw; None if nothing was sent."""
    code: str | None
    """Our stable word for what went wrong, or the provider's; None where nothing did."""
    started_at: float
    """Unix time, seconds."""
    duration: float
    """Seconds, from the request's headers to the end."""
    overhead: float
    """Seconds of `duration` that were spent in the agent."""
    time_to_first_token: float | None = None
    """Seconds to the first body byte of a streamed reply."""
    tenant: str | None = None
    team: str | None = None
    user: str | None = None
    kind: FaultKind | None = None
    """Of what `code` says, where that is a word of the provider's own."""
    key_id: str | None = None
    method: str = ""
    path: str = ""
    """Without the query."""
    dialect: str | None = None
    operation: str | None = None
    stream: bool = False
    model: str | None = None
    """As the caller named it, if it is one we know; an unknown name is None, so that labels stay few."""
    provider: str | None = None
    upstream_model: str | None = None
    lane: Literal["raw", "cross"] | None = None
    attempts: int = 0
    finish: str | None = None
    usage: Usage | None = None
    estimated: bool = False
    """A part of `usage` is our estimate: the reply did not come to its end."""
    unseen: bool = False
    """Nothing of the reply was seen, so that all of `usage` is what was asked for. Limits keep what they reserved."""
    cost: Decimal | None = None
    """US dollars; None where nothing was used or the model is unpriced."""
    unpriced: bool = False
    dropped: tuple[str, ...] = ()
    garbled: int = 0
    """Frames of the provider's stream that could not be read."""
    request_bytes: int = 0
    response_bytes: int = 0
    request_id: str | None = None
    """Envoy's x-request-id."""
    trace_id: str | None = None
    cache: Literal["hit", "miss", "bypass", "stale"] | None = None
    """None where no cache was asked. Of a hit, `usage` is None and `cost` is nothing: see `saved`."""
    cache_tier: str | None = None
    """Where a hit came from: memory, flight (an equal call under way), or redis."""
    saved: Usage | None = None
    """What the reply that was given again had used."""
    saved_cost: Decimal | None = None
    """What it had cost, US dollars; None where it was unpriced."""
    plan: Plan | None = None
    tries: tuple[AttemptResult, ...] = ()
    """How each try of the plan ended, in order."""
    trace: Trace | None = None
    """None where it is not sampled."""
    talk: Transcript | None = None
    """The one thing here that holds content. For the trace alone, and only where config wants it."""
    response_model: str | None = None
    """As the provider named what answered; None where the format names no model, or nothing answered."""
    max_output_tokens: int | None = None
    phases: tuple[PhaseTime, ...] = ()
    """In the order in which they came."""

    @property
    def may_have_been_used(self) -> bool:
        """Whether a provider may have worked for this exchange, where nobody said what was used."""
        if self.lane is None:  # nothing was sent
            return False
        if self.cache == "stale":  # its tries have failed; see below
            last = self.tries[-1] if self.tries else None
            return last is not None and last.status == _TIMED_OUT and last.reason == "unreachable"
        match self.outcome:
            case "rejected" | "refused":
                return False
            case "upstream_error":
                # The provider's own error costs nothing; that it took too long does not mean that it did nothing.
                return self.provider is None and self.status == _TIMED_OUT
            case _:
                return True

    @property
    def time_per_output_token(self) -> float | None:
        """Seconds between two tokens of a stream, on the average; None where that cannot be told."""
        if self.time_to_first_token is None or self.usage is None or self.estimated or self.usage.completion < 2:
            return None
        return max(0.0, self.duration - self.time_to_first_token) / (self.usage.completion - 1)
