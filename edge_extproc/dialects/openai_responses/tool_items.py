"""Reads and writes the items of tools that only this format has: their calls and outputs.

In another format they are calls and results of functions (see tools.py). Different items can have the same call or
result. So a part that was read from a history keeps its whole item in `value`, which is not written: it makes the cache
keys of requests with different items different.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...codecs.json_values import UNREADABLE, as_text, decode, encode, object_in, rest_of, text_of
from ...model.content import CustomCall, Extras, Json, Part, Text, ToolCall, ToolResult
from ...model.frozen_dataclass import frozen_dataclass
from ..carried import original_id
from ..custom_tools import arguments_of_input, input_of
from ..turns import arguments_text
from .content import CALL, read_content
from .fields import Item
from .tools import ToolForm, ToolKind, ToolTable, objects_in


@frozen_dataclass
class OwnCall(ToolCall):
    """A call of a tool of this format. `value` is the item of the input."""

    value: Json = None


@frozen_dataclass
class OwnCustomCall(CustomCall):
    """A call of a custom tool. `value` is the item of the input."""

    value: Json = None


@frozen_dataclass
class OwnResult(ToolResult):
    """The result of a call of a tool of this format. `value` is the item of the input."""

    value: Json = None


CUSTOM_CALL = frozenset({"type", "call_id", "name", "input"})
_CALL_KINDS: Mapping[str, ToolKind] = MappingProxyType(
    {
        "local_shell_call": "local_shell",
        "shell_call": "shell",
        "apply_patch_call": "apply_patch",
        "tool_search_call": "tool_search",
    }
)
# The field of each item that holds the model's input.
_INPUT_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "local_shell_call": "action",
        "shell_call": "action",
        "apply_patch_call": "operation",
        "tool_search_call": "arguments",
    }
)
_RESULT = frozenset({"type", "call_id", "output"})


# --- reading a history


def read_custom_call(item: Item, path: str) -> CustomCall:
    return CustomCall(
        original_id(as_text(item.get("call_id"), f"{path}.call_id")),
        as_text(item.get("name"), f"{path}.name"),
        arguments_of_input(as_text(item.get("input"), f"{path}.input")),
        extras=rest_of(item, CUSTOM_CALL),
        path=path,
    )


def read_tool_call(item: Item, kind: str, path: str, table: ToolTable) -> ToolCall | None:
    """The call in an item other than function_call. None: the item is not a call, or has no id that its output could
    name, because OpenAI executed it."""
    namespace = text_of(item.get("namespace"))
    if kind == "custom_tool_call":
        read = read_custom_call(item, path)
        name, own = table.name_of("custom", read.name, namespace), read.extras
        unread = rest_of(own, frozenset({"namespace"}))
        return OwnCustomCall(read.id, name, read.arguments, extras=unread, path=path, value=item)
    if kind == "function_call" and namespace is not None:
        name = table.name_of("function", as_text(item.get("name"), f"{path}.name"), namespace)
        id, arguments = (
            as_text(item.get("call_id"), f"{path}.call_id"),
            arguments_text(item.get("arguments"), f"{path}.arguments"),
        )
        extras = rest_of(item, CALL | {"namespace"})
        return OwnCall(original_id(id), name, arguments, extras=extras, path=path, value=item)
    tool = _CALL_KINDS.get(kind)
    call_id = text_of(item.get("call_id")) or (text_of(item.get("id")) if tool == "local_shell" else None)
    if tool is None or not call_id:
        return None
    input = item.get(_INPUT_FIELDS[kind])
    if isinstance(input, dict) and tool != "tool_search":  # the model does not write empty members
        members = {key: value for key, value in input.items() if value not in (None, {})}
        input = members if tool == "apply_patch" else {key: value for key, value in members.items() if key != "type"}
    arguments = encode(input if isinstance(input, dict) else {}).decode()
    extras = rest_of(item, frozenset({"type", "call_id", "execution", _INPUT_FIELDS[kind]}))
    return OwnCall(original_id(call_id), table.name_of(tool, tool), arguments, extras=extras, path=path, value=item)


def read_tool_output(item: Item, kind: str, path: str, table: ToolTable, ids: Mapping[str, str]) -> ToolResult | None:
    """The result in an item other than function_call_output, or None. `ids`: the call ids of the earlier local shell
    calls, by the ids of their items."""
    call_id = text_of(item.get("call_id"))
    parts: tuple[Part, ...]
    is_error = False
    known = _RESULT
    match kind:
        case "custom_tool_call_output":
            parts = read_content(item.get("output"), f"{path}.output")
        case "local_shell_call_output":
            id = text_of(item.get("id"))
            call_id = call_id or ids.get(id or "") or id
            parts = read_content(item.get("output"), f"{path}.output")
        case "shell_call_output":
            parts = (Text(_shell_output(item.get("output")), path=path),)
        case "apply_patch_call_output":
            status = text_of(item.get("status"))
            is_error = status == "failed"
            known = _RESULT | {"status"}
            parts = (Text(text_of(item.get("output")) or status or "", path=path),)
        case "tool_search_output":
            known = _RESULT | {"tools", "execution"}
            parts = (Text(_listed(item.get("tools"), table), path=path),)
        case _:
            return None
    if not call_id:
        return None
    extras = rest_of(item, known)
    return OwnResult(original_id(call_id), parts, is_error, extras=extras, path=path, value=item)


def _shell_output(output: Json) -> str:
    """The output and the exit status of each command."""
    if isinstance(output, str):
        return output
    lines: list[str] = []
    for each in output if isinstance(output, list) else ():
        if not isinstance(each, dict):
            continue
        outcome = object_in(each, "outcome")
        timed_out = outcome.get("type") == "timeout"
        lines += [text for key in ("stdout", "stderr") if (text := text_of(each.get(key)))]
        lines.append("(timed out)" if timed_out else f"(exit code {outcome.get('exit_code')})")
    return "\n".join(lines)


def _listed(tools: Json, table: ToolTable) -> str:
    """The names of the tools that a search returned, as text."""
    names = ", ".join(name for tool, _ in objects_in(tools, "") for name in table.names_in(tool))
    return f"These tools can be called now: {names}." if names else "No tool was found."


# --- writing a reply


def spelled(part: ToolCall, form: ToolForm) -> tuple[str, Item]:
    """The type of a call's item for the caller, and the item's own fields. A call whose input does not fit the tool's
    item becomes a call of a function: the caller has no such function, and reports that to the model."""
    where: Item = {} if form.namespace is None else {"namespace": form.namespace}
    if form.kind == "custom":
        return "custom_tool_call", {"name": form.name, **where, "input": input_of(part.arguments)}
    item = None if form.kind == "function" else _ITEMS[form.kind](_arguments(part.arguments))
    if item is not None:
        return item
    name = part.name if form.kind != "function" else form.name
    return "function_call", {"name": name, **where, "arguments": part.arguments if part.arguments.strip() else "{}"}


def _arguments(text: str) -> Item:
    try:
        value = decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def _texts(value: Json) -> list[str] | None:
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return [str(each) for each in value]
    return None


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _local_shell(arguments: Item) -> tuple[str, Item] | None:
    command = arguments.get("command")
    words = ["bash", "-lc", command] if isinstance(command, str) and command else _texts(command)
    if words is None:
        return None
    env = {key: value for key, value in object_in(arguments, "env").items() if isinstance(value, str)}
    action: Item = {"type": "exec", "command": words, "env": env}
    action["timeout_ms"] = _count(arguments.get("timeout_ms"))
    action["user"] = text_of(arguments.get("user")) or None
    action["working_directory"] = text_of(arguments.get("working_directory")) or None
    return "local_shell_call", {"action": action}


def _shell(arguments: Item) -> tuple[str, Item] | None:
    commands = arguments.get("commands", arguments.get("command"))
    lines = [commands] if isinstance(commands, str) and commands else _texts(commands)
    if lines is None:
        return None
    limits = {name: _count(arguments.get(name)) for name in ("timeout_ms", "max_output_length")}
    return "shell_call", {"action": {"commands": lines, **limits}, "environment": {"type": "local"}}


def _apply_patch(arguments: Item) -> tuple[str, Item] | None:
    arguments = dict(object_in(arguments, "operation")) or arguments
    kind, path, diff = arguments.get("type"), arguments.get("path"), arguments.get("diff")
    match kind:
        case "delete_file" if isinstance(path, str):
            return "apply_patch_call", {"operation": {"type": kind, "path": path}}
        case "create_file" | "update_file" if isinstance(path, str) and isinstance(diff, str):
            return "apply_patch_call", {"operation": {"type": kind, "path": path, "diff": diff}}
        case _:
            return None


def _tool_search(arguments: Item) -> tuple[str, Item] | None:
    return ("tool_search_call", {"execution": "client", "arguments": arguments}) if arguments else None


_ITEMS = MappingProxyType(
    {"local_shell": _local_shell, "shell": _shell, "apply_patch": _apply_patch, "tool_search": _tool_search}
)


def own_custom_item(part: CustomCall) -> Item:
    """The item of a reply of this format."""
    fields: Extras = {"call_id": part.id, "name": part.name, "input": input_of(part.arguments)}
    return {"type": "custom_tool_call", **fields, **part.extras}
