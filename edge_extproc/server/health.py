"""gRPC's health service (grpc.health.v1) for the whole of a worker: what Envoy and Kubernetes ask."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from .rpc import CallRefused, Methods, RpcCall, Status, Streaming, Unary

SERVICE = "/grpc.health.v1.Health"

_NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING).SerializeToString()
_SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()
_SERVICE_UNKNOWN = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()


class Health:
    """NOT_SERVING at first. Only the server as a whole, the service with the empty name, has a state."""

    def __init__(self) -> None:
        self.methods: Methods = {SERVICE + "/Check": Unary(self._check), SERVICE + "/Watch": Streaming(self._watch)}
        self._told = _NOT_SERVING
        self._changed = asyncio.Event()
        self._over = False

    def serving(self) -> None:
        self._tell(_SERVING)

    def stopping(self) -> None:
        """For good. Whoever watches is told, and then let go: it would hold up the stop."""
        self._over = True
        self._tell(_NOT_SERVING)

    def _tell(self, state: bytes) -> None:
        self._told = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, request: bytes) -> bytes:
        if _service(request):
            raise CallRefused(Status.NOT_FOUND, "unknown service")
        return self._told

    async def _watch(self, call: RpcCall) -> None:
        request = await call.read()
        if request is None:
            return
        if _service(request):
            # A watcher is told so, and waits for the service to be added; here none ever is.
            await call.write(_SERVICE_UNKNOWN)
            return
        while True:
            changed = self._changed
            await call.write(self._told)
            if self._over:
                return
            await changed.wait()


def _service(request: bytes) -> str:
    try:
        return HealthCheckRequest.FromString(request).service
    except DecodeError as exc:
        raise CallRefused(Status.INVALID_ARGUMENT, "this is not a HealthCheckRequest") from exc
