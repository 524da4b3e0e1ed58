"""Lines of a prompt that differ with each request: in no cache key, and of no weight for the affinity."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import DIALECTS

from edge_extproc.cache.key import of_body
from edge_extproc.codecs.request_lines import without_lines
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


def test_a_line_with_more_behind_it_is_part_of_the_prompt() -> None:
    assert key(body(texts(LINE + "1;\nMore"))) != key(body(texts(LINE + "2;\nMore")))


@pytest.mark.parametrize("system", [texts(LINE + "{};", "Agent"), LINE + "{};"])
def test_affinity_does_not_depend_on_the_line(system: Any) -> None:
    prefix = PromptPrefix(NAMES)
    one, other = (body(json.loads(json.dumps(system).replace("{}", n))) for n in ("a", "b"))

    assert prefix.of(one) == prefix.of(other)
    assert prefix.of(one) != prefix.of(body(system, "Another"))


def test_what_is_no_text_is_kept() -> None:
    assert [1, {"type": "image"}] == without_lines([1, {"type": "image"}], {LINE})
    assert 7 == without_lines(7, {LINE})
