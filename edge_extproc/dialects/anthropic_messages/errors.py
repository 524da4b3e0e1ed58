"""Reads and writes error bodies of the Messages API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from ...codecs.json_values import UNREADABLE, decode, text_of
from ...model.content import Json
from ...model.fault import Fault, FaultKind, kind_of, refined, scrubbed, wait_in
from ..base import Headers, header, retry_after
from .fields import Block

# --- errors

_TYPES: Mapping[FaultKind, str] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "payment": "billing_error",
        "permission": "permission_error",
        "not_found": "not_found_error",
        "method": "invalid_request_error",
        "conflict": "conflict_error",
        "too_large": "request_too_large",
        "rate_limit": "rate_limit_error",
        "context_length": "invalid_request_error",
        "content_filter": "invalid_request_error",
        "overloaded": "overloaded_error",
        "timeout": "timeout_error",
        "api": "api_error",
    }
)
_FAULTS: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "invalid_request_error": ("invalid_request", 400),
        "authentication_error": ("authentication", 401),
        "billing_error": ("payment", 402),
        "permission_error": ("permission", 403),
        "not_found_error": ("not_found", 404),
        "conflict_error": ("conflict", 409),
        "request_too_large": ("too_large", 413),
        "rate_limit_error": ("rate_limit", 429),
        "api_error": ("api", 500),
        "timeout_error": ("timeout", 504),
        "overloaded_error": ("overloaded", 529),
    }
)


def read_fault(error: Json, status: int | None, request_id: Json = None, retry_after: float | None = None) -> Fault:
    """The fault of an error object. `status` is None within a stream: there only the type shows the kind."""
    fields_ = error if isinstance(error, dict) else {"message": error}
    value = fields_.get("type")
    type_ = text_of(value)
    kind, usual = _FAULTS.get(type_ or "", ("api" if status is None else kind_of(status), 500))
    message = fields_.get("message")
    text = message if isinstance(message, str) and message else "the provider gave no reason"
    if retry_after is None and kind in ("rate_limit", "overloaded"):
        retry_after = wait_in(text)
    return Fault(
        usual if status is None else status,
        refined(kind, text),
        scrubbed(text),
        type=type_,
        retry_after=retry_after,
        request_id=text_of(request_id),
    )


def read_error(status: int, headers: Headers, body: bytes) -> Fault:
    try:
        envelope = decode(body)
    except UNREADABLE:
        envelope = {"error": body.decode("utf-8", "replace").strip()}
    if not isinstance(envelope, dict):
        envelope = {"error": None}
    error = next((envelope[key] for key in ("error", "message", "Message", "detail") if envelope.get(key)), None)
    request_id = envelope.get("request_id") or header(headers, "request-id")
    return read_fault(error, status, request_id, retry_after(headers, status))


_TOO_LONG = "prompt is too long: "
# Texts by which clients of this API recognize a prompt that is too long. The API has no code for it.
_KNOWN_TOO_LONG = (_TOO_LONG.rstrip(": "), "input length and `max_tokens` exceed", "input length and max_tokens exceed")
_LIMIT = re.compile(r"(?:maximum|limit|max|up to)\D{0,60}?(\d[\d,]{2,})", re.IGNORECASE)
_NUMBER = re.compile(r"\d[\d,]{2,}")


def _too_long(message: str) -> str:
    """The provider's message about a prompt that is too long, after the text that clients search for."""
    if message.startswith(_KNOWN_TOO_LONG):
        return message
    match = _LIMIT.search(message)
    numbers = [int(number.replace(",", "")) for number in _NUMBER.findall(message)]
    limit = int(match[1].replace(",", "")) if match is not None else 0
    if limit and max(numbers) > limit:
        return f"{_TOO_LONG}{max(numbers)} tokens > {limit} maximum. {message}"
    return _TOO_LONG + message


def error_body(fault: Fault) -> Block:
    message = scrubbed(fault.message)
    if fault.kind == "context_length":
        message = _too_long(message)
    # The kind is read from the message too. If this format's type matches the status, it came from the host: Anthropic
    # reports used-up credit as a 400 invalid_request_error.
    own = fault.type if fault.type and _FAULTS.get(fault.type, ("api", 0))[1] == fault.status else None
    return {
        "type": "error",
        "error": {"type": own or _TYPES[fault.kind], "message": message},
        "request_id": fault.request_id,
    }
