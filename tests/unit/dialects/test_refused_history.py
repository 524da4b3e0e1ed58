"""Shapes of a history that a provider is known to refuse: each is taken out, rewritten or completed on its lane. The
property over all conversations is `test_conversations.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import (
    CHAT,
    CONVERSE,
    DIALECTS,
    GEMINI,
    MESSAGES,
    PATHS,
    PROVIDERS,
    RESPONSES,
    Json,
    Provider,
    provider_request,
)

from edge_extproc.dialects.strict_schema import is_strict
from edge_extproc.errors import Unsupported
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.providers.openai import OPENAI_HOST
from edge_extproc.providers.openai_compatible import row

CLAUDE = Provider(MESSAGES, "claude-sonnet-4-5")
BEDROCK_CLAUDE = Provider(CONVERSE, "anthropic.claude-sonnet-4-5-20250929-v1:0")
NOVA_2 = Provider(CONVERSE, "amazon.nova-2-lite-v1:0")
NOVA, R1 = Provider(CONVERSE, "amazon.nova-pro-v1:0"), Provider(CONVERSE, "deepseek.r1-v1:0")
GPT, GPT_RESPONSES = Provider(CHAT, "gpt-5.2", OPENAI_HOST), Provider(RESPONSES, "gpt-5.2", OPENAI_HOST)
MISTRAL = Provider(CHAT, "mistral-large-latest", row("mistral").profile)
GROQ = Provider(CHAT, "llama-3.3-70b", row("groq").profile)
USER = {"role": "user", "content": "a"}


def sent(caller: str, body: Json, provider: Provider) -> tuple[Any, tuple[str, ...]]:
    written, dropped = provider_request(caller, body, PATHS[caller], provider)
    return json.loads(written), dropped


def chat(*messages: Json, **more: Any) -> Json:
    return {"model": "m", "messages": [USER, *messages], **more}


def called(*ids: str, arguments: str = "{}") -> Json:
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id: str, text: str = "b") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": text}


# --- ids that are used again


@pytest.mark.parametrize("provider", [CLAUDE, BEDROCK_CLAUDE, GPT_RESPONSES], ids=["claude", "bedrock", "responses"])
def test_calls_with_ids_that_are_used_again_get_ids_of_their_own(provider: Provider) -> None:
    """The second turn has the same id as the first one, and the last turn has it twice."""
    body = chat(called("call_0"), result("call_0", "1"), called("call_0", "call_0"), result("call_0", "2"))
    body["messages"].append(result("call_0", "3"))
    request, _ = sent(CHAT, body, provider)
    again = DIALECTS[provider.dialect].read_chat(_call(provider.dialect, request))
    parts = [part for message in again.messages for part in message.parts]
    ids = [part.id for part in parts if hasattr(part, "arguments")]
    answers = {part.call_id: part.parts[0].text for part in parts if hasattr(part, "call_id")}

    assert 3 == len(set(ids))
    assert {ids[0]: "1", ids[1]: "2", ids[2]: "3"} == answers


def _call(dialect: str, request: Json) -> Any:
    raw = json.dumps({"model": "m", **request}).encode()
    return DIALECTS[dialect].read_call(raw, "chat", ((":path", PATHS[dialect]),), PATHS[dialect])


def test_ids_that_are_used_again_are_rewritten_on_the_raw_lane_too() -> None:
    """For a Claude only within a turn: recordings show that it takes an id of an earlier one."""
    use = {"type": "tool_use", "id": "call_0", "name": "f", "input": {}}
    answer = {"type": "tool_result", "tool_use_id": "call_0", "content": "b"}
    once = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [answer]}]
    twice = [{"role": "assistant", "content": [use, use]}, {"role": "user", "content": [answer, answer]}]
    request, dropped = sent(MESSAGES, {"max_tokens": 9, **chat(*once, *once, *twice)}, CLAUDE)
    calls, results = (request["messages"][i]["content"] for i in (5, 6))

    assert [*once, *once] == request["messages"][1:5]
    assert ["call_0", True] == [calls[0]["id"], calls[1]["id"] != "call_0"]
    assert [each["id"] for each in calls] == [each["tool_use_id"] for each in results]
    assert ("messages[5].content[1].id", "messages[6].content[1].tool_use_id") == dropped

    call = {"type": "function_call", "call_id": "call_0", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "call_0", "output": "b"}
    items, names = sent(RESPONSES, {"model": "m", "input": [call, output, call, output]}, GPT_RESPONSES)
    ids = [item["call_id"] for item in items["input"]]
    assert ids[:2] == ["call_0"] * 2
    assert ids[2] == ids[3] != "call_0"
    assert ("input[2].call_id", "input[3].call_id") == names


# --- Claude


def test_thinking_at_the_end_of_a_message_does_not_reach_a_claude() -> None:
    signed = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    turns = ({"role": "assistant", "content": [signed]}, USER)
    own, dropped = sent(MESSAGES, {"max_tokens": 9, **chat(*turns)}, CLAUDE)
    crossed, _ = sent(
        CHAT, chat({"role": "assistant", "content": "", "thinking_blocks": [signed]}, USER), BEDROCK_CLAUDE
    )

    assert ([USER, USER], ("messages[1].content[0]",)) == (own["messages"], dropped)
    assert [["user"], 2] == [[each["role"] for each in crossed["messages"]], len(crossed["messages"][0]["content"])]


def test_a_message_of_texts_without_letters_does_not_reach_a_claude() -> None:
    """Recordings show that it takes such a text beside another block."""
    blank, text = {"type": "text", "text": " \n"}, {"type": "text", "text": "b"}
    turns = [{"role": "assistant", "content": each} for each in ([blank], [blank, text])]
    request, dropped = sent(MESSAGES, {"max_tokens": 9, **chat(turns[0], USER, turns[1])}, CLAUDE)

    assert [USER, USER, turns[1]] == request["messages"]
    assert ("messages[1].content[0]",) == dropped


@pytest.mark.parametrize("content", [[], "", " \n"])
def test_a_reply_without_content_comes_back(content: Any) -> None:
    """A call that was cut off is not in a reply of these formats, so some replies have no content."""
    claude, dropped = sent(MESSAGES, {"max_tokens": 9, **chat({"role": "assistant", "content": content}, USER)}, CLAUDE)
    assert ([USER, USER], ("messages[1]",)) == (claude["messages"], dropped)

    last = {"max_tokens": 9, **chat({"role": "assistant", "content": content})}
    assert (last["messages"], ()) == (sent(MESSAGES, last, CLAUDE)[0]["messages"], sent(MESSAGES, last, CLAUDE)[1])

    other = {"max_tokens": 9, **chat({"role": "assistant", "content": content}, USER)}
    assert other["messages"] == sent(MESSAGES, other, Provider(MESSAGES, "glm-5"))[0]["messages"]


@pytest.mark.parametrize(
    "message", [{"content": None}, {"content": []}, {"content": None, "tool_calls": None}, {}, {"name": "x"}]
)
def test_a_message_without_content_does_not_reach_a_host_of_openais_chat(message: Json) -> None:
    request, dropped = sent(CHAT, chat({"role": "assistant", **message}, USER), GPT)

    assert ([USER, USER], ("messages[1]",)) == (request["messages"], dropped)


def test_a_message_of_thinking_alone_does_not_reach_its_own_host_again() -> None:
    thought = {"role": "assistant", "content": None, "reasoning_content": "hm"}
    request, _ = sent(CHAT, chat(thought, USER), Provider(CHAT, "deepseek-reasoner", row("deepseek").profile))

    assert [USER, USER] == request["messages"]


@pytest.mark.parametrize("content", [{"role": "model"}, {"role": "model", "parts": []}])
def test_a_candidate_without_parts_does_not_reach_google(content: Json) -> None:
    user = {"role": "user", "parts": [{"text": "a"}]}
    request, dropped = sent(GEMINI, {"contents": [user, content, user]}, Provider(GEMINI, "gemini-3-pro"))

    assert ([user, user], ("contents[1]",)) == (request["contents"], dropped)


def test_an_empty_message_stays_between_those_of_the_user_at_bedrock() -> None:
    user = {"role": "user", "content": [{"text": "a"}]}
    request, dropped = sent(CONVERSE, {"messages": [user, {"role": "assistant", "content": []}, user]}, BEDROCK_CLAUDE)

    assert ["user", "assistant", "user"] == [each["role"] for each in request["messages"]]
    assert ([{"text": "[no content]"}], ()) == (request["messages"][1]["content"], dropped)


@pytest.mark.parametrize(
    ("turns", "remaining", "names"),
    [
        ("u e", "u", ("messages[1]",)),
        ("e u", "u", ("messages[0]",)),
        ("u e a u", "u a u", ("messages[1]",)),
        ("u a e u", "u a u", ("messages[2]",)),
        ("u e e u", "u n u", ("messages[2]",)),
        ("u e u e", "u n u", ("messages[3]",)),
        ("u t", "u", ("messages[1].content[0]",)),
        ("u t u", "u n u", ("messages[1].content[0]",)),
    ],
)
def test_an_empty_message_elsewhere_does_not_reach_bedrock(turns: str, remaining: str, names: tuple[str, ...]) -> None:
    """e is empty, t has thinking that Claude did not sign, and n stands for no content."""
    contents: dict[str, list[Json]] = {
        "u": [{"text": "a"}],
        "a": [{"text": "b"}],
        "e": [],
        "t": [{"reasoningContent": {"reasoningText": {"text": "hm"}}}],
        "n": [{"text": "[no content]"}],
    }

    def messages(letters: str) -> list[Json]:
        return [{"role": "user" if each == "u" else "assistant", "content": contents[each]} for each in letters.split()]

    request, dropped = sent(CONVERSE, {"messages": messages(turns)}, BEDROCK_CLAUDE)

    assert (messages(remaining), names) == (request["messages"], dropped)


def test_pieces_of_signed_thinking_are_one_again() -> None:
    """A caller of a stream in Google's format keeps each chunk as a part."""
    seal = "ZWRnZS1jYXJyaWVkOnNpZ25hdHVyZTpjMmxu"  # edge-carried:signature:c2ln
    thoughts = [{"text": piece, "thought": True} for piece in ("let me", " think")]
    parts = [*thoughts, {"text": "", "thought": True, "thoughtSignature": seal}, {"text": "b"}]
    turns = [{"role": role, "parts": each} for role, each in (("user", [{"text": "a"}]), ("model", parts))]
    request, _ = sent(GEMINI, {"contents": [*turns, turns[0]]}, CLAUDE)

    assert {"type": "thinking", "thinking": "let me think", "signature": "c2ln"} == request["messages"][1]["content"][0]


def test_white_space_is_no_content_when_the_blocks_beside_it_are_removed() -> None:
    bedrock = Provider(MESSAGES, "claude-sonnet-4-5", HostProfile(server_tools=False))
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    history = ({"role": "assistant", "content": [{"type": "text", "text": " "}, use]}, USER)
    request, dropped = sent(MESSAGES, {"max_tokens": 9, **chat(*history)}, bedrock)

    assert "assistant" not in {message["role"] for message in request["messages"]}
    assert {"messages[1].content[0]", "messages[1].content[1]"} <= set(dropped)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "web_search"}])
def test_server_tools_do_not_reach_a_host_without_them(choice: Json) -> None:
    bedrock = Provider(MESSAGES, "claude-sonnet-4-5", HostProfile(server_tools=False))
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    text = {"type": "text", "text": "b"}
    search, own = (
        {"type": "web_search_20250305", "name": "web_search"},
        {"name": "f", "input_schema": {"type": "object"}},
    )
    body = {"max_tokens": 9, **chat({"role": "assistant", "content": [use, found, text]}, USER), "tools": [search, own]}
    request, dropped = sent(MESSAGES, body, bedrock)

    assert ([text], [own]) == (request["messages"][1]["content"], request["tools"])
    assert ("messages[1].content[0]", "messages[1].content[1]", "tools[0]") == dropped
    assert body | {"model": CLAUDE.model} == sent(MESSAGES, body, CLAUDE)[0]
    with pytest.raises(Unsupported, match="web_search"):
        sent(MESSAGES, {**body, "tools": [search], "tool_choice": choice}, bedrock)


# --- Bedrock


@pytest.mark.parametrize(("provider", "kept"), [(NOVA_2, True), (NOVA, False), (R1, False), (BEDROCK_CLAUDE, False)])
def test_unsigned_reasoning_stays_where_its_model_takes_it(provider: Provider, kept: bool) -> None:
    block = {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    messages = [{"role": "user", "content": [{"text": "a"}]}, {"role": "assistant", "content": [block, {"text": "b"}]}]
    request, dropped = sent(CONVERSE, {"messages": messages}, provider)

    assert kept == (block in request["messages"][1]["content"])
    assert kept == (dropped == ())


def test_a_message_of_which_nothing_is_left_stays_between_those_of_the_user() -> None:
    user = {"role": "user", "content": [{"text": "a"}]}
    picture = {"image": {"format": "png", "source": {"bytes": "aGk="}}}
    said = [{"role": "assistant", "content": [block]} for block in ({"text": " "}, picture)]
    request, dropped = sent(CONVERSE, {"messages": [user, said[0], user, said[1], user]}, BEDROCK_CLAUDE)

    assert ["user", "assistant"] * 2 + ["user"] == [each["role"] for each in request["messages"]]
    assert ["text", "text"] == [next(iter(request["messages"][i]["content"][0])) for i in (1, 3)]
    assert ("messages[1].content[0]", "messages[3].content[0]") == dropped


# --- OpenAI's formats


@pytest.mark.parametrize("caller", [CHAT, MESSAGES])
def test_mistral_gets_a_message_of_the_assistant_between_a_result_and_the_user(caller: str) -> None:
    use = {"type": "tool_use", "id": "abcdefghi", "name": "f", "input": {}}
    answer = {"type": "tool_result", "tool_use_id": "abcdefghi", "content": "b"}
    bodies = {
        CHAT: chat(called("abcdefghi"), result("abcdefghi"), USER),
        MESSAGES: {
            "max_tokens": 9,
            **chat(
                {"role": "assistant", "content": [use]},
                {"role": "user", "content": [answer, {"type": "text", "text": "a"}]},
            ),
        },
    }
    request, dropped = sent(caller, bodies[caller], MISTRAL)

    assert ["user", "assistant", "tool", "assistant", "user"] == [each["role"] for each in request["messages"]]
    assert request["messages"][3]["content"]
    assert () == dropped


def test_hosts_that_refuse_unknown_fields_of_a_message_do_not_get_them() -> None:
    said = {"role": "assistant", "content": None, "refusal": "no", "annotations": [], "audio": None}
    request, dropped = sent(CHAT, chat(said), GROQ)
    lost = sent(CHAT, chat({**said, "content": "b", "annotations": [1]}), GROQ)[1]

    assert {"role": "assistant", "content": "no"} == request["messages"][1]
    assert () == dropped
    assert ("messages[1].annotations", "messages[1].refusal") == lost
    assert said == sent(CHAT, chat(said), GPT)[0]["messages"][1]


@pytest.mark.parametrize(("provider", "field"), [(GPT, "refusal"), (GROQ, "content")])
def test_a_refusal_is_content_for_hosts_without_that_field(provider: Provider, field: str) -> None:
    part = {"type": "refusal", "refusal": "no"}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    request, _ = sent(RESPONSES, {"model": "m", "input": [USER, item, USER]}, provider)

    assert "no" == request["messages"][1][field]


def test_thinking_in_the_content_reaches_no_host_but_mistral() -> None:
    part = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    body = chat(
        {"role": "assistant", "content": [part, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [part]},
    )
    request, dropped = sent(CHAT, body, GPT)

    assert [USER, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}] == request["messages"]
    assert ("messages[1].content[0]", "messages[2].content[0]") == dropped
    assert body["messages"] == sent(CHAT, body, MISTRAL)[0]["messages"]


@pytest.mark.parametrize(("user", "kept"), [("u1", False), ("user-1", True), ("u" * 128, True), ("u" * 129, False)])
@pytest.mark.parametrize("caller", [CHAT, MESSAGES])
def test_a_user_outside_the_hosts_bounds_does_not_reach_it(caller: str, user: str, kept: bool) -> None:
    named = {"user": user} if caller == CHAT else {"metadata": {"user_id": user}, "max_tokens": 9}
    request, dropped = sent(caller, chat(**named), Provider(CHAT, "glm-4.6", row("zai").profile))

    assert kept == ("user" in request)
    assert kept == (dropped == ())


@pytest.mark.parametrize("provider", [GPT, GPT_RESPONSES], ids=["chat", "responses"])
@pytest.mark.parametrize("strict", [True, False])
def test_a_schema_that_openai_does_not_take_as_strict_is_not_strict(provider: Provider, strict: bool) -> None:
    properties = {"a": {"type": "string"}, "b": {"type": "string"}}
    required = ["a", "b"] if strict else ["a"]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    body = {"max_tokens": 9, **chat(tools=[{"name": "f", "input_schema": schema, "strict": True}])}
    request, dropped = sent(MESSAGES, body, provider)
    tool = request["tools"][0].get("function", request["tools"][0])

    assert strict == bool(tool.get("strict"))
    assert () == dropped if strict else ("tools[0].strict",) == dropped


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "string"}, True),
        ({"type": "object"}, False),
        ({"type": "object", "additionalProperties": False}, True),
        ({"anyOf": [{"type": "object"}]}, False),
        ({"type": "array", "items": {"type": "object"}}, False),
        ({"$defs": {"a": {"type": "object", "properties": {"b": {}}, "required": []}}}, False),
        ({"allOf": []}, False),
        (7, False),
    ],
)
def test_what_a_strict_schema_is(schema: Any, strict: bool) -> None:
    assert strict == is_strict(schema)


@pytest.mark.parametrize("arguments", ["null", "", " {} "])
@pytest.mark.parametrize("target", [GPT_RESPONSES, Provider(CHAT, "m", UNKNOWN_HOST)], ids=["responses", "chat"])
def test_no_arguments_are_an_empty_object(target: Provider, arguments: str) -> None:
    """The templates of hosts decode them."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
    output = {"type": "function_call_output", "call_id": "c", "output": "b"}
    body = {"model": "m", "input": [USER, call, output]}
    if target.dialect == RESPONSES:
        request, _ = sent(CHAT, chat(called("c", arguments=arguments), result("c")), target)
        written = request["input"][1]["arguments"]
    else:
        request, _ = sent(RESPONSES, body, target)
        written = request["messages"][1]["tool_calls"][0]["function"]["arguments"]

    assert "{}" == written


NO_OBJECTS = [
    "{",
    '{"a": 1',
    "[]",
    '["a"]',
    '"x"',
    "7",
    "true",
    '{"a": 1}{"b": 2}',
    "city=Rome",
    "\u00e4\n",
    "[" * 50_000,
]


@pytest.mark.parametrize("arguments", NO_OBJECTS)
@pytest.mark.parametrize("source", [CHAT, RESPONSES])
@pytest.mark.parametrize(
    "target", [CLAUDE, BEDROCK_CLAUDE, NOVA, PROVIDERS["gemini"]], ids=["claude", "bedrock", "nova", "gemini"]
)
def test_a_call_without_an_object_stays_in_the_history(target: Provider, source: str, arguments: str) -> None:
    """Models write such arguments, and the conversation goes on with the error of the tool."""
    if source == CHAT:
        body, field = (
            chat(called("c", arguments=arguments), result("c")),
            "messages[1].tool_calls[0].function.arguments",
        )
    else:
        call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
        output = {"type": "function_call_output", "call_id": "c", "output": "b"}
        body, field = {"model": "m", "input": [USER, call, output]}, "input[1].arguments"
    request, dropped = sent(source, body, target)
    if target.dialect == GEMINI:
        written = request["contents"][1]["parts"][0]["functionCall"]["args"]
    else:
        block = request["messages"][1]["content"][0]
        written = block.get("toolUse", block)["input"]

    assert {"raw_arguments": arguments} == written
    assert (field,) == dropped


def test_a_picture_of_another_providers_model_is_shown_by_the_user() -> None:
    made = {"type": "image_generation_call", "id": "ig_" + "a" * 32, "status": "completed", "result": "aGk="}
    own = {**made, "id": "ig_" + "a" * 48}
    request, dropped = sent(RESPONSES, {"model": "m", "input": [USER, made, own]}, GPT_RESPONSES)
    kinds = [part["type"] for part in request["input"][1]["content"]]

    assert (["input_text", "input_image"], "user") == (kinds, request["input"][1]["role"])
    assert own == request["input"][2]
    assert () == dropped
