"""gRPC's health service (grpc.health.v1) of a worker, for Envoy and Kubernetes."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from .rpc import CallRefused, Methods, RpcCall, Status, Streaming, Unary, whole

SERVICE = "/grpc.health.v1.Health"

_NOT_SERVING = HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING).SerializeToString()
_SERVING = HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()
_SERVICE_UNKNOWN = HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()


class Health:
    """The initial state is NOT_SERVING. Only the server as a whole, which is the service with the empty name, has a
    state."""

    def __init__(self) -> None:
        self.methods: Methods = {SERVICE + "/Check": Unary(self._check), SERVICE + "/Watch": Streaming(self._watch)}
        self._state = _NOT_SERVING
        self._changed = asyncio.Event()
        self._stopped = False

    def serving(self) -> None:
        self._set_state(_SERVING)

    def stopping(self) -> None:
        """Sets NOT_SERVING permanently. Watchers get the state and are then closed, because they would delay the
        stop."""
        self._stopped = True
        self._set_state(_NOT_SERVING)

    def _set_state(self, state: bytes) -> None:
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, request: bytes) -> bytes:
        if _service(request):
            raise CallRefused(Status.NOT_FOUND, "unknown service")
        return self._state

    async def _watch(self, call: RpcCall) -> None:
        request = await call.read()
        if request is None:
            return
        if _service(whole(request)):
            # A watcher of an unknown service waits until the service is added. Here none is ever added.
            await call.write(_SERVICE_UNKNOWN)
            return
        while True:
            # Read before the write, during which the state can change.
            changed, stopped = self._changed, self._stopped
            await call.write(self._state)
            if stopped:
                return
            await changed.wait()


def _service(request: bytes) -> str:
    try:
        return HealthCheckRequest.FromString(request).service
    except DecodeError as exc:
        raise CallRefused(Status.INVALID_ARGUMENT, "this is not a HealthCheckRequest") from exc
