"""Encrypted reasoning goes only to the account that made it: to no other provider, to no second account of the same
provider, and to none after a failover."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from player import KEY, Stage, answered, body, headers, planner, tried, whole
from player import provider as built
from thoroughness import examples

from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse, Replace
from edge_extproc.exchange.events import Event, ResponseBody
from edge_extproc.model.plan import Candidate, Fallback
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.reasoning import ReasoningAccounts
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import ModelRoute

JSON = ("content-type", "application/json")
PATH = "/v1/responses"
# Two accounts of OpenAI, one with two providers, and one account of a host with the same format.
ACCOUNTS = {"openai": "openai", "again": "openai", "second": "second", "xai": "xai"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "1"}


class Host:
    """What an account makes, and what it refuses."""

    @staticmethod
    def reasoning(provider: str, number: int = 0) -> dict[str, Any]:
        sealed = f"gAAAA-by-{ACCOUNTS[provider]}-{number}/+=="
        return {"type": "reasoning", "id": f"rs_{number:050x}", "summary": [], "encrypted_content": sealed}

    @staticmethod
    def refuses(provider: str, sent: bytes) -> list[Any]:
        """`invalid_encrypted_content`: the text was made by another organization, or altered."""
        items = [item for item in json.loads(sent)["input"] if isinstance(item, dict) and "encrypted_content" in item]
        made = f"gAAAA-by-{ACCOUNTS[provider]}-"
        return [item for item in items if not item["encrypted_content"].startswith((made, "gAAAA-by-nobody"))]


def stage(*, store: MemoryRecords | None = None) -> Stage:
    found = Stage()
    models = ModelTable(
        {
            **{name: [Candidate(name, "gpt-5.2")] for name in ACCOUNTS},
            **{f"{a} {b}": [Candidate(a, "gpt-5.2"), Candidate(b, "gpt-5.2")] for a in ACCOUNTS for b in ACCOUNTS},
            "falls back": [Candidate("second", "gpt-5.2")],
        }
    )
    fallback = Fallback((Candidate("openai", "gpt-5.2"), Candidate("second", "gpt-5.2")))
    return found.having(
        models=models,
        planner=planner(models, rows={"falls back": ModelRoute(fallback=fallback)}),
        providers={name: built("openai") for name in ACCOUNTS},
        clusters={name: f"provider_{name}" for name in ACCOUNTS},
        reasoning=ReasoningAccounts(store or MemoryRecords(), ACCOUNTS),
    )


async def turn(
    at: Stage, model: str, items: Any, *events: Event, attempt: int = 1, key: str = KEY, stream: bool = False
) -> tuple[bytes, Any]:
    """One exchange: the request of an attempt, and the last command. `events`: the response."""
    exchange = at.exchange()
    head = headers(PATH, JSON, key=key)
    commands: list[Command] = [
        await exchange.handle(each) for each in (head, body({"model": model, "input": items, "stream": stream}))
    ]
    last = commands[-1]
    if isinstance(last, ImmediateResponse):
        return b"", last
    assert isinstance(last, Continue)
    sent = last.body or b""
    if attempt > 1:
        replaced = await at.attempt().handle(tried(attempt, exchange.id))
        assert isinstance(replaced, Replace)
        sent = replaced.body
    commands += [await exchange.handle(event) for event in events]
    exchange.closed("done")
    assert [] == at.bugs
    return sent, commands[-1]


def reply(*items: Any, stream: bool = False, attempt: int = 1) -> tuple[Event, ...]:
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": items, "usage": {}}
    if not stream:
        return answered(attempt=attempt), whole(response)
    events = [{"type": "response.output_item.done", "output_index": i, "item": item} for i, item in enumerate(items)]
    wire = b"".join(
        b"event: %s\ndata: %s\n\n" % (each["type"].encode(), json.dumps(each).encode())
        for each in (*events, {"type": "response.completed", "response": response})
    )
    cut = len(wire) // 3
    return (
        answered(content_type="text/event-stream", attempt=attempt),
        ResponseBody(wire[:cut], end=False),
        ResponseBody(wire[cut:], end=True),
    )


TRIPLES = list(itertools.product(ACCOUNTS, ACCOUNTS, ACCOUNTS))


@pytest.mark.parametrize(("first", "second", "third"), TRIPLES)
@settings(max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck))
@given(streams=st.lists(st.booleans(), min_size=2, max_size=2), failover=st.booleans(), known=st.booleans())
def test_no_account_gets_reasoning_that_another_one_made(
    first: str, second: str, third: str, streams: list[bool], failover: bool, known: bool
) -> None:
    """Three turns at three providers. `failover`: the last one is reached after the first of its plan has failed.
    `known`: there is also reasoning from before, of which nobody knows the account."""

    async def run() -> None:
        at = stage()
        unknown = {"type": "reasoning", "id": "rs_x", "summary": [], "encrypted_content": "gAAAA-by-nobody"}
        history: list[Any] = [{"role": "user", "content": "a"}, *([] if known else [unknown])]
        for number, (name, stream) in enumerate(zip((first, second), streams, strict=True)):
            made = Host.reasoning(name, number)
            call = {**CALL, "call_id": f"call_{number}"}
            said = reply(made, call, stream=stream)
            sent, _ = await turn(at, name, history, *said, stream=stream)
            assert [] == Host.refuses(name, sent)
            history += [made, call, {**RESULT, "call_id": f"call_{number}"}]

        model, attempt = (f"{first} {third}", 2) if failover else (third, 1)
        sent, _ = await turn(at, model, history, attempt=attempt)
        got = json.loads(sent)["input"]

        assert [] == Host.refuses(third, sent)
        own = [item for item in history if not Host.refuses(third, json.dumps({"input": [item]}).encode())]
        assert own == got

    asyncio.run(run())


def test_what_was_left_out_is_named() -> None:
    async def run() -> None:
        at = stage()
        history = [{"role": "user", "content": "a"}, Host.reasoning("openai"), CALL, RESULT]
        await turn(at, "openai", "a", *reply(Host.reasoning("openai"), CALL))
        sent, last = await turn(at, "second", history, answered())

        assert [history[0], CALL, RESULT] == json.loads(sent)["input"]
        assert ("x-edge-dropped", "input[1]") in last.set_headers

    asyncio.run(run())


def test_the_bytes_of_a_body_stay_for_the_account_that_made_its_reasoning() -> None:
    async def run() -> None:
        at = stage()
        await turn(at, "openai", "a", *reply(Host.reasoning("openai")))
        raw = json.dumps({"model": "again", "input": [Host.reasoning("openai")]}, indent=1).encode()
        exchange = at.exchange()
        await exchange.handle(headers(PATH, JSON))
        sent = await exchange.handle(body(raw))

        assert isinstance(sent, Continue)
        assert raw.replace(b'"again"', b'"gpt-5.2"') == sent.body

    asyncio.run(run())


def test_a_reply_after_a_failover_is_its_own_accounts() -> None:
    async def run() -> None:
        at = stage()
        made = Host.reasoning("second")
        await turn(at, "openai second", "a", *reply(made, attempt=2), attempt=2)

        assert [made] == json.loads((await turn(at, "second", [made]))[0])["input"]
        assert [] == json.loads((await turn(at, "openai", [made]))[0])["input"]

    asyncio.run(run())


def test_another_tenant_changes_nothing() -> None:
    """The records of a tenant hold for it alone: no reply to another one can take its reasoning away."""

    async def run() -> None:
        accounts = ReasoningAccounts(MemoryRecords(), ACCOUNTS)
        await accounts.record("second", "umbrella", [b"gAAAA"])

        assert {} == await accounts.makers("acme", [b"gAAAA"])
        assert {b"gAAAA": "second"} == await accounts.makers("umbrella", [b"gAAAA", b"other"])

    asyncio.run(run())


def test_text_that_looks_like_reasoning_is_none() -> None:
    async def run() -> None:
        at = stage()
        made = Host.reasoning("second")
        said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": json.dumps(made)}]}
        await turn(at, "openai", "a", *reply(said))

        assert [made] == json.loads((await turn(at, "second", [made]))[0])["input"]

    asyncio.run(run())


def test_without_the_store_reasoning_passes() -> None:
    async def run() -> None:
        records = MemoryRecords()
        at = stage(store=records)
        made = Host.reasoning("openai")
        records.down = True
        await turn(at, "openai", "a", *reply(made))

        assert [made] == json.loads((await turn(at, "second", [made]))[0])["input"]

    asyncio.run(run())


COMPACTED = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA-by-openai-c/+"}


def test_a_compacted_conversation_goes_on_only_where_it_was_compacted() -> None:
    """What it stands for is nowhere else, so leaving it out would change the reply."""

    async def run() -> None:
        at = stage()
        await turn(at, "openai", "a", *reply(COMPACTED))
        sent, _ = await turn(at, "second again", [COMPACTED, {"role": "user", "content": "b"}])
        _, refused = await turn(at, "second", [COMPACTED, {"role": "user", "content": "b"}])
        exchange = at.exchange()
        await exchange.handle(headers(PATH, JSON))
        await exchange.handle(body({"model": "falls back", "input": "compaction"}))

        assert COMPACTED in json.loads(sent)["input"]
        assert isinstance(refused, ImmediateResponse)
        assert 400 == refused.status
        assert b"was compacted by an account" in refused.body

    asyncio.run(run())


def test_a_fallback_gets_no_conversation_that_it_cannot_read() -> None:
    async def run() -> None:
        at = stage()
        await turn(at, "second", "a", *reply({**COMPACTED, "encrypted_content": "gAAAA-by-second-c"}))
        exchange = at.exchange()
        await exchange.handle(headers(PATH, JSON))
        await exchange.handle(
            body({"model": "falls back", "input": [{**COMPACTED, "encrypted_content": "gAAAA-by-second-c"}]})
        )
        opened = at.open.find(exchange.id)

        assert opened is not None
        assert (Candidate("second", "gpt-5.2"),) == opened.plan.fallback.context_length

    asyncio.run(run())
