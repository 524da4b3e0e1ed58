"""Guardrails on real Envoy: what the provider gets, what the caller gets, and what is counted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from calls_with_secrets import CALLS, CHAT, GEMINI, MESSAGES, RESPONSES
from gateway import KEY, OTHER_KEY, RunningGateway, until

pytestmark = pytest.mark.envoy

MODELS = """
chat: [{provider: openai, model: rehearsal}]
only-this: [{provider: openai, model: rehearsal}]
claude: [{provider: anthropic, model: rehearsal}]
private: [{provider: openai, model: "rehearsal(delay=1ms)"}]
"""
RULES = """
guardrails:
  rules:
    - {name: names, detect: {words: {words: [Falcon Nine], label: project}}, action: mask}
    - {name: forbidden, detect: {words: {words: [forbidden-word]}}, action: block}
    - {name: seen, detect: {words: {words: [flagged-word]}}, action: flag}
    - {name: tried, detect: {words: {words: [shadow-word]}}, action: block, mode: shadow}
    - {name: private, detect: {words: {words: [private-word]}}, action: route, route_to: private}
    - {name: theirs, detect: {words: {words: [their-word]}}, action: block, for: {tenants: [umbrella]}}
store: {}
"""


@pytest.fixture(scope="module")
def guarded(rehearsal_url: str) -> Iterator[RunningGateway]:
    with RunningGateway(gateways.config(rehearsal_url, more=RULES, models=MODELS)) as found:
        yield found


def call(place: str, path: str, model: str, text: str) -> tuple[str, bytes]:
    written = json.dumps(CALLS[place][path]).replace("SECRET", text).replace("MODEL", model)
    return path.replace("MODEL", model), written.encode()


def post(gateway: RunningGateway, path: str, body: Any, key: str = KEY) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return httpx.post(f"{gateway.url}{path}", headers=headers, content=content, timeout=30)


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], **more}


def last_seen(rehearsal_url: str) -> dict[str, Any]:
    """The body of the last request to the provider."""
    seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
    body: dict[str, Any] = json.loads(base64.b64decode(seen[-1]["body"]))
    return body


@pytest.mark.parametrize("model", ["chat", "claude"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, GEMINI])
def test_the_provider_never_gets_a_masked_text_and_the_caller_has_it_again(
    guarded: RunningGateway, rehearsal_url: str, path: str, model: str
) -> None:
    reply = post(guarded, *call("user", path, model, "Falcon Nine is a name"))

    assert reply.status_code == 200
    sent = json.dumps(last_seen(rehearsal_url))
    assert "Falcon Nine" not in sent
    assert "PROJECT_" in sent
    assert "Falcon Nine is a name" in reply.text
    assert "PROJECT_" not in reply.text
    assert reply.headers["x-edge-guardrails"] == "names=mask"


def test_a_stream_has_the_values_again(guarded: RunningGateway) -> None:
    reply = post(guarded, CHAT, chat("Falcon Nine is a name", stream=True))
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    text = "".join(each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"])

    assert "Falcon Nine is a name" in text


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES, GEMINI])
def test_a_blocked_call_reaches_no_provider(guarded: RunningGateway, rehearsal_url: str, path: str) -> None:
    reply = post(guarded, *call("tool_result", path, "chat", "a forbidden-word"))

    assert reply.status_code == 400
    assert "forbidden" in reply.json()["error"]["message"]
    assert "forbidden-word" not in reply.text
    assert reply.headers["x-edge-guardrails"] == "forbidden=block"
    seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
    assert not any(b"forbidden-word" in base64.b64decode(each["body"]) for each in seen)


def test_another_model_gets_a_private_call(guarded: RunningGateway, rehearsal_url: str) -> None:
    reply = post(guarded, CHAT, chat("a private-word"))

    assert reply.status_code == 200
    assert last_seen(rehearsal_url)["model"] == "rehearsal(delay=1ms)"


def test_the_rules_of_another_tenant_do_not_apply(guarded: RunningGateway) -> None:
    ours = post(guarded, CHAT, chat("a their-word"))
    theirs = post(guarded, CHAT, {**chat("a their-word"), "model": "only-this"}, OTHER_KEY)

    assert (ours.status_code, theirs.status_code) == (200, 400)


def test_flags_and_shadows_are_in_the_log_and_the_metrics(guarded: RunningGateway) -> None:
    reply = post(guarded, CHAT, chat("a flagged-word and a shadow-word"))

    assert reply.status_code == 200
    assert reply.headers["x-edge-guardrails"] == "seen=flag"

    def lines() -> list[dict[str, Any]]:
        return [
            each
            for each in guarded.access_lines()
            if [hit["rule"] for hit in each.get("guardrails", ())] == ["seen", "tried"]
        ]

    until(lines)
    (line,) = lines()
    assert line["guardrails"][1] == {
        "rule": "tried",
        "label": "word",
        "action": "block",
        "mode": "shadow",
        "direction": "request",
        "count": 1,
    }
    assert "flagged-word" not in json.dumps(line)
    labels = '{action="block",direction="request",label="word",mode="shadow",rule="tried"}'
    until(lambda: f"edge_guardrail_hits_total{labels} 1.0" in guarded.metrics())
