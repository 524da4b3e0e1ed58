"""Errors, independent of the wire format: each dialect encodes a `Fault` in its own format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

from .frozen_dataclass import frozen_dataclass

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
    "api",  # 500, 502 and others: not the caller's fault
]


@frozen_dataclass
class Fault:
    """An error from a provider, from Envoy or from the gateway.

    `status`: the HTTP status for the caller. `code` and `type`: the values in the source's own format, for a caller of
    the same dialect. `retry_after`: seconds.
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
    """The kind of an HTTP status, for errors whose body is not more specific."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    return "invalid_request" if 400 <= status < 500 else "api"


# Messages of providers that show the kind of an error for which they have no code. The sources are recorded traffic and
# reports of users.
_BY_MESSAGE: Mapping[FaultKind, re.Pattern[str]] = {
    "context_length": re.compile(
        r"(?:prompt|input|request) (?:is )?too long|context[ _](?:window|length|limit|size)"
        r"|total length of all messages|input token count|maximum (?:prompt|input) length"
        r"|exceeds? (?:the |this model's )?max(?:imum)?(?: allowed)?(?: number of)?(?: input)? tokens?\b"
        r"|too many (?:input |prompt )?tokens|exceed\w* (?:the )?(?:available )?context|input tokens? exceed"
        r"|maximum context|exceeds? the model's maximum|max_model_len|input length and `?max_tokens"
        r"|too large for model with \d+ maximum|prompt contains \d+ tokens|tokens? exceeds? the (?:configured )?limit"
        r"|number of tokens in (?:the )?(?:prompt|input)|reduce the length of (?:the |your )?(?:prompt|messages|input)"
        r"|longer than the maximum model length|exceed\w* model token limit|prompt \u8d85\u957f|range of input length"
        r"|prompt token count of|inputs` must have less than|input tokens exceeded|has too many tokens"
        r"|inputs` tokens \+ `max_new_tokens|prompt exceeds max length|token length too long|exceed max message tokens",
        re.IGNORECASE,
    ),
    "content_filter": re.compile(
        r"content (?:management|filtering|filter|usage) policy|content filter\b|safety system|flagged as potentially"
        r"|content violates usage guidelines|requires moderation and your input was flagged",
        re.IGNORECASE,
    ),
    # At the start only: a message may quote the request further on.
    "payment": re.compile(
        r"^\W*(?:your )?(?:credit balance|insufficient (?:balance|credits?|funds)|billing hard limit)", re.IGNORECASE
    ),
    "authentication": re.compile(
        r"^\W*(?:incorrect|invalid) api key|^\W*api key (?:not valid|expired|is invalid)", re.IGNORECASE
    ),
}


# "Please try again in 1m3.5s", "try again in 20ms", "Please retry after 26 seconds", "retry in 39.2s".
_WAIT = re.compile(
    r"(?:try again in|retry after|retry in|wait)\s+(?:(\d+)h)?(?:(\d+)m(?!s))?\s*(?:(\d+(?:\.\d+)?)\s*(ms|s)\w*)?",
    re.IGNORECASE,
)


def wait_in(message: str) -> float | None:
    """The seconds to wait that the message of a rate limit names; None if it names none."""
    for hours, minutes, number, unit in _WAIT.findall(message):
        if hours or minutes or number:
            seconds = float(number or 0) * (0.001 if unit.lower() == "ms" else 1)
            return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds
    return None


def refined(kind: FaultKind, message: str) -> FaultKind:
    """The kind of an error, made more specific by its message."""
    if kind == "permission" and _BY_MESSAGE["content_filter"].search(message):
        return "content_filter"
    if kind == "too_large" and _BY_MESSAGE["context_length"].search(message):
        return "context_length"
    if kind != "invalid_request":
        return kind
    return next((specific for specific, pattern in _BY_MESSAGE.items() if pattern.search(message)), kind)


def clear_message(fault: Fault, words: str) -> str:
    """The message for a format without a code for a prompt that is too long. `words`: those by which its clients know
    one; they come first if the provider's message does not tell it."""
    message = scrubbed(fault.message)
    if fault.kind != "context_length" or _BY_MESSAGE["context_length"].search(message):
        return message
    return scrubbed(f"{words} {message}")


# Keys (whole or masked), accounts and projects of the operator, which providers repeat in their messages. `<key>` is a
# placeholder in a message of the gateway.
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|pplx|org|proj|hf|csk|fw|tgp|nvapi|r8|vck)[-_][\w*.\u2026-]{4,}|\bsk-[\w*.\u2026-]*"
    r"|\bkey[-_](?=\w*\d)\w{8,}|\bAIza[\w*-]{4,}|\bya29\.[\w.-]+|\b(?:AKIA|ASIA)[A-Z0-9]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w.-]{8,}|(?<=\bbearer )(?!<key>)[^\s\"',;]+|\barn:aws[\w-]*:[^\s\"',;]+"
    r"|\b[\w.-]{1,64}@[\w.-]{1,64}\.gserviceaccount\.com"
    r"|(?<=api_key:)[\w-]+|(?<=projects/)[\w-]+|(?<=project_number:)\d+|(?<=project )\d{6,}",
    re.IGNORECASE,
)
# Keys without a recognizable form, detected by the words before them. A value without a digit or asterisk is a word.
_ECHOED = re.compile(
    r"((?:api[ _-]?key|token|secret)(?: provided)?\s*[:=]\s*[\"']?)(?=[^\s,;\"']*[\d*])[^\s,;\"']*[^\s,;.\"']",
    re.IGNORECASE,
)
# Characters. An error page of a proxy can be long; its beginning is sufficient.
_MAX_MESSAGE = 2_000


def scrubbed(message: str) -> str:
    """A provider's message without keys and accounts, cut to 2,000 characters."""
    return _scrubbed(message) if len(message) > _LONGEST_CACHED else _scrubbed_cached(message)


def _scrubbed(message: str) -> str:
    begin = message[: 2 * _MAX_MESSAGE]  # twice the length, because a part of a key would not be recognized
    return _ECHOED.sub(r"\1***", _SECRETS.sub("***", begin))[:_MAX_MESSAGE]


# A caller with a wrong key gets the same few messages again and again.
_LONGEST_CACHED = 256
_scrubbed_cached = lru_cache(maxsize=256)(_scrubbed)
