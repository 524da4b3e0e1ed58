"""Services that are asked about a request while the provider works: when the caller gets what, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from guarded_kit import HELLO, MASK, NAME, SSE, STREAM, cached_stage, play, reply_of, stage_of, stream_of
from guarding import SECRET, rule
from player import Stage, answered, body, chunks, headers, whole

from edge_extproc.codecs.sealing import IDEMPOTENT_REPLIES, BlockCipher
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse
from edge_extproc.guardrails.base import Checked, Rule, Verdict
from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.repeats import Repeats, RepeatSettings

PASS, BLOCK = Verdict("pass"), Verdict("block", "harm")


@dataclass
class Gated:
    """A service that answers when the test says so."""

    verdict: Verdict | None = BLOCK
    asked: list[Checked] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)

    async def check(self, checked: Checked) -> Verdict:
        self.asked.append(checked)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        if self.verdict is None:
            raise PolicyUnavailable("the guardrail 'judge' could not be applied: its service did not answer within 2 s")
        return self.verdict

    async def close(self) -> None: ...


def during(service: Gated, action: Any = "block", **more: Any) -> Rule:
    return rule(action, name="judge", service=service, during=True, **more)


async def settle_down() -> None:
    """Lets all tasks go on as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(stage: Stage, service: Gated, play: Callable[[Any, Gated], Awaitable[Any]]) -> Any:
    async def both() -> Any:
        exchange = stage.exchange()
        try:
            return await play(exchange, service)
        finally:
            await exchange.before_close()
            exchange.closed("done")
            await settle_down()

    result = asyncio.run(both())
    assert stage.bugs == []
    return result


def test_the_provider_gets_the_call_before_the_verdict_and_the_caller_nothing() -> None:
    service = Gated(PASS)
    stage = stage_of(MASK, during(service))

    async def call(exchange: Any, service: Gated) -> tuple[Command, Command]:
        await exchange.handle(headers())
        up = await exchange.handle(body(HELLO))
        assert isinstance(up, Continue)
        assert NAME.encode() in (up.body or b"")
        head = await exchange.handle(answered())
        reply = asyncio.create_task(exchange.handle(whole(reply_of(f"you said {NAME}"))))
        await settle_down()
        held = not reply.done()
        service.gate.set()
        assert held
        return head, await reply

    head, reply = run(stage, service, call)
    assert isinstance(head, Continue)
    assert isinstance(reply, Continue)
    assert SECRET.encode() in (reply.body or b"")
    assert stage.settled[0].outcome == "ok"
    assert SECRET not in repr(service.asked)  # a service gets placeholders


@pytest.mark.parametrize("verdict", [Verdict("block", "harm"), None], ids=["blocked", "no verdict"])
def test_a_refused_call_gets_no_byte_of_the_reply(verdict: Verdict | None) -> None:
    service = Gated(verdict)
    stage = stage_of(during(service))

    async def call(exchange: Any, service: Gated) -> Command:
        await exchange.handle(headers())
        await exchange.handle(body(STREAM))
        head = asyncio.create_task(exchange.handle(answered(content_type=SSE)))
        await settle_down()
        service.gate.set()
        refused: Command = await head
        assert await exchange.handle(chunks(*stream_of("some text"))[0]) == Continue()
        return refused

    refused = run(stage, service, call)
    assert isinstance(refused, ImmediateResponse)
    (settled,) = stage.settled
    (attempt,) = settled.attempt_results
    assert attempt.verdict == "unknown"  # it is no failure of the provider
    assert settled.outcome == "rejected"
    assert settled.usage is not None  # the provider may have used tokens
    assert (settled.estimated, settled.unseen) == (True, True)
    if verdict is None:
        assert (refused.status, settled.code) == (503, "policy_unavailable")
        return
    assert (refused.status, settled.code) == (400, "guardrail_blocked")
    assert ("x-edge-guardrails", "judge=block") in refused.headers
    assert settled.guardrails == (RuleHit("judge", "harm", "block", "enforce", "request", 1),)


@pytest.mark.parametrize("verdict", [Verdict("block", "harm"), None], ids=["blocked", "no verdict"])
def test_a_refused_call_whose_reply_is_complete_is_charged_with_its_usage(verdict: Verdict | None) -> None:
    service = Gated(verdict)
    stage = stage_of(during(service))

    async def call(exchange: Any, service: Gated) -> Command:
        await exchange.handle(headers())
        await exchange.handle(body({**HELLO, "max_tokens": 5_000}))
        await exchange.handle(answered())
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        reply = asyncio.create_task(exchange.handle(whole({**reply_of("some text"), "usage": usage})))
        await settle_down()
        service.gate.set()
        refused: Command = await reply
        return refused

    refused = run(stage, service, call)
    assert isinstance(refused, ImmediateResponse)
    assert b"some text" not in refused.body
    assert refused.status == (400 if verdict is not None else 503)
    (settled,) = stage.settled
    assert settled.outcome == "rejected"
    assert settled.usage is not None
    assert (settled.usage.prompt, settled.usage.completion) == (11, 7)
    assert (settled.estimated, settled.unseen) == (False, False)


def test_a_block_between_the_headers_and_the_reply_ends_the_call_at_once() -> None:
    service = Gated()
    stage, sent = stage_of(during(service)), []

    async def interrupt(command: Command) -> None:
        sent.append(command)

    async def call(exchange: Any, service: Gated) -> Command:
        exchange.interrupt = interrupt
        await exchange.handle(headers())
        await exchange.handle(body({**HELLO, "max_tokens": 5}))
        await exchange.handle(answered())
        service.gate.set()
        await settle_down()
        late: Command = await exchange.handle(whole(reply_of("some text")))
        return late

    assert run(stage, service, call) == Continue()
    (refused,) = sent
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400
    (settled,) = stage.settled
    assert (settled.outcome, settled.status, settled.unseen) == ("rejected", 400, True)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_block_before_the_provider_answers_ends_the_call_at_once(path: str) -> None:
    service = Gated()
    stage, sent = stage_of(during(service)), []

    async def interrupt(command: Command) -> None:
        sent.append(command)

    async def call(exchange: Any, service: Gated) -> Command:
        exchange.interrupt = interrupt
        await exchange.handle(headers(path))
        await exchange.handle(body({**HELLO, "max_tokens": 5}))
        service.gate.set()
        await settle_down()
        late: Command = await exchange.handle(answered())
        return late

    assert run(stage, service, call) == Continue()
    (refused,) = sent
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400
    assert "judge" in json.loads(refused.body)["error"]["message"]
    (settled,) = stage.settled
    assert (settled.outcome, settled.status, settled.unseen) == ("rejected", 400, True)
    assert settled.usage is not None
    assert settled.usage.completion == 5


def test_a_failed_provider_and_a_fallback_wait_for_one_verdict() -> None:
    """Attempts are at the upstream level: the router sees the response of the last one."""
    service = Gated()
    stage = stage_of(during(service))

    async def call(exchange: Any, service: Gated) -> Command:
        await exchange.handle(headers())
        await exchange.handle(body({**HELLO, "model": "both"}))
        service.gate.set()
        await exchange.handle(answered(attempt=2))
        content = [{"type": "text", "text": "some text"}]
        usage = {"input_tokens": 3, "output_tokens": 2}
        message = {"type": "message", "id": "m", "model": "c", "content": content, "stop_reason": "end_turn"}
        last: Command = await exchange.handle(whole({**message, "usage": usage}))
        return last

    run(stage, service, call)
    assert (stage.settled[0].outcome, stage.settled[0].status) == ("rejected", 400)
    assert len(service.asked) == 1


def test_a_cached_reply_waits_for_the_verdict() -> None:
    for verdict, status in ((PASS, 200), (Verdict("block", "harm"), 400), (None, 503)):
        stage = cached_stage()
        play(stage, HELLO, answered(), whole(reply_of("hello")))
        service = Gated(verdict)
        stage_of(during(service), stage=stage)

        async def call(exchange: Any, service: Gated) -> Command:
            await exchange.handle(headers())
            hit = asyncio.create_task(exchange.handle(body(HELLO)))
            await settle_down()
            assert not hit.done()
            service.gate.set()
            reply: Command = await hit
            return reply

        reply = run(stage, service, call)
        assert isinstance(reply, ImmediateResponse)
        assert reply.status == status
        assert (b"hello" in reply.body) is (status == 200)
        assert (stage.settled[-1].cache == "hit") is (status == 200)


class OneByOne:
    """A service whose verdicts the test gives one by one."""

    def __init__(self) -> None:
        self.verdicts: list[asyncio.Future[Verdict]] = []

    async def check(self, checked: Checked) -> Verdict:
        del checked
        self.verdicts.append(asyncio.get_running_loop().create_future())
        return await self.verdicts[-1]

    async def close(self) -> None: ...


def test_a_call_that_waits_for_an_equal_one_waits_for_its_own_verdict() -> None:
    service = OneByOne()
    stage = cached_stage(rule("block", name="judge", service=service, during=True))

    async def both() -> tuple[Command, Command]:
        first, second = stage.exchange(), stage.exchange()
        await first.handle(headers())
        await first.handle(body(HELLO))
        await second.handle(headers())
        waiting = asyncio.create_task(second.handle(body(HELLO)))
        await settle_down()
        service.verdicts[0].set_result(PASS)
        await first.handle(answered())
        reply = await first.handle(whole(reply_of("hello")))
        first.closed("done")
        await settle_down()
        assert not waiting.done()
        service.verdicts[1].set_result(BLOCK)
        refused = await waiting
        second.closed("done")
        return reply, refused

    reply, refused = asyncio.run(both())
    assert reply == Continue()
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400


def test_a_repeated_reply_waits_for_the_verdict() -> None:
    cipher = BlockCipher(["a key of the tests, long enough"], IDEMPOTENT_REPLIES)
    repeats = Repeats(MemoryRecords(), RepeatSettings(60.0, 10_000, 0.0), lambda: cipher)
    stage = Stage().having(repeats=repeats)
    begin = (headers("/v1/chat/completions", ("idempotency-key", "k")), body(HELLO))

    async def both() -> Command:
        first = stage.exchange()
        for event in (*begin, answered(), whole(reply_of("hello"))):
            await first.handle(event)
        first.closed("done")
        service = Gated()
        stage_of(during(service), stage=stage)
        second = stage.exchange()
        await second.handle(begin[0])
        service.gate.set()
        return await second.handle(begin[1])

    refused = asyncio.run(both())
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400


@pytest.mark.parametrize("more", [{"mode": "shadow"}, {"action": "flag", "fail": "open"}])
def test_a_rule_that_cannot_refuse_holds_nothing_and_is_counted(more: dict[str, Any]) -> None:
    service = Gated()
    stage = stage_of(during(service, **{"action": "block", **more}))

    async def call(exchange: Any, service: Gated) -> Command:
        await exchange.handle(headers())
        await exchange.handle(body(HELLO))
        await exchange.handle(answered())
        reply: Command = await exchange.handle(whole(reply_of("hello")))
        service.gate.set()
        return reply

    assert run(stage, service, call) == Continue()
    assert [hit.label for hit in stage.settled[0].guardrails] == ["harm"]


def test_what_the_provider_would_keep_waits_for_the_verdict_before_it_is_sent() -> None:
    service = Gated()
    stage = stage_of(during(service))

    async def call(exchange: Any, service: Gated) -> Command:
        await exchange.handle(headers("/v1/files"))
        sent = asyncio.create_task(exchange.handle(body({"purpose": "batch", "text": "a text"})))
        await settle_down()
        assert not sent.done()
        service.gate.set()
        refused: Command = await sent
        return refused

    refused = run(stage, service, call)
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400


def test_a_caller_who_leaves_ends_the_check() -> None:
    service = Gated()
    stage = stage_of(during(service))

    async def leave() -> None:
        exchange = stage.exchange()
        await exchange.handle(headers())
        await exchange.handle(body(HELLO))
        await settle_down()
        exchange.closed("cancelled")
        await settle_down()

    asyncio.run(leave())
    assert service.ended == ["cancelled"]
    assert stage.settled[0].outcome == "caller_left"


def test_rules_before_and_during_are_both_asked() -> None:
    early, late = Gated(PASS), Gated(PASS)
    early.gate.set()
    late.gate.set()
    stage = stage_of(rule("block", name="early", service=early), during(late))
    play(stage, HELLO, answered(), whole(reply_of("hello")))

    assert len(early.asked) == len(late.asked) == 1
