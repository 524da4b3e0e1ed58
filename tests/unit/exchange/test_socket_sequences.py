"""Any sequence of messages: each response that is counted as begun is settled once, and nothing is left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits_kit import dollars, rule
from socket_player import CREATE, Socket, completed, created, delta, done, error, socket_stage

from edge_extproc.exchange.commands import Continue
from edge_extproc.exchange.events import RequestBody, ResponseBody

LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
IDS = st.sampled_from(["r1", "r2", "r3", ""])
LANES = st.sampled_from([{}, {"stream_id": "a"}, {"stream_id": "b"}])
USAGE = {"usageMetadata": {"promptTokenCount": 5, "responseTokenCount": 2}}
PART = {"serverContent": {"modelTurn": {"parts": [{"text": "Hi"}]}}}
OVER = {"serverContent": {"turnComplete": True}}

CALLER: dict[str, list[dict[str, Any]]] = {
    "/v1/realtime?model=chat": [
        CREATE,
        {**CREATE, "response": {"conversation": "none"}},
        {**CREATE, "event_id": "e"},
        {"type": "response.cancel"},
        {"type": "session.update", "session": {"max_output_tokens": 1}},
        {"type": "input_audio_buffer.append", "audio": "A" * 100},
    ],
    "/v1/responses": [
        {**CREATE, "model": "chat", "input": "Hello"},
        {**CREATE, "model": "gpt-4o", "input": "Hello", "previous_response_id": "r1"},
        {"type": "response.steer", "previous_response_id": "r1", "input": "More"},
        {"type": "response.cancel"},
    ],
    LIVE: [
        {"clientContent": {"turns": [], "turnComplete": True}},
        {"realtimeInput": {"audio": {"data": "AAAA", "mimeType": "audio/pcm"}}},
        {"toolResponse": {"functionResponses": []}},
    ],
}


def openai(id: str, lane: dict[str, str]) -> st.SearchStrategy[dict[str, Any]]:
    events = [created(id), delta(id, "Hi"), done(id), completed(id), done(id, -1), done(id, status="failed")]
    return st.sampled_from([{**event, **lane} for event in (*events, error(), error(event_id="e"))])


GOOGLE = st.sampled_from([PART, OVER, USAGE, {**OVER, **USAGE}, {**PART, **USAGE}, {"toolCall": {}, **USAGE}, {"x": 1}])


def sequences(path: str) -> st.SearchStrategy[list[tuple[str, dict[str, Any]]]]:
    provider = GOOGLE if path == LIVE else st.builds(lambda *pair: pair, IDS, LANES).flatmap(lambda pair: openai(*pair))
    callers = st.builds(lambda event, lane: {**event, **lane}, st.sampled_from(CALLER[path]), LANES)
    if path != "/v1/responses":
        callers = st.sampled_from(CALLER[path])
    return st.lists(st.one_of(st.tuples(st.just("caller"), callers), st.tuples(st.just("provider"), provider)))


@pytest.mark.parametrize("limits", [(), (rule("requests", 3),), (dollars(10),), (rule("concurrent", 2),)])
@pytest.mark.parametrize("path", CALLER)
@given(data=st.data())
def test_each_response_is_settled_once(path: str, limits: Any, data: st.DataObject) -> None:
    stage = socket_stage(*limits)
    session = Socket(stage).open(path)
    if path == LIVE:
        session.caller({"setup": {"model": "gemini"}})
    for sender, event in data.draw(sequences(path)):
        (session.caller if sender == "caller" else session.provider)(event)
    settled = session.close(data.draw(st.sampled_from(["done", "cancelled", "stopping", "error"])))

    assert session.opened == len(settled)
    assert len(settled) == len({each.exchange_id for each in settled})
    limiter: Any = stage.gateway.limiter
    assert limiter is None or not limiter._open
    assert 1 == sum(each.operation == "socket" for each in stage.settled)


@pytest.mark.parametrize("path", CALLER)
@given(data=st.data())
def test_any_bytes_end_a_session_or_pass(path: str, data: st.DataObject) -> None:
    session = Socket(socket_stage()).open(path)
    for wire in data.draw(st.lists(st.binary(max_size=40), max_size=6)):
        event = RequestBody(wire, False) if data.draw(st.booleans()) else ResponseBody(wire, False)
        assert isinstance(session.handle(event), Continue)

    assert session.opened == len(session.close())
