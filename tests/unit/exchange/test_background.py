"""A reply that OpenAI makes in the background: charged when it is accepted, corrected once when its end is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from limits_kit import Now, RecordingListener, dollars
from player import DIALECTS, FORMATS, KEY, Stage, answered, body, chunks, headers, whole
from storing import OPENAI, Storing, hello, openai, sse
from tenants import ENDPOINTS, KEYS, tenants

from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse
from edge_extproc.exchange.events import Event
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.plan import Candidate, Plan
from edge_extproc.model.settlement import Settlement
from edge_extproc.records.batches import Batches, OpenBatch
from edge_extproc.records.memory import MemoryRecords

MICRO = 1_000_000
QUEUED = {**OPENAI, "id": "resp_bg", "status": "queued", "background": True, "output": [], "usage": None}
CALL = {"model": "gpt-4o-mini", "input": "Hello", "background": True, "max_output_tokens": 100}

EVENTS = sse(
    {"type": "response.created", "sequence_number": 0, "response": {**QUEUED, "status": "in_progress"}},
    {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0, "delta": "H"},
)
END = sse(
    {"type": "response.completed", "sequence_number": 2, "response": {**OPENAI, "id": "resp_bg", "background": True}}
)
SSE = answered(content_type="text/event-stream")
BEGUN = (SSE, *chunks(*EVENTS, end=False))
"""The response to a call in the background, which the provider streams and has not finished."""


def stage(*rules: LimitRule) -> Stage:
    """Two tenants share OpenAI's account, which has replies in the background. A token costs one dollar."""
    made = tenants(batches=Batches(MemoryRecords(), {}))
    made.having(providers={**made.gateway.providers, "openai": openai()})
    if rules:
        limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), clock=Now())
        made.having(limiter=limiter, sinks=(*made.gateway.sinks, limiter.settle))
    return made


def play(on: Stage, *events: Event, end: Any = "done") -> list[Command]:
    async def run() -> list[Command]:
        exchange, commands = on.exchange(), []
        for event in events:
            commands.append(await exchange.handle(event))
            if isinstance(commands[-1], ImmediateResponse):
                break
        await exchange.before_close()
        exchange.closed(end)
        return commands

    commands = asyncio.run(run())
    assert [] == on.bugs
    return commands


def create(on: Stage, reply: Any = QUEUED, key: str = KEY, **more: Any) -> list[Command]:
    return play(on, headers("/v1/responses", key=key), body({**CALL, **more}), answered(), whole(reply))


def leave(on: Stage, *seen: Event, **more: Any) -> None:
    """A call in the background that its caller leaves before its end."""
    play(on, headers("/v1/responses"), body({**CALL, "stream": True, **more}), *seen, end="cancelled")


def fetch(on: Stage, method: str = "GET", path: str = "", key: str = KEY, **more: Any) -> list[Command]:
    reply = {**OPENAI, "id": "resp_bg", "background": True, **more}
    asked = headers(f"/v1/responses/resp_bg{path}", method=method, key=key, end=True)
    return play(on, asked, answered(), whole(reply))


def booked(on: Stage) -> list[Settlement]:
    return [each for each in on.settled if each.booking is not None]


def cost(on: Stage) -> Decimal:
    """What the ledger has charged for everything."""
    return sum((each.cost for each in on.settled if each.cost is not None), Decimal(0))


def counted(on: Stage) -> list[int]:
    limiter = on.gateway.limiter
    assert isinstance(limiter, PolicyLimiter)
    amounts = [amount for _, amount, _ in limiter.memory.counted(lambda key: ":dollars:" in key)() if amount]
    assert sum(amounts) == in_ledger(on)
    return amounts


def in_ledger(on: Stage) -> int:
    """What a budget is rebuilt with, micro-dollars."""
    return int(sum((each.cost or 0 if each.held is None else each.held for each in on.settled), Decimal(0)) * MICRO)


def test_it_is_charged_when_it_is_accepted_and_corrected_when_its_end_is_read() -> None:
    on = stage(dollars(10_000))
    create(on)

    (charge,) = booked(on)
    assert charge.cost is not None
    assert charge.cost > 100
    assert ("charge", "background", "acme", "openai") == (
        charge.booking,
        charge.operation,
        charge.tenant,
        charge.provider,
    )
    assert charge.cost == cost(on)
    assert [int(charge.cost * MICRO)] == counted(on)
    fetch(on, status="in_progress", output=[], usage=None)
    assert 1 == len(booked(on))

    fetch(on)
    assert ["charge", "credit", "usage"] == [each.booking for each in booked(on)]
    assert Decimal(7) == cost(on)  # the full price, not that of a batch
    assert [7 * MICRO] == counted(on)


def test_its_web_searches_are_charged() -> None:
    on = stage(dollars(10_000))
    create(on)
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    page = {**search, "action": {"type": "open_page"}}
    fetch(on, output=[search, page, search, *OPENAI["output"]])

    last = booked(on)[-1]
    assert (2, Decimal("0.02"), Decimal("7.02")) == (last.usage and last.usage.searches, last.search_cost, last.cost)
    assert Decimal("7.02") == cost(on)
    assert [7_020_000] == counted(on)


def test_its_thinking_is_counted_as_in_any_other_reply() -> None:
    on = stage()
    create(on)
    fetch(on, usage={"input_tokens": 5, "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 4}})

    usage = booked(on)[-1].usage
    assert usage is not None
    assert (5, 3, 4) == (usage.input, usage.output, usage.reasoning)


def test_it_is_settled_once_however_often_it_is_read() -> None:
    on = stage(dollars(10_000))
    create(on)
    for _ in range(3):
        fetch(on)

    assert Decimal(7) == cost(on)
    assert [7 * MICRO] == counted(on)


@pytest.mark.parametrize("status", ["cancelled", "incomplete", "failed"])
def test_each_end_with_a_usage_settles_it(status: str) -> None:
    on = stage(dollars(10_000))
    create(on)
    fetch(on, "POST", "/cancel", status=status)

    assert Decimal(7) == cost(on)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1, "output_tokens": 2}, {"input_tokens": 10**30}])
def test_an_end_whose_usage_is_not_known_stays_charged(usage: Any) -> None:
    on = stage(dollars(10_000))
    create(on)
    before = cost(on)
    fetch(on, status="failed", usage=usage)

    assert before == cost(on)
    assert [int(before * MICRO)] == counted(on)


def test_a_stream_of_its_end_is_no_call_of_its_own() -> None:
    """It was charged when it was created, also if the caller leaves the stream."""
    on = stage(dollars(10_000))
    create(on)
    before = cost(on)
    asked = headers("/v1/responses/resp_bg?stream=true&starting_after=3", method="GET", end=True)
    play(on, asked, SSE, *chunks(EVENTS[1], end=False), end="cancelled")
    assert before == cost(on)
    play(on, asked, SSE, *chunks(EVENTS[1], *END))

    for last in [each for each in on.settled if each.booking is None][-2:]:
        assert (None, None, False) == (last.usage, last.cost, last.unpriced)
    assert ["charge", "credit", "usage"] == [each.booking for each in booked(on)]
    assert Decimal(7) == cost(on)


def test_without_limits_it_is_charged_too() -> None:
    on = stage()
    create(on)

    assert ["charge"] == [each.booking for each in booked(on)]
    fetch(on)
    assert Decimal(7) == cost(on)


def test_one_without_an_id_stays_charged() -> None:
    on = stage(dollars(10_000))
    create(on, {**QUEUED, "id": None})

    assert ["charge"] == [each.booking for each in booked(on)]


def test_one_that_does_not_fit_into_the_budget_is_refused() -> None:
    (command,) = create(stage(dollars(50)))[-1:]

    assert isinstance(command, ImmediateResponse)
    assert 429 == command.status


def test_a_reply_that_comes_at_once_is_settled_like_any_other() -> None:
    on = stage(dollars(10_000))
    create(on, OPENAI)

    assert [] == booked(on)
    assert Decimal(7) == cost(on)


def test_an_error_costs_nothing() -> None:
    on = stage(dollars(10_000))
    error = {"error": {"message": "no", "type": "invalid_request_error"}}
    play(on, headers("/v1/responses"), body(CALL), answered(400), whole(error))

    assert ([], 0) == (booked(on), cost(on))
    assert [] == counted(on)


def test_a_caller_who_leaves_a_stream_pays_for_the_whole_reply() -> None:
    """The provider completes it."""
    costs = []
    for background in (True, False):
        on = stage()
        leave(on, *BEGUN, background=background)
        costs.append(cost(on))

    assert costs[0] >= 100 > costs[1] > 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_leaves_pays_for_the_longest_reply_if_the_call_has_no_limit(stream: bool) -> None:
    """Otherwise it could read the whole reply later, and pay for a usual one. A budget keeps what was reserved."""
    on = stage(dollars(10_000_000))
    leave(on, *BEGUN if stream else (), stream=stream, max_output_tokens=None)

    longest = on.gateway.bounds.output_of("gpt-4o-mini")
    (charge,) = [each for each in on.settled if each.cost is not None]
    assert (True, "charge" if stream else None) == (charge.estimated, charge.booking)
    assert longest < cost(on) < longest + 100
    (reserved,) = counted(on)
    assert reserved > cost(on) * MICRO


@pytest.mark.parametrize("parts", range(1, 3))
def test_the_reply_of_a_stream_that_its_caller_left_is_settled_when_its_end_is_read(parts: int) -> None:
    on = stage(dollars(10_000))
    leave(on, *BEGUN[: parts + 1])

    assert cost(on) > 100
    assert [int(cost(on) * MICRO)] < counted(on)
    fetch(on, status="in_progress", output=[], usage=None)
    for _ in range(2):
        fetch(on)
    assert ["charge", "credit", "usage"] == [each.booking for each in booked(on)]
    assert Decimal(7) == cost(on)
    assert [7 * MICRO] == counted(on)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("answered", [True, False])
def test_one_that_was_left_before_its_id_was_seen_keeps_its_bound(answered: bool, stream: bool) -> None:
    """Nothing shows which reply of the provider it became (docs/adr/322), so nobody can read it either."""
    on = stage(dollars(10_000))
    leave(on, *(BEGUN[:1] if answered and stream else ()), stream=stream)
    before = cost(on)
    (refused,) = fetch(on)

    assert isinstance(refused, ImmediateResponse)
    assert 404 == refused.status
    assert ([], before) == (booked(on), cost(on))
    assert before >= 100
    assert [int(before * MICRO)] < counted(on)


def test_a_stream_that_the_provider_breaks_off_is_settled_later() -> None:
    on = stage(dollars(10_000))
    play(on, headers("/v1/responses"), body({**CALL, "stream": True}), SSE, *chunks(*EVENTS))
    assert ["broken_stream"] == [each.outcome for each in on.settled if each.booking is None]
    fetch(on)

    assert Decimal(7) == cost(on)
    assert [7 * MICRO] == counted(on)


def test_a_stream_that_is_read_to_its_end_is_settled_at_once() -> None:
    on = stage(dollars(10_000))
    play(on, headers("/v1/responses"), body({**CALL, "stream": True}), SSE, *chunks(*EVENTS, *END))
    fetch(on)

    assert [] == booked(on)
    assert Decimal(7) == cost(on)
    assert [7 * MICRO] == counted(on)


def test_a_stream_that_was_left_belongs_to_its_tenant() -> None:
    on = stage()
    leave(on, *BEGUN)

    (refused,) = fetch(on, key=KEYS["umbrella"])
    assert isinstance(refused, ImmediateResponse)
    assert 404 == refused.status
    assert isinstance(fetch(on)[-1], Continue)


def test_a_stream_without_an_id_stays_charged() -> None:
    on = stage(dollars(10_000))
    events = sse({"type": "response.created", "sequence_number": 0, "response": {**QUEUED, "id": None}})
    leave(on, SSE, *chunks(*events, end=False))
    before = cost(on)
    fetch(on)

    assert ([], before) == (booked(on), cost(on))
    assert before > 100


@pytest.mark.parametrize("end", ["done", "cancelled"])
def test_a_stream_that_is_resumed_settles_the_reply(end: Any) -> None:
    """`starting_after` begins behind the first events. A caller may leave at the last one."""
    on = stage(dollars(10_000))
    leave(on, *BEGUN)
    resumed = headers("/v1/responses/resp_bg?stream=true&starting_after=1", method="GET", end=True)
    passed = play(on, resumed, SSE, *chunks(*END, end=end == "done"), end=end)

    first = passed[2]
    assert isinstance(first, Continue)
    assert first.body in (None, END[0])  # it passes unchanged
    assert Decimal(7) == cost(on)
    assert [7 * MICRO] == counted(on)


def test_a_resumed_stream_without_its_end_settles_nothing() -> None:
    on = stage(dollars(10_000))
    leave(on, *BEGUN)
    before = cost(on)
    resumed = headers("/v1/responses/resp_bg?stream=true", method="GET", end=True)
    play(on, resumed, *BEGUN, end="cancelled")

    assert before == cost(on)
    fetch(on)
    assert Decimal(7) == cost(on)


def test_another_tenant_neither_reads_nor_cancels_it() -> None:
    on = stage()
    create(on)
    other = KEYS["umbrella"]
    refused = [fetch(on, key=other), fetch(on, "POST", "/cancel", key=other), fetch(on, "DELETE", key=other)]

    statuses = [
        command.status for commands in refused for command in commands if isinstance(command, ImmediateResponse)
    ]
    assert [404, 404, 404] == statuses
    assert ["charge"] == [each.booking for each in booked(on)]
    assert isinstance(fetch(on)[-1], Continue)


def test_it_is_sent_to_one_provider_at_a_time() -> None:
    """The slower one of a hedged call would go on, and cost as much."""
    on = stage()
    planner = on.gateway.planner

    class Hedging:
        def __getattr__(self, name: str) -> Any:
            return getattr(planner, name)

        def plan(self, request: Any, candidates: Sequence[Candidate]) -> Plan:
            return Plan(tuple(candidates), hedged=True)

    on.having(planner=Hedging())
    create(on)

    assert [False] == [each.plan.hedged for each in on.settled if each.plan is not None]


def test_a_provider_without_such_replies_gets_no_call() -> None:
    (command,) = create(stage(), model="claude")[-1:]

    assert isinstance(command, ImmediateResponse)
    error = json.loads(command.body)["error"]
    assert (400, "background") == (command.status, error["param"])


def test_a_stored_conversation_does_not_go_with_it() -> None:
    on = Storing().with_store()
    _, made = on.ask("POST", "/v1/conversations", {})
    _, error = on.send(hello("responses", conversation=made["id"], background=True))

    assert "background" == error["error"]["param"]


def test_a_reply_that_the_gateway_stores_is_complete() -> None:
    on = Storing().with_store()
    _, first = on.send(hello())
    status, error = on.ask("POST", f"/v1/responses/{first['id']}/cancel", {})

    assert 400 == status
    assert "only a response in the background can be cancelled" in error["error"]["message"]
    assert 404 == on.ask("POST", f"/v1/responses/resp_{'0' * 28}/cancel", {})[0]


def test_ids_of_openai_pass_beside_the_store_of_the_gateway() -> None:
    routes = PathRouter(DIALECTS, FORMATS, tuple(ENDPOINTS), stores=True)

    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        assert "passed" == routes.match(method, f"/v1/responses/resp_of_openai{path}")[1].operation


async def test_a_record_of_an_earlier_version_is_settled() -> None:
    """It has no tiers, and the record is replaced only if its bytes are the same."""
    store = MemoryRecords()
    batches = Batches(store, {})
    old = OpenBatch("batch_1", "acme", None, None, "k", "openai", "/batches", "openai_chat", 1.0, None, ())
    await batches.add(old)

    read = await batches.open("openai", "batch_1")
    assert read == old
    assert 11 == (await store.get([batches._name("batch", "openai", "batch_1")]))[0][0] & 0x0F  # type: ignore[index]
    assert await batches.settle(old)


async def test_the_price_of_its_tier_is_recorded() -> None:
    batches = Batches(MemoryRecords(), {})
    reply = OpenBatch("resp_1", "acme", None, None, "k", "openai", "/responses", "x", 1.0, None, (), ("flex",))
    await batches.add(reply)

    assert reply == await batches.open("openai", "resp_1")
    assert await batches.settle(reply)
