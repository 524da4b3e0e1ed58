"""Requests: system prompts, turns, content, tools, settings, thinking. One test for each entry of the list."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from translating import (
    CHAT,
    DIALECTS,
    EVERY,
    GEMINI,
    HI,
    LEAST,
    MESSAGES,
    RESPONSES,
    cross,
    read,
    read_call,
    refused,
    write,
)

from edge_extproc.model.content import Thinking, ToolCall, ToolResult

PNG = "data:image/png;base64,aGVsbG8="
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
CLAUDE_4_6, CLAUDE_4_5, CLAUDE_3_7 = "claude-opus-4-6", "claude-sonnet-4-5", "claude-3-7-sonnet"


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


# --- system and developer


def test_2_1_every_system_turn_is_a_block_of_the_system_prompt_in_order() -> None:
    messages = [
        {"role": "system", "content": "a"},
        HI,
        {"role": "developer", "content": [text("b"), text("c")]},
    ]

    claude, _ = cross(CHAT, MESSAGES, messages=messages)
    gemini, _ = cross(CHAT, GEMINI, messages=messages)

    assert [text("a"), text("b"), text("c")] == claude["system"]
    assert [{"text": "a"}, {"text": "b"}, {"text": "c"}] == gemini["systemInstruction"]["parts"]


def test_2_2_a_cache_mark_stays_on_its_own_part_of_the_system_prompt() -> None:
    """Flattening the parts would move the mark."""
    mark = {"cache_control": {"type": "ephemeral"}}
    body, _ = cross(CHAT, MESSAGES, messages=[{"role": "system", "content": [text("a", **mark), text("b")]}, HI])

    assert [text("a", **mark), text("b")] == body["system"]


@pytest.mark.parametrize("target", [CHAT, RESPONSES, GEMINI])
def test_2_3_a_system_turn_among_anthropics_messages_is_a_system_turn_elsewhere(target: str) -> None:
    body, _ = cross(MESSAGES, target, system="a", messages=[HI, {"role": "system", "content": "b"}])

    if target == GEMINI:
        assert [{"text": "a"}, {"text": "b"}] == body["systemInstruction"]["parts"]
    else:
        turns = body.get("messages", body.get("input"))
        told = [body["instructions"]] if "instructions" in body else []
        assert ["a", "b"] == told + [turn["content"] for turn in turns if turn["role"] == "system"]


@pytest.mark.parametrize("target", [MESSAGES, GEMINI])
def test_2_4_a_conversation_without_a_turn_of_the_user_is_refused(target: str) -> None:
    """Not filled with words that nobody said."""
    assert "no user message" in refused(CHAT, target, messages=[{"role": "system", "content": "a"}])


# --- roles and order


def test_2_5_results_in_a_row_are_one_turn() -> None:
    calls = [{**CALL, "id": id} for id in ("a", "b")]
    messages = [HI, {**ASKED, "tool_calls": calls}, *({**RESULT, "tool_call_id": id} for id in ("a", "b"))]

    claude, _ = cross(CHAT, MESSAGES, messages=messages, tools=[WEATHER])
    gemini, _ = cross(CHAT, GEMINI, messages=messages, tools=[WEATHER])

    assert ["a", "b"] == [block["tool_use_id"] for block in claude["messages"][-1]["content"]]
    assert ["user", "model", "user"] == [turn["role"] for turn in gemini["contents"]]
    assert 2 == len(gemini["contents"][-1]["parts"])


def test_2_6_what_the_user_says_after_results_joins_their_turn_behind_them() -> None:
    messages = [HI, ASKED, RESULT, {"role": "user", "content": "And?"}]

    claude, _ = cross(CHAT, MESSAGES, messages=messages, tools=[WEATHER])
    gemini, _ = cross(CHAT, GEMINI, messages=messages, tools=[WEATHER])

    assert ["tool_result", "text"] == [block["type"] for block in claude["messages"][-1]["content"]]
    assert ["functionResponse", "text"] == [next(iter(part)) for part in gemini["contents"][-1]["parts"]]


@pytest.mark.parametrize(("target", "turns"), [(MESSAGES, "messages"), (GEMINI, "contents")])
def test_2_7_turns_of_one_role_in_a_row_are_one(target: str, turns: str) -> None:
    body, _ = cross(CHAT, target, messages=[HI, HI, {"role": "assistant", "content": "a"}, HI])

    assert 3 == len(body[turns])


def test_2_7_a_turn_that_is_left_out_joins_its_neighbours() -> None:
    body, _ = cross(CHAT, MESSAGES, messages=[HI, {"role": "assistant", "content": ""}, HI])

    assert [("user", [text("Hi"), text("Hi")])] == [(turn["role"], turn["content"]) for turn in body["messages"]]


def test_2_8_the_first_turn_must_be_the_users() -> None:
    assert "a user message first" in refused(CHAT, MESSAGES, messages=[{"role": "assistant", "content": "a"}, HI])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (CHAT, {"messages": [{"role": "robot", "content": "a"}]}),
        (RESPONSES, {"input": [{"role": "robot", "content": "a"}]}),
        (MESSAGES, {"messages": [{"role": "robot", "content": "a"}]}),
        (GEMINI, {"contents": [{"role": "robot", "parts": [{"text": "a"}]}]}),
    ],
)
def test_2_9_an_unknown_role_is_refused_by_its_name(source: str, told: dict[str, Any]) -> None:
    target = next(name for name in EVERY if name != source)

    assert "'robot'" in refused(source, target, **told)


# --- content


CONTINUES = "claude-sonnet-4-5"
"""Continues a last message of the assistant, as models before 4.6 do."""


def test_2_10_empty_text_never_leaves_for_anthropic() -> None:
    messages = [
        user(text(" \n"), text("a")),
        {"role": "assistant", "content": ""},
        {**ASKED, "content": ""},
        {**RESULT, "content": ""},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "It is \n"},
    ]
    body, _ = cross(CHAT, MESSAGES, CONTINUES, messages=messages, tools=[WEATHER])

    assert [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {"a": 1}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1"}, text("go on")]},
        {"role": "assistant", "content": "It is"},
    ] == body["messages"]


def test_2_11_an_image_within_the_request_goes_everywhere() -> None:
    messages = [user(image(PNG))]

    claude, _ = cross(CHAT, MESSAGES, messages=messages)
    gemini, _ = cross(CHAT, GEMINI, messages=messages)
    responses, _ = cross(CHAT, RESPONSES, messages=messages)

    source = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
    assert [{"type": "image", "source": source}] == claude["messages"][0]["content"]
    assert [{"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}] == gemini["contents"][0]["parts"]
    assert PNG == responses["input"][0]["content"][0]["image_url"]


@pytest.mark.parametrize(
    ("url", "mime"), [("https://x.example/a.webp?b", "image/webp"), ("https://x.example/a", "image/jpeg")]
)
def test_2_11_an_image_elsewhere_goes_by_its_address(url: str, mime: str) -> None:
    claude, _ = cross(CHAT, MESSAGES, messages=[user(image(url))])
    gemini, _ = cross(CHAT, GEMINI, messages=[user(image(url))])

    assert {"type": "url", "url": url} == claude["messages"][0]["content"][0]["source"]
    assert {"fileUri": url, "mimeType": mime} == gemini["contents"][0]["parts"][0]["fileData"]


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_2_11_an_image_of_another_format_is_refused(target: str) -> None:
    assert "image/tiff" in refused(CHAT, target, messages=[user(image("data:image/tiff;base64,aGVsbG8="))])


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_2_11_a_broken_data_uri_is_refused(target: str) -> None:
    assert "image_url.url" in refused(CHAT, target, messages=[user(image("data:image/png"))])


def test_2_11_a_pdf_is_a_document_wherever_it_stands() -> None:
    inside, _ = cross(CHAT, MESSAGES, messages=[user(image("data:application/pdf;base64,aGVsbG8="))])
    outside, _ = cross(CHAT, MESSAGES, messages=[user(image("https://x.example/a.PDF"))])

    assert ["document", "document"] == [body["messages"][0]["content"][0]["type"] for body in (inside, outside)]


def test_2_11_an_image_without_an_address_is_skipped_by_gemini_and_named() -> None:
    body, dropped = cross(CHAT, GEMINI, messages=[user(text("a"), image(""))])

    assert [{"text": "a"}] == body["contents"][0]["parts"]
    assert ("messages[0].content[1]",) == dropped


@pytest.mark.parametrize(("detail", "level"), [("low", "LOW"), ("high", "HIGH"), ("medium", "MEDIUM")])
def test_2_12_detail_is_a_resolution_for_gemini_3(detail: str, level: str) -> None:
    body, _ = cross(CHAT, GEMINI, messages=[user(image(PNG, detail=detail))])

    assert {"level": f"MEDIA_RESOLUTION_{level}"} == body["contents"][0]["parts"][0]["mediaResolution"]


def test_2_12_detail_is_named_elsewhere_and_refused_where_nobody_knows_it() -> None:
    _, dropped = cross(CHAT, MESSAGES, messages=[user(image(PNG, detail="low"))])
    auto, named = cross(CHAT, GEMINI, messages=[user(image(PNG, detail="auto"))])

    assert ("messages[0].content[0].image_url.detail",) == dropped
    assert (["inlineData"], ()) == (list(auto["contents"][0]["parts"][0]), named)
    assert "detail" in refused(CHAT, GEMINI, messages=[user(image(PNG, detail="odd"))])


def test_2_13_sound_is_carried_or_refused() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "aGVsbG8=", "format": "wav"}}

    body, _ = cross(CHAT, GEMINI, messages=[user(sound)])

    assert "audio/wav" == body["contents"][0]["parts"][0]["inlineData"]["mimeType"]
    for target in (MESSAGES, RESPONSES):
        assert "no audio" in refused(CHAT, target, messages=[user(sound)])


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_2_13_a_part_that_nobody_knows_is_refused(target: str) -> None:
    assert "'video_url'" in refused(CHAT, target, messages=[user({"type": "video_url", "video_url": {"url": "x"}})])


def test_2_14_a_refusal_is_text_to_anthropic_and_dropped_for_gemini() -> None:
    messages = [HI, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}, HI]

    claude, _ = cross(CHAT, MESSAGES, messages=messages)
    gemini, dropped = cross(CHAT, GEMINI, messages=messages)

    assert "No" == claude["messages"][1]["content"]
    assert 1 == len(gemini["contents"])
    assert ("messages[1].content[0]",) == dropped


def test_2_15_results_go_before_the_rest_of_the_turn_and_images_in_them_are_kept() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}
    messages = [
        HI,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "s"},
                text("Wait"),
                {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            ],
        },
        user(
            text("And?"),
            {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": [text("sun"), picture]},
        ),
    ]

    body, dropped = cross(MESSAGES, CHAT, messages=messages)

    _, said, result, asked = body["messages"]
    assert ("Wait", "{}") == (said["content"], said["tool_calls"][0]["function"]["arguments"])
    assert {"role": "tool", "tool_call_id": "t", "content": "sun"} == result
    assert PNG in [part.get("image_url", {}).get("url") for part in asked["content"]]
    assert "And?" == asked["content"][-1]["text"]
    assert "messages[2].content[1].is_error" in dropped


@pytest.mark.parametrize(("content", "said"), [("sun", "sun"), ([text("a"), text("b")], None), (None, "")])
def test_2_16_a_result_may_be_text_blocks_or_nothing(content: Any, said: str | None) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", **({} if content is None else {"content": content})}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    body, _ = cross(MESSAGES, CHAT, messages=[HI, {"role": "assistant", "content": [call]}, user(result)])

    assert (said if said is not None else content) == body["messages"][-1]["content"]


def test_2_17_a_result_is_no_error_because_it_holds_the_word() -> None:
    messages = [HI, ASKED, {**RESULT, "content": '{"error":"none"}'}]

    claude, _ = cross(CHAT, MESSAGES, messages=messages, tools=[WEATHER])
    results = [part for message in read(CHAT, messages=messages).messages for part in message.parts]

    assert "is_error" not in claude["messages"][-1]["content"][0]
    assert [False] == [part.is_error for part in results if isinstance(part, ToolResult)]


# --- tool calls of the history


@pytest.mark.parametrize("target", [MESSAGES, GEMINI])
def test_2_18_arguments_become_an_object(target: str) -> None:
    def history(arguments: str) -> list[Any]:
        function = {"name": "weather", "arguments": arguments}
        return [HI, {**ASKED, "tool_calls": [{**CALL, "function": function}]}, RESULT]

    def given(arguments: str) -> Any:
        body, _ = cross(CHAT, target, messages=history(arguments), tools=[WEATHER])
        if target == MESSAGES:
            return body["messages"][1]["content"][0]["input"]
        return body["contents"][1]["parts"][0]["functionCall"]["args"]

    assert {"a": [1.0]} == given('{"a":[1.0]}')
    assert {} == given("")
    for broken in ('{"a"', "[1]", "7"):
        assert {"raw_arguments": broken} == given(broken)


@pytest.mark.parametrize("target", [MESSAGES, RESPONSES])
def test_2_18_a_call_without_an_id_is_refused_with_its_place(target: str) -> None:
    nameless = {key: value for key, value in CALL.items() if key != "id"}

    assert "messages[1].tool_calls[0].id" in refused(
        CHAT, target, messages=[HI, {**ASKED, "tool_calls": [nameless]}], tools=[WEATHER]
    )


def test_2_19_a_result_for_gemini_bears_the_name_of_its_call() -> None:
    body, _ = cross(CHAT, GEMINI, messages=[HI, ASKED, RESULT], tools=[WEATHER])
    part = body["contents"][-1]["parts"][0]["functionResponse"]

    assert ("weather", {"output": "sun"}) == (part["name"], part["response"])
    as_object, _ = cross(CHAT, GEMINI, messages=[HI, ASKED, {**RESULT, "content": '{"a":1}'}], tools=[WEATHER])
    assert {"a": 1} == as_object["contents"][-1]["parts"][0]["functionResponse"]["response"]
    other = [HI, ASKED, RESULT, {**RESULT, "tool_call_id": "other", "content": "rain"}]
    told, dropped = cross(CHAT, GEMINI, messages=other, tools=[WEATHER])
    assert {"text": "rain"} == told["contents"][-1]["parts"][-1]
    assert ("messages[3].tool_call_id",) == dropped


def test_2_20_calls_of_gemini_without_an_id_get_one_each_and_its_result_the_same() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    result = {"functionResponse": {"name": "f", "response": {"output": "x"}}}
    contents = [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [call, call, {"functionCall": {"id": "kept", "name": "f", "args": {}}}]},
        {"role": "user", "parts": [result, result, {"functionResponse": {**result["functionResponse"], "id": "kept"}}]},
    ]
    body, _ = cross(GEMINI, CHAT, contents=contents)

    ids = [call["id"] for call in body["messages"][1]["tool_calls"]]
    assert 3 == len(set(ids))
    assert "kept" == ids[2]
    assert ids == [message["tool_call_id"] for message in body["messages"][2:]]


@pytest.mark.parametrize(
    ("target", "model", "shape"),
    [
        (MESSAGES, None, r"[a-zA-Z0-9_-]{1,64}"),
        (CHAT, None, r"[a-zA-Z0-9_-]{1,40}"),
        (CHAT, "mistral-large-latest", r"[a-zA-Z0-9]{9}"),
        (RESPONSES, None, r".{1,64}"),
    ],
)
def test_2_20_an_id_that_a_provider_refuses_is_another_one_in_call_and_result_alike(
    target: str, model: str | None, shape: str
) -> None:
    id = "functions.weather:0/" + "x" * 80
    contents = [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {"role": "model", "parts": [{"functionCall": {"id": id, "name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": id, "name": "f", "response": {}}}]},
    ]
    first, _ = cross(GEMINI, target, model, contents=contents)
    found = re.findall(r'"(?:id|tool_use_id|tool_call_id|call_id)": "([^"]+)"', json.dumps(first))

    assert 2 == len(found)
    assert 1 == len(set(found))
    assert re.fullmatch(shape, found[0])
    assert (first, ()) == (cross(GEMINI, target, model, contents=contents)[0], ())


def test_2_21_tool_calls_of_the_history_get_tools_that_may_not_be_called() -> None:
    body, _ = cross(CHAT, MESSAGES, messages=[HI, ASKED, RESULT])

    assert ["weather"] == [tool["name"] for tool in body["tools"]]
    assert {"type": "none"} == body["tool_choice"]


# --- tools


def test_2_22_a_function_is_a_tool_of_anthropic_with_all_of_its_schema() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}, "additionalProperties": False}
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema, "strict": True}},
        {"type": "function", "function": {"name": "g"}},
    ]

    body, _ = cross(CHAT, MESSAGES, tools=tools)

    first, second = body["tools"]
    assert {"name": "f", "description": "d", "input_schema": {"type": "object", **schema}, "strict": True} == first
    assert {"name": "g", "input_schema": {"type": "object", "properties": {}}} == second


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_2_22_a_tool_that_is_no_function_is_left_out_and_named(target: str) -> None:
    body, dropped = cross(CHAT, target, tools=[{"type": "odd"}])

    assert "odd" not in json.dumps(body)
    assert ("tools[0]",) == dropped
    assert "'odd'" in refused(CHAT, target, tools=[{"type": "odd"}], tool_choice="required")
    assert "function" in refused(CHAT, target, tools=[{"type": "function"}])


def test_2_24_gemini_takes_json_schema_as_it_is_from_2_5_on() -> None:
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}} for name in ("f", "g")]

    body, _ = cross(CHAT, GEMINI, "gemini-2.5-flash", tools=tools)

    (tool,) = body["tools"]
    assert [schema, schema] == [each["parametersJsonSchema"] for each in tool["functionDeclarations"]]


def test_2_24_older_geminis_get_what_openapi_can_say() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/a"},
            "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "c": {"type": ["string", "null"]},
            "d": {"allOf": [{"type": "boolean"}]},
        },
        "$defs": {"a": {"type": "string"}},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}

    body, _ = cross(CHAT, GEMINI, "gemini-1.5-pro", tools=[tool])

    properties = body["tools"][0]["functionDeclarations"][0]["parameters"]["properties"]
    assert "STRING" == properties["a"]["type"].upper()
    assert [True, True] == [properties[name]["nullable"] for name in ("b", "c")]
    assert "BOOLEAN" == properties["d"]["type"].upper()


@pytest.mark.parametrize(
    "broken",
    [
        {"$ref": "#/$defs/none"},
        {"$ref": "#/$defs/a"},
        {"allOf": [{"type": "string", "minLength": 1}, {"type": "integer"}]},
    ],
)
def test_2_24_a_schema_that_openapi_cannot_say_is_refused(broken: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": broken}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}

    assert "tools[0]" in refused(CHAT, GEMINI, "gemini-1.5-pro", tools=[tool])


CHOICES: list[tuple[Any, Any, Any]] = [
    (None, None, None),
    ("auto", {"type": "auto"}, {"mode": "AUTO"}),
    ("required", {"type": "any"}, {"mode": "ANY"}),
    ("none", {"type": "none"}, {"mode": "NONE"}),
    (
        {"type": "function", "function": {"name": "weather"}},
        {"type": "tool", "name": "weather"},
        {"mode": "ANY", "allowedFunctionNames": ["weather"]},
    ),
]


@pytest.mark.parametrize(("choice", "claude", "gemini"), CHOICES)
def test_2_25_a_tool_choice_has_its_word_in_each_format(choice: Any, claude: Any, gemini: Any) -> None:
    told = {"tools": [WEATHER], **({} if choice is None else {"tool_choice": choice})}

    assert claude == cross(CHAT, MESSAGES, **told)[0].get("tool_choice")
    assert gemini == cross(CHAT, GEMINI, **told)[0].get("toolConfig", {}).get("functionCallingConfig")


@pytest.mark.parametrize(("choice", "claude", "gemini"), CHOICES[1:])
def test_2_25_and_back_again(choice: Any, claude: Any, gemini: Any) -> None:
    del gemini
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]

    assert choice == cross(MESSAGES, CHAT, tools=tools, tool_choice=claude)[0]["tool_choice"]
    assert "tool_choice" not in cross(MESSAGES, CHAT, tool_choice=claude)[0]


@pytest.mark.parametrize("choice", [None, "auto", "required"])
def test_2_25_one_call_at_a_time_is_kept_where_nothing_else_was_chosen(choice: str | None) -> None:
    told = {"tool_choice": choice} if choice else {}
    body, _ = cross(CHAT, MESSAGES, tools=[WEATHER], parallel_tool_calls=False, **told)

    assert body["tool_choice"]["disable_parallel_tool_use"] is True
    assert {None: "auto", "auto": "auto", "required": "any"}[choice] == body["tool_choice"]["type"]


@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_2_25_a_choice_that_nobody_knows_is_refused(target: str) -> None:
    assert "tool_choice" in refused(CHAT, target, tools=[WEATHER], tool_choice="maybe")


@pytest.mark.parametrize("model", [CLAUDE_3_7, CLAUDE_4_6])
def test_2_26_a_forced_call_and_thinking_are_not_sent_together(model: str) -> None:
    body, dropped = cross(
        CHAT, MESSAGES, model, tools=[WEATHER], tool_choice="required", reasoning_effort="high", max_tokens=9000
    )

    assert not ("thinking" in body and body["tool_choice"]["type"] == "any")
    assert (model == CLAUDE_3_7) == ("tool_choice" in dropped)


@pytest.mark.parametrize("target", [CHAT, RESPONSES, GEMINI])
def test_2_27_server_tools_of_another_are_named_and_not_forgotten(target: str) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]

    assert ("tools[0]",) == cross(MESSAGES, target, tools=tools)[1]
    forced = refused(MESSAGES, target, tools=tools, tool_choice={"type": "tool", "name": "web_search"})
    assert "web_search_20250305" in forced


def test_2_27_googles_search_is_googles() -> None:
    tools, forced = [{"googleSearch": {}}], {"functionCallingConfig": {"mode": "ANY"}}

    assert ("tools[0].googleSearch",) == cross(GEMINI, MESSAGES, tools=tools)[1]
    assert "googleSearch" in refused(GEMINI, MESSAGES, tools=tools, toolConfig=forced)


# --- sampling and limits


@pytest.mark.parametrize(
    ("target", "field"), [(MESSAGES, "max_tokens"), (RESPONSES, "max_output_tokens"), (GEMINI, "maxOutputTokens")]
)
def test_2_28_max_completion_tokens_wins_over_max_tokens(target: str, field: str) -> None:
    body, _ = cross(CHAT, target, max_tokens=17, max_completion_tokens=19)

    assert 19 == body.get("generationConfig", body)[field]


def test_2_28_anthropic_gets_a_limit_where_the_caller_gave_none() -> None:
    """Zero would be refused."""
    assert 8_192 <= cross(CHAT, MESSAGES)[0]["max_tokens"]
    for target in (GEMINI, RESPONSES):
        assert "max" not in json.dumps(cross(CHAT, target)[0])


@pytest.mark.parametrize(("asked", "limit"), [(None, None), (100, 1_124), (9_000, 9_000)])
def test_2_29_a_budget_to_think_is_over_1024_and_under_the_limit(asked: int | None, limit: int | None) -> None:
    told = {} if asked is None else {"max_tokens": asked}
    body, _ = cross(CHAT, MESSAGES, CLAUDE_4_5, reasoning_effort="minimal", **told)

    assert 1_024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]
    assert limit in (None, body["max_tokens"])


@pytest.mark.parametrize("stop", ["END", ["END"], ["END", " \n"]])
def test_2_30_stop_sequences_of_white_space_are_left_out_for_anthropic(stop: Any) -> None:
    claude, dropped = cross(CHAT, MESSAGES, stop=stop)

    assert ["END"] == claude["stop_sequences"]
    assert ("stop",) * (len(stop) == 2) == dropped
    if isinstance(stop, str):
        assert ["END"] == cross(CHAT, GEMINI, stop=stop)[0]["generationConfig"]["stopSequences"]


def test_2_30_more_stop_sequences_than_gemini_takes_are_refused() -> None:
    assert "stop" in refused(CHAT, GEMINI, stop=list("abcdef"))


def test_2_31_a_temperature_over_1_is_refused_by_anthropic_and_never_sent() -> None:
    assert "temperature" in refused(CHAT, MESSAGES, CLAUDE_4_5, temperature=1.5)
    assert 1.5 == cross(CHAT, GEMINI, temperature=1.5)[0]["generationConfig"]["temperature"]


@pytest.mark.parametrize("model", [CLAUDE_3_7, CLAUDE_4_5])
def test_2_31_thinking_leaves_no_room_for_sampling(model: str) -> None:
    body, dropped = cross(CHAT, MESSAGES, model, reasoning_effort="low", temperature=0.2, top_p=0.5)

    assert not {"temperature", "top_p"} & body.keys()
    assert {"temperature", "top_p"} <= set(dropped)


def test_2_31_newer_claudes_take_one_of_temperature_and_top_p() -> None:
    body, dropped = cross(CHAT, MESSAGES, CLAUDE_4_5, temperature=0.2, top_p=0.5)

    assert (0.2, ("top_p",)) == (body["temperature"], dropped)
    assert "top_p" not in body


def test_2_32_what_only_some_can_count_is_mapped_named_or_refused() -> None:
    told = {"seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.5}
    config = cross(CHAT, GEMINI, n=2, logprobs=True, top_logprobs=3, **told)[0]["generationConfig"]
    _, dropped = cross(CHAT, MESSAGES, **told)

    assert {
        "candidateCount": 2,
        "seed": 7,
        "presencePenalty": 0.5,
        "frequencyPenalty": 0.5,
        "responseLogprobs": True,
        "logprobs": 3,
    } == config
    assert ("frequency_penalty", "presence_penalty", "seed") == dropped
    for target in (MESSAGES, RESPONSES):
        assert "n cannot be sent" in refused(CHAT, target, n=2)
    assert 40 == cross(MESSAGES, GEMINI, top_k=40)[0]["generationConfig"]["topK"]
    assert "top_k" in cross(MESSAGES, CHAT, top_k=40)[1]


def test_2_33_a_stream_is_always_asked_for_its_usage() -> None:
    assert {"include_usage": True} == cross(MESSAGES, CHAT, stream=True)[0]["stream_options"]
    assert {"include_usage": True} == write(read(CHAT, stream=True), CHAT)[0]["stream_options"]
    assert "stream_options" not in cross(MESSAGES, CHAT)[0]


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}


def test_2_34_a_schema_of_the_answer_goes_where_there_is_one() -> None:
    claude = cross(CHAT, MESSAGES, response_format=FORMAT)[0]["output_config"]["format"]
    gemini = cross(CHAT, GEMINI, response_format=FORMAT)[0]["generationConfig"]
    responses = cross(CHAT, RESPONSES, response_format=FORMAT)[0]["text"]["format"]

    assert ("json_schema", {**SCHEMA, "title": "answer", "additionalProperties": False}) == (
        claude["type"],
        claude["schema"],
    )
    assert ("application/json", {**SCHEMA, "title": "answer"}) == (
        gemini["responseMimeType"],
        gemini["responseJsonSchema"],
    )
    assert {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True} == responses
    assert "structured outputs" in refused(CHAT, MESSAGES, CLAUDE_3_7, response_format=FORMAT)


def test_2_34_json_without_a_schema_is_a_type_for_gemini_and_in_the_prompt_for_anthropic() -> None:
    config = cross(CHAT, GEMINI, response_format={"type": "json_object"})[0]["generationConfig"]

    assert {"responseMimeType": "application/json"} == config
    asked, dropped = cross(CHAT, MESSAGES, response_format={"type": "json_object"})
    assert ((), True) == (dropped, "one valid JSON object" in str(asked["system"]))
    broken = {"type": "json_schema", "json_schema": {"name": "a", "schema": 7}}
    for target in (MESSAGES, GEMINI, RESPONSES):
        assert "response_format" in refused(CHAT, target, response_format=broken)


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-3-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3-flash", "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        ("gemini-3-pro", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3-pro", "medium", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-3-pro", "high", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.0-flash", "low", None),
    ],
)
def test_2_35_an_effort_is_a_level_or_a_budget_for_gemini(model: str, effort: str, config: Any) -> None:
    body, _ = cross(CHAT, GEMINI, model, reasoning_effort=effort)

    assert config == body.get("generationConfig", {}).get("thinkingConfig")


def test_2_35_not_to_think_is_refused_where_it_cannot_be_had() -> None:
    assert "'none'" in refused(CHAT, GEMINI, "gemini-3-pro", reasoning_effort="none")


def test_2_35_an_effort_is_an_effort_or_a_budget_for_claude() -> None:
    new, _ = cross(CHAT, MESSAGES, CLAUDE_4_6, reasoning_effort="high")
    old, _ = cross(CHAT, MESSAGES, CLAUDE_4_5, reasoning_effort="high")
    _, dropped = cross(CHAT, MESSAGES, "claude-3-5-haiku", reasoning_effort="high")

    assert "high" == new["output_config"]["effort"]
    assert {"type": "enabled", "budget_tokens": 4096} == old["thinking"]
    assert ("reasoning_effort",) == dropped
    nearest, _ = cross(CHAT, MESSAGES, CLAUDE_4_6, reasoning_effort="xhigh")
    assert "high" == nearest["output_config"]["effort"]
    for target in (MESSAGES, GEMINI, RESPONSES):
        body, _ = cross(CHAT, target, reasoning_effort="")
        assert not {"thinking", "output_config", "reasoning"} & body.keys()


@pytest.mark.parametrize(
    "thinking",
    [
        {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
        {"type": "disabled"},
        {"type": "adaptive", "display": "summarized"},
    ],
)
def test_2_36_thinking_goes_back_to_anthropic_as_it_came(thinking: dict[str, Any]) -> None:
    asked = {**LEAST[MESSAGES], "thinking": thinking, "container": "c", "output_config": {"effort": "low"}}
    call = read_call(MESSAGES, json.dumps(asked).encode(), "m", stream=False)

    assert {**asked, "model": "other"} == json.loads(DIALECTS[MESSAGES].splice(call, "other").body)


# --- thinking of the history


def test_2_37_thinking_goes_back_first_unchanged_and_in_order_through_an_openai_caller() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "c2VhbA=="},
        {"type": "thinking", "thinking": "Ah", "signature": "s2"},
    ]
    said = {**ASKED, "content": "Wait", "reasoning_content": "HmAh", "thinking_blocks": blocks}

    body, _ = cross(CHAT, MESSAGES, messages=[HI, said, RESULT], tools=[WEATHER])

    assert blocks == body["messages"][1]["content"][:3]
    assert ["text", "tool_use"] == [block["type"] for block in body["messages"][1]["content"][3:]]


def test_2_38_a_block_of_a_signature_alone_is_kept() -> None:
    block = {"type": "thinking", "thinking": "", "signature": "s"}
    body, _ = cross(CHAT, MESSAGES, messages=[HI, {**ASKED, "thinking_blocks": [block]}, RESULT], tools=[WEATHER])

    assert block == body["messages"][1]["content"][0]
    assert [Thinking("", "s")] == [
        part
        for part in read(MESSAGES, messages=[HI, {"role": "assistant", "content": [block]}]).messages[1].parts
        if isinstance(part, Thinking)
    ]


def test_2_38_thinking_without_a_signature_is_named_and_not_sent() -> None:
    said = {**ASKED, "reasoning_content": "Hm"}
    body, dropped = cross(CHAT, MESSAGES, messages=[HI, said, RESULT], tools=[WEATHER])

    assert ["tool_use"] == [block["type"] for block in body["messages"][1]["content"]]
    assert ("messages[1].reasoning_content",) == dropped


def test_2_39_sealed_thinking_of_the_wrong_kind_is_refused() -> None:
    block = {"type": "redacted_thinking", "data": 7}

    assert "data" in refused(MESSAGES, CHAT, messages=[HI, {"role": "assistant", "content": [block]}])


def test_2_40_the_first_call_of_a_turn_is_signed_for_gemini_3() -> None:
    calls = [{**CALL, "id": "a"}, {**CALL, "id": "b"}]
    results = [{**RESULT, "tool_call_id": id} for id in ("a", "b")]
    messages = [HI, {**ASKED, "tool_calls": calls}, *results]

    unsigned, _ = cross(CHAT, GEMINI, messages=messages, tools=[WEATHER])
    old, _ = cross(CHAT, GEMINI, "gemini-2.5-pro", messages=messages, tools=[WEATHER])

    assert [True, False] == ["thoughtSignature" in part for part in unsigned["contents"][1]["parts"]]
    assert [False, False] == ["thoughtSignature" in part for part in old["contents"][1]["parts"]]


def test_2_40_a_signature_comes_back_with_its_call_and_not_in_its_id() -> None:
    signed = {**CALL, "extra_content": {"google": {"thought_signature": "c2lnbmVk"}}}
    chat = read(CHAT, messages=[HI, {**ASKED, "tool_calls": [signed]}, RESULT], tools=[WEATHER])
    (call,) = (part for part in chat.messages[1].parts if isinstance(part, ToolCall))

    assert ("call_1", "c2lnbmVk") == (call.id, call.signature)
    assert "c2lnbmVk" == write(chat, GEMINI)[0]["contents"][1]["parts"][0]["thoughtSignature"]


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
def test_2_35_a_budget_that_makes_no_sense_asks_for_the_least(target: str) -> None:
    body, _ = cross(MESSAGES, target, "gpt-5-mini", thinking={"type": "enabled", "budget_tokens": -1})

    assert "low" == body.get("reasoning_effort", body.get("reasoning", {}).get("effort"))


def test_2_24_an_order_of_properties_that_is_none_is_let_go() -> None:
    schema = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "propertyOrdering": [{}, "a"]}
    tools = [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]

    body, _ = cross(GEMINI, MESSAGES, tools=tools)

    assert {"type": "object", "properties": {"a": {"type": "string"}}} == body["tools"][0]["input_schema"]


# --- what a model or a host does not take


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    ("model", "effort", "taken"),
    [
        ("gpt-5-mini", None, False),
        ("o4-mini", "LOW", False),
        ("gpt-5.2", "HIGH", False),
        ("gpt-5.2", None, True),
        ("gpt-5.5", None, False),
        ("gpt-5-chat-latest", None, True),
        ("gpt-4.1", None, True),
    ],
)
def test_sampling_settings_are_named_and_not_sent_to_models_that_refuse_them(
    target: str, model: str, effort: str | None, taken: bool
) -> None:
    config: dict[str, Any] = {"temperature": 0.7, "topP": 0.95}
    if effort is not None:
        config["thinkingConfig"] = {"thinkingLevel": effort}
    body, dropped = cross(GEMINI, target, model, generationConfig=config)

    assert (taken, taken) == ("temperature" in body, "top_p" in body)
    named = ("generationConfig.temperature" in dropped, "generationConfig.topP" in dropped)
    assert (not taken, not taken) == named


def test_what_the_temperature_is_anyway_is_no_loss_and_stops_are_named() -> None:
    body, dropped = cross(MESSAGES, CHAT, "o4-mini", temperature=1, stop_sequences=["x"])

    assert (False, False, ("stop_sequences",)) == ("temperature" in body, "stop" in body, dropped)


BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.114.76c; cc_entrypoint=cli; cch=ea6aa;"}


@pytest.mark.parametrize("target", [CHAT, RESPONSES, GEMINI])
def test_the_billing_line_of_claude_code_reaches_no_other_provider(target: str) -> None:
    body, dropped = cross(MESSAGES, target, system=[BILLING, text("You are an agent")])
    alone, named = cross(MESSAGES, target, system=[BILLING])

    assert "cch=" not in json.dumps([body, alone])
    assert "You are an agent" in json.dumps(body)
    assert ("system.x-anthropic-billing-header",) == dropped == named
    for more in (BILLING["text"] + "\nAnd more", "And more\n" + BILLING["text"]):
        for system in (more, [text(more)]):
            shared, also = cross(MESSAGES, target, system=system)
            assert ("cch=" not in json.dumps(shared), "And more" in json.dumps(shared)) == (True, True)
            assert ("system.x-anthropic-billing-header",) == also
    quoted = text("Never write " + BILLING["text"])
    assert "cch=" in json.dumps(cross(MESSAGES, target, system=[quoted])[0])
