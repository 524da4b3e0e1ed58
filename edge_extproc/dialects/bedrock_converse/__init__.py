"""Amazon Bedrock's Converse API, for its callers and for its hosts: one format for all chat models of Bedrock, complete
or as an AWS event stream.

`FIELDS` lists how each field of another dialect's chat is handled. `models.py` has the names that each maker's models
use for fields that Converse lacks. The package knows nothing of hosts, keys, routing or Envoy.

The shapes are those of botocore's service model. A reply has neither an id nor a model: the id is in a header, and the
model is the requested one.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from ...codecs import aws_eventstream
from ...codecs.json_values import UNREADABLE, encode
from ...errors import BadRequest, Unsupported
from ...model.call import Call, Chat, Operation, Written
from ...model.content import Audio, Image, Opaque, Part
from ...model.fault import Fault
from ...model.host import UNKNOWN_HOST, HostProfile
from ...model.reply import Reply
from ...model.reply_summary import ReplySummary
from ..base import Dialect, Headers, ModelCard, Route, output_limit
from ..cache_marks import with_few_marks
from ..crossing import asking_for_json, ending_with_user, portable, wants_json
from ..cut_calls import has_object
from ..pictures import shown_by_user
from ..turns import continues_answers, thinking_beyond_limit
from .errors import read_error, write_error
from .fields import NAME, SPELLING, TITLE, WIRE, Block
from .history import mend
from .invoke import INVOKE
from .models import family_of
from .reply import answered_media, read_reply, write_reply
from .request_in import model_of, probe_of, read_chat, why_no_call
from .request_out import RequestWriter
from .stream_in import ReplyReader
from .stream_out import ReplyWriter
from .summary import read_summary

# --- the dialect


class BedrockConverse:
    variants: tuple[Dialect, ...] = (INVOKE,)
    name = NAME
    title = TITLE
    spelling = SPELLING
    wire_names = WIRE
    routes: tuple[Route, ...] = (
        Route("POST", "/model/{model}/converse", "chat"),
        Route("POST", "/model/{model}/converse-stream", "chat"),
    )
    stream_type = aws_eventstream.MEDIA_TYPE
    client_headers: tuple[str, ...] = ()
    cites = False
    signs_thinking = True
    error_headers: tuple[str, ...] = ("x-amzn-errortype",)

    def read_call(self, raw: bytes, operation: Operation, headers: Headers, path: str) -> Call:
        del headers
        model, stream = model_of(path)
        try:
            probe = probe_of.decode(raw)
        except UNREADABLE:
            raise why_no_call(raw) from None
        limit = probe.inference_config.max_tokens if probe.inference_config is not None else None
        output_limit(limit, "inferenceConfig.maxTokens")
        return Call(NAME, operation, model, stream, raw, max_output_tokens=limit)

    def splice(self, call: Call, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        """The model is in the path, and usage is always reported, so only the history may change."""
        try:
            family = family_of(host.known_as(model))
            claude = family.reasoning == "claude"
            refuses = family.refuses_marks
            return Written(
                *mend(call.raw, claude=claude, takes_reasoning=family.takes_reasoning, refuses_marks=refuses)
            )
        except ValueError as exc:
            raise BadRequest(f"the body cannot be passed on: {exc}") from exc

    def path(self, operation: Operation, model: str, *, stream: bool) -> str:
        """The model is one escaped segment of the path, also an ARN with colons and slashes."""
        if operation != "chat":
            raise Unsupported(operation, TITLE)
        return f"/model/{quote(model, safe='')}/{'converse-stream' if stream else 'converse'}"

    def read_chat(self, call: Call) -> Chat:
        return read_chat(call)

    def write_chat(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
        known = host.known_as(model)
        portable_chat = shown_by_user(with_few_marks(portable(asking_for_json(chat), TITLE)))
        crossing = RequestWriter(ending_with_user(portable_chat, prefill=continues_answers(chat, known)), known)
        body = encode(crossing.body())
        return Written(body, tuple(sorted(crossing.dropped)), wants_json(chat))

    def added_output(self, chat: Chat, model: str) -> int:
        return thinking_beyond_limit(chat, model) if family_of(model).reasoning == "claude" else 0

    def read_reply(self, body: bytes) -> Reply:
        return read_reply(body)

    def read_summary(self, body: bytes) -> ReplySummary | None:
        return read_summary(body)

    def write_reply(self, reply: Reply) -> bytes:
        return write_reply(reply)

    def can_contain(self, part: Part) -> bool:
        if isinstance(part, Image | Audio):
            return "text" not in answered_media(part)
        return not isinstance(part, Opaque) and has_object(part)

    def reader(self, content_type: str) -> ReplyReader:
        del content_type
        return ReplyReader()

    def writer(self, call: Call) -> ReplyWriter:
        return ReplyWriter(call)

    def read_error(self, status: int, headers: Headers, body: bytes) -> Fault:
        return read_error(status, headers, body)

    def write_error(self, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
        return write_error(fault)

    def write_models(self, models: Sequence[ModelCard]) -> bytes:
        """As ListFoundationModels of Bedrock's control plane does."""
        return encode({"modelSummaries": [_model_row(card) for card in models]})

    def write_model(self, card: ModelCard) -> bytes:
        """As GetFoundationModel does."""
        return encode({"modelDetails": _model_row(card)})


def _model_row(card: ModelCard) -> Block:
    return {
        "modelId": card.id,
        "modelName": card.id,
        "providerName": card.owned_by,
        "responseStreamingSupported": True,
    }


PLUGIN = BedrockConverse()
