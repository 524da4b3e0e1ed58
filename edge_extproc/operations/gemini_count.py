"""Gemini's countTokens. AI Studio accepts the complete request as `generateContentRequest`; Vertex AI accepts it
directly, with fewer fields."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..codecs import json_splice
from ..dialects.base import Headers, Route
from ..dialects.gemini_generate import PLUGIN as GEMINI
from ..errors import BadRequest
from ..model.call import Call, Written
from .base import Count, Counting, Question, counted_request
from .gemini_embeddings import place

NAME = "gemini_count"
_WRAPPED = ("generateContentRequest", "generate_content_request")
# The fields that Vertex AI accepts.
_VERTEX = frozenset({"contents", "generationConfig", "systemInstruction", "tools"})


class GeminiCount(Counting):
    title = "Gemini countTokens"
    error_dialect = "gemini_generate"
    key = "totalTokens"

    def __init__(self, name: str, roots: tuple[str, ...], *, wrapped: bool) -> None:
        self.name = name
        self._wrapped = wrapped
        self.routes: tuple[Route, ...] = tuple(
            Route("POST", f"{root}/{{model}}:countTokens", "count_tokens", name) for root in roots
        )

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method
        return replace(GEMINI.read_call(raw, self.operation, headers, path), format=self.name)

    def splice(self, call: Call, model: str) -> Written:
        return GEMINI.splice(call, model)

    def path(self, call: Call, model: str) -> str:
        del call
        return place(model, "countTokens")

    def read(self, call: Call) -> Count:
        members = json_splice.members_of(call.raw)
        inner = next((bytes(members[name]) for name in _WRAPPED if name in members), call.raw)
        chat_call = replace(call, raw=inner)
        return Count(GEMINI.read_chat(chat_call), chat_call)

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        counted = counted_request(question, GEMINI, model)
        try:
            if self._wrapped:
                request = json_splice.splice(counted.body, {"model": msgspec.json.encode(f"models/{model}")})
                body = b'{"generateContentRequest":' + request + b"}"
            else:
                removed: dict[str, json_splice.Change] = dict.fromkeys(
                    json_splice.members_of(counted.body).keys() - _VERTEX
                )
                body = json_splice.splice(counted.body, removed)
        except ValueError as exc:
            raise BadRequest(f"the request cannot be written: {exc}") from exc
        return place(model, "countTokens"), Written(body, counted.dropped)


PLUGIN = GeminiCount(NAME, ("/v1beta/models", "/v1/models"), wrapped=True)
