"""What callers may use of MCP servers: tools, prompts and resources, by names and globs. Nothing that is not named."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from typing import Literal, TypeAlias

McpKind: TypeAlias = Literal["tools", "prompts", "resources"]


@dataclass(frozen=True, slots=True)
class McpAccess:
    """What one entry allows of a server. Names or globs."""

    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def of(self, kind: McpKind) -> tuple[str, ...]:
        return {"tools": self.tools, "prompts": self.prompts, "resources": self.resources}[kind]


_Match: TypeAlias = Callable[[str], object]


class McpGrants:
    """The entries of one holder, by the name of a server or a glob. All that match a server count together."""

    __slots__ = ("_by_server", "_entries")

    def __init__(self, entries: Mapping[str, McpAccess]) -> None:
        self._entries = [(_matcher((pattern,)), access) for pattern, access in entries.items()]
        self._by_server: dict[str, Mapping[McpKind, _Match] | None] = {}
        """The names of servers are those of the configuration, so the number of them is bounded."""

    def reaches(self, server: str) -> bool:
        """Whether an entry names the server."""
        return self._of(server) is not None

    def allows(self, server: str, kind: McpKind, name: str) -> bool:
        matchers = self._of(server)
        return matchers is not None and matchers[kind](name) is not None

    def _of(self, server: str) -> Mapping[McpKind, _Match] | None:
        if server in self._by_server:
            return self._by_server[server]
        found = [access for matches, access in self._entries if matches(server) is not None]
        kinds: tuple[McpKind, ...] = ("tools", "prompts", "resources")
        matchers: Mapping[McpKind, _Match] | None = None
        if found:
            matchers = {kind: _matcher(tuple(name for access in found for name in access.of(kind))) for kind in kinds}
        self._by_server[server] = matchers
        return matchers


def _matcher(patterns: tuple[str, ...]) -> _Match:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)").match
