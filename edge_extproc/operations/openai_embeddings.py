"""OpenAI's embeddings, which most hosts have: one vector for each text or token list, as numbers or as base64."""

from __future__ import annotations

import base64
import struct
from typing import Any

import msgspec

from ..codecs import json_splice
from ..codecs.json_values import UNREADABLE, read_body, text_of
from ..dialects.base import Headers, Route
from ..dialects.deployments import ROOT as DEPLOYMENT
from ..dialects.deployments import with_model_of_path
from ..errors import BadRequest, UpstreamError
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.embedding import Embed, Embedded, Input
from ..model.usage import Usage
from .base import Answer, Question, WholeResult
from .metering.usage import usage_of

NAME = "openai_embeddings"
TITLE = "OpenAI embeddings"
_OURS = frozenset({"model", "input", "dimensions", "encoding_format"})


class _Probe(msgspec.Struct):
    model: str
    encoding_format: Any = None


class _Item(msgspec.Struct):
    embedding: msgspec.Raw


class _Items(msgspec.Struct):
    data: list[_Item]


_probe = msgspec.json.Decoder(_Probe)
_items = msgspec.json.Decoder(_Items)


class OpenAIEmbeddings(WholeResult):
    name = NAME
    title = TITLE
    operation: Operation = "embeddings"
    error_dialect = "openai_chat"
    routes: tuple[Route, ...] = tuple(
        Route("POST", path, "embeddings", NAME) for path in ("/v1/embeddings", f"{DEPLOYMENT}/embeddings")
    )

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method, headers  # the body has everything, except for the model at some paths
        raw = with_model_of_path(raw, path)
        try:
            probe = _probe.decode(raw)
        except UNREADABLE:
            raise BadRequest("the body must be a JSON object, and its model must be a string", param="model") from None
        if not probe.model.strip():
            raise BadRequest("model is empty: give the name of a model", param="model")
        return Call(self.error_dialect, self.operation, probe.model, stream=False, raw=raw, format=NAME)

    def splice(self, call: Call, model: str) -> Written:
        return spliced(call.raw, {"model": msgspec.json.encode(model)})

    def path(self, call: Call, model: str) -> str:
        del call, model
        return "/embeddings"

    def read(self, call: Call) -> Embed:
        body = read_body(call.raw)
        inputs, single = _inputs(body.get("input"))
        dimensions = body.get("dimensions")
        if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
            raise BadRequest(f"dimensions is {dimensions!r}; give a whole number", param="dimensions")
        if dimensions is not None and dimensions < 1:  # Google reads 0 as the default
            raise BadRequest(f"dimensions is {dimensions}; give at least 1", param="dimensions")
        dropped = tuple(sorted(key for key, value in body.items() if key not in _OURS and value is not None))
        return Embed(call.model, inputs, single, dimensions, dropped=dropped)

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        embed_request = embed(question)
        inputs = (
            embed_request.inputs[0]
            if embed_request.single and isinstance(embed_request.inputs[0], str)
            else embed_request.inputs
        )
        # Without "float", Perplexity sends 8-bit numbers in base64.
        body: dict[str, Json] = {"model": model, "input": msgspec.to_builtins(inputs), "encoding_format": "float"}
        if embed_request.dimensions is not None:
            body["dimensions"] = embed_request.dimensions
        dropped = {*embed_request.dropped, *removed_purpose(embed_request)}
        return "/embeddings", Written(msgspec.json.encode(body), tuple(sorted(dropped)))

    def read_answer(self, body: bytes) -> Embedded:
        try:
            value = msgspec.json.decode(body)
            rows = sorted(enumerate(value["data"]), key=lambda row: _place(row[1].get("index"), row[0]))
            vectors = tuple(_vector(row["embedding"]) for _, row in rows)
            model = value.get("model")
        except (*UNREADABLE, KeyError, TypeError, AttributeError):
            raise UpstreamError("the provider's reply has no embeddings") from None
        return Embedded(vectors, text_of(model), usage_of(value))

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        embeddings = embedded(answer)
        as_text = _wants_base64(call)
        used = embeddings.usage.prompt if embeddings.usage is not None else 0
        return msgspec.json.encode(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": n, "embedding": _base64(vector) if as_text else vector}
                    for n, vector in enumerate(embeddings.vectors)
                ],
                "model": embeddings.model or call.model,
                "usage": {"prompt_tokens": used, "total_tokens": used},
            }
        )

    def read_usage(self, reply: Json) -> Usage | None:
        return usage_of(reply)

    def as_requested(self, body: bytes, call: Call) -> bytes:
        """Encodes numbers as base64 if the caller requested base64: some hosts ignore that, and the client would fail
        to decode the reply."""
        if not _wants_base64(call):
            return body
        try:
            if all(bytes(item.embedding).startswith(b'"') for item in _items.decode(body).data):
                return body
            value = msgspec.json.decode(body)
            for row in value["data"]:
                if isinstance(row["embedding"], list):
                    row["embedding"] = _base64(_vector(row["embedding"]))
        except (*UNREADABLE, TypeError, struct.error):
            return body
        return msgspec.json.encode(value)


def embed(question: Question) -> Embed:
    if not isinstance(question, Embed):
        raise TypeError(f"an embedding format cannot write {type(question).__name__}")
    return question


def removed_purpose(embed_request: Embed) -> set[str]:
    """What a format without the purpose of the vectors loses, in the spelling of Google's callers."""
    fields = (("taskType", embed_request.task), ("title", embed_request.title))
    return {name for name, value in fields if value is not None}


def embedded(answer: Answer) -> Embedded:
    if not isinstance(answer, Embedded):
        raise TypeError(f"an embedding format cannot write {type(answer).__name__}")
    return answer


def spliced(raw: bytes, changes: dict[str, json_splice.Change]) -> Written:
    try:
        return Written(json_splice.splice(raw, changes))
    except ValueError as exc:
        raise BadRequest(f"the body cannot be passed on: {exc}") from exc


def _inputs(value: Json) -> tuple[tuple[Input, ...], bool]:
    """The inputs, and whether the caller gave a single one that is not in a list."""
    if isinstance(value, str):
        return (value,), True
    if isinstance(value, list) and value:
        if all(isinstance(each, int) and not isinstance(each, bool) for each in value):
            return (_tokens(value),), True
        if all(isinstance(each, str) for each in value):
            return tuple(each for each in value if isinstance(each, str)), False
        if all(isinstance(each, list) for each in value):
            return tuple(_tokens(each) for each in value if isinstance(each, list)), False
    raise BadRequest("input must be a string, a list of strings, or token numbers", param="input")


def _tokens(value: list[Json]) -> tuple[int, ...]:
    tokens = tuple(each for each in value if isinstance(each, int) and not isinstance(each, bool))
    if len(tokens) != len(value) or not tokens:
        raise BadRequest("input must be a string, a list of strings, or token numbers", param="input")
    return tokens


def _wants_base64(call: Call) -> bool:
    try:
        return bool(_probe.decode(call.raw).encoding_format == "base64")
    except UNREADABLE:  # a caller of another format
        return False


def _base64(vector: tuple[float, ...] | list[float]) -> str:
    """OpenAI's encoding: 32-bit floats, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _place(index: Json, position: int) -> int:
    """The place of a vector. Some hosts write no index, or not as a number."""
    return index if isinstance(index, int) and not isinstance(index, bool) else position


def _vector(value: Json) -> tuple[float, ...]:
    if not isinstance(value, list):  # base64 of an unknown number format
        raise TypeError("a vector is a list of numbers")
    return tuple(float(each) for each in value)


PLUGIN = OpenAIEmbeddings()
