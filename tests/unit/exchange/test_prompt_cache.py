"""Why the provider read less of a prompt from its prompt cache than it could have: in the header, and in the ledger."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from player import Stage, answered, body, headers, talk, tried, whole

from edge_extproc.exchange.large_bodies import LARGE
from edge_extproc.model.explanation import ExplainedPromptCache, Explanation
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.prompt_turns import PromptCaches, PromptCacheSettings

ASK = ("x-edge-explain", "prompt-cache")
SYSTEM = {"role": "system", "content": "You are terse."}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("read", "write")]
SECRET = "nobody may read this sentence"


class TenthToRead:
    """A dollar for a token, and a tenth for one that is read from the cache."""

    def cost(self, provider: str, model: str, usage: Usage, **_: object) -> Decimal | None:
        return None if model == "unpriced" else Decimal(usage.total) - Decimal(usage.cache_read) * Decimal("0.9")

    def costs(self, *_: object, **__: object) -> dict[str, Decimal]:
        return {}

    def max_cost(self, *_: object, **__: object) -> Decimal:
        return Decimal(1)


class Watching(Stage):
    """A gateway with turns of conversations."""

    now = 1_700_000_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ledger: list[tuple[Settlement, Explanation | None]] = []
        self.store = MemoryRecords(lambda: self.now)
        settings = PromptCacheSettings(3_600.0, always=False)
        self.caches = PromptCaches(self.store, b"a pepper", lambda: self.now, settings)
        self.having(
            ledger=lambda *each: self.ledger.append(each),
            explains=True,
            prompt_caches=self.caches,
            session_headers=("x-edge-session",),
            prices=TenthToRead(),
        )

    @property
    def last(self) -> ExplainedPromptCache | None:
        explanation = self.ledger[-1][1]
        assert explanation is not None, self.bugs
        return explanation.prompt_cache

    def turn(
        self,
        *messages: Any,
        read: int = 0,
        prompt: int = 5_000,
        more: tuple[tuple[str, str], ...] = (ASK,),
        status: int = 200,
        model: str = "chat",
        **fields: Any,
    ) -> str | None:
        """One whole call. Returns the header that explains it."""

        exchange = self.exchange()
        asked = {"model": model, "messages": [SYSTEM, *messages], "tools": TOOLS, **fields}
        usage = {"prompt_tokens": prompt, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": read}}
        reply = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": usage,
        }
        _, _, command, _ = talk(
            exchange, headers("/v1/chat/completions", *more), body(asked), answered(status), whole(reply)
        )
        exchange.closed("done")
        asyncio.run(self.caches.drain())
        assert [] == self.bugs
        return dict(command.set_headers).get("x-edge-prompt-cache")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_a_prompt_that_only_grows_loses_nothing() -> None:
    stage = Watching()
    first = stage.turn(user(SECRET))
    second = stage.turn(user(SECRET), assistant("Hi"), user("Go on"), read=4_992, prompt=6_000)

    assert ("first; unchanged=0/4", "unchanged; unchanged=4/6") == (first, second)
    assert ExplainedPromptCache("unchanged", "", 4, 6, 5_000, 4_992, 0, None, 0) == stage.last
    assert stage.ledger[-1][0].usage == Usage(input=1_008, cache_read=4_992, output=1)


def test_the_first_segment_that_changed_is_named_with_what_it_cost() -> None:
    stage = Watching()
    stage.turn(user("One"))
    changed = [{**TOOLS[0]}, {**TOOLS[1], "strict": True}]
    header = stage.turn(user("One"), assistant("Hi"), user("Two"), tools=changed, prompt=6_000)

    assert "changed; unchanged=1/6; first-changed=tools[1]" == header
    assert ExplainedPromptCache("changed", "tools[1]", 1, 6, 5_000, 0, 5_000, "4500", 0) == stage.last


def test_a_system_prompt_that_changes_is_found() -> None:
    stage = Watching()
    stage.turn(user("One"))
    exchange = stage.turn(user("One"), messages=[{**SYSTEM, "content": "It is 12:01."}, user("One"), assistant("Hi")])

    assert "changed; unchanged=2/5; first-changed=messages[0]" == exchange


def test_nothing_of_the_texts_is_kept() -> None:
    stage = Watching()
    stage.turn(user(SECRET), more=(ASK, ("x-edge-session", "one")))

    kept = [value for value, _ in stage.store._records.values()]
    assert 1 == len(kept)
    assert not any(word.encode() in kept[0] for word in ("nobody", "terse", "read", "function", "Hi"))


def test_without_being_asked_nothing_is_read_or_kept() -> None:
    stage = Watching()
    header = stage.turn(user("One"), more=())
    other = stage.turn(user("One"), more=(("x-edge-explain", "weather"),))

    assert (None, None, None) == (header, other, stage.last)
    assert {} == stage.store._records


def test_where_it_is_configured_each_chat_is_explained_without_a_header() -> None:
    stage = Watching()
    stage.caches.settings = PromptCacheSettings(3_600.0, always=True)
    headers = [stage.turn(user("One"), more=()), stage.turn(user("One"), more=())]

    assert [None, None] == headers
    assert stage.last is not None
    assert "evicted" == stage.last.reason


def test_a_turn_of_another_provider_is_the_reason() -> None:
    stage = Watching()
    stage.turn(user("One"))
    exchange = stage.exchange()
    talk(
        exchange,
        headers("/v1/chat/completions", ASK),
        body({"model": "claude", "messages": [SYSTEM, user("One")], "tools": TOOLS}),
    )
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 6_000, "output_tokens": 2},
    }
    command = talk(exchange, answered(), whole(reply))[0]
    exchange.closed("done")

    assert "provider; unchanged=4/4" == dict(command.set_headers)["x-edge-prompt-cache"]  # type: ignore[union-attr]
    assert stage.last is not None
    assert ("provider", 5_000) == (stage.last.reason, stage.last.lost)


@pytest.mark.parametrize(
    ("model", "seconds", "reason"), [("chat", 1.0, "evicted"), ("chat", 301.0, "idle"), ("chat", 3_601.0, "first")]
)
def test_an_unchanged_prompt_that_was_not_read_has_a_reason(model: str, seconds: float, reason: str) -> None:
    stage = Watching()
    stage.turn(user("One"), model=model)
    stage.now += seconds
    stage.having(clock=Clock(stage))
    stage.turn(user("One"), model=model)

    assert stage.last is not None
    assert reason == stage.last.reason
    assert (0 if reason == "first" else 5_000) == stage.last.lost


class Clock:
    def __init__(self, stage: Watching) -> None:
        self._stage = stage
        self._ticks = 0

    def monotonic(self) -> float:
        self._ticks += 1
        return self._ticks / 1000

    def time(self) -> float:
        return self._stage.now


def anthropic(stage: Watching, *, marked: bool, read: int = 0, written: int = 0) -> str | None:

    text = {"type": "text", "text": "You are terse.", **({"cache_control": {"type": "ephemeral"}} if marked else {})}
    asked = {"model": "claude", "max_tokens": 9, "system": [text], "messages": [user("One")]}
    exchange = stage.exchange()
    talk(exchange, headers("/v1/messages", ASK), body(asked))
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 5_000 - read - written,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": 2,
        },
    }
    command = talk(exchange, answered(), whole(reply))[0]
    exchange.closed("done")
    asyncio.run(stage.caches.drain())
    return dict(command.set_headers).get("x-edge-prompt-cache")  # type: ignore[union-attr]


def test_a_provider_that_caches_only_what_is_marked_needs_a_mark() -> None:
    stage = Watching()
    anthropic(stage, marked=False)
    anthropic(stage, marked=False)
    unmarked = stage.last
    header = anthropic(stage, marked=True, written=4_000)
    marked = stage.last

    assert unmarked is not None
    assert marked is not None
    assert ("unmarked", "evicted") == (unmarked.reason, marked.reason)
    # The mark itself changes nothing.
    assert "unchanged; unchanged=2/2" == header
    # 4,000 of the lost tokens were written again.
    assert (5_000, "4500") == (marked.lost, marked.dollars)


def test_a_price_that_is_not_known_leaves_the_dollars_out() -> None:
    stage = Watching()
    stage.having(prices=Unpriced())
    stage.turn(user("One"))
    stage.turn(user("One"))

    assert stage.last is not None
    assert (5_000, None) == (stage.last.lost, stage.last.dollars)


class Unpriced(TenthToRead):
    def cost(self, provider: str, model: str, usage: Usage, **_: object) -> Decimal | None:
        return None


def test_a_short_prompt_loses_nothing_because_no_provider_caches_it() -> None:
    stage = Watching()
    stage.turn(user("One"), prompt=1_000)
    stage.turn(user("One"), prompt=1_000)

    assert stage.last is not None
    assert ("unchanged", 0) == (stage.last.reason, stage.last.lost)


def test_conversations_of_two_sessions_runs_callers_and_tenants_are_apart() -> None:
    stage = Watching()
    one, two, run = (ASK, ("x-edge-session", "one")), (ASK, ("x-edge-session", "two")), (ASK, ("x-edge-run", "one"))
    stage.turn(user("One"), more=one)
    answers = [stage.turn(user("One"), more=each) for each in (one, two, run, run, (ASK,))]
    settlements = [settlement for settlement, _ in stage.ledger]

    assert ["unchanged", "first", "first", "unchanged", "first"] == [str(each).partition(";")[0] for each in answers]
    assert ["one", "one", "two", None, None, None] == [each.session for each in settlements]


def test_a_turn_without_a_good_reply_is_not_kept() -> None:
    stage = Watching()
    stage.turn(user("One"), status=500)

    assert "first; unchanged=0/4" == stage.turn(user("One"))


def test_a_large_body_is_read_off_the_event_loop() -> None:
    stage, ran = Watching(), []

    class Runner:
        async def run(self, work: Any, *arguments: Any) -> Any:
            ran.append(getattr(work, "func", work).__name__)
            return work(*arguments)

        async def run_in_turn(self, work: Any, *arguments: Any) -> Any:
            return work(*arguments)

    stage.having(large_body_runner=Runner())
    stage.turn(user("x" * LARGE))

    assert "of" in ran
    assert "unchanged; unchanged=4/4" == stage.turn(user("x" * LARGE))


@pytest.mark.parametrize("messages", [[], "text", None, [5], [{"role": "user", "content": "\ud800"}]])
def test_an_odd_prompt_is_no_error_of_ours(messages: Any) -> None:
    stage = Watching()
    exchange = stage.exchange()
    talk(
        exchange,
        headers("/v1/chat/completions", ASK),
        body(json.dumps({"model": "chat", "messages": messages}).encode()),
    )
    exchange.closed("done")

    assert [] == stage.bugs


def test_a_failed_over_turn_counts_for_the_provider_that_answered() -> None:
    stage = Watching()
    exchange = stage.exchange()
    asked = {"model": "both", "messages": [SYSTEM, user("One")], "tools": TOOLS, "max_tokens": 9}
    talk(exchange, headers("/v1/chat/completions", ASK), body(asked))
    talk(stage.attempt(), tried(2))
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5_000, "output_tokens": 2},
    }
    talk(exchange, answered(attempt=2), whole(reply))
    exchange.closed("done")

    asyncio.run(stage.caches.drain())

    assert "provider; unchanged=4/4" == stage.turn(user("One"), model="both")
