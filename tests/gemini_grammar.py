"""What Google's SDK expects of generateContent: requests, replies and streams, held to its own types."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from google.genai import models, types
from pydantic import TypeAdapter

from edge_extproc.codecs.sse import SseDecoder

REQUEST: dict[str, TypeAdapter[Any]] = {
    "contents": TypeAdapter(list[types.Content]),
    "systemInstruction": TypeAdapter(types.Content),
    "tools": TypeAdapter(list[types.Tool]),
    "toolConfig": TypeAdapter(types.ToolConfig),
    "generationConfig": TypeAdapter(types.GenerationConfig),
    "serviceTier": TypeAdapter(str),
}


def check_request(request: dict[str, Any]) -> None:
    """Its types refuse fields that they do not know. Turns alternate and hold something, a call comes before its
    result."""
    for name, value in request.items():
        REQUEST[name].validate_python(value)
    roles = [content["role"] for content in request["contents"]]
    assert all(before != after for before, after in pairwise(roles)), roles
    called: set[str] = set()
    for content in request["contents"]:
        assert content["parts"]
        for part in content["parts"]:
            if "functionCall" in part:
                called.add(part["functionCall"]["name"])
            if "functionResponse" in part:
                assert part["functionResponse"]["name"] in called


def check_reply(reply: Any) -> None:
    """As the SDK reads what comes off the wire: unknown fields are let go, everything else is checked."""
    types.GenerateContentResponse._from_response(response=json.loads(json.dumps(reply)), kwargs={})
    parsed = models._GenerateContentResponse_from_mldev(reply)
    types.GenerateContentResponse._from_response(response=parsed, kwargs={})


def chunks_of(wire: bytes) -> list[Any]:
    """The chunks of a stream, which is SSE or a JSON array."""
    if wire.lstrip().startswith(b"["):
        return list(json.loads(wire))
    decoder = SseDecoder()
    return [json.loads(frame.data) for frame in [*decoder.feed(wire), *decoder.close()] if frame.data]


def hold_to_the_grammar(wire: bytes) -> list[dict[str, Any]]:
    """Every chunk is a response of the same id and model; a candidate finishes once, last of all that it says.
    Gives the chunks."""
    chunks = chunks_of(wire)
    assert chunks
    finished: set[int] = set()
    for chunk in chunks:
        check_reply(chunk)
        for candidate in chunk.get("candidates", ()):
            number = candidate.get("index", 0)
            assert number not in finished, "a candidate goes on after its finish"
            if candidate.get("finishReason"):
                finished.add(number)
    assert 1 == len({(chunk.get("responseId"), chunk.get("modelVersion")) for chunk in chunks})
    assert finished or "promptFeedback" in chunks[0] or any("promptFeedback" in chunk for chunk in chunks)
    return chunks
