"""Why a prompt cache missed, through a real Envoy and two workers that share the turns of a conversation."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway, config, until

pytestmark = pytest.mark.envoy

TOKEN = "a-token-of-an-admin-for-tests"
MORE = """
store: {every: 100ms}
prices: [{provider: openai, model: "*", input: 1, cache_read: 0.1, output: 2}]
"""
MODEL = "gpt-4o-mini(cached=2000)"
SYSTEM = {"role": "system", "content": "You are an agent. " * 2_000}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in "ab"]


def ask(gateway: RunningGateway, messages: list[Any], tools: list[Any] = TOOLS, *, stream: bool = False) -> str:
    """One turn. Returns the header that explains it; empty if there is none."""
    body = {"model": MODEL, "messages": [SYSTEM, *messages], "tools": tools, "stream": stream}
    headers = {
        "authorization": f"Bearer {KEY}",
        "x-edge-explain": "prompt-cache",
        "x-edge-run": "agent",
        "x-edge-session": "s1",
    }
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert 200 == answer.status_code, answer.text
    return answer.headers.get("x-edge-prompt-cache", "")


def test_turns_on_any_worker_say_what_has_changed(rehearsal_url: str) -> None:
    text = config(rehearsal_url, more=MORE, workers=2)
    admin = next(line for line in text.splitlines() if line.startswith("admin: "))
    text = text.replace(admin, admin[:-1] + f", tokens: [{{id: root, role: admin, token: {TOKEN}}}]}}")
    with RunningGateway(text) as gateway:
        messages: list[Any] = [{"role": "user", "content": "One"}]
        assert "first; unchanged=0/4" == ask(gateway, messages)
        # A turn is written after its reply, so the next one may come too early.
        until(lambda: ask(gateway, messages) == "unchanged; unchanged=4/4")
        for n in range(4):
            messages += [{"role": "assistant", "content": f"Answer {n}"}, {"role": "user", "content": f"And {n}"}]
            until(partial(grows, gateway, messages, stream=n % 2 == 1))
        changed = [TOOLS[0], {**TOOLS[1], "function": {**TOOLS[1]["function"], "name": "c"}}]
        told = ask(gateway, messages, changed)
        assert f"changed; unchanged=1/{len(messages) + 3}; first-changed=tools[1]" == told
        until(lambda: changed_turns(gateway))
        (turn,) = changed_turns(gateway)
        lists = [api(gateway, f"/conversations?by={by}")["conversations"] for by in ("run", "session")]

    found = turn["prompt_cache"]
    assert ("tools[1]", 2_000, turn["tokens"]["cache_read"]) == (found["segment"], found["read"], 2_000)
    assert found["lost"] == found["readable"] - 2_000 > 1_000
    assert pytest.approx(found["lost"] * 0.9e-6) == float(found["dollars"])
    assert [["agent"], ["s1"]] == [[each["id"] for each in some] for some in lists]


def grows(gateway: RunningGateway, messages: list[Any], *, stream: bool) -> bool:
    segments = len(messages) + 3
    return ask(gateway, messages, stream=stream) == f"unchanged; unchanged={segments}/{segments}"


def api(gateway: RunningGateway, path: str) -> Any:
    return httpx.get(f"{gateway.admin}/admin/v1{path}", headers={"authorization": f"Bearer {TOKEN}"}).json()


def changed_turns(gateway: RunningGateway) -> list[dict[str, Any]]:
    turns = api(gateway, "/conversations/turns?id=agent")["turns"]
    return [each for each in turns if each["prompt_cache"] and each["prompt_cache"]["reason"] == "changed"]
