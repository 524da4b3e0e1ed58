"""The legal order of the messages of one ext_proc stream.

Two tables define what may follow what. A pair that is missing from its table is an error. The module knows nothing of
auth, routing or models.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import TypeAlias

from ..errors import PeerError
from .events import (
    Event,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)


class State(Enum):
    # Each state is a single object and is compared by its address. Enum's own hash would hash the name each time.
    __hash__ = object.__hash__

    FRESH = auto()
    """No message has come yet."""
    BODY_DUE = auto()
    """Request headers have come, and a body follows."""
    SENT = auto()
    """The request is whole; the upstream (or Envoy itself) answers next."""
    ANSWERING = auto()
    """Response headers have come, and a body follows."""
    REPLIED = auto()
    """The gateway has responded. Envoy closes the stream; later messages are ignored."""
    OVER = auto()
    """The last message of the response has come."""


Next: TypeAlias = tuple[State, State]
"""The state after a message, when more of its kind may follow and when it was the last one."""

ROUTER: Mapping[State, Mapping[type[Event], Next]] = {
    State.FRESH: {
        RequestHeaders: (State.BODY_DUE, State.SENT),
        # An earlier filter or Envoy responded: only the response path is visible.
        ResponseHeaders: (State.ANSWERING, State.OVER),
    },
    State.BODY_DUE: {
        # A buffered body comes in one message. It is not the last message if trailers follow.
        RequestBody: (State.SENT, State.SENT),
        RequestTrailers: (State.SENT, State.SENT),
        # Envoy's own response to a body over the limit or to a request that stalled.
        ResponseHeaders: (State.ANSWERING, State.OVER),
    },
    State.SENT: {
        RequestTrailers: (State.SENT, State.SENT),
        ResponseHeaders: (State.ANSWERING, State.OVER),
    },
    State.ANSWERING: {
        ResponseBody: (State.ANSWERING, State.OVER),
        ResponseTrailers: (State.OVER, State.OVER),
    },
    State.REPLIED: {
        ResponseHeaders: (State.REPLIED, State.REPLIED),
        ResponseBody: (State.REPLIED, State.REPLIED),
        ResponseTrailers: (State.REPLIED, State.REPLIED),
    },
    State.OVER: {
        # Trailers may follow the last chunk of a body.
        ResponseTrailers: (State.OVER, State.OVER),
    },
}

ATTEMPT: Mapping[State, Mapping[type[Event], Next]] = {
    State.FRESH: {RequestHeaders: (State.SENT, State.SENT)},
    State.SENT: {},
}

GUARD: Mapping[State, Mapping[type[Event], Next]] = {
    State.FRESH: {RequestHeaders: (State.SENT, State.SENT)},
    State.SENT: {ResponseHeaders: (State.ANSWERING, State.OVER)},
    State.ANSWERING: {
        ResponseBody: (State.ANSWERING, State.OVER),
        ResponseTrailers: (State.OVER, State.OVER),
    },
    State.REPLIED: {
        # Messages that the provider still sends after the gateway has ended the response.
        ResponseBody: (State.REPLIED, State.REPLIED),
        ResponseTrailers: (State.REPLIED, State.REPLIED),
    },
    State.OVER: {
        # Some versions of Envoy repeat the end of a large body in full duplex mode.
        ResponseBody: (State.OVER, State.OVER),
        ResponseTrailers: (State.OVER, State.OVER),
    },
}


class StreamOrder:
    """The position of one stream. `advance` moves it on, or raises PeerError without moving."""

    __slots__ = ("_table", "state")

    def __init__(self, table: Mapping[State, Mapping[type[Event], Next]]) -> None:
        self._table = table
        self.state = State.FRESH

    def advance(self, event: Event) -> None:
        legal = self._table[self.state]
        step = legal.get(type(event))
        if step is None:
            expected = ", ".join(sorted(kind.__name__ for kind in legal)) or "nothing"
            raise PeerError(f"{type(event).__name__} in state {self.state.name}; expected {expected}")
        self.state = step[event.end]

    def replied(self) -> None:
        """The gateway has responded itself."""
        self.state = State.REPLIED
