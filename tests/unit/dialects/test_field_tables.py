"""What the documentation says of each field in each format is what the code does; nothing is left out in silence."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thoroughness import examples

from edge_extproc.dialects.base import Dialect
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Chat, FunctionTool, Reasoning, ResponseFormat, ToolChoice, Written
from edge_extproc.model.content import (
    Audio,
    CacheMark,
    Document,
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
from edge_extproc.registry import load

DOCS = Path(__file__).resolve().parents[3] / "docs" / "translation"
_spec = importlib.util.spec_from_file_location("translation_tables", DOCS / "build.py")
assert _spec is not None
assert _spec.loader is not None
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)

PAIRS = [(target, model) for target, models in tables.TARGETS.items() for model in models]


@pytest.mark.parametrize("target", tables.TARGETS)
def test_the_committed_table_is_what_the_code_does(target: str) -> None:
    committed = (DOCS / f"to-{target.replace('_', '-')}.md").read_text(encoding="utf-8")

    assert tables.page(target) == committed, "run `make docs`"


@pytest.mark.parametrize("target", tables.TARGETS)
def test_the_fate_of_every_field_is_told_and_every_one_is_tried(target: str) -> None:
    names = {field.name for field in fields(Chat) if field.compare}

    assert names == tables.fates(target).keys()
    assert names == tables.TRIED.keys() | {"dialect", "model", "include_usage"}


@pytest.mark.parametrize(("target", "field"), [(t, f) for t in tables.TARGETS for f in tables.TRIED])
def test_a_field_has_the_fate_that_is_told_of_it(target: str, field: str) -> None:
    seen = {
        tables.came_of(target, model, field, value, besides)[0]
        for model in tables.TARGETS[target]
        for value, besides in tables.TRIED[field].values()
    }

    match tables.fates(target)[field].kind:
        case "mapped":
            assert "mapped" in seen
        case "dropped":
            assert "dropped" in seen
            assert "mapped" not in seen
        case "refused":
            assert {"refused"} == seen


# --- nothing in silence

TEXT = st.text(min_size=1, max_size=8).filter(str.strip)
MARKS = st.none() | st.just(CacheMark()) | st.just(CacheMark("1h"))
PICTURE = Url("https://x.example/a.png")
PNG, PDF = Inline("image/png", "aGk="), Inline("application/pdf", "aGk=")
ASKED: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, TEXT, MARKS, st.just({}) | st.just({"odd": 1})),
    st.builds(Image, st.sampled_from([PNG, PICTURE]), st.sampled_from([None, "low", "high"]), MARKS),
    st.builds(Document, st.sampled_from([PDF, Url("https://x.example/a.pdf")]), st.none() | TEXT, MARKS),
    st.just(Audio(Inline("audio/wav", "aGk="))),
    st.just(Opaque("another", "odd", {"type": "odd"})),
)
SAID: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, TEXT, MARKS),
    st.builds(Thinking, TEXT, st.none() | st.just("c2ln")),
    st.just(RedactedThinking("c2VhbA==")),
    st.builds(Refusal, TEXT),
)


def _what_is_named(part: Part) -> object:
    """Thoughts of one message that are left out are named once: one of two would seem to be left out unnamed."""
    return "thought" if isinstance(part, Thinking | RedactedThinking) else type(part)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(Message("system", (Text(draw(TEXT)),)))
    for turn in range(draw(st.integers(1, 3))):
        asked = tuple(draw(st.lists(ASKED, min_size=1, max_size=2)))
        messages.append(Message("user", (Text(f"turn {turn}"), *asked), draw(st.none() | st.just("Ann"))))
        said = tuple(draw(st.lists(SAID, max_size=2, unique_by=_what_is_named)))
        if draw(st.booleans()):
            id = f"call_{turn}"
            result = ToolResult(id, (Text(draw(TEXT)),), draw(st.booleans()), draw(MARKS))
            messages += [Message("assistant", (*said, ToolCall(id, "f", '{"a":1}'))), Message("tool", (result,))]
        else:
            messages.append(Message("assistant", (*said, Text(f"answer {turn}"))))
    return (*messages, Message("user", (Text("And now?"),)))


# Values that ask for something: 0 and the usual need not be sent on.
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "tool_choice": st.sampled_from([ToolChoice("required"), ToolChoice("none"), ToolChoice("tool", "f")]),
    "parallel_tool_calls": st.just(False),
    "max_output_tokens": st.integers(1, 5000),
    "temperature": st.floats(0.01, 0.99),
    "top_p": st.floats(0.01, 0.94),
    "top_k": st.integers(1, 100),
    "stop": st.lists(st.just("END"), min_size=1, max_size=1).map(tuple),
    "n": st.just(2),
    "seed": st.integers(1, 99),
    "presence_penalty": st.floats(0.1, 1),
    "frequency_penalty": st.floats(0.1, 1),
    "logprobs": st.just(True),
    "top_logprobs": st.integers(1, 5),
    "response_format": st.just(ResponseFormat("json_object"))
    | st.builds(ResponseFormat, st.just("json_schema"), st.just({"type": "object"}), TEXT, st.none() | TEXT),
    "reasoning": st.builds(Reasoning, effort=st.sampled_from(["low", "medium", "high"]))
    | st.builds(Reasoning, st.just("enabled"), budget_tokens=st.integers(1024, 3000)),
    "service_tier": st.sampled_from(["flex", "priority", "odd"]),
    "user": TEXT,
    "metadata": st.just({"team": "a"}),
    "extras": st.just({"odd": 1}),
}
TOOL = FunctionTool("f", "d", {"type": "object", "properties": {"a": {"type": "integer"}}})


@st.composite
def chats(draw: st.DrawFn) -> Chat:
    names = draw(st.lists(st.sampled_from(sorted(SETTINGS)), unique=True, max_size=5))
    told = {name: draw(SETTINGS[name]) for name in names}
    tools = (TOOL,) if draw(st.booleans()) or "tool_choice" in told or "parallel_tool_calls" in told else ()
    return Chat(draw(st.sampled_from(["another", "bedrock"])), "m", draw(conversations()), tools=tools, **told)


def write(target: str, chat: Chat, model: str) -> Written | None:
    dialect: Dialect = load("dialects", target)
    try:
        return dialect.write_chat(chat, model)
    except BadRequest:
        return None


def without(chat: Chat, name: str) -> Chat:
    return replace(chat, **{name: next(field.default for field in fields(Chat) if field.name == name)})


@pytest.mark.parametrize(("target", "model"), PAIRS)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chat=chats())
def test_no_setting_of_any_chat_is_left_out_in_silence(target: str, model: str, chat: Chat) -> None:
    written = write(target, chat, model)
    if written is None:
        return
    assert list(written.dropped) == sorted(set(written.dropped))
    for name in SETTINGS:
        bare = without(chat, name)
        if bare == chat:
            continue
        less = write(target, bare, model)
        assert less is None or less != written, f"{name} made no difference and was not named"


@pytest.mark.parametrize(("target", "model"), PAIRS)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chat=chats(), data=st.data())
def test_no_part_of_any_message_is_left_out_in_silence(
    target: str, model: str, chat: Chat, data: st.DataObject
) -> None:
    written = write(target, chat, model)
    if written is None:
        return
    number = data.draw(st.integers(0, len(chat.messages) - 1))
    message = chat.messages[number]
    at = data.draw(st.integers(0, len(message.parts) - 1))
    if isinstance(message.parts[at], ToolCall | ToolResult) or len(message.parts) == 1:
        return
    parts = message.parts[:at] + message.parts[at + 1 :]
    turns = (*chat.messages[:number], replace(message, parts=parts), *chat.messages[number + 1 :])

    less = write(target, replace(chat, messages=turns), model)

    assert less is None or json.loads(less.body) != json.loads(written.body) or less.dropped != written.dropped
