"""Encodes reply events as a generateContent stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from ...codecs import json_array, sse
from ...codecs.json_values import encode
from ...errors import UpstreamError
from ...model.content import NO_EXTRAS, Extras, Json, ToolCall
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
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ..citations import Citation, citations_in, grounding
from ..cut_calls import has_object
from ..logprobs import average, entries_in, gemini_logprobs
from ..turns import CUT_OFF
from ..wrapped_roots import RootReader
from .content import sealed
from .errors import error_of
from .fields import Block
from .reply import Candidates, base64_of, candidate_of, envelope, write_finish, write_usage

# --- streams: writing

_HELD_LIMIT = 16 * 1024 * 1024
"""Characters of one call's arguments, which are buffered until they are complete. The limit equals that of a frame."""
# Fields of a reply or candidate that only this format has. They show that the stream is of this format.
_REPLY_EXTRAS = frozenset({"createTime", "modelStatus", "promptFeedback", "usageMetadata"})
_CANDIDATE_EXTRAS = frozenset(
    {
        "avgLogprobs",
        "citationMetadata",
        "finishMessage",
        "groundingMetadata",
        "logprobsResult",
        "safetyRatings",
        "tokenCount",
        "urlContextMetadata",
    }
)


@dataclass(slots=True)
class _BufferedPart:
    """A part between its start and its end. A call is buffered, because this format sends it complete. Of other parts
    only the signature is buffered."""

    start: PartStarted
    texts: list[str] = field(default_factory=list)
    size: int = 0
    signature: str | None = None
    foreign: bool = False
    """Whether the signature is not Google's."""
    root: RootReader | None = None
    """Of a text that is within an object."""


class ReplyWriter:
    """Writes one chunk for each piece of text. The last chunk has all finish reasons and the usage."""

    def __init__(self, *, array: bool, any_root: bool = False) -> None:
        """`any_root`: the caller's schema has a root that is no object, and other formats got an object around it."""
        self._array = array
        self._any_root = any_root
        self._frames = 0
        self._envelope: Block = {}
        self._usage: Block = {}
        self._own_usage: Block = {}
        self._finishes: dict[int, Finished] = {}
        self._cited: dict[int, tuple[Citation, ...]] = {}
        """The sources that the texts of another format cite."""
        self._entries: dict[int, list[Block]] = {}
        """The probabilities of the tokens of another format's reply, for their average."""
        self._choices: set[int] = set()
        """The candidates with content."""
        self._buffered: dict[tuple[int, int], _BufferedPart] = {}
        self._unparsed: dict[int, list[ToolCall]] = {}
        """Calls whose arguments are not an object, by choice. The finish reason shows whether they were cut off."""
        self._own = False
        """Whether the stream is of this format, and only its framing changes."""
        self._is_blocked = False
        self._over = False
        self._candidates = Candidates(own=False)

    def write(self, event: ReplyEvent) -> bytes:
        if self._over:
            return b""
        self._over = isinstance(event, Ended | Failed)
        match event:
            case PartDelta():
                return self._delta(event)
            case ReplyStarted():
                self._own = bool(event.extras.keys() & _REPLY_EXTRAS)
                self._candidates = Candidates(own=self._own)
                self._envelope = envelope(event.id, event.model, event.created)
                return self._note(event.extras)
            case PartStarted():
                return self._start(event)
            case PartSigned():
                self._sign(event.choice, event.part, event.signature, foreign=True)
            case PartNoted(extras={"thoughtSignature": str(signature)}):
                self._sign(event.choice, event.part, signature)
            case PartEnded():
                return self._end(event)
            case UsageSeen():
                self._usage = write_usage(event.usage)
            case Noted(extras=extras, choice=choice):
                cited = citations_in(extras)
                if cited:
                    self._cited[choice or 0] = (*self._cited.get(choice or 0, ()), *cited)
                return self._note(extras) if choice is None else self._note_candidate(choice, extras)
            case Finished():
                self._finishes[event.choice] = event
            case Ended():
                return self._last()
            case Failed():
                return self._frame(error_of(event.fault)) + self._terminator()
            case PartNoted():
                self._cited[event.choice] = (*self._cited.get(event.choice, ()), *citations_in(event.extras))
            case Ping() | Garbled():
                pass  # SDKs would read a comment as the beginning of an error
            case _:
                assert_never(event)
        return b""

    def _start(self, event: PartStarted) -> bytes:
        if event.kind == "opaque":
            block = self._candidates.part(event.opaque, event.choice) if event.opaque is not None else None
            return self._part(event.choice, block)
        if event.kind == "media":
            return self._part(event.choice, self._candidates.part(event.media, event.choice) if event.media else None)
        part = self._buffered[event.choice, event.part] = _BufferedPart(event)
        if self._any_root and not self._own and event.kind == "text":
            part.root = RootReader()
        match event.extras:
            case {"thoughtSignature": str(signature)}:
                part.signature = signature
        return b""

    def _delta(self, event: PartDelta) -> bytes:
        part = self._buffered[event.choice, event.part]
        match part.start.kind:
            case "tool_call":
                part.texts.append(event.text)
                part.size += len(event.text)
                if part.size > _HELD_LIMIT:
                    raise UpstreamError(f"the provider sent one call of more than {_HELD_LIMIT} characters")
                return b""
            case "thinking":
                return self._part(event.choice, {"text": event.text, "thought": True})
            case _ if part.root is not None:
                text = part.root.feed(event.text)
                return self._part(event.choice, {"text": text} if text else None)
            case _:
                return self._part(event.choice, {"text": event.text})

    def _sign(self, choice: int, part: int, signature: str, *, foreign: bool = False) -> None:
        """A signature may arrive in pieces. A signature of thinking is Claude's unless a note says otherwise."""
        buffered = self._buffered[choice, part]
        buffered.signature = (buffered.signature or "") + signature
        buffered.foreign = foreign

    def _end(self, event: PartEnded) -> bytes:
        part = self._buffered.pop((event.choice, event.part), None)
        if part is None:
            return b""
        start = part.start
        match start.kind:
            case "tool_call":
                arguments = "".join(part.texts)
                call = ToolCall(start.id or "", start.name or "", arguments, None, part.signature, start.extras)
                if not has_object(call):
                    self._unparsed.setdefault(event.choice, []).append(call)
                    return self._part(event.choice, None)
                return self._part(event.choice, self._candidates.part(call, event.choice))
            case "thinking":
                signed = sealed(part.signature) if part.foreign else base64_of(part.signature)
                block: Block = {"text": "", "thought": True, **signed}
            case _:
                rest = part.root.close() if part.root is not None else ""
                block = {"text": rest, **base64_of(part.signature)}
                if rest:
                    return self._part(event.choice, block)
        return self._part(event.choice, block if "thoughtSignature" in block else None)

    def _note(self, extras: Extras) -> bytes:
        fields = {key: value for key, value in extras.items() if key in _REPLY_EXTRAS}
        usage, created = fields.pop("usageMetadata", None), fields.pop("createTime", None)
        if isinstance(usage, dict):
            self._own_usage.update(usage)
        if created is not None:
            self._envelope["createTime"] = created
        self._is_blocked = self._is_blocked or "promptFeedback" in fields
        return self._frame(fields) if fields else b""

    def _note_candidate(self, choice: int, extras: Extras) -> bytes:
        fields: Block = {key: value for key, value in extras.items() if key in _CANDIDATE_EXTRAS}
        if not self._own and (entries := entries_in(extras)):
            fields = {"logprobsResult": gemini_logprobs(entries)}
            self._entries.setdefault(choice, []).extend(entries)
        return self._frame({"candidates": [{"index": choice, **fields}]}) if fields else b""

    def _part(self, choice: int, block: Block | None) -> bytes:
        self._choices.add(choice)
        if block is None:
            return b""
        return self._frame({"candidates": [candidate_of(choice, [block], None, {})]})

    def _last(self) -> bytes:
        calls = [
            self._part(choice, self._candidates.part(call, choice))
            for choice, unparsed in self._unparsed.items()
            for call in unparsed
            if choice not in self._finishes or self._finishes[choice].finish.reason not in CUT_OFF
        ]
        return b"".join(calls) + self._end_of_candidates()

    def _end_of_candidates(self) -> bytes:
        body: Block = {}
        if not (self._own and self._is_blocked):
            # Google sends an empty text here: callers print the text of every chunk.
            body["candidates"] = [
                candidate_of(choice, [{"text": ""}], *self._finish_of(choice))
                for choice in sorted(self._choices | self._finishes.keys() or {0})
            ]
        if usage := self._own_usage or self._usage:
            body["usageMetadata"] = usage
        return (self._frame(body) if body else b"") + self._terminator()

    def _finish_of(self, choice: int) -> tuple[Json, Extras]:
        event = self._finishes.get(choice)
        cited = tuple(dict.fromkeys(self._cited.get(choice, ())))
        sources: Block = {"groundingMetadata": grounding(cited)} if cited and not self._own else {}
        if entries := self._entries.get(choice):
            sources = {**sources, "avgLogprobs": average(entries)}
        if event is None:
            return write_finish(None, own=self._own), sources or NO_EXTRAS
        fields = {**sources} | {key: value for key, value in event.extras.items() if key in _CANDIDATE_EXTRAS}
        return write_finish(event.finish, own=self._own), fields

    def _frame(self, body: Block) -> bytes:
        data = encode(body if "error" in body else {**body, **self._envelope})
        first = self._frames == 0
        self._frames += 1
        return json_array.encode(data, first=first) if self._array else sse.encode(data)

    def _terminator(self) -> bytes:
        return json_array.end(empty=self._frames == 0) if self._array else b""
