"""Real traffic of AI Studio and of Vertex: what is read and written in this dialect says the same as before, and
Google's own SDK reads what we write."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from cells import each_cell
from genai_prices import extract_usage
from google.genai import models, types
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import body, recordings
from thoroughness import examples

from edge_extproc.codecs.openapi_schema import to_json_schema
from edge_extproc.codecs.sse import SseDecoder
from edge_extproc.dialects.gemini_generate import PLUGIN
from edge_extproc.model.call import Call
from edge_extproc.model.reply import Ended, Failed, Fold, Garbled, ReplyEvent, fold

EVERY = {r["id"]: r for r in recordings("generate_content", "stream_generate_content")}
REPLIES = sorted(id for id, r in EVERY.items() if r["response"]["status"] == 200 and not r["streaming"])
STREAMS = sorted(id for id, r in EVERY.items() if r["response"]["status"] == 200 and r["streaming"])
ERRORS = sorted(id for id, r in EVERY.items() if r["response"]["status"] != 200)
COUNTS = {r["id"]: r for r in recordings("count_tokens") if r["provider"] in ("gemini", "vertex")}

# The caller's own names and values: no spelling of Google's is looked for in there.
VALUES = frozenset({"args", "response", "labels"})
SCHEMAS = frozenset({"parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"})


def camel(key: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), key)


def same(value: Any) -> Any:
    """Two spellings of one thing made equal: of field names, of schemas and the fields that hold them, of base64, of a
    mode, of an empty default and its absence."""
    if isinstance(value, list):
        return [same(each) for each in value]
    if not isinstance(value, dict):
        return value
    result: dict[str, Any] = {}
    for key, each in value.items():
        name = camel(key)
        if each is None:
            continue
        if name in SCHEMAS:
            result[name.replace("JsonSchema", "").replace("Schema", "")] = to_json_schema(each)
        elif name in VALUES:
            result[name] = each
        elif name in ("data", "thoughtSignature"):
            result[name] = each.translate(str.maketrans("-_", "+/")).rstrip("=")
        elif name in ("mode", "thinkingLevel"):
            result[name] = each.upper()
        else:
            result[name] = same(each)
    if "functionDeclarations" in result and result["functionDeclarations"] == []:
        del result["functionDeclarations"]
    return result


def same_request(value: Any) -> Any:
    """The role of a system instruction says nothing, and functions may share one tool or have one each."""
    request = same(value)
    request.get("systemInstruction", {}).pop("role", None)
    for content in request["contents"]:
        content.setdefault("role", "user")
    functions = [f for tool in request.get("tools", ()) for f in tool.get("functionDeclarations", ())]
    others = [{k: v} for tool in request.pop("tools", ()) for k, v in tool.items() if k != "functionDeclarations"]
    if not request.get("generationConfig", True):
        del request["generationConfig"]
    if not request.get("toolConfig", True):
        del request["toolConfig"]
    return {**request, "functions": functions, "other tools": others}


def same_reply(value: Any) -> Any:
    for candidate in value.get("candidates", ()):
        candidate.setdefault("content", {}).setdefault("role", "model")
    return value


def path_of(recording: dict[str, Any]) -> str:
    verb = "streamGenerateContent?alt=sse" if recording["streaming"] else "generateContent"
    return f"/v1beta/models/{recording['model']}:{verb}"


def call_of(recording: dict[str, Any]) -> Call:
    path = path_of(recording)
    return PLUGIN.read_call(body(recording["request"]), "chat", ((":path", path),), path.partition("?")[0])


def kind_of(data: bytes) -> str:
    return "application/json" if data.startswith(b"[") else "text/event-stream"


def events_of(data: bytes, cuts: tuple[int, ...] = ()) -> list[ReplyEvent]:
    reader = PLUGIN.reader(kind_of(data))
    events: list[ReplyEvent] = []
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
        for frame in reader.frames(data[begin:end]):
            events += reader.read(frame)
    return events + reader.close()[1]


def sdk_reads(reply: Any) -> None:
    """As the SDK reads what comes off the wire: unknown fields are let go, everything else is checked."""
    types.GenerateContentResponse._from_response(response=json.loads(json.dumps(reply)), kwargs={})
    told = models._GenerateContentResponse_from_mldev(reply)
    types.GenerateContentResponse._from_response(response=told, kwargs={})


def sdk_can_read(reply: Any) -> bool:
    """Not where the caller asked for the numbers of enums."""
    return not re.search(r'"(finishReason|modality)": ?\d', json.dumps(reply))


@each_cell("id", sorted(EVERY))
def test_the_raw_lane_keeps_every_byte(id: str) -> None:
    call = call_of(EVERY[id])

    assert call.raw is PLUGIN.splice(call, "another").body


@each_cell("id", REPLIES)
def test_a_reply_read_and_written_again_says_the_same(id: str) -> None:
    source = json.loads(body(EVERY[id]["response"]))
    written = json.loads(PLUGIN.write_reply(PLUGIN.read_reply(json.dumps(source).encode())))

    assert same_reply(source) == written
    if sdk_can_read(source):
        sdk_reads(written)


# Its parts are 18, 1 and 203, its total 221: Google's own sum is one short.
ODD_TOTALS = frozenset({"vertex-generate_content-547b7e17dd6a34ca"})
MODALITIES = ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT")


def as_the_price_library_knows_it(source: Any) -> Any:
    """Without the collection before the model's name, and with the names of modalities for their numbers."""
    told = dict(source, modelVersion=source["modelVersion"].rpartition("/")[2])
    text = re.sub(r'("modality": ?)(\d)', lambda match: f'{match[1]}"{MODALITIES[int(match[2])]}"', json.dumps(told))
    return json.loads(text)


@each_cell("id", REPLIES)
def test_usage_is_what_the_price_library_reads(id: str) -> None:
    source = json.loads(body(EVERY[id]["response"]))
    usage = PLUGIN.read_reply(json.dumps(source).encode()).usage
    if usage is None:
        assert "promptTokenCount" not in source["usageMetadata"]
        return
    theirs = extract_usage(as_the_price_library_knows_it(source), provider_id="google").usage

    assert (theirs.input_tokens or 0) == usage.prompt
    assert (theirs.output_tokens or 0) == usage.completion
    assert (theirs.cache_read_tokens or 0) == usage.cache_read
    assert (theirs.output_audio_tokens or 0) == usage.output_audio
    assert (theirs.output_image_tokens or 0) == usage.output_image
    if id not in ODD_TOTALS:
        assert source["usageMetadata"].get("totalTokenCount", usage.total) in (usage.total, usage.prompt)


@each_cell("id", STREAMS)
def test_a_stream_is_read_to_its_end(id: str) -> None:
    events = events_of(body(EVERY[id]["response"]))

    assert isinstance(events[-1], Ended)
    assert not [event for event in events if isinstance(event, Garbled | Failed)]
    whole = fold(PLUGIN.name, events)
    assert whole.id
    assert whole.model
    assert [choice.finish is not None for choice in whole.choices] == [True] * len(whole.choices)


def said(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a stream tells, however it is cut into chunks."""
    parts: list[Any] = []
    noted: dict[str, Any] = {}
    for chunk in chunks:
        for candidate in chunk.get("candidates", ()):
            content = candidate.pop("content", {})
            candidate.pop("index", None)
            noted.update(candidate)
            for part in content.get("parts", ()):
                is_text = part.keys() <= {"text", "thought"}
                if is_text and parts and parts[-1].keys() <= {"text", "thought", "thoughtSignature"}:
                    last = parts[-1]
                    if last.get("thought") == part.get("thought") and "thoughtSignature" not in last:
                        last["text"] += part["text"]
                        continue
                if is_text and not part["text"]:
                    continue
                signature = part.get("thoughtSignature")
                if signature and "text" in part and parts and "text" in parts[-1]:
                    last = parts[-1]
                    if last.get("thought") == part.get("thought") and "thoughtSignature" not in last:
                        last["text"] += part["text"]
                        last["thoughtSignature"] = signature
                        continue
                parts.append(part)
        noted.update({key: value for key, value in chunk.items() if key not in ("candidates", "usageMetadata")})
        noted.setdefault("usageMetadata", {}).update(chunk.get("usageMetadata", {}))
    return {"parts": parts, **noted}


def objects(data: bytes) -> list[dict[str, Any]]:
    if kind_of(data) == "application/json":
        return list(json.loads(data))
    decoder = SseDecoder()
    return [json.loads(frame.data) for frame in [*decoder.feed(data), *decoder.close()] if frame.data]


@each_cell("id", STREAMS)
@each_cell("query", ["", "?alt=sse"])
def test_a_stream_framed_anew_says_the_same(id: str, query: str) -> None:
    recording = EVERY[id]
    data = body(recording["response"])
    path = path_of(recording).partition("?")[0]
    call = PLUGIN.read_call(body(recording["request"]), "chat", ((":path", path + query),), path)
    writer = PLUGIN.writer(call)
    written = b"".join(writer.write(event) for event in events_of(data))

    assert kind_of(written) == ("text/event-stream" if query else "application/json")
    for chunk in objects(written):
        sdk_reads(chunk)
    source = said(objects(data))
    source.pop("createTime", None)
    actual = said(objects(written))
    actual.pop("createTime", None)
    assert source == actual


@settings(max_examples=examples(25), deadline=None)
@given(st.data())
def test_portions_of_real_streams_do_not_matter(data: st.DataObject) -> None:
    wire = body(EVERY[data.draw(st.sampled_from(STREAMS))]["response"])
    cuts = tuple(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))

    assert events_of(wire) == events_of(wire, cuts)


@each_cell("id", STREAMS)
def test_a_stream_torn_before_its_last_chunk_is_no_whole_one(id: str) -> None:
    wire = body(EVERY[id]["response"])
    at = max(wire.find(b'"finishReason"'), wire.find(b'"promptFeedback"'))  # a blocked prompt has no candidate
    folding = Fold(PLUGIN.name)
    for event in events_of(wire[:at]):
        folding.add(event)

    assert folding.failed is not None
    assert not folding.ended


@each_cell("id", ERRORS)
def test_an_error_is_read_and_written_again(id: str) -> None:
    response = EVERY[id]["response"]
    fault = PLUGIN.read_error(response["status"], (), body(response))
    status, headers, written = PLUGIN.write_error(fault)

    source = json.loads(body(response))
    source = (source[0] if isinstance(source, list) else source)["error"]
    told = json.loads(written)["error"]
    assert status == response["status"]
    assert ("content-type", "application/json; charset=UTF-8") in headers
    assert (source["code"], source["status"]) == (told["code"], told["status"])
    assert source["message"].partition("`")[0] == told["message"].partition("`")[0]


@each_cell("id", sorted(COUNTS))
def test_a_request_to_count_tokens_passes_unchanged_but_for_the_model(id: str) -> None:
    raw = body(COUNTS[id]["request"])
    call = PLUGIN.read_call(raw, "count_tokens", (), "/v1beta/models/m:countTokens")
    model = COUNTS[id]["model"]

    assert raw == PLUGIN.splice(call, model).body
    assert raw.replace(model.encode(), b"m") == PLUGIN.splice(call, "m").body
