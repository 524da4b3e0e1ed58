"""Encodes reply events as a stream of Responses events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from ...codecs import sse
from ...codecs.json_values import encode
from ...model.call import Call
from ...model.content import (
    NO_EXTRAS,
    Audio,
    CustomCall,
    Extras,
    Image,
    Inline,
    Json,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
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
    PartSigned,
    PartStarted,
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
    merged,
)
from ...model.usage import Usage
from ..citations import Citation, citations_in
from ..custom_tools import CustomInputReader, input_of
from ..dropping import omission
from ..logprobs import entries_in
from .content import message_content, thoughts
from .errors import FAILED_CODES, envelope
from .fields import NAME, TITLE, Item
from .reply import (
    REPLY,
    ItemStatus,
    call_item,
    call_status,
    echoed,
    message_item,
    outcome_of,
    output_text,
    own_item,
    own_outcome,
    picture_item,
    reasoning_item,
    refused,
    response_id_of,
    response_of,
    skeleton_of,
    usage_items,
)
from .tool_items import spelled
from .tools import ToolForm, ToolTable, body_of, table_of

# --- streams: writing

_OF_PARTS = (PartStarted, PartDelta, PartSigned, PartNoted, PartEnded)


@dataclass(slots=True)
class _Writing:
    """An output item that is being written."""

    index: int
    skeleton: Item
    own: Extras
    """Its original fields, if it is of this dialect."""
    content: list[Json] = field(default_factory=list)
    """The complete parts of a message."""
    open_parts: set[int] = field(default_factory=set)
    call: ToolCall | None = None
    fields: Item | None = None
    """For a call of another dialect: the caller's item of it (tool_items.py)."""
    whole: Item | None = None
    """The item without a status."""

    def item(self, status: ItemStatus) -> Item:
        if self.whole is not None:
            return self.whole
        if self.call is not None:
            return call_item(self.skeleton, self.call, status, self.own, self.fields)
        return message_item(self.skeleton, self.content, status, self.own)


@dataclass(slots=True)
class _Part:
    """A part that is being written, and its item as soon as it has one."""

    start: PartStarted
    extras: Extras
    texts: list[str] = field(default_factory=list)
    signature: str = ""
    item: _Writing | None = None
    content_index: int = 0
    form: ToolForm | None = None
    """For a call of another dialect: the caller's form of its tool."""
    input: CustomInputReader | None = None
    """For a call of a custom tool."""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def begun(self) -> _Writing:
        """Its item."""
        assert self.item is not None, "events of a part are written after its item begins"  # noqa: S101 - an invariant of this class
        return self.item


def _with_id(own: Extras, skeleton: Item) -> Extras:
    """An item keeps its first id. GitHub Copilot sends another one in each event."""
    return {**own, "id": skeleton["id"]} if own.get("id") not in (None, skeleton["id"]) else own


_AFTER_ALL = 1 << 31
"""The number of a part that no reply has."""


class ReplyWriter:
    """Encodes one streamed reply. Each part becomes an item, and adjacent texts become parts of one message. Parts may
    overlap, and so may items. An item ends when the next one begins or the reply ends, because only then it is known
    whether the reply was cut off in it. An empty part begins no item.

    A reply of this dialect (for example from a cache) is marked in its first event, and keeps its ids and fields.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._table = ToolTable({})
        self._buffered: list[ReplyEvent] | None = None
        """Events that wait for the end of a call that can only be written whole: items keep their order."""
        self._holding = -1
        """The part of that call."""
        self._echo: Item = {}
        self._start: ReplyStarted | None = None
        self._is_own = False
        self._has_cut_call = False
        self._id = ""
        self._number = 0
        self._parts: dict[int, _Part] = {}
        self._items: dict[int, _Writing] = {}
        """The items in progress, by output index."""
        self._message: _Writing | None = None
        """The message of the next text."""
        self._output: dict[int, Item] = {}
        self._count = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._extras: Extras = NO_EXTRAS
        self._cited: tuple[Citation, ...] = ()
        self._entries: list[Item] = []
        """The probabilities of the tokens of the open text, in a reply of another format."""
        self._has_cited = False
        """Whether a text of the reply has them."""
        """The sources of the whole reply of another dialect."""
        self._over = False
        self._out: list[bytes] = []

    def write(self, event: ReplyEvent) -> bytes:
        if self._over or getattr(event, "choice", None):
            return b""
        self._order(event)
        out, self._out = b"".join(self._out), []
        return out

    def _order(self, event: ReplyEvent) -> None:
        if self._buffered is None or not isinstance(event, _OF_PARTS) or event.part == self._holding:
            self._take(event)
        else:
            self._buffered.append(event)

    def _release(self) -> None:
        buffered, self._buffered, self._holding = self._buffered or [], None, -1
        for event in buffered:
            self._order(event)

    def _take(self, event: ReplyEvent) -> None:
        match event:
            case PartDelta():
                self._grow(event.part, event.text)
            case PartStarted():
                self._begin(event)
            case PartSigned():
                self._parts[event.part].signature += event.signature
            case PartNoted():
                part = self._parts[event.part]
                part.extras = merged(part.extras, event.extras)
                if part.start.kind != "text" and not self._is_own:
                    self._cited += citations_in(event.extras)
            case PartEnded():
                self._end_part(self._parts.pop(event.part))
            case ReplyStarted():
                self._begin_reply(event)
            case UsageSeen():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
            case Noted():
                self._extras = merged(self._extras, event.extras) if self._is_own else NO_EXTRAS
                if not self._is_own:
                    self._cited += citations_in(event.extras)
                    self._entries += entries_in(event.extras)
            case Ping():
                self._out.append(sse.comment())
            case Garbled():
                pass
            case Failed():
                self._fail(event.fault)
            case Ended():
                self._end_reply()
            case _:
                assert_never(event)

    def _emit(self, kind: str, payload: Item) -> None:
        event = {"type": kind, "sequence_number": self._number, **payload}
        self._number += 1
        self._out.append(sse.encode(encode(event), kind))

    def _emit_part(self, part: _Part, kind: str, payload: Item) -> None:
        """An event for one text of a message."""
        item = part.begun
        where: Item = {"item_id": item.skeleton["id"], "output_index": item.index}
        self._emit(kind, {**where, "content_index": part.content_index, **payload})

    # the complete text

    def _begin_reply(self, event: ReplyStarted) -> ReplyStarted:
        if self._start is not None:
            return self._start
        start = self._start = (
            event if event.model else ReplyStarted(event.id, self._call.model, event.created, event.extras)
        )
        self._is_own = event.extras.get("object") == "response"
        self._extras = event.extras if self._is_own else NO_EXTRAS
        self._id = event.id or "" if self._is_own else response_id_of(event.id, start.model, event.created, self._call)
        body = body_of(self._call)
        self._echo, self._table = echoed(body, self._call), table_of(body)
        for kind in ("response.created", "response.in_progress"):
            outcome: Item = {"status": "in_progress", "error": None, "incomplete_details": None}
            self._emit(kind, {"response": self._response(outcome, None)})
        return start

    def _started(self) -> ReplyStarted:
        return self._start or self._begin_reply(ReplyStarted(None, None))

    def _response(self, outcome: Item, usage: Json) -> Item:
        own = {key: value for key, value in self._extras.items() if key not in REPLY}
        output: list[Json] = [self._output[index] for index in sorted(self._output)]
        return response_of(self._id, self._started(), {**self._echo, **own}, outcome, output, usage)

    def _end_reply(self) -> None:
        self._started()
        while self._parts:
            self._end_part(self._parts.pop(min(self._parts)))
        if self._cited and not self._has_cited:  # they came after the last text, for example behind a call
            part = _Part(PartStarted(_AFTER_ALL, "text"), NO_EXTRAS)
            self._begin_text(part)
            self._end_text(part)
        outcome = own_outcome(self._finish, None) if self._is_own else outcome_of(self._finish)
        self._settle(outcome["status"])
        usage = self._extras.get("usage", usage_items(self._usage))
        self._over = True
        status = str(outcome["status"])
        # The API has no event for a cancelled response.
        kind = status if status in ("completed", "incomplete", "failed") else "incomplete"
        self._emit(f"response.{kind}", {"response": self._response(outcome, usage)})

    def _fail(self, fault: Fault) -> None:
        """Writes a failure as two events. Callers that look at each event know a failed response. OpenAI's SDKs raise
        an exception for an event with an `error`, as the API sends it."""
        error = envelope(fault)
        if self._start is not None:
            reason: Item = {"code": FAILED_CODES.get(fault.kind, "server_error"), "message": error["message"]}
            outcome: Item = {"status": "failed", "error": reason, "incomplete_details": None}
            self._emit("response.failed", {"response": self._response(outcome, usage_items(self._usage))})
        flat = {key: error[key] for key in ("code", "message", "param")}
        self._emit("error", {**flat, "error": error})
        self._over = True

    # parts

    def _begin(self, event: PartStarted) -> None:
        self._started()
        part = self._parts[event.part] = _Part(event, event.extras if self._is_own else NO_EXTRAS)
        match event.kind:
            case "tool_call":
                self._begin_call(part)
            case "text" | "refusal" if self._is_own:
                self._begin_text(part)
            case "thinking" if self._is_own:
                part.item = self._begin_item(self._skeleton("reasoning", part.extras))
                part.item.open_parts.add(event.part)
                self._emit_item("added", part.item, {**part.item.skeleton, "summary": []})
            case "text" | "refusal" | "thinking" | "redacted_thinking" | "media" | "opaque":
                pass  # begins with its first character, or when it is complete
            case _:
                assert_never(event.kind)

    def _grow(self, number: int, text: str) -> None:
        part = self._parts[number]
        if not text:
            return
        part.texts.append(text)
        match part.start.kind:
            case "text" | "refusal" as kind:
                if part.item is None:
                    self._begin_text(part)
                payload: Item = {"delta": text} if kind == "refusal" else {"delta": text, "logprobs": []}
                self._emit_part(part, f"response.{'output_text' if kind == 'text' else 'refusal'}.delta", payload)
            case "tool_call":
                self._grow_call(part, text)
            case "thinking":
                if not self._is_own:
                    self._think(part, text)
            case "redacted_thinking" | "media" | "opaque":
                pass
            case _:
                assert_never(part.start.kind)

    def _end_part(self, part: _Part) -> None:
        match part.start.kind:
            case "text" | "refusal":
                self._end_text(part)
            case "tool_call":
                self._end_call(part)
            case "thinking":
                self._end_thinking(part)
            case "redacted_thinking":
                if part.start.data:
                    self._reasoning_item("reasoning", RedactedThinking(part.start.data))
            case "media":
                if part.start.media is not None:
                    self._media(part, part.start.media)
            case "opaque":
                opaque = part.start.opaque
                if opaque is not None and opaque.dialect == NAME and isinstance(opaque.value, dict):
                    self._own_item(opaque.value)
            case _:
                assert_never(part.start.kind)

    # items

    def _begin_item(self, skeleton: Item, own: Extras = NO_EXTRAS) -> _Writing:
        """Begins the next item, and ends earlier complete ones."""
        self._settle(None)
        item = self._items[self._count] = _Writing(self._count, skeleton, own)
        self._count += 1
        self._message = None
        return item

    def _emit_item(self, kind: Literal["added", "done"], item: _Writing, value: Item) -> None:
        self._emit(f"response.output_item.{kind}", {"output_index": item.index, "item": value})

    def _settle(self, final: Json) -> None:
        """Ends the complete items. `final`: at the end of the stream, whether the last item was cut off."""
        for index, item in list(self._items.items()):
            if item.open_parts:
                continue
            status: ItemStatus = "completed" if item.call is None or self._is_own else call_status(item.call)
            if final == "incomplete" and index == self._count - 1 and not self._has_cut_call:
                status = "incomplete"
            self._has_cut_call = self._has_cut_call or (item.call is not None and status == "incomplete")
            value = item.item(status)
            self._output[index] = value
            del self._items[index]
            self._emit_item("done", item, value)
            if item is self._message:
                self._message = None

    def _skeleton(self, kind: str, own: Extras) -> Item:
        skeleton = skeleton_of(kind, self._id, self._count)
        return {**skeleton, "id": own["id"]} if "id" in own else skeleton

    def _media(self, part: _Part, media: Image | Audio) -> None:
        if self._is_own:
            for value in own_item(media):
                self._own_item(value)
        elif isinstance(media, Image) and isinstance(media.source, Inline):
            skeleton = self._skeleton("image_generation_call", NO_EXTRAS)
            item = self._begin_item(skeleton)
            item.whole = picture_item(skeleton, media.source)
            self._emit_item("added", item, {**skeleton, "status": "in_progress", "result": None})
        else:
            text = _Part(PartStarted(part.start.part, "text"), NO_EXTRAS)
            self._begin_text(text)
            text.texts.append(omission(media, TITLE))
            self._emit_part(text, "response.output_text.delta", {"delta": text.text, "logprobs": []})
            self._end_text(text)

    # texts

    def _begin_text(self, part: _Part) -> None:
        own = part.extras.get("item", NO_EXTRAS)
        own = own if isinstance(own, Mapping) else NO_EXTRAS
        message = self._message
        if message is None or (own and own.get("id") != message.own.get("id")):
            message = self._begin_item(self._skeleton("message", own), own)
            self._message = message
            begun = message_item(message.skeleton, [], "in_progress", {**own, "status": "in_progress"})
            self._emit_item("added", message, begun)
        part.item, part.content_index = message, len(message.content)
        message.content.append(None)
        message.open_parts.add(part.start.part)
        self._emit_part(part, "response.content_part.added", {"part": self._content(part, "")})

    @staticmethod
    def _content(part: _Part, text: str) -> Item:
        return output_text(text) if part.start.kind == "text" else refused(text)

    def _end_text(self, part: _Part) -> None:
        message = part.item
        if message is None:
            return
        own = part.extras.get("item")
        message.own = _with_id(own, message.skeleton) if isinstance(own, Mapping) else message.own
        text = Text(part.text, extras=part.extras) if part.start.kind == "text" else Refusal(part.text, part.extras)
        content = message_content(text, part.extras) if self._is_own else self._content(part, part.text)
        if part.start.kind == "text" and not self._is_own:
            cited = citations_in(part.extras) or self._cited
            self._has_cited = self._has_cited or bool(cited)
            content = output_text(part.text, tuple(dict.fromkeys(cited)), self._entries)
        if part.start.kind == "text":
            self._emit_annotations(part, content)
            logprobs = part.extras.get("logprobs", []) if self._is_own else self._entries
            self._entries = []
            self._emit_part(part, "response.output_text.done", {"text": part.text, "logprobs": logprobs})
        else:
            self._emit_part(part, "response.refusal.done", {"refusal": part.text})
        self._emit_part(part, "response.content_part.done", {"part": content})
        message.content[part.content_index] = content
        message.open_parts.discard(part.start.part)

    def _emit_annotations(self, part: _Part, content: Item) -> None:
        listed = content.get("annotations")
        for at, each in enumerate(listed if isinstance(listed, list) else ()):
            self._emit_part(part, "response.output_text.annotation.added", {"annotation_index": at, "annotation": each})

    # tool calls

    def _begin_call(self, part: _Part) -> None:
        start = part.start
        call = (CustomCall if start.custom else ToolCall)(start.id or "", start.name or "", "")
        part.form = None if self._is_own else self._table.form_of(call)
        kind = ("custom" if start.custom else "function") if part.form is None else part.form.kind
        if kind not in ("function", "custom"):
            self._buffered, self._holding = [], start.part
            return
        part.input = CustomInputReader() if kind == "custom" else None
        self._begin_call_item(part, "custom_tool_call" if kind == "custom" else "function_call", call)

    def _begin_call_item(self, part: _Part, kind: str, call: ToolCall) -> None:
        item = part.item = self._begin_item(self._skeleton(kind, part.extras), part.extras)
        item.call = call
        item.fields = None if part.form is None else spelled(call, part.form)[1]
        item.open_parts.add(part.start.part)
        begun = call_item(item.skeleton, call, "in_progress", NO_EXTRAS, item.fields)
        self._emit_item("added", item, {**begun, "arguments": ""} if kind == "function_call" else begun)

    def _emit_call(self, part: _Part, kind: str, payload: Item) -> None:
        item = part.begun
        event_name = "function_call_arguments" if part.input is None else "custom_tool_call_input"
        where: Item = {"item_id": item.skeleton["id"], "output_index": item.index}
        self._emit(f"response.{event_name}.{kind}", {**where, **payload})

    def _grow_call(self, part: _Part, text: str) -> None:
        if part.item is not None and part.input is None:
            self._emit_call(part, "delta", {"delta": text})
        elif part.input is not None and (delta := part.input.feed(text)):
            self._emit_call(part, "delta", {"delta": delta})

    def _end_call(self, part: _Part) -> None:
        start = part.start
        call = (CustomCall if start.custom else ToolCall)(start.id or "", start.name or "", part.text)
        if part.item is None:
            self._end_held_call(part, call)
            return
        item = part.item
        item.own = _with_id(part.extras, item.skeleton)
        if part.input is not None:
            if rest := part.input.close():
                self._emit_call(part, "delta", {"delta": rest})
            self._emit_call(part, "done", {"input": input_of(part.text)})
        else:
            if not part.text.strip() and not self._is_own:
                part.texts = ["{}"]  # a call without arguments: callers parse them
                self._emit_call(part, "delta", {"delta": "{}"})
                call = replace(call, arguments=part.text)
            name = call.name if part.form is None else part.form.name
            self._emit_call(part, "done", {"name": name, "arguments": part.text})
        item.call = call
        item.fields = None if part.form is None else spelled(call, part.form)[1]
        item.open_parts.discard(start.part)

    def _end_held_call(self, part: _Part, call: ToolCall) -> None:
        """Ends a call of a tool whose item has no deltas. If the input does not fit the item, it becomes a call of a
        function."""
        form = part.form or ToolForm("function", call.name)
        kind, fields = spelled(call, form)
        if kind == "function_call":
            part.form = ToolForm("function", call.name)
            self._begin_call_item(part, kind, replace(call, arguments=""))
            self._emit_call(part, "delta", {"delta": fields["arguments"]})
            part.texts = [str(fields["arguments"])]
            self._end_call(part)
        else:
            item = self._begin_item(self._skeleton(kind, NO_EXTRAS))
            item.call, item.fields = call, fields
            self._emit_item("added", item, item.item("in_progress"))
        self._release()

    # thinking

    def _think(self, part: _Part, text: str) -> None:
        if part.item is None:
            part.item = self._begin_item(self._skeleton("reasoning", NO_EXTRAS))
            part.item.open_parts.add(part.start.part)
            self._emit_item("added", part.item, {**part.item.skeleton, "summary": []})
            self._emit_summary(part.item, "part.added", 0, {"part": {"type": "summary_text", "text": ""}})
        self._emit_summary(part.item, "text.delta", 0, {"delta": text})

    def _emit_summary(self, item: _Writing, kind: str, at: int, payload: Item) -> None:
        where: Item = {"item_id": item.skeleton["id"], "output_index": item.index, "summary_index": at}
        self._emit(f"response.reasoning_summary_{kind}", {**where, **payload})

    def _end_thinking(self, part: _Part) -> None:
        if self._is_own:
            self._own_thoughts(part)
            return
        thinking = Thinking(part.text, part.signature or None)
        if part.item is None:
            if thinking.signature:
                self._reasoning_item("reasoning", thinking)
            return
        self._emit_summary(part.item, "text.done", 0, {"text": part.text})
        self._emit_summary(part.item, "part.done", 0, {"part": {"type": "summary_text", "text": part.text}})
        part.item.whole = reasoning_item(part.item.skeleton, thinking)
        part.item.open_parts.discard(part.start.part)

    def _reasoning_item(self, kind: str, thinking: Thinking | RedactedThinking) -> None:
        item = self._begin_item(self._skeleton(kind, NO_EXTRAS))
        item.whole = reasoning_item(item.skeleton, thinking)
        self._emit_item("added", item, {**item.skeleton, "summary": []})

    def _own_thoughts(self, part: _Part) -> None:
        """Reasoning of this dialect, written when it is complete: its deltas do not name their text."""
        item = part.begun
        item.whole = {**item.skeleton, **_with_id(part.extras, item.skeleton)}
        item.open_parts.discard(part.start.part)
        for key, at, text in thoughts(item.whole):
            if key == "summary":
                self._emit_summary(item, "part.added", at, {"part": {"type": "summary_text", "text": ""}})
                self._emit_summary(item, "text.delta", at, {"delta": text})
                self._emit_summary(item, "text.done", at, {"text": text})
                self._emit_summary(item, "part.done", at, {"part": {"type": "summary_text", "text": text}})
                continue
            where: Item = {"item_id": item.skeleton["id"], "output_index": item.index, "content_index": at}
            self._emit("response.reasoning_text.delta", {**where, "delta": text})
            self._emit("response.reasoning_text.done", {**where, "text": text})

    def _own_item(self, value: Item) -> None:
        """A complete item that only this dialect has."""
        item = self._begin_item({"id": value.get("id"), "type": value.get("type")})
        item.whole = value
        self._emit_item("added", item, value)
