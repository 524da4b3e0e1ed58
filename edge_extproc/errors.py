"""All exceptions of the gateway, with the HTTP status of each.

EdgeError
├── CallerError            the caller broke a rule; the message is sent to the caller
│   ├── BadRequest         400  the body, a header or a field is wrong
│   │   ├── Unsupported    400  a field that the provider's format lacks and that must not be dropped
│   │   └── NoSuchContext  400  a call continues a reply that is not stored
│   ├── GuardrailBlocked   400  a rule of the guardrails blocks the call
│   ├── Unauthenticated    401  no credential, a wrong one, or more than one
│   ├── Forbidden          403  an authenticated caller without the permission
│   │   └── Unpriced       403  a budget applies, and the price of the model is unknown
│   ├── NoSuchRoute        404  the path belongs to no API
│   ├── NoSuchModel        404  the model is not configured, or hidden from this caller
│   ├── NoSuchObject       404  the provider has no such object, or not for this tenant
│   ├── NotStored          404  a reply or conversation that is not stored for this caller
│   ├── WrongMethod        405  the path exists, the method does not
│   ├── InProgress         409  an equal request with the same idempotency key has not ended
│   ├── AlreadyAnswered    409  an equal request with the same idempotency key has ended, and its reply was not kept
│   ├── KeyReused          422  the idempotency key belongs to another request
│   ├── TooLarge           413  the body is over the limit
│   └── LimitReached       429  a rate limit of the gateway
│       ├── BudgetReached  429  a limit in dollars
│       └── RunReached     429  a cap of a run
├── PolicyUnavailable      503  a decision needs a service (limit store, token issuer) that is unreachable: fail closed
├── UpstreamError          502  a provider, or the connection to it, broke a rule
│   ├── ResponseTooLarge   502  the response is over the limit
│   ├── ErrorReply         -    a reply of status 200 that is the provider's error; its fault is the provider's
│   ├── CredentialRefused  502  the provider refused the gateway's own credential
│   ├── AccountUnpaid      503  the gateway's account at the provider has no credit
│   └── Unavailable        503  no provider is available
├── ProxyMisconfigured     500  the proxy is configured so that a request could pass unread, or with a wrong credential
├── PeerError              500  Envoy sent an invalid message; the text is for the log only
├── ConfigError            -    an invalid configuration; the text has file, line and what would be valid
│   └── NoEnvoy            -    no Envoy binary is installed, and none is configured
└── StartError             -    a part of the gateway did not start; the text is one line for the operator

Every EdgeError except ConfigError and StartError becomes a `Fault`, which a dialect encodes in the caller's format. Any
other exception is a bug of the gateway: a neutral 500, and a log line without the exception's text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from .model.envoy_names import GUARDRAILS
from .model.fault import Fault, FaultKind


def _encodable(text: str) -> str:
    """The text with surrogates escaped: it may quote a caller, whose bytes may not be UTF-8."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class EdgeError(Exception):
    """An error with a defined HTTP response.

    `param`: the field of the request that caused it. `retry_after`: seconds until a retry may succeed.
    """

    status = 500
    kind: FaultKind = "api"
    code: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """More headers for the caller."""

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
    """`field`: in the caller's spelling. `dialect`: the format that has no such field."""

    code = "unsupported_field"

    def __init__(self, field: str, dialect: str, why: str = "") -> None:
        reason = f": {why}" if why else ""
        super().__init__(
            f"{field} cannot be sent to a provider that uses {dialect}{reason}. "
            "Remove it, or use a model of another provider.",
            param=field,
        )


class NoSuchContext(BadRequest):
    """OpenAI answers with this code and status too."""

    code = "previous_response_not_found"


class GuardrailBlocked(CallerError):
    """`label`: what the rule found, never a part of the text."""

    kind: FaultKind = "content_filter"
    code = "guardrail_blocked"

    def __init__(self, rule: str, label: str, *, param: str | None = None) -> None:
        super().__init__(f"the rule {rule!r} of this gateway's guardrails blocks this call: {label}", param=param)
        self.headers = ((GUARDRAILS, f"{rule}=block"),)


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


class NoSuchObject(CallerError):
    """The text is the same for an object of another tenant and for one that does not exist."""

    status = 404
    kind: FaultKind = "not_found"
    code = "object_not_found"

    def __init__(self, name: str, *, param: str | None = None) -> None:
        super().__init__(f"there is no object {name!r:.200} for this key", param=param)


class NotStored(CallerError):
    status = 404
    kind: FaultKind = "not_found"
    code = "not_found"


class WrongMethod(CallerError):
    status = 405
    kind: FaultKind = "method"
    code = "method_not_allowed"


class InProgress(CallerError):
    status = 409
    kind: FaultKind = "conflict"
    code = "idempotency_key_in_progress"


class AlreadyAnswered(CallerError):
    status = 409
    kind: FaultKind = "conflict"
    code = "idempotent_reply_not_kept"


class KeyReused(CallerError):
    status = 422
    code = "idempotency_key_reused"


class TooLarge(CallerError):
    status = 413
    kind: FaultKind = "too_large"
    code = "request_too_large"


class NotCached(CallerError):
    """The status is that of RFC 9111. SDKs would repeat the call for it, if nothing said otherwise."""

    status = 504
    kind: FaultKind = "timeout"
    code = "not_cached"
    headers = (("x-should-retry", "false"),)


class LimitReached(CallerError):
    status = 429
    kind: FaultKind = "rate_limit"
    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, retry_after: float | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.headers = headers  # of rate limits


class BudgetReached(LimitReached):
    code = "budget_exceeded"


class RunReached(LimitReached):
    code = "run_limit_exceeded"


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


class ErrorReply(UpstreamError):
    """A reply of status 200 whose content is an error of the provider."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message, param=fault.param, retry_after=fault.retry_after)
        self._fault = fault

    def fault(self) -> Fault:
        return self._fault


class CredentialRefused(UpstreamError):
    code = "provider_credential_refused"

    def __init__(self) -> None:
        super().__init__("the provider refused the credential of this gateway; its operator must correct it")


class AccountUnpaid(UpstreamError):
    status = 503
    code = "provider_account_unpaid"

    def __init__(self) -> None:
        super().__init__("the account of this gateway at the provider has no credit; its operator must correct it")


class Unavailable(UpstreamError):
    status = 503
    kind: FaultKind = "overloaded"
    code = "no_provider"


class ProxyMisconfigured(EdgeError):
    """The message is for the operator of the proxy. It contains no text of a caller."""

    code = "proxy_misconfigured"


class PeerError(EdgeError):
    code = "protocol_error"

    def fault(self) -> Fault:
        return Fault(500, "api", "the gateway and its policy server disagree; this request was stopped", self.code)


class ConfigError(EdgeError):
    code = "config"


class NoEnvoy(ConfigError):
    """No Envoy binary is installed, and none is configured."""


class StartError(EdgeError):
    code = "start"


# --- the end of a process


def exit_code(run: Callable[[], object]) -> int:
    """Runs a command. Each mistake is one clear line on stderr."""
    from asyncio import CancelledError

    try:
        run()
    except (ConfigError, StartError) as error:
        print(f"edge-extproc: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, CancelledError):  # stopped by a signal before everything served
        return 130
    return 0
