"""The ext_authz shell: one unary call, one verdict. It decides nothing, and Envoy never hears an exception's text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
from grpc import aio

from ..errors import PeerError
from ..exchange.check import Checks, Verdict
from . import authz_wire

Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"

METHOD = "/envoy.service.auth.v3.Authorization/Check"


class AuthzService(grpc.GenericRpcHandler):
    """Add it to a server's generic handlers. `on_verdict` is told of each."""

    def __init__(
        self,
        checks: Checks,
        on_error: Callable[[BaseException], None],
        on_verdict: Callable[[Verdict], None] = lambda _: None,
    ) -> None:
        self._checks = checks
        self._on_error = on_error
        self._on_verdict = on_verdict
        self._method: Any = grpc.unary_unary_rpc_method_handler(self._check)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._method if handler_call_details.method == METHOD else None

    async def _check(self, request: bytes, context: Context) -> bytes:
        try:
            verdict = await self._checks.check(authz_wire.to_asked(request))
            answer = authz_wire.to_answer(verdict)
        # The last place where an exception can be kept from Envoy, which then refuses the request.
        except Exception as exc:  # noqa: BLE001
            self._on_error(exc)
            if isinstance(exc, PeerError):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "protocol error")
            await context.abort(grpc.StatusCode.INTERNAL, "check failed")
        self._on_verdict(verdict)
        return answer
