"""What the texts of a chat are, in each format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from player import DIALECTS

from edge_extproc.exchange.text_places import ChatPlaces
from edge_extproc.guardrails.body_texts import BodyTexts, read_texts

GOLDEN = Path(__file__).parents[2] / "golden"
PATHS = {
    "anthropic_messages": "/v1/messages",
    "gemini_generate": "/v1beta/models/m:generateContent",
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
}


def texts(dialect: str, raw: bytes) -> BodyTexts:
    call = DIALECTS[dialect].read_call(raw, "chat", (), PATHS[dialect])
    return read_texts(raw, "application/json", ChatPlaces(DIALECTS[dialect].read_chat(call)))


@pytest.mark.parametrize("dialect", PATHS)
def test_the_parts_of_a_full_request_are_known(dialect: str) -> None:
    body = texts(dialect, (GOLDEN / dialect / "full.json").read_bytes())
    kinds = {each.place.kind for each in body.texts}

    assert kinds >= {"system", "user", "assistant", "thinking", "tool_definition", "tool_call", "tool_result", "url"}
    # What is `other` is a name of the format, or a parameter.
    others = [each.text for each in body.texts if each.place.kind == "other" and each.form == "value"]
    assert [text for text in others if " " in text] == []
    assert len(body.media()) >= 2


def messages(*parts: Any, role: str = "user") -> bytes:
    return json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": role, "content": list(parts)}]}).encode()


def test_the_bytes_of_a_picture_are_no_text_but_equal_texts_elsewhere_are() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "c2VjcmV0"}}
    body = texts("anthropic_messages", messages(picture, {"type": "text", "text": "c2VjcmV0"}))

    assert [(each.path, each.place.kind) for each in body.texts if each.text == "c2VjcmV0"] == [
        ("messages[0].content[1].text", "user")
    ]
    assert [(each.media_type, each.size) for each in body.media()] == [("image/png", 6)]


def test_a_signature_is_no_text_but_an_equal_text_elsewhere_is() -> None:
    signed, sealed = "c2VjcmV0" * 12, "c2VhbGVk" * 12
    thinking = {"type": "thinking", "thinking": signed, "signature": sealed}
    body = texts("anthropic_messages", messages(thinking, {"type": "text", "text": sealed}, role="assistant"))

    found = [(each.path, each.place.kind) for each in body.texts if each.text in (sealed, signed)]
    assert found == [("messages[0].content[0].thinking", "thinking"), ("messages[0].content[1].text", "assistant")]
    assert all(each.place.is_signed for each in body.texts if each.text == signed)


def test_names_of_the_format_are_no_texts_of_a_message() -> None:
    body = texts("anthropic_messages", messages({"type": "text", "text": "hello"}))

    values = [each for each in body.texts if each.form == "value"]
    assert [each.path for each in values if each.place.kind == "user"] == ["messages[0].content[0].text"]
    assert {each.text for each in values if each.place.kind == "other"} == {"m", "user", "text"}


def test_names_in_arguments_of_tools_are_those_of_the_caller() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"name": "smith"}}
    body = texts("anthropic_messages", messages(call, role="assistant"))

    assert {each.text for each in body.texts if each.place.kind == "tool_call"} >= {"smith", "name"}
