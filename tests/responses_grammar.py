"""What OpenAI's SDKs expect of a stream of responses: the order of its events, held event by event."""

from __future__ import annotations

import json
import typing
from typing import Any

from openai._models import construct_type
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, response_stream_event

from edge_extproc.codecs.sse import SseDecoder

EVENTS: dict[str, Any] = {
    typing.get_args(event.model_fields["type"].annotation)[0]: event
    for event in typing.get_args(typing.get_args(response_stream_event.ResponseStreamEvent)[0])
}
ENDS = {"response.completed", "response.incomplete", "response.failed"}
DELTAS = {
    "response.output_text": ("text", "content_index"),
    "response.refusal": ("refusal", "content_index"),
    "response.function_call_arguments": ("arguments", None),
    "response.custom_tool_call_input": ("input", None),
    "response.reasoning_summary_text": ("text", "summary_index"),
    "response.reasoning_text": ("text", "content_index"),
}


def events_of(wire: bytes) -> list[dict[str, Any]]:
    """The events of a stream; every one is named as its type says."""
    decoder = SseDecoder()
    events = []
    for frame in [*decoder.feed(wire), *decoder.close()]:
        if frame.data:
            event = json.loads(frame.data)
            assert event["type"] == frame.event
            events.append(event)
    return events


def check(wire: bytes, *, strict: bool = True) -> dict[str, Any]:
    """Holds a stream that came to its end to the grammar, and gives the response that it ended with. `strict` holds
    each event to OpenAI's own types too."""
    events = events_of(wire)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"] for e in events[:2]] == ["response.created", "response.in_progress"]
    assert [e["type"] in ENDS for e in events] == [False] * (len(events) - 1) + [True]
    assert len({e["response"]["id"] for e in events if "response" in e}) == 1
    done: dict[int, dict[str, Any]] = {}
    begun: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[str, int, int | None], str] = {}
    parts: set[tuple[int, str, int]] = set()
    for event in events:
        if strict:
            EVENTS[event["type"]].model_validate(event)
        index = event.get("output_index")
        if event["type"] == "response.output_item.added":
            assert index == len(begun)
            begun[index] = event["item"]
        elif event["type"] == "response.output_item.done":
            assert index not in done
            assert event["item"]["id"] == begun[index]["id"]
            assert event["item"]["type"] == begun[index]["type"]
            assert not any(part[0] == index for part in parts), "an item was done while a part of it was open"
            done[index] = event["item"]
        elif index is not None:
            assert index in begun
            assert index not in done
            assert event["item_id"] == begun[index]["id"]
            _check_part(event, index, texts, parts)
    final = events[-1]["response"]
    assert [done[i] for i in sorted(done)] == final["output"]
    assert begun.keys() == done.keys()
    assert f"response.{final['status']}" == events[-1]["type"] or final["status"] == "cancelled"
    if strict:
        Response.model_validate(final)
    accumulate(events)
    return dict(final)


def _check_part(
    event: dict[str, Any], index: int, texts: dict[tuple[str, int, int | None], str], parts: set[tuple[int, str, int]]
) -> None:
    kind, _, verb = event["type"].rpartition(".")
    if kind in ("response.content_part", "response.reasoning_summary_part"):
        part = (index, kind, event.get("content_index", event.get("summary_index")))
        assert (part in parts) == (verb == "done")
        (parts.add if verb == "added" else parts.remove)(part)
    elif kind in DELTAS:
        whole, place = DELTAS[kind]
        text = (kind, index, event.get(place) if place is not None else None)
        if verb == "delta":
            texts[text] = texts.get(text, "") + event["delta"]
        else:
            assert texts.get(text, "") == event[whole]


def accumulate(events: list[dict[str, Any]]) -> Any:
    """What OpenAI's own SDK makes of the stream."""
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(construct_type(type_=response_stream_event.ResponseStreamEvent, value=event))
    return state._completed_response
