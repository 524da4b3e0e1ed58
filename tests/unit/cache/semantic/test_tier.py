"""The semantic tier behind the exact one, as an exchange uses it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from player import body, headers
from semantic_kit import DownStore, LetterEmbedder, SemanticGateway, reply

from edge_extproc.cache.base import PurgeSelection
from edge_extproc.cache.policy import CachePolicy
from edge_extproc.cache.semantic.base import SemanticFailure
from edge_extproc.cache.semantic.memory_store import MemoryVectorStore
from edge_extproc.cache.semantic.partition import QuestionBounds
from edge_extproc.cache.tiered import SimilarCallLookup, TieredLookup
from edge_extproc.errors import Unavailable
from edge_extproc.exchange.commands import ImmediateResponse
from edge_extproc.exchange.phases import request_facts

CAPITAL, SAME = "What is the capital of France?", "Could you tell me what the capital of France is?"
UMBRELLA = "edge-key-of-umbrella"


@pytest.fixture
def stage() -> SemanticGateway:
    return SemanticGateway().with_semantic()


async def test_a_call_that_means_the_same_gets_the_stored_reply(stage: SemanticGateway) -> None:
    first, _ = await stage.ask(CAPITAL, answer="Paris")
    stage.gateway.clock.time = lambda: stage.now + 9  # type: ignore[method-assign]
    command, settlement = await stage.ask(SAME)

    assert isinstance(command, ImmediateResponse)
    assert reply("Paris") == json.loads(command.body)
    sent = dict(command.headers)
    assert ("semantic", "9") == (sent["x-edge-cache"], sent["age"])
    # The key of the call whose reply was used: a purge by it removes the reply.
    assert dict(first.set_headers or ()).get("x-edge-cache-key", sent["x-edge-cache-key"]) == sent["x-edge-cache-key"]
    assert ("semantic", "l3", "ok", "openai", 0) == (
        settlement.cache,
        settlement.cache_tier,
        settlement.outcome,
        settlement.provider,
        settlement.cost,
    )
    assert settlement.similarity is not None
    assert 0.75 < settlement.similarity < 1
    assert ["miss", "hit"] == stage.events.results
    assert [("chat", "acme")] == stage.events.hits


async def test_an_equal_call_is_an_exact_hit(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL)

    assert "hit" == await stage.result(CAPITAL)
    assert ["miss"] == stage.events.results


async def test_a_near_question_with_another_meaning_is_refused(stage: SemanticGateway) -> None:
    await stage.ask("How do I enable two factors?")

    assert "miss" == await stage.result("How do I disable two factors?")
    assert "refused" == stage.events.results[-1]
    assert sum(stage.events.refusals.values()) == 1


async def test_a_stream_gets_the_reply_as_a_stream(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL, answer="Paris")
    command, settlement = await stage.ask(SAME, stream=True)

    assert isinstance(command, ImmediateResponse)
    assert "text/event-stream" == dict(command.headers)["content-type"]
    assert b'"content":"Paris"' in command.body
    assert command.body.endswith(b"data: [DONE]\n\n")
    assert settlement.stream


async def test_the_reply_to_a_stream_answers_others(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL, answer="Paris", stream=True)

    assert "semantic" == await stage.result(SAME)


SYSTEM = {"role": "system", "content": "You speak as a pirate."}
USER = {"role": "user", "content": SAME}
GREETING = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"})


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [SYSTEM, USER]},
        {"messages": [*GREETING, USER]},
        {"temperature": 0.0, "top_p": 0.5},
        {"max_tokens": 5},
        {"seed": 7},
        {"stop": ["x"]},
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
        {"an_unknown_field": 1},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"messages": [{**USER, "name": "anna"}]},
        {"model": "claude"},
    ],
    ids=str,
)
async def test_what_else_differs_in_a_call_is_another_partition(stage: SemanticGateway, fields: dict[str, Any]) -> None:
    await stage.ask(CAPITAL)
    asked = len(stage.events.results)

    assert "miss" == await stage.result(SAME, **fields)
    assert ["miss"] == stage.events.results[asked:]


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [CALL]})
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "7"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": SAME}, PICTURE]}]}, id="image"
        ),
        pytest.param({"messages": [*CALLING, RESULT]}, id="a result of a tool"),
        pytest.param({"messages": [*CALLING, RESULT, USER]}, id="after a tool"),
        pytest.param({"messages": [USER, {"role": "assistant", "content": SAME}]}, id="prefill"),
        pytest.param({"response_format": {"type": "json_object"}}, id="json"),
        pytest.param({"response_format": SCHEMA}, id="schema"),
        pytest.param({"n": 2}, id="choices"),
        pytest.param({"logprobs": True}, id="probabilities"),
        pytest.param({"messages": [{"role": "user", "content": "long " * 200}]}, id="long"),
        pytest.param({"messages": [{"role": "user", "content": "ü" * 401}]}, id="many bytes"),
        pytest.param({"messages": [{"role": "system", "content": "long " * 14_000}, USER]}, id="large"),
        pytest.param({"messages": [{"role": "user", "content": "  "}]}, id="empty"),
        pytest.param({"messages": [{"role": "user", "content": "a \ud800"}]}, id="half of a pair"),
    ],
)
async def test_some_calls_are_neither_looked_up_nor_kept(stage: SemanticGateway, fields: dict[str, Any]) -> None:
    await stage.ask(SAME, **fields)

    assert [] == stage.events.results
    assert 0 == stage.tier.counts().entries


async def test_structured_output_may_be_allowed() -> None:
    stage = SemanticGateway().with_semantic(bounds=QuestionBounds(200, structured_output=True))
    await stage.ask(CAPITAL, response_format={"type": "json_object"})

    assert "semantic" == await stage.result(SAME, response_format={"type": "json_object"})
    assert "miss" == await stage.result(SAME)


async def test_the_caller_decides_by_headers(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL, answer="Paris")

    assert "bypass" == await stage.result(SAME, ("cache-control", "no-cache"), answer="Lutetia")
    assert "bypass" == await stage.result(SAME, ("cache-control", "no-store"))
    assert "miss" == await stage.result("Please tell me the capital of France", ("x-edge-cache-semantic", "off"))
    stage.now += 100
    assert "miss" == await stage.result("what's the capital of France", ("cache-control", "max-age=60"))
    command, _ = await stage.ask("What is the capital of France", ("x-edge-cache-semantic", "maybe"))
    assert isinstance(command, ImmediateResponse)
    assert 400 == command.status


async def test_the_reply_to_a_call_with_no_cache_is_kept_for_similar_ones(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL, ("cache-control", "no-cache"), answer="Paris")

    assert "semantic" == await stage.result(SAME)


async def test_callers_may_have_to_ask_for_it() -> None:
    stage = SemanticGateway().with_semantic(rules=CachePolicy(semantic="on_request"))
    wanted = ("x-edge-cache-semantic", "on")
    await stage.ask(CAPITAL)
    assert "miss" == await stage.result(SAME, wanted)
    assert "miss" == await stage.result("Tell me the capital of France")
    assert "semantic" == await stage.result("Please tell me the capital of France", wanted)


async def test_a_tenant_may_be_excluded() -> None:
    stage = SemanticGateway().with_semantic(tenants={"acme": {"semantic": "off"}})
    await stage.ask(CAPITAL)

    assert "miss" == await stage.result(SAME)
    assert [] == stage.events.results


async def test_a_reply_that_is_not_cached_is_not_used(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL, finish="length")

    assert "miss" == await stage.result(SAME)


async def test_a_reply_expires(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL)
    stage.now += 3599
    assert "semantic" == await stage.result(SAME)
    stage.now += 2

    assert "miss" == await stage.result(SAME)


async def test_the_callers_time_to_live_holds(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL, ("x-edge-cache-ttl", "10"))
    stage.now += 11

    assert "miss" == await stage.result(SAME)


# --- owners


async def test_two_tenants_never_meet(stage: SemanticGateway) -> None:
    anthropic = {"model": "claude", "messages": [{"role": "user", "content": CAPITAL}]}
    await stage.ask({**anthropic, "temperature": 0})

    asked = {"model": "claude", "messages": [{"role": "user", "content": SAME}], "temperature": 0}
    assert "miss" == await stage.result(asked, key=UMBRELLA)
    assert "semantic" == await stage.result(asked)


async def test_all_tenants_share_if_the_rules_say_so() -> None:
    stage = SemanticGateway().with_semantic(rules=CachePolicy(sharing="global"))
    await stage.ask({"model": "claude", "messages": [{"role": "user", "content": CAPITAL}], "temperature": 0})

    asked = {"model": "claude", "messages": [{"role": "user", "content": SAME}], "temperature": 0}
    assert "semantic" == await stage.result(asked, key=UMBRELLA)


@given(
    st.lists(
        st.tuples(st.sampled_from(["acme", "umbrella"]), st.sampled_from([CAPITAL, SAME]), st.sampled_from(["A", "B"])),
        min_size=2,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=30)
def test_no_reply_crosses_a_tenant_or_a_system_prompt(calls: list[tuple[str, str, str]]) -> None:
    """Each reply says for whom and under which prompt it was made."""

    async def play() -> None:
        stage = SemanticGateway().with_semantic()
        for tenant, question, system in calls:
            made_for = f"{tenant} {system}"
            key = UMBRELLA if tenant == "umbrella" else None
            messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
            asked = {"model": "claude", "messages": messages, "temperature": 0}
            command, _ = await stage.ask(asked, answer=made_for, key=key)
            if isinstance(command, ImmediateResponse):
                assert made_for == json.loads(command.body)["choices"][0]["message"]["content"]

    asyncio.run(play())


async def test_a_record_of_another_partition_is_never_used(stage: SemanticGateway) -> None:
    """A store that returns what it should not."""
    await stage.ask(CAPITAL)

    class Careless:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def nearest(self, partition: bytes, vector: Any, count: int, now: float) -> Any:
            (other,) = self.inner._partitions
            return await self.inner.nearest(other, vector, count, now)

    stage.tier.store = Careless(stage.records)
    assert "miss" == await stage.result(SAME, seed=3)
    assert [("store", "foreign")] == stage.events.failures


# --- failures


@pytest.mark.parametrize("part", ["embedder", "store"])
async def test_what_fails_is_a_miss_and_is_not_used_for_a_time(part: str) -> None:
    embedder = LetterEmbedder()
    down = DownStore()
    stage = SemanticGateway().with_semantic(embedder, down if part == "store" else None)
    if part == "embedder":
        embedder.failure = SemanticFailure("unreachable", "it is away")
    for number in range(8):
        assert "miss" == await stage.result(f"Question number {number}")

    assert {"failed"} == set(stage.events.results)
    assert {(part, "unreachable")} == set(stage.events.failures)
    assert stage.tier.down is not None
    uses = down.uses if part == "store" else len(embedder.texts)
    await stage.ask("One more question")
    assert uses == (down.uses if part == "store" else len(embedder.texts))

    embedder.failure = None
    if part == "store":
        stage.tier.store = MemoryVectorStore(100, 1 << 20)
    stage.monotonic += 6
    await stage.ask(CAPITAL)
    assert stage.tier.down is None
    assert "semantic" == await stage.result(SAME)


@pytest.mark.parametrize("part", ["embedder", "store"])
async def test_a_bug_of_a_plugin_is_a_miss(part: str) -> None:
    embedder, bug = LetterEmbedder(), KeyError("a bug")
    stage = SemanticGateway().with_semantic(embedder, DownStore(bug) if part == "store" else None)
    if part == "embedder":
        embedder.failure = bug

    assert "miss" == await stage.result(CAPITAL)
    assert {(part, "bug")} == set(stage.events.failures)
    # An embedder that has failed in the lookup is not asked again for the record.
    assert 1 == len(embedder.texts)


async def test_a_verifier_with_a_bug_refuses(stage: SemanticGateway) -> None:
    class Wrong:
        def agree(self, asked: object, known: object) -> bool:
            raise KeyError("a bug")

    stage.tier.verifiers = {"wrong": Wrong()}
    await stage.ask(CAPITAL)

    assert "miss" == await stage.result(SAME)
    assert {"wrong": 1} == stage.events.refusals


async def test_a_lookup_beyond_its_budget_is_a_miss() -> None:
    class Slow(LetterEmbedder):
        async def embed(self, texts: Any, tenant: str) -> Any:
            if "slow" in texts[0]:
                await asyncio.Event().wait()
            return await super().embed(texts, tenant)

    stage = SemanticGateway().with_semantic(Slow(), budget=0.01)
    for _ in range(5):
        exchange = stage.exchange()
        await exchange.handle(headers())
        command = await exchange.handle(body(asked("a slow one")))
        assert not isinstance(command, ImmediateResponse)
        exchange.closed("done")

    assert ["slow"] * 5 == stage.events.results
    assert [("embedder", "slow")] * 5 == stage.events.failures
    assert stage.tier.down is not None


async def test_callers_who_leave_do_not_count_as_failures() -> None:
    began = asyncio.Event()

    class Endless(LetterEmbedder):
        async def embed(self, texts: Any, tenant: str) -> Any:
            began.set()
            return await asyncio.Event().wait()

    stage = SemanticGateway().with_semantic(Endless())
    for number in range(6):
        exchange = stage.exchange()
        await exchange.handle(headers())
        task = asyncio.ensure_future(exchange.handle(body(asked(f"Question {number}"))))
        await began.wait()
        began.clear()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        exchange.closed("left")

    assert [] == stage.events.failures
    assert stage.tier.down is None


async def test_a_budget_longer_than_envoys_time_requests_more() -> None:
    stage = SemanticGateway().with_semantic(budget=5.0)
    extended: list[float] = []

    async def more_time(seconds: float) -> None:
        extended.append(seconds)

    exchange = stage.exchange()
    exchange.more_time = more_time
    await exchange.handle(headers())
    await exchange.handle(body(asked("What is it?")))
    exchange.closed("done")

    assert [9.0] == extended


def asked(text: str) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], "temperature": 0}


async def test_verification_beyond_the_budget_is_a_miss(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL)
    inner = stage.tier.clock.monotonic

    def advancing() -> float:
        stage.monotonic += 1.0
        return inner()

    stage.tier.clock = type(stage.tier.clock)(lambda: stage.now, advancing)
    assert "miss" == await stage.result(SAME)
    assert "slow" == stage.events.results[-1]


# --- purge


async def test_a_purge_removes_similar_replies_too(stage: SemanticGateway) -> None:
    for selection in (PurgeSelection(tenant="acme"), PurgeSelection(model="chat"), PurgeSelection()):
        await stage.ask(CAPITAL)
        assert "semantic" == await stage.result(SAME)
        assert 0 == await stage.cache.purge(PurgeSelection(tenant="umbrella"))
        assert 2 == await stage.cache.purge(selection)
        assert 0 == stage.tier.counts().entries


async def test_a_purge_by_the_key_of_a_hit_removes_its_source(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL)
    command, _ = await stage.ask(SAME)
    digest = bytes.fromhex(dict(command.headers)["x-edge-cache-key"])

    assert 2 == await stage.cache.purge(PurgeSelection(digest=digest))
    assert "miss" == await stage.result(SAME)


async def test_a_purge_that_the_store_refuses_is_reported() -> None:
    stage = SemanticGateway().with_semantic(store=DownStore())

    with pytest.raises(Unavailable, match="semantic cache did not purge"):
        await stage.cache.purge(PurgeSelection())


@pytest.mark.parametrize(("has_tier", "kind"), [(False, TieredLookup), (True, SimilarCallLookup)])
async def test_only_with_the_tier_a_lookup_has_more_steps(stage: SemanticGateway, has_tier: bool, kind: type) -> None:
    if not has_tier:
        stage.cache.l3 = None
    exchange = stage.exchange()
    await exchange.handle(headers())
    await exchange.handle(body(asked("What is it?")))
    lookup = request_facts(exchange._request).lookup
    exchange.closed("done")

    assert kind is type(lookup)


async def test_a_purge_of_another_worker_empties_this_memory(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL)
    stage.cache._purged_elsewhere(PurgeSelection(tenant="acme"))
    await stage.tier.settled()

    assert 0 == stage.tier.counts().entries


async def test_closing_closes_the_embedder_and_the_store(stage: SemanticGateway) -> None:
    await stage.ask(CAPITAL)
    await stage.cache.close()

    assert stage.embedder.closed  # type: ignore[attr-defined]
