"""Amazon Bedrock: Converse for all models, InvokeModel for Claude, token counting for Claude, and Titan's embeddings.

InvokeModel has Anthropic's body, so a caller of Anthropic's format keeps its own bytes. Only the model and the stream
flag move to the path, and the beta flags to the body. InvokeModel streams Anthropic's events in AWS frames; `_Chunks`
unpacks them.

The credential is a signature over each request, or a Bedrock API key as a bearer token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

import msgspec
import orjson

from ..codecs import aws_eventstream, json_splice, sse
from ..codecs.frame import Frame
from ..codecs.json_values import UNREADABLE
from ..dialects.claude import generation_of
from ..errors import BadRequest, UpstreamError
from ..model.call import Operation
from ..model.host import HostProfile
from . import anthropic_betas
from .base import ProviderKind, ProviderSettings, Unframer, UpstreamCall, UpstreamRequest, base_path
from .credentials.api_key import bearer
from .credentials.base import Credential, UnsignedRequest

CONVERSE = "bedrock_converse"
ANTHROPIC = "anthropic_messages"

# The only version of the Messages format in Bedrock's user guide.
ANTHROPIC_VERSION = "bedrock-2023-05-31"
# That Bedrock executes none of Anthropic's server tools: the user guide's page on Claude's tools.
_PROFILE = HostProfile(server_tools=False)
# Fields that Bedrock refuses with and without their flag (anthropics/claude-agent-sdk-python#694).
_REFUSED = ("tools.eager_input_streaming",)


@dataclass(frozen=True, slots=True)
class BedrockProvider:
    settings: ProviderSettings
    credential: Credential | None
    kind: str = "bedrock"
    price_list: str = "aws"
    profile: HostProfile = _PROFILE

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        """InvokeModel is offered only for models with `claude` in the name. The ARN of an inference profile may lack
        it; the configuration can then set `api: invoke`, or `profile.models`."""
        name = self.profile.known_as(model).lower()
        match operation:
            case "chat":
                return (CONVERSE, ANTHROPIC) if "claude" in name else (CONVERSE,)
            case "count_tokens" if "claude" in name:
                return ("bedrock_count",)
            case "embeddings" if "titan-embed-text" in name:
                return ("titan_embeddings",)
            case _:
                return ()

    def request(self, call: UpstreamCall) -> UpstreamRequest:
        path, body = call.path, call.body
        dropped: tuple[str, ...] = ()
        if call.dialect == ANTHROPIC:
            path = _invoke_path(call)
            body, dropped = _invoke_body(call, self.profile.known_as(call.model))
        path = base_path(self.settings.base_url) + path
        unsigned = UnsignedRequest(call.method, self.settings.authority, path, body)
        headers = self.credential.headers(unsigned) if self.credential is not None else ()
        accept = aws_eventstream.MEDIA_TYPE if call.stream else "application/json"
        removed = ("anthropic-beta",) if call.dialect == ANTHROPIC else ()
        return UpstreamRequest(path, (("accept", accept), *headers), (), body, dropped, removed)

    def unframe(self, dialect: str, content_type: str) -> Unframer | None:
        is_framed = content_type.partition(";")[0].strip().lower() == aws_eventstream.MEDIA_TYPE
        return _Chunks() if dialect == ANTHROPIC and is_framed else None


def _invoke_path(call: UpstreamCall) -> str:
    verb = "invoke-with-response-stream" if call.stream else "invoke"
    return f"/model/{quote(call.model, safe='')}/{verb}"


class _Betas(msgspec.Struct):
    anthropic_beta: list[str] = []


def _invoke_body(call: UpstreamCall, known: str) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the names of the removed flags and fields, which Bedrock would refuse."""
    try:
        betas = msgspec.json.decode(call.body, type=_Betas).anthropic_beta
    except msgspec.ValidationError:
        raise BadRequest("anthropic_beta must be a list of flags", param="anthropic_beta") from None
    flags = tuple(dict.fromkeys((*betas, *call.betas)))
    accepted, dropped = anthropic_betas.split(flags, anthropic_betas.BEDROCK)
    changes: dict[str, json_splice.Change] = {
        "model": None,
        "stream": None,
        "anthropic_version": orjson.dumps(ANTHROPIC_VERSION),
        "anthropic_beta": orjson.dumps(accepted) if accepted else None,
    }
    fields, omitted = anthropic_betas.without_fields(
        call.body, flags, accepted, refused=_REFUSED, has_effort=bool(generation_of(known).efforts)
    )
    lines, billing_lines = anthropic_betas.without_billing(call.body)
    return json_splice.splice(call.body, {**changes, **lines, **fields}), (*dropped, *billing_lines, *omitted)


# The exceptions of AWS in a stream, as Anthropic's error types.
_ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "throttlingException": "rate_limit_error",
        "serviceUnavailableException": "overloaded_error",
        "validationException": "invalid_request_error",
        "modelTimeoutException": "timeout_error",
    }
)


class _Chunk(msgspec.Struct):
    bytes: str


class _Exception(msgspec.Struct):
    message: str = ""


class _Type(msgspec.Struct):
    type: str = ""


_chunk = msgspec.json.Decoder(_Chunk)
_exception = msgspec.json.Decoder(_Exception)
_type = msgspec.json.Decoder(_Type)


class _Chunks:
    """Turns the frames of InvokeModelWithResponseStream into server-sent events, as Anthropic's own host sends them."""

    def __init__(self) -> None:
        self._decoder = aws_eventstream.EventStreamDecoder()

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._event(frame) for frame in self._decoder.feed(data))

    def close(self) -> bytes:
        if self._decoder.close():
            raise UpstreamError("the provider's stream ended within a frame")
        return b""

    @staticmethod
    def _event(frame: Frame) -> bytes:
        if not isinstance(frame, aws_eventstream.AwsFrame) or not frame.is_event or frame.event.endswith("Exception"):
            return _error(frame)
        if frame.event != "chunk":
            return b""  # an unknown kind of event is ignored
        try:
            event = base64.b64decode(_chunk.decode(frame.data).bytes, validate=True)
            kind = _type.decode(event).type
        except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError, RecursionError) as exc:
            raise UpstreamError("the provider's stream contains a chunk that cannot be read") from exc
        return sse.encode(event, kind)


def _error(frame: Frame) -> bytes:
    headers = frame.headers if isinstance(frame, aws_eventstream.AwsFrame) else aws_eventstream.NO_HEADERS
    try:
        message = _exception.decode(frame.data).message
    except UNREADABLE:
        message = str(headers.get(":error-message", ""))
    kind = _ERRORS.get(frame.event, "api_error")
    event = {"type": "error", "error": {"type": kind, "message": message or "the provider gave no reason"}}
    return sse.encode(orjson.dumps(event), "error")


class BedrockKind(ProviderKind):
    default_base_url = "https://bedrock-runtime.{region}.amazonaws.com"
    apis: Mapping[str, str] = MappingProxyType({"converse": CONVERSE, "invoke": ANTHROPIC})
    credentials: Mapping[str, str] = MappingProxyType({"aws": "bedrock"})
    options = frozenset({"region"})
    required_with_credential = ("region",)
    gen_ai_provider = "aws.bedrock"

    def build(self, settings: ProviderSettings) -> BedrockProvider:
        credential = settings.credential
        if credential is None and settings.api_key is not None:
            credential = bearer(settings.api_key)
        return BedrockProvider(settings, credential, profile=settings.profile(_PROFILE))


PLUGIN: ProviderKind = BedrockKind()
