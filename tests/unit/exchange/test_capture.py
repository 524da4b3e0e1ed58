"""A debug capture keeps what one announced request sends to its providers and gets back, and nothing of others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import Stage, answered, body, headers, talk, tried, whole

from edge_extproc.exchange.attempt import AttemptExchange
from edge_extproc.exchange.capture import MOST, MOST_BYTES, REMOVED, SECONDS, CapturedHandler, Captures
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.model.captured import CapturedRequest
from edge_extproc.model.envoy_names import ROLE
from edge_extproc.worker.main import open_stream

REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Grüße"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
CALL = {"model": "claude", "messages": [{"role": "user", "content": "Hello"}]}


class Times:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def captures(times: Times) -> Captures:
    return Captures(times)


def play(captures: Captures, request_id: str, *more: Any, stage: Stage | None = None, call: Any = CALL) -> Stage:
    stage = stage or Stage()
    handler = CapturedHandler(stage.exchange(), captures)
    talk(handler, headers("/v1/chat/completions", ("x-edge-request-id", request_id)), body(call), *more)
    handler.closed("done")
    return stage


def test_both_directions_are_kept_before_translation_and_without_credentials(captures: Captures) -> None:
    captures.expect("wanted", "acme-1")
    cookie = ("set-cookie", "session=secret-of-the-provider")
    play(captures, "wanted", answered(200, cookie, ("request-id", "req_1")), whole(REPLY))
    found = captures.take("wanted")

    assert found is not None
    (attempt,) = found.attempts
    assert "claude-haiku-4-5" == json.loads(attempt.body)["model"]
    assert {"x-api-key": REMOVED, ":path": "/v1/messages"}.items() <= dict(attempt.headers).items()
    assert ("msg_1", 200, True) == (json.loads(found.body)["id"], found.status, found.ended)
    assert ("req_1", REMOVED) == (dict(found.headers)["request-id"], dict(found.headers)["set-cookie"])
    assert "secret" not in repr(found)


@pytest.mark.parametrize(("request_id", "key"), [("another", "acme-1"), ("wanted", "umbrella-1")])
def test_a_request_with_another_id_or_key_is_not_kept(captures: Captures, request_id: str, key: str) -> None:
    captures.expect("wanted", key)
    play(captures, request_id, answered(), whole(REPLY))

    assert captures.take("wanted") is None


def test_a_second_request_with_the_id_is_not_kept(captures: Captures) -> None:
    captures.expect("wanted", "acme-1")
    stage = play(captures, "wanted", answered(), whole(REPLY))
    play(captures, "wanted", answered(), whole({**REPLY, "id": "msg_2"}), stage=stage)
    found = captures.take("wanted")

    assert found is not None
    assert (1, "exchange-1", True) == (len(found.attempts), found.exchange, "msg_1" in found.body)


def test_a_refused_request_has_no_capture(captures: Captures) -> None:
    captures.expect("wanted", "acme-1")
    play(captures, "wanted", call={**CALL, "model": "none"})

    assert captures.take("wanted") is None


def test_further_attempts_are_kept_with_their_own_request(captures: Captures) -> None:
    captures.expect("wanted", "acme-1")
    stage = Stage()
    talk(
        CapturedHandler(stage.exchange(), captures),
        headers("/v1/chat/completions", ("x-edge-request-id", "wanted")),
        body({**CALL, "model": "both"}),
    )
    talk(CapturedHandler(stage.attempt(), captures), tried(2))
    found = captures.take("wanted")

    assert found is not None
    assert ["/v1/chat/completions", "/v1/messages"] == [dict(each.headers)[":path"] for each in found.attempts]
    assert all("claude-haiku-4-5" in each.body or "gpt-4o-mini" in each.body for each in found.attempts)


def test_a_long_body_is_cut(captures: Captures) -> None:
    captures.expect("wanted", "acme-1")
    long = {**REPLY, "content": [{"type": "text", "text": "x" * MOST_BYTES}]}
    request = {**CALL, "messages": [{"role": "user", "content": "y" * MOST_BYTES}]}
    play(captures, "wanted", answered(), whole(long), call=request)
    found = captures.take("wanted")

    assert found is not None
    assert (MOST_BYTES, True) == (len(found.body), found.cut)
    assert (MOST_BYTES, True) == (len(found.attempts[0].body), found.attempts[0].cut)


def test_a_secret_in_a_query_is_not_kept() -> None:
    from edge_extproc.exchange.capture import _without_secrets

    assert "/v1/m?alt=sse&key=(removed)" == _without_secrets("/v1/m?alt=sse&key=AIza-secret")


def test_few_are_kept_and_not_for_long(captures: Captures, times: Times) -> None:
    for n in range(MOST + 1):
        captures.expect(f"request-{n}", "acme-1")
    play(captures, "request-0", answered(), whole(REPLY))
    assert captures.take("request-0") is None
    assert captures.is_expecting
    times.now = SECONDS + 1

    assert not captures.is_expecting
    assert captures._by_exchange == {}


def test_streams_are_looked_at_only_while_a_request_is_announced(captures: Captures) -> None:
    stage = Stage()
    choose = open_stream(lambda: stage.gateway, lambda: None, lambda: False, captures)
    assert isinstance(choose({ROLE: "router"}, None), RouterExchange)
    captures.expect("wanted", "acme-1")
    assert isinstance(choose({ROLE: "router"}, None), CapturedHandler)
    assert isinstance(choose({ROLE: "upstream"}, None), CapturedHandler)
    captures.take("wanted")

    assert isinstance(choose({ROLE: "upstream"}, None), AttemptExchange)
    assert CapturedRequest("k").exchange is None
