"""Guarded replies on real Envoy: a blocked stream ends as usual for the caller, and at once for the provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway, until

pytestmark = pytest.mark.envoy

# A reply of 40 seconds. Only a block ends it earlier.
MODELS = """
slow: [{provider: openai, model: "rehearsal(tokens=2000,pace=20ms)"}]
slow-claude: [{provider: anthropic, model: "rehearsal(tokens=2000,pace=20ms)"}]
split: [{provider: openai, model: "rehearsal(split=7)"}]
split-claude: [{provider: anthropic, model: "rehearsal(split=7)"}]
"""
RULES = """
guardrails:
  rules:
    - {name: names, detect: {words: {words: [Falcon Nine], label: project}}, action: mask}
    - {name: twenty, detect: {words: {words: [word20]}}, on: [reply], action: block}
"""
ENDS = {
    "/v1/chat/completions": ('"finish_reason":"content_filter"', "data: [DONE]\n\n"),
    "/v1/messages": ('"stop_reason":"refusal"', 'data: {"type":"message_stop"}\n\n'),
}


@pytest.fixture(scope="module")
def guarded(rehearsal_url: str) -> Iterator[RunningGateway]:
    with RunningGateway(gateways.config(rehearsal_url, more=RULES, models=MODELS)) as found:
        yield found


def stream(client: httpx.Client, gateway: RunningGateway, path: str, model: str, text: str) -> str:
    call: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True}
    if path == "/v1/messages":
        call["max_tokens"] = 4000
    reply = client.post(f"{gateway.url}{path}", headers={"authorization": f"Bearer {KEY}"}, json=call, timeout=30)
    assert reply.status_code == 200
    return reply.text


def text_of(stream: str) -> str:
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    chat = "".join(choice["delta"].get("content") or "" for each in events for choice in each.get("choices", ()))
    return chat + "".join(each["delta"].get("text", "") for each in events if each.get("type") == "content_block_delta")


@pytest.mark.parametrize("model", ["slow", "slow-claude"])
@pytest.mark.parametrize("path", sorted(ENDS))
def test_a_blocked_stream_ends_for_the_caller_and_its_upstream_request_is_reset(
    guarded: RunningGateway, rehearsal_url: str, path: str, model: str
) -> None:
    def abandoned() -> int:
        count: int = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["tally"].get("abandoned", 0)
        return count

    before = abandoned()
    with httpx.Client() as client:
        first = stream(client, guarded, path, model, "count")
        until(lambda: abandoned() == before + 1)
        again = stream(client, guarded, path, model, "count")  # on the same connection

    for got in (first, again):
        assert text_of(got).endswith("word19 ")
        finish, end = ENDS[path]
        assert finish in got
        assert got.endswith(end)


@pytest.mark.parametrize("model", ["split", "split-claude"])
@pytest.mark.parametrize("path", sorted(ENDS))
def test_a_stream_that_is_cut_anywhere_has_the_values_again(guarded: RunningGateway, path: str, model: str) -> None:
    with httpx.Client() as client:
        got = stream(client, guarded, path, model, "Falcon Nine, and again Falcon Nine")

    assert "You asked: Falcon Nine, and again Falcon Nine" in text_of(got)
    assert "PROJECT_" not in got


@pytest.mark.parametrize("model", ["slow", "split"])
def test_a_stream_of_a_completion_is_checked_and_restored(
    guarded: RunningGateway, rehearsal_url: str, model: str
) -> None:
    def abandoned() -> int:
        count: int = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["tally"].get("abandoned", 0)
        return count

    before = abandoned()
    call = {"model": model, "prompt": "Falcon Nine, and again Falcon Nine", "stream": True, "max_tokens": 4000}
    headers = {"authorization": f"Bearer {KEY}"}
    reply = httpx.post(f"{guarded.url}/v1/completions", headers=headers, json=call, timeout=30)
    choices = [
        choice
        for line in reply.text.splitlines()
        if line.startswith("data: {")
        for choice in json.loads(line[6:])["choices"]
    ]
    text = "".join(choice["text"] for choice in choices)

    assert reply.status_code == 200
    assert reply.text.endswith("data: [DONE]\n\n")
    assert "PROJECT_" not in text
    if model == "split":
        assert "Falcon Nine, and again Falcon Nine" in text
        return
    assert text.endswith("word19 ")
    assert choices[-1]["finish_reason"] == "content_filter"
    until(lambda: abandoned() == before + 1)
