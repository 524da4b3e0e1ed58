"""Tools that the provider executes and that several formats have: web search, fetching of pages, and running of code.

Each format's reader makes a `HostedTool` of its own tool, and each writer makes its own tool of that. A tool whose
limits the other format cannot express (the allowed domains of a search) has no equivalent there: without them, it would
do more than the caller allowed. Sources: the API references of OpenAI, Anthropic and Google.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..codecs.json_values import object_in, text_of
from ..model.call import Chat, FunctionTool, HostedService, HostedTool
from ..model.content import Json, Opaque
from ..model.host import HostProfile

JsonObject = dict[str, Json]


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def _location(value: Json) -> Mapping[str, Json] | None:
    """The approximate place of the end user. OpenAI and Anthropic spell it alike."""
    if not isinstance(value, dict):
        return None
    known = {key: value[key] for key in ("city", "country", "region", "timezone") if text_of(value.get(key))}
    return MappingProxyType(known) if known else None


def _omitted(value: JsonObject, known: frozenset[str], path: str) -> tuple[str, ...]:
    return tuple(f"{path}.{key}" for key in sorted(value.keys() - known) if value[key] is not None)


# --- OpenAI Responses

_SEARCH = frozenset({"type", "filters", "user_location", "external_web_access"})


def of_responses(tool: Opaque) -> Opaque:
    """A search that may not use the live web has no equivalent, nor has a container with files of the caller."""
    value = dict(tool.value) if isinstance(tool.value, dict) else {}
    if tool.kind.startswith("web_search") and value.get("external_web_access") is not False:
        filters = object_in(value, "filters")
        if filters.keys() <= {"allowed_domains"}:
            return HostedTool(
                tool.dialect,
                tool.kind,
                tool.value,
                tool.path,
                "web_search",
                _texts(filters.get("allowed_domains")),
                location=_location(value.get("user_location")),
                lost=_omitted(value, _SEARCH, tool.path),
            )
    if tool.kind == "code_interpreter" and value.get("container") == {"type": "auto"}:
        return HostedTool(tool.dialect, tool.kind, tool.value, tool.path, "code_execution")
    return tool


def for_responses(tool: HostedTool) -> JsonObject | None:
    match tool.service:
        case "web_search" if not tool.blocked_domains:
            search: JsonObject = {"type": "web_search"}
            if tool.allowed_domains:
                search["filters"] = {"allowed_domains": list(tool.allowed_domains)}
            if tool.location is not None:
                search["user_location"] = {"type": "approximate", **tool.location}
            return search
        case "code_execution":
            return {"type": "code_interpreter", "container": {"type": "auto"}}
        case _:
            return None


# --- Anthropic Messages

_SERVER_TOOLS: Mapping[str, HostedService] = MappingProxyType(
    {"web_search_": "web_search", "web_fetch_": "web_fetch", "code_execution_": "code_execution"}
)
_SERVER_TOOL = frozenset(
    {"type", "name", "cache_control", "allowed_domains", "blocked_domains", "max_uses", "user_location"}
)
# The versions that all current models of Claude accept.
_VERSIONS: Mapping[HostedService, str] = MappingProxyType(
    {
        "web_search": "web_search_20250305",
        "web_fetch": "web_fetch_20250910",
        "code_execution": "code_execution_20250825",
    }
)


def of_messages(tool: Opaque) -> Opaque:
    value = dict(tool.value) if isinstance(tool.value, dict) else {}
    service = next((each for prefix, each in _SERVER_TOOLS.items() if tool.kind.startswith(prefix)), None)
    if service is None:
        return tool
    uses = value.get("max_uses")
    return HostedTool(
        tool.dialect,
        tool.kind,
        tool.value,
        tool.path,
        service,
        _texts(value.get("allowed_domains")),
        _texts(value.get("blocked_domains")),
        _location(value.get("user_location")),
        uses if isinstance(uses, int) and not isinstance(uses, bool) else None,
        _omitted(value, _SERVER_TOOL, tool.path),
    )


def for_messages(tool: HostedTool) -> JsonObject:
    block: JsonObject = {"type": _VERSIONS[tool.service], "name": tool.service}
    if tool.allowed_domains:
        block["allowed_domains"] = list(tool.allowed_domains)
    elif tool.blocked_domains:  # the format takes one of the two lists
        block["blocked_domains"] = list(tool.blocked_domains)
    if tool.location is not None and tool.service == "web_search":
        block["user_location"] = {"type": "approximate", **tool.location}
    if tool.max_uses is not None and tool.service != "code_execution":
        block["max_uses"] = tool.max_uses
    return block


# --- Gemini

_GEMINI: Mapping[HostedService, str] = MappingProxyType(
    {"web_search": "googleSearch", "web_fetch": "urlContext", "code_execution": "codeExecution"}
)
_OF_GEMINI: Mapping[str, HostedService] = MappingProxyType({name: service for service, name in _GEMINI.items()})


def of_gemini(tool: Opaque) -> Opaque:
    """A search with settings (a range of time, excluded domains) has no equivalent."""
    value = tool.value if isinstance(tool.value, dict) else {}
    service = _OF_GEMINI.get(tool.kind)
    if service is None or value.get(tool.kind):
        return tool
    return HostedTool(tool.dialect, tool.kind, tool.value, tool.path, service)


def for_gemini(tool: HostedTool) -> JsonObject | None:
    if tool.allowed_domains or tool.blocked_domains:
        return None
    return {_GEMINI[tool.service]: {}}


# --- which of them a provider is offered


def is_offered(tool: HostedTool, written: JsonObject | None, chat: Chat, host: HostProfile) -> bool:
    """Whether a host is offered a tool. `written`: the tool in its format, if there is one. A function of the caller
    may have the name already."""
    names = {each.name for each in chat.tools if isinstance(each, FunctionTool)}
    return written is not None and tool.service in host.hosted_tools and tool.service not in names
