"""The rules of the cache: which replies may be stored, for how long, and who may share them.

They come from the configuration (`CachePolicies`) and from the caller's headers (`CacheDirectives`). This module does
no IO.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from ..errors import BadRequest
from ..model.content import Opaque, Refusal, ToolCall
from ..model.frozen_dataclass import frozen_dataclass
from ..model.reply import Reply
from .key import Sharing

Headers: TypeAlias = Sequence[tuple[str, str]]

TTL_HEADER = "x-edge-cache-ttl"
SEMANTIC_HEADER = "x-edge-cache-semantic"
CACHE_HEADERS = frozenset({"cache-control", TTL_HEADER, SEMANTIC_HEADER})
"""The headers that `read_directives` reads."""

Similarity: TypeAlias = Literal["all", "on_request", "off"]
"""Which calls may get the reply to a similar call: all, those whose caller asks for it by a header, or none."""

# Finish reasons of replies that are worth storing. Not: cut short, filtered, refused, paused, malformed.
_WHOLE = frozenset({"stop", "stop_sequence"})

_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
# RFC 9111, 5.2: name, or name=token, or name="text".
_DIRECTIVE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,"]*)))?\s*(?:,|$)')


@frozen_dataclass
class CachePolicy:
    """The rules for one tenant and one model. Durations in seconds."""

    enabled: bool = True
    sharing: Sharing = "tenant"
    across_dialects: bool = False
    max_temperature: float = 0.0
    """A call with a higher temperature, or with none, is never answered from the cache."""
    tool_calls: bool = False
    """Whether replies with tool calls are stored."""
    ttl: float | None = None
    """Time to live. None: each tier's own default."""
    max_ttl: float = 86400.0
    """The longest time to live that a caller may ask for."""
    ignore: frozenset[str] = frozenset()
    """Top-level request fields that are left out of the key."""
    stale: float = 0.0
    """For how long after its expiry an entry may be used if no provider can answer. 0: never."""
    semantic: Similarity = "all"
    """Only with a semantic tier."""


Changes: TypeAlias = Mapping[str, object]
"""Other values for fields of `CachePolicy`, by field name."""


class CachePolicies:
    """The rules of the configuration. The common rules are changed by those of the model (an exact name wins, then the
    longest glob), then by those of the tenant. If either of the two turns the cache off, it is off."""

    def __init__(self, common: CachePolicy, models: Mapping[str, Changes], tenants: Mapping[str, Changes]) -> None:
        self._common = common
        self._models = sorted(models.items(), key=lambda row: (("*" in row[0] or "?" in row[0]), -len(row[0]), row[0]))
        self._tenants = tenants
        self._policies: dict[tuple[str, str], CachePolicy] = {}

    def policy_for(self, tenant: str, model: str) -> CachePolicy:
        policy = self._policies.get((tenant, model))
        if policy is None:
            if len(self._policies) >= _MAX_POLICIES:  # callers choose the model names, so there may be any number
                self._policies.clear()
            policy = self._policies[tenant, model] = self._compile(tenant, model)
        return policy

    def _compile(self, tenant: str, model: str) -> CachePolicy:
        of_model: Changes = next((c for name, c in self._models if name == model or fnmatchcase(model, name)), {})
        of_tenant = self._tenants.get(tenant, {})
        rules = replace(self._common, **{**of_model, **of_tenant})  # type: ignore[arg-type]  # the configuration has checked the values
        switches = [changes["enabled"] for changes in (of_model, of_tenant) if "enabled" in changes]
        return replace(rules, enabled=all(switches)) if switches else rules


_MAX_POLICIES = 4096


@frozen_dataclass
class CacheDirectives:
    """What the caller's headers ask of the cache. Durations in seconds."""

    no_cache: bool = False
    """Do not answer from the cache. The new reply is stored."""
    no_store: bool = False
    """Do not answer from the cache, and do not store the reply."""
    max_age: float | None = None
    """Do not use an entry that is older."""
    ttl: float | None = None
    """The time to live of the new reply."""
    semantic: bool | None = None
    """Whether the reply to a similar call is wanted. None: the caller says nothing."""


NO_DIRECTIVES = CacheDirectives()


def read_directives(headers: Headers, max_ttl: float) -> CacheDirectives:
    """Reads `cache-control`, `x-edge-cache-ttl` and `x-edge-cache-semantic`. Raises BadRequest for a value that cannot
    be read. Unknown directives of cache-control are ignored (RFC 9111, 5.2)."""
    control: list[str] = []
    ttl: float | None = None
    semantic: bool | None = None
    for name, value in headers:
        if name == "cache-control":
            control.append(value)
        elif name == TTL_HEADER:
            if not _SECONDS.fullmatch(value) or not 0 < int(value) <= max_ttl:
                raise BadRequest(f"{TTL_HEADER} is {value!r}; it must be whole seconds, from 1 to {int(max_ttl)}")
            ttl = float(value)
        elif name == SEMANTIC_HEADER:
            if value not in ("on", "off"):
                raise BadRequest(f"{SEMANTIC_HEADER} is {value!r}; it must be on or off")
            semantic = value == "on"
    if not control:
        return NO_DIRECTIVES if ttl is None and semantic is None else CacheDirectives(ttl=ttl, semantic=semantic)
    directives = {m[1].lower(): m[2] or m[3] or "" for m in _DIRECTIVE.finditer(", ".join(control))}
    age = directives.get("max-age")
    if age is not None and not _SECONDS.fullmatch(age):
        raise BadRequest(f"cache-control has max-age={age!r}; it must be whole seconds")
    return CacheDirectives(
        "no-cache" in directives, "no-store" in directives, float(age) if age is not None else None, ttl, semantic
    )


def wants_only_cached(control: str) -> bool:
    """Whether a `cache-control` header has the directive `only-if-cached` (RFC 9111, 5.2.1.7)."""
    return any(match[1].lower() == "only-if-cached" for match in _DIRECTIVE.finditer(control))


def is_repeatable(temperature: float | None, rules: CachePolicy, directives: CacheDirectives) -> bool:
    """Whether a stored reply may answer an equal call. It may if the temperature is low enough, or if the caller sets
    a time to live. `temperature` None: the provider's default."""
    if directives.ttl is not None or rules.max_temperature >= _HIGHEST:
        return True
    return temperature is not None and temperature <= rules.max_temperature


def may_be_similar(rules: CachePolicy, directives: CacheDirectives) -> bool:
    """Whether the reply to a similar call may be used, and the new reply for similar calls."""
    if rules.semantic == "off" or directives.semantic is False:
        return False
    return rules.semantic == "all" or directives.semantic is True


# The highest temperature that any provider accepts. A rule that allows it allows every call.
_HIGHEST = 2.0


def is_clean(reply: Reply, rules: CachePolicy) -> bool:
    """Whether a reply is complete, unfiltered, and of a kind that the rules allow to be stored."""
    if not reply.choices:
        return False
    allowed_finishes = _WHOLE | {"tool_calls"} if rules.tool_calls else _WHOLE
    for choice in reply.choices:
        if choice.finish is None or choice.finish.reason not in allowed_finishes or not choice.parts:
            return False
        for part in choice.parts:
            if isinstance(part, Refusal):
                return False
            # An opaque part may come from a tool that the provider ran.
            if isinstance(part, ToolCall | Opaque) and not rules.tool_calls:
                return False
    return True
