"""Reads one event of a caller, within the limits of a request's body."""

from __future__ import annotations

from ...codecs.json_values import encode
from ...dialects.openai_responses import socket_events
from ...errors import BadRequest
from ...model.content import Json
from ...model.frozen_dataclass import frozen_dataclass
from ..body_shape import check_shape
from ..ports import Gateway
from ..worst_case import most_of_event


@frozen_dataclass
class CallersEvent:
    kind: str
    """Its type; "" if it has none."""
    event: dict[str, Json]
    payload: bytes
    """The event written anew."""
    most: int
    """The most tokens that it adds to a session."""


def read_event(gateway: Gateway, payload: bytes) -> CallersEvent:
    """Raises BadRequest if it is not a JSON object, and TooLarge if it has too many values."""
    check_shape(payload, "chat", gateway.shape, gateway.wire_names)
    event = socket_events.read_event(payload)
    if event is None:
        raise BadRequest("an event must be a JSON object")
    written, kind = encode(event), event.get("type")
    most = most_of_event(written, gateway.bounds.context_window, gateway.prompt_search)
    return CallersEvent(kind if isinstance(kind, str) else "", event, written, most)
