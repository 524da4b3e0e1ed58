"""Stored responses and conversations: the context of a request, and the record of a response. Their API is in
stored_api.py.

The functions are generators of store steps (`conversations.base.StoreSteps`), so they do no IO.

A record of a response has one block: the response, the items of its request, and the ids of the responses before it. So
a conversation of many turns is stored once, and two reads get all of it. A record of a conversation is a log: its first
block is the object, the next blocks are added items or new metadata. A deleted item leaves a null in its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, decode, encode, text_of
from ...codecs.sse import SseDecoder
from ...conversations.base import Append, Blocks, Read, StoreSteps, Write
from ...errors import BadRequest, NoSuchContext, NotStored, UpstreamError
from ...model.call import Call, StoredCall
from ..base import CompleteReply
from ..history import array
from .tools import has_own_tools

# --- ids

_DIGITS = 28
OWN_ID = re.compile(r"(?:resp|conv)_[0-9a-f]{28}")
# The id of an item of a stored response: the digits of the response, and the position of the item.
_OWN_ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{28})[0-9a-f]{4}")
# A reference to such an item, which needs no type.
_UNTYPED_REFERENCE = re.compile(
    rb'\{\s*(?:"type"\s*:\s*null\s*,\s*)?"id"\s*:\s*"[a-z]+_[0-9a-f]{32}"\s*(?:,\s*"type"\s*:\s*null\s*)?\}'
)
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
CONVERSATION_PREFIX = "conv_"


def own_id(prefix: str, seed: str) -> str:
    return prefix + hashlib.sha256(seed.encode()).hexdigest()[:_DIGITS]


def stored_item_id(prefix: str, response_id: str, position: int) -> str | None:
    """The id of an output item of a stored response. None: the response has no id of the gateway."""
    return f"{prefix}{response_id[-_DIGITS:]}{position:04x}" if OWN_ID.fullmatch(response_id) else None


# --- records


class ResponseRecord(msgspec.Struct, omit_defaults=True):
    """A block of a stored response."""

    response: msgspec.Raw
    input: list[msgspec.Raw]
    chain: tuple[str, ...] = ()
    events: msgspec.Raw = msgspec.Raw(b"[]")
    """The order of the events of its stream (`EventRun`). Empty: it was no stream, or its numbers are not those of its
    events."""


class EventRun(msgspec.Struct, array_like=True):
    """Events of a stream: one, or deltas of one text."""

    type: str
    output: int
    """The index of its item. -1: it has none."""
    deltas: list[int]
    """The characters of each delta. Empty: the event is none."""


class ConversationEntry(msgspec.Struct, omit_defaults=True):
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


read_record = msgspec.json.Decoder(ResponseRecord).decode
_entry = msgspec.json.Decoder(ConversationEntry)
_response = msgspec.json.Decoder(_Response)
_item = msgspec.json.Decoder(_OutputItem)
DELETED = b"null"
"""In place of a deleted item of a conversation. So the positions of the others, of which ids are made, stay."""
_rows = msgspec.json.Decoder(list[msgspec.Raw])
write_block = msgspec.json.Encoder().encode


def _context(record: ResponseRecord) -> Iterator[bytes]:
    """The items of a response and of its request. A call that was cut off is left out: it has no result."""
    yield from map(bytes, record.input)
    for row in _response.decode(record.response).output:
        item = _item.decode(row)
        if item.status != "incomplete" or item.type in ("message", "reasoning"):
            yield bytes(row)


def entries_of(blocks: Blocks) -> list[ConversationEntry]:
    return [_entry.decode(block) for block in blocks]


# --- the context of a request


class _Body(msgspec.Struct):
    previous_response_id: Any = None
    conversation: Any = None
    store: Any = None
    background: Any = None
    input: msgspec.Raw = msgspec.Raw(b"null")


_body = msgspec.json.Decoder(_Body)


def add_context(call: Call, seed: str) -> StoreSteps[Call]:
    """The call with the stored items that it refers to in its body. `seed`: unguessable and new each time; the id of
    the reply is made of it. Raises NoSuchContext or NotStored for an id of the gateway that is not stored. Any other
    unknown id stays in the body, for a provider that knows it."""
    body = _body.decode(call.raw)
    previous, conversation = _references(body)
    own = _own_items(body.input)
    stored = StoredCall(own_id("resp_", seed), body.store is not False, array(own))
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
        if blocks is None and OWN_ID.fullmatch(conversation):
            raise NotStored(f"Conversation with id {conversation!r} not found.", param="conversation")
        if blocks is None:
            return replace(call, stored=stored)
        if body.background:
            raise BadRequest(
                "background does not go with a conversation that this gateway stores: the reply could not be added to "
                "it; send one of them",
                param="background",
            )
        context += [bytes(item) for entry in entries_of(blocks) for item in entry.items if bytes(item) != DELETED]
        stored = replace(stored, conversation=conversation)
    may_refer = b"item_reference" in call.raw or _UNTYPED_REFERENCE.search(call.raw) is not None
    resolved = (yield from _resolved(own)) if may_refer else own
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
        if id is not None and not (isinstance(id, str) and LEGAL_ID.fullmatch(id)):
            raise BadRequest(f"{name} is not an id", param=name)
    if previous is not None and conversation is not None:
        raise BadRequest(
            "previous_response_id and conversation exclude each other; send one of them", param="previous_response_id"
        )
    return previous, conversation


def _responses(ids: tuple[str, ...], requested: str) -> StoreSteps[list[ResponseRecord] | None]:
    """The records. None: no gateway has made the only id. Raises NoSuchContext if a record is not there.
    `requested`: the id that the caller gave."""
    blocks = yield Read(ids)
    if None not in blocks:
        return [read_record(each[0]) for each in blocks]
    if ids == (requested,) and not OWN_ID.fullmatch(requested):
        return None
    incomplete = (
        "" if ids == (requested,) else " completely: an earlier response of its conversation has expired or was deleted"
    )
    raise NoSuchContext(f"Previous response with id {requested!r} not found{incomplete}.", param="previous_response_id")


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
        for row in _context(read_record(each[0])) if each is not None else ():
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
# To write so many events again takes half a second.
_MOST_EVENTS = 20_000
_LAST_EVENTS = ("response.completed", "response.incomplete")


class _LastEvent(msgspec.Struct):
    type: str
    response: msgspec.Raw
    sequence_number: Any = None


class _AnyEvent(msgspec.Struct):
    type: str
    output_index: Any = None
    delta: Any = None


_last_event = msgspec.json.Decoder(_LastEvent)
_any_event = msgspec.json.Decoder(_AnyEvent)


class ResponseListener:
    """Finds the complete response in the bytes that go to the caller of `call`: a body, or the last event of a stream.
    A stream that breaks off has none."""

    def __init__(self, call: Call) -> None:
        self._events = SseDecoder() if call.stream else None
        self._runs: list[EventRun] = []
        self._count = 0
        self._is_lost = False

    def feed(self, data: bytes) -> CompleteReply | None:
        """The response, as soon as it is complete."""
        if self._events is None:
            return CompleteReply(data) if data else None
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
                    self._note(frame.data)
                    is_numbered = event.sequence_number == self._count - 1 and self._count <= _MOST_EVENTS
                    return CompleteReply(bytes(event.response), write_block(self._runs) if is_numbered else b"")
            elif frame.data:
                self._note(frame.data)
        return None

    def _note(self, data: bytes) -> None:
        """Notes an event. One that cannot be read has no place in the order."""
        try:
            event = _any_event.decode(data)
        except UNREADABLE:
            return
        self._count += 1
        if self._count > _MOST_EVENTS:
            self._runs.clear()
            return
        output = event.output_index if type(event.output_index) is int else -1
        if not event.type.endswith(".delta") or not isinstance(event.delta, str):
            self._runs.append(EventRun(event.type, output, []))
            return
        last = self._runs[-1] if self._runs else None
        if last is None or not last.deltas or (last.type, last.output) != (event.type, output):
            last = EventRun(event.type, output, [])
            self._runs.append(last)
        last.deltas.append(len(event.delta))


def store_reply(call: Call, reply: CompleteReply) -> StoreSteps[None]:
    """Stores the response, and adds it to its conversation. An error is not stored, nor a response in progress."""
    stored = call.stored
    try:
        response = _response.decode(reply.body)
    except UNREADABLE:
        return
    if stored is None or response.status not in _STORED_STATUSES or not LEGAL_ID.fullmatch(response.id):
        return
    input = _rows.decode(stored.input)
    record = ResponseRecord(msgspec.Raw(reply.body), input, stored.chain, msgspec.Raw(reply.stream or b"[]"))
    if stored.keeps:
        yield Write(response.id, write_block(record))
    if stored.conversation is not None:
        items = [msgspec.Raw(row) for row in _context(record)]
        yield Append(stored.conversation, write_block(ConversationEntry(items=items)))
