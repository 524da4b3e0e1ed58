"""A provider of OpenAI's and Google's WebSocket APIs that follows a script, which is in the caller's events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

USAGE = {
    "realtime": {
        "total_tokens": 253,
        "input_tokens": 132,
        "output_tokens": 121,
        "input_token_details": {
            "text_tokens": 119,
            "audio_tokens": 13,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 61, "audio_tokens": 3},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
    },
    "responses": {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 8},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 52,
    },
}


LIVE_USAGE = {
    "promptTokenCount": 100,
    "responseTokenCount": 50,
    "totalTokenCount": 150,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 40}, {"modality": "AUDIO", "tokenCount": 60}],
    "responseTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "AUDIO", "tokenCount": 40}],
}


class ScriptedSockets:
    """`metadata.script` of a response.create, or the type of another event, is the script of its answer: hang, leave,
    fail, refuse; otherwise the response is whole. `speak` as the text of an item: a response that nobody asked for."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.events: list[dict[str, Any]] = []
        self.closes: list[int | None] = []
        self._ids = iter(range(1, 10_000))

    def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        path = socket.request.path
        self.requests.append((path, {name.lower(): value for name, value in socket.request.headers.raw_items()}))
        api = "realtime" if "/realtime" in path else "live" if "/ws/" in path else "responses"
        if api == "realtime":
            socket.send(json.dumps({"type": "session.created", "session": {"id": "sess_1"}}))
        try:
            for message in socket:
                event = json.loads(message)
                self.events.append(event)
                if api == "live":
                    self._answer_live(socket, event)
                else:
                    self._answer(socket, api, event)
        except ConnectionClosed:
            pass
        self.closes.append(socket.close_code)

    def _answer(self, socket: ServerConnection, api: str, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "session.update":
            socket.send(json.dumps({"type": "session.updated", "session": event["session"]}))
        if kind == "response.create":
            asked = event.get("response", event)
            self._respond(socket, api, event, (asked.get("metadata") or {}).get("script", ""))
        if kind == "conversation.item.create" and "speak" in json.dumps(event):
            self._respond(socket, api, {}, "")

    def _answer_live(self, socket: ServerConnection, event: dict[str, Any]) -> None:
        """Google sends its messages as binary ones. Sound that begins with QUJD is the end of a sentence."""

        def send(message: dict[str, Any]) -> None:
            socket.send(json.dumps(message).encode())

        if "setup" in event:
            send({"setupComplete": {}})
            return
        text = json.dumps(event)
        asked = event.get("clientContent", event.get("client_content", {}))
        if not (asked.get("turnComplete") or asked.get("turn_complete") or "QUJD" in text or "tool_response" in text):
            return
        if "call a function" in text:
            call = {"id": "1", "name": "weather", "args": {}}
            send({"toolCall": {"functionCalls": [call]}, "usageMetadata": LIVE_USAGE})
            return
        send({"serverContent": {"modelTurn": {"role": "model", "parts": [{"text": "Hi " * 40}]}}})
        if "hang" in text:
            return
        if "leave" in text:
            socket.close(1011, "gone")
            return
        send({"serverContent": {"generationComplete": True}})
        send({"serverContent": {"turnComplete": True}, "usageMetadata": LIVE_USAGE})

    def _respond(self, socket: ServerConnection, api: str, event: dict[str, Any], script: str) -> None:
        if script == "refuse":
            error = {"type": "invalid_request_error", "code": "bad", "message": "no", "event_id": event.get("event_id")}
            socket.send(json.dumps({"type": "error", "event_id": "event_1", "status": 400, "error": error}))
            return
        identifier = f"resp_{next(self._ids)}"
        lane = {"stream_id": event["stream_id"]} if "stream_id" in event else {}
        begun = {"id": identifier, "status": "in_progress"}
        socket.send(json.dumps({"type": "response.created", "response": begun, **lane}))
        socket.send(
            json.dumps({"type": "response.output_text.delta", "response_id": identifier, "delta": "Hi " * 40, **lane})
        )
        if script == "hang":
            return
        if script == "leave":
            socket.close(1011, "gone")
            return
        ended = "response.done" if api == "realtime" else "response.completed"
        status = "failed" if script == "fail" else "completed"
        response = {"id": identifier, "status": status, "model": event.get("model"), "output": [], "usage": USAGE[api]}
        socket.send(json.dumps({"type": ended, "response": response, **lane}))


def _chosen(connection: ServerConnection, offered: list[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("realtime") if "realtime" in offered else None


@contextmanager
def scripted_sockets() -> Iterator[tuple[ScriptedSockets, str]]:
    """The provider, and its address."""
    provider = ScriptedSockets()
    server: Server
    with serve(provider.handle, "127.0.0.1", 0, select_subprotocol=_chosen, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield provider, f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(10)
