"""The plan of an exchange (its candidates in order) and the results of its attempts."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, NamedTuple, TypeAlias

from .explanation import ChosenBy, WhyLeftOut
from .frozen_dataclass import frozen_dataclass
from .usage import Usage


@frozen_dataclass
class Candidate:
    """One provider and its own name for the model."""

    provider: str
    model: str
    dialect: str = ""
    """The configured wire format; empty: the format that fits the call best."""
    weight: int = field(default=1, compare=False)
    """Its relative share of the calls, for strategies that distribute them; at least 1."""


@frozen_dataclass
class Fallback:
    """Candidates of other models, for calls that a candidate refuses for their length or content."""

    context_length: tuple[Candidate, ...] = ()
    content_filter: tuple[Candidate, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.context_length or self.content_filter)


NO_FALLBACK = Fallback()


class LeftOut(NamedTuple):
    """A candidate that is not in the plan."""

    candidate: Candidate
    why: WhyLeftOut
    detail: str = ""
    """circuit: for how many seconds. capability: the field of the call that its format lacks."""


@frozen_dataclass
class Plan:
    """The candidates of one exchange, best first; never empty.

    Attempt N goes to candidate N. Attempts beyond the last candidate go to the last one.
    """

    candidates: tuple[Candidate, ...]
    strategy: str = "failover"
    guarded: bool = False
    """The response is held back until its first token, so that a failure before it can fail over."""
    max_attempts: int = 0
    """The maximum number of attempts; 0: the number in Envoy's configuration."""
    once: bool = False
    """The caller forbids sending this call twice: only a connection that was not established is tried again."""
    try_timeout: float | None = None
    """Seconds from the start of an attempt to its response; None: the value in Envoy's configuration."""
    hedged: bool = False
    """After `try_timeout` the next candidate is called too, and the first response is used."""
    fallback: Fallback = NO_FALLBACK
    probes: tuple[Candidate, ...] = ()
    """The candidates whose circuit is half open and for which this exchange is the probe."""
    chosen_by: ChosenBy = "model"
    """Where the strategy came from."""
    rule: int = 0
    """The number of the routing rule that applied, from 1; 0: none."""
    affine: bool = False
    """Affinity chose the first candidate."""
    scores: tuple[float, ...] = ()
    """The strategy's score of each candidate; empty if it has none."""
    left_out: tuple[LeftOut, ...] = ()

    def at(self, attempt: int) -> Candidate:
        """The candidate of an attempt. Attempts are counted from 1, as in Envoy."""
        if attempt > len(self.candidates):
            return self.candidates[-1]
        return self.candidates[attempt - 1 if attempt > 1 else 0]

    def candidate(self, attempt: int, provider: str | None) -> Candidate:
        """The candidate of an attempt for which Envoy reports the chosen provider, or None if it does not."""
        counted = self.at(attempt)
        if provider is None or counted.provider == provider:
            return counted
        return next((c for c in self.candidates if c.provider == provider), counted)


NO_HOST = "no_host"
"""The reason of an attempt for which Envoy had no address. Nothing was sent, and Envoy makes no further attempt."""

Verdict: TypeAlias = Literal["ok", "failed", "unknown"]

AccountProblem: TypeAlias = Literal["credential", "payment"]
"""credential: the provider refused our key or its rights. payment: our account has no credit or quota."""


@frozen_dataclass
class AttemptResult:
    """The result of one attempt, for strategies, circuits and metrics."""

    candidate: Candidate
    verdict: Verdict
    """failed: by the fault of the provider or of the connection to it. unknown: for example, the caller
    disconnected."""
    status: int | None = None
    reason: str = ""
    """The gateway's own code for the failure. It contains no text of a provider."""
    first_token: float | None = None
    """Seconds from the start of the attempt to the first token of a streamed response."""
    duration: float | None = None
    """Seconds from the start of the attempt to its end."""
    stream: bool = False
    usage: Usage | None = None
    """The usage of the reply, or of the part that was seen."""
    retry_after: float | None = None
    """The `Retry-After` of a failed attempt in seconds; None without one."""
    account_problem: AccountProblem | None = None
    """What the provider reported about the gateway's own account."""
