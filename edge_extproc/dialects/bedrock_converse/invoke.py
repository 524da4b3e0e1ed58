"""Bedrock's InvokeModel for Claude, for its callers: Anthropic's body at Bedrock's path, with Bedrock's framing and
errors.

A call is read as one of Anthropic's format, so a provider of that format gets the caller's own bytes. Only the model
and the stream flag move from the path to the body, and the beta flags and the version out of it.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import msgspec

from ...codecs import aws_eventstream, json_splice
from ...codecs.json_values import UNREADABLE, encode
from ...codecs.sse import SseDecoder
from ...errors import BadRequest
from ...model.call import Call, Operation
from ...model.fault import Fault
from ...model.reply import Failed, ReplyEvent
from ..anthropic_messages import AnthropicMessages
from ..anthropic_messages.request_in import why_no_call
from ..anthropic_messages.stream_out import ReplyWriter as MessagesWriter
from ..base import Headers, Route, StreamWriter
from ..reading import model_in_path
from .errors import exception_of, write_error
from .fields import NAME

_STREAM = "invoke-with-response-stream"
# An inference profile's ARN has some 100 characters.
_LONGEST_MODEL = 2048


class _Flags(msgspec.Struct):
    anthropic_beta: Any = None


_flags = msgspec.json.Decoder(_Flags)


class BedrockInvoke(AnthropicMessages):
    routes: tuple[Route, ...] = (
        Route("POST", "/model/{model}/invoke", "chat"),
        Route("POST", f"/model/{{model}}/{_STREAM}", "chat"),
    )
    client_headers: tuple[str, ...] = ()

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        _, _, name, verb = path.partition("?")[0].split("/", 3)
        model, stream = model_in_path(name, _LONGEST_MODEL), verb == _STREAM
        try:
            flags = _flags.decode(raw).anthropic_beta
            changes: dict[str, json_splice.Change] = {
                "anthropic_version": None,
                "anthropic_beta": None,
                "model": encode(model),
                "stream": b"true" if stream else None,
            }
            body = json_splice.splice(raw, changes)
        except UNREADABLE:
            raise why_no_call(raw) from None
        if flags is not None and not (isinstance(flags, list) and all(isinstance(flag, str) for flag in flags)):
            raise BadRequest("anthropic_beta must be a list of flags", param="anthropic_beta")
        call = super().read_call(body, operation, headers, path)
        return replace(
            call,
            betas=tuple(dict.fromkeys((*(flags or ()), *call.betas))),
            stream_type=aws_eventstream.MEDIA_TYPE if stream else None,
            error_dialect=NAME,
        )

    def writer(self, call: Call) -> StreamWriter:
        return _ChunkWriter(call)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        return write_error(fault)


class _ChunkWriter:
    """Puts each event of Anthropic's stream into a frame of AWS."""

    def __init__(self, call: Call) -> None:
        self._writer = MessagesWriter(call)
        self._events = SseDecoder()
        self._is_over = False

    def write(self, event: ReplyEvent) -> bytes:
        if self._is_over:
            return b""
        if isinstance(event, Failed):
            self._is_over = True
            return exception_of(event.fault)
        frames = self._events.feed(self._writer.write(event))
        return b"".join(_chunk(frame.data) for frame in frames if frame.data)


def _chunk(data: bytes) -> bytes:
    return aws_eventstream.event("chunk", encode({"bytes": base64.b64encode(data).decode()}))


INVOKE = BedrockInvoke()
