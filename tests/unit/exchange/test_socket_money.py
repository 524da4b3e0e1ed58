"""Each response of a session is reserved before it is sent, and settled once, however it and the session end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from limits_kit import dollars, rule
from socket_player import CREATE, Socket, completed, created, delta, done, error, json_of, socket_stage

from edge_extproc.codecs.websocket import encode
from edge_extproc.exchange.commands import ImmediateResponse
from edge_extproc.exchange.events import RequestBody, ResponseBody

RESPONSES = "/v1/responses"
ASK = {**CREATE, "model": "chat", "input": "Hello"}


def facts(settled: list[Any]) -> list[tuple[str, int | None, bool]]:
    """The outcome, the tokens, and whether they are estimated."""
    return [(each.outcome, each.usage.total if each.usage is not None else None, each.estimated) for each in settled]


def test_a_response_is_settled_by_its_usage_once() -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE)
    session.provider(created("r1"), done("r1"), done("r1", 500, 500), created("r1"))

    assert [("ok", 7, False)] == facts(session.close())
    assert 1 == session.opened


@pytest.mark.parametrize("why", ["done", "cancelled", "stopping", "error"])
def test_what_is_in_progress_is_settled_at_the_end(why: Any) -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE, CREATE)
    session.provider(created("r1"))
    settled = session.close(why)

    outcome = {"stopping": "stopped", "error": "gateway_error"}.get(why, "caller_left")
    assert [outcome, outcome] == [each.outcome for each in settled]
    assert all(each.estimated and each.usage.total > 0 for each in settled)


@pytest.mark.parametrize("count", [-1, 10**30, "many", None, 1e308, True])
def test_usage_that_cannot_be_is_replaced_by_an_estimate(count: object) -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE)
    session.provider(created("r1"), delta("r1", "word " * 100), done("r1", count, count))
    (settled,) = session.close()

    assert settled.estimated
    assert 0 < settled.usage.total < 10_000


def test_an_estimate_has_at_least_what_was_received() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"), delta("r1", "x" * 40_000))
    (settled,) = session.close()

    assert settled.usage.output >= 8_000


def test_audio_that_was_received_is_estimated_as_audio() -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE)
    session.provider(created("r1"), delta("r1", "A" * 53_300, "response.output_audio.delta"))
    (settled,) = session.close()

    assert 100 == settled.usage.output_audio


def test_an_error_that_concerns_another_event_does_not_make_a_response_free() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    session.caller(ASK)
    session.provider(error())  # of a response.cancel
    session.provider(created("r1"), delta("r1", "Hi"), completed("r1", 30, 20))
    settled = session.close()

    assert [("refused", None, False), ("ok", 50, False)] == facts(settled)
    assert settled[0].exchange_id != settled[1].exchange_id


def test_an_error_within_a_response_does_not_end_it() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"), error(), completed("r1", 30, 20))

    assert [("ok", 50, False)] == facts(session.close())


def test_a_response_that_ends_with_an_error_is_estimated_when_the_next_one_begins() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"), delta("r1", "Hi"), error())
    session.caller(ASK)
    session.provider(completed("r1", 30, 20), created("r2"), completed("r2"))

    assert [("broken_stream", True), ("ok", False)] == [(s.outcome, s.estimated) for s in session.close()]


def test_an_end_without_a_beginning_is_charged() -> None:
    session = Socket(socket_stage()).open()
    session.provider(done("r1", 30, 20))

    assert [("ok", 50, False)] == facts(session.close())


def test_a_cancelled_response_is_settled_by_its_usage() -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE, {"type": "response.cancel"})
    session.provider(created("r1"), done("r1", 30, 4, status="cancelled"))

    assert [("ok", 34, False)] == facts(session.close())


def test_two_responses_at_once_have_their_own_usage() -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE, CREATE)
    session.provider(created("r1"), created("r2"), done("r2", 20, 2), done("r1", 10, 1))

    assert [("ok", 22, False), ("ok", 11, False)] == facts(session.close())


def test_responses_in_progress_have_a_bound() -> None:
    session = Socket(socket_stage()).open()
    passed = session.caller(*[CREATE] * 40)

    assert ["text"] * 32 + ["ping"] == [message.kind for message in passed]


def lane(name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "stream_id": name}


def test_responses_of_one_lane_follow_each_other() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    assert ["text", "text"] == [message.kind for message in session.caller(ASK, ASK)]
    session.provider(created("r1"), completed("r1", 10, 1), created("r2"), completed("r2", 20, 2))

    assert [("ok", 11, False), ("ok", 22, False)] == facts(session.close())


def test_responses_of_several_lanes_run_at_one_time() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    session.caller(lane("a", ASK), lane("b", ASK), lane("c", ASK))
    session.provider(lane("b", created("r2")), lane("a", created("r1")), lane("c", error()))
    session.provider(lane("a", delta("", "x" * 40_000)), lane("b", completed("r2", 20, 2)))
    refused, whole, left = session.close()

    assert [("refused", None, False), ("ok", 22, False)] == facts([refused, whole])
    assert ("caller_left", True) == (left.outcome, left.estimated)
    assert left.usage.output >= 8_000


def steer(parent: str, **more: Any) -> dict[str, Any]:
    return {"type": "response.steer", "previous_response_id": parent, "input": "Shorter", **more}


def test_a_successor_of_a_steered_response_is_reserved_and_settled() -> None:
    session = Socket(socket_stage(dollars(10**9))).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"))
    assert ["text"] == [message.kind for message in session.caller(steer("r1"))]
    ended = {**completed("r1", 20, 2), "type": "response.incomplete"}
    begun = {"type": "response.created", "response": {"id": "r2", "previous_response_id": "r1"}}
    session.provider({"type": "response.steer.accepted"}, ended, begun)
    limiter: Any = session.stage.gateway.limiter
    (reservation,) = limiter._open.values()
    session.provider(completed("r2", 30, 3))
    first, second = session.close()

    assert sum(reservation.amounts) > 100_000 * 10**6  # the context window
    assert [("ok", 22, False), ("ok", 33, False)] == facts([first, second])
    assert "chat" == second.model


def test_a_successor_beyond_a_budget_ends_the_session() -> None:
    session = Socket(socket_stage(rule("requests", 1))).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"), completed("r1"))
    messages = session.provider({"type": "response.created", "response": {"id": "r2", "previous_response_id": "r1"}})

    assert ["text", "close"] == [message.kind for message in messages]
    assert [("ok", 7, False), ("rejected", 17, True)] == [
        (each.outcome, each.usage.total, each.estimated) for each in session.close()
    ]


def test_only_a_response_of_the_session_is_steered() -> None:
    session = Socket(socket_stage()).open(RESPONSES)

    assert ["ping"] == [message.kind for message in session.caller(steer("resp_of_another"))]


def reserved(*events: Any, then: Any = CREATE, provider: tuple[Any, ...] = (), before: Any = ()) -> int | None:
    """The tokens that the last response reserves; None if it is refused."""
    stage = socket_stage(rule("tokens", 10**9))
    session = Socket(stage).open()
    if before:
        session.caller(*before)
    if provider:
        session.provider(*provider)
    session.caller(*events, then)
    limiter: Any = stage.gateway.limiter
    amounts = [sum(each.amounts) for each in limiter._open.values()]
    return amounts[-1] if amounts else None


def test_what_is_sent_during_a_response_belongs_to_the_next_one() -> None:
    """Its usage does not count it."""
    item = {"type": "conversation.item.create", "item": {"text": "x" * 50_000}}
    events = (created("r1"), done("r1", 5, 2))

    whole = reserved(provider=events, before=(CREATE, item))
    assert whole is not None
    assert whole > 50_000


def test_a_response_outside_the_conversation_does_not_shrink_the_session() -> None:
    item = {"type": "conversation.item.create", "item": {"text": "x" * 50_000}}
    apart = {**CREATE, "response": {"conversation": "none", "input": []}}

    whole = reserved(provider=(created("r1"), done("r1", 5, 2)), before=(item, apart))
    assert whole is not None
    assert whole > 50_000


def test_usage_replaces_the_bound_of_what_was_sent_before() -> None:
    item = {"type": "conversation.item.create", "item": {"text": "x" * 50_000}}

    whole = reserved(provider=(created("r1"), done("r1", 5, 2)), before=(item, CREATE))
    assert whole is not None
    assert whole < 10_000


@pytest.mark.parametrize("setting", ["max_output_tokens", "max_response_output_tokens"])
def test_settings_of_a_session_do_not_shrink_a_reservation(setting: str) -> None:
    """The provider may refuse them."""
    update = {"type": "session.update", "session": {setting: 1, "unknown": True}}

    most = reserved(update)
    assert most is not None
    assert most > 4_096


def test_the_limit_of_one_response_is_reserved() -> None:
    few = reserved(then={**CREATE, "response": {"max_output_tokens": 10}})
    most = reserved(then={**CREATE, "response": {"max_output_tokens": "inf"}})

    assert few is not None
    assert most is not None
    assert most - few > 4_000


@pytest.mark.parametrize(
    "session_settings", [{"tools": [{"type": "mcp", "server_url": "x"}]}, {"prompt": {"id": "pmpt_1"}}]
)
def test_content_that_the_session_does_not_show_counts_as_a_context_window(session_settings: Any) -> None:
    most = reserved({"type": "session.update", "session": session_settings})

    assert most is not None
    assert most > 100_000


def test_a_refused_response_that_has_begun_is_charged_and_its_session_is_reset() -> None:
    stage = socket_stage(dollars(10))
    session = Socket(stage).open()
    messages = session.provider(created("r1"))
    clock: Any = stage.gateway.clock

    assert ["text", "close"] == [message.kind for message in messages]
    assert "budget_exceeded" == json_of(messages[0])["error"]["code"]
    assert 1008 == messages[1].code
    assert [] == session.provider(delta("r1", "Hi"), created("r2"))
    clock.at += 6
    last = session.handle(ResponseBody(b"\x8a\x00", False))
    assert isinstance(last, ImmediateResponse)
    settled = session.close()
    assert ["rejected", "rejected"] == [each.outcome for each in settled]
    assert all(each.code == "budget_exceeded" and each.cost > 0 for each in settled)


def test_a_refused_response_that_ends_has_its_usage() -> None:
    session = Socket(socket_stage(dollars(10))).open()
    session.provider(created("r1"))
    session.provider(done("r1", 30, 20))
    (settled,) = session.close()

    assert ("rejected", 50, False) == facts([settled])[0]
    assert 50 == settled.cost


def test_a_budget_that_is_used_up_in_a_session_refuses_the_next_response() -> None:
    session = Socket(socket_stage(rule("requests", 1))).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"), completed("r1"))
    passed = session.caller(ASK)
    messages = session.provider_bytes(b"\x8a\x00")

    assert ["ping"] == [message.kind for message in passed]
    assert ["text", "close"] == [message.kind for message in messages]
    assert [("ok", 7, False), ("rejected", None, False)] == facts(session.close())


def test_a_continued_response_is_estimated_with_what_it_continues() -> None:
    session = Socket(socket_stage()).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("r1"), completed("r1", 50_000, 20))
    session.caller({**ASK, "previous_response_id": "r1"})
    settled = session.close()

    assert settled[-1].usage.input > 50_000


@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"response.create","x":NaN}',
        b'{"type":"a","type":"response.create"}',
        b'{"x":1e999,"type":"response.create"}',
    ],
)
def test_an_event_that_only_some_parsers_read_is_reserved_too(event: bytes) -> None:
    session = Socket(socket_stage(dollars(10))).open()

    assert ["ping"] == [message.kind for message in session.caller(event)]


@pytest.mark.parametrize("event", [b'{"type":["response.create"]}', b'{"type":null}', b"{}"])
def test_an_event_of_the_responses_api_has_a_known_type(event: bytes) -> None:
    session = Socket(socket_stage()).open(RESPONSES)

    assert ["ping"] == [message.kind for message in session.caller(event)]


def test_the_time_in_the_agent_is_that_of_the_messages_of_a_response() -> None:
    stage = socket_stage()
    session = Socket(stage).open()
    clock: Any = stage.gateway.clock
    ticking = clock.monotonic

    def tick() -> float:
        clock.at += 1
        return float(ticking())

    clock.monotonic = tick
    session.caller(CREATE)
    session.provider(created("r1"), done("r1"))
    (first,) = session.close()

    assert 0 < first.overhead <= first.duration


def test_a_caller_that_leaves_while_its_response_is_reserved_is_settled() -> None:
    session = Socket(socket_stage(dollars(10**9))).open()
    limiter: Any = session.stage.gateway.limiter
    wire = encode("text", b'{"type":"response.create"}', from_client=True)

    async def leave() -> None:
        async def admit(*_: object) -> None:
            await asyncio.Event().wait()

        limiter.admit = admit
        task = asyncio.ensure_future(session.exchange.handle(RequestBody(wire, False)))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    (settled,) = session.close("cancelled")
    assert ("caller_left", None, 0) == (settled.outcome, settled.cost, settled.attempts)
    assert 1 == session.opened
