"""Replays requests of the ledger against a configuration: which of them it would refuse or route elsewhere, and what
they would cost.

`replay` is a pure function of the rows and of two judges. It uses the production code for keys, policies, rules, plans,
limits and prices. `UNKNOWN` says what the ledger does not have, so what a replay cannot know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias, cast

import msgspec

from ..accounting import prices as price_table
from ..auth.base import KeySettings
from ..auth.merge import merge_keys, merge_policies
from ..config.schema import Config
from ..errors import CallerError, Unavailable
from ..limits.base import MICRO
from ..limits.merge import merge_rules
from ..limits.rule_table import RuleTable
from ..limits.windows import Windows
from ..model.call import Call, Operation
from ..model.globs import allows, is_glob
from ..model.managed import ManagedState
from ..model.plan import Candidate
from ..model.principal import Principal
from ..model.settlement import HITS
from ..model.usage import BUCKETS, Usage
from ..model.wire_names import WireNames
from ..routing.base import ModelTable, RoutingRequest
from ..routing.breaker import LocalCircuitTable
from ..worker.wiring.gateway import build_dialects, overrides
from ..worker.wiring.providers import build_providers
from ..worker.wiring.routing import build_planner

UNKNOWN = (
    "Headers are not in the ledger: rules by header, and strategies that a caller chooses by header, are not applied.",
    "Bodies are not in the ledger: policies by feature, guardrails, and whether a provider's format has each field are "
    "not checked. The length of a prompt is taken from its tokens.",
    "Requests whose model has a pattern in the configuration are replayed with the name that the provider got.",
    "Strategies that use measured times or chance, circuits, affinity and failures of providers are not replayed: such "
    "a request counts as moved only if the new configuration has no candidate at its provider.",
    "Limits count the replayed requests from the beginning of the time, with what they have used, not with what they "
    "would reserve. Concurrent requests and caps of runs are not counted.",
    "Tokens of another model are taken to be those of the first one. Cached replies stay cached.",
    "Roles of tokens and certificates are not in the ledger, so they are not checked.",
    "Requests that were refused stay refused: nobody knows what they would have cost.",
)
_MOST_GROUPS = 200
# Routing compares the length of a prompt with limits of a model; none is longer.
_LONGEST_PROMPT = 4 << 20
_ORDERED = "failover"
"""The strategy whose order depends on the configuration alone."""
ChangeKind: TypeAlias = Literal["refused", "elsewhere", "unpriced"]


class ReplayGroup(msgspec.Struct, frozen=True):
    """Requests that change in one way. Money is US dollars as text."""

    change: ChangeKind
    tenant: str
    key: str | None
    model: str | None
    detail: str
    requests: int
    cost_before: str
    cost_after: str


class ReplayReport(msgspec.Struct, frozen=True):
    requests: int
    """Of the time, without those that were refused."""
    replayed: int
    unclear: int
    """Requests about which the replay can say nothing: the configuration in force would refuse them too, or their model
    is unknown."""
    refused: int
    elsewhere: int
    unpriced: int
    """Requests that would have no known price, and had one."""
    cost_before: str
    """Of the replayed requests, as the ledger has it."""
    cost_after: str
    """Of those that are not refused, without the unpriced ones."""
    saved_by_refusals: str
    """The cost before of the requests that would be refused. It is not a part of `cost_after`."""
    cut: bool
    """There are more requests than are replayed; these are the newest."""
    groups: list[ReplayGroup]
    """The most frequent first."""
    hidden_groups: int
    unknown: list[str]
    """What a replay cannot know."""


@dataclass(frozen=True, slots=True)
class Judgement:
    refused: str | None = None
    """Why the request would be refused."""
    candidates: tuple[Candidate, ...] = ()
    in_order: bool = False
    """The order depends on the configuration alone."""
    unclear: bool = False


class Judge(Protocol):
    def judge(self, row: Mapping[str, Any]) -> Judgement:
        """Takes the rows in the order of their times."""
        ...

    def cost(self, candidate: Candidate, row: Mapping[str, Any]) -> Decimal | None:
        """US dollars. None: the price is unknown."""
        ...


@dataclass(slots=True)
class _Sums:
    requests: int = 0
    before: Decimal = Decimal()
    after: Decimal = Decimal()

    def add(self, before: Decimal, after: Decimal) -> None:
        self.requests += 1
        self.before += before
        self.after += after


@dataclass(slots=True)
class _Tally:
    groups: dict[tuple[ChangeKind, str, str | None, str | None, str], _Sums] = field(default_factory=dict)
    whole: _Sums = field(default_factory=_Sums)
    requests: int = 0
    unclear: int = 0
    refused_cost: Decimal = Decimal()

    def note(self, change: ChangeKind, row: Mapping[str, Any], detail: str, before: Decimal, after: Decimal) -> None:
        key = (change, row["tenant"], row["key"], row["model"], detail)
        self.groups.setdefault(key, _Sums()).add(before, after)

    def count(self, change: ChangeKind) -> int:
        return sum(sums.requests for (each, *_), sums in self.groups.items() if each == change)


def replay(
    rows: Iterable[Mapping[str, Any]], new: Judge, old: Judge | None = None, *, cut: bool = False
) -> ReplayReport:
    """`rows`: of the ledger, oldest first. `old`: of the configuration in force; a request that it would refuse
    although it was served is unclear. `cut`: these are not all rows."""
    tally = _Tally()
    for row in rows:
        if row["outcome"] == "rejected":
            continue
        tally.requests += 1
        judged, control = new.judge(row), old.judge(row) if old is not None else Judgement()
        if judged.unclear or control.unclear or control.refused is not None:
            tally.unclear += 1
            continue
        _add(tally, row, judged, control, new)
    groups = sorted(tally.groups.items(), key=lambda pair: (-pair[1].requests, *map(str, pair[0])))
    return ReplayReport(
        requests=tally.requests,
        replayed=tally.whole.requests,
        unclear=tally.unclear,
        refused=tally.count("refused"),
        elsewhere=tally.count("elsewhere"),
        unpriced=tally.count("unpriced"),
        cost_before=_dollars(tally.whole.before),
        cost_after=_dollars(tally.whole.after),
        saved_by_refusals=_dollars(tally.refused_cost),
        cut=cut,
        groups=[
            ReplayGroup(*key, sums.requests, _dollars(sums.before), _dollars(sums.after))
            for key, sums in groups[:_MOST_GROUPS]
        ],
        hidden_groups=max(0, len(groups) - _MOST_GROUPS),
        unknown=list(UNKNOWN),
    )


def _add(tally: _Tally, row: Mapping[str, Any], judged: Judgement, control: Judgement, new: Judge) -> None:
    before = Decimal(row["cost"] or 0)
    if judged.refused is not None:
        tally.whole.add(before, Decimal())
        tally.refused_cost += before
        tally.note("refused", row, judged.refused, before, Decimal())
        return
    served = Candidate(row["provider"] or "", row["upstream_model"] or "")
    target = _target(served, row, judged, control)
    after: Decimal | None = before
    if target is not None and row["cache"] not in HITS and row["cost"] is not None:
        after = new.cost(target, row)
    tally.whole.add(before, after or Decimal())
    if target is not None and target != served:
        detail = f"{served.provider} ({served.model}) → {target.provider} ({target.model})"
        tally.note("elsewhere", row, detail, before, after or Decimal())
    if after is None:
        tally.note("unpriced", row, f"{target.provider} ({target.model})" if target else "", before, Decimal())


def _target(served: Candidate, row: Mapping[str, Any], judged: Judgement, control: Judgement) -> Candidate | None:
    """Where the request would go. None: it went nowhere, or its place is not known."""
    candidates = judged.candidates
    if row["provider"] is None or not candidates:
        return None
    first = candidates[0]
    is_same_order = bool(control.candidates) and control.candidates == candidates
    # A retry or an open circuit may have sent it elsewhere than to the first candidate.
    if not judged.in_order or is_same_order or row["attempts"] > 1:
        return next((each for each in candidates if each == served), first)
    return first


class ConfigJudge:
    """Judges by one configuration. `managed`: the keys, budgets and providers of the admin API. `prices`: of all
    lists."""

    def __init__(self, config: Config, managed: ManagedState, prices: price_table.PriceTable) -> None:
        """Raises ConfigError."""
        self._config = config
        self._prices = prices.with_overrides(overrides(config))
        self._providers = build_providers(config)
        self._models = ModelTable(config.rows())
        names = WireNames.of_all(dialect.wire_names for dialect in build_dialects().values())
        self._access = merge_policies(config, managed, names)
        self._tenants = {caller.tenant: caller.models for caller in config.callers}
        self._keys: dict[str, KeySettings] = {}
        for key in merge_keys(config, managed):
            self._keys.setdefault(key.id, key)
        self._rules = RuleTable(merge_rules(config, managed.budgets))
        self._out = {each.provider for each in managed.taken_out}
        self._counters: dict[tuple[object, ...], int] = {}
        self._windows = Windows()
        circuits = LocalCircuitTable()
        self._planner = build_planner(
            config, self._models, self._providers, self._prices, circuits, lambda _: None, names
        )

    def judge(self, row: Mapping[str, Any]) -> Judgement:
        principal = self._principal(row)
        if isinstance(principal, str):
            return Judgement(refused=principal)
        if row["model"] is None:
            # A path that is passed on unread, or a call that ended before its model was known.
            provider = row["provider"]
            if provider is not None and provider not in self._config.providers:
                return Judgement(refused=f"there is no provider {provider}")
            return self._within_limits(row, principal, ())
        model = self._requested(row)
        if model is None:
            return Judgement(unclear=True)
        served = self._models.candidates(model) if allows(principal.models, model) else ()
        if not served:
            return Judgement(refused=f"the model {model} is not configured, or not for this caller")
        return self._planned(row, principal, model, served)

    def _planned(
        self, row: Mapping[str, Any], principal: Principal, model: str, served: Sequence[Candidate]
    ) -> Judgement:
        usage = _usage(row)
        call = Call(
            row["dialect"] or "",
            cast("Operation", row["operation"] or "chat"),
            model,
            bool(row["stream"]),
            b" " * min(4 * usage.prompt, _LONGEST_PROMPT),
            max_output_tokens=usage.completion or None,
        )
        request = RoutingRequest(call, principal.tenant, principal.key_id)
        try:
            candidates = self._planner.apply_rules(request, served)
            rights = self._access.of(principal) if self._access is not None else None
            if rights is not None:
                rights.may_do(call.operation)
                candidates = rights.narrow(call, candidates)
            candidates = [each for each in candidates if each.provider not in self._out]
            if not candidates:
                return Judgement(refused="all providers of the model are taken out")
            plan = self._planner.plan(request, candidates)
        except (CallerError, Unavailable) as error:
            return Judgement(refused=error.message)
        in_order = plan.strategy == _ORDERED or len(plan.candidates) == 1
        return self._within_limits(row, principal, plan.candidates, in_order=in_order)

    def cost(self, candidate: Candidate, row: Mapping[str, Any]) -> Decimal | None:
        provider = self._providers.get(candidate.provider)
        if provider is None:
            return None
        model = candidate.model or row["upstream_model"] or ""
        dollars = self._prices.cost(provider.price_list, model, _usage(row), host=provider.name)
        return None if dollars is None else dollars + Decimal(row["search_cost"] or 0)

    def _principal(self, row: Mapping[str, Any]) -> Principal | str:
        """The caller, or why it is refused."""
        tenant, key_id = row["tenant"], row["key"] or ""
        if tenant not in self._tenants:
            return f"there is no tenant {tenant}"
        models = self._tenants[tenant]
        if ":" in key_id or not key_id:  # a token or a certificate
            return Principal(tenant, key_id, models, row["team"], row["user"])
        key = self._keys.get(key_id)
        if key is None or key.tenant != tenant:
            return f"there is no key {key_id}"
        if key.disabled:
            return f"the key {key_id} is disabled or revoked"
        if key.expires_at is not None and key.expires_at * 1000 <= row["started_ms"]:
            return f"the key {key_id} has expired"
        return Principal(tenant, key_id, models, key.team, key.user, key.roles)

    def _requested(self, row: Mapping[str, Any]) -> str | None:
        """The caller's model. The ledger has the row of the configuration, which may be a pattern."""
        name = row["model"]
        if not is_glob(name):
            return str(name)
        upstream = row["upstream_model"]
        return str(upstream) if upstream is not None and allows((name,), upstream) else None

    def _within_limits(
        self, row: Mapping[str, Any], principal: Principal, candidates: tuple[Candidate, ...], *, in_order: bool = False
    ) -> Judgement:
        """Counts the request, unless a limit refuses it."""
        limits = self._rules.rules(principal)
        amounts = self._amounts(row, candidates)
        at = row["started_ms"] / 1000
        counted: list[tuple[tuple[object, ...], int]] = []
        for rule in limits.rules if limits is not None else ():
            if rule.window in (None, "run") or rule.measure not in amounts:
                continue
            window = self._windows.at(rule.window, rule.zone, at)
            counter = (rule.tenant, rule.level, rule.name, rule.measure, window)
            used, amount = self._counters.get(counter, 0), amounts[rule.measure]
            if rule.hard and used + amount > rule.maximum:
                return Judgement(refused=f"the limit {rule.label}")
            counted.append((counter, used + amount))
        self._counters.update(counted)
        return Judgement(candidates=candidates, in_order=in_order)

    def _amounts(self, row: Mapping[str, Any], candidates: Sequence[Candidate]) -> dict[str, int]:
        usage = _usage(row)
        cost = Decimal(row["cost"] or 0)
        if candidates and row["cost"] is not None and row["cache"] not in HITS:
            cost = self.cost(candidates[0], row) or Decimal()
        return {"requests": 1, "tokens": usage.prompt + usage.completion, "dollars": int(cost * MICRO)}


def _usage(row: Mapping[str, Any]) -> Usage:
    counts: dict[str, Any] = {name: row[name] or 0 for name in BUCKETS}
    return Usage(**counts)


def _dollars(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
