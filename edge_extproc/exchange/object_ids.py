"""Finds the ids of objects that a provider stores: those that a request names, and those that a reply makes.

A request is searched at any depth and with all members of an object, because a provider may read a field that no
dialect here knows, or the first of two members of one name. A reply is read only where providers write ids: its other
parts can contain text of the caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from ..codecs import multipart
from ..codecs.content_type import media_type
from ..codecs.frame import Frame
from ..codecs.json_values import UNREADABLE, decode_reply
from ..dialects.stored_ids import ENDS, MARKS, ids_made
from ..errors import BadRequest
from ..model.call import Call
from ..model.frozen_dataclass import frozen_dataclass
from ..model.stored_objects import (
    FIELDS,
    NESTED_REQUESTS,
    OPAQUE,
    OWN_PREFIXES,
    REFERENCE_LISTS,
    RESOURCE_FIELDS,
    resource_name,
)
from ..model.wire_names import WireNames

# A name in JSON may be written with escapes.
_ESCAPE = b"\\u00"
_ID = b'"id"'
_BACKSLASH = ord("\\")
_JSONL_LINE = re.compile(rb"^[ \t]*\{.*$", re.MULTILINE)
# Ids in one request. Each is a lookup in the store.
_MOST_IDS = 10_000


@frozen_dataclass
class NamedObject:
    """One object that a request names."""

    id: str
    param: str
    """The field that names it."""
    is_reference: bool = False
    """It is named by a whole item, which only a provider of the caller's format can read."""


class _Members(list[tuple[str, Any]]):
    """An object of JSON with all its members."""


def _untyped_ids(item: object) -> Iterator[str]:
    """The ids of an item that may be read as one without a type and a role: OpenAI reads it as a reference. Of several
    members of one name, a provider may read any."""
    if not isinstance(item, _Members):
        return
    types = [value for key, value in item if key == "type"]
    has_type = bool(types) and all(isinstance(value, str) for value in types)
    if not has_type and not any(key == "role" for key, _ in item):
        yield from (value for key, value in item if key == "id" and isinstance(value, str) and value)


@dataclass(frozen=True, slots=True)
class IdSearch:
    """The fields to search requests for."""

    owned: frozenset[str]
    objects: frozenset[str]
    resources: frozenset[str]
    references: frozenset[str]
    lists: frozenset[str]
    """Fields of a request in whose lists an object without a type refers to an item."""
    data: frozenset[str]
    """Fields below the top level whose objects are data of tools."""
    stems: tuple[bytes, ...] = field(init=False)
    """A body without any of these byte strings names no object."""
    key: re.Pattern[bytes] = field(init=False)
    """The quote and one of the names. A lookbehind for the character before it would take ten times as long."""
    untyped: re.Pattern[bytes] = field(init=False)
    """The beginning of one of the lists."""

    def __post_init__(self) -> None:
        names = sorted({*self.owned, *self.resources, *self.references, *self.objects}, key=len)
        stems: list[str] = []
        for name in names:
            if not name.startswith(tuple(stems)):
                stems.append(name)
        object.__setattr__(self, "stems", tuple(f'"{stem}'.encode() for stem in stems))
        object.__setattr__(self, "key", re.compile(b'"(?:' + "|".join(stems).encode() + b")"))
        lists = "|".join(sorted(self.lists)).encode()
        object.__setattr__(self, "untyped", re.compile(rb'"(?:' + lists + rb')"\s*:\s*\[' if lists else rb"(?!)"))

    @classmethod
    def of_chats(cls, names: WireNames) -> IdSearch:
        """`names`: those of all dialects, because many hosts read the fields of another format."""
        return cls(
            names.owned,
            names.owned_objects,
            names.resources,
            names.reference_types,
            names.reference_lists,
            names.tool_data,
        )

    @classmethod
    def of_passed(cls, names: WireNames) -> IdSearch:
        """For paths that are passed on: batches, fine-tuning jobs, vector stores."""
        chats = cls.of_chats(names)
        return replace(
            chats,
            owned=chats.owned | FIELDS,
            resources=chats.resources | RESOURCE_FIELDS,
            lists=chats.lists | REFERENCE_LISTS,
        )

    def ids_in(self, call: Call, path: str) -> list[NamedObject]:
        """The objects that a request names in its body and its query. `path` includes the query. Raises BadRequest if
        there are too many, or if a form cannot be read."""
        query = path.partition("?")[2]
        found = [each for key, value in parse_qsl(query) for each in self._named(key, value)] if query else []
        is_form = media_type(call.content_type) == "multipart/form-data"
        if is_form or self._may_name(call.raw):
            found += self._in_form(call) if is_form else self._in_json(call.raw)
        if len(found) > _MOST_IDS:
            raise BadRequest(f"the request names {len(found)} stored objects, and at most {_MOST_IDS} are allowed")
        return list(dict.fromkeys(found))

    def _may_name(self, raw: bytes) -> bool:
        """Whether a JSON text may have one of the fields. It is fast, because nearly all bodies have none."""
        if _ESCAPE in raw or (_ID in raw and self.untyped.search(raw) is not None):
            return True
        if not any(stem in raw for stem in self.stems):
            return False
        # Within the text of a string, a quote is escaped.
        return any(raw[match.start() - 1] != _BACKSLASH for match in self.key.finditer(raw))

    def _in_form(self, call: Call) -> Iterator[NamedObject]:
        names = self.owned | self.resources
        try:
            spans = multipart.fields(call.raw, call.content_type, names | {f"{name}[]" for name in names})
        except ValueError as exc:
            raise BadRequest(f"the form cannot be read: {exc}") from None
        for name, (start, stop) in spans.items():
            yield from self._named(name.removesuffix("[]"), call.raw[start:stop].decode("utf-8", "replace"))
        # The requests of a batch are lines of an uploaded file.
        for line in _JSONL_LINE.finditer(call.raw):
            if self._may_name(line[0]):
                yield from self._in_json(line[0])

    def _in_json(self, raw: bytes) -> Iterator[NamedObject]:
        try:
            body = json.loads(raw, object_pairs_hook=_Members)
        except UNREADABLE:  # not JSON: content of a file
            return
        yield from self._search(body)

    def _search(self, body: object) -> Iterator[NamedObject]:
        pending: list[tuple[Any, bool]] = [(body, True)]
        while pending:
            value, is_request = pending.pop()
            if isinstance(value, _Members):
                if any(key == "type" and isinstance(v, str) and v in self.references for key, v in value):
                    ids = (v for key, v in value if key == "id" and isinstance(v, str) and v)
                    yield from (NamedObject(id, "id", is_reference=True) for id in ids)
                for key, inner in value:
                    yield from self._named(key, inner)
                    if is_request and key in self.lists and isinstance(inner, list):
                        yield from (NamedObject(id, "id") for item in inner for id in _untyped_ids(item))
                    if key in OPAQUE or isinstance(inner, str) or (key in self.data and not is_request):
                        continue
                    pending.append((inner, key in NESTED_REQUESTS))
            elif isinstance(value, list):
                pending.extend((inner, False) for inner in value)

    def _named(self, key: str, value: object) -> Iterator[NamedObject]:
        """The objects that one field names."""
        values = value if isinstance(value, list) and not isinstance(value, _Members) else [value]
        if key in self.resources:
            names = (resource_name(each) for each in values if isinstance(each, str))
            yield from (NamedObject(name, key) for name in names if name is not None)
        elif key in self.owned or key in self.objects:
            for each in values:
                if isinstance(each, _Members):
                    yield from (NamedObject(v, f"{key}.id") for k, v in each if k == "id" and isinstance(v, str) and v)
                elif (
                    isinstance(each, str) and each and key in self.owned and each.startswith(OWN_PREFIXES.get(key, ""))
                ):
                    yield NamedObject(each, key)


# --- replies


def _has(raw: bytes, fields: frozenset[str], value: bytes) -> bool:
    """Whether one of the fields has this value."""
    return any(re.search(rb'"%s"\s*:\s*%s' % (name.encode(), value), raw) for name in fields)


def stores_reply(call: Call, names: WireNames) -> bool:
    """Whether a chat asks the provider to store its reply. It searches the body. `names`: those of the caller's
    dialect, which is also the provider's."""
    by_default = bool(names.stored_unless) and not _has(call.raw, names.stored_unless, b"false")
    return by_default or _has(call.raw, names.stored_if, b"true")


class ReplyIds:
    """Collects the ids that a chat's reply makes, in `new`, until they are taken from there."""

    __slots__ = ("_seen", "_stored", "new")

    def __init__(self, *, stored: bool) -> None:
        """`stored`: what `stores_reply` says of the call."""
        self._stored = stored
        self._seen: set[str] = set()
        self.new: list[str] = []

    def watch(self, frame: Frame) -> None:
        """Reads one event of a stream that is not only text."""
        data = frame.data
        wants_id = self._stored and (not self._seen or any(end in data for end in ENDS))
        if wants_id or any(mark in data for mark in MARKS):
            self._read(data)

    def whole(self, body: bytes) -> None:
        """Reads a complete reply."""
        if self._stored or any(mark in body for mark in MARKS):
            self._read(body)

    def _read(self, data: bytes) -> None:
        try:
            value = decode_reply(data)
        except UNREADABLE:
            return
        reply = value.get("response", value) if isinstance(value, dict) else None
        for id in ids_made(reply, stored=self._stored):
            if id not in self._seen:
                self._seen.add(id)
                self.new.append(id)
