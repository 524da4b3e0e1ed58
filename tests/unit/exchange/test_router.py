"""The story of one request, with Envoy played in memory and the dialects for real."""

import json

import pytest
from player import KEY, Stage, answered, body, chunks, headers, planner, talk, whole

from edge_extproc.errors import PeerError
from edge_extproc.exchange.commands import CONTINUE, Continue, ImmediateResponse, Replace
from edge_extproc.exchange.events import (
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseTrailers,
)
from edge_extproc.model.plan import Candidate

HELLO = [{"role": "user", "content": "Hello"}]
OPENAI_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
ANTHROPIC_REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


OPENAI_STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hi"}),
    chunk({}, "stop"),
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n',
    b"data: [DONE]\n\n",
)
SSE = "text/event-stream"


@pytest.fixture
def stage():
    return Stage()


def asked(model="chat", **more):
    return body({"model": model, "messages": HELLO, **more})


def run(stage, *events, why="done"):
    """The commands of one exchange, and its settlement."""
    exchange = stage.exchange()
    commands = talk(exchange, *events)
    exchange.closed(why)
    return commands, stage.settled[-1]


# --- a whole reply


def test_the_raw_lane_from_headers_to_bill(stage):
    reply = whole(OPENAI_REPLY)
    commands, settled = run(stage, headers(), asked(), answered(), reply)

    to_provider = dict(commands[1].set_headers)
    assert CONTINUE == commands[0]
    assert ("/v1/chat/completions", "Bearer secret-of-openai") == (to_provider[":path"], to_provider["authorization"])
    assert b'"model": "gpt-4o-mini"' in commands[1].body.replace(b'":"', b'": "')
    assert str(len(commands[1].body)) == to_provider["content-length"]
    assert ("provider_openai",) == commands[1].order
    assert "buffered" == commands[2].response_body
    assert CONTINUE == commands[3]
    assert ("ok", 200, "acme", "acme-1", "openai", "raw", 1, "stop", 7) == (
        settled.outcome,
        settled.status,
        settled.tenant,
        settled.key_id,
        settled.provider,
        settled.lane,
        settled.attempts,
        settled.finish,
        settled.cost,
    )
    assert (5, 2, False) == (settled.usage.input, settled.usage.output, settled.estimated)
    assert 0 < settled.overhead <= settled.duration


def test_the_cross_lane_answers_in_the_callers_words(stage):
    commands, settled = run(stage, headers(), asked("claude", seed=1), answered(), whole(ANTHROPIC_REPLY))

    to_provider = dict(commands[1].set_headers)
    assert ("/v1/messages", "secret-of-anthropic") == (to_provider[":path"], to_provider["x-api-key"])
    assert "authorization" in commands[1].remove_headers
    assert ("x-edge-dropped", "seed") in commands[2].set_headers
    told = json.loads(commands[3].body)
    assert "Hi" == told["choices"][0]["message"]["content"]
    assert str(len(commands[3].body)) == dict(commands[3].set_headers)["content-length"]
    assert ("cross", ("seed",), 7) == (settled.lane, settled.dropped, settled.cost)


def test_an_anthropic_caller_may_ask_an_openai_model(stage):
    events = headers("/v1/messages"), asked("chat", max_tokens=5), answered(), whole(OPENAI_REPLY)
    commands, settled = run(stage, *events)

    assert "message" == json.loads(commands[3].body)["type"]
    assert ("anthropic_messages", "cross") == (settled.dialect, settled.lane)


# --- streams


def test_a_stream_passes_on_the_raw_lane_without_the_usage_that_only_we_asked_for(stage):
    events = headers(), asked(stream=True), answered(content_type=SSE), *chunks(*OPENAI_STREAM)
    commands, settled = run(stage, *events)

    assert b'"include_usage":true' in commands[1].body.replace(b" ", b"")
    assert "streamed" == commands[2].response_body
    assert "content-length" in commands[2].remove_headers
    passed = [
        command.body if command != CONTINUE else part
        for command, part in zip(commands[3:], OPENAI_STREAM, strict=False)
    ]
    assert [*OPENAI_STREAM[:3], b"", OPENAI_STREAM[4]] == passed
    assert CONTINUE == commands[-1]
    assert ("ok", True, 7) == (settled.outcome, settled.stream, settled.cost)
    assert settled.time_to_first_token > 0


def test_a_caller_who_asked_for_usage_gets_the_providers_bytes(stage):
    asks = asked(stream=True, stream_options={"include_usage": True})
    commands, settled = run(stage, headers(), asks, answered(content_type=SSE), *chunks(*OPENAI_STREAM))

    assert [CONTINUE] * 6 == commands[3:]
    assert sum(map(len, OPENAI_STREAM)) == settled.response_bytes


def test_a_stream_crosses(stage):
    events = headers("/v1/messages"), asked("chat", max_tokens=5, stream=True), answered(content_type=SSE)
    commands, settled = run(stage, *events, *chunks(*OPENAI_STREAM))
    told = b"".join(command.body or b"" for command in commands[3:])

    assert ("content-type", "text/event-stream; charset=utf-8") in commands[2].set_headers
    assert told.startswith(b"event: message_start")
    assert told.rstrip().endswith(b'data: {"type":"message_stop"}')
    assert ("ok", "stop", 7) == (settled.outcome, settled.finish, settled.cost)


def test_a_method_that_is_no_text_is_refused_in_the_callers_words(stage):
    (command,) = talk(stage.exchange(), headers(method="PO\udcff", end=True))

    assert isinstance(command, ImmediateResponse)
    assert command.status in {400, 405}
    assert not stage.bugs


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_without_its_end_gets_an_error_and_is_billed_for_what_was_seen(stage, path):
    events = headers(path), asked(stream=True, max_tokens=5), answered(content_type=SSE), *chunks(*OPENAI_STREAM[:2])
    commands, settled = run(stage, *events)
    last = commands[-1].body

    assert b'"error"' in last
    assert b"[DONE]" not in last
    assert ("broken_stream", True) == (settled.outcome, settled.estimated)
    assert settled.usage.input > 0 < settled.usage.output
    assert settled.cost > 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_that_goes_on_after_its_error_is_cut_off(stage, path):
    """The clock of the stage moves a millisecond at each look: by then the caller has the error."""
    failed, more = (
        ResponseBody(b'data: {"error": {"message": "no"}}\n\n', False),
        ResponseBody(b": more\n" * 2000, False),
    )
    events = headers(path), asked(stream=True, max_tokens=5), answered(content_type=SSE), failed
    commands, settled = run(stage, *events, *([more] * 2000))
    cut = next(n for n, command in enumerate(commands) if isinstance(command, ImmediateResponse))

    assert b"error" in (commands[3].body or failed.body)
    assert {b""} == {command.body for command in commands[4:cut]}
    assert cut * len(more.body) > 1 << 20
    assert "edge_stream_failed" == commands[cut].details
    assert {CONTINUE} == set(commands[cut + 1 :])
    assert "broken_stream" == settled.outcome


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_that_goes_on_after_its_end_is_cut_off_and_billed_as_it_was(stage, path):
    more = ResponseBody(b": " + b"more" * 4000 + b"\n\n", False)
    before = headers(path), asked(stream=True), answered(content_type=SSE)
    events = [ResponseBody(b"".join(OPENAI_STREAM), False), *([more] * 2000)]
    commands, settled = run(stage, *before, *events)
    cut = next(n for n, command in enumerate(commands) if isinstance(command, ImmediateResponse))

    assert cut * len(more.body) > 1 << 20
    assert "edge_stream_endless" == commands[cut].details
    assert {CONTINUE} == set(commands[cut + 1 :])
    assert ("ok", 7) == (settled.outcome, settled.cost)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_chunk_of_many_frames_gives_way_and_gives_the_same(stage, path):
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    long = frame * 2000
    seen = []
    for size in (len(long), 1000):  # in one chunk, and in chunks that are not cut
        turns: list[None] = []

        async def give_way(turns: list[None] = turns) -> None:
            turns.append(None)

        stage.having(give_way=give_way)
        pieces = [long[at : at + size] for at in range(0, len(long), size)]
        events = headers(path), asked(stream=True), answered(content_type=SSE)
        commands, settled = run(stage, *events, *chunks(OPENAI_STREAM[0], *pieces, *OPENAI_STREAM[1:]))
        sent = [OPENAI_STREAM[0], *pieces, *OPENAI_STREAM[1:]]
        bodies = [c.body if c.body is not None else raw for c, raw in zip(commands[3:], sent, strict=False)]
        seen.append((b"".join(bodies), settled.outcome, settled.usage, len(turns)))

    assert seen[0][:3] == seen[1][:3]
    assert [len(long) // 4096, 0] == [each[3] for each in seen]


def test_a_stream_that_cannot_be_decoded_ends_in_an_error(stage):
    events = headers(), asked(stream=True), answered(200, ("content-encoding", "gzip"), content_type=SSE)
    commands, settled = run(stage, *events, *chunks(b"this is no gzip", b"nor is this"))

    assert b'"error"' in commands[3].body
    assert [b"", b""] == [command.body if command != CONTINUE else b"" for command in commands[4:]]
    assert "broken_stream" == settled.outcome


def test_a_reply_to_one_who_asked_for_a_stream_becomes_one(stage):
    commands, settled = run(stage, headers(), asked(stream=True), answered(), whole(OPENAI_REPLY))

    assert SSE == dict(commands[3].set_headers)["content-type"]
    assert commands[3].body.endswith(b"data: [DONE]\n\n")
    assert 7 == settled.cost


def test_a_stream_to_one_who_asked_for_a_reply_becomes_one(stage):
    commands, settled = run(stage, headers(), asked(), answered(content_type=SSE), whole(b"".join(OPENAI_STREAM)))

    assert "Hi" == json.loads(commands[3].body)["choices"][0]["message"]["content"]
    assert 7 == settled.cost


def test_a_broken_stream_to_one_who_asked_for_a_reply_is_an_error(stage):
    events = headers(), asked(), answered(content_type=SSE), whole(b"".join(OPENAI_STREAM[:2]))
    commands, settled = run(stage, *events)

    assert ("error", "upstream_error") == (next(iter(json.loads(commands[3].body))), settled.outcome)


# --- what we answer by ourselves


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (headers(key=None), 401, "missing_api_key"),
        (headers(key="wrong"), 401, "invalid_api_key"),
        (headers("/v1/nothing"), 404, "unknown_path"),
        (headers("/v1/chat/completions/below"), 404, "unknown_path"),
        (headers(method="GET", end=True), 405, "method_not_allowed"),
        (headers(end=True), 400, "invalid_request"),
        (headers("/v1/chat/completions", ("content-encoding", "gzip")), 400, "invalid_request"),
    ],
)
def test_what_is_refused_at_the_headers(stage, event, status, code):
    (command,), settled = run(stage, event)

    assert (status, code) == (command.status, json.loads(command.body)["error"]["code"])
    assert command.details.startswith("edge_")
    assert ("rejected", status, code) == (settled.outcome, settled.status, settled.code)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_ways_to_send_a_key_reach_the_caller_unmasked(stage, path):
    (command,), _ = run(stage, headers(path, key=None))

    assert "authorization: Bearer <key>, x-api-key: <key>" in json.loads(command.body)["error"]["message"]


@pytest.mark.parametrize(
    ("asks", "status", "code"),
    [
        (body(b"{"), 400, "invalid_request"),
        (asked("nothing-like-it"), 404, "model_not_found"),
        (asked("claude", logprobs=True), 400, "unsupported_field"),
    ],
)
def test_what_is_refused_at_the_body(stage, asks, status, code):
    (_, command), settled = run(stage, headers(), asks)

    assert (status, code) == (command.status, json.loads(command.body)["error"]["code"])
    assert "rejected" == settled.outcome
    assert 0 == len(stage.open)


def test_a_key_sees_and_reaches_only_its_models(stage):
    (command,), _ = run(stage, headers("/v1/models", method="GET", key="edge-key-of-umbrella", end=True))
    assert ["claude"] == [model["id"] for model in json.loads(command.body)["data"]]

    (_, command), _ = run(stage, headers(key="edge-key-of-umbrella"), asked("chat"))
    assert 404 == command.status


def test_models_are_listed_in_the_callers_words(stage):
    version = ("anthropic-version", "2023-06-01")
    (command,), settled = run(stage, headers("/v1/models", version, method="GET", end=True))

    assert ("ok", False) == (settled.outcome, json.loads(command.body)["has_more"])


def test_a_head_request_that_is_refused_gets_no_body(stage):
    (command,), _ = run(stage, headers("/v1/nothing", method="HEAD", end=True))

    assert (404, b"") == (command.status, command.body)


def test_after_our_own_reply_nothing_is_touched(stage):
    commands, settled = run(stage, headers(key=None), answered(401, details="edge_missing"), whole(b"x"))

    assert [CONTINUE, CONTINUE] == commands[1:]
    assert "rejected" == settled.outcome


# --- plans and retries


def test_a_candidate_that_cannot_be_asked_is_left_out_of_the_plan(stage):
    commands, _ = run(stage, headers(), asked("claude-first", logprobs=True))

    assert ("provider_openai",) == commands[1].order


def test_a_retry_is_adapted_afresh_for_the_next_candidate(stage):
    exchange = stage.exchange()
    _, sent = talk(exchange, headers(), asked("both", seed=1))
    seen = (*headers().headers, *sent.set_headers)
    upstream = RequestHeaders(
        seen, False, {"upstream.request_attempt_count": 2}, {"edge": {"exchange": sent.metadata["edge"]["exchange"]}}
    )
    (command,) = talk(stage.attempt(), upstream)

    assert isinstance(command, Replace)
    assert "secret-of-anthropic" == dict(command.set_headers)["x-api-key"]
    assert "authorization" in command.remove_headers
    assert str(len(command.body)) == command.metadata["edge"]["content_length"]
    assert "max_tokens" in json.loads(command.body)

    talk(exchange, answered(attempt=2), whole(ANTHROPIC_REPLY))
    exchange.closed("done")
    settled = stage.settled[-1]
    assert ("anthropic", 2, "cross", ("seed",)) == (
        settled.provider,
        settled.attempts,
        settled.lane,
        settled.dropped,
    )


@pytest.mark.parametrize("metadata", [{}, {"edge": {"exchange": "unknown"}}, {"edge": {"exchange": 7}}])
def test_a_retry_of_an_exchange_that_is_not_here_is_a_clear_error(stage, metadata):
    (command,) = talk(stage.attempt(), RequestHeaders((), False, {"upstream.request_attempt_count": 2}, metadata))

    assert (503, "edge_exchange_unknown") == (command.status, command.details)


def test_an_attempt_knows_only_request_headers(stage):
    with pytest.raises(PeerError):
        talk(stage.attempt(), RequestBody(b"", True))
    stage.attempt().closed("done")


# --- errors that are not ours


def test_an_error_of_the_provider_is_told_in_the_callers_words(stage):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    commands, settled = run(stage, headers(), asked("claude"), answered(529, ("retry-after", "7")), whole(error))

    assert "Overloaded" == json.loads(commands[3].body)["error"]["message"]
    assert dict(commands[3].set_headers)[":status"] == str(settled.status)
    assert ("upstream_error", None) == (settled.outcome, settled.usage)


def test_an_error_without_a_body_gets_one(stage):
    commands, settled = run(stage, headers(), asked(), answered(503, ("retry-after", "7"), end=True))

    assert isinstance(commands[2], ImmediateResponse)
    assert (503, "7") == (commands[2].status, dict(commands[2].headers)["retry-after"])
    assert "upstream_error" == settled.outcome
    assert [("failed", 7.0)] == [(each.verdict, each.retry_after) for each in settled.attempt_results]


def test_envoys_own_reply_is_told_in_our_words(stage):
    details = "upstream_reset_before_response_started{connection_failure}"
    events = headers("/v1/messages"), asked("claude", max_tokens=5), answered(503, details=details)
    commands, settled = run(stage, *events, whole(b"upstream connect error or disconnect"))

    assert ("buffered", "api_error") == (commands[2].response_body, json.loads(commands[3].body)["error"]["type"])
    assert "502" == dict(commands[3].set_headers)[":status"]
    assert ("upstream_error", "provider_unreachable") == (settled.outcome, settled.code)


def test_a_body_over_envoys_limit_is_told_in_our_words(stage):
    commands, settled = run(stage, headers(), answered(413, details="request_payload_too_large"), whole(b"Payload"))

    assert "request_too_large" == json.loads(commands[2].body)["error"]["code"]
    assert (413, "request_too_large") == (settled.status, settled.code)
    assert "rejected" == settled.outcome


@pytest.mark.parametrize(
    ("status", "type", "outcome"),
    [
        (400, "invalid_request_error", "refused"),
        (413, "request_too_large", "refused"),
        (401, "authentication_error", "upstream_error"),
        (403, "permission_error", "upstream_error"),
        (404, "not_found_error", "upstream_error"),
        (429, "rate_limit_error", "upstream_error"),
        (500, "api_error", "upstream_error"),
    ],
)
def test_what_a_provider_refuses_for_the_callers_own_mistake_is_not_held_against_it(stage, status, type, outcome):
    error = {"type": "error", "error": {"type": type, "message": "no"}}
    _, settled = run(stage, headers(), asked("claude"), answered(status), whole(error))

    assert outcome == settled.outcome
    assert settled.kind is not None


@pytest.mark.parametrize("reply", [b"<html>", b"", b"null", b"[]", b"{}"])
def test_a_reply_that_is_none_is_the_providers_error(stage, reply):
    commands, settled = run(stage, headers(), asked(), answered(), whole(reply))

    assert (502, "upstream_error") == (commands[3].status, settled.outcome)


def test_a_reply_without_a_body_is_the_providers_error(stage):
    commands, settled = run(stage, headers(), asked(), answered(end=True))

    assert (502, "upstream_error") == (commands[2].status, settled.outcome)


# --- ends


def test_every_end_settles_once(stage):
    exchange = stage.exchange()
    talk(exchange, headers(), asked())
    assert 1 == len(stage.open)
    exchange.closed("cancelled")
    exchange.closed("done")

    assert ["caller_left"] == [settled.outcome for settled in stage.settled]
    assert 0 == len(stage.open)


@pytest.mark.parametrize(
    ("why", "outcome"), [("done", "caller_left"), ("stopping", "stopped"), ("error", "gateway_error")]
)
def test_why_an_unfinished_exchange_ended(stage, why, outcome):
    _, settled = run(stage, headers(), asked(), why=why)

    assert outcome == settled.outcome


def test_a_stream_that_nothing_was_heard_of_settles_too(stage):
    exchange = stage.exchange()
    exchange.closed("done")

    assert ("caller_left", None, None) == (stage.settled[0].outcome, stage.settled[0].status, stage.settled[0].tenant)


def test_a_caller_who_leaves_a_stream_is_billed(stage):
    events = headers(), asked(stream=True), answered(content_type=SSE), *chunks(*OPENAI_STREAM[:2], end=False)
    _, settled = run(stage, *events)

    assert ("caller_left", True) == (settled.outcome, settled.estimated)
    assert settled.cost > 0


def test_a_prompt_that_no_dialect_reads_is_estimated_by_its_text(stage):
    odd = body({"model": "chat", "stream": True, "messages": [{"role": "wizard", "content": "word " * 100}]})
    _, settled = run(stage, headers(), odd, answered(content_type=SSE), *chunks(*OPENAI_STREAM[:2], end=False))

    assert settled.usage.input >= 100


def test_an_unknown_price_is_unpriced_and_not_free(stage):
    stage.having(models=type(stage.gateway.models)({"chat": [Candidate("openai", "unpriced")]}))
    _, settled = run(stage, headers(), asked(), answered(), whole(OPENAI_REPLY))

    assert (None, True) == (settled.cost, settled.unpriced)


def test_a_bug_of_ours_is_a_neutral_500_and_reported(stage):
    def stumble(*_):
        raise RuntimeError(f"secret {KEY}")

    stage.having(new_id=lambda: "x")
    object.__setattr__(stage.gateway.planner, "plan", stumble)
    try:
        (_, command), settled = run(stage, headers(), asked())
    finally:
        object.__delattr__(stage.gateway.planner, "plan")

    assert (500, "internal") == (command.status, json.loads(command.body)["error"]["code"])
    assert KEY.encode() not in command.body
    assert ("gateway_error", [RuntimeError]) == (settled.outcome, [type(bug) for bug in stage.bugs])


@pytest.mark.parametrize(
    "events",
    [
        (whole(b""),),
        (headers(), headers()),
        (headers(), asked(), asked()),
        (headers(), asked(), answered(), answered()),
        (headers(), asked(), answered(), whole(OPENAI_REPLY), whole(b"")),
    ],
)
def test_what_envoy_should_not_send_is_its_error(stage, events):
    with pytest.raises(PeerError):
        talk(stage.exchange(), *events)


def test_trailers_pass(stage):
    commands, settled = run(
        stage,
        headers(),
        RequestBody(asked().body, False),
        RequestTrailers(),
        answered(),
        whole(OPENAI_REPLY),
        ResponseTrailers(),
    )

    assert (CONTINUE, CONTINUE) == (commands[2], commands[5])
    assert "ok" == settled.outcome


def test_a_response_to_a_request_that_we_never_saw_passes(stage):
    commands, settled = run(stage, answered(403, details="rbac_access_denied"), whole(b"denied"))

    assert ([CONTINUE, CONTINUE], "rejected") == (commands, settled.outcome)
    assert (403, "gateway_error") == (settled.status, settled.code)


def test_a_good_response_to_a_request_that_we_never_saw_is_a_good_one(stage):
    commands, settled = run(stage, answered(200, details="direct_response"), whole(b"hello"))

    assert ([CONTINUE, CONTINUE], "ok", 200) == (commands, settled.outcome, settled.status)


def test_the_trace_of_the_caller_is_in_the_settlement(stage):
    parent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    _, settled = run(stage, headers("/v1/chat/completions", parent), asked())

    assert ("0af7651916cd43dd8448eb211c80319c", "request-1") == (settled.trace_id, settled.request_id)


MINE = ("x-edge-request-id", "mine-1")


@pytest.mark.parametrize(("key", "kind"), [(KEY, Continue), (None, ImmediateResponse)])
def test_the_callers_own_request_id_goes_with_the_first_answer(stage, key, kind):
    (first, *_), settled = run(stage, headers("/v1/chat/completions", MINE, key=key))

    assert isinstance(first, kind)
    assert ("mine-1", "mine-1") == (first.metadata["edge"]["request_id"], settled.request_id)


@pytest.mark.parametrize("more", [(), (("x-edge-request-id", "not valid"),)])
def test_without_a_valid_id_of_the_caller_envoys_counts(stage, more):
    (first, *_), settled = run(stage, headers("/v1/chat/completions", *more))

    assert (None, "request-1") == (first.metadata, settled.request_id)


def test_a_long_list_of_what_was_dropped_is_cut(stage):
    many = {f"field_{n}_é": n for n in range(400)}
    commands, _ = run(stage, headers(), asked("claude", **many), answered(), whole(ANTHROPIC_REPLY))
    told = dict(commands[2].set_headers)["x-edge-dropped"]

    assert told.endswith(", ...")
    assert told.isascii()
    assert len(told) < 2100


# --- what a provider reports of its usage


def with_usage(usage):
    return whole(json.dumps({**OPENAI_REPLY, "usage": 0}).replace('"usage": 0', f'"usage": {usage}').encode())


ABSURD = ("18446744073709551615", "1e300", "1" + 30 * "0", "-5", '"5"', "true", "null", "NaN")


@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("streams", [False, True])
def test_an_absurd_usage_is_estimated_and_does_not_spoil_the_bill(stage, absurd, streams):
    usage = f'{{"prompt_tokens": {absurd}, "completion_tokens": {absurd}, "total_tokens": {absurd}}}'
    if streams:
        last = b'data: {"id":"c1","choices":[],"usage":' + usage.encode() + b"}\n\n"
        wire = (*OPENAI_STREAM[:3], last, OPENAI_STREAM[4])
        _, settled = run(stage, headers(), asked(stream=True), answered(content_type=SSE), *chunks(*wire))
    else:
        _, settled = run(stage, headers(), asked(), answered(), with_usage(usage))

    assert ("ok", True, False) == (settled.outcome, settled.estimated, settled.unpriced)
    assert 0 < settled.usage.prompt < 100
    assert 0 < settled.usage.completion < 100
    assert settled.usage.total == settled.cost
    assert (0 if absurd == "null" else 3) == settled.usage.unreadable


@pytest.mark.parametrize("absurd", ABSURD)
def test_one_absurd_count_leaves_the_other_as_it_was_reported(stage, absurd):
    usage = f'{{"prompt_tokens": 5, "completion_tokens": {absurd}}}'
    _, settled = run(stage, headers(), asked(), answered(), with_usage(usage))

    assert (5, 1, True) == (settled.usage.prompt, settled.usage.completion, settled.estimated)


def test_a_reply_without_usage_is_estimated_as_a_stream_is(stage):
    plain = {key: value for key, value in OPENAI_REPLY.items() if key != "usage"}
    _, settled = run(stage, headers(), asked(), answered(), whole(plain))

    assert ("ok", True) == (settled.outcome, settled.estimated)
    assert settled.usage.prompt > 0
    assert settled.usage.completion > 0
    assert settled.cost > 0


def test_more_tokens_than_a_call_can_come_to_are_not_believed(stage):
    usage = '{"prompt_tokens": 90000000, "completion_tokens": 90000000}'
    _, settled = run(stage, headers(), asked(), answered(), with_usage(usage))

    assert (True, 2) == (settled.estimated, settled.usage.unreadable)
    assert settled.cost < 100


def test_a_reported_usage_is_no_estimate(stage):
    usage = '{"prompt_tokens": 9000000, "completion_tokens": 0, "total_tokens": 9000000}'
    _, settled = run(stage, headers(), asked(), answered(), with_usage(usage))

    assert (9_000_000, False) == (settled.cost, settled.estimated)


# --- the time to the first token


@pytest.mark.parametrize(
    "first",
    [
        chunk({"content": "Hi"}),
        chunk({"reasoning_content": "Hm"}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_time_to_the_first_token_is_not_that_of_the_first_byte(stage, path, first):
    before = (b": keep-alive\n\n", chunk({"role": "assistant", "content": ""}), b": keep-alive\n\n")
    times = []
    for count in (0, 3):
        wire = (*before[:count], first, *OPENAI_STREAM[2:])
        asks = asked(stream=True, max_tokens=5)
        _, settled = run(stage, headers(path), asks, answered(content_type=SSE), *chunks(*wire))
        times.append((settled.time_to_first_token, settled.attempt_results[-1].first_token))

    (early, early_try), (late, late_try) = times
    assert late > early
    assert late_try > early_try


def test_a_stream_without_any_token_has_no_time_to_the_first(stage):
    wire = (chunk({"role": "assistant", "content": ""}), *OPENAI_STREAM[2:])
    _, settled = run(stage, headers(), asked(stream=True), answered(content_type=SSE), *chunks(*wire))

    assert (None, None) == (settled.time_to_first_token, settled.attempt_results[-1].first_token)


# --- parts of a reply that the caller's format has no place for

PICTURED = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [{"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}],
            },
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1120, "totalTokenCount": 1125},
}


@pytest.fixture
def pictures():
    stage = Stage()
    models = type(stage.gateway.models)({"chat": [Candidate("google", "gemini-2.5-flash-image")]})
    return stage.having(models=models, planner=planner(models))


def test_a_picture_that_the_caller_cannot_be_given_is_named(pictures):
    commands, settled = run(pictures, headers("/v1/messages"), asked(max_tokens=5), answered(), whole(PICTURED))

    assert "reply.image" in dict(commands[3].set_headers)["x-edge-dropped"]
    assert b"It was left out." in commands[3].body
    assert "reply.image" in settled.dropped


def test_a_picture_reaches_a_caller_of_chat(pictures):
    commands, settled = run(pictures, headers(), asked(), answered(), whole(PICTURED))
    message = json.loads(commands[3].body)["choices"][0]["message"]

    assert "x-edge-dropped" not in dict(commands[3].set_headers)
    assert ["data:image/png;base64,aGk="] == [image["image_url"]["url"] for image in message["images"]]
    assert () == settled.dropped


def test_a_stream_with_a_picture_that_the_caller_cannot_be_given_says_so(pictures):
    wire = b"data: " + json.dumps(PICTURED).encode() + b"\n\n"
    asks = asked(max_tokens=5, stream=True)
    commands, settled = run(pictures, headers("/v1/messages"), asks, answered(content_type=SSE), *chunks(wire))

    assert b"It was left out." in b"".join(command.body or b"" for command in commands[3:])
    assert ("reply.image",) == settled.dropped


# --- a stream under another content type

ODD_TYPES = ["text/plain", "application/octet-stream", "", "text/plain; charset=utf-8"]


@pytest.mark.parametrize("kind", ODD_TYPES)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_under_another_content_type_is_one_as_it_comes(stage, kind, path):
    expected, _ = run(
        stage, headers(path), asked(stream=True, max_tokens=5), answered(content_type=SSE), *chunks(*OPENAI_STREAM)
    )
    pieces = [part for each in OPENAI_STREAM for part in (each[:3], each[3:])]
    commands, settled = run(
        stage, headers(path), asked(stream=True, max_tokens=5), answered(content_type=kind), *chunks(*pieces)
    )

    def told(commands, parts):
        return b"".join(
            part if command == CONTINUE else command.body or b""
            for command, part in zip(commands[3:], parts, strict=False)
        )

    assert told(expected, OPENAI_STREAM) == told(commands, pieces)
    assert dict(commands[2].set_headers)["content-type"].startswith(SSE)
    assert "streamed" == commands[2].response_body
    assert ("ok", "stop", 7, False) == (settled.outcome, settled.finish, settled.cost, settled.estimated)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_that_calls_itself_json_is_read(stage, path, stream):
    asks = asked(stream=stream, max_tokens=5)
    commands, settled = run(stage, headers(path), asks, answered(), whole(b"".join(OPENAI_STREAM)))

    assert b"Hi" in commands[3].body
    assert ("text/event-stream" if stream else "application/json") in dict(commands[3].set_headers)["content-type"]
    assert ("ok", 7) == (settled.outcome, settled.cost)


@pytest.mark.parametrize("kind", ODD_TYPES)
def test_json_under_another_content_type_becomes_the_stream_that_was_asked_for(stage, kind):
    raw = json.dumps(OPENAI_REPLY).encode()
    commands, settled = run(
        stage, headers("/v1/messages"), asked(stream=True, max_tokens=5), answered(content_type=kind),
        *chunks(raw[:10], raw[10:]),
    )  # fmt: skip

    assert b"message_stop" in commands[-1].body
    assert ("ok", 7) == (settled.outcome, settled.cost)


def test_what_is_neither_breaks_the_stream(stage):
    commands, settled = run(
        stage, headers(), asked(stream=True), answered(content_type="text/plain"), *chunks(b"out of ", b"memory")
    )

    assert b'"error"' in commands[-1].body
    assert "broken_stream" == settled.outcome


# --- tools that only the caller's format has


@pytest.mark.parametrize("stream", [False, True])
def test_a_custom_tool_is_called_through_another_format(stage, stream):
    used = {"type": "tool_use", "id": "toolu_1", "name": "patch", "input": {"input": "*** Begin"}}
    reply = {**ANTHROPIC_REPLY, "content": [used], "stop_reason": "tool_use"}
    asks = body({"model": "claude", "input": "Go.", "tools": [{"type": "custom", "name": "patch"}], "stream": stream})
    commands, settled = run(stage, headers("/v1/responses"), asks, answered(), whole(reply))
    told = commands[3].body.decode()
    last = told.rstrip().rpartition("data: ")[2] if stream else told
    (item,) = (json.loads(last)["response"] if stream else json.loads(last))["output"]

    assert ["patch"] == [tool["name"] for tool in json.loads(commands[1].body)["tools"]]
    assert ("custom_tool_call", "patch", "*** Begin") == (item["type"], item["name"], item["input"])
    assert ("cross", "tool_calls") == (settled.lane, settled.finish)


@pytest.mark.parametrize(("length", "is_sent"), [(100, True), (100_000, False)])
def test_a_large_body_that_does_not_change_is_not_sent_back(length: int, is_sent: bool) -> None:
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * length}]}
    _, command = talk(Stage().exchange(), headers("/v1/chat/completions", ("content-length", "7")), body(asked))

    assert isinstance(command, Continue)
    assert is_sent == (command.body is not None)
    assert str(len(json.dumps(asked))) == dict(command.set_headers)["content-length"]


def test_a_large_body_that_changes_is_sent_whole() -> None:
    asked = {"model": "chat", "messages": [{"role": "user", "content": "x" * 100_000}]}
    _, command = talk(Stage().exchange(), headers(), body(asked))

    assert isinstance(command, Continue)
    assert {**asked, "model": "gpt-4o-mini"} == json.loads(command.body or b"")
