"""Real traffic of Bedrock's Converse: what is read and written in this dialect says the same as before, and botocore's
own parsers and validators take what we write."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import Any

from botocore_oracle import parse_converse, parse_converse_stream
from cells import each_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import body, recordings
from thoroughness import examples

from edge_extproc.codecs.aws_eventstream import EventStreamDecoder
from edge_extproc.dialects.bedrock_converse import PLUGIN
from edge_extproc.dialects.carried import UNSIGNED
from edge_extproc.model.call import Call
from edge_extproc.model.reply import Ended, Failed, Fold, Garbled, PartDelta, ReplyEvent

EVERY = {r["id"]: r for r in recordings("converse", "converse_stream")}
REQUESTS = sorted(id for id, r in EVERY.items() if r["request"].get("body"))
REPLIES = sorted(id for id, r in EVERY.items() if r["response"]["status"] == 200 and not r["streaming"])
STREAMS = sorted(id for id, r in EVERY.items() if r["response"]["status"] == 200 and r["streaming"])
ERRORS = sorted(id for id, r in EVERY.items() if r["response"]["status"] != 200)


def same(value: Any) -> Any:
    """Two spellings of one thing made equal: an empty default and its absence, JSON text and its value, `tool_use` as
    the type of a tool use, the key order of a schema."""
    if isinstance(value, list):
        return [same(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {k: same(v) for k, v in value.items() if v is not None}
    for key in ("system", "inferenceConfig", "stopSequences", "additionalModelRequestFields", "toolConfig"):
        if result.get(key) in ([], {}):
            del result[key]
    if result.get("type") == "tool_use" and "toolUseId" in result:
        del result["type"]
    if result.get("status") == "success" and "toolUseId" in result:
        del result["status"]
    if isinstance(result.get("schema"), str):
        result["schema"] = json.loads(result["schema"])
    if isinstance(result.get("redactedContent"), str):
        result["redactedContent"] = base64.b64decode(result["redactedContent"])
    return result


def same_reply(value: Any) -> Any:
    """A count of nothing is the same as no count."""
    reply = same(value)
    usage = reply["usage"]
    for key in ("cacheReadInputTokens", "cacheWriteInputTokens"):
        usage.setdefault(key, 0)
        usage.pop(key.replace("Tokens", "TokenCount"), None)
    usage["cacheDetails"] = usage.get("cacheDetails") or (
        [{"ttl": "5m", "inputTokens": usage["cacheWriteInputTokens"]}] if usage["cacheWriteInputTokens"] else []
    )
    usage["cacheDetails"] = [each for each in usage["cacheDetails"] if each["inputTokens"]]
    for block in reply["output"]["message"]["content"]:
        if "citationsContent" in block:  # its texts are one text
            texts = block["citationsContent"]["content"]
            block["citationsContent"]["content"] = [{"text": "".join(each["text"] for each in texts)}]
    return reply


def call_of(recording: dict[str, Any]) -> Call:
    return PLUGIN.read_call(body(recording["request"]), "chat", (), recording["endpoint"].partition(" ")[2])


def events_of(data: bytes, cuts: tuple[int, ...] = ()) -> list[ReplyEvent]:
    reader = PLUGIN.reader(PLUGIN.stream_type)
    events: list[ReplyEvent] = []
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
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


@each_cell("id", REQUESTS)
def test_a_request_goes_to_the_path_that_it_came_by(id: str) -> None:
    call = call_of(EVERY[id])

    assert EVERY[id]["endpoint"].partition(" ")[2] == PLUGIN.path("chat", call.model, stream=call.stream).replace(
        "%3A", ":"
    )


@each_cell("id", REPLIES)
def test_a_reply_read_and_written_again_says_the_same(id: str) -> None:
    raw = body(EVERY[id]["response"])
    reply = PLUGIN.read_reply(raw)
    again = PLUGIN.write_reply(reply)

    assert same_reply(json.loads(raw)) == same_reply(json.loads(again))
    assert same_reply(parse_converse(raw)) == same_reply(parse_converse(again))
    assert reply.usage is not None
    assert json.loads(raw)["usage"]["totalTokens"] == reply.usage.total


@each_cell("id", STREAMS)
def test_a_stream_read_and_written_again_says_the_same(id: str) -> None:
    recording = EVERY[id]
    data = body(recording["response"])
    events = events_of(data)
    again = written(events, call_of(recording))

    assert isinstance(events[-1], Ended)
    assert not any(isinstance(event, Failed | Garbled) for event in events)
    assert folded(events).reply() == folded(events_of(again)).reply()
    usage = folded(events).usage
    assert usage is not None
    assert parse_converse_stream(data)[-1]["metadata"]["usage"]["totalTokens"] == usage.total


@each_cell("id", STREAMS)
def test_botocore_hears_the_same_stream_again(id: str) -> None:
    recording = EVERY[id]
    data = body(recording["response"])
    again = written(events_of(data), call_of(recording))

    def told(wire: bytes) -> list[Any]:
        """Without blocks that had no word and counts of nothing; no arguments are the same as an empty object."""
        heard = [(kind, value) for event in parse_converse_stream(wire) for kind, value in event.items()]
        unsigned = {"reasoningContent": {"signature": UNSIGNED}}  # the mark that nobody signed a thought
        empty = ({"text": ""}, {"toolUse": {"input": ""}}, {"toolUse": {"input": "{}"}}, unsigned)
        heard = [(kind, value) for kind, value in heard if value.get("delta") not in empty]
        at = "contentBlockIndex"
        spoken = sorted({value[at] for kind, value in heard if kind in ("contentBlockDelta", "contentBlockStart")})
        found = []
        for kind, value in heard:
            if kind == "metadata":
                value = {"metrics": value["metrics"], "total": value["usage"]["totalTokens"]}
            elif at in value:
                if value[at] not in spoken:
                    continue
                value = same(value) | {at: spoken.index(value[at])}
            found.append((kind, value))
        return found

    assert told(data) == told(again)


@each_cell("id", STREAMS)
def test_portions_of_a_recorded_stream_do_not_matter(id: str) -> None:
    data = body(EVERY[id]["response"])

    assert events_of(data) == events_of(data, tuple(range(1, len(data), 7)))


@settings(max_examples=examples(40))
@given(data=st.data())
def test_any_cutting_gives_the_same_events(data: st.DataObject) -> None:
    wire = body(EVERY[data.draw(st.sampled_from(STREAMS))]["response"])[:6000]
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))

    assert events_of(wire) == events_of(wire, tuple(cuts))


@each_cell("id", STREAMS)
def test_a_stream_cut_off_before_its_stop_is_broken(id: str) -> None:
    data = body(EVERY[id]["response"])
    frames = EventStreamDecoder().feed(data)
    end = sum(len(f.raw) for f in frames[: next(i for i, f in enumerate(frames) if f.event == "messageStop")])

    assert isinstance(events_of(data[:end])[-1], Failed)
    assert isinstance(events_of(data[:-1])[-1], Failed)
    if any(isinstance(e, PartDelta) for e in events_of(data)):
        assert not any(isinstance(e, Ended) for e in events_of(data[:end]))


@each_cell("id", ERRORS)
def test_an_error_read_and_written_again_says_the_same(id: str) -> None:
    recording = EVERY[id]
    raw, status = body(recording["response"]), recording["response"]["status"]
    headers = tuple(recording["response"]["headers"].items())
    fault = PLUGIN.read_error(status, headers, raw)
    told, answered, again = PLUGIN.write_error(fault)

    assert status == told
    assert json.loads(raw) == json.loads(again)
    named = dict(headers).get("x-amzn-errortype", "").partition(":")[0]
    assert named in ("", dict(answered)["x-amzn-errortype"])
    assert fault.request_id == dict(headers).get("x-amzn-requestid")
