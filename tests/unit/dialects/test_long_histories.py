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
from edge_extproc.model.call import Call

FEW, MANY = 10, 210
CLAUDE = "claude-3-5-haiku-20241022"


def _messages(count: int) -> list[tuple[str, str]]:
    return [(("user", "assistant")[n % 2], f"message {n}") for n in range(count)]


def _spelled(messages: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in messages]


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

    assert (many - few) / (MANY - FEW) <= MOST_CALLS


MOST_CALLS = 16
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
