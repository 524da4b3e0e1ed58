"""Which rules apply to a call, by its caller and its model.

The rules of the configuration apply to each caller in their scope. A tenant, a team, a user and a key may have rules of
their own in addition, so that a lower level adds rules and never removes one. The rules of a caller are selected once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate

from ..model.frozen_dataclass import frozen_dataclass
from ..model.principal import Level, Principal
from .base import Direction, Rule

# Bounded, because tokens can name any caller, and callers any model.
_MOST_REMEMBERED = 10_000


@frozen_dataclass
class RuleScope:
    """The calls to which a rule applies. All given conditions must hold; each is a list of names or globs."""

    tenants: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@frozen_dataclass
class RuleHolder:
    """The tenant, team, user or key whose own rule it is."""

    tenant: str
    level: Level
    name: str


@frozen_dataclass
class ScopedRule:
    rule: Rule
    scope: RuleScope = RuleScope()
    holder: RuleHolder | None = None
    """None: it is a rule of the section `guardrails`."""


@frozen_dataclass
class CallRules:
    """The rules for one caller and model, in the order of the configuration."""

    requests: tuple[Rule, ...]
    replies: tuple[Rule, ...]


class RuleSelector:
    """Selects the rules of each call."""

    def __init__(self, rules: Iterable[ScopedRule]) -> None:
        self._rules = [_Selected(each) for each in rules]
        self._by_call: dict[tuple[object, ...], CallRules | None] = {}

    def of(self, principal: Principal, *models: str) -> CallRules | None:
        """None: no rule applies. `models`: all that the call names, since its provider may take any of them."""
        call = (principal.tenant, principal.team, principal.user, principal.key_id, principal.roles, models)
        try:
            return self._by_call[call]
        except KeyError:
            pass
        if len(self._by_call) >= _MOST_REMEMBERED:
            self._by_call.clear()
        rules = self._by_call[call] = self._select(principal, models)
        return rules

    def _select(self, principal: Principal, models: Sequence[str]) -> CallRules | None:
        rules = [each.scoped.rule for each in self._rules if each.applies(principal, models)]
        return CallRules(_of(rules, "request"), _of(rules, "reply")) if rules else None


def _of(rules: Sequence[Rule], direction: Direction) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if direction in rule.directions)


class _Selected:
    __slots__ = ("_matches", "scoped")

    def __init__(self, scoped: ScopedRule) -> None:
        scope = scoped.scope
        self.scoped = scoped
        self._matches = tuple(
            map(_matcher, (scope.tenants, scope.teams, scope.users, scope.keys, scope.roles, scope.models))
        )

    def applies(self, principal: Principal, named: Sequence[str]) -> bool:
        holder = self.scoped.holder
        if holder is not None and not _is_held(holder, principal):
            return False
        tenants, teams, users, keys, roles, models = self._matches
        return (
            tenants((principal.tenant,))
            and teams((principal.team,))
            and users((principal.user,))
            and keys((principal.key_id,))
            and roles(principal.roles or ())
            and models(named)
        )


def _matcher(patterns: Sequence[str]) -> Callable[[Iterable[str | None]], bool]:
    """Whether one of the names matches. Without patterns, all do."""
    if not patterns:
        return lambda _: True
    match = re.compile("|".join(translate(pattern) for pattern in patterns)).match
    return lambda names: any(name is not None and match(name) is not None for name in names)


def _is_held(holder: RuleHolder, principal: Principal) -> bool:
    """The name * stands for each team, user or key."""
    if holder.tenant != principal.tenant:
        return False
    names = {"tenant": principal.tenant, "team": principal.team, "user": principal.user, "key": principal.key_id}
    name = names[holder.level]
    return name is not None and holder.name in (name, "*")
