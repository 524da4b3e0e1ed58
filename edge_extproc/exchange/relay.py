"""Forwards a streamed reply from the provider to the caller.

`RawRelay`: both sides have the same dialect. The provider's bytes pass in whole frames, and a reader observes them.
`CrossRelay`: reader → events → writer. Both record the same `Tally`. A stream that broke never ends like a complete
one: after a failure, the caller gets an error event of its dialect and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..codecs.frame import Frame
from ..codecs.surrogates import FIRST, SplitPairs
from ..dialects.base import Dialect, SkimmingReader, StreamReader, StreamWriter
from ..dialects.citations import without_citations
from ..dialects.cut_calls import CallWatch
from ..dialects.dropping import file_omission, kind_of_part, lost_notes
from ..model.call import Call
from ..model.content import Opaque, Part, RedactedThinking, ToolCall
from ..model.fault import Fault
from ..model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    Fold,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartStarted,
    Reply,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
    unfold,
)
from ..model.usage import Usage
from .account_faults import for_caller
from .json_answers import JsonAnswers
from .reply_calls import ReplyCalls

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.base import ReplyGuard

_COMPLETE_AT_START = frozenset({"redacted_thinking", "media", "opaque"})
# Parts whose start contains output of the model: a tool's name, or the whole part.
_TOKENS_AT_START = frozenset({"tool_call", "redacted_thinking", "media", "opaque"})

# Events with fields that only the provider's format has.
_WITH_NOTES = (PartStarted, PartNoted, Noted, Finished)

# A call that only a format whose calls have a text can contain.
_TEXT_CALL = ToolCall("", "", "[]")

# Characters. A longer reply is forwarded and not collected.
MAX_FOLDED = 4 << 20


class Tally:
    """The facts of a stream that the bill and the log need. It contains no text, except in `fold`: the whole reply up
    to a limit, for the cache and for traces."""

    __slots__ = (
        "blocked",
        "choices",
        "ended",
        "failed",
        "finish",
        "fold",
        "garbled",
        "has_parts",
        "has_token",
        "id",
        "lost",
        "model",
        "text_length",
        "usage",
    )

    def __init__(self, fold: Fold | None = None) -> None:
        self.fold = fold
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.failed: Fault | None = None
        self.ended = False
        self.blocked = False
        """Whether a guardrail has ended the caller's stream before the provider's."""
        self.id: str | None = None
        self.model: str | None = None
        self.garbled = 0
        self.lost: set[str] = set()
        """Kinds of parts that the caller's format has no place for."""
        self.has_parts = False
        """Whether any part of the reply was received."""
        self.has_token = False
        """Whether any output of the model was received: text, thinking, or a tool call."""
        self.text_length = 0
        """Characters of text, thinking and tool arguments, for an estimate if no usage is reported."""
        self.choices = 1
        """The number of choices that have begun."""

    def note(self, event: ReplyEvent) -> None:
        if self.fold is not None:
            self._fold(self.fold, event)
        match event:
            case PartDelta():
                self.text_length += len(event.text)
                self.has_token = self.has_token or bool(event.text)
                if event.choice >= self.choices:
                    self.choices = event.choice + 1
            case UsageSeen():
                self.usage = event.usage
            case Finished():
                self.finish = self.finish or event.finish
            case ReplyStarted():
                self.id, self.model = event.id, event.model
            case PartStarted():
                self.has_parts = True
                self.has_token = self.has_token or event.kind in _TOKENS_AT_START
                self.text_length += len(event.name or "")
            case Failed():
                self.failed = event.fault
            case Ended():
                self.ended = True
            case Garbled():
                self.garbled += 1
            case _:
                pass

    def block(self) -> None:
        """The reply ends here for the caller. Its content is neither stored nor traced."""
        self.blocked, self.fold = True, None

    def _fold(self, fold: Fold, event: ReplyEvent) -> None:
        try:
            fold.add(event)
        except KeyError:  # a delta of a part that never began: the stream is forwarded, and not collected
            self.fold = None
        if self.text_length > MAX_FOLDED:
            self.fold = None


class Relay(Protocol):
    tally: Tally

    def feed(self, data: bytes) -> bytes:
        """The bytes for the caller; may be empty."""
        ...

    def close(self) -> bytes:
        """Ends the provider's stream. Returns the remaining bytes for the caller: the end, or an error."""
        ...

    def fail(self, fault: Fault) -> bytes:
        """The provider's stream cannot be read further. Returns the error event; nothing is sent after it."""
        ...

    async def judged(self) -> bytes:
        """Asks the guard's services about the text that waits for their verdict. Raises PolicyUnavailable."""
        ...

    def refuse(self, fault: Fault) -> bytes:
        """There is no verdict: the text that waits is not sent. Returns the error event that ends the stream."""
        ...


class RawRelay:
    """`hide_usage`: the gateway requested a usage frame that the caller did not request. `chat`: a stream of which
    nothing can be read is a failure. A frame that only adds text becomes no event, unless the reply is collected."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        *,
        hide_usage: bool,
        fold: Fold | None = None,
        chat: bool = False,
        watches: Sequence[Callable[[Frame], None]] = (),
        guard: ReplyGuard | None = None,
    ) -> None:
        """`watches` get each frame that does not only add text. `guard`: one that changes nothing."""
        self.tally = Tally(fold)
        self._reader = reader
        self._writer = writer
        self._hide_usage = hide_usage
        self._chat = chat
        self._watches = watches
        self._guard = guard
        skims = fold is None and guard is None
        self._skim = reader.skim if skims and isinstance(reader, SkimmingReader) else _nothing_skimmed

    def feed(self, data: bytes) -> bytes:
        tally = self.tally
        if tally.failed is not None:
            return b""
        passed = []
        for frame in self._reader.frames(data):
            length = self._skim(frame)
            if length is not None:
                tally.text_length += length
                if length:
                    tally.has_token = tally.has_parts = True
                passed.append(frame.raw)
                continue
            for watch in self._watches:
                watch(frame)
            is_passed = self._observe(self._reader.read(frame))
            if tally.failed is not None:
                passed.append(self._failed_frame(tally.failed, frame.raw))
                break
            if is_passed:
                passed.append(frame.raw)
        return b"".join(passed)

    def _failed_frame(self, fault: Fault, raw: bytes) -> bytes:
        """The provider's own error event. The gateway writes one if the frame is none (the end of an answer that the
        provider broke off), or if the error is about the gateway's own account."""
        self.tally.failed = for_caller(fault)
        if self.tally.failed is fault and fault.code not in _FOUND_BY_GATEWAY:
            return raw
        return self._writer.write(Failed(self.tally.failed))

    def close(self) -> bytes:
        if self.tally.failed is not None:
            return b""
        frames, events = self._reader.close()
        for watch in self._watches:
            for frame in frames:
                watch(frame)
        self._observe(events)
        if self.tally.failed is not None:  # the last frame, if there is one, is incomplete
            return self._writer.write(Failed(self.tally.failed))
        return b"".join(frame.raw for frame in frames)

    def fail(self, fault: Fault) -> bytes:
        return _fail(self.tally, self._writer, fault)

    async def judged(self) -> bytes:
        services = self._guard.services if self._guard is not None else None
        if services is not None:
            await services.judged()
        return b""

    def refuse(self, fault: Fault) -> bytes:
        return _refuse(self.tally, self._writer, fault)

    def _observe(self, events: list[ReplyEvent]) -> bool:
        """Whether the caller gets the frame with these events."""
        only_usage = bool(events)
        for event in events:
            if type(event) is Ended and self._chat and is_lost(self.tally):
                event = Failed(UNREADABLE)
            self.tally.note(event)
            if self._guard is not None:
                self._guard.checked(event)
            only_usage = only_usage and isinstance(event, UsageSeen)
        return not (self._hide_usage and only_usage)


def _nothing_skimmed(frame: Frame) -> None:
    """Every frame is read."""
    del frame


class CrossRelay:
    """`named`: the id and the model for a reply without them. `began_at`: Unix time, for a reply without a time. `own`:
    the reply stays in its dialect, and only the framing differs. `calls`: for a reply of another dialect."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        *,
        fold: Fold | None = None,
        named: tuple[str | None, str | None] = (None, None),
        can_contain: Callable[[Part], bool] = lambda _: True,
        cites: bool = True,
        began_at: int | None = None,
        own: bool = False,
        json: JsonAnswers | None = None,
        calls: ReplyCalls | None = None,
        guard: ReplyGuard | None = None,
        watches: Sequence[Callable[[Frame], None]] = (),
    ) -> None:
        """`json`: checks that the reply is a JSON object. `watches` get each frame."""
        self.tally = Tally(fold)
        self._can_contain = can_contain
        self._cites = cites
        self._reader = reader
        self._writer = writer
        self._named = named
        self._began_at = began_at
        self._own = own
        self._json = json
        self._calls = calls
        self._guard = guard
        self._watches = watches
        self._pairs = SplitPairs()
        self._call_watch = None if own else CallWatch(has_objects=not can_contain(_TEXT_CALL))

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        for frame in self._reader.frames(data):
            if self._over():
                break
            for watch in self._watches:
                watch(frame)
            out.append(self._pass(self._reader.read(frame)))
        return b"".join(out)

    def close(self) -> bytes:
        if self._over():
            return b""
        frames, events = self._reader.close()
        for watch in self._watches:
            for frame in frames:
                watch(frame)
        return self._pass(events)

    def _lose(self, event: PartStarted) -> str:
        """The text that replaces a file which the caller's format does not have: a stream has no header left to name
        it. Empty: the part needs none."""
        part = event.media or event.opaque or RedactedThinking(event.data or "")
        if self._can_contain(part):
            return ""
        self.tally.lost.add(f"reply.{kind_of_part(part)}")
        return file_omission(part) if isinstance(part, Opaque) and part.media_type and self._json is None else ""

    def fail(self, fault: Fault) -> bytes:
        if self._guard is None or self.tally.failed is not None:
            return _fail(self.tally, self._writer, fault)
        return b"" if self.tally.blocked else self._pass((Failed(fault),))

    async def judged(self) -> bytes:
        services = self._guard.services if self._guard is not None else None
        return b"" if services is None else self._written(await services.judged())

    def refuse(self, fault: Fault) -> bytes:
        return _refuse(self.tally, self._writer, fault)

    def _over(self) -> bool:
        return self.tally.failed is not None or self.tally.ended

    def _pass(self, events: Iterable[ReplyEvent]) -> bytes:
        out: list[bytes] = []
        for event in events if self._json is None else self._json.checked(events):
            if self._over() or (self.tally.blocked and type(event) is Failed):
                break
            if type(event) is PartDelta:
                if self._pairs or event.text[-1:] >= FIRST:
                    text = self._pairs.joined((event.choice, event.part), event.text)
                    if not text:
                        continue
                    event = replace(event, text=text)
            elif type(event) is ReplyStarted and not (event.id and event.model and event.created):
                id, model = self._named
                created = event.created or self._began_at
                event = replace(event, id=event.id or id, model=event.model or model, created=created)
            elif type(event) is Ended and is_lost(self.tally):
                event = Failed(UNREADABLE)
            elif type(event) is Failed:
                event = Failed(for_caller(event.fault))
            elif type(event) is Finished and not self._own and event.finish.reason == "malformed":
                event = Failed(MALFORMED)
            elif type(event) is PartStarted and event.kind in _COMPLETE_AT_START:
                if text := self._lose(event):
                    replaced = PartStarted(event.part, "text", choice=event.choice)
                    out.append(self._pass((replaced, PartDelta(event.part, text, event.choice))))
                    continue
            elif type(event) is PartEnded and self._pairs:
                if text := self._pairs.rest((event.choice, event.part)):
                    out.append(self._pass((PartDelta(event.part, text, event.choice),)))
            elif isinstance(event, _WITH_NOTES) and event.extras and not self._own:
                self.tally.lost |= lost_notes(event.extras, cites=self._cites)
            self.tally.note(event)
            out.append(self._written((event,) if self._guard is None else self._guard.checked(event)))
        return b"".join(out)

    def _written(self, events: Iterable[ReplyEvent]) -> bytes:
        """The bytes of events for the caller."""
        out: list[bytes] = []
        for event in events:
            if type(event) is PartStarted and self._calls is not None and event.kind == "tool_call":
                event = self._calls.started(event)
            if self._call_watch is None:
                out.append(self._writer.write(event))
            else:
                out += map(self._writer.write, self._call_watch.checked(event))
        if self._guard is not None and not self.tally.blocked and self._guard.blocked is not None:
            self.tally.block()
        return b"".join(out)


UNREADABLE = Fault(502, "api", "the provider's stream could not be read", "unreadable_stream")
MALFORMED = Fault(502, "api", "the model's answer broke off in a malformed tool call", "malformed_answer")
# The codes of faults that no error event of the provider tells.
_FOUND_BY_GATEWAY = frozenset({"answer_broken_off", "unreadable_stream", "malformed_answer"})


def is_lost(tally: Tally) -> bool:
    """Whether a stream must end with an error: some frames could not be read, and no other frame had a token."""
    return tally.garbled > 0 and not tally.has_token


def _fail(tally: Tally, writer: StreamWriter, fault: Fault) -> bytes:
    if tally.failed is not None:
        return b""
    tally.failed = fault
    return writer.write(Failed(fault))


def _refuse(tally: Tally, writer: StreamWriter, fault: Fault) -> bytes:
    tally.block()
    tally.failed = tally.failed or fault
    return writer.write(Failed(tally.failed))


def as_stream(reply: Reply, call: Call, caller_dialect: Dialect) -> tuple[bytes, str]:
    """A complete reply as a stream of the caller's dialect, and its content type."""
    writer = caller_dialect.writer(call)
    stream_type = call.stream_type or caller_dialect.stream_type
    own = reply.dialect == caller_dialect.name
    events: Iterable[ReplyEvent] = _with_notes(unfold(reply), own=own)
    if not own:
        watch = CallWatch(has_objects=not caller_dialect.can_contain(_TEXT_CALL))
        events = (checked for event in events for checked in watch.checked(event))
    return b"".join(map(writer.write, events)), stream_type


def _with_notes(events: Iterable[ReplyEvent], *, own: bool) -> Iterator[ReplyEvent]:
    """The citations of a complete reply as events of their own, as a stream has them. `own`: a writer of the reply's
    own dialect reads the extras of its choices at their end."""
    for event in events:
        if type(event) is Finished and event.extras and not own:
            yield Noted(event.extras, event.choice)
        if type(event) is PartStarted and event.kind == "text" and event.extras:
            rest, cited = without_citations(event.extras)
            yield replace(event, extras=rest)
            if cited:
                yield PartNoted(event.part, cited, event.choice)
        else:
            yield event
