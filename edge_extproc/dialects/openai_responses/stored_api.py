"""The API of stored objects: responses, conversations, and their items.

As in stored.py, the functions are generators of store steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from urllib.parse import parse_qs

import msgspec

from ...codecs.json_values import UNREADABLE, decode, encode, text_of
from ...conversations.base import Append, Delete, Read, ReplaceBlock, StoreSteps, Write
from ...errors import BadRequest, NotStored, WrongMethod
from ...model.content import Json
from ..base import Route, StoredAnswer, made_id
from .fields import Item
from .stored import (
    CONVERSATION_PREFIX,
    DELETED,
    LEGAL_ID,
    OWN_ID,
    ConversationEntry,
    ResponseRecord,
    entries_of,
    own_id,
    read_record,
    write_block,
)
from .stored_stream import replayed

ROUTES = (
    Route("GET", "/v1/responses/{id}", "stored"),
    Route("DELETE", "/v1/responses/{id}", "stored"),
    Route("GET", "/v1/responses/{id}/input_items", "stored"),
    Route("POST", "/v1/responses/{id}/cancel", "stored"),
    Route("POST", "/v1/conversations", "stored"),
    Route("GET", "/v1/conversations/{id}", "stored"),
    Route("POST", "/v1/conversations/{id}", "stored"),
    Route("DELETE", "/v1/conversations/{id}", "stored"),
    Route("GET", "/v1/conversations/{id}/items", "stored"),
    Route("POST", "/v1/conversations/{id}/items", "stored"),
    Route("GET", "/v1/conversations/{id}/items/{item}", "stored"),
    Route("DELETE", "/v1/conversations/{id}/items/{item}", "stored"),
)
# OpenAI: at most 20 items in one request to create or extend a conversation; at most 16 pairs of metadata.
_MAX_ITEMS, _MAX_METADATA = 20, 16
# OpenAI: the characters of a key and of a value of metadata.
_MAX_KEY, _MAX_VALUE = 64, 512
_PAGE, _MAX_PAGE = 20, 100
_MAX_NUMBER = (1 << 53) - 1  # of an integer that each reader of JSON can read
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
    return len(parts) == 2 or OWN_ID.fullmatch(parts[2]) is not None


def serve_stored(method: str, path: str, query: str, body: bytes, seed: str, now: int) -> StoreSteps[StoredAnswer]:
    """The answer to a request of a path in `ROUTES`. `now`: Unix time."""
    parts = path.strip("/").split("/")[1:]
    id = parts[1] if len(parts) > 1 else ""
    is_of_kind = id.startswith(CONVERSATION_PREFIX) == (parts[0] == "conversations")
    if id and not (is_of_kind and LEGAL_ID.fullmatch(id)):
        raise _missing(id)
    match "GET" if method == "HEAD" else method, parts[0], parts[2:]:
        case "GET", "responses", [] if _is_streamed(query):
            record = yield from _one_response(id)
            write = partial(replayed, record, _starting_after(query))
            return StoredAnswer(content_type="text/event-stream", write=write)
        case "GET", "responses", []:
            return StoredAnswer(bytes((yield from _one_response(id)).response))
        case "POST", "responses", ["cancel"]:
            yield from _one_response(id)
            raise BadRequest(f"Response {id!r} is complete: only a response in the background can be cancelled.")
        case "GET", "responses", _:
            answer = _page(_with_ids(id, (yield from _one_response(id)).input), query)
        case "POST", "conversations", [] if not id:
            answer = yield from _create(body, seed, now)
        case "GET", "conversations", []:
            answer = _object_of((yield from _one_conversation(id)))
        case "POST", "conversations", []:
            answer = yield from _change_metadata(id, body)
        case "DELETE", kind, []:
            if not (yield Delete(id)):
                raise _missing(id)
            of_kind = "response" if kind == "responses" else "conversation.deleted"
            answer = {"id": id, "object": of_kind, "deleted": True}
        case "GET", "conversations", ["items"]:
            answer = _page(_items_of(id, (yield from _one_conversation(id))), query)
        case "POST", "conversations", ["items"]:
            answer = yield from _add_items(id, body)
        case "GET", "conversations", ["items", item]:
            answer = yield from _one_item(id, item)
        case "DELETE", "conversations", ["items", item]:
            answer = yield from _delete_item(id, item)
        case _:
            raise WrongMethod(f"{method} is not a method of {path}")
    return StoredAnswer(encode(answer))


def _is_streamed(query: str) -> bool:
    values = parse_qs(query)
    stream = values.get("stream", ["false"])[-1]
    if stream not in ("true", "false"):
        raise BadRequest("stream must be true or false", param="stream")
    if stream == "false" and "starting_after" in values:
        raise BadRequest("starting_after needs stream=true", param="starting_after")
    return stream == "true"


def _starting_after(query: str) -> int:
    """The number of the last event that the caller has. -1: none."""
    value = parse_qs(query).get("starting_after", ["-1"])[-1]
    try:
        number = int(value)
    except ValueError:
        number = -2
    if not -1 <= number <= _MAX_NUMBER:
        raise BadRequest("starting_after must be the sequence number of an event", param="starting_after")
    return number


def _missing(id: str) -> NotStored:
    kind = "Conversation" if id.startswith(CONVERSATION_PREFIX) else "Response"
    return NotStored(f"{kind} with id {id!r} not found.")


def _one_response(id: str) -> StoreSteps[ResponseRecord]:
    (blocks,) = yield Read((id,))
    if blocks is None:
        raise _missing(id)
    return read_record(blocks[0])


def _one_conversation(id: str) -> StoreSteps[list[ConversationEntry]]:
    (blocks,) = yield Read((id,))
    if blocks is None:
        raise _missing(id)
    return entries_of(blocks)


def _create(body: bytes, seed: str, now: int) -> StoreSteps[Item]:
    request, id = _object_in(body), own_id(CONVERSATION_PREFIX, seed)
    created: Item = {"id": id, "object": "conversation", "created_at": now, "metadata": _metadata(request)}
    items = _new_items(request) if request.get("items") is not None else []
    yield Write(id, write_block(ConversationEntry(msgspec.Raw(encode(created)), items=items)))
    return created


def _change_metadata(id: str, body: bytes) -> StoreSteps[Item]:
    entries = yield from _one_conversation(id)
    change = ConversationEntry(metadata=msgspec.Raw(encode(_metadata(_object_in(body)))))
    if not (yield Append(id, write_block(change))):
        raise _missing(id)
    return _object_of([*entries, change])


def _add_items(id: str, body: bytes) -> StoreSteps[Item]:
    items = _new_items(_object_in(body))
    before = yield from _one_conversation(id)
    added = ConversationEntry(items=items)
    if not (yield Append(id, write_block(added))):
        raise _missing(id)
    rows = _items_of(id, [*before, added])
    return _list(rows[len(rows) - len(items) :], has_more=False)


def _one_item(id: str, item_id: str) -> StoreSteps[Item]:
    for item in _items_of(id, (yield from _one_conversation(id))):
        if item["id"] == item_id:
            return item
    raise _missing_item(item_id)


def _delete_item(id: str, item_id: str) -> StoreSteps[Item]:
    """Deletes the item that `_one_item` returns, and returns the conversation. If another request changed the same
    block meanwhile, it begins again: each time, some request has made progress."""
    while True:
        (blocks,) = yield Read((id,))
        if blocks is None:
            raise _missing(id)
        entries = entries_of(blocks)
        at, row = _place_of(id, item_id, entries)
        entries[at].items[row] = msgspec.Raw(DELETED)
        if (yield ReplaceBlock(id, at, blocks[at], write_block(entries[at]))):
            return _object_of(entries)


def _place_of(id: str, item_id: str, entries: Sequence[ConversationEntry]) -> tuple[int, int]:
    """The block of an item, and its position there."""
    position = 0
    for at, entry in enumerate(entries):
        for row, item in enumerate(entry.items):
            if any(each["id"] == item_id for each in _with_ids(id, [item], position)):
                return at, row
            position += 1
    raise _missing_item(item_id)


def _missing_item(id: str) -> NotStored:
    return NotStored(f"Item with id {id!r} not found.")


def _object_of(entries: Sequence[ConversationEntry]) -> Item:
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
    if any(len(key) > _MAX_KEY or len(str(text)) > _MAX_VALUE for key, text in value.items()):
        raise BadRequest(
            f"a key of metadata may have at most {_MAX_KEY} characters, and a value {_MAX_VALUE}", param="metadata"
        )
    return value


def _new_items(request: Item) -> list[msgspec.Raw]:
    items = request.get("items")
    if not isinstance(items, list) or len(items) > _MAX_ITEMS or not all(isinstance(item, dict) for item in items):
        raise BadRequest(f"items must be a list of at most {_MAX_ITEMS} objects", param="items")
    return [msgspec.Raw(encode(item)) for item in items]


def _items_of(id: str, entries: Iterable[ConversationEntry]) -> list[Item]:
    return _with_ids(id, [item for entry in entries for item in entry.items])


def _with_ids(of: str, rows: Sequence[msgspec.Raw], position: int = 0) -> list[Item]:
    """The items for a list, without deleted ones. One that came without an id gets one, the same each time, and one
    without a type is a message. `position`: of the first row in all rows."""
    items: list[Item] = []
    for i, row in enumerate(rows, position):
        item = decode(bytes(row))
        if isinstance(item, dict):
            kind = text_of(item.get("type")) or "message"
            content = item.get("content")
            if kind == "message" and isinstance(content, str):
                part = "output_text" if item.get("role") == "assistant" else "input_text"
                item = {**item, "content": [{"type": part, "text": content}]}
            status: Item = {"status": "completed"} if kind == "message" else {}
            items.append({"id": made_id(_PREFIXES.get(kind, "msg_"), 32, of, i), "type": kind, **status, **item})
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
