"""Decodes a streamed Messages reply into reply events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import msgspec

from ...codecs import sse
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE, decode_reply, encode, rest_of, text_of
from ...model.content import NO_EXTRAS, Json, Opaque
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
    PartKind,
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ..carried import MARK
from ..failed_finish import failed_finish
from ..turns import arguments_of
from .content import REDACTED, TEXT, THINKING, TOOL_USE
from .errors import read_fault
from .fields import NAME, Block
from .reply import REPLY, USAGE, read_finish, read_usage

# --- streams: reading

_DELTA_TEXTS: Mapping[str, str] = MappingProxyType(
    {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
)
_DELTA_KINDS: Mapping[str, PartKind] = MappingProxyType({"text_delta": "text", "thinking_delta": "thinking"})
"""The block that a delta belongs to, of those that need no more than their text."""
_TEXTS = frozenset(_DELTA_KINDS.values())
_OPEN_LIMIT = 16 * 1024 * 1024
"""Bytes of one block that is held until it is whole; as much as one frame may have."""


@dataclass(slots=True)
class _Open:
    """A block between its start and its stop."""

    part: int
    kind: str
    value: Block
    """The block of the start event. A block that only this dialect has also collects its deltas here."""
    json: list[str]
    """The pieces of its input."""
    size: int = 0
    has_delta: bool = False


class _TextDelta(msgspec.Struct, tag_field="type", tag="text_delta", forbid_unknown_fields=True):
    block: ClassVar[str] = "text"
    text: str


class _ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta", forbid_unknown_fields=True):
    block: ClassVar[str] = "thinking"
    text: str = msgspec.field(name="thinking")


class _InputDelta(msgspec.Struct, tag_field="type", tag="input_json_delta", forbid_unknown_fields=True):
    block: ClassVar[str] = "tool_use"
    text: str = msgspec.field(name="partial_json")


class _DeltaEvent(msgspec.Struct, tag_field="type", tag="content_block_delta", forbid_unknown_fields=True):
    index: int
    delta: _TextDelta | _ThinkingDelta | _InputDelta


_delta_event = msgspec.json.Decoder(_DeltaEvent)


class ReplyReader:
    """Decodes one stream. A block that only this dialect has (a server tool's call or result) is reported when it is
    complete, because a part of that kind starts with its whole value."""

    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._blocks: dict[int, _Open] = {}
        self._parts = 0
        self._usage: Block = {}
        self._searches = 0
        """Web searches that have begun. The final usage has the number that is charged."""
        self._early_finish: Finish | None = None
        """From message_start, or a later value."""
        self._started = False
        self._over = False

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
        if self._over or not frame.data or frame.data == b"[DONE]":
            return []
        try:
            event = decode_reply(frame.data)
        except UNREADABLE:
            return [Garbled("an event is not valid JSON")]
        if not isinstance(event, dict):
            return [Garbled("an event is not an object")]
        kind = event.get("type") or frame.event
        read = _READ_EVENT.get(kind) if isinstance(kind, str) else None
        if read is not None:
            return read(self, event)
        if event.get("error") or ("type" not in event and (event.get("message") or event.get("detail"))):
            return self._error(event)
        return []  # a new kind of event: the API says, skip it

    def skim(self, frame: Frame) -> int | None:
        """The event of a delta of a block that arrives in parts."""
        if self._over:
            return None
        try:
            event = _delta_event.decode(frame.data)
        except UNREADABLE:
            return None
        block = self._blocks.get(event.index)
        if block is None or block.kind != event.delta.block:
            return None
        length = len(event.delta.text)
        block.has_delta = block.has_delta or length > 0
        return length

    def _start(self, event: Block) -> list[ReplyEvent]:
        message = event.get("message")
        if self._started or not isinstance(message, dict):
            return [Garbled("message_start was sent twice, or without a message")]
        self._started = True
        id, model = message.get("id"), message.get("model")
        extras = dict(rest_of(message, REPLY))
        usage = self._use(message.get("usage"))
        if rest := rest_of(self._usage, USAGE):
            extras["usage"] = rest
        started = ReplyStarted(text_of(id), text_of(model), None, extras or NO_EXTRAS)
        self._early_finish = read_finish(message.get("stop_reason"), message.get("stop_sequence"))
        return [started, *self._early_blocks(message.get("content")), *usage]

    def _early_blocks(self, content: Json) -> Iterator[ReplyEvent]:
        """Blocks that are complete when the message starts. Anthropic sends the calls of a continued turn this way
        (programmatic tool calling). Their part numbers differ from those of later blocks."""
        for place, block in enumerate(content if isinstance(content, list) else (), 1):
            number: Block = {"index": -place}
            yield from self._block_start({**number, "content_block": block})
            if -place in self._blocks:
                yield from self._block_stop(number)

    def _use(self, usage: Json) -> list[ReplyEvent]:
        """Adds a usage report. Counts are cumulative: each new count replaces the earlier one, and missing counts keep
        their value."""
        if not isinstance(usage, dict):
            return []
        self._usage.update((key, value) for key, value in usage.items() if value is not None)
        return [self._used()]

    def _used(self) -> UsageSeen:
        usage = read_usage(self._usage)
        return UsageSeen(replace(usage, searches=max(usage.searches, self._searches)))

    def _block_start(self, event: Block) -> list[ReplyEvent]:
        index, value = event.get("index"), event.get("content_block")
        if not isinstance(index, int) or not isinstance(value, dict) or not isinstance(value.get("type"), str):
            return [Garbled("content_block_start without an index or a block")]
        if index in self._blocks:
            return [Garbled(f"block {index} was started twice")]
        part, self._parts = self._parts, self._parts + 1
        open_ = self._blocks[index] = _Open(part, str(value["type"]), value, [])
        match value:
            case {"type": "text"}:
                text = value.get("text")
                return [
                    PartStarted(part, "text", extras=rest_of(value, TEXT)),
                    *([PartDelta(part, text)] if isinstance(text, str) and text else []),
                ]
            case {"type": "thinking"}:
                text, signature = value.get("thinking"), value.get("signature")
                return [
                    PartStarted(part, "thinking", extras=rest_of(value, THINKING)),
                    *([PartDelta(part, text)] if isinstance(text, str) and text else []),
                    *(
                        [PartSigned(part, signature)]
                        if isinstance(signature, str) and signature and not signature.startswith(MARK)
                        else []
                    ),
                ]
            case {"type": "redacted_thinking", "data": str(data)}:
                return [PartStarted(part, "redacted_thinking", data=data, extras=rest_of(value, REDACTED))]
            case {"type": "tool_use", "id": str(id), "name": str(name)}:
                return [PartStarted(part, "tool_call", id, name, extras=rest_of(value, TOOL_USE))]
            case _:
                open_.kind = "opaque"
                return self._search(value)

    def _search(self, block: Block) -> list[ReplyEvent]:
        """Counts the search that a block begins. The usage comes at the end, which a caller who leaves does not see.
        Anthropic does not charge for a search that failed."""
        match block:
            case {"type": "server_tool_use", "name": "web_search"}:
                self._searches += 1
            case {"type": "web_search_tool_result", "content": {"type": "web_search_tool_result_error"}}:
                self._searches = max(0, self._searches - 1)
            case _:
                return []
        return [self._used()]

    def _block_delta(self, event: Block) -> list[ReplyEvent]:
        index, delta = event.get("index"), event.get("delta")
        block = self._blocks.get(index) if isinstance(index, int) else None
        kind = delta.get("type") if isinstance(delta, dict) else None
        if block is None or not isinstance(delta, dict):
            return self._without_start(index, delta, None)
        if block.kind == "opaque":
            return self._grow(block, delta)
        own = _DELTA_KINDS.get(kind) if isinstance(kind, str) else None
        if own is not None and own != block.kind and block.kind in _TEXTS:
            return self._without_start(index, delta, block)
        # Nearly every event is one of these. A look-up is many times faster than matching patterns over a dict.
        text = delta.get(_DELTA_TEXTS.get(kind, "")) if isinstance(kind, str) else None
        if isinstance(text, str):
            block.has_delta = block.has_delta or bool(text)
            return [PartDelta(block.part, text)] if text else []
        match delta:
            case {"type": "signature_delta", "signature": str(signature)}:
                return [] if signature.startswith(MARK) else [PartSigned(block.part, signature)]
            case {"type": "citations_delta", "citation": citation}:
                return [PartNoted(block.part, {"citations": [citation]})]
            case _ if not isinstance(kind, str) or delta.get(_DELTA_TEXTS.get(kind, "")) is not None:
                return [Garbled("a delta without a type, or with another value than a text")]
            case _:
                return []  # a new kind of delta

    def _without_start(self, index: Json, delta: Json, before: _Open | None) -> list[ReplyEvent]:
        """Reads a delta of another kind than its block, or of no block. Gateways that translate other formats send
        text and thinking without the start of a block (BerriAI/litellm#32357)."""
        part_kind = _DELTA_KINDS.get(str(delta.get("type"))) if isinstance(delta, dict) else None
        if not self._started or part_kind is None or not isinstance(index, int) or not isinstance(delta, dict):
            return [Garbled("content_block_delta without an open block")]
        part, self._parts = self._parts, self._parts + 1
        self._blocks[index] = _Open(part, part_kind, {"type": part_kind}, [])
        ended: list[ReplyEvent] = [] if before is None else [PartEnded(before.part)]
        return [*ended, PartStarted(part, part_kind), *self._block_delta({"index": index, "delta": delta})]

    def _grow(self, block: _Open, delta: Block) -> list[ReplyEvent]:
        for key, value in delta.items():
            if key == "type":
                continue
            if key == "partial_json" and isinstance(value, str):
                block.json.append(value)
            elif key == "citation":
                before = block.value.get("citations")
                block.value["citations"] = [*(before if isinstance(before, list) else []), value]
            elif isinstance(value, str):
                before = block.value.get(key)
                block.value[key] = f"{before}{value}" if isinstance(before, str) else value
            else:
                block.value[key] = value
            block.size += len(value) if isinstance(value, str) else 0
        if block.size > _OPEN_LIMIT:
            self._over = True
            return [Failed(Fault(502, "api", f"the provider sent one block of more than {_OPEN_LIMIT} bytes"))]
        return []

    def _block_stop(self, event: Block) -> list[ReplyEvent]:
        index = event.get("index")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return [Garbled("content_block_stop without an open block")]
        part = block.part
        if block.kind == "opaque":
            if (grown := arguments_of("".join(block.json))) and block.json:
                block.value["input"] = grown
            opaque = Opaque(NAME, str(block.value["type"]), block.value)
            return [PartStarted(part, "opaque", opaque=opaque), PartEnded(part)]
        tool_input = block.value.get("input")
        if block.kind == "tool_use" and not block.has_delta and isinstance(tool_input, dict):
            # No delta: the start event had the whole input, or there is none.
            return [PartDelta(part, encode(tool_input).decode()), PartEnded(part)]
        return [PartEnded(part)]

    def _message_delta(self, event: Block) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        delta = event.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        finish = read_finish(delta.get("stop_reason"), delta.get("stop_sequence"))
        reported = event.get("usage")
        if isinstance(reported, dict):
            self._searches = 0  # it has the number that is charged
        usage = self._use(reported)
        failed = failed_finish(finish.raw) if finish is not None else None
        if failed is not None:
            self._over = True
            return [*usage, Failed(failed)]
        if finish is not None:
            self._early_finish = None
            events.append(Finished(finish))
        events += usage
        noted = {**rest_of(event, frozenset({"type", "delta", "usage"})), **rest_of(delta, REPLY)}
        if rest := rest_of(self._usage, USAGE):
            noted["usage"] = rest
        if noted:
            events.append(Noted(noted))
        return events

    def _stop(self, event: Block) -> list[ReplyEvent]:
        del event
        self._over = True
        early = self._early_finish
        if early is None:
            return [Ended()]
        failed = failed_finish(early.raw)
        return [Finished(early), Ended()] if failed is None else [Failed(failed)]

    def _error(self, event: Block) -> list[ReplyEvent]:
        self._over = True
        # Hosts send an error without the object around it, too.
        error = event.get("error") or {"message": event.get("message") or event.get("detail")}
        return [Failed(read_fault(error, None, event.get("request_id")))]

    def _ping(self, event: Block) -> list[ReplyEvent]:
        del event
        return [Ping()]


_READ_EVENT: Mapping[str, Callable[[ReplyReader, Block], list[ReplyEvent]]] = MappingProxyType(
    {
        "message_start": ReplyReader._start,
        "content_block_start": ReplyReader._block_start,
        "content_block_delta": ReplyReader._block_delta,
        "content_block_stop": ReplyReader._block_stop,
        "message_delta": ReplyReader._message_delta,
        "message_stop": ReplyReader._stop,
        "error": ReplyReader._error,
        "ping": ReplyReader._ping,
    }
)
