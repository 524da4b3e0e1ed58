"""Reads the older spelling of tools in this format, and writes calls in it: `functions`, `function_call`, and messages
of the role `function`. A reply has one such call, without an id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from ...codecs.json_values import as_object, as_text, left_in, maybe, read_body
from ...errors import BadRequest
from ...model.call import Call, FunctionTool, ToolChoice
from ...model.content import NO_EXTRAS, Json, Message, Part, ToolCall, ToolResult
from ...model.frozen_dataclass import frozen_dataclass
from ..base import made_id
from .fields import Object

NAMES = frozenset({"functions", "function_call"})
SPELLED = MappingProxyType({"tools": "functions", "tool_choice": "function_call", "parallel_tool_calls": "functions"})
"""The names of fields for a caller of this spelling, which has one call a reply and no field for parallel ones."""
_TOOL = frozenset({"name", "description", "parameters"})
_CALL = frozenset({"name", "arguments"})
_RESULT = frozenset({"role", "name", "content"})
_OFFERED = re.compile(rb'"functions"')


@frozen_dataclass
class FunctionCall(ToolCall):
    """A call in this spelling."""


@frozen_dataclass
class _FunctionResult(ToolResult):
    """The result of one, as long as it has no id."""


def is_older(body: Object) -> bool:
    """Whether a request has its tools in this spelling alone."""
    return isinstance(body.get("functions"), list) and not body.get("tools")


def offers_functions(call: Call | None) -> bool:
    """Whether the caller reads calls in this spelling."""
    if call is None or _OFFERED.search(call.raw) is None:
        return False
    try:
        return is_older(read_body(call.raw))
    except BadRequest:
        return False


# --- reading


def read_function(value: Json, path: str) -> FunctionTool:
    tool = as_object(value, path)
    return FunctionTool(
        as_text(tool.get("name"), f"{path}.name"),
        maybe(as_text, tool, "description", path),
        tool.get("parameters"),
        extras=left_in(tool, _TOOL) or NO_EXTRAS,
        path=path,
    )


def read_function_choice(value: Json) -> ToolChoice | None:
    match value:
        case None:
            return None
        case "auto" | "none":
            return ToolChoice(value)
        case {"name": str(name)}:
            return ToolChoice("tool", name)
        case _:
            raise BadRequest(
                f"function_call is {value!r}; it must be auto, none or an object with the name of a function",
                param="function_call",
            )


def is_called(value: Json, *, strict: bool) -> bool:
    """Whether the field of a message is a call. Snowflake sends an empty one. `strict`: as for other calls."""
    name = value.get("name") if isinstance(value, dict) else None
    return bool(name) if strict else isinstance(name, str) and name != ""


def read_function_call(value: Object, path: str, *, strict: bool) -> FunctionCall:
    """The call of a message. `strict`: as for other calls of functions."""
    arguments = value.get("arguments")
    if not strict and not isinstance(arguments, str):
        arguments = ""
    return FunctionCall(
        "",
        as_text(value.get("name"), f"{path}.name"),
        as_text(arguments, f"{path}.arguments"),
        extras=left_in(value, _CALL) or NO_EXTRAS,
        path=path,
    )


def read_function_message(message: Object, parts: tuple[Part, ...], path: str) -> Message:
    """A message of the role `function`. Its name shows which call it answers."""
    result = _FunctionResult("", parts, extras=left_in(message, _RESULT) or NO_EXTRAS, path=path)
    return Message("tool", (result,), as_text(message.get("name"), f"{path}.name"), path=path)


def with_ids(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, with an id for each call in this spelling and for its result: the last call of that name which has
    no result yet. An id depends only on the place of its call, so the next request has it too."""
    waiting: dict[str, str] = {}
    return tuple(_with_ids(message, number, waiting) for number, message in enumerate(messages))


def _with_ids(message: Message, number: int, waiting: dict[str, str]) -> Message:
    match message.parts:
        case (_FunctionResult() as result,):
            name = message.name or ""
            id = waiting.pop(name, None) or made_id("call_", 24, number, name)
            known = ToolResult(id, result.parts, extras=result.extras, path=result.path)
            return replace(message, parts=(known,), name=None)
        case (*_, FunctionCall() as call):
            id = waiting[call.name] = made_id("call_", 24, number, call.name)
            return replace(message, parts=(*message.parts[:-1], replace(call, id=id)))
        case _:
            return message


def has_functions(messages: Sequence[Message]) -> bool:
    return any(isinstance(part, FunctionCall | _FunctionResult) for each in messages for part in each.parts[-1:])


# --- writing


def write_function_call(call: ToolCall) -> Object:
    extras = dict(call.extras) if isinstance(call, FunctionCall) else {}
    return {"name": call.name, "arguments": call.arguments or "{}", **extras}
