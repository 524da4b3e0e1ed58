"""A gateway in memory with a store of conversations, and what its providers answer."""

from __future__ import annotations

import json
from typing import Any

from player import DIALECTS, ENDPOINTS, FORMATS, MODELS, Stage, answered, body, chunks, headers, planner, talk, whole

from edge_extproc import registry
from edge_extproc.conversations.base import Bounds
from edge_extproc.conversations.memory import MemoryConversations
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.model.plan import Candidate
from edge_extproc.providers.base import ProviderSettings
from edge_extproc.routing.base import ModelTable

UMBRELLA = "edge-key-of-umbrella"
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Bonjour"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def sse(*events: dict[str, Any]) -> list[bytes]:
    return [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events]


CLAUDE_STREAM = sse(
    {"type": "message_start", "message": {**CLAUDE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Bonjour"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
OPENAI = {
    "id": "resp_of_openai",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-4o-mini",
    "output": [
        {
            "type": "message",
            "id": "msg_a",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
}


def events_of(stream: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]


def openai() -> Any:
    """The real OpenAI, which stores replies itself."""
    settings = ProviderSettings("openai", "https://api.openai.com/v1", lambda: "secret-of-openai")
    return registry.load("providers", "openai").build(settings)


class Storing(Stage):
    """A gateway in memory with a store of conversations."""

    now = 1_700_000_000.0

    def with_store(self, **bounds: Any) -> Storing:
        settings = {"entries": 100, "size": 1 << 20, "ttl": 60.0, **bounds}
        self.store = MemoryConversations(Bounds(**settings), 1 << 22, lambda: self.now)
        models = ModelTable({**MODELS, "responses": [Candidate("openai", "gpt-4o-mini", "openai_responses")]})
        self.gateway = self.having(
            conversations=self.store,
            routes=PathRouter(DIALECTS, FORMATS, ENDPOINTS.paths, stores=True),
            models=models,
            planner=planner(models),
            providers={**self.gateway.providers, "openai": openai()},
        ).gateway
        return self

    def send(self, content: dict[str, Any], reply: Any = CLAUDE, *, key: str | None = None) -> tuple[Any, Any]:
        """A whole call. Returns the provider's request and the caller's reply."""
        exchange = self.exchange()
        start = [headers("/v1/responses", key=key)] if key else [headers("/v1/responses")]
        _, command = talk(exchange, *start, body(content))
        if isinstance(command, ImmediateResponse):
            exchange.closed("end")
            return None, json.loads(command.body)
        assert isinstance(command, Continue)
        _, last = talk(exchange, answered(), whole(reply))
        exchange.closed("end")
        assert isinstance(last, Continue)
        sent = last.body if last.body is not None else json.dumps(reply).encode()
        return json.loads(command.body or b"null"), json.loads(sent)

    def stream(self, content: dict[str, Any], parts: list[bytes]) -> tuple[Any, list[Any]]:
        exchange = self.exchange()
        _, command = talk(exchange, headers("/v1/responses"), body({**content, "stream": True}))
        assert isinstance(command, Continue)
        _, *commands = talk(exchange, answered(content_type="text/event-stream"), *chunks(*parts))
        exchange.closed("end")
        out = b"".join(each.body or b"" for each in commands if isinstance(each, Continue))
        return json.loads(command.body or b"null"), events_of(out)

    def ask(self, method: str, path: str, content: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        """A request to the API of stored objects."""
        exchange = self.exchange()
        more = {} if key is None else {"key": key}
        events: list[Any] = [headers(path, method=method, end=content is None, **more)]
        if content is not None:
            events.append(body(content))
        command = talk(exchange, *events)[-1]
        exchange.closed("end")
        assert isinstance(command, ImmediateResponse), command
        if ("content-type", "text/event-stream") in command.headers:
            return command.status, events_of(command.body)
        return command.status, json.loads(command.body)


def hello(model: str = "claude", text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": text, **more}
