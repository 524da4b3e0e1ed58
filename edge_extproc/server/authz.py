"""The ext_authz shell: one question of Envoy's about any service, one answer. It decides nothing.

Whatever is raised, Envoy hears a fixed sentence; it lets nothing through where it gets no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio

from ..errors import PeerError
from ..exchange.commands import Reply
from ..exchange.events import Headers
from ..model.principal import Principal
from . import wire_authz

METHOD = "/envoy.service.auth.v3.Authorization/Check"


class AuthzService(grpc.GenericRpcHandler):
    """Add it to a server's generic handlers. `on_error` is told what was raised and not foreseen."""

    def __init__(
        self, admit: Callable[[Headers], Principal | Reply], on_error: Callable[[BaseException], None]
    ) -> None:
        self._admit = admit
        self._on_error = on_error
        self._method: Any = grpc.unary_unary_rpc_method_handler(self._check)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._method if handler_call_details.method == METHOD else None

    async def _check(self, message: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return wire_authz.to_answer(self._admit(wire_authz.to_headers(message)))
        # The last place where an exception can be kept from Envoy.
        except Exception as exc:  # noqa: BLE001
            self._on_error(exc)
            if isinstance(exc, PeerError):
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "protocol error")
            await context.abort(grpc.StatusCode.INTERNAL, "check failed")
