"""The work that a message of a long history causes. Most such messages are one text, and have a short path."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from edge_extproc.dialects.anthropic_messages import PLUGIN as ANTHROPIC
from edge_extproc.dialects.base import Dialect
from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.dialects.gemini_generate import PLUGIN as GEMINI
from edge_extproc.dialects.openai_chat import PLUGIN as CHAT
from edge_extproc.dialects.openai_responses import PLUGIN as RESPONSES
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Call

FEW, MANY = 10, 210
CLAUDE = "claude-3-5-haiku-20241022"


def _messages(count: int) -> list[tuple[str, str]]:
    return [(("user", "assistant")[n % 2], f"message {n}") for n in range(count)]


def _spelled(messages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in messages]


def _blocks(messages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in messages]


def _parts(messages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": [{"text": text}]} for role, text in messages]


def _contents(messages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    names = {"user": "user", "assistant": "model"}
    return [{"role": names[role], "parts": [{"text": text}]} for role, text in messages]


DIALECTS: dict[Dialect, tuple[str, str, str, Callable[[list[tuple[str, str]]], list[dict[str, Any]]]]] = {
    CHAT: ("gpt-4o-mini", "/v1/chat/completions", "messages", _spelled),
    ANTHROPIC: (CLAUDE, "/v1/messages", "messages", _spelled),
    BEDROCK: (f"anthropic.{CLAUDE}-v1:0", f"/model/anthropic.{CLAUDE}-v1:0/converse", "messages", _parts),
    GEMINI: ("gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:generateContent", "contents", _contents),
    RESPONSES: ("gpt-4o-mini", "/v1/responses", "input", _spelled),
}
"""Of each dialect: a model, the path, and where and how the messages are written."""
PAIRS = [(source, target) for source in DIALECTS for target in DIALECTS if source is not target]


def _call(dialect: Dialect, history: list[dict[str, Any]]) -> Call:
    model, path, field, _ = DIALECTS[dialect]
    raw = json.dumps({"model": model, "max_tokens": 100, field: history}).encode()
    return dialect.read_call(raw, "chat", [(":path", path)], path)


def _translate(source: Dialect, target: Dialect, count: int) -> Callable[[], object]:
    call = _call(source, DIALECTS[source][3](_messages(count)))
    return lambda: target.write_chat(source.read_chat(call), DIALECTS[target][0])


def _calls(run: Callable[[], object]) -> int:
    """The number of Python functions that it calls."""
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda each: each.name)
def test_a_message_of_one_text_costs_few_calls(source: Dialect, target: Dialect) -> None:
    for count in (FEW, MANY):
        _translate(source, target, count)()  # what is made once
    few, many = (_calls(_translate(source, target, count)) for count in (FEW, MANY))

    # What is made at the first use may be a few calls more.
    assert (many - few) // (MANY - FEW) <= MOST_CALLS


MOST_CALLS = 11
"""Reading and writing one message: two objects of the model, their block, and the generators around them."""


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
@pytest.mark.parametrize("text", ["hello", "", "  \n", "a ¶ text"])
def test_the_short_path_reads_and_writes_what_the_long_one_does(dialect: Dialect, text: str) -> None:
    short = DIALECTS[dialect][3]([("user", "first"), ("assistant", text), ("user", text), ("user", "last")])
    long = [{**message, "unused": None} for message in short]  # a null counts as absent
    read = [dialect.read_chat(_call(dialect, history)) for history in (short, long)]

    assert read[0].messages == read[1].messages
    assert [m.path for m in read[0].messages] == [m.path for m in read[1].messages]
    assert [p.path for m in read[0].messages for p in m.parts] == [p.path for m in read[1].messages for p in m.parts]


@pytest.mark.parametrize("text", ["hello", "", "  \n"])
def test_a_list_of_one_block_is_read_as_the_long_path_reads_it(text: str) -> None:
    blocks = _blocks([("user", "first"), ("assistant", text)])
    marked = [{**block, "cache_control": None} for each in blocks for block in each["content"]]
    long = [{**each, "content": [block]} for each, block in zip(blocks, marked, strict=True)]
    read = [ANTHROPIC.read_chat(_call(ANTHROPIC, history)).messages for history in (blocks, long)]

    assert read[0] == read[1]
    assert [p.path for m in read[0] for p in m.parts] == [p.path for m in read[1] for p in m.parts]


def test_a_list_of_one_block_costs_few_calls() -> None:
    def calls(count: int) -> int:
        call = _call(ANTHROPIC, _blocks(_messages(count)))
        return _calls(lambda: CHAT.write_chat(ANTHROPIC.read_chat(call), "gpt-4o-mini"))

    calls(FEW)
    assert (calls(MANY) - calls(FEW)) / (MANY - FEW) <= MOST_CALLS


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
def test_every_message_of_a_very_long_history_has_its_own_path(dialect: Dialect) -> None:
    count = 1_100
    field = DIALECTS[dialect][2]
    chat = dialect.read_chat(_call(dialect, DIALECTS[dialect][3](_messages(count))))

    assert [f"{field}[{n}].content" if dialect is RESPONSES and n % 2 else f"{field}[{n}]" for n in range(count)] == [
        message.path for message in chat.messages
    ]
    assert all(p.path.startswith(f"{field}[{n}].") for n, m in enumerate(chat.messages) for p in m.parts)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
@pytest.mark.parametrize("role", [["user"], {"user": 1}, 7, True, "nobody"])
def test_a_role_that_is_none_is_refused_by_its_path(dialect: Dialect, role: Any) -> None:
    history = DIALECTS[dialect][3]([("user", "first"), ("user", "second")])
    history[1]["role"] = role

    with pytest.raises(BadRequest) as found:
        dialect.read_chat(_call(dialect, history))
    assert f"{DIALECTS[dialect][2]}[1].role" == found.value.param
