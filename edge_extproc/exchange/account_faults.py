"""Errors of a provider about the gateway's own credential or account.

The caller of the gateway cannot correct them, and its own key is valid. So another candidate is tried, the caller gets
an error of the gateway in place of the provider's, and the operator gets an alarm (`AttemptResult.account_problem`).
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..errors import AccountUnpaid, CredentialRefused
from ..model.call import Operation
from ..model.fault import Fault, FaultKind
from ..model.plan import AccountProblem

STATUSES = frozenset({401, 402, 403})
"""The status codes of an error response that may be about the credential or the account."""

MAY_HIDE_ONE = STATUSES | {400}
"""Gemini and xAI answer 400 to a wrong key, Anthropic to an account without credit."""

# Kinds that are not about the account, whatever their status: OpenRouter and xAI answer 403 to a filtered prompt.
_OF_THE_REQUEST: frozenset[FaultKind] = frozenset(
    {"content_filter", "context_length", "too_large", "rate_limit", "overloaded", "timeout", "conflict", "method"}
)
_PAYMENT_REQUIRED, _FORBIDDEN, _QUOTA = 402, 403, 429
# All formats answer 400 to a prompt that is too long, and clients look for it: they compact the conversation then.
_BAD_REQUEST, _OVERFLOWS = 400, frozenset({413, 422})
# Google answers 403 to a request that names a file, a cached content or an object of Cloud Storage which our account
# may not read or which does not exist. Every caller can name one. At the start only: a message may quote the request.
_OF_A_NAMED_OBJECT = re.compile(
    r"\W*(?:you do not have permission to access the \w+ \S+ or it may not exist|cached ?content not found"
    r"|\S+ does not have storage\.\w+\.\w+ access)",
    re.IGNORECASE,
)


def account_problem(fault: Fault, operation: Operation = "chat") -> AccountProblem | None:
    """What the provider reports about our account; None if the error is about something else. The path of a passed
    request is the caller's choice, and so is whether the account has the right to it."""
    if fault.code == CredentialRefused.code:
        return "credential"
    if fault.kind == "payment" or fault.status == _PAYMENT_REQUIRED or fault.code == AccountUnpaid.code:
        return "payment"
    if fault.status == _FORBIDDEN and (operation == "passed" or _OF_A_NAMED_OBJECT.match(fault.message)):
        return None
    if fault.kind in ("authentication", "permission"):
        return "credential"
    if fault.status in STATUSES and fault.kind not in _OF_THE_REQUEST:
        return "credential"
    return None


def for_caller(fault: Fault, operation: Operation = "chat") -> Fault:
    """A provider's fault as the caller gets it. An error about our account becomes an error of the gateway, without
    the provider's text. A used-up quota stays: clients recognize its code, and do not repeat the request."""
    if fault.kind == "context_length" and fault.status in _OVERFLOWS:
        return replace(fault, status=_BAD_REQUEST)
    problem = account_problem(fault, operation)
    if problem is None or (problem == "payment" and fault.status == _QUOTA):
        return fault
    error = CredentialRefused() if problem == "credential" else AccountUnpaid()
    return replace(error.fault(), retry_after=fault.retry_after, request_id=fault.request_id)
