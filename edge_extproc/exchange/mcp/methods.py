"""What each method of the Model Context Protocol uses of a server. A method that is not here is refused.

The tables are those of the revisions 2025-03-26 to 2026-07-28, without tasks: the handle of a task would be usable by
every caller, because the server knows the gateway only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ...auth.mcp_access import McpKind
from ...codecs.json_rpc import INVALID_PARAMS, METHOD_NOT_FOUND, RpcFault, RpcMessage
from ...model.content import Json
from ...model.frozen_dataclass import frozen_dataclass

INITIALIZE, CALL = "initialize", "tools/call"
FIRST_MODERN = "2026-07-28"
"""The first revision without sessions, and with headers that repeat the method and the name."""
CHECKED = ("_meta", "ref", "notifications")
"""The members of `params` that are objects and decide what a request does."""

# The method, and the member of `params` that names what it uses.
_NAMED: Mapping[str, tuple[McpKind, str]] = MappingProxyType(
    {
        CALL: ("tools", "name"),
        "prompts/get": ("prompts", "name"),
        "resources/read": ("resources", "uri"),
        "resources/subscribe": ("resources", "uri"),
        "resources/unsubscribe": ("resources", "uri"),
    }
)
_COMPLETE, _LISTEN = "completion/complete", "subscriptions/listen"
_OTHERS = frozenset(
    {
        *(INITIALIZE, "server/discover", "ping", "logging/setLevel", _COMPLETE, _LISTEN),
        *("tools/list", "prompts/list", "resources/list", "resources/templates/list"),
    }
)
OF_REQUESTS = frozenset({"notifications/cancelled", "notifications/progress"})
"""The notifications that name a request. Without a session, the server could take it for another caller's."""
_NOTIFICATIONS = frozenset({"notifications/initialized", "notifications/roots/list_changed", *OF_REQUESTS})
MIRRORED = MappingProxyType({CALL: "name", "prompts/get": "name", "resources/read": "uri"})
"""The methods whose name is repeated in the header Mcp-Name, and the member of `params` that it repeats."""
_LISTS: Mapping[str, tuple[McpKind, str]] = MappingProxyType(
    {
        "tools": ("tools", "name"),
        "prompts": ("prompts", "name"),
        "resources": ("resources", "uri"),
        "resourceTemplates": ("resources", "uriTemplate"),
    }
)
"""The lists in results: the kind of their items, and the member that names an item."""
_FOLDED = frozenset(member.casefold() for member in _LISTS)
# Names go to the log. The specification recommends 128 characters for names of tools.
_LONGEST = {"tools": 256, "prompts": 256, "resources": 4_096}
# A segment of dots would make another resource of a URI that a glob allows.
_DOTS = re.compile(r"(?:^|[/\\:]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\?#]|%2f|%5c)", re.IGNORECASE)


@frozen_dataclass
class McpUse:
    """One tool, prompt or resource that a request uses."""

    kind: McpKind
    name: str


def uses_of(message: RpcMessage) -> tuple[McpUse, ...]:
    """What a request or notification uses of the server besides the server itself. Raises RpcFault."""
    method, params = message.method, message.params or {}
    if message.kind == "notification":
        if method not in _NOTIFICATIONS:
            raise RpcFault(METHOD_NOT_FOUND, f"the notification {method!r:.100} does not go through this gateway")
        return ()
    if method in _NAMED:
        if params.get("task") is not None:
            raise RpcFault(INVALID_PARAMS, "tasks do not go through this gateway; call without task", message.id)
        kind, member = _NAMED[method]
        return (_use(message, kind, params.get(member), f"params.{member}"),)
    if method == _COMPLETE:
        return (_completed(message, params.get("ref")),)
    if method == _LISTEN:
        return tuple(_subscribed(message, params.get("notifications")))
    if method not in _OTHERS:
        raise RpcFault(METHOD_NOT_FOUND, f"the method {method!r:.100} does not go through this gateway", message.id)
    return ()


def _completed(message: RpcMessage, ref: Json) -> McpUse:
    kind = ref.get("type") if isinstance(ref, dict) else None
    if isinstance(ref, dict) and kind == "ref/prompt":
        return _use(message, "prompts", ref.get("name"), "params.ref.name")
    if isinstance(ref, dict) and kind == "ref/resource":
        return _use(message, "resources", ref.get("uri"), "params.ref.uri")
    raise RpcFault(INVALID_PARAMS, "params.ref must be of type ref/prompt or ref/resource", message.id)


def _subscribed(message: RpcMessage, asked: Json) -> Iterator[McpUse]:
    uris = asked.get("resourceSubscriptions") if isinstance(asked, dict) else None
    if uris is None:
        return
    if not isinstance(uris, list):
        raise RpcFault(INVALID_PARAMS, "params.notifications.resourceSubscriptions must be a list", message.id)
    for uri in uris:
        yield _use(message, "resources", uri, "params.notifications.resourceSubscriptions")


def _use(message: RpcMessage, kind: McpKind, name: Json, place: str) -> McpUse:
    if not isinstance(name, str) or not name or len(name) > _LONGEST[kind] or not name.isprintable():
        raise RpcFault(
            INVALID_PARAMS, f"{place} must be a text of 1 to {_LONGEST[kind]} printable characters", message.id
        )
    if kind == "resources" and _DOTS.search(name):
        raise RpcFault(INVALID_PARAMS, f"{place} must not have a segment . or ..", message.id)
    return McpUse(kind, name)


def hidden_in(result: Mapping[str, Json]) -> frozenset[str]:
    """The members that a client which ignores case would read as lists."""
    return frozenset(name for name in result if name not in _LISTS and name.casefold() in _FOLDED)


def listed_in(result: Mapping[str, Json]) -> Iterator[tuple[str, McpKind, str]]:
    """The lists of a result that callers see only a part of: the member, the kind of its items, and the member that
    names an item."""
    for member, (kind, name) in _LISTS.items():
        if isinstance(result.get(member), list):
            yield member, kind, name
