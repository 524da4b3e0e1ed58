"""The story with a cache: who is answered from it, in which words, and what is kept."""

import asyncio
import json
from decimal import Decimal

import pytest
from player import DIALECTS, Stage, answered, body, chunks, headers, talk, whole

from edge_extproc.cache.base import CacheEntry
from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.model.usage import Usage

HELLO = [{"role": "user", "content": "Hello"}]
OPENAI_REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
ANTHROPIC_REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


OPENAI_STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hi"}),
    chunk({}, "stop"),
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n',
    b"data: [DONE]\n\n",
)
SSE = "text/event-stream"
UMBRELLA = "edge-key-of-umbrella"


class Heard:
    """What a cache tells for metrics."""

    def __init__(self):
        self.lookups = []
        self.failures = []
        self.writes = []

    def cache_looked_up(self, tier, seconds, *, found):
        assert seconds >= 0
        self.lookups.append((tier, found))

    def cache_wrote(self, tier):
        self.writes.append(tier)

    def cache_failed(self, tier, why):
        self.failures.append((tier, why))


class Cached(Stage):
    """A gateway in memory that has a cache; `now` is the cache's clock."""

    now = 1_700_000_000.0

    def with_cache(self, rules=None, l2=None, models=None, tenants=None, **bounds):
        self.heard = Heard()
        book = CachePolicies(rules or CachePolicy(), models or {}, tenants or {})
        limits = CacheBounds(**{"max_entry": 1 << 20, "wait": 5.0, "wait_of_streams": 5.0, **bounds})
        self.cache = TieredCache(book, limits, MemoryTier(100, 1 << 22, 300), l2, self.heard, lambda: self.now)
        self.having(cache=self.cache)
        return self


@pytest.fixture
def stage():
    return Cached().with_cache()


def asked(model="chat", **more):
    return body({"model": model, "messages": HELLO, "temperature": 0, **more})


def run(stage, *events, why="done"):
    exchange = stage.exchange()
    commands = talk(exchange, *events)
    exchange.closed(why)
    return commands, stage.settled[-1]


def ask(stage, question=None, *more, path="/v1/chat/completions", reply=OPENAI_REPLY, key=None):
    """One call to its end; the provider is asked only where the cache does not answer."""
    first = headers(path, *more) if key is None else headers(path, *more, key=key)
    exchange = stage.exchange()
    commands = talk(exchange, first, question or asked())
    if not isinstance(commands[-1], ImmediateResponse):
        streamed = isinstance(reply, tuple)
        came = (answered(content_type=SSE), *chunks(*reply)) if streamed else (answered(), whole(reply))
        commands += talk(exchange, *came)
    exchange.closed("done")
    return commands, stage.settled[-1]


def is_hit(stage, *args, **more):
    return "hit" == ask(stage, *args, **more)[1].cache


# --- a hit


def test_the_second_call_is_answered_without_a_provider(stage):
    first, missed = ask(stage)
    second, hit = ask(stage)

    assert ("x-edge-cache", "miss") in first[2].set_headers
    assert isinstance(second[1], ImmediateResponse)
    assert OPENAI_REPLY == json.loads(second[1].body)
    (key,) = stage.cache.l1._index
    assert {
        "content-type": "application/json",
        "x-edge-cache": "hit",
        "x-edge-cache-key": key.digest.hex(),
        "age": "0",
    } == dict(second[1].headers)
    assert ("miss", None, 7, None, None) == (
        missed.cache,
        missed.cache_tier,
        missed.cost,
        missed.saved,
        missed.saved_cost,
    )
    assert ("hit", "memory", "ok", 200, "stop", "openai", 0) == (
        hit.cache,
        hit.cache_tier,
        hit.outcome,
        hit.status,
        hit.finish,
        hit.provider,
        hit.attempts,
    )
    assert (None, Decimal(0), False) == (hit.usage, hit.cost, hit.unpriced)
    assert (Usage(input=5, output=2), 7) == (hit.saved, hit.saved_cost)
    assert [("memory", False), ("memory", True)] == stage.heard.lookups
    assert not stage.bugs


def test_the_same_dialect_gets_the_providers_own_bytes(stage):
    bytes_of_theirs = json.dumps({**OPENAI_REPLY, "strange": [1.50, 2**70]}, indent=2).encode()
    ask(stage, reply=bytes_of_theirs)

    assert bytes_of_theirs == ask(stage)[0][1].body


def test_age_is_told_and_grows(stage):
    ask(stage)
    stage.gateway.clock.time = lambda: stage.now + 7.9

    assert ("age", "7") in ask(stage)[0][1].headers


def test_the_log_probabilities_of_a_stream_are_kept_whole(stage):
    def token(word):
        told = {"content": [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": []}], "refusal": None}
        choice = {"index": 0, "delta": {"content": word}, "logprobs": told, "finish_reason": None}
        value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    ask(stage, asked(stream=True, logprobs=True), reply=(token("H"), token("i"), *OPENAI_STREAM[2:]))
    told = json.loads(ask(stage, asked(logprobs=True))[0][1].body)["choices"][0]

    assert "Hi" == told["message"]["content"]
    assert ["H", "i"] == [each["token"] for each in told["logprobs"]["content"]]


@pytest.mark.parametrize("asks_usage", [True, False])
def test_a_whole_reply_serves_a_stream(stage, asks_usage):
    ask(stage)
    options = {"stream_options": {"include_usage": True}} if asks_usage else {}
    commands, hit = ask(stage, asked(stream=True, **options))

    assert ("content-type", SSE) in commands[1].headers
    events = commands[1].body.decode().split("\n\n")
    assert "data: [DONE]" == events[-2]
    assert "Hi" == "".join(
        c["delta"].get("content") or "" for e in events[:-2] for c in json.loads(e.removeprefix("data: "))["choices"]
    )
    assert asks_usage == (b'"total_tokens":7' in commands[1].body.replace(b" ", b""))
    assert ("hit", True) == (hit.cache, hit.stream)


def test_a_stream_serves_a_whole_reply(stage):
    first, _ = ask(stage, asked(stream=True), reply=OPENAI_STREAM)
    second, hit = ask(stage)

    assert ("x-edge-cache", "miss") in first[2].set_headers
    told = json.loads(second[1].body)
    assert ("Hi", "stop", 7) == (
        told["choices"][0]["message"]["content"],
        told["choices"][0]["finish_reason"],
        told["usage"]["total_tokens"],
    )
    assert Usage(input=5, output=2) == hit.saved


def test_a_hit_is_told_in_the_callers_dialect_if_config_lets_dialects_share(stage):
    stage.with_cache(CachePolicy(across_dialects=True))
    ask(stage, asked("both", max_tokens=5))
    commands, hit = ask(stage, asked("both", max_tokens=5), path="/v1/messages")
    stream, _ = ask(stage, asked("both", max_tokens=5, stream=True), path="/v1/messages")

    assert ("message", "Hi") == (
        json.loads(commands[1].body)["type"],
        json.loads(commands[1].body)["content"][0]["text"],
    )
    assert b"event: message_stop" in stream[1].body
    assert ("hit", "anthropic_messages") == (hit.cache, hit.dialect)


def test_without_that_each_dialect_has_its_own(stage):
    ask(stage, asked("both", max_tokens=5))

    assert not is_hit(stage, asked("both", max_tokens=5), path="/v1/messages")
    assert is_hit(stage, asked("both", max_tokens=5), path="/v1/messages")


def test_what_the_provider_could_not_be_told_is_told_again(stage):
    ask(stage, asked("claude", seed=1), reply=ANTHROPIC_REPLY)
    commands, hit = ask(stage, asked("claude", seed=1))

    assert ("x-edge-dropped", "seed") in commands[1].headers
    assert ("seed",) == hit.dropped


# --- whose it is


def test_two_tenants_never_share_a_reply(stage):
    question = asked("claude", max_tokens=5)
    ask(stage, question, reply=ANTHROPIC_REPLY)

    assert is_hit(stage, question)
    assert not is_hit(stage, question, key=UMBRELLA, reply=ANTHROPIC_REPLY)


def test_two_tenants_share_where_config_says_so(stage):
    stage.with_cache(CachePolicy(sharing="global"))
    ask(stage, asked("claude"), reply=ANTHROPIC_REPLY)

    assert is_hit(stage, asked("claude"), key=UMBRELLA)


def test_a_caller_who_may_not_ask_a_model_learns_nothing_of_its_cache(stage):
    stage.with_cache(CachePolicy(sharing="global"))
    ask(stage)
    commands, settled = run(stage, headers(key=UMBRELLA), asked())

    assert (404, None) == (commands[1].status, settled.cache)


def test_what_changes_the_model_behind_a_name_changes_the_reply(stage):
    from edge_extproc.model.plan import Candidate
    from edge_extproc.routing.base import ModelTable

    ask(stage)
    stage.having(models=ModelTable({"chat": [Candidate("openai", "another")]}))

    assert not is_hit(stage)


# --- what is never kept


def finish(reason, **message):
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi", **message}, "finish_reason": reason}
    return {**OPENAI_REPLY, "choices": [choice]}


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "reply",
    [
        finish("length"),
        finish("content_filter"),
        finish("stop", content=None, refusal="No."),
        finish("tool_calls", content=None, tool_calls=[CALL]),
        {**OPENAI_REPLY, "choices": []},
        OPENAI_STREAM[:2],
        (*OPENAI_STREAM[:2], b'data: {"error":{"message":"oops"}}\n\n'),
        (*OPENAI_STREAM[:2], b"data: {torn\n\n", *OPENAI_STREAM[2:]),
        (chunk({"content": "Hi"}), chunk({}, "length"), b"data: [DONE]\n\n"),
    ],
    ids=["cut", "filtered", "refused", "tool", "empty", "broken", "failed", "garbled", "cut stream"],
)
def test_a_reply_that_is_not_whole_and_clean_is_not_kept(stage, reply):
    question = asked(stream=isinstance(reply, tuple))
    ask(stage, question, reply=reply)

    assert 0 == stage.cache.l1.counts().entries
    assert not is_hit(stage, question)


def test_errors_are_not_kept(stage):
    run(stage, headers(), asked(), answered(429), whole({"error": {"message": "slow down"}}))
    run(stage, headers(), asked(), answered(503, details="upstream_reset", end=True))
    run(stage, headers(), asked(), answered(200, end=True))

    assert 0 == stage.cache.l1.counts().entries
    assert 0 == len(stage.cache.flights)


def test_a_stream_whose_caller_left_is_not_kept(stage):
    run(
        stage,
        headers(),
        asked(stream=True),
        answered(content_type=SSE),
        *chunks(*OPENAI_STREAM[:3], end=False),
        why="cancelled",
    )

    assert 0 == stage.cache.l1.counts().entries


def test_tool_calls_are_kept_if_config_says_so(stage):
    stage.with_cache(CachePolicy(tool_calls=True))
    ask(stage, reply=finish("tool_calls", content=None, tool_calls=[CALL]))

    assert "f" == json.loads(ask(stage)[0][1].body)["choices"][0]["message"]["tool_calls"][0]["function"]["name"]


def test_a_reply_over_the_bound_is_not_kept(stage):
    stage.with_cache(max_entry=100)
    ask(stage)

    assert 0 == stage.cache.l1.counts().entries


def test_calls_that_may_be_answered_in_many_ways_pass_the_cache_by(stage):
    for question in (asked(temperature=1), body({"model": "chat", "messages": HELLO})):
        commands, settled = ask(stage, question)

        assert ("x-edge-cache", "bypass") in commands[2].set_headers
        assert "bypass" == settled.cache
    assert 0 == stage.cache.l1.counts().entries
    assert [] == stage.heard.lookups


def test_counting_tokens_has_nothing_to_do_with_the_cache(stage):
    path = "/v1/messages/count_tokens"
    _, settled = run(stage, headers(path), asked("claude"), answered(), whole({"input_tokens": 1}))

    assert settled.cache is None


# --- what callers say


def test_no_store_passes_the_cache_by(stage):
    ask(stage)
    commands, settled = ask(stage, None, ("cache-control", "no-store"))

    assert ("x-edge-cache", "bypass") in commands[2].set_headers
    assert "bypass" == settled.cache


def test_no_cache_asks_anew_and_keeps_the_answer(stage):
    ask(stage)
    commands, settled = ask(stage, None, ("cache-control", "no-cache"), reply=finish("stop", content="New"))

    assert "bypass" == settled.cache
    assert ("x-edge-cache", "bypass") in commands[2].set_headers
    assert b"New" in ask(stage)[0][1].body


ONLY_IF_CACHED = ("cache-control", "max-age=60, Only-If-Cached")


@pytest.mark.parametrize("question", [None, asked(temperature=1), asked(store=True)])
def test_only_if_cached_calls_no_provider(stage, question):
    commands, settled = ask(stage, question, ONLY_IF_CACHED)

    assert isinstance(commands[-1], ImmediateResponse)
    assert (504, "not_cached") == (commands[-1].status, json.loads(commands[-1].body)["error"]["code"])
    assert ("x-should-retry", "false") in commands[-1].headers
    assert ("rejected", 0) == (settled.outcome, settled.attempts)


def test_only_if_cached_gets_what_the_cache_has(stage):
    assert not is_hit(stage)

    assert is_hit(stage, None, ONLY_IF_CACHED)


def test_max_age_refuses_what_is_older(stage):
    ask(stage)
    stage.now += 10

    assert not is_hit(stage, None, ("cache-control", "max-age=9"), reply=finish("stop", content="New"))
    assert is_hit(stage, None, ("cache-control", "max-age=9"))


def test_a_caller_may_say_how_long_to_keep_a_reply_and_so_that_it_may_be_kept(stage):
    question, long = asked(temperature=1), ("x-edge-cache-ttl", "600")
    ask(stage, question, long)
    stage.now += 599

    assert is_hit(stage, question, long)
    stage.now += 1
    assert not is_hit(stage, question, long)


def test_a_header_that_cannot_be_read_is_refused_in_the_callers_words(stage):
    commands, settled = run(stage, headers("/v1/chat/completions", ("x-edge-cache-ttl", "5m")), asked())

    assert 400 == commands[1].status
    assert "x-edge-cache-ttl" in json.loads(commands[1].body)["error"]["message"]
    assert "rejected" == settled.outcome


# --- what config says


def test_the_cache_can_be_off_for_a_tenant_or_a_model(stage):
    for more in ({"tenants": {"acme": {"enabled": False}}}, {"models": {"ch*": {"enabled": False}}}):
        stage.with_cache(**more)
        commands, settled = ask(stage)

        assert not any(name == "x-edge-cache" for name, _ in commands[2].set_headers)
        assert settled.cache is None
        assert not is_hit(stage)


def test_time_is_over_after_the_ttl_of_config(stage):
    stage.with_cache(CachePolicy(ttl=30))
    ask(stage)
    stage.now += 29
    assert is_hit(stage)
    stage.now += 1

    assert not is_hit(stage)


# --- equal calls at one time


async def together(stage, *questions, lead=None, why="done"):
    """The first call goes to its provider; the others come meanwhile. The commands of each."""
    leader = stage.exchange()
    await leader.handle(headers())
    first = await leader.handle(questions[0])
    assert isinstance(first, Continue)
    others = [stage.exchange() for _ in questions[1:]]
    for other in others:
        await other.handle(headers())
    waiting = [asyncio.ensure_future(o.handle(q)) for o, q in zip(others, questions[1:], strict=True)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    for event in (answered(), whole(OPENAI_REPLY)) if lead is None else lead:
        await leader.handle(event)
    leader.closed(why)
    answers = [await each for each in waiting]
    for other in others:
        other.closed("done")
    return answers


async def test_equal_calls_wait_for_the_first(stage):
    whole_one, streamed = await together(stage, asked(), asked(), asked(stream=True))

    assert OPENAI_REPLY == json.loads(whole_one.body)
    assert b"[DONE]" in streamed.body
    assert ["miss", "hit", "hit"] == [s.cache for s in stage.settled]
    assert ["flight", "flight"] == [s.cache_tier for s in stage.settled[1:]]
    assert 0 == len(stage.cache.flights)


@pytest.mark.parametrize("why", ["done", "cancelled", "error"])
async def test_they_go_on_by_themselves_if_the_first_brings_nothing(stage, why):
    (alone,) = await together(stage, asked(), asked(), lead=(), why=why)

    assert isinstance(alone, Continue)
    assert "miss" == stage.settled[-1].cache
    assert 0 == len(stage.cache.flights)


async def test_they_go_on_by_themselves_if_it_takes_too_long(stage):
    stage.with_cache(wait=0.01)
    leader, other = stage.exchange(), stage.exchange()
    for exchange in (leader, other):
        await exchange.handle(headers())
        assert isinstance(await exchange.handle(asked()), Continue)

    assert [("memory", False), ("memory", False), ("flight", False)] == stage.heard.lookups
    other.closed("done")
    assert 1 == len(stage.cache.flights)
    leader.closed("done")
    assert 0 == len(stage.cache.flights)


async def test_envoy_is_asked_for_time_where_the_wait_is_longer_than_it_expects(stage):
    asked_for = []

    async def more_time(seconds):
        asked_for.append(seconds)

    for wait, told in ((5.0, []), (10.0, [10.0 + 6.0]), (28.0, [30.0])):
        stage.with_cache(wait=wait, message_timeout=6.0, max_message_timeout=30.0)
        leader, other = stage.exchange(), stage.exchange()
        other.more_time = more_time
        for exchange in (leader, other):
            await exchange.handle(headers())
        await leader.handle(asked())
        waiting = asyncio.ensure_future(other.handle(asked()))
        await asyncio.sleep(0)
        leader.closed("done")
        await waiting
        other.closed("done")

        assert told == asked_for
        asked_for.clear()


async def test_nobody_waits_for_another_tenant(stage):
    question = asked("claude")
    leader, other = stage.exchange(), stage.exchange()
    await leader.handle(headers())
    await leader.handle(question)
    await other.handle(headers(key=UMBRELLA))

    assert isinstance(await other.handle(question), Continue)


async def test_a_follower_that_leaves_disturbs_nobody(stage):
    leader, other = stage.exchange(), stage.exchange()
    for exchange in (leader, other):
        await exchange.handle(headers())
    await leader.handle(asked())
    waiting = asyncio.ensure_future(other.handle(asked()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    other.closed("cancelled")
    await leader.handle(answered())
    await leader.handle(whole(OPENAI_REPLY))
    leader.closed("done")

    assert ["caller_left", "ok"] == [s.outcome for s in stage.settled]
    assert 1 == stage.cache.l1.counts().entries


# --- what should not be


def test_an_entry_that_cannot_be_read_is_a_miss(stage):
    ask(stage)
    (key,) = stage.cache.l1._index
    for spoiled in (
        CacheEntry("no_such", b"{}", "openai", "m", stage.now),
        CacheEntry("gemini_generate", b"[", "openai", "m", stage.now),
    ):
        stage.cache.l1.put(key, spoiled, stage.now)
        commands, settled = ask(stage)

        assert isinstance(commands[1], Continue)
        assert ("miss", "ok") == (settled.cache, settled.outcome)


def test_a_bug_while_keeping_is_reported_and_settles_all_the_same(stage):
    class Broken(MemoryTier):
        def put(self, *_):
            raise RuntimeError("no")

    stage.cache.l1 = Broken(1, 1 << 20, 1)
    _, settled = ask(stage)

    assert ("ok", "miss") == (settled.outcome, settled.cache)
    assert ["RuntimeError"] == [type(bug).__name__ for bug in stage.bugs]
    assert 0 == len(stage.cache.flights)


def test_every_dialect_reads_again_what_it_writes_to_be_kept():
    for dialect in DIALECTS.values():
        reply = DIALECTS["openai_chat"].read_reply(json.dumps(OPENAI_REPLY).encode())
        again = dialect.read_reply(dialect.write_reply(reply))

        assert "Hi" == again.choices[0].parts[0].text
        assert reply.usage == again.usage
