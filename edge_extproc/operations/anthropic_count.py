"""Anthropic's count_tokens: counts the tokens of a Messages request."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..codecs import json_splice
from ..dialects.anthropic_messages import PLUGIN as ANTHROPIC
from ..dialects.base import Headers, Route
from ..model.call import Call, Written
from .base import Count, Counting, Question, counted_request

NAME = "anthropic_count"
# The accepted fields. Anthropic refuses fields that only affect the reply.
_COUNTED = frozenset(
    {"cache_control", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"}
)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class AnthropicCount(Counting):
    name = NAME
    title = "Anthropic count_tokens"
    error_dialect = "anthropic_messages"
    routes: tuple[Route, ...] = (Route("POST", "/v1/messages/count_tokens", "count_tokens", NAME),)
    key = "input_tokens"

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method
        return replace(ANTHROPIC.read_call(raw, self.operation, headers, path), format=NAME, stream=False)

    def splice(self, call: Call, model: str) -> Written:
        return ANTHROPIC.splice(call, model)

    def path(self, call: Call, model: str) -> str:
        del call, model
        return "/messages/count_tokens"

    def read(self, call: Call) -> Count:
        return Count(ANTHROPIC.read_chat(call), call)

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        request = counted_request(question, ANTHROPIC, model)
        removed: dict[str, json_splice.Change] = dict.fromkeys(_members.decode(request.body).keys() - _COUNTED)
        return "/messages/count_tokens", Written(json_splice.splice(request.body, removed), request.dropped)


PLUGIN = AnthropicCount()
