"""Encodes reply events as a ConverseStream event stream."""

from __future__ import annotations

import base64
from typing import assert_never

from ...codecs import aws_eventstream
from ...codecs.json_values import encode
from ...model.call import Call
from ...model.content import Audio, Extras, Image, Opaque
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
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
)
from ...model.usage import Usage
from ..carried import UNSIGNED, tool_id
from ..turns import arguments_of
from .content import CITATIONS, opaque_of, read_image, write_redacted
from .errors import exception_of
from .fields import NAME, Block, bytes_of
from .reply import REPLY_EXTRAS, answered_media, call_id_of, stop_reason, write_usage


def joined(pieces: list[str]) -> str:
    """Joins several base64 texts with padding into one."""
    if len(pieces) == 1:
        return pieces[0]
    return base64.b64encode(b"".join(bytes_of(piece) or b"" for piece in pieces)).decode()


def whole_part(value: Block, part: int) -> PartStarted:
    """A part that is written when it is complete: an image, or one that only this dialect has."""
    if value.keys() == {"image"} and isinstance(value["image"], dict):
        image = read_image(value, "image")
        if isinstance(image, Image):
            return PartStarted(part, "media", media=image)
    return PartStarted(part, "opaque", opaque=_opaque(value))


def _opaque(value: Block) -> Opaque:
    """A tool's input is written in pieces of JSON text."""
    use = value.get("toolUse")
    if isinstance(use, dict) and isinstance(text := use.get("input"), str):
        value = {"toolUse": {**use, "input": arguments_of(text) or {}}}
    return opaque_of(value, "")


# --- streams: writing


class ReplyWriter:
    """Encodes one streamed reply. Text and reasoning open their block with their first delta, as Bedrock does, so no
    block is empty. The stop and the usage are written at the end, when both are known."""

    def __init__(self, call: Call) -> None:
        del call  # a stream of this format has neither model nor id
        self._started = False
        self._over = False
        self._indexes: dict[int, int] = {}
        """The open blocks, by part."""
        self._kinds: dict[int, str] = {}
        self._signed: set[int] = set()
        """The thinking parts with a signature."""
        self._next = 0
        self._calls = 0
        self._id: str | None = None
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._noted: Block = {}
        self._out: list[bytes] = []

    def write(self, event: ReplyEvent) -> bytes:
        if self._over or getattr(event, "choice", None):
            return b""
        match event:
            case PartDelta():
                self._grow(event)
            case PartStarted():
                self._begin(event)
            case PartEnded():
                self._end(event.part)
            case PartSigned():
                if self._kinds.get(event.part) == "thinking":
                    self._signed.add(event.part)
                    self._delta(event.part, {"reasoningContent": {"signature": event.signature}})
            case PartNoted():
                self._cite(event)
            case ReplyStarted():
                self._start(event)
            case UsageSeen():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
                self._note(event.extras)
            case Noted():
                self._note(event.extras)
            case Ping() | Garbled():
                pass
            case Failed():
                self._fail(event.fault)
            case Ended():
                self._finish_reply()
            case _:
                assert_never(event)
        out, self._out = b"".join(self._out), []
        return out

    def _emit(self, kind: str, payload: Block) -> None:
        self._out.append(aws_eventstream.event(kind, encode(payload)))

    def _start(self, event: ReplyStarted) -> None:
        if self._started:
            return
        self._started = True
        self._id = event.id
        self._note(event.extras)
        self._emit("messageStart", {"role": "assistant"})

    def _note(self, extras: Extras) -> None:
        """The extras of a Bedrock stream. Those of other dialects are ignored."""
        self._noted.update((key, value) for key, value in extras.items() if key in _NOTED)

    def _begin(self, event: PartStarted) -> None:
        self._start(ReplyStarted(None, None))
        self._kinds[event.part] = event.kind
        match event.kind:
            case "tool_call":
                use: Block = {
                    "toolUseId": tool_id(event.id or call_id_of(self._id, self._calls)),
                    "name": event.name or "",
                }
                self._calls += 1
                self._emit(
                    "contentBlockStart", {"start": {"toolUse": use}, "contentBlockIndex": self._open(event.part)}
                )
            case "redacted_thinking":
                self._delta(event.part, {"reasoningContent": {"redactedContent": write_redacted(event.data or "")}})
            case "media":
                if event.media is not None:
                    self._begin_media(event.media, event.part)
            case "opaque":
                self._begin_opaque(event)
            case "text" | "thinking" | "refusal":
                pass
            case _:
                assert_never(event.kind)

    def _begin_media(self, media: Image | Audio, part: int) -> None:
        block = answered_media(media)
        match block:
            case {"image": {"format": format, **rest}}:
                start = {"image": {"format": format}}
                self._emit("contentBlockStart", {"start": start, "contentBlockIndex": self._open(part)})
                self._delta(part, {"image": rest})
            case _:
                self._delta(part, block)

    def _begin_opaque(self, event: PartStarted) -> None:
        """A part of another dialect is dropped. One of this dialect is written as Bedrock sends it."""
        opaque = event.opaque
        if opaque is None or opaque.dialect != NAME or not isinstance(opaque.value, dict):
            return
        match opaque.value:
            case {"toolResult": dict(result)}:
                start: Block = {k: v for k, v in result.items() if k != "content"}
                self._emit(
                    "contentBlockStart", {"start": {"toolResult": start}, "contentBlockIndex": self._open(event.part)}
                )
                if content := result.get("content"):
                    self._delta(event.part, {"toolResult": content})
            case {"toolUse": dict(use)}:
                start = {k: v for k, v in use.items() if k != "input"}
                self._emit(
                    "contentBlockStart", {"start": {"toolUse": start}, "contentBlockIndex": self._open(event.part)}
                )
                self._delta(event.part, {"toolUse": {"input": encode(use.get("input", {})).decode()}})
            case {"image": {"format": format, **rest}}:
                start = {"image": {"format": format}}
                self._emit("contentBlockStart", {"start": start, "contentBlockIndex": self._open(event.part)})
                self._delta(event.part, {"image": rest})
            case value:
                self._delta(event.part, value)

    def _open(self, part: int) -> int:
        index = self._indexes.get(part)
        if index is None:
            index = self._indexes[part] = self._next
            self._next += 1
        return index

    def _delta(self, part: int, delta: Block) -> None:
        self._emit("contentBlockDelta", {"delta": delta, "contentBlockIndex": self._open(part)})

    def _grow(self, event: PartDelta) -> None:
        if not event.text:
            return
        match self._kinds.get(event.part):
            case "text" | "refusal":
                self._delta(event.part, {"text": event.text})
            case "thinking":
                self._delta(event.part, {"reasoningContent": {"text": event.text}})
            case "tool_call":
                self._delta(event.part, {"toolUse": {"input": event.text}})
            case _:
                pass  # redacted and opaque parts have no deltas

    def _cite(self, event: PartNoted) -> None:
        citations = event.extras.get(CITATIONS)
        if self._kinds.get(event.part) == "text" and isinstance(citations, list):
            for citation in citations:
                self._delta(event.part, {"citation": citation})

    def _end(self, part: int) -> None:
        kind = self._kinds.pop(part, None)
        if kind == "thinking" and part in self._indexes and part not in self._signed:
            self._delta(part, {"reasoningContent": {"signature": UNSIGNED}})
        index = self._indexes.pop(part, None)
        if index is not None:
            self._emit("contentBlockStop", {"contentBlockIndex": index})

    def _finish_reply(self) -> None:
        self._start(ReplyStarted(None, None))
        for part in sorted(self._indexes):
            self._end(part)
        finish = self._finish
        stop: Block = {"stopReason": stop_reason(finish, self._calls > 0)}
        if (more := self._noted.pop("additionalModelResponseFields", None)) is not None:
            stop["additionalModelResponseFields"] = more
        elif finish is not None and finish.stop_sequence is not None:
            stop["additionalModelResponseFields"] = {"stop_sequence": finish.stop_sequence}
        self._emit("messageStop", stop)
        usage = write_usage(self._usage, self._noted.pop("usage", None))
        self._emit("metadata", {"usage": usage, "metrics": {"latencyMs": 0}, **self._noted})
        self._over = True

    def _fail(self, fault: Fault) -> None:
        self._out.append(exception_of(fault))
        self._over = True


_NOTED = frozenset({"metrics", "usage", *REPLY_EXTRAS})
