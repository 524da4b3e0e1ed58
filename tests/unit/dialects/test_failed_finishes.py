"""An answer that its provider broke off never ends clean: in every format, whole and streamed, for every caller."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cells import each_cell
from translating import CHAT, EVERY, GEMINI, MESSAGES, RESPONSES, chunk, sse

from edge_extproc.codecs import aws_eventstream
from edge_extproc.errors import UpstreamError
from edge_extproc.exchange.relay import CrossRelay, RawRelay
from edge_extproc.model.call import Call
from edge_extproc.registry import load

BEDROCK = "bedrock_converse"
SOURCES = (CHAT, MESSAGES, GEMINI, BEDROCK)
FAILURES = ("insufficient_system_resource", "network_error", "abort", "error", "cancelled", "timeout", "server_error")
# No limit of the answer's length.
REFUSALS = ("rate_limit", "rate_limit_exceeded", "insufficient_quota")
# In another format's words: reason, what a chat completion says of it.
IN_OTHER_WORDS = {
    "repetition": "length",
    "sensitive": "content_filter",
    "RECITATION": "content_filter",
    "content_filter": "content_filter",
    "length": "length",
    "model_context_window_exceeded": "length",
}
BARE_ERRORS: tuple[Any, ...] = ({"message": "engine dead", "code": 500}, {"detail": "engine dead"})


def frame(kind: str, value: Any) -> bytes:
    return aws_eventstream.event(kind, json.dumps(value).encode())


def stream(source: str, reason: str | None, error: Any = None) -> bytes:
    """Half an answer of this format that ends for this reason, or in an error."""
    match source:
        case "openai_chat":
            ends = (error,) if error else (chunk({}, reason), "[DONE]")
            return sse(chunk({"content": "half"}), *ends)
        case "anthropic_messages":
            ends = ({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {}}, {"type": "message_stop"})
            return sse(
                {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 1}}},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "half"}},
                {"type": "content_block_stop", "index": 0},
                *((error,) if error else ends),
            )
        case "gemini_generate":
            half = {"candidates": [{"content": {"parts": [{"text": "half"}]}}]}
            ends = (error,) if error else ({"candidates": [{"finishReason": reason}]},)
            return sse(half, *ends)
        case _:
            half = frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "half"}})
            return half + frame("messageStop", {"stopReason": reason}) + frame("metadata", {"usage": {}})


def reply(source: str, reason: str) -> bytes:
    match source:
        case "openai_chat":
            body: Any = {"choices": [{"message": {"content": "half"}, "finish_reason": reason}]}
        case "anthropic_messages":
            body = {"type": "message", "content": [{"type": "text", "text": "half"}], "stop_reason": reason}
        case "gemini_generate":
            body = {"candidates": [{"content": {"parts": [{"text": "half"}]}, "finishReason": reason}]}
        case _:
            body = {"output": {"message": {"content": [{"text": "half"}]}}, "stopReason": reason}
    return json.dumps(body).encode()


def crossed(source: str, target: str, data: bytes) -> tuple[CrossRelay, bytes]:
    writer = load("dialects", target).writer(Call(target, "chat", "m", stream=True, raw=b"{}"))
    dialect = load("dialects", source)
    relay = CrossRelay(dialect.reader(dialect.stream_type), writer)
    return relay, relay.feed(data) + relay.close()


PAIRS = [f"{source} {target} {reason}" for source in SOURCES for target in EVERY for reason in FAILURES]


@each_cell("cell", PAIRS)
def test_a_stream_that_was_broken_off_ends_in_an_error_for_every_caller(cell: str) -> None:
    source, target, reason = cell.split()
    relay, out = crossed(source, target, stream(source, reason))

    assert relay.tally.failed is not None
    assert not relay.tally.ended
    assert reason.encode() in out
    assert not any(end in out for end in (b"[DONE]", b"message_stop", b"response.completed", b"messageStop"))


@each_cell("cell", [f"{source} {reason}" for source in SOURCES for reason in FAILURES])
def test_a_whole_reply_that_was_broken_off_is_an_error(cell: str) -> None:
    source, reason = cell.split()
    with pytest.raises(UpstreamError, match=reason) as raised:
        load("dialects", source).read_reply(reply(source, reason))

    assert "answer_broken_off" == raised.value.fault().code
    assert raised.value.fault().status >= 500


@each_cell("cell", [f"{source} {target} {reason}" for source in SOURCES for target in EVERY for reason in REFUSALS])
def test_a_limit_of_the_callers_calls_is_no_limit_of_the_length(cell: str) -> None:
    source, target, reason = cell.split()
    relay, _ = crossed(source, target, stream(source, reason))

    assert relay.tally.failed is not None
    assert not relay.tally.ended
    with pytest.raises(UpstreamError, match=reason):
        load("dialects", source).read_reply(reply(source, reason))


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_a_malformed_call_is_no_call(target: str) -> None:
    relay, out = crossed(CHAT, target, stream(CHAT, "malformed_function_call"))

    assert relay.tally.failed is not None
    assert b"malformed tool call" in out


@each_cell("cell", [f"{source} {reason}" for source in SOURCES for reason in FAILURES])
def test_a_stream_of_the_callers_format_does_not_end_clean_either(cell: str) -> None:
    source, reason = cell.split()
    dialect = load("dialects", source)
    writer = dialect.writer(Call(source, "chat", "m", stream=True, raw=b"{}"))
    relay = RawRelay(dialect.reader(dialect.stream_type), writer, hide_usage=False)
    out = relay.feed(stream(source, reason)) + relay.close()

    assert relay.tally.failed is not None
    assert b"answer_broken_off" in out or b"stopped before the reply was complete" in out
    assert not any(end in out for end in (b"[DONE]", b"message_stop", b"messageStop"))


UNKNOWN = ("something_new", "42", "planned_stop_of_a_new_kind")
# How each format tells that a reply is not complete.
NOT_COMPLETE = {
    CHAT: b'"finish_reason":"length"',
    RESPONSES: b'"status":"incomplete"',
    MESSAGES: b'"stop_reason":"max_tokens"',
    GEMINI: b'"finishReason":"OTHER"',
    BEDROCK: b'"stopReason":"max_tokens"',
}


@each_cell("cell", [f"{s} {t} {r}" for s in SOURCES for t in NOT_COMPLETE for r in UNKNOWN if s != t])
def test_a_reason_of_which_nothing_is_known_is_no_clean_end(cell: str) -> None:
    source, target, reason = cell.split()
    _, out = crossed(source, target, stream(source, reason))
    whole = load("dialects", target).write_reply(load("dialects", source).read_reply(reply(source, reason)))

    assert NOT_COMPLETE[target] in out
    assert NOT_COMPLETE[target] in whole


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("eos_token", "stop"),
        ("COMPLETE", "stop"),
        ("finished", "stop"),
        ("TOOL_CALL", "tool_calls"),
        ("max_turns", "length"),
        ("ERROR_LIMIT", "length"),
        ("ERROR_TOXIC", "content_filter"),
        ("safety_policy", "content_filter"),
    ],
)
def test_a_reason_that_tells_what_it_means_is_read(reason: str, told: str) -> None:
    read = load("dialects", MESSAGES).read_reply(reply(MESSAGES, reason))

    finish = read.choices[0].finish
    assert finish is not None
    assert told == finish.reason


@pytest.mark.parametrize("reason", ["upstream_error", "GENERATION_FAILED", "timed_out", "user_cancel", "disconnected"])
@pytest.mark.parametrize("source", SOURCES)
def test_a_reason_that_tells_of_a_failure_is_one(source: str, reason: str) -> None:
    with pytest.raises(UpstreamError):
        load("dialects", source).read_reply(reply(source, reason))


@each_cell("cell", [f"{source} {reason}" for source in SOURCES for reason in IN_OTHER_WORDS])
def test_a_reason_in_another_formats_words_is_read(cell: str) -> None:
    source, reason = cell.split()
    _, out = crossed(source, CHAT, stream(source, reason))
    whole = json.loads(load("dialects", CHAT).write_reply(load("dialects", source).read_reply(reply(source, reason))))
    raw = [IN_OTHER_WORDS[reason], reason]  # the format of the reply keeps its word

    assert whole["choices"][0]["finish_reason"] in raw
    assert f'"finish_reason":"{IN_OTHER_WORDS[reason]}"'.encode() in out or reason.encode() in out
    assert b'"finish_reason":"stop"' not in out


@pytest.mark.parametrize("error", [*BARE_ERRORS, {"error": {"message": "engine dead"}}])
@pytest.mark.parametrize("source", [CHAT, MESSAGES, GEMINI])
@pytest.mark.parametrize("target", EVERY)
def test_an_error_without_the_object_around_it_is_told(source: str, target: str, error: Any) -> None:
    relay, out = crossed(source, target, stream(source, None, error))

    assert relay.tally.failed is not None
    assert b"engine dead" in out


@pytest.mark.parametrize("status", ["incomplete", "cancelled"])
@pytest.mark.parametrize("reason", ["max_output_tokens", "something_new", None])
def test_a_response_that_is_not_whole_is_told_as_cut_off(status: str, reason: str | None) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":', "status": "incomplete"}
    response = {"id": "resp_1", "output": [call], "status": status, "incomplete_details": {"reason": reason}}
    read = load("dialects", RESPONSES).read_reply(json.dumps(response).encode())

    assert "length" == json.loads(load("dialects", CHAT).write_reply(read))["choices"][0]["finish_reason"]
    assert "max_tokens" == json.loads(load("dialects", MESSAGES).write_reply(read))["stop_reason"]
    assert "MAX_TOKENS" == json.loads(load("dialects", GEMINI).write_reply(read))["candidates"][0]["finishReason"]


CUT = '{"path": "/etc", "text": "ha'


@pytest.mark.parametrize("target", [*EVERY, BEDROCK])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_truncated_call_is_not_written_as_a_complete_one(target: str, streamed: bool) -> None:
    dialect = load("dialects", target)
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "write", "arguments": CUT}}
    if streamed:
        _, out = crossed(CHAT, target, sse(chunk({"tool_calls": [call]}), chunk({}, "length"), "[DONE]"))
    else:
        choice = {"index": 0, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "length"}
        source = load("dialects", CHAT)
        cut = source.read_reply(json.dumps({"id": "r", "model": "m", "choices": [choice]}).encode())
        out = dialect.write_reply(replace(cut, call=Call(target, "chat", "m", stream=False, raw=b"{}")))

    assert any(word in out for word in (b"length", b"max_tokens", b"MAX_TOKENS", b"max_output_tokens"))
    assert not any(word in out for word in (b'"tool_use"}', b"response.completed", b'"finish_reason":"tool_calls"'))
    assert target != GEMINI or b"functionCall" not in out
    assert streamed or target not in (MESSAGES, BEDROCK) or b'"write"' not in out
    assert streamed or target not in (CHAT, RESPONSES) or json.dumps(CUT).encode() in out


def test_a_call_with_odd_arguments_in_a_complete_reply_stays() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "write", "arguments": "{odd}"}}
    _, out = crossed(CHAT, GEMINI, sse(chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), "[DONE]"))

    assert b"functionCall" in out


@pytest.mark.parametrize("response", [{"status": "failed"}, {"status": "completed", "error": {"message": "dead"}}])
@pytest.mark.parametrize("target", EVERY)
def test_a_last_event_with_a_failed_response_is_an_error(response: dict[str, Any], target: str) -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "half"}]}
    whole = {"id": "resp_1", "model": "m", "output": [item], **response}
    relay, out = crossed(RESPONSES, target, sse({"type": "response.completed", "response": whole}))

    assert relay.tally.failed is not None
    assert not any(end in out for end in (b"[DONE]", b"message_stop", b"response.completed"))


def test_a_response_with_an_unknown_status_is_not_written_as_completed() -> None:
    dialect = load("dialects", RESPONSES)
    read = dialect.read_reply(json.dumps({"id": "resp_1", "output": [], "status": "expired"}).encode())

    assert "incomplete" == json.loads(dialect.write_reply(read))["status"]
    assert "OTHER" == json.loads(load("dialects", GEMINI).write_reply(read))["candidates"][0]["finishReason"]


@pytest.mark.parametrize("target", EVERY)
def test_a_failure_in_the_first_event_of_messages_is_an_error(target: str) -> None:
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "stop_reason": "network_error"}}
    relay, _ = crossed(MESSAGES, target, sse(start, {"type": "message_stop"}))

    assert relay.tally.failed is not None
    assert "answer_broken_off" == relay.tally.failed.code


def test_a_paused_reply_is_not_complete_for_callers_of_converse() -> None:
    paused = load("dialects", MESSAGES).read_reply(reply(MESSAGES, "pause_turn"))

    assert "max_tokens" == json.loads(load("dialects", BEDROCK).write_reply(paused))["stopReason"]
