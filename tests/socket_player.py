"""Plays Envoy for one WebSocket, in memory: the frames of a caller and of a provider."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from limits_kit import Now, RecordingListener
from player import KEY, ADollarPerToken, Stage, headers

from edge_extproc.codecs.websocket import SocketMessage, WebSocketReader, encode
from edge_extproc.exchange.commands import Command, Continue
from edge_extproc.exchange.events import RequestBody, ResponseBody, ResponseHeaders
from edge_extproc.exchange.socket_settings import UNWATCHED, OpenSockets, SocketSettings
from edge_extproc.exchange.sockets.exchange import SocketExchange
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable

BOUNDS = OutputBounds((("*", 100),), 10, 100_000, 0, 0)
SWITCHED = (
    (":status", "101"),
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-accept", "x"),
    ("server", "provider"),
    ("set-cookie", "a=b"),
)
CREATE: dict[str, Any] = {"type": "response.create"}
UPGRADE = (("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-key", "x"))


class Clock:
    """A clock that moves only if it is set."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def time(self) -> float:
        return 1_700_000_000.0 + self.at


def socket_stage(*rules: LimitRule, **settings: Any) -> Stage:
    """A gateway with sessions to openai and google, at a dollar for a token. `settings`: those of `SocketSettings`."""
    stage = Stage()
    limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), clock=Now()) if rules else None

    def settle(settlement: Any) -> None:
        stage.settled.append(settlement)
        if limiter is not None:
            limiter.settle(settlement)

    clusters = {name: f"socket_{name}" for name in ("openai", "google")}
    sockets = SocketSettings(clusters, **settings)
    changes = {"sinks": (settle,), "prices": ADollarPerToken(), "clock": Clock(), "limiter": limiter}
    return stage.having(bounds=BOUNDS, sockets=sockets, **changes)


class Socket:
    """One WebSocket. `caller` and `provider` send events, and return the messages that the other side gets."""

    def __init__(self, stage: Stage, open_sockets: OpenSockets | None = None) -> None:
        self.stage = stage
        self.opened = 0
        self.exchange = SocketExchange(lambda: stage.gateway, self._open, UNWATCHED, open_sockets or OpenSockets())
        self._to_provider = WebSocketReader(from_client=True, largest=1 << 30)
        self._to_caller = WebSocketReader(from_client=False, largest=1 << 30)

    def _open(self) -> None:
        self.opened += 1

    def handle(self, event: Any) -> Command:
        return asyncio.run(self.exchange.handle(event))

    def ask(self, path: str, *more: tuple[str, str], key: str | None = KEY, method: str = "GET") -> Command:
        """The upgrade's request."""
        return self.handle(headers(path, *UPGRADE, *more, method=method, key=key))

    def open(self, path: str = "/v1/realtime?model=chat", *more: tuple[str, str], key: str = KEY) -> Socket:
        asked = self.ask(path, *more, key=key)
        assert isinstance(asked, Continue), asked
        assert isinstance(self.handle(ResponseHeaders(SWITCHED, False)), Continue)
        return self

    def caller(self, *events: dict[str, Any] | bytes) -> list[SocketMessage]:
        return self.caller_bytes(b"".join(encode("text", _payload(event), from_client=True) for event in events))

    def caller_bytes(self, wire: bytes) -> list[SocketMessage]:
        command = self.handle(RequestBody(wire, False))
        assert isinstance(command, Continue), command
        return self._to_provider.feed(wire if command.body is None else command.body)

    def provider(self, *events: dict[str, Any] | bytes) -> list[SocketMessage]:
        return self.provider_bytes(b"".join(encode("text", _payload(event), from_client=False) for event in events))

    def provider_bytes(self, wire: bytes) -> list[SocketMessage]:
        command = self.handle(ResponseBody(wire, False))
        assert isinstance(command, Continue), command
        return self._to_caller.feed(wire if command.body is None else command.body)

    def close(self, why: Any = "done") -> list[Any]:
        """All settlements of responses."""
        self.exchange.closed(why)
        self.exchange.closed(why)
        assert [] == self.stage.bugs
        return [each for each in self.stage.settled if each.operation == "chat"]


def _payload(event: dict[str, Any] | bytes) -> bytes:
    return event if isinstance(event, bytes) else json.dumps(event).encode()


def created(id: str) -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": id}}


def delta(id: str, text: str, kind: str = "response.output_text.delta") -> dict[str, Any]:
    return {"type": kind, "response_id": id, "delta": text}


def done(id: str, prompt: object = 5, answer: object = 2, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": prompt, "output_tokens": answer}
    return {"type": "response.done", "response": {"id": id, "status": "completed", "usage": usage, **more}}


def completed(id: str, prompt: object = 5, answer: object = 2) -> dict[str, Any]:
    return {**done(id, prompt, answer), "type": "response.completed"}


def error(**of: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "code": "bad", "message": "no", **of}}


def json_of(message: SocketMessage) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(message.payload)
    return event
