"""Bedrock: Converse, its streams of binary frames, its count of tokens, and models invoked in formats of their own."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .anthropic_messages import invoked_chunk
from .base import (
    FERRY_ARGUMENTS,
    FERRY_SCHEMA,
    LOAF,
    LOAF_SCHEMA,
    MP4,
    PDF,
    PIXEL,
    TIDE_ARGUMENTS,
    TIDE_RESULT,
    TIDE_SCHEMA,
    UNICODE,
    Exchange,
    Json,
    aws_event,
    compact,
    parsed,
    pieces,
    sealed,
    token,
    uuid,
)

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
HOST = "bedrock-runtime.us-east-1.amazonaws.com"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    request: Json
    content: Sequence[Json]
    stop: str = "end_turn"
    usage: Json = field(default_factory=dict)
    model: str = CLAUDE
    more: Json = field(default_factory=dict)


def text(said: str) -> Json:
    return {"text": said}


def user(*content: Json) -> Json:
    return {"role": "user", "content": list(content)}


def assistant(*content: Json) -> Json:
    return {"role": "assistant", "content": list(content)}


def tool_id(seed: str) -> str:
    return "tooluse_" + token("bedrock " + seed, 22)


def tool_use(name: str, arguments: str, seed: str) -> Json:
    return {"toolUse": {"toolUseId": tool_id(seed), "name": name, "input": parsed(arguments)}}


def result(seed: str, *content: Json, status: str = "success") -> Json:
    return {"toolResult": {"toolUseId": tool_id(seed), "content": list(content), "status": status}}


def tool(name: str, description: str, schema: Json, **more: Any) -> Json:
    return {"toolSpec": {"name": name, "description": description, "inputSchema": {"json": schema}, **more}}


def thought(said: str, seed: str) -> Json:
    return {"reasoningContent": {"reasoningText": {"text": said, "signature": sealed(seed)}}}


TIDES = tool("tide_table", "Times of high water at a port", TIDE_SCHEMA)
FERRIES = tool("find_ferry", "Ferries between two ports", FERRY_SCHEMA)
ASKS_TIDES = user(text("When is high water in Ostend on the first of March?"))
THOUGHT = "The user asks for a time. The tide table has it."
CACHE = {"cachePoint": {"type": "default"}}


def cases() -> list[Case]:
    think: Json = {
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "inferenceConfig": {"maxTokens": 2048},
    }
    both = [
        user(text("Tides and ferries?")),
        assistant(
            text("I look up both."),
            tool_use("tide_table", TIDE_ARGUMENTS, "one"),
            tool_use("find_ferry", FERRY_ARGUMENTS, "two"),
        ),
        user(result("one", text(TIDE_RESULT)), result("two", {"json": {"departures": ["08:30"]}})),
    ]
    paper = {"document": {"format": "pdf", "name": "Tides", "source": {"bytes": PDF}, "citations": {"enabled": True}}}
    words = {"document": {"format": "txt", "name": "Notes", "source": {"text": "High water is at 04:12."}}}
    cited = {
        "citationsContent": {
            "content": [{"text": "High water is at 04:12."}],
            "citations": [
                {
                    "title": "Notes",
                    "sourceContent": [{"text": "High water is at 04:12."}],
                    "location": {"documentChar": {"documentIndex": 0, "start": 0, "end": 23}},
                }
            ],
        }
    }
    loaf = {
        "type": "json_schema",
        "structure": {"jsonSchema": {"schema": compact(LOAF_SCHEMA).decode(), "name": "loaf"}},
    }
    guard = {"guardrailIdentifier": "abc123def456", "guardrailVersion": "1", "trace": "enabled"}
    return [
        Case("text", {"messages": [user(text("What is a lighthouse for?"))]}, [text("It marks the harbour at night.")]),
        Case(
            "system",
            {
                "system": [text("Answer in one sentence.")],
                "messages": [user(text("What is a quay?"))],
                "inferenceConfig": {"maxTokens": 64, "temperature": 0.2, "topP": 0.9},
            },
            [text("A quay is a wall where ships are loaded.")],
            model=NOVA,
        ),
        Case(
            "multi-turn",
            {
                "messages": [
                    user(text("What is a jib?")),
                    assistant(text("A triangular sail ahead of the mast.")),
                    user(text("And a spinnaker?"), text("Keep it short.")),
                ],
                "requestMetadata": {"team": "harbour"},
            },
            [text("A large sail for running before the wind.")],
        ),
        Case(
            "tools",
            {"messages": [ASKS_TIDES], "toolConfig": {"tools": [TIDES]}},
            [tool_use("tide_table", TIDE_ARGUMENTS, "tools")],
            "tool_use",
        ),
        Case(
            "tools-with-text",
            {"messages": [ASKS_TIDES], "toolConfig": {"tools": [TIDES, FERRIES], "toolChoice": {"auto": {}}}},
            [text("I look it up."), tool_use("tide_table", TIDE_ARGUMENTS, "with text")],
            "tool_use",
        ),
        Case(
            "parallel-tools",
            {"messages": both[:1], "toolConfig": {"tools": [TIDES, FERRIES]}},
            [
                tool_use("tide_table", TIDE_ARGUMENTS, "parallel 1"),
                tool_use("find_ferry", FERRY_ARGUMENTS, "parallel 2"),
            ],
            "tool_use",
        ),
        Case(
            "forced-tool",
            {
                "messages": [ASKS_TIDES],
                "toolConfig": {"tools": [TIDES], "toolChoice": {"tool": {"name": "tide_table"}}},
            },
            [tool_use("tide_table", TIDE_ARGUMENTS, "forced")],
            "tool_use",
        ),
        Case(
            "any-tool",
            {"messages": [ASKS_TIDES], "toolConfig": {"tools": [TIDES, CACHE], "toolChoice": {"any": {}}}},
            [tool_use("tide_table", TIDE_ARGUMENTS, "any")],
            "tool_use",
        ),
        Case(
            "tool-results",
            {"messages": both, "toolConfig": {"tools": [TIDES, FERRIES]}},
            [text("04:12, and a ferry at 08:30.")],
        ),
        Case(
            "failed-tool",
            {
                "messages": [
                    ASKS_TIDES,
                    assistant(tool_use("tide_table", TIDE_ARGUMENTS, "failed")),
                    user(result("failed", text("no such port"), status="error")),
                ],
                "toolConfig": {"tools": [TIDES]},
            },
            [text("I do not know this port.")],
        ),
        Case(
            "tool-without-arguments",
            {
                "messages": [user(text("Ports?"))],
                "toolConfig": {"tools": [tool("list_ports", "All", {"type": "object"})]},
            },
            [tool_use("list_ports", "{}", "empty")],
            "tool_use",
        ),
        Case(
            "vision",
            {"messages": [user(text("Which colour?"), {"image": {"format": "png", "source": {"bytes": PIXEL}}})]},
            [text("Red.")],
            model=NOVA,
        ),
        Case("document", {"messages": [user(paper, text("How many pages?"))]}, [text("One page.")]),
        Case("citations", {"messages": [user(words, text("When is high water?"))]}, [cited]),
        Case(
            "video",
            {"messages": [user({"video": {"format": "mp4", "source": {"bytes": MP4}}}, text("What happens?"))]},
            [text("A ferry leaves.")],
            model=NOVA,
        ),
        Case(
            "structured-output",
            {"messages": [user(text("A rye loaf."))], "outputConfig": {"textFormat": loaf}},
            [text(LOAF)],
        ),
        Case(
            "thinking",
            {"messages": [ASKS_TIDES], **think},
            [thought(THOUGHT, "thinking"), text("I would look into a tide table.")],
        ),
        Case(
            "thinking-and-tools",
            {"messages": [ASKS_TIDES], "toolConfig": {"tools": [TIDES]}, **think},
            [thought(THOUGHT, "and tools"), text("One moment."), tool_use("tide_table", TIDE_ARGUMENTS, "thinking")],
            "tool_use",
        ),
        Case(
            "thinking-replay",
            {
                "messages": [
                    ASKS_TIDES,
                    assistant(thought(THOUGHT, "kept"), tool_use("tide_table", TIDE_ARGUMENTS, "kept")),
                    user(result("kept", text(TIDE_RESULT))),
                ],
                "toolConfig": {"tools": [TIDES]},
                **think,
            },
            [text("At 04:12.")],
        ),
        Case(
            "redacted-thinking",
            {"messages": [ASKS_TIDES], **think},
            [{"reasoningContent": {"redactedContent": sealed("redacted")}}, text("At 04:12.")],
        ),
        Case(
            "stop-sequences",
            {"messages": [user(text("Count."))], "inferenceConfig": {"stopSequences": ["five"]}},
            [text("one, two, three, four, ")],
            "stop_sequence",
        ),
        Case(
            "length",
            {"messages": [user(text("All about ropes."))], "inferenceConfig": {"maxTokens": 5}},
            [text("Ropes are made of")],
            "max_tokens",
            {"outputTokens": 5},
        ),
        Case(
            "filtered",
            {"messages": [user(text("Tell me how to sink a ferry."))]},
            [text("I")],
            "content_filtered",
            model=NOVA,
        ),
        Case(
            "guardrail",
            {"messages": [user(text("Tell me how to sink a ferry."))], "guardrailConfig": guard},
            [text("This is not allowed here.")],
            "guardrail_intervened",
        ),
        Case(
            "cache-write",
            {"system": [text("The rules of the harbour. " * 40), CACHE], "messages": [user(text("May I anchor?"))]},
            [text("With a permit.")],
            usage={
                "inputTokens": 9,
                "cacheWriteInputTokens": 1210,
                "cacheReadInputTokens": 0,
                "cacheDetails": [{"ttl": "5m", "inputTokens": 1210}],
            },
        ),
        Case(
            "cache-read",
            {
                "system": [text("The rules of the harbour. " * 40), {"cachePoint": {"type": "default", "ttl": "1h"}}],
                "messages": [user(text("And here?"), CACHE)],
            },
            [text("Here, too.")],
            usage={"inputTokens": 9, "cacheReadInputTokens": 1210, "cacheWriteInputTokens": 0},
        ),
        Case("unicode", {"messages": [user(text(UNICODE))]}, [text(UNICODE)]),
        Case(
            "unicode-tools",
            {"messages": [user(text("港の潮は? 🌊"))], "toolConfig": {"tools": [FERRIES]}},
            [tool_use("find_ferry", '{"from":"神戸 🚢","to":"Île d’Yeu\u2028"}', "unicode")],
            "tool_use",
        ),
    ]


# --- writing


def usage(case: Case) -> Json:
    counts = {"inputTokens": 21, "outputTokens": 16, **case.usage}
    written = counts.get("cacheWriteInputTokens", 0) + counts.get("cacheReadInputTokens", 0)
    total = {"totalTokens": counts["inputTokens"] + counts["outputTokens"] + written}
    return {"inputTokens": counts["inputTokens"], "outputTokens": counts["outputTokens"], **total, **counts}


def reply(case: Case) -> Json:
    message = {"content": list(case.content), "role": "assistant"}
    return {
        "metrics": {"latencyMs": 812},
        "output": {"message": message},
        "stopReason": case.stop,
        "usage": usage(case),
        **case.more,
    }


def _deltas(block: Json) -> Iterator[Json]:
    match block:
        case {"text": str(said)}:
            yield from ({"text": each} for each in pieces(said))
        case {"toolUse": used}:
            arguments = compact(used["input"]).decode() if used["input"] else ""
            yield from ({"toolUse": {"input": each}} for each in pieces(arguments, 8) or [""])
        case {"reasoningContent": {"reasoningText": said}}:
            yield from ({"reasoningContent": {"text": each}} for each in pieces(said["text"], 14))
            yield {"reasoningContent": {"signature": said["signature"]}}
        case {"reasoningContent": sealed_}:
            yield {"reasoningContent": sealed_}
        case {"citationsContent": cited}:
            yield from ({"text": each} for each in pieces(cited["content"][0]["text"]))
            yield from ({"citation": each} for each in cited["citations"])


def _padded(value: Json) -> Json:
    """Each event is padded, so that its size tells nothing of its content."""
    return {**value, "p": token(str(value), len(str(value)) % 27)}


def stream(case: Case) -> bytes:
    frames = [aws_event("messageStart", _padded({"role": "assistant"}))]
    for at, block in enumerate(case.content):
        place = {"contentBlockIndex": at}
        if "toolUse" in block:
            used = {k: v for k, v in block["toolUse"].items() if k != "input"}
            frames.append(aws_event("contentBlockStart", _padded({**place, "start": {"toolUse": used}})))
        frames += [aws_event("contentBlockDelta", _padded({**place, "delta": each})) for each in _deltas(block)]
        frames.append(aws_event("contentBlockStop", _padded(place)))
    frames.append(aws_event("messageStop", _padded({"stopReason": case.stop})))
    end = {"metrics": {"latencyMs": 812}, "usage": usage(case), **case.more}
    return b"".join([*frames, aws_event("metadata", _padded(end))])


def converse() -> Iterator[Exchange]:
    for case in cases():
        found = {"x-amzn-requestid": uuid(f"converse {case.name}")}
        where = ("bedrock", "converse", f"POST /model/{case.model}/converse", HOST, case.model)
        yield Exchange(case.name, *where, case.request, compact(reply(case)), response_headers=found)
        where = ("bedrock", "converse_stream", f"POST /model/{case.model}/converse-stream", HOST, case.model)
        more: Any = {"stream_format": "aws-eventstream", "response_headers": found}
        yield Exchange(case.name, *where, case.request, stream(case), **more)


def errors() -> Iterator[Exchange]:
    hello: Json = {"messages": [user(text("Hello"))]}
    rows = [
        (
            "error-value",
            400,
            "ValidationException",
            "The value at temperature is greater than 1.",
            {**hello, "inferenceConfig": {"temperature": 0.5}},
        ),
        ("error-length", 400, "ValidationException", "Input is too long for requested model.", hello),
        (
            "error-permission",
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
            hello,
        ),
        (
            "error-token",
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            hello,
        ),
        (
            "error-model",
            404,
            "ResourceNotFoundException",
            "Could not resolve the foundation model from the provided model identifier.",
            hello,
        ),
        ("error-timeout", 408, "ModelTimeoutException", "Model has timed out in processing the request.", hello),
        ("error-throttled", 429, "ThrottlingException", "Too many tokens, please wait before trying again.", hello),
        ("error-server", 500, "InternalServerException", "The system encountered an unexpected error.", hello),
        ("error-unavailable", 503, "ServiceUnavailableException", "Bedrock is unable to process your request.", hello),
    ]
    url = "http://internal.amazon.com/coral/com.amazon.bedrock/"
    for name, status, kind, message, asked in rows:
        found = {"x-amzn-errortype": f"{kind}:{url}", "x-amzn-requestid": uuid(name)}
        where = ("bedrock", "converse", f"POST /model/{CLAUDE}/converse", HOST, CLAUDE)
        yield Exchange(name, *where, asked, compact({"message": message}), status, response_headers=found)
    found = {"x-amzn-errortype": f"ValidationException:{url}", "x-amzn-requestid": uuid("stream")}
    where = ("bedrock", "converse_stream", f"POST /model/{CLAUDE}/converse-stream", HOST, CLAUDE)
    body = compact({"message": "Invocation with on-demand throughput isn’t supported."})
    yield Exchange("error-throughput", *where, hello, body, 400, response_headers=found)


def count_tokens() -> Iterator[Exchange]:
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    where = ("bedrock", "count_tokens", f"POST /model/{model}/count-tokens", HOST, model)
    told = {case.name: case.request for case in cases()}
    for number, name in enumerate(("text", "tool-results", "cache-read")):
        kept = {k: v for k, v in told[name].items() if k in ("messages", "system", "toolConfig")}
        yield Exchange(name, *where, {"input": {"converse": kept}}, compact({"inputTokens": 9 + number}))
    inner = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    asked = {"input": {"invokeModel": {"body": base64.b64encode(compact(inner)).decode()}}}
    yield Exchange("invoke-model", *where, asked, compact({"inputTokens": 8}))


def invoked() -> Iterator[Exchange]:
    """Models that are invoked in a format of their own."""
    titan = "amazon.titan-text-express-v1"
    asked: Json = {"inputText": "Name a knot.", "textGenerationConfig": {"maxTokenCount": 20, "stopSequences": ["."]}}
    body: Json = {
        "inputTextTokenCount": 5,
        "results": [{"tokenCount": 3, "outputText": "Bowline", "completionReason": "FINISH"}],
    }
    found = {"x-amzn-bedrock-input-token-count": "5", "x-amzn-bedrock-output-token-count": "3"}
    where = ("bedrock", "invoke_model", f"POST /model/{titan}/invoke", HOST, titan)
    yield Exchange("titan", *where, asked, compact(body), response_headers=found)
    nova = "amazon.nova-lite-v1:0"
    asked = {"messages": [user(text("Name a knot."))], "schemaVersion": "messages-v1"}
    body = {
        "output": {"message": {"content": [text("Bowline")], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": 5,
            "outputTokens": 3,
            "totalTokens": 8,
            "cacheReadInputTokenCount": 0,
            "cacheWriteInputTokenCount": 0,
        },
    }
    where = ("bedrock", "invoke_model", f"POST /model/{nova}/invoke", HOST, nova)
    yield Exchange("nova", *where, asked, compact(body), response_headers=found)
    metrics = {"inputTokenCount": 5, "outputTokenCount": 3, "invocationLatency": 300, "firstByteLatency": 200}
    told: list[Json] = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": text("Bowline"), "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": body["usage"], "metrics": {}}, "amazon-bedrock-invocationMetrics": metrics},
    ]
    where = ("bedrock", "invoke_model_stream", f"POST /model/{nova}/invoke-with-response-stream", HOST, nova)
    yield Exchange("nova", *where, asked, b"".join(map(invoked_chunk, told)), stream_format="aws-eventstream")
    llama = "meta.llama3-1-8b-instruct-v1:0"
    asked = {"prompt": "Name a knot.", "max_gen_len": 20, "temperature": 0.5}
    body = {"generation": "Bowline", "prompt_token_count": 5, "generation_token_count": 3, "stop_reason": "length"}
    where = ("bedrock", "invoke_model", f"POST /model/{llama}/invoke", HOST, llama)
    yield Exchange("llama", *where, asked, compact(body), response_headers=found)
    told = [
        {"generation": each, "prompt_token_count": None, "generation_token_count": at + 1, "stop_reason": None}
        for at, each in enumerate(("Bow", "line"))
    ]
    told.append(
        {
            "generation": "",
            "prompt_token_count": 5,
            "generation_token_count": 3,
            "stop_reason": "stop",
            "amazon-bedrock-invocationMetrics": metrics,
        }
    )
    where = ("bedrock", "invoke_model_stream", f"POST /model/{llama}/invoke-with-response-stream", HOST, llama)
    yield Exchange("llama", *where, asked, b"".join(map(invoked_chunk, told)), stream_format="aws-eventstream")
    command = "cohere.command-r-v1:0"
    asked = {"message": "Name a knot.", "max_tokens": 20, "stop_sequences": ["."]}
    body = {
        "response_id": uuid("cohere"),
        "text": "Bowline",
        "generation_id": uuid("generation"),
        "chat_history": [],
        "finish_reason": "COMPLETE",
    }
    where = ("bedrock", "invoke_model", f"POST /model/{command}/invoke", HOST, command)
    yield Exchange("command", *where, asked, compact(body), response_headers=found)
    body |= {"finish_reason": "MAX_TOKENS"}
    yield Exchange("command-length", *where, asked, compact(body), response_headers=found)
    body |= {"finish_reason": "STOP_SEQUENCE"}
    yield Exchange("command-stop", *where, asked, compact(body), response_headers=found)
    where = ("bedrock", "invoke_model_stream", f"POST /model/{command}/invoke-with-response-stream", HOST, command)
    told = [
        {"event_type": "text-generation", "text": "Bowline", "is_finished": False},
        {"event_type": "stream-end", "is_finished": True, "finish_reason": "MAX_TOKENS", "response": body},
    ]
    yield Exchange("command", *where, asked, b"".join(map(invoked_chunk, told)), stream_format="aws-eventstream")
    large = "mistral.mistral-large-2407-v1:0"
    asked = {"prompt": "<s>[INST] Name a knot. [/INST]", "max_tokens": 20, "stop": ["."]}
    where = ("bedrock", "invoke_model", f"POST /model/{large}/invoke", HOST, large)
    body = {"outputs": [{"text": "Bowline", "stop_reason": "stop"}]}
    yield Exchange("mistral", *where, asked, compact(body), response_headers=found)
    where = ("bedrock", "invoke_model", f"POST /model/{command}/invoke", HOST, command)
    wrong = compact({"message": "Malformed input request: expected maxLength: 20."})
    yield Exchange("error-value", *where, {"message": 1}, wrong, 400)


def exchanges() -> Iterator[Exchange]:
    yield from converse()
    yield from errors()
    yield from count_tokens()
    yield from invoked()
