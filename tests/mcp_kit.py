"""Requests to an MCP server in memory."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from player import Stage, body, headers

from edge_extproc.auth.mcp_access import McpAccess, McpGrants
from edge_extproc.exchange.commands import Command, ImmediateResponse
from edge_extproc.exchange.events import RequestBody, RequestHeaders
from edge_extproc.exchange.mcp_session_ids import SessionSeal
from edge_extproc.exchange.mcp_settings import McpServer, McpSettings
from edge_extproc.model.principal import Principal

SEAL = SessionSeal(b"a pepper of the tests")
SETTINGS = McpSettings(
    SEAL,
    {"s": McpServer("s", "/mcp", "mcp_s", (("authorization", "Bearer of-server"),), (("add", Decimal(2)),))},
    {"acme": McpGrants({"s": McpAccess(("add", "echo"), ("p",), ("a://*",))})},
)
JSON = ("content-type", "application/json")
RESULT = {"jsonrpc": "2.0", "id": 7, "result": {"content": []}}
SESSION = SEAL.seal("s", Principal("acme", "acme-1"), "of-server") or ""


def stage(**more: Any) -> Stage:
    return Stage().having(mcp=SETTINGS, **more)


def begin(*more: tuple[str, str], path: str = "/mcp/s", **how: Any) -> RequestHeaders:
    return headers(path, JSON, *more, **how)


def call(tool: str = "add", **arguments: Any) -> RequestBody:
    return body({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})


def error_of(command: Command) -> tuple[int, int, Any]:
    """The HTTP status, the code of JSON-RPC and the id."""
    assert isinstance(command, ImmediateResponse), command
    message = json.loads(command.body)
    return command.status, message["error"]["code"], message["id"]
