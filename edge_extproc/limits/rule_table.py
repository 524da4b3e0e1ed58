"""Finds the rules of a caller: those of its tenant, team, user and key, which all apply at the same time.

So a lower level can only be stricter. A rule's name may be `*`: it applies to each team, user or key of the tenant that
has no rules itself, with a separate counter for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias
from urllib.parse import quote

from ..model.principal import Level, Principal
from ..model.run import Run
from .base import CallerLimits, LimitLevelName, LimitRule, Window
from .runs import run_rules

ANY = "*"
# Callers may also come from tokens, so there may be any number of them.
_MAX_CACHED = 10_000


class RuleTable:
    """The rules of one configuration."""

    def __init__(self, rules: Iterable[LimitRule]) -> None:
        self._by_holder: dict[_Place, tuple[LimitRule, ...]] = {}
        for rule in rules:
            place = (rule.tenant, rule.level, rule.name)
            self._by_holder[place] = (*self._by_holder.get(place, ()), rule)
        self.caps_runs = any(rule.window == "run" for rules in self._by_holder.values() for rule in rules)
        """Whether any caller has a cap of its runs."""
        self._cached: dict[tuple[str, str | None, str | None, str], CallerLimits | None] = {}

    def __len__(self) -> int:
        return sum(len(rules) for rules in self._by_holder.values())

    def rules(self, principal: Principal) -> CallerLimits | None:
        """None if no rule limits this caller. The same object is returned for the same caller."""
        identity = (principal.tenant, principal.team, principal.user, principal.key_id)
        try:
            return self._cached[identity]
        except KeyError:
            pass
        if len(self._cached) >= _MAX_CACHED:
            self._cached.clear()
        limits = self._cached[identity] = self._find(*identity)
        return limits

    def maximum(self, rule: LimitRule) -> int | None:
        """The maximum of the rule that has the same holder, measure and window now. None: there is none."""
        place = (rule.tenant, rule.level, rule.name)
        rules = self._by_holder.get(place) or self._by_holder.get((rule.tenant, rule.level, ANY), ())
        return next((r.maximum for r in rules if r.measure == rule.measure and r.window == rule.window), None)

    def spending_windows(self) -> frozenset[tuple[Window, str]]:
        """The window and time zone of each budget, without the caps of runs."""
        rules = (rule for rules in self._by_holder.values() for rule in rules if rule.measure == "dollars")
        return frozenset((rule.window, rule.zone) for rule in rules if rule.window not in (None, "run"))

    def named(self) -> Iterator[LimitRule]:
        """The rules of holders with a name of their own, without the caps of runs."""
        for (_, _, name), rules in self._by_holder.items():
            if name != ANY:
                yield from (rule for rule in rules if rule.window != "run")

    def _find(self, tenant: str, team: str | None, user: str | None, key: str) -> CallerLimits | None:
        rules = tuple(rule for rule in self._rules_of(tenant, team, user, key) if rule.window != "run")
        return _limits(rules, "\n".join((tenant, team or "", user or "", key))) if rules else None

    def with_run(self, principal: Principal, run: Run, chain: Sequence[str]) -> CallerLimits:
        """The rules of a caller, and those of a run and the runs that it is a part of. `chain`: the names of these
        runs, beginning with the run itself."""
        identity = (principal.tenant, principal.team, principal.user, principal.key_id)
        base, caps = self.rules(principal), [rule for rule in self._rules_of(*identity) if rule.window == "run"]
        rules = (*(base.rules if base is not None else ()), *run_rules(principal.tenant, run, chain, caps))
        limits = _limits(rules, base.holder if base is not None else "\n".join(part or "" for part in identity))
        return replace(limits, runs=tuple(chain))

    def _rules_of(self, tenant: str, team: str | None, user: str | None, key: str) -> tuple[LimitRule, ...]:
        names: tuple[tuple[Level, str | None], ...] = (
            ("tenant", tenant),
            ("team", team),
            ("user", user),
            ("key", key),
        )
        return tuple(rule for level, name in names if name for rule in self._at(tenant, level, name))

    def _at(self, tenant: str, level: Level, name: str) -> tuple[LimitRule, ...]:
        own = self._by_holder.get((tenant, level, name))
        if own is not None:
            return own
        return tuple(replace(rule, name=name) for rule in self._by_holder.get((tenant, level, ANY), ()))


_Place: TypeAlias = tuple[str, LimitLevelName, str]
"""Tenant, level and name of a holder."""


def _limits(rules: tuple[LimitRule, ...], holder: str) -> CallerLimits:
    counting = tuple(rule for rule in rules if rule.measure in ("requests", "seconds"))
    requests = (
        CallerLimits(counting, tuple(map(counter_key, counting)), holder, count_dollars=False) if counting else None
    )
    count_dollars = any(rule.measure == "dollars" for rule in rules)
    return CallerLimits(rules, tuple(map(counter_key, rules)), holder, count_dollars, requests)


def outlives_restart(key: str) -> bool:
    """Whether a counter of this key counts dollars, or anything of a run. `key`: `counter_key` and the window's
    start."""
    _, measure, window, _ = ("", "", "", *key.rsplit(":", 3))[-4:]
    return measure == "dollars" or window == "run"


def counter_key(rule: LimitRule) -> str:
    """The prefix of the counter's keys. Names are quoted, because a user's name may contain a colon."""
    holder = ":".join(quote(part, safe="@") for part in (rule.tenant, rule.level, rule.name))
    return f"{holder}:{rule.measure}:{rule.window or 'now'}:"
