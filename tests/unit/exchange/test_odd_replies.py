"""Replies that are not what their headers or their end say: read for what they are, by the guard and by the router."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cells import each_cell
from player import DIALECTS, Stage, answered, body, chunks, headers, planner, talk, tried, whole

from edge_extproc.exchange.commands import HOLD, Release
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.exchange.relay import CrossRelay, RawRelay
from edge_extproc.model.call import Call
from edge_extproc.model.plan import Candidate
from edge_extproc.model.reply import Ended, Finish, Finished, PartDelta, PartEnded, PartStarted, ReplyStarted
from edge_extproc.registry import load
from edge_extproc.routing.base import ModelTable, RoutingRequest, StrategySettings
from edge_extproc.routing.planner import HedgeSettings, ModelRoute

CHAT, MESSAGES, GEMINI, RESPONSES = "openai_chat", "anthropic_messages", "gemini_generate", "openai_responses"
HELLO = [{"role": "user", "content": "Hello"}]
SSE = "text/event-stream"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: Any, finish: str | None = None) -> bytes:
    return event({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice(delta, finish)]})


def choice(delta: Any, finish: str | None) -> Any:
    return {"index": 0, "delta": delta, "finish_reason": finish}


ROLE, TOKEN, STOP, DONE = chunk({"role": "assistant"}), chunk({"content": "Hi"}), chunk({}, "stop"), b"data: [DONE]\n\n"
COMMENT = b": still thinking\n\n"
BROKEN = b"data: {no json\n\n"
REPLY = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_800_000_000.0 + self.now


def guarded(*, stream: bool = True, **settings: Any) -> tuple[Stage, Clock, Any]:
    """The guard of the first attempt, at a provider of OpenAI's chat format. Another candidate follows."""
    clock = Clock()
    stage = Stage()
    table = ModelTable({name: stage.gateway.models.candidates(name) for name in ("guarded",)})
    rows = {"guarded": ModelRoute(guard="on")}
    stage.having(clock=clock, planner=planner(table, rows=rows, **settings))
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": "guarded", "messages": HELLO, "stream": stream}))
    watching = stage.guard()
    talk(watching, tried(1, exchange.id))
    return stage, clock, watching


# --- a stream under another content type


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "application/json", "text/html", ""]
)
def test_the_guard_knows_a_stream_by_its_bytes(content_type: str) -> None:
    _, _, watching = guarded()
    commands = talk(watching, answered(content_type=content_type), *chunks(ROLE, TOKEN, STOP + DONE))

    assert [HOLD, HOLD, Release(body=ROLE + TOKEN)] == commands[:3]


@pytest.mark.parametrize("content_type", ["text/plain", SSE, "application/json"])
def test_the_guard_reads_a_stream_that_nobody_asked_for_to_its_end(content_type: str) -> None:
    _, _, watching = guarded(stream=False)
    commands = talk(watching, answered(content_type=content_type), *chunks(ROLE, TOKEN, STOP + DONE))
    _, _, other = guarded(stream=False)
    failed = talk(other, answered(content_type=content_type), *chunks(ROLE, TOKEN, event({"error": {"message": "x"}})))

    assert Release(body=ROLE + TOKEN + STOP + DONE, end=True) == commands[-1]
    assert "502" == dict(failed[-1].set_headers)[":status"]


def test_the_guard_passes_a_whole_reply_to_a_streaming_call() -> None:
    _, _, watching = guarded()
    reply = json.dumps(REPLY).encode()

    assert Release(body=reply, end=True) == talk(watching, answered(), whole(reply))[-1]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", SSE])
def test_a_stream_of_which_nothing_can_be_read_fails_over(content_type: str) -> None:
    stage, _, watching = guarded()
    commands = talk(watching, answered(content_type=content_type), *chunks(BROKEN, STOP + DONE))
    (failed,) = [each for each in commands if isinstance(each, Release)]

    assert "502" == dict(failed.set_headers)[":status"]
    assert "unreadable_stream" == stage.open.find("exchange-1").journal.ended[1].reason


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "", SSE])
@pytest.mark.parametrize("model", ["chat", "claude"])
def test_the_router_gives_a_stream_whatever_the_content_type_says(content_type: str, model: str) -> None:
    stage = Stage()
    exchange = stage.exchange()
    source = DIALECTS[CHAT if model == "chat" else MESSAGES]
    writer = source.writer(Call(source.name, "chat", "m", stream=True, raw=b"{}"))
    sent = b"".join(writer.write(each) for each in SAID)
    call = body({"model": model, "messages": HELLO, "stream": True})
    commands = talk(exchange, headers(), call, answered(content_type=content_type), ResponseBody(sent, True))
    exchange.closed("done")

    out = getattr(commands[-1], "body", None) or sent
    assert b'"content":"Hi"' in out
    assert out.endswith(DONE)
    assert "ok" == stage.settled[0].outcome


SAID = (
    ReplyStarted("r", "m", 7),
    PartStarted(0, "text"),
    PartDelta(0, "Hi"),
    PartEnded(0),
    Finished(Finish("stop")),
    Ended(),
)


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_a_stream_of_which_nothing_can_be_read_is_no_empty_answer(model: str) -> None:
    stage = Stage()
    exchange = stage.exchange()
    ends = {CHAT: STOP + DONE, MESSAGES: event({"type": "message_stop"})}[CHAT if model == "chat" else MESSAGES]
    talk(exchange, headers(), body({"model": model, "messages": HELLO, "stream": True}))
    out = talk(exchange, answered(content_type=SSE), ResponseBody(BROKEN + ends, True))[-1].body
    exchange.closed("done")

    assert b"unreadable_stream" in out
    assert DONE not in out
    assert ("broken_stream", "failed") == (stage.settled[0].outcome, stage.settled[0].attempt_results[-1].verdict)


# --- a stream that is alive


@pytest.mark.parametrize("alive", [ROLE, COMMENT, event({"choices": []})], ids=["role", "comment", "empty"])
def test_a_slow_stream_that_is_alive_is_passed_on_before_its_time_is_over(alive: bytes) -> None:
    stage, clock, watching = guarded(first_token_timeout=60.0)
    talk(watching, answered(content_type=SSE))
    early = talk(watching, ResponseBody(alive, False))
    clock.now = 31.0
    late = talk(watching, ResponseBody(alive, False))

    assert [HOLD] == early
    assert [Release(body=alive + alive)] == late
    assert not stage.open.find("exchange-1").journal.ended


def test_a_silent_stream_is_not_passed_on() -> None:
    _, clock, watching = guarded(first_token_timeout=60.0)
    talk(watching, answered(content_type=SSE), ResponseBody(ROLE, False))
    clock.now = 59.0

    assert [HOLD] == talk(watching, ResponseBody(b"", False))


def test_an_error_is_never_passed_on_as_a_sign_of_life() -> None:
    _, clock, watching = guarded(first_token_timeout=60.0)
    talk(watching, answered(content_type=SSE), ResponseBody(ROLE, False))
    clock.now = 59.0
    (failed,) = talk(watching, ResponseBody(event({"error": {"message": "boom"}}), False))

    assert "502" == dict(failed.set_headers)[":status"]


# --- the first token


SIGNS_OF_LIFE = {
    CHAT: (ROLE, COMMENT),
    MESSAGES: (
        event({"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {}}}),
        event({"type": "ping"}),
        COMMENT,
    ),
}
FIRST_TOKENS = {
    CHAT: TOKEN,
    MESSAGES: event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hi"}}),
}


@pytest.mark.parametrize("model", ["chat", "claude"])
@pytest.mark.parametrize("content_type", [SSE, "text/plain"])
def test_the_first_token_is_no_role_no_ping_and_no_comment(model: str, content_type: str) -> None:
    clock, stage = Clock(), Stage()
    stage.having(clock=clock)
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": model, "messages": HELLO, "stream": True}))
    talk(exchange, answered(content_type=content_type))
    source = CHAT if model == "chat" else MESSAGES
    for seconds, each in enumerate(SIGNS_OF_LIFE[source], 1):
        clock.now = float(seconds)
        talk(exchange, ResponseBody(each, False))
    clock.now = 9.0
    talk(exchange, ResponseBody(FIRST_TOKENS[source], False))
    clock.now = 12.0
    talk(exchange, ResponseBody(b"", True))
    exchange.closed("done")

    (settled,) = stage.settled
    assert 9.0 == settled.time_to_first_token
    assert 9.0 == settled.attempt_results[-1].first_token


def settled_stream(first_byte: float, first_token: float) -> Any:
    """The settlement of a stream whose first byte and first token come at these times."""
    clock, stage = Clock(), Stage()
    stage.having(clock=clock)
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": "chat", "messages": HELLO, "stream": True}))
    talk(exchange, answered(content_type=SSE))
    for clock.now, piece in ((first_byte, ROLE), (first_token, TOKEN), (20.0, STOP + DONE)):
        talk(exchange, ResponseBody(piece, piece.endswith(DONE)))
    exchange.closed("done")
    (settled,) = stage.settled
    return settled


def test_least_latency_and_hedging_count_from_the_first_token() -> None:
    """The one candidate has the earlier first byte, the other one the earlier first token."""
    a, b = Candidate("a", "m"), Candidate("b", "m")
    settlements = {a: settled_stream(1.0, 9.0), b: settled_stream(5.0, 6.0)}
    results = {candidate: replace(s.attempt_results[-1], candidate=candidate) for candidate, s in settlements.items()}
    call = RoutingRequest(Call(CHAT, "chat", "m", True, b"{}"), "acme")
    fastest = load("routing", "least_latency").build(
        StrategySettings(lambda candidate, usage: None, lambda: 1.0, lambda: 1.0)
    )
    for result in results.values():
        fastest.record(result)
    hedging = planner(ModelTable({"m": [a, b]}), rows={"m": ModelRoute(hedge=HedgeSettings(0.5, 0.3))})
    plan = hedging.plan(call, (a, b))
    for _ in range(40):
        hedging.record("m", plan, [results[a]], "acme")

    assert [9.0, 6.0] == [each.time_to_first_token for each in settlements.values()]
    assert [b, a] == list(fastest.order(call, (a, b)))
    assert 9.0 == hedging.plan(call, (a, b)).try_timeout


# --- the time of a reply that has none


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_without_a_time_gets_the_time_when_it_began(stream: bool) -> None:
    clock, stage = Clock(), Stage()
    stage.having(clock=clock)
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": "claude", "messages": HELLO, "stream": stream}))
    clock.now = 5.0
    source = DIALECTS[MESSAGES]
    if stream:
        writer = source.writer(Call(MESSAGES, "chat", "m", stream=True, raw=b"{}"))
        sent, content_type = b"".join(writer.write(each) for each in SAID), SSE
    else:
        message = {"type": "message", "id": "msg_1", "model": "m", "content": [{"type": "text", "text": "Hi"}]}
        sent, content_type = json.dumps({**message, "stop_reason": "end_turn"}).encode(), "application/json"
    out = talk(exchange, answered(content_type=content_type), ResponseBody(sent, True))[-1].body

    told = out.partition(b"data: ")[2].partition(b"\n")[0] if stream else out
    assert 1_800_000_005 == json.loads(told)["created"]


# --- an end that tells of a failure


@each_cell("target", sorted(DIALECTS))
def test_a_malformed_answer_of_another_format_does_not_end_clean(target: str) -> None:
    finish = {"candidates": [{"content": {"parts": []}, "finishReason": "MALFORMED_FUNCTION_CALL"}]}
    source = DIALECTS[GEMINI]
    writer = DIALECTS[target].writer(Call(target, "chat", "m", stream=True, raw=b"{}"))
    relay = CrossRelay(source.reader(SSE), writer, own=target == GEMINI)
    out = relay.feed(event(finish)) + relay.close()

    assert (target != GEMINI) == (relay.tally.failed is not None)
    assert (target == GEMINI) == (b"MALFORMED_FUNCTION_CALL" in out)


def test_a_malformed_whole_reply_of_another_format_is_an_error() -> None:
    stage = Stage()
    exchange = stage.exchange()
    reply = {"candidates": [{"content": {"parts": []}, "finishReason": "MALFORMED_FUNCTION_CALL"}]}
    talk(exchange, headers(), body({"model": "gemini", "messages": HELLO}))
    talk(exchange, answered(), whole(json.dumps(reply).encode()))
    exchange.closed("done")

    assert (502, "malformed_answer") == (stage.settled[0].status, stage.settled[0].code)


def test_a_malformed_whole_reply_without_its_content_type_ends_the_stream_in_an_error() -> None:
    stage = Stage()
    exchange = stage.exchange()
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 5}
    reply = {
        "candidates": [{"content": {"parts": []}, "finishReason": "MALFORMED_FUNCTION_CALL"}],
        "usageMetadata": usage,
    }
    talk(exchange, headers(), body({"model": "gemini", "messages": HELLO, "stream": True}))
    *_, last = talk(exchange, answered(content_type="text/plain"), *chunks(json.dumps(reply).encode()))
    exchange.closed("done")

    (settled,) = stage.settled
    assert ("broken_stream", "malformed_answer", None) == (settled.outcome, settled.code, settled.finish)
    assert settled.usage is not None
    assert (7, 5) == (settled.usage.prompt, settled.usage.completion)
    assert b"[DONE]" not in last.body


# --- an error about our own account within a stream


@each_cell("target", sorted(DIALECTS))
def test_an_error_about_our_account_in_a_stream_is_told_as_the_gateways(target: str) -> None:
    refused = event({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})
    source = DIALECTS[CHAT]
    writer = DIALECTS[target].writer(Call(target, "chat", "m", stream=True, raw=b"{}"))
    reader = source.reader(SSE)
    relay = RawRelay(reader, writer, hide_usage=False) if target == CHAT else CrossRelay(reader, writer)
    out = relay.feed(ROLE + TOKEN + refused + DONE) + relay.close()

    assert relay.tally.failed is not None
    assert ("provider_credential_refused", 502) == (relay.tally.failed.code, relay.tally.failed.status)
    assert b"Incorrect API key" not in out
    assert b"the provider refused the credential of this gateway" in out


def test_an_error_event_of_the_callers_format_passes_as_it_came() -> None:
    told = event({"error": {"message": "boom", "type": "server_error", "code": "oops"}})
    writer = DIALECTS[CHAT].writer(Call(CHAT, "chat", "m", stream=True, raw=b"{}"))
    relay = RawRelay(DIALECTS[CHAT].reader(SSE), writer, hide_usage=False)

    assert TOKEN + told == relay.feed(TOKEN + told + DONE)
