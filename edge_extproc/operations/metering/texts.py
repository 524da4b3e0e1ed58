"""Reads and writes a stream of an operation other than chat as events, so that its texts can be checked and changed.

Two shapes have texts in pieces: legacy completions (`choices` with `text`), and events with a `type` that ends in
".delta" and a string `delta` (transcripts). Each other event is one value, in which all strings are checked. What an
event has besides its text is written with each piece of that text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ...codecs import sse
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE, encode
from ...model.content import Json
from ...model.fault import Fault
from ...model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    Noted,
    PartDelta,
    PartEnded,
    PartStarted,
    Ping,
    ReplyEvent,
)
from .stream import UsageListener

_FRAME, _NAME, _DONE, _CHOICE = "frame", "event", "done", "choice"
"""The extras of events that only the writer here reads."""
_DELTA, _LAST = ".delta", ".done"
_OF_TEXT = frozenset({"text", "finish_reason", "logprobs", "index"})
_BLOCKED = "content_filter"


class TextReader(UsageListener):
    """A `StreamReader` whose events have everything that the caller must get."""

    def __init__(self, *, hide_usage: bool) -> None:
        """`hide_usage`: the gateway requested a usage that the caller did not request."""
        super().__init__()
        self._hide_usage = hide_usage
        self._parts: dict[tuple[int, str], int] = {}
        """The number of each part, by its choice and what identifies it in its choice."""
        self._open: dict[tuple[int, int], None] = {}

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over:
            return []
        known = super().read(frame)
        if frame.data == b"[DONE]":
            return [*self._ends(), Noted({_DONE: True}), *known]
        if any(isinstance(event, Failed | Ping) for event in known):
            return known
        try:
            value: Json = msgspec.json.decode(frame.data)
        except UNREADABLE:
            return known
        if not isinstance(value, dict):
            return known
        rest = [event for event in known if not isinstance(event, PartDelta | Finished | Noted)]
        return [*self._events(value, known, frame.event), *rest]

    def _events(self, value: dict[str, Json], known: list[ReplyEvent], name: str) -> Iterator[ReplyEvent]:
        kind, delta, choices = value.get("type"), value.get("delta"), value.get("choices")
        if isinstance(choices, list) and choices:
            finishes = {event.choice: event for event in known if isinstance(event, Finished)}
            for choice in choices:
                if isinstance(choice, dict):
                    yield from self._of_choice(value, choice, finishes, name)
        elif isinstance(kind, str) and kind.endswith(_DELTA) and isinstance(delta, str):
            yield from self._piece(_key_of(value, kind.removesuffix(_DELTA)), value, "delta", name)
        elif isinstance(kind, str) and kind.endswith(_LAST) and isinstance(value.get("text"), str):
            key = _key_of(value, kind.removesuffix(_LAST))
            if (0, key) not in self._parts:
                yield from self._piece(key, value, "text", name)
                yield from self._ends()
            else:
                yield from self._ends()
                frame: dict[str, Json] = {key: each for key, each in value.items() if key not in ("text", "logprobs")}
                yield Noted({_FRAME: frame, _NAME: name, "part": self._parts[0, key]})
        elif not (self._hide_usage and kind is None and value.get("usage") is not None):
            yield Noted({_FRAME: value, _NAME: name})

    def _of_choice(
        self, value: dict[str, Json], choice: dict[str, Json], finishes: dict[int, Finished], name: str
    ) -> Iterator[ReplyEvent]:
        number, text = choice.get("index"), choice.get("text")
        index = number if isinstance(number, int) else 0
        others: dict[str, Json] = {key: each for key, each in choice.items() if key not in _OF_TEXT}
        if (index, "") not in self._parts:
            self._parts[index, ""] = 0
            self._open[index, 0] = None
            frame = {key: each for key, each in value.items() if key not in ("choices", "usage")}
            yield PartStarted(0, "text", choice=index, extras={_FRAME: frame, _CHOICE: others, _NAME: name})
        if isinstance(text, str) and text:
            yield PartDelta(0, text, index)
        finished = finishes.get(index)
        if finished is not None:
            yield from self._end(index, 0)
            yield Finished(finished.finish, index, {_CHOICE: others})

    def _piece(self, key: str, value: dict[str, Json], field: str, name: str) -> Iterator[ReplyEvent]:
        part = self._parts.get((0, key))
        if part is None:
            part = self._parts[0, key] = len(self._parts)
            self._open[0, part] = None
            frame: dict[str, Json] = {key: each for key, each in value.items() if key not in (field, "logprobs")}
            yield PartStarted(part, "text", extras={_FRAME: frame, _NAME: name, "field": field})
        text = value[field]
        if isinstance(text, str) and text:
            yield PartDelta(part, text)

    def _end(self, choice: int, part: int) -> Iterator[ReplyEvent]:
        if (choice, part) in self._open:
            del self._open[choice, part]
            yield PartEnded(part, choice)

    def _ends(self) -> Iterator[ReplyEvent]:
        for place in tuple(self._open):
            yield from self._end(*place)


def _key_of(value: dict[str, Json], kind: str) -> str:
    """What identifies the text to which a piece belongs."""
    ids = [
        str(each)
        for key, each in sorted(value.items())
        if key.endswith(("_id", "_index")) and isinstance(each, str | int)
    ]
    return " ".join((kind, *ids))


class TextWriter:
    """A `StreamWriter` of these events."""

    def __init__(self, write_fault: Callable[[Fault], bytes]) -> None:
        """`write_fault`: the error event of the caller's format."""
        self._write_fault = write_fault
        self._parts: dict[tuple[int, int], dict[str, Any]] = {}
        self._sent: dict[tuple[int, int], list[str]] = {}
        """The texts of the parts whose last event repeats them."""
        self._is_blocked = self._is_done = False

    def write(self, event: ReplyEvent) -> bytes:
        match event:
            case PartStarted():
                place = event.choice, event.part
                self._parts[place] = dict(event.extras)
                if event.extras.get("field") is not None:
                    self._sent[place] = []
                return b""
            case PartDelta():
                return self._text((event.choice, event.part), event.text)
            case Finished():
                return self._finished(event)
            case Noted():
                return self._noted(event)
            case Failed():
                return self._write_fault(event.fault)
            case Ended():
                return self._done() if self._is_blocked else b""
            case Ping():
                return sse.comment()
            case _:
                return b""

    def _text(self, place: tuple[int, int], text: str) -> bytes:
        part = self._parts[place]
        frame, name = part[_FRAME], part.get(_NAME) or ""
        field = part.get("field")
        if field is None:
            choice = {**part[_CHOICE], "index": place[0], "text": text, "logprobs": None, "finish_reason": None}
            return sse.encode(encode({**frame, "choices": [choice]}), name)
        self._sent[place].append(text)
        return sse.encode(encode({**frame, field: text}), name)

    def _finished(self, event: Finished) -> bytes:
        part = self._parts.get((event.choice, 0))
        if event.finish.raw is None:
            self._is_blocked = True
            if part is None or _CHOICE not in part:  # a format without a reason for its end
                fault = Fault(400, "content_filter", "the reply was stopped by a content filter", _BLOCKED)
                return self._write_fault(fault)
        if part is None:
            return b""
        others = event.extras.get(_CHOICE)
        choice = {
            **part[_CHOICE],
            **(others if isinstance(others, dict) else {}),
            "index": event.choice,
            "text": "",
            "logprobs": None,
            "finish_reason": _reason(event.finish),
        }
        return sse.encode(encode({**part[_FRAME], "choices": [choice]}), part.get(_NAME) or "")

    def _noted(self, event: Noted) -> bytes:
        extras: dict[str, Any] = dict(event.extras)
        if _DONE in extras:
            return self._done()
        frame = extras.get(_FRAME)
        if not isinstance(frame, dict):
            return b""
        part = extras.get("part")
        if isinstance(part, int):
            frame = {**frame, "text": "".join(self._sent[0, part])}
        return sse.encode(encode(frame), extras.get(_NAME) or "")

    def _done(self) -> bytes:
        if self._is_done:
            return b""
        self._is_done = True
        return sse.encode(b"[DONE]")


def _reason(finish: Finish) -> str:
    return finish.raw if finish.raw is not None else _BLOCKED
