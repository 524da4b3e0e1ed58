"""Stored responses and conversations: the context of a request, the record of a response, and their API.

The functions are generators of store steps (`conversations.base.StoreSteps`), so they do no IO.

A record of a response has one block: the response, the items of its request, and the ids of the responses before it. So
a conversation of many turns is stored once, and two reads get all of it. A record of a conversation is a log: its first
block is the object, the next blocks are added items or new metadata.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, decode, encode, text_of
from ...codecs.sse import SseDecoder
from ...conversations.base import Append, Blocks, Delete, Read, StoreSteps, Write
from ...errors import BadRequest, NoSuchContext, NotStored, UpstreamError, WrongMethod
from ...model.call import Call, StoredCall
from ...model.content import Json
from ..base import Route, made_id
from ..history import array
from .fields import Item
from .tools import has_own_tools

# --- ids

_DIGITS = 28
_OWN_ID = re.compile(r"(?:resp|conv)_[0-9a-f]{28}")
# The id of an item of a stored response: the digits of the response, and the position of the item.
_OWN_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{28})[0-9a-f]{4}")
_LEGAL_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CONVERSATION = "conv_"


def _own_id(prefix: str, seed: str) -> str:
    return prefix + hashlib.sha256(seed.encode()).hexdigest()[:_DIGITS]


def stored_item_id(prefix: str, response_id: str, position: int) -> str | None:
    """The id of an output item of a stored response. None: the response has no id of the gateway."""
    return f"{prefix}{response_id[-_DIGITS:]}{position:04x}" if _OWN_ID.fullmatch(response_id) else None


# --- records


class _Record(msgspec.Struct):
    """A block of a stored response."""

    response: msgspec.Raw
    input: list[msgspec.Raw]
    chain: tuple[str, ...] = ()


class _Entry(msgspec.Struct, omit_defaults=True):
    """A block of a conversation. Each field that is set applies."""

    object: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()
    items: list[msgspec.Raw] = []


class _Response(msgspec.Struct):
    id: str
    output: list[msgspec.Raw]
    status: Any = None


class _OutputItem(msgspec.Struct):
    type: Any = None
    id: Any = None
    status: Any = None


_record = msgspec.json.Decoder(_Record)
_entry = msgspec.json.Decoder(_Entry)
_response = msgspec.json.Decoder(_Response)
_item = msgspec.json.Decoder(_OutputItem)
_rows = msgspec.json.Decoder(list[msgspec.Raw])
_write = msgspec.json.Encoder().encode


def _context(record: _Record) -> Iterator[bytes]:
    """The items of a response and of its request. A call that was cut off is left out: it has no result."""
    yield from map(bytes, record.input)
    for row in _response.decode(record.response).output:
        item = _item.decode(row)
        if item.status != "incomplete" or item.type in ("message", "reasoning"):
            yield bytes(row)


def _entries(blocks: Blocks) -> list[_Entry]:
    return [_entry.decode(block) for block in blocks]


# --- the context of a request


class _Body(msgspec.Struct):
    previous_response_id: Any = None
    conversation: Any = None
    store: Any = None
    input: msgspec.Raw = msgspec.Raw(b"null")


_body = msgspec.json.Decoder(_Body)


def add_context(call: Call, seed: str) -> StoreSteps[Call]:
    """The call with the stored items that it refers to in its body. `seed`: unguessable and new each time; the id of
    the reply is made of it. Raises NoSuchContext or NotStored for an id of the gateway that is not stored. Any other
    unknown id stays in the body, for a provider that knows it."""
    body = _body.decode(call.raw)
    previous, conversation = _references(body)
    own = _own_items(body.input)
    stored = StoredCall(_own_id("resp_", seed), body.store is not False, array(own))
    context: list[bytes] = []
    if previous is not None:
        found = yield from _responses((previous,), previous)
        if found is None:
            return replace(call, stored=stored)
        before = yield from _responses(found[0].chain, previous)
        for record in (*(before or ()), *found):
            context += _context(record)
        stored = replace(stored, previous=previous, chain=(*found[0].chain, previous))
    if conversation is not None:
        (blocks,) = yield Read((conversation,))
        if blocks is None and _OWN_ID.fullmatch(conversation):
            raise NotStored(f"Conversation with id {conversation!r} not found.", param="conversation")
        if blocks is None:
            return replace(call, stored=stored)
        context += [bytes(item) for entry in _entries(blocks) for item in entry.items]
        stored = replace(stored, conversation=conversation)
    resolved = (yield from _resolved(own)) if b"item_reference" in call.raw else own
    if not stored.has_context and resolved is own:
        return replace(call, stored=stored)
    changes: dict[str, json_splice.Change] = {"previous_response_id": None, "conversation": None}
    try:
        raw = json_splice.splice(call.raw, {**changes, "input": array([*context, *resolved])})
    except ValueError as error:
        raise BadRequest(f"the body cannot be read: {error}") from error
    return replace(call, raw=raw, has_own_tools=has_own_tools(raw), stored=replace(stored, input=array(resolved)))


def _references(body: _Body) -> tuple[str | None, str | None]:
    """The ids of the previous response and of the conversation."""
    previous = body.previous_response_id
    conversation = body.conversation
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    for name, id in (("previous_response_id", previous), ("conversation", conversation)):
        if id is not None and not (isinstance(id, str) and _LEGAL_ID.fullmatch(id)):
            raise BadRequest(f"{name} is not an id", param=name)
    if previous is not None and conversation is not None:
        raise BadRequest(
            "previous_response_id and conversation exclude each other; send one of them", param="previous_response_id"
        )
    return previous, conversation


def _responses(ids: tuple[str, ...], asked: str) -> StoreSteps[list[_Record] | None]:
    """The records. None: no gateway has made the only id. Raises NoSuchContext if a record is not there. `asked`: the
    id that the caller gave."""
    blocks = yield Read(ids)
    if None not in blocks:
        return [_record.decode(each[0]) for each in blocks]
    if ids == (asked,) and not _OWN_ID.fullmatch(asked):
        return None
    lost = "" if ids == (asked,) else " completely: an earlier response of its conversation has expired or was deleted"
    raise NoSuchContext(f"Previous response with id {asked!r} not found{lost}.", param="previous_response_id")


def _own_items(input: msgspec.Raw) -> list[bytes]:
    """The items of a request. A reader of the request reports an input that is no text and no list."""
    value = bytes(input)
    if value[:1] == b"[":
        return [bytes(row) for row in _rows.decode(value)]
    if value[:1] != b'"':
        return []
    text = decode(value)
    return [encode({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})]


def _resolved(rows: list[bytes]) -> StoreSteps[list[bytes]]:
    """The items with the stored ones in place of references to them. The same list if there is no such reference."""
    ids: dict[int, str] = {}
    for i, row in enumerate(rows):
        item = decode(row)
        if isinstance(item, dict) and item.get("type") in ("item_reference", None) and "role" not in item:
            id = text_of(item.get("id")) or ""
            if _OWN_ITEM_ID.fullmatch(id):
                ids[i] = id
    if not ids:
        return rows
    responses = sorted({_response_of(id) for id in ids.values()})
    blocks = yield Read(tuple(responses))
    items: dict[str, bytes] = {}
    for each in blocks:
        for row in _context(_record.decode(each[0])) if each is not None else ():
            items[str(_item.decode(row).id)] = row
    for i, id in ids.items():
        if id not in items:
            raise BadRequest(f"Item with id {id!r} not found.", param=f"input[{i}].id")
    return [items[ids[i]] if i in ids else row for i, row in enumerate(rows)]


def _response_of(item_id: str) -> str:
    match = _OWN_ITEM_ID.fullmatch(item_id)
    return f"resp_{match[1]}" if match is not None else ""


# --- the record of a reply

_STORED_STATUSES = ("completed", "incomplete")
_LAST_EVENTS = ("response.completed", "response.incomplete")


class _LastEvent(msgspec.Struct):
    type: str
    response: msgspec.Raw


_last_event = msgspec.json.Decoder(_LastEvent)


class ResponseListener:
    """Finds the complete response in the bytes that go to the caller of `call`: a body, or the last event of a stream.
    A stream that breaks off has none."""

    def __init__(self, call: Call) -> None:
        self._events = SseDecoder() if call.stream else None
        self._is_lost = False

    def feed(self, data: bytes) -> bytes | None:
        """The response, as soon as it is complete."""
        if self._events is None:
            return data or None
        if self._is_lost:
            return None
        try:
            frames = self._events.feed(data)
        except UpstreamError:  # one event is too long; the caller gets it all the same
            self._is_lost = True
            return None
        for frame in frames:
            if frame.event in _LAST_EVENTS or any(name.encode() in frame.data[:200] for name in _LAST_EVENTS):
                try:
                    event = _last_event.decode(frame.data)
                except UNREADABLE:
                    continue
                if event.type in _LAST_EVENTS:
                    return bytes(event.response)
        return None


def store_reply(call: Call, body: bytes) -> StoreSteps[None]:
    """Stores the response, and adds it to its conversation. An error is not stored, nor a response in progress."""
    stored = call.stored
    try:
        response = _response.decode(body)
    except UNREADABLE:
        return
    if stored is None or response.status not in _STORED_STATUSES or not _LEGAL_ID.fullmatch(response.id):
        return
    record = _Record(msgspec.Raw(body), _rows.decode(stored.input), stored.chain)
    if stored.keeps:
        yield Write(response.id, _write(record))
    if stored.conversation is not None:
        items = [msgspec.Raw(row) for row in _context(record)]
        yield Append(stored.conversation, _write(_Entry(items=items)))


# --- the API of stored objects

ROUTES = (
    Route("GET", "/v1/responses/{id}", "stored"),
    Route("DELETE", "/v1/responses/{id}", "stored"),
    Route("GET", "/v1/responses/{id}/input_items", "stored"),
    Route("POST", "/v1/conversations", "stored"),
    Route("GET", "/v1/conversations/{id}", "stored"),
    Route("POST", "/v1/conversations/{id}", "stored"),
    Route("DELETE", "/v1/conversations/{id}", "stored"),
    Route("GET", "/v1/conversations/{id}/items", "stored"),
    Route("POST", "/v1/conversations/{id}/items", "stored"),
    Route("GET", "/v1/conversations/{id}/items/{item}", "stored"),
)
# OpenAI: at most 20 items in one request to create or extend a conversation; at most 16 pairs of metadata.
_MAX_ITEMS, _MAX_METADATA = 20, 16
_PAGE, _MAX_PAGE = 20, 100
_PREFIXES: Mapping[str, str] = MappingProxyType(
    {
        "function_call": "fc_",
        "function_call_output": "fco_",
        "custom_tool_call": "ctc_",
        "custom_tool_call_output": "ctco_",
        "reasoning": "rs_",
    }
)


def is_own_object(path: str) -> bool:
    """Whether a path names a stored object of the gateway, or creates one. A path may also name one that a provider
    stores, if the configuration passes such paths on."""
    parts = path.strip("/").split("/")
    return len(parts) == 2 or _OWN_ID.fullmatch(parts[2]) is not None


def serve_stored(method: str, path: str, query: str, body: bytes, seed: str, now: int) -> StoreSteps[bytes]:
    """The JSON answer to a request of a path in `ROUTES`. `now`: Unix time."""
    parts = path.strip("/").split("/")[1:]
    id = parts[1] if len(parts) > 1 else ""
    is_of_kind = id.startswith(_CONVERSATION) == (parts[0] == "conversations")
    if id and not (is_of_kind and _LEGAL_ID.fullmatch(id)):
        raise _missing(id)
    match method, parts[0], parts[2:]:
        case "POST", "conversations", [] if not id:
            return (yield from _create(body, seed, now))
        case "DELETE", kind, []:
            if not (yield Delete(id)):
                raise _missing(id)
            of_kind = "response" if kind == "responses" else "conversation.deleted"
            return encode({"id": id, "object": of_kind, "deleted": True})
        case "POST", "conversations", []:
            return (yield from _change_metadata(id, body))
        case "POST", "conversations", ["items"]:
            return (yield from _add_items(id, body))
        case (("GET" | "HEAD"), "responses", rest):
            record = yield from _one_response(id)
            if rest:
                return encode(_page(_with_ids(id, record.input), query))
            if "true" in parse_qs(query).get("stream", ()):
                raise BadRequest("a stored response cannot be streamed again; get it without stream", param="stream")
            return bytes(record.response)
        case (("GET" | "HEAD"), "conversations", rest):
            entries = yield from _one_conversation(id)
            if not rest:
                return encode(_object_of(entries))
            items = _items_of(id, entries)
            if len(rest) == 1:
                return encode(_page(items, query))
            found = [item for item in items if item.get("id") == rest[1]]
            if not found:
                raise NotStored(f"Item with id {rest[1]!r} not found.")
            return encode(found[0])
    raise WrongMethod(f"{method} is not a method of {path}")


def _missing(id: str) -> NotStored:
    kind = "Conversation" if id.startswith(_CONVERSATION) else "Response"
    return NotStored(f"{kind} with id {id!r} not found.")


def _one_response(id: str) -> StoreSteps[_Record]:
    (blocks,) = yield Read((id,))
    if blocks is None:
        raise _missing(id)
    return _record.decode(blocks[0])


def _one_conversation(id: str) -> StoreSteps[list[_Entry]]:
    (blocks,) = yield Read((id,))
    if blocks is None:
        raise _missing(id)
    return _entries(blocks)


def _create(body: bytes, seed: str, now: int) -> StoreSteps[bytes]:
    request, id = _object_in(body), _own_id(_CONVERSATION, seed)
    created: Item = {"id": id, "object": "conversation", "created_at": now, "metadata": _metadata(request)}
    items = _new_items(request) if request.get("items") is not None else []
    yield Write(id, _write(_Entry(msgspec.Raw(encode(created)), items=items)))
    return encode(created)


def _change_metadata(id: str, body: bytes) -> StoreSteps[bytes]:
    entries = yield from _one_conversation(id)
    change = _Entry(metadata=msgspec.Raw(encode(_metadata(_object_in(body)))))
    if not (yield Append(id, _write(change))):
        raise _missing(id)
    return encode(_object_of([*entries, change]))


def _add_items(id: str, body: bytes) -> StoreSteps[bytes]:
    items = _new_items(_object_in(body))
    before = yield from _one_conversation(id)
    added = _Entry(items=items)
    if not (yield Append(id, _write(added))):
        raise _missing(id)
    rows = _items_of(id, [*before, added])
    return encode(_list(rows[len(rows) - len(items) :], has_more=False))


def _object_of(entries: Sequence[_Entry]) -> Item:
    value = decode(bytes(entries[0].object))
    created = dict(value) if isinstance(value, dict) else {}
    for entry in entries:
        if bytes(entry.metadata):
            created["metadata"] = decode(bytes(entry.metadata))
    return created


def _object_in(body: bytes) -> Item:
    try:
        value = decode(body) if body.strip() else {}
    except UNREADABLE:
        value = None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    return value


def _metadata(request: Item) -> Item:
    value = request.get("metadata")
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > _MAX_METADATA or not all(isinstance(v, str) for v in value.values()):
        raise BadRequest(f"metadata must be an object of at most {_MAX_METADATA} texts", param="metadata")
    return value


def _new_items(request: Item) -> list[msgspec.Raw]:
    items = request.get("items")
    if not isinstance(items, list) or len(items) > _MAX_ITEMS or not all(isinstance(item, dict) for item in items):
        raise BadRequest(f"items must be a list of at most {_MAX_ITEMS} objects", param="items")
    return [msgspec.Raw(encode(item)) for item in items]


def _items_of(id: str, entries: Iterable[_Entry]) -> list[Item]:
    return _with_ids(id, [item for entry in entries for item in entry.items])


def _with_ids(of: str, rows: Sequence[msgspec.Raw]) -> list[Item]:
    """The items for a list. One that came without an id gets one, the same each time, and one without a type is a
    message."""
    items: list[Item] = []
    for i, row in enumerate(rows):
        item = decode(bytes(row))
        if isinstance(item, dict):
            kind = text_of(item.get("type")) or "message"
            content = item.get("content")
            if kind == "message" and isinstance(content, str):
                part = "output_text" if item.get("role") == "assistant" else "input_text"
                item = {**item, "content": [{"type": part, "text": content}]}
            items.append({"id": made_id(_PREFIXES.get(kind, "msg_"), 32, of, i), "type": kind, **item})
    return items


def _page(items: list[Item], query: str) -> Item:
    values = {name: each[-1] for name, each in parse_qs(query).items()}
    try:
        limit = int(values.get("limit", _PAGE))
    except ValueError:
        limit = 0
    if not 1 <= limit <= _MAX_PAGE:
        raise BadRequest(f"limit must be a number from 1 to {_MAX_PAGE}", param="limit")
    order = values.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest("order must be asc or desc", param="order")
    rows = items if order == "asc" else items[::-1]
    if "after" in values:
        at = [i for i, item in enumerate(rows) if item["id"] == values["after"]]
        if not at:
            raise BadRequest(f"there is no item {values['after']!r} in this list", param="after")
        rows = rows[at[0] + 1 :]
    return _list(rows[:limit], has_more=len(rows) > limit)


def _list(rows: list[Item], *, has_more: bool) -> Item:
    ids: list[Json] = [item["id"] for item in rows] or [None]
    return {"object": "list", "data": rows, "first_id": ids[0], "last_id": ids[-1], "has_more": has_more}
