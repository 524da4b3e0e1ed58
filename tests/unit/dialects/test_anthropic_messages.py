"""The Messages dialect, whole bodies: the cheap view, requests of its own and of another dialect, replies, errors."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import MessageParam, ToolParam
from anthropic.types.message_create_params import MessageCreateParams
from anthropic.types.shared.error_response import ErrorResponse
from pydantic import TypeAdapter
from unread import unread

from edge_extproc.dialects import anthropic_messages
from edge_extproc.dialects.anthropic_messages import PLUGIN
from edge_extproc.dialects.anthropic_messages.fields import FIELDS
from edge_extproc.dialects.base import ModelCard
from edge_extproc.dialects.carried import tool_id
from edge_extproc.dialects.claude import generation_of
from edge_extproc.dialects.crossing import JSON_PROMPT
from edge_extproc.errors import BadRequest, Unsupported, UpstreamError
from edge_extproc.model.call import (
    Call,
    Chat,
    FunctionTool,
    Reasoning,
    ResponseFormat,
    ToolChoice,
)
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
from edge_extproc.model.fault import Fault, FaultKind
from edge_extproc.model.reply import Choice, Finish, FinishReason, Reply
from edge_extproc.model.usage import Usage
from edge_extproc.registry import load

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "anthropic_messages"
MODEL = "claude-sonnet-4-5"
HI = Message("user", (Text("Hi"),))
WEATHER = FunctionTool("weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
REQUEST: TypeAdapter[Any] = TypeAdapter(MessageCreateParams)


def read(raw: bytes | str | dict[str, Any], operation: Any = "chat") -> Call:
    if isinstance(raw, dict):
        raw = json.dumps(raw)
    return PLUGIN.read_call(raw if isinstance(raw, bytes) else raw.encode(), operation, (), "/v1/messages")


def own(**body: Any) -> Chat:
    return PLUGIN.read_chat(read({"model": "m", "max_tokens": 9, "messages": [], **body}))


def overlooked(**body: Any) -> list[str]:
    told = {"model": "m", "max_tokens": 1, "messages": [], **body}
    return unread(PLUGIN, told, "/v1/messages")


def chat(*messages: Message, **fields_: Any) -> Chat:
    spelling = load("dialects", "openai_chat").spelling
    return Chat("openai_chat", "gpt", messages or (HI,), spelling=fields_.pop("spelling", spelling), **fields_)


def cross(*messages: Message, model: str = MODEL, **fields_: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    written = PLUGIN.write_chat(chat(*messages, **fields_), model)
    body = json.loads(written.body)
    REQUEST.validate_python(body)
    return body, written.dropped


def turns(*messages: Message, **fields_: Any) -> list[tuple[str, Any]]:
    body, _ = cross(*messages, **fields_)
    return [(turn["role"], turn["content"]) for turn in body["messages"]]


def call_and_result(id: str = "c1", **call_fields: Any) -> tuple[Message, Message]:
    call = ToolCall(id, "weather", **{"arguments": "{}", **call_fields})
    return Message("assistant", (call,)), Message("tool", (ToolResult(id, (Text("sun"),)),))


# --- the cheap view and the raw lane


def test_the_plugin_is_found_by_its_name() -> None:
    assert PLUGIN is load("dialects", "anthropic_messages")
    assert PLUGIN.name == anthropic_messages.NAME


def test_a_call_is_read_without_the_rest_of_its_body() -> None:
    call = read('{"model":"claude","stream":true,"max_tokens":5,"messages":"?"}')

    assert ("claude", True, 5, True, 1) == (
        call.model,
        call.stream,
        call.max_output_tokens,
        call.wants_usage,
        call.choices,
    )


@pytest.mark.parametrize("stream", ["", ',"stream":null', ',"stream":false'])
def test_a_call_does_not_stream_unless_it_says_so(stream: str) -> None:
    assert not read('{"model":"m"' + stream + "}").stream


def test_a_count_of_tokens_needs_no_max_tokens() -> None:
    call = read('{"model":"m","messages":[]}', "count_tokens")

    assert ("count_tokens", None) == (call.operation, call.max_output_tokens)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"model":', "not valid JSON"),
        (b"", "not valid JSON"),
        (b'{"model":"\xff"}', "not valid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "must be a JSON object, not a list"),
        (b"null", "must be a JSON object, not null"),
        (b"{}", "model is missing"),
        (b'{"model":7}', "model must be a string, not a number"),
        (b'{"model":" "}', "model is empty"),
        (b'{"model":1,"model":"m"}', "says model, stream or max_tokens twice"),
        (b'{"model":"m","stream":"yes"}', "stream must be true or false, not a string"),
        (b'{"model":"m","max_tokens":1.5}', "max_tokens must be a whole number, not a number"),
        (b'{"model":"m","max_tokens":true}', "max_tokens must be a whole number, not a boolean"),
    ],
)
def test_a_body_that_is_no_call_is_refused_with_what_is_wrong(raw: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(raw)


def test_a_splice_changes_the_model_and_no_other_byte() -> None:
    raw = b'{ "stream":true ,"model" : "a", "x":[1.0, 1e2],  "messages":[] }'

    assert raw.replace(b'"a"', b'"b\\"c"') == PLUGIN.splice(read(raw), 'b"c').body


def test_a_model_said_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="twice"):
        PLUGIN.splice(read(b'{"model":"a","model":"b"}'), "c")


def test_paths_lie_below_the_base_url() -> None:
    assert "/messages" == PLUGIN.path("chat", "m", stream=True)
    assert "/messages/count_tokens" == PLUGIN.path("count_tokens", "m", stream=False)
    with pytest.raises(Unsupported):
        PLUGIN.path("opaque", "m", stream=False)


# --- requests of this dialect


def test_the_parts_of_a_full_request_are_our_own_nouns() -> None:
    full = PLUGIN.read_chat(read((GOLDEN / "full.json").read_bytes()))
    kinds = {type(part).__name__ for message in full.messages for part in message.parts}

    assert {
        "Text",
        "Image",
        "Document",
        "Thinking",
        "RedactedThinking",
        "ToolCall",
        "ToolResult",
        "Opaque",
    } == kinds
    assert full.tool_choice == ToolChoice("required")
    assert full.parallel_tool_calls is False
    assert full.reasoning == Reasoning("enabled", "high", 2048, {"display": "summarized"})
    assert full.response_format is not None
    assert ("container", "mcp_servers") == full.needed
    assert {"container", "mcp_servers", "context_management", "metadata", "output_config", "inference_geo"} == set(
        full.extras
    )


def test_a_system_string_and_a_system_turn_keep_their_places() -> None:
    read_ = own(system="be kind", messages=[{"role": "user", "content": "a"}, {"role": "system", "content": "b"}])

    assert ["system", "user", "system"] == [message.role for message in read_.messages]
    assert ["be kind", "a", "b"] == [part.text for m in read_.messages for part in m.parts if isinstance(part, Text)]


def test_the_beta_name_of_the_output_format_is_read() -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}

    assert own(output_format=form).response_format == own(output_config={"format": form}).response_format is not None


@pytest.mark.parametrize(
    "thinking", [{"type": "between_tools"}, {"type": "disabled"}, {"type": "adaptive", "display": "omitted"}]
)
@pytest.mark.parametrize("output", [{}, {"output_config": {"effort": "low"}}])
def test_thinking_of_any_type_is_read(thinking: dict[str, str], output: dict[str, Any]) -> None:
    assert [] == overlooked(thinking=thinking, **output)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "a", "cache_control": {"type": "later", "x": 1}},
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": 5}},
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}, "title": "t"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "", "new": 1}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}, "context": "c"},
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"big": 123456789012345678901234567890}},
        {"type": "tool_result", "tool_use_id": "t", "content": ""},
        {"type": "tool_result", "tool_use_id": "t"},
    ],
    ids=str,
)
def test_a_block_is_read_whole(block: dict[str, Any]) -> None:
    assert [] == overlooked(messages=[{"role": "user", "content": [block]}])


def test_a_tool_choice_keeps_what_we_do_not_know_of_it() -> None:
    assert [] == overlooked(tools=[{"name": "n"}], tool_choice={"type": "auto", "new": 1})


def test_a_thinking_block_without_a_signature_is_read_without_one() -> None:
    (turn,) = own(messages=[{"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}]).messages

    assert (Thinking("hm"),) == turn.parts


def test_a_tool_without_a_schema_is_read_without_one() -> None:
    assert (FunctionTool("n"),) == own(tools=[{"name": "n"}]).tools


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"messages": None}, "messages must be a list, not null"),
        ({"messages": ["x"]}, r"messages\[0\] must be an object, not a string"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\].role is 'tool'"),
        ({"messages": [{"role": "user", "content": 1}]}, r"messages\[0\].content must be a string or a list"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, r"messages\[0\].content\[0\].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"content\[0\].text must be a string"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, r"content\[0\].source must be an object"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "input": 1}]}]}, r"content\[0\].input"),
        ({"tools": {}}, "tools must be a list"),
        ({"tools": [{"type": "custom"}]}, r"tools\[0\].name must be a string"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type is 'maybe'; it must be auto, any, tool or none"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name must be a string"),
        ({"stop_sequences": "x"}, "stop_sequences must be a list"),
        ({"temperature": True}, "temperature must be a number, not a boolean"),
        ({"metadata": 1}, "metadata must be an object"),
    ],
)
def test_a_request_that_breaks_the_format_is_refused_with_the_path(body: dict[str, Any], path: str) -> None:
    with pytest.raises(BadRequest, match=path):
        own(**body)


def test_reading_a_chat_names_broken_json_too() -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        PLUGIN.read_chat(Call(PLUGIN.name, "chat", "m", False, b'{"model":"m","x":tru}'))


# --- requests that cross over: the conversation


def test_system_and_developer_turns_become_system_blocks_in_order() -> None:
    marked = Text("b", CacheMark("1h"))
    body, dropped = cross(
        Message("system", (Text("a"), marked)), HI, Message("developer", (Text("c"),)), Message("system", (Text(" "),))
    )

    assert [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "c"},
    ] == body["system"]
    assert [{"role": "user", "content": "Hi"}] == body["messages"]
    assert ("messages[3].content[0]",) == dropped


def test_tool_messages_and_the_user_turn_after_them_become_one_turn() -> None:
    two = Message("assistant", (Text("I look"), ToolCall("a", "f", ""), ToolCall("b", "f", '{"x":1}')))
    result = turns(
        HI,
        two,
        Message("tool", (ToolResult("a", (Text("1"),)),)),
        Message("user", (Text("and?"),)),
        Message("tool", (ToolResult("b", (Text(""),), is_error=True),)),
    )

    assert [
        ("user", "Hi"),
        (
            "assistant",
            [
                {"type": "text", "text": "I look"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {"x": 1}},
            ],
        ),
        (
            "user",
            [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                {"type": "text", "text": "and?"},
            ],
        ),
    ] == result


def test_turns_of_one_role_in_a_row_become_one() -> None:
    assert [
        ("user", [{"type": "text", "text": "Hi"}, {"type": "text", "text": "Hi"}]),
        ("assistant", "x"),
    ] == turns(HI, Message("assistant", (Text(""),)), HI, Message("assistant", (Text("x"),)))


def test_a_conversation_without_the_user_is_refused() -> None:
    with pytest.raises(BadRequest, match="no user message"):
        cross(Message("system", (Text("a"),)))
    with pytest.raises(BadRequest, match="messages begins with an assistant message"):
        cross(Message("assistant", (Text("a"),)), HI)


def test_an_answer_to_go_on_with_loses_the_white_space_at_its_end() -> None:
    asked, _ = call_and_result()
    assert "tool_use" == turns(HI, asked)[-1][1][-1]["type"]
    assert ("assistant", "The answer is") == turns(HI, Message("assistant", (Text("The answer is \n"),)))[-1]


def test_thinking_comes_first_and_unsigned_thinking_is_dropped_and_named() -> None:
    said = (Text("so"), Thinking("b", "sig"), RedactedThinking("x"), Thinking("", "only"), Thinking("a"))
    body, dropped = cross(HI, Message("assistant", said), HI)

    assert [
        {"type": "thinking", "thinking": "b", "signature": "sig"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "", "signature": "only"},
        {"type": "text", "text": "so"},
    ] == body["messages"][1]["content"]
    assert ("messages[1].content[4]",) == dropped


PNG = Inline("image/PNG", "aGk=")
PDF = Inline("application/pdf", "aGk=")
TXT = Inline("text/plain", base64.b64encode(b"hallo").decode())


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Image(PNG), {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}),
        (
            Image(Inline("image/jpg", "aGk=")),
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "aGk="}},
        ),
        (
            Image(Url("https://x/y.png"), cache=CacheMark()),
            {
                "type": "image",
                "source": {"type": "url", "url": "https://x/y.png"},
                "cache_control": {"type": "ephemeral"},
            },
        ),
        (
            Image(Url("https://x/y.PDF?z=1")),
            {"type": "document", "source": {"type": "url", "url": "https://x/y.PDF?z=1"}},
        ),
        (
            Image(PDF),
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
        ),
        (
            Document(PDF, "a.pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                "title": "a.pdf",
            },
        ),
        (
            Document(TXT),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hallo"}},
        ),
        (Document(Url("https://x/y")), {"type": "document", "source": {"type": "url", "url": "https://x/y"}}),
        (Refusal("no"), {"type": "text", "text": "no"}),
    ],
    ids=str,
)
def test_a_part_of_a_user_turn_is_mapped(part: Part, block: dict[str, Any]) -> None:
    content = turns(Message("user", (Text("see"), part)))[0][1]

    assert [{"type": "text", "text": "see"}, block] == content


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Image(Inline("image/tiff", "")), r"messages\[0\].content\[0\] is 'image/tiff'"),
        (Image(Url("ftp://x")), "is not an http"),
        (Image(FileRef("file-1")), "uploaded to another provider"),
        (Document(FileRef("file-1")), "uploaded to another provider"),
        (Document(Inline("application/zip", "")), "accepts PDF and text"),
        (Document(Url("file:///etc/passwd")), "is not an http"),
        (Document(Inline("text/plain", "?")), "must be UTF-8 text in base64"),
        (Audio(Inline("audio/wav", "")), r"messages\[0\].content\[0\] cannot be sent"),
        (Opaque("openai_chat", "video", {}), "no part of type 'video'"),
    ],
    ids=str,
)
def test_a_part_that_cannot_be_carried_is_refused(part: Part, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        cross(Message("user", (part,)))


def test_images_within_a_tool_result_stay_within_it() -> None:
    asked, _ = call_and_result()
    answer = Message("tool", (ToolResult("c1", (Text("see"), Image(PNG)), cache=CacheMark("5m")),))
    result = turns(HI, asked, answer)[-1][1][0]

    assert ["text", "image"] == [block["type"] for block in result["content"]]
    assert {"type": "ephemeral", "ttl": "5m"} == result["cache_control"]


@pytest.mark.parametrize("id", ["call_1", "functions.weather:0", "x" * 65, "ü" * 90, "chatcmpl-tool-" + "a" * 64])
def test_a_tool_call_and_its_result_keep_one_id_that_anthropic_takes(id: str) -> None:
    result = turns(HI, *call_and_result(id))
    (called,), (answered,) = result[1][1], result[2][1]

    assert called["id"] == answered["tool_use_id"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", called["id"])
    assert (called["id"] == id) == (id == "call_1")


def test_ids_that_differ_in_a_forbidden_sign_only_stay_apart() -> None:
    assert tool_id("a.b") != tool_id("a:b")


@pytest.mark.parametrize("arguments", ["", "  ", "{}", "null"])
def test_no_arguments_are_an_empty_object(arguments: str) -> None:
    assert {} == turns(HI, *call_and_result(arguments=arguments))[1][1][0]["input"]


@pytest.mark.parametrize("arguments", ["{", "[]", '"x"', "[" * 100_000])
def test_arguments_that_are_no_object_are_a_text_in_one(arguments: str) -> None:
    assert {"raw_arguments": arguments} == turns(HI, *call_and_result(arguments=arguments))[1][1][0]["input"]


def test_a_tool_call_or_result_without_an_id_is_refused_with_its_index() -> None:
    with pytest.raises(BadRequest, match=r"messages\[1\].content\[0\].id is missing"):
        cross(HI, *call_and_result(""))
    with pytest.raises(BadRequest, match=r"messages\[1\].content\[0\].tool_call_id is missing"):
        cross(HI, Message("tool", (ToolResult("", ()),)))


def test_nesting_that_no_encoder_takes_is_refused() -> None:
    deep: Any = {}
    for _ in range(5_000):
        deep = {"a": deep}
    with pytest.raises(BadRequest, match="nested too deeply"):
        PLUGIN.write_chat(chat(tools=(FunctionTool("f", parameters={"type": "object", "x": deep}),)), MODEL)


# --- requests that cross over: tools


@pytest.mark.parametrize(
    ("parameters", "schema"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        (
            {"type": "object", "$defs": {}, "additionalProperties": False},
            {"type": "object", "$defs": {}, "additionalProperties": False},
        ),
    ],
)
def test_a_tool_always_has_a_schema(parameters: Any, schema: dict[str, Any]) -> None:
    body, _ = cross(tools=(FunctionTool("f", "", parameters),))

    assert [{"name": "f", "input_schema": schema}] == body["tools"]
    TypeAdapter(ToolParam).validate_python(body["tools"][0])


def test_strict_and_the_cache_mark_of_a_tool_survive() -> None:
    tool = replace(WEATHER, strict=True, cache=CacheMark(), extras={"type": "function", "x": None})
    body, dropped = cross(tools=(tool,))

    assert body["tools"][0]["strict"] is True
    assert {"type": "ephemeral"} == body["tools"][0]["cache_control"]
    assert ("tools[0].type",) == dropped


def test_strict_is_dropped_for_models_without_structured_outputs() -> None:
    body, dropped = cross(tools=(replace(WEATHER, strict=True),), model="claude-sonnet-4-0")

    assert "strict" not in body["tools"][0]
    assert ("tools[0].function.strict",) == dropped


def test_a_tool_that_is_no_function_is_left_out_and_is_refused_where_it_is_forced() -> None:
    odd = Opaque("openai_chat", "odd", {})
    body, dropped = cross(tools=(odd, WEATHER))

    assert ["weather"] == [tool["name"] for tool in body["tools"]]
    assert ("tools[0]",) == dropped
    with pytest.raises(Unsupported, match=r"^tool_choice cannot be sent"):
        cross(tools=(odd,), tool_choice=ToolChoice("required"))


def test_a_parameters_value_that_is_no_schema_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"tools\[0\].function.parameters must be an object"):
        cross(tools=(FunctionTool("f", parameters=[]),))


def test_a_history_of_tool_calls_without_tools_gets_stubs_that_may_not_be_called() -> None:
    body, dropped = cross(HI, *call_and_result(), *call_and_result("c2"))

    assert [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}] == body["tools"]
    assert {"type": "none"} == body["tool_choice"]
    assert () == dropped


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), True, {"type": "auto"}),
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), None, {"type": "none"}),
        (ToolChoice("tool", "weather"), None, {"type": "tool", "name": "weather"}),
    ],
)
def test_a_tool_choice_is_mapped(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    body, dropped = cross(tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=parallel)

    assert expected == body.get("tool_choice")
    assert () == dropped


def test_parallel_calls_have_no_place_where_no_tool_may_be_called() -> None:
    body, dropped = cross(tools=(WEATHER,), tool_choice=ToolChoice("none"), parallel_tool_calls=False)

    assert {"type": "none"} == body["tool_choice"]
    assert ("parallel_tool_calls",) == dropped


def test_a_tool_choice_without_tools_is_dropped() -> None:
    body, dropped = cross(tool_choice=ToolChoice("required"), parallel_tool_calls=False)

    assert "tool_choice" not in body
    assert ("parallel_tool_calls", "tool_choice") == dropped
    assert () == cross(tool_choice=ToolChoice("none"))[1]


# --- requests that cross over: limits, sampling, thinking, format


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-3-opus-20240229", 4_096),
        ("claude-v2:1", 4_096),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", 8_192),
        ("claude-3-7-sonnet@20250219", 64_000),
        ("claude-sonnet-4-20250514", 32_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", 64_000),
        ("claude-sonnet-4.6", 64_000),
        ("claude-opus-4-7", 128_000),
        ("claude-fable-5-1", 128_000),
        ("claude-mythos-preview", 128_000),
        ("deepseek-chat", 8_192),
    ],
)
def test_max_tokens_is_filled_by_the_generation_of_the_model(model: str, limit: int) -> None:
    assert limit == generation_of(model).max_output
    assert limit == cross(model=model)[0]["max_tokens"]


def test_the_callers_max_tokens_is_never_changed() -> None:
    assert 999_999 == cross(max_output_tokens=999_999)[0]["max_tokens"]


def test_stop_sequences_of_white_space_are_dropped() -> None:
    body, dropped = cross(stop=("\n", "END", " "))

    assert (["END"], ("stop",)) == (body["stop_sequences"], dropped)
    assert "stop_sequences" not in cross(stop=("\n",))[0]


@pytest.mark.parametrize("temperature", [1.1, 2, -0.1])
def test_a_temperature_out_of_range_is_refused(temperature: float) -> None:
    with pytest.raises(BadRequest, match=r"temperature is .*; Anthropic Messages accepts 0 to 1"):
        cross(temperature=temperature)


@pytest.mark.parametrize(
    ("model", "sampling", "dropped"),
    [
        ("claude-sonnet-4-0", {"temperature": 0.5, "top_p": 0.9, "top_k": 3}, ()),
        ("claude-sonnet-4-5", {"temperature": 0.5, "top_k": 3}, ("top_p",)),
        ("claude-opus-4-8", {}, ("temperature", "top_k", "top_p")),
    ],
)
def test_sampling_goes_as_far_as_the_model_takes_it(model: str, sampling: dict[str, Any], dropped: tuple[str]) -> None:
    body, named = cross(model=model, temperature=0.5, top_p=0.9, top_k=3)

    assert sampling == {key: body[key] for key in ("temperature", "top_p", "top_k") if key in body}
    assert dropped == named


def test_top_p_alone_is_sent() -> None:
    assert 0.9 == cross(top_p=0.9)[0]["top_p"]


@pytest.mark.parametrize(
    ("model", "effort", "expected", "dropped"),
    [
        ("claude-3-5-haiku-latest", "high", {}, ("reasoning_effort",)),
        ("deepseek-chat", "high", {}, ("reasoning_effort",)),
        ("claude-sonnet-4-5", "", {}, ()),
        ("claude-sonnet-4-5", "default", {}, ()),
        ("claude-sonnet-4-5", "none", {}, ()),
        ("claude-sonnet-4-5", "minimal", {"thinking": {"type": "enabled", "budget_tokens": 1024}}, ()),
        ("claude-sonnet-4-5", "high", {"thinking": {"type": "enabled", "budget_tokens": 4096}}, ()),
        ("claude-opus-4-6", "none", {}, ()),
        ("claude-opus-4-6", "minimal", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, ()),
        ("claude-opus-4-6", "xhigh", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, ()),
        ("claude-opus-4-6", "max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, ()),
        ("claude-opus-4-7", "xhigh", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}, ()),
        ("claude-opus-5", "none", {"output_config": {"effort": "low"}}, ("reasoning_effort",)),
    ],
)
def test_an_effort_is_said_as_the_model_understands_it(
    model: str, effort: str, expected: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    body, named = cross(model=model, reasoning=Reasoning(effort=effort))

    assert expected == {key: body[key] for key in ("thinking", "output_config") if key in body}
    assert dropped == named


@pytest.mark.parametrize(
    ("model", "effort", "message"),
    [
        ("claude-sonnet-4-5", "enormous", "reasoning_effort is 'enormous'; it must be one of none, minimal"),
    ],
)
def test_an_effort_that_the_model_does_not_have_is_refused(model: str, effort: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        cross(model=model, reasoning=Reasoning(effort=effort))


@pytest.mark.parametrize(
    ("model", "reasoning", "expected", "dropped"),
    [
        ("claude-opus-4-5", Reasoning("enabled", None, 100), {"type": "enabled", "budget_tokens": 1024}, ()),
        (
            "claude-opus-4-5",
            Reasoning("enabled", None, 3000, {"display": "omitted", "x": 1}),
            {"type": "enabled", "budget_tokens": 3000, "display": "omitted"},
            ("reasoning_effort.x",),
        ),
        ("claude-opus-4-5", Reasoning("adaptive"), {"type": "enabled", "budget_tokens": 2048}, ()),
        ("claude-opus-4-5", Reasoning("disabled", extras={"x": 1}), None, ("reasoning_effort.x",)),
        ("claude-opus-4-8", Reasoning("enabled", None, 3000), {"type": "adaptive"}, ("reasoning.max_tokens",)),
        ("claude-opus-5", Reasoning("disabled"), None, ("reasoning_effort",)),
        ("claude-3-haiku-20240307", Reasoning("enabled", None, 3000), None, ("reasoning_effort",)),
        ("claude-opus-4-5", Reasoning(), None, ()),
    ],
)
def test_thinking_that_was_asked_for_in_tokens_is_mapped(
    model: str, reasoning: Reasoning, expected: Any, dropped: tuple[str, ...]
) -> None:
    body, named = cross(model=model, reasoning=reasoning)

    assert expected == body.get("thinking")
    assert dropped == named


def test_reasoning_is_named_as_its_caller_spelled_it() -> None:
    spelled = load("dialects", "openai_chat").spelling.but({"reasoning": "reasoning"})
    _, dropped = cross(model="deepseek-chat", reasoning=Reasoning("enabled", "high"), spelling=spelled)

    assert ("reasoning",) == dropped


def test_max_tokens_is_raised_over_the_budget() -> None:
    assert 4_096 + 500 == cross(max_output_tokens=500, reasoning=Reasoning(effort="high"))[0]["max_tokens"]
    assert 5_000 == cross(max_output_tokens=5_000, reasoning=Reasoning(effort="high"))[0]["max_tokens"]


def test_sampling_yields_to_thinking() -> None:
    think = Reasoning(effort="low")
    body, dropped = cross(reasoning=think, temperature=0.2, top_p=0.5, top_k=4)

    assert ("temperature", "top_k", "top_p") == dropped
    assert not {"temperature", "top_p", "top_k"} & set(body)
    body, dropped = cross(reasoning=think, temperature=1, top_p=0.97)
    assert (0.97, ()) == (body["top_p"], dropped)


def test_a_forced_call_yields_to_thinking_that_was_asked_for() -> None:
    body, dropped = cross(
        tools=(WEATHER,), tool_choice=ToolChoice("required"), parallel_tool_calls=False, reasoning=Reasoning("adaptive")
    )

    assert {"type": "auto", "disable_parallel_tool_use": True} == body["tool_choice"]
    assert ("tool_choice",) == dropped


def test_a_forced_call_stands_where_an_effort_needs_no_thinking() -> None:
    body, dropped = cross(
        model="claude-opus-4-6", tools=(WEATHER,), tool_choice=ToolChoice("required"), reasoning=Reasoning(effort="low")
    )

    assert ({"type": "any"}, {"effort": "low"}, ()) == (body["tool_choice"], body["output_config"], dropped)
    assert "thinking" not in body


def test_a_tool_call_made_without_thinking_is_answered_without_thinking() -> None:
    think = Reasoning(effort="low")
    body, dropped = cross(HI, *call_and_result(), tools=(WEATHER,), reasoning=think)
    assert "thinking" not in body
    assert ("reasoning_effort",) == dropped

    asked, answered = call_and_result()
    thought = replace(asked, parts=(Thinking("a", "sig"), *asked.parts))
    assert "thinking" in cross(HI, thought, answered, tools=(WEATHER,), reasoning=think)[0]
    assert "thinking" in cross(HI, Message("assistant", (Text("a"),)), HI, reasoning=think)[0]
    assert "thinking" in cross(HI, Message("assistant", (Text("a"),)), reasoning=think)[0]


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {}}, "b": {"anyOf": [{"type": "object"}, True]}},
    "$defs": {"c": {"type": "object", "additionalProperties": {"type": "object"}}},
    "items": {"type": "object"},
    "enum": [{"type": "object"}],
}


def test_a_json_schema_becomes_an_output_format_with_closed_objects() -> None:
    wanted = ResponseFormat("json_schema", SCHEMA, "city", "A city", True)
    body, dropped = cross(response_format=wanted, model="claude-opus-4-6", reasoning=Reasoning(effort="low"))

    assert {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "title": "city",
                "description": "A city",
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "a": {"type": "object", "properties": {}, "additionalProperties": False},
                    "b": {"anyOf": [{"type": "object", "additionalProperties": False}, True]},
                },
                "$defs": {
                    "c": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": False}}
                },
                "items": {"type": "object", "additionalProperties": False},
                "enum": [{"type": "object"}],
            },
        },
    } == body["output_config"]
    assert () == dropped


@pytest.mark.parametrize("model", ["claude-sonnet-4-0", "claude-3-haiku-20240307", "deepseek-chat"])
def test_a_json_schema_is_refused_where_the_model_has_no_structured_outputs(model: str) -> None:
    with pytest.raises(Unsupported, match=r"response_format.*no structured outputs"):
        cross(response_format=ResponseFormat("json_schema", {}), model=model)


def test_a_json_schema_without_a_schema_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"response_format.json_schema.schema must be an object"):
        cross(response_format=ResponseFormat("json_schema"))


def test_json_without_a_schema_is_asked_for_in_the_prompt() -> None:
    body, dropped = cross(response_format=ResponseFormat("json_object"))

    assert (JSON_PROMPT, ()) == (body["system"], dropped)
    assert () == cross(response_format=ResponseFormat("text"))[1]


@pytest.mark.parametrize(
    ("fields_", "name"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"needed": ("conversation",)}, "conversation"),
        ({"extras": {"tool_choice": {"type": "allowed_tools"}}}, "tool_choice"),
        ({"extras": {"modalities": ["text", "audio"]}}, "modalities"),
        ({"extras": {"functions": [{}]}}, "functions"),
        ({"extras": {"web_search_options": {}}}, "web_search_options"),
    ],
)
def test_what_would_change_the_answer_is_refused(fields_: dict[str, Any], name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        cross(**fields_)

    assert name == caught.value.param


def test_what_has_no_place_is_dropped_and_named() -> None:
    _, dropped = cross(
        Message("user", (Image(PNG, "high", extras={"q": 1}),), name="Ann", extras={"z": 1, "y": None}),
        Message("assistant", (ToolCall("c", "f", "{}", signature="g", extras={"index": 0}),)),
        Message("tool", (ToolResult("c", (Text("x", extras={"w": 1}),)),)),
        n=1,
        logprobs=False,
        seed=4,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        metadata={"a": "b"},
        service_tier="flex",
        user="u" * 257,
        extras={"logit_bias": {}, "store": None, "modalities": ["text"]},
    )

    assert (
        "frequency_penalty",
        "logit_bias",
        "messages[0].content[0].image_url.detail",
        "messages[0].content[0].q",
        "messages[0].name",
        "messages[0].z",
        "messages[1].content[0].extra_content.google.thought_signature",
        "messages[1].content[0].index",
        "messages[2].content[0].content[0].w",
        "metadata",
        "modalities",
        "presence_penalty",
        "seed",
        "service_tier",
        "user",
    ) == dropped


def test_who_asks_and_on_which_terms_is_mapped() -> None:
    body, dropped = cross(user="u1", service_tier="default", stream=True)

    assert ({"user_id": "u1"}, "standard_only", True, ()) == (
        body["metadata"],
        body["service_tier"],
        body["stream"],
        dropped,
    )


def test_every_field_of_a_chat_has_a_stated_fate() -> None:
    assert [field.name for field in fields(Chat) if field.compare] == list(FIELDS)


def test_writing_is_a_function_of_the_chat_alone() -> None:
    asked = chat(HI, *call_and_result("a.b"), tools=(WEATHER,), response_format=ResponseFormat("json_schema", SCHEMA))

    assert PLUGIN.write_chat(asked, MODEL) == PLUGIN.write_chat(asked, MODEL)


# --- replies

ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 2},
}


def answer(**fields_: Any) -> Reply:
    return PLUGIN.read_reply(json.dumps({**ANSWER, **fields_}).encode())


def wrote(reply: Reply) -> dict[str, Any]:
    raw = PLUGIN.write_reply(reply)
    AnthropicMessage.model_validate_json(raw)
    return dict(json.loads(raw))


def test_several_text_blocks_stay_several() -> None:
    assert (Text("a"), Text("b")) == answer().choices[0].parts


def test_usage_falls_into_buckets_that_do_not_overlap() -> None:
    told = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 3},
        "cache_read_input_tokens": 5,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 8},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    }
    reply = answer(usage=told)

    usage = Usage(input=10, cache_read=5, cache_write=4, cache_write_1h=3, output=12, reasoning=8, searches=1)
    assert usage == reply.usage
    assert {"usage": {"server_tool_use": told["server_tool_use"]}} == reply.extras
    assert told == wrote(reply)["usage"]


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 3, "ephemeral_5m_input_tokens": 1}},
            Usage(cache_write=1, cache_write_1h=3),
        ),
        (
            {"cache_creation_input_tokens": 2, "cache_creation": {"ephemeral_1h_input_tokens": 3}},
            Usage(cache_write_1h=2),
        ),
        ({"input_tokens": -1, "output_tokens": None}, Usage()),
        ({"input_tokens": "1", "output_tokens": True}, Usage()),
        ({"output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}}, Usage(reasoning=2)),
    ],
)
def test_odd_counts_make_no_odd_usage(told: dict[str, Any], usage: Usage) -> None:
    found = answer(usage=told).usage

    assert found is not None
    assert usage == replace(found, prompt_unknown=False, completion_unknown=False, unreadable=0)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop_sequence"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "context_window"),
        ("tool_use", "tool_calls"),
        ("refusal", "refusal"),
        ("pause_turn", "pause"),
        ("brand_new", "other"),
    ],
)
def test_a_stop_reason_is_understood_and_comes_back(raw: str, reason: FinishReason) -> None:
    reply = answer(stop_reason=raw, stop_sequence="END" if raw == "stop_sequence" else None)
    finish = reply.choices[0].finish

    assert finish is not None
    assert (reason, raw) == (finish.reason, finish.raw)
    assert raw == json.loads(PLUGIN.write_reply(reply))["stop_reason"]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"type":"error","error":{"type":"api_error","message":"x"}}',
        b'{"type":"message","content":"x"}',
        b'{"type":"message","content":[{"type":"text"}]}',
    ],
)
def test_what_is_no_message_is_the_providers_fault(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        PLUGIN.read_reply(body)


def test_a_reply_without_ids_or_usage_is_read() -> None:
    reply = PLUGIN.read_reply(b'{"type":"message","content":[]}')

    assert Reply(PLUGIN.name, None, None, (Choice(()),)) == reply
    assert wrote(reply)["id"].startswith("msg_")


def foreign(*parts: Part, finish: Finish | None = None, **fields_: Any) -> Reply:
    return Reply("openai_chat", **{"id": "chatcmpl-1", "model": "gpt", **fields_}, choices=(Choice(parts, finish),))


def test_a_foreign_reply_is_told_in_the_order_of_this_dialect() -> None:
    reply = foreign(
        ToolCall("c1", "f", '{"x":1}'),
        Text(""),
        Text("so", extras={"annotations": []}),
        Opaque("openai_chat", "audio", {}),
        Thinking("hm"),
        Thinking(""),
        RedactedThinking("zz"),
        Refusal("no"),
        ToolCall("", "g", "[1]"),
        finish=Finish("stop", "stop"),
        usage=Usage(input=5, cache_read=3, output=2, reasoning=1, input_audio=1),
        extras={"service_tier": "default"},
    )
    written = wrote(reply)

    assert [
        {"type": "thinking", "thinking": "hm", "signature": "edge-carried:unsigned"},
        {"type": "redacted_thinking", "data": "zz"},
        {"type": "text", "text": "so"},
        {"type": "text", "text": "no"},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
    ] == written["content"][:5]
    assert ({"raw_arguments": "[1]"}, "toolu_") == (written["content"][5]["input"], written["content"][5]["id"][:6])
    assert ("msg_chatcmpl-1", "tool_use") == (written["id"], written["stop_reason"])
    assert {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 1},
    } == written["usage"]
    assert "service_tier" not in written


@pytest.mark.parametrize(
    ("finish", "called", "expected"),
    [
        (Finish("stop"), False, "end_turn"),
        (Finish("stop", stop_sequence="X"), False, "stop_sequence"),
        (Finish("stop_sequence", stop_sequence="X"), False, "stop_sequence"),
        (Finish("length"), False, "max_tokens"),
        (Finish("context_window"), False, "model_context_window_exceeded"),
        (Finish("tool_calls"), True, "tool_use"),
        (Finish("content_filter"), False, "refusal"),
        (Finish("refusal"), False, "refusal"),
        (Finish("pause"), False, "pause_turn"),
        (Finish("malformed"), False, "end_turn"),
        (Finish("other", "RECITATION"), False, "max_tokens"),
        (Finish("stop"), True, "tool_use"),
        (None, True, "tool_use"),
        (Finish("length"), True, "max_tokens"),
        (None, False, "end_turn"),
    ],
)
def test_a_foreign_finish_is_told_as_a_stop_reason(finish: Finish | None, called: bool, expected: str | None) -> None:
    parts = (ToolCall("c", "f", "{}"),) if called else (Text("a"),)
    written = wrote(foreign(*parts, finish=finish))

    assert expected == written["stop_reason"]
    assert (finish.stop_sequence if finish else None) == written["stop_sequence"]


def test_a_reply_without_choices_is_empty() -> None:
    written = wrote(Reply("openai_chat", None, None, ()))

    assert ([], None, "") == (written["content"], written["stop_reason"], written["model"])


# --- errors


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, "overloaded", "busy"),
        (
            400,
            {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9"}},
            "context_length",
            "prompt is too long: 9",
        ),
        (402, {"error": {"type": "billing_error", "message": "pay"}}, "payment", "pay"),
        (403, {"message": "no"}, "permission", "no"),
        (422, {"detail": "what"}, "invalid_request", "what"),
        (500, {"error": {"type": 5}}, "api", "the provider gave no reason"),
        (503, "<html>down</html>", "overloaded", "<html>down</html>"),
        (502, "", "api", "the provider gave no reason"),
        (429, "[]", "rate_limit", "the provider gave no reason"),
    ],
)
def test_any_error_body_becomes_a_fault(status: int, body: Any, kind: FaultKind, message: str) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    fault = PLUGIN.read_error(status, (), raw.encode())

    assert (status, kind, message) == (fault.status, fault.kind, fault.message)


def test_an_error_keeps_its_request_id_and_when_to_try_again() -> None:
    headers = (("request-id", "req_1"), ("retry-after", "7"))
    fault = PLUGIN.read_error(429, headers, b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}')
    status, written, body = PLUGIN.write_error(fault)

    assert (429, "req_1", 7.0) == (status, fault.request_id, fault.retry_after)
    assert [("content-type", "application/json"), ("retry-after", "7")] == written
    assert "rate_limit_error" == ErrorResponse.model_validate_json(body).error.type


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((("retry-after-ms", "1500"), ("retry-after", "9")), 1.5),
        ((("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),), None),
        ((("retry-after", "-1"),), None),
        ((("retry-after", "inf"),), None),
    ],
)
def test_only_seconds_say_when_to_try_again(headers: Any, seconds: float | None) -> None:
    assert seconds == PLUGIN.read_error(429, headers, b"{}").retry_after


def test_a_secret_in_a_providers_message_is_struck_out() -> None:
    said = "Incorrect key sk-ant-api03-abcdef123 of org-AbCdEf123456; Bearer abc.def.ghi AIzaSyA1234567890abcdefghijk"
    fault = PLUGIN.read_error(401, (), json.dumps({"error": {"message": said}}).encode())

    assert "Incorrect key *** of ***; Bearer *** ***" == fault.message
    again = json.loads(PLUGIN.write_error(replace(fault, message=said))[2])
    assert "Incorrect key *** of ***; Bearer *** ***" == again["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("invalid_request", "invalid_request_error"),
        ("authentication", "authentication_error"),
        ("payment", "billing_error"),
        ("permission", "permission_error"),
        ("not_found", "not_found_error"),
        ("too_large", "request_too_large"),
        ("rate_limit", "rate_limit_error"),
        ("overloaded", "overloaded_error"),
        ("timeout", "timeout_error"),
        ("content_filter", "invalid_request_error"),
        ("api", "api_error"),
    ],
)
def test_a_fault_of_another_dialect_is_told_in_this_ones_words(kind: FaultKind, expected: str) -> None:
    _, _, body = PLUGIN.write_error(Fault(400, kind, "m", "code", "server_error"))

    # Clients of this format know a context that is too long by these words alone.
    message = "prompt is too long: m" if kind == "context_length" else "m"
    assert {"type": "error", "error": {"type": expected, "message": message}, "request_id": None} == json.loads(body)


# --- models


def test_models_are_listed_as_anthropic_lists_them() -> None:
    page = json.loads(PLUGIN.write_models([ModelCard("a", "x", 1_700_000_000), ModelCard("b", "y")]))

    assert {
        "data": [
            {"type": "model", "id": "a", "display_name": "a", "created_at": "2023-11-14T22:13:20Z"},
            {"type": "model", "id": "b", "display_name": "b", "created_at": "1970-01-01T00:00:00Z"},
        ],
        "has_more": False,
        "first_id": "a",
        "last_id": "b",
    } == page
    assert {"data": [], "has_more": False, "first_id": None, "last_id": None} == json.loads(PLUGIN.write_models([]))


def test_the_turns_that_are_written_are_what_the_sdk_takes() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(list[MessageParam])

    adapter.validate_python(cross(HI, *call_and_result())[0]["messages"])
