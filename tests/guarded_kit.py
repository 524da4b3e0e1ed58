"""Calls and replies of guarded exchanges in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from guarding import SECRET, guardrails, placeholder
from guarding import rule as request_rule
from player import Stage, body, headers, talk
from reply_guarding import rule

from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.exchange.commands import Command, Continue, Pass
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.guardrails.base import Rule
from edge_extproc.model.reply import PartDelta, ReplyEvent

SSE = "text/event-stream"
HELLO: dict[str, Any] = {"model": "chat", "temperature": 0, "messages": [{"role": "user", "content": f"say {SECRET}"}]}
STREAM = {**HELLO, "stream": True}
NAME = placeholder()
MASK = request_rule("mask")
BLOCK = rule("forbidden", name="no-words", longest=12)


def reply_of(text: str) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


def chunk(delta: Any, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def stream_of(*texts: str) -> list[bytes]:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, "stop"),
        chunk({}, choices=[], usage=usage) + b"data: [DONE]\n\n",
    ]


def stage_of(*rules: Rule, stage: Stage | None = None) -> Stage:
    return (stage or Stage()).having(guardrails=guardrails(*rules))


class CacheListener:
    """Ignores what a cache reports."""

    def cache_looked_up(self, tier: Any, seconds: float, *, found: bool) -> None: ...
    def cache_wrote(self, tier: Any) -> None: ...
    def cache_failed(self, tier: Any, why: Any) -> None: ...


def cached_stage(*rules: Rule) -> Stage:
    bounds = CacheBounds(max_entry=1 << 20, wait=5.0, wait_of_streams=5.0)
    book = CachePolicies(CachePolicy(), {}, {})
    memory = MemoryTier(100, 1 << 22, 300)
    cache = TieredCache(book, bounds, memory, None, CacheListener(), lambda: 1_700_000_000.0)
    stage = Stage().having(cache=cache)
    return stage_of(*rules, stage=stage) if rules else stage


def play(
    stage: Stage, call: Any, *response: Any, path: str = "/v1/chat/completions", end: Any = "done"
) -> list[Command]:
    exchange = stage.exchange()
    commands = talk(exchange, headers(path), body(call), *response)
    exchange.closed(end)
    assert stage.bugs == []
    return commands[2:]


def sent(events: Sequence[ResponseBody], commands: Sequence[Command]) -> bytes:
    """What the caller gets of a body."""
    out = b""
    for event, command in zip(events, commands, strict=True):
        assert isinstance(command, Continue | Pass)
        out += event.body if command.body is None else command.body
    return out


def texts_of(stream: bytes) -> str:
    deltas = [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for delta in deltas for choice in delta["choices"])


UPSTREAM = {"completions": "openai_chat", "responses": "openai_responses", "messages": "anthropic_messages"}


def short_deltas(events: Iterable[ReplyEvent]) -> Iterator[ReplyEvent]:
    for event in events:
        if isinstance(event, PartDelta):
            for start in range(0, len(event.text), 5):
                yield replace(event, text=event.text[start : start + 5])
        else:
            yield event


COMPLETION = {"model": "chat", "prompt": f"say {SECRET}"}


def completion(text: str) -> dict[str, Any]:
    choices = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return {"id": "cmpl", "object": "text_completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
