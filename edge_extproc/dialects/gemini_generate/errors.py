"""Reads and writes Google's error bodies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ...codecs.json_values import UNREADABLE, decode, text_of
from ...model.content import Json
from ...model.fault import Fault, FaultKind, clear_message, kind_of, refined, scrubbed, wait_in
from ..base import Headers, retry_after
from .fields import Block

# --- errors

# google.rpc.Code, and the kind of each. https://github.com/googleapis/googleapis: google/rpc/code.proto
_STATUSES: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "ABORTED": ("conflict", 409),
        "ALREADY_EXISTS": ("conflict", 409),
        "CANCELLED": ("api", 499),
        "DATA_LOSS": ("api", 500),
        "DEADLINE_EXCEEDED": ("timeout", 504),
        "FAILED_PRECONDITION": ("invalid_request", 400),
        "INTERNAL": ("api", 500),
        "INVALID_ARGUMENT": ("invalid_request", 400),
        "NOT_FOUND": ("not_found", 404),
        "OUT_OF_RANGE": ("invalid_request", 400),
        "PERMISSION_DENIED": ("permission", 403),
        "RESOURCE_EXHAUSTED": ("rate_limit", 429),
        "UNAUTHENTICATED": ("authentication", 401),
        "UNAVAILABLE": ("overloaded", 503),
        "UNIMPLEMENTED": ("api", 501),
        "UNKNOWN": ("api", 500),
    }
)
_STATUS_OF: Mapping[FaultKind, str] = MappingProxyType(
    {
        "api": "INTERNAL",
        "authentication": "UNAUTHENTICATED",
        "conflict": "ABORTED",
        "content_filter": "INVALID_ARGUMENT",
        "context_length": "INVALID_ARGUMENT",
        "invalid_request": "INVALID_ARGUMENT",
        "method": "UNIMPLEMENTED",
        "not_found": "NOT_FOUND",
        "overloaded": "UNAVAILABLE",
        "payment": "RESOURCE_EXHAUSTED",
        "permission": "PERMISSION_DENIED",
        "rate_limit": "RESOURCE_EXHAUSTED",
        "timeout": "DEADLINE_EXCEEDED",
        "too_large": "INVALID_ARGUMENT",
    }
)
# Reasons of google.rpc.ErrorInfo that are more precise than the status: a wrong key is an INVALID_ARGUMENT.
_REASONS: Mapping[str, FaultKind] = MappingProxyType(
    {
        "ACCESS_TOKEN_EXPIRED": "authentication",
        "API_KEY_EXPIRED": "authentication",
        "API_KEY_INVALID": "authentication",
        "BILLING_DISABLED": "payment",
    }
)
_DETAIL = "type.googleapis.com/google.rpc."


def _seconds(duration: Json) -> float | None:
    """The seconds of a google.protobuf.Duration."""
    try:
        seconds = float(str(duration).removesuffix("s"))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _details(error: Block, kind: str) -> Iterator[Block]:
    listed = error.get("details")
    for detail in listed if isinstance(listed, list) else []:
        if isinstance(detail, dict) and detail.get("@type") == _DETAIL + kind:
            yield detail


def _violated(error: Block) -> str | None:
    """The field name in a google.rpc.BadRequest."""
    for detail in _details(error, "BadRequest"):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else []:
            if isinstance(violation, dict) and isinstance(violation.get("field"), str):
                return str(violation["field"])
    return None


def _read_status(error: Block, status: int | None, waiting: float | None) -> Fault:
    """A google.rpc.Status as Google's HTTP hosts write it. `status` is None within a stream."""
    name, code = error.get("status"), error.get("code")
    kind, usual = _STATUSES.get(str(name), (None, None))
    if status is None:
        status = code if isinstance(code, int) and 400 <= code <= 599 else usual or 502
    message = error.get("message")
    reason = next((detail.get("reason") for detail in _details(error, "ErrorInfo")), None)
    kind = _REASONS.get(str(reason), kind or kind_of(status))
    delay = next((_seconds(detail.get("retryDelay")) for detail in _details(error, "RetryInfo")), waiting)
    if delay is None and kind == "rate_limit" and isinstance(message, str):
        delay = wait_in(message)
    return Fault(
        status,
        refined(kind, message) if isinstance(message, str) else kind,
        scrubbed(message) if isinstance(message, str) and message else f"the provider answered {name or status}",
        code=text_of(reason) or None,
        type=text_of(name) or None,
        param=_violated(error),
        retry_after=delay,
    )


def error_in(value: Json) -> Fault | None:
    """The error in a chunk or a body of status 200."""
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return _read_status(error, None, None)
    if value.keys() & {"candidates", "usageMetadata"}:
        return None
    if isinstance(value.get("message"), str):  # a host may leave out the object around it
        return _read_status(value, None, None)
    text = error or value.get("detail")
    return _read_status({"message": text}, None, None) if isinstance(text, str) and text else None


def read_error(status: int, headers: Headers, body: bytes) -> Fault:
    seconds = retry_after(headers, status)
    try:
        value = decode(body)
    except UNREADABLE:
        value = body.decode("utf-8", "replace").strip()
    if isinstance(value, list) and value:  # an array: streamGenerateContent without alt=sse
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, dict):
        return _read_status(error, status, seconds)
    return _read_status({"message": error}, status, seconds)


def error_of(fault: Fault) -> Block:
    status = fault.type if fault.type in _STATUSES else _STATUS_OF[fault.kind]
    message = clear_message(fault, "The input token count exceeds the maximum number of tokens allowed.")
    error: Block = {"code": fault.status, "message": message, "status": status}
    details: list[Block] = []
    if fault.code is not None:
        details.append({"@type": _DETAIL + "ErrorInfo", "reason": fault.code})
    if fault.param is not None:
        violation = {"field": fault.param, "description": error["message"]}
        details.append({"@type": _DETAIL + "BadRequest", "fieldViolations": [violation]})
    if fault.retry_after is not None:
        details.append({"@type": _DETAIL + "RetryInfo", "retryDelay": f"{fault.retry_after:g}s"})
    if details:
        error["details"] = details
    return {"error": error}
