"""Amazon Bedrock: Converse for every model, and Claude by InvokeModel too, where the body is Anthropic's own; counting
for Claude, and Titan's embeddings.

A caller who speaks Anthropic's format to a Claude keeps its own bytes: only what Bedrock wants elsewhere moves (the
model and the stream into the path, the beta flags into the body). InvokeModel streams Anthropic's events in frames of
AWS; `_Chunks` takes them out.

Proof is a signature over each request, or a Bedrock API key as a bearer.
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
from ..model.host import UNKNOWN_HOST, HostProfile
from . import anthropic_betas
from .base import HostAddress, ProviderKind, ProviderSettings, Unframer, UpstreamCall, UpstreamRequest, base_path
from .credentials.api_key import bearer
from .credentials.base import Credential, NoCredential

CONVERSE = "bedrock_converse"
ANTHROPIC = "anthropic_messages"

# The only version of the Messages format that Bedrock's user guide names.
ANTHROPIC_VERSION = "bedrock-2023-05-31"
# What Bedrock refuses of a tool with or without its flag (anthropics/claude-agent-sdk-python#694).
_REFUSED = ("tools.eager_input_streaming",)


@dataclass(frozen=True, slots=True)
class BedrockProvider:
    settings: ProviderSettings
    credential: Credential | None
    kind: str = "bedrock"
    price_list: str = "aws"
    profile: HostProfile = UNKNOWN_HOST

    @property
    def name(self) -> str:
        return self.settings.name

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        """The ARN of an inference profile need not tell whose model it is: then `api: invoke` can."""
        name = model.lower()
        match operation:
            case "chat":
                return (CONVERSE, ANTHROPIC) if "claude" in name else (CONVERSE,)
            case "count_tokens" if "claude" in name:
                return ("bedrock_count",)
            case "embeddings" if "titan-embed-text" in name:
                return ("titan_embeddings",)
            case _:
                return ()

    def request(self, asked: UpstreamCall) -> UpstreamRequest:
        path, body = asked.path, asked.body
        dropped: tuple[str, ...] = ()
        if asked.dialect == ANTHROPIC:
            path = _invoke_path(asked)
            body, dropped = _invoke_body(asked)
        path = base_path(self.settings.base_url) + path
        unproven = NoCredential(asked.method, self.settings.authority, path, body)
        headers = self.credential.headers(unproven) if self.credential is not None else ()
        accept = aws_eventstream.MEDIA_TYPE if asked.stream else "application/json"
        removed = ("anthropic-beta",) if asked.dialect == ANTHROPIC else ()
        return UpstreamRequest(path, (("accept", accept), *headers), (), body, dropped, removed)

    def unframe(self, dialect: str, content_type: str) -> Unframer | None:
        is_framed = content_type.partition(";")[0].strip().lower() == aws_eventstream.MEDIA_TYPE
        return _Chunks() if dialect == ANTHROPIC and is_framed else None


def _invoke_path(asked: UpstreamCall) -> str:
    verb = "invoke-with-response-stream" if asked.stream else "invoke"
    return f"/model/{quote(asked.model, safe='')}/{verb}"


class _Betas(msgspec.Struct):
    anthropic_beta: list[str] = []


def _invoke_body(asked: UpstreamCall) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the flags that Bedrock would refuse."""
    try:
        given = msgspec.json.decode(asked.body, type=_Betas).anthropic_beta
    except msgspec.ValidationError:
        raise BadRequest("anthropic_beta must be a list of flags", param="anthropic_beta") from None
    flags = tuple(dict.fromkeys((*given, *asked.betas)))
    kept, dropped = anthropic_betas.split(flags, anthropic_betas.BEDROCK)
    changes: dict[str, json_splice.Change] = {
        "model": None,
        "stream": None,
        "anthropic_version": orjson.dumps(ANTHROPIC_VERSION),
        "anthropic_beta": orjson.dumps(kept) if kept else None,
    }
    fields, lost = anthropic_betas.without_fields(
        asked.body, flags, kept, refused=_REFUSED, has_effort=bool(generation_of(asked.model).efforts)
    )
    return json_splice.splice(asked.body, {**changes, **fields}), (*dropped, *lost)


# What an exception of AWS in a stream is in Anthropic's words.
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


class _Told(msgspec.Struct):
    message: str = ""


class _Type(msgspec.Struct):
    type: str = ""


_chunk = msgspec.json.Decoder(_Chunk)
_told = msgspec.json.Decoder(_Told)
_type = msgspec.json.Decoder(_Type)


class _Chunks:
    """Frames of InvokeModelWithResponseStream to server-sent events, as Anthropic's own host sends them."""

    def __init__(self) -> None:
        self._decoder = aws_eventstream.EventStreamDecoder()

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._event(frame) for frame in self._decoder.feed(data))

    def close(self) -> bytes:
        if self._decoder.close():
            raise UpstreamError("the provider's stream broke off within a frame")
        return b""

    @staticmethod
    def _event(frame: Frame) -> bytes:
        if not isinstance(frame, aws_eventstream.AwsFrame) or not frame.is_event or frame.event.endswith("Exception"):
            return _error(frame)
        if frame.event != "chunk":
            return b""  # a new kind of event
        try:
            event = base64.b64decode(_chunk.decode(frame.data).bytes, validate=True)
            kind = _type.decode(event).type
        except (msgspec.DecodeError, binascii.Error, UnicodeDecodeError, RecursionError) as exc:
            raise UpstreamError("the provider's stream holds a chunk that cannot be read") from exc
        return sse.encode(event, kind)


def _error(frame: Frame) -> bytes:
    headers = frame.headers if isinstance(frame, aws_eventstream.AwsFrame) else aws_eventstream.NO_HEADERS
    try:
        message = _told.decode(frame.data).message
    except UNREADABLE:
        message = str(headers.get(":error-message", ""))
    kind = _ERRORS.get(frame.event, "api_error")
    told = {"type": "error", "error": {"type": kind, "message": message or "the provider gave no reason"}}
    return sse.encode(orjson.dumps(told), "error")


class BedrockKind:
    default_base_url = "https://bedrock-runtime.{region}.amazonaws.com"
    needs_key = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    apis: Mapping[str, str] = MappingProxyType({"converse": CONVERSE, "invoke": ANTHROPIC})
    credentials: Mapping[str, str] = MappingProxyType({"aws": "bedrock"})

    def build(self, settings: ProviderSettings) -> BedrockProvider:
        credential = settings.credential
        if credential is None and settings.api_key is not None:
            credential = bearer(settings.api_key)
        return BedrockProvider(settings, credential)


PLUGIN: ProviderKind = BedrockKind()
