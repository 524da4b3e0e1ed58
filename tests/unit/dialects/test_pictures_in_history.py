"""A picture that one model made goes to the next one, in a place where it takes pictures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.dialects.base import Dialect
from edge_extproc.providers.openai import OPENAI_HOST
from edge_extproc.registry import load

CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate",
    "bedrock_converse",
)
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in (CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE)}
MODELS = {
    CHAT: "gpt-5.2",
    RESPONSES: "gpt-5.2",
    MESSAGES: "claude-opus-4-6",
    GEMINI: "gemini-3-flash",
    CONVERSE: "anthropic.claude-opus-4-6-v1",
}
URL = "data:image/png;base64,aGk="
DRAW, BIGGER = "Draw a house.", "Make it bigger."


def chat_history(*more: Any) -> dict[str, Any]:
    said = {
        "role": "assistant",
        "content": "Here:",
        "images": [{"type": "image_url", "image_url": {"url": URL}}],
    }
    return {"model": "m", "messages": [{"role": "user", "content": DRAW}, said, *more]}


HISTORIES: dict[str, tuple[str, dict[str, Any]]] = {
    CHAT: ("/v1/chat/completions", chat_history({"role": "user", "content": BIGGER})),
    RESPONSES: (
        "/v1/responses",
        {
            "model": "m",
            "input": [
                {"role": "user", "content": DRAW},
                {
                    "type": "image_generation_call",
                    "id": "ig_1",
                    "status": "completed",
                    "output_format": "png",
                    "result": "aGk=",
                },
                {"role": "user", "content": BIGGER},
            ],
        },
    ),
    GEMINI: (
        "/v1beta/models/m:generateContent",
        {
            "contents": [
                {"role": "user", "parts": [{"text": DRAW}]},
                {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]},
                {"role": "user", "parts": [{"text": BIGGER}]},
            ]
        },
    ),
}


def crossed(source: str, target: str, body: dict[str, Any], path: str) -> tuple[Any, tuple[str, ...]]:
    call = DIALECTS[source].read_call(json.dumps(body).encode(), "chat", ((":path", path),), path)
    written = DIALECTS[target].write_chat(DIALECTS[source].read_chat(call), MODELS[target])
    return json.loads(written.body), written.dropped


@pytest.mark.parametrize(
    ("source", "target"), [(source, target) for source in HISTORIES for target in DIALECTS if source != target]
)
def test_a_picture_of_the_model_reaches_the_next_model(source: str, target: str) -> None:
    path, body = HISTORIES[source]

    found, dropped = crossed(source, target, body, path)

    turns = found.get("messages") or found.get("input") or found["contents"]
    roles = [turn["role"] for turn in turns if "aGk=" in json.dumps(turn)]
    assert [("model" if target == GEMINI else "user")] == roles
    assert BIGGER in json.dumps(turns[-1])
    assert not any("image" in name for name in dropped)


@pytest.mark.parametrize("target", sorted(set(DIALECTS) - {CHAT, GEMINI}))
def test_a_picture_beside_a_call_comes_after_its_result(target: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = chat_history({"role": "tool", "tool_call_id": "c1", "content": "sun"})
    body["messages"][1]["tool_calls"] = [call]

    found, _ = crossed(CHAT, target, body, "")

    told = json.dumps(found)
    assert told.index('"c1"') < told.index("sun") < told.index("aGk=")


def test_openais_own_hosts_get_no_field_that_they_do_not_know() -> None:
    raw = json.dumps(chat_history()).encode()
    written = DIALECTS[CHAT].splice(DIALECTS[CHAT].read_call(raw, "chat", (), ""), "gpt-5.2", OPENAI_HOST)

    assert ("messages[1].images",) == written.dropped
    assert b"aGk=" not in written.body
