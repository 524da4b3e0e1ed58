"""A session of the Responses API whose responses become requests: the agent's own server (server/bridge.py) reads its
messages, and each request is checked and settled for itself."""

from __future__ import annotations

from ...codecs.websocket import SocketMessage
from ...dialects.openai_responses import socket_events
from ...model.fault import Fault
from .session import Outgoing, SocketSession


class BridgedSession(SocketSession):
    async def _callers_event(self, message: SocketMessage, out: Outgoing) -> None:
        out.add(message.wire)

    async def _providers_event(self, payload: bytes) -> None:
        """It was settled by its request."""

    def _error_event(self, fault: Fault) -> bytes:
        return socket_events.error_event("responses", self._identified.caller_dialect, fault, "")

    def _before_end(self) -> None:
        """No response is open."""
