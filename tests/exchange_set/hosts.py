"""Chat completions of the hosts that speak OpenAI's format with fields of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .base import (
    CREATED,
    DONE,
    GIF,
    LEAFLET,
    MP4,
    PHOTO,
    PIXEL,
    UNICODE,
    WAV,
    Exchange,
    Json,
    compact,
    hexes,
    pieces,
    sealed,
    sse,
    token,
    uuid,
)
from .openai_chat import (
    ASKS_TIDES,
    FERRIES,
    FERRY_CALL,
    LOAF_FORMAT,
    TIDE_CALL,
    TIDES,
    Said,
    assistant,
    call_id,
    called,
    system,
    user,
)

PROMPT, COMPLETION = 31, 44


def plain_usage(thoughts: int) -> Json:
    return {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "total_tokens": PROMPT + COMPLETION}


def detailed_usage(thoughts: int) -> Json:
    more = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": thoughts}}
    return {**plain_usage(thoughts), **more}


def deepseek_usage(thoughts: int) -> Json:
    details: Json = {"prompt_tokens_details": {"cached_tokens": 16}}
    if thoughts:
        details["completion_tokens_details"] = {"reasoning_tokens": thoughts}
    split = {"prompt_cache_hit_tokens": 16, "prompt_cache_miss_tokens": PROMPT - 16}
    return {**plain_usage(thoughts), **details, **split}


def groq_usage(thoughts: int) -> Json:
    times = {"queue_time": 0.018, "prompt_time": 0.004, "completion_time": 0.091, "total_time": 0.095}
    details = {"completion_tokens_details": {"reasoning_tokens": thoughts}} if thoughts else {}
    return {**plain_usage(thoughts), **times, **details}


def openrouter_usage(thoughts: int) -> Json:
    return {
        **plain_usage(thoughts),
        "cost": 0.00021,
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4, "audio_tokens": 0, "video_tokens": 0},
        "cost_details": {
            "upstream_inference_cost": 0.00021,
            "upstream_inference_prompt_cost": 0.00006,
            "upstream_inference_completions_cost": 0.00015,
        },
        "completion_tokens_details": {"reasoning_tokens": thoughts, "image_tokens": 0, "audio_tokens": 0},
    }


def xai_usage(thoughts: int) -> Json:
    """The thoughts are counted beside the completion, and in the total."""
    return {
        "prompt_tokens": PROMPT,
        "completion_tokens": COMPLETION,
        "total_tokens": PROMPT + COMPLETION + thoughts,
        "prompt_tokens_details": {"text_tokens": PROMPT, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 7},
        "completion_tokens_details": {
            "reasoning_tokens": thoughts,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "num_sources_used": 0,
    }


def perplexity_usage(thoughts: int) -> Json:
    cost = {"input_tokens_cost": 0.0, "output_tokens_cost": 0.0001, "request_cost": 0.005, "total_cost": 0.0051}
    return {**plain_usage(thoughts), "search_context_size": "low", "cost": cost}


def databricks_usage(thoughts: int) -> Json:
    return {**plain_usage(thoughts), "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}


@dataclass(frozen=True, slots=True)
class Host:
    provider: str
    host: str
    endpoint: str
    model: str
    usage: Callable[[int], Json] = plain_usage
    thinks: str = ""
    """The field of a message that holds its reasoning; empty where the host shows none."""
    id: Callable[[str], str] = lambda seed: "chatcmpl-" + hexes(seed, 32)
    call: Callable[[str], str] = call_id
    reply_extra: Json = field(default_factory=dict)
    chunk_extra: Json = field(default_factory=dict)
    choice_extra: Json = field(default_factory=dict)
    usage_at_finish: bool = False
    """Usage comes with the finish; otherwise in a chunk of its own."""
    whole_calls: bool = False
    """A tool call comes in one chunk."""
    done: bytes = DONE
    comment: bytes = b""
    """A comment before the first chunk."""
    details: bool = False
    """`reasoning_details` beside the reasoning, as OpenRouter has it."""
    asks_thinking: Json = field(default_factory=dict)


HOSTS = (
    Host(
        "deepseek",
        "api.deepseek.com",
        "POST /chat/completions",
        "deepseek-reasoner",
        deepseek_usage,
        "reasoning_content",
        uuid,
        lambda seed: f"call_00_{token(seed, 24)}",
        chunk_extra={"system_fingerprint": "fp_" + hexes("deepseek", 10) + "_prod"},
        choice_extra={"logprobs": None},
        usage_at_finish=True,
        asks_thinking={"thinking": {"type": "enabled"}},
    ),
    Host(
        "groq",
        "api.groq.com",
        "POST /openai/v1/chat/completions",
        "openai/gpt-oss-20b",
        groq_usage,
        "reasoning",
        uuid,
        lambda seed: "fc_" + uuid(seed),
        reply_extra={
            "usage_breakdown": None,
            "system_fingerprint": "fp_" + hexes("groq", 10),
            "x_groq": {"id": "req_" + token("groq", 26).lower(), "seed": 17},
            "service_tier": "on_demand",
        },
        chunk_extra={"system_fingerprint": "fp_" + hexes("groq", 10)},
        choice_extra={"logprobs": None},
        whole_calls=True,
        asks_thinking={"reasoning_effort": "low", "reasoning_format": "parsed"},
    ),
    Host(
        "openrouter",
        "openrouter.ai",
        "POST /api/v1/chat/completions",
        "anthropic/claude-sonnet-4.5",
        openrouter_usage,
        "reasoning",
        lambda seed: f"gen-{CREATED}-{token(seed, 20)}",
        lambda seed: "toolu_" + token(seed, 24),
        reply_extra={"provider": "Anthropic"},
        chunk_extra={"provider": "Anthropic"},
        choice_extra={"logprobs": None, "native_finish_reason": "stop"},
        comment=b": OPENROUTER PROCESSING\n\n",
        details=True,
        asks_thinking={"reasoning": {"effort": "low"}, "usage": {"include": True}},
    ),
    Host(
        "xai",
        "api.x.ai",
        "POST /v1/chat/completions",
        "grok-3-mini",
        xai_usage,
        "reasoning_content",
        uuid,
        lambda seed: f"call_{hexes(seed, 8)}",
        reply_extra={"system_fingerprint": "fp_" + hexes("xai", 10)},
        chunk_extra={"system_fingerprint": "fp_" + hexes("xai", 10)},
        whole_calls=True,
        asks_thinking={"reasoning_effort": "low"},
    ),
    Host(
        "vercel-gateway",
        "ai-gateway.vercel.sh",
        "POST /v1/chat/completions",
        "openai/gpt-5-mini",
        detailed_usage,
        "reasoning",
        lambda seed: "gen_" + token(seed, 26),
        chunk_extra={"system_fingerprint": "fp_" + hexes("vercel", 10)},
        usage_at_finish=True,
        details=True,
        asks_thinking={"reasoning": {"enabled": True}},
    ),
    Host(
        "zai",
        "api.z.ai",
        "POST /api/paas/v4/chat/completions",
        "glm-4.6",
        detailed_usage,
        "reasoning_content",
        lambda seed: f"20260101{hexes(seed, 18)}",
        reply_extra={"request_id": "20260101" + hexes("zai", 18)},
        usage_at_finish=True,
        whole_calls=True,
        asks_thinking={"thinking": {"type": "enabled", "clear_thinking": False}},
    ),
    Host(
        "ollama",
        "127.0.0.1:11434",
        "POST /v1/chat/completions",
        "qwen3:4b",
        plain_usage,
        "reasoning",
        lambda seed: f"chatcmpl-{int(hexes(seed, 3), 16)}",
        lambda seed: f"call_{token(seed, 8).lower()}",
        reply_extra={"system_fingerprint": "fp_ollama"},
        chunk_extra={"system_fingerprint": "fp_ollama"},
        whole_calls=True,
        asks_thinking={"enable_thinking": True},
    ),
    Host(
        "local-openai-compatible",
        "127.0.0.1:8000",
        "POST /v1/chat/completions",
        "Qwen/Qwen3-8B",
        plain_usage,
        "reasoning_content",
        lambda seed: "chatcmpl-" + hexes(seed, 32),
        lambda seed: "chatcmpl-tool-" + hexes(seed, 32),
        choice_extra={"logprobs": None, "stop_reason": None},
        reply_extra={
            "service_tier": None,
            "system_fingerprint": None,
            "prompt_logprobs": None,
            "kv_transfer_params": None,
        },
        asks_thinking={"chat_template_kwargs": {"enable_thinking": True}},
    ),
    Host("gpustack", "gpus.example", "POST /v1/chat/completions", "qwen3-32b", detailed_usage, "reasoning_content"),
    Host(
        "cerebras",
        "api.cerebras.ai",
        "POST /v1/chat/completions",
        "gpt-oss-120b",
        detailed_usage,
        "reasoning",
        lambda seed: "chatcmpl-" + uuid(seed),
        lambda seed: hexes(seed, 9),
        reply_extra={
            "system_fingerprint": "fp_" + hexes("cerebras", 20),
            "time_info": {"queue_time": 0.0001, "prompt_time": 0.002, "completion_time": 0.03, "total_time": 0.034},
        },
        chunk_extra={"system_fingerprint": "fp_" + hexes("cerebras", 20)},
        usage_at_finish=True,
        whole_calls=True,
        asks_thinking={"reasoning_effort": "low"},
    ),
    Host(
        "together",
        "api.together.xyz",
        "POST /v1/chat/completions",
        "openai/gpt-oss-20b",
        plain_usage,
        "reasoning",
        lambda seed: f"{token(seed, 7)}-{token(seed, 5)}-{hexes(seed, 16)}",
        choice_extra={"seed": 1234567},
        reply_extra={"prompt": []},
        usage_at_finish=True,
    ),
    Host(
        "huggingface",
        "router.huggingface.co",
        "POST /v1/chat/completions",
        "Qwen/Qwen3-32B",
        detailed_usage,
        "reasoning",
    ),
    Host(
        "perplexity",
        "api.perplexity.ai",
        "POST /chat/completions",
        "sonar",
        perplexity_usage,
        "",
        uuid,
        usage_at_finish=True,
    ),
    Host(
        "databricks",
        "dbc.example",
        "POST /serving-endpoints/chat/completions",
        "databricks-gpt-oss-20b",
        databricks_usage,
    ),
    Host(
        "snowflake",
        "harbour.snowflakecomputing.com",
        "POST /api/v2/cortex/v1/chat/completions",
        "claude-4-sonnet",
        detailed_usage,
        "reasoning",
        uuid,
        details=True,
    ),
    Host(
        "bedrock-mantle",
        "bedrock-mantle.eu-central-1.api.aws",
        "POST /v1/chat/completions",
        "openai.gpt-oss-20b",
        detailed_usage,
        "reasoning",
    ),
    Host(
        "avian",
        "api.avian.io",
        "POST /v1/chat/completions",
        "deepseek/deepseek-v3.2",
        detailed_usage,
        "reasoning_content",
    ),
    Host(
        "cloudflare",
        "api.cloudflare.com",
        f"POST /client/v4/accounts/{hexes('account', 32)}/ai/v1/chat/completions",
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
        plain_usage,
    ),
    Host(
        "crusoe",
        "managed-inference.example",
        "POST /v1/chat/completions",
        "meta-llama/Llama-3.3-70B-Instruct",
        plain_usage,
        choice_extra={"logprobs": None, "stop_reason": None, "token_ids": None},
    ),
    Host(
        "gemini",
        "generativelanguage.googleapis.com",
        "POST /v1beta/openai/chat/completions",
        "gemini-2.5-flash",
        plain_usage,
        "",
        lambda seed: token(seed, 22),
        lambda seed: "function-call-" + str(int(hexes(seed, 15), 16)),
        usage_at_finish=True,
        whole_calls=True,
    ),
)

THOUGHT = "The user asks for a bridge. A drawbridge lets ships pass."
ANSWER = "A drawbridge opens for ships."


def _details(host: Host, text: str) -> Json:
    if not host.details:
        return {}
    row = {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0}
    return {"reasoning_details": [row]}


def message(host: Host, said: Said, seed: str) -> Json:
    value: Json = {"role": "assistant", "content": said.content}
    if said.reasoning:
        signed = _details(host, said.reasoning)
        if signed:
            signed["reasoning_details"][0]["signature"] = sealed(seed)
        value |= {host.thinks: said.reasoning, **signed}
    if said.calls:
        value["tool_calls"] = [
            {
                "id": host.call(f"{seed} {at}"),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
                **({"index": at} if host.provider in ("deepseek", "openrouter", "zai", "ollama") else {}),
            }
            for at, (name, arguments) in enumerate(said.calls)
        ]
    return {**value, **said.message_extra}


def reply(host: Host, said: Said, seed: str, **more: Any) -> bytes:
    thoughts = 21 if said.reasoning else 0
    choice = {"index": 0, "message": message(host, said, seed), "finish_reason": said.finish, **host.choice_extra}
    whole = {
        "id": host.id(seed),
        "object": "chat.completion",
        "created": CREATED,
        "model": host.model,
        "choices": [choice],
        "usage": host.usage(thoughts),
        **host.reply_extra,
        **more,
    }
    return compact(whole)


def deltas(host: Host, said: Said, seed: str) -> Iterator[Json]:
    first = True
    for text in pieces(said.reasoning, 12):
        opening = {"role": "assistant"} if first else {}
        first = False
        yield {**opening, "content": None, host.thinks: text, **_details(host, text)}
    if said.reasoning and host.details:
        row = {"type": "reasoning.text", "signature": sealed(seed), "format": "anthropic-claude-v1", "index": 0}
        yield {"content": "", host.thinks: None, "reasoning_details": [row]}
    if first:
        yield {"role": "assistant", "content": ""}
    yield from ({"content": text} for text in pieces(said.content or ""))
    for at, (name, arguments) in enumerate(said.calls):
        id = host.call(f"{seed} {at}")
        if host.whole_calls:
            call = {"index": at, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            yield {"tool_calls": [call]}
            continue
        yield {"tool_calls": [{"index": at, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]}
        yield from ({"tool_calls": [{"index": at, "function": {"arguments": each}}]} for each in pieces(arguments, 8))
    if said.message_extra:
        yield said.message_extra


def stream(host: Host, said: Said, seed: str, **more: Any) -> bytes:
    thoughts = 21 if said.reasoning else 0
    begin = {
        "id": host.id(seed),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": host.model,
        **host.chunk_extra,
    }
    chunks = [
        {**begin, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **host.choice_extra}]}
        for delta in deltas(host, said, seed)
    ]
    end: Json = {"index": 0, "delta": {}, "finish_reason": said.finish, **host.choice_extra}
    usage = host.usage(thoughts)
    last: Json = {**begin, "choices": [end], **more}
    if host.provider == "groq":
        chunks[0]["x_groq"] = {"id": "req_" + token("groq", 26).lower(), "seed": 17}
        last["x_groq"] = {"id": "req_" + token("groq", 26).lower(), "usage": usage}
    if host.usage_at_finish:
        last["usage"] = usage
        chunks.append(last)
    else:
        chunks += [last, {**begin, "choices": [], "usage": usage}]
    return host.comment + sse(chunks, end=host.done)


def _pair(host: Host, case: str, request: Json, said: Said, **more: Any) -> Iterator[Exchange]:
    where = (host.provider, "chat_completions", host.endpoint, host.host, host.model)
    seed = f"{host.provider} {case}"
    asks = {"model": host.model, **request}
    yield Exchange(case, *where, asks, reply(host, said, seed, **more))
    asks = {**asks, "stream": True, "stream_options": {"include_usage": True}}
    yield Exchange(f"{case}-stream", *where, asks, stream(host, said, seed, **more), stream_format="sse")


def every_host(host: Host) -> Iterator[Exchange]:
    asks = [system("Be brief."), user("Name a kind of bridge.")]
    yield from _pair(host, "text", {"messages": asks, "max_tokens": 200}, Said(ANSWER))
    request = {"messages": [ASKS_TIDES], "tools": [TIDES], "tool_choice": "auto"}
    yield from _pair(host, "tools", request, Said(calls=[TIDE_CALL], content="", finish="tool_calls"))
    if not host.thinks:
        return
    history = assistant(ANSWER, **{host.thinks: THOUGHT})
    request = {"messages": [*asks, history, user("And another?")], **host.asks_thinking}
    yield from _pair(host, "reasoning", request, Said("A swing bridge.", reasoning=THOUGHT))


def by_name(provider: str) -> Host:
    return next(host for host in HOSTS if host.provider == provider)


def openrouter() -> Iterator[Exchange]:
    host = by_name("openrouter")
    cached = {"type": "text", "text": "The rules of the harbour.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    yield from _pair(
        host,
        "routing",
        {
            "messages": [{"role": "system", "content": [cached]}, user("May I anchor here?")],
            "models": ["openai/gpt-5-mini"],
            "provider": {"order": ["anthropic"], "allow_fallbacks": False},
            "transforms": ["middle-out"],
        },
        Said("Only with a permit."),
    )
    request = {"messages": [ASKS_TIDES], "tools": [TIDES, FERRIES], "parallel_tool_calls": True}
    yield from _pair(host, "parallel-tools", request, Said("", calls=[TIDE_CALL, FERRY_CALL], finish="tool_calls"))
    search = {"type": "openrouter:web_search", "parameters": {"max_results": 2}}
    cited = {"url": "https://harbour.example/notices", "title": "Notices", "start_index": 0, "end_index": 12}
    notes = [{"type": "url_citation", "url_citation": cited}]
    yield from _pair(
        host,
        "web-search",
        {"messages": [user("Is the harbour open?")], "tools": [search]},
        Said("It is open, says the harbour master.", message_extra={"annotations": notes}),
    )
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}, "index": 0}
    yield from _pair(
        host,
        "picture",
        {"messages": [user("Draw a red dot.")], "modalities": ["image", "text"]},
        Said("Here it is.", message_extra={"images": [picture]}),
    )
    row = {"type": "reasoning.encrypted", "data": sealed("openrouter history"), "format": "openai-responses-v1"}
    kept = [{**row, "id": "rs_" + hexes("openrouter", 50), "index": 0}]
    turn = assistant("", tool_calls=[called(*TIDE_CALL, "openrouter")], reasoning_details=kept)
    result = {"role": "tool", "tool_call_id": call_id("openrouter"), "content": "High water at 04:12."}
    yield from _pair(
        host,
        "encrypted-reasoning",
        {"messages": [ASKS_TIDES, turn, result], "tools": [TIDES], "reasoning": {"effort": "low"}},
        Said("High water is at 04:12."),
    )
    film = {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{MP4}"}}
    paper = {"type": "file", "file": {"filename": "tides.pdf", "file_data": LEAFLET}}
    content = [{"type": "text", "text": "What is in these?"}, film, paper]
    yield from _pair(host, "video", {"messages": [user(content)]}, Said("A ferry, and a table of tides."))
    begun = stream(host, Said("The answer begins"), "openrouter torn").split(b"data: ")
    fault = {"code": 502, "message": "Provider disconnected unexpectedly"}
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": "error"}
    last = {
        "id": host.id("openrouter torn"),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": host.model,
        "provider": "Anthropic",
        "error": fault,
        "choices": [choice],
    }
    wire = b"data: ".join(begun[:3]) + sse([last], end=DONE)
    where = (host.provider, "chat_completions", host.endpoint, host.host, host.model)
    asks = {"model": host.model, "messages": [user("Hello")], "stream": True}
    yield Exchange("error-in-a-stream", *where, asks, wire, stream_format="sse")


def mistral() -> Iterator[Exchange]:
    """Reasoning comes as parts of the content; ids of tool calls have nine characters."""
    host = Host(
        "mistral",
        "api.mistral.ai",
        "POST /v1/chat/completions",
        "magistral-medium-latest",
        plain_usage,
        "",
        lambda seed: hexes(seed, 32),
        lambda seed: token(seed, 9),
        chunk_extra={"p": "abcdefghij"},
        usage_at_finish=True,
        whole_calls=True,
    )
    yield from every_host(host)
    where = (host.provider, "chat_completions", host.endpoint, host.host, host.model)
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    answer = {"type": "text", "text": "A swing bridge."}
    messages = [
        system("Think first."),
        user("Name a bridge."),
        assistant([thinking, {"type": "text", "text": ANSWER}]),
        user("And another?"),
    ]
    asks: Json = {"model": host.model, "messages": messages, "prompt_mode": "reasoning"}
    parts = Said(None, message_extra={"content": [{**thinking, "closed": True}, answer], "tool_calls": None})
    yield Exchange("reasoning", *where, asks, reply(host, parts, "mistral reasoning"))
    begin = {
        "id": hexes("mistral reasoning", 32),
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": host.model,
    }
    said: list[Any] = [""]
    said += [[{"type": "thinking", "thinking": [{"type": "text", "text": each}]}] for each in pieces(THOUGHT)]
    said += pieces("A swing bridge.")
    chunks: list[Json] = [
        {**begin, "choices": [{"index": 0, "delta": {"content": each}, "finish_reason": None}]} for each in said
    ]
    chunks[0]["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    end = {"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}
    chunks.append({**begin, "choices": [end], "usage": plain_usage(0)})
    yield Exchange("reasoning-stream", *where, {**asks, "stream": True}, sse(chunks, end=DONE), stream_format="sse")
    content = [
        {"type": "text", "text": "Compare them."},
        {"type": "image_url", "image_url": PHOTO},
        {"type": "document_url", "document_url": LEAFLET},
    ]
    request = {"messages": [user(content)], "random_seed": 5, "safe_prompt": True}
    yield from _pair(host, "parts", request, Said("One is a picture, the other a table."))
    prefix = {"role": "assistant", "content": "A bridge is", "prefix": True}
    request = {"messages": [user("What is a bridge?"), prefix], "prompt_cache_key": "bridges"}
    yield from _pair(host, "prefix", request, Said("A bridge is a way over water."))
    request = {"messages": [ASKS_TIDES], "tools": [{"function": TIDES["function"]}], "tool_choice": "any"}
    yield from _pair(host, "any-tool", request, Said("", calls=[TIDE_CALL], finish="tool_calls"))
    sound = {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}
    yield from _pair(host, "audio", {"messages": [user([sound])]}, Said("I hear nothing."))
    wrong = {
        "object": "error",
        "message": "Invalid model: none",
        "type": "invalid_model",
        "param": None,
        "code": "1500",
    }
    yield Exchange("error-model", *where[:4], "none", {"model": "none", "messages": [user("Hi")]}, compact(wrong), 400)
    denied = {"detail": "Unauthorized"}
    yield Exchange("error-key", *where, {"model": host.model, "messages": [user("Hi")]}, compact(denied), 401)


def oddities() -> Iterator[Exchange]:
    """What single hosts do and the others do not."""
    together = by_name("together")
    yield from _pair(
        together,
        "knobs",
        {
            "messages": [user("Count to ten.")],
            "top_k": 40,
            "min_p": 0.05,
            "repetition_penalty": 1.1,
            "stop": ["five"],
            "seed": 3,
        },
        Said("one, two, three, four, ", finish="eos"),
    )
    ollama = by_name("ollama")
    yield from _pair(ollama, "unicode", {"messages": [user(UNICODE)]}, Said(UNICODE))
    local = by_name("local-openai-compatible")
    where = (local.provider, "chat_completions", local.endpoint, local.host, local.model)
    asks: Json = {"model": local.model, "messages": [user("Name a knot.")], "stream": True}
    bare = Host(local.provider, local.host, local.endpoint, local.model, usage_at_finish=True, done=b"")
    timings = {"cache_n": 0, "prompt_n": 31, "prompt_ms": 12.5, "predicted_n": 44, "predicted_ms": 480.1}
    wire = stream(bare, Said("Bowline."), "local without end", timings=timings)
    yield Exchange("no-done-stream", *where, asks, wire, stream_format="sse")
    wire = stream(bare, Said("A knot is", finish="length"), "local crlf").replace(b"\n", b"\r\n")
    yield Exchange("crlf-stream", *where, asks, wire, stream_format="sse")
    wire = b": ping\n\n" + stream(local, Said("Reef knot."), "local tight").replace(b"data: ", b"data:")
    yield Exchange("no-space-stream", *where, asks, wire, stream_format="sse")
    yield from _pair(
        local,
        "length",
        {"messages": [user("All about ropes.")], "max_completion_tokens": 5},
        Said("Ropes are made of", finish="length"),
    )
    perplexity = by_name("perplexity")
    found = [{"title": "Notices", "url": "https://harbour.example/notices", "date": "2026-01-04", "snippet": "Open."}]
    cites = {"citations": [found[0]["url"]], "search_results": found}
    yield from _pair(
        perplexity, "sources", {"messages": [user("Is the harbour open?")]}, Said("It is open.[1]"), **cites
    )
    asks = {"model": "sonar", "messages": [user([{"type": "file_url", "file_url": {"url": LEAFLET}}])]}
    where = (perplexity.provider, "chat_completions", perplexity.endpoint, perplexity.host, "sonar")
    yield Exchange("file-url", *where, asks, reply(perplexity, Said("A table of tides."), "perplexity file"))
    cloudflare = by_name("cloudflare")
    loaf = {"name": "Rye loaf", "flour_grams": 500, "steps": ["mix", "bake"]}
    asks = {"model": cloudflare.model, "messages": [user("A loaf.")], "response_format": LOAF_FORMAT}
    where = (cloudflare.provider, "chat_completions", cloudflare.endpoint, cloudflare.host, cloudflare.model)
    told = Said(None, message_extra={"content": loaf})
    yield Exchange("object-content", *where, asks, reply(cloudflare, told, "cloudflare object"))
    snowflake = by_name("snowflake")
    request = {
        "messages": [
            user(
                [
                    {"type": "text", "text": "Which colour?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{GIF}"}},
                ]
            )
        ]
    }
    yield from _pair(snowflake, "vision", request, Said("Black."))
    groq = by_name("groq")
    yield from _pair(
        groq,
        "structured-output",
        {"messages": [user("A loaf.")], "response_format": LOAF_FORMAT, "service_tier": "auto", "n": 1},
        Said('{"name":"Rye loaf","flour_grams":500,"steps":["mix"]}'),
    )
    deepseek = by_name("deepseek")
    answer = assistant("", reasoning_content=THOUGHT, tool_calls=[called(*TIDE_CALL, "deepseek")])
    result = {"role": "tool", "tool_call_id": call_id("deepseek"), "content": "High water at 04:12."}
    request = {"messages": [ASKS_TIDES, answer, result], "tools": [TIDES]}
    yield from _pair(deepseek, "tool-results", request, Said("At 04:12.", reasoning="The table says 04:12."))
    vercel = by_name("vercel-gateway")
    routing = {
        "originalModelId": vercel.model,
        "finalProvider": "openai",
        "attempts": [{"provider": "openai", "success": True}],
    }
    meta = {"gateway": {"routing": routing, "cost": "0.0002", "generationId": vercel.id("vercel metadata")}}
    request = {"messages": [{**user("Name a knot."), "cache_control": {"type": "ephemeral"}}]}
    yield from _pair(vercel, "metadata", request, Said("Bowline.", message_extra={"provider_metadata": meta}))
    gemini = by_name("gemini")
    signed = {"extra_content": {"google": {"thought_signature": sealed("gemini compatible")}}}
    yield from _pair(gemini, "signature", {"messages": [user("Name a knot.")]}, Said("Bowline.", message_extra=signed))


def errors() -> Iterator[Exchange]:
    def made(provider: str, name: str, status: int, value: Any, **headers: str) -> Exchange:
        host = by_name(provider)
        where = (host.provider, "chat_completions", host.endpoint, host.host, host.model)
        asks = {"model": host.model, "messages": [user("Hello")]}
        return Exchange(f"error-{name}", *where, asks, compact(value), status, response_headers=headers)

    def like_openai(message: str, type_: str, code: Any = None, param: Any = None) -> Json:
        return {"error": {"message": message, "type": type_, "param": param, "code": code}}

    yield made(
        "deepseek", "balance", 402, like_openai("Insufficient Balance", "unknown_error", "invalid_request_error")
    )
    yield made(
        "deepseek", "key", 401, like_openai("Authentication Fails, Your api key is invalid", "authentication_error")
    )
    limit = "Rate limit reached for model on tokens per minute (TPM): Limit 6000. Please try again in 7.3s."
    yield made("groq", "rate-limit", 429, like_openai(limit, "tokens", "rate_limit_exceeded"), **{"retry-after": "8"})
    failed = like_openai("Failed to call a function.", "invalid_request_error", "tool_use_failed")
    failed["error"]["failed_generation"] = "<function=tide_table>"
    yield made("groq", "tool-use", 400, failed)
    raw = {"raw": '{"type":"error"}', "provider_name": "Anthropic"}
    yield made(
        "openrouter", "provider", 502, {"error": {"message": "Provider returned error", "code": 502, "metadata": raw}}
    )
    yield made(
        "openrouter",
        "credits",
        402,
        {"error": {"message": "Insufficient credits", "code": 402}, "user_id": "user_" + token("openrouter", 24)},
    )
    yield made(
        "xai", "key", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided."}
    )
    yield made("ollama", "model", 404, like_openai('model "none" not found, try pulling it first', "api_error"))
    yield made(
        "local-openai-compatible",
        "length",
        400,
        {
            "object": "error",
            "message": "The input has 9000 tokens; the maximum is 8192.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    )
    yield made("zai", "balance", 429, {"error": {"code": "1113", "message": "Insufficient balance. Please recharge."}})
    yield made(
        "cerebras",
        "model",
        404,
        {
            "message": "Model none does not exist",
            "type": "not_found_error",
            "param": "model",
            "code": "model_not_found",
        },
    )
    yield made("huggingface", "key", 401, {"error": "Invalid username or password."})
    yield made(
        "databricks", "model", 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "The endpoint does not exist."}
    )
    yield made(
        "together", "key", 401, like_openai("Invalid API key provided.", "invalid_request_error", "invalid_api_key")
    )
    yield made(
        "vercel-gateway", "limit", 429, {"error": {"message": "Rate limit exceeded", "type": "rate_limit_exceeded"}}
    )
    yield made(
        "gemini", "key", 400, [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]
    )


def exchanges() -> Iterator[Exchange]:
    for host in HOSTS:
        yield from every_host(host)
    yield from openrouter()
    yield from mistral()
    yield from oddities()
    yield from errors()
