"""The responses of a bridged session: the request of each one, what it continues, and the events that the bridge writes
itself. It does no IO."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..codecs.json_values import encode, object_in
from ..dialects.openai_responses import socket_events
from ..dialects.openai_responses.socket_events import CREATE, ENDS, ERROR, PARENT
from ..model.content import Json
from ..model.envoy_names import CALLERS_HEADERS, EXTERNAL_PREFIXES

Event: TypeAlias = dict[str, Json]
_BAD_REQUEST = 400
_BAD_GATEWAY = 502
# Of the connection, or of one request: a repeated idempotency key would repeat the first response.
_OF_THE_UPGRADE = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "idempotency-key",
        "keep-alive",
        "origin",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
_HANDSHAKE = "sec-websocket-"


class Refused(Exception):
    """An event of the caller is not sent. The session goes on."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param

    def event(self) -> bytes:
        return error_event(_BAD_REQUEST, str(self), param=self.param)


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A response that the caller has asked for."""

    body: bytes
    """Of its request."""
    items: tuple[bytes, ...]
    """The whole conversation up to it, encoded."""
    is_stored: bool
    """Whether the provider may keep it."""
    model: Json
    is_warmup: bool = False
    """The caller wants no output, only an id to continue."""


class History:
    """The conversation of a session up to its last response. An earlier response is continued by the gateway or by the
    provider, if one of them has stored it."""

    def __init__(self, largest: int) -> None:
        """`largest`: the most bytes of it. A longer one could not be sent."""
        self._largest = largest
        self._last: str | None = None
        self._items: tuple[bytes, ...] = ()

    def request(self, event: Event) -> SessionRequest:
        """`event`: a response.create. Raises Refused."""
        if event.get("background"):
            raise Refused("background is not supported in a session; send it as a request", "background")
        if event.get("stream_id") is not None:
            raise Refused("this gateway runs one response of a session at a time; open another session", "stream_id")
        body = {name: value for name, value in event.items() if name not in ("type", "generate")}
        asked = _items(body.get("input"))
        before = self._items if self._last is not None and body.get(PARENT) == self._last else None
        if before is not None:
            del body[PARENT]
            body.pop("input", None)
        items = (*(before or ()), *asked)
        sent = encode({**body, "stream": True})
        if before is not None:
            sent = sent[:-1] + b',"input":[' + b",".join(items) + b"]}"
        is_warmup = event.get("generate") is False
        return SessionRequest(sent, items, body.get("store") is not False, body.get("model"), is_warmup)

    def ended(self, request: SessionRequest, response: Event, done: list[Json]) -> None:
        """`response`: the one of the last event. `done`: its items by earlier events, if it does not have them."""
        given, output = response.get("id"), response.get("output")
        if not isinstance(given, str) or response.get("status") not in ("completed", "incomplete"):
            return
        written = output if isinstance(output, list) and output else done
        # What the provider has not stored, it cannot look up by its id.
        kept = [item for item in written if request.is_stored or not _is_opaque(item)]
        items = (*request.items, *(encode(item) for item in kept))
        if sum(map(len, items)) > self._largest:
            self._last, self._items = None, ()
            return
        self._last, self._items = given, items


def _items(given: Json) -> tuple[bytes, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        return (encode({"type": "message", "role": "user", "content": given}),)
    if not isinstance(given, list):
        raise Refused("input must be a text or a list of items", "input")
    return tuple(encode(item) for item in given)


def _is_opaque(item: Json) -> bool:
    return isinstance(item, dict) and item.get("type") == "reasoning" and not item.get("encrypted_content")


def read_event(text: str) -> Event:
    """Raises Refused."""
    event = socket_events.read_event(text.encode())
    if event is None:
        raise Refused("an event must be a JSON object")
    kind = event.get("type")
    if kind == socket_events.STEER:
        raise Refused("response.steer is not supported here; cancel the response, and continue with another", "type")
    if kind not in socket_events.RESPONSES_EVENTS:
        types = ", ".join(sorted(socket_events.RESPONSES_EVENTS - {socket_events.STEER}))
        raise Refused(f"the type of an event must be one of {types}", "type")
    return event


def is_create(event: Event) -> bool:
    return event.get("type") == CREATE


def request_headers(upgrade: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of the request of a response: those of the upgrade, but for what belongs to the connection."""
    kept = [(name, value) for name, value in upgrade if _is_of_the_caller(name.decode("latin-1").lower())]
    own = {"accept": "text/event-stream", "content-type": "application/json", "x-request-id": request_id}
    return [*kept, *((name.encode(), value.encode()) for name, value in own.items())]


def _is_of_the_caller(name: str) -> bool:
    if name in CALLERS_HEADERS:
        return True
    return name not in _OF_THE_UPGRADE and not name.startswith((_HANDSHAKE, *EXTERNAL_PREFIXES))


# --- events


def is_end(kind: str) -> bool:
    return kind in ENDS or kind == ERROR


def error_event(
    status: int, message: str, *, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> bytes:
    error: Mapping[str, Json] = {"type": kind, "code": code, "message": message, "param": param}
    return encode({"type": ERROR, "status": status, "error": dict(error)})


def broken(message: str) -> bytes:
    """The gateway has given no whole response."""
    return error_event(_BAD_GATEWAY, message, kind="server_error", code="stream_broken")


def refusal(status: int, body: bytes) -> bytes:
    """The error of a response that is no stream."""
    error = object_in(socket_events.read_event(body) or {}, "error")
    if not error:
        return error_event(status, f"the gateway answered with {status}", kind="server_error")
    return encode({"type": ERROR, "status": status, "error": dict(error)})


def warmup(request: SessionRequest) -> tuple[Event, list[bytes]]:
    """The response without output, and its events. It needs no provider."""
    response: Event = {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "model": request.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
    }
    usage: Event = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    ended: Event = {**response, "status": "completed", "usage": usage}
    events: list[Event] = [
        {"type": socket_events.CREATED, "sequence_number": 0, "response": response},
        {"type": "response.completed", "sequence_number": 1, "response": ended},
    ]
    return ended, [encode(event) for event in events]


def cancelled(response: Event) -> bytes:
    """`response`: as its first event had it."""
    return encode({"type": "response.cancelled", "response": {**response, "status": "cancelled"}})
