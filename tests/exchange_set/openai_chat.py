"""Chat completions of OpenAI's own host, and of Azure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .base import (
    CREATED,
    DONE,
    FERRY_ARGUMENTS,
    FERRY_RESULT,
    FERRY_SCHEMA,
    LOAF,
    LOAF_SCHEMA,
    PDF,
    PHOTO,
    PIXEL,
    TIDE_ARGUMENTS,
    TIDE_RESULT,
    TIDE_SCHEMA,
    UNICODE,
    WAV,
    Exchange,
    Json,
    compact,
    hexes,
    pieces,
    pretty,
    sse,
    token,
    uuid,
)


@dataclass(frozen=True, slots=True)
class Said:
    """One choice of a reply."""

    content: str | None = None
    finish: str = "stop"
    calls: Sequence[tuple[str, str]] = ()
    """Name and arguments of each tool call."""
    refusal: str | None = None
    reasoning: str = ""
    annotations: Sequence[Json] = ()
    audio: Json | None = None
    logprobs: bool = False
    function_call: Json | None = None
    message_extra: Json = field(default_factory=dict)
    custom: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    request: Json
    said: Sequence[Said]
    prompt: int = 19
    completion: int = 12
    cached: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0
    model: str = "gpt-4.1-mini"
    answered_by: str = "gpt-4.1-mini-2025-04-14"
    streams: bool = True
    replies: bool = True


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any = None, **more: Any) -> Json:
    return {"role": "assistant", "content": content, **more}


def system(content: Any) -> Json:
    return {"role": "system", "content": content}


def function(name: str, description: str, schema: Json, **more: Any) -> Json:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema, **more}}


def called(name: str, arguments: str, seed: str) -> Json:
    return {"id": call_id(seed), "type": "function", "function": {"name": name, "arguments": arguments}}


def call_id(seed: str) -> str:
    return "call_" + token("call " + seed, 24)


TIDES = function("tide_table", "Gives the times of high water at a port", TIDE_SCHEMA, strict=True)
FERRIES = function("find_ferry", "Finds ferries between two ports", FERRY_SCHEMA)
TIDE_CALL = ("tide_table", TIDE_ARGUMENTS)
FERRY_CALL = ("find_ferry", FERRY_ARGUMENTS)
ASKS_TIDES = user("When is high water in Ostend on the first of March?")
LOAF_FORMAT = {"type": "json_schema", "json_schema": {"name": "loaf", "schema": LOAF_SCHEMA, "strict": True}}

PLAIN = "A lighthouse marks the harbour entrance, so that ships find it at night."


def cases() -> list[Case]:
    history = [
        ASKS_TIDES,
        assistant(None, tool_calls=[called(*TIDE_CALL, "history")]),
        {"role": "tool", "tool_call_id": call_id("history"), "content": TIDE_RESULT},
    ]
    both = [
        user("Tides in Ostend on 1 March 2026, and ferries to Ramsgate for two?"),
        assistant("Looking up both.", tool_calls=[called(*TIDE_CALL, "first"), called(*FERRY_CALL, "second")]),
        {"role": "tool", "tool_call_id": call_id("first"), "content": TIDE_RESULT},
        {"role": "tool", "tool_call_id": call_id("second"), "content": [{"type": "text", "text": FERRY_RESULT}]},
    ]
    small = {"model": "gpt-5-mini", "answered_by": "gpt-5-mini-2025-08-07"}
    sources = [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 0,
                "end_index": 27,
                "title": "Harbour notices",
                "url": "https://harbour.example/notices",
            },
        }
    ]
    listen = {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}
    search = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[a-z ]+"}}
    return [
        Case("text", {"messages": [user("What is a lighthouse for?")]}, [Said(PLAIN)]),
        Case(
            "system",
            {"messages": [system("Answer in one sentence."), user("What is a lighthouse for?")], "temperature": 0.2},
            [Said(PLAIN)],
        ),
        Case(
            "developer",
            {"messages": [{"role": "developer", "content": "Answer in one sentence."}, user("What is a quay?")]},
            [Said("A quay is a wall where ships are loaded.")],
            **small,
        ),
        Case(
            "multi-turn",
            {
                "messages": [
                    system("You are a patient teacher of sailing."),
                    {"role": "user", "name": "Ada", "content": "What is a jib?"},
                    assistant("A triangular sail ahead of the mast."),
                    user([{"type": "text", "text": "And a spinnaker?"}, {"type": "text", "text": "Keep it short."}]),
                ],
                "max_tokens": 60,
                "top_p": 0.9,
                "user": "sailor-7",
            },
            [Said("A large balloon-shaped sail for running before the wind.")],
        ),
        Case(
            "tools",
            {"messages": [ASKS_TIDES], "tools": [TIDES]},
            [Said(calls=[TIDE_CALL], finish="tool_calls")],
        ),
        Case(
            "tools-with-text",
            {"messages": [ASKS_TIDES], "tools": [TIDES, FERRIES], "tool_choice": "auto"},
            [Said("I look it up.", calls=[TIDE_CALL], finish="tool_calls")],
        ),
        Case(
            "parallel-tools",
            {"messages": both[:1], "tools": [TIDES, FERRIES], "parallel_tool_calls": True},
            [Said(calls=[TIDE_CALL, FERRY_CALL], finish="tool_calls")],
        ),
        Case(
            "forced-tool",
            {
                "messages": [ASKS_TIDES],
                "tools": [TIDES],
                "tool_choice": {"type": "function", "function": {"name": "tide_table"}},
                "parallel_tool_calls": False,
            },
            [Said(calls=[TIDE_CALL])],
        ),
        Case(
            "required-tool",
            {"messages": [ASKS_TIDES], "tools": [TIDES, FERRIES], "tool_choice": "required"},
            [Said(calls=[TIDE_CALL], finish="tool_calls")],
        ),
        Case(
            "no-tool",
            {"messages": [ASKS_TIDES], "tools": [TIDES], "tool_choice": "none"},
            [Said("I cannot look that up here.")],
        ),
        Case("tool-results", {"messages": history, "tools": [TIDES]}, [Said("High water is at 04:12 and at 16:37.")]),
        Case(
            "parallel-tool-results",
            {"messages": both, "tools": [TIDES, FERRIES]},
            [Said("High water: 04:12 and 16:37. Ferries leave at 08:30 and 17:45.")],
        ),
        Case(
            "tool-without-arguments",
            {
                "messages": [user("Which ports do you know?")],
                "tools": [{"type": "function", "function": {"name": "list_ports"}}],
            },
            [Said(calls=[("list_ports", "{}")], finish="tool_calls")],
        ),
        Case(
            "legacy-function",
            {
                "messages": [ASKS_TIDES],
                "functions": [{"name": "tide_table", "description": "Times of high water", "parameters": TIDE_SCHEMA}],
                "function_call": {"name": "tide_table"},
            },
            [Said(function_call={"name": "tide_table", "arguments": TIDE_ARGUMENTS}, finish="function_call")],
            model="gpt-4-turbo",
            answered_by="gpt-4-turbo-2024-04-09",
        ),
        Case(
            "custom-tool",
            {
                "messages": [user("Search for tides.")],
                "tools": [
                    {"type": "custom", "custom": {"name": "search", "description": "Full text", "format": search}}
                ],
            },
            [Said(custom=("search", "high water ostend"), finish="tool_calls")],
            streams=False,
            **small,
        ),
        Case(
            "vision-url",
            {
                "messages": [
                    user(
                        [
                            {"type": "text", "text": "What does the picture show?"},
                            {"type": "image_url", "image_url": {"url": PHOTO, "detail": "low"}},
                        ]
                    )
                ]
            },
            [Said("A white lighthouse on a cliff.")],
            prompt=104,
        ),
        Case(
            "vision-bytes",
            {
                "messages": [
                    user(
                        [
                            {"type": "text", "text": "Which colour is this?"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                        ]
                    )
                ]
            },
            [Said("Red.")],
            prompt=98,
        ),
        Case(
            "document",
            {
                "messages": [
                    user(
                        [
                            {
                                "type": "file",
                                "file": {
                                    "filename": "tides.pdf",
                                    "file_data": f"data:application/pdf;base64,{PDF}",
                                },
                            },
                            {"type": "text", "text": "How many pages does it have?"},
                        ]
                    )
                ]
            },
            [Said("One page, and it is empty.")],
            prompt=141,
        ),
        Case(
            "audio-input",
            {
                "modalities": ["text"],
                "messages": [user([{"type": "text", "text": "What do you hear?"}, listen])],
            },
            [Said("Silence.")],
            audio_in=7,
            prompt=27,
            model="gpt-4o-audio-preview",
            answered_by="gpt-4o-audio-preview-2025-06-03",
        ),
        Case(
            "audio-output",
            {
                "modalities": ["text", "audio"],
                "audio": {"voice": "alloy", "format": "wav"},
                "messages": [user("Say nothing.")],
            },
            [
                Said(
                    audio={
                        "id": "audio_" + hexes("audio", 32),
                        "data": WAV,
                        "expires_at": CREATED + 3600,
                        "transcript": "…",
                    }
                )
            ],
            audio_out=9,
            streams=False,
            model="gpt-4o-audio-preview",
            answered_by="gpt-4o-audio-preview-2025-06-03",
        ),
        Case(
            "structured-output",
            {"messages": [user("Give me the recipe of a rye loaf.")], "response_format": LOAF_FORMAT},
            [Said(LOAF)],
        ),
        Case(
            "json-object",
            {"messages": [user("A rye loaf, as JSON.")], "response_format": {"type": "json_object"}, "seed": 11},
            [Said(LOAF)],
        ),
        Case(
            "refusal",
            {"messages": [user("Tell me how to sink a ferry.")], "response_format": LOAF_FORMAT},
            [Said(refusal="I'm sorry, but I can't help with that.")],
        ),
        Case(
            "content-filter",
            {"messages": [user("Tell me how to sink a ferry.")]},
            [Said("I would ", finish="content_filter")],
        ),
        Case(
            "length",
            {"messages": [user("Tell me all about ropes.")], "max_tokens": 8},
            [Said("Ropes are made of fibres that", finish="length")],
            completion=8,
        ),
        Case(
            "stop-sequences",
            {"messages": [user("Count to ten.")], "stop": ["five", "\n\n"]},
            [Said("one, two, three, four, ")],
        ),
        Case("stop-string", {"messages": [user("Count to ten.")], "stop": "three"}, [Said("one, two, ")]),
        Case(
            "penalties",
            {
                "messages": [user("Name a knot.")],
                "frequency_penalty": 0.5,
                "presence_penalty": -0.5,
                "logit_bias": {"1734": -100},
                "seed": 42,
                "store": False,
                "metadata": {"team": "harbour"},
                "service_tier": "default",
            },
            [Said("Bowline.")],
        ),
        Case(
            "reasoning",
            {
                "messages": [user("Is 1001 a prime number?")],
                "reasoning_effort": "low",
                "verbosity": "low",
                "max_completion_tokens": 900,
            },
            [Said("No: 1001 = 7 · 11 · 13.")],
            reasoning=64,
            completion=83,
            **small,
        ),
        Case(
            "cache",
            {
                "messages": [system("The rules of the harbour. " * 60), user("May I anchor here?")],
                "prompt_cache_key": "harbour-rules",
            },
            [Said("Only with a permit.")],
            prompt=1310,
            cached=1280,
        ),
        Case(
            "logprobs",
            {"messages": [user("Yes or no: is salt water heavier?")], "logprobs": True, "top_logprobs": 2},
            [Said("Yes", logprobs=True)],
            completion=2,
        ),
        Case(
            "several-choices",
            {"messages": [user("A name for a boat?")], "n": 3, "temperature": 1.2},
            [Said("Albatross"), Said("Sea Thistle"), Said("North Wind")],
        ),
        Case(
            "web-search",
            {"messages": [user("Is the harbour open?")], "web_search_options": {"search_context_size": "low"}},
            [Said("The harbour is open today. (harbour.example)", annotations=sources)],
            model="gpt-4o-search-preview",
            answered_by="gpt-4o-search-preview-2025-03-11",
        ),
        Case(
            "unicode",
            {"messages": [system("Répondez à l'identique. 🙂"), user(UNICODE)]},
            [Said(UNICODE)],
            completion=90,
        ),
        Case(
            "unicode-tools",
            {"messages": [user("港の潮は? 🌊")], "tools": [FERRIES]},
            [
                Said(
                    calls=[("find_ferry", '{"from":"神戸 🚢","to":"Île d’Yeu\u2028","passengers":1}')],
                    finish="tool_calls",
                )
            ],
        ),
        Case("empty", {"messages": [user("Say nothing at all.")]}, [Said("")], completion=1),
    ]


# --- writing


def usage(case: Case) -> Json:
    return {
        "prompt_tokens": case.prompt,
        "completion_tokens": case.completion,
        "total_tokens": case.prompt + case.completion,
        "prompt_tokens_details": {"cached_tokens": case.cached, "audio_tokens": case.audio_in},
        "completion_tokens_details": {
            "reasoning_tokens": case.reasoning,
            "audio_tokens": case.audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _logprob(text: str) -> Json:
    row = {"token": text, "logprob": -0.0117, "bytes": list(text.encode())}
    other = {"token": "No", "logprob": -4.625, "bytes": [78, 111]}
    return {**row, "top_logprobs": [row, other]}


def message(said: Said, seed: str) -> Json:
    value: Json = {"role": "assistant", "content": said.content}
    if said.calls:
        value["tool_calls"] = [called(*call, f"{seed} {at}") for at, call in enumerate(said.calls)]
    if said.custom is not None:
        name, text = said.custom
        value["tool_calls"] = [{"id": call_id(seed), "type": "custom", "custom": {"name": name, "input": text}}]
    if said.function_call is not None:
        value["function_call"] = said.function_call
    value["refusal"] = said.refusal
    if said.audio is not None:
        value["audio"] = said.audio
    return {**value, "annotations": list(said.annotations), **said.message_extra}


def reply(case: Case, seed: str) -> Json:
    choices = [
        {
            "index": at,
            "message": message(said, f"{seed} {at}"),
            "logprobs": {"content": [_logprob(said.content or "")], "refusal": None} if said.logprobs else None,
            "finish_reason": said.finish,
        }
        for at, said in enumerate(case.said)
    ]
    return {
        "id": "chatcmpl-" + token(seed, 29),
        "object": "chat.completion",
        "created": CREATED,
        "model": case.answered_by,
        "choices": choices,
        "usage": usage(case),
        "service_tier": "default",
        "system_fingerprint": "fp_" + hexes(case.answered_by, 10),
    }


def _deltas(said: Said, seed: str) -> Iterator[Json]:
    first: Json = {"role": "assistant", "content": None if said.calls and said.content is None else ""}
    if said.function_call is not None:
        first = {
            "role": "assistant",
            "content": None,
            "function_call": {"name": said.function_call["name"], "arguments": ""},
        }
    yield {**first, "refusal": None}
    if said.function_call is not None:
        yield from ({"function_call": {"arguments": each}} for each in pieces(said.function_call["arguments"], 7))
    yield from ({"content": each} for each in pieces(said.content or "", 3 if said.logprobs else 9))
    yield from ({"refusal": each} for each in pieces(said.refusal or ""))
    for at, (name, arguments) in enumerate(said.calls):
        whole = called(name, "", f"{seed} {at}")
        yield {"tool_calls": [{"index": at, **whole}]}
        yield from ({"tool_calls": [{"index": at, "function": {"arguments": each}}]} for each in pieces(arguments, 7))
    if said.annotations:
        yield {"annotations": list(said.annotations)}


def chunks(case: Case, seed: str) -> Iterator[Json]:
    begin = {
        "id": "chatcmpl-" + token(seed, 29),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": case.answered_by,
        "service_tier": "default",
        "system_fingerprint": "fp_" + hexes(case.answered_by, 10),
    }
    number = 0
    for at, said in enumerate(case.said):
        for delta in _deltas(said, f"{seed} {at}"):
            probable = said.logprobs and delta.get("content")
            logprobs = {"content": [_logprob(delta["content"])], "refusal": None} if probable else None
            choice = {"index": at, "delta": delta, "logprobs": logprobs, "finish_reason": None}
            number += 1
            yield {**begin, "choices": [choice], "usage": None, "obfuscation": token(f"{seed} {number}", number % 13)}
    for at, said in enumerate(case.said):
        choice = {"index": at, "delta": {}, "logprobs": None, "finish_reason": said.finish}
        yield {**begin, "choices": [choice], "usage": None, "obfuscation": token(f"{seed} {at} end", 6)}
    yield {**begin, "choices": [], "usage": usage(case), "obfuscation": token(seed + "usage", 4)}


def asked(case: Case, *, stream: bool) -> Json:
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": case.model, **case.request, **more}


def headers(seed: str) -> Json:
    return {
        "openai-organization": "org-" + token("organization", 24),
        "openai-processing-ms": "412",
        "openai-version": "2020-10-01",
        "x-ratelimit-limit-requests": "5000",
        "x-ratelimit-remaining-requests": "4999",
        "x-ratelimit-reset-requests": "12ms",
        "x-request-id": "req_" + hexes(seed, 32),
    }


def openai() -> Iterator[Exchange]:
    where = ("openai", "chat_completions", "POST /v1/chat/completions", "api.openai.com")
    for case in cases():
        seed = f"openai chat {case.name}"
        more = {"response_headers": headers(seed)}
        if case.replies:
            body = pretty(reply(case, seed))
            yield Exchange(case.name, *where, case.model, asked(case, stream=False), body, **more)
        if case.streams:
            wire = sse(chunks(case, seed), end=DONE)
            name = f"{case.name}-stream"
            yield Exchange(name, *where, case.model, asked(case, stream=True), wire, stream_format="sse", **more)
    # A caller that does not ask for usage gets none.
    case = replace(cases()[0], name="no-usage")
    wire = sse(
        ({k: v for k, v in chunk.items() if k != "usage"} for chunk in list(chunks(case, "bare"))[:-1]), end=DONE
    )
    asks = {**asked(case, stream=False), "stream": True}
    yield Exchange("no-usage-stream", *where, case.model, asks, wire, stream_format="sse")
    yield from errors(where)


def error(message: str, type_: str, param: str | None = None, code: str | None = None) -> bytes:
    return pretty({"error": {"message": message, "type": type_, "param": param, "code": code}})


def errors(where: tuple[str, str, str, str]) -> Iterator[Exchange]:
    model = "gpt-4.1-mini"
    hello = {"model": model, "messages": [user("Hello")]}
    key = "Incorrect API key provided: sk-wrong. You can find your API key in the settings of your account."
    long = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens."
    limit = "Rate limit reached for gpt-4.1-mini on requests per min (RPM): Limit 3, Used 3. Please try again in 20s."
    quota = "You exceeded your current quota, please check your plan and billing details."
    rows: list[tuple[str, int, Json, bytes, Json]] = [
        (
            "error-invalid-value",
            400,
            {**hello, "temperature": 3},
            error(
                "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
                "invalid_request_error",
                "temperature",
                "decimal_above_max_value",
            ),
            {},
        ),
        (
            "error-context-length",
            400,
            hello,
            error(long, "invalid_request_error", "messages", "context_length_exceeded"),
            {},
        ),
        ("error-key", 401, hello, error(key, "invalid_request_error", None, "invalid_api_key"), {}),
        (
            "error-permission",
            403,
            hello,
            error("Project does not have access to model.", "invalid_request_error", None, "model_not_found"),
            {},
        ),
        (
            "error-model",
            404,
            {**hello, "model": "gpt-none"},
            error("The model `gpt-none` does not exist.", "invalid_request_error", None, "model_not_found"),
            {},
        ),
        (
            "error-rate-limit",
            429,
            hello,
            error(limit, "requests", None, "rate_limit_exceeded"),
            {"retry-after": "20", "retry-after-ms": "20000"},
        ),
        ("error-quota", 429, hello, error(quota, "insufficient_quota", None, "insufficient_quota"), {}),
        (
            "error-server",
            500,
            hello,
            error("The server had an error while processing your request.", "server_error"),
            {},
        ),
        (
            "error-overloaded",
            503,
            hello,
            error("That model is currently overloaded.", "server_error", None, "overloaded"),
            {"retry-after": "2"},
        ),
        (
            "error-of-a-stream",
            400,
            {**hello, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 1_000_000_000},
            error(
                "Invalid 'max_tokens': integer above maximum value.",
                "invalid_request_error",
                "max_tokens",
                "integer_above_max_value",
            ),
            {},
        ),
    ]
    for name, status, request, body, more in rows:
        found = {**headers(name), **more}
        yield Exchange(name, *where, request["model"], request, body, status, response_headers=found)


# --- Azure

_SAFE = {"filtered": False, "severity": "safe"}
_FILTERS = {
    "hate": _SAFE,
    "protected_material_code": {"filtered": False, "detected": False},
    "protected_material_text": {"filtered": False, "detected": False},
    "self_harm": _SAFE,
    "sexual": _SAFE,
    "violence": _SAFE,
}
_PROMPT = {
    "hate": _SAFE,
    "jailbreak": {"filtered": False, "detected": False},
    "self_harm": _SAFE,
    "sexual": _SAFE,
    "violence": _SAFE,
}
AZURE_CASES = (
    "text",
    "tools",
    "parallel-tools",
    "tool-results",
    "vision-bytes",
    "structured-output",
    "reasoning",
    "several-choices",
)


def azure() -> Iterator[Exchange]:
    host = "harbour.openai.azure.com"
    for case in cases():
        if case.name not in AZURE_CASES:
            continue
        seed = f"azure {case.name}"
        endpoint = f"POST /openai/deployments/{case.model}/chat/completions"
        where: tuple[str, str, str, str] = ("azure", "chat_completions", endpoint, host)
        found = {"apim-request-id": uuid(seed), "x-ms-region": "Sweden Central"}
        whole = reply(case, seed)
        whole["choices"] = [{"content_filter_results": _FILTERS, **choice} for choice in whole["choices"]]
        whole["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": _PROMPT}]
        more: dict[str, Any] = {"query": "api-version=2025-01-01-preview", "response_headers": found}
        yield Exchange(case.name, *where, case.model, asked(case, stream=False), compact(whole), **more)
        parts = list(chunks(case, seed))
        for part in parts[:-1]:
            part["choices"] = [{"content_filter_results": {}, **choice} for choice in part["choices"]]
        first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        first["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": _PROMPT}]
        wire = sse([first, *parts], end=DONE)
        asks = asked(case, stream=True)
        yield Exchange(f"{case.name}-stream", *where, case.model, asks, wire, stream_format="sse", **more)
    hello = {"messages": [user("Tell me how to sink a ferry.")], "model": "gpt-4.1-mini"}
    endpoint = "POST /openai/deployments/gpt-4.1-mini/chat/completions"
    filtered: Json = {
        "error": {
            "message": "The response was filtered due to the prompt triggering the content management policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {**_PROMPT, "violence": {"filtered": True, "severity": "medium"}},
            },
        }
    }
    missing = {
        "error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}
    }
    slow = {
        "error": {"code": "429", "message": "Requests have exceeded the call rate limit. Please retry after 7 seconds."}
    }
    denied = {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}
    for name, status, value, headers_ in (
        ("error-content-filter", 400, filtered, {}),
        ("error-key", 401, denied, {}),
        ("error-deployment", 404, missing, {}),
        ("error-rate-limit", 429, slow, {"retry-after": "7"}),
    ):
        yield Exchange(
            name,
            "azure",
            "chat_completions",
            endpoint,
            host,
            "gpt-4.1-mini",
            hello,
            json.dumps(value).encode(),
            status,
            query="api-version=2025-01-01-preview",
            response_headers=headers_,
        )


def exchanges() -> Iterator[Exchange]:
    yield from openai()
    yield from azure()
