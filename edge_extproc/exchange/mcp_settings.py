"""What the gateway knows of MCP servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ..model.content import Nothing
from ..model.globs import is_glob

if TYPE_CHECKING:  # not loaded without servers
    from ..auth.mcp_access import McpGrants
    from .mcp_session_ids import SessionSeal

FREE = Decimal(0)


@dataclass(frozen=True, slots=True)
class McpServer:
    name: str
    path: str
    """The path of its MCP endpoint."""
    cluster: str
    """Its Envoy cluster."""
    credentials: tuple[tuple[str, str], ...] = ()
    """The headers that only the server gets."""
    prices: tuple[tuple[str, Decimal], ...] = ()
    """US dollars of a call, by the name of a tool or a glob."""
    audiences: tuple[str, ...] = ()
    """A token of an issuer must be for one of them. Empty: the audiences of the gateway are enough."""

    def price_of(self, tool: str) -> Decimal:
        """An exact name wins, then the longest glob."""
        best: tuple[int, int] | None = None
        price = FREE
        for pattern, dollars in self.prices:
            rank = (0 if is_glob(pattern) and pattern != tool else 1, len(pattern))
            if (pattern == tool or fnmatchcase(tool, pattern)) and (best is None or rank > best):
                best, price = rank, dollars
        return price


@dataclass(frozen=True, slots=True)
class McpSettings:
    seal: SessionSeal
    servers: Mapping[str, McpServer] = Nothing()
    grants: Mapping[str, McpGrants] = Nothing()
    """What each tenant may use."""
    origins: frozenset[str] = frozenset()
    """The web pages that may call from a browser. "*": any."""
    url: str | None = None
    """The gateway's own URL. None: as each request writes it."""
    issuers: tuple[str, ...] = ()
    """The issuers whose tokens callers may use. Empty: there is no OAuth."""
