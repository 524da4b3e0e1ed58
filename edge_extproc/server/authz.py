"""The gRPC service for ext_authz: passes each check to the checker, and its verdict to Envoy. It decides nothing, and
sends no text of an exception to Envoy."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import PeerError
from ..exchange.check import AuthzChecker, Verdict
from . import authz_wire
from .rpc import CallRefused, Methods, Status, Unary

METHOD = "/envoy.service.auth.v3.Authorization/Check"


class AuthzService:
    """`on_verdict` is called with each verdict, `on_error` with each unexpected exception."""

    def __init__(
        self,
        checks: AuthzChecker,
        on_error: Callable[[BaseException], None],
        on_verdict: Callable[[Verdict], None] = lambda _: None,
    ) -> None:
        self.methods: Methods = {METHOD: Unary(self._check)}
        self._checks = checks
        self._on_error = on_error
        self._on_verdict = on_verdict

    async def _check(self, request: bytes) -> bytes:
        try:
            verdict = await self._checks.check(authz_wire.to_request(request))
            answer = authz_wire.to_answer(verdict)
        # The last place to keep an exception's text from Envoy. Envoy then refuses the request.
        except Exception as exc:
            self._on_error(exc)
            if isinstance(exc, PeerError):
                raise CallRefused(Status.INVALID_ARGUMENT, "protocol error") from exc
            raise CallRefused(Status.INTERNAL, "check failed") from exc
        self._on_verdict(verdict)
        return answer
