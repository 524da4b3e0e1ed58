"""Encodes reply events as a stream of chat completion chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from ...codecs import sse
from ...codecs.json_values import encode, object_in
from ...model.call import Call
from ...model.content import Extras, Image, Opaque
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
from ...model.usage import Usage
from ..citations import Citation, chat_annotation, citations_in
from ..custom_tools import CustomInputReader
from ..logprobs import chat_logprobs
from .errors import envelope
from .fields import NAME, Object
from .functions import offers_functions
from .reply import NAMELESS_REPLY, reply_call_id, write_finish, write_usage, written_media
from .stream_in import DONE
from .tools import custom_names

# --- streams, writing

_PROBABILITIES = frozenset({"avgLogprobs", "logprobs", "logprobsResult"})
_QUIET = sse.comment(b"keep-alive")


@dataclass(slots=True)
class _WrittenPart:
    kind: PartKind
    call: int = 0
    """The index of a tool call among the tool calls."""
    texts: list[str] = field(default_factory=list)
    """The text of a thinking part. With its signature it is sent again, as one block that the caller can send back."""
    signature: str = ""
    empty: bool = True
    ended: bool = False
    input: CustomInputReader | None = None
    """Of a call of a custom tool."""
    older: bool = False
    """Of a call in the older spelling."""
    begin: int = 0
    """Of a text: the length of the texts before it."""
    cited: tuple[Citation, ...] = ()
    """The sources that a text of another format cites."""


@dataclass(slots=True)
class _WrittenChoice:
    parts: dict[int, _WrittenPart] = field(default_factory=dict)
    calls: int = 0
    length: int = 0
    """Characters of the text."""
    cited: tuple[Citation, ...] = ()
    """The sources of the whole choice."""
    images: int = 0
    has_role: bool = False
    finished: bool = False


class ReplyWriter:
    """Encodes one streamed reply. `dropped`: the names of parts without a place in this format."""

    def __init__(self, call: Call) -> None:
        self._wants_usage = call.wants_usage
        self._model = call.model
        self._custom = custom_names(call)
        self._older = offers_functions(call)
        self._choices: dict[int, _WrittenChoice] = {}
        self._head: Object = {
            "id": NAMELESS_REPLY,
            "object": "chat.completion.chunk",
            "created": 0,
            "model": call.model,
        }
        self._usage: Usage | None = None
        self._over = False
        self.dropped: set[str] = set()

    def write(self, event: ReplyEvent) -> bytes:
        if self._over:
            return b""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._begin(event)
            case PartSigned():
                return self._sign(event)
            case PartEnded():
                return self._part_end(self._choice(event.choice).parts[event.part], event.choice)
            case ReplyStarted():
                return self._start(event)
            case Finished():
                return self._own_notes(event.extras, event.choice) + self._finish(event.finish, event.choice)
            case UsageSeen():
                self._usage = event.usage
                return b""
            case PartNoted():
                return self._note(event)
            case Noted():
                self.dropped.update(event.extras.keys() - _PROBABILITIES)
                if written := self._own_notes(event.extras, event.choice or 0):
                    return written
                self._choice(event.choice or 0).cited += citations_in(event.extras)
                return b""
            case Ping():
                return _QUIET
            case Garbled():
                return b""
            case Failed():
                self._over = True
                return sse.encode(encode(envelope(event.fault)))
            case Ended():
                return self._end()
            case _:
                assert_never(event)

    def _own_notes(self, extras: Extras, number: int) -> bytes:
        """The fields of a message of this format that are no parts: its sound, its sources and the
        probabilities of its tokens, which every format has in its own way."""
        message = object_in(extras, "message")
        fields = {name: message[name] for name in ("annotations", "audio") if message.get(name)}
        probabilities = chat_logprobs(extras)
        return self._chunk(number, fields, None, probabilities) if fields or probabilities else b""

    def _choice(self, number: int) -> _WrittenChoice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _WrittenChoice()
        return choice

    def _chunk(
        self, number: int, delta: Object, finish: str | None = None, probabilities: Object | None = None
    ) -> bytes:
        choice = self._choice(number)
        if not choice.has_role:
            choice.has_role = True
            delta = {"role": "assistant", "content": None, **delta}
        choice_object = {"index": number, "delta": delta, "logprobs": probabilities, "finish_reason": finish}
        return sse.encode(encode({**self._head, "choices": [choice_object]}))

    def _start(self, event: ReplyStarted) -> bytes:
        self._head["id"] = event.id or NAMELESS_REPLY
        self._head["model"] = event.model or self._model
        self._head["created"] = event.created or 0
        self.dropped.update(event.extras)
        return self._chunk(0, {"content": ""})

    def _begin(self, event: PartStarted) -> bytes:
        choice = self._choice(event.choice)
        part = choice.parts[event.part] = _WrittenPart(event.kind, begin=choice.length)
        match event.kind:
            case "tool_call":
                part.call = choice.calls
                choice.calls += 1
                part.older = self._older and part.call == 0
                if part.older:
                    return self._chunk(event.choice, {"function_call": {"name": event.name or "", "arguments": ""}})
                call: Object = {"index": part.call, "id": reply_call_id(event.id or "")}
                if event.name in self._custom:
                    part.input = CustomInputReader()
                    call |= {"type": "custom", "custom": {"name": event.name or "", "input": ""}}
                else:
                    call |= {"type": "function", "function": {"name": event.name or "", "arguments": ""}}
                return self._chunk(event.choice, {"tool_calls": [call]})
            case "redacted_thinking":
                block = {"type": "redacted_thinking", "data": event.data or ""}
                return self._chunk(event.choice, {"thinking_blocks": [block]})
            case "media":
                media = event.media
                if media is None:
                    return b""
                choice.images += isinstance(media, Image)
                return self._chunk(event.choice, written_media(media, choice.images - 1))
            case "opaque":
                return self._opaque(event.opaque, event.choice)
            case "text" | "thinking" | "refusal":
                return b""
            case _:
                assert_never(event.kind)

    def _opaque(self, opaque: Opaque | None, number: int) -> bytes:
        """A part of another format is dropped; a part of this format is written to the field that it came from."""
        if opaque is None or opaque.dialect != NAME:
            self.dropped.add(opaque.kind if opaque is not None else "opaque")
            return b""
        if isinstance(opaque.value, dict) and "id" in opaque.value:
            choice = self._choice(number)
            choice.calls += 1
            return self._chunk(number, {"tool_calls": [{"index": choice.calls - 1, **opaque.value}]})
        return self._chunk(number, {"content": [opaque.value]})

    def _delta(self, event: PartDelta) -> bytes:
        part = self._choice(event.choice).parts[event.part]
        if not event.text:
            return b""
        part.empty = False
        match part.kind:
            case "text":
                self._choice(event.choice).length += len(event.text)
                return self._chunk(event.choice, {"content": event.text})
            case "thinking":
                part.texts.append(event.text)
                return self._chunk(event.choice, {"reasoning_content": event.text})
            case "refusal":
                return self._chunk(event.choice, {"refusal": event.text})
            case "tool_call" if part.input is not None:
                return self._input(part, part.input.feed(event.text), event.choice)
            case "tool_call" if part.older:
                return self._chunk(event.choice, {"function_call": {"arguments": event.text}})
            case "tool_call":
                call = {"index": part.call, "function": {"arguments": event.text}}
                return self._chunk(event.choice, {"tool_calls": [call]})
            case "redacted_thinking" | "media" | "opaque":
                return b""
            case _:
                assert_never(part.kind)

    def _note(self, event: PartNoted) -> bytes:
        """The sources of another format are written when their text is complete."""
        self.dropped.update(event.extras)
        part, annotations = self._choice(event.choice).parts[event.part], event.extras.get("annotations")
        if isinstance(annotations, list) and any(
            isinstance(each, dict) and "url_citation" in each for each in annotations
        ):
            return self._chunk(event.choice, {"annotations": annotations})
        part.cited += citations_in(event.extras)
        return b""

    def _cite(self, number: int, cited: tuple[Citation, ...], begin: int) -> bytes:
        end = self._choice(number).length
        return self._chunk(
            number, {"annotations": [chat_annotation(each, begin, end) for each in dict.fromkeys(cited)]}
        )

    def _input(self, part: _WrittenPart, text: str, choice: int) -> bytes:
        """A piece of the input of a custom tool."""
        if not text:
            return b""
        return self._chunk(choice, {"tool_calls": [{"index": part.call, "custom": {"input": text}}]})

    def _sign(self, event: PartSigned) -> bytes:
        part = self._choice(event.choice).parts[event.part]
        if part.kind == "tool_call" and part.older:
            return b""  # it has no place for a signature
        if part.kind == "tool_call":
            signed = {"google": {"thought_signature": event.signature}}
            # Clients (langchain, llama-index) read `function` in each piece of a call.
            piece: Object = {"function": {"arguments": ""}} if part.input is None else {"custom": {"input": ""}}
            call = {"index": part.call, **piece, "extra_content": signed}
            return self._chunk(event.choice, {"tool_calls": [call]})
        part.signature += event.signature
        return b""

    def _part_end(self, part: _WrittenPart, choice: int) -> bytes:
        if part.ended:
            return b""
        part.ended = True
        if part.cited:
            self._choice(choice).cited = ()
            return self._cite(choice, part.cited, part.begin)
        if part.kind == "thinking" and part.signature:
            block = {"type": "thinking", "thinking": "".join(part.texts), "signature": part.signature}
            part.texts.clear()
            return self._chunk(choice, {"thinking_blocks": [block]})
        if part.input is not None:
            return self._input(part, part.input.close(), choice)
        if part.older:
            return self._chunk(choice, {"function_call": {"arguments": "{}"}}) if part.empty else b""
        if part.kind == "tool_call" and part.empty:  # clients parse the arguments
            return self._chunk(choice, {"tool_calls": [{"index": part.call, "function": {"arguments": "{}"}}]})
        return b""

    def _finish(self, finish: Finish | None, number: int) -> bytes:
        choice = self._choice(number)
        if choice.finished:
            return b""
        choice.finished = True
        ends = b"".join(self._part_end(part, number) for part in choice.parts.values())
        if choice.cited:
            ends += self._cite(number, choice.cited, 0)
        return ends + self._chunk(number, {}, write_finish(finish, has_calls=choice.calls > 0, older=self._older))

    def _end(self) -> bytes:
        self._over = True
        out = [self._finish(None, number) for number in sorted(self._choices)]
        if self._wants_usage and self._usage is not None:
            out.append(sse.encode(encode({**self._head, "choices": [], "usage": write_usage(self._usage)})))
        return b"".join(out) + sse.encode(DONE)
