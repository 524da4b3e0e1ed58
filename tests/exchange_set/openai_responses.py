"""The Responses API: OpenAI's own host, Azure, and the other hosts that offer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .base import (
    CREATED,
    FERRY_ARGUMENTS,
    FERRY_SCHEMA,
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
    compact,
    hexes,
    numbered,
    pieces,
    pretty,
    sealed,
    sse,
    token,
    uuid,
)
from .openai_chat import PLAIN, error, headers

WHERE = ("openai", "responses", "POST /v1/responses", "api.openai.com")


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    request: Json
    output: Sequence[Json]
    """Items without their ids."""
    prompt: int = 22
    completion: int = 15
    cached: int = 0
    written: int | None = 0
    """Tokens written to the cache; None where the host does not count them."""
    reasoning: int = 0
    status: str = "completed"
    incomplete: str | None = None
    model: str = "gpt-4.1-mini"
    answered_by: str = "gpt-4.1-mini-2025-04-14"
    streams: bool = True


# --- the items of a reply


def text(*said: str, annotations: Sequence[Json] = (), phase: str | None = None) -> Json:
    parts = [{"type": "output_text", "annotations": list(annotations), "logprobs": [], "text": each} for each in said]
    more = {} if phase is None else {"phase": phase}
    return {"type": "message", "status": "completed", "content": parts, **more, "role": "assistant"}


def refusal(said: str) -> Json:
    parts = [{"type": "refusal", "refusal": said}]
    return {"type": "message", "status": "completed", "content": parts, "role": "assistant"}


def call(name: str, arguments: str, seed: str) -> Json:
    return {
        "type": "function_call",
        "status": "completed",
        "arguments": arguments,
        "call_id": call_id(seed),
        "name": name,
    }


def call_id(seed: str) -> str:
    return "call_" + token("responses " + seed, 24)


def reasoning(*summaries: str, seal: str = "", said: str = "") -> Json:
    item: Json = {"type": "reasoning"}
    if said:
        item["content"] = [{"type": "reasoning_text", "text": said}]
    if seal:
        item["encrypted_content"] = "gAAAAAB" + sealed(seal)
    return {**item, "summary": [{"type": "summary_text", "text": each} for each in summaries]}


PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "custom_tool_call": "ctc",
    "local_shell_call": "lsh",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
}


def item_id(kind: str, seed: str) -> str:
    return f"{PREFIXES[kind]}_{hexes(kind + seed, 50)}"


def with_id(item: Json, seed: str) -> Json:
    return {"id": item_id(item["type"], seed), **item}


# --- requests


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def function(name: str, description: str, schema: Json, *, strict: bool) -> Json:
    return {"type": "function", "name": name, "description": description, "parameters": schema, "strict": strict}


TIDES = function("tide_table", "Gives the times of high water at a port", TIDE_SCHEMA, strict=True)
FERRIES = function("find_ferry", "Finds ferries between two ports", FERRY_SCHEMA, strict=False)
ASKS_TIDES = "When is high water in Ostend on the first of March?"
SMALL: Any = {"model": "gpt-5-mini", "answered_by": "gpt-5-mini-2025-08-07"}
THOUGHT = "**Checking the number**\n\n1001 looks divisible by 7."


def cases() -> list[Case]:
    history = [
        user(ASKS_TIDES),
        with_id(call("tide_table", TIDE_ARGUMENTS, "history"), "history"),
        {"type": "function_call_output", "call_id": call_id("history"), "output": TIDE_RESULT},
    ]
    thought = [
        {"role": "developer", "content": "Think first."},
        user(ASKS_TIDES),
        {"id": item_id("reasoning", "kept"), "summary": [], "type": "reasoning", "encrypted_content": sealed("kept")},
        with_id(call("tide_table", TIDE_ARGUMENTS, "kept"), "kept"),
        {"type": "function_call_output", "call_id": call_id("kept"), "output": TIDE_RESULT},
    ]
    picture_result = [
        user("Show me the harbour."),
        {"type": "function_call", "call_id": call_id("picture"), "name": "find_ferry", "arguments": FERRY_ARGUMENTS},
        {
            "type": "function_call_output",
            "call_id": call_id("picture"),
            "output": [
                {"type": "input_text", "text": "The webcam:"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
            ],
        },
    ]
    cited = {
        "type": "url_citation",
        "end_index": 27,
        "start_index": 0,
        "title": "Harbour notices",
        "url": "https://harbour.example/notices?utm_source=openai",
    }
    searched = {
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "harbour open today"},
    }
    ran = {
        "type": "code_interpreter_call",
        "status": "completed",
        "code": "print(7 * 11 * 13)",
        "container_id": "cntr_" + hexes("container", 48),
        "outputs": [{"type": "logs", "logs": "1001\n"}],
    }
    drew = {
        "type": "image_generation_call",
        "status": "completed",
        "background": "opaque",
        "output_format": "png",
        "quality": "low",
        "result": PIXEL,
        "revised_prompt": "A red dot.",
        "size": "1024x1024",
    }
    listed = {
        "type": "mcp_list_tools",
        "server_label": "harbour",
        "tools": [
            {
                "annotations": {"read_only": True},
                "description": "Opening times",
                "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
                "name": "opening_times",
            }
        ],
    }
    asked_server = {
        "type": "mcp_call",
        "status": "completed",
        "approval_request_id": None,
        "arguments": "{}",
        "error": None,
        "name": "opening_times",
        "output": "06:00 to 22:00",
        "server_label": "harbour",
    }
    found = {
        "type": "file_search_call",
        "status": "completed",
        "queries": ["anchoring"],
        "results": None,
    }
    file_cited = {
        "type": "file_citation",
        "file_id": "file-" + token("rules", 22),
        "filename": "rules.txt",
        "index": 12,
    }
    grammar = {"type": "grammar", "syntax": "regex", "definition": "[a-z ]+"}
    custom = {
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": call_id("custom"),
        "input": "high water",
        "name": "search",
    }
    harbour = {"type": "namespace", "name": "harbour", "description": "The harbour office", "tools": [TIDES, FERRIES]}
    asked_for = {"id": item_id("custom_tool_call", "found"), **custom, "namespace": "harbour"}
    moors = [
        user("When can I moor?"),
        asked_for,
        {"type": "custom_tool_call_output", "call_id": asked_for["call_id"], "output": "See the tides."},
    ]
    moored = {**call("tide_table", TIDE_ARGUMENTS, "moored"), "namespace": "harbour"}
    action = {"type": "exec", "command": ["ls", "charts"], "env": {}, "timeout_ms": None, "user": None}
    charts = {
        "type": "local_shell_call",
        "status": "completed",
        "call_id": call_id("shell"),
        "action": {**action, "working_directory": None},
    }
    loaf = {"format": {"type": "json_schema", "name": "loaf", "schema": LOAF_SCHEMA, "strict": True}}
    return [
        Case("text", {"input": "What is a lighthouse for?"}, [text(PLAIN)]),
        Case(
            "system",
            {"input": "What is a quay?", "instructions": "Answer in one sentence.", "temperature": 0.2},
            [text("A quay is a wall where ships are loaded.")],
        ),
        Case(
            "multi-turn",
            {
                "input": [
                    {"role": "system", "content": "You teach sailing."},
                    user("What is a jib?"),
                    {"role": "assistant", "content": "A triangular sail ahead of the mast."},
                    {"type": "message", **user([{"type": "input_text", "text": "And a spinnaker?"}])},
                ],
                "max_output_tokens": 64,
                "top_p": 0.9,
                "store": False,
            },
            [text("A large sail for running before the wind.")],
        ),
        Case("two-parts", {"input": "Name two knots."}, [text("Bowline. ", "Reef knot.")]),
        Case("tools", {"input": ASKS_TIDES, "tools": [TIDES]}, [call("tide_table", TIDE_ARGUMENTS, "tools")]),
        Case(
            "tools-with-text",
            {"input": ASKS_TIDES, "tools": [TIDES, FERRIES], "tool_choice": "auto"},
            [text("I look it up."), call("tide_table", TIDE_ARGUMENTS, "with text")],
        ),
        Case(
            "parallel-tools",
            {"input": "Tides and ferries?", "tools": [TIDES, FERRIES], "parallel_tool_calls": True},
            [call("tide_table", TIDE_ARGUMENTS, "parallel 1"), call("find_ferry", FERRY_ARGUMENTS, "parallel 2")],
        ),
        Case(
            "forced-tool",
            {"input": ASKS_TIDES, "tools": [TIDES], "tool_choice": {"type": "function", "name": "tide_table"}},
            [call("tide_table", TIDE_ARGUMENTS, "forced")],
        ),
        Case(
            "required-tool",
            {"input": ASKS_TIDES, "tools": [TIDES], "tool_choice": "required", "max_tool_calls": 1},
            [call("tide_table", TIDE_ARGUMENTS, "required")],
        ),
        Case("tool-results", {"input": history, "tools": [TIDES]}, [text("High water is at 04:12 and 16:37.")]),
        Case("picture-result", {"input": picture_result, "tools": [FERRIES]}, [text("The harbour is red.")]),
        Case(
            "custom-tool",
            {
                "input": "Search for tides.",
                "tools": [{"type": "custom", "name": "search", "description": "Full text", "format": grammar}],
            },
            [custom],
            **SMALL,
        ),
        Case("namespace-tools", {"input": moors, "tools": [harbour]}, [moored], **SMALL),
        Case("local-shell", {"input": "List the charts.", "tools": [{"type": "local_shell"}]}, [charts], **SMALL),
        Case(
            "vision-url",
            {
                "input": [
                    user(
                        [
                            {"type": "input_text", "text": "What is this?"},
                            {"type": "input_image", "image_url": PHOTO, "detail": "low"},
                        ]
                    )
                ]
            },
            [text("A lighthouse.")],
        ),
        Case(
            "vision-bytes",
            {
                "input": [
                    user(
                        [
                            {"type": "input_text", "text": "Which colour?"},
                            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                        ]
                    )
                ]
            },
            [text("Red.")],
        ),
        Case(
            "document-bytes",
            {
                "input": [
                    user(
                        [
                            {
                                "type": "input_file",
                                "filename": "tides.pdf",
                                "file_data": f"data:application/pdf;base64,{PDF}",
                            },
                            {"type": "input_text", "text": "How many pages?"},
                        ]
                    )
                ]
            },
            [text("One page.")],
        ),
        Case(
            "document-url",
            {
                "input": [
                    user([{"type": "input_file", "file_url": LEAFLET}, {"type": "input_text", "text": "Summarise it."}])
                ]
            },
            [text("A table of tides.")],
        ),
        Case("structured-output", {"input": "A rye loaf.", "text": loaf}, [text(LOAF)]),
        Case(
            "json-object", {"input": "A rye loaf, as JSON.", "text": {"format": {"type": "json_object"}}}, [text(LOAF)]
        ),
        Case("refusal", {"input": "Tell me how to sink a ferry."}, [refusal("I can't help with that.")]),
        Case(
            "length",
            {"input": "All about ropes.", "max_output_tokens": 16},
            [{**text("Ropes are made of fibres that"), "status": "incomplete"}],
            completion=16,
            status="incomplete",
            incomplete="max_output_tokens",
        ),
        Case(
            "filtered",
            {"input": "Tell me how to sink a ferry."},
            [{**text("First"), "status": "incomplete"}],
            status="incomplete",
            incomplete="content_filter",
        ),
        Case(
            "reasoning",
            {"input": "Is 1001 a prime number?", "reasoning": {"effort": "low", "summary": "auto"}},
            [reasoning(THOUGHT, "**Answering**\n\nIt is 7 · 11 · 13."), text("No: 1001 = 7 · 11 · 13.")],
            reasoning=64,
            completion=90,
            **SMALL,
        ),
        Case(
            "encrypted-reasoning",
            {
                "input": thought,
                "include": ["reasoning.encrypted_content"],
                "store": False,
                "reasoning": {"effort": "medium"},
                "tools": [TIDES],
            },
            [reasoning(seal="new"), text("High water is at 04:12.", phase="final_answer")],
            reasoning=32,
            completion=50,
            **SMALL,
        ),
        Case(
            "reasoning-and-tools",
            {"input": ASKS_TIDES, "tools": [TIDES, FERRIES], "reasoning": {"effort": "high", "summary": "detailed"}},
            [
                reasoning("**Looking up tides**"),
                call("tide_table", TIDE_ARGUMENTS, "thinking 1"),
                call("find_ferry", FERRY_ARGUMENTS, "thinking 2"),
            ],
            reasoning=40,
            completion=80,
            **SMALL,
        ),
        Case(
            "cache",
            {"input": "May I anchor?", "instructions": "The rules. " * 90, "prompt_cache_key": "rules"},
            [text("With a permit.")],
            prompt=1290,
            cached=1024,
            written=128,
        ),
        Case(
            "web-search",
            {"input": "Is the harbour open?", "tools": [{"type": "web_search", "search_context_size": "low"}]},
            [searched, text("The harbour is open today. (harbour.example)", annotations=[cited])],
        ),
        Case(
            "code-interpreter",
            {
                "input": "Multiply 7, 11 and 13.",
                "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
                "include": ["code_interpreter_call.outputs"],
            },
            [ran, text("1001")],
        ),
        Case(
            "file-search",
            {
                "input": "May I anchor?",
                "tools": [{"type": "file_search", "vector_store_ids": ["vs_" + hexes("store", 32)]}],
            },
            [found, text("Not here.", annotations=[file_cited])],
        ),
        Case(
            "picture",
            {"input": "Draw a red dot.", "tools": [{"type": "image_generation", "quality": "low"}]},
            [drew, text("Here it is.")],
            **SMALL,
        ),
        Case(
            "mcp",
            {
                "input": "When is the harbour open?",
                "tools": [
                    {
                        "type": "mcp",
                        "server_label": "harbour",
                        "server_url": "https://harbour.example/mcp",
                        "require_approval": "never",
                    }
                ],
            },
            [listed, asked_server, text("From 06:00 to 22:00.")],
        ),
        Case(
            "previous-response",
            {
                "input": "And tomorrow?",
                "previous_response_id": "resp_" + hexes("previous", 50),
                "user": "sailor-7",
                "service_tier": "default",
                "truncation": "auto",
                "metadata": {"team": "harbour"},
            },
            [text("Tomorrow too.")],
        ),
        Case(
            "logprobs",
            {"input": "Yes or no?", "include": ["message.output_text.logprobs"], "top_logprobs": 1},
            [text("Yes")],
        ),
        Case("unicode", {"input": [user([{"type": "input_text", "text": UNICODE}])]}, [text(UNICODE)]),
        Case(
            "unicode-tools",
            {"input": "港の潮は? 🌊", "tools": [FERRIES]},
            [call("find_ferry", '{"from":"神戸 🚢","to":"Île d’Yeu\u2028"}', "unicode")],
        ),
    ]


# --- writing


def response(case: Case, seed: str, status: str, output: Sequence[Json], usage: Json | None) -> Json:
    asked = case.request
    small = case.model == "gpt-5-mini"
    incomplete = {"reason": case.incomplete} if status == "incomplete" else None
    return {
        "id": "resp_" + hexes(seed, 50),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "completed_at": CREATED + 2 if status == "completed" else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": incomplete,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "model": case.answered_by,
        "output": list(output),
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": asked.get("previous_response_id"),
        "prompt_cache_key": asked.get("prompt_cache_key"),
        "prompt_cache_retention": None,
        "reasoning": {
            "effort": asked.get("reasoning", {}).get("effort", "medium" if small else None),
            "summary": "detailed" if asked.get("reasoning", {}).get("summary") else None,
        },
        "safety_identifier": None,
        "service_tier": "auto" if status == "in_progress" else "default",
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "text": {"format": asked.get("text", {}).get("format", {"type": "text"}), "verbosity": "medium"},
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": [_shown(tool) for tool in asked.get("tools", ())],
        "top_logprobs": asked.get("top_logprobs", 0),
        "top_p": asked.get("top_p", 1.0),
        "truncation": asked.get("truncation", "disabled"),
        "usage": usage,
        "user": asked.get("user"),
        "metadata": asked.get("metadata", {}),
    }


def _shown(tool: Json) -> Json:
    """A tool as the response repeats it, with the defaults of what was left out."""
    match tool["type"]:
        case "web_search":
            return {**tool, "filters": None, "user_location": None}
        case "mcp":
            return {**tool, "allowed_tools": None, "headers": None, "server_description": None}
        case "file_search":
            return {**tool, "filters": None, "max_num_results": 20}
        case _:
            return tool


def usage(case: Case) -> Json:
    return {
        "input_tokens": case.prompt,
        "input_tokens_details": {
            "cached_tokens": case.cached,
            **({} if case.written is None else {"cache_write_tokens": case.written}),
        },
        "output_tokens": case.completion,
        "output_tokens_details": {"reasoning_tokens": case.reasoning},
        "total_tokens": case.prompt + case.completion,
    }


def items(case: Case, seed: str) -> list[Json]:
    return [with_id(_probable(item, case), f"{seed} {at}") for at, item in enumerate(case.output)]


def _logprob(token_: str) -> Json:
    row = {"token": token_, "bytes": list(token_.encode()), "logprob": -0.0117}
    return {**row, "top_logprobs": [row]}


def _probable(item: Json, case: Case) -> Json:
    if "top_logprobs" not in case.request:
        return item
    return {**item, "content": [{**part, "logprobs": [_logprob(part["text"])]} for part in item["content"]]}


def events(case: Case, seed: str) -> list[Json]:
    begun = response(case, seed, "in_progress", [], None)
    told: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    whole = items(case, seed)
    for at, item in enumerate(whole):
        told += _of_item(item, at)
    end = response(case, seed, case.status, whole, usage(case))
    return numbered([*told, {"type": f"response.{case.status}", "response": end}])


def _of_item(item: Json, at: int) -> Iterator[Json]:
    place = {"item_id": item["id"], "output_index": at}
    emptied = {**item, "status": "in_progress"} if "status" in item else dict(item)
    match item["type"]:
        case "message":
            emptied["content"] = []
        case "reasoning":
            emptied["summary"] = []
            if "content" in item:
                emptied["content"] = []
        case "function_call" | "mcp_call":
            emptied["arguments"] = ""
            if "output" in item:
                emptied["output"] = None
        case "custom_tool_call":
            emptied["input"] = ""
        case "code_interpreter_call":
            emptied |= {"code": "", "outputs": []}
        case "image_generation_call":
            emptied = {"id": item["id"], "type": item["type"], "status": "in_progress"}
        case "mcp_list_tools":
            emptied["tools"] = []
        case "web_search_call":
            emptied["action"] = {"type": "search", "query": ""}
    yield {"type": "response.output_item.added", "item": emptied, "output_index": at}
    match item["type"]:
        case "message":
            for number, part in enumerate(item["content"]):
                yield from _of_part(part, {"content_index": number, **place})
        case "reasoning":
            for number, summary in enumerate(item["summary"]):
                yield from _of_summary(summary, {**place, "summary_index": number})
            for number, part in enumerate(item.get("content", ())):
                yield from _of_thought(part, {"content_index": number, **place})
        case "function_call":
            yield from _arguments("response.function_call_arguments", "arguments", item["arguments"], place)
        case "custom_tool_call":
            yield from _arguments("response.custom_tool_call_input", "input", item["input"], place)
        case "web_search_call" | "file_search_call":
            for step in ("in_progress", "searching", "completed"):
                yield {"type": f"response.{item['type']}.{step}", **place}
        case "code_interpreter_call":
            yield {"type": "response.code_interpreter_call.in_progress", **place}
            yield from _arguments("response.code_interpreter_call_code", "code", item["code"], place)
            yield {"type": "response.code_interpreter_call.interpreting", **place}
            yield {"type": "response.code_interpreter_call.completed", **place}
        case "image_generation_call":
            for step in ("in_progress", "generating"):
                yield {"type": f"response.image_generation_call.{step}", **place}
            yield {
                "type": "response.image_generation_call.partial_image",
                **place,
                "background": "opaque",
                "output_format": "png",
                "partial_image_b64": PIXEL,
                "partial_image_index": 0,
                "quality": "low",
                "size": "1024x1024",
            }
            yield {"type": "response.image_generation_call.completed", **place}
        case "mcp_list_tools":
            yield {"type": "response.mcp_list_tools.in_progress", **place}
            yield {"type": "response.mcp_list_tools.completed", **place}
        case "mcp_call":
            yield {"type": "response.mcp_call.in_progress", **place}
            yield from _arguments("response.mcp_call_arguments", "arguments", item["arguments"], place)
            yield {"type": "response.mcp_call.completed", **place}
    yield {"type": "response.output_item.done", "item": item, "output_index": at}


def _of_part(part: Json, place: Json) -> Iterator[Json]:
    if part["type"] == "refusal":
        yield {"type": "response.content_part.added", "part": {**part, "refusal": ""}, **place}
        for each in pieces(part["refusal"]):
            yield {"type": "response.refusal.delta", **place, "delta": each}
        yield {"type": "response.refusal.done", **place, "refusal": part["refusal"]}
        yield {"type": "response.content_part.done", "part": part, **place}
        return
    empty = {**part, "annotations": [], "logprobs": [], "text": ""}
    yield {"type": "response.content_part.added", "part": empty, **place}
    cut = [part["text"]] if part["logprobs"] else pieces(part["text"])
    for number, each in enumerate(cut):
        padding = token(place["item_id"] + str(number), 16 - number % 9)
        more = {"delta": each, "logprobs": part["logprobs"], "obfuscation": padding}
        yield {"type": "response.output_text.delta", **place, **more}
    for number, each in enumerate(part["annotations"]):
        yield {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation": each,
            "annotation_index": number,
        }
    yield {"type": "response.output_text.done", **place, "logprobs": part["logprobs"], "text": part["text"]}
    yield {"type": "response.content_part.done", "part": part, **place}


def _of_summary(summary: Json, place: Json) -> Iterator[Json]:
    yield {"type": "response.reasoning_summary_part.added", **place, "part": {**summary, "text": ""}}
    for each in pieces(summary["text"], 14):
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": each}
    yield {"type": "response.reasoning_summary_text.done", **place, "text": summary["text"]}
    yield {"type": "response.reasoning_summary_part.done", **place, "part": summary}


def _of_thought(part: Json, place: Json) -> Iterator[Json]:
    yield {"type": "response.content_part.added", "part": {**part, "text": ""}, **place}
    for each in pieces(part["text"], 14):
        yield {"type": "response.reasoning_text.delta", **place, "delta": each}
    yield {"type": "response.reasoning_text.done", **place, "text": part["text"]}
    yield {"type": "response.content_part.done", "part": part, **place}


def _arguments(kind: str, field: str, whole: str, place: Json) -> Iterator[Json]:
    for each in pieces(whole, 7):
        yield {"type": f"{kind}.delta", "delta": each, **place}
    yield {"type": f"{kind}.done", field: whole, **place}


def openai() -> Iterator[Exchange]:
    for case in cases():
        seed = f"openai responses {case.name}"
        more: Any = {"response_headers": headers(seed)}
        body = pretty(response(case, seed, case.status, items(case, seed), usage(case)))
        asked = {"model": case.model, **case.request}
        yield Exchange(case.name, *WHERE, case.model, asked, body, **more)
        if case.streams:
            wire = sse(events(case, seed + " stream"), named=True)
            asked = {**asked, "stream": True}
            yield Exchange(f"{case.name}-stream", *WHERE, case.model, asked, wire, stream_format="sse", **more)


def other_operations() -> Iterator[Exchange]:
    """The count of input tokens, compaction, and what no chat can be made of."""
    model = "gpt-4.1-mini"
    asked = {"model": model, "input": "What is a lighthouse for?"}
    counted = {"object": "response.input_tokens", "input_tokens": 13}
    yield Exchange(
        "input-tokens", "openai", "responses", f"{WHERE[2]}/input_tokens", WHERE[3], model, asked, pretty(counted)
    )
    asked = {"model": model, "input": [user("What is a quay?"), {"role": "assistant", "content": "A wall."}]}
    compacted = {
        "id": "resp_" + hexes("compacted", 50),
        "object": "response.compaction",
        "created_at": CREATED,
        "output": [
            {"id": "cmp_" + hexes("compacted", 50), "type": "compaction", "encrypted_content": sealed("compacted")}
        ],
        "usage": usage(Case("compact", {}, ())),
    }
    yield Exchange("compact", "openai", "responses", f"{WHERE[2]}/compact", WHERE[3], model, asked, pretty(compacted))
    case = Case("stored-prompt", {"input": "Ostend", "prompt": {"id": "pmpt_" + hexes("prompt", 48)}}, [text("Found.")])
    body = pretty(response(case, "stored prompt", "completed", items(case, "stored prompt"), usage(case)))
    yield Exchange("no-model", *WHERE, case.model, case.request, body)
    asked = {"model": model, "input": "Hello", "background": True, "conversation": "conv_" + hexes("conversation", 48)}
    case = Case("conversation", asked, [text("Hello.")])
    body = pretty(response(case, "conversation", "completed", items(case, "conversation"), usage(case)))
    yield Exchange("conversation", *WHERE, model, asked, body)


def errors() -> Iterator[Exchange]:
    model = "gpt-4.1-mini"
    hello: Json = {"model": model, "input": "Hello"}
    invalid = "invalid_request_error"
    rows: list[tuple[str, int, Json, bytes]] = [
        (
            "error-value",
            400,
            {**hello, "temperature": 9},
            error("Invalid 'temperature'.", invalid, "temperature", "decimal_above_max_value"),
        ),
        (
            "error-type",
            400,
            {**hello, "tools": [{"type": "none"}]},
            error("Invalid value: 'none'.", invalid, "tools[0].type", "invalid_value"),
        ),
        (
            "error-length",
            400,
            hello,
            error("Your input exceeds the context window of this model.", invalid, "input", "context_length_exceeded"),
        ),
        ("error-key", 401, hello, error("Incorrect API key provided: sk-wrong.", invalid, None, "invalid_api_key")),
        (
            "error-previous",
            400,
            {**hello, "previous_response_id": "resp_none"},
            error(
                "Previous response with id 'resp_none' not found.",
                invalid,
                "previous_response_id",
                "previous_response_not_found",
            ),
        ),
        (
            "error-model",
            404,
            {**hello, "model": "gpt-none"},
            error("The requested model 'gpt-none' does not exist.", invalid, "model", "model_not_found"),
        ),
        ("error-rate-limit", 429, hello, error("Rate limit reached.", "tokens", None, "rate_limit_exceeded")),
        (
            "error-server",
            500,
            {**hello, "stream": True},
            error("An error occurred while processing your request.", "server_error", None, "server_error"),
        ),
    ]
    for name, status, asked, body in rows:
        yield Exchange(name, *WHERE, asked["model"], asked, body, status, response_headers=headers(name))


def other_hosts() -> Iterator[Exchange]:
    told: dict[str, Case] = {case.name: case for case in cases()}
    azure = ("azure", "responses", "POST /openai/v1/responses", "harbour.openai.azure.com")
    for name in ("text", "tools", "parallel-tools", "vision-bytes", "structured-output", "reasoning", "tool-results"):
        case = told[name]
        seed = f"azure responses {name}"
        filters: Json = {"content_filters": [{"blocked": False, "source_type": "prompt", "content_filter_results": {}}]}
        body = compact({**response(case, seed, "completed", items(case, seed), usage(case)), **filters})
        asked = {"model": case.model, **case.request}
        found = {"apim-request-id": uuid(seed)}
        yield Exchange(name, *azure, case.model, asked, body, response_headers=found)
        told_ = events(case, seed)
        told_[-1]["response"] |= filters
        wire = sse(told_, named=True)
        asked = {**asked, "stream": True}
        yield Exchange(f"{name}-stream", *azure, case.model, asked, wire, stream_format="sse", response_headers=found)
    # Hosts of open models show the reasoning itself.
    open_model = Case(
        "open-reasoning",
        {"input": "Is 1001 a prime number?", "reasoning": {"effort": "low"}},
        [reasoning(said="1001 is 7 times 143."), text("No.")],
        reasoning=20,
        completion=30,
    )
    for provider, endpoint, host, model in (
        ("openrouter", "POST /api/v1/responses", "openrouter.ai", "openai/gpt-5-mini"),
        ("xai", "POST /v1/responses", "api.x.ai", "grok-4-fast"),
        ("deepseek", "POST /responses", "api.deepseek.com", "deepseek-chat"),
        ("bedrock-mantle", "POST /openai/v1/responses", "bedrock-mantle.eu-central-1.api.aws", "openai.gpt-oss-20b"),
    ):
        for case in (told["text"], told["tools"], open_model):
            here = Case(
                case.name, case.request, case.output, 22, 30, 0, None, case.reasoning, model=model, answered_by=model
            )
            seed = f"{provider} responses {case.name}"
            where = (provider, "responses", endpoint, host, model)
            body = compact(response(here, seed, "completed", items(here, seed), usage(here)))
            asked = {"model": model, **case.request}
            yield Exchange(case.name, *where, asked, body)
            wire = sse(events(here, seed), named=True)
            asked = {**asked, "stream": True}
            yield Exchange(f"{case.name}-stream", *where, asked, wire, stream_format="sse")


def exchanges() -> Iterator[Exchange]:
    yield from openai()
    yield from other_operations()
    yield from errors()
    yield from other_hosts()
