"""Something went wrong, told so that every dialect can say it in its own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

from .noun import noun

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


@noun
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


# What providers say of a request that is wrong in a way with a kind of its own, where they have no code for it: their
# messages in recorded traffic and in reports of their users.
_SAID: Mapping[FaultKind, re.Pattern[str]] = {
    "context_length": re.compile(
        r"(?:prompt|input) is too long|context[ _](?:window|length|limit|size)|total length of all messages"
        r"|input token count|maximum (?:prompt|input) length|exceeds the maximum number of (?:input )?tokens"
        r"|too many (?:input )?tokens|exceed\w* (?:the )?(?:available )?context|input tokens? exceed|maximum context"
        r"|exceeds? the model's maximum",
        re.IGNORECASE,
    ),
    "content_filter": re.compile(
        r"content (?:management|filtering|filter|usage) policy|content filter\b|safety system|flagged as potentially",
        re.IGNORECASE,
    ),
    "payment": re.compile(r"credit balance|insufficient (?:balance|credits?|funds)|billing hard limit", re.IGNORECASE),
}


def refined(kind: FaultKind, message: str) -> FaultKind:
    """The kind of an error whose message says more than its status and its code."""
    if kind != "invalid_request":
        return kind
    return next((said for said, pattern in _SAID.items() if pattern.search(message)), kind)


# Keys (whole or masked), accounts and projects of the operator, as providers echo them in their messages.
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|pplx|org|proj|hf|csk|fw|tgp|nvapi|r8|vck)[-_][\w*.\u2026-]{4,}|\bsk-[\w*.\u2026-]*"
    r"|\bkey[-_](?=\w*\d)\w{8,}|\bAIza[\w*-]{4,}|\bya29\.[\w.-]+|\b(?:AKIA|ASIA)[A-Z0-9]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w.-]{8,}|(?<=\bbearer )[^\s\"',;]+|\barn:aws[\w-]*:[^\s\"',;]+"
    r"|(?<=api_key:)[\w-]+|(?<=projects/)[\w-]+|(?<=project_number:)\d+|(?<=project )\d{6,}",
    re.IGNORECASE,
)
# Keys of no shape of their own, by the words before them; what holds no digit and no asterisk is a word, too.
_ECHOED = re.compile(
    r"((?:api[ _-]?key|token|secret)(?: provided)?\s*[:=]\s*[\"']?)(?=[^\s,;\"']*[\d*])[^\s,;\"']*[^\s,;.\"']",
    re.IGNORECASE,
)
# An error page of a proxy can be long; its beginning says what it is.
_MAX_MESSAGE = 2_000


def scrubbed(message: str) -> str:
    """A provider's message without what could be a key or an account, and not longer than a caller wants to read."""
    return _scrubbed(message) if len(message) > _LONGEST_KNOWN else _scrubbed_before(message)


def _scrubbed(message: str) -> str:
    begin = message[: 2 * _MAX_MESSAGE]  # a key that is cut in two would no longer look like one
    return _ECHOED.sub(r"\1***", _SECRETS.sub("***", begin))[:_MAX_MESSAGE]


# Whoever sends wrong keys is told the same few things, as often as it asks.
_LONGEST_KNOWN = 256
_scrubbed_before = lru_cache(maxsize=256)(_scrubbed)
