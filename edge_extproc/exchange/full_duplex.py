"""The answers to a response body in full duplex mode.

Envoy does not wait for an answer to each chunk, and the gateway says where the body ends. If it ends the body before
the upstream does, Envoy ends the caller's stream as usual and resets the upstream request (docs/adr/255).
"""

from __future__ import annotations

from .commands import Command, Continue, Pass
from .events import ResponseBody

LAST_CHUNK = ResponseBody(b"", True)
"""What the end of a body is if trailers follow: in this mode, no chunk is marked as the last one then."""


def passed(event: ResponseBody, command: Command, *, trailers: bool) -> Command:
    """The command in full duplex mode. `trailers`: they end the body."""
    if not isinstance(command, Continue):
        return command
    body = event.body if command.body is None else command.body
    return Pass(body, event.end and not trailers, trailers, command.metadata)
