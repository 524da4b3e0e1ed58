"""What the cache and the store of conversations see of a guarded call."""

from __future__ import annotations

import json
from typing import Any

from guarding import SECRET, guardrails, placeholder, rule
from player import Stage, answered, body, headers, talk, whole
from storing import CLAUDE, Storing, hello

from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.exchange.commands import ImmediateResponse

UMBRELLA = "edge-key-of-umbrella"
REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "CONTENT"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


class NoListener:
    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None: ...
    def cache_wrote(self, tier: str) -> None: ...
    def cache_failed(self, tier: str, why: str) -> None: ...


def ask(stage: Stage, content: str, key: str | None = None, text: str = SECRET) -> tuple[bool, dict[str, Any]]:
    """Whether the cache answered, and the reply."""
    call = {"model": "claude", "max_tokens": 9, "temperature": 0, "messages": [{"role": "user", "content": text}]}
    exchange = stage.exchange()
    head = headers("/v1/messages") if key is None else headers("/v1/messages", key=key)
    command = talk(exchange, head, body(call))[-1]
    is_hit = isinstance(command, ImmediateResponse)
    raw = json.dumps(REPLY).replace("CONTENT", content).encode()
    if not is_hit:
        command = talk(exchange, answered(), whole(raw))[-1]
    exchange.closed("done")
    assert stage.bugs == []
    return is_hit, json.loads(command.body or raw)


def test_a_cached_reply_is_of_the_masked_call_and_has_the_values_again() -> None:
    tier = MemoryTier(100, 1 << 22, 300)
    bounds = CacheBounds(max_entry=1 << 20, wait=5.0, wait_of_streams=5.0)
    policies = CachePolicies(CachePolicy(sharing="global"), {}, {})
    cache = TieredCache(policies, bounds, tier, None, NoListener(), lambda: 1_700_000_000.0)
    stage = Stage().having(cache=cache, guardrails=guardrails(rule("mask")))

    missed, first = ask(stage, placeholder())
    hit, second = ask(stage, "never asked")
    theirs, third = ask(stage, placeholder("umbrella"), UMBRELLA)

    assert (missed, hit, theirs) == (False, True, False)
    assert first["content"] == second["content"] == third["content"] == [{"type": "text", "text": SECRET}]
    # Without guardrails, the stored reply is seen as it is.
    assert ask(Stage().having(cache=cache), "never asked", text=placeholder()) == (
        True,
        json.loads(json.dumps(REPLY).replace("CONTENT", placeholder())),
    )


def test_a_stored_conversation_is_masked_again_when_it_goes_on() -> None:
    stage = Storing().with_store()
    stage.having(guardrails=guardrails(rule("mask"), rule("flag", "seen")))
    reply = json.loads(json.dumps(CLAUDE).replace("Bonjour", f"you said {placeholder()}"))

    sent, first = stage.send(hello(text=f"I am {SECRET}"), reply)
    again, _ = stage.send(hello(text="And now?", previous_response_id=first["id"]))

    assert SECRET not in json.dumps(sent)
    assert f"you said {SECRET}" in json.dumps(first)
    assert SECRET not in json.dumps(again)
    assert json.dumps(again).count(placeholder()) == 2
    # The stored request and the stored reply have the value.
    hits = [(hit.rule, hit.count) for hit in stage.settled[-1].guardrails if hit.direction == "request"]
    assert hits == [("no-secrets", 2), ("seen", 2)]


def test_a_large_body_is_checked_by_the_runner() -> None:
    class Runner:
        ran = 0

        async def run(self, function: Any, *arguments: Any) -> Any:
            self.ran += 1
            return function(*arguments)

        async def run_in_turn(self, function: Any, *arguments: Any) -> Any:
            return function(*arguments)

    runner = Runner()
    plain, stage = Stage().having(large_body_runner=runner), Stage()
    call = {"model": "chat", "messages": [{"role": "user", "content": "x" * (1 << 19) + " " + SECRET}]}
    talk(plain.exchange(), headers(), body(call))
    without, runner.ran = runner.ran, 0
    stage.having(large_body_runner=runner, guardrails=guardrails(rule("mask")))
    command = talk(stage.exchange(), headers(), body(call))[-1]

    assert runner.ran == without + 1
    assert SECRET.encode() not in command.body
