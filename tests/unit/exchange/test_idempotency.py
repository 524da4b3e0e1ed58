"""`Idempotency-Key`: of equal requests of one tenant, one is sent, and all get its reply."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_kit import Now, RecordingListener, rule
from player import Stage, answered, body, chunks, headers, talk, tried, whole
from tenants import KEYS, tenants
from thoroughness import examples

from edge_extproc.codecs.sealing import IDEMPOTENT_REPLIES, BlockCipher
from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse, Replace
from edge_extproc.exchange.events import Event, RequestBody
from edge_extproc.exchange.idempotency import own_key
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.records.base import RecordStore
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.repeats import Repeats, RepeatSettings

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
CHAT_REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
STREAM = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
SSE = "text/event-stream"


def stage(
    store: RecordStore | None = None, *, max_reply: int = 10_000, window: float = 60.0, wait: float = 0.0
) -> Stage:
    """A worker. Several of them can have one store."""
    built = tenants()
    cipher = BlockCipher(["a key of the tests, long enough"], IDEMPOTENT_REPLIES)
    repeats = Repeats(store or MemoryRecords(), RepeatSettings(window, max_reply, wait), lambda: cipher)
    return built.having(repeats=repeats)


def first(
    key: str = "k", tenant: str = "acme", content: Any = None, path: str = "/v1/chat/completions", **more: str
) -> tuple[Event, ...]:
    pairs = [("idempotency-key", key), ("content-type", "application/json")]
    pairs += [(name.replace("_", "-"), value) for name, value in more.items()]
    return headers(path, *pairs, key=KEYS[tenant]), body(ASKED if content is None else content)


def play(at: Stage, *events: Event, why: Any = "done") -> list[Command]:
    exchange = at.exchange()
    commands = talk(exchange, *events)
    exchange.closed(why)
    return commands


def answer(status: int = 200) -> tuple[Event, ...]:
    return answered(status), whole(CHAT_REPLY if status == 200 else {"error": {"message": "no"}})


def reply(commands: list[Command]) -> ImmediateResponse | None:
    return commands[-1] if isinstance(commands[-1], ImmediateResponse) else None


def replayed(commands: list[Command]) -> bytes | None:
    found = reply(commands)
    is_replay = found is not None and ("idempotent-replayed", "true") in found.headers
    return found.body if is_replay and found is not None else None


def code(commands: list[Command]) -> tuple[int, str] | None:
    found = reply(commands)
    return None if found is None else (found.status, json.loads(found.body)["error"]["code"])


def test_a_repeated_request_gets_the_first_reply_and_costs_nothing() -> None:
    worker = stage()
    play(worker, *first(), *answer())
    again = play(worker, *first())

    assert json.loads(replayed(again) or b"") == CHAT_REPLY
    assert ("content-type", "application/json") in reply(again).headers  # type: ignore[union-attr]
    charged, free = worker.settled
    assert (True, None) == (charged.cost is not None, free.cost)
    assert ("ok", 200, None) == (free.outcome, free.status, free.provider)


def test_workers_with_one_store_send_it_once() -> None:
    store = MemoryRecords()
    one, other = stage(store), stage(store)
    play(one, *first(), *answer())

    assert json.loads(replayed(play(other, *first())) or b"") == CHAT_REPLY


@given(st.lists(st.integers(0, len(STREAM)), max_size=5))
@settings(max_examples=examples(20), deadline=None)
def test_a_stream_is_repeated_byte_for_byte(cuts: list[int]) -> None:
    worker = stage()
    at = [0, *sorted(cuts), len(STREAM)]
    parts = [STREAM[a:b] for a, b in pairwise(at) if b > a]
    asked = {**ASKED, "stream": True}
    play(worker, *first(content=asked), answered(content_type=SSE), *chunks(*parts))
    again = play(worker, *first(content=asked))

    assert STREAM == replayed(again)
    assert SSE == dict(reply(again).headers)["content-type"]  # type: ignore[union-attr]


def test_a_reply_that_the_gateway_does_not_read_is_repeated_too() -> None:
    worker = stage()
    asked = first(content={"model": "chat", "input": "hi", "voice": "v"}, path="/v1/audio/speech")
    begun = play(worker, *asked, answered(content_type="audio/mpeg"), *chunks(b"\xff\x01", b"\xff\x02"))

    assert "streamed" == begun[2].response_body  # type: ignore[union-attr]
    assert b"\xff\x01\xff\x02" == replayed(play(worker, *asked))


@pytest.mark.parametrize(
    "other",
    [
        first(content={**ASKED, "temperature": 0}),
        first(content={**ASKED, "model": "both"}),
        first(content={**ASKED, "stream": True}),
        first(path="/v1/completions", content={"model": "chat", "prompt": "hi"}),
        first(openai_beta="x"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_another_request_under_the_same_key_is_refused(other: tuple[Event, ...], ended: bool) -> None:
    worker = stage()
    exchange = worker.exchange()
    talk(exchange, *first(), *(answer() if ended else ()))

    assert (422, "idempotency_key_reused") == code(play(worker, *other))
    assert [] == worker.bugs


def test_keys_of_two_tenants_have_nothing_in_common() -> None:
    worker = stage()
    play(worker, *first(), *answer())
    sent = play(worker, *first(tenant="umbrella"))

    assert isinstance(sent[-1], Continue)
    assert own_key("umbrella", "k") == dict(sent[-1].set_headers)["idempotency-key"]
    assert own_key("acme", "k") != own_key("umbrella", "k")


@given(*[st.text(max_size=4)] * 4)
def test_a_provider_sees_another_key_for_each_tenant_and_key(a: str, b: str, c: str, d: str) -> None:
    assert ((a, b) == (c, d)) == (own_key(a, b) == own_key(c, d))
    assert own_key(a, b).isascii()


def test_a_key_is_changed_also_where_replies_are_not_kept() -> None:
    sent = play(tenants(), *first("secret of a tenant"))

    assert isinstance(sent[-1], Continue)
    assert own_key("acme", "secret of a tenant") == dict(sent[-1].set_headers)["idempotency-key"]
    assert "idempotency-key" not in sent[-1].remove_headers


def test_a_retry_keeps_the_providers_key() -> None:
    worker = tenants()
    exchange = worker.exchange()
    talk(exchange, *first(content={**ASKED, "model": "both"}))
    mine = own_key("acme", "k")
    event = tried(2, exchange.id)
    event = replace(event, headers=(*event.headers, ("idempotency-key", mine)))
    command = talk(worker.attempt(), event)[0]
    exchange.closed("done")

    assert isinstance(command, Replace)
    assert "idempotency-key" not in (*command.remove_headers, *dict(command.set_headers))


@pytest.mark.parametrize("status", [400, 429, 500])
def test_after_an_error_a_repeated_request_is_sent(status: int) -> None:
    worker = stage()
    assert reply(play(worker, *first(), *answer(status))) is None

    assert replayed(play(worker, *first(), *answer())) is None
    assert replayed(play(worker, *first())) is not None


def test_after_the_caller_has_left_a_repeated_request_is_sent() -> None:
    worker = stage()
    play(worker, *first(), answered(), why="caller_left")

    assert isinstance(play(worker, *first(), *answer())[-1], Continue)
    assert replayed(play(worker, *first())) is not None


@pytest.mark.parametrize("end", [b"", b'data: {"error":{"message":"broken"}}\n\n'])
def test_a_stream_that_broke_is_not_kept(end: bytes) -> None:
    worker = stage()
    asked = first(content={**ASKED, "stream": True})
    play(worker, *asked, answered(content_type=SSE), *chunks(STREAM[:200] + end))

    assert isinstance(play(worker, *asked)[-1], Continue)


def limited(worker: Stage, requests: int) -> Now:
    """Bounds the requests of a minute. Returns the clock of the limits."""
    now = Now()
    limiter = PolicyLimiter(RuleTable([rule("requests", requests)]), None, RecordingListener(), clock=now)
    worker.having(limiter=limiter, sinks=(*worker.gateway.sinks, limiter.settle))
    return now


def test_a_request_that_a_limit_refused_can_be_repeated() -> None:
    worker = stage()
    now = limited(worker, 1)
    play(worker, *first("other"), *answer())
    assert 429 == (code(play(worker, *first())) or (0,))[0]
    now.at += 120.0

    assert isinstance(play(worker, *first())[-1], Continue)


def test_a_repeated_request_counts_as_a_request() -> None:
    worker = stage()
    limited(worker, 2)
    play(worker, *first(), *answer())
    again = play(worker, *first())

    assert ("x-ratelimit-remaining-requests", "0") in reply(again).headers  # type: ignore[union-attr]
    assert 429 == (code(play(worker, *first())) or (0,))[0]


def test_a_reply_that_is_too_long_is_not_kept_and_not_made_twice() -> None:
    worker = stage(max_reply=50)
    play(worker, *first(), *answer())

    assert (409, "idempotent_reply_not_kept") == code(play(worker, *first()))


def test_after_the_window_a_request_is_sent_again() -> None:
    clock = [1000.0]
    worker = stage(MemoryRecords(lambda: clock[0]), window=60.0)
    play(worker, *first(), *answer())
    clock[0] += 59.0
    assert replayed(play(worker, *first())) is not None
    clock[0] += 2.0

    assert isinstance(play(worker, *first())[-1], Continue)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\udcff"])
def test_a_key_of_another_form_is_refused(key: str) -> None:
    assert 400 == (code(play(stage(), *first(key))) or (0,))[0]


def test_while_the_store_is_down_a_request_with_a_key_is_not_sent() -> None:
    store = MemoryRecords()
    worker = stage(store)
    store.down = True

    assert (503, "policy_unavailable") == code(play(worker, *first()))
    without = play(worker, headers(), body(ASKED))
    assert isinstance(without[-1], Continue)


def test_a_store_that_fails_at_the_end_costs_no_reply() -> None:
    store = MemoryRecords()
    worker = stage(store)
    exchange = worker.exchange()
    talk(exchange, *first(), answered())
    store.down = True
    last = talk(exchange, whole(CHAT_REPLY))
    exchange.closed("done")

    assert [Continue()] == last
    assert "ok" == worker.settled[0].outcome


FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--B--\r\n'


def test_a_form_with_another_boundary_is_the_same_request() -> None:
    def asked(boundary: str) -> tuple[Event, ...]:
        kind = ("content-type", f"multipart/form-data; boundary={boundary}")
        return (
            headers("/v1/images/edits", kind, ("idempotency-key", "k")),
            RequestBody(FORM.replace(b"--B", b"--" + boundary.encode()), True),
        )

    worker = stage()
    play(worker, *asked("one"), answered(), whole({"data": []}))

    assert b'{"data": []}' == replayed(play(worker, *asked("two")))


# --- requests at the same time


async def _begin(worker: Stage, *events: Event) -> tuple[Any, Command]:
    exchange = worker.exchange()
    command: Command | None = None
    for event in events:
        command = await exchange.handle(event)
    assert command is not None
    return exchange, command


async def test_requests_at_the_same_time_get_one_reply_over_all_workers() -> None:
    store = MemoryRecords()
    workers = [stage(store, wait=30.0) for _ in range(3)]
    begun, _ = await _begin(workers[0], *first())
    others = [asyncio.create_task(_begin(worker, *first())) for worker in workers for _ in range(4)]
    for event in answer():
        await begun.handle(event)
    found = [await other for other in others]

    assert [CHAT_REPLY] * 12 == [json.loads(command.body) for _, command in found]  # type: ignore[union-attr]
    for exchange, _ in [(begun, None), *found]:
        exchange.closed("done")
    settled = [each for worker in workers for each in worker.settled]
    assert (13, 1) == (len(settled), sum(each.cost is not None for each in settled))


async def test_if_the_first_one_fails_one_of_those_that_wait_is_sent() -> None:
    worker = stage(wait=30.0)
    begun, _ = await _begin(worker, *first())
    others = [asyncio.create_task(_begin(worker, *first())) for _ in range(3)]
    await asyncio.sleep(0)
    begun.closed("caller_left")
    repeats = worker.gateway.repeats
    assert repeats is not None
    repeats.start()
    done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    exchange, command = done.pop().result()
    assert isinstance(command, Continue)
    for event in answer():
        await exchange.handle(event)
    found = [await other for other in waiting]

    assert [CHAT_REPLY] * len(found) == [json.loads(command.body) for _, command in found]  # type: ignore[union-attr]
    await repeats.close()


async def test_a_request_waits_no_longer_than_envoy() -> None:
    worker = stage(wait=0.0)
    await _begin(worker, *first())
    _, command = await _begin(worker, *first())

    assert isinstance(command, ImmediateResponse)
    assert (409, "1") == (command.status, dict(command.headers)["retry-after"])


async def test_a_dead_workers_request_is_sent_again_and_a_living_ones_is_renewed() -> None:
    clock = [1000.0]
    store = MemoryRecords(lambda: clock[0])
    dead, living = stage(store), stage(store)
    await _begin(dead, *first("dead"))
    await _begin(living, *first("living"))
    for _ in range(5):
        clock[0] += 25.0
        assert living.gateway.repeats is not None
        await living.gateway.repeats.renew()
    _, again = await _begin(living, *first("dead"))
    _, waits = await _begin(dead, *first("living"))

    assert isinstance(again, Continue)
    assert isinstance(waits, ImmediateResponse)
    assert 409 == waits.status
