"""One question put by each official SDK, and what it makes of the answer, in the same few words for all of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
from gateway import KEY
from google import genai
from google.genai import types

FEATURES = ("text", "tools", "parallel tools", "image", "structured output", "reasoning")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {
    "type": "object",
    "properties": {"temperature_of_city": {"type": "number"}},
    "required": ["temperature_of_city"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = "What is the weather in Rome?"
SYSTEM = "Be brief."
# What a provider must see of each feature, whatever its format.
TELLING = {
    "tools": b"get_weather",
    "parallel tools": b"get_weather",
    "image": PIXEL.partition("+")[0].encode(),  # a + may come as the - of another alphabet
    "structured output": b"temperature_of_city",
}


@dataclass
class Seen:
    """What a client made of an answer."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    thinking: str = ""
    prompt: int = 0
    completion: int = 0


class Clients:
    """Of one gateway, made once: each costs as much as many requests."""

    def __init__(self, url: str) -> None:
        self.openai = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=30)
        self.anthropic = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, timeout=30)
        self.google = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=url, timeout=30_000))

    def close(self) -> None:
        self.openai.close()
        self.anthropic.close()
        self.google.close()


Ask = Callable[[Clients, str, str, bool], Seen]
"""A gateway's clients, a model, a feature, and whether to stream."""


def by_chat(clients: Clients, model: str, feature: str, stream: bool) -> Seen:
    content: Any = QUESTION
    more: dict[str, Any] = {}
    if feature in ("tools", "parallel tools"):
        function = {"name": "get_weather", "description": "The weather.", "parameters": PARAMETERS}
        more["tools"] = [{"type": "function", "function": function}]
    elif feature == "image":
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        content = [{"type": "text", "text": QUESTION}, image]
    elif feature == "structured output":
        more["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True},
        }
    elif feature == "reasoning":
        more["reasoning_effort"] = "low"
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    client = clients.openai
    if not stream:
        return _chat(client.chat.completions.create(model=model, messages=messages, **more))
    seen, calls = Seen(), {}
    options = {"include_usage": True}
    for chunk in client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options=options, **more
    ):
        if chunk.usage is not None:
            seen.prompt, seen.completion = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        for choice in chunk.choices:
            seen.text += choice.delta.content or ""
            seen.thinking += _reasoning(choice.delta)
            for call in choice.delta.tool_calls or []:
                row = calls.setdefault(call.index, ["", ""])
                row[0] += (call.function and call.function.name) or ""
                row[1] += (call.function and call.function.arguments) or ""
    seen.calls = [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()]
    return seen


def _reasoning(message: Any) -> str:
    extra = message.model_extra or {}
    return extra.get("reasoning_content") or extra.get("reasoning") or ""


def _chat(reply: Any) -> Seen:
    message = reply.choices[0].message
    calls = [(c.function.name, json.loads(c.function.arguments or "{}")) for c in message.tool_calls or []]
    usage = reply.usage
    return Seen(message.content or "", calls, _reasoning(message), usage.prompt_tokens, usage.completion_tokens)


def by_responses(clients: Clients, model: str, feature: str, stream: bool) -> Seen:
    content: list[Any] = [{"type": "input_text", "text": QUESTION}]
    more: dict[str, Any] = {}
    if feature in ("tools", "parallel tools"):
        more["tools"] = [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": False}]
    elif feature == "image":
        content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"})
    elif feature == "structured output":
        form = {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}
        more["text"] = {"format": form}
    elif feature == "reasoning":
        more["reasoning"] = {"effort": "low"}
    request = {"model": model, "instructions": SYSTEM, "input": [{"role": "user", "content": content}], **more}
    if stream:
        reply = list(clients.openai.responses.create(stream=True, **request))[-1].response
    else:
        reply = clients.openai.responses.create(**request)
    seen = Seen(reply.output_text, prompt=reply.usage.input_tokens, completion=reply.usage.output_tokens)
    for item in reply.output:
        if item.type == "function_call":
            seen.calls.append((item.name, json.loads(item.arguments or "{}")))
        elif item.type == "reasoning":
            seen.thinking += "".join(part.text for part in [*(item.summary or []), *(item.content or [])])
    return seen


def by_anthropic(clients: Clients, model: str, feature: str, stream: bool) -> Seen:
    content: list[Any] = [{"type": "text", "text": QUESTION}]
    more: dict[str, Any] = {}
    if feature in ("tools", "parallel tools"):
        more["tools"] = [{"name": "get_weather", "description": "The weather.", "input_schema": PARAMETERS}]
    elif feature == "image":
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        content.append({"type": "image", "source": source})
    elif feature == "structured output":
        more["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    elif feature == "reasoning":
        more["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    request = {"model": model, "max_tokens": 4096, "system": SYSTEM, "messages": [{"role": "user", "content": content}]}
    if stream:
        with clients.anthropic.messages.stream(**request, **more) as events:
            reply = events.get_final_message()
    else:
        reply = clients.anthropic.messages.create(**request, **more)
    used = reply.usage
    prompt = used.input_tokens + (used.cache_read_input_tokens or 0) + (used.cache_creation_input_tokens or 0)
    seen = Seen(prompt=prompt, completion=used.output_tokens)
    for block in reply.content:
        if block.type == "text":
            seen.text += block.text
        elif block.type == "tool_use":
            seen.calls.append((block.name, block.input))
        elif block.type == "thinking":
            seen.thinking += block.thinking
    return seen


def by_gemini(clients: Clients, model: str, feature: str, stream: bool) -> Seen:
    parts = [types.Part(text=QUESTION)]
    more: dict[str, Any] = {"system_instruction": SYSTEM}
    if feature in ("tools", "parallel tools"):
        declared = types.FunctionDeclaration(name="get_weather", parameters_json_schema=PARAMETERS)
        more["tools"] = [types.Tool(function_declarations=[declared])]
        more["automatic_function_calling"] = types.AutomaticFunctionCallingConfig(disable=True)
    elif feature == "image":
        parts.append(types.Part(inline_data=types.Blob(mime_type="image/png", data=base64.b64decode(PIXEL))))
    elif feature == "structured output":
        more |= {"response_mime_type": "application/json", "response_json_schema": SCHEMA}
    elif feature == "reasoning":
        more["thinking_config"] = types.ThinkingConfig(thinking_budget=1024, include_thoughts=True)
    request: Mapping[str, Any] = {
        "model": model,
        "contents": [types.Content(role="user", parts=parts)],
        "config": types.GenerateContentConfig(**more),
    }
    if stream:
        replies = list(clients.google.models.generate_content_stream(**request))
    else:
        replies = [clients.google.models.generate_content(**request)]
    seen = Seen()
    for reply in replies:
        candidate = reply.candidates[0] if reply.candidates else None
        for part in (candidate.content.parts or []) if candidate is not None and candidate.content else []:
            if part.function_call is not None:
                seen.calls.append((part.function_call.name, part.function_call.args or {}))
            elif part.text and part.thought:
                seen.thinking += part.text
            elif part.text:
                seen.text += part.text
        used = reply.usage_metadata
        if used is not None:
            seen.prompt = (used.prompt_token_count or 0) + (used.tool_use_prompt_token_count or 0)
            seen.completion = (used.candidates_token_count or 0) + (used.thoughts_token_count or 0)
    return seen


INPUTS: Mapping[str, Ask] = {
    "OpenAI chat": by_chat,
    "OpenAI responses": by_responses,
    "Anthropic messages": by_anthropic,
    "Gemini": by_gemini,
}
