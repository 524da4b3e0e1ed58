"""What a caller may use of one server: what its tenant may, narrowed by the policies of its levels and roles."""

from __future__ import annotations

from ...auth.base import CallerRights
from ...auth.mcp_access import McpGrants, McpKind
from ...errors import Forbidden
from ...model.principal import Principal
from ..ports import Gateway
from .methods import McpUse


class McpPermissions:
    def __init__(self, gateway: Gateway, principal: Principal, rights: CallerRights | None, server: str) -> None:
        settings = gateway.mcp
        self._grants: McpGrants | None = settings.grants.get(principal.tenant) if settings is not None else None
        self._rights = rights
        self._tenant = principal.tenant
        self._server = server

    def check_server(self) -> None:
        """Raises Forbidden."""
        if self._grants is None or not self._grants.reaches(self._server):
            raise Forbidden(f"the tenant {self._tenant} may not use the MCP server {self._server!r}")
        if self._rights is not None:
            self._rights.may_use(self._server, None, "")

    def check(self, use: McpUse) -> None:
        """Raises Forbidden."""
        if self._grants is None or not self._grants.allows(self._server, use.kind, use.name):
            raise Forbidden(
                f"{use.name!r} is not among the {use.kind} of the MCP server {self._server!r} that the tenant "
                f"{self._tenant} may use"
            )
        if self._rights is not None:
            self._rights.may_use(self._server, use.kind, use.name)

    def may_see(self, kind: McpKind, name: str) -> bool:
        try:
            self.check(McpUse(kind, name))
        except Forbidden:
            return False
        return True
