"""The name of a cached reply: what was asked, of which models, and on whose behalf. Pure.

A `CacheKey` cannot be made without a tenant. What it is made of is length-safe: a JSON list of its facts, a zero
byte that no JSON holds, and the canonical form of what was asked. The canonical form
is either the caller's own body without
the spelling of its JSON (`of_body`, fast), or the conversation in our own nouns (`of_chat`), which is the same for
all dialects. Fields that nobody here knows are always a part of it: a field that was left out could change the answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast
from urllib.parse import quote

import msgspec

from ..model.call import Call, Chat
from ..model.content import Opaque
from ..model.noun import noun
from ..model.plan import Candidate

Sharing: TypeAlias = Literal["team", "tenant", "global"]
"""Who may have a reply again: the team, the tenant (with all of its teams), or every tenant."""

Headers: TypeAlias = Sequence[tuple[str, str]]

# Part of every key. To be raised whenever the same call would make another key, or the same key means another call.
FORMAT = 1

# Request headers that change what a provider answers; they pass on the raw lane (exchange/headers.py).
SHAPING_HEADERS = frozenset({"anthropic-beta", "anthropic-version", "openai-beta"})

# What a body says of how the reply shall come, not of what it shall be. The model stands in the key by itself.
_HOW = frozenset({"model", "stream", "stream_options"})
_HOW_OF_CHAT = frozenset({"dialect", "model", "stream", "include_usage"})

# With one of these, the answer depends on what lies at the provider, or the call changes what lies there.
_STATEFUL = ("background", "container", "conversation", "previous_response_id")

_decode = msgspec.json.Decoder().decode
# Unlike orjson, msgspec tells integers over 64 bits apart.
_encode = msgspec.json.Encoder(order="sorted").encode


@noun
class CacheOwner:
    """On whose behalf a reply was given, and so who may have it again."""

    sharing: Sharing
    tenant: str
    team: str = ""

    def __post_init__(self) -> None:
        if not self.tenant:
            raise ValueError("a cached reply has an owner; name the tenant")

    @property
    def name(self) -> str:
        """Equal for those who share, and for no others, whatever characters their names hold."""
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


@noun
class CanonicalCall:
    """The canonical form of what was asked."""

    text: bytes
    temperature: float | None
    """None where the caller did not say, so that the provider's own holds."""


@noun
class CacheKey:
    """Equal for two calls only if the same reply answers both."""

    owner: str
    model: str
    """As callers name it."""
    digest: bytes
    """SHA-256 of everything."""

    def __hash__(self) -> int:
        return hash(self.digest)

    def belongs_to(self, tenant: str) -> bool:
        """Or to a team of that tenant's."""
        name = _quoted(tenant)
        return self.owner == f"tenant/{name}" or self.owner.startswith(f"team/{name}/")


def key_of(owner: CacheOwner, model: str, routed: Sequence[Candidate], shape: CanonicalCall) -> CacheKey:
    """`routed`: whom the model stands for in the config in force, in order."""
    digest = _prefix(owner.name, model, tuple(routed)).copy()
    digest.update(shape.text)
    return CacheKey(owner.name, model, digest.digest())


@lru_cache(maxsize=4096)
def _prefix(owner: str, model: str, routed: tuple[Candidate, ...]) -> Any:
    facts = [FORMAT, owner, model, [[c.provider, c.model] for c in routed]]
    return hashlib.sha256(msgspec.json.encode(facts) + b"\0")


# --- the body as the caller wrote it


def of_body(call: Call, headers: Headers, ignore: frozenset[str] = frozenset()) -> CanonicalCall | None:
    """Equal for bodies that differ only in white space, escapes, key order and the spelling of numbers. `ignore`:
    top-level fields that config says do not matter. None where the call leans on what lies at its provider."""
    try:
        body = _decode(call.raw)
    except (msgspec.DecodeError, RecursionError):
        return None  # who can read it will say so; we cannot
    if not isinstance(body, dict):
        return None
    for field in _STATEFUL:
        if body.get(field):
            return None
    temperature = _temperature_of(body)
    for field in _HOW | ignore:
        body.pop(field, None)
    for field, value in body.items():
        if type(value) is float and value.is_integer():
            body[field] = int(value)
    shaping = _shaping(headers)
    try:
        text = _encode([call.dialect, shaping, body])
    except (UnicodeEncodeError, RecursionError):
        return None
    return CanonicalCall(text, temperature)


def _shaping(headers: Headers) -> list[tuple[str, str]]:
    found = [pair for pair in headers if pair[0] in SHAPING_HEADERS]
    found.sort()
    return found


def _temperature_of(body: Mapping[str, object]) -> float | None:
    found = body.get("temperature")
    if found is None:
        # Google's formats keep it one level down, in either spelling.
        for field in ("generationConfig", "generation_config"):
            inner = body.get(field)
            if isinstance(inner, dict) and inner.get("temperature") is not None:
                found = inner["temperature"]
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


# --- the conversation in our own nouns


def of_chat(chat: Chat, headers: Headers, ignore: frozenset[str] = frozenset()) -> CanonicalCall | None:
    """Equal for calls of any dialects that say the same. What only the caller's dialect knows (extras, opaque parts,
    its headers) ties the key to that dialect."""
    if chat.needed or any(chat.extras.get(field) for field in _STATEFUL):
        return None
    fields: dict[str, object] = {}
    bound: list[str] = []
    for field in _names(type(chat)):
        value = getattr(chat, field)
        if field in _HOW_OF_CHAT or field in ignore or (not value and value not in (0, False)):
            continue
        if field == "extras":
            # A null is as good as no field; it may also be a dialect's note to itself.
            value = {k: v for k, v in value.items() if k not in ignore and v is not None}
            if not value:
                continue
            bound.append("extras")
        fields[field] = _canonical(value, bound)
    # Anthropic's own clients always name a version: what of it changes a reply, the nouns do not hold.
    shaping = [pair for pair in _shaping(headers) if pair[0] != "anthropic-version"]
    tied = chat.dialect if bound or shaping else None
    try:
        text = _encode([tied, shaping, fields])
    except (UnicodeEncodeError, RecursionError):
        return None
    return CanonicalCall(text, chat.temperature)


def _canonical(value: object, bound: list[str]) -> object:
    """Values as JSON, with the name of each noun: a Text is never equal to a Refusal of the same words. `bound` grows
    where something belongs to one dialect."""
    if isinstance(value, Opaque):
        bound.append(value.dialect)
    if dataclasses.is_dataclass(value):
        found: dict[str, object] = {}
        for field in _names(cast("type[Any]", type(value))):
            inner = getattr(value, field)
            if inner is None or (not inner and field == "extras"):
                continue
            if field == "extras":
                bound.append("extras")
            found[field] = _canonical(inner, bound)
        return [type(value).__name__, found]
    if isinstance(value, Mapping):
        return {name: _canonical(inner, bound) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner, bound) for inner in value]
    return int(value) if type(value) is float and value.is_integer() else value


def _names(noun: type[Any]) -> tuple[str, ...]:
    known = _NAMES.get(noun)
    if known is None:
        known = _NAMES[noun] = tuple(field.name for field in dataclasses.fields(noun) if field.compare)
    return known


_NAMES: dict[type[Any], tuple[str, ...]] = {}
"""The fields of our nouns by which they differ."""
