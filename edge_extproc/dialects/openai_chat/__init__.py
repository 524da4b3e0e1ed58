"""OpenAI's Chat Completions API, for its callers and for its hosts.

Dozens of hosts use it with small differences. The readers accept all variants in their recorded traffic; the writers
use what the hosts have in common. `FIELDS` lists how each field of another dialect's chat is handled, and `models.py`
which efforts a model accepts. The package knows nothing of hosts, keys, routing or Envoy.

In `extras`, a key with the value None is a note: the field was read, and the note holds only its spelling, for writers
of this dialect and of OpenAI's other format. It carries no information of its own, so no writer reports it as dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ...codecs import json_splice
from ...codecs.json_values import as_list, as_object, encode
from ...errors import BadRequest, Unsupported
from ...model.call import Call, Chat, Operation, Written
from ...model.content import Audio, Image, Opaque, Part
from ...model.fault import Fault
from ...model.host import UNKNOWN_HOST, HostProfile
from ...model.reply import Reply
from ...model.reply_summary import ReplySummary
from ..base import Headers, ModelCard, Route
from ..cache_keys import may_have_long_key
from ..crossing import portable
from ..deployments import ROOT as DEPLOYMENT
from ..deployments import with_model_of_path
from ..pictures import shown_by_user
from .errors import envelope, read_error
from .fields import NAME, SPELLING, TITLE, WIRE
from .history import OF_HISTORY, USER, mended_history
from .models import has_calls, is_thinking, with_reasoning
from .reply import model_row, read_reply, write_reply, written_media
from .request_in import read_call, read_chat
from .request_out import RequestWriter
from .stream_in import ReplyReader
from .stream_out import ReplyWriter
from .summary import read_summary


class OpenAIChat:
    name = NAME
    title = TITLE
    spelling = SPELLING
    wire_names = WIRE
    routes = (
        Route("POST", "/v1/chat/completions", "chat"),
        Route("POST", f"{DEPLOYMENT}/chat/completions", "chat"),
        Route("GET", "/v1/models", "models"),
        Route("GET", "/v1/models/{model}", "models"),
        # Model names contain a slash at many hosts, and not every client escapes it.
        Route("GET", "/v1/models/{owner}/{model}", "models"),
    )
    stream_type = "text/event-stream"
    client_headers: tuple[str, ...] = ()
    cites = True
    signs_thinking = False
    error_headers: tuple[str, ...] = ()

    _paths: Mapping[Operation, str] = MappingProxyType({"chat": "/chat/completions", "models": "/models"})

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers  # the body has all fields of this format, except for the model at some paths
        if operation == "chat":
            return read_call(with_model_of_path(raw, path))
        return Call(NAME, operation, "", stream=False, raw=raw)

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        changes: dict[str, json_splice.Change] = {}
        if model != call.model:
            changes["model"] = encode(model)
        if not call.wants_usage:
            changes["stream_options"] = {"include_usage": b"true"}
        dropped: tuple[str, ...] = ()
        try:
            if (
                OF_HISTORY.search(call.raw)
                or ((host.user_limit is not None or host.user_least) and USER.search(call.raw))
                or may_have_long_key(call.raw)
            ):
                mended, dropped = mended_history(call.raw, host.known_as(model).lower(), host)
                changes.update(mended)
            return Written(json_splice.splice(call.raw, changes), dropped)
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        del model, stream
        path = self._paths.get(operation)
        if path is None:
            raise Unsupported(operation, TITLE)
        return path

    def read_chat(self, call: Call) -> Chat:
        return read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        request = RequestWriter(shown_by_user(portable(chat, TITLE)), host.known_as(model), host)
        body = {**request.body(), "model": model}
        messages = as_list(body["messages"], "messages")
        if host.thoughts_required and is_thinking(body) and has_calls(messages):
            for message in messages:
                with_reasoning(as_object(message, "messages"))
        return Written(encode(body), tuple(sorted(request.dropped)))

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def read_summary(self, body: bytes) -> ReplySummary | None:
        return read_summary(body)

    def write_reply(self, reply: Reply) -> bytes:
        return write_reply(reply)

    def can_contain(self, part: Part) -> bool:
        if isinstance(part, Image | Audio):
            return "content" not in written_media(part, 0)
        return not isinstance(part, Opaque)

    def reader(self, content_type: str) -> ReplyReader:
        del content_type  # this format has only one stream encoding
        return ReplyReader()

    def writer(self, call: Call) -> ReplyWriter:
        return ReplyWriter(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = [("content-type", "application/json")]
        if fault.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(fault.retry_after))))
        return fault.status, headers, encode(envelope(fault))

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        return encode({"object": "list", "data": [model_row(card) for card in models]})

    def write_model(self, card: ModelCard) -> bytes:
        return encode(model_row(card))


PLUGIN = OpenAIChat()
