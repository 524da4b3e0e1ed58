"""Who an exchange is settled for, which model answered, and what becomes of a usage that cannot be."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest
from player import KEY, ADollarPerToken, Stage, answered, body, chunks, headers, talk, whole

from edge_extproc import registry
from edge_extproc.auth.base import AuthSettings, KeySettings
from edge_extproc.exchange import settling
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.store.journal import row_of
from edge_extproc.telemetry.logs import access_line

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": USED,
}
CHUNK = {**REPLY, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
LAST = {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
WIRE = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (CHUNK, LAST)) + b"data: [DONE]\n\n"
UNARY = (body(ASKED), answered(), whole(REPLY))
STREAM = (body({**ASKED, "stream": True}), answered(content_type="text/event-stream"), *chunks(WIRE))


def test_the_fields_of_a_settlement_are_given_in_their_order() -> None:
    source = ast.parse(inspect.getsource(settling.settlement_of))
    (call,) = [
        each for each in ast.walk(source) if isinstance(each, ast.Call) and ast.unparse(each.func) == "Settlement"
    ]
    named = {
        field.name: value.id if isinstance(value, ast.Name) else value.attr
        for field, value in zip(fields(Settlement), call.args, strict=False)
        if isinstance(value, ast.Name | ast.Attribute)
    }

    assert {name: name for name in named} == {**named, "response_bytes": "response_bytes"}
    assert len(named) > 30


def stage_of_a_team() -> Stage:
    keys = (KeySettings("acme-1", "acme", secret=lambda: KEY, team="search", user="ann"),)
    authenticator = registry.load("auth", "api_key").build(AuthSettings(keys, b"a pepper of the tests"), lambda: 1.0)
    return Stage().having(authenticator=authenticator)


def settled(stage: Stage, *events: Any) -> Settlement:
    exchange = stage.exchange()
    talk(exchange, headers(), *events)
    exchange.closed("done")
    (settlement,) = stage.settled
    return settlement


@pytest.mark.parametrize("events", [UNARY, STREAM], ids=["reply", "stream"])
def test_team_user_and_the_model_that_answered_are_settled(events: tuple[Any, ...]) -> None:
    row = row_of(settled(stage_of_a_team(), *events))

    assert row is not None
    assert ("acme", "search", "ann", "acme-1") == (row.tenant, row.team, row.user, row.key)
    assert ("chat", "gpt-4o-mini", "gpt-4o-mini-2024-07-18") == (row.model, row.upstream_model, row.response_model)


def test_where_nothing_answered_there_is_no_model_that_did() -> None:
    row = row_of(settled(stage_of_a_team(), body(ASKED), answered(500), whole({"error": {"message": "no"}})))

    assert row is not None
    assert ("search", "gpt-4o-mini", None) == (row.team, row.upstream_model, row.response_model)


def test_searches_are_a_part_of_the_cost_with_a_column_of_its_own() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "server_tool_use": {"web_search_requests": 4}}
    content = [{"type": "text", "text": "Hi"}]
    reply = {"type": "message", "id": "m", "model": "c", "content": content, "stop_reason": "end_turn", "usage": usage}
    stage = Stage().having(prices=ADollarPerToken())
    settlement = settled(stage, body({**ASKED, "model": "claude"}), answered(), whole(reply))
    row = row_of(settlement)

    assert (4, Decimal("0.04")) == (settlement.usage and settlement.usage.searches, settlement.search_cost)
    assert row is not None
    assert (4, 40_000_000_000) == (row.searches, row.search_cost)
    assert ("0.04", 4) == (
        json.loads(access_line(settlement))["search_usd"],
        json.loads(access_line(settlement))["searches"],
    )
    plain = settled(Stage().having(prices=ADollarPerToken()), *UNARY)
    assert plain.search_cost is None
    assert (0, 0) == ((found := row_of(plain)) and (found.searches, found.search_cost))


def test_searches_are_charged_though_the_caller_leaves_before_the_usage_comes() -> None:
    search = {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search"}}
    begun = {"id": "r", "object": "response", "status": "in_progress", "model": "gpt-4o-mini", "output": []}
    events = [
        {"type": "response.created", "response": begun},
        *({"type": "response.output_item.done", "output_index": number, "item": search} for number in range(3)),
        {"type": "response.output_text.delta", "item_id": "m", "output_index": 3, "content_index": 0, "delta": "Hi"},
    ]
    wire = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    stage = Stage().having(prices=ADollarPerToken())
    exchange = stage.exchange()
    asked = body({"model": "chat", "input": "Hello", "stream": True})
    head = answered(content_type="text/event-stream")
    talk(exchange, headers("/v1/responses"), asked, head, *chunks(wire, end=False))
    exchange.closed("cancelled")

    (settlement,) = stage.settled
    assert settlement.usage is not None
    assert (3, Decimal("0.03")) == (settlement.usage.searches, settlement.search_cost)
    assert settlement.estimated
    assert settlement.usage.prompt > 0 < settlement.usage.completion


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (str(e["type"]).encode(), json.dumps(e).encode()) for e in events)


@pytest.mark.parametrize("lane", ["/v1/chat/completions", "/v1/messages"], ids=["translated", "raw"])
def test_searches_of_anthropic_are_charged_though_the_caller_leaves(lane: str) -> None:
    usage = {"input_tokens": 30, "output_tokens": 1}
    message = {"type": "message", "id": "m", "model": "c", "role": "assistant", "content": [], "usage": usage}
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    wire = frames(
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": search},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {**search, "id": "srvtoolu_2"}},
    )
    stage = Stage().having(prices=ADollarPerToken())
    exchange = stage.exchange()
    asked = body({**ASKED, "model": "claude", "stream": True, "max_tokens": 50})
    head = answered(content_type="text/event-stream")
    talk(exchange, headers(lane), asked, head, *chunks(wire, end=False))
    exchange.closed("cancelled")

    (settlement,) = stage.settled
    assert settlement.usage is not None
    assert (2, Decimal("0.02")) == (settlement.usage.searches, settlement.search_cost)
    assert settlement.estimated


@pytest.mark.parametrize("count", [2**64 - 1, 10**12, -1, 10**30], ids=repr)
def test_a_usage_that_cannot_be_is_settled_within_bounds(count: int) -> None:
    wrong = {**REPLY, "usage": {**USED, "completion_tokens": count}}
    settlement = settled(stage_of_a_team(), body(ASKED), answered(), whole(wrong))

    assert settlement.usage is None or settlement.usage.total < 10**6
    assert settlement.cost is None or Decimal(0) <= settlement.cost < 10**6
    assert "ok" == settlement.outcome


def test_a_sink_that_fails_keeps_no_other_from_its_settlement() -> None:
    stage = Stage()
    first, last = list[Settlement](), list[Settlement]()

    def broken(settlement: Settlement) -> None:
        raise OverflowError(settlement.exchange_id)

    exchange = stage.having(sinks=(first.append, broken, last.append)).exchange()
    talk(exchange, headers(), *UNARY)
    exchange.closed("done")

    assert [1, 1] == [len(first), len(last)]
    assert [OverflowError] == [type(bug) for bug in stage.bugs]


def test_a_compressed_stream_without_a_content_type_is_read_to_its_end() -> None:
    squeezed = gzip.compress(WIRE * 50, mtime=0)
    cut = len(squeezed) // 2
    stage = Stage()
    exchange = stage.exchange()
    parts = chunks(squeezed[:cut], squeezed[cut:])
    response = answered(200, ("content-encoding", "gzip"), content_type="application/octet-stream")
    commands = talk(exchange, headers(), body({**ASKED, "stream": True}), response, *parts)
    exchange.closed("done")

    assert b"data: " == b"".join(command.body or b"" for command in commands[3:])[:6]  # type: ignore[union-attr]
    assert ("ok", Usage(input=3, output=2)) == (stage.settled[0].outcome, stage.settled[0].usage)
