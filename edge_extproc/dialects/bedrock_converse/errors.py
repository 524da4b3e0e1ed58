"""Reads and writes AWS error bodies and exceptions in event streams."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from ...codecs import aws_eventstream
from ...codecs.json_values import UNREADABLE, decode, encode
from ...model.content import Json
from ...model.fault import Fault, FaultKind, clear_message, kind_of, refined, scrubbed, wait_in
from ..base import Headers, header, retry_after

# --- errors

# The exceptions of the service model, and the general ones of AWS, each with its status.
_FAULTS: Mapping[str, tuple[FaultKind, int]] = MappingProxyType(
    {
        "ValidationException": ("invalid_request", 400),
        "SerializationException": ("invalid_request", 400),
        "ServiceQuotaExceededException": ("rate_limit", 429),
        "ExpiredTokenException": ("authentication", 403),
        "IncompleteSignatureException": ("authentication", 403),
        "InvalidSignatureException": ("authentication", 403),
        "MissingAuthenticationTokenException": ("authentication", 403),
        "UnrecognizedClientException": ("authentication", 403),
        "AccessDeniedException": ("permission", 403),
        "ResourceNotFoundException": ("not_found", 404),
        "ModelTimeoutException": ("timeout", 408),
        "ConflictException": ("conflict", 409),
        "ModelErrorException": ("api", 424),
        "ModelStreamErrorException": ("api", 424),
        "ThrottlingException": ("rate_limit", 429),
        "TooManyRequestsException": ("rate_limit", 429),
        "ModelNotReadyException": ("overloaded", 429),
        "InternalServerException": ("api", 500),
        "InternalFailure": ("api", 500),
        "ServiceUnavailableException": ("overloaded", 503),
    }
)
_TYPES: Mapping[FaultKind, str] = MappingProxyType(
    {
        "invalid_request": "ValidationException",
        "authentication": "UnrecognizedClientException",
        "payment": "ServiceQuotaExceededException",
        "permission": "AccessDeniedException",
        "not_found": "ResourceNotFoundException",
        "method": "ValidationException",
        "conflict": "ConflictException",
        "too_large": "ValidationException",
        "rate_limit": "ThrottlingException",
        "context_length": "ValidationException",
        "content_filter": "ValidationException",
        "overloaded": "ServiceUnavailableException",
        "timeout": "ModelTimeoutException",
        "api": "InternalServerException",
    }
)
# The exceptions that a ConverseStream can contain.
IN_STREAM: Mapping[FaultKind, str] = MappingProxyType(
    {
        "rate_limit": "throttlingException",
        "overloaded": "serviceUnavailableException",
        "invalid_request": "validationException",
        "context_length": "validationException",
        "content_filter": "validationException",
    }
)
# The text by which clients know that a prompt is too long: the service has no code for that.
TOO_LONG = "Input is too long for requested model."
# The number of an AWS account, which stands in messages outside of ARNs too.
_ACCOUNT = re.compile(r"\b\d{12}\b")


def without_account(message: str) -> str:
    return scrubbed(_ACCOUNT.sub("***", message))


def _error_type(value: Json) -> str | None:
    """The name without its namespace: `com.amazon.coral.validate#ValidationException:http://…` is a
    ValidationException."""
    return value.partition(":")[0].rpartition("#")[2] or None if isinstance(value, str) else None


def fault_of(
    type_: str | None,
    message: Json,
    status: int | None,
    wait: float | None = None,
    request_id: str | None = None,
) -> Fault:
    """The fault of an error. `status` is None within a stream: there only the type shows the kind."""
    kind, usual = _FAULTS.get(type_ or "", ("api" if status is None else kind_of(status), 500))
    text = message if isinstance(message, str) and message.strip() else "the provider gave no reason"
    if wait is None and kind in ("rate_limit", "overloaded"):
        wait = wait_in(text)
    return Fault(
        usual if status is None or kind == "rate_limit" else status,
        refined(kind, text),
        without_account(text),
        type=type_,
        retry_after=wait,
        request_id=request_id,
    )


def read_error(status: int, headers: Headers, body: bytes) -> Fault:
    try:
        envelope = decode(body)
    except UNREADABLE:
        envelope = {"message": body.decode("utf-8", "replace").strip()}
    if not isinstance(envelope, dict):
        envelope = {}
    inner = envelope.get("Output")  # an error of AWS's front end, before the service
    name = header(headers, "x-amzn-errortype") or envelope.get("__type") or envelope.get("code")
    if name is None and isinstance(inner, dict):
        name = inner.get("__type")
    type_ = _error_type(name)
    message = next((envelope[key] for key in ("message", "Message", "errorMessage") if envelope.get(key)), type_)
    return fault_of(type_, message, status, retry_after(headers, status), header(headers, "x-amzn-requestid"))


def write_error(fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
    type_ = fault.type if fault.type in _FAULTS else _TYPES[fault.kind]
    headers = [("content-type", "application/json"), ("x-amzn-errortype", str(type_))]
    if fault.retry_after is not None:
        headers.append(("retry-after", str(math.ceil(fault.retry_after))))
    message = clear_message(fault, TOO_LONG)
    return fault.status, headers, encode({"message": without_account(message)})


def exception_of(fault: Fault) -> bytes:
    """The frame that ends a stream with an error."""
    kind = IN_STREAM.get(fault.kind, "internalServerException")
    message = clear_message(fault, TOO_LONG)
    return aws_eventstream.exception(kind, encode({"message": without_account(message)}))


def status_of(value: Json) -> int | None:
    return value if isinstance(value, int) and 400 <= value <= 599 else None
