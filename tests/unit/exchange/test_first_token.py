"""The first-token guard, with Envoy played in memory."""

import gzip
import json

import pytest
from player import MODELS, Stage, answered, body, chunks, headers, planner, talk, tried, whole

from edge_extproc.exchange.commands import CONTINUE, HOLD, ImmediateResponse, Pass, Release, Replace
from edge_extproc.exchange.events import ResponseBody, ResponseHeaders, ResponseTrailers
from edge_extproc.exchange.first_token import MAX_HELD
from edge_extproc.exchange.headers import orders
from edge_extproc.model.plan import Fallback, Plan
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import HedgeSettings, ModelRoute

HELLO = [{"role": "user", "content": "Hello"}]
SSE = "text/event-stream"
OPENAI, ANTHROPIC = MODELS["guarded"]


def event(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta, finish=None):
    return event({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice(delta, finish)]})


def choice(delta, finish):
    return {"index": 0, "delta": delta, "finish_reason": finish}


ROLE = chunk({"role": "assistant", "content": ""})
TOKEN = chunk({"content": "Hi"})
ERROR = event({"error": {"message": "boom", "type": "server_error", "code": "oops"}})
TOO_LONG = json.dumps(
    {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
).encode()


def planned(stage, model="guarded", stream=True, **row):
    table = ModelTable(MODELS)
    if row:
        stage.having(planner=planner(table, rows={model: ModelRoute(**row)}))
    exchange = stage.exchange()
    command = talk(exchange, headers(), body({"model": model, "messages": HELLO, "stream": stream}))[1]
    return exchange, command


def guard(stage, number=1):
    found = stage.guard()
    return found, talk(found, tried(number))[0]


@pytest.fixture
def stage():
    found = Stage()
    planned(found)
    return found


def opened(stage):
    return stage.open.find("exchange-1")


# --- the request


def test_envoy_is_told_how_to_try_a_guarded_stream():
    _, command = planned(Stage())
    told = dict(command.set_headers)

    assert command.metadata["edge"]["guard"]
    assert "1" == told["x-envoy-max-retries"]
    assert "x-edge-route" not in told


def test_a_reply_with_several_candidates_is_not_guarded():
    _, command = planned(Stage(), stream=False)

    assert not command.metadata["edge"]["guard"]


def test_the_first_try_is_left_as_the_router_level_wrote_it(stage):
    assert CONTINUE == guard(stage)[1]


def test_a_later_try_is_written_for_its_candidate(stage):
    command = guard(stage, 2)[1]

    assert isinstance(command, Replace)
    assert "secret-of-anthropic" == dict(command.set_headers)["x-api-key"]
    assert 2 in opened(stage).journal.began


def test_a_try_that_nobody_here_knows_is_refused(stage):
    (command,) = talk(stage.guard(), tried(1, "of-a-dead-worker"))

    assert (503, "edge_exchange_unknown") == (command.status, command.details)


# --- before the first token


def test_headers_are_held_until_the_first_token_and_then_all_bytes_pass(stage):
    watching, _ = guard(stage)
    commands = talk(watching, answered(content_type=SSE), *chunks(ROLE, TOKEN, b"data: more\n\n"))

    assert [HOLD, HOLD, Release(body=ROLE + TOKEN), Pass(b"data: more\n\n", False), Pass(b"", True)] == commands


def test_a_stream_that_comes_at_once_passes_at_once(stage):
    watching, _ = guard(stage)

    assert [HOLD, Release(body=ROLE + TOKEN, end=True)] == talk(
        watching, answered(content_type=SSE), ResponseBody(ROLE + TOKEN, True)
    )


@pytest.mark.parametrize(
    "sent",
    [
        chunk({"content": "Hi"}, "stop").rstrip(),
        ROLE + chunk({}, "stop"),
        ROLE + chunk({}, "stop").rstrip(),
        ROLE + b"data: [DONE]",
    ],
)
def test_a_stream_whose_output_shows_only_at_its_end_passes(stage, sent):
    watching, _ = guard(stage)
    *_, last = talk(watching, answered(content_type=SSE), *chunks(sent))

    assert Release(body=sent, end=True) == last


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        ((ERROR,), "502", "oops"),
        ((ROLE, ERROR), "502", "oops"),
        ((), "502", "stream_truncated"),
        ((ROLE,), "502", "stream_truncated"),
        ((b": only a comment\n\n",), "502", "stream_truncated"),
        ((b"data: {no json\n\n",), "502", "stream_truncated"),
    ],
)
def test_what_fails_before_the_first_token_becomes_an_error_that_envoy_retries(stage, parts, status, reason):
    watching, _ = guard(stage)
    commands = talk(watching, answered(content_type=SSE), *chunks(*parts))
    (failed,) = [command for command in commands if isinstance(command, Release)]

    to_set = dict(failed.set_headers)
    assert int(to_set[":status"]) >= 500
    assert {"content-encoding", "content-length"} <= set(failed.remove_headers)
    assert failed.end
    assert "error" in json.loads(failed.body)
    learned = opened(stage).journal.ended[1]
    assert (OPENAI, "failed", reason) == (learned.candidate, learned.verdict, learned.reason)


@pytest.mark.parametrize(("status", "learned"), [(429, ("failed", 300.0)), (400, ("ok", None))])
def test_for_how_long_a_provider_that_fails_wants_to_be_left_alone_is_noted(stage, status, learned):
    watching, _ = guard(stage)
    talk(watching, answered(status, ("retry-after", "300")), whole(b"{}"))
    found = opened(stage).journal.ended[1]

    assert learned == (found.verdict, found.retry_after)


def test_what_the_provider_still_sends_after_its_error_is_dropped(stage):
    watching, _ = guard(stage)
    commands = talk(watching, answered(content_type=SSE), *chunks(ERROR, b"data: more\n\n"))

    assert [HOLD, HOLD] == commands[2:]


def test_headers_without_a_body_are_an_empty_stream(stage):
    watching, _ = guard(stage)
    (failed,) = talk(watching, answered(content_type=SSE, end=True))

    assert ("502", True) == (dict(failed.set_headers)[":status"], failed.end)


def test_a_compressed_stream_is_read_and_passes_compressed(stage):
    watching, _ = guard(stage)
    squeezed = gzip.compress(ROLE + TOKEN)
    commands = talk(watching, answered(200, ("content-encoding", "gzip"), content_type=SSE), *chunks(squeezed))

    assert [HOLD, Release(body=squeezed), Pass(b"", True)] == commands


@pytest.mark.parametrize("encoding", ["gzip", "unheard-of"])
def test_a_stream_that_cannot_be_decoded_fails(stage, encoding):
    watching, _ = guard(stage)
    commands = talk(watching, answered(200, ("content-encoding", encoding), content_type=SSE), *chunks(b"no gzip"))

    assert ["502"] == [dict(c.set_headers)[":status"] for c in commands if isinstance(c, Release)]


def test_a_guard_is_no_buffer(stage):
    watching, _ = guard(stage)
    long = b": " + b"x" * MAX_HELD + b"\n\n"

    assert Release(body=long) == talk(watching, answered(content_type=SSE), *chunks(long))[1]


def test_with_nobody_left_to_ask_the_caller_is_told_by_the_router_level(stage):
    exchange, _ = planned(stage)
    watching = stage.guard()
    commands = talk(watching, tried(2, exchange.id), answered(content_type="text/event-stream"), whole(b""))
    reply = commands[-1]
    assert (ImmediateResponse, "edge_first_token") == (type(reply), reply.details)

    local = answered(reply.status, details="edge_first_token", attempt=2)
    told = talk(exchange, local, whole(reply.body))[-1]
    exchange.closed("done")
    settled = stage.settled[-1]
    assert "truncated_stream" == json.loads(told.body)["error"]["code"]
    assert [("openai", "failed"), ("anthropic", "failed")] == [
        (t.candidate.provider, t.verdict) for t in settled.attempt_results
    ]
    assert ("anthropic", "upstream_error") == (settled.provider, settled.outcome)


# --- what is no stream


def test_an_error_answer_is_envoys_to_judge(stage):
    for status, verdict in ((503, "failed"), (404, "ok")):
        watching, _ = guard(stage)
        assert [CONTINUE, Pass(b"{}", True)] == talk(watching, answered(status), whole(b"{}"))
        assert verdict == opened(stage).journal.ended[1].verdict


REPLY = json.dumps(
    {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [], "usage": {}}
).encode()


@pytest.mark.parametrize("status", [1, 99, 600, 999])
def test_a_status_that_http_does_not_have_becomes_one_that_envoy_retries(stage, status):
    watching, _ = guard(stage)
    (command,) = talk(watching, answered(status, content_type=SSE))

    assert isinstance(command, Release)
    assert ("502", True) == (dict(command.set_headers)[":status"], command.end)
    assert f"the provider answered with status {status}".encode() in command.body


@pytest.mark.parametrize("stream", [True, False])
def test_a_whole_reply_is_held_until_it_is_whole(stream):
    stage = Stage()
    planned(stage, stream=stream, guard="on")
    watching, _ = guard(stage)
    halves = ResponseBody(REPLY[:9], False), ResponseBody(REPLY[9:], True)

    assert [HOLD, HOLD, Release(body=REPLY, end=True)] == talk(watching, answered(), *halves)


@pytest.mark.parametrize("reply", [b"", b"<html>", REPLY[:-1], b'{"error":{"message":"boom"}}'])
def test_a_reply_that_is_none_becomes_an_error_that_envoy_retries(reply):
    stage = Stage()
    planned(stage, stream=False, guard="on")
    watching, _ = guard(stage)
    failed = talk(watching, answered(), whole(reply))[-1]

    assert "502" == dict(failed.set_headers)[":status"]
    assert "failed" == opened(stage).journal.ended[1].verdict


def test_trailers_and_a_repeated_end_are_nothing(stage):
    watching, _ = guard(stage)
    events = answered(content_type=SSE), *chunks(TOKEN), ResponseBody(b"", True), ResponseTrailers()

    assert [Pass(b"", True), CONTINUE] == talk(watching, *events)[-2:]


# --- another model for what this one cannot answer


SMALL = {"fallback": Fallback(context_length=(ANTHROPIC,))}


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_that_is_too_long_goes_to_the_model_that_config_names(stream):
    stage = Stage()
    _, command = planned(stage, "chat", stream, **SMALL)
    assert ("3", True) == (dict(command.set_headers)["x-envoy-max-retries"], command.metadata["edge"]["guard"])

    watching, _ = guard(stage)
    commands = talk(watching, answered(400), ResponseBody(TOO_LONG[:9], False), ResponseBody(TOO_LONG[9:], True))
    assert [HOLD, HOLD] == commands[:2]
    assert "503" == dict(commands[2].set_headers)[":status"]
    assert ("provider_openai", "provider_anthropic") == commands[2].order

    assert "x-api-key" in dict(guard(stage, 2)[1].set_headers)
    assert "ok" == opened(stage).journal.ended[1].verdict
    assert ANTHROPIC == opened(stage).plan.at(2)


def test_another_error_goes_to_the_caller_and_is_not_tried_again():
    stage = Stage()
    planned(stage, "chat", **SMALL)
    watching, _ = guard(stage)
    error = json.dumps({"error": {"message": "no", "type": "invalid_request_error"}}).encode()
    told = talk(watching, answered(400), whole(error))[-1]

    assert (error, True, ()) == (told.body, told.end, told.order)
    assert "x-envoy-ratelimited" in dict(told.set_headers)


def test_a_fallback_that_cannot_take_the_call_is_none():
    stage = Stage()
    table = ModelTable(MODELS)
    stage.having(planner=planner(table, rows={"chat": ModelRoute(**SMALL)}))
    talk(stage.exchange(), headers(), body({"model": "chat", "messages": HELLO, "logprobs": True}))
    watching, _ = guard(stage)

    assert () == talk(watching, answered(400), whole(TOO_LONG))[-1].order


def test_an_error_too_long_to_be_held_passes():
    stage = Stage()
    planned(stage, "chat", **SMALL)
    watching, _ = guard(stage)
    long = b"x" * (MAX_HELD + 1)
    commands = talk(watching, answered(400), *chunks(long))

    assert (long, False) == (commands[1].body, commands[1].end)
    assert Pass(b"", True) == commands[2]


# --- what Envoy is told


def test_a_call_that_must_not_be_sent_twice_takes_the_careful_route():
    stage = Stage()
    marked = headers("/v1/chat/completions", ("x-edge-no-retry", "true"))
    command = talk(stage.exchange(), marked, body({"model": "guarded", "messages": HELLO, "stream": True}))[1]

    assert "once" == dict(command.set_headers)["x-edge-route"]
    assert "x-edge-no-retry" in command.remove_headers
    assert not command.metadata["edge"]["guard"]


def test_a_single_candidate_is_asked_again_in_its_own_time():
    _, command = planned(Stage(), "chat")

    assert ("again", "2") == tuple(dict(command.set_headers)[n] for n in ("x-edge-route", "x-envoy-max-retries"))


def test_a_hedged_call_goes_to_a_pair_and_the_first_to_answer_is_billed_with_the_other():
    stage = Stage()
    exchange, command = planned(stage, hedge=HedgeSettings(at_least=0.25))
    told = dict(command.set_headers)
    assert ("250", "true") == (
        told["x-envoy-upstream-rq-per-try-timeout-ms"],
        told["x-envoy-hedge-on-per-try-timeout"],
    )
    assert ("pair_openai~anthropic",) == command.order

    talk(stage.guard(), tried(2, exchange.id))
    usage = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}})
    first_wins = ResponseHeaders(
        ((":status", "200"), ("content-type", SSE)),
        False,
        {
            "upstream.request_attempt_count": 2,
            "response.code_details": "via_upstream",
            'xds.upstream_host_metadata.filter_metadata["edge"]["provider"]': "openai",
        },
    )
    talk(exchange, first_wins, *chunks(TOKEN, chunk({}, "stop"), usage, b"data: [DONE]\n\n"))
    exchange.closed("done")
    settled = stage.settled[-1]

    assert ("openai", 7 + 5, True) == (settled.provider, settled.cost, settled.estimated)
    assert [("anthropic", "unknown"), ("openai", "ok")] == [
        (t.candidate.provider, t.verdict) for t in settled.attempt_results
    ]


def test_one_try_is_no_retry():
    assert (("x-envoy-max-retries", "0"), ("x-edge-route", "again")) == orders(Plan((OPENAI,), max_attempts=1))
