"""The whole exception tree, and the HTTP answer of each.

EdgeError
├── CallerError            the caller broke a rule: shown to the caller as it is
│   ├── BadRequest         400  the body, a header or a field is wrong
│   │   └── Unsupported    400  a field that the chosen provider's format cannot carry and must not lose
│   ├── Unauthenticated    401  no key, a wrong key, or more than one
│   ├── Forbidden          403  a known caller who may not do this
│   │   └── Unpriced       403  a budget must be kept, and nobody knows what the model costs
│   ├── NoSuchRoute        404  no API lives at this path
│   ├── NoSuchModel        404  the model is not configured, or hidden from this caller
│   ├── WrongMethod        405  the path exists, the method does not
│   ├── TooLarge           413  the body is over the limit
│   └── LimitReached       429  a limit of ours
│       └── BudgetReached  429  one in dollars
├── PolicyUnavailable      503  what decides (the store of limits, an issuer's keys) cannot be reached: fail closed
├── UpstreamError          502  a provider (or the way to it) broke a rule
│   ├── ResponseTooLarge   502  the reply is over the limit
│   └── Unavailable        503  no provider can be asked now
├── PeerError              500  Envoy sent what it should not; the message is for the log alone
├── ConfigError            -    a config that cannot be used; names file, line and what would be right
│   └── NoEnvoy            -    no Envoy binary is installed, and none is named
└── StartError             -    a part of the gateway did not start; one line for a human

Every EdgeError but ConfigError and StartError becomes a `Fault`, and a dialect writes the fault in the caller's words.
Anything else that is raised is a bug of ours: a neutral 500, and a log line without the exception's text.
"""

from __future__ import annotations

from .model.fault import Fault, FaultKind


def _encodable(text: str) -> str:
    """What a caller sent may be quoted, and may hold bytes that are not UTF-8."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class EdgeError(Exception):
    """Something that we know how to answer."""

    status = 500
    kind: FaultKind = "api"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = _encodable(message)
        self.param = _encodable(param) if param is not None else None
        self.retry_after = retry_after

    def fault(self) -> Fault:
        return Fault(self.status, self.kind, self.message, self.code, param=self.param, retry_after=self.retry_after)


class CallerError(EdgeError):
    status = 400
    kind: FaultKind = "invalid_request"


class BadRequest(CallerError):
    code = "invalid_request"


class Unsupported(BadRequest):
    """`field` is the caller's own spelling, `dialect` the format that has no such thing."""

    code = "unsupported_field"

    def __init__(self, field: str, dialect: str, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(
            f"{field} cannot be sent to a provider that speaks {dialect}{reason}. "
            "Leave it out, or ask for a model of another provider.",
            param=field,
        )


class Unauthenticated(CallerError):
    status = 401
    kind: FaultKind = "authentication"
    code = "invalid_api_key"


class Forbidden(CallerError):
    status = 403
    kind: FaultKind = "permission"
    code = "permission_denied"


class Unpriced(Forbidden):
    code = "model_unpriced"


class NoSuchRoute(CallerError):
    status = 404
    kind: FaultKind = "not_found"
    code = "unknown_path"


class NoSuchModel(CallerError):
    status = 404
    kind: FaultKind = "not_found"
    code = "model_not_found"


class WrongMethod(CallerError):
    status = 405
    kind: FaultKind = "method"
    code = "method_not_allowed"


class TooLarge(CallerError):
    status = 413
    kind: FaultKind = "too_large"
    code = "request_too_large"


class LimitReached(CallerError):
    status = 429
    kind: FaultKind = "rate_limit"
    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, retry_after: float | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.headers = headers
        """What is left of each limit, for the caller."""


class BudgetReached(LimitReached):
    code = "budget_exceeded"


class PolicyUnavailable(EdgeError):
    status = 503
    kind: FaultKind = "overloaded"
    code = "policy_unavailable"


class UpstreamError(EdgeError):
    status = 502
    kind: FaultKind = "api"
    code = "upstream_error"


class ResponseTooLarge(UpstreamError):
    code = "response_too_large"


class Unavailable(UpstreamError):
    status = 503
    kind: FaultKind = "overloaded"
    code = "no_provider"


class PeerError(EdgeError):
    code = "protocol_error"

    def fault(self) -> Fault:
        return Fault(500, "api", "the gateway and its policy server disagree; this request was stopped", self.code)


class ConfigError(EdgeError):
    code = "config"


class NoEnvoy(ConfigError):
    """No Envoy binary is installed, and none is named."""


class StartError(EdgeError):
    code = "start"
