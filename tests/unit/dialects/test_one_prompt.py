"""The prompt of a chat that crosses to a host whose templates may accept only one system message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.dialects.base import Dialect
from edge_extproc.model.host import UNKNOWN_HOST
from edge_extproc.providers.openai import OPENAI_HOST, OPENAI_PROXY
from edge_extproc.registry import load

CHAT, RESPONSES = "openai_chat", "openai_responses"
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in (CHAT, RESPONSES)}
HI = {"role": "user", "content": "hi"}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def messages(host: Any, *items: Any) -> list[Any]:
    raw = json.dumps({"model": "m", "instructions": "a", "input": items}).encode()
    chat = DIALECTS[RESPONSES].read_chat(DIALECTS[RESPONSES].read_call(raw, "chat", (), "/v1/responses"))
    told: list[Any] = json.loads(DIALECTS[CHAT].write_chat(chat, "m", host).body)["messages"]
    return told


@pytest.mark.parametrize("host", [UNKNOWN_HOST, OPENAI_PROXY])
def test_instructions_and_system_items_are_one_message(host: Any) -> None:
    later = said("system", "later")

    assert [said("system", "a\n\nb\n\nc"), HI, later] == messages(
        host, said("system", "b"), said("system", "c"), HI, later
    )


def test_a_host_that_takes_developers_gets_them_apart() -> None:
    assert [said("system", "a"), said("system", "b"), HI] == messages(OPENAI_HOST, said("system", "b"), HI)


def test_items_of_several_parts_keep_their_parts() -> None:
    parts = [{"type": "input_text", "text": text} for text in "bc"]
    texts = [{"type": "text", "text": text} for text in "abc"]

    assert [said("system", texts), HI] == messages(UNKNOWN_HOST, said("system", parts), HI)


def test_one_prompt_is_unchanged() -> None:
    assert [said("system", "a"), HI] == messages(UNKNOWN_HOST, HI)
    assert [said("system", "a")] == messages(UNKNOWN_HOST)
