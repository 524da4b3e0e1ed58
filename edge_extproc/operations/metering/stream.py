"""Reads a passthrough stream: its usage, its errors, and whether it is complete.

OpenAI's streams of legacy completions, images, speech and transcriptions are SSE with JSON in each event. They end in
`[DONE]`, in an event whose type ends in ".done" or ".completed", or (completions) in a finish_reason.
"""

from __future__ import annotations

import msgspec

from ...codecs import sse
from ...codecs.frame import Frame
from ...codecs.json_values import UNREADABLE
from ...model.content import NO_EXTRAS, Json
from ...model.fault import Fault
from ...model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    FinishReason,
    Garbled,
    Noted,
    PartDelta,
    Ping,
    ReplyEvent,
    UsageSeen,
)
from .usage import usage_of

_LAST = (".done", ".completed")
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}
_TRUNCATED = Fault(502, "api", "the provider's stream ended before its proper end", "upstream_error")


class UsageListener:
    """A `StreamReader` for streams of operations other than chat."""

    def __init__(self) -> None:
        self._decoder = sse.SseDecoder()
        self._over = False
        self._is_complete = False
        """The final event was received. A usage may still follow."""
        self._ends_itself = False
        """The stream is of a kind that has a final event."""

    def frames(self, data: bytes) -> list[Frame]:
        return self._decoder.feed(data)

    def read(self, frame: Frame) -> list[ReplyEvent]:
        if self._over:
            return []
        if not frame.data:
            return [Ping()]
        if frame.data == b"[DONE]":
            self._over = True
            return [Ended()]
        try:
            value: Json = msgspec.json.decode(frame.data)
        except UNREADABLE:
            return [Garbled("an event is not JSON")]
        return self._read(value) if isinstance(value, dict) else [Garbled("an event is not a JSON object")]

    def close(self) -> tuple[list[Frame], list[ReplyEvent]]:
        frames = self._decoder.close()
        events = [event for frame in frames for event in self.read(frame)]
        if not self._over:
            self._over = True
            events.append(Ended() if self._is_complete or not self._ends_itself else Failed(_TRUNCATED))
        return frames, events

    def _read(self, value: dict[str, Json]) -> list[ReplyEvent]:
        kind, error, choices = value.get("type"), value.get("error"), value.get("choices")
        if error or kind == "error":
            self._over = True
            return [Failed(_fault(error if isinstance(error, dict) else value))]
        events: list[ReplyEvent] = []
        if isinstance(kind, str):
            self._ends_itself = True
            self._is_complete = self._is_complete or kind.endswith(_LAST)
            events.append(Noted(NO_EXTRAS))
        if isinstance(choices, list) and choices:
            self._ends_itself = True
            for choice in choices:
                events += self._choice(choice)
        usage = usage_of(value)
        if usage is not None:
            events.append(UsageSeen(usage))
        return events

    def _choice(self, choice: Json) -> list[ReplyEvent]:
        if not isinstance(choice, dict):
            return [Garbled("a choice is not a JSON object")]
        number = choice.get("index")
        index = number if isinstance(number, int) else 0
        text, finish = choice.get("text"), choice.get("finish_reason")
        events: list[ReplyEvent] = [PartDelta(0, text if isinstance(text, str) else "", index)]
        if isinstance(finish, str):
            self._is_complete = True
            events.append(Finished(Finish(_REASONS.get(finish, "other"), finish), index))
        return events


def _fault(error: dict[str, Json]) -> Fault:
    message, code = error.get("message"), error.get("code")
    text = message if isinstance(message, str) and message else "the provider reported an error in its stream"
    return Fault(502, "api", text, code if isinstance(code, str) else "upstream_error")
