"""A stored response is streamed again with the events and numbers of its first stream, whichever host made it."""

from __future__ import annotations

import json
from typing import Any

import crossings
import recordings

from edge_extproc.conversations.base import Write
from edge_extproc.dialects.openai_responses.stored import ResponseListener, read_record, store_reply
from edge_extproc.dialects.openai_responses.stored_stream import replayed
from edge_extproc.dialects.openai_responses.stream_out import ReplyWriter
from edge_extproc.model.call import Call, StoredCall
from edge_extproc.model.reply import ReplyEvent

OWN = frozenset(row["id"] for row in recordings.index() if row["set"] == recordings.OWN)
BODY = b'{"model":"m","input":"x","stream":true}'


def events_in(stream: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: {")]


def streams_of(events: list[ReplyEvent]) -> tuple[list[Any], list[Any]] | None:
    """What the caller got first, and what it gets again. None: the reply is not stored."""
    stored = StoredCall("resp_" + "0" * 28, True, b"[]")
    call = Call("openai_responses", "chat", "m", True, BODY, stored=stored)
    writer, listener, complete, sent = ReplyWriter(call), ResponseListener(call), None, b""
    for event in events:
        data = writer.write(event)
        sent += data
        complete = (listener.feed(data) if data else None) or complete
    steps = list(store_reply(call, complete)) if complete is not None else []
    if not steps:
        return None
    assert isinstance(steps[0], Write)
    return events_in(sent), events_in(replayed(read_record(steps[0].block), -1))


def _comparable(event: dict[str, Any]) -> dict[str, Any]:
    """The first event of an item that comes whole may have all of it."""
    return {**event, "item": event["item"]["id"]} if event["type"] == "response.output_item.added" else event


def test_streams_of_all_formats_are_the_same_again() -> None:
    count = 0
    for id, recording in crossings.recorded().items():
        dialect = crossings.dialect_of(recording)
        headers = {name.lower(): value for name, value in dict(recording["response"]["headers"]).items()}
        if id not in OWN or dialect.name == "openai_responses" or "stream" not in headers.get("content-type", ""):
            continue
        found = streams_of(crossings.events_of(dialect, recordings.body(recording["response"])))
        if found is not None:
            count += 1
            first, again = found

            assert list(map(_comparable, first)) == list(map(_comparable, again)), id

    assert count > 50
