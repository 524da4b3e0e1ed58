"""The raw lane: what this gateway or another provider put into a history is taken out or rewritten where the provider
refuses it, and named; all else keeps its bytes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from asking import CHAT, CONVERSE, DIALECTS, GEMINI, MESSAGES, PATHS, RESPONSES

from edge_extproc.dialects.carried import original_id, tool_id
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Call, Written
from edge_extproc.model.content import Text, Thinking, ToolCall
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.model.reply import Choice, Finish, Reply, unfold
from edge_extproc.providers.openai import OPENAI_HOST

CLAUDE_4_5 = "claude-sonnet-4-5"
Json = dict[str, Any]


def splice(dialect: str, body: Json | bytes, model: str, host: HostProfile = UNKNOWN_HOST) -> Written:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    path = PATHS[dialect]
    return DIALECTS[dialect].splice(DIALECTS[dialect].read_call(raw, "chat", ((":path", path),), path), model, host)


def sent(dialect: str, body: Json, model: str, host: HostProfile = UNKNOWN_HOST) -> tuple[Any, tuple[str, ...]]:
    written = splice(dialect, body, model, host)
    return json.loads(written.body), written.dropped


# --- Anthropic


def thought(signature: str | None, text: str = "let me think") -> Json:
    return {"type": "thinking", "thinking": text, **({} if signature is None else {"signature": signature})}


def use(id: str = "toolu_1") -> Json:
    return {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "ls"}}


def asks(*said: Json, id: str = "toolu_1", **more: Any) -> Json:
    messages: list[Json] = [
        {"role": "user", "content": "list files"},
        {"role": "assistant", "content": list(said)},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "a.txt"}]},
    ]
    return {"model": "m", "max_tokens": 4000, "messages": messages, **more}


BUDGET = {"type": "enabled", "budget_tokens": 2000}


@pytest.mark.parametrize("signature", ["", None, "edge-carried:unsigned", "edge-carried:signature:x"])
@pytest.mark.parametrize("model", [CLAUDE_4_5, "claude-opus-4-6", "sonnet", "arn:aws:bedrock:eu:1:profile/x"])
def test_thinking_that_no_claude_signed_does_not_reach_a_claude(signature: str | None, model: str) -> None:
    body, dropped = sent(MESSAGES, asks(thought(signature), use()), model)

    assert [use()] == body["messages"][1]["content"]
    assert ("messages[1].content[0]",) == dropped


def test_thinking_by_a_budget_is_left_off_where_its_turn_lost_its_thinking() -> None:
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    more = {"thinking": BUDGET, "context_management": {"edits": edits}}
    body, dropped = sent(MESSAGES, asks(thought(""), use(), **more), CLAUDE_4_5)

    assert "thinking" not in body
    assert {"edits": edits[1:]} == body["context_management"]
    assert ("context_management.edits[0]", "messages[1].content[0]", "thinking") == dropped
    adaptive, _ = sent(MESSAGES, asks(thought(""), use(), thinking={"type": "adaptive"}), "claude-opus-4-6")
    assert {"type": "adaptive"} == adaptive["thinking"]


def test_thinking_stays_on_where_a_later_call_of_a_signed_turn_has_none() -> None:
    """Without interleaved thinking a Claude thinks once for all the calls of a turn."""
    body = asks(thought("c2ln"), use(), thinking=BUDGET)
    body["messages"] += [
        {"role": "assistant", "content": [use("toolu_2")]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "b"}]},
    ]

    assert (body | {"model": CLAUDE_4_5}, ()) == sent(MESSAGES, body, CLAUDE_4_5)


def test_what_claude_signed_keeps_its_bytes() -> None:
    message = (
        b'{"role":"assistant" , "content":[{"signature":"c2ln","thinking":"\\u0061","type":"thinking"}, {"n":1.0}]}'
    )
    odd = b'{"content":[{"type":"thinking","thinking":"x"},{"type":"text" , "text":"\\u0062"}],"role":"assistant"}'
    start = b'{ "temperature":1.0e0,"model":"m","messages":[ {"role":"user","content":"\\u0063"} ,' + message

    own = splice(MESSAGES, start + b"]}", "claude-x")
    mixed = splice(MESSAGES, start + b"," + odd + b"]}", "claude-x")

    assert (start + b"]}").replace(b'"m"', b'"claude-x"') == own.body
    assert () == own.dropped
    assert message in mixed.body
    assert b'{"content":[{"type":"text" , "text":"\\u0062"}],"role":"assistant"}' in mixed.body
    assert ("messages[2].content[0]",) == mixed.dropped


def test_a_message_of_thinking_alone_goes_as_a_whole() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [thought("")]}]
    body, _ = sent(MESSAGES, {"model": "m", "max_tokens": 1, "messages": [*messages, messages[0]]}, CLAUDE_4_5)

    assert [messages[0], messages[0]] == body["messages"]


def test_other_makers_hosts_of_the_format_get_unsigned_thinking_back() -> None:
    body, dropped = sent(MESSAGES, asks(thought("edge-carried:unsigned"), thought(""), use()), "deepseek-v4")

    assert [thought(""), thought(""), use()] == body["messages"][1]["content"]
    assert () == dropped


def test_ids_of_calls_that_claude_refuses_are_rewritten_alike_in_call_and_result() -> None:
    odd = "functions.get_weather:0"
    body, dropped = sent(MESSAGES, asks(use(odd), id=odd), CLAUDE_4_5)
    (call,), (result,) = body["messages"][1]["content"], body["messages"][2]["content"]

    assert call["id"] == result["tool_use_id"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", call["id"])
    assert ("messages[1].content[0].id", "messages[2].content[0].tool_use_id") == dropped


@pytest.mark.parametrize("raw", [b'{"model":"m","messages":[7],"thinking":1}', b'{"model":"m","messages":"thinking"}'])
def test_a_body_of_another_shape_is_left_to_its_host(raw: bytes) -> None:
    assert raw.replace(b'"m"', b'"claude"') == splice(MESSAGES, raw, "claude").body


def test_a_key_that_stands_twice_in_a_block_is_refused() -> None:
    block = b'{"type":"tool_use","id":"a.b","id":"a.b"}'
    raw = b'{"model":"m","messages":[{"role":"assistant","content":[' + block + b"]}]}"

    with pytest.raises(BadRequest, match="cannot be passed on"):
        splice(MESSAGES, raw, "claude")


# --- ids


@pytest.mark.parametrize("id", ["functions.get_weather:0", "ü:1", "a b", "x" * 65 + "."])
def test_an_id_is_mapped_the_same_each_time_and_back_where_there_is_room(id: str) -> None:
    assert tool_id(id) == tool_id(id)
    assert len(tool_id(id)) <= 64
    assert (original_id(tool_id(id)) == id) == (len(id) < 40)


@pytest.mark.parametrize("id", ["toolu_1", "edge-id-", "edge-id-!", "edge-id-Zg", "edge-id-_w"])
def test_an_id_that_is_none_of_ours_is_its_own(id: str) -> None:
    assert id == original_id(id)


# --- OpenAI

CALL_ITEM = {"type": "function_call", "call_id": "call_1", "name": "Bash", "arguments": "{}"}
SUMMARY = [{"type": "summary_text", "text": "let me think"}]
OLD = {"id": "rs_" + "a" * 32, "type": "reasoning", "summary": SUMMARY}


@pytest.mark.parametrize(
    "made",
    [
        OLD,
        OLD | {"encrypted_content": None, "content": None},
        {"id": "rs_1", "type": "reasoning", "summary": SUMMARY, "encrypted_content": "edge-carried:unsigned"},
        # of other hosts of the format: vLLM's ids have the length of ours
        OLD | {"summary": [], "content": [{"type": "reasoning_text", "text": "a"}]},
    ],
)
def test_reasoning_that_was_made_here_does_not_reach_openai(made: Json) -> None:
    body, dropped = sent(RESPONSES, {"model": "m", "input": [made, CALL_ITEM]}, "gpt-5", OPENAI_HOST)

    assert [CALL_ITEM] == body["input"]
    assert ("input[0]",) == dropped


@pytest.mark.parametrize(
    "own",
    [
        {"id": "rs_" + "a" * 48, "type": "reasoning", "summary": SUMMARY},
        OLD | {"encrypted_content": "gAAA"},
        OLD | {"type": "message"},
    ],
)
def test_reasoning_of_the_providers_own_keeps_its_bytes(own: Json) -> None:
    raw = json.dumps({"model": "m", "input": [own, CALL_ITEM]}).encode()

    assert Written(raw.replace(b'"m"', b'"gpt-5"')) == splice(RESPONSES, raw, "gpt-5", OPENAI_HOST)


def test_a_host_of_responses_that_wants_reasoning_back_gets_it() -> None:
    wants = HostProfile(thoughts="reasoning_content")
    body, dropped = sent(RESPONSES, {"model": "m", "input": [OLD, CALL_ITEM]}, "deepseek-v4", wants)

    content = [{"type": "reasoning_text", "text": "let me think"}]
    assert [{"type": "reasoning", "summary": [], "content": content}, CALL_ITEM] == body["input"]
    assert () == dropped


def chat(id: str = "call_1", **said: Any) -> Json:
    call = {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call], **said},
        {"role": "tool", "tool_call_id": id, "content": "b"},
    ]
    return {"model": "m", "messages": messages}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_details"])
def test_reasoning_of_a_message_reaches_no_host_that_refuses_it(field: str) -> None:
    body, dropped = sent(CHAT, chat(**{field: "x"}), "gpt-5", OPENAI_HOST)

    assert chat() | {"model": "gpt-5"} == body
    assert (f"messages[1].{field}",) == dropped
    assert chat(**{field: "x"}) | {"model": "k"} == sent(CHAT, chat(**{field: "x"}), "k")[0]


def test_ids_that_are_too_long_for_openai_are_rewritten_and_others_stay() -> None:
    body, dropped = sent(CHAT, chat("chatcmpl-tool-" + "a" * 32), "gpt-5", OPENAI_HOST)
    call, result = body["messages"][1]["tool_calls"][0], body["messages"][2]

    assert call["id"] == result["tool_call_id"]
    assert len(call["id"]) <= 40
    assert ("messages[1].tool_calls[0].id", "messages[2].tool_call_id") == dropped
    assert chat("functions.f:0") | {"model": "gpt-5"} == sent(CHAT, chat("functions.f:0"), "gpt-5", OPENAI_HOST)[0]
    mistral, _ = sent(CHAT, chat("call_1"), "mistral-large")
    assert re.fullmatch("[a-zA-Z0-9]{9}", mistral["messages"][2]["tool_call_id"])


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES])
@pytest.mark.parametrize("name", ["user", "safety_identifier"])
def test_a_user_over_the_hosts_bound_does_not_reach_it(dialect: str, name: str) -> None:
    body = {"model": "m", "messages": [], name: "u" * 65}

    assert ((name,), False) == ((lost := sent(dialect, body, "g", OPENAI_HOST))[1], name in lost[0])
    assert ((), True) == ((kept := sent(dialect, body | {name: "u" * 64}, "g", OPENAI_HOST))[1], name in kept[0])
    assert () == sent(dialect, body, "g")[1]


# --- Gemini and Bedrock


def test_thinking_that_claude_signed_does_not_reach_google() -> None:
    reply = Reply(MESSAGES, "1", "m", (Choice((Thinking("hm", "c2ln"), Text("a")), Finish("stop")),))
    content = json.loads(DIALECTS[GEMINI].write_reply(reply))["candidates"][0]["content"]
    body = {"contents": [{"role": "user", "parts": [{"text": "b"}]}, content]}
    asked = DIALECTS[GEMINI].read_call(json.dumps(body).encode(), "chat", ((":path", PATHS[GEMINI]),), PATHS[GEMINI])

    told, dropped = sent(GEMINI, body, "gemini-3-pro-preview")

    assert [{"text": "a"}] == told["contents"][1]["parts"]
    assert ("contents[1].parts[0]",) == dropped
    assert Thinking("hm", "c2ln") == DIALECTS[GEMINI].read_chat(asked).messages[1].parts[0]


def test_bedrock_is_told_no_thinking_that_no_claude_signed() -> None:
    unsigned = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "edge-carried:unsigned"}}}
    call = {"toolUse": {"toolUseId": "a.b", "name": "f", "input": {}}}
    result = {"toolResult": {"toolUseId": "a.b", "content": []}}
    body = {
        "messages": [
            {"role": "user", "content": [{"text": "a"}]},
            {"role": "assistant", "content": [unsigned, call]},
            {"role": "user", "content": [result]},
        ],
        "additionalModelRequestFields": {"thinking": BUDGET, "x": 1},
    }
    told, dropped = sent(CONVERSE, body, "anthropic.claude-sonnet-4-5-20250929-v1:0")
    (use,), (answer,) = told["messages"][1]["content"], told["messages"][2]["content"]
    other, others = sent(CONVERSE, body, "deepseek.r1-v1:0")

    assert use["toolUse"]["toolUseId"] == answer["toolResult"]["toolUseId"] == tool_id("a.b")
    assert use["toolUse"]["toolUseId"] == other["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert {"x": 1} == told["additionalModelRequestFields"]
    assert (
        "additionalModelRequestFields.thinking",
        "messages[1].content[0]",
        "messages[1].content[1].toolUse",
        "messages[2].content[0].toolResult",
    ) == dropped
    left = ("messages[1].content[0]", "messages[1].content[1].toolUse", "messages[2].content[0].toolResult")
    assert left == others


# --- what is made bears the mark, whole and streamed

SAID = Choice((Thinking("hm"), ToolCall("functions.f:0", "f", "{}")), Finish("tool_calls"))
THINKS = Reply(CHAT, "1", "m", (SAID,))


@pytest.mark.parametrize(
    ("dialect", "marks"),
    [(MESSAGES, 1), (RESPONSES, 1), (CONVERSE, 1), (CHAT, 0), (GEMINI, 0)],
)
def test_unsigned_thinking_bears_a_mark_where_its_format_has_a_seal(dialect: str, marks: int) -> None:
    writer = DIALECTS[dialect].writer(Call(dialect, "chat", "m", True, b"{}"))
    stream = b"".join(writer.write(event) for event in unfold(THINKS))

    assert marks == DIALECTS[dialect].write_reply(THINKS).count(b"edge-carried:unsigned")
    assert bool(marks) == (b"edge-carried:unsigned" in stream)


@pytest.mark.parametrize("dialect", [MESSAGES, CONVERSE])
def test_the_id_of_a_call_is_legal_in_a_reply_and_its_makers_own_again_in_the_history(dialect: str) -> None:
    legal = tool_id("functions.f:0", 40)
    writer = DIALECTS[dialect].writer(Call(dialect, "chat", "m", True, b"{}"))
    stream = b"".join(writer.write(event) for event in unfold(THINKS))

    assert legal.encode() in DIALECTS[dialect].write_reply(Reply(GEMINI, "1", "m", (SAID,)))
    assert legal.encode() in stream
    assert b"functions.f" not in stream
    assert "functions.f:0" == original_id(legal)


# --- hosts that want reasoning back, from callers of other formats


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("reasoning_content", {"reasoning_content": "let me think"}),
        ("reasoning_details", {"reasoning_details": [{"type": "reasoning.text", "text": "let me think"}]}),
        ("refused", {}),
        ("as they came", {}),
    ],
)
@pytest.mark.parametrize("source", [MESSAGES, RESPONSES])
def test_unsigned_thinking_goes_back_to_the_hosts_that_want_it(wanted: Any, told: Json, source: str) -> None:
    items = [
        {"role": "user", "content": "a"},
        OLD,
        CALL_ITEM,
        {"type": "function_call_output", "call_id": "call_1", "output": ""},
    ]
    body = asks(thought("edge-carried:unsigned"), use()) if source == MESSAGES else {"model": "m", "input": items}
    call = DIALECTS[source].read_call(json.dumps(body).encode(), "chat", (), PATHS[source])
    written = DIALECTS[CHAT].write_chat(DIALECTS[source].read_chat(call), "kimi-k2.6", HostProfile(thoughts=wanted))
    said = next(m for m in json.loads(written.body)["messages"] if m["role"] == "assistant")

    assert told == {key: value for key, value in said.items() if key.startswith("reasoning")}
    assert bool(told) == (written.dropped == ())


def test_thinking_that_claude_signed_goes_to_no_host_of_another_format() -> None:
    call = DIALECTS[MESSAGES].read_call(json.dumps(asks(thought("c2ln"), use())).encode(), "chat", (), PATHS[MESSAGES])
    wants = HostProfile(thoughts="reasoning_content")
    written = DIALECTS[CHAT].write_chat(DIALECTS[MESSAGES].read_chat(call), "kimi-k2.6", wants)

    assert b"let me think" not in written.body
    assert ("messages[1].content[0]",) == written.dropped


def test_the_user_of_another_format_is_named_in_its_callers_words() -> None:
    body = asks(use(), metadata={"user_id": "u" * 186})
    call = DIALECTS[MESSAGES].read_call(json.dumps(body).encode(), "chat", (), PATHS[MESSAGES])
    chat = DIALECTS[MESSAGES].read_chat(call)

    for target in (CHAT, RESPONSES):
        written = DIALECTS[target].write_chat(chat, "gpt-5.2", OPENAI_HOST)
        assert ("metadata.user_id", False) == (written.dropped[-1], "user" in json.loads(written.body))


# --- marks of the prompt cache on Bedrock

MARK = {"cachePoint": {"type": "default"}}
SPEC = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}


def marked(*mark: Json) -> Json:
    return {
        "system": [{"text": "s"}, *mark],
        "messages": [
            {"role": "user", "content": [{"text": "a"}, *mark]},
            {"role": "assistant", "content": [{"text": "b"}]},
            {"role": "user", "content": [{"text": "c"}, *mark]},
        ],
        "toolConfig": {"tools": [SPEC, *mark], "toolChoice": {"auto": {}}},
    }


@pytest.mark.parametrize(
    "model", ["meta.llama3-3-70b-instruct-v1:0", "openai.gpt-oss-120b-1:0", "deepseek.v3-v1:0", "mistral.large-2402"]
)
def test_a_model_that_caches_nothing_gets_no_mark(model: str) -> None:
    body, dropped = sent(CONVERSE, marked(MARK), model)

    assert marked() == body
    assert ("messages[0].content[1]", "messages[2].content[1]", "system[1]", "toolConfig.tools[1]") == dropped
    assert (marked(), ()) == sent(CONVERSE, marked(), model)
    alone = {"messages": [{"role": "user", "content": [{"text": "a"}, MARK]}], "system": None, "toolConfig": None}
    assert ("messages[0].content[1]",) == sent(CONVERSE, alone, model)[1]


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "us.amazon.nova-pro-v1:0",
        "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc",
        "vendor.new-model",
    ],
)
def test_a_model_that_may_cache_gets_the_callers_marks(model: str) -> None:
    assert (marked(MARK), ()) == sent(CONVERSE, marked(MARK), model)
