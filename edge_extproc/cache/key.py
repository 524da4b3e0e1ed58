"""Makes the key of a cached reply, from the call, the candidates of its model, and the owner of the reply.

A `CacheKey` cannot be made without a tenant. It is a hash of a JSON list (owner, model, candidates), a zero byte, which
no JSON contains, and the canonical form of the call. There are two canonical forms:

- `of_body`: the caller's body with its JSON normalised. It is fast, and differs between dialects.
- `of_chat`: the call as `Chat`. It is the same for all dialects.

Unknown fields are always a part of the key, because a field that is left out could change the reply. This module does
no IO.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import quote

import msgspec

from ..codecs.request_lines import has_line, without_lines
from ..model.call import Call, Chat
from ..model.content import Opaque
from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import Candidate
from ..model.wire_names import WireNames

Sharing: TypeAlias = Literal["team", "tenant", "global"]
"""Who shares a cached reply: the team, the tenant with all of its teams, or all tenants."""

Headers: TypeAlias = Sequence[tuple[str, str]]

# Part of every key. Increase it when the same call makes another key, or the same key means another call.
FORMAT = 1

# What of a Chat says how the reply is delivered, not what it contains. The model is in the key separately.
_CHAT_DELIVERY_FIELDS = frozenset({"dialect", "model", "stream", "include_usage"})

_decode = msgspec.json.Decoder().decode
# msgspec, because orjson reads different integers over 64 bits as equal floats.
_encode = msgspec.json.Encoder(order="sorted").encode


@frozen_dataclass
class CacheOwner:
    """The group of callers who share a cached reply."""

    sharing: Sharing
    tenant: str
    team: str = ""

    def __post_init__(self) -> None:
        if not self.tenant:
            raise ValueError("a cached reply needs an owner: the tenant must not be empty")

    @property
    def name(self) -> str:
        """Equal for callers who share, and different for all others, whatever characters their names contain."""
        return _owner_name(self.sharing, self.tenant, self.team)


@lru_cache(maxsize=4096)
def _owner_name(sharing: Sharing, tenant: str, team: str) -> str:
    match sharing:
        case "team":
            return f"team/{_quoted(tenant)}/{_quoted(team)}"
        case "tenant":
            return f"tenant/{_quoted(tenant)}"
        case "global":
            return "global"


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")


@frozen_dataclass
class CanonicalCall:
    """The canonical form of a call."""

    text: bytes
    temperature: float | None
    """None: the caller did not set it, so the provider's default applies."""


@frozen_dataclass
class CacheKey:
    """Two calls have equal keys only if the same reply answers both."""

    owner: str
    model: str
    """The name that callers use."""
    digest: bytes
    """SHA-256 of all parts of the key."""

    def __hash__(self) -> int:
        return hash(self.digest)

    def belongs_to(self, tenant: str) -> bool:
        """Whether the owner is this tenant or one of its teams."""
        name = _quoted(tenant)
        return self.owner == f"tenant/{name}" or self.owner.startswith(f"team/{name}/")


def key_of(owner: CacheOwner, model: str, routed: Sequence[Candidate], shape: CanonicalCall) -> CacheKey:
    """`routed`: the candidates of the model in the current configuration, in order."""
    name = owner.name
    digest = _prefix(name, model, tuple(routed)).copy()
    digest.update(shape.text)
    return CacheKey(name, model, digest.digest())


@lru_cache(maxsize=4096)
def _prefix(owner: str, model: str, routed: tuple[Candidate, ...]) -> Any:
    facts = [FORMAT, owner, model, [[c.provider, c.model] for c in routed]]
    return hashlib.sha256(msgspec.json.encode(facts) + b"\0")


# --- the body as the caller wrote it


def of_body(
    call: Call, headers: Headers, names: WireNames, ignore: frozenset[str] = frozenset()
) -> CanonicalCall | None:
    """Equal for bodies that differ only in white space, escapes, key order and the notation of numbers. `names`: those
    of all dialects. `ignore`: top-level fields to leave out. None if the call depends on state at the provider, or
    cannot be read."""
    try:
        body = _decode(call.raw)
    except (msgspec.DecodeError, RecursionError):
        return None  # the dialect's reader reports the error
    if not isinstance(body, dict):
        return None
    if not names.stateful.isdisjoint(body) and any(body.get(field) for field in names.stateful):
        return None
    if has_line(call.raw, names.request_lines):
        for field in names.content & body.keys():
            body[field] = without_lines(body[field], names.request_lines)
    temperature = _temperature_of(body, names)
    for field in names.delivery | ignore:
        body.pop(field, None)
    for field, value in body.items():
        if type(value) is float and value.is_integer():
            body[field] = int(value)
    shaping = _shaping(headers, names.headers)
    try:
        text = _encode([call.dialect, shaping, body])
    except (UnicodeEncodeError, RecursionError):
        return None
    return CanonicalCall(text, temperature)


def _shaping(headers: Headers, shaping: frozenset[str]) -> list[tuple[str, str]]:
    pairs = [pair for pair in headers if pair[0] in shaping]
    pairs.sort()
    return pairs


def _temperature_of(body: Mapping[str, object], names: WireNames) -> float | None:
    value = body.get("temperature")
    if value is None:
        # Google's format has it one level deeper.
        for field in names.settings:
            inner = body.get(field)
            if isinstance(inner, dict) and inner.get("temperature") is not None:
                value = inner["temperature"]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


# --- the call as Chat, the same for all dialects


def of_chat(
    chat: Chat, headers: Headers, names: WireNames, ignore: frozenset[str] = frozenset()
) -> CanonicalCall | None:
    """Equal for equal calls of any dialects. What only the caller's dialect has (extras, opaque parts, its headers)
    makes the key specific to that dialect. None if the call depends on state at the provider."""
    if chat.needed or any(chat.extras.get(field) for field in names.stateful):
        return None
    fields: dict[str, object] = {}
    bound_to: list[str] = []
    for field in _names(type(chat)):
        value = getattr(chat, field)
        if field in _CHAT_DELIVERY_FIELDS or field in ignore or (not value and value not in (0, False)):
            continue
        if field == "extras":
            # A null means the same as no field. A dialect's reader may also leave one as a mark.
            value = {k: v for k, v in value.items() if k not in ignore and v is not None}
            if not value:
                continue
            bound_to.append("extras")
        fields[field] = _canonical(value, bound_to)
    shaping = _shaping(headers, names.headers - names.version_headers)
    dialect = chat.dialect if bound_to or shaping else None
    try:
        text = _encode([dialect, shaping, fields])
    except (UnicodeEncodeError, RecursionError):
        return None
    return CanonicalCall(text, chat.temperature)


def _canonical(value: object, bound_to: list[str]) -> object:
    """A value as JSON, with the class name of each object, so that a Text never equals a Refusal of the same words.
    Appends to `bound_to` for everything that belongs to one dialect."""
    if isinstance(value, Opaque):
        bound_to.append(value.dialect)
    if dataclasses.is_dataclass(value):
        fields: dict[str, object] = {}
        for field in _names(cast("type[Any]", type(value))):
            inner = getattr(value, field)
            if inner is None or (not inner and field == "extras"):
                continue
            if field == "extras":
                bound_to.append("extras")
            fields[field] = _canonical(inner, bound_to)
        return [type(value).__name__, fields]
    if isinstance(value, Mapping):
        return {name: _canonical(inner, bound_to) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner, bound_to) for inner in value]
    return int(value) if type(value) is float and value.is_integer() else value


def _names(kind: type[Any]) -> tuple[str, ...]:
    known = _NAMES.get(kind)
    if known is None:
        known = _NAMES[kind] = tuple(field.name for field in dataclasses.fields(kind) if field.compare)
    return known


_NAMES: dict[type[Any], tuple[str, ...]] = {}
"""The names of the compared fields by class: `dataclasses.fields` is slow."""
