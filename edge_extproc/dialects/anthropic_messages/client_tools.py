"""Tools that Anthropic defines and the caller executes. Another format gets a function with the same name and fields.

A call of the function is a call of the tool: both have the name and the input that Claude would send. The schemas are
from memory of Anthropic's documentation of each tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ...codecs.json_values import text_of
from ...model.call import FunctionTool, ReplacedTool
from ...model.content import Json
from .content import read_cache
from .fields import NAME, Block

_KNOWN = frozenset({"type", "name"})
_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "integer"}
_RANGE: Json = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "The first and the last line to view. A last line of -1 is the end of the file.",
}


def _schema(required: list[Json], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def _command(*commands: Json) -> Json:
    return {"type": "string", "enum": list(commands)}


_BASH = _schema([], command=_TEXT, restart={"type": "boolean"})
_EDITS: Mapping[str, Json] = MappingProxyType(
    {
        "path": _TEXT,
        "file_text": _TEXT,
        "old_str": _TEXT,
        "new_str": _TEXT,
        "insert_line": _NUMBER,
        "view_range": _RANGE,
    }
)
# By the beginning of the type; the date of its version follows. The first that matches counts.
_TOOLS: tuple[tuple[str, str, Json], ...] = (
    ("bash_", "Runs a command in a persistent shell. restart: starts a new shell instead.", _BASH),
    (
        "text_editor_2024",
        "Views, creates and edits files.",
        _schema(
            ["command", "path"], command=_command("view", "create", "str_replace", "insert", "undo_edit"), **_EDITS
        ),
    ),
    (
        "text_editor_20250124",
        "Views, creates and edits files.",
        _schema(
            ["command", "path"], command=_command("view", "create", "str_replace", "insert", "undo_edit"), **_EDITS
        ),
    ),
    (
        "text_editor_",
        "Views, creates and edits files.",
        _schema(
            ["command", "path"],
            command=_command("view", "create", "str_replace", "insert"),
            insert_text=_TEXT,
            **_EDITS,
        ),
    ),
    (
        "memory_",
        "Views and edits the files of a memory directory, /memories. View it before you do anything else.",
        _schema(
            ["command"],
            command=_command("view", "create", "str_replace", "insert", "delete", "rename"),
            insert_text=_TEXT,
            old_path=_TEXT,
            new_path=_TEXT,
            **_EDITS,
        ),
    ),
)


def client_tool(tool: Block, path: str) -> ReplacedTool | None:
    """The tool with the function that replaces it. None: it is no such tool."""
    kind, name = text_of(tool.get("type")) or "", text_of(tool.get("name"))
    if name is None:
        return None
    for beginning, description, schema in _TOOLS:
        if kind.startswith(beginning):
            cache, extras = read_cache(tool, _KNOWN)
            lost = tuple(f"{path}.{key}" for key in sorted(extras))
            function = FunctionTool(name, description, schema, None, cache, path=path)
            return ReplacedTool(NAME, kind, tool, path, (function,), lost)
    return None
