"""The ext_authz shell: one unary call, one verdict. It decides nothing, and Envoy never hears an exception's text."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import PeerError
from ..exchange.check import AuthzChecker, Verdict
from . import authz_wire
from .rpc import CallRefused, Methods, Status, Unary

METHOD = "/envoy.service.auth.v3.Authorization/Check"


class AuthzService:
    """`on_verdict` is told of each verdict, `on_error` what was raised and not foreseen."""

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
            verdict = await self._checks.check(authz_wire.to_asked(request))
            answer = authz_wire.to_answer(verdict)
        # The last place where an exception can be kept from Envoy, which then refuses the request.
        except Exception as exc:
            self._on_error(exc)
            if isinstance(exc, PeerError):
                raise CallRefused(Status.INVALID_ARGUMENT, "protocol error") from exc
            raise CallRefused(Status.INTERNAL, "check failed") from exc
        self._on_verdict(verdict)
        return answer
