"""Damaged input of every format: a value of another kind anywhere, events lost, doubled or out of order. Whoever sent
it is told so, and nothing else is raised: not by a reader, and not by the writer of any other format."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from typing import Any

import pytest
from crossings import DIALECTS, events_of, read_call
from golden_files import GOLDEN, MODELS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thoroughness import examples
from translating import LEAST, sse

from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.model.content import Json, RedactedThinking, Text, Thinking, ToolCall
from edge_extproc.model.reply import Choice, Ended, Failed, Finish, Fold, Garbled, PartDelta, Reply, ReplyEvent, unfold
from edge_extproc.model.usage import Usage

EVERY = tuple(DIALECTS)
PARTS = (Thinking("Hm", "c2ln"), RedactedThinking("c2VhbA=="), Text("a"), ToolCall("c1", "f", '{"a":1}'))
REPLY = Reply("another", "id-1", "m", (Choice(PARTS, Finish("tool_calls")),), Usage(input=3, output=2), 1)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.sampled_from(["text", "function", "message", "tool_use", "data:", "\ud800", "null", "{}"]),
    st.just([]),
    st.just({}),
    st.just([None]),
    st.just([[]]),
    st.just({"type": "text"}),
    st.just({"type": 7}),
)
FUZZ = settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value can be damaged: every member and every item."""
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in [(*path, key), *places(inner, (*path, key))]]
    if isinstance(value, list):
        return [each for at, inner in enumerate(value) for each in [(*path, at), *places(inner, (*path, at))]]
    return []


def damaged(data: st.DataObject, value: Any, most: int = 3) -> Any:
    """The value with up to `most` members or items lost, or another kind of value in their place."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, most))):
        every = places(value)
        if not every:
            break
        *parents, last = data.draw(st.sampled_from(every))
        inner = value
        for step in parents:
            inner = inner[step]
        if data.draw(st.booleans()):
            inner[last] = copy.deepcopy(data.draw(ODD))
        else:
            del inner[last]
    return value


def raw(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("source", EVERY)
@FUZZ
@given(data=st.data())
def test_a_damaged_request_is_the_callers_mistake(source: str, data: st.DataObject) -> None:
    cases = sorted((GOLDEN / source).glob("*.json"))
    case = data.draw(st.sampled_from([path for path in cases if "." not in path.stem]))
    body = raw(damaged(data, json.loads(case.read_bytes())))
    try:
        chat = DIALECTS[source].read_chat(read_call(source, body, "m", stream=False))
    except BadRequest:
        return
    for target in set(EVERY) - {source}:
        with suppress(BadRequest):
            json.loads(DIALECTS[target].write_chat(chat, MODELS[target]).body)


@pytest.mark.parametrize("source", EVERY)
@FUZZ
@given(data=st.data())
def test_a_damaged_reply_is_the_providers_mistake(source: str, data: st.DataObject) -> None:
    whole = json.loads(DIALECTS[source].write_reply(REPLY))
    try:
        reply = DIALECTS[source].read_reply(raw(damaged(data, whole)))
    except UpstreamError:
        return
    for target in EVERY:
        json.loads(DIALECTS[target].write_reply(reply))


def frames(source: str) -> list[Any]:
    call = read_call(source, raw({**LEAST[source], "stream": True}), "m", stream=True)
    writer = DIALECTS[source].writer(call)
    wire = b"".join(writer.write(event) for event in unfold(REPLY))
    blocks = [block.partition(b"data: ")[2] for block in wire.split(b"\n\n") if b"data: " in block]
    return ["[DONE]" if block == b"[DONE]" else json.loads(block) for block in blocks]


FRAMES = {source: frames(source) for source in EVERY}


@pytest.mark.parametrize("source", EVERY)
@FUZZ
@given(data=st.data())
def test_a_damaged_stream_comes_to_an_end_that_every_caller_understands(source: str, data: st.DataObject) -> None:
    values = list(FRAMES[source])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(values) - 1))
        match data.draw(st.sampled_from(["damage", "lose", "double", "move"])):
            case "damage":
                values[at] = damaged(data, values[at], 2)
            case "lose" if len(values) > 1:
                del values[at]
            case "double":
                values.insert(at, values[at])
            case _:
                values.insert(data.draw(st.integers(0, len(values) - 1)), values.pop(at))
    wire = b"".join(sse(value) for value in values)
    try:
        events = events_of(DIALECTS[source], wire)
    except UpstreamError:
        return

    assert isinstance(events[-1], Ended | Failed)
    assert not any(isinstance(event, Ended | Failed) for event in events[:-1])
    fold_of(source, events)
    for target in EVERY:
        tell(target, events)


def fold_of(source: str, events: list[ReplyEvent]) -> None:
    folding = Fold(source)
    for event in events:
        folding.add(event)
    for target in EVERY:
        DIALECTS[target].write_reply(folding.reply())


def tell(target: str, events: list[ReplyEvent]) -> None:
    call = read_call(target, raw({**LEAST[target], "stream": True}), "m", stream=True)
    writer = DIALECTS[target].writer(call)
    wire = b"".join(writer.write(event) for event in events)

    again = events_of(DIALECTS[target], wire)
    assert isinstance(again[-1], Failed if isinstance(events[-1], Failed) else Ended | Failed)


WORDS = ["error", "message", "code", "type", "details", "detail", "status", "innererror", "param"]
ENVELOPES = st.recursive(
    ODD,
    lambda inner: st.dictionaries(st.sampled_from(WORDS), inner) | st.lists(inner, max_size=2),
    max_leaves=8,
)
STATUSES = st.sampled_from([400, 401, 413, 429, 500, 503, 599])


@pytest.mark.parametrize("source", EVERY)
@FUZZ
@given(body=st.binary(max_size=60) | st.builds(raw, ENVELOPES), status=STATUSES)
def test_whatever_comes_with_an_error_status_becomes_an_error(source: str, body: bytes, status: int) -> None:
    fault = DIALECTS[source].read_error(status, (("retry-after", "x"),), body)

    assert fault.message
    for target in EVERY:
        told, _, envelope = DIALECTS[target].write_error(fault)
        assert told >= 400
        assert json.loads(envelope)["error"]["message"]


# --- legal events in any order, for any item

ITEMS = ("message", "function_call", "custom_tool_call", "reasoning", "web_search_call", "image_generation_call", None)
ITEM_EVENTS = (
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.output_text.annotation.added",
    "response.refusal.delta",
    "response.refusal.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.custom_tool_call_input.delta",
    "response.custom_tool_call_input.done",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.done",
)
TEXTS = {"delta": "d", "text": "dt", "refusal": "r", "arguments": '{"a":1}', "input": "in", "annotation": {"url": "u"}}


def item_event(kind: str, output_index: int, index: int, item: str | None) -> Json:
    value = {"type": item, "id": f"i{output_index}", "call_id": "c", "name": "f", "arguments": "{}", "input": "x"}
    content = {"content": [{"type": "output_text", "text": "ab"}], "summary": [{"type": "summary_text", "text": "t"}]}
    part = {"type": "output_text", "text": "dt", "annotations": [{"url": "u"}]}
    where = {"output_index": output_index, "content_index": index, "summary_index": index}
    return {"type": kind, **where, **TEXTS, "item": {**value, **content, "result": "aGk="}, "part": part}


EVENTS_OF_ITEMS = st.lists(
    st.builds(item_event, st.sampled_from(ITEM_EVENTS), st.integers(0, 2), st.integers(0, 2), st.sampled_from(ITEMS)),
    max_size=8,
)


def end_of_items(events: list[Json], ending: str = "response.completed") -> list[ReplyEvent]:
    created = {"type": "response.created", "response": {"id": "r", "model": "m"}}
    values = [created, *events, {"type": ending, "response": {"id": "r", "output": []}}]
    return events_of(DIALECTS["openai_responses"], b"".join(sse(value) for value in values))


@FUZZ
@given(values=EVENTS_OF_ITEMS)
def test_events_of_other_items_do_not_break_a_stream_of_responses(values: list[Json]) -> None:
    events = end_of_items(values)

    assert isinstance(events[-1], Ended)
    fold_of("openai_responses", events)
    for target in EVERY:
        tell(target, events)


@pytest.mark.parametrize("item", ["function_call", "custom_tool_call", "reasoning", "web_search_call"])
@pytest.mark.parametrize("kind", ["response.output_text.delta", "response.refusal.done", "response.content_part.done"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_text_in_an_item_of_another_type_is_not_read(item: str, kind: str, index: int) -> None:
    added = item_event("response.output_item.added", 0, index, item)
    events = end_of_items([added, item_event(kind, 0, index, item)])

    assert not any(isinstance(event, PartDelta) and event.text in TEXTS.values() for event in events)
    assert any(isinstance(event, Garbled) for event in events)
    for target in EVERY:
        tell(target, events)


def test_half_a_character_in_the_id_of_a_reply_does_not_break_the_callers_stream() -> None:
    candidate = {"content": {"parts": [{"text": "Hello"}], "role": "model"}, "finishReason": "STOP"}
    events = events_of(DIALECTS["gemini_generate"], sse({"responseId": "\ud800", "candidates": [candidate]}))

    for target in EVERY:
        tell(target, events)
