"""Role-based access: the models, operations, features and providers that a caller may use.

A caller's roles are alternatives: one of them must allow the whole call, so two roles together never allow what neither
allows alone. In addition, the policies of its tenant, team, user and key must all allow the call: each can only narrow.

Policies are compiled once for each caller, and decisions about models are cached.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import TypeAlias

from ..errors import Forbidden
from ..model.call import Call, Operation
from ..model.globs import ANY
from ..model.plan import Candidate
from ..model.principal import Level, Principal
from ..model.wire_names import WireNames
from .features import features_of
from .mcp_access import McpAccess, McpGrants, McpKind

# The sizes of the caches are bounded, because tokens can name any caller, and callers any model.
_MAX_REMEMBERED = 10_000
_MAX_MODELS = 1_024
_LONGEST_MODEL = 256


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The allowed values of each kind; None: all are allowed."""

    models: tuple[str, ...] | None = None
    """Names or globs."""
    operations: frozenset[str] | None = None
    features: frozenset[str] | None = None
    max_tokens: int | None = None
    providers: tuple[str, ...] | None = None
    """Names or globs."""
    regions: tuple[str, ...] | None = None
    """Names or globs. A provider without a region is in no region."""
    mcp: Mapping[str, McpAccess] | None = None
    """The entries of MCP servers, by name or glob."""
    admin: frozenset[str] = frozenset()
    """Rights on the admin API, for roles only."""

    @property
    def is_open(self) -> bool:
        return self == _OPEN


_OPEN = AccessPolicy()
_Match: TypeAlias = Callable[[str], object]


def _matcher(patterns: Sequence[str] | None) -> _Match | None:
    if patterns is None or ANY in patterns:
        return None
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)").match


class _Compiled:
    """A compiled policy."""

    __slots__ = ("label", "mcp", "models", "policy", "providers", "regions")

    def __init__(self, policy: AccessPolicy, label: str) -> None:
        self.policy = policy
        self.label = label
        self.models = _matcher(policy.models)
        self.providers = _matcher(policy.providers)
        self.regions = _matcher(policy.regions)
        self.mcp = McpGrants(policy.mcp) if policy.mcp is not None else None

    def objection(self, operation: Operation) -> str | None:
        allowed = self.policy.operations
        if allowed is None or operation in allowed:
            return None
        return f"{operation} is not among the operations that {self.label} allows ({_list(allowed)})"

    def objection_by_name(self, model: str, operation: Operation) -> str | None:
        """The reason against all calls of this model and operation, or None."""
        if self.models is not None and self.models(model) is None:
            return f"the model {model!r} is not among those that {self.label} allows"
        return self.objection(operation)

    @property
    def depends_on_content(self) -> bool:
        """Whether the policy depends on the content of a call."""
        return self.policy.max_tokens is not None or self.policy.features is not None

    def objection_inside(self, call: Call, features: Callable[[], frozenset[str]]) -> str | None:
        policy = self.policy
        if policy.max_tokens is not None and call.operation == "chat":
            if call.max_output_tokens is None:
                return f"{self.label} allows replies of up to {policy.max_tokens} tokens; set max_tokens"
            if call.max_output_tokens > policy.max_tokens:
                return (
                    f"max_tokens is {call.max_output_tokens}, and {self.label} allows replies of up to "
                    f"{policy.max_tokens} tokens"
                )
        if policy.features is not None:
            more = features() - policy.features
            if more:
                return f"{_list(more)}: not among the features that {self.label} allows ({_list(policy.features)})"
        return None

    def objection_to_mcp(self, server: str, kind: McpKind | None, name: str) -> str | None:
        """As `PolicyRights.may_use`."""
        if self.mcp is None:
            return None
        if kind is None:
            return None if self.mcp.reaches(server) else f"{self.label} allows nothing of the MCP server {server!r}"
        if self.mcp.allows(server, kind, name):
            return None
        return f"{name!r} is not among the {kind} of the MCP server {server!r} that {self.label} allows"

    def reaches(self, provider: str, region: str | None) -> bool:
        if self.providers is not None and self.providers(provider) is None:
            return False
        return self.regions is None or (region is not None and self.regions(region) is not None)


@dataclass(slots=True)
class _Decided:
    """The decision for all calls of one model and operation."""

    refused: str | None
    """The reason of a level's policy against all these calls, or None."""
    levels: tuple[_Compiled, ...]
    """The policies of levels that depend on the content of a call."""
    reasons: tuple[str | None, ...]
    """For each role, its reason against all these calls, or None."""
    depends_on_content: bool
    """Whether a role without a reason depends on the content of a call."""
    permitting: tuple[_Compiled, ...]
    """The roles without a reason. Those that depend on the content of a call may still refuse it."""
    candidates: Sequence[Candidate] = ()
    """The candidates of the last call, and those of them that are allowed."""
    allowed: tuple[Candidate, ...] = ()


class PolicyRights:
    """The permissions of one caller."""

    __slots__ = ("_allowed_operations", "_decided", "_levels", "_listed", "_names", "_regions", "_roles", "admin")

    def __init__(
        self,
        levels: Sequence[_Compiled],
        roles: Sequence[_Compiled] | None,
        regions: Mapping[str, str | None],
        names: WireNames | None,
    ) -> None:
        self._levels = tuple(levels)
        self._roles = tuple(roles) if roles is not None else None
        self._regions = regions
        self._names = names
        self._listed: dict[str, bool] = {}
        self._allowed_operations: set[Operation] = set()
        """Operations that have been checked and allowed."""
        self._decided: dict[tuple[str, Operation], _Decided] = {}
        self.admin = frozenset(right for role in self._roles or () for right in role.policy.admin)

    def may_do(self, operation: Operation) -> None:
        """Checks the operation before the body is read. Raises Forbidden."""
        if operation in self._allowed_operations:
            return
        for level in self._levels:
            if (reason := level.objection(operation)) is not None:
                raise Forbidden(reason)
        if self._roles is not None:
            reasons = [role.objection(operation) for role in self._roles]
            if None not in reasons:
                raise Forbidden(_why_not(reasons))
        self._allowed_operations.add(operation)

    def may_use(self, server: str, kind: McpKind | None, name: str) -> None:
        """Checks a tool, prompt or resource of an MCP server; without a kind, the server. One role must allow the
        operation and this. Raises Forbidden."""
        for level in self._levels:
            if (reason := level.objection("mcp") or level.objection_to_mcp(server, kind, name)) is not None:
                raise Forbidden(reason)
        if self._roles is not None:
            reasons = [role.objection("mcp") or role.objection_to_mcp(server, kind, name) for role in self._roles]
            if None not in reasons:
                raise Forbidden(_why_not(reasons))

    @property
    def restricts_operations(self) -> bool:
        if any(level.policy.operations is not None for level in self._levels):
            return True
        return self._roles is not None and all(role.policy.operations is not None for role in self._roles)

    def may_list(self, model: str) -> bool:
        known = self._listed.get(model)
        if known is None:
            known = self._may_name(model)
            if len(self._listed) < _MAX_MODELS and len(model) <= _LONGEST_MODEL:
                self._listed[model] = known
        return known

    def _may_name(self, model: str) -> bool:
        def names(each: _Compiled) -> bool:
            return each.models is None or each.models(model) is not None

        return all(map(names, self._levels)) and (self._roles is None or any(map(names, self._roles)))

    def narrow(self, call: Call, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates that may serve this call, at least one. Raises Forbidden with the violated rule."""
        decided = self._decided.get((call.model, call.operation)) or self._decide(call)
        if decided.refused is not None:
            raise Forbidden(decided.refused)
        permitting = decided.permitting
        if decided.levels or decided.depends_on_content:
            permitting = self._look_inside(call, decided)
        if permitting is decided.permitting and decided.candidates is candidates and candidates:
            return decided.allowed
        if self._roles is not None and not permitting:
            raise Forbidden(_why_not(decided.reasons))
        allowed = tuple([c for c in candidates if self._reaches(c.provider, permitting)])
        if candidates and not allowed:
            labels = [each.label for each in (*self._levels, *permitting)]
            raise Forbidden(
                f"the model {call.model!r} is served by no provider or region that {' and '.join(labels)} allows"
            )
        if permitting is decided.permitting:
            decided.candidates, decided.allowed = candidates, allowed
        return allowed

    def _decide(self, call: Call) -> _Decided:
        model, operation = call.model, call.operation
        refusals = (level.objection_by_name(model, operation) for level in self._levels)
        roles = self._roles or ()
        reasons = tuple(role.objection_by_name(model, operation) for role in roles)
        permitting = tuple(role for role, reason in zip(roles, reasons, strict=True) if reason is None)
        decided = _Decided(
            next((refusal for refusal in refusals if refusal is not None), None),
            tuple(level for level in self._levels if level.depends_on_content),
            reasons,
            any(role.depends_on_content for role in permitting),
            permitting,
        )
        if len(self._decided) < _MAX_MODELS and len(model) <= _LONGEST_MODEL:
            self._decided[model, operation] = decided
        return decided

    def _look_inside(self, call: Call, decided: _Decided) -> tuple[_Compiled, ...]:
        """The roles that allow this call."""
        features = _Once(call.raw, self._names)
        for level in decided.levels:
            if (reason := level.objection_inside(call, features)) is not None:
                raise Forbidden(reason)
        if not decided.depends_on_content:
            return decided.permitting
        reasons = [role.objection_inside(call, features) for role in decided.permitting]
        permitting = tuple([role for role, reason in zip(decided.permitting, reasons, strict=True) if reason is None])
        if len(permitting) == len(decided.permitting):
            return decided.permitting
        if not permitting:
            rest = iter(reasons)
            raise Forbidden(_why_not([reason or next(rest) for reason in decided.reasons]))
        return permitting

    def _reaches(self, provider: str, roles: Sequence[_Compiled]) -> bool:
        region = self._regions.get(provider)
        if not all(level.reaches(provider, region) for level in self._levels):
            return False
        return self._roles is None or any(role.reaches(provider, region) for role in roles)


class _Once:
    """The features of a call, detected on first use."""

    __slots__ = ("_features", "_names", "_raw")

    def __init__(self, raw: bytes, names: WireNames | None) -> None:
        self._raw = raw
        self._names = names
        self._features: frozenset[str] | None = None

    def __call__(self) -> frozenset[str]:
        if self._features is None:
            self._features = features_of(self._raw, self._names)
        return self._features


class AccessPolicies:
    """The permissions of all callers of a configuration. `regions`: the region of each provider, by name."""

    def __init__(
        self,
        levels: Iterable[tuple[str, Level, str, AccessPolicy]],
        roles: Mapping[str, AccessPolicy],
        regions: Mapping[str, str | None],
        names: WireNames | None = None,
    ) -> None:
        """`levels`: pairs of (tenant, level, name) and policy. The name * stands for each team, user or key without a
        policy of its own. `names`: those of all dialects, by which features are detected; without them, each call
        counts as using all features."""
        self._levels = {
            (tenant, level, name): _Compiled(policy, f"{level} {name}")
            for tenant, level, name, policy in levels
            if not policy.is_open
        }
        self._roles = {name: _Compiled(policy, f"role {name}") for name, policy in roles.items()}
        self._regions = dict(regions)
        self._names = names
        self._rights: dict[tuple[object, ...], PolicyRights | None] = {}

    def of(self, principal: Principal) -> PolicyRights | None:
        """The permissions of a caller, or None if no policy applies."""
        identity = (principal.tenant, principal.team, principal.user, principal.key_id, principal.roles)
        try:
            return self._rights[identity]
        except KeyError:
            pass
        if len(self._rights) >= _MAX_REMEMBERED:
            self._rights.clear()
        rights = self._rights[identity] = self._find(principal)
        return rights

    def _find(self, principal: Principal) -> PolicyRights | None:
        tenant = principal.tenant
        places: tuple[tuple[Level, str | None], ...] = (
            ("tenant", tenant),
            ("team", principal.team),
            ("user", principal.user),
            ("key", principal.key_id),
        )
        levels = [
            decision
            for level, name in places
            if name
            and (decision := self._levels.get((tenant, level, name)) or self._levels.get((tenant, level, ANY)))
            is not None
        ]
        if principal.roles is None:
            return PolicyRights(levels, None, self._regions, self._names) if levels else None
        roles = [self._roles[name] for name in principal.roles if name in self._roles]
        return PolicyRights(levels, roles, self._regions, self._names)


def _why_not(reasons: Sequence[str | None]) -> str:
    return "; ".join(reason for reason in reasons if reason) or "this caller has no configured role"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
