"""From a call to its plan: which rule of its model's row fits, which circuits permit, in what order, how often.

It knows the names of strategies and what config says of each row; how an order is found is the strategies' own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from ..errors import BadRequest, Unavailable
from ..model.plan import NO_FALLBACK, AttemptResult, Candidate, Fallback, Plan
from .affinity import Affinity
from .base import RoutingRequest, Strategy
from .breaker import BreakerDecision, Circuits

Guard: TypeAlias = Literal["auto", "on", "off"]

# In a message to a caller: more would help nobody.
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """Which calls a rule is for: all of it must hold; what is empty or None holds always."""

    tenants: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Names, in lower case, and globs of their values."""
    stream: bool | None = None
    min_tokens: int | None = None
    """Of the prompt, as estimated by its length."""
    max_tokens: int | None = None

    def holds(self, wish: RoutingRequest) -> bool:
        if self.tenants and not _one_fits(self.tenants, wish.tenant):
            return False
        if self.keys and not _one_fits(self.keys, wish.key_id):
            return False
        if self.stream is not None and self.stream != wish.call.stream:
            return False
        if self.min_tokens is not None and wish.prompt_estimate < self.min_tokens:
            return False
        if self.max_tokens is not None and wish.prompt_estimate > self.max_tokens:
            return False
        return all(fnmatchcase(wish.header(name) or "", glob) for name, glob in self.headers)


def _one_fits(globs: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)


def _as_config_has_them(head: Candidate, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """`head` and then the others, in their order."""
    at = candidates.index(head)
    return (head, *candidates[:at], *candidates[at + 1 :])


@dataclass(frozen=True, slots=True)
class RoutingRule:
    when: RuleCondition
    strategy: str | None = None
    candidates: tuple[Candidate, ...] | None = None


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When the next candidate is asked too."""

    quantile: float = 0.95
    """Of this model's times to first token of late."""
    at_least: float = 0.5
    """Seconds; also what counts before there were enough answers."""


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """What config says of a model, or of a glob of models, besides its candidates."""

    strategy: str = "failover"
    affinity: Affinity | None = None
    rules: tuple[RoutingRule, ...] = ()
    guard: Guard = "auto"
    fallback: Fallback = NO_FALLBACK
    hedge: HedgeSettings | None = None


_PLAIN = ModelRoute()


def _rule(row: ModelRoute, wish: RoutingRequest) -> RoutingRule | None:
    return next((rule for rule in row.rules if rule.when.holds(wish)), None) if row.rules else None


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    rows: Mapping[str, ModelRoute]
    label: Callable[[str], str | None]
    """From a model's name to its row."""
    build: Callable[[str], Strategy]
    """A new strategy of this name."""
    strategies: tuple[str, ...]
    """Those that there are."""
    circuits: Circuits | None = None
    strategy_header: str | None = None
    """In which a caller may name another strategy than config's."""
    no_retry_header: str = "x-edge-no-retry"
    """A caller's call with this header (any value but "false") is never sent twice."""
    attempts: int = 3
    patience: float = 60.0
    """Seconds; Envoy waits for no longer Retry-After."""
    first_token_timeout: float | None = None
    """Seconds that a guarded try may take to its first token."""
    chains: bool = False
    """Envoy is told who is first; the others follow as config has them."""
    guards: bool = True
    """Whether Envoy can hold an answer back."""


# How many times to first token a hedge looks back on, and how many it must have seen.
_SEEN, _ENOUGH = 64, 16


@dataclass(slots=True)
class _Times:
    """A row's times to first token of late."""

    seen: list[float] = field(default_factory=list)
    next: int = 0

    def add(self, seconds: float) -> None:
        if len(self.seen) < _SEEN:
            self.seen.append(seconds)
        else:
            self.seen[self.next] = seconds
            self.next = (self.next + 1) % _SEEN

    def quantile(self, share: float) -> float | None:
        if len(self.seen) < _ENOUGH:
            return None
        return sorted(self.seen)[min(len(self.seen) - 1, int(share * len(self.seen)))]


class RowPlanner:
    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._strategies: dict[tuple[str | None, str], Strategy] = {}
        self._times: dict[str | None, _Times] = {}

    def apply_rules(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        _, row = self._row(wish.call.model)
        rule = _rule(row, wish)
        if rule is None or rule.candidates is None:
            return candidates
        return tuple([replace(c, model=c.model or wish.call.model) for c in rule.candidates])

    def plan(self, wish: RoutingRequest, candidates: Sequence[Candidate]) -> Plan:
        name, row = self._row(wish.call.model)
        rule = _rule(row, wish)
        strategy = self._override(wish) or (rule.strategy if rule is not None else None) or row.strategy
        may = self._admitted(candidates)
        admitted = may.admitted
        ordered = self._strategy(name, strategy).order(wish, admitted) if len(admitted) > 1 else admitted
        if row.affinity is not None:
            ordered = row.affinity.prefer(wish, ordered)
        if self._settings.chains:
            ordered = _as_config_has_them(ordered[0], admitted)
        no_retry = wish.header(self._settings.no_retry_header)
        once = no_retry is not None and no_retry.strip().lower() != "false"
        count = len(ordered)
        streams = wish.call.stream and wish.call.operation == "chat"
        # A call that may go out only once has nothing to be guarded for.
        guarded = (
            self._settings.guards
            and not once
            and wish.call.operation == "chat"
            and (
                bool(row.fallback)
                or row.guard == "on"
                # What a first try answers is seen only by the guard: how long a provider that fails wants to rest.
                or (row.guard == "auto" and (wish.call.stream or may.doubtful) and count > 1)
            )
        )
        hedged = streams and row.hedge is not None and count > 1 and not once
        if hedged:
            second = next((c for c in ordered if c.provider != ordered[0].provider), None)
            hedged = second is not None
            if second is not None:
                ordered, count = (ordered[0], second), 2
        timeout = self._settings.first_token_timeout if guarded and streams else None
        if hedged and row.hedge is not None:
            times = self._times.get(name)
            usual = times.quantile(row.hedge.quantile) if times is not None else None
            timeout = max(row.hedge.at_least, usual or 0.0)
        # Who asked to be left alone for longer than Envoy waits would only say it again.
        tries = 1 if count == 1 and may.rest > self._settings.patience else self._tries(count)
        return Plan(tuple(ordered), strategy, guarded, tries, once, timeout, hedged, row.fallback, probes=may.probes)

    def billable_candidates(self, model: str, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], int]:
        _, row = self._row(model)
        found = (*candidates, *row.fallback.context_length, *row.fallback.content_filter)
        return tuple(dict.fromkeys(found)), 2 if row.hedge is not None else 1

    def restrict(self, plan: Plan, candidates: tuple[Candidate, ...]) -> Plan:
        if candidates == plan.candidates:
            return plan
        several = len(candidates) > 1
        return replace(
            plan,
            candidates=candidates,
            tries=self._tries(len(candidates)),
            guarded=plan.guarded and (several or bool(plan.fallback)),
            hedged=plan.hedged and several,
            try_timeout=plan.try_timeout if several else None,
        )

    def record(self, model: str | None, plan: Plan, tried: Sequence[AttemptResult]) -> None:
        strategy = self._strategies.get((model, plan.strategy))
        circuits = self._settings.circuits
        for each in tried:
            if strategy is not None:
                strategy.record(each)
            if circuits is not None:
                circuits.record(each, probe=each.candidate in plan.probes)
            if each.first_token is not None and each.verdict == "ok" and model in self._settings.rows:
                self._times.setdefault(model, _Times()).add(each.first_token)
        if circuits is not None and plan.probes:
            asked = {each.candidate for each in tried}
            for probe in plan.probes:
                if probe not in asked:
                    circuits.release(probe)

    # --- how

    def _row(self, model: str) -> tuple[str | None, ModelRoute]:
        name = self._settings.label(model)
        return name, self._settings.rows.get(name, _PLAIN) if name is not None else _PLAIN

    def _override(self, wish: RoutingRequest) -> str | None:
        header = self._settings.strategy_header
        wanted = wish.header(header) if header is not None else None
        if wanted is None:
            return None
        if wanted not in self._settings.strategies:
            have = ", ".join(self._settings.strategies)
            raise BadRequest(f"{header}: there is no strategy {wanted!r}; have {have}", param=header)
        return wanted

    def _admitted(self, candidates: Sequence[Candidate]) -> BreakerDecision:
        if self._settings.circuits is None:
            return BreakerDecision(tuple(candidates), (), ())
        found = self._settings.circuits.admit(candidates)
        if found.admitted:
            return found
        soonest = min(seconds for _, seconds in found.refused)
        named = [f"{c.provider} ({c.model}) for {max(1, round(seconds))} s" for c, seconds in found.refused]
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        raise Unavailable(
            "every provider of this model has failed of late and is left alone: "
            f"{', '.join(named[:_MOST_NAMED])}{more}",
            retry_after=max(1.0, round(soonest)),
        )

    def _strategy(self, row: str | None, name: str) -> Strategy:
        found = self._strategies.get((row, name))
        if found is None:
            found = self._strategies[row, name] = self._settings.build(name)
        return found

    def _tries(self, candidates: int) -> int:
        """A provider is asked again only where it is the only one: elsewhere, the next one is the better try."""
        return self._settings.attempts if candidates == 1 else min(self._settings.attempts, candidates)
