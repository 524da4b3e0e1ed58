"""The states that a watcher of the health service gets."""

from __future__ import annotations

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from edge_extproc.server.health import SERVICE, Health
from edge_extproc.server.rpc import Streaming


class Watcher:
    """A call during whose first write the worker stops."""

    cut = False
    local: str | None = None

    def __init__(self, health: Health) -> None:
        self.metadata: dict[str, str] = {}
        self.states: list[int] = []
        self._health = health

    async def read(self) -> bytes | None:
        return HealthCheckRequest().SerializeToString()

    async def write(self, message: bytes) -> None:
        if not self.states:
            self._health.stopping()
        self.states.append(HealthCheckResponse.FromString(message).status)


async def test_a_watcher_gets_a_state_that_changes_during_a_write() -> None:
    health = Health()
    health.serving()
    watch = health.methods[SERVICE + "/Watch"]
    assert isinstance(watch, Streaming)
    watcher = Watcher(health)
    await watch.run(watcher)

    assert [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING] == watcher.states
