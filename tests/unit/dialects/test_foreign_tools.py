"""Tools and items that only the caller's format has: what another format gets, what is named, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from asking import CHAT, CONVERSE, DIALECTS, GEMINI, MESSAGES, RESPONSES
from hypothesis import given
from hypothesis import strategies as st
from request_validators import tool_names
from responses_grammar import check

from edge_extproc.dialects.openai_responses.tools import joined_name
from edge_extproc.errors import Unsupported
from edge_extproc.model.call import Call
from edge_extproc.model.content import CustomCall, ToolCall
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.model.reply import fold, unfold
from edge_extproc.providers.openai import OPENAI_HOST

Json = dict[str, Any]
MODELS = {
    CHAT: "qwen3",
    MESSAGES: "claude-opus-4-6",
    GEMINI: "gemini-3-flash-preview",
    CONVERSE: "anthropic.claude-opus-4-6-v1",
    RESPONSES: "qwen3",
}
OTHERS = (CHAT, MESSAGES, GEMINI, CONVERSE)
FUNCTION = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/s"}
HOSTED: list[Json] = [
    {"type": "web_search", "external_web_access": False},
    {"type": "web_search_preview"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "linux"},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "a", "server_url": "https://a.example"},
    {"type": "shell", "environment": {"type": "container_auto"}},
    {"type": "tool_search"},
]


def cross(
    source: str, target: str, body: Json, model: str | None = None, host: HostProfile = UNKNOWN_HOST
) -> tuple[Any, tuple[str, ...]]:
    call = Call(source, "chat", "m", bool(body.get("stream")), json.dumps({"model": "m", **body}).encode())
    written = DIALECTS[target].write_chat(DIALECTS[source].read_chat(call), model or MODELS[target], host)
    return json.loads(written.body), written.dropped


def asked(target: str, **body: Any) -> tuple[Any, tuple[str, ...]]:
    """The request of a caller of OpenAI Responses, as a provider of another format gets it."""
    return cross(RESPONSES, target, {"input": "Go.", **body})


def names_of(target: str, body: Json) -> list[str]:
    match target:
        case "openai_chat":
            return [tool[tool["type"]]["name"] for tool in body.get("tools", ())]
        case "bedrock_converse":
            return [tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", ())]
        case "gemini_generate":
            return [each["name"] for tool in body.get("tools", ()) for each in tool["functionDeclarations"]]
        case _:
            return [tool["name"] for tool in body.get("tools", ())]


# --- tools that OpenAI executes


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("tool", HOSTED, ids=lambda tool: tool["type"])
def test_a_tool_that_openai_executes_is_left_out_and_named(target: str, tool: Json) -> None:
    body, dropped = asked(target, tools=[tool, FUNCTION], tool_choice="required")

    assert ["weather"] == names_of(target, body)
    assert ("tools[0]",) == dropped


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("choice", [{"type": "web_search"}, "required"])
def test_a_request_that_forces_a_tool_of_openai_is_refused(target: str, choice: Any) -> None:
    with pytest.raises(Unsupported, match=r"^tool_choice cannot be sent .* no tool of type 'web_search'") as caught:
        asked(target, tools=[HOSTED[0]], tool_choice=choice)

    assert "tool_choice" == caught.value.param


@pytest.mark.parametrize("target", [CHAT, GEMINI, RESPONSES])
def test_a_server_tool_of_claude_is_left_out_and_named(target: str) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "a", "input_schema": {"type": "object"}}]
    used = [
        {"type": "text", "text": "I look."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    ]
    turns = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": used},
        {"role": "user", "content": "?"},
    ]
    body, dropped = cross(MESSAGES, target, {"max_tokens": 9, "messages": turns, "tools": tools})

    assert ["a"] == names_of(target, body)
    assert ("messages[1].content[1]", "messages[1].content[2]", "tools[0]") == dropped


# --- names


@given(pairs=st.lists(st.tuples(st.text(max_size=70), st.text(min_size=1, max_size=70)), min_size=1, max_size=5))
def test_the_names_of_functions_of_namespaces_are_legal_and_restored(pairs: list[tuple[str, str]]) -> None:
    spaces = [
        {"type": "namespace", "name": a, "tools": [{"type": "function", "name": b}]} for a, b in dict.fromkeys(pairs)
    ]
    tools = [
        *spaces,
        {"type": "function", "name": "a__b"},
        {"type": "function", "name": "local_shell"},
        {"type": "local_shell"},
    ]
    body: Json = {"model": "m", "input": "Go.", "tools": tools}
    call = Call(RESPONSES, "chat", "m", False, json.dumps(body).encode())
    chat = DIALECTS[RESPONSES].read_chat(call)
    written, _ = cross(RESPONSES, MESSAGES, body)
    names = names_of(MESSAGES, written)

    assert [] == tool_names(names)
    answer: Json = {
        "type": "message",
        "content": [{"type": "tool_use", "id": f"c{i}", "name": name, "input": {}} for i, name in enumerate(names)],
        "stop_reason": "tool_use",
    }
    reply = DIALECTS[MESSAGES].read_reply(json.dumps(answer).encode())
    output = json.loads(DIALECTS[RESPONSES].write_reply(replace(reply, call=call)))["output"]
    expected = [*dict.fromkeys(pairs), (None, "a__b"), (None, "local_shell")]
    assert expected == [(item.get("namespace"), item["name"]) for item in output[:-1]]
    assert [("function_call", f"{names[-1]}")] == [(output[-1]["type"], output[-1]["name"])]
    assert len(tools) == len(chat.tools)


def test_a_joined_name_is_the_usual_one_where_that_is_legal() -> None:
    assert "mcp__fs__read" == joined_name("mcp__fs__", "read") == joined_name("mcp__fs", "read")
    assert joined_name("a.b", "c") != joined_name("a_b", "c")
    assert 64 == len(joined_name("n" * 64, "read"))


def test_the_choice_of_a_function_of_a_namespace_is_its_joined_name() -> None:
    space = {"type": "namespace", "name": "crm", "description": "", "tools": [FUNCTION]}
    body, _ = asked(MESSAGES, tools=[space], tool_choice={"type": "function", "name": "weather", "namespace": "crm"})

    assert {"type": "tool", "name": "crm__weather"} == body["tool_choice"]


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ([{"type": "custom", "name": "patch"}], ["patch"]),
        ([{"type": "namespace", "name": "crm"}], ["crm__weather"]),
        ([{"type": "function", "name": "weather", "namespace": "crm"}], ["crm__weather"]),
        (
            [{"type": "local_shell"}, {"type": "function", "name": "weather"}],
            ["weather", "crm__weather", "local_shell"],
        ),
        ([{"type": "function", "name": "other"}], []),
    ],
)
def test_only_the_allowed_tools_are_offered(allowed: list[Json], names: list[str]) -> None:
    tools = [
        FUNCTION,
        {"type": "custom", "name": "patch"},
        {"type": "namespace", "name": "crm", "description": "", "tools": [FUNCTION]},
        {"type": "local_shell"},
    ]
    body, _ = asked(MESSAGES, tools=tools, tool_choice={"type": "allowed_tools", "mode": "auto", "tools": allowed})

    assert names == names_of(MESSAGES, body)


@pytest.mark.parametrize("kind", ["local_shell", "shell", "apply_patch"])
def test_a_forced_tool_of_the_caller_is_a_forced_function(kind: str) -> None:
    body, dropped = asked(MESSAGES, tools=[{"type": kind}], tool_choice={"type": kind})

    assert {"type": "tool", "name": kind} == body["tool_choice"]
    assert () == dropped


# --- a search for tools


def test_tools_that_were_found_are_offered_and_told_of() -> None:
    found = [
        {"type": "namespace", "name": "mcp__fs", "description": "d", "tools": [{**FUNCTION, "defer_loading": True}]}
    ]
    history = [
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "exec"}]},
        {"role": "user", "content": "Go."},
        {"type": "tool_search_call", "call_id": "c1", "execution": "client", "arguments": {"query": "files"}},
        {"type": "tool_search_output", "call_id": "c1", "execution": "client", "status": "completed", "tools": found},
    ]
    search = {"type": "tool_search", "execution": "client", "description": "Finds", "parameters": {"type": "object"}}
    body, dropped = asked(MESSAGES, input=history, tools=[FUNCTION, search])

    assert ["weather", "tool_search", "exec", "mcp__fs__weather"] == names_of(MESSAGES, body)
    assert {"type": "tool_use", "id": "c1", "name": "tool_search", "input": {"query": "files"}} in body["messages"][1][
        "content"
    ]
    (result,) = body["messages"][2]["content"]
    assert "These tools can be called now: mcp__fs__weather." == result["content"]
    assert ("input[3].status", "input[3].tools[0].tools[0].defer_loading") == dropped


def test_where_openai_would_search_all_tools_are_offered() -> None:
    body, dropped = asked(MESSAGES, tools=[{**FUNCTION, "defer_loading": True}, {"type": "tool_search"}])

    assert ["weather"] == names_of(MESSAGES, body)
    assert ("tools[0].defer_loading", "tools[1]") == dropped


# --- items of a history

ITEMS: list[Json] = [
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "a"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["a"], "results": None},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "1",
        "container_id": "c",
        "outputs": [],
    },
    {"type": "image_generation_call", "id": "ig_1", "status": "failed", "result": None},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "a", "tools": []},
    {"type": "mcp_approval_request", "id": "mcpr_1", "arguments": "{}", "name": "a", "server_label": "a"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "mcp_call", "id": "mcp_1", "arguments": "{}", "name": "a", "server_label": "a", "output": "b"},
    {"type": "computer_call", "id": "cu_1", "call_id": "c9", "action": {"type": "wait"}, "status": "completed"},
    {"type": "computer_call_output", "call_id": "c9", "output": {"type": "computer_screenshot", "image_url": "a"}},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "OPENAI"},
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "OPENAI"},
    {"type": "item_reference", "id": "msg_1"},
    {"id": "msg_1"},
    {"type": "tool_search_call", "id": "tsc_1", "execution": "server", "arguments": {}, "status": "completed"},
    {"type": "tool_search_output", "id": "tso_1", "execution": "server", "status": "completed", "tools": []},
    {"type": "program", "id": "prg_1", "call_id": "c8", "code": "1", "fingerprint": "f"},
    {"type": "program_output", "id": "prgo_1", "call_id": "c8", "result": "1", "status": "completed"},
    {"type": "an_item_of_the_future", "id": "x_1"},
]


@pytest.mark.parametrize("target", OTHERS)
@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.get("type", "no type"))
def test_an_item_that_only_openai_reads_is_left_out_and_named(target: str, item: Json) -> None:
    said = {"role": "assistant", "content": "Yes."}
    body, dropped = asked(
        target, input=[{"role": "user", "content": "Go."}, item, said, {"role": "user", "content": "?"}]
    )
    plain, _ = asked(target, input=[{"role": "user", "content": "Go."}, said, {"role": "user", "content": "?"}])

    assert plain == body
    assert "input[1]" in dropped
    assert all(path.startswith("input[1]") for path in dropped)


@pytest.mark.parametrize("target", OTHERS)
def test_a_result_whose_call_is_only_referred_to_is_told_as_text(target: str) -> None:
    history = [
        {"role": "user", "content": "Go."},
        {"type": "item_reference", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
    ]
    body, dropped = asked(target, input=history, tools=[FUNCTION])

    assert "sun" in json.dumps(body)
    assert "c1" not in json.dumps(body)
    assert ("input[1]",) == dropped


# --- custom tools of OpenAI's chat format

CUSTOM = {
    "type": "custom",
    "custom": {
        "name": "patch",
        "description": "d",
        "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}},
    },
}
CALLED: list[Json] = [
    {"role": "user", "content": "Go."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "patch", "input": 'a"a'}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
]
FORCED = {"type": "custom", "custom": {"name": "patch"}}


def test_custom_tools_stay_custom_between_openais_formats() -> None:
    sent = {"messages": CALLED, "tools": [CUSTOM], "tool_choice": FORCED}
    flat, dropped = cross(CHAT, RESPONSES, sent, "gpt-5.2", OPENAI_HOST)

    assert () == dropped
    format = {"type": "grammar", "syntax": "regex", "definition": "a+"}
    assert [{"type": "custom", "name": "patch", "description": "d", "format": format}] == flat["tools"]
    assert {"type": "custom", "name": "patch"} == flat["tool_choice"]
    assert [
        {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'a"a'},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
    ] == flat["input"][1:]
    again, _ = cross(RESPONSES, CHAT, flat, "gpt-5.2", OPENAI_HOST)
    assert sent == {key: again[key] for key in sent}


@pytest.mark.parametrize(
    ("model", "host"), [("gpt-4.1", OPENAI_HOST), ("qwen3", UNKNOWN_HOST), ("gpt-5", HostProfile(custom_tools=False))]
)
@pytest.mark.parametrize("target", [CHAT, RESPONSES])
def test_a_host_or_model_without_custom_tools_gets_functions(target: str, model: str, host: HostProfile) -> None:
    source = RESPONSES if target == CHAT else CHAT
    tools = [{"type": "custom", **CUSTOM["custom"]}] if source == RESPONSES else [CUSTOM]  # type: ignore[dict-item]
    asks = {"input": "Go."} if source == RESPONSES else {"messages": CALLED}
    body, _ = cross(source, target, {**asks, "tools": tools}, model, host)

    assert ["function"] == [tool["type"] for tool in body["tools"]]
    assert "custom" not in json.dumps({**body, "model": ""})


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, CONVERSE])
def test_custom_tools_of_a_chat_caller_are_functions_elsewhere(target: str) -> None:
    body, dropped = cross(CHAT, target, {"messages": CALLED, "tools": [CUSTOM], "tool_choice": FORCED})

    assert ["patch"] == names_of(target, body)
    assert {"input": 'a"a'} in list(_objects(body))
    assert () == dropped


def _objects(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_caller_gets_its_custom_call_back(stream: bool) -> None:
    raw = json.dumps({"model": "m", "messages": CALLED, "tools": [CUSTOM], "stream": stream}).encode()
    call = Call(CHAT, "chat", "m", stream, raw)
    answer = {
        "type": "message",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "patch", "input": {"input": "a\n😀"}}],
        "stop_reason": "tool_use",
    }
    reply = DIALECTS[MESSAGES].read_reply(json.dumps(answer).encode())
    expected = {"id": "toolu_1", "type": "custom", "custom": {"name": "patch", "input": "a\n😀"}}
    if not stream:
        written = json.loads(DIALECTS[CHAT].write_reply(replace(reply, call=call)))
        assert [expected] == written["choices"][0]["message"]["tool_calls"]
        return
    writer, reader = DIALECTS[CHAT].writer(call), DIALECTS[CHAT].reader("text/event-stream")
    wire = b"".join(writer.write(event) for event in unfold(reply))
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]
    (part,) = fold(CHAT, events).choices[0].parts

    assert isinstance(part, CustomCall)
    assert ("toolu_1", "patch", {"input": "a\n😀"}) == (part.id, part.name, json.loads(part.arguments))


def test_a_custom_call_of_openai_reaches_a_caller_of_the_other_format() -> None:
    item = {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "c1",
        "name": "patch",
        "input": "a😀",
        "status": "completed",
    }
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item]}
    reply = DIALECTS[RESPONSES].read_reply(json.dumps(body).encode())
    chat = json.loads(DIALECTS[CHAT].write_reply(reply))
    told = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": "a😀"}}

    assert [told] == chat["choices"][0]["message"]["tool_calls"]
    assert item == json.loads(DIALECTS[RESPONSES].write_reply(reply))["output"][0]
    again = DIALECTS[CHAT].read_reply(json.dumps(chat).encode())
    assert [told] == json.loads(DIALECTS[CHAT].write_reply(again))["choices"][0]["message"]["tool_calls"]
    writer = DIALECTS[RESPONSES].writer(Call(RESPONSES, "chat", "m", True, b"{}"))
    wire = b"".join(writer.write(event) for event in unfold(reply))
    reader = DIALECTS[RESPONSES].reader("text/event-stream")
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]
    assert reply.choices[0].parts == fold(RESPONSES, events).choices[0].parts
    (part,) = reply.choices[0].parts
    assert isinstance(part, ToolCall)


def test_a_streamed_custom_call_of_the_chat_format_reaches_a_caller_of_responses() -> None:
    deltas: list[Json] = [
        {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "patch", "input": ""}},
        {"index": 0, "custom": {"input": 'a"'}},
        {"index": 0, "custom": {"input": "\n😀"}},
    ]
    choices: list[Json] = [{"index": 0, "delta": {"tool_calls": [delta]}} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    chunks = [json.dumps({"id": "c", "model": "m", "choices": [choice]}) for choice in choices]
    wire = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode()
    reader = DIALECTS[CHAT].reader("text/event-stream")
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]
    body = {"model": "m", "input": "Go.", "tools": [{"type": "custom", "name": "patch"}]}
    writer = DIALECTS[RESPONSES].writer(Call(RESPONSES, "chat", "m", True, json.dumps(body).encode()))
    response = check(b"".join(writer.write(event) for event in events))
    (item,) = response["output"]

    assert ("custom_tool_call", "c1", "patch", 'a"\n😀') == (item["type"], item["call_id"], item["name"], item["input"])
    assert [{"type": "custom", "name": "patch"}] == response["tools"]
