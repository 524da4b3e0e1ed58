"""Runs grpcio's server interceptors around a method that another transport serves.

OpenTelemetry creates the spans of gRPC servers by such an interceptor. The interceptor needs only a call's metadata,
its peer, and `abort`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias

import grpc
from grpc import aio

from .rpc import CallRefused, Status

Run: TypeAlias = Callable[[bytes], Awaitable[bytes]]


class InterceptedRequest(Protocol):
    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def peer(self) -> str: ...


@dataclass(slots=True)
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class _Pair(NamedTuple):
    key: str
    value: str


class _Context:
    """The parts of grpcio's ServicerContext that interceptors use."""

    def __init__(self, call: InterceptedRequest) -> None:
        self._call = call

    def invocation_metadata(self) -> tuple[_Pair, ...]:
        return tuple(_Pair(key, value) for key, value in self._call.metadata.items())

    def peer(self) -> str:
        return self._call.peer

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: object = ()) -> NoReturn:
        del trailing_metadata
        raise CallRefused(Status(code.value[0]), details)


async def intercepted(
    path: str, run: Run, interceptors: Sequence[aio.ServerInterceptor]
) -> Callable[[bytes, InterceptedRequest], Awaitable[bytes]]:
    """`run` wrapped by the interceptors; the first one is the outermost."""

    async def innermost(request: bytes, context: Any) -> bytes:
        try:
            return await run(request)
        except CallRefused as refused:
            await context.abort(_CODES[refused.status], refused.details)
            raise

    handler: Any = grpc.unary_unary_rpc_method_handler(innermost)
    for interceptor in reversed(interceptors):

        async def inner(_: object, handler: Any = handler) -> Any:
            return handler

        handler = await interceptor.intercept_service(inner, _Details(path))
    behave = handler.unary_unary

    async def outermost(request: bytes, call: InterceptedRequest) -> bytes:
        answer: bytes = await behave(request, _Context(call))
        return answer

    return outermost


_CODES = {code.value[0]: code for code in grpc.StatusCode}
