"""The Responses API: calls, requests read and written, whole replies, errors. Streams have a file of their own."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParams
from pydantic import TypeAdapter
from unread import unread

from edge_extproc.dialects import openai_chat
from edge_extproc.dialects.base import ModelCard
from edge_extproc.dialects.openai_chat.tools import AllowedTools
from edge_extproc.dialects.openai_responses import PLUGIN
from edge_extproc.dialects.openai_responses.fields import FIELDS, NAME
from edge_extproc.errors import BadRequest, Unsupported, UpstreamError
from edge_extproc.model.call import Call, Chat, FunctionTool, Reasoning, ResponseFormat, ToolChoice
from edge_extproc.model.content import (
    Audio,
    CacheMark,
    Document,
    FileRef,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import Choice, Finish, FinishReason, Reply
from edge_extproc.model.usage import Usage
from edge_extproc.registry import load

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "openai_responses"
REQUEST: TypeAdapter[Any] = TypeAdapter(ResponseCreateParams)
HI = Message("user", (Text("Hi"),))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
STRICT = {**SCHEMA, "required": ["city"], "additionalProperties": False}
WEATHER = FunctionTool("weather", "Tells it", SCHEMA)
OTHER = FunctionTool("other", "Something else", SCHEMA)


def read(raw: bytes | dict[str, Any]) -> Call:
    body = json.dumps(raw).encode() if isinstance(raw, dict) else raw
    return PLUGIN.read_call(body, "chat", (), "/v1/responses")


def own(**body: Any) -> Chat:
    return PLUGIN.read_chat(read({"model": "m", "input": "Hi", **body}))


def overlooked(**body: Any) -> list[str]:
    return unread(PLUGIN, {"model": "m", "input": "Hi", **body}, "/v1/responses")


def cross(
    *messages: Message, dialect: str = "openai_chat", model: str = "gpt-5-mini", **told: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    spelling = load("dialects", dialect).spelling
    written = PLUGIN.write_chat(Chat(dialect, "m", messages or (HI,), spelling=spelling, **told), model)
    body = json.loads(written.body)
    REQUEST.validate_python(body)
    return body, written.dropped


def items(*messages: Message) -> Any:
    return cross(*messages)[0]["input"]


def reply(*parts: Part, finish: Finish | None = None, dialect: str = "openai_chat", **told: Any) -> dict[str, Any]:
    whole = Reply(dialect, "id-1", "m", (Choice(parts, finish or Finish("stop")),), **told)
    written = PLUGIN.write_reply(whole)
    Response.model_validate_json(written)
    return dict(json.loads(written))


# --- the cheap view and the raw lane


def test_the_plugin_is_found_by_its_name() -> None:
    assert PLUGIN is load("dialects", "openai_responses")
    assert NAME == PLUGIN.name


def test_the_fate_of_every_field_is_told() -> None:
    assert {f.name for f in fields(Chat) if f.compare} == FIELDS.keys()


def test_a_call_is_read_without_the_rest_of_its_body() -> None:
    call = read(b'{"model":"gpt","stream":true,"max_output_tokens":5,"input":7}')

    assert ("gpt", True, 5, True, 1) == (
        call.model,
        call.stream,
        call.max_output_tokens,
        call.wants_usage,
        call.choices,
    )


@pytest.mark.parametrize("stream", [b"", b',"stream":null', b',"stream":false'])
def test_a_call_does_not_stream_unless_it_says_so(stream: bytes) -> None:
    assert not read(b'{"model":"m"' + stream + b"}").stream


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"model":', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "the body must be a JSON object, not a list"),
        (b"{}", "model is missing"),
        (b'{"model":7}', "model must be a string, not a number"),
        (b'{"model":"  "}', "model is empty"),
        (b'{"model":"m","stream":"yes"}', "stream must be true or false, not a string"),
        (b'{"model":"m","max_output_tokens":true}', "max_output_tokens must be a whole number, not a boolean"),
        (b'{"model":"m","max_output_tokens":1.5}', "max_output_tokens must be a whole number, not a number"),
        (b'{"model":"\xff"}', "not valid UTF-8"),
        (b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b'{"model":"m","stream":7,"stream":true}', "the body cannot be read"),
    ],
)
def test_a_body_that_is_no_call_is_refused_with_its_reason(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(raw)


def test_the_raw_lane_changes_nothing_but_the_model() -> None:
    raw = b'{ "input" :"Hi","model": "a" ,"temperature":1.0, "unknown":[1e3] }'

    assert raw.replace(b'"a"', b'"b"') == PLUGIN.splice(read(raw), "b").body


def test_a_key_that_stands_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="twice"):
        PLUGIN.splice(read(b'{"model":"a","model":"b"}'), "b")


def test_paths_are_those_of_the_api() -> None:
    assert "/responses" == PLUGIN.path("chat", "m", stream=True)
    assert "/models" == PLUGIN.path("models", "m", stream=False)
    with pytest.raises(Unsupported):
        PLUGIN.path("count_tokens", "m", stream=False)


# --- reading a request


def test_a_string_is_a_turn_of_the_user() -> None:
    assert (HI,) == own().messages


def test_a_call_without_input_has_no_turns() -> None:
    assert () == PLUGIN.read_chat(read({"model": "m"})).messages


def test_instructions_are_the_first_system_turn() -> None:
    chat = own(instructions="Be short", input=[{"role": "system", "content": "Be kind"}])

    assert [("system", "Be short"), ("system", "Be kind")] == [
        (m.role, p.text) for m in chat.messages for p in m.parts if isinstance(p, Text)
    ]


def test_calls_in_a_row_with_their_thinking_and_text_are_one_turn() -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    chat = own(
        input=[
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm"}]},
            {"role": "assistant", "content": "Wait"},
            {**call, "call_id": "a"},
            {**call, "call_id": "b"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {"type": "function_call_output", "call_id": "b", "output": "2"},
            {"role": "assistant", "content": "Done"},
            {"role": "assistant", "content": "Really"},
            {"type": "reasoning", "id": "rs2", "summary": []},
            {"role": "assistant", "content": "Yes"},
        ]
    )

    assert [
        ("assistant", ["Thinking", "Text", "ToolCall", "ToolCall"]),
        ("tool", ["ToolResult"]),
        ("tool", ["ToolResult"]),
        ("assistant", ["Text"]),
        ("assistant", ["Text"]),
        ("assistant", ["Thinking", "Text"]),
    ] == [(m.role, [type(p).__name__ for p in m.parts]) for m in chat.messages]


def test_text_after_a_call_that_waits_for_its_result_is_of_the_same_turn() -> None:
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    body = [call, {"role": "assistant", "content": "Wait"}]

    assert 1 == len(own(input=body).messages)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "custom_tool_call", "call_id": "c", "name": "n", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "y"},
        {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
        {"type": "something_new", "data": 1},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "message", "role": "assistant", "id": "m", "status": "completed", "content": []},
        {"role": "user", "content": [{"type": "input_smell", "data": "x"}]},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_smell", "data": "x"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
        {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]},
        {"role": "user", "content": [{"type": "input_file", "file_url": "https://a.example/b.pdf"}]},
        {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}],
        },
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
    ],
)
def test_an_item_is_read_whole(item: dict[str, Any]) -> None:
    assert [] == overlooked(input=[item])


def test_an_item_without_a_type_or_a_role_refers_to_a_stored_one() -> None:
    (turn,) = own(input=[{"id": "msg_1"}]).messages

    assert (Opaque("openai_responses", "item_reference", {"id": "msg_1"}),) == turn.parts


def test_base64_that_is_no_data_uri_is_a_pdf() -> None:
    (turn,) = own(
        input=[{"role": "user", "content": [{"type": "input_file", "file_data": "aGk=", "filename": "a"}]}]
    ).messages

    assert (Document(Inline("application/pdf", "aGk="), "a"),) == turn.parts


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": 7}, "input must be a list, not a number"),
        ({"input": ["a"]}, r"input\[0\] must be an object, not a string"),
        ({"input": [{"role": "robot", "content": ""}]}, r"input\[0\].role is 'robot'"),
        ({"input": [{"role": "user", "content": 1.5}]}, r"input\[0\].content must be a string or a list of parts"),
        ({"input": [{"role": "user"}]}, r"input\[0\].content must be a string or a list of parts, not null"),
        ({"input": [{"role": "user", "content": [{"text": "a"}]}]}, r"input\[0\].content\[0\].type must be a string"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, r"content\[0\].text must be a string"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]},
            "not a base64 data URI",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "file_id must be a string, not null"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, r"input\[0\].call_id must be"),
        ({"input": [{"type": "function_call_output", "output": ""}]}, r"input\[0\].call_id must be"),
        ({"instructions": []}, "instructions must be a string"),
        ({"tools": {}}, "tools must be a list, not an object"),
        ({"tools": [{"type": "function"}]}, r"tools\[0\].name must be a string"),
        ({"tool_choice": "any"}, "tool_choice is 'any'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice is"),
        ({"temperature": "hot"}, "temperature must be a number, not a string"),
        ({"reasoning": "high"}, "reasoning must be an object"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema must be an object"),
        ({"metadata": []}, "metadata must be an object"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_by_its_field(body: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        own(**body)

    assert caught.value.param


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ({"previous_response_id": "resp_1"}, ("previous_response_id",)),
        ({"conversation": {"id": "c"}}, ("conversation",)),
        ({"prompt": {"id": "p"}}, ("prompt",)),
        ({"background": True}, ("background",)),
        ({"background": False}, ()),
        ({"include": ["message.output_text.logprobs"]}, ("include",)),
    ],
)
def test_what_lies_with_openai_is_needed_and_does_not_cross(body: dict[str, Any], needed: tuple[str, ...]) -> None:
    chat = own(**body)

    assert needed == chat.needed
    assert [] == overlooked(**body)


def test_allowed_tools_offer_only_these_to_another_dialect() -> None:
    tools = [
        {"type": "function", "name": "a", "parameters": {}},
        {"type": "function", "name": "b", "parameters": {}},
        {"type": "mcp", "server_label": "s"},
        {"type": "mcp", "server_label": "t"},
        {"type": "web_search"},
    ]
    choice = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "b"}, {"type": "mcp", "server_label": "t"}, {"type": "web_search"}],
    }

    chat = own(tools=tools, tool_choice=choice)

    assert chat.tool_choice is not None
    assert "required" == chat.tool_choice.mode
    assert ["b", "mcp", "web_search"] == [t.name if isinstance(t, FunctionTool) else t.kind for t in chat.tools]
    assert [] == overlooked(tools=tools, tool_choice=choice)


@pytest.mark.parametrize(
    "choice", ["auto", "none", "required", {"type": "function", "name": "a"}, {"type": "web_search"}]
)
def test_a_tool_choice_is_read(choice: Any) -> None:
    assert [] == overlooked(tool_choice=choice)
    assert own(tool_choice=choice).tool_choice != own(tool_choice="none" if choice == "auto" else "auto").tool_choice


@pytest.mark.parametrize(
    "format",
    [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "name": "a", "schema": {}, "strict": True, "description": "d"},
        {"type": "grammar", "definition": "x"},
        {"type": "text", "new": 1},
    ],
)
def test_a_format_is_read_whole(format: dict[str, Any]) -> None:
    assert [] == overlooked(text={"format": format, "verbosity": "low"})


@pytest.mark.parametrize("body", [{"user": "u"}, {"safety_identifier": "s"}, {"user": "u", "safety_identifier": "s"}])
def test_the_user_is_read_under_each_name(body: dict[str, str]) -> None:
    assert body.get("safety_identifier", body.get("user")) == own(**body).user
    assert [] == overlooked(**body)


# --- writing a request of another dialect


def test_system_turns_become_instructions_only_at_the_head_and_only_of_one_text() -> None:
    system = Message("system", (Text("Be short", CacheMark()),))

    body, dropped = cross(system, HI, Message("system", (Text("Be kind"),)))

    assert "Be short" == body["instructions"]
    assert [{"role": "user", "content": "Hi"}, {"role": "system", "content": "Be kind"}] == body["input"]
    assert ("messages[0].content[0].cache_control",) == dropped
    two = Message("system", (Text("a"), Text("b")))
    assert [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}] == items(two)[0]["content"]


def test_calls_and_results_become_items() -> None:
    said = (Thinking("Hm", "sig"), RedactedThinking("x"), Text("Wait"), ToolCall("c1", "f", ""), Refusal("No"))

    body, dropped = cross(
        HI,
        Message("assistant", said),
        Message("user", (ToolResult("c1", (Text("sun"),), is_error=True), Text("And?"), ToolResult("c1", ()))),
    )

    assert [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Wait"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"role": "assistant", "content": "No"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"role": "user", "content": "And?"},
    ] == body["input"]
    assert ("messages[1].content[0]", "messages[1].content[1]", "messages[2].content[0].is_error") == dropped


def test_a_message_without_content_says_nothing() -> None:
    assert [{"role": "user", "content": "Hi"}] == items(HI, Message("user", ()), Message("assistant", ()))


def test_an_id_that_is_too_long_is_shortened_alike_in_call_and_result() -> None:
    id = "x" * 65

    call, result = items(Message("assistant", (ToolCall(id, "f", "{}"),)), Message("tool", (ToolResult(id, ()),)))

    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) <= 64


def test_images_and_files_are_told_in_the_flat_shape() -> None:
    parts = (
        Text("Look"),
        Image(Inline("image/png", "aGk="), "low"),
        Image(Url("https://a.example/b.jpg")),
        Image(Inline("application/pdf", "aGk=")),
        Document(Inline("application/pdf", "aGk="), "a.pdf"),
        Document(Inline("text/plain", "aGk=")),
        Document(Url("https://a.example/b.pdf"), "b.pdf"),
        Image(FileRef("file-1")),
    )

    body, dropped = cross(Message("user", parts))

    assert [
        {"type": "input_text", "text": "Look"},
        {"type": "input_image", "detail": "low", "image_url": "data:image/png;base64,aGk="},
        {"type": "input_image", "detail": "auto", "image_url": "https://a.example/b.jpg"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "document.pdf"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
        {"type": "input_file", "file_data": "data:text/plain;base64,aGk=", "filename": "document.txt"},
        {"type": "input_file", "file_url": "https://a.example/b.pdf"},
        {"type": "input_image", "detail": "auto", "file_id": "file-1"},
    ] == body["input"][0]["content"]
    assert ("messages[0].content[6].file.filename",) == dropped


@pytest.mark.parametrize(
    ("message", "told", "why"),
    [
        (HI, {"stop": ("END",)}, "stop_sequences cannot be sent"),
        (HI, {"n": 2}, "one choice"),
        (HI, {"logprobs": True}, "logprobs cannot be sent"),
        (HI, {"top_logprobs": 2}, "top_logprobs cannot be sent"),
        (HI, {"needed": ("container",)}, "container cannot be sent"),
        (
            HI,
            {"tools": (Opaque("x", "bash", {}),), "tool_choice": ToolChoice("tool", "bash")},
            r"tool_choice cannot be sent .* has no tool of type 'bash'",
        ),
        (Message("user", (Audio(Url("https://a.example")),)), {}, "the format has no audio"),
        (Message("user", (Opaque("x", "odd", {}),)), {}, "no part of type 'odd'"),
        (Message("user", (Image(FileRef("f")),)), {}, "uploaded to another provider"),
        (Message("user", (Image(Inline("image/tiff", "")),)), {}, "'image/tiff'; OpenAI Responses accepts"),
        (Message("user", (Thinking("x"),)), {}, "allowed only in an assistant message"),
        (Message("assistant", (ToolCall("", "f", "{}"),)), {}, "a tool call needs an id"),
        (Message("tool", (ToolResult("", ()),)), {}, "a tool result needs the id of its call"),
    ],
)
def test_what_must_not_be_lost_is_refused(message: Message, told: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRequest, match=why) as caught:
        cross(message, dialect="anthropic_messages", **told)

    assert 400 == caught.value.status


def test_what_has_no_place_is_dropped_and_named() -> None:
    said = Message("assistant", (Text("a", CacheMark()), ToolCall("c", "f", "{}", CacheMark(), "sig")))
    result = Message("tool", (ToolResult("c", (Text("x", CacheMark(), {"citations": []}),), cache=CacheMark()),))

    _, dropped = cross(
        Message("user", (Text("Hi"),), name="Ann"),
        said,
        result,
        top_k=5,
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=0,
        service_tier="odd",
        metadata={"a": 1, "b": "c"},
        tools=(replace(WEATHER, cache=CacheMark(), extras={"defer": True}),),
        extras={"logit_bias": {}, "nothing": None},
    )

    assert (
        "logit_bias",
        "messages[0].name",
        "messages[1].content[0].cache_control",
        "messages[1].content[1].cache_control",
        "messages[1].content[1].extra_content.google.thought_signature",
        "messages[2].content[0].cache_control",
        "messages[2].content[0].content[0].cache_control",
        "messages[2].content[0].content[0].citations",
        "metadata",
        "presence_penalty",
        "seed",
        "service_tier",
        "tools[0].cache_control",
        "tools[0].defer",
        "top_k",
    ) == dropped


def test_a_caller_of_anthropic_reads_its_own_spelling() -> None:
    system = Message("system", (Text("a"), Text("b", CacheMark())))

    _, dropped = cross(
        system,
        HI,
        Message("assistant", (Thinking("Hm", "s"),)),
        dialect="anthropic_messages",
        model="gpt-4.1",
        reasoning=Reasoning("enabled", budget_tokens=2000, extras={"display": "x"}),
    )

    assert ("messages[0].content[1].cache_control", "messages[2].content[0]", "thinking", "thinking.display") == dropped


def test_the_settings_are_mapped() -> None:
    body, dropped = cross(
        model="gpt-oss-120b",
        stream=True,
        max_output_tokens=19,
        temperature=0.5,
        top_p=0.9,
        user="u",
        metadata={"a": "b"},
        service_tier="standard_only",
        tools=(WEATHER, FunctionTool("bare"), FunctionTool("strict", parameters=STRICT, strict=True)),
        tool_choice=ToolChoice("tool", "weather"),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", STRICT, description="d", strict=True),
        reasoning=Reasoning(effort="high"),
        extras={"verbosity": "low", "store": True, "prompt_cache_key": "k", "safety_identifier": None},
    )

    assert () == dropped
    del body["input"]
    assert {
        "model": "gpt-oss-120b",
        "tools": [
            {"type": "function", "name": "weather", "description": "Tells it", "parameters": SCHEMA, "strict": False},
            {"type": "function", "name": "bare", "parameters": {"type": "object", "properties": {}}, "strict": False},
            {"type": "function", "name": "strict", "parameters": STRICT, "strict": True},
        ],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False,
        "max_output_tokens": 19,
        "temperature": 0.5,
        "top_p": 0.9,
        "safety_identifier": "u",
        "reasoning": {"effort": "high"},
        "stream": True,
        "store": True,
        "prompt_cache_key": "k",
        "service_tier": "default",
        "metadata": {"a": "b"},
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "response", "schema": STRICT, "description": "d", "strict": True},
        },
    } == body


def test_nothing_is_kept_that_its_caller_did_not_ask_to_keep() -> None:
    assert cross()[0]["store"] is False


@pytest.mark.parametrize("kind", ["text", "json_object"])
def test_a_plain_format_is_mapped(kind: Any) -> None:
    assert {"format": {"type": kind}} == cross(response_format=ResponseFormat(kind))[0]["text"]


def test_a_choice_without_tools_is_dropped() -> None:
    body, dropped = cross(tool_choice=ToolChoice("required"), parallel_tool_calls=True)

    assert ("parallel_tool_calls", "tool_choice") == dropped
    assert "tool_choice" not in body


def test_allowed_tools_of_openai_chat_are_told_in_the_flat_shape() -> None:
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
    }

    body, dropped = cross(tools=(WEATHER,), tool_choice=AllowedTools("auto", value=choice, tools=(WEATHER, OTHER)))

    assert () == dropped
    expected = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]}
    assert expected == body["tool_choice"]
    assert ["weather", "other"] == [tool["name"] for tool in body["tools"]]
    with pytest.raises(Unsupported, match=r"^tool_choice cannot be sent"):
        cross(extras={"tool_choice": {"type": "custom"}})
    with pytest.raises(Unsupported, match=r"^audio cannot be sent"):
        cross(extras={"audio": {}})


@pytest.mark.parametrize(
    ("reasoning", "model", "effort", "dropped"),
    [
        (Reasoning(budget_tokens=1024), "gpt-5-mini", "low", ()),
        (Reasoning("enabled", budget_tokens=4096), "gpt-5-mini", "high", ()),
        (Reasoning("enabled"), "gpt-5-mini", "medium", ()),
        (Reasoning("adaptive"), "gpt-5-mini", None, ()),
        (Reasoning("disabled"), "gpt-5.1", "none", ()),
        (Reasoning("disabled"), "gpt-5-mini", None, ("reasoning_effort",)),
        (Reasoning(effort="high"), "gpt-4.1", None, ("reasoning_effort",)),
    ],
)
def test_thinking_is_asked_for_by_effort(
    reasoning: Reasoning, model: str, effort: str | None, dropped: tuple[str, ...]
) -> None:
    body, named = cross(model=model, reasoning=reasoning)

    assert effort == body.get("reasoning", {}).get("effort")
    assert dropped == named


def test_numbers_of_any_size_and_halves_of_letters_are_written() -> None:
    body, _ = cross(tools=(FunctionTool("f", parameters={"maximum": 10**30}),))

    assert 10**30 == body["tools"][0]["parameters"]["maximum"]


# --- whole replies


def test_a_reply_of_another_dialect_becomes_items() -> None:
    got = reply(
        Thinking("Hm", "sig"),
        Text("It "),
        Text("is"),
        Refusal("No"),
        ToolCall("c1", "f", ""),
        ToolCall("", "g", '{"a":1}'),
        RedactedThinking("seal"),
        Thinking("", "only"),
        Text(""),
        Thinking(""),
        RedactedThinking(""),
        Opaque("openai_chat", "odd", {}),
        finish=Finish("tool_calls"),
        usage=Usage(input=3, cache_read=2, cache_write=1, output=4, reasoning=5),
        created=7,
    )

    assert "resp_id-1" == got["id"]
    assert ("completed", 7) == (got["status"], got["created_at"])
    kinds = [item["type"] for item in got["output"]]
    assert ["reasoning", "message", "function_call", "function_call", "reasoning", "reasoning"] == kinds
    thinking, message, call, nameless, sealed, signed = got["output"]
    assert [{"type": "summary_text", "text": "Hm"}] == thinking["summary"]
    assert "edge-carried:signature:sig" == thinking["encrypted_content"]
    assert ["It ", "is", "No"] == [p.get("text", p.get("refusal")) for p in message["content"]]
    assert ("c1", "{}", "completed") == (call["call_id"], call["arguments"], call["status"])
    assert nameless["call_id"].startswith("call_")
    assert "edge-carried:redacted:seal" == sealed["encrypted_content"]
    assert [] == signed["summary"]
    assert 6 == len({item["id"] for item in got["output"]})
    assert {
        "input_tokens": 6,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 15,
    } == got["usage"]


def test_thinking_carried_in_an_item_comes_back_as_it_was() -> None:
    output = reply(Thinking("Hm", "sig"), RedactedThinking("seal"))["output"]

    (turn,) = own(input=output).messages

    assert (Thinking("Hm", "sig"), RedactedThinking("seal")) == turn.parts
    spliced = PLUGIN.splice(read({"model": "m", "input": output}), "m")
    assert [] == json.loads(spliced.body)["input"]  # its own hosts would take it for forged


@pytest.mark.parametrize(
    ("reason", "status", "incomplete"),
    [
        ("stop", "completed", None),
        ("stop_sequence", "completed", None),
        ("tool_calls", "completed", None),
        ("other", "incomplete", "max_output_tokens"),
        ("length", "incomplete", "max_output_tokens"),
        ("context_window", "incomplete", "max_output_tokens"),
        ("pause", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
        ("refusal", "incomplete", "content_filter"),
        ("malformed", "failed", None),
    ],
)
def test_the_end_is_told_as_a_status(reason: FinishReason, status: str, incomplete: str | None) -> None:
    got = reply(Text("Hm"), finish=Finish(reason))

    assert status == got["status"]
    assert incomplete == (got["incomplete_details"] or {}).get("reason")
    assert (got["error"] is not None) == (status == "failed")
    assert ("incomplete" if status == "incomplete" else "completed") == got["output"][0]["status"]


def test_a_reply_without_choices_or_an_id_is_still_a_response() -> None:
    written = PLUGIN.write_reply(Reply("openai_chat", None, None, ()))

    again = json.loads(written)
    Response.model_validate(again)
    assert [] == again["output"]
    assert again["id"].startswith("resp_")
    assert again["usage"] is None


def response(**fields_: Any) -> bytes:
    body = {"id": "resp_1", "object": "response", "created_at": 5.0, "model": "m", "status": "completed", "output": []}
    return json.dumps({**body, **fields_}).encode()


@pytest.mark.parametrize(
    ("told", "finish"),
    [
        ({}, Finish("stop", "completed")),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            Finish("length", "max_output_tokens"),
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            Finish("content_filter", "content_filter"),
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, Finish("length", "steered")),
        ({"status": "incomplete"}, Finish("length", "incomplete")),
        ({"status": "cancelled"}, Finish("length", "cancelled")),
        ({"status": "queued"}, None),
        ({"status": "in_progress"}, None),
    ],
)
def test_a_status_is_read_as_an_end_and_goes_back(told: dict[str, Any], finish: Finish | None) -> None:
    whole = PLUGIN.read_reply(response(**told))

    assert finish == whole.choices[0].finish
    again = json.loads(PLUGIN.write_reply(whole))
    assert told.get("status", "completed") == again["status"]
    assert told.get("incomplete_details") == again["incomplete_details"]


def test_a_call_in_the_output_is_why_the_answer_ended() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}

    finish = PLUGIN.read_reply(response(output=[call])).choices[0].finish

    assert Finish("tool_calls", "completed") == finish


def test_items_of_the_output_become_parts() -> None:
    output = [
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "a"}],
            "content": [{"type": "reasoning_text", "text": "b"}],
        },
        {"type": "reasoning", "id": "rs2", "summary": [], "encrypted_content": "seal"},
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "c", "annotations": []}, {"type": "refusal", "refusal": "d"}],
        },
        {
            "type": "message",
            "id": "m2",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "e", "annotations": []}],
        },
        {"type": "message", "id": "m3", "role": "assistant", "status": "completed", "content": []},
        {"type": "web_search_call", "id": "ws", "status": "completed"},
    ]

    whole = PLUGIN.read_reply(response(output=output, usage=None))

    assert ["Thinking", "Opaque", "Text", "Refusal", "Text", "Opaque", "Opaque"] == [
        type(p).__name__ for p in whole.choices[0].parts
    ]
    assert isinstance(whole.choices[0].parts[0], Thinking)
    assert "a\n\nb" == whole.choices[0].parts[0].text
    assert whole.usage is None
    assert output == json.loads(PLUGIN.write_reply(whole))["output"]


def test_more_than_tokens_in_a_usage_goes_back_in_its_own_dialect() -> None:
    usage = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8, "cost": 0.5, "input_tokens_details": None}

    whole = PLUGIN.read_reply(response(usage=usage))

    assert Usage(input=5, output=3) == whole.usage
    assert 0.5 == json.loads(PLUGIN.write_reply(whole))["usage"]["cost"]


def test_counts_that_make_no_sense_do_not_make_a_bucket_negative() -> None:
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 3},
        "output_tokens": True,
        "output_tokens_details": {"reasoning_tokens": -4},
    }

    expected = Usage(cache_read=5, cache_write=3, cached_twice=3, completion_unknown=True, unreadable=2)
    assert expected == PLUGIN.read_reply(response(usage=usage)).usage


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "not valid JSON"),
        (b"[]", "not an OpenAI response"),
        (b'{"output":{}}', "not an OpenAI response"),
        (response(output=[7]), r"cannot be read: output\[0\]"),
        (response(output=[{"id": "x"}]), r"cannot be read: output\[0\].type"),
        (response(status="failed", error={"code": "server_error", "message": "oh"}), "^oh$"),
        (response(status="failed", error=None), "the provider answered with status"),
    ],
)
def test_what_is_no_reply_is_an_error_of_the_provider(body: bytes, message: str) -> None:
    with pytest.raises(UpstreamError, match=message):
        PLUGIN.read_reply(body)


def test_a_reply_of_this_dialect_holds_only_what_an_answer_can() -> None:
    with pytest.raises(TypeError, match="cannot hold a Image"):
        PLUGIN.write_reply(Reply(NAME, "r", "m", (Choice((Image(Url("x")),)),)))


# --- errors and models


def test_errors_and_models_are_told_as_openai_tells_them() -> None:
    fault = Fault(429, "rate_limit", "slow down", "rate_limit_exceeded", retry_after=2)

    assert openai_chat.PLUGIN.write_error(fault) == PLUGIN.write_error(fault)
    _, _, body = PLUGIN.write_error(fault)
    assert replace(fault, type="rate_limit_error", retry_after=None) == PLUGIN.read_error(429, (), body)
    cards = [ModelCard("a", "b", 3)]
    assert openai_chat.PLUGIN.write_models(cards) == PLUGIN.write_models(cards)
