"""Writes the pages of this directory: how each field of a chat is translated to each wire format.

The second table of a page is computed: the dialect writes a minimal chat with one more field, and the row contains the
difference. `make docs` runs this. A test checks that the pages are up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_extproc.dialects.base import Dialect, FieldSupport
from edge_extproc.dialects.custom_tools import custom_tool
from edge_extproc.errors import BadRequest
from edge_extproc.model.call import Chat, FunctionTool, Reasoning, ReplacedTool, ResponseFormat, ToolChoice, Written
from edge_extproc.model.content import (
    Audio,
    CacheMark,
    Document,
    FileRef,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from edge_extproc.model.spelling import Spelling
from edge_extproc.registry import load

HERE = Path(__file__).resolve().parent
SOURCES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini_generate")
# Two models of each target, because the supported fields depend on the model.
TARGETS: Mapping[str, tuple[str, ...]] = {
    "openai_chat": ("gpt-5-mini", "gpt-4.1"),
    "openai_responses": ("gpt-5-mini", "gpt-4.1"),
    "anthropic_messages": ("claude-opus-4-6", "claude-3-7-sonnet"),
    "gemini_generate": ("gemini-3-flash", "gemini-2.0-flash"),
    "bedrock_converse": ("anthropic.claude-opus-4-6-v1", "amazon.nova-2-lite-v1:0"),
}

HI = Message("user", (Text("Hi"),))
TOOL = FunctionTool("f", "d", {"type": "object", "properties": {"a": {"type": "string"}}})
CALL = ToolCall("c1", "f", '{"a":"b"}')
MARK = CacheMark()
ODD = Opaque("another", "odd", {"type": "odd"})
GRAMMAR = {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}
PNG, PDF, WAV = Inline("image/png", "aGk="), Inline("application/pdf", "aGk="), Inline("audio/wav", "aGk=")


def _told(*parts: Part, role: Any = "user", **more: Any) -> tuple[Message, ...]:
    return (HI, Message(role, parts, **more), *((HI,) if role == "assistant" else ()))


def _answered(result: ToolResult) -> tuple[Message, ...]:
    return (HI, Message("assistant", (CALL,)), Message("tool", (result,)))


PARTS: Mapping[str, tuple[Message, ...]] = {
    "a system turn first": (Message("system", (Text("Be brief"),)), HI),
    "a system turn later": (HI, Message("system", (Text("Be brief"),))),
    "a developer turn": (Message("developer", (Text("Be brief"),)), HI),
    "a turn of the assistant": _told(Text("Yes"), role="assistant"),
    "the name of a speaker": _told(Text("Yes"), name="Ann"),
    "text": _told(Text("More")),
    "empty text": _told(Text("More"), Text(" ")),
    "a cache mark": _told(Text("More", MARK)),
    "a field of the caller's format": _told(Text("More", extras={"odd": 1})),
    "an image": _told(Image(PNG)),
    "an image by URL": _told(Image(Url("https://x.example/a.png"))),
    "an image's detail": _told(Image(PNG, "low")),
    "an uploaded image": _told(Image(FileRef("file-1"))),
    "a PDF": _told(Document(PDF, "a.pdf")),
    "a PDF by URL": _told(Document(Url("https://x.example/a.pdf"))),
    "a text file": _told(Document(Inline("text/plain", "aGk="))),
    "sound": _told(Audio(WAV)),
    "signed thinking": _told(Thinking("Hm", "c2ln"), Text("Yes"), role="assistant"),
    "thinking without a signature": _told(Thinking("Hm"), Text("Yes"), role="assistant"),
    "sealed thinking": _told(RedactedThinking("c2VhbA=="), Text("Yes"), role="assistant"),
    "a refusal": _told(Refusal("No"), role="assistant"),
    "a tool call and its result": _answered(ToolResult("c1", (Text("x"),))),
    "a call's thought signature": (
        HI,
        Message("assistant", (replace(CALL, signature="c2ln"),)),
        Message("tool", (ToolResult("c1", (Text("x"),)),)),
    ),
    "a result that is an error": _answered(ToolResult("c1", (Text("x"),), is_error=True)),
    "an image in a result": _answered(ToolResult("c1", (Text("x"), Image(PNG)))),
    "a part that only the caller's format knows": _told(ODD),
    "a part of the assistant that only the caller's format knows": _told(Text("Yes"), ODD, role="assistant"),
}
WITH_TOOLS = {"tools": (TOOL,)}
FORMAT = ResponseFormat("json_schema", {"type": "object", "properties": {}}, "answer", "d", strict=True)
# For each field, by the name in the table: the value of the field, and the other fields that it needs.
TRIED: Mapping[str, Mapping[str, tuple[Any, Mapping[str, Any]]]] = {
    "messages": {name: (value, {"tools": (TOOL,)} if "result" in name else {}) for name, value in PARTS.items()},
    "stream": {"true": (True, {})},
    "tools": {
        "a function": ((TOOL,), {}),
        "strict": ((replace(TOOL, strict=True),), {}),
        "a cache mark": ((replace(TOOL, cache=MARK),), {}),
        "a custom tool": ((custom_tool("f", "d", GRAMMAR),), {}),
        "a tool that is functions elsewhere": ((ReplacedTool("another", "odd", {}, functions=(TOOL,)),), {}),
        "a tool that only the caller's format knows": ((ODD,), {}),
    },
    "tool_choice": {
        **{mode: (ToolChoice(mode), WITH_TOOLS) for mode in ("auto", "required", "none")},  # type: ignore[arg-type]
        "a function": (ToolChoice("tool", "f"), WITH_TOOLS),
        "required, without tools": (ToolChoice("required"), {}),
        "a tool that only the caller's format knows": (ToolChoice("tool", "odd"), {"tools": (ODD,)}),
    },
    "parallel_tool_calls": {"false": (False, WITH_TOOLS)},
    "max_output_tokens": {"500": (500, {})},
    "temperature": {"0.5": (0.5, {}), "1.5": (1.5, {})},
    "top_p": {"0.5": (0.5, {}), "0.5, beside a temperature": (0.5, {"temperature": 0.5})},
    "top_k": {"40": (40, {})},
    "stop": {"one": (("END",), {}), "white space": ((" ",), {}), "six": (tuple("abcdef"), {})},
    "n": {"2": (2, {})},
    "seed": {"7": (7, {})},
    "presence_penalty": {"0.5": (0.5, {})},
    "frequency_penalty": {"0.5": (0.5, {})},
    "logprobs": {"true": (True, {})},
    "top_logprobs": {"3": (3, {})},
    "response_format": {"json_object": (ResponseFormat("json_object"), {}), "json_schema": (FORMAT, {})},
    "reasoning": {
        **{f"effort {e}": (Reasoning(effort=e), {}) for e in ("none", "minimal", "low", "medium", "high", "xhigh")},
        "a budget of 2048": (Reasoning("enabled", budget_tokens=2048), {}),
        "adaptive": (Reasoning("adaptive"), {}),
        "disabled": (Reasoning("disabled"), {}),
    },
    "service_tier": {tier: (tier, {}) for tier in ("auto", "default", "flex", "priority", "standard_only", "odd")},
    "user": {"an id": ("user-1", {}), "a very long id": ("u" * 300, {})},
    "metadata": {"a label": ({"team": "a"}, {})},
    "extras": {"a field of the caller's format": ({"odd": 1}, {}), "audio output": ({"audio": {"voice": "a"}}, {})},
    "needed": {"a stored conversation": (("conversation",), {})},
}


# A caller format with the field names of `Chat`, in which `audio` is required.
SPELLING = Spelling(essential={"audio": None})
_MOST_LEAVES, _MOST_TEXT = 4, 200


def fates(target: str) -> Mapping[str, FieldSupport]:
    module = __import__(f"edge_extproc.dialects.{target}.fields", fromlist=["FIELDS"])
    found: Mapping[str, FieldSupport] = module.FIELDS
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def _write(dialect: Dialect, chat: Chat, model: str) -> Written | str:
    try:
        return dialect.write_chat(chat, model)
    except BadRequest as refusal:
        return refusal.message


def came_of(target: str, model: str, field: str, value: Any, besides: Mapping[str, Any]) -> tuple[str, str]:
    """The result for one field: mapped (its path), dropped (its name), refused (the reason), or nothing."""
    dialect: Dialect = load("dialects", target)
    least = Chat("another", "m", (HI,), spelling=SPELLING, **besides)
    if field == "stream" and dialect.path("chat", model, stream=True) != dialect.path("chat", model, stream=False):
        return "mapped", f"`{dialect.path('chat', model, stream=True)}`"
    before = dialect.write_chat(least, model)
    after = _write(dialect, replace(least, **{field: value}), model)
    if isinstance(after, str):
        return "refused", after.partition(". Leave it out")[0]
    old = dict(_leaves(json.loads(before.body)))
    leaves = [(path, leaf) for path, leaf in _leaves(json.loads(after.body)) if old.get(path, ...) != leaf]
    # Messages, tools and schemas become many fields, which do not fit in a cell.
    is_short = len(leaves) <= _MOST_LEAVES and len(json.dumps(leaves)) <= _MOST_TEXT
    new = [f"`{path}: {json.dumps(leaf)}`" for path, leaf in leaves] if is_short else []
    named = [f"`{path}`" for path in after.dropped if path not in before.dropped]
    if named:
        return "dropped", f"named {', '.join(named)}" + (f"; {', '.join(new)}" if new else "")
    return ("mapped", ", ".join(new)) if leaves or after.body != before.body else ("says nothing", "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def page(target: str) -> str:
    dialect: Dialect = load("dialects", target)
    known = fates(target)
    sources = ", ".join(load("dialects", name).title for name in SOURCES if name != target)
    lines = [
        f"# To {dialect.title}",
        "",
        "Generated by `make docs` from the code: the second table is the result of translations. Do not edit.",
        "",
        f"How a request in another format ({sources}, and any other) is translated for a provider with the API "
        f"{dialect.title}. *Dropped* fields are named in the reply's `x-edge-dropped` header, in the caller's "
        "spelling. A request with a *refused* field gets status 400 and is not sent to a provider. A request in this "
        "format is passed on unchanged.",
        "",
        "| field | result | how |",
        "|---|---|---|",
        *(f"| {field} | {fate.kind} | {_cell(fate.how)} |" for field, fate in known.items()),
        "",
        "## Examples",
        "",
        "| field | example | " + " | ".join(f"`{model}`" for model in TARGETS[target]) + " |",
        "|---|---|" + "---|" * len(TARGETS[target]),
    ]
    for field, tried in TRIED.items():
        for name, (value, besides) in tried.items():
            cells = []
            for model in TARGETS[target]:
                kind, how = came_of(target, model, field, value, besides)
                cells.append(_cell(f"{kind}: {how}" if how else kind))
            lines.append(f"| {field} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    for target in TARGETS:
        (HERE / f"to-{target.replace('_', '-')}.md").write_text(page(target), encoding="utf-8")


if __name__ == "__main__":
    main()
