"""What may be cached, for how long, and who may share it: rules of config, and what the caller says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeAlias

from ..errors import BadRequest
from ..model.content import Opaque, Refusal, ToolCall
from ..model.noun import noun
from ..model.reply import Reply
from .key import Sharing

Headers: TypeAlias = Sequence[tuple[str, str]]

TTL_HEADER = "x-edge-cache-ttl"

# What a reply may end with to be worth giving again. Not: cut short, filtered, refused, paused, malformed.
_WHOLE = frozenset({"stop", "stop_sequence"})

_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
# RFC 9111, 5.2: name, or name=token, or name="text".
_DIRECTIVE = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,"]*)))?\s*(?:,|$)')


@noun
class CachePolicy:
    """What holds for one tenant and model. Durations in seconds."""

    enabled: bool = True
    sharing: Sharing = "tenant"
    across_dialects: bool = False
    max_temperature: float = 0.0
    """A call with a higher one, or that leaves it to the provider, is asked anew each time."""
    tool_calls: bool = False
    ttl: float | None = None
    max_ttl: float = 86400.0
    """The longest that a caller may ask for."""
    ignore: frozenset[str] = frozenset()
    stale: float = 0.0
    """For how much longer a reply may be given where no provider can answer; 0: not at all."""


Changes: TypeAlias = Mapping[str, object]
"""Fields of `CachePolicy` to other values."""


class CachePolicies:
    """The rules of config: those of all, changed for a model (an exact name wins, then the longest glob), then for a
    tenant; a tenant or model for which the cache is off stays without one."""

    def __init__(self, common: CachePolicy, models: Mapping[str, Changes], tenants: Mapping[str, Changes]) -> None:
        self._common = common
        self._models = sorted(models.items(), key=lambda row: (("*" in row[0] or "?" in row[0]), -len(row[0]), row[0]))
        self._tenants = tenants
        self._known: dict[tuple[str, str], CachePolicy] = {}

    def of(self, tenant: str, model: str) -> CachePolicy:
        found = self._known.get((tenant, model))
        if found is None:
            if len(self._known) >= _MOST_KNOWN:  # names of models that callers make up
                self._known.clear()
            found = self._known[tenant, model] = self._made(tenant, model)
        return found

    def _made(self, tenant: str, model: str) -> CachePolicy:
        of_model: Changes = next((c for name, c in self._models if name == model or fnmatchcase(model, name)), {})
        of_tenant = self._tenants.get(tenant, {})
        rules = replace(self._common, **{**of_model, **of_tenant})  # type: ignore[arg-type]  # config has checked them
        said = [changes["enabled"] for changes in (of_model, of_tenant) if "enabled" in changes]
        return replace(rules, enabled=all(said)) if said else rules


_MOST_KNOWN = 4096


@noun
class CacheDirectives:
    """What the caller says in headers."""

    no_cache: bool = False
    """Ask the provider, and keep what it says."""
    no_store: bool = False
    """Have nothing to do with the cache."""
    max_age: float | None = None
    """Of a reply that may be given, seconds."""
    ttl: float | None = None
    """How long to keep the reply, seconds."""


NO_WISHES = CacheDirectives()


def wishes(headers: Headers, max_ttl: float) -> CacheDirectives:
    """Raises BadRequest where a value that is meant for the cache cannot be read. Directives of cache-control that say
    nothing here are passed over, as RFC 9111 wants."""
    control: list[str] = []
    ttl: float | None = None
    for name, value in headers:
        if name == "cache-control":
            control.append(value)
        elif name == TTL_HEADER:
            if not _SECONDS.fullmatch(value) or not 0 < int(value) <= max_ttl:
                raise BadRequest(f"{TTL_HEADER} is {value!r}; give whole seconds, from 1 to {int(max_ttl)}")
            ttl = float(value)
    if not control:
        return NO_WISHES if ttl is None else CacheDirectives(ttl=ttl)
    said = {m[1].lower(): m[2] or m[3] or "" for m in _DIRECTIVE.finditer(", ".join(control))}
    age = said.get("max-age")
    if age is not None and not _SECONDS.fullmatch(age):
        raise BadRequest(f"cache-control says max-age={age!r}; give whole seconds")
    return CacheDirectives("no-cache" in said, "no-store" in said, float(age) if age is not None else None, ttl)


def is_repeatable(temperature: float | None, rules: CachePolicy, said: CacheDirectives) -> bool:
    """Whether the answer to such a call may stand for the next one's. A caller who says how long to keep it has said
    that it may."""
    if said.ttl is not None or rules.max_temperature >= _HIGHEST:
        return True
    return temperature is not None and temperature <= rules.max_temperature


# The highest temperature that any provider takes: who allows it allows every call.
_HIGHEST = 2.0


def is_clean(reply: Reply, rules: CachePolicy) -> bool:
    """Whether a reply is whole, unfiltered, and of a kind that the rules let be given again."""
    if not reply.choices:
        return False
    may_end = _WHOLE | {"tool_calls"} if rules.tool_calls else _WHOLE
    for choice in reply.choices:
        if choice.finish is None or choice.finish.reason not in may_end or not choice.parts:
            return False
        for part in choice.parts:
            if isinstance(part, Refusal):
                return False
            # An opaque part is the work of a tool that ran at the provider, as far as anybody here can tell.
            if isinstance(part, ToolCall | Opaque) and not rules.tool_calls:
                return False
    return True
