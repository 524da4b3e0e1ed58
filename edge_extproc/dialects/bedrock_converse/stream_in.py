"""Decodes a ConverseStream event stream into reply events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, assert_never

import msgspec

from ...codecs import aws_eventstream
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE, as_list, decode, decode_reply, encode, rest_of
from ...model.content import Json
from ...model.fault import Fault, kind_of
from ...model.reply import (
    Ended,
    Failed,
    Finished,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartSigned,
    PartStarted,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ..carried import MARK
from ..failed_finish import failed_finish
from .content import CITATIONS, TOOL_USE, read_redacted
from .errors import fault_of, status_of
from .fields import Block
from .reply import PADDING, USAGE, read_finish, read_usage
from .stream_out import joined, whole_part

# --- streams: reading

_OPEN_LIMIT = 16 * 1024 * 1024
"""Characters of one block that is buffered until it is complete. The limit equals that of a frame."""


@dataclass(slots=True)
class _Open:
    """A block between its start or first delta and its stop."""

    part: int
    kind: Literal["text", "thinking", "tool_call", "redacted", "opaque"]
    value: Block = field(default_factory=dict)
    """The start and the deltas of a block that only this dialect has."""
    pieces: list[str] = field(default_factory=list)
    """The pieces of a block that is buffered until it is complete."""
    size: int = 0
    has_delta: bool = False


class _TextDelta(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class _TextEvent(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    content_block_index: int
    delta: _TextDelta
    p: str = ""
    """The padding."""


_text_event = msgspec.json.Decoder(_TextEvent)


class ReplyReader:
    """Decodes one stream. Text and reasoning begin with their first delta, because Bedrock sends a contentBlockStart
    only for tools. Redacted thinking and blocks that only this dialect has are reported when they are complete. The
    usage comes after the stop and ends the stream."""

    def __init__(self) -> None:
        self._decoder = aws_eventstream.EventStreamDecoder()
        self._blocks: dict[int, _Open] = {}
        self._parts = 0
        self._started = False
        self._finished = False
        self._over = False

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        """A stream with a stop and without usage is complete, unless an incomplete frame follows."""
        torn = self._decoder.close()
        if self._over:
            return torn, []
        self._over = True
        if self._finished and not torn:
            return torn, [Ended()]
        return torn, [
            Failed(Fault(502, "api", "the provider's stream ended before its reply was complete", "truncated_stream"))
        ]

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over:
            return []
        if isinstance(frame, aws_eventstream.AwsFrame) and not frame.is_event:
            return self._failed(frame)
        try:
            event = decode_reply(frame.data) if frame.data else {}
        except UNREADABLE:
            return [Garbled("an event is not valid JSON")]
        if not isinstance(event, dict):
            return [Garbled("an event is not an object")]
        if frame.event.endswith("Exception"):
            return self._failed(frame)
        read = _READ_EVENT.get(frame.event)
        return [] if read is None else read(self, event)  # a new kind of event is skipped

    def skim(self, frame: Frame) -> int | None:
        """Of text that goes on: the block has begun."""
        is_event = not isinstance(frame, aws_eventstream.AwsFrame) or frame.is_event
        if self._over or frame.event != "contentBlockDelta" or not is_event:
            return None
        try:
            event = _text_event.decode(frame.data)
        except UNREADABLE:
            return None
        block = self._blocks.get(event.content_block_index)
        if block is None or block.kind != "text":
            return None
        length = len(event.delta.text)
        block.has_delta = block.has_delta or length > 0
        return length

    def _failed(self, frame: Frame) -> list[ReplyEvent]:
        """An exception of the service model, or an unknown error that is only in headers."""
        self._over = True
        headers = frame.headers if isinstance(frame, aws_eventstream.AwsFrame) else aws_eventstream.NO_HEADERS
        try:
            body = decode(frame.data)
        except UNREADABLE:
            body = None
        body = body if isinstance(body, dict) else {}
        message = body.get("message") or body.get("Message") or headers.get(":error-message")
        type_ = frame.event[:1].upper() + frame.event[1:]
        if type_ == "ModelStreamErrorException" and (status := status_of(body.get("originalStatusCode"))):
            # The message of the model's host says more than the exception.
            fault = fault_of(type_, body.get("originalMessage") or message, None)
            return [Failed(replace(fault, status=status, kind=kind_of(status)))]
        return [Failed(fault_of(type_ or None, message, None))]

    def _start(self, event: Block) -> list[ReplyEvent]:
        del event
        if self._started:
            return [Garbled("messageStart was sent twice")]
        self._started = True
        return [ReplyStarted(None, None)]

    def _begin(self, index: int, kind: Literal["text", "thinking", "tool_call", "redacted", "opaque"]) -> _Open:
        block = self._blocks[index] = _Open(self._parts, kind)
        if kind not in ("redacted", "opaque"):  # their part begins when the block is complete
            self._parts += 1
        return block

    def _block_start(self, event: Block) -> list[ReplyEvent]:
        index, start = event.get("contentBlockIndex"), event.get("start")
        if not isinstance(index, int) or not isinstance(start, dict):
            return [Garbled("contentBlockStart without an index or a start")]
        if index in self._blocks:
            return [Garbled(f"block {index} was started twice")]
        use = start.get("toolUse")
        if isinstance(use, dict) and use.get("type") in (None, "tool_use"):
            id, name = use.get("toolUseId"), use.get("name")
            if isinstance(id, str) and isinstance(name, str):
                block = self._begin(index, "tool_call")
                return [PartStarted(block.part, "tool_call", id, name, extras=rest_of(use, TOOL_USE | {"type"}))]
        if not start:
            return []  # its deltas report the block
        self._begin(index, "opaque").value = dict(start)
        return []

    def _block_delta(self, event: Block) -> list[ReplyEvent]:
        index, delta = event.get("contentBlockIndex"), event.get("delta")
        if not isinstance(index, int) or not isinstance(delta, dict):
            return [Garbled("contentBlockDelta without an index or a delta")]
        block = self._blocks.get(index)
        # Nearly every event is one of these two.
        if isinstance(text := delta.get("text"), str):
            return self._grow(index, block, "text", text)
        if isinstance(use := delta.get("toolUse"), dict) and block is not None and block.kind == "tool_call":
            return self._grow(index, block, "tool_call", str(use.get("input") or ""))
        if isinstance(reasoning := delta.get("reasoningContent"), dict):
            return self._reason(index, block, reasoning)
        if "citation" in delta:
            block, events = (block, []) if block is not None else self._begin_text(index, "text")
            if block.kind != "text":
                return [Garbled(f"a citation in a block of {block.kind}")]
            return [*events, PartNoted(block.part, {CITATIONS: [delta["citation"]]})]
        return self._hold(index, block, delta)

    def _grow(
        self, index: int, block: _Open | None, kind: Literal["text", "thinking", "tool_call"], text: str
    ) -> list[ReplyEvent]:
        if block is not None and block.kind != kind:
            return [Garbled(f"a delta of {kind} in a block of {block.kind}")]
        if not text:
            return []
        events: list[ReplyEvent] = []
        if block is None:
            block, events = self._begin_text(index, kind)
        block.has_delta = True
        return [*events, PartDelta(block.part, text)]

    def _begin_text(self, index: int, kind: str) -> tuple[_Open, list[ReplyEvent]]:
        """Begins a block that had no start event."""
        part_kind: Literal["text", "thinking"] = "text" if kind == "text" else "thinking"
        block = self._begin(index, part_kind)
        return block, [PartStarted(block.part, part_kind)]

    def _reason(self, index: int, block: _Open | None, reasoning: Block) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        if isinstance(data := reasoning.get("redactedContent"), str):
            block = block or self._begin(index, "redacted")
            return events if block.kind != "redacted" else self._keep(block, data)
        if isinstance(text := reasoning.get("text"), str):
            events += self._grow(index, block, "thinking", text)
        if isinstance(signature := reasoning.get("signature"), str) and signature:
            block = self._blocks.get(index)
            if block is None:
                block, begun = self._begin_text(index, "thinking")
                events += begun
            if block.kind == "thinking" and not signature.startswith(MARK):
                events.append(PartSigned(block.part, signature))
        return events

    def _keep(self, block: _Open, text: str) -> list[ReplyEvent]:
        block.pieces.append(text)
        block.size += len(text)
        if block.size > _OPEN_LIMIT:
            self._over = True
            return [Failed(Fault(502, "api", f"the provider sent one block of more than {_OPEN_LIMIT} characters"))]
        return []

    def _hold(self, index: int, block: _Open | None, delta: Block) -> list[ReplyEvent]:
        """Adds to a block that only this dialect has: texts and lists are extended, other values replaced."""
        block = block or self._begin(index, "opaque")
        if block.kind != "opaque":
            return [Garbled(f"a delta of another kind in a block of {block.kind}")]
        _append(block.value, delta)
        return self._keep(block, encode(delta).decode())

    def _block_stop(self, event: Block) -> list[ReplyEvent]:
        index = event.get("contentBlockIndex")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return []  # an empty block without a start event or a delta
        match block.kind:
            case "tool_call" if not block.has_delta:
                return [PartDelta(block.part, "{}"), PartEnded(block.part)]
            case "text" | "thinking" | "tool_call":
                return [PartEnded(block.part)]
            case "redacted":
                part = self._next_part()
                data = read_redacted(joined(block.pieces))
                return [PartStarted(part, "redacted_thinking", data=data), PartEnded(part)]
            case "opaque":
                part = self._next_part()
                return [whole_part(block.value, part), PartEnded(part)]
            case _:
                assert_never(block.kind)

    def _next_part(self) -> int:
        self._parts += 1
        return self._parts - 1

    def _message_stop(self, event: Block) -> list[ReplyEvent]:
        """Ends all open blocks."""
        events: list[ReplyEvent] = []
        for index in sorted(self._blocks):
            events += self._block_stop({"contentBlockIndex": index})
        finish = read_finish(event.get("stopReason"), event.get("additionalModelResponseFields"))
        self._finished = True
        failed = failed_finish(finish.raw) if finish is not None else None
        if failed is not None:
            self._over = True
            return [*events, Failed(failed)]
        if finish is not None:
            events.append(Finished(finish))
        if noted := rest_of(event, frozenset({"stopReason", PADDING})):
            events.append(Noted(noted))
        return events

    def _metadata(self, event: Block) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        usage = event.get("usage")
        noted = dict(rest_of(event, frozenset({"usage", PADDING})))
        if isinstance(usage, dict):
            events.append(UsageSeen(read_usage(usage)))
            if rest := rest_of(usage, USAGE):
                noted["usage"] = rest
        if noted:
            events.append(Noted(noted))
        if self._finished:
            self._over = True
            events.append(Ended())
        return events


_READ_EVENT: Mapping[str, Callable[[ReplyReader, Block], list[ReplyEvent]]] = MappingProxyType(
    {
        "messageStart": ReplyReader._start,
        "contentBlockStart": ReplyReader._block_start,
        "contentBlockDelta": ReplyReader._block_delta,
        "contentBlockStop": ReplyReader._block_stop,
        "messageStop": ReplyReader._message_stop,
        "metadata": ReplyReader._metadata,
    }
)


def _append(value: Block, delta: Mapping[str, Json]) -> None:
    for key, more in delta.items():
        before = value.get(key)
        if isinstance(before, str) and isinstance(more, str):
            value[key] = before + more
        elif isinstance(before, list) and isinstance(more, list):
            value[key] = [*before, *more]
        elif isinstance(before, dict) and isinstance(more, dict):
            _append(before, more)
        elif isinstance(before, dict) and isinstance(more, list):  # toolResult: the deltas are the content
            before["content"] = [*as_list(before.get("content") or [], key), *more]
        else:
            value[key] = more
