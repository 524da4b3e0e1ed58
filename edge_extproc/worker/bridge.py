"""The WebSocket server of a worker whose sessions become requests to the gateway's own listener."""

from __future__ import annotations

from collections.abc import Callable

from ..config.envoy import listener_url
from ..config.schema import Config
from ..server.bridge import ResponsesBridge
from ..server.own_listener import OwnListener


class Bridge:
    def __init__(self, current: Callable[[], Config]) -> None:
        self._current = current
        self._listener = OwnListener(lambda: listener_url(current().listen))
        self._server = ResponsesBridge(self._listener.responses, lambda: current().limits.request_body)

    async def start(self, index: int) -> None:
        """Raises StartError."""
        agent = self._current().agent
        await self._server.start(agent.bridge_sockets()[index], group=agent.socket_access == "group")

    def stop(self) -> None:
        self._server.stop()

    async def drained(self) -> None:
        await self._server.drained()

    async def close(self) -> None:
        await self._server.close()
        await self._listener.close()
