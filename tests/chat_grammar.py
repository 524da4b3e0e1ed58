"""What OpenAI's SDKs expect of a stream of chat completions: the order of its chunks, held chunk by chunk."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletionChunk

from edge_extproc.codecs.sse import SseDecoder


def chunks_of(wire: bytes) -> list[Any]:
    """The JSON values of a stream; `[DONE]` stands for itself."""
    decoder = SseDecoder()
    frames = [frame.data for frame in [*decoder.feed(wire), *decoder.close()] if frame.data]
    return ["[DONE]" if frame == b"[DONE]" else json.loads(frame) for frame in frames]


def hold_to_the_grammar(wire: bytes) -> list[dict[str, Any]]:
    """Deltas, then the finish of each choice once, then usage at most once and with no choice, then [DONE] once; the
    role once a choice and first; tools counted from 0, named once and before their arguments. Gives the chunks."""
    received = chunks_of(wire)
    assert "[DONE]" == received[-1]
    assert 1 == received.count("[DONE]")
    chunks = received[:-1]
    for chunk in chunks:
        ChatCompletionChunk.model_validate(_typed(chunk))
    assert 1 == len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks})
    with_usage = [at for at, chunk in enumerate(chunks) if chunk.get("usage")]
    assert with_usage in ([], [len(chunks) - 1])
    assert all(chunks[at]["choices"] == [] for at in with_usage)
    finished: set[int] = set()
    begun: dict[int, int] = {}
    for chunk in chunks[: len(chunks) - len(with_usage)]:
        (choice,) = chunk["choices"]
        number, delta = choice["index"], choice["delta"]
        assert number not in finished, "a choice goes on after its finish"
        assert ("role" in delta) == (number not in begun), "the role is told once, first"
        calls = begun.setdefault(number, 0)
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                assert calls == call["index"], "tool calls are counted from 0"
                assert call[call["type"]]["name"]
                calls = begun[number] = calls + 1
            else:
                assert call["index"] < calls, "a call goes on that never began"
                assert call.keys() & {"function", "custom"}, "a piece of a call without its function"
        if choice["finish_reason"] is not None:
            finished.add(number)
    assert begun.keys() == finished
    return chunks


def _typed(chunk: dict[str, Any]) -> dict[str, Any]:
    """The chunk with calls of functions in place of calls of custom tools. OpenAI streams custom calls, and the SDK's
    type of a delta knows functions only."""
    delta_calls = [call for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    if not any("custom" in call for call in delta_calls):
        return chunk
    copied: dict[str, Any] = json.loads(json.dumps(chunk))
    for choice in copied["choices"]:
        for call in choice["delta"].get("tool_calls", ()):
            if (custom := call.pop("custom", None)) is not None:
                call["function"] = {"name": custom.get("name"), "arguments": custom["input"]}
                if "type" in call:
                    call["type"] = "function"
    return copied
