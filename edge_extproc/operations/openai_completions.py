"""OpenAI's legacy completions: a prompt and its continuation, as one reply or as a stream.

No other format has this operation, so it is never translated. The gateway requests the usage of a stream, and removes
it from the stream if the caller did not request it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import msgspec

from ..codecs import json_splice
from ..codecs.json_values import UNREADABLE, as_bool, as_int, as_object, as_text, why_refused
from ..dialects.base import Headers, Route, StreamReader, output_limit
from ..dialects.deployments import ROOT as DEPLOYMENT
from ..dialects.deployments import with_model_of_path
from ..dialects.output_bounds import output_bound
from ..errors import BadRequest
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.usage import Usage
from .base import Uncrossed
from .metering.stream import UsageListener
from .metering.usage import usage_of
from .openai_embeddings import spliced

NAME = "openai_completions"
TITLE = "OpenAI completions"


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    prompt: Any = None
    # These are not OpenAI's (dialects/output_bounds.py).
    max_output_tokens: Any = None
    max_new_tokens: Any = None
    n_predict: Any = None
    extra_body: Any = None


_probe = msgspec.json.Decoder(_Probe)
_FIELDS = MappingProxyType(
    {
        "model": as_text,
        "stream": as_bool,
        "stream_options": as_object,
        "max_tokens": as_int,
        "n": as_int,
        "best_of": as_int,
    }
)


def _prompts(value: Any) -> int:
    """The number of prompts. A list of numbers is one prompt of tokens."""
    several = isinstance(value, list) and bool(value) and not isinstance(value[0], int)
    return len(value) if several else 1


class OpenAICompletions(Uncrossed):
    name = NAME
    title = TITLE
    operation: Operation = "completions"
    error_dialect = "openai_chat"
    routes: tuple[Route, ...] = tuple(
        Route("POST", path, "completions", NAME) for path in ("/v1/completions", f"{DEPLOYMENT}/completions")
    )

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method, headers  # the body has everything, except for the model at some paths
        raw = with_model_of_path(raw, path)
        try:
            probe = _probe.decode(raw)
        except UNREADABLE:
            raise why_refused(raw, _FIELDS, required=("model",)) from None
        if not probe.model.strip():
            raise BadRequest("model is empty: give the name of a model", param="model")
        output_limit(probe.max_tokens, "max_tokens", least=0)  # 0 with echo gives the probabilities of the prompt
        others = (probe.max_output_tokens, probe.max_new_tokens, probe.n_predict)
        limit = probe.max_tokens
        if limit != 0 or probe.extra_body is not None or others != (None, None, None):
            limit = output_bound((limit,), others, probe.extra_body)
        requested = (probe.stream_options or {}).get("include_usage") is True
        return Call(
            self.error_dialect,
            self.operation,
            probe.model,
            bool(probe.stream),
            raw,
            wants_usage=requested or not probe.stream,
            max_output_tokens=limit,
            # Providers charge for every generated choice, also for those that best_of discards.
            choices=max(probe.n or 1, probe.best_of or 1) * _prompts(probe.prompt),
            format=NAME,
        )

    def splice(self, call: Call, model: str) -> Written:
        changes: dict[str, json_splice.Change] = {"model": msgspec.json.encode(model)}
        if not call.wants_usage:
            changes["stream_options"] = {"include_usage": b"true"}
        return spliced(call.raw, changes)

    def path(self, call: Call, model: str) -> str:
        del call, model
        return "/completions"

    def read_usage(self, reply: Json) -> Usage | None:
        return usage_of(reply)

    def listener(self) -> StreamReader:
        return UsageListener()


PLUGIN = OpenAICompletions()
