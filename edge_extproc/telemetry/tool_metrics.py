"""The metrics of tools: calls at MCP servers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from ..model.settlement import Settlement
from . import plain

MCP, CALL = "mcp", "tools/call"
_STREAMS = frozenset({"stream", "subscriptions/listen"})
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


def is_stream_of_notifications(s: Settlement) -> bool:
    """Whether it lasts as long as its client wants. Its duration says nothing of a server."""
    return s.operation == MCP and s.rpc_method in _STREAMS


class ToolMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = plain.PlainCounter(
            "edge_tool_calls", "Calls of tools of MCP servers, by outcome.", ("server", "tool", "outcome"), registry
        )
        self._cost = plain.PlainCounter(
            "edge_tool_cost_usd", "Cost of calls of tools in US dollars.", ("server", "tool"), registry
        )
        self._duration = plain.PlainHistogram(
            "edge_tool_call_duration_seconds",
            "Time from the headers of a call of a tool to the end of its response.",
            ("server",),
            _SECONDS,
            registry,
        )

    def settle(self, s: Settlement, tool: str, server: str) -> None:
        """`tool`: SERVER/TOOL, none or other. `server`: its label."""
        if s.operation != MCP or s.rpc_method != CALL:
            return
        name = tool.removeprefix(f"{server}/")
        self._calls.add(server, name, s.outcome)
        if s.cost:
            self._cost.add(server, name, by=float(s.cost))
        if s.attempts:
            self._duration.by_labels[(server,)].observe(s.duration, s.trace_id)
