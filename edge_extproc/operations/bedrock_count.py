"""Bedrock's CountTokens: counts the tokens of a request in Converse's or in Anthropic's format.

Bedrock counts only for Claude, and only by the name of the model: it refuses the id of a cross-region profile.
"""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import quote

import msgspec

from ..codecs import json_splice
from ..codecs.json_values import read_body
from ..dialects.anthropic_messages import PLUGIN as ANTHROPIC
from ..dialects.base import Headers, Route
from ..dialects.bedrock_converse import PLUGIN as CONVERSE
from ..dialects.bedrock_converse.request_in import model_of
from ..errors import BadRequest
from ..model.call import Call, Written
from ..model.content import Json
from .base import Count, Counting, Question, counted_request

NAME = "bedrock_count"
# The changes to a Messages body. The version is the only one in Bedrock's user guide.
_INVOKED: dict[str, json_splice.Change] = {
    "model": None,
    "stream": None,
    "anthropic_version": b'"bedrock-2023-05-31"',
}
_CONVERSE = ("messages", "system", "toolConfig", "additionalModelRequestFields")
_PROFILE = re.compile(r"^(?:us-gov|us|eu|apac|jp|au|ca|global)\.(?=anthropic\.)")
_WHAT = "input must contain converse, or invokeModel with a Claude body in base64"


class BedrockCount(Counting):
    name = NAME
    title = "Bedrock CountTokens"
    error_dialect = "bedrock_converse"
    routes: tuple[Route, ...] = (Route("POST", "/model/{model}/count-tokens", "count_tokens", NAME),)
    key = "inputTokens"

    def read_call(self, raw: bytes, method: str, headers: Headers, path: str) -> Call:
        del method, headers
        return Call(self.error_dialect, self.operation, model_of(path)[0], stream=False, raw=raw, format=NAME)

    def splice(self, call: Call, model: str) -> Written:
        del model  # it is only in the path
        return Written(call.raw)

    def path(self, call: Call, model: str) -> str:
        del call
        return f"/model/{quote(_PROFILE.sub('', model), safe='')}/count-tokens"

    def read(self, call: Call) -> Count:
        match read_body(call.raw):
            case {"input": {"converse": dict(body)}}:
                request = Call(CONVERSE.name, "chat", call.model, stream=False, raw=msgspec.json.encode(body))
                return Count(CONVERSE.read_chat(request), request)
            case {"input": {"invokeModel": {"body": str(data)}}}:
                try:
                    raw = base64.b64decode(data, validate=True)
                except (binascii.Error, ValueError):
                    raise BadRequest(_WHAT, param="input") from None
                request = Call(ANTHROPIC.name, "chat", call.model, stream=False, raw=raw)
                return Count(ANTHROPIC.read_chat(request), request)
            case _:
                raise BadRequest(_WHAT, param="input")

    def write(self, question: Question, model: str) -> tuple[str, Written]:
        path = f"/model/{quote(_PROFILE.sub('', model), safe='')}/count-tokens"
        # All that Anthropic's format says is counted, as Anthropic itself does.
        if isinstance(question, Count) and question.call.dialect == ANTHROPIC.name:
            counted = counted_request(question, ANTHROPIC, model)
            limit: dict[str, json_splice.Change] = {} if question.chat.max_output_tokens else {"max_tokens": b"1"}
            body = json_splice.splice(counted.body, {**_INVOKED, **limit})
            request: Json = {"invokeModel": {"body": base64.b64encode(body).decode()}}
            return path, Written(msgspec.json.encode({"input": request}), counted.dropped)
        counted = counted_request(question, CONVERSE, model)
        body_ = read_body(counted.body)
        request = {"converse": {key: body_[key] for key in _CONVERSE if key in body_}}
        return path, Written(msgspec.json.encode({"input": request}), counted.dropped)


PLUGIN = BedrockCount()
