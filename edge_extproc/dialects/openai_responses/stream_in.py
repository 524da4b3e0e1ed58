"""Decodes a stream of Responses events into reply events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import msgspec

from ...codecs import sse
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE, decode_reply, encode, rest_of, text_of
from ...errors import BadRequest
from ...model.content import NO_EXTRAS, Extras, Json, Opaque, Text
from ...model.fault import Fault
from ...model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartStarted,
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ...model.usage import Usage
from ..custom_tools import CLOSING, OPENING, escaped
from .content import (
    BETWEEN_THOUGHTS,
    CALL,
    MESSAGE,
    REFUSAL,
    TYPE,
    read_assistant_item,
    read_picture,
    texts_and_refusals,
    thoughts,
)
from .errors import stream_fault
from .fields import NAME, Item
from .reply import OUTPUT_TEXT, created_at, read_finish, read_usage, reply_extras, searches_in
from .tool_items import CUSTOM_CALL

# --- streams: reading


class _Fields(msgspec.Struct):
    """The fields of an event that are decoded with it."""

    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
    text: str = ""
    arguments: str = ""
    refusal: str = ""
    input: str = ""


class _Event(_Fields):
    """An event. `item` and `response` may be large, and are decoded only when needed."""

    type: str = ""
    item: msgspec.Raw = msgspec.Raw(b"null")
    part: msgspec.Raw = msgspec.Raw(b"null")
    annotation: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")


class _AnyEvent(msgspec.Struct):
    type: str = ""


class _TextEvent(_Fields, kw_only=True):
    """The event that adds text to a part."""

    type: Literal["response.output_text.delta"]


# The fields of an item that other events of its call repeat.
_FIELDS_OF_CALL = MappingProxyType({"function_call": CALL, "custom_tool_call": CUSTOM_CALL})

# The types of items that have texts. A host may leave out the type.
_TEXTUAL = frozenset({"message", ""})

_event = msgspec.json.Decoder(_Event)
_text_event = msgspec.json.Decoder(_TextEvent)
_any_event = msgspec.json.Decoder(_AnyEvent)


class _UnreadableFieldError(Exception):
    """A field of an event is not valid JSON. msgspec checks less of a field that it does not decode."""


def _decoded(raw: msgspec.Raw) -> Item:
    try:
        value = decode_reply(bytes(raw))
    except UNREADABLE as exc:
        raise _UnreadableFieldError from exc
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class _OpenPart:
    """A part that has begun. `sent`: how many characters of each text were reported, by list and index."""

    part: int
    sent: dict[tuple[str, int], int] = field(default_factory=dict)
    noted: Item = field(default_factory=dict)


@dataclass(slots=True)
class _OpenItem:
    """An output item between its start and its end."""

    kind: str
    own: Extras
    number: int | None = None
    """The number of the part, if there is only one: it has the item's position even if it is reported late."""
    parts: dict[int, _OpenPart] = field(default_factory=dict)
    """The parts of a message by content index. An item of another type has at most one, at 0."""


class ReplyReader:
    """Decodes one stream. The last event of a text repeats all of it, so text that did not come in deltas is reported
    then. Streams without deltas, or without some of these events, are read too. An item that only this dialect has is
    reported when it is complete, because a part of that kind starts with its whole value."""

    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._items: dict[int, _OpenItem] = {}
        self._done: set[int] = set()
        self._searches = 0
        """Web searches among the complete items."""
        self._open_searches: set[int] = set()
        """The items of searches that have begun. What they do is known at their end."""
        self._parts = 0
        self._has_calls = False
        self._extras: Item = {}
        self._started = False
        self._over = False
        self._out: list[ReplyEvent] = []

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        if not self._over:
            self._over = True
            events.append(
                Failed(
                    Fault(502, "api", "the provider's stream ended before its reply was complete", "truncated_stream")
                )
            )
        return frames, events

    def read(self, frame: Frame) -> list[ReplyEvent]:
        try:
            return self._read(frame)
        except _UnreadableFieldError:
            self._out = []
            return [Garbled("an event is not valid JSON")]

    def _read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over or not frame.data or frame.data == b"[DONE]":
            return []
        try:
            event = _event.decode(frame.data)
        except msgspec.ValidationError:
            return self._foreign(frame.data)
        except UNREADABLE:
            return self._mended(frame)
        take = _ON_EVENT.get(event.type or frame.event)
        if take is None:
            return self._foreign(frame.data)
        if event.type in ("error", "response.failed"):
            return self._fail(_decoded(msgspec.Raw(frame.data)))
        take(self, event)
        out, self._out = self._out, []
        return out

    def skim(self, frame: Frame) -> int | None:
        """Of text that goes on: the part has begun."""
        if self._over:
            return None
        try:
            event = _text_event.decode(frame.data)
        except UNREADABLE:
            return None
        item = self._items.get(event.output_index)
        opened = item.parts.get(event.content_index) if item is not None and item.kind in _TEXTUAL else None
        if opened is None:
            return None
        length, where = len(event.delta), ("text", event.content_index)
        if length:
            opened.sent[where] = opened.sent.get(where, 0) + length
        return length

    def _mended(self, frame: Frame) -> list[ReplyEvent]:
        """Reads an event with numbers that are not JSON (NaN) without them."""
        try:
            data = encode(decode_reply(frame.data))
            _any_event.decode(data)
        except (*UNREADABLE, BadRequest):
            return [Garbled("an event is not valid JSON")]
        return self.read(replace(frame, data=data))

    def _foreign(self, data: bytes) -> list[ReplyEvent]:
        """An unknown event. Most are new ones and are ignored. It may be an error without a type."""
        try:
            kind = _any_event.decode(data).type
        except UNREADABLE:
            return [Garbled("an event is not an object with a type")]
        if kind in _ON_EVENT:
            return [Garbled(f"a {kind} does not have the expected fields")]
        body = _decoded(msgspec.Raw(data))
        return self._fail(body) if body.get("error") else []

    def _fail(self, event: Item) -> list[ReplyEvent]:
        self._over = True
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        error = response.get("error") or event.get("error") or event
        return [*self._used(response), Failed(stream_fault(error))]

    def _searched(self) -> UsageSeen:
        """The usage comes at the end, which a caller who leaves does not see."""
        return UsageSeen(Usage(prompt_unknown=True, completion_unknown=True, searches=self._begun_searches()))

    def _begun_searches(self) -> int:
        return self._searches + len(self._open_searches)

    def _used(self, response: Item) -> list[ReplyEvent]:
        usage = response.get("usage")
        if not isinstance(usage, dict):
            return []
        read = read_usage(usage, response.get("output"))
        return [UsageSeen(replace(read, searches=max(self._begun_searches(), read.searches)))]

    # the complete text

    def _start(self, event: _Event) -> None:
        if self._started:
            return
        response = _decoded(event.response)
        self._started = True
        # The last event would extend a list.
        extras = {key: value for key, value in reply_extras(response).items() if not isinstance(value, list)}
        extras.pop("status", None)
        self._extras = extras
        self._out.append(
            ReplyStarted(text_of(response.get("id")), text_of(response.get("model")), created_at(response), extras)
        )

    def _end(self, event: _Event) -> None:
        self._start(event)
        response = _decoded(event.response)
        if response.get("status") == "failed" or response.get("error"):
            self._out += self._fail({"response": response})
            return
        output = response.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            if index not in self._done and isinstance(item, dict):
                self._item_ended(index, item)
        for index in sorted(self._items):
            self._item_ended(index, {})
        self._out += self._used(response)
        noted = {key: value for key, value in reply_extras(response).items() if self._extras.get(key) != value}
        noted.pop("status", None)
        if noted:
            self._out.append(Noted(noted))
        status = response.get("status") or event.type.removeprefix("response.")
        finish = read_finish({**response, "status": status}, self._has_calls)
        self._out += [Finished(finish or Finish("other", "incomplete")), Ended()]
        self._over = True

    # items

    def _item_added(self, event: _Event) -> None:
        item = _decoded(event.item)
        if event.output_index not in self._items and event.output_index not in self._done:
            self._begin_item(event.output_index, item)

    def _begin_item(self, index: int, item: Item) -> _OpenItem:
        kind = text_of(item.get("type")) or ""
        own = rest_of(item, MESSAGE) if kind == "message" else {"id": item["id"]} if item.get("id") else NO_EXTRAS
        begun = self._items[index] = _OpenItem(kind, own)
        if searches_in([item]):
            self._open_searches.add(index)
            self._out.append(self._searched())
        if kind != "message":
            begun.number, self._parts = self._parts, self._parts + 1
        if kind in _FIELDS_OF_CALL:
            self._has_calls = True
            id = text_of(item.get("call_id")) or text_of(item.get("id"))
            own, custom = rest_of(item, _FIELDS_OF_CALL[kind]), kind == "custom_tool_call"
            opened = self._begin(begun, 0, "tool_call", id, text_of(item.get("name")), own, custom=custom)
            if custom:
                self._out.append(PartDelta(opened.part, OPENING))
        return begun

    def _item_done(self, event: _Event) -> None:
        if event.output_index not in self._done:
            self._item_ended(event.output_index, _decoded(event.item))

    def _item_ended(self, index: int, item: Item) -> None:
        """`item` is empty if the stream ended without it."""
        known = self._items.get(index)
        begun = known if known is not None else self._begin_item(index, item)
        self._items.pop(index)
        self._done.add(index)
        is_search = searches_in([item]) > 0 or (not item and index in self._open_searches)
        if is_search or index in self._open_searches:
            self._open_searches.discard(index)
            self._searches += is_search
            self._out.append(self._searched())
        match begun.kind:
            case "function_call":
                self._rest_of(begun.parts[0], ("arguments", 0), item.get("arguments"))
                begun.parts[0].noted.update(rest_of(item, CALL))
            case "custom_tool_call":
                opened = begun.parts[0]
                self._input(opened, None, item.get("input"))
                self._out.append(PartDelta(opened.part, CLOSING))
                opened.noted.update(rest_of(item, CUSTOM_CALL))
            case "reasoning":
                for key, i, text in thoughts(item):
                    self._think(begun, key, i, None, text)
                if begun.parts:
                    begun.parts[0].noted.update(rest_of(item, TYPE))
            case "message":
                self._message_ended(begun, item)
        for part in begun.parts.values():
            self._end_part(part)
        if not begun.parts and item:
            number = begun.number
            if number is None:
                number, self._parts = self._parts, self._parts + 1
            picture = read_picture(item) if begun.kind == "image_generation_call" else None
            if picture is not None:
                self._out += [PartStarted(number, "media", media=picture), PartEnded(number)]
                return
            self._out += [PartStarted(number, "opaque", opaque=Opaque(NAME, begun.kind, item)), PartEnded(number)]

    def _message_ended(self, begun: _OpenItem, item: Item) -> None:
        """Ends a message. If no part has begun, its content comes from the item. Otherwise only the item's own fields,
        such as its status, are added."""
        own = rest_of(item, MESSAGE)
        if not begun.parts:
            try:
                parts = read_assistant_item(item, "item") or ()
            except BadRequest:
                parts = ()
            for i, part in enumerate(texts_and_refusals(parts)):
                kind: Literal["text", "refusal"] = "text" if isinstance(part, Text) else "refusal"
                opened = self._begin(begun, i, kind, extras=part.extras)
                self._rest_of(opened, (kind, i), part.text)
        elif own:
            for opened in begun.parts.values():
                opened.noted["item"] = own

    # parts

    def _begin(
        self,
        item: _OpenItem,
        at: int,
        kind: Literal["text", "refusal", "thinking", "tool_call"],
        id: str | None = None,
        name: str | None = None,
        extras: Extras = NO_EXTRAS,
        *,
        custom: bool = False,
    ) -> _OpenPart:
        number = item.number if not item.parts else None
        if number is None:
            number, self._parts = self._parts, self._parts + 1
        opened = item.parts[at] = _OpenPart(number)
        self._out.append(PartStarted(opened.part, kind, id, name, extras=extras, custom=custom))
        return opened

    def _end_part(self, opened: _OpenPart) -> None:
        if opened.noted:
            self._out.append(PartNoted(opened.part, opened.noted))
        self._out.append(PartEnded(opened.part))

    def _more_of(self, opened: _OpenPart, where: tuple[str, int], text: str) -> None:
        if text:
            opened.sent[where] = opened.sent.get(where, 0) + len(text)
            self._out.append(PartDelta(opened.part, text))

    def _rest_of(self, opened: _OpenPart, where: tuple[str, int], final: Json) -> None:
        if isinstance(final, str):
            self._more_of(opened, where, final[opened.sent.get(where, 0) :])

    def _add_text(self, event: _Event, kind: Literal["text", "refusal"], delta: str | None, final: str | None) -> None:
        item = self._items.get(event.output_index)
        if item is None:
            if event.output_index in self._done:
                return
            item = self._begin_item(event.output_index, {"type": "message"})
        if item.kind not in _TEXTUAL:
            self._out.append(Garbled(f"a text in an item of type {item.kind!r}"))
            return
        at = event.content_index
        opened = item.parts.get(at)
        if opened is None:
            opened = self._begin(item, at, kind, extras={"item": item.own} if item.own else NO_EXTRAS)
        if delta is not None:
            self._more_of(opened, (kind, at), delta)
        self._rest_of(opened, (kind, at), final)

    def _text_delta(self, event: _Event) -> None:
        self._add_text(event, "text", event.delta, None)

    def _text_done(self, event: _Event) -> None:
        self._add_text(event, "text", None, event.text)

    def _refusal_delta(self, event: _Event) -> None:
        self._add_text(event, "refusal", event.delta, None)

    def _refusal_done(self, event: _Event) -> None:
        self._add_text(event, "refusal", None, event.refusal)

    def _content_done(self, event: _Event) -> None:
        """The fields of a text besides the text itself: annotations, probabilities."""
        part = _decoded(event.part)
        match part.get("type"):
            case "output_text":
                self._add_text(event, "text", None, text_of(part.get("text")))
                noted = rest_of(part, OUTPUT_TEXT)
            case "refusal":
                self._add_text(event, "refusal", None, text_of(part.get("refusal")))
                noted = rest_of(part, REFUSAL)
            case _:
                return
        item = self._items.get(event.output_index)
        opened = item.parts.get(event.content_index) if item is not None else None
        if opened is not None:
            opened.noted.update(noted)

    def _annotation(self, event: _Event) -> None:
        """Reports an annotation. The end of the text repeats it and then has priority."""
        item = self._items.get(event.output_index)
        opened = item.parts.get(event.content_index) if item is not None else None
        if opened is not None:
            before = opened.noted.get("annotations")
            opened.noted["annotations"] = [*(before if isinstance(before, list) else []), _decoded(event.annotation)]

    def _call_delta(self, event: _Event) -> None:
        opened = self._call(event)
        if opened is not None:
            self._more_of(opened, ("arguments", 0), event.delta)

    def _call_done(self, event: _Event) -> None:
        opened = self._call(event)
        if opened is not None:
            self._rest_of(opened, ("arguments", 0), event.arguments)

    def _call(self, event: _Event, kind: str = "function_call") -> _OpenPart | None:
        item = self._items.get(event.output_index)
        return item.parts.get(0) if item is not None and item.kind == kind else None

    def _input_delta(self, event: _Event) -> None:
        opened = self._call(event, "custom_tool_call")
        if opened is not None:
            self._input(opened, event.delta, None)

    def _input_done(self, event: _Event) -> None:
        opened = self._call(event, "custom_tool_call")
        if opened is not None:
            self._input(opened, None, event.input)

    def _input(self, opened: _OpenPart, delta: str | None, final: Json) -> None:
        """Reports more of a custom tool's input, as a piece of the JSON arguments that hold it."""
        where = ("input", 0)
        sent = opened.sent.get(where, 0)
        text = delta if delta is not None else final[sent:] if isinstance(final, str) else ""
        if text:
            opened.sent[where] = sent + len(text)
            self._out.append(PartDelta(opened.part, escaped(text)))

    def _think(self, item: _OpenItem, key: str, at: int, delta: str | None, final: Json) -> None:
        """Reports more of one text of a reasoning item. Thinking begins with its first character: an item without text
        is opaque. Two texts are separated as in a complete reply."""
        text = delta if delta is not None else ""
        opened = item.parts.get(0)
        sent = opened.sent.get((key, at), 0) if opened is not None else 0
        if isinstance(final, str):
            text = final[sent:]
        if not text:
            return
        if opened is None:
            opened = self._begin(item, 0, "thinking", extras=item.own)
        elif not sent:
            self._out.append(PartDelta(opened.part, BETWEEN_THOUGHTS))
        self._more_of(opened, (key, at), text)

    def _thought(self, event: _Event) -> None:
        item = self._items.get(event.output_index)
        if item is None and event.output_index not in self._done:
            item = self._begin_item(event.output_index, {"type": "reasoning"})
        if item is None or item.kind != "reasoning":
            return
        key, at = ("summary", event.summary_index) if "summary" in event.type else ("content", event.content_index)
        self._think(item, key, at, event.delta or None, event.text or None)

    def _ping(self, event: _Event) -> None:
        del event
        self._out.append(Ping())

    def _skip(self, event: _Event) -> None:
        """An event that a later one repeats."""


_ON_EVENT: Mapping[str, Callable[[ReplyReader, _Event], None]] = MappingProxyType(
    {
        "response.created": ReplyReader._start,
        "response.queued": ReplyReader._start,
        "response.in_progress": ReplyReader._start,
        "response.output_item.added": ReplyReader._item_added,
        "response.output_item.done": ReplyReader._item_done,
        "response.content_part.added": ReplyReader._skip,
        "response.content_part.done": ReplyReader._content_done,
        "response.output_text.delta": ReplyReader._text_delta,
        "response.output_text.done": ReplyReader._text_done,
        "response.output_text.annotation.added": ReplyReader._annotation,
        "response.refusal.delta": ReplyReader._refusal_delta,
        "response.refusal.done": ReplyReader._refusal_done,
        "response.function_call_arguments.delta": ReplyReader._call_delta,
        "response.function_call_arguments.done": ReplyReader._call_done,
        "response.custom_tool_call_input.delta": ReplyReader._input_delta,
        "response.custom_tool_call_input.done": ReplyReader._input_done,
        "response.reasoning_summary_text.delta": ReplyReader._thought,
        "response.reasoning_summary_text.done": ReplyReader._thought,
        "response.reasoning_text.delta": ReplyReader._thought,
        "response.reasoning_text.done": ReplyReader._thought,
        "response.completed": ReplyReader._end,
        "response.incomplete": ReplyReader._end,
        "response.cancelled": ReplyReader._end,
        "response.failed": ReplyReader._skip,
        "error": ReplyReader._skip,
        "keepalive": ReplyReader._ping,
    }
)
