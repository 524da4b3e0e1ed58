"""Something went wrong, told so that every dialect can say it in its own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

FaultKind: TypeAlias = Literal[
    "invalid_request",  # 400, 422: the caller's mistake
    "authentication",  # 401
    "payment",  # 402, and 429 insufficient_quota
    "permission",  # 403
    "not_found",  # 404
    "method",  # 405
    "conflict",  # 409
    "too_large",  # 413
    "rate_limit",  # 429
    "context_length",  # the prompt is longer than the model takes
    "content_filter",  # refused by a filter of the provider
    "overloaded",  # 503, 529
    "timeout",  # 408, 504
    "api",  # 500, 502 and the rest: not the caller's fault
]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as it came from a provider, from Envoy or from us.

    `status` is the HTTP status that the caller shall see; `code` and `type` are the source's own words, kept for a
    caller of the same dialect. `retry_after` is in seconds.
    """

    status: int
    kind: FaultKind
    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None
    request_id: str | None = None


_BY_STATUS: dict[int, FaultKind] = {
    400: "invalid_request",
    401: "authentication",
    402: "payment",
    403: "permission",
    404: "not_found",
    405: "method",
    408: "timeout",
    409: "conflict",
    413: "too_large",
    422: "invalid_request",
    429: "rate_limit",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


def kind_of(status: int) -> FaultKind:
    """What an HTTP status means where the body says no better."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    return "invalid_request" if 400 <= status < 500 else "api"
