"""Streams of hosts that spell OpenAI's chat format in their own way, and of hosts that fail within one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from translating import CHAT, EVERY, MESSAGES, answer, caller_stream, carried, chunk, sse, stream_events, whole

from edge_extproc.dialects.openai_chat import PLUGIN
from edge_extproc.errors import UpstreamError
from edge_extproc.exchange.relay import CrossRelay
from edge_extproc.model.call import Call
from edge_extproc.model.content import Refusal, Text, Thinking, ToolCall
from edge_extproc.model.reply import Ended, Failed, Garbled
from edge_extproc.registry import load

END = (chunk({}, "stop"), "[DONE]")
CONVERSE = "bedrock_converse"
CLAUDE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "usage": {}}


def parts_of(*values: Any) -> tuple[Any, ...]:
    events = stream_events(CHAT, *values)
    assert isinstance(events[-1], Ended)
    return whole(CHAT, events).choices[0].parts


@pytest.mark.parametrize(
    "odd",
    [
        {"created": "1730000000"},
        {"created": None, "model": 7},
        {"usage": "none"},
        {"id": {"a": 1}},
        {"x_groq": "x"},
        {"system_fingerprint": 7},
    ],
)
def test_an_odd_field_beside_the_answer_does_not_cost_its_text(odd: dict[str, Any]) -> None:
    assert (Text("TEXT"),) == parts_of({**chunk({"content": "TEXT"}), **odd}, *END)


@pytest.mark.parametrize("index", ["0", 0.0, None, "x", [1]])
def test_an_index_in_another_spelling_is_one(index: Any) -> None:
    odd = chunk({"content": "TEXT"})
    odd["choices"][0]["index"] = index

    assert (Text("TEXT"),) == parts_of(odd, *END)


@pytest.mark.parametrize(
    "call",
    [
        {"index": "0", "id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"index": 0, "id": 7, "function": {"name": "f", "arguments": '{"a":1}'}},
        {"index": 0, "id": "c1", "function": {"name": "f", "arguments": {"a": 1}}, "type": 3},
    ],
)
def test_a_call_in_another_spelling_is_one(call: dict[str, Any]) -> None:
    (found,) = parts_of(chunk({"tool_calls": [call]}), *END)

    assert isinstance(found, ToolCall)
    assert ("f", {"a": 1}, str(call["id"])) == (found.name, json.loads(found.arguments), found.id)


def answered(choices: Any) -> tuple[Any, ...]:
    """The parts of a complete reply, without their paths."""
    (choice,) = PLUGIN.read_reply(json.dumps({"object": "chat.completion", "choices": choices}).encode()).choices
    return tuple(replace(part, path="") for part in choice.parts)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize(
    "thought", ["x", {"content": "x"}, {"text": "x"}, [{"type": "text", "text": "x"}], ["x"], ["", {"content": "x"}]]
)
def test_a_thought_within_another_value_is_read(thought: Any, field: str) -> None:
    message = {field: thought, "content": "y"}

    assert (Thinking("x"), Text("y")) == parts_of(chunk(message), *END)
    assert (Thinking("x"), Text("y")) == answered([{"message": message, "finish_reason": "stop"}])


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": ["TE", "XT"]}, ("TE", "XT")),
        ({"content": 5}, ("5",)),
        ({"content": "TEXT", "refusal": False, "tool_calls": {}}, ("TEXT",)),
    ],
)
def test_a_field_of_another_type_costs_no_complete_reply(message: dict[str, Any], parts: tuple[str, ...]) -> None:
    (streamed,) = parts_of(chunk(message), *END)

    assert tuple(map(Text, parts)) == answered([{"message": message, "finish_reason": "stop"}])
    assert Text("".join(parts)) == streamed


@pytest.mark.parametrize("refusal", ["no", ["n", "o"], {"text": "no"}, [{"type": "refusal", "text": "no"}]])
def test_a_refusal_within_another_value_is_read(refusal: Any) -> None:
    message = {"content": None, "refusal": refusal}

    assert (Refusal("no"),) == answered([{"message": message, "finish_reason": "stop"}])
    assert (Refusal("no"),) == parts_of(chunk(message), *END)


def test_a_call_with_a_number_as_its_id_costs_no_complete_reply() -> None:
    call = {"id": 7, "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    (found,) = answered([{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}])

    assert isinstance(found, ToolCall)
    assert ("7", "f", {"a": 1}) == (found.id, found.name, json.loads(found.arguments))


@pytest.mark.parametrize(
    "choices",
    [
        {"index": 0, "message": {"content": "TEXT"}, "finish_reason": "stop"},
        [{"index": 0, "text": "TEXT", "finish_reason": "stop"}],
        [{"index": 0, "delta": {"content": "TEXT"}, "finish_reason": "stop"}],
        {"index": 0, "message": None, "text": "TEXT"},
    ],
)
def test_a_complete_reply_in_another_shape_of_choices_is_read(choices: Any) -> None:
    assert (Text("TEXT"),) == answered(choices)


@pytest.mark.parametrize("choices", [[{"index": 0}], ["x"], [{"message": {"content": [7]}}], [{"message": "x"}]])
def test_a_reply_without_a_readable_answer_is_an_error(choices: Any) -> None:
    with pytest.raises(UpstreamError, match="cannot be read"):
        answered(choices)


def test_a_bare_code_and_message_are_an_error() -> None:
    """Zhipu and other hosts spell the message `msg`."""
    (failed,) = stream_events(CHAT, {"code": 1113, "msg": "Insufficient balance"}, *END)

    assert isinstance(failed, Failed)
    assert "Insufficient balance" == failed.fault.message
    with pytest.raises(UpstreamError, match="Insufficient balance"):
        PLUGIN.read_reply(b'{"code":1113,"msg":"Insufficient balance"}')


@pytest.mark.parametrize("choices", [["x"], "x", 7])
def test_choices_that_are_no_objects_are_unreadable(choices: Any) -> None:
    assert [Garbled("the choices of a chunk are not objects")] == stream_events(CHAT, {"choices": choices}, *END)[:1]


@pytest.mark.parametrize("delta", [{}, None])
def test_an_answer_told_whole_in_a_chunk_is_read(delta: Any) -> None:
    odd = chunk({}, "stop")
    odd["choices"][0] |= {"delta": delta, "message": {"role": "assistant", "content": "TEXT"}}

    assert (Text("TEXT"),) == parts_of(odd, "[DONE]")


@pytest.mark.parametrize(
    "choices",
    [
        {"index": 0, "delta": {"content": "TEXT"}},
        {"index": 0, "text": "TEXT"},
        [{"index": 0, "text": "TEXT", "delta": None}],
        [{"index": 0, "text": "TEXT", "delta": {}}],
    ],
)
def test_an_answer_in_another_shape_of_choices_is_read(choices: Any) -> None:
    assert (Text("TEXT"),) == parts_of({**chunk({}), "choices": choices}, *END)


@pytest.mark.parametrize(
    ("error", "message", "status"),
    [
        ({"result": None, "success": False, "errors": [{"code": 5007, "message": "no model"}]}, "no model", 502),
        ({"object": "error", "message": "engine dead", "code": 500}, "engine dead", 500),
        ({"detail": "no such thing"}, "no such thing", 502),
        ({"message": "rate limit", "code": "rate_limit_exceeded"}, "rate limit", 429),
        ({"error": "out of memory", "created": "x"}, "out of memory", 502),
    ],
)
def test_an_error_without_a_wrapper_breaks_the_stream(error: Any, message: str, status: int) -> None:
    last = stream_events(CHAT, chunk({"content": "half"}), error, *END)[-1]

    assert isinstance(last, Failed)
    assert (message, status) == (last.fault.message, last.fault.status)


@pytest.mark.parametrize(
    "reason", ["insufficient_system_resource", "network_error", "abort", "error", "cancelled", "timeout"]
)
@pytest.mark.parametrize("target", EVERY)
def test_a_finish_that_tells_of_a_failure_is_an_error(target: str, reason: str) -> None:
    events = stream_events(CHAT, chunk({"content": "half an ans"}), chunk({}, reason), "[DONE]")

    assert isinstance(events[-1], Failed)
    assert reason in events[-1].fault.message
    written = json.dumps(caller_stream(target, events))
    assert reason in written
    assert "error" in written
    body = {"choices": [{"message": {"content": "half"}, "finish_reason": reason}]}
    with pytest.raises(UpstreamError, match=reason):
        PLUGIN.read_reply(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("reason", "expected", "stop_reason"),
    [
        ("repetition", "length", "max_tokens"),
        ("sensitive", "content_filter", "refusal"),
        ("model_context_window_exceeded", "context_window", "model_context_window_exceeded"),
    ],
)
def test_a_finish_of_another_host_is_read(reason: str, expected: str, stop_reason: str) -> None:
    events = stream_events(CHAT, chunk({"content": "half"}), chunk({}, reason), "[DONE]")
    finish = whole(CHAT, events).choices[0].finish

    assert finish is not None
    assert expected == finish.reason
    (delta,) = (each for each in caller_stream(MESSAGES, events) if each["type"] == "message_delta")
    assert stop_reason == delta["delta"]["stop_reason"]


def crossed(*values: Any) -> bytes:
    call = Call(CHAT, "chat", "m", stream=True, raw=b"{}")
    relay = CrossRelay(PLUGIN.reader("text/event-stream"), PLUGIN.writer(call))
    return relay.feed(sse(*values)) + relay.close()


def test_a_stream_of_which_nothing_could_be_read_does_not_end_as_an_empty_answer() -> None:
    lost = crossed("{broken", chunk({}, "stop"), "[DONE]")

    assert b'"code":"unreadable_stream"' in lost
    assert b"[DONE]" not in lost


def test_a_stream_of_which_a_part_could_be_read_ends_as_it_does() -> None:
    assert crossed("{broken", chunk({"content": "Hi"}), *END).endswith(b"data: [DONE]\n\n")
    assert crossed(*END).endswith(b"data: [DONE]\n\n")


# --- reasons of the model's own provider


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("model_context_window_exceeded", "context_window"),
        ("tool_use", "tool_calls"),
        ("stop", "tool_calls"),
        (None, "tool_calls"),
        (7, "tool_calls"),
    ],
)
def test_a_call_that_the_models_provider_cut_off_is_cut_off(native: Any, reason: str) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"b'}}
    last = chunk({}, "tool_calls")
    last["choices"][0]["native_finish_reason"] = native
    streamed = whole(CHAT, stream_events(CHAT, chunk({"tool_calls": [call]}), last, "[DONE]"))
    choice = {
        "message": {"tool_calls": [call]},
        "finish_reason": "tool_calls",
        "native_finish_reason": native,
    }
    body = json.dumps({"id": "c1", "model": "m", "choices": [choice]}).encode()
    complete, summary = PLUGIN.read_reply(body), PLUGIN.read_summary(body)

    assert {reason} == {each.choices[0].finish.reason for each in (streamed, complete) if each.choices[0].finish}
    assert summary is not None
    assert reason == summary.finish


@pytest.mark.parametrize("values", [("[DONE]",), ()])
@pytest.mark.parametrize("caller", EVERY)
def test_a_stream_without_any_reply_does_not_end_as_an_empty_answer(values: tuple[Any, ...], caller: str) -> None:
    writer = load("dialects", caller).writer(Call(caller, "chat", "m", stream=True, raw=b"{}"))
    relay = CrossRelay(PLUGIN.reader("text/event-stream"), writer)
    out = relay.feed(sse(*values)) + relay.close()

    assert relay.tally.failed is not None
    assert not any(end in out for end in (b"[DONE]", b"message_stop", b"response.completed"))


def test_an_empty_answer_stays_one() -> None:
    assert crossed(chunk({"role": "assistant", "content": ""}), *END).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("finish", [None, "stop", "error"])
@pytest.mark.parametrize("error", [{"code": 502, "message": "engine dead"}, {"message": "engine dead"}, "engine dead"])
def test_an_error_of_a_choice_is_one_of_the_reply(error: Any, finish: str | None) -> None:
    """OpenRouter's place for it."""
    failing = {"index": 0, "delta": {"content": ""}, "error": error, "finish_reason": finish}
    events = stream_events(CHAT, chunk({"content": "half"}), {"id": "c1", "choices": [failing]}, "[DONE]")

    assert isinstance(events[-1], Failed)
    assert "engine dead" == events[-1].fault.message
    message = {"index": 0, "message": {"content": "half"}, "error": error, "finish_reason": finish}
    with pytest.raises(UpstreamError, match="engine dead"):
        answered([message])


@pytest.mark.parametrize("choices", [None, [], [{"message": {"content": "half"}, "finish_reason": "stop"}]])
def test_an_error_beside_choices_is_an_error(choices: Any) -> None:
    body = {"object": "chat.completion", "choices": choices, "error": {"message": "engine dead"}}

    with pytest.raises(UpstreamError, match="engine dead"):
        PLUGIN.read_reply(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [(1002, "rate_limit", 429), (1004, "authentication", 401), (1008, "payment", 402), (1013, "api", 502)],
)
@pytest.mark.parametrize("choices", [None, []])
def test_a_status_of_minimax_is_read(code: int, kind: str, status: int, choices: Any) -> None:
    refused = {"id": "c1", "choices": choices, "base_resp": {"status_code": code, "status_msg": "not now"}}
    (failed,) = stream_events(CHAT, refused, "[DONE]")

    assert isinstance(failed, Failed)
    assert (kind, status, "not now") == (failed.fault.kind, failed.fault.status, failed.fault.message)
    with pytest.raises(UpstreamError, match="not now"):
        PLUGIN.read_reply(json.dumps(refused).encode())


def test_a_status_of_minimax_beside_an_answer_is_none() -> None:
    fine = {"base_resp": {"status_code": 0, "status_msg": ""}}

    assert (Text("TEXT"),) == parts_of({**chunk({"content": "TEXT"}), **fine}, {**chunk({}, "stop"), **fine}, "[DONE]")


def test_an_answer_repeated_whole_after_its_deltas_is_read_once() -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "TEXT", "tool_calls": [call]}
    last = {**chunk({}, "stop"), "object": "chat.completion"}
    last["choices"] = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    text, found = parts_of(chunk({"content": "TEXT"}), chunk({"tool_calls": [call]}), last, "[DONE]")

    assert Text("TEXT") == text
    assert isinstance(found, ToolCall)
    assert "{}" == found.arguments


def call_delta(index: int, id: str, name: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": "{}"}}]}


def test_calls_with_one_id_get_their_own() -> None:
    calls = parts_of(chunk(call_delta(0, "a", "f")), chunk(call_delta(1, "a", "g")), chunk({}, "tool_calls"), "[DONE]")

    assert [ToolCall("a", "f", "{}"), ToolCall("a_1", "g", "{}")] == list(calls)


@pytest.mark.parametrize("finish", ["tool_calls", None])
def test_calls_of_a_whole_reply_with_one_id_get_their_own(finish: str | None) -> None:
    called = [{"id": "a", "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "fgh"]
    message = {"role": "assistant", "content": "x", "tool_calls": called}
    reply = answer(CHAT, {"choices": [{"index": 0, "message": message, "finish_reason": finish}]})

    assert ["a", "a_1", "a_2"] == [part.id for part in reply.choices[0].parts if isinstance(part, ToolCall)]


@pytest.mark.parametrize(("target", "where"), [(MESSAGES, "stop_reason"), (CONVERSE, "stopReason")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_finish_by_calls_without_a_call_is_an_end(target: str, where: str, stream: bool) -> None:
    events = stream_events(CHAT, chunk({"content": "x"}), chunk({}, "tool_calls"), "[DONE]")
    writer = load("dialects", target)
    if stream:
        call = Call(target, "chat", "m", True, b'{"model": "m", "messages": []}')
        out = writer.writer(call)
        wire = b"".join(map(out.write, events))
    else:
        wire = writer.write_reply(whole(CHAT, events))

    assert re.findall(rf'"{where}":"(\w+)"'.encode(), wire) == [b"end_turn"]


def test_a_finish_by_calls_without_a_call_is_a_stop_for_chat() -> None:
    body = {**CLAUDE, "content": [{"type": "text", "text": "x"}], "stop_reason": "tool_use"}

    assert carried(MESSAGES, body, CHAT)["choices"][0]["finish_reason"] == "stop"


def arguments_sent(*pieces: str, with_name: bool = False) -> str:
    """The arguments that a caller gets for a call whose host sends these pieces."""
    name = {"name": "f"}
    deltas = [
        {
            "tool_calls": [
                {"index": 0, "id": "a", "function": {"arguments": each, **(name if n == 0 or with_name else {})}}
            ]
        }
        for n, each in enumerate(pieces)
    ]
    (call,) = parts_of(*map(chunk, deltas), chunk({}, "tool_calls"), "[DONE]")
    return call.arguments  # type: ignore[no-any-return]


@pytest.mark.parametrize("with_name", [False, True])
@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (['{"x":', "1}", '{"x":1}'], '{"x":1}'),
        (['{"x": ', '"a b"}', '{"x":"a b"}'], '{"x": "a b"}'),
        (['{"x":1}', '{"x":1}', '{"x":1}'], '{"x":1}'),
        (["{", '{"x"', '{"x":1', '{"x":1', '{"x":1}'], '{"x":1}'),
        (['{"x"', '{"x":', '{"x":{"x":', '{"x":{"x":1}}'], '{"x":{"x":1}}'),
        (["{}", '{"x":1}'], '{"x":1}'),
        (["{}", "{}"], "{}"),
        (["{}"], "{}"),
        (["{}", " "], "{} "),
        (["", "{}", '{"x"', ":1}"], '{"x":1}'),
    ],
)
def test_arguments_that_a_host_sends_again_are_sent_once(pieces: list[str], expected: str, with_name: bool) -> None:
    assert arguments_sent(*pieces, with_name=with_name) == expected


@pytest.mark.parametrize(
    "pieces",
    [
        ['{"x":', '{"x":1}', "}"],
        ['{"l":[', '{"l":[', "1]}", "]}"],
        ['{"x":', "{}", "}"],
        ['{"code":"', "{", "{", '}}"}'],
        ['{"a":"' + "x" * 1_100_000, '"}'],
    ],
)
def test_arguments_with_an_object_in_them_stay(pieces: list[str]) -> None:
    assert arguments_sent(*pieces) == "".join(pieces)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\ud83d", "\ude00b"], "a\U0001f600b"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a", "\ud83d"], "a\ufffd"),
        (["\U0001f600"], "\U0001f600"),
    ],
)
@pytest.mark.parametrize("caller", EVERY)
def test_a_character_that_a_host_cuts_is_whole_for_the_caller(caller: str, pieces: list[str], expected: str) -> None:
    writer = load("dialects", caller).writer(Call(caller, "chat", "m", stream=True, raw=b"{}"))
    relay = CrossRelay(PLUGIN.reader("text/event-stream"), writer)
    wire = b"".join(b"data: %s\n\n" % json.dumps(chunk({"content": piece})).encode() for piece in pieces)
    out = relay.feed(wire + sse(*END)) + relay.close()

    assert b"\\ud8" not in out
    texts = re.findall(r'"(?:content|delta|text)":"([^"]+)"', out.decode())
    assert expected in "".join(texts)


# --- names of calls


def pieces(*calls: dict[str, Any]) -> list[Any]:
    return [chunk({"tool_calls": [{"index": 0, **call}]}) for call in calls]


def function(name: Any, arguments: Any = None) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "calls",
    [
        # continuedev/continue#5849
        [{"id": "c1", **function("get_", "")}, function("weather"), function(None, '{"a":'), function(None, "1}")],
        [{"id": "c1", **function("get_")}, function("wea"), {"id": "c1", **function("ther", '{"a":1}')}],
        # The name is repeated: in each chunk (NousResearch/hermes-agent#8259), or with more of it each time.
        [{"id": "c1", **function("get_weather", "")}, function("get_weather", '{"a":'), function("get_weather", "1}")],
        [{"id": "c1", **function("get", "")}, function("get_weather", ""), function("get_weather", '{"a":1}')],
        # Later names are empty (lazy-hq/aisdk#121) or "null" (BerriAI/litellm#12513).
        [{"id": "c1", **function("get_weather", "")}, function("", '{"a":'), function("", "1}")],
        [{"id": "c1", **function("get_weather", "")}, {"id": "", **function("null", '{"a":1}')}],
        # Early names are empty (vercel/ai#16507).
        [{"id": "c1", **function("", "")}, function("get_weather", ""), function("", '{"a":1}')],
    ],
)
def test_a_name_in_pieces_is_one(calls: list[dict[str, Any]]) -> None:
    (found,) = parts_of(*pieces(*calls), *END)

    assert ToolCall("c1", "get_weather", '{"a":1}') == replace(found, arguments=found.arguments.replace(" ", ""))
    (call,) = [
        each["content_block"]
        for each in caller_stream(MESSAGES, stream_events(CHAT, *pieces(*calls), *END))
        if each["type"] == "content_block_start"
    ]
    assert ("get_weather", "c1") == (call["name"], call["id"])


def test_calls_without_arguments_begin_in_their_order() -> None:
    first, second = {"id": "c1", **function("f", "")}, {"id": "c2", "index": 1, **function("g", "")}

    assert [("c1", "f"), ("c2", "g")] == [(each.id, each.name) for each in parts_of(*pieces(first, second), *END)]
    late = [*pieces(first, second), *pieces({"index": 1, **function(None, '{"b":2}')}, function(None, '{"a":1}'))]
    assert [("f", '{"a":1}'), ("g", '{"b":2}')] == [(each.name, each.arguments) for each in parts_of(*late, *END)]


def test_a_call_without_arguments_begins_before_the_text_after_it() -> None:
    found = parts_of(*pieces({"id": "c1", **function("f", "")}), chunk({"content": "TEXT"}), *END)

    assert [ToolCall, Text] == [type(part) for part in found]
