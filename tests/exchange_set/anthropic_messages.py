"""Anthropic's Messages: its own host, Vertex, and Claude on Bedrock's InvokeModel."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .base import (
    FERRY_ARGUMENTS,
    FERRY_RESULT,
    FERRY_SCHEMA,
    GIF,
    LEAFLET,
    LOAF,
    LOAF_SCHEMA,
    PDF,
    PHOTO,
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
    sse,
    token,
    uuid,
)

WHERE = ("anthropic", "messages", "POST /v1/messages", "api.anthropic.com")
MODEL, ANSWERED_BY = "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    request: Json
    content: Sequence[Json]
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    usage: Json = field(default_factory=dict)
    beta: str = ""


# --- blocks


def text(said: str, citations: Sequence[Json] = ()) -> Json:
    return {**({"citations": list(citations)} if citations else {}), "type": "text", "text": said}


def thinking(said: str, seed: str) -> Json:
    return {"type": "thinking", "thinking": said, "signature": sealed(seed, 120)}


def tool_use(name: str, arguments: str, seed: str, kind: str = "tool_use") -> Json:
    return {"type": kind, "id": tool_id(seed, kind), "name": name, "input": parsed(arguments)}


def tool_id(seed: str, kind: str = "tool_use") -> str:
    prefix = {"tool_use": "toolu", "server_tool_use": "srvtoolu", "mcp_tool_use": "mcptoolu"}[kind]
    return f"{prefix}_01{token('anthropic ' + seed, 22)}"


def result(seed: str, content: Any, **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": tool_id(seed), "content": content, **more}


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def source(media_type: str, data: str) -> Json:
    return {"type": "base64", "media_type": media_type, "data": data}


TIDES: Json = {"name": "tide_table", "description": "Times of high water at a port", "input_schema": TIDE_SCHEMA}
FERRIES: Json = {"name": "find_ferry", "description": "Ferries between two ports", "input_schema": FERRY_SCHEMA}
ASKS_TIDES = user("When is high water in Ostend on the first of March?")
HOUR = {"type": "ephemeral", "ttl": "1h"}
THOUGHT = "The user asks for a time. The tide table has it."


def cases() -> list[Case]:
    history = [ASKS_TIDES, assistant([tool_use("tide_table", TIDE_ARGUMENTS, "history")])]
    both = [
        user("Tides and ferries?"),
        assistant(
            [
                text("I look up both."),
                tool_use("tide_table", TIDE_ARGUMENTS, "one"),
                tool_use("find_ferry", FERRY_ARGUMENTS, "two"),
            ]
        ),
        user([result("one", TIDE_RESULT), result("two", [text(FERRY_RESULT)]), text("Please sum up.")]),
    ]
    thought = [
        ASKS_TIDES,
        assistant([thinking(THOUGHT, "kept"), tool_use("tide_table", TIDE_ARGUMENTS, "kept")]),
        user([result("kept", TIDE_RESULT)]),
    ]
    think: Json = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
    paper = {
        "type": "document",
        "source": source("application/pdf", PDF),
        "title": "Tides",
        "citations": {"enabled": True},
    }
    plain = {
        "type": "document",
        "source": {
            "type": "text",
            "media_type": "text/plain",
            "data": "High water is at 04:12. Low water is at 10:20.",
        },
        "title": "Tides",
        "context": "A table of tides",
        "citations": {"enabled": True},
    }
    cited = {
        "type": "char_location",
        "cited_text": "High water is at 04:12. ",
        "document_index": 0,
        "document_title": "Tides",
        "start_char_index": 0,
        "end_char_index": 24,
        "file_id": None,
    }
    page = {
        "type": "web_search_result",
        "title": "Harbour notices",
        "url": "https://harbour.example/notices",
        "encrypted_content": sealed("page"),
        "page_age": "2 days ago",
    }
    searched = {
        "type": "web_search_tool_result",
        "tool_use_id": tool_id("search", "server_tool_use"),
        "content": [page],
    }
    of_page = {
        "type": "web_search_result_location",
        "cited_text": "The harbour is open.",
        "url": page["url"],
        "title": page["title"],
        "encrypted_index": sealed("index", 33),
    }
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    search_use = {**tool_use("web_search", '{"query":"harbour open"}', "search", "server_tool_use")}
    ran = {
        "type": "code_execution_tool_result",
        "tool_use_id": tool_id("code", "server_tool_use"),
        "content": {"type": "code_execution_result", "stdout": "1001\n", "stderr": "", "return_code": 0, "content": []},
    }
    code_use = tool_use("code_execution", '{"code":"print(7*11*13)"}', "code", "server_tool_use")
    mcp_use: Json = {
        "type": "mcp_tool_use",
        "id": tool_id("mcp", "mcp_tool_use"),
        "name": "opening_times",
        "server_name": "harbour",
        "input": {},
    }
    mcp_result = {
        "type": "mcp_tool_result",
        "tool_use_id": mcp_use["id"],
        "is_error": False,
        "content": [{"type": "text", "text": "06:00 to 22:00"}],
    }
    rules = [{"type": "text", "text": "The rules of the harbour. " * 40, "cache_control": {"type": "ephemeral"}}]
    return [
        Case(
            "text", {"messages": [user("What is a lighthouse for?")]}, [text("It marks the harbour entrance at night.")]
        ),
        Case(
            "system",
            {"system": "Answer in one sentence.", "messages": [user("What is a quay?")], "temperature": 0.2},
            [text("A quay is a wall where ships are loaded.")],
        ),
        Case(
            "multi-turn",
            {
                "system": [{"type": "text", "text": "You teach sailing."}],
                "messages": [
                    user("What is a jib?"),
                    assistant("A triangular sail ahead of the mast."),
                    user([{"type": "text", "text": "And a spinnaker?"}]),
                ],
                "top_p": 0.9,
                "top_k": 40,
                "metadata": {"user_id": "sailor-7"},
            },
            [text("A large sail for running before the wind.")],
        ),
        Case("two-blocks", {"messages": [user("Two knots.")]}, [text("Bowline."), text(" Reef knot.")]),
        Case(
            "tools",
            {"messages": [ASKS_TIDES], "tools": [TIDES]},
            [tool_use("tide_table", TIDE_ARGUMENTS, "tools")],
            "tool_use",
        ),
        Case(
            "tools-with-text",
            {"messages": [ASKS_TIDES], "tools": [TIDES, FERRIES], "tool_choice": {"type": "auto"}},
            [text("I look it up."), tool_use("tide_table", TIDE_ARGUMENTS, "with text")],
            "tool_use",
        ),
        Case(
            "parallel-tools",
            {"messages": both[:1], "tools": [TIDES, FERRIES]},
            [
                tool_use("tide_table", TIDE_ARGUMENTS, "parallel 1"),
                tool_use("find_ferry", FERRY_ARGUMENTS, "parallel 2"),
            ],
            "tool_use",
        ),
        Case(
            "forced-tool",
            {"messages": [ASKS_TIDES], "tools": [TIDES], "tool_choice": {"type": "tool", "name": "tide_table"}},
            [tool_use("tide_table", TIDE_ARGUMENTS, "forced")],
            "tool_use",
        ),
        Case(
            "any-tool",
            {
                "messages": [ASKS_TIDES],
                "tools": [{**TIDES, "strict": True}, {**FERRIES, "cache_control": {"type": "ephemeral"}}],
                "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            },
            [tool_use("tide_table", TIDE_ARGUMENTS, "any")],
            "tool_use",
        ),
        Case(
            "no-tool",
            {"messages": [ASKS_TIDES], "tools": [TIDES], "tool_choice": {"type": "none"}},
            [text("I cannot look it up.")],
        ),
        Case(
            "tool-results",
            {"messages": [*history, user([result("history", TIDE_RESULT)])], "tools": [TIDES]},
            [text("High water is at 04:12 and 16:37.")],
        ),
        Case(
            "parallel-tool-results",
            {"messages": both, "tools": [TIDES, FERRIES]},
            [text("04:12, and a ferry at 08:30.")],
        ),
        Case(
            "failed-tool",
            {"messages": [*history, user([result("history", "no such port", is_error=True)])], "tools": [TIDES]},
            [text("I do not know this port.")],
        ),
        Case(
            "picture-result",
            {
                "messages": [
                    *history,
                    user(
                        [result("history", [text("A chart:"), {"type": "image", "source": source("image/png", PIXEL)}])]
                    ),
                ],
                "tools": [TIDES],
            },
            [text("The chart is red.")],
        ),
        Case(
            "tool-without-arguments",
            {"messages": [user("Which ports?")], "tools": [{"name": "list_ports", "input_schema": {"type": "object"}}]},
            [tool_use("list_ports", "{}", "empty")],
            "tool_use",
        ),
        Case(
            "vision-url",
            {"messages": [user([text("What is this?"), {"type": "image", "source": {"type": "url", "url": PHOTO}}])]},
            [text("A lighthouse.")],
        ),
        Case(
            "vision-bytes",
            {
                "messages": [
                    user(
                        [
                            {"type": "image", "source": source("image/png", PIXEL)},
                            {"type": "image", "source": source("image/gif", GIF)},
                            text("Which colours?"),
                        ]
                    )
                ]
            },
            [text("Red and black.")],
        ),
        Case("document", {"messages": [user([paper, text("How many pages?")])]}, [text("One page.")]),
        Case(
            "document-url",
            {"messages": [user([{"type": "document", "source": {"type": "url", "url": LEAFLET}}, text("Sum it up.")])]},
            [text("A table of tides.")],
        ),
        Case(
            "citations",
            {"messages": [user([plain, text("When is high water?")])]},
            [text("High water is "), text("at 04:12", [cited]), text(".")],
        ),
        Case(
            "structured-output",
            {
                "messages": [user("A rye loaf.")],
                "output_config": {"format": {"type": "json_schema", "schema": LOAF_SCHEMA}},
            },
            [text(LOAF)],
        ),
        Case(
            "thinking",
            {"messages": [ASKS_TIDES], **think},
            [thinking(THOUGHT, "thinking"), text("I would look into a tide table.")],
        ),
        Case(
            "thinking-and-tools",
            {"messages": [ASKS_TIDES], "tools": [TIDES], **think},
            [thinking(THOUGHT, "and tools"), text("One moment."), tool_use("tide_table", TIDE_ARGUMENTS, "thinking")],
            "tool_use",
        ),
        Case("thinking-replay", {"messages": thought, "tools": [TIDES], **think}, [text("At 04:12.")]),
        Case(
            "adaptive-thinking",
            {"messages": [ASKS_TIDES], "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            [thinking("", "omitted"), text("At 04:12.")],
            usage={"output_tokens_details": {"thinking_tokens": 9}},
        ),
        Case(
            "redacted-thinking",
            {"messages": [ASKS_TIDES], **think},
            [{"type": "redacted_thinking", "data": sealed("redacted")}, text("At 04:12.")],
        ),
        Case(
            "stop-sequences",
            {"messages": [user("Count to ten.")], "stop_sequences": ["five"]},
            [text("one, two, three, four, ")],
            "stop_sequence",
            "five",
        ),
        Case(
            "length",
            {"messages": [user("All about ropes.")], "max_tokens": 6},
            [text("Ropes are made of")],
            "max_tokens",
            usage={"output_tokens": 6},
        ),
        Case("refusal", {"messages": [user("Tell me how to sink a ferry.")]}, [text("I cannot")], "refusal"),
        Case("context-window", {"messages": [user("Go on.")]}, [text("The end is")], "model_context_window_exceeded"),
        Case(
            "pause",
            {"messages": [user("Is the harbour open?")], "tools": [search]},
            [search_use],
            "pause_turn",
            usage={"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}},
        ),
        Case("empty", {"messages": [user("Say nothing.")]}, [], usage={"output_tokens": 2}),
        Case(
            "cache-write",
            {"system": rules, "messages": [user("May I anchor?")]},
            [text("With a permit.")],
            usage={
                "input_tokens": 9,
                "cache_creation_input_tokens": 1210,
                "cache_creation": {"ephemeral_5m_input_tokens": 1210, "ephemeral_1h_input_tokens": 0},
            },
        ),
        Case(
            "cache-read",
            {
                "system": [{**rules[0], "cache_control": HOUR}],
                "messages": [user([{"type": "text", "text": "And here?", "cache_control": HOUR}])],
                "service_tier": "auto",
            },
            [text("Here, too.")],
            usage={
                "input_tokens": 9,
                "cache_creation_input_tokens": 40,
                "cache_read_input_tokens": 1210,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 40},
            },
        ),
        Case(
            "web-search",
            {"messages": [user("Is the harbour open?")], "tools": [search]},
            [text("I look."), search_use, searched, text("It is open.", [of_page])],
            usage={"server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0}},
        ),
        Case(
            "code-execution",
            {
                "messages": [user("Multiply 7, 11, 13.")],
                "tools": [{"type": "code_execution_20250522", "name": "code_execution"}],
            },
            [code_use, ran, text("1001")],
            usage={"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0}},
            beta="code-execution-2025-05-22",
        ),
        Case(
            "mcp",
            {
                "messages": [user("When is the harbour open?")],
                "mcp_servers": [{"type": "url", "url": "https://harbour.example/mcp", "name": "harbour"}],
            },
            [mcp_use, mcp_result, text("From 06:00 to 22:00.")],
            beta="mcp-client-2025-04-04",
        ),
        Case("unicode", {"system": "Écho 🙂", "messages": [user(UNICODE)]}, [text(UNICODE)]),
        Case(
            "unicode-tools",
            {"messages": [user("港の潮は? 🌊")], "tools": [FERRIES]},
            [tool_use("find_ferry", '{"from":"神戸 🚢","to":"Île d’Yeu\u2028"}', "unicode")],
            "tool_use",
        ),
        Case("prefill", {"messages": [user("A knot?"), assistant("The best knot is the")]}, [text(" bowline.")]),
    ]


# --- writing


def usage(case: Case) -> Json:
    return {
        "input_tokens": 24,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 18,
        "service_tier": "standard",
        **case.usage,
    }


def message(case: Case, seed: str, model: str = ANSWERED_BY) -> Json:
    return {
        "model": model,
        "id": "msg_01" + token(seed, 22),
        "type": "message",
        "role": "assistant",
        "content": list(case.content),
        "stop_reason": case.stop_reason,
        "stop_sequence": case.stop_sequence,
        "usage": usage(case),
    }


def _deltas(block: Json) -> Iterator[Json]:
    match block["type"]:
        case "text":
            for each in block.get("citations", ()):
                yield {"type": "citations_delta", "citation": each}
            yield from ({"type": "text_delta", "text": each} for each in pieces(block["text"]))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": each} for each in pieces(block["thinking"], 14))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            yield {"type": "input_json_delta", "partial_json": ""}
            if block["input"]:
                arguments = compact(block["input"]).decode()
                yield from ({"type": "input_json_delta", "partial_json": each} for each in pieces(arguments, 8))


def _begun(block: Json) -> Json:
    match block["type"]:
        case "text":
            return {**block, "text": "", **({"citations": []} if "citations" in block else {})}
        case "thinking":
            return {**block, "thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return {**block, "input": {}}
        case _:
            return block


def events(case: Case, seed: str, model: str = ANSWERED_BY) -> Iterator[Json]:
    whole = message(case, seed, model)
    counts = {k: v for k, v in whole["usage"].items() if k != "server_tool_use"}
    begun = {
        **whole,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**counts, "output_tokens": 1},
    }
    yield {"type": "message_start", "message": begun}
    for at, block in enumerate(case.content):
        yield {"type": "content_block_start", "index": at, "content_block": _begun(block)}
        if at == 0:
            yield {"type": "ping"}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": at, "delta": delta}
        yield {"type": "content_block_stop", "index": at}
    last = {k: v for k, v in whole["usage"].items() if k not in ("cache_creation", "service_tier")}
    stop = {"stop_reason": case.stop_reason, "stop_sequence": case.stop_sequence}
    yield {"type": "message_delta", "delta": stop, "usage": last}
    yield {"type": "message_stop"}


def headers(seed: str) -> Json:
    return {
        "anthropic-organization-id": uuid("organization"),
        "anthropic-ratelimit-requests-limit": "4000",
        "anthropic-ratelimit-requests-remaining": "3999",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
        "request-id": "req_01" + token(seed, 22),
    }


def anthropic() -> Iterator[Exchange]:
    for case in cases():
        seed = f"anthropic {case.name}"
        sent = {"anthropic-version": "2023-06-01", **({"anthropic-beta": case.beta} if case.beta else {})}
        more: Any = {"request_headers": sent, "response_headers": headers(seed)}
        asked = {"model": MODEL, "max_tokens": 1024, **case.request}
        yield Exchange(case.name, *WHERE, MODEL, asked, compact(message(case, seed)), **more)
        wire = sse(events(case, seed), named=True)
        asked = {**asked, "stream": True}
        yield Exchange(f"{case.name}-stream", *WHERE, MODEL, asked, wire, stream_format="sse", **more)


def errors() -> Iterator[Exchange]:
    hello: Json = {"model": MODEL, "max_tokens": 64, "messages": [user("Hello")]}
    rows: list[tuple[str, int, str, str, Json]] = [
        ("error-value", 400, "invalid_request_error", "temperature: range: 0..1", {**hello, "temperature": 2}),
        ("error-length", 400, "invalid_request_error", "prompt is too long: 200103 tokens > 200000 maximum", hello),
        ("error-credit", 400, "invalid_request_error", "Your credit balance is too low to access the API.", hello),
        ("error-key", 401, "authentication_error", "invalid x-api-key", hello),
        ("error-permission", 403, "permission_error", "Your account may not use this model.", hello),
        ("error-model", 404, "not_found_error", "model: claude-none", {**hello, "model": "claude-none"}),
        ("error-size", 413, "request_too_large", "Request exceeds the maximum size", hello),
        ("error-rate-limit", 429, "rate_limit_error", "This request would exceed your rate limit.", hello),
        ("error-server", 500, "api_error", "Internal server error", hello),
        ("error-overloaded", 529, "overloaded_error", "Overloaded", {**hello, "stream": True}),
    ]
    for name, status, type_, words, asked in rows:
        found = headers(name)
        if status in (429, 529):
            found |= {"retry-after": "14", "x-should-retry": "true"}
        body = {"type": "error", "error": {"type": type_, "message": words}, "request_id": found["request-id"]}
        yield Exchange(name, *WHERE, asked["model"], asked, compact(body), status, response_headers=found)


def count_tokens() -> Iterator[Exchange]:
    where = ("anthropic", "count_tokens", "POST /v1/messages/count_tokens", WHERE[3], MODEL)
    told = {case.name: case.request for case in cases()}
    for number, name in enumerate(("text", "system", "tool-results", "vision-bytes", "thinking-replay", "cache-read")):
        asked = {k: v for k, v in told[name].items() if k not in ("max_tokens", "temperature", "service_tier")}
        asked = {"model": MODEL, **asked}
        if name == "tool-results":
            asked["tool_choice"] = {"type": "auto"}
        yield Exchange(name, *where, asked, compact({"input_tokens": 14 + 7 * number}))
    body = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "messages: at least one message is required"},
    }
    yield Exchange("error-value", *where, {"model": MODEL, "messages": []}, compact(body), 400)


HOSTED = (
    "text",
    "system",
    "tools",
    "parallel-tools",
    "tool-results",
    "thinking",
    "cache-write",
    "cache-read",
    "stop-sequences",
    "length",
    "unicode",
    "multi-turn",
    "vision-bytes",
    "any-tool",
)


def vertex() -> Iterator[Exchange]:
    model = "claude-sonnet-4-5@20250929"
    path = f"POST /v1/projects/PROJECT/locations/europe-west1/publishers/anthropic/models/{model}"
    host = "europe-west1-aiplatform.googleapis.com"
    for case in cases():
        if case.name not in HOSTED:
            continue
        seed = f"vertex claude {case.name}"
        asked = {"max_tokens": 1024, **case.request, "anthropic_version": "vertex-2023-10-16"}
        body = compact(message(case, seed))
        yield Exchange(case.name, "vertex", "vertex_raw_predict", f"{path}:rawPredict", host, model, asked, body)
        wire = sse(events(case, seed), named=True)
        where = ("vertex", "vertex_stream_raw_predict", f"{path}:streamRawPredict", host, model)
        yield Exchange(f"{case.name}-stream", *where, {**asked, "stream": True}, wire, stream_format="sse")


def invoked_chunk(value: Json) -> bytes:
    inner = base64.b64encode(compact(value)).decode()
    return aws_event("chunk", {"bytes": inner, "p": token(inner, len(inner) % 26)})


def bedrock() -> Iterator[Exchange]:
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    path = f"POST /model/{model}"
    host = "bedrock-runtime.us-east-1.amazonaws.com"
    answered_by = "claude-sonnet-4-5-20250929"
    for case in cases():
        if case.name not in HOSTED:
            continue
        seed = f"bedrock claude {case.name}"
        asked = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024, **case.request}
        counts = {"x-amzn-bedrock-input-token-count": "24", "x-amzn-requestid": uuid(seed)}
        whole = compact({**message(case, seed, answered_by), "id": "msg_bdrk_01" + token(seed, 22)})
        where = ("bedrock", "invoke_model", f"{path}/invoke", host, model)
        yield Exchange(case.name, *where, asked, whole, response_headers=counts)
        told = list(events(case, seed, answered_by))
        told[0]["message"]["id"] = "msg_bdrk_01" + token(seed, 22)
        told[-1]["amazon-bedrock-invocationMetrics"] = {
            "inputTokenCount": 24,
            "outputTokenCount": 18,
            "invocationLatency": 900,
            "firstByteLatency": 300,
        }
        wire = b"".join(invoked_chunk(each) for each in told if each["type"] != "ping")
        where = ("bedrock", "invoke_model_stream", f"{path}/invoke-with-response-stream", host, model)
        found = {"x-amzn-requestid": uuid(seed)}
        yield Exchange(
            f"{case.name}-stream", *where, asked, wire, stream_format="aws-eventstream", response_headers=found
        )


def exchanges() -> Iterator[Exchange]:
    yield from anthropic()
    yield from errors()
    yield from count_tokens()
    yield from vertex()
    yield from bedrock()
