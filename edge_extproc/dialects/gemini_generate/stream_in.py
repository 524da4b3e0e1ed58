"""Decodes a complete or streamed generateContent reply into reply events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ...codecs import json_array, sse
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE, decode_reply, text_of
from ...errors import ErrorReply, UpstreamError
from ...model.content import Audio, Image, Json, Opaque, Part, Text, Thinking, ToolCall
from ...model.fault import Fault
from ...model.reply import (
    Choice,
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
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
    fold,
)
from ...model.usage import Usage
from ..failed_finish import failed_finish
from .errors import error_in
from .fields import NAME, Block, extras_of, split
from .partial_calls import PartialCall, has_name, is_piece
from .reply import (
    REPLY,
    ReplyAssembly,
    SearchCount,
    blocked_by,
    candidates_of,
    created_at,
    is_call,
    parts_of,
    read_finish,
    read_usage,
    searches_in,
)


def read_reply(body: bytes) -> Reply:
    try:
        reply = decode_reply(body)
    except UNREADABLE:
        raise UpstreamError("the provider's reply is not valid JSON") from None
    if isinstance(reply, list):  # a stream that was read as a whole
        reader = ReplyReader(json_array.JsonArrayDecoder())
        events = [event for chunk in reply for event in reader.chunk(chunk)]
        events += reader.finish()
        broken = next((event.fault for event in events if isinstance(event, Failed)), None)
        if broken is not None:
            raise ErrorReply(broken)
        return fold(NAME, events)
    if not isinstance(reply, dict) or not reply.keys() & {"candidates", "promptFeedback", "usageMetadata"}:
        error = error_in(reply)
        if error is not None:
            raise ErrorReply(error)
        raise UpstreamError("the provider's reply has no candidates")
    known, extras = split(reply, REPLY)
    answer = ReplyAssembly()
    answer.id = text_of(known.get("responseId")) or None
    choices = []
    for _, candidate, rest in sorted(candidates_of(known), key=lambda row: row[0]):
        parts = tuple(answer.part(part) for part in parts_of(candidate))
        finish = read_finish(candidate.get("finishReason"), any(map(is_call, parts)))
        failed = failed_finish(finish.raw) if finish is not None else None
        if failed is not None:
            raise ErrorReply(failed)
        index = {"index": candidate["index"]} if "index" in candidate else {}
        choices.append(Choice(parts, finish, extras_of(index, rest)))
    blocked = blocked_by(extras)
    if blocked is not None and not choices:
        choices.append(Choice((), blocked))
    return Reply(
        NAME,
        answer.id,
        text_of(known.get("modelVersion")) or None,
        tuple(choices),
        read_usage(extras.get("usageMetadata"), searches_in(reply)),
        created_at(extras.get("createTime")),
        extras_of(extras),
    )


# --- streams: reading

_PROBABILITIES = "logprobsResult"
"""Those of the tokens of one chunk, which can equal those of the one before."""


@dataclass(slots=True)
class _OpenCandidate:
    """One candidate of a stream."""

    parts: int = 0
    open: PartKind | None = None
    """Text and thoughts arrive in pieces. Only the last part is open."""
    has_calls: bool = False
    finish: Json = None
    noted: dict[str, Json] = field(default_factory=dict)
    partial: PartialCall | None = None
    """A call whose arguments are not complete so far."""


class ReplyReader:
    """Decodes one stream. A Gemini stream has no terminator: it is complete if every candidate has a finish reason when
    it closes.

    Until then a finish reason may be sent more than once, before or after a call, so it is reported at the end.
    """

    def __init__(self, decoder: sse.SseDecoder | json_array.JsonArrayDecoder) -> None:
        self._decoder = decoder
        self._answer = ReplyAssembly()
        self._candidates: dict[int, _OpenCandidate] = {}
        self._blocked: Finish | None = None
        self._usage = Usage(prompt_unknown=True, completion_unknown=True)
        self._search_count = SearchCount()
        self._searches = 0
        self._started = False
        self._over = False

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        return frames, events + self.finish()

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over or not frame.data or frame.data == b"[DONE]":
            return []
        try:
            chunk = decode_reply(frame.data)
        except UNREADABLE:
            return [Garbled("a chunk is not valid JSON")]
        return self.chunk(chunk)

    def chunk(self, chunk: Json) -> list[ReplyEvent]:
        if self._over:
            return []
        if not isinstance(chunk, dict):
            return [Garbled("a chunk is not an object")]
        broken = error_in(chunk)
        if broken is not None:
            self._over = True
            return [Failed(broken)]
        known, rest = split(chunk, REPLY)
        events: list[ReplyEvent] = []
        if not self._started:
            self._started = True
            self._answer.id = text_of(known.get("responseId")) or None
            created = created_at(rest.get("createTime"))
            events.append(
                ReplyStarted(self._answer.id, text_of(known.get("modelVersion")) or None, created, extras_of(rest))
            )
        elif rest:
            events.append(Noted(rest))
        for number, candidate, extras in candidates_of(known):
            events += self._candidate(number, candidate, extras)
        self._blocked = blocked_by(rest) or self._blocked
        before, self._searches = self._searches, max(self._searches, self._search_count.add(chunk))
        usage = read_usage(rest.get("usageMetadata"), self._searches)
        if usage is None and self._searches > before:
            # The usage may come at the end, which a caller who leaves does not see.
            usage = replace(self._usage, searches=self._searches)
        if usage is not None:
            self._usage = usage
            events.append(UsageSeen(usage))
        return events

    def _candidate(self, number: int, candidate: Block, extras: Block) -> Iterator[ReplyEvent]:
        state = self._candidates.setdefault(number, _OpenCandidate())
        for value in parts_of(candidate):
            yield from self._part(state, value, number)
        state.finish = candidate.get("finishReason", state.finish)
        # Lists in notes grow. Safety ratings come with every chunk and must not.
        news = {key: value for key, value in extras.items() if state.noted.get(key) != value or key == _PROBABILITIES}
        if news:
            state.noted.update(news)
            yield Noted(news, number)

    def _part(self, state: _OpenCandidate, value: Block, number: int) -> Iterator[ReplyEvent]:
        if "text" not in value and is_piece(value, is_open=state.partial is not None):
            if has_name(value):
                yield from self._end_partial(state, number)
            state.partial = state.partial or PartialCall()
            if state.partial.add(value):
                yield from self._end_partial(state, number)
            return
        part = self._answer.part(value)
        if is_call(part):
            yield from self._end_partial(state, number)
        state.has_calls = state.has_calls or is_call(part)
        yield from _part_events(state, part, number)

    def _end_partial(self, state: _OpenCandidate, number: int, *, is_cut: bool = False) -> Iterator[ReplyEvent]:
        """The call that came in pieces. `is_cut`: its end is missing."""
        partial, state.partial = state.partial, None
        if partial is None:
            return
        if not partial.is_readable:
            yield Garbled("the path of an argument is not readable")
        part = self._answer.part(partial.part())
        if is_cut and isinstance(part, ToolCall):
            part = replace(part, arguments=partial.cut_arguments())
        state.has_calls = True
        yield from _part_events(state, part, number)

    def finish(self) -> list[ReplyEvent]:
        """Ends the stream."""
        if self._over:
            return []
        self._over = True
        events: list[ReplyEvent] = []
        for number, state in sorted(self._candidates.items()):
            reason = read_finish(state.finish, has_calls=False)
            events += self._end_partial(state, number, is_cut=reason is None or reason.reason != "stop")
            events += _close(state, number)
            finish = read_finish(state.finish, state.has_calls) or self._blocked
            if finish is None:
                return [Failed(_torn())]
            failed = failed_finish(finish.raw)
            if failed is not None:
                return [Failed(failed)]
            events.append(Finished(finish, number))
        if not self._candidates:
            if self._blocked is None:
                return [Failed(_torn())]
            events.append(Finished(self._blocked))
        return [*events, Ended()]


def _torn() -> Fault:
    return Fault(502, "api", "the provider's stream ended before its reply was complete", "truncated_stream")


def _part_events(state: _OpenCandidate, part: Part, number: int) -> Iterator[ReplyEvent]:
    kind: PartKind
    match part:
        case Text():
            kind, noted = "text", dict(part.extras)
        case Thinking():
            kind, noted = "thinking", dict(part.extras)
        case _:
            yield from _close(state, number)
            yield from _complete_part(part, state.parts, number)
            state.parts += 1
            return
    if not part.text and not noted:
        return
    if state.open != kind:
        yield from _close(state, number)
        yield PartStarted(state.parts, kind, choice=number)
        state.open = kind
        state.parts += 1
    index = state.parts - 1
    if part.text:
        yield PartDelta(index, part.text, number)
    if noted:
        yield PartNoted(index, noted, number)
    if "thoughtSignature" in noted:
        yield from _close(state, number)  # signed and unsigned text must not be joined


def _close(state: _OpenCandidate, number: int) -> Iterator[ReplyEvent]:
    if state.open is not None:
        state.open = None
        yield PartEnded(state.parts - 1, number)


def _complete_part(part: Part, index: int, number: int) -> Iterator[ReplyEvent]:
    """A part that arrives in one piece."""
    if isinstance(part, ToolCall):
        yield PartStarted(index, "tool_call", part.id, part.name, choice=number, extras=part.extras)
        if part.arguments:
            yield PartDelta(index, part.arguments, number)
        if part.signature is not None:
            yield PartSigned(index, part.signature, number)
    elif isinstance(part, Opaque):
        yield PartStarted(index, "opaque", opaque=part, choice=number)
    elif isinstance(part, Image | Audio):
        yield PartStarted(index, "media", media=part, choice=number)
    yield PartEnded(index, number)
