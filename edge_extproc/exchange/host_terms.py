"""Reads what a request asks of its host beside the call itself: further models, and a service tier with other prices.

Some hosts route: the body of a call can name models that they use in place of the first (OpenRouter's `models`,
LiteLLM's `fallbacks`). Such a model must be one that the caller may use, and it is priced. The fields of all dialects
are searched, because a host may read the fields of several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import msgspec

from ..codecs.json_values import UNREADABLE
from ..errors import BadRequest
from ..model.call import Call
from ..model.content import Json
from ..model.wire_names import WireNames

# Only the body of these is read by a host as a call of a model.
_READ = frozenset({"chat", "completions", "embeddings"})
_NOTHING: Mapping[str, Json] = MappingProxyType({})
# Hosts take fewer: OpenRouter three.
_MOST_MODELS = 32


@dataclass(frozen=True, slots=True)
class HostTermsSearch:
    """Finds the fields. Made once for a gateway."""

    names: WireNames
    keys: tuple[str, ...]
    decoder: msgspec.json.Decoder[Any]
    """Decodes the fields, and skips the others: a millisecond for half a megabyte."""
    nothing: object
    """What it decodes from a body without any of them."""

    @classmethod
    def of(cls, names: WireNames) -> HostTermsSearch:
        keys = tuple(sorted(names.other_models | names.router_modes | names.tiers | names.router_settings))
        fields = [(f"field_{n}", Any, msgspec.field(default=None, name=key)) for n, key in enumerate(keys)]
        kind = msgspec.defstruct("HostTerms", fields)
        return cls(names, keys, msgspec.json.Decoder(kind), kind())

    def fields(self, raw: bytes) -> Mapping[str, Json]:
        """Those of the fields that a body has. Empty if it cannot be read: the dialect has refused it then."""
        try:
            found = self.decoder.decode(raw)
        except UNREADABLE:
            return _NOTHING
        if found == self.nothing:
            return _NOTHING
        values = msgspec.structs.astuple(found)
        return {key: value for key, value in zip(self.keys, values, strict=True) if value is not None}


def with_host_terms(call: Call, search: HostTermsSearch) -> Call:
    """The call with what its body says of further models and tiers. Raises BadRequest for models that cannot be
    read."""
    body = search.fields(call.raw) if call.operation in _READ else {}
    if not body:
        return call
    names = search.names
    models: dict[str, None] = {}
    for field, value in _fields(body, names, names.other_models):
        models.update(dict.fromkeys(_models(value, field)))
    for field in names.router_modes & body.keys():
        if not models:
            raise BadRequest(f"{field} has the host choose a model, and the request names none", param=field)
    if len(models) > _MOST_MODELS:
        raise BadRequest(f"this request names {len(models)} further models; at most {_MOST_MODELS} are allowed")
    tiers = {field: tier for field in names.tiers & body.keys() for tier in _tiers(body[field])}
    models.pop(call.model, None)
    return replace(call, other_models=tuple(models), tiers=tiers) if models or tiers else call


def _fields(settings: Mapping[str, Json], names: WireNames, selected: frozenset[str]) -> Iterator[tuple[str, Json]]:
    for key, value in settings.items():
        if key in selected:
            yield key, value
        elif key in names.router_settings and isinstance(value, dict):
            yield from _fields(value, names, selected)


def _models(value: Json, field: str) -> Iterator[str]:
    """The names in one of the forms that hosts take: a name, a list of names, of objects with a `model`, or of objects
    from a name to a list of names."""
    match value:
        case None:
            return
        case str():
            yield value
        case list():
            for each in value:
                yield from _models(each, field)
        case {"model": str(name)}:
            yield name
        case dict() if "model" not in value:
            for each in value.values():
                yield from _models(each, field)
        case _:
            raise BadRequest(f"{field} must be a list of names of models", param=field)


def _tiers(value: Json) -> Iterator[str]:
    """A value, or those in an object such as Amazon's {"type": "priority"}."""
    if isinstance(value, str):
        yield value.lower()
    elif isinstance(value, dict):
        yield from (each.lower() for each in value.values() if isinstance(each, str))
