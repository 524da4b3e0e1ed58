"""Real traffic of Anthropic's API, on its own host and behind Vertex and Bedrock: what is read and written in this
dialect says the same as before, and Anthropic's own types read what we write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from cells import each_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from recordings import body, recordings
from thoroughness import examples

from edge_extproc.codecs.sse import SseDecoder
from edge_extproc.dialects.anthropic_messages import PLUGIN
from edge_extproc.model.call import Call
from edge_extproc.model.reply import Ended, Failed, Fold, Garbled, ReplyEvent

HEADERS = (("content-type", "application/json"),)
STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
BETA_STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)
# Blocks and tools that only the beta half of Anthropic's SDK knows.
BETA = ("mcp_tool_result", "mcp_tool_use", "advisor", "iterations")

MESSAGES = {r["id"]: r for r in recordings("messages")}
RAW_PREDICT = {r["id"]: r for r in recordings("vertex_raw_predict", "vertex_stream_raw_predict")}
INVOKED = {
    r["id"]: r for r in recordings("invoke_model") if b'"type":"message"' in body(r["response"]).replace(b" ", b"")
}
EVERY = MESSAGES | RAW_PREDICT | INVOKED

REQUESTS = sorted(id for id, r in EVERY.items() if '"messages"' in r["request"]["body"])
REPLIES = sorted(id for id, r in EVERY.items() if r["response"]["status"] == 200 and not r["streaming"])
STREAMS = sorted(id for id, r in EVERY.items() if r["response"]["status"] == 200 and r["streaming"])
ERRORS = sorted(id for id, r in MESSAGES.items() if r["response"]["status"] != 200)
COUNTS = {r["id"]: r for r in recordings("count_tokens", provider="anthropic")}


def same(value: Any) -> Any:
    """Two spellings of one thing made equal: a string and its one text block, null or an empty default and absence,
    the beta's name of the output format."""
    if isinstance(value, list):
        return [same(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {k: same(v) for k, v in value.items() if v is not None}
    for key in ("content", "system"):
        if isinstance(result.get(key), str):
            result[key] = [{"type": "text", "text": result[key]}]
    for key, default in (("is_error", False), ("stream", False), ("content", [])):
        if key in result and result[key] == default:
            del result[key]
    if "output_format" in result:
        result.setdefault("output_config", {})["format"] = result.pop("output_format")
    if result.get("tools") == []:
        del result["tools"]
    return result


def same_reply(value: Any) -> Any:
    """A count of nothing is the same as no count, and the cache's default time the same as none."""
    reply = same(value)
    reply["content"] = reply.get("content", [])
    usage = reply["usage"]
    for key in ("cache_creation_input_tokens", "cache_read_input_tokens"):
        usage.setdefault(key, 0)
    short = {"ephemeral_5m_input_tokens": usage["cache_creation_input_tokens"], "ephemeral_1h_input_tokens": 0}
    usage.setdefault("cache_creation", short)
    usage.setdefault("output_tokens_details", {"thinking_tokens": 0})
    return reply


def call_of(recording: dict[str, Any]) -> Call:
    raw = body(recording["request"])
    if b'"model"' not in raw:  # Vertex names the model in the path
        raw = raw.replace(b"{", b'{"model":"' + recording["model"].encode() + b'",', 1)
    return PLUGIN.read_call(raw, "chat", HEADERS, "/v1/messages")


def events_of(data: bytes, cuts: tuple[int, ...] = ()) -> list[ReplyEvent]:
    reader = PLUGIN.reader("text/event-stream")
    events: list[ReplyEvent] = []
    edges = [0, *sorted(cuts), len(data)]
    for begin, end in pairwise(edges):
        for frame in reader.frames(data[begin:end]):
            events += reader.read(frame)
    return events + reader.close()[1]


def written(events: list[ReplyEvent], call: Call) -> bytes:
    writer = PLUGIN.writer(call)
    return b"".join(writer.write(event) for event in events)


def folded(events: list[ReplyEvent]) -> Fold:
    fold = Fold(PLUGIN.name)
    for event in events:
        fold.add(event)
    return fold


def sse_objects(data: bytes) -> Iterator[dict[str, Any]]:
    decoder = SseDecoder()
    for frame in [*decoder.feed(data), *decoder.close()]:
        if frame.data:
            value = json.loads(frame.data)
            assert value["type"] == frame.event
            yield value


@each_cell("id", REQUESTS)
def test_a_spliced_request_differs_in_its_model_only(id: str) -> None:
    call = call_of(EVERY[id])
    spliced = PLUGIN.splice(call, "another")

    assert json.loads(call.raw) | {"model": "another"} == json.loads(spliced.body)
    assert call.raw == PLUGIN.splice(call, call.model).body


@each_cell("id", sorted(COUNTS))
def test_a_count_of_tokens_is_read_without_max_tokens(id: str) -> None:
    raw = body(COUNTS[id]["request"])
    call = PLUGIN.read_call(raw, "count_tokens", HEADERS, "/v1/messages/count_tokens")

    assert len(json.loads(raw)["messages"]) == len([m for m in PLUGIN.read_chat(call).messages if m.role != "system"])


@each_cell("id", REPLIES)
def test_a_reply_read_and_written_again_says_the_same(id: str) -> None:
    raw = body(EVERY[id]["response"])
    again = PLUGIN.write_reply(PLUGIN.read_reply(raw))

    assert same_reply(json.loads(raw)) == same_reply(json.loads(again))
    (BetaMessage if any(word in again.decode() for word in BETA) else Message).model_validate_json(again)


@each_cell("id", STREAMS)
def test_a_stream_read_and_written_again_says_the_same(id: str) -> None:
    recording = EVERY[id]
    events = events_of(body(recording["response"]))
    again = written(events, call_of(recording))

    assert isinstance(events[-1], Ended)
    assert not any(isinstance(event, Failed | Garbled) for event in events)
    assert folded(events).reply() == folded(events_of(again)).reply()
    for value in sse_objects(again):
        if value["type"] != "ping":
            adapter = BETA_STREAM_EVENT if any(word in json.dumps(value) for word in BETA) else STREAM_EVENT
            adapter.validate_python(value)


@each_cell("id", STREAMS)
def test_portions_of_a_recorded_stream_do_not_matter(id: str) -> None:
    data = body(EVERY[id]["response"])
    whole = events_of(data)

    assert whole == events_of(data, tuple(range(1, len(data), 7)))


@settings(max_examples=examples(40))
@given(data=st.data())
def test_any_cutting_gives_the_same_events(data: st.DataObject) -> None:
    wire = body(EVERY[data.draw(st.sampled_from(STREAMS))]["response"])[:6000]
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))

    assert events_of(wire) == events_of(wire, tuple(cuts))


@each_cell("id", ERRORS)
def test_an_error_read_and_written_again_says_the_same(id: str) -> None:
    recording = MESSAGES[id]
    raw = body(recording["response"])
    headers = tuple(recording["response"]["headers"].items())
    fault = PLUGIN.read_error(recording["response"]["status"], headers, raw)
    status, _, again = PLUGIN.write_error(fault)

    assert recording["response"]["status"] == status
    expected = {"request_id": dict(headers).get("request-id")} | json.loads(raw)
    assert expected == json.loads(again)
