"""Anthropic's beta flags at other hosts of its models: the flags that each host accepts, and the fields of each flag.

A host refuses an unknown flag, and a field without its flag (`Extra inputs are not permitted`). So a flag that is
removed is removed with its fields. The lists come from the hosts' documentation as remembered and from the reports
named below. If a list is too short, a feature is lost, and x-edge-dropped names it. If it is too long, the host refuses
the request. The configuration cannot change them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from ..codecs import json_splice
from ..codecs.json_values import UNREADABLE
from ..codecs.request_lines import has_line, without_line
from ..dialects.anthropic_messages.fields import BILLING, WIRE

# Bedrock. Assumed: no page with the complete list was available.
BEDROCK = frozenset(
    {
        "compact-2026-01-12",
        "computer-use-2024-10-22",
        "computer-use-2025-01-24",
        "computer-use-2025-11-24",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "dev-full-thinking-2025-05-14",
        "effort-2025-11-24",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "output-128k-2025-02-19",
        "token-efficient-tools-2025-02-19",
        "tool-examples-2025-10-29",
        "tool-search-tool-2025-10-19",
    }
)
# Vertex AI. Reported as accepted: compact (BerriAI/litellm#22321), web-search (ax-llm/ax#457). The others are assumed.
# Reported as refused: prompt-caching-scope (anthropics/claude-code#21625), effort and adaptive-thinking (#34802),
# structured-outputs (vercel/ai#10981) and code-execution (pydantic/pydantic-ai#2512).
VERTEX = frozenset(
    {
        "claude-code-20250219",
        "compact-2026-01-12",
        "computer-use-2024-10-22",
        "computer-use-2025-01-24",
        "computer-use-2025-11-24",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "interleaved-thinking-2025-05-14",
        "tool-search-tool-2025-10-19",
        "web-search-2025-03-05",
    }
)
# Token counting does not know web search (anthropics/claude-code#12429).
VERTEX_COUNT = VERTEX - {"web-search-2025-03-05"}

# The fields that each flag permits: members of the body, of an object in it, of each tool, or of each cache_control. A
# tool of a type that a flag permits is `tools=` and the beginning of its type. The flags are those of Anthropic's
# Python SDK (2.12); its types show which members exist only with a flag.
FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "advanced-tool-use-2025-11-20": ("tools.allowed_callers", "tools.defer_loading", "tools.input_examples"),
        "advisor-tool-2026-03-01": ("tools=advisor_",),
        "cache-diagnosis-2026-04-07": ("diagnostics",),
        "code-execution-2025-05-22": ("tools=code_execution_2025",),
        "code-execution-2025-08-25": ("tools=code_execution_2025",),
        "compact-2026-01-12": ("context_management",),
        "compact-2026-09-04": ("compaction", "context_management"),
        "computer-use-2024-10-22": ("tools=computer_20241022",),
        "computer-use-2025-01-24": ("tools=computer_20250124",),
        "computer-use-2025-11-24": ("tools=computer_20251124",),
        "context-management-2025-06-27": ("context_management", "tools=memory_"),
        "effort-2025-11-24": ("output_config.effort",),
        "fallback-credit-2026-06-01": ("fallback_credit_token",),
        "fallback-credit-2026-07-01": ("fallback_credit_token",),
        "fast-mode-2026-02-01": ("speed",),
        "fine-grained-tool-streaming-2025-05-14": ("tools.eager_input_streaming",),
        "mcp-client-2025-04-04": ("mcp_servers",),
        "mcp-client-2025-11-20": ("mcp_servers", "tools=mcp_toolset"),
        "mcp-client-2026-09-15": ("mcp_servers", "tools=mcp_toolset"),
        "message-threads-2026-08-12": ("thread",),
        "prompt-caching-scope-2026-01-05": ("cache_control.scope",),
        "server-side-fallback-2026-06-01": ("fallbacks",),
        "server-side-fallback-2026-07-01": ("fallbacks",),
        "task-budgets-2026-03-13": ("output_config.task_budget",),
        "thinking-binding-controls-2026-08-01": ("thinking.block_binding",),
        "tool-examples-2025-10-29": ("tools.input_examples",),
        "tool-search-tool-2025-10-19": ("tools.defer_loading", "tools=tool_search_tool_"),
        "user-profiles-2026-03-24": ("user_profile_id",),
        "user-profiles-2026-08-18": ("user_profile_id",),
        "user-profiles-2026-09-04": ("user_profile_id",),
        "user-profiles-billing-2026-10-01": ("billing_policy",),
        "web-fetch-2025-09-10": ("tools=web_fetch_",),
        "web-search-2025-03-05": ("tools=web_search_",),
    }
)
# Fields that newer models accept without their flag.
_WITHOUT_FLAG = frozenset({"output_config.effort"})

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_rows = msgspec.json.Decoder(list[msgspec.Raw])


def split(flags: tuple[str, ...], known: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The flags that a host knows, and the others as names for x-edge-dropped."""
    known_flags = tuple(flag for flag in flags if flag in known)
    return known_flags, tuple(sorted(f"anthropic-beta.{flag}" for flag in flags if flag not in known))


def without_fields(
    body: bytes, flags: tuple[str, ...], accepted: tuple[str, ...], *, refused: tuple[str, ...] = (), has_effort: bool
) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The changes that remove the fields of dropped flags, and the names of the removed fields. `refused`: fields that
    the host refuses with any flag. `has_effort`: the model accepts an effort without a flag."""
    permitted = {field for flag in accepted for field in FIELDS.get(flag, ())}
    removed = {field for flag in flags if flag not in accepted for field in FIELDS.get(flag, ())} - permitted
    removed |= set(refused)
    if has_effort:
        removed -= _WITHOUT_FLAG
    searched = {field for field in removed if _may_have(body, field)}
    if not searched:
        return {}, ()
    try:
        members = _members.decode(body)
        return _changes(members, searched)
    except UNREADABLE:
        return {}, ()  # the host reports the error


def _may_have(body: bytes, field: str) -> bool:
    """Whether a body may have a field or a tool. Only then it is decoded."""
    _, is_type, type_ = field.partition("=")
    return (f'"{type_}' if is_type else f'"{field.rpartition(".")[2]}"').encode() in body


def _changes(
    members: Mapping[str, msgspec.Raw], searched: set[str]
) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    changes: dict[str, json_splice.Change] = {}
    names: list[str] = []
    of_tools = sorted(field.removeprefix("tools.") for field in searched if field.startswith("tools."))
    tool_types = tuple(field.removeprefix("tools=") for field in searched if field.startswith("tools="))
    scoped = "cache_control.scope" in searched
    for key, value in members.items():
        if key in searched:
            changes[key] = None
            names.append(key)
        elif key in _OBJECTS and (inside := _inside(key, value, searched)):
            only = len(_members.decode(value)) == len(inside)
            changes[key] = None if only else dict.fromkeys(inside)
            names += [f"{key}.{name}" for name in inside]
        elif key in ("tools", "messages", "system"):
            edited = bytes(value)
            if key == "tools" and (of_tools or tool_types):
                edited, removed = _tools(edited, of_tools, tool_types)
                names += removed
            if scoped:
                edited, removed = _unscoped(edited, key)
                names += removed
            if edited != bytes(value):
                changes[key] = edited if edited != b"[]" else None
    if "tools" in changes and changes["tools"] is None and "tool_choice" in members:
        changes["tool_choice"] = None
        names.append("tool_choice")
    return changes, tuple(sorted(names))


_OBJECTS = frozenset({"output_config", "thinking"})


def _inside(key: str, value: msgspec.Raw, searched: set[str]) -> list[str]:
    """The members of an object that are removed."""
    if bytes(value)[:1] != b"{":
        return []
    return [name for name in _members.decode(value) if f"{key}.{name}" in searched]


class _ToolType(msgspec.Struct):
    type: Any = None


_tool_type = msgspec.json.Decoder(_ToolType)


def _tools(tools: bytes, fields: list[str], types: tuple[str, ...]) -> tuple[bytes, list[str]]:
    """The tools without the fields, and without the tools whose type begins with one of `types`."""
    edited_tools: list[bytes] = []
    names: list[str] = []
    for i, tool in enumerate(_rows.decode(tools)):
        if types and str(_tool_type.decode(tool).type).startswith(types):
            names.append(f"tools[{i}]")
            continue
        present = [field for field in fields if field in _members.decode(tool)]
        names += [f"tools[{i}].{field}" for field in present]
        edited_tools.append(json_splice.splice(bytes(tool), dict.fromkeys(present)) if present else bytes(tool))
    return (_array(edited_tools), names) if names else (tools, [])


def _unscoped(value: bytes, path: str) -> tuple[bytes, list[str]]:
    """`value` without the `scope` of every cache_control, at any depth, and the paths of those."""
    names: list[str] = []

    def walk(value: bytes, path: str) -> bytes:
        if b'"scope"' not in value:
            return value
        if value[:1] == b"[":
            rows = _rows.decode(value)
            walked = [walk(bytes(row), f"{path}[{i}]") for i, row in enumerate(rows)]
            return _array(walked) if any(a != bytes(b) for a, b in zip(walked, rows, strict=True)) else value
        if value[:1] != b"{":
            return value
        changes: dict[str, json_splice.Change] = {}
        for key, each in _members.decode(value).items():
            if key == "cache_control" and bytes(each)[:1] == b"{" and "scope" in _members.decode(each):
                changes[key] = {"scope": None}
                names.append(f"{path}.cache_control.scope")
            elif key == "content" and (inner := walk(bytes(each), f"{path}.content")) != bytes(each):
                changes[key] = inner
        return json_splice.splice(value, changes) if changes else value

    return walk(value, path), names


def without_billing(body: bytes) -> tuple[dict[str, json_splice.Change], tuple[str, ...]]:
    """The changes that remove the line of a system prompt that only Anthropic reads, and its name for x-edge-dropped.
    No prefix of a prompt with it would ever be in the cache of another host."""
    if not has_line(body, WIRE.request_lines):
        return {}, ()
    try:
        value = bytes(_members.decode(body).get("system", b""))
        if value[:1] == b"[":
            rows = list(map(bytes, _rows.decode(value)))
            remaining = [row for each in rows if (row := _unbilled(each)) is not None]
            left = None if remaining == rows else _array(remaining)
        else:
            text = without_line(prompt := msgspec.json.decode(value, type=str), WIRE.request_lines)
            left = None if text == prompt else msgspec.json.encode(text) if text.strip() else b"[]"
    except UNREADABLE:
        return {}, ()  # the host reports the error
    if left is None:
        return {}, ()
    return {"system": left if left != b"[]" else None}, (f"system.{BILLING.rstrip(':')}",)


def _unbilled(row: bytes) -> bytes | None:
    """A block of the system prompt without the line, byte for byte if it has none. None: nothing is left of it."""
    if not has_line(row, WIRE.request_lines):
        return row
    block = msgspec.json.decode(row, type=dict[str, Any])
    text = block.get("text")
    if not isinstance(text, str) or (left := without_line(text, WIRE.request_lines)) == text:
        return row
    return msgspec.json.encode({**block, "text": left}) if left.strip() else None


def beta_header(accepted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if accepted:
        yield "anthropic-beta", ",".join(accepted)


def _array(values: list[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"
