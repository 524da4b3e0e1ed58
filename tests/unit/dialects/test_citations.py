"""Sources on the web that a reply cites reach callers whose format shows them, in replies and in streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import CHAT, DIALECTS, GEMINI, MESSAGES, RESPONSES

from edge_extproc.codecs import sse
from edge_extproc.dialects.citations import Citation, citations_in
from edge_extproc.model.call import Call
from edge_extproc.model.reply import Reply, fold

A, B = ("https://a.example/", "A"), ("https://b.example/", "B")
BODIES: dict[str, Any] = {
    CHAT: {"messages": [{"role": "user", "content": "?"}]},
    RESPONSES: {"input": "?"},
    GEMINI: {"contents": [{"role": "user", "parts": [{"text": "?"}]}]},
}


def call_of(dialect: str, *, stream: bool) -> Call:
    return Call(dialect, "chat", "m", stream, json.dumps({"model": "m", **BODIES[dialect]}).encode())


def claude(url: str, title: str) -> dict[str, Any]:
    return {"type": "web_search_result_location", "url": url, "title": title, "cited_text": "…", "encrypted_index": "x"}


def openai(url: str, title: str) -> dict[str, Any]:
    return {"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": 4}


BLOCKS = [
    {"type": "text", "text": "First. "},
    {"type": "text", "text": "From A.", "citations": [claude(*A), claude(*A)]},
    {"type": "text", "text": " From B.", "citations": [claude(*B), {"type": "char_location"}]},
]
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
PART = {"type": "output_text", "text": "From A.", "annotations": [openai(*A)]}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [PART]}
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [ITEM],
}
GROUNDED = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "From A."}]},
            "finishReason": "STOP",
            "groundingMetadata": {"groundingChunks": [{"web": {"uri": A[0], "title": A[1]}}, {"maps": {}}, 7]},
        }
    ],
    "modelVersion": "m",
    "responseId": "r",
}


def stream_of_claude() -> bytes:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**MESSAGE, "content": []}}]
    for i, block in enumerate(BLOCKS):
        events.append({"type": "content_block_start", "index": i, "content_block": {"type": "text", "text": ""}})
        for cited in block.get("citations", ()):
            delta = {"type": "citations_delta", "citation": cited}
            events.append({"type": "content_block_delta", "index": i, "delta": delta})
        delta = {"type": "text_delta", "text": block["text"]}
        events.append({"type": "content_block_delta", "index": i, "delta": delta})
        events.append({"type": "content_block_stop", "index": i})
    events.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}})
    events.append({"type": "message_stop"})
    return b"".join(sse.encode(json.dumps(event).encode(), event["type"]) for event in events)


CITED = {"type": "url_citation", "url_citation": {"url": A[0], "title": A[1], "start_index": 0, "end_index": 7}}
CITING = {"role": "assistant", "content": "From A.", "annotations": [CITED]}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def stream_of_chat() -> bytes:
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "From A."}, None),
        ({"annotations": [CITED]}, None),
        ({}, "stop"),
    ]
    chunks = [{**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in deltas]
    return b"".join(sse.encode(json.dumps(chunk).encode()) for chunk in chunks) + sse.encode(b"[DONE]")


SOURCES: dict[str, tuple[bytes, bytes]] = {
    CHAT: (
        json.dumps(
            {
                **CHUNK,
                "object": "chat.completion",
                "choices": [{"index": 0, "message": CITING, "finish_reason": "stop"}],
            }
        ).encode(),
        stream_of_chat(),
    ),
    MESSAGES: (json.dumps({**MESSAGE, "content": BLOCKS}).encode(), stream_of_claude()),
    GEMINI: (json.dumps(GROUNDED).encode(), sse.encode(json.dumps(GROUNDED).encode())),
    RESPONSES: (
        json.dumps(RESPONSE).encode(),
        b"".join(
            sse.encode(json.dumps(event).encode(), event["type"])
            for event in (
                {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}},
                {"type": "response.output_item.added", "output_index": 0, "item": {**ITEM, "content": []}},
                {"type": "response.content_part.added", **AT, "part": {**PART, "text": "", "annotations": []}},
                {"type": "response.output_text.delta", **AT, "delta": "From A."},
                {
                    "type": "response.output_text.annotation.added",
                    **AT,
                    "annotation_index": 0,
                    "annotation": openai(*A),
                },
                {"type": "response.output_text.done", **AT, "text": "From A."},
                {"type": "response.content_part.done", **AT, "part": PART},
                {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
                {"type": "response.completed", "response": RESPONSE},
            )
        ),
    ),
}


def written(source: str, target: str, *, stream: bool) -> Any:
    """What a caller gets: the reply, or the events of the stream."""
    whole, streamed = SOURCES[source]
    call = call_of(target, stream=stream)
    if not stream:
        reply = DIALECTS[source].read_reply(whole)
        return json.loads(
            DIALECTS[target].write_reply(
                Reply(reply.dialect, reply.id, reply.model, reply.choices, reply.usage, 1, reply.extras, call)
            )
        )
    reader, writer = DIALECTS[source].reader("text/event-stream"), DIALECTS[target].writer(call)
    events = [event for frame in reader.frames(streamed) for event in reader.read(frame)] + reader.close()[1]
    out = b"".join(writer.write(event) for event in events)
    return [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: {")]


def cited_by(target: str, found: Any, *, stream: bool) -> list[tuple[str, str, str]]:
    """The URL and title of each source, and the text that cites it."""
    match target:
        case "openai_chat":
            pieces = [c[key] for v in (found if stream else [found]) for c in v["choices"] for key in c if key in KEYS]
            text = "".join(piece.get("content") or "" for piece in pieces)
            cited = [each["url_citation"] for piece in pieces for each in piece.get("annotations", ())]
            return [(c["url"], c["title"], text[c["start_index"] : c["end_index"]]) for c in cited]
        case "openai_responses":
            response = found[-1]["response"] if stream else found
            parts = [part for item in response["output"] for part in item["content"]]
            if stream:
                added = [e["annotation"] for e in found if e["type"] == "response.output_text.annotation.added"]
                assert [a for part in parts for a in part["annotations"]] == added
            return [
                (a["url"], a["title"], part["text"][a["start_index"] : a["end_index"]])
                for part in parts
                for a in part["annotations"]
            ]
        case _:
            candidates = [c for v in (found if stream else [found]) for c in v["candidates"]]
            chunks = [x for c in candidates for x in c.get("groundingMetadata", {}).get("groundingChunks", ())]
            return [(chunk["web"]["uri"], chunk["web"]["title"], "") for chunk in chunks]


KEYS = ("message", "delta")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("target", [CHAT, RESPONSES, GEMINI])
@pytest.mark.parametrize("source", [CHAT, MESSAGES, GEMINI, RESPONSES])
def test_a_source_reaches_the_caller(source: str, target: str, stream: bool) -> None:
    if source == target:
        return
    expected = [(*A, "From A."), (*B, " From B.")] if source == MESSAGES else [(*A, "From A.")]
    if target == GEMINI:
        expected = [(url, title, "") for url, title, _ in expected]

    assert expected == cited_by(target, written(source, target, stream=stream), stream=stream)


def test_annotations_of_a_chat_stay_as_they_are_in_a_stream() -> None:
    """A reply of this format that becomes a stream, as one from the cache does."""
    annotation = {
        "type": "url_citation",
        "url_citation": {"url": A[0], "title": A[1], "start_index": 5, "end_index": 7},
    }
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x", "annotations": [annotation]}}]}
    end = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    data = b"".join(sse.encode(json.dumps(each).encode()) for each in (chunk, end)) + b"data: [DONE]\n\n"
    reader, writer = DIALECTS[CHAT].reader("text/event-stream"), DIALECTS[CHAT].writer(call_of(CHAT, stream=True))
    events = [event for frame in reader.frames(data) for event in reader.read(frame)] + reader.close()[1]
    out = b"".join(writer.write(event) for event in events)

    assert fold(CHAT, events).choices
    assert json.dumps(annotation).encode().replace(b" ", b"") in out.replace(b" ", b"")


@pytest.mark.parametrize(
    "extras", [{}, {"citations": 1}, {"annotations": [1, {}]}, {"groundingMetadata": {"groundingChunks": {}}}]
)
def test_what_names_no_source_is_none(extras: Any) -> None:
    assert () == citations_in(extras)


def test_a_source_without_a_title_has_its_address() -> None:
    assert (Citation("u", ""),) == citations_in({"annotations": [{"url_citation": {"url": "u"}}]})


def test_annotations_of_a_streamed_chat_are_those_of_its_message() -> None:
    annotation = {
        "type": "url_citation",
        "url_citation": {"url": A[0], "title": A[1], "start_index": 0, "end_index": 1},
    }
    chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x", "annotations": [annotation]}}]}
    end = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    data = b"".join(sse.encode(json.dumps(each).encode()) for each in (chunk, end)) + b"data: [DONE]\n\n"
    reader = DIALECTS[CHAT].reader("text/event-stream")
    events = [event for frame in reader.frames(data) for event in reader.read(frame)] + reader.close()[1]

    message = json.loads(DIALECTS[CHAT].write_reply(fold(CHAT, events)))["choices"][0]["message"]

    assert ("x", [annotation]) == (message["content"], message["annotations"])
