"""The Messages dialect, streams: what a reader tells, what a writer says, and the grammar between them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from anthropic_grammar import hold_to_the_grammar, objects
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.codecs.frame import Frame
from edge_extproc.codecs.sse import encode
from edge_extproc.dialects.anthropic_messages import PLUGIN, stream_in, stream_out
from edge_extproc.model.call import Call
from edge_extproc.model.content import Opaque, RedactedThinking, Text, Thinking, ToolCall
from edge_extproc.model.fault import Fault
from edge_extproc.model.reply import (
    Ended,
    Failed,
    Finish,
    Finished,
    Garbled,
    Noted,
    PartDelta,
    PartEnded,
    PartNoted,
    PartSigned,
    PartStarted,
    Ping,
    ReplyEvent,
    ReplyStarted,
    UsageSeen,
    fold,
)
from edge_extproc.model.usage import Usage

CALL = Call(PLUGIN.name, "chat", "claude", True, b"{}")
START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1, "service_tier": "standard"},
    },
}
STOP = {"type": "message_stop"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def done(reason: str = "end_turn", **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


def cited(text: str) -> dict[str, Any]:
    place = {"document_index": 0, "document_title": "t", "start_char_index": 0, "end_char_index": 1}
    return {"type": "char_location", "cited_text": text, **place}


FULL: list[dict[str, Any]] = [
    START,
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm", "estimated_tokens": 2},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "cmVk"}),
    *block(
        2,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Grüße "},
        {"type": "text_delta", "text": "dich"},
        {"type": "citations_delta", "citation": cited("a")},
        {"type": "citations_delta", "citation": cited("b")},
    ),
    *block(
        3,
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"query":'},
        {"type": "input_json_delta", "partial_json": '"x"}'},
    ),
    *block(4, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}),
    *block(
        5,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {"type": "direct"}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"a": 1}'},
    ),
    *block(6, {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}),
    done("tool_use", output_tokens=20),
    STOP,
]
FULL_PARTS = (
    Thinking("hm", "c2ln"),
    RedactedThinking("cmVk"),
    Text(
        "Grüße dich",
        extras={
            "citations": [
                cited("a"),
                cited("b"),
            ]
        },
    ),
    Opaque(
        PLUGIN.name,
        "server_tool_use",
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    ),
    Opaque(
        PLUGIN.name,
        "web_search_tool_result",
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    ),
    ToolCall("toolu_1", "f", '{"a": 1}', extras={"caller": {"type": "direct"}}),
    ToolCall("toolu_2", "g", "{}"),
)


def wire(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(encode(json.dumps(event).encode(), str(event["type"])) for event in events)


def heard(data: bytes, cuts: Iterable[int] = ()) -> list[ReplyEvent]:
    reader = PLUGIN.reader(PLUGIN.stream_type)
    events = [
        event
        for begin, end in pairwise([0, *sorted(cuts), len(data)])
        for frame in reader.frames(data[begin:end])
        for event in reader.read(frame)
    ]
    return events + reader.close()[1]


def listen(*events: dict[str, Any]) -> list[ReplyEvent]:
    return heard(wire(events))


def said(*events: ReplyEvent) -> list[dict[str, Any]]:
    """What the writer says, held to the grammar."""
    writer = PLUGIN.writer(CALL)
    values = objects(b"".join(writer.write(event) for event in events))
    hold_to_the_grammar(values)
    return values


def blocks(values: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each block's type and all that its deltas say."""
    result: list[tuple[str, str]] = []
    for value in values:
        if value["type"] == "content_block_start":
            result.append((value["content_block"]["type"], ""))
        elif value["type"] == "content_block_delta":
            delta = value["delta"]
            text = next((delta[k] for k in ("text", "thinking", "partial_json") if k in delta), "")
            result[-1] = (result[-1][0], result[-1][1] + text)
    return result


def talk(part: int, text: str, kind: Any = "text") -> list[ReplyEvent]:
    return [PartStarted(part, kind), PartDelta(part, text), PartEnded(part)]


# --- reading


def test_a_full_stream_folds_to_its_message() -> None:
    events = listen(*FULL)
    reply = fold(PLUGIN.name, events)

    assert FULL_PARTS == reply.choices[0].parts
    assert Finish("tool_calls", "tool_use") == reply.choices[0].finish
    assert ("msg_1", "claude") == (reply.id, reply.model)
    assert Usage(input=9, cache_read=4, output=20) == reply.usage
    assert {"usage": {"service_tier": "standard"}} == reply.extras
    assert Ended() == events[-1]
    assert Ping() in events


@given(st.lists(st.integers(0, len(wire(FULL))), max_size=8))
def test_portions_do_not_matter(cuts: list[int]) -> None:
    assert listen(*FULL) == heard(wire(FULL), cuts)


def test_a_full_stream_written_again_folds_to_the_same() -> None:
    events = listen(*FULL)
    again = said(*events)

    assert fold(PLUGIN.name, events) == fold(PLUGIN.name, listen(*again))


def test_later_counts_replace_earlier_ones_and_what_is_not_told_again_stands() -> None:
    later = [
        done(output_tokens=5),
        {"type": "message_delta", "delta": {}},
        done(output_tokens=7, input_tokens=11),
        STOP,
    ]
    usages = [event.usage for event in listen(START, *later) if isinstance(event, UsageSeen)]

    assert [
        Usage(input=9, cache_read=4, output=1),
        Usage(input=9, cache_read=4, output=5),
        Usage(input=11, cache_read=4, output=7),
    ] == usages


def test_what_a_message_delta_says_besides_is_noted() -> None:
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "refusal", "stop_details": {"type": "refusal"}, "container": None},
        "context_management": {"applied_edits": []},
    }

    assert [
        Finished(Finish("refusal", "refusal")),
        Noted(
            {
                "context_management": {"applied_edits": []},
                "stop_details": {"type": "refusal"},
                "usage": {"service_tier": "standard"},
            }
        ),
        Ended(),
    ] == listen(START, delta, STOP)[2:]
    assert [Ended()] == listen({"type": "message_delta"}, STOP)


def test_all_of_an_input_at_the_start_of_its_block_is_not_lost() -> None:
    start = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}}
    (_, _, started, delta, ended, _) = listen(START, *block(0, start), STOP)

    assert (PartStarted(0, "tool_call", "t", "f"), PartDelta(0, '{"a":[1]}'), PartEnded(0)) == (started, delta, ended)


def test_text_and_signature_at_the_start_of_a_block_are_not_lost() -> None:
    thinking = {"type": "thinking", "thinking": "a", "signature": "s"}
    events = listen(START, *block(0, thinking), *block(1, {"type": "text", "text": "b", "citations": None}), STOP)

    assert (Thinking("a", "s"), Text("b")) == fold(PLUGIN.name, events).choices[0].parts


def test_a_block_that_only_this_dialect_knows_grows_from_any_delta() -> None:
    grown = block(
        0,
        {"type": "compaction", "content": None},
        {"type": "compaction_delta", "content": "so "},
        {"type": "compaction_delta", "content": "far", "size": 3},
        {"type": "citations_delta", "citation": 1},
        {"type": "citations_delta", "citation": 2},
    )
    events = listen(START, *grown, STOP)

    assert {"type": "compaction", "content": "so far", "size": 3, "citations": [1, 2]} == events[2].opaque.value  # type: ignore[union-attr]  # the test fails if it is another event


def test_a_block_that_never_ends_growing_breaks_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_in, "_OPEN_LIMIT", 10)
    grown = block(0, {"type": "x"}, {"type": "input_json_delta", "partial_json": "123456"}, {"type": "y", "z": "78901"})
    events = listen(START, *grown, STOP)

    assert isinstance(events[-1], Failed)
    assert 3 == len(events)


@pytest.mark.parametrize(
    ("type_", "status", "kind"),
    [
        ("overloaded_error", 529, "overloaded"),
        ("rate_limit_error", 429, "rate_limit"),
        ("api_error", 500, "api"),
        ("invalid_request_error", 400, "invalid_request"),
        ("brand_new_error", 500, "api"),
    ],
)
def test_an_error_in_the_stream_is_its_end(type_: str, status: int, kind: str) -> None:
    error = {"type": "error", "error": {"type": type_, "message": "why"}, "request_id": "req_1"}
    events = listen(START, error, STOP)

    assert Failed(Fault(status, kind, "why", type=type_, request_id="req_1")) == events[-1]  # type: ignore[arg-type]  # a plain string out of the table
    assert 3 == len(events)


def test_an_error_without_a_type_is_an_error_too() -> None:
    events = heard(encode(b'{"error":{"message":"down"}}'))

    assert [Failed(Fault(500, "api", "down"))] == events


@pytest.mark.parametrize("cut", [len(FULL) - 1, len(FULL) - 2, 5, 0])
def test_a_stream_that_stops_before_its_end_has_failed(cut: int) -> None:
    events = listen(*FULL[:cut])

    assert isinstance(events[-1], Failed)
    assert Ended() not in events


def test_the_last_frame_counts_without_its_blank_line() -> None:
    assert Ended() == heard(wire([START, STOP]).rstrip(b"\n"))[-1]


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b'{"type":"message_start"}',
        b'{"type":"content_block_start","index":0}',
        b'{"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"x"}}',
        b'{"type":"content_block_stop","index":7}',
    ],
)
def test_a_frame_that_makes_no_sense_is_garbled_and_skipped(data: bytes) -> None:
    (garbled, ended) = heard(encode(data) + wire([STOP]))

    assert isinstance(garbled, Garbled)
    assert Ended() == ended


@pytest.mark.parametrize("delta", [{"text": "Hi"}, {"type": "text_delta", "text": 5}, {"type": 7, "text": "Hi"}])
def test_a_delta_whose_text_cannot_be_read_is_garbled(delta: Any) -> None:
    """A stream of nothing else then fails, and is no empty answer."""
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    events = heard(wire([START, begun, {"type": "content_block_delta", "index": 0, "delta": delta}, STOP]))

    assert [Garbled] == [type(event) for event in events if isinstance(event, Garbled | PartDelta)]


@pytest.mark.parametrize("delta", [{"type": "text_delta", "text": None}, {"type": "text_delta"}, {"type": "new_delta"}])
def test_a_delta_without_a_text_or_of_a_new_kind_is_skipped(delta: Any) -> None:
    begun = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    events = heard(wire([START, begun, {"type": "content_block_delta", "index": 0, "delta": delta}, STOP]))

    assert [] == [event for event in events if isinstance(event, Garbled | PartDelta)]


def test_a_start_that_comes_twice_is_garbled() -> None:
    first = block(0, {"type": "text", "text": ""})[:1]
    events = listen(START, START, *first, *first, STOP)

    assert [Garbled, PartStarted, Garbled, Ended] == [type(event) for event in events[2:]]


@pytest.mark.parametrize("data", [b"", b"[DONE]", b'{"type":"brand_new"}', b'{"type":["odd"]}', b"{}"])
def test_what_is_new_or_empty_is_passed_over(data: bytes) -> None:
    assert [] == PLUGIN.reader("").read(Frame(data, data))


def test_a_new_kind_of_delta_is_passed_over() -> None:
    events = listen(START, *block(0, {"type": "text", "text": ""}, {"type": "new_delta", "x": 1}), STOP)

    assert [PartStarted(0, "text"), PartEnded(0), Ended()] == events[2:]


def test_the_name_of_the_event_stands_in_for_a_missing_type() -> None:
    assert [Ended()] == PLUGIN.reader("").read(Frame(b'{"x":1}', b"", "message_stop"))


# --- writing


def test_a_plain_answer_is_told_in_the_usual_order() -> None:
    values = said(
        ReplyStarted("chatcmpl-1", "gpt"),
        *talk(0, "Hi"),
        Finished(Finish("stop")),
        UsageSeen(Usage(input=3, cache_read=2, output=1)),
        Ended(),
    )

    assert [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ] == [value["type"] for value in values]
    message = values[0]["message"]
    assert ("msg_chatcmpl-1", "gpt", 0) == (message["id"], message["model"], message["usage"]["input_tokens"])
    assert {"stop_reason": "end_turn", "stop_sequence": None} == values[4]["delta"]
    assert {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 2,
        "output_tokens": 1,
    } == values[4]["usage"]


def test_usage_known_before_the_start_stands_in_it() -> None:
    assert 3 == said(UsageSeen(Usage(input=3)), ReplyStarted("a", "b"), Ended())[0]["message"]["usage"]["input_tokens"]


def test_an_empty_text_opens_no_block() -> None:
    events = [PartStarted(0, "text"), PartDelta(0, ""), PartStarted(1, "tool_call", "c", "f"), PartDelta(1, "{}")]
    values = said(ReplyStarted("a", "b"), *events, Finished(Finish("stop")), Ended())

    assert [("tool_use", "{}")] == blocks(values)
    assert "tool_use" == values[-2]["delta"]["stop_reason"]


def test_a_cut_off_tool_call_is_told_as_cut_off() -> None:
    events = [PartStarted(0, "tool_call", "c", "f"), PartDelta(0, '{"a"')]

    assert "max_tokens" == said(*events, Finished(Finish("length")), Ended())[-2]["delta"]["stop_reason"]


def test_calls_that_grow_at_the_same_time_come_one_after_another() -> None:
    values = said(
        ReplyStarted("a", "b"),
        PartStarted(0, "tool_call", "c0", "f"),
        PartStarted(1, "tool_call", "c1", "g"),
        PartDelta(0, '{"a":'),
        PartDelta(1, '{"b":'),
        PartStarted(2, "text"),
        PartDelta(2, "done"),
        PartDelta(1, "2}"),
        PartEnded(1),
        PartDelta(0, "1}"),
        PartEnded(0),
        Ended(),
    )

    assert [("tool_use", '{"a":1}'), ("tool_use", '{"b":2}'), ("text", "done")] == blocks(values)


def test_a_call_that_waited_may_go_on_when_its_turn_has_come() -> None:
    values = said(
        PartStarted(0, "tool_call", "c0", "f"),
        PartStarted(1, "tool_call", "c1", "g"),
        PartDelta(1, '{"b":'),
        PartEnded(0),
        PartDelta(1, "2}"),
        Ended(),
    )

    assert [("tool_use", ""), ("tool_use", '{"b":2}')] == blocks(values)


def test_too_much_that_waits_breaks_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_out, "_WAITING_LIMIT", 3)
    values = said(
        PartStarted(0, "tool_call", "c0", "f"), PartStarted(1, "tool_call", "c1", "g"), PartDelta(1, "1234"), Ended()
    )

    assert "error" == values[-1]["type"]


def test_a_signature_that_waits_takes_no_room() -> None:
    calls = [PartStarted(0, "tool_call", "c0", "f"), PartStarted(1, "thinking"), PartSigned(1, "s"), PartEnded(0)]

    assert [("tool_use", ""), ("thinking", "")] == blocks(said(*calls, Ended()))


def test_a_start_without_usage_is_a_start() -> None:
    message = {"id": "msg_1", "model": "m", "content": []}

    assert [ReplyStarted("msg_1", "m"), Ended()] == listen({"type": "message_start", "message": message}, STOP)


def test_thinking_gives_way_to_text_and_may_come_again() -> None:
    values = said(
        PartStarted(0, "thinking"),
        PartDelta(0, "a"),
        PartStarted(1, "text"),
        PartDelta(1, "b"),
        PartDelta(0, "c"),
        PartSigned(0, "s"),
        PartDelta(1, "d"),
        PartSigned(1, "?"),
        PartSigned(9, "?"),
        PartEnded(9),
        Ended(),
    )

    assert [("thinking", "a"), ("text", "b"), ("thinking", "c"), ("text", "d")] == blocks(values)


def test_a_late_signature_has_no_block_to_stand_in() -> None:
    events = [PartStarted(0, "thinking"), PartDelta(0, "a"), PartStarted(1, "text"), PartSigned(0, "s")]

    assert [("thinking", "a")] == blocks(said(*events, Ended()))


def test_a_signature_alone_is_a_thinking_block() -> None:
    values = said(PartStarted(0, "thinking"), PartSigned(0, "s"), PartEnded(0), Ended())

    assert {"type": "signature_delta", "signature": "s"} == values[2]["delta"]


def test_a_refusal_is_text() -> None:
    assert [("text", "no")] == blocks(said(*talk(0, "no", "refusal"), Ended()))


def test_redacted_thinking_has_no_deltas() -> None:
    redacted = [PartStarted(0, "redacted_thinking", data="x"), PartDelta(0, "?"), PartEnded(0)]
    values = said(*redacted, Ended())

    assert {"type": "redacted_thinking", "data": "x"} == values[1]["content_block"]
    assert [("redacted_thinking", "")] == blocks(values)


def test_a_part_that_only_another_dialect_knows_is_left_out() -> None:
    foreign = Opaque("openai_chat", "audio", {"type": "audio"})

    assert [] == blocks(said(PartStarted(0, "opaque", opaque=foreign), PartEnded(0), Ended()))


def test_notes_stand_in_text_only_and_citations_only() -> None:
    values = said(
        PartStarted(0, "tool_call", "c", "f", extras={"caller": {"type": "direct"}, "index": 0}),
        PartNoted(0, {"citations": [{}]}),
        PartEnded(0),
        PartStarted(1, "text"),
        PartNoted(1, {"annotations": [1]}),
        Ended(),
    )

    assert {"type": "tool_use", "id": "c", "name": "f", "input": {}, "caller": {"type": "direct"}} == values[1][
        "content_block"
    ]
    assert [("tool_use", "")] == blocks(values)


def test_what_an_anthropic_stream_says_besides_comes_back() -> None:
    values = said(
        ReplyStarted(
            "msg_1", "m", extras={"usage": {"service_tier": "standard", "cost": 1}, "system_fingerprint": "x"}
        ),
        Noted({"stop_details": {"type": "refusal"}, "context_management": {"applied_edits": []}}),
        Finished(Finish("refusal"), extras={"container": None}),
        Ended(),
    )

    assert ("msg_1", "standard") == (values[0]["message"]["id"], values[-2]["usage"]["service_tier"])
    assert "cost" not in values[-2]["usage"]
    assert {"type": "refusal"} == values[-2]["delta"]["stop_details"]
    assert {"applied_edits": []} == values[-2]["context_management"]


def test_a_missing_id_is_made_the_same_way_every_time() -> None:
    events = [ReplyStarted(None, "m", 5), PartStarted(0, "tool_call", None, None), PartEnded(0), Ended()]
    values = said(*events)

    assert values == said(*events)
    assert "msg_" == values[0]["message"]["id"][:4]
    assert "toolu_" == values[1]["content_block"]["id"][:6]


def test_a_second_start_and_other_choices_are_not_told() -> None:
    events = [ReplyStarted("a", "m"), ReplyStarted("b", "m"), *talk(0, "one")]
    second: list[ReplyEvent] = [PartStarted(0, "text", choice=1), PartDelta(0, "two", 1), Finished(Finish("length"), 1)]

    values = said(*events, *second, Ended())
    assert [("text", "one")] == blocks(values)
    assert "end_turn" == values[-2]["delta"]["stop_reason"]


def test_a_ping_is_a_ping_and_what_is_garbled_is_nothing() -> None:
    assert {"type": "ping"} == said(Ping(), Garbled("x"), Ended())[0]


def test_a_failure_is_an_error_event_and_nothing_follows() -> None:
    fault = Fault(503, "overloaded", "busy sk-ant-secret-0123456789", "no_provider", request_id="req_1")
    values = said(ReplyStarted("a", "m"), PartStarted(0, "text"), PartDelta(0, "x"), Failed(fault), Ended(), Ping())

    assert {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "busy ***"},
        "request_id": "req_1",
    } == values[-1]


def test_nothing_but_an_end_is_an_empty_answer() -> None:
    assert ["message_start", "message_delta", "message_stop"] == [value["type"] for value in said(Ended())]


def test_the_stop_sequence_is_echoed() -> None:
    finish = Finished(Finish("stop_sequence", stop_sequence="END"))

    assert {"stop_reason": "stop_sequence", "stop_sequence": "END"} == said(finish, Ended())[-2]["delta"]


PART = st.integers(0, 4)
ANY_EVENT = st.one_of(
    st.builds(PartStarted, PART, st.sampled_from(["text", "thinking", "tool_call", "refusal", "redacted_thinking"])),
    st.builds(PartDelta, PART, st.text(max_size=3)),
    st.builds(PartSigned, PART, st.text(min_size=1, max_size=3)),
    st.builds(PartEnded, PART),
    st.builds(Finished, st.builds(Finish, st.sampled_from(["stop", "length", "tool_calls"]))),
    st.builds(UsageSeen, st.builds(Usage, st.integers(0, 9))),
    st.just(Ping()),
)


@given(st.lists(ANY_EVENT, max_size=25), st.sampled_from([Ended(), Failed(Fault(500, "api", "x"))]))
def test_whatever_comes_the_grammar_holds(events: list[ReplyEvent], end: ReplyEvent) -> None:
    starts: set[int] = set()
    sane = [e for e in events if not isinstance(e, PartStarted) or not (e.part in starts or starts.add(e.part))]  # type: ignore[func-returns-value]  # add() gives None, which is the point

    said(*sane, end)


THINKS = {"type": "thinking_delta", "thinking": "hm"}
SAYS = {"type": "text_delta", "text": "hi"}


@pytest.mark.parametrize(
    ("start", "deltas", "expected"),
    [
        (None, [SAYS, SAYS], [Text("hihi")]),
        (None, [THINKS, SAYS], [Thinking("hm"), Text("hi")]),
        ({"type": "text", "text": ""}, [THINKS, SAYS], [Thinking("hm"), Text("hi")]),
        ({"type": "thinking", "thinking": ""}, [THINKS, SAYS], [Thinking("hm"), Text("hi")]),
    ],
)
def test_a_delta_of_another_kind_than_its_block_begins_its_own(
    start: dict[str, Any] | None, deltas: list[dict[str, Any]], expected: list[Any]
) -> None:
    events = block(0, start or {}, *deltas)[0 if start else 1 :]
    parts = fold(PLUGIN.name, listen(START, *events, done(), STOP)).choices[0].parts

    assert expected == [part for part in parts if not isinstance(part, Text) or part.text]


@pytest.mark.parametrize("delta", [{"type": "input_json_delta", "partial_json": "{}"}, {"type": ["x"]}, 7])
def test_another_delta_without_a_block_cannot_be_read(delta: Any) -> None:
    event = {"type": "content_block_delta", "index": 0, "delta": delta}

    assert any(isinstance(each, Garbled) for each in listen(START, event, done(), STOP))
