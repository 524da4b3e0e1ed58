"""A batch is charged at its creation, and corrected once to what it has used."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_kit import Now, RecordingListener, dollars, rule
from player import KEY, Stage, answered, body, chunks, headers, whole
from tenants import KEYS, tenants

from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse
from edge_extproc.exchange.events import Event, RequestBody, ResponseBody
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.records.base import record_name
from edge_extproc.records.batches import MOST_MODELS, Batches
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.store.journal import dollars as dollars_of
from edge_extproc.store.journal import row_of

JSON = ("content-type", "application/json")
FORM = ("content-type", "multipart/form-data; boundary=b")
MICRO = 1_000_000


def stage(*rules: LimitRule, **more: Any) -> Stage:
    """A gateway with two tenants. A token costs one dollar, and in a batch a half."""
    made = tenants(batches=Batches(MemoryRecords(), {}), **more)
    if rules:
        limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), clock=Now())
        made.having(limiter=limiter, sinks=(*made.gateway.sinks, limiter.settle))
    return made


def second(first: Stage) -> Stage:
    """Another worker of the same gateway."""
    other = Stage()
    other.gateway = first.gateway
    return other


def play(on: Stage, *events: Event, end: Any = "done") -> list[Command]:
    async def run() -> list[Command]:
        exchange, commands = on.exchange(), []
        for event in events:
            commands.append(await exchange.handle(event))
            if isinstance(commands[-1], ImmediateResponse):
                break
        exchange.closed(end)
        return commands

    commands = asyncio.run(run())
    assert [] == on.bugs
    return commands


def line(tokens: int = 10, model: str = "gpt-4o-mini", **more: Any) -> dict[str, Any]:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": tokens, **more}
    return {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": asked}


def upload(on: Stage, lines: Sequence[Any], id: str = "file-1", key: str = KEY) -> list[Command]:
    text = b"\n".join(json.dumps(each).encode() for each in lines)
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="b.jsonl"\r\n\r\n%b\r\n--b--\r\n' % text
    )
    asked = headers("/v1/files", FORM, key=key)
    return play(on, asked, RequestBody(form, True), answered(), whole({"id": id, "object": "file"}))


def create(
    on: Stage, file: str = "file-1", id: str = "batch_1", key: str = KEY, more: tuple[tuple[str, str], ...] = ()
) -> list[Command]:
    wanted = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    asked = headers("/v1/batches", JSON, *more, key=key)
    reply = {"id": id, "object": "batch", "status": "validating", "input_file_id": file}
    return play(on, asked, body(wanted), answered(), whole(reply))


def status(on: Stage, id: str = "batch_1", key: str = KEY, **more: Any) -> list[Command]:
    reply = {"id": id, "object": "batch", "status": "completed", **more}
    return play(on, headers(f"/v1/batches/{id}", method="GET", key=key, end=True), answered(), whole(reply))


def result(prompt: Any, completion: Any, model: str = "gpt-4o-mini-2024-07-18") -> dict[str, Any]:
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 0},
    }
    return {"custom_id": "a", "response": {"status_code": 200, "body": reply}, "error": None}


def download(on: Stage, lines: Sequence[Any], *, file: str = "file-out", at: int = 7, **more: Any) -> list[Command]:
    return download_raw(on, jsonl(*lines), file=file, at=at, **more)


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def download_raw(
    on: Stage, raw: bytes, *more: tuple[str, str], file: str = "file-out", at: int = 1000, end: bool = True, **head: Any
) -> list[Command]:
    parts = [raw[n : n + at] for n in range(0, len(raw), at)]
    asked = headers(f"/v1/files/{file}/content", method="GET", end=True)
    reply = (
        answered(200, *more, content_type="application/octet-stream")
        if not head
        else answered(content_type="application/octet-stream", **head)
    )
    return play(on, asked, reply, *chunks(*parts, end=end), end="done" if end else "cancelled")


def booked(on: Stage) -> list[Settlement]:
    return [each for each in on.settled if each.booking is not None]


def charged(on: Stage) -> Decimal:
    return sum((each.cost for each in booked(on) if each.cost is not None), Decimal(0))


def counted(on: Stage) -> dict[str, int]:
    """The counters of dollars and tokens."""
    limiter = on.gateway.limiter
    assert isinstance(limiter, PolicyLimiter)
    found = limiter.memory.counted(lambda key: ":dollars:" in key or ":tokens:" in key)()
    return {key.rpartition(":")[0].split(":", 3)[3]: amount for key, amount, _ in found if amount}


USED = {"usage": {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}, "output_file_id": "file-out"}


def test_a_batch_is_charged_at_its_creation_and_corrected_by_its_status() -> None:
    on = stage(dollars(10_000))
    upload(on, [line(), line()])

    assert [] == booked(on)
    assert {} == counted(on)
    create(on)
    (charge,) = booked(on)
    assert charge.cost is not None
    assert charge.cost > 10
    assert {"dollars:day": int(charge.cost * MICRO)} == counted(on)

    status(on, **USED, model="gpt-4o-mini-2024-07-18")
    assert ["charge", "credit", "usage"] == [each.booking for each in booked(on)]
    assert Decimal(4) == charged(on)
    assert {"dollars:day": 4 * MICRO} == counted(on)
    assert ("acme", "acme-1", "gpt-4o-mini", "openai") == (
        booked(on)[-1].tenant,
        booked(on)[-1].key_id,
        booked(on)[-1].upstream_model,
        booked(on)[-1].provider,
    )


def test_the_rows_of_a_batch_have_the_run_that_created_it() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    create(on, more=(("x-edge-run", "a"), ("x-edge-run-parent", "b")))
    status(on, **USED)

    assert [("a", "b")] * 3 == [(each.run, each.run_parent) for each in booked(on)]


def test_a_batch_of_no_run_is_recorded_as_before_there_were_runs() -> None:
    """`Batches.settle` compares the bytes of a record, so that those of an earlier version must stay the same."""
    earlier = msgspec.msgpack.encode(
        ["b", "acme", None, None, "k", "openai", "/v1/batches", "openai_chat", 1.0, None, []]
    )
    store = MemoryRecords()
    batches = Batches(store, {})

    async def settled() -> bool:
        await store.add([record_name("batch", "openai", "b")], earlier, 60)
        batch = await batches.open("openai", "b")
        assert batch is not None
        return await batches.settle(batch)

    assert asyncio.run(settled())


def test_a_batch_is_settled_once_by_all_workers() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    create(second(on))
    for worker in (on, second(on), on):
        status(worker, **USED)
    download(on, [result(500, 500)])

    assert Decimal(4) == charged(on)
    assert {"dollars:day": 4 * MICRO} == counted(on)
    assert len({each.exchange_id for each in booked(on)}) == len(booked(on))


def test_the_results_settle_a_batch_whose_status_shows_no_usage() -> None:
    on = stage(dollars(10_000))
    upload(on, [line(), line(), line()])
    create(on)
    status(on, status="in_progress", output_file_id=None)
    status(on, output_file_id="file-out", request_counts={"total": 3, "completed": 2, "failed": 1})

    assert ["charge"] == [each.booking for each in booked(on)]
    download(on, [result(5, 3), result(6, 4), {"custom_id": "b", "response": None, "error": {"code": "x"}}])
    assert Decimal(9) == charged(on)
    assert {"dollars:day": 9 * MICRO} == counted(on)


@pytest.mark.parametrize("state", ["failed", "expired", "cancelled"])
def test_a_batch_without_results_gives_everything_back(state: str) -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    create(on)
    status(on, status=state, request_counts={"total": 1, "completed": 0, "failed": 0})

    assert Decimal(0) == charged(on)
    assert {} == counted(on)


def test_a_part_of_the_results_settles_nothing() -> None:
    on = stage(dollars(10_000))
    upload(on, [line(), line()])
    create(on)
    status(on, output_file_id="file-out")
    download(on, [result(1, 1)], status=206)

    assert ["charge"] == [each.booking for each in booked(on)]


@pytest.mark.parametrize(
    "results",
    [
        [result(-5, 3)],
        [result(10**30, 3)],
        [result("many", 3)],
        [result(None, None)],
        [result(5, 10**9)],
        [b"no object".decode()],
        [{"response": {"status_code": 200, "body": {"usage": 7}}}],
        [result(5, 3)] * 3,
        [result(5, 3), {"response": {"status_code": 200}}],
        [result(5, 3), {"response": {"status_code": 200, "body": None}, "error": None}],
        [result(5, 3), {"response": None, "error": None}],
        [result(5, 3), {"key": "a", "output": {"usageMetadata": {"promptTokenCount": 9}}}],
        [result(5, 3), {"result": {"type": "succeeded"}}],
        [result(5, 3), {"result": {"type": "another"}}],
    ],
)
def test_results_with_impossible_counts_leave_the_charge(results: list[Any]) -> None:
    on = stage(dollars(10_000))
    upload(on, [line(), line()])
    create(on)
    before = counted(on)
    status(on, output_file_id="file-out")
    download(on, results)

    assert ["charge"] == [each.booking for each in booked(on)]
    assert before == counted(on)


def _with_results(on: Stage, requests: int = 2) -> None:
    upload(on, [line()] * requests)
    create(on)
    status(on, output_file_id="file-out")


GZIP = ("content-encoding", "gzip")
BOTH = jsonl(result(5, 3), result(6, 4))


@pytest.mark.parametrize(
    ("raw", "more"),
    [
        (b"", ()),
        (b"\n\r\n", ()),
        (gzip.compress(b""), (GZIP,)),
        (gzip.compress(BOTH)[:-9], (GZIP,)),
        (gzip.compress(jsonl(result(5, 3))) + gzip.compress(jsonl(result(6, 4))), (GZIP,)),
        (BOTH, (GZIP,)),
    ],
    ids=["empty", "blank", "empty-gzip", "cut-gzip", "two-gzip-members", "no-gzip"],
)
def test_results_that_are_not_complete_leave_the_batch_open(raw: bytes, more: tuple[tuple[str, str], ...]) -> None:
    on = stage(dollars(10_000))
    _with_results(on)
    download_raw(on, raw, *more)

    assert ["charge"] == [each.booking for each in booked(on)]
    download_raw(on, gzip.compress(BOTH), GZIP)
    assert Decimal(9) == charged(on)


def test_a_provider_that_stops_within_the_results_settles_nothing() -> None:
    on = stage(dollars(10_000))
    _with_results(on)
    download_raw(on, jsonl(result(5, 3)), end=False)

    assert ["charge"] == [each.booking for each in booked(on)]
    download_raw(on, BOTH)
    assert Decimal(9) == charged(on)


@pytest.mark.parametrize("at", [1, 2, 64, 10_000])
@pytest.mark.parametrize(
    "raw",
    [BOTH.rstrip(), BOTH.replace(b"\n", b"\r\n"), BOTH.replace(b"Yes", "\u2028é\x85".encode())],
    ids=["no-last-line-end", "crlf", "other-line-ends-in-a-text"],
)
def test_results_are_read_with_any_line_ends_in_any_portions(raw: bytes, at: int) -> None:
    on = stage(dollars(10_000))
    _with_results(on)
    download_raw(on, raw, at=at)

    assert Decimal(9) == charged(on)


@pytest.mark.parametrize("state", ["completed", "failed", "expired", "cancelled"])
@pytest.mark.parametrize("counts", [None, {}, {"completed": None}, {"completed": "0"}, {"completed": False}])
def test_a_batch_without_results_and_counts_stays_charged(state: str, counts: Any) -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    create(on)
    status(on, status=state, request_counts=counts, output_file_id=None)

    assert ["charge"] == [each.booking for each in booked(on)]


NO_TEXT = b"\\ud800"


def test_an_id_that_is_no_text_is_charged_as_an_unknown_one() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    raw = b'{"id": "batch_%b", "object": "batch"}' % NO_TEXT
    play(on, headers("/v1/batches", JSON), body({"input_file_id": "file-1"}), answered(), ResponseBody(raw, True))
    (charge,) = booked(on)

    assert charge.cost is not None
    assert {"dollars:day": int(charge.cost * MICRO)} == counted(on)


def test_a_file_whose_id_is_no_text_is_refused() -> None:
    on = stage()
    raw = b'{"input_file_id": "file-%b"}' % NO_TEXT
    (_, refusal) = play(on, headers("/v1/batches", JSON), RequestBody(raw, True), answered(), whole({"id": "batch_1"}))

    assert isinstance(refusal, ImmediateResponse)
    assert 400 == refusal.status


def test_the_name_of_a_model_that_is_no_text_is_not_booked() -> None:
    on = stage()
    assert on.gateway.owners is not None
    asyncio.run(on.gateway.owners.record("openai", "acme", ["file-9"]))
    create(on, "file-9")
    status(on, **USED, model="\ud800")

    assert [None] == [each.upstream_model for each in booked(on) if each.booking == "usage"]


def test_replies_that_name_too_many_models_leave_the_charge() -> None:
    on = stage()
    _with_results(on, 300)
    download(on, [result(5, 3, f"m{n}") for n in range(300)], at=10_000)

    assert ["charge"] == [each.booking for each in booked(on)]


def test_a_model_beyond_those_of_the_record_has_its_own_price() -> None:
    on = stage()
    on.having(prices=PricesOfModels(on.gateway.prices))
    upload(on, [line(model=f"m{n}") for n in range(MOST_MODELS)] + [line(model="dear")])
    create(on)
    status(on, output_file_id="file-out")
    download(on, [result(5, 3, "dear")], at=10_000)

    assert Decimal(40) == charged(on)


class PricesOfModels:
    """The prices of a stage, ten times as high for one model."""

    def __init__(self, prices: Any) -> None:
        self._prices = prices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prices, name)

    def cost(self, provider: str, model: str, usage: Usage, **more: Any) -> Decimal | None:
        cost: Decimal | None = self._prices.cost(provider, model, usage, **more)
        return cost * 10 if cost is not None and model == "dear" else cost


@pytest.mark.parametrize("usage", [{"input_tokens": -1, "output_tokens": 1}, {"input_tokens": 10**20}, 5, {}, None])
def test_a_status_with_impossible_counts_waits_for_the_results(usage: Any) -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    create(on)
    status(on, usage=usage, output_file_id="file-out", request_counts={"completed": 1})
    download(on, [result(5, 3)])

    assert Decimal(4) == charged(on)


def test_a_batch_over_the_budget_is_refused_before_the_provider_has_it() -> None:
    on = stage(dollars(20))
    upload(on, [line(100), line(100)])
    (_, refusal) = create(on)

    assert isinstance(refusal, ImmediateResponse)
    assert 429 == refusal.status
    assert [] == booked(on)
    assert {} == counted(on)


def test_a_batch_of_an_unknown_file_is_refused_under_a_budget() -> None:
    on = stage(dollars(10_000))
    assert on.gateway.owners is not None
    asyncio.run(on.gateway.owners.record("openai", "acme", ["file-9"]))
    (_, refusal) = create(on, "file-9")

    assert isinstance(refusal, ImmediateResponse)
    assert 403 == refusal.status
    assert b"upload its file through this gateway" in refusal.body


@pytest.mark.parametrize(("window", "status"), [("day", 403), ("minute", None)])
def test_a_batch_of_an_unknown_file_is_refused_under_a_limit_of_tokens_that_counts_it(
    window: Any, status: int | None
) -> None:
    on = stage(rule("tokens", 10_000, window))
    assert on.gateway.owners is not None
    asyncio.run(on.gateway.owners.record("openai", "acme", ["file-9"]))

    assert status == getattr(create(on, "file-9")[-1], "status", None)


def test_a_batch_of_an_unknown_file_costs_what_it_used_where_no_budget_is() -> None:
    on = stage()
    assert on.gateway.owners is not None
    asyncio.run(on.gateway.owners.record("openai", "acme", ["file-9"]))
    create(on, "file-9")
    status(on, **USED, model="gpt-4o-mini")

    assert [("charge", None, True), ("usage", Decimal(4), False)] == [
        (each.booking, each.cost, each.unpriced) for each in booked(on)
    ]


def test_while_the_records_are_down_a_budget_admits_no_batch() -> None:
    records = MemoryRecords()
    on = stage(dollars(10_000)).having(batches=Batches(records, {}))
    upload(on, [line()])
    records.down = True
    (_, refusal) = create(on)

    assert isinstance(refusal, ImmediateResponse)
    assert 503 == refusal.status


def test_while_the_records_are_down_a_batch_of_a_file_is_refused_without_a_budget_too() -> None:
    records = MemoryRecords()
    on = stage().having(batches=Batches(records, {}))
    upload(on, [line()])
    records.down = True

    assert 503 == create(on)[-1].status  # type: ignore[union-attr]
    assert [] == booked(on)


def test_while_the_records_are_down_a_batch_of_messages_is_charged_for_good() -> None:
    records = MemoryRecords()
    records.down = True
    on = stage(dollars(10_000)).having(batches=Batches(records, {}))

    assert isinstance(_messages(on)[-1], Continue)
    (charge,) = booked(on)
    assert charge.cost is not None
    assert {"dollars:day": int(charge.cost * MICRO)} == counted(on)


def test_to_read_the_status_or_the_results_again_costs_nothing() -> None:
    on = stage()
    upload(on, [line()])
    create(on)
    for _ in range(3):
        status(on, **USED)

    assert all(each.usage is None and each.cost is None for each in on.settled if each.booking is None)


def test_tokens_of_a_batch_do_not_count_in_a_minute() -> None:
    on = stage(rule("tokens", 15, "minute"), dollars(10_000))
    upload(on, [line(1000)])

    assert isinstance(create(on)[-1], Continue)
    status(on, **USED)
    assert {"dollars:day": 4 * MICRO} == counted(on)


def test_a_batch_that_the_provider_refuses_costs_nothing() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    asked = headers("/v1/batches", JSON)
    play(on, asked, body({"input_file_id": "file-1"}), answered(400), whole({"error": {"message": "no"}}))

    assert [] == booked(on)
    assert {} == counted(on)


def test_a_caller_that_leaves_before_the_reply_is_charged_for_the_batch() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    play(on, headers("/v1/batches", JSON), body({"input_file_id": "file-1"}), end="cancelled")
    (charge,) = booked(on)

    assert charge.cost is not None
    assert {"dollars:day": int(charge.cost * MICRO)} == counted(on)


class SlowRecords(MemoryRecords):
    """Records whose writes wait, so that a caller can leave meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def _wait(self) -> None:
        self.waits.set()
        await self.may_go_on.wait()

    async def add(self, names: Sequence[bytes], value: bytes, seconds: float | None) -> None:
        await self._wait()
        await super().add(names, value, seconds)

    async def replace(self, name: bytes, before: bytes, value: bytes, seconds: float) -> bool:
        replaced = await super().replace(name, before, value, seconds)
        await self._wait()
        return replaced


def leave(on: Stage, *events: Event) -> None:
    """The caller leaves while the records of a batch are written."""
    assert on.gateway.batches is not None
    before, slow = on.gateway.batches, SlowRecords()
    slow._records = before._store._records  # type: ignore[attr-defined]
    on.having(batches=Batches(slow, {}))

    async def run() -> None:
        exchange = on.exchange()
        for event in events[:-1]:
            await exchange.handle(event)
        last = asyncio.ensure_future(exchange.handle(events[-1]))
        await slow.waits.wait()
        last.cancel()
        slow.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await last
        exchange.closed("cancelled")

    asyncio.run(run())
    on.having(batches=before)
    assert [] == on.bugs


def test_a_caller_that_leaves_while_its_batch_is_recorded_is_charged_once_and_corrected() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    asked = headers("/v1/batches", JSON)
    leave(on, asked, body({"input_file_id": "file-1"}), answered(), whole({"id": "batch_1", "object": "batch"}))

    (charge,) = booked(on)
    assert charge.cost is not None
    assert {"dollars:day": int(charge.cost * MICRO)} == counted(on)
    status(on, **USED)
    assert Decimal(4) == charged(on)
    assert {"dollars:day": 4 * MICRO} == counted(on)


def test_a_caller_that_leaves_while_its_batch_is_settled_gets_the_rest_back() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])
    create(on)
    reply = {"id": "batch_1", "object": "batch", "status": "completed", **USED}
    leave(on, headers("/v1/batches/batch_1", method="GET", end=True), answered(), whole(reply))

    assert ["charge", "credit", "usage"] == [each.booking for each in booked(on)]
    assert Decimal(4) == charged(on)
    assert {"dollars:day": 4 * MICRO} == counted(on)


def test_another_tenant_can_neither_use_nor_settle_a_batch() -> None:
    on = stage(dollars(10_000))
    upload(on, [line()])

    assert 404 == create(on, key=KEYS["umbrella"])[-1].status  # type: ignore[union-attr]
    create(on)
    assert 404 == status(on, key=KEYS["umbrella"], **USED)[-1].status  # type: ignore[union-attr]
    assert ["charge"] == [each.booking for each in booked(on)]


def _messages(on: Stage, tokens: int = 20, id: str = "msgbatch_1") -> list[Command]:
    params = {"model": "claude-haiku-4-5", "max_tokens": tokens, "messages": [{"role": "user", "content": "Hi"}]}
    wanted = {"requests": [{"custom_id": "a", "params": params}, {"custom_id": "b", "params": params}]}
    reply = {"id": id, "type": "message_batch", "processing_status": "in_progress"}
    return play(on, headers("/v1/messages/batches", JSON), body(wanted), answered(), whole(reply))


def test_a_batch_of_messages_is_charged_from_its_body_and_settled_from_its_results() -> None:
    on = stage(dollars(10_000))
    _messages(on)
    (charge,) = booked(on)
    assert charge.cost is not None
    assert charge.cost > 20

    ended = {"id": "msgbatch_1", "processing_status": "ended", "request_counts": {"succeeded": 1, "errored": 1}}
    asked = headers("/v1/messages/batches/msgbatch_1", method="GET", end=True)
    play(on, asked, answered(), whole(ended))
    assert 1 == len(booked(on))

    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "Yes"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 4, "output_tokens": 6, "cache_read_input_tokens": 2},
    }
    lines = (
        {"custom_id": "a", "result": {"type": "succeeded", "message": message}},
        {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error"}}},
    )
    raw = b"\n".join(json.dumps(each).encode() for each in lines)
    asked = headers("/v1/messages/batches/msgbatch_1/results", method="GET", end=True)
    play(on, asked, answered(content_type="application/x-jsonl"), *chunks(raw))

    assert Decimal(6) == charged(on)
    assert {"dollars:day": 6 * MICRO} == counted(on)


def _results_with_searches(on: Stage, searches: int, requests: int = 2) -> None:
    usage = {"input_tokens": 4, "output_tokens": 6, "server_tool_use": {"web_search_requests": searches}}
    content = [{"type": "text", "text": "Yes"}]
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": content}
    succeeded = {"type": "succeeded", "message": {**message, "stop_reason": "end_turn", "usage": usage}}
    asked = headers("/v1/messages/batches/msgbatch_1/results", method="GET", end=True)
    lines = jsonl(*[{"custom_id": "a", "result": succeeded}] * requests)
    play(on, asked, answered(content_type="application/x-jsonl"), *chunks(lines))


def test_web_searches_of_a_batch_cost_their_full_price() -> None:
    on = stage(dollars(10_000))
    _messages(on)
    _results_with_searches(on, 3)

    last = booked(on)[-1]
    assert (6, Decimal("0.06")) == (last.usage and last.usage.searches, last.search_cost)
    assert Decimal("10.06") == charged(on)  # tokens at half their price
    assert {"dollars:day": 10_060_000} == counted(on)


@pytest.mark.parametrize("searches", [99_999_999, 10**30, -1, True, "3"])
def test_web_searches_that_cannot_be_leave_the_charge(searches: Any) -> None:
    """A cost that no row of the ledger takes would give the charge back, and charge nothing."""
    on = stage(dollars(10_000))
    on.having(prices=_DearSearches(on.gateway.prices))
    _messages(on)
    before = charged(on)
    _results_with_searches(on, searches)

    assert before == charged(on) > 0
    assert {"dollars:day": before * MICRO} == counted(on)


class _DearSearches:
    def __init__(self, prices: Any) -> None:
        self._prices = prices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prices, name)

    def search_cost(self, provider: str, model: str, searches: int, **_: object) -> Decimal:
        return Decimal(searches)


def test_results_of_messages_with_fewer_lines_than_requests_leave_the_batch_open() -> None:
    on = stage(dollars(10_000))
    _messages(on)
    raw = jsonl({"custom_id": "b", "result": {"type": "errored", "error": {"type": "error"}}})
    asked = headers("/v1/messages/batches/msgbatch_1/results", method="GET", end=True)
    play(on, asked, answered(content_type="application/x-jsonl"), *chunks(raw))
    assert ["charge"] == [each.booking for each in booked(on)]

    play(on, asked, answered(content_type="application/x-jsonl"), *chunks(raw * 2))
    assert Decimal(0) == charged(on)


def test_a_batch_of_messages_over_the_budget_is_refused() -> None:
    (_, refusal) = _messages(stage(dollars(5)))

    assert isinstance(refusal, ImmediateResponse)
    assert 429 == refusal.status


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 5_000)), min_size=1, max_size=8),
    st.integers(1, 400),
    st.booleans(),
)
def test_what_is_charged_is_the_usage_at_the_price_of_a_batch(
    counts: list[tuple[int, int]], at: int, two_models: bool
) -> None:
    on = stage(dollars(9_000_000))
    models = ["gpt-4o-mini", "gpt-4o"] if two_models else ["gpt-4o-mini"]
    upload(on, [line(5_000, models[n % len(models)]) for n in range(len(counts))])
    create(on)
    status(on, output_file_id="file-out")
    download(on, [result(*each, models[n % len(models)]) for n, each in enumerate(counts)], at=at)
    used = Decimal(sum(prompt + completion for prompt, completion in counts)) / 2

    assert used == charged(on)
    assert ({"dollars:day": int(used * MICRO)} if used else {}) == counted(on)


class _CheapTokens:
    """A tenth of a cent for each token."""

    def __init__(self, prices: Any) -> None:
        self._prices = prices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prices, name)

    def cost(self, provider: str, model: str, usage: Usage, **more: Any) -> Decimal | None:
        cost: Decimal | None = self._prices.cost(provider, model, usage, **more)
        return cost / 1000 if cost is not None else None


def test_more_tokens_than_one_row_takes_are_split() -> None:
    on = stage()
    on.having(prices=_CheapTokens(on.gateway.prices))
    upload(on, [line()] * 30)
    create(on)
    status(on, output_file_id="file-out")
    download(on, [result(9_000_000, 1)] * 25)
    rows = [each for each in booked(on) if each.booking == "usage"]

    assert [100_000_000, 100_000_000, 25_000_000] == [each.usage.input for each in rows if each.usage is not None]
    assert Decimal(225_000_025) / 2000 == sum(each.cost or 0 for each in rows)
    in_ledger = [found for each in rows if (found := row_of(each)) is not None]
    assert Decimal(225_000_025) / 2000 == sum(dollars_of(each.cost or 0) for each in in_ledger)


def test_unreadable_lines_pass_and_leave_the_cost_unknown() -> None:
    on = stage(dollars(10_000))

    assert isinstance(upload(on, [line(), {"no": "request"}])[-1], Continue)
    assert 403 == create(on)[-1].status  # type: ignore[union-attr]
