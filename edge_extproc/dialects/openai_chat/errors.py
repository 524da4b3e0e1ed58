"""Reads and writes OpenAI's error bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from ...codecs.json_values import UNREADABLE, encode
from ...model.content import Json
from ...model.fault import Fault, FaultKind, kind_of, refined, scrubbed, wait_in
from ..base import Headers, header, retry_after
from .fields import Object

# --- errors

_KIND_OF_CODE: Mapping[str, FaultKind] = MappingProxyType(
    {
        "insufficient_quota": "payment",
        "billing_hard_limit_reached": "payment",
        "billing_not_active": "payment",
        "rate_limit_exceeded": "rate_limit",
        "rate_limit_error": "rate_limit",
        "ratelimitreached": "rate_limit",
        "context_length_exceeded": "context_length",
        "too_many_prompt_tokens": "context_length",
        "tokens_limit_reached": "context_length",
        "model_max_prompt_tokens_exceeded": "context_length",
        "exceed_context_size_error": "context_length",
        "string_above_max_length": "context_length",
        "content_filter": "content_filter",
        "content_policy_violation": "content_filter",
        "moderation_blocked": "content_filter",
        "responsibleaipolicyviolation": "content_filter",
        "invalid_api_key": "authentication",
        "authentication_error": "authentication",
        "model_not_found": "not_found",
        "deploymentnotfound": "not_found",
        "permission_error": "permission",
        "overloaded_error": "overloaded",
        "engine_overloaded": "overloaded",
        "overloaded": "overloaded",
        "server_is_overloaded": "overloaded",
        "slow_down": "overloaded",
        "timeout": "timeout",
        "vector_store_timeout": "timeout",
        "server_error": "api",
        "invalid_request_error": "invalid_request",
        "tool_use_failed": "invalid_request",
    }
)
# MiniMax's table of error codes.
_KIND_WORDS_OF_MINIMAX: Mapping[int, str] = MappingProxyType(
    {
        1001: "timeout",
        1002: "rate_limit_exceeded",
        1004: "invalid_api_key",
        1008: "insufficient_quota",
        1026: "content_filter",
        1027: "content_filter",
        1039: "context_length_exceeded",
        2013: "invalid_request_error",
        2049: "invalid_api_key",
    }
)
# The HTTP status of an error in a reply with status 200, if the error has no number.
STATUS_OF_KIND: Mapping[FaultKind, int] = MappingProxyType(
    {
        "invalid_request": 400,
        "authentication": 401,
        "payment": 402,
        "permission": 403,
        "not_found": 404,
        "method": 405,
        "conflict": 409,
        "too_large": 413,
        "rate_limit": 429,
        "context_length": 400,
        "content_filter": 400,
        "overloaded": 503,
        "timeout": 504,
        "api": 502,
    }
)
# OpenAI refuses any string over its limit with this code. The conversation is too long only if the string is a part of
# it: a name, an id or a description that is too long stays so in a shorter conversation.
_TOO_LONG = "string_above_max_length"
_OF_THE_PROMPT = re.compile(
    r"(messages|input|prompt|instructions)(\.?\[\d+\])?(\.(content|output|arguments|text)\b.*|$)"
)
_TYPE_OF_KIND: Mapping[FaultKind, str] = MappingProxyType(
    {
        "invalid_request": "invalid_request_error",
        "authentication": "authentication_error",
        "payment": "insufficient_quota",
        "permission": "permission_error",
        "not_found": "invalid_request_error",
        "method": "invalid_request_error",
        "conflict": "invalid_request_error",
        "too_large": "invalid_request_error",
        "rate_limit": "rate_limit_error",
        "context_length": "invalid_request_error",
        "content_filter": "invalid_request_error",
        "overloaded": "server_error",
        "timeout": "server_error",
        "api": "server_error",
    }
)
_CODE_OF_KIND: Mapping[FaultKind, str] = MappingProxyType(
    {
        "authentication": "invalid_api_key",
        "payment": "insufficient_quota",
        "rate_limit": "rate_limit_exceeded",
        "context_length": "context_length_exceeded",
        "content_filter": "content_filter",
        "timeout": "timeout",
        "overloaded": "overloaded",
    }
)
# The codes by which clients know these kinds. A code that only its host knows would hide the kind.
_CODES_OF_CLIENTS: Mapping[FaultKind, frozenset[str]] = MappingProxyType(
    {
        "context_length": frozenset({"context_length_exceeded", "string_above_max_length"}),
        "content_filter": frozenset(
            {"content_filter", "content_policy_violation", "moderation_blocked", "responsibleaipolicyviolation"}
        ),
    }
)
# The types and codes of OpenAI's own errors. Those of another format could confuse its clients.
_TYPES = frozenset({*_TYPE_OF_KIND.values(), "tokens", "requests", "invalid_api_key", "image_parse_error"})


def error_message(error: Json) -> str:
    """The message of the value under `error`, in the shapes of many hosts."""
    match error:
        case str():
            return scrubbed(error)
        case {"message": str(message)} if message:
            return scrubbed(message)
        case {"message": dict() | list() as message}:
            return scrubbed(encode(message).decode("utf-8", "replace"))
        case {"detail": str(message)} | {"msg": str(message), "code": _}:
            return scrubbed(message)
        case {"detail": list(details)}:
            messages = [each["msg"] for each in details if isinstance(each, dict) and isinstance(each.get("msg"), str)]
            return scrubbed("; ".join(messages))
        case _:
            return ""


def word_of(value: Json) -> str | None:
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def is_bare_error(value: Object) -> bool:
    """An error that is not wrapped: no answer has these fields and no choices (vLLM, SGLang, FastAPI, Cloudflare)."""
    if "choices" in value:
        return False
    message = value.get("message") or (value.get("msg") if "code" in value else None)
    has_text = bool(value.get("detail")) or bool(value.get("errors")) or (isinstance(message, str) and bool(message))
    return value.get("object") == "error" or has_text


def is_refusal(status: Json) -> bool:
    """Whether MiniMax's status (`base_resp`) is an error. It comes with HTTP status 200."""
    code = status.get("status_code") if isinstance(status, dict) else None
    return isinstance(code, int) and code != 0


def has_error(reply: Object) -> bool:
    """Whether a reply with HTTP status 200 is an error, beside choices too."""
    return bool(reply.get("error")) or is_refusal(reply.get("base_resp")) or is_bare_error(reply)


def _of_minimax(status: Object) -> Object:
    code = status["status_code"]
    word = _KIND_WORDS_OF_MINIMAX.get(code) if isinstance(code, int) else None
    return {"message": status.get("status_msg"), "code": word or code}


def _delay_in(details: Json) -> float | None:
    """The delay of a google.rpc.RetryInfo: Gemini's host of this format sends one."""
    for detail in details if isinstance(details, list) else ():
        match detail:
            case {"retryDelay": str(delay)}:
                return wait_in(f"retry in {delay}")
    return None


_MOST_OF_RAW = 2_000
"""Characters of an error that is not JSON: it can be a page of HTML."""
_KINDS_OF_ROUTER: frozenset[FaultKind] = frozenset({"context_length", "content_filter", "rate_limit", "overloaded"})
"""What the code of the wrapped error may say. Others, such as a wrong key, are between the router and its provider."""


def _of_router(error: Object, metadata: Object) -> Object:
    """OpenRouter's error with the message of the one that it wraps: its own is "Provider returned error". The wrapped
    one is a text, which may be JSON (open-webui/computer#293, prism-php/prism#813)."""
    raw = metadata.get("raw")
    wrapped: Json = raw
    if isinstance(raw, str):
        try:
            wrapped = msgspec.json.decode(raw.encode("utf-8", "replace"))
        except UNREADABLE:
            wrapped = raw.strip()[:_MOST_OF_RAW]
    if isinstance(wrapped, dict) and wrapped.get("error"):
        wrapped = wrapped["error"]
    message = error_message(wrapped)
    if not message:
        return error
    said = wrapped if isinstance(wrapped, dict) else {}
    words = {
        name: word
        for name in ("code", "type")
        if (word := word_of(said.get(name))) and _KIND_OF_CODE.get(word.lower()) in _KINDS_OF_ROUTER
    }
    return {**error, "message": message, **words}


def fault_of(status: int, headers: Headers, body: Json, text: str = "") -> Fault:
    """The fault of an error body: its fields if it has this format, otherwise the text of the body."""
    if isinstance(body, list) and body:  # Gemini's hosts wrap it in a list
        body = body[0]
    error = body
    if isinstance(body, dict) and body.get("error"):
        error = body["error"]
    elif isinstance(body, dict) and isinstance(errors := body.get("errors"), list) and errors:  # Cloudflare
        error = errors[0]
    elif isinstance(body, dict) and is_refusal(body.get("base_resp")):
        error = _of_minimax(body["base_resp"])
    if isinstance(error, dict) and isinstance(error.get("metadata"), dict):
        error = _of_router(error, error["metadata"])
    shaped = error if isinstance(error, dict) else {}
    code, kind_word, param = word_of(shaped.get("code")), word_of(shaped.get("type")), word_of(shaped.get("param"))
    match shaped:
        case {"innererror": {"content_filter_result": _}}:  # Azure's content filter
            code = "content_filter"
        case {"metadata": {"flagged_input": _}}:  # OpenRouter's
            code = "content_filter"
    if status < 400:
        status = int(code) if code is not None and code.isdecimal() and 400 <= int(code) < 600 else 0
    message = error_message(error) or scrubbed(text.strip())
    kind = kind_of(status) if status else "api"
    for word in (code, kind_word):
        known = _KIND_OF_CODE.get((word or "").lower())
        if word == _TOO_LONG and param is not None and not _OF_THE_PROMPT.match(param):
            known = None
        # A general type does not outweigh a clear status: 401 and 404 come with invalid_request_error too.
        if known is not None and (known not in ("invalid_request", "api") or not status):
            kind = known
            break
    kind = refined(kind, message)
    status = status or STATUS_OF_KIND[kind]
    wait = retry_after(headers, status if kind == "rate_limit" else 0)
    if wait is None and kind in ("rate_limit", "overloaded"):
        wait = _delay_in(shaped.get("details"))
        wait = wait_in(message) if wait is None else wait
    return Fault(
        status,
        kind,
        message or f"the provider answered with status {status}",
        code,
        kind_word,
        param,
        wait,
        header(headers, "x-request-id"),
    )


def read_error(status: int, headers: Headers, body: bytes) -> Fault:
    text = body.decode("utf-8", "replace")
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        value = None
    else:
        text = text if isinstance(value, str) or not value else ""
    return fault_of(status, headers, value, text)


def envelope(fault: Fault) -> Object:
    # Google's reasons are in capitals. Clients search for OpenAI's codes and would misread them.
    code = fault.code if fault.code is None or not fault.code.isupper() else None
    # A status as the code (OpenRouter), or a type of another kind (DeepSeek's 402 is an invalid_request_error), is less
    # precise than the kind.
    if code is not None and (code.isdecimal() or _KIND_OF_CODE.get(code.lower(), fault.kind) != fault.kind):
        code = None
    known = _CODES_OF_CLIENTS.get(fault.kind)
    if known is not None and (code or "").lower() not in known:
        code = None
    return {
        "error": {
            "message": scrubbed(fault.message),
            "type": fault.type if fault.type in _TYPES else _TYPE_OF_KIND[fault.kind],
            "param": fault.param,
            "code": code or _CODE_OF_KIND.get(fault.kind),
        }
    }
