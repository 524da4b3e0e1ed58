"""Which rules hold for whom: every level's own, all at once, so that a lower level can only narrow.

A name may be `*`: each team, user or key of the tenant that has no rules of its own gets these, with counters of its
own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from ..model.principal import Level, Principal
from .base import CallerLimits, LimitRule

ANY = "*"
# Callers come from tokens too, so there may be any number of them.
_MAX_REMEMBERED = 10_000


class RuleTable:
    def __init__(self, rules: Iterable[LimitRule]) -> None:
        self._by_holder: dict[tuple[str, Level, str], tuple[LimitRule, ...]] = {}
        for rule in rules:
            place = (rule.tenant, rule.level, rule.name)
            self._by_holder[place] = (*self._by_holder.get(place, ()), rule)
        self._remembered: dict[tuple[str, str | None, str | None, str], CallerLimits | None] = {}

    def __len__(self) -> int:
        return sum(len(rules) for rules in self._by_holder.values())

    def rules(self, principal: Principal) -> CallerLimits | None:
        who = (principal.tenant, principal.team, principal.user, principal.key_id)
        try:
            return self._remembered[who]
        except KeyError:
            pass
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        found = self._remembered[who] = self._find(*who)
        return found

    def maximum(self, rule: LimitRule) -> int | None:
        """What the rule in its place allows now; None where there is none any more."""
        place = (rule.tenant, rule.level, rule.name)
        found = self._by_holder.get(place) or self._by_holder.get((rule.tenant, rule.level, ANY), ())
        return next((r.maximum for r in found if r.measure == rule.measure and r.window == rule.window), None)

    def _find(self, tenant: str, team: str | None, user: str | None, key: str) -> CallerLimits | None:
        names: tuple[tuple[Level, str | None], ...] = (
            ("tenant", tenant),
            ("team", team),
            ("user", user),
            ("key", key),
        )
        found = tuple(rule for level, name in names if name for rule in self._at(tenant, level, name))
        if not found:
            return None
        holder = "\n".join((tenant, team or "", user or "", key))
        counting = tuple(rule for rule in found if rule.measure == "requests")
        requests = CallerLimits(counting, tuple(map(_key, counting)), holder, count_dollars=False) if counting else None
        count_dollars = any(rule.measure == "dollars" for rule in found)
        return CallerLimits(found, tuple(map(_key, found)), holder, count_dollars, requests)

    def _at(self, tenant: str, level: Level, name: str) -> tuple[LimitRule, ...]:
        own = self._by_holder.get((tenant, level, name))
        if own is not None:
            return own
        return tuple(replace(rule, name=name) for rule in self._by_holder.get((tenant, level, ANY), ()))


def counts_dollars(key: str) -> bool:
    """Of a counter's key, with its window: see `_key`."""
    return key.rsplit(":", 3)[1:2] == ["dollars"]


def _key(rule: LimitRule) -> str:
    """A user's name may hold anything, a colon too."""
    holder = ":".join(quote(part, safe="@") for part in (rule.tenant, rule.level, rule.name))
    return f"{holder}:{rule.measure}:{rule.window or 'now'}:"
