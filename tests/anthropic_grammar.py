"""The legal order of an Anthropic stream, as a check on what a writer says."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from edge_extproc.codecs.sse import SseDecoder

STREAM_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def objects(data: bytes) -> list[dict[str, Any]]:
    """The events of a stream. Each says its type twice, and alike."""
    decoder = SseDecoder()
    values = []
    for frame in [*decoder.feed(data), *decoder.close()]:
        values.append(json.loads(frame.data))
        assert values[-1]["type"] == frame.event
    return values


def hold_to_the_grammar(values: list[dict[str, Any]]) -> None:
    events = [value for value in values if value["type"] not in ("ping", "error")]
    for value in events:
        STREAM_EVENT.validate_python(value)
    assert "error" not in [value["type"] for value in values[:-1]]
    if not events:
        return
    assert "message_start" == events[0]["type"]
    kinds = [value["type"] for value in events]
    assert 1 == kinds.count("message_start")
    open_: int | None = None
    count = 0
    allowed = {"text": {"text_delta", "citations_delta"}, "thinking": {"thinking_delta", "signature_delta"}}
    kind = ""
    for value in events:
        match value["type"]:
            case "content_block_start":
                assert open_ is None
                assert count == value["index"]
                open_, kind = count, value["content_block"]["type"]
                count += 1
            case "content_block_delta":
                assert open_ == value["index"]
                assert value["delta"]["type"] in allowed.get(kind, {"input_json_delta"})
            case "content_block_stop":
                assert open_ == value["index"]
                open_ = None
            case "message_delta" | "message_stop":
                assert open_ is None
    if values[-1]["type"] != "error":
        assert ["message_delta", "message_stop"] == kinds[-2:]
