"""Reads the tools of a request, and the choice among them.

This format has tools that no other one has. Some are executed by the caller: custom tools, `local_shell`, `shell`,
`apply_patch`, a `tool_search` of the caller, and functions in a `namespace`. In another format each of them is a
function, and a `ToolTable` says which. Tools that OpenAI executes stay as they are; a writer of another format leaves
them out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

from ...codecs.json_values import as_object, as_text, maybe_bool, maybe_text, objects, read_body, rest_of, text_of
from ...errors import BadRequest
from ...model.call import Call, CustomTool, FunctionTool, ReplacedTool, Tool, ToolChoice
from ...model.content import CustomCall, Json, Opaque, ToolCall
from ...model.frozen_dataclass import frozen_dataclass
from ..custom_tools import custom_tool
from ..hosted_tools import of_responses
from .content import opaque_of
from .fields import NAME, Item

# --- the cheap view

_OWN_TOOL = re.compile(
    rb'"type"\s*:\s*"(?:custom|namespace|tool_search|local_shell|shell|apply_patch|additional_tools'
    rb'|(?:custom_tool|tool_search|local_shell|shell|apply_patch)_call)"|"namespace"\s*:\s*"'
)


def has_own_tools(raw: bytes) -> bool:
    """Whether a body has tools or items of this file. A text within the body cannot look like one: its quotes are
    escaped."""
    return _OWN_TOOL.search(raw) is not None


# --- how the caller knows a function

ToolKind: TypeAlias = Literal["function", "custom", "local_shell", "shell", "apply_patch", "tool_search"]


@frozen_dataclass
class ToolForm:
    """The caller's form of a tool that other providers get as a function."""

    kind: ToolKind
    name: str
    namespace: str | None = None


# Names that all providers accept: Bedrock and OpenAI allow up to 64 of these characters; Gemini's begin with a letter
# or `_`.
_LONGEST_NAME = 64
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_BETWEEN = "__"
_DIGEST = 8


def joined_name(namespace: str, name: str) -> str:
    """The function name of a namespace's function in a format without namespaces. It depends only on the two names."""
    between = "" if namespace.endswith(_BETWEEN) else _BETWEEN
    plain = f"{namespace}{between}{name}"
    legal = _NOT_IN_NAME.sub("_", plain)
    if legal != plain or len(legal) > _LONGEST_NAME or not (legal[0].isalpha() or legal[0] == "_"):
        return _digested(legal, namespace, name)
    return legal


def _name_for(name: str, namespace: str | None) -> str:
    return name if namespace is None else joined_name(namespace, name)


def _digested(legal: str, namespace: str, name: str) -> str:
    digest = hashlib.sha256(f"{namespace}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    first = "" if legal[0].isalpha() or legal[0] == "_" else "_"
    return f"{first}{legal}"[: _LONGEST_NAME - _DIGEST - 1] + f"_{digest}"


class ToolTable:
    """The tools of one request, and their names at other providers."""

    def __init__(self, body: Item) -> None:
        """Raises BadRequest if a tool cannot be read."""
        self._forms: dict[str, ToolForm] = {}
        self._names: dict[ToolForm, str] = {}
        offered = body.get("tools")
        values = [] if offered is None else list(objects(offered, "tools"))
        for tool, _ in values:  # they keep their names in every position
            if (kind := tool.get("type")) in ("function", "custom") and isinstance(name := tool.get("name"), str):
                self._add(ToolForm("custom" if kind == "custom" else "function", name), name)
        read = [self._read(tool, path) for tool, path in values]
        self.tools: tuple[Tool, ...] = (*read, *self._loaded(body.get("input")))

    def name_of(self, kind: ToolKind, name: str, namespace: str | None = None) -> str:
        """The name at other providers, also of a tool that is not offered."""
        known = self._names.get(ToolForm(kind, name, namespace))
        if known is not None:
            return known
        return _name_for(name, namespace)

    def chosen(self, kind: ToolKind, name: str, namespace: str | None) -> str:
        """The name at other providers of the tool that a choice names, which may leave out its namespace. Raises
        BadRequest if several namespaces have a tool of that name."""
        if namespace is not None or ToolForm(kind, name) in self._names or name in self._forms:
            return self.name_of(kind, name, namespace)
        found = [own for form, own in self._names.items() if (form.kind, form.name) == (kind, name)]
        if len(found) > 1:
            raise BadRequest(
                f"tool_choice names the tool {name!r}, which several namespaces have; add its namespace",
                param="tool_choice",
            )
        return found[0] if found else name

    def names_in(self, tool: Item) -> Iterator[str]:
        """The names of a tool at other providers: one, or those of a namespace."""
        kind, name = tool.get("type"), text_of(tool.get("name"))
        for child, _ in objects_in(tool.get("tools"), "") if kind == "namespace" else ((tool, ""),):
            called = text_of(child.get("name"))
            child_kind = child.get("type")
            if called and child_kind in ("function", "custom"):
                yield self.name_of(child_kind, called, name if kind == "namespace" else None)

    def form_of(self, call: ToolCall) -> ToolForm:
        """The caller's form of a called tool. A tool that was not offered is a function, or the type that the model's
        own format gives."""
        form = self._forms.get(call.name)
        if form is not None:
            return form
        return ToolForm("custom" if isinstance(call, CustomCall) else "function", call.name)

    def allows(self, tool: Tool, allowed: Sequence[Item]) -> Tool | None:
        """The part of a tool that the caller allowed: functions and custom tools by name, MCP servers by their label,
        others by their type. A namespace can be allowed as a whole."""
        match tool:
            case ReplacedTool() if tool.kind in ("namespace", *_LOADED):
                functions = tuple(each for each in tool.functions if self._is_allowed(each, allowed))
                return ReplacedTool(NAME, tool.kind, tool.value, tool.path, functions, tool.lost) if functions else None
            case Opaque():
                value = tool.value if isinstance(tool.value, dict) else {}
                return tool if any(_fits(tool.kind, value, each) for each in allowed) else None
            case FunctionTool():
                return tool if self._is_allowed(tool, allowed) else None

    def _is_allowed(self, tool: FunctionTool, allowed: Sequence[Item]) -> bool:
        form = self._forms[tool.name]
        value: Item = {"name": form.name, "namespace": form.namespace}
        return any(
            each.get("name") == form.namespace
            if each.get("type") == "namespace"
            else "name" in each and _fits(form.kind, value, each)
            for each in allowed
        )

    # reading

    def _add(self, form: ToolForm, preferred: str) -> str:
        """Gives a tool its own name, or another one if a tool already has it."""
        if form in self._names:
            return self._names[form]
        is_taken = preferred in self._forms
        name = _digested(preferred, form.namespace or form.kind, form.name) if is_taken else preferred
        self._forms[name], self._names[form] = form, name
        return name

    def _read(self, tool: Item, path: str) -> Tool:
        kind = as_text(tool.get("type"), f"{path}.type")
        match kind:
            case "function":
                return self._function(tool, path, None)
            case "custom":
                return self._custom(tool, path, None)
            case "namespace":
                namespace = as_text(tool.get("name"), f"{path}.name")
                children = tuple(self._children(tool, path, namespace))
                unknown = tool.keys() - {"type", "name", "tools"}
                return ReplacedTool(NAME, kind, tool, path, children, tuple(f"{path}.{key}" for key in sorted(unknown)))
            case "local_shell" | "shell" | "apply_patch" | "tool_search" if _is_callers(tool):
                stand_in = _STAND_INS[kind](tool)
                name = self._add(ToolForm(kind, kind), kind)
                function = FunctionTool(name, stand_in.description, stand_in.parameters, path=path)
                omitted = tuple(f"{path}.{key}" for key in sorted(tool.keys() - _READ_OF_STAND_INS))
                return ReplacedTool(NAME, kind, tool, path, (function,), omitted)
            case _:
                return of_responses(opaque_of(tool, path))

    def _children(self, tool: Item, path: str, namespace: str) -> Iterator[FunctionTool]:
        for child, where in objects(tool.get("tools"), f"{path}.tools"):
            match child.get("type"):
                case "custom":
                    yield self._custom(child, where, namespace)
                case _:
                    yield self._function(child, where, namespace)

    def _required_name(self, kind: ToolKind, tool: Item, path: str, namespace: str | None) -> str:
        """Adds a tool, and returns its name at other providers."""
        name = as_text(tool.get("name"), f"{path}.name")
        return self._add(ToolForm(kind, name, namespace), _name_for(name, namespace))

    def _function(self, tool: Item, path: str, namespace: str | None) -> FunctionTool:
        return FunctionTool(
            self._required_name("function", tool, path, namespace),
            maybe_text(tool.get("description"), f"{path}.description"),
            tool.get("parameters"),
            maybe_bool(tool.get("strict"), f"{path}.strict"),
            extras=rest_of(tool, _FUNCTION),
            path=path,
        )

    def _custom(self, tool: Item, path: str, namespace: str | None) -> CustomTool:
        return custom_tool(
            self._required_name("custom", tool, path, namespace),
            maybe_text(tool.get("description"), f"{path}.description"),
            tool.get("format"),
            rest_of(tool, _CUSTOM),
            path,
        )

    def _loaded(self, items: Json) -> Iterator[Tool]:
        """The tools that items of the history make available. A tool that is offered already is not offered again."""
        known_forms = set(self._forms)
        for item, path in objects_in(items, "input"):
            kind = text_of(item.get("type"))
            if kind not in _LOADED or (kind == "tool_search_output" and not item.get("call_id")):
                continue
            for tool, where in objects_in(item.get("tools"), f"{path}.tools"):
                read = self._read(tool, where)
                functions = read.functions if isinstance(read, ReplacedTool) else (read,)
                new = tuple(
                    each for each in functions if isinstance(each, FunctionTool) and each.name not in known_forms
                )
                known_forms.update(each.name for each in new)
                if new:
                    yield ReplacedTool(NAME, kind, None, where, new)


_FUNCTION = frozenset({"type", "name", "description", "parameters", "strict"})
_CUSTOM = frozenset({"type", "name", "description", "format"})
_LOADED = frozenset({"tool_search_output", "additional_tools"})


def objects_in(value: Json, path: str) -> Iterator[tuple[Item, str]]:
    for i, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, dict):
            yield each, f"{path}[{i}]"


def _fits(kind: str, value: Item, allowed: Item) -> bool:
    keys = ("name", "namespace", "server_label")
    return allowed.get("type") == kind and all(allowed.get(k, value.get(k)) == value.get(k) for k in keys)


def body_of(call: Call | None) -> Item:
    """The body of a call for a writer of its reply, or an empty one if it cannot be read."""
    try:
        return {} if call is None else read_body(call.raw)
    except BadRequest:
        return {}


def table_of(body: Item) -> ToolTable:
    """The tools of a request, or an empty table if it cannot be read."""
    try:
        return ToolTable(body)
    except BadRequest:
        return ToolTable({})


# --- tools that the caller executes, as functions


@frozen_dataclass
class _StandIn:
    description: str
    parameters: Json


_READ_OF_STAND_INS = frozenset({"type", "environment", "execution", "description", "parameters"})


def _is_callers(tool: Item) -> bool:
    """Whether the caller executes the tool, not OpenAI."""
    match tool:
        case {"type": "tool_search"}:
            return tool.get("execution") == "client"
        case {"type": "shell", "environment": {"type": str(where)}}:
            return where == "local"
        case _:
            return True


def _text(description: str) -> Item:
    return {"type": "string", "description": description}


def _object(required: Sequence[str], **properties: Item) -> Item:
    return {"type": "object", "properties": properties, "required": list(required)}


_MILLISECONDS: Item = {"type": "integer", "description": "The time limit, in milliseconds."}
_LOCAL_SHELL = _StandIn(
    "Runs a command on the user's machine and returns its output.",
    _object(
        ("command",),
        command={
            "type": "array",
            "items": {"type": "string"},
            "description": 'The program and its arguments, such as ["bash", "-lc", "ls"].',
        },
        working_directory=_text("The directory in which the command runs."),
        timeout_ms=_MILLISECONDS,
    ),
)
_SHELL = _StandIn(
    "Runs shell commands on the user's machine and returns the output of each.",
    _object(
        ("commands",),
        commands={"type": "array", "items": {"type": "string"}, "description": "Commands of the shell, one each."},
        timeout_ms=_MILLISECONDS,
        max_output_length={"type": "integer", "description": "The most characters of output to return."},
    ),
)
_APPLY_PATCH = _StandIn(
    "Creates, changes or deletes one file in the user's workspace.",
    _object(
        ("type", "path"),
        type={"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
        path=_text("The path of the file, relative to the workspace."),
        diff=_text(
            "What changes, as lines that begin with `+` (added), `-` (removed) or a space (kept); an update has a line "
            "`@@` before each place. Not for a deletion."
        ),
    ),
)
_SEARCH = _StandIn(
    "Finds more tools. The tools that it finds can be called afterwards.",
    _object(("query",), query=_text("What the tool shall do.")),
)


def _tool_search(tool: Item) -> _StandIn:
    parameters = tool.get("parameters")
    description = maybe_text(tool.get("description"), "tools.description")
    return _StandIn(
        description or _SEARCH.description,
        as_object(parameters, "tools.parameters") if parameters else _SEARCH.parameters,
    )


_STAND_INS = MappingProxyType(
    {
        "local_shell": lambda _: _LOCAL_SHELL,
        "shell": lambda _: _SHELL,
        "apply_patch": lambda _: _APPLY_PATCH,
        "tool_search": _tool_search,
    }
)


# --- the choice


@frozen_dataclass
class OwnChoice(ToolChoice):
    """A tool choice that only this dialect has, and its closest equivalent in other dialects. If only some tools are
    allowed, the tools of the Chat are only these.

    The other fields are not written. They make the cache keys of different requests different.
    """

    value: Json = None
    """The choice as the caller wrote it."""
    tools: tuple[Tool, ...] = ()
    """All tools of the request, if only some of them are allowed."""


def read_tool_choice(value: Json, table: ToolTable) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The tool choice, and the tools that another dialect may offer."""
    tools = table.tools
    match value:
        case None:
            return None, tools
        case "auto" | "required" | "none":
            return ToolChoice(value), tools
        # The spellings of Anthropic's format and of chat completions, which some clients use.
        case {"type": "auto" | "required" | "none" | "any" as mode}:
            return OwnChoice("required" if mode == "any" else mode, value=value), tools
        case {"type": "function", "function": {"name": str(name)}}:
            return OwnChoice("tool", table.chosen("function", name, None), value), tools
        case {"type": "function" | "custom" as kind, "name": str(name)}:
            namespace = value.get("namespace") if isinstance(value, dict) else None
            known = table.chosen(kind, name, namespace if isinstance(namespace, str) else None)
            if value == {"type": "function", "name": known}:
                return ToolChoice("tool", known), tools
            return OwnChoice("tool", known, value), tools
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(offered)}:
            allowed = [tool for tool, _ in objects(offered, "tool_choice.tools")]
            permitted = tuple(part for tool in tools if (part := table.allows(tool, allowed)) is not None)
            return OwnChoice(mode, value=value, tools=tools), permitted
        case {"type": "local_shell" | "shell" | "apply_patch" | "tool_search" as kind}:
            return OwnChoice("tool", table.name_of(kind, kind), value), tools
        case {"type": str(kind)} if kind not in ("function", "custom", "allowed_tools"):
            return OwnChoice("tool", kind, value), tools
        case _:
            raise BadRequest(
                f"tool_choice is {value!r}; it must be auto, required, none, or name a tool", param="tool_choice"
            )
