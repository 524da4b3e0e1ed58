"""The reply of a provider, independent of the wire format: as a whole (`Reply`) or as a stream of `ReplyEvent`s.

`fold` converts a stream to a whole reply, `unfold` a whole reply to a stream.

The order of a stream is: ReplyStarted; then parts (PartStarted, PartDelta…, PartEnded), which are numbered from 0
within their choice in the order in which they begin, and may overlap; Finished once for each choice; then Ended.
UsageSeen may occur at any time, and each one replaces the previous one. Failed ends a stream that is incomplete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from typing import Literal, TypeAlias, assert_never

from .call import Call
from .content import (
    NO_EXTRAS,
    Audio,
    CustomCall,
    Extras,
    Image,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
)
from .fault import Fault
from .frozen_dataclass import frozen_dataclass
from .usage import Usage

FinishReason: TypeAlias = Literal[
    "stop",
    "stop_sequence",
    "length",
    "context_window",
    "tool_calls",
    "content_filter",
    "refusal",
    "pause",
    "malformed",
    "other",
]


@frozen_dataclass
class Finish:
    """Why a choice ended."""

    reason: FinishReason
    raw: str | None = None
    """The reason in the provider's format."""
    stop_sequence: str | None = None
    """The stop sequence that ended the choice, if the provider reports it."""


@frozen_dataclass
class Choice:
    """One of the alternatives in a reply; most replies have one."""

    parts: tuple[Part, ...]
    finish: Finish | None = None
    extras: Extras = NO_EXTRAS


@frozen_dataclass
class Reply:
    """A whole reply."""

    dialect: str
    """The dialect of the reply, and of its `extras` and `Opaque` parts."""
    id: str | None
    model: str | None
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None
    """Unix time in seconds."""
    extras: Extras = NO_EXTRAS
    call: Call | None = field(default=None, compare=False, repr=False)
    """The request that it answers. A dialect with several kinds of tools looks up in it which kind was called; without
    it, each call is a call of a function."""

    def completed(self, id: str | None, model: str | None, created: int, call: Call) -> Reply:
        """The reply with its call, and with an id, a model and a time if it has none. `replace` takes longer."""
        return Reply(
            self.dialect,
            self.id or id,
            self.model or model,
            self.choices,
            self.usage,
            self.created or created,
            self.extras,
            call,
        )


# --- the events of a stream

PartKind: TypeAlias = Literal["text", "thinking", "redacted_thinking", "refusal", "tool_call", "media", "opaque"]
"""`media` is an image or audio that the model generated."""


@frozen_dataclass
class ReplyStarted:
    id: str | None
    model: str | None
    created: int | None = None
    extras: Extras = NO_EXTRAS


@frozen_dataclass
class PartStarted:
    part: int
    kind: PartKind
    id: str | None = None
    """The id, for a tool call."""
    name: str | None = None
    """The name of the tool, for a tool call."""
    data: str | None = None
    """The whole content, for redacted thinking."""
    opaque: Opaque | None = None
    media: Image | Audio | None = None
    """The whole part, for media."""
    choice: int = 0
    extras: Extras = NO_EXTRAS
    custom: bool = False
    """Of a tool call: it is a CustomCall."""


@frozen_dataclass
class PartDelta:
    """The next piece of a part: of a text, thinking, a refusal, or the JSON text of a tool call's arguments."""

    part: int
    text: str
    choice: int = 0


@frozen_dataclass
class PartSigned:
    """The signature of a thinking part or (Gemini) of a tool call."""

    part: int
    signature: str
    choice: int = 0


@frozen_dataclass
class PartNoted:
    """Fields of a part that only its dialect has (citations, annotations). Each key replaces the previous value; a list
    extends the previous list."""

    part: int
    extras: Extras
    choice: int = 0


@frozen_dataclass
class PartEnded:
    part: int
    choice: int = 0


@frozen_dataclass
class Finished:
    finish: Finish
    choice: int = 0
    extras: Extras = NO_EXTRAS


@frozen_dataclass
class UsageSeen:
    """The total usage so far. It replaces an earlier one and is not added to it."""

    usage: Usage


@frozen_dataclass
class Noted:
    """Fields of the whole reply (`choice` is None) or of one choice that only its dialect has. Each key replaces the
    previous value; a list extends the previous list."""

    extras: Extras
    choice: int | None = None


@frozen_dataclass
class Ping:
    """A keep-alive event without content."""


@frozen_dataclass
class Garbled:
    """An unreadable frame. It is skipped and counted."""

    why: str


@frozen_dataclass
class Failed:
    """The stream broke, or the provider sent an error event. It is the last event."""

    fault: Fault


@frozen_dataclass
class Ended:
    """The stream came to its proper end. Nothing follows."""


ReplyEvent: TypeAlias = (
    ReplyStarted
    | PartStarted
    | PartDelta
    | PartSigned
    | PartNoted
    | PartEnded
    | Finished
    | UsageSeen
    | Noted
    | Ping
    | Garbled
    | Failed
    | Ended
)


class _Growing:
    """One part as its deltas arrive."""

    __slots__ = ("extras", "signature", "start", "texts")

    def __init__(self, start: PartStarted) -> None:
        self.start = start
        self.texts: list[str] = []
        self.signature: str | None = None
        self.extras = start.extras

    def whole(self) -> Part:
        text, start = "".join(self.texts), self.start
        match start.kind:
            case "text":
                return Text(text, extras=self.extras)
            case "thinking":
                return Thinking(text, self.signature, extras=self.extras)
            case "redacted_thinking":
                return RedactedThinking(start.data or "", extras=self.extras)
            case "refusal":
                return Refusal(text, extras=self.extras)
            case "tool_call":
                kind = CustomCall if start.custom else ToolCall
                return kind(start.id or "", start.name or "", text, signature=self.signature, extras=self.extras)
            case "media":
                assert start.media is not None, "a media part starts with its whole value"  # noqa: S101 - every reader ensures it
                return start.media
            case "opaque":
                assert start.opaque is not None, "an opaque part starts with its whole value"  # noqa: S101 - every reader ensures it
                return start.opaque
            case _:
                assert_never(start.kind)


class Fold:
    """Builds a Reply from the events of its stream. `failed`: the error that ended it, or None. `ended`: whether it is
    complete."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._start: ReplyStarted | None = None
        self._parts: dict[tuple[int, int], _Growing] = {}
        self._finishes: dict[int, Finish] = {}
        self._choice_extras: dict[int, Extras] = {}
        self._extras: Extras = NO_EXTRAS
        self.usage: Usage | None = None
        self.failed: Fault | None = None
        self.ended = False

    def add(self, event: ReplyEvent) -> None:
        match event:
            case PartDelta():
                self._parts[event.choice, event.part].texts.append(event.text)
            case PartStarted():
                self._parts[event.choice, event.part] = _Growing(event)
            case PartSigned():
                grown = self._parts[event.choice, event.part]
                grown.signature = (grown.signature or "") + event.signature
            case PartNoted():
                grown = self._parts[event.choice, event.part]
                grown.extras = merged(grown.extras, event.extras)
            case ReplyStarted():
                self._start = event
                self._extras = merged(self._extras, event.extras)
            case Finished():
                self._finishes[event.choice] = event.finish
                if event.extras:
                    self._note(event.choice, event.extras)
            case UsageSeen():
                self.usage = event.usage
            case Noted():
                if event.choice is None:
                    self._extras = merged(self._extras, event.extras)
                else:
                    self._note(event.choice, event.extras)
            case Failed():
                self.failed = event.fault
            case Ended():
                self.ended = True
            case PartEnded() | Ping() | Garbled():
                pass
            case _:
                assert_never(event)

    def _note(self, choice: int, extras: Extras) -> None:
        self._choice_extras[choice] = merged(self._choice_extras.get(choice, NO_EXTRAS), extras)

    def reply(self) -> Reply:
        """The reply so far, as a whole."""
        numbers = sorted({c for c, _ in self._parts} | set(self._finishes) | set(self._choice_extras))
        choices = tuple(
            Choice(
                tuple(grown.whole() for (c, _), grown in sorted(self._parts.items()) if c == number),
                self._finishes.get(number),
                self._choice_extras.get(number, NO_EXTRAS),
            )
            for number in numbers
        )
        start = self._start or ReplyStarted(None, None)
        return Reply(self._dialect, start.id, start.model, choices, self.usage, start.created, self._extras)


def merged(old: Extras, new: Extras) -> Extras:
    """`old` updated with `new`. A list extends an existing list; the same holds for lists inside of logprobs."""
    result = dict(old)
    for key, value in new.items():
        before = result.get(key)
        if isinstance(before, list) and isinstance(value, list):
            result[key] = [*before, *value]
        elif key in ("logprobs", "logprobsResult") and isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def fold(dialect: str, events: Iterable[ReplyEvent]) -> Reply:
    """The whole reply of a complete stream."""
    folding = Fold(dialect)
    for event in events:
        folding.add(event)
    return folding.reply()


def unfold(reply: Reply) -> Iterator[ReplyEvent]:
    """The events of a stream with the same content as a whole reply, with one delta for each part."""
    yield ReplyStarted(reply.id, reply.model, reply.created, reply.extras)
    for number, choice in enumerate(reply.choices):
        for index, part in enumerate(choice.parts):
            yield from _unfold_part(number, index, part)
        if choice.finish is not None:
            yield Finished(choice.finish, number, choice.extras)
        elif choice.extras:
            yield Noted(choice.extras, number)
    if reply.usage is not None:
        yield UsageSeen(reply.usage)
    yield Ended()


def _unfold_part(choice: int, index: int, part: Part) -> Iterator[ReplyEvent]:
    start, text, signature = _opening(part)
    yield replace(start, part=index, choice=choice)
    if text:
        yield PartDelta(index, text, choice)
    if signature is not None:
        yield PartSigned(index, signature, choice)
    yield PartEnded(index, choice)


def _opening(part: Part) -> tuple[PartStarted, str, str | None]:
    """The first event of a part, its text, and its signature."""
    match part:
        case Text():
            return PartStarted(0, "text", extras=part.extras), part.text, None
        case Thinking():
            return PartStarted(0, "thinking", extras=part.extras), part.text, part.signature
        case RedactedThinking():
            return PartStarted(0, "redacted_thinking", data=part.data, extras=part.extras), "", None
        case Refusal():
            return PartStarted(0, "refusal", extras=part.extras), part.text, None
        case ToolCall():
            custom = isinstance(part, CustomCall)
            start = PartStarted(0, "tool_call", part.id, part.name, extras=part.extras, custom=custom)
            return start, part.arguments, part.signature
        case Image() | Audio():
            return PartStarted(0, "media", media=part), "", None
        case Opaque():
            return PartStarted(0, "opaque", opaque=part), "", None
        case _:
            raise TypeError(f"a reply cannot contain {type(part).__name__}")
