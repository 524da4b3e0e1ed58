"""Real traffic of the Responses API, of six hosts: what is read and written in this dialect says the same as before,
OpenAI's own types read what we write, and a stream says the same however it is cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import crossings
import pytest
from cells import each_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from recordings import body, recordings
from responses_grammar import check
from thoroughness import examples

from edge_extproc.dialects.anthropic_messages import PLUGIN as CLAUDE
from edge_extproc.dialects.openai_responses import PLUGIN
from edge_extproc.dialects.openai_responses.fields import NAME
from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.model.call import Call
from edge_extproc.model.content import Part, RedactedThinking, Thinking
from edge_extproc.model.reply import Ended, Failed, Garbled, Reply, ReplyEvent, fold, unfold

THOUGHTS = (Thinking, RedactedThinking)
EVERY = {r["id"]: r for r in recordings("responses")}
# A stored prompt may name the model; the gateway needs it in the call.
NO_MODEL = {id for id, r in EVERY.items() if b'"model"' not in body(r["request"])}
# Answers of the API's other operations, which go over the raw lane unread: count of input tokens, compaction.
OTHER_OPERATIONS = {id for id, r in EVERY.items() if crossings.is_other_operation(r)}
# xAI leaves out the name of a schema.
LOOSE = {"xai-responses-31fe8b7f3a17d873", "xai-responses-e003b8b7d9cbc860", "xai-responses-e49aedf85e5de174"}
# Three servers list their tools at once, and end in another order than they began; whole items are told at their end.
OVERLAPPING = {"openai-responses-dbc4c1cb15c0350b"}

REQUESTS = sorted(EVERY.keys() - NO_MODEL)
GOOD = {id: r for id, r in EVERY.items() if r["response"]["status"] == 200 and id not in OTHER_OPERATIONS}
STREAMS = sorted(id for id, r in GOOD.items() if r["streaming"])
REPLIES = sorted(GOOD.keys() - set(STREAMS))
ERRORS = sorted(id for id, r in EVERY.items() if r["response"]["status"] != 200)


def same(value: Any) -> Any:
    """Two spellings of one thing made equal: a string and its one text part, null and absence."""
    if isinstance(value, list):
        return [same(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {k: same(v) for k, v in value.items() if v is not None}
    for key in ("content", "output"):
        match result.get(key):
            case [{"type": "input_text" | "output_text", "text": str(text), **rest}] if not rest:
                result[key] = text
    if result.keys() == {"type", "role", "content"}:
        del result["type"]
    if "input" in result and isinstance(result["input"], str):
        result["input"] = [{"role": "user", "content": result["input"]}]
    for key, default in (("stream", False), ("tools", []), ("include", []), ("reasoning", {}), ("text", {})):
        if key in result and result[key] == default:
            del result[key]
    return result


def same_response(value: Any) -> Any:
    """The API seals the reasoning of one stream anew at its end; some hosts count less than the schema says."""
    response = same({**value, "usage": value.get("usage") or {}})
    for item in response["output"]:
        item.pop("encrypted_content", None)
    for name, count in (("input_tokens_details", "cache_write_tokens"), ("output_tokens_details", "reasoning_tokens")):
        response["usage"].setdefault(name, {}).setdefault(count, 0)
    return response


def call_of(recording: dict[str, Any]) -> Call:
    return PLUGIN.read_call(body(recording["request"]), "chat", (), "/v1/responses")


def events_of(wire: bytes, cuts: Sequence[int] = ()) -> list[ReplyEvent]:
    reader = PLUGIN.reader("text/event-stream")
    edges = [0, *sorted(cuts), len(wire)]
    frames = [f for a, b in pairwise(edges) for f in reader.frames(wire[a:b])]
    events = [event for frame in frames for event in reader.read(frame)]
    return events + reader.close()[1]


def final_of(recording: dict[str, Any]) -> dict[str, Any]:
    lines = body(recording["response"]).decode().split("\n")  # U+2028 ends no line of a stream
    told = [json.loads(line[5:]) for line in lines if line.startswith("data:") and "[DONE]" not in line]
    return next(e["response"] for e in told if e["type"] in ("response.completed", "response.incomplete"))


@each_cell("id", REQUESTS)
def test_splicing_changes_the_model_alone(id: str) -> None:
    call = call_of(EVERY[id])

    written = PLUGIN.splice(call, "another")

    assert {**json.loads(call.raw), "model": "another"} == json.loads(written.body)
    assert len(call.raw) - len(written.body) == len(json.dumps(call.model)) - len(json.dumps("another"))


@each_cell("id", sorted(NO_MODEL))
def test_a_call_without_a_model_is_refused_with_its_reason(id: str) -> None:
    with pytest.raises(BadRequest, match="model is missing"):
        call_of(EVERY[id])


@each_cell("id", REPLIES)
def test_a_reply_read_and_written_in_this_dialect_says_the_same(id: str) -> None:
    told = body(GOOD[id]["response"])
    reply = PLUGIN.read_reply(told)

    written = PLUGIN.write_reply(reply)

    assert same_response(json.loads(told)).items() <= same_response(json.loads(written)).items()
    assert written == PLUGIN.write_reply(fold(NAME, unfold(reply)))
    if id not in LOOSE:
        Response.model_validate_json(written)


@each_cell("id", STREAMS)
def test_a_stream_folds_into_the_response_that_it_ends_with(id: str) -> None:
    events = events_of(body(GOOD[id]["response"]))
    assert isinstance(events[-1], Ended)
    assert not any(isinstance(event, Garbled | Failed) for event in events)

    folded = json.loads(PLUGIN.write_reply(fold(NAME, events)))

    expected = final_of(GOOD[id])
    whole = json.loads(PLUGIN.write_reply(PLUGIN.read_reply(json.dumps(expected).encode())))
    Response.model_validate(folded)
    for response in (folded, whole):  # OpenRouter gives the items of its last event new ids
        for item in response["output"] if GOOD[id]["provider"] == "openrouter" else ():
            item.pop("id")
    assert same_response(whole) == same_response(folded)


@each_cell("id", STREAMS)
def test_a_stream_written_anew_keeps_to_the_grammar_and_ends_alike(id: str) -> None:
    events = events_of(body(GOOD[id]["response"]))
    writer = PLUGIN.writer(call_of(GOOD[id]))

    final = check(b"".join(writer.write(event) for event in events))

    expected = json.loads(PLUGIN.write_reply(fold(NAME, events)))
    for response in (expected, final) if id in OVERLAPPING else ():
        response["output"].sort(key=lambda item: item["id"])
    assert same_response(expected) == same_response(final)


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_portions_do_not_matter(data: st.DataObject) -> None:
    wire = body(GOOD[data.draw(st.sampled_from(STREAMS))]["response"])
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))

    assert events_of(wire) == events_of(wire, cuts)


@each_cell("id", STREAMS)
def test_a_stream_without_its_last_event_is_no_whole_answer(id: str) -> None:
    wire = body(GOOD[id]["response"])
    torn = wire[: wire.rindex(b"response.completed" if b"response.completed" in wire else b"response.incomplete")]
    torn = torn[: torn.rindex(b"\n\n") + 2]

    events = events_of(torn)

    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Ended) for event in events)


@each_cell("id", sorted(GOOD))
def test_buckets_of_usage_add_up_to_what_was_told(id: str) -> None:
    wire = body(GOOD[id]["response"])
    reply = fold(NAME, events_of(wire)) if id in STREAMS else PLUGIN.read_reply(wire)
    told = (final_of(GOOD[id]) if id in STREAMS else json.loads(wire)).get("usage")
    if told is None:
        assert reply.usage is None
        return

    assert reply.usage is not None
    assert told["input_tokens"] == reply.usage.prompt
    assert told["output_tokens"] == reply.usage.completion
    assert told["total_tokens"] == reply.usage.total
    assert told["input_tokens_details"]["cached_tokens"] == reply.usage.cache_read
    assert told["output_tokens_details"]["reasoning_tokens"] == reply.usage.reasoning


@each_cell("id", ERRORS)
def test_an_error_keeps_its_words(id: str) -> None:
    answer = EVERY[id]["response"]

    fault = PLUGIN.read_error(answer["status"], (), body(answer))
    status, _, written = PLUGIN.write_error(fault)

    assert answer["status"] == status
    told, kept = json.loads(body(answer))["error"], json.loads(written)["error"]
    assert (told["code"], told["param"], told["type"]) == (kept["code"], kept["param"], kept["type"])
    assert kept["message"]


@each_cell("id", sorted(id for id in OTHER_OPERATIONS if EVERY[id]["endpoint"].endswith("input_tokens")))
def test_what_is_no_response_is_an_error_of_the_provider(id: str) -> None:
    with pytest.raises(UpstreamError, match="not an OpenAI response"):
        PLUGIN.read_reply(body(EVERY[id]["response"]))


def claude_replies() -> dict[str, Reply]:
    replies = {}
    for recording in recordings("messages", status=200):
        wire = body(recording["response"])
        events = crossings.events_of(CLAUDE, wire) if recording["streaming"] else ()
        replies[recording["id"]] = fold(CLAUDE.name, events) if events else CLAUDE.read_reply(wire)
    return {id: r for id, r in replies.items() if any(isinstance(p, THOUGHTS) for p in r.choices[0].parts)}


def thoughts(parts: Iterable[Part]) -> list[tuple[Any, ...]]:
    return [
        (type(part), getattr(part, "text", None), getattr(part, "signature", None), getattr(part, "data", None))
        for part in parts
        if isinstance(part, THOUGHTS)
    ]


def test_thinking_of_claude_comes_back_to_claude_through_a_caller_of_responses() -> None:
    for id, reply in claude_replies().items():
        output = json.loads(PLUGIN.write_reply(reply))["output"]
        call = PLUGIN.read_call(json.dumps({"model": "m", "input": output}).encode(), "chat", (), "/v1/responses")
        turns = PLUGIN.read_chat(call).messages

        assert thoughts(reply.choices[0].parts) == thoughts(p for turn in turns for p in turn.parts), id
        # A host of this format would take the seal of another for a forged one.
        spliced = PLUGIN.splice(call, "gpt-5")
        assert b"edge-carried" not in spliced.body
        sealed = [i for i, item in enumerate(output) if "encrypted_content" in item]
        assert tuple(f"input[{i}]" for i in sealed) == spliced.dropped
