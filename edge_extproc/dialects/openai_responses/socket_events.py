"""The events of OpenAI's two WebSocket APIs: which ones begin and end a response, its usage, and errors.

Realtime (/v1/realtime)     the model is in the query; a response may begin without an event of the caller
Responses (/v1/responses)   each response.create is the body of a request, with a model
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from ...codecs.json_values import UNREADABLE, TokenCounts, decode_reply, encode, object_in
from ...model.content import Json
from ...model.fault import Fault
from ...model.usage import Usage
from ..base import Dialect
from .reply import read_usage as read_responses_usage

Api: TypeAlias = Literal["realtime", "responses"]

CREATE = "response.create"
SESSION_UPDATE = "session.update"
AUDIO = "input_audio_buffer.append"
STEER = "response.steer"
CREATED = "response.created"
ERROR = "error"
ENDS = frozenset({f"response.{end}" for end in ("done", "completed", "incomplete", "failed", "cancelled")})
RESPONSES_EVENTS = frozenset({CREATE, STEER, "response.cancel", "response.processed"})
"""What a caller may send with the Responses API. Realtime has many events, of which only CREATE and SESSION_UPDATE
decide what is charged."""


OTHER_SESSIONS = ("call_id", "intent")
"""Parameters of Realtime's query for sessions that are not of one model: of WebRTC and SIP, and of transcription."""


class _Typed(msgspec.Struct):
    type: str = ""


class Head(msgspec.Struct):
    """What each event of the provider is read for."""

    type: str = ""
    response_id: Any = None
    stream_id: Any = None
    delta: Any = None


def read_head(event: bytes) -> Head:
    """Without a type if the event cannot be read."""
    try:
        return msgspec.json.decode(event, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Head()


def has_one_type(event: bytes) -> bool:
    """Whether no parser can read another type in this event: it has one member of that name, and no escapes."""
    return event.count(b'"type"') == 1 and b"\\" not in event


def type_of(event: bytes) -> str:
    """The type of an event; "" if it has none or cannot be read."""
    try:
        return msgspec.json.decode(event, type=_Typed).type
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def read_event(event: bytes) -> dict[str, Json] | None:
    """None: it is not a JSON object."""
    try:
        value = decode_reply(event)
    except UNREADABLE:
        return None
    return value if isinstance(value, dict) else None


def usage_of(api: Api, response: dict[str, Json]) -> Usage | None:
    """The usage of a response that has ended. None: it states none."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    return _realtime_usage(usage) if api == "realtime" else read_responses_usage(usage, response.get("output"))


def _realtime_usage(usage: dict[str, Json]) -> Usage:
    """The counts of the prompt include text, audio and images, cached and not. Cached tokens are in one bucket: the
    prices of cached audio and cached text are equal."""
    counts = TokenCounts()
    before, after = object_in(usage, "input_token_details"), object_in(usage, "output_token_details")
    reported_prompt, reported_answer = counts.of(usage.get("input_tokens")), counts.of(usage.get("output_tokens"))
    prompt, answer = reported_prompt or 0, reported_answer or 0
    cached = min(counts.at(before, "cached_tokens"), prompt)
    cached_audio = min(counts.at(object_in(before, "cached_tokens_details"), "audio_tokens"), cached)
    audio = min(max(0, counts.at(before, "audio_tokens") - cached_audio), prompt - cached)
    cached_image = min(counts.at(object_in(before, "cached_tokens_details"), "image_tokens"), cached - cached_audio)
    image = min(max(0, counts.at(before, "image_tokens") - cached_image), prompt - cached - audio)
    spoken = min(counts.at(after, "audio_tokens"), answer)
    return Usage(
        input=prompt - cached - audio - image,
        cache_read=cached,
        input_audio=audio,
        input_image=image,
        output=answer - spoken,
        output_audio=spoken,
        prompt_unknown=reported_prompt is None,
        completion_unknown=reported_answer is None,
        unreadable=counts.unreadable,
    )


def error_event(api: Api, dialect: Dialect, fault: Fault, event_id: str) -> bytes:
    """The error as the API's own event."""
    status, _, body = dialect.write_error(fault)
    written = read_event(body) or {}
    error = dict(object_in(written, "error"))
    if api == "realtime":
        return encode({"type": ERROR, "event_id": event_id, "error": error})
    return encode({"type": ERROR, "status": status, "error": error})


PARENT = "previous_response_id"


def continued(event: dict[str, Json]) -> str | None:
    """The response that an event, or a response, continues."""
    before = event.get(PARENT)
    return before if isinstance(before, str) else None


def lane_of(event: dict[str, Json]) -> str | None:
    """Responses of different lanes run at one time."""
    lane = event.get("stream_id")
    return lane if isinstance(lane, str) else None


def successor(request: bytes) -> bytes:
    """The request of a response that continues the one of `request`, with input that is not known: it is bounded as one
    with an earlier response."""
    return encode({**(read_event(request) or {}), PARENT: "unknown"})
