"""Encodes reply events as a Messages stream."""

from __future__ import annotations

from typing import assert_never

from ...codecs import sse
from ...codecs.json_values import encode
from ...model.call import Call
from ...model.content import Extras, Json, Opaque
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
from ..dropping import omission
from .errors import error_body
from .fields import NAME, TITLE, Block
from .reply import REPLY_EXTRAS, call_id_of, message_id, stop_reason, write_usage

# --- streams: writing

_TALK = frozenset({"text", "thinking", "refusal"})
"""Parts that may be closed as soon as another one begins. Their later deltas go into a new block."""
_WAITING_LIMIT = 16 * 1024 * 1024
"""Characters of tool calls that wait for an earlier one to end."""


def _event(kind: str, payload: Block) -> bytes:
    return sse.encode(encode({"type": kind, **payload}), kind)


def _is_own_caller(caller: Json) -> bool:
    kind = caller.get("type") if isinstance(caller, dict) else None
    return isinstance(kind, str) and (kind == "direct" or kind.startswith("code_execution_"))


class ReplyWriter:
    """Encodes one streamed reply. Exactly one block is open at a time: a part that begins while a tool call is open
    waits until the call has ended. Text and thinking open their block with their first delta, so no block is empty."""

    def __init__(self, call: Call) -> None:
        self._model = call.model
        self._id = ""
        self._started = False
        self._over = False
        self._index = 0
        self._current: PartStarted | None = None
        self._is_open = False
        """Whether the block of the current part is open."""
        self._signed = False
        """Whether that block has a signature."""
        self._deferred: dict[int, list[ReplyEvent]] = {}
        self._waiting_size = 0
        self.closed_schema: dict[int, PartStarted] = {}
        self._calls = 0
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._usage_extras: Json = None
        self._noted: Block = {}
        self._out: list[bytes] = []

    def write(self, event: ReplyEvent) -> bytes:
        if self._over or getattr(event, "choice", None):
            return b""
        self._take(event)
        out, self._out = b"".join(self._out), []
        return out

    def _take(self, event: ReplyEvent) -> None:
        match event:
            case PartDelta() | PartSigned() | PartNoted():
                self._grow(event)
            case PartStarted():
                self._begin(event)
            case PartEnded():
                self._end(event)
            case ReplyStarted():
                self._start(event)
            case UsageSeen():
                self._usage = event.usage
            case Finished():
                self._finish = event.finish
                self._note(event.extras)
            case Noted():
                self._note(event.extras)
            case Ping():
                self._out.append(_event("ping", {}))
            case Garbled():
                pass
            case Failed():
                self._fail(event.fault)
            case Ended():
                self._finish_reply()
            case _:
                assert_never(event)

    def _start(self, event: ReplyStarted) -> None:
        if self._started:
            return
        self._started = True
        model = event.model or self._model
        self._id = message_id(event.id, model, event.created)
        self._note(event.extras)
        message: Block = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(self._usage, self._usage_extras),
        }
        self._out.append(_event("message_start", {"message": message}))

    def _note(self, extras: Extras) -> None:
        """The extras of an Anthropic stream. Those of other dialects are ignored."""
        self._usage_extras = extras.get("usage", self._usage_extras)
        self._noted.update((key, value) for key, value in extras.items() if key in REPLY_EXTRAS)

    # parts

    def _begin(self, event: PartStarted) -> None:
        self._start(ReplyStarted(None, None))
        if self._current is not None:
            if self._current.kind not in _TALK:
                self._deferred[event.part] = [event]
                return
            self.closed_schema[self._current.part] = self._current
            self._close()
        self._current = event
        match event.kind:
            case "tool_call":
                self._open_call(event)
            case "redacted_thinking":
                self._open({"type": "redacted_thinking", "data": event.data or ""})
            case "opaque":
                self._open_opaque(event.opaque)
            case "media":
                if event.media is not None:
                    self._say("text", omission(event.media, TITLE))
            case "text" | "thinking" | "refusal":
                pass
            case _:
                assert_never(event.kind)

    def _open(self, block: Block) -> None:
        self._is_open, self._signed = True, False
        self._out.append(_event("content_block_start", {"index": self._index, "content_block": block}))

    def _open_call(self, event: PartStarted) -> None:
        block: Block = {
            "type": "tool_use",
            "id": tool_id(event.id or call_id_of("toolu_", self._id, self._calls)),
            "name": event.name or "",
            "input": {},
        }
        block.update((key, event.extras[key]) for key in ("caller", "toolset_name") if key in event.extras)
        if not _is_own_caller(block.get("caller")):  # OpenAI has a field of the same name with other types
            block.pop("caller", None)
        self._calls += 1
        self._open(block)

    def _open_opaque(self, opaque: Opaque | None) -> None:
        """Writes a part of this dialect as Anthropic sends it, with its input (if any) in a delta. A part of another
        dialect is dropped."""
        if opaque is None or opaque.dialect != NAME or not isinstance(opaque.value, dict):
            return
        tool_input = opaque.value.get("input")
        self._open({**opaque.value, "input": {}} if tool_input else dict(opaque.value))
        if tool_input:
            self._delta({"type": "input_json_delta", "partial_json": encode(tool_input).decode()})

    def _delta(self, delta: Block) -> None:
        self._out.append(_event("content_block_delta", {"index": self._index, "delta": delta}))

    def _grow(self, event: PartDelta | PartSigned | PartNoted) -> None:
        if self._current is None or event.part != self._current.part:
            deferred = self._deferred.get(event.part)
            if deferred is None:
                closed = self.closed_schema.pop(event.part, None)
                if closed is None or not isinstance(event, PartDelta):
                    return  # a late signature or note has no block
                self._begin(PartStarted(closed.part, closed.kind))
                self._grow(event)
                return
            self._wait(deferred, event)
            return
        kind = self._current.kind
        match event:
            case PartDelta():
                if event.text:
                    self._say(kind, event.text)
            case PartSigned():
                if kind == "thinking":
                    self._open_talk(kind)
                    self._signed = True
                    self._delta({"type": "signature_delta", "signature": event.signature})
            case PartNoted():
                citations = event.extras.get("citations")
                if kind == "text" and isinstance(citations, list):
                    self._open_talk(kind)
                    for citation in citations:
                        self._delta({"type": "citations_delta", "citation": citation})
            case _:
                assert_never(event)

    def _wait(self, deferred: list[ReplyEvent], event: PartDelta | PartSigned | PartNoted) -> None:
        deferred.append(event)
        if isinstance(event, PartDelta):
            self._waiting_size += len(event.text)
            if self._waiting_size > _WAITING_LIMIT:
                self._fail(Fault(502, "api", f"the provider sent more than {_WAITING_LIMIT} characters out of order"))

    def _open_talk(self, kind: str) -> None:
        if self._is_open:
            return
        if kind == "thinking":
            self._open({"type": "thinking", "thinking": "", "signature": ""})
        else:
            self._open({"type": "text", "text": ""})

    def _say(self, kind: str, text: str) -> None:
        match kind:
            case "tool_call":
                self._delta({"type": "input_json_delta", "partial_json": text})
            case "thinking":
                self._open_talk(kind)
                self._delta({"type": "thinking_delta", "thinking": text})
            case "text" | "refusal":
                self._open_talk(kind)
                self._delta({"type": "text_delta", "text": text})
            case _:
                pass  # redacted and opaque parts have no deltas

    def _end(self, event: PartEnded) -> None:
        if self._current is not None and event.part == self._current.part:
            self._close()
            self._next()
        elif event.part in self._deferred:
            self._deferred[event.part].append(event)

    def _close(self) -> None:
        kind = self._current.kind if self._current is not None else None
        self._current = None
        if self._is_open:
            self._is_open = False
            if kind == "thinking" and not self._signed:
                self._delta({"type": "signature_delta", "signature": UNSIGNED})
            self._out.append(_event("content_block_stop", {"index": self._index}))
            self._index += 1

    def _next(self) -> None:
        """Writes the waiting parts in order, up to the first incomplete one."""
        while self._current is None and self._deferred:
            events = self._deferred.pop(next(iter(self._deferred)))
            for event in events:
                self._take(event)

    # the end of the stream

    def _finish_reply(self) -> None:
        self._start(ReplyStarted(None, None))
        while self._current is not None or self._deferred:
            self._close()
            self._next()
        finish = self._finish or Finish("stop")
        delta: Block = {
            "stop_reason": stop_reason(finish, self._calls > 0),
            "stop_sequence": finish.stop_sequence,
            **{key: self._noted[key] for key in ("container", "stop_details") if key in self._noted},
        }
        payload: Block = {"delta": delta, "usage": write_usage(self._usage, self._usage_extras)}
        if "context_management" in self._noted:
            payload["context_management"] = self._noted["context_management"]
        self._out += [_event("message_delta", payload), _event("message_stop", {})]
        self._over = True

    def _fail(self, fault: Fault) -> None:
        self._out.append(sse.encode(encode(error_body(fault)), "error"))
        self._over = True
