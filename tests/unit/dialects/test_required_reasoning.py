"""Hosts that insist on reasoning beside tool calls get some, whoever made the call; and what Bedrock is told of a
failed tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.dialects.base import Dialect
from edge_extproc.model.host import HostProfile
from edge_extproc.providers.openai_compatible import row
from edge_extproc.registry import load

CHAT: Dialect = load("dialects", "openai_chat")
MESSAGES: Dialect = load("dialects", "anthropic_messages")
CONVERSE: Dialect = load("dialects", "bedrock_converse")
ASK = {"role": "user", "content": "What is the weather?"}


def claudes(**more: Any) -> dict[str, Any]:
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    thinking = {"type": "thinking", "thinking": "hm", "signature": "RUNs"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun", "is_error": True}
    said = [{"role": "assistant", "content": [thinking, use]}, {"role": "user", "content": [result]}]
    answer = {"role": "assistant", "content": "It is sunny."}
    return {"model": "m", "max_tokens": 9, "messages": [ASK, *said, answer, ASK], **more}


def crossed(body: dict[str, Any], target: Dialect, model: str, host: HostProfile) -> tuple[Any, tuple[str, ...]]:
    call = MESSAGES.read_call(json.dumps(body).encode(), "chat", (), "")
    written = target.write_chat(MESSAGES.read_chat(call), model, host)
    return json.loads(written.body), written.dropped


def spliced(messages: list[Any], host: HostProfile, **more: Any) -> Any:
    raw = json.dumps({"model": "m", "messages": messages, **more}).encode()
    return json.loads(CHAT.splice(CHAT.read_call(raw, "chat", (), ""), "m", host).body)["messages"]


@pytest.mark.parametrize("host", ["deepseek", "moonshot"])
def test_a_call_that_claude_made_goes_on_at_a_host_that_wants_reasoning(host: str) -> None:
    body, dropped = crossed(claudes(), CHAT, "kimi-k2.6", row(host).profile)
    reasoning = [m["reasoning_content"] for m in body["messages"] if m["role"] == "assistant"]

    assert ["I call weather (toolu_1).", "I answer: It is sunny."] == reasoning
    assert "messages[1].content[0]" in dropped


@pytest.mark.parametrize("host", ["groq", "zai", "vllm", "openrouter"])
def test_other_hosts_get_no_substitute(host: str) -> None:
    body, _ = crossed(claudes(), CHAT, "m", row(host).profile)

    assert not any("reasoning_content" in message for message in body["messages"])


def test_a_conversation_without_calls_or_thinking_gets_no_substitute() -> None:
    host = row("deepseek").profile
    said = {"role": "assistant", "content": "a"}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}

    assert [ASK, said, ASK] == spliced([ASK, said, ASK], host)
    assert [ASK, called] == spliced([ASK, called], host, thinking={"type": "disabled"})


def test_on_the_raw_lane_a_foreign_call_gets_a_substitute_and_the_hosts_own_reasoning_stays() -> None:
    def called(id: str, **more: Any) -> dict[str, Any]:
        function = {"name": "f", "arguments": "{}"}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": id, "type": "function", "function": function}],
            **more,
        }

    messages = [ASK, called("a"), ASK, called("b", reasoning_content="own"), called("c", reasoning="other spelling")]

    found = spliced(messages, row("moonshot").profile)

    assert ["I call f (a).", "own", "other spelling"] == [m["reasoning_content"] for m in found if m != ASK]
    assert messages == spliced(messages, HostProfile())


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", True),
        ("amazon.nova-pro-v1:0", True),
        ("meta.llama4-scout-17b-instruct-v1:0", False),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x", False),
    ],
)
def test_a_failed_tool_is_told_to_the_families_that_take_it(model: str, takes: bool) -> None:
    body, dropped = crossed(claudes(), CONVERSE, model, HostProfile())
    results = [b["toolResult"] for turn in body["messages"] for b in turn["content"] if "toolResult" in b]

    assert ["error" if takes else None] == [result.get("status") for result in results]
    assert takes is not any(name.endswith(".is_error") for name in dropped)


NAMED_LATER = [
    {"index": 0, "id": "call_1", "type": "function", "function": {"arguments": ""}},
    {"index": 0, "function": {"arguments": '{"a"'}},
    {"index": 0, "function": {"name": "weather", "arguments": ":1"}},
    {"index": 0, "function": {"arguments": "}"}},
]


@pytest.mark.parametrize("deltas", [NAMED_LATER, [{**NAMED_LATER[0], "id": None}, *NAMED_LATER[1:]]])
@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_call_waits_for_its_name(deltas: list[Any], target: Dialect) -> None:
    reader = CHAT.reader("text/event-stream")
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    wire = b"".join(b"data: " + json.dumps({"id": "c", "model": "m", **chunk}).encode() + b"\n\n" for chunk in chunks)
    events = [event for frame in reader.frames(wire + b"data: [DONE]\n\n") for event in reader.read(frame)]
    writer = target.writer(target.read_call(b'{"model":"m","max_tokens":1,"stream":true}', "chat", (), ""))

    told = b"".join(writer.write(event) for event in events)

    assert b'"name":"weather"' in told
    assert b'"name":""' not in told
    assert (b"call_1" in told) is (deltas is NAMED_LATER)
    arguments = [event.text for event in events if type(event).__name__ == "PartDelta"]
    assert '{"a":1}' == "".join(arguments)


def test_a_call_that_never_gets_a_name_is_not_lost() -> None:
    reader = CHAT.reader("text/event-stream")
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [NAMED_LATER[0]]}, "finish_reason": "tool_calls"}]}
    frames = reader.frames(b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n")

    kinds = [type(event).__name__ for frame in frames for event in reader.read(frame)]

    assert 1 == kinds.count("PartStarted") == kinds.count("PartEnded")
