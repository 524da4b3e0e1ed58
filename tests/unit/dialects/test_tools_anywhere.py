"""Every kind of tool of OpenAI Responses works at every provider, over several turns: what the caller gets back is what
it would get from OpenAI, and the next request passes what each provider is known to refuse."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import request_validators
from asking import CHAT, DIALECTS, PROVIDERS, RESPONSES, Provider, provider_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from responses_grammar import check
from thoroughness import examples

from edge_extproc.dialects.custom_tools import CustomInputReader as Reader
from edge_extproc.dialects.custom_tools import arguments_of_input, escaped, input_of
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Call
from edge_extproc.model.content import ToolCall
from edge_extproc.model.reply import PartDelta, Reply, unfold

Json = dict[str, Any]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/s"}
LONG = "n" * 60
TOOLS: list[Json] = [
    {"type": "function", "name": "weather", "parameters": CITY, "strict": False},
    {"type": "custom", "name": "patch", "description": "FREEFORM", "format": GRAMMAR},
    {
        "type": "namespace",
        "name": "mcp__fs__",
        "description": "files",
        "tools": [
            {"type": "function", "name": "read", "parameters": CITY},
            {"type": "custom", "name": "edit", "format": {"type": "text"}},
        ],
    },
    {"type": "namespace", "name": LONG, "description": "", "tools": [{"type": "function", "name": "read"}]},
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "tool_search", "execution": "client", "description": "Finds tools", "parameters": CITY},
    {"type": "web_search", "external_web_access": False},
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(['a\n"b"\\c', "😀", "\u2028"])
SOME = TEXTS.filter(bool)
ARGUMENTS = st.fixed_dictionaries({"city": TEXTS})
# What a model may call: the place of the function in the request, its arguments, and the item that the caller gets.
CALLS = st.one_of(
    st.builds(lambda a: (0, a, {"type": "function_call", "name": "weather", "arguments": a}), ARGUMENTS),
    st.builds(lambda t: (1, {"input": t}, {"type": "custom_tool_call", "name": "patch", "input": t}), TEXTS),
    st.builds(
        lambda a: (2, a, {"type": "function_call", "namespace": "mcp__fs__", "name": "read", "arguments": a}), ARGUMENTS
    ),
    st.builds(
        lambda t: (
            3,
            {"input": t},
            {"type": "custom_tool_call", "namespace": "mcp__fs__", "name": "edit", "input": t},
        ),
        TEXTS,
    ),
    st.builds(
        lambda a: (4, a, {"type": "function_call", "namespace": LONG, "name": "read", "arguments": a}), ARGUMENTS
    ),
    st.builds(
        lambda words: (
            5,
            {"command": words},
            {
                "type": "local_shell_call",
                "action": {
                    "type": "exec",
                    "command": words,
                    "env": {},
                    "timeout_ms": None,
                    "user": None,
                    "working_directory": None,
                },
            },
        ),
        st.lists(SOME, min_size=1, max_size=3),
    ),
    st.builds(
        lambda lines: (
            6,
            {"commands": lines, "timeout_ms": 5},
            {
                "type": "shell_call",
                "action": {"commands": lines, "timeout_ms": 5, "max_output_length": None},
                "environment": {"type": "local"},
            },
        ),
        st.lists(SOME, min_size=1, max_size=3),
    ),
    st.builds(
        lambda path, diff: (
            7,
            {"type": "update_file", "path": path, "diff": diff},
            {"type": "apply_patch_call", "operation": {"type": "update_file", "path": path, "diff": diff}},
        ),
        SOME,
        TEXTS,
    ),
    st.builds(lambda a: (8, a, {"type": "tool_search_call", "execution": "client", "arguments": a}), ARGUMENTS),
)


def offered(provider: Provider, body: Json) -> list[tuple[str, str]]:
    """The tools in the request of a provider: the kind and the name of each."""
    match provider.dialect:
        case "openai_chat":
            return [(tool["type"], tool[tool["type"]]["name"]) for tool in body["tools"]]
        case "anthropic_messages":
            return [("function", tool["name"]) for tool in body["tools"]]
        case "bedrock_converse":
            return [("function", tool["toolSpec"]["name"]) for tool in body["toolConfig"]["tools"]]
        case _:
            return [("function", each["name"]) for each in body["tools"][0]["functionDeclarations"]]


def native(provider: Provider, calls: list[tuple[str, str, str, Json]]) -> Json:
    """The reply of a provider that calls these tools: the id, kind, name and arguments of each."""
    match provider.dialect:
        case "openai_chat":
            told = [
                {"id": id, "type": kind, "custom": {"name": name, "input": args["input"]}}
                if kind == "custom"
                else {"id": id, "type": kind, "function": {"name": name, "arguments": json.dumps(args)}}
                for id, kind, name, args in calls
            ]
            message = {"role": "assistant", "content": None, "tool_calls": told}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        case "anthropic_messages":
            content = [{"type": "tool_use", "id": id, "name": name, "input": args} for id, _, name, args in calls]
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": content,
                "stop_reason": "tool_use",
            }
        case "bedrock_converse":
            blocks = [{"toolUse": {"toolUseId": id, "name": name, "input": args}} for id, _, name, args in calls]
            return {"output": {"message": {"role": "assistant", "content": blocks}}, "stopReason": "tool_use"}
        case _:
            parts = [{"functionCall": {"name": name, "args": args}} for _, _, name, args in calls]
            candidate = {"index": 0, "content": {"role": "model", "parts": parts}, "finishReason": "STOP"}
            return {"candidates": [candidate], "responseId": "r1"}


def streamed(reply: Reply, call: Call, sizes: list[int]) -> Json:
    """The response that a caller of OpenAI Responses gets as a stream, the arguments in pieces of these sizes."""
    writer = DIALECTS[call.dialect].writer(call)
    out = []
    for event in unfold(reply):
        if not isinstance(event, PartDelta):
            out.append(writer.write(event))
            continue
        at, turn = 0, itertools.cycle(sizes)
        while at < len(event.text):
            size = next(turn)
            out.append(writer.write(replace(event, text=event.text[at : at + size])))
            at += size
    return check(b"".join(out), strict=True)


def output_of(item: Json) -> Json:
    """What a client answers to a call."""
    told = {"call_id": item["call_id"], "output": "done"}
    match item["type"]:
        case "function_call":
            return {"type": "function_call_output", **told}
        case "custom_tool_call":
            return {"type": "custom_tool_call_output", **told}
        case "local_shell_call":
            return {"type": "local_shell_call_output", "id": item["call_id"], "output": "done"}
        case "shell_call":
            outcome = {"type": "exit", "exit_code": 0}
            return {"type": "shell_call_output", **told, "output": [{"stdout": "a", "stderr": "", "outcome": outcome}]}
        case "apply_patch_call":
            return {"type": "apply_patch_call_output", **told, "status": "completed"}
        case _:
            found = [{"type": "namespace", "name": "crm", "description": "", "tools": [TOOLS[0]]}]
            return {
                "type": "tool_search_output",
                "call_id": item["call_id"],
                "execution": "client",
                "status": "completed",
                "tools": found,
            }


ANSWERING = [name for name, provider in PROVIDERS.items() if provider.dialect != RESPONSES]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ANSWERING, PROVIDERS)))
@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    calls=st.lists(CALLS, min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    stream=st.booleans(),
)
def test_a_tool_works_at_one_provider_and_the_next_one_takes_the_history(
    first: str, second: str, calls: list[Any], sizes: list[int], stream: bool
) -> None:
    provider = PROVIDERS[first]
    body: Json = {"model": "m", "store": False, "input": [{"role": "user", "content": "Go."}], "tools": TOOLS}
    call = Call(RESPONSES, "chat", "m", True, json.dumps(body).encode())
    sent, dropped = provider_request(RESPONSES, body, "/v1/responses", provider)
    names = offered(provider, json.loads(sent))
    answer = native(provider, [(f"call_{i}", *names[at], args) for i, (at, args, _) in enumerate(calls)])
    reply = DIALECTS[provider.dialect].read_reply(json.dumps(answer).encode())
    plain = json.loads(DIALECTS[RESPONSES].write_reply(replace(reply, call=call)))
    response = streamed(reply, call, sizes)

    assert "tools[8]" in dropped
    assert plain["output"] == response["output"]
    for item, (_, _, expected) in zip(response["output"], calls, strict=True):
        assert expected == {key: _read(key, item[key]) for key in expected}

    output = (response if stream else plain)["output"]
    history = [*body["input"], *output, *map(output_of, output)]
    again, _ = provider_request(RESPONSES, {**body, "input": history}, "/v1/responses", PROVIDERS[second])

    assert [] == request_validators.of(second, PROVIDERS[second].dialect, again)
    if second == first:
        said = DIALECTS[provider.dialect].read_chat(Call(provider.dialect, "chat", "m", False, again))
        called = [part for message in said.messages for part in message.parts if isinstance(part, ToolCall)]
        made = [(part.name, json.loads(part.arguments or "{}")) for part in called]
        assert [(names[at][1], args) for at, args, _ in calls] == made


def _read(key: str, value: Any) -> Any:
    return json.loads(value) if key == "arguments" and isinstance(value, str) else value


# --- the input of a custom tool, in the arguments of a function


@given(text=TEXTS, cuts=st.lists(st.integers(0, 80), max_size=6), ascii=st.booleans(), spaced=st.booleans())
def test_an_input_is_the_same_whatever_way_its_arguments_are_cut(
    text: str, cuts: list[int], ascii: bool, spaced: bool
) -> None:
    arguments = json.dumps(
        {"input": text, "more": 1}, ensure_ascii=ascii, separators=(" , ", " : ") if spaced else None
    )

    assert text == _cut(arguments, cuts)
    assert text == input_of(arguments_of_input(text))
    assert text == json.loads(f'"{escaped(text)}"')


@given(arguments=st.text('{}":,\\u0dDeEinput 😀\n', max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_whatever_a_model_writes_its_call_is_not_lost(arguments: str, cuts: list[int]) -> None:
    found = input_of(arguments)

    assert found == _cut(arguments, cuts)
    found.encode()


def _cut(text: str, cuts: list[int]) -> str:
    reader = Reader()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join([*(reader.feed(text[a:b]) for a, b in itertools.pairwise(edges)), reader.close()])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("*** Begin Patch", "*** Begin Patch"),
        ('"a text"', "a text"),
        ('{"patch": "a"}', "a"),
        ('{"why": "b", "input": "a"}', "a"),
        ('{"input": {"a": 1}}', '{"input": {"a": 1}}'),
        ('{"input": "cut o', "cut o"),
        ('{"input": "a\\', "a"),
        ('{"input": "\\ud83d', "\ufffd"),
        ('{"input": "\\ud83dx\\q\\u12"}', "\ufffdxqu12"),
        ('{"input": "a\nb"}', "a\nb"),
        ("{}", ""),
        ("", ""),
    ],
)
def test_arguments_of_another_shape_are_understood_or_told_as_they_are(arguments: str, text: str) -> None:
    assert text == input_of(arguments)


# --- calls that are not as the tool takes them


@pytest.mark.parametrize(
    ("place", "arguments"), [(4, "{}"), (5, '{"commands": []}'), (6, '{"type": "update_file"}'), (7, "no JSON")]
)
def test_a_call_that_its_item_cannot_hold_is_told_as_a_call_of_a_function(place: int, arguments: str) -> None:
    tool = TOOLS[place]
    body = {"model": "m", "input": "Go.", "tools": [tool]}
    call = Call(RESPONSES, "chat", "m", True, json.dumps(body).encode())
    function = {"name": tool["type"], "arguments": arguments}
    calls = [
        {"id": "c1", "type": "function", "function": function},
        {"id": "c2", "type": "function", "function": function},
    ]
    choice = {"index": 0, "message": {"role": "assistant", "tool_calls": calls}, "finish_reason": "tool_calls"}
    reply = DIALECTS[CHAT].read_reply(json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode())
    plain = json.loads(DIALECTS[RESPONSES].write_reply(replace(reply, call=call)))

    assert [("function_call", "c1", arguments), ("function_call", "c2", arguments)] == [
        (item["type"], item["call_id"], item["arguments"]) for item in plain["output"]
    ]
    assert plain["output"] == streamed(reply, call, [3])["output"]


def test_calls_keep_their_order_where_one_of_them_is_only_told_whole() -> None:
    """Providers of OpenAI's chat format end all calls together."""
    body = {"model": "m", "input": "Go.", "tools": [TOOLS[0], {"type": "local_shell"}]}
    call = Call(RESPONSES, "chat", "m", True, json.dumps(body).encode())
    deltas = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "local_shell", "arguments": '{"command"'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": ':["ls"]}'}},
    ]
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [each]}}]} for each in deltas]
    chunks.append({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    wire = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    reader, writer = DIALECTS[CHAT].reader("text/event-stream"), DIALECTS[RESPONSES].writer(call)
    events = [event for frame in reader.frames(wire) for event in reader.read(frame)]

    output = check(b"".join(writer.write(event) for event in events))["output"]

    assert ["local_shell_call", "function_call"] == [item["type"] for item in output]
    assert ["a", "b"] == [item["call_id"] for item in output]


# --- requests that are not as they should be

CALLED: list[Json] = [
    {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "c1",
        "name": "edit",
        "namespace": "mcp__fs__",
        "input": "x",
    },
    {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"},
    {"type": "function_call", "call_id": "c2", "name": "read", "namespace": "mcp__fs__", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c2", "output": "done"},
    {"type": "local_shell_call", "id": "lsh_1", "call_id": "c3", "status": "completed", "action": {"command": ["ls"]}},
    {"type": "local_shell_call_output", "id": "lsh_1", "output": "done"},
    {"type": "shell_call", "call_id": "c4", "action": {"commands": ["ls"], "timeout_ms": None}},
    {
        "type": "shell_call_output",
        "call_id": "c4",
        "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
    },
    {"type": "apply_patch_call", "call_id": "c5", "operation": {"type": "delete_file", "path": "a"}},
    {"type": "apply_patch_call_output", "call_id": "c5", "status": "failed", "output": "no"},
    {"type": "tool_search_call", "call_id": "c6", "execution": "client", "arguments": {"city": "a"}},
    {"type": "tool_search_output", "call_id": "c6", "execution": "client", "tools": [TOOLS[2], TOOLS[1]]},
    {"type": "additional_tools", "role": "developer", "tools": [TOOLS[0]]},
]
CHOICES: list[Any] = [
    {"type": "custom", "name": "patch"},
    {"type": "function", "name": "read", "namespace": "mcp__fs__"},
    {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": LONG}, {"type": "local_shell"}]},
]
TEXTS_OF_ODD = ["null", "1", "-1.5", "true", '""', '"x"', "[]", "[1]", "{}", '{"type":"x"}', "[{}]", '{"type":["x"]}']
ODD = st.sampled_from(TEXTS_OF_ODD).map(json.loads)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), choice=st.sampled_from(CHOICES), target=st.sampled_from(ANSWERING))
def test_a_damaged_tool_or_item_is_the_callers_mistake(data: st.DataObject, choice: Any, target: str) -> None:
    body: Any = json.loads(json.dumps({"model": "m", "tools": TOOLS, "tool_choice": choice, "input": CALLED}))
    for _ in range(data.draw(st.integers(1, 2))):
        places = list(_places(body))
        holder, key = places[data.draw(st.integers(0, len(places) - 1))]
        holder[key] = data.draw(ODD)
    call = Call(RESPONSES, "chat", "m", True, json.dumps(body).encode())
    answer = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]}
    reply = DIALECTS[CHAT].read_reply(json.dumps(answer).encode())
    provider = PROVIDERS[target]

    with contextlib.suppress(BadRequest):
        DIALECTS[provider.dialect].write_chat(DIALECTS[RESPONSES].read_chat(call), provider.model, provider.host)
    assert b"Hi" in DIALECTS[RESPONSES].write_reply(replace(reply, call=call))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value below the first level, by what holds it."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        if key != "model":
            yield value, key
            yield from _places(value[key])
