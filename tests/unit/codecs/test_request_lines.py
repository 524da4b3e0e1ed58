"""Lines of a prompt that differ with each request: in no cache key, and of no weight for the affinity."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import DIALECTS

from edge_extproc.cache.key import of_body
from edge_extproc.codecs.request_lines import without_line, without_lines
from edge_extproc.model.call import Call
from edge_extproc.model.wire_names import WireNames
from edge_extproc.routing.affinity import PromptPrefix

NAMES = WireNames.of_all([dialect.wire_names for dialect in DIALECTS.values()])
LINE = "x-anthropic-billing-header: cc_version=2.1.114; cch="


def body(system: Any, user: str = "Hi") -> bytes:
    return json.dumps({"model": "m", "system": system, "messages": [{"role": "user", "content": user}]}).encode()


def texts(*each: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in each]


def key(raw: bytes) -> bytes:
    found = of_body(Call("anthropic_messages", "chat", "m", False, raw), (), NAMES)
    assert found is not None
    return found.text


def test_two_requests_of_one_conversation_have_one_key() -> None:
    one, other = body(texts(LINE + "ea6aa;", "Agent")), body(texts(LINE + "0bb1c;", "Agent"))

    assert key(one) == key(other) == key(body(texts("Agent")))
    assert key(one) != key(body(texts(LINE + "ea6aa;", "Another")))


def test_a_text_line_counts_as_none() -> None:
    assert key(body(LINE + "1;")) == key(body(LINE + "2;"))


def test_a_line_beside_more_text_counts_as_none() -> None:
    assert key(body(texts(LINE + "1;\nMore"))) == key(body(texts(LINE + "2;\nMore"))) == key(body(texts("More")))
    assert key(body("More\n" + LINE + "1;")) == key(body("More\n" + LINE + "2;"))
    assert key(body("More " + LINE + "1;")) != key(body("More " + LINE + "2;"))


QUESTIONS = ["what is it for?", "what=it is for", "", "a=1; or b", "a=1;b"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_callers_own_text_that_begins_like_the_line_is_kept(question: str) -> None:
    text = "x-anthropic-billing-header: " + question

    assert text == without_line(text, NAMES.request_lines)
    assert key(body(text)) != key(body(text + "!"))


@pytest.mark.parametrize("field", ["input", "instructions", "prompt"])
def test_two_questions_about_the_line_have_two_keys(field: str) -> None:
    one, other = (
        of_body(
            Call("openai_responses", "chat", "m", False, json.dumps({"model": "m", field: text}).encode()), (), NAMES
        )
        for text in ("x-anthropic-billing-header: what is it?", "x-anthropic-billing-header: who sends it?")
    )

    assert one is not None
    assert other is not None
    assert one.text != other.text


@pytest.mark.parametrize("settings", ["a=1;", "a=1", " a=1; b=; cch=0f;", "a=1;b=2;\r"])
def test_a_line_of_settings_is_removed(settings: str) -> None:
    assert "x" == without_line(f"x-anthropic-billing-header: {settings}\nx", NAMES.request_lines)


@pytest.mark.parametrize("system", [texts(LINE + "{};", "Agent"), LINE + "{};"])
def test_affinity_does_not_depend_on_the_line(system: Any) -> None:
    prefix = PromptPrefix(NAMES)
    one, other = (body(json.loads(json.dumps(system).replace("{}", n))) for n in ("a", "b"))

    assert prefix.of(one) == prefix.of(other)
    assert prefix.of(one) != prefix.of(body(system, "Another"))


def test_what_is_no_text_is_kept() -> None:
    assert [1, {"type": "image"}] == without_lines([1, {"type": "image"}], {LINE})
    assert 7 == without_lines(7, {LINE})
