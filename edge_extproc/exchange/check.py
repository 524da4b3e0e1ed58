"""Answers ext_authz: decides by the headers alone whether a request may continue. It works on any route, with the
identity and rules of router.py.

A route's own settings come as `context_extensions`:

    edge.tenants    names of the permitted tenants, separated by commas; others are refused
    edge.roles      the caller needs one of them
    edge.operation  the operation for policies; default: that of the path, in any spelling and with any method
    edge.model      the model of the route: a caller who may not use it is refused
    edge.limit      requests: one is taken from the caller's requests per minute
    edge.cost       dollars of one request: it is taken from the caller's budgets, and the request is counted
    edge.optional   true: a request without a credential is allowed, without an identity

An unknown setting is refused, because a misspelled one would permit too much.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from posixpath import normpath
from typing import TypeAlias, cast, get_args
from urllib.parse import unquote

from ..auth.api_key import CREDENTIAL_HEADERS
from ..auth.identity_seal import IdentitySeal
from ..errors import EdgeError, Forbidden, LimitReached, NoSuchRoute, WrongMethod
from ..limits.base import CallerLimits, ReservationRequest
from ..limits.spending import micro_dollars
from ..model.call import Operation
from ..model.checked import AuthzDecision
from ..model.fault import Fault
from ..model.globs import allows
from ..model.principal import Principal
from ..model.settlement import Settlement
from ..model.usage import Usage
from .commands import Pairs
from .events import Headers
from .headers import first
from .ports import Gateway

SETTINGS = frozenset(
    {"edge.tenants", "edge.roles", "edge.operation", "edge.model", "edge.limit", "edge.cost", "edge.optional"}
)
_PREFIX = "edge."
# Envoy sets it if the caller has shown a certificate.
CERTIFICATE = "x-forwarded-client-cert"
# Headers for the service behind the gateway. They replace the caller's headers of these names.
IDENTITY_HEADERS = ("x-edge-tenant", "x-edge-team", "x-edge-user", "x-edge-key")
_OPERATIONS = frozenset(get_args(Operation))
_DOLLARS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")
"""Up to a million dollars, in micro-dollars."""
_MOST_ESCAPES = 3
"""How often an escape is decoded: each proxy on the way may decode it once."""
_QUERY = re.compile(r"[?#]")
_USUAL = re.compile(r"(?:/|[A-Za-z0-9._~!$&'()*+,=:@-]*[A-Za-z0-9_~!$&'()*+,=:@-](?=/|$))*")
"""A plain path that no service reads as another one."""
_SEPARATORS = re.compile(r"[^a-z0-9]")
"""Characters of a header name that servers may map to one (CGI: to an underscore)."""


@dataclass(frozen=True, slots=True)
class AuthzRequest:
    """One request, as ext_authz reports it."""

    method: str
    path: str
    """With its query."""
    headers: Headers
    """Without pseudo-headers."""
    settings: Mapping[str, str]
    host: str | None = None


@dataclass(slots=True)
class _Caller:
    """The facts about the caller so far."""

    principal: Principal | None = None
    operation: Operation | None = None


@dataclass(frozen=True, slots=True)
class CheckAllowed:
    set_headers: Pairs
    remove_headers: tuple[str, ...]
    metadata: Mapping[str, str]
    response_headers: Pairs = ()
    """Headers for the caller, on the response."""


@dataclass(frozen=True, slots=True)
class CheckDenied:
    status: int
    headers: Pairs
    body: bytes
    code: str


Verdict: TypeAlias = CheckAllowed | CheckDenied


class AuthzChecker:
    def __init__(
        self,
        gateway: Callable[[], Gateway],
        identity_seal: IdentitySeal,
        on_checked: Callable[[AuthzDecision], None] = lambda _: None,
    ) -> None:
        """`gateway` returns the current one. `on_checked` is called with each decision."""
        self._current = gateway
        self._seal = identity_seal
        self._on_checked = on_checked

    @property
    def _gateway(self) -> Gateway:
        return self._current()

    async def check(self, request: AuthzRequest) -> Verdict:
        """The decision. Never raises: a bug of the gateway becomes a refusal."""
        clock, caller, fault = self._gateway.clock, _Caller(), None
        began, started_at = clock.monotonic(), clock.time()
        verdict: Verdict
        try:
            verdict = await self._check(request, caller)
        except EdgeError as error:
            fault = error.fault()
            verdict = self._denied(request, fault, error.headers if isinstance(error, LimitReached) else ())
        except Exception as bug:  # noqa: BLE001 - any bug must become a refusal
            self._gateway.report(bug)
            fault = Fault(500, "api", "the gateway failed on this request; it was logged", "internal")
            verdict = self._denied(request, fault)
        principal = caller.principal
        self._on_checked(
            AuthzDecision(
                "allowed" if fault is None else "unavailable" if fault.status >= 500 else "denied",
                fault.status if fault is not None else None,
                (fault.code or fault.kind) if fault is not None else None,
                fault.message if fault is not None else None,
                started_at,
                clock.monotonic() - began,
                principal.tenant if principal is not None else None,
                principal.team if principal is not None else None,
                principal.user if principal is not None else None,
                principal.key_id if principal is not None else None,
                request.method,
                request.host,
                request.path.partition("?")[0],
                caller.operation,
                first(request.headers, "x-request-id"),
            )
        )
        return verdict

    async def _check(self, request: AuthzRequest, caller: _Caller) -> CheckAllowed:
        gateway, settings = self._gateway, request.settings
        unknown = sorted(name for name in settings if name.startswith(_PREFIX) and name not in SETTINGS)
        if unknown:
            raise Forbidden(f"this route has unknown settings: {', '.join(unknown)}")
        cost = _dollars(settings["edge.cost"]) if "edge.cost" in settings else None
        credentials = tuple(name for name, _ in request.headers if name in CREDENTIAL_HEADERS)
        anonymous = not credentials and all(name != CERTIFICATE for name, _ in request.headers)
        if anonymous and settings.get("edge.optional") == "true":
            return CheckAllowed((), _spellings(request.headers), {})
        principal = caller.principal = gateway.authenticator.authenticate(request.headers)
        operations = self._operations(request)
        caller.operation = operations[0] if operations else None
        self._may_pass(principal, request, operations)
        limit_headers: Pairs = ()
        rules = gateway.limiter.rules(principal) if gateway.limiter is not None else None
        if gateway.limiter is not None and rules is not None:
            gateway.limiter.raise_if_blocked(rules)
            if cost is not None:
                limit_headers = await self._charge(rules, cost)
            elif settings.get("edge.limit") == "requests":
                limit_headers = await self._count(rules)
        identity = dict(
            zip(IDENTITY_HEADERS, (principal.tenant, principal.team, principal.user, principal.key_id), strict=True)
        )
        unset = tuple(name for name, value in identity.items() if not value)
        forged = tuple(name for name in _spellings(request.headers) if name not in identity)
        return CheckAllowed(
            tuple((name, value) for name, value in identity.items() if value),
            # A repeated name is removed once.
            tuple(dict.fromkeys((*(() if self._needs_credential_later(request) else credentials), *unset, *forged))),
            {
                "tenant": principal.tenant,
                "key": principal.key_id,
                **self._seal.seal(principal, first(request.headers, "x-request-id") or ""),
            },
            limit_headers,
        )

    def _needs_credential_later(self, request: AuthzRequest) -> bool:
        """Whether the credential stays on the request for ext_proc, which removes it itself: an LLM API's request goes
        there, and ext_proc needs the credential unless it accepts the sealed identity."""
        path = request.path.partition("?")[0]
        if self._gateway.identity_seal is not None or self._gateway.routes.canonical(path) != path:
            return False  # a path without a version may be that of another service
        try:
            return bool(self._gateway.routes.match(request.method, path))
        except (NoSuchRoute, WrongMethod):
            return False

    def _may_pass(self, principal: Principal, request: AuthzRequest, operations: tuple[Operation, ...]) -> None:
        tenants, roles = _names(request.settings.get("edge.tenants")), _names(request.settings.get("edge.roles"))
        if tenants and principal.tenant not in tenants:
            raise Forbidden(f"the tenant {principal.tenant} may not use this route")
        if roles and not roles & set(principal.roles or ()):
            raise Forbidden(f"this route is for the roles {', '.join(sorted(roles))}")
        rights = self._gateway.access.of(principal) if self._gateway.access is not None else None
        if rights is not None:
            for operation in operations:
                rights.may_do(operation)
            if not operations and rights.restricts_operations and not _USUAL.fullmatch(plain_path(request.path)):
                raise Forbidden(
                    "this path has an unusual spelling, so its operation is not known; send it without escapes"
                )
        model = request.settings.get("edge.model")
        if model is not None and not (allows(principal.models, model) and (rights is None or rights.may_list(model))):
            raise Forbidden(f"this route serves the model {model!r}, which this caller may not use")

    def _operations(self, request: AuthzRequest) -> tuple[Operation, ...]:
        """The operation of the route, or all that its path can mean. Empty: the path is not one of ours."""
        operation = request.settings.get("edge.operation")
        if operation is not None:
            if operation not in _OPERATIONS:
                raise Forbidden(f"this route has an unknown operation: {operation!r}")
            return (cast("Operation", operation),)
        operations = self._route(request, request.path)
        if not operations:  # a service behind this route may read another spelling of our path as that path
            plain = plain_path(request.path)
            operations = self._route(request, plain) or self._route(request, plain.lower())
        return operations

    def _route(self, request: AuthzRequest, path: str) -> tuple[Operation, ...]:
        """The operations of one of our own paths. With a method that is not one of the path's, they are those of all
        its methods: many frameworks read the method from elsewhere, such as the header x-http-method-override."""
        routes, path = self._gateway.routes, path.partition("?")[0]
        try:
            found = [routes.match(request.method, path)[1]]
        except NoSuchRoute:
            return ()
        except WrongMethod:
            found = [route for _, route in routes.methods(path).values()]
        alternatives = [other for route in found for _, other in routes.alternatives(route)]
        return tuple(dict.fromkeys(route.operation for route in (*found, *alternatives)))

    async def _count(self, rules: CallerLimits) -> Pairs:
        limiter, name = self._gateway.limiter, self._gateway.new_id()
        if limiter is None:  # pragma: no cover - the rules come from it
            return ()
        admission = await limiter.count(name, rules)
        limiter.settle(Settlement(name, "rejected", None, None, 0.0, 0.0, 0.0))
        return admission.headers

    async def _charge(self, rules: CallerLimits, cost: Decimal) -> Pairs:
        """Takes a fixed cost and one request from all limits of the caller, in one step."""
        limiter, name = self._gateway.limiter, self._gateway.new_id()
        if limiter is None:  # pragma: no cover - the rules come from it
            return ()
        admission = await limiter.admit(name, rules, ReservationRequest(0, micro_dollars(cost)))
        limiter.settle(Settlement(name, "ok", 200, None, 0.0, 0.0, 0.0, usage=Usage(), cost=cost))
        return admission.headers

    def _denied(self, request: AuthzRequest, fault: Fault, limit_headers: Pairs = ()) -> CheckDenied:
        gateway = self._gateway
        path = request.path.partition("?")[0]
        names = dict(request.headers)
        caller_dialect = gateway.routes.caller_dialect(path, names) or gateway.dialects[gateway.default_dialect]
        status, headers, body = caller_dialect.write_error(fault)
        return CheckDenied(status, (*headers, *limit_headers), body, fault.code or fault.kind)


def plain_path(path: str) -> str:
    """The path as a lenient service may read it: with its escapes decoded, repeated slashes merged and dot segments
    resolved, and without parameters and a final slash."""
    for _ in range(_MOST_ESCAPES):
        path = unquote(path, errors="replace")
    path = _QUERY.split(path, maxsplit=1)[0]
    steps = [step.partition(";")[0] for step in path.replace("\\", "/").split("/")]
    return "/" + normpath("/".join(steps)).lstrip("/")


def _dollars(text: str) -> Decimal:
    if not _DOLLARS.fullmatch(text):
        raise Forbidden(f"this route has an unknown cost: {text!r}")
    return Decimal(text)


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip())


def _spellings(headers: Headers) -> tuple[str, ...]:
    """The names of the headers that a service may take for one of the identity headers."""
    return tuple(dict.fromkeys(name for name, _ in headers if _SEPARATORS.sub("-", name) in IDENTITY_HEADERS))
