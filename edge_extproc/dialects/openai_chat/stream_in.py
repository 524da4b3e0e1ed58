"""Decodes a stream of chat completion chunks into reply events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from ...codecs import sse
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE, decode_reply, encode, text_of
from ...model.content import NO_EXTRAS, Extras, Json, Opaque
from ...model.fault import Fault
from ...model.reply import (
    Ended,
    Failed,
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
from ..custom_tools import CLOSING, OPENING, escaped
from ..failed_finish import failed_finish
from .chunk_shapes import CallDelta, CallFunction, Chunk, ChunkChoice, Delta, TextChunk, repaired_chunk, repaired_delta
from .content import thought_of
from .errors import fault_of, is_bare_error, is_refusal
from .fields import NAME
from .reply import read_finish, read_usage
from .request_in import read_answered_image
from .resent_arguments import SentArguments

# --- streams, reading


_chunk = msgspec.json.Decoder(Chunk, strict=True)
_text_chunk = msgspec.json.Decoder(TextChunk, strict=True)
DONE = b"[DONE]"
_FUNCTION_CALL = -1
"""The position among the tool calls of the old format's single function call."""

_TRUNCATED = Fault(502, "api", "the provider's stream ended before its reply was complete", "stream_truncated")


_EMPTY_DELTA = Delta()


class _WaitingCall(msgspec.Struct):
    """A call without arguments, whose name may have more pieces (continuedev/continue#5849), or without a name so far:
    some hosts send its id or arguments first."""

    id: str
    name: str = ""
    arguments: str = ""
    signature: str | None = None
    custom: bool = False
    """For a custom tool: the arguments are a piece of the string with its input."""


def joined_name(known: str, piece: str) -> str:
    """The name of a call with its next piece. Some hosts repeat it in each chunk (NousResearch/hermes-agent#8259),
    with more of it each time, or write "null" for none (BerriAI/litellm#12513)."""
    if not known or piece.startswith(known):
        return piece or known
    return known if piece == "null" else known + piece


class _ReadChoice:
    """One choice and its open parts. Thinking, text and refusals do not overlap: each ends when the next one begins.
    Tool calls may overlap, and end with the choice.

    The finish reason is reported at the end of the stream: Together sends it after each of several calls, and
    OpenRouter may send an error after it.
    """

    __slots__ = (
        "_calls",
        "_custom",
        "_flat",
        "_ids",
        "_number",
        "_open",
        "_parts",
        "_sent",
        "_signed",
        "_waiting_calls",
        "finish",
        "has_deltas",
        "native_finish",
        "open_kind",
    )

    def __init__(self, number: int) -> None:
        self._number = number
        self._parts = 0
        self._open: int | None = None
        self.open_kind: PartKind | None = None
        self._signed = False
        self._flat = False
        """Whether the open thinking came as flat text, which the structured spelling repeats."""
        self._calls: dict[int, int] = {}
        """Part by the host's index."""
        self._custom: list[int] = []
        """The parts of them that are calls of custom tools."""
        self._ids: dict[int, str] = {}
        """The id, by the host's index."""
        self._waiting_calls: dict[int, _WaitingCall] = {}
        """By the host's index."""
        self._sent: dict[int, SentArguments] = {}
        """The arguments, by part. Without the calls of custom tools."""
        self.finish: str | None = None
        self.native_finish: Any = None
        self.has_deltas = False
        """Whether a part of the reply came as a delta."""

    def read(self, delta: Delta, started_as: str | None) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        if delta.reasoning_content or delta.reasoning or delta.thinking_blocks or delta.reasoning_details:
            self._thoughts(delta, events)
        content = delta.content
        if isinstance(content, str):
            if content:
                self._add_text("text", content, events)
        elif isinstance(content, list):
            for part in content:
                self._content_part(part, events)
        elif content is not None:
            self._add_text("text", encode(content).decode(), events)
        for image in delta.images or ():
            self._image(image, events)
        if delta.refusal:
            self._add_text("refusal", delta.refusal, events)
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._call(call, started_as, events)
        if delta.function_call is not None and (delta.function_call.name or delta.function_call.arguments):
            self._call(CallDelta(_FUNCTION_CALL, None, delta.function_call), started_as, events)
        if delta.annotations:
            self._note({"annotations": delta.annotations}, events)
        if delta.audio:
            events.append(Noted({"message": {"audio": delta.audio}}, self._number))
        return events

    def end(self) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        for index in tuple(self._waiting_calls):
            if index in self._waiting_calls:  # the start of a call also starts the named ones before it
                self._start_call(index, events)
        self._end_open(events)
        events += (PartDelta(part, CLOSING, self._number) for part in self._custom)
        events += (PartDelta(part, rest, self._number) for part, sent in self._sent.items() if (rest := sent.rest()))
        events += (PartEnded(part, self._number) for part in self._calls.values())
        if self.finish is not None:
            finish = read_finish(self.finish, has_calls=bool(self._calls), native=self.native_finish)
            events.append(Finished(finish, self._number))
        return events

    def _begin(self, start: PartStarted, events: list[ReplyEvent]) -> int:
        if self._waiting_calls:
            self._start_named(None, events)
            start = replace(start, part=self._parts)
        return self._append(start, events)

    def _append(self, start: PartStarted, events: list[ReplyEvent]) -> int:
        self._end_open(events)
        part = self._parts
        self._parts += 1
        events.append(start)
        return part

    def _start_named(self, until: int | None, events: list[ReplyEvent]) -> None:
        """Starts the waiting calls that have a name, in their order. `until`: the host's index of a call that began
        after them."""
        for index, call in tuple(self._waiting_calls.items()):
            if index == until:
                return
            if call.name:
                self._start_call(index, events)

    def _end_open(self, events: list[ReplyEvent]) -> None:
        if self._open is not None:
            events.append(PartEnded(self._open, self._number))
        self._open, self.open_kind, self._signed, self._flat = None, None, False, False

    def _add_text(self, kind: PartKind, text: str, events: list[ReplyEvent]) -> None:
        if self.open_kind != kind or (kind == "thinking" and self._signed and text):
            self._open = self._begin(PartStarted(self._parts, kind, choice=self._number), events)
            self.open_kind = kind
        if text and self._open is not None:
            events.append(PartDelta(self._open, text, self._number))

    def _sign(self, signature: str, events: list[ReplyEvent]) -> None:
        self._add_text("thinking", "", events)
        if self._open is not None:
            events.append(PartSigned(self._open, signature, self._number))
        self._signed = True

    def _image(self, value: Json, events: list[ReplyEvent]) -> None:
        image = read_answered_image(value)
        if image is None:
            events.append(Noted({"message": {"images": [value]}}, self._number))
            return
        number = self._begin(PartStarted(self._parts, "media", media=image, choice=self._number), events)
        events.append(PartEnded(number, self._number))

    def _content_part(self, part: Json, events: list[ReplyEvent]) -> None:
        match part:
            case {"type": "image_url"} if read_answered_image(part) is not None:
                self._image(part, events)
            case {"type": "text", "text": str(text)} | str(text):
                self._add_text("text", text, events)
            case {"type": "thinking", "thinking": list(texts)}:
                for each in texts:
                    if isinstance(each, dict) and isinstance(each.get("text"), str):
                        self._add_text("thinking", each["text"], events)
                match part:
                    case {"signature": str(signature)}:
                        self._sign(signature, events)
            case dict():
                kind = part.get("type")
                opaque = Opaque(NAME, kind if isinstance(kind, str) else "", part)
                number = self._begin(PartStarted(self._parts, "opaque", opaque=opaque, choice=self._number), events)
                events.append(PartEnded(number, self._number))
            case _:
                events.append(Garbled("a part of the content is not an object"))

    def _thoughts(self, delta: Delta, events: list[ReplyEvent]) -> None:
        """Reads thinking. The structured spelling repeats flat text beside it, so only signatures and encrypted values
        are taken from it then."""
        flat = delta.reasoning_content or delta.reasoning
        if flat:
            self._add_text("thinking", flat, events)
            self._flat = True
        entries = delta.thinking_blocks or delta.reasoning_details
        for entry in entries or ():
            thought = thought_of(entry)
            if thought is None:
                key = "thinking_blocks" if delta.thinking_blocks else "reasoning_details"
                events.append(Noted({"message": {key: [entry]}}, self._number))
                continue
            if thought.sealed is not None:
                start = PartStarted(self._parts, "redacted_thinking", data=thought.sealed, choice=self._number)
                events.append(PartEnded(self._begin(start, events), self._number))
                continue
            if thought.text and not self._flat:
                self._add_text("thinking", thought.text, events)
            if thought.signature:
                self._sign(thought.signature, events)

    def _call(self, delta: CallDelta, started_as: str | None, events: list[ReplyEvent]) -> None:
        function = delta.function
        custom = function is None and delta.custom is not None
        if delta.custom is not None and function is None:
            name, custom_input = delta.custom.get("name"), delta.custom.get("input")
            function = CallFunction(text_of(name), escaped(text_of(custom_input) or ""))
        name = function.name if function is not None else None
        index = self._index(delta, bool(name))
        arguments = function.arguments if function is not None else None
        if isinstance(arguments, dict):
            arguments = encode(arguments).decode()
        signature: str | None = None
        match delta.extra_content:
            case {"google": {"thought_signature": str(signed)}}:
                signature = signed
        part = self._calls.get(index)
        if part is None:
            new_id = f"call_{started_as or 'reply'}_{self._number}_{len(self._ids)}"
            waiting = self._waiting_calls.setdefault(index, _WaitingCall(delta.id or new_id))
            if delta.id and not self._ids.get(index):
                # Clients find the result of a call by its id. Some hosts give all calls of a reply the same one.
                is_taken = delta.id in self._ids.values()
                self._ids[index] = delta.id
                waiting.id = f"{delta.id}_{len(self._ids) - 1}" if is_taken else delta.id
            self._ids.setdefault(index, "")
            waiting.name = joined_name(waiting.name, name or "")
            waiting.custom = waiting.custom or custom
            waiting.arguments += arguments or ""
            waiting.signature = signature or waiting.signature
            if waiting.name and waiting.arguments:
                self._start_call(index, events)
            return
        if arguments:
            self._grow(part, arguments, events)
        if signature is not None:
            events.append(PartSigned(part, signature, self._number))

    def _start_call(self, index: int, events: list[ReplyEvent]) -> None:
        self._start_named(index, events)
        waiting = self._waiting_calls.pop(index)
        start = PartStarted(
            self._parts, "tool_call", waiting.id, waiting.name, choice=self._number, custom=waiting.custom
        )
        part = self._calls[index] = self._append(start, events)
        if waiting.custom:
            self._custom.append(part)
            events.append(PartDelta(part, OPENING, self._number))
        else:
            self._sent[part] = SentArguments()
        if waiting.arguments:
            self._grow(part, waiting.arguments, events)
        if waiting.signature is not None:
            events.append(PartSigned(part, waiting.signature, self._number))

    def _grow(self, part: int, arguments: str, events: list[ReplyEvent]) -> None:
        sent = self._sent.get(part)
        if new := arguments if sent is None else sent.new_of(arguments):
            events.append(PartDelta(part, new, self._number))

    def _index(self, delta: CallDelta, has_name: bool) -> int:
        """The number of the call that a delta belongs to. Mistral sends no index, other hosts send 0 for every call: a
        new id with a name begins a new call, and a delta with neither continues the last one."""
        index = delta.index
        if index is None:
            known = [i for i, id in self._ids.items() if id and id == delta.id]
            if known:
                return known[0]
            return max(self._ids, default=-1) + 1 if delta.id or has_name or not self._ids else max(self._ids)
        for alias in sorted(self._ids, reverse=True):
            if alias % _ALIAS == index % _ALIAS and alias >= index >= 0:
                is_new = bool(delta.id) and has_name and delta.id != self._ids[alias] and bool(self._ids[alias])
                return alias + _ALIAS if is_new else alias
        return index

    def _note(self, extras: Extras, events: list[ReplyEvent]) -> None:
        if self._open is not None:
            events.append(PartNoted(self._open, extras, self._number))
        else:
            events.append(Noted({"message": extras}, self._number))


_MOST_CHOICES = 1_000  # OpenAI sends up to 128
# Calls with the same index of a host get numbers that differ by multiples of this. No reply has so many calls.
_ALIAS = 1_000_000


class ReplyReader:
    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._choices: dict[int, _ReadChoice] = {}
        self._started = False
        self._has_usage = False
        self._over = False
        self._id: str | None = None

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def read(self, frame: Frame) -> list[ReplyEvent]:
        data = frame.data
        if self._over:
            return []
        if not data:
            return [Ping()] if frame.raw.lstrip(b"\r\n").startswith(b":") else []
        if data == DONE:
            return self._end()
        try:
            chunk = _chunk.decode(data)
        except UNREADABLE:
            return self._odd(data)
        if chunk.error:
            return self._fail(fault_of(200, (), {"error": chunk.error}))
        if chunk.base_resp and is_refusal(chunk.base_resp):
            return self._fail(fault_of(200, (), {"base_resp": chunk.base_resp}))
        is_error = chunk.object == "error" or chunk.detail or chunk.message or chunk.msg or chunk.errors
        if is_error and chunk.choices is None:
            return self._odd(data)
        return self._chunk(chunk)

    def skim(self, frame: Frame) -> int | None:
        """Of text that goes on: the part has begun."""
        choice = self._choices.get(0)
        if self._over or choice is None or choice.open_kind != "text":
            return None
        try:
            choices = _text_chunk.decode(frame.data).choices
        except UNREADABLE:
            return None
        return len(choices[0].delta.content) if len(choices) == 1 else None

    def _chunk(self, chunk: Chunk) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        if chunk.choices:
            if not self._started:
                self._start(chunk, events)
            for position, choice in enumerate(chunk.choices):
                self._choice(choice, position, events)
                if choice.error:
                    return [*events, *self._fail(fault_of(200, (), {"error": choice.error}))]
        usage = chunk.usage or (chunk.x_groq.usage if chunk.x_groq is not None else None)
        if usage:
            self._has_usage = True
            events.append(UsageSeen(read_usage(usage)))
        return events

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        if not self._over:
            is_complete = bool(self._choices) and all(choice.finish is not None for choice in self._choices.values())
            events += self._end() if is_complete else self._fail(_TRUNCATED)
        return frames, events

    def _start(self, chunk: Chunk, events: list[ReplyEvent]) -> None:
        self._started = True
        self._id = str(chunk.id) if chunk.id else None
        created = None if chunk.created is None else int(chunk.created)
        events.append(ReplyStarted(self._id, chunk.model or None, created))

    def _choice(self, chunk: ChunkChoice, position: int, events: list[ReplyEvent]) -> None:
        number = position if chunk.index is None or not 0 <= chunk.index < _MOST_CHOICES else chunk.index
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _ReadChoice(number)
        delta = chunk.delta
        if delta is None or delta == _EMPTY_DELTA:
            if isinstance(chunk.message, dict):
                # After deltas it repeats them.
                delta = None if choice.has_deltas else repaired_delta(chunk.message)
            elif isinstance(chunk.text, str):
                delta = Delta(content=chunk.text)
        else:
            choice.has_deltas = True
        if delta is not None:
            events += choice.read(delta, self._id)
        if chunk.logprobs:
            events.append(Noted({"logprobs": chunk.logprobs}, number))
        if chunk.finish_reason is not None:
            choice.finish, choice.native_finish = chunk.finish_reason, chunk.native_finish_reason
            # The frame has more than the usage, so it must not be hidden with the usage.
            events.append(Noted(NO_EXTRAS, number))
        if chunk.usage:
            events.append(UsageSeen(read_usage(chunk.usage)))

    def _odd(self, data: bytes) -> list[ReplyEvent]:
        """A chunk that does not match the format: an error of another shape, or fields of other types. Such a field is
        read if possible. An optional one is ignored otherwise."""
        try:
            value = decode_reply(data)
        except UNREADABLE:
            value = None
        if not isinstance(value, dict):
            return [Garbled("a chunk is not a JSON object")]
        if value.get("error"):
            return self._fail(fault_of(200, (), value))
        if is_bare_error(value):
            return self._fail(fault_of(200, (), value, text_of(value.get("detail")) or ""))
        repaired = repaired_chunk(value)
        if value.get("choices") and not repaired.choices:
            return [Garbled("the choices of a chunk are not objects")]
        return self._chunk(repaired)

    def _end(self) -> list[ReplyEvent]:
        failed = next((fault for choice in self._choices.values() if (fault := failed_finish(choice.finish))), None)
        if failed is not None:
            return self._fail(failed)
        if not self._choices and not self._has_usage:  # the end alone is no empty answer
            return self._fail(_TRUNCATED)
        self._over = True
        ends = [event for choice in self._choices.values() for event in choice.end()]
        return [*ends, Ended()]

    def _fail(self, fault: Fault) -> list[ReplyEvent]:
        self._over = True
        return [Failed(fault)]
