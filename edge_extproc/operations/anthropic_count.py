"""Anthropic's count_tokens: the tokens of a Messages request that is not sent."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..codecs import json_splice
from ..codecs.json_values import UNREADABLE
from ..dialects.anthropic_messages import PLUGIN as ANTHROPIC
from ..dialects.base import Headers, Route
from ..errors import UpstreamError
from ..model.call import Call, Operation, Written
from ..model.content import Json
from ..model.usage import Usage
from .base import Answer, Count, Counted, Question, Whole

NAME = "anthropic_count"
# What a request to count may hold; what only shapes the answer would be refused.
_COUNTED = frozenset(
    {"cache_control", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"}
)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


class AnthropicCount(Whole):
    name = NAME
    title = "Anthropic count_tokens"
    operation: Operation = "count_tokens"
    voice = "anthropic_messages"
    routes: tuple[Route, ...] = (Route("POST", "/v1/messages/count_tokens", "count_tokens", NAME),)
    billed = False

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method
        return replace(ANTHROPIC.read_call(raw, self.operation, headers, path), format=NAME, stream=False)

    def splice(self, call: Call, model: str) -> Written:
        return ANTHROPIC.splice(call, model)

    def path(self, call: Call, model: str) -> str:
        del call, model
        return "/messages/count_tokens"

    def read(self, call: Call) -> Count:
        return Count(ANTHROPIC.read_chat(call))

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        written = ANTHROPIC.write_chat(counted_chat(question).chat, model)
        gone: dict[str, json_splice.Change] = dict.fromkeys(_members.decode(written.body).keys() - _COUNTED)
        return "/messages/count_tokens", Written(json_splice.splice(written.body, gone), written.dropped)

    def read_answer(self, body: bytes) -> Counted:
        return Counted(read_number(body, "input_tokens"))

    def write_answer(self, answer: Answer, call: Call) -> bytes:
        del call
        return msgspec.json.encode({"input_tokens": counted(answer).tokens})

    def read_usage(self, reply: Json) -> Usage | None:
        """To count is free."""
        del reply
        return None


def counted_chat(question: Question) -> Count:
    if not isinstance(question, Count):
        raise TypeError(f"a format that counts cannot ask a {type(question).__name__}")
    return question


def counted(answer: Answer) -> Counted:
    if not isinstance(answer, Counted):
        raise TypeError(f"a format that counts cannot tell a {type(answer).__name__}")
    return answer


def read_number(body: bytes, key: str) -> int:
    """Raises UpstreamError where the body has no such count."""
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        value = None
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise UpstreamError(f"the provider's answer holds no {key}")
    return found


PLUGIN = AnthropicCount()
