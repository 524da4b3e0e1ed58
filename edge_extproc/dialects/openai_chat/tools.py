"""Reads and writes the custom tools of this format, and the choice among some tools."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...codecs.json_values import as_object, as_text, left_in, maybe, object_in, read_body, text_of
from ...errors import BadRequest
from ...model.call import Call, CustomTool, FunctionTool, Tool, ToolChoice
from ...model.content import NO_EXTRAS, CustomCall, Json
from ...model.frozen_dataclass import frozen_dataclass
from ..carried import original_id
from ..custom_tools import arguments_of_input, custom_tool, input_of
from .fields import Object

_TOOL = frozenset({"type", "custom"})
_CUSTOM = frozenset({"name", "description", "format"})
_CALL = frozenset({"id", "type", "custom", "index"})
_INPUT = frozenset({"name", "input"})


def read_custom_tool(tool: Object, path: str) -> CustomTool:
    inner = as_object(tool.get("custom"), f"{path}.custom")
    extras = left_in(tool, _TOOL)
    if rest := left_in(inner, _CUSTOM):
        extras["custom"] = rest
    return custom_tool(
        as_text(inner.get("name"), f"{path}.custom.name"),
        maybe(as_text, inner, "description", f"{path}.custom"),
        _flat_format(inner.get("format")),
        extras or NO_EXTRAS,
        path,
    )


def write_custom_tool(tool: CustomTool) -> Object:
    fields = {"description": tool.text, "format": _nested_format(tool.format)}
    return {"type": "custom", "custom": {"name": tool.name, **{k: v for k, v in fields.items() if v is not None}}}


def _flat_format(format: Json) -> Json:
    """The constraint of the input in the spelling of OpenAI Responses."""
    match format:
        case {"type": "grammar", "grammar": dict(grammar), **rest} if not rest:
            return {"type": "grammar", **grammar}
        case _:
            return format


def _nested_format(format: Json) -> Json:
    match format:
        case {"type": "grammar", "syntax": syntax, **grammar}:
            return {"type": "grammar", "grammar": {"syntax": syntax, **grammar}}
        case _:
            return format


def read_custom_call(call: Object, path: str, *, strict: bool) -> CustomCall:
    """Reads a call of a custom tool. `strict`: as for calls of functions."""
    inner = as_object(call.get("custom"), f"{path}.custom")
    extras = left_in(call, _CALL)
    if rest := left_in(inner, _INPUT):
        extras["custom"] = rest
    id, text = call.get("id"), inner.get("input")
    if not strict:
        id, text = id or "", text or ""
    return CustomCall(
        original_id(as_text(id, f"{path}.id")),
        as_text(inner.get("name"), f"{path}.custom.name"),
        arguments_of_input(as_text(text, f"{path}.custom.input")),
        extras=extras or NO_EXTRAS,
        path=path,
    )


def write_custom_call(id: str, name: str, arguments: str) -> Object:
    return {"id": id, "type": "custom", "custom": {"name": name, "input": input_of(arguments)}}


_OF_CUSTOM = re.compile(rb'"custom"')


def custom_names(call: Call | None) -> frozenset[str]:
    """The names of the custom tools that a request offers."""
    if call is None or _OF_CUSTOM.search(call.raw) is None:
        return frozenset()
    try:
        tools = read_body(call.raw).get("tools")
    except BadRequest:
        return frozenset()
    names = (
        object_in(tool, "custom").get("name")
        for tool in (tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and tool.get("type") == "custom"
    )
    return frozenset(name for name in names if isinstance(name, str))


# --- the choice


@frozen_dataclass
class AllowedTools(ToolChoice):
    """A choice among some tools: the model may, or must, call one of them. The tools of the Chat are only these."""

    value: Json = None
    """The choice as the caller wrote it. Two choices that are written differently have different cache keys."""
    tools: tuple[Tool, ...] = ()
    """All tools of the request, for a format that has such a choice too."""


def allowed_tools(tools: Sequence[Tool], allowed: Sequence[Json]) -> tuple[Tool, ...]:
    """The tools that the entries of a choice name."""
    names: set[tuple[str, str]] = set()
    for each in allowed:
        kind = text_of(each.get("type")) if isinstance(each, dict) else None
        inner = each.get(kind) if isinstance(each, dict) and kind else None
        if kind and isinstance(inner, dict) and (name := text_of(inner.get("name"))):
            names.add((kind, name))
    return tuple(tool for tool in tools if isinstance(tool, FunctionTool) and (_kind(tool), tool.name) in names)


def _kind(tool: FunctionTool) -> str:
    return "custom" if isinstance(tool, CustomTool) else "function"


def is_custom(name: str | None, tools: Sequence[Tool]) -> bool:
    return any(isinstance(tool, CustomTool) and tool.name == name for tool in tools)
