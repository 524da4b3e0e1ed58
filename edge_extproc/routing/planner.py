"""Makes the plan of a call: the first matching rule, the candidates with a closed circuit, their order, the attempts.

It knows each row's configuration and the names of the strategies. A strategy decides the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from ..errors import BadRequest, Unavailable
from ..model.plan import NO_FALLBACK, AttemptResult, Candidate, Fallback, LeftOut, Plan
from .affinity import Affinity
from .base import RoutingRequest, Strategy
from .breaker import BreakerDecision, Circuits

Guard: TypeAlias = Literal["auto", "on", "off"]

# The most candidates that an error message lists.
_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """The calls that a rule applies to. All conditions must hold; one that is empty or None always holds."""

    tenants: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Header names in lower case, each with a glob for its value."""
    stream: bool | None = None
    min_tokens: int | None = None
    """Tokens of the prompt, estimated from its length."""
    max_tokens: int | None = None
    run_used: int | None = None
    """The percentage of a cap of the call's run from which the rule applies."""

    def holds(self, request: RoutingRequest) -> bool:
        if self.tenants and not _any_matches(self.tenants, request.tenant):
            return False
        if self.keys and not _any_matches(self.keys, request.key_id):
            return False
        if self.stream is not None and self.stream != request.call.stream:
            return False
        if self.min_tokens is not None and request.prompt_estimate < self.min_tokens:
            return False
        if self.max_tokens is not None and request.prompt_estimate > self.max_tokens:
            return False
        if self.run_used is not None and request.run_used < self.run_used:
            return False
        return all(fnmatchcase(request.header(name) or "", glob) for name, glob in self.headers)


def _any_matches(globs: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)


def _with_head(head: Candidate, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """`head`, then the others in the configured order."""
    at = candidates.index(head)
    return (head, *candidates[:at], *candidates[at + 1 :])


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """Another strategy or other candidates for some calls of a model."""

    when: RuleCondition
    strategy: str | None = None
    candidates: tuple[Candidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """After how long a call is also sent to the next candidate."""

    quantile: float = 0.95
    """The quantile of this model's recent times to first token that is waited for."""
    at_least: float = 0.5
    """Seconds. The shortest wait, which is also used until there are enough times."""


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """The configuration of a model, or of a glob of models, without its candidates."""

    strategy: str = "failover"
    affinity: Affinity | None = None
    rules: tuple[RoutingRule, ...] = ()
    guard: Guard = "auto"
    fallback: Fallback = NO_FALLBACK
    hedge: HedgeSettings | None = None


_DEFAULT_ROUTE = ModelRoute()


def _rule(row: ModelRoute, request: RoutingRequest) -> RoutingRule | None:
    return next((rule for rule in row.rules if rule.when.holds(request)), None) if row.rules else None


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    rows: Mapping[str, ModelRoute]
    label: Callable[[str], str | None]
    """From a model's name to the name of its row."""
    build: Callable[[str], Strategy]
    """Creates a strategy by its name."""
    strategies: tuple[str, ...]
    """The names of all strategies."""
    circuits: Circuits | None = None
    strategy_header: str | None = None
    """The request header in which a caller may name a strategy."""
    no_retry_header: str = "x-edge-no-retry"
    """A caller's call with this header (any value but "false") is never sent twice."""
    attempts: int = 3
    patience: float = 60.0
    """Seconds. Envoy does not wait for a longer Retry-After."""
    first_token_timeout: float | None = None
    """Seconds that a guarded streaming attempt may take to its first token."""
    chains: bool = False
    """Envoy only gets the first candidate; the others follow in the configured order."""
    guards: bool = True
    """Whether the proxy supports the guard, the filter that holds a response back."""


# How many recent times to first token a row keeps, and how many a quantile needs.
_TIMES_KEPT, _MIN_TIMES = 64, 16


@dataclass(slots=True)
class _RecentTimes:
    """A row's recent times to first token, seconds, in a ring buffer."""

    values: list[float] = field(default_factory=list)
    next: int = 0

    def add(self, seconds: float) -> None:
        if len(self.values) < _TIMES_KEPT:
            self.values.append(seconds)
        else:
            self.values[self.next] = seconds
            self.next = (self.next + 1) % _TIMES_KEPT

    def quantile(self, share: float) -> float | None:
        if len(self.values) < _MIN_TIMES:
            return None
        return sorted(self.values)[min(len(self.values) - 1, int(share * len(self.values)))]


class RowPlanner:
    """The `Planner` over the rows of the configuration."""

    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._has_rules = any(row.rules for row in settings.rows.values())
        self._strategies: dict[tuple[str | None, str], Strategy] = {}
        self._times: dict[str | None, _RecentTimes] = {}

    def apply_rules(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        if not self._has_rules:
            return candidates
        _, row = self._row(request.call.model)
        rule = _rule(row, request)
        if rule is None or rule.candidates is None:
            return candidates
        return tuple([replace(c, model=c.model or request.call.model) for c in rule.candidates])

    def plan(self, request: RoutingRequest, candidates: Sequence[Candidate]) -> Plan:
        name, row = self._row(request.call.model)
        rule = _rule(row, request)
        override, by_rule = self._override(request), rule.strategy if rule is not None else None
        strategy = override or by_rule or row.strategy
        decision = self._admitted(candidates, request.tenant)
        admitted = decision.admitted
        ordered: Sequence[Candidate] = admitted
        scores: tuple[float, ...] = ()
        affine = False
        left_out: list[LeftOut] = []
        if decision.refused:
            left_out = [LeftOut(c, "circuit", str(max(1, round(seconds)))) for c, seconds in decision.refused]
        if len(admitted) > 1:
            orders = self._strategy(name, strategy)
            ordered = orders.order(request, admitted)
            scores = getattr(orders, "scores", ())
            if row.affinity is not None:
                before, ordered = ordered, row.affinity.prefer(request, ordered)
                affine = ordered[0] is not before[0]
            if self._settings.chains:
                ordered = _with_head(ordered[0], admitted)
            if scores:
                scores = tuple([scores[admitted.index(each)] for each in ordered])
        value = request.header(self._settings.no_retry_header)
        no_retry = value is not None and value.strip().lower() != "false"
        count = len(ordered)
        streams = request.call.stream and request.call.operation == "chat"
        # Without retries, a guard has no use.
        guarded = (
            self._settings.guards
            and not no_retry
            and request.call.operation == "chat"
            and (
                bool(row.fallback)
                or row.guard == "on"
                # With a doubtful candidate too: only the guard sees the Retry-After of an attempt that is retried.
                or (row.guard == "auto" and (request.call.stream or decision.doubtful) and count > 1)
            )
        )
        hedged = streams and row.hedge is not None and count > 1 and not no_retry
        if hedged:
            second = next((c for c in ordered if c.provider != ordered[0].provider), None)
            hedged = second is not None
            if second is not None:
                left_out += [LeftOut(each, "hedge") for each in ordered[1:] if each is not second]
                scores = (scores[0], scores[ordered.index(second)]) if scores else ()
                ordered, count = (ordered[0], second), 2
        timeout = self._settings.first_token_timeout if guarded and streams else None
        if hedged and row.hedge is not None:
            times = self._times.get(name)
            usual = times.quantile(row.hedge.quantile) if times is not None else None
            timeout = max(row.hedge.at_least, usual or 0.0)
        # The only candidate rests for longer than Envoy waits, so a retry would get the same answer.
        max_attempts = 1 if count == 1 and decision.rest > self._settings.patience else self._max_attempts(count)
        return Plan(
            tuple(ordered),
            strategy,
            guarded,
            max_attempts,
            no_retry,
            timeout,
            hedged,
            row.fallback,
            decision.probes,
            "header" if override is not None else "rule" if by_rule is not None else "model",
            row.rules.index(rule) + 1 if rule is not None else 0,
            affine,
            scores,
            tuple(left_out),
        )

    def billable_candidates(self, model: str, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], int]:
        _, row = self._row(model)
        able = (*candidates, *row.fallback.context_length, *row.fallback.content_filter)
        return tuple(dict.fromkeys(able)), 2 if row.hedge is not None else 1

    def restrict(self, plan: Plan, candidates: tuple[Candidate, ...]) -> Plan:
        if candidates == plan.candidates:
            return plan
        several = len(candidates) > 1
        scores = plan.scores
        if scores:
            scores = tuple([scores[plan.candidates.index(each)] for each in candidates])
        return replace(
            plan,
            candidates=candidates,
            scores=scores,
            max_attempts=self._max_attempts(len(candidates)),
            guarded=plan.guarded and (several or bool(plan.fallback)),
            hedged=plan.hedged and several,
            try_timeout=plan.try_timeout if several else None,
        )

    def record(self, model: str | None, plan: Plan, attempts: Sequence[AttemptResult], tenant: str) -> None:
        strategy = self._strategies.get((model, plan.strategy))
        circuits = self._settings.circuits
        for each in attempts:
            if strategy is not None:
                strategy.record(each)
            if circuits is not None:
                circuits.record(each, tenant, probe=each.candidate in plan.probes)
            if each.first_token is not None and each.verdict == "ok" and model in self._settings.rows:
                self._times.setdefault(model, _RecentTimes()).add(each.first_token)
        if circuits is not None and plan.probes:
            attempted = {each.candidate for each in attempts}
            for probe in plan.probes:
                if probe not in attempted:
                    circuits.release(probe, tenant)

    # --- steps of a plan

    def _row(self, model: str) -> tuple[str | None, ModelRoute]:
        name = self._settings.label(model)
        return name, self._settings.rows.get(name, _DEFAULT_ROUTE) if name is not None else _DEFAULT_ROUTE

    def _override(self, request: RoutingRequest) -> str | None:
        header = self._settings.strategy_header
        requested_name = request.header(header) if header is not None else None
        if requested_name is None:
            return None
        if requested_name not in self._settings.strategies:
            have = ", ".join(self._settings.strategies)
            raise BadRequest(f"{header}: there is no strategy {requested_name!r}; have {have}", param=header)
        return requested_name

    def _admitted(self, candidates: Sequence[Candidate], tenant: str) -> BreakerDecision:
        if self._settings.circuits is None:
            return BreakerDecision(tuple(candidates), (), ())
        decision = self._settings.circuits.admit(candidates, tenant)
        if decision.admitted:
            return decision
        soonest = min(seconds for _, seconds in decision.refused)
        listed = [f"{c.provider} ({c.model}) for {max(1, round(seconds))} s" for c, seconds in decision.refused]
        more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
        raise Unavailable(
            "every provider of this model has failed recently and is not used for now: "
            f"{', '.join(listed[:_MAX_LISTED])}{more}",
            retry_after=max(1.0, round(soonest)),
        )

    def _strategy(self, row: str | None, name: str) -> Strategy:
        strategy = self._strategies.get((row, name))
        if strategy is None:
            strategy = self._strategies[row, name] = self._settings.build(name)
        return strategy

    def _max_attempts(self, candidates: int) -> int:
        """The number of attempts. A provider is tried more than once only if it is the only candidate."""
        return self._settings.attempts if candidates == 1 else min(self._settings.attempts, candidates)
