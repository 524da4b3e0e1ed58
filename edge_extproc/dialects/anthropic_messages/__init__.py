"""Anthropic's Messages API, for its callers and for its hosts.

`FIELDS` lists how each field of another dialect's chat is handled. `claude.py` has the capabilities of each generation
of models. The package knows nothing of hosts, keys, routing or Envoy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ...codecs import json_splice
from ...codecs.json_values import UNREADABLE, encode
from ...errors import BadRequest, Unsupported
from ...model.call import Call, Chat, HostedTool, Operation, Written
from ...model.content import Audio, Image, Opaque, Part
from ...model.fault import Fault
from ...model.host import UNKNOWN_HOST, HostProfile
from ...model.reply import Reply
from ...model.reply_summary import ReplySummary
from ..base import Headers, ModelCard, Route, StreamWriter, output_limit
from ..cache_marks import with_few_marks
from ..crossing import asking_for_json, ending_with_user, portable, wants_json
from ..cut_calls import has_object
from ..hosted_tools import for_messages, is_offered
from ..pictures import shown_by_user
from ..turns import continues_answers, thinking_beyond_limit
from .errors import error_body, read_error
from .fields import NAME, SPELLING, TITLE, WIRE, Block
from .history import mend
from .reply import model_row, read_reply, write_reply
from .request_in import betas, probe_of, read_chat, why_no_call
from .request_out import RequestWriter
from .stream_in import ReplyReader
from .stream_out import ReplyWriter
from .summary import read_summary

_PATHS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "/messages", "count_tokens": "/messages/count_tokens", "models": "/models"}
)


class AnthropicMessages:
    name = NAME
    title = TITLE
    spelling = SPELLING
    wire_names = WIRE
    routes: tuple[Route, ...] = (Route("POST", "/v1/messages", "chat"),)
    stream_type = "text/event-stream; charset=utf-8"
    client_headers: tuple[str, ...] = ("anthropic-version",)
    cites = False
    signs_thinking = True
    error_headers: tuple[str, ...] = ()

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del path
        try:
            probe = probe_of.decode(raw)
        except UNREADABLE:
            raise why_no_call(raw) from None
        if not probe.model.strip():
            raise BadRequest("model is empty: give the name of a model", param="model")
        # 0 fills the prompt cache and requests no reply: Anthropic's page on prompt caching.
        output_limit(probe.max_tokens, "max_tokens", least=0)
        return Call(
            NAME,
            operation,
            probe.model,
            bool(probe.stream),
            raw,
            max_output_tokens=probe.max_tokens,
            betas=betas(headers),
        )

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """Changes only the model, and the parts of the history that came from other providers. Streams of this format
        always report usage."""
        try:
            changes, dropped = mend(call.raw, host.known_as(model), server_tools=host.server_tools)
            return Written(json_splice.splice(call.raw, {"model": encode(model), **changes}), dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream  # both are in the body
        path = _PATHS.get(operation)
        if path is None:
            raise Unsupported(operation, TITLE)
        return path

    def read_chat(self, call: Call) -> Chat:
        return read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        def has_tool(tool: HostedTool) -> bool:
            return is_offered(tool, for_messages(tool), chat, host)

        known = host.known_as(model)
        portable_chat = shown_by_user(with_few_marks(portable(asking_for_json(chat), TITLE, has_tool)))
        crossing = RequestWriter(ending_with_user(portable_chat, prefill=continues_answers(chat, known)), known)
        body = encode({**crossing.body(), "model": model})
        return Written(body, tuple(sorted(crossing.dropped)), wants_json(chat))

    def added_output(self, chat: Chat, model: str) -> int:
        return thinking_beyond_limit(chat, model)

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def read_summary(self, body: bytes) -> ReplySummary | None:
        return read_summary(body)

    def write_reply(self, reply: Reply) -> bytes:
        return write_reply(reply)

    def can_contain(self, part: Part) -> bool:
        return not isinstance(part, Opaque | Image | Audio) and has_object(part)

    def reader(self, content_type: str) -> ReplyReader:
        del content_type
        return ReplyReader()

    def writer(self, call: Call) -> StreamWriter:
        return ReplyWriter(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [("content-type", "application/json")]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(fault.retry_after))))
        return fault.status, headers, encode(error_body(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        page: Block = {
            "data": [model_row(card) for card in models],
            "has_more": False,
            "first_id": models[0].id if models else None,
            "last_id": models[-1].id if models else None,
        }
        return encode(page)

    def write_model(self, card: ModelCard) -> bytes:
        return encode(model_row(card))


PLUGIN = AnthropicMessages()
