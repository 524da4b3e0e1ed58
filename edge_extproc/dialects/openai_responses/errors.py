"""Error bodies and failed responses of the Responses API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import msgspec

from ...codecs.json_values import as_object, encode
from ...model.content import Json
from ...model.fault import Fault, FaultKind
from ..openai_chat import PLUGIN as CHAT
from .fields import Item

# --- errors

# OpenAI's APIs share their errors. Only the place of an error within a response is different.
_CALLERS_FAILURES = re.compile(r"invalid_|image_|unsupported_|empty_|failed_to_download|bio_policy|misalignment")
# The codes of a response that failed. The schema has the first ones; the API sends the others too, and Codex acts on
# them.
FAILED_CODES: Mapping[FaultKind, str] = MappingProxyType(
    {
        "rate_limit": "rate_limit_exceeded",
        "payment": "insufficient_quota",
        "overloaded": "server_is_overloaded",
        "invalid_request": "invalid_prompt",
        "context_length": "context_length_exceeded",
        "content_filter": "invalid_prompt",
        "too_large": "invalid_prompt",
    }
)


def stream_fault(error: Json) -> Fault:
    """The HTTP status of an error within a stream, by its code."""
    fault = CHAT.read_error(200, (), encode({"error": error}))
    if fault.kind == "api" and _CALLERS_FAILURES.match(fault.code or ""):
        fault = replace(fault, status=400, kind="invalid_request")
    # "error" is the type of the event, not the kind of the error.
    return replace(fault, type=None) if fault.type == "error" else fault


def envelope(fault: Fault) -> Item:
    """The `error` member of a failed response."""
    return as_object(as_object(msgspec.json.decode(CHAT.write_error(fault)[2]), "the envelope")["error"], "error")
