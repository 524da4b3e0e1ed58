"""Whatever a provider says of usage, in whole replies and streams of each format: the exchange is settled once, with a
plausible usage that the ledger, the metrics, the access log and the limits take in."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_kit import Now, RecordingListener, dollars, rule
from player import ADollarPerToken, Stage, answered, body, chunks, headers, talk, whole
from sqlalchemy import Engine
from thoroughness import examples

from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.plan import Candidate
from edge_extproc.model.plausible import is_plausible
from edge_extproc.model.settlement import Settlement
from edge_extproc.routing.base import ModelTable
from edge_extproc.store.database import open_database
from edge_extproc.store.journal import encode_row, row_of
from edge_extproc.store.ledger import Ledger, UsageFilter
from edge_extproc.telemetry.metrics import LabelNames, Metrics

NAMES = (
    *("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"),
    *("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details", "cache_read_input_tokens"),
    *("cache_creation_input_tokens", "cache_creation", "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"),
    *("cached_tokens", "reasoning_tokens", "audio_tokens", "prompt_cache_hit_tokens", "cost", "service_tier"),
    *("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "cachedContentTokenCount", "totalTokenCount"),
    *("promptTokensDetails", "candidatesTokensDetails", "toolUsePromptTokenCount", "server_tool_use", "iterations"),
)
NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(0, 10**8 + 1),
    st.floats(),
    st.sampled_from([2**63 - 1, 2**64 - 1, 10**30, -1, "12", "", True, None, 1e300]),
)
ANYTHING = st.recursive(
    NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=12,
)
USAGES = st.dictionaries(st.sampled_from(NAMES), NUMBERS | ANYTHING, max_size=8) | ANYTHING
PATHS = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
    "responses": ("/v1/responses", {"input": "Hi"}),
    "messages": ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}),
}
MODELS = ModelTable(
    {
        "gpt": (Candidate("openai", "gpt-4o-mini"),),
        "claude": (Candidate("anthropic", "claude-haiku-4-5"),),
        "gemini": (Candidate("google", "gemini-2.0-flash"),),
    }
)


def reply_of(model: str, path: str, usage: Any) -> dict[str, Any]:
    """A provider's reply."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    match model:
        case "claude":
            text = [{"type": "text", "text": "Hi"}]
            head = {"type": "message", "id": "m", "role": "assistant", "model": "m"}
            return {**head, "content": text, "stop_reason": "end_turn", "usage": usage}
        case "gemini":
            candidate = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}
            return {"candidates": [candidate], "usageMetadata": usage}
        case _ if path == "responses":
            output = [{**item, "content": [{"type": "output_text", "text": "Hi", "annotations": []}]}]
            return {
                "id": "r",
                "object": "response",
                "status": "completed",
                "model": "m",
                "output": output,
                "usage": usage,
            }
        case _:
            choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
            return {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
                "usage": usage,
            }


def stream_of(model: str, path: str, usage: Any) -> bytes:
    """The same as a stream."""
    end = reply_of(model, path, usage)
    match model:
        case "claude":
            events = [
                {"type": "message_start", "message": {**end, "content": [], "stop_reason": None}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
                {"type": "message_stop"},
            ]
        case "gemini":
            events = [end]
        case _ if path == "responses":
            events = [{"type": "response.created", "response": end}, {"type": "response.completed", "response": end}]
        case _:
            head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            delta = {"index": 0, "delta": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
            events = [{**head, "choices": [delta]}, {**head, "choices": [], "usage": usage}]
    lines = [f"event: {event['type']}\ndata: " if "type" in event else "data: " for event in events]
    data = "".join(f"{line}{json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True))
    return (data + ("data: [DONE]\n\n" if model == "gpt" and path == "chat" else "")).encode()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    found = open_database(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/edge.db")
    yield found
    found.dispose()


NOBODY = LabelNames(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())
METRICS = Metrics(NOBODY, version="0", started_at=0.0)


@settings(max_examples=examples(240), deadline=None)
@given(
    usage=USAGES,
    model=st.sampled_from(["gpt", "claude", "gemini"]),
    path=st.sampled_from(sorted(PATHS)),
    stream=st.booleans(),
)
def test_any_usage_is_settled_once_and_taken_in_by_all(
    engine: Engine, usage: Any, model: str, path: str, stream: bool
) -> None:
    stage = Stage()
    limiter = PolicyLimiter(
        RuleTable([dollars(9_000_000), rule("tokens", 10**9)]), None, RecordingListener(), clock=Now()
    )
    bounds = OutputBounds((("*", 100),), 10, 2_000, 0, 0)
    stage.having(
        sinks=(stage.settled.append, limiter.settle, METRICS.settle),
        limiter=limiter,
        bounds=bounds,
        models=MODELS,
        prices=ADollarPerToken(),
    )
    found = stage.exchange()
    url, asked = PATHS[path]
    kind = "text/event-stream" if stream else "application/json"
    came = (
        chunks(stream_of(model, path, usage)) if stream else [whole(json.dumps(reply_of(model, path, usage)).encode())]
    )
    talk(found, headers(url), body({"model": model, "stream": stream, **asked}), answered(content_type=kind), *came)
    found.closed("done")
    found.closed("done")
    (settled,) = stage.settled

    assert [] == stage.bugs
    assert settled.usage is None or is_plausible(settled.usage)
    _taken_in(engine, settled)
    assert all(0 <= status.used < 2**53 for status in limiter.statuses())


def _taken_in(engine: Engine, settled: Settlement) -> None:
    row = row_of(replace(settled, exchange_id=uuid.uuid4().hex))
    assert row is not None
    assert encode_row(row)
    ledger = Ledger(engine)
    ledger.add([row])
    (total,) = ledger.totals(["tenant"], UsageFilter())
    assert total.cost >= 0
