"""Passthrough: images, audio, rerank, moderations, and the configured `endpoints` (files, batches, …).

The call is authenticated, routed and metered. Its body is unchanged except for the model's name, in JSON or in a form
field.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..codecs import multipart
from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE, why_refused
from ..dialects.base import Headers, Route, StreamReader, header
from ..dialects.deployments import ROOT as DEPLOYMENT
from ..dialects.deployments import operation_of, with_model_of_path
from ..errors import BadRequest
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.paths import BY_MODEL, OF_DEPLOYMENTS
from ..model.usage import Usage
from .base import Uncrossed
from .metering.stream import UsageListener
from .metering.usage import usage_of
from .openai_embeddings import spliced

NAME = "passed"
_ROOT = re.compile(r"/v\d+(?:alpha|beta)?\d*(?=/)")
# Escapes are refused: an escaped slash or dot could change the path.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+")
_FIELDS = frozenset({"model", "stream"})
# How clients write true into a form: Python's libraries write `True`.
_TRUE = frozenset({"true", "1"})


class _Probe(msgspec.Struct):
    model: Any = None
    stream: Any = None
    stream_format: Any = None
    """Of speech, which has no `stream`."""


_probe = msgspec.json.Decoder(_Probe)


class Passed(Uncrossed):
    name = NAME
    title = "this endpoint"
    operation: Operation = "passed"
    error_dialect = "openai_chat"
    routes: tuple[Route, ...] = tuple(
        Route("POST", path, "passed", NAME)
        for path in (*BY_MODEL, *(DEPLOYMENT + path.removeprefix("/v1") for path in OF_DEPLOYMENTS))
    )

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        content_type = header(headers, "content-type") or ""
        raw = with_model_of_path(raw, path, content_type)
        model, stream = _read(raw, content_type)
        target = _target(operation_of(path) or path)
        return Call(
            self.error_dialect,
            self.operation,
            model,
            stream,
            raw,
            format=NAME,
            method=method,
            target=target,
            content_type=content_type,
        )

    def splice(self, call: Call, model: str) -> Written:
        if not call.model or model == call.model:
            return Written(call.raw)
        if media_type(call.content_type) == "multipart/form-data":
            start, stop = _form(call.raw, call.content_type)["model"]
            return Written(call.raw[:start] + model.encode() + call.raw[stop:])
        return spliced(call.raw, {"model": msgspec.json.encode(model)})

    def path(self, call: Call, model: str) -> str:
        del model
        return call.target

    def read_usage(self, reply: Json) -> Usage | None:
        return usage_of(reply)

    def listener(self) -> StreamReader:
        return UsageListener()


def _target(path: str) -> str:
    bare, mark, query = path.partition("?")
    if not _PLAIN_PATH.fullmatch(bare) or any(step in (".", "..") for step in bare.split("/")):
        raise BadRequest("this path contains a character that is not allowed here; send it without escapes")
    return _ROOT.sub("", bare, count=1) + mark + query


def _read(raw: bytes, content_type: str) -> tuple[str, bool]:
    """The model ("": the body has none), and whether a stream is requested."""
    kind = media_type(content_type)
    if kind == "multipart/form-data":
        spans = _form(raw, content_type)
        model, stream = (
            raw[slice(*spans.get(name, (0, 0)))].decode("utf-8", "replace") for name in ("model", "stream")
        )
        return model, stream.strip().lower() in _TRUE
    if not raw or not (kind == "application/json" or kind.endswith("+json")):
        return "", False
    try:
        probe = _probe.decode(raw)
    except UNREADABLE:
        raise why_refused(raw, {}) from None
    if probe.model is not None and not isinstance(probe.model, str):
        raise BadRequest(f"model must be a string, not {probe.model!r:.60}", param="model")
    return probe.model or "", probe.stream is True or probe.stream_format == "sse"


def _form(raw: bytes, content_type: str) -> dict[str, tuple[int, int]]:
    try:
        return multipart.fields(raw, content_type, _FIELDS)
    except ValueError as exc:
        raise BadRequest(f"the form cannot be read: {exc}") from None


PLUGIN = Passed()
