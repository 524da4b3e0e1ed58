"""The older spelling of tools in OpenAI's chat format: `functions`, `function_call`, and messages of a function."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import request_validators
from asking import CALLERS, CHAT, DIALECTS, PROVIDERS, provider_request
from callers_paths import leads_somewhere
from cells import each_cell
from chat_grammar import hold_to_the_grammar
from translating import HI, MESSAGES, cross, objects, read

from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Call, ToolChoice
from edge_extproc.model.content import Text, ToolCall, ToolResult
from edge_extproc.model.reply import Choice, Finish, Reply, unfold

FUNCTION = {"name": "tide", "description": "Tides", "parameters": {"type": "object", "properties": {}}}
CALLED = {"role": "assistant", "content": None, "function_call": {"name": "tide", "arguments": '{"at": "Rome"}'}}
RESULT = {"role": "function", "name": "tide", "content": "high"}
HISTORY = [HI, CALLED, RESULT, {"role": "user", "content": "And now?"}, CALLED, RESULT]
BODY: Any = {"model": "m", "messages": HISTORY, "functions": [FUNCTION], "function_call": "auto"}
PATH = "/v1/chat/completions"
OTHERS = [name for name in CALLERS if name != CHAT]


@each_cell("name", [name for name, provider in PROVIDERS.items() if provider.dialect != CHAT])
def test_no_provider_refuses_a_history_in_the_older_spelling(name: str) -> None:
    sent, dropped = provider_request(CHAT, BODY, PATH, PROVIDERS[name])

    assert [] == request_validators.of(name, PROVIDERS[name].dialect, sent)
    assert 2 == sent.count(b"Rome") == sent.count(b"high")
    assert b"Tides" in sent
    assert [] == [path for path in dropped if not leads_somewhere(path, BODY)]


def test_a_call_and_its_result_have_one_id_which_the_next_request_has_too() -> None:
    now, later = read(CHAT, **BODY), read(CHAT, **{**BODY, "messages": [*HISTORY, HI]})
    calls = [part.id for message in now.messages for part in message.parts if isinstance(part, ToolCall)]
    results = [part.call_id for message in now.messages for part in message.parts if isinstance(part, ToolResult)]

    assert calls == results
    assert 2 == len(set(calls))
    assert now.messages == later.messages[:-1]


def test_a_result_without_its_call_is_that_of_another_one() -> None:
    chat = read(CHAT, messages=[HI, RESULT, CALLED, RESULT], functions=[FUNCTION])
    ids = [part.call_id for message in chat.messages for part in message.parts if isinstance(part, ToolResult)]

    assert 2 == len(set(ids))
    assert "" not in ids


@pytest.mark.parametrize(
    ("choice", "read_as"),
    [
        (None, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ({"name": "tide"}, ToolChoice("tool", "tide")),
    ],
)
def test_the_choice_of_a_function_is_one_of_a_tool(choice: Any, read_as: ToolChoice | None) -> None:
    chat = read(CHAT, functions=[FUNCTION], function_call=choice)

    assert (read_as, False) == (chat.tool_choice, chat.parallel_tool_calls)
    assert ["tide"] == [getattr(tool, "name", None) for tool in chat.tools]


@pytest.mark.parametrize("choice", ["required", {"type": "function"}, 7])
def test_another_choice_is_refused(choice: Any) -> None:
    with pytest.raises(BadRequest, match="function_call is"):
        read(CHAT, functions=[FUNCTION], function_call=choice)


def test_both_spellings_at_once_are_refused_elsewhere() -> None:
    tool = {"type": "function", "function": FUNCTION}

    with pytest.raises(BadRequest, match="functions cannot be sent"):
        cross(CHAT, MESSAGES, functions=[FUNCTION], tools=[tool])


def reply_of(*calls: ToolCall) -> Reply:
    return Reply(MESSAGES, "msg_1", "m", (Choice((Text("Hm"), *calls), Finish("tool_calls")),))


CALL = Call(CHAT, "chat", "m", True, json.dumps(BODY).encode())


def test_a_caller_of_the_older_spelling_gets_its_calls_in_it() -> None:
    reply = reply_of(ToolCall("toolu_1", "tide", '{"at": "Rome"}'))
    complete = json.loads(DIALECTS[CHAT].write_reply(reply_with(reply)))["choices"][0]
    writer = DIALECTS[CHAT].writer(CALL)
    wire = b"".join(writer.write(event) for event in unfold(reply))
    hold_to_the_grammar(wire)
    chunks = [each["choices"][0] for each in objects(wire) if isinstance(each, dict)]
    pieces = [chunk["delta"]["function_call"] for chunk in chunks if "function_call" in chunk["delta"]]

    assert {"name": "tide", "arguments": '{"at": "Rome"}'} == complete["message"]["function_call"]
    assert ("function_call", False) == (complete["finish_reason"], "tool_calls" in complete["message"])
    assert "tide" == pieces[0]["name"]
    assert '{"at": "Rome"}' == "".join(piece["arguments"] for piece in pieces)
    assert "function_call" == chunks[-1]["finish_reason"]


def reply_with(reply: Reply) -> Reply:
    return replace(reply, call=CALL)


def test_more_calls_than_one_are_beside_it() -> None:
    reply = reply_of(ToolCall("toolu_1", "tide", ""), ToolCall("toolu_2", "tide", '{"at": "Bari"}'))
    message = json.loads(DIALECTS[CHAT].write_reply(reply_with(reply)))["choices"][0]["message"]
    writer = DIALECTS[CHAT].writer(CALL)
    wire = b"".join(writer.write(event) for event in unfold(reply))

    assert {"name": "tide", "arguments": "{}"} == message["function_call"]
    assert ["toolu_2"] == [call["id"] for call in message["tool_calls"]]
    assert b"toolu_2" in wire
    assert b'"function_call":{"arguments":"{}"}' in wire


@pytest.mark.parametrize("target", OTHERS)
def test_a_provider_that_answers_in_the_older_spelling_calls_a_tool(target: str) -> None:
    choice = {"index": 0, "message": CALLED, "finish_reason": "function_call"}
    body = json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()
    reply = DIALECTS[CHAT].read_reply(body)
    written = DIALECTS[target].write_reply(reply)

    assert b"tide" in written
    assert b"Rome" in written
    assert (
        CALLED["function_call"]
        == json.loads(DIALECTS[CHAT].write_reply(reply))["choices"][0]["message"]["function_call"]
    )
