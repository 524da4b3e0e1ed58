"""Decides which headers may pass, by tables. A header without a row does not reach a provider.

Requests have an allow-list: a caller's header reaches a provider only if it has a meaning there and cannot be a secret
of the gateway. Responses have one too: a provider's header reaches the caller only if it describes the reply. Rate
limits and names of the operator's account do not, and the configuration may add others (listen.response_headers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from ..errors import BadRequest
from ..model.envoy_names import AGAIN, GUARDRAILS, ONCE, RESERVED_RESPONSE_PREFIXES, ROUTE
from ..model.plan import NO_FALLBACK, Plan
from ..model.rule_hit import RuleHit
from ..telemetry.redaction import redact
from .commands import Pairs
from .events import Headers

# These have the same meaning for every provider.
_ANYWHERE = frozenset({"accept", "idempotency-key", "traceparent", "tracestate", "user-agent"})

# These are sent by clients of several dialects. They have a meaning only for a provider of the caller's own dialect.
_SAME_DIALECT_PREFIXES = ("x-stainless-",)

# These must stay unchanged. Pseudo-headers and framing belong to Envoy. x-request-id has the hash by which Envoy finds
# the same worker on a retry. Without x-forwarded-proto Envoy finds no route. A filter of the rendered configuration
# removes x-forwarded-* and x-envoy-* before the provider.
_ENVOYS = frozenset({"host", "x-request-id", "transfer-encoding", "content-length", "content-type"})
_ENVOYS_PREFIXES = (":", "x-envoy-", "x-forwarded-")

# They describe the reply, its body, or when to try again.
_BACK = frozenset(
    {
        *("accept-ranges", "cache-control", "content-disposition", "content-encoding", "content-language"),
        *("content-length", "content-range", "content-type", "date", "etag", "expires", "last-modified"),
        *("transfer-encoding", "vary", "warning", "deprecation", "sunset", "x-content-type-options"),
        # The SDKs of OpenAI and Anthropic read them before they send a request again.
        *("retry-after", "retry-after-ms", "x-should-retry"),
        # The provider's id of a request: Anthropic, Azure, AWS. A filter of Envoy renames x-request-id.
        *("request-id", "x-request-id", "apim-request-id", "x-amzn-requestid"),
        # The type of an error, which AWS's SDK reads.
        "x-amzn-errortype",
        *("openai-processing-ms", "openai-version", "openai-model"),
    }
)
# Token counts and times of Bedrock's InvokeModel; the steps of an upload at Google.
_BACK_PREFIXES = (":", "x-amzn-bedrock-", "x-goog-upload-")
# Never, whatever the configuration adds. A cookie would be the provider's, in the name of the gateway's host.
_NEVER_BACK = frozenset({"set-cookie"})


ERROR_HEADERS = frozenset({"request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"})
"""The provider's headers that remain on an error response of the gateway."""


def _passes(name: str, own: frozenset[str] | None) -> bool:
    if name in _ANYWHERE or name in _ENVOYS or name.startswith(_ENVOYS_PREFIXES):
        return True
    return own is not None and (name in own or name.startswith(_SAME_DIALECT_PREFIXES))


def outgoing(
    present: Headers,
    credentials: Pairs,
    defaults: Pairs,
    path: str,
    length: int | None,
    *,
    own: frozenset[str] | None,
    content_type: str | None = "application/json",
    removed: tuple[str, ...] = (),
) -> tuple[Pairs, tuple[str, ...]]:
    """The headers to set and to remove for a provider. It gets `credentials`, the permitted headers of `present`, and
    `defaults` for missing ones. It gets no credential of the caller or of another provider. `length`: None if there is
    no body. `content_type`: None to keep the caller's. `own`: headers for a provider of the caller's dialect; None if
    the provider has another one. `removed`: headers of `present` that this host must not get."""
    permitted, others = _split(tuple([name for name, _ in present]), own)
    to_set = {":path": path}
    if content_type is not None:
        to_set["content-type"] = content_type
    if length is not None:
        to_set["content-length"] = str(length)
    if defaults:
        to_set.update({name: value for name, value in defaults if name not in permitted})
    to_set.update(credentials)
    return tuple(to_set.items()), tuple([name for name in (*others, *removed) if name not in to_set])


# A client sends the same headers each time. The cache is small, because a caller can invent names.
@lru_cache(maxsize=64)
def _split(names: tuple[str, ...], own: frozenset[str] | None) -> tuple[frozenset[str], tuple[str, ...]]:
    """The permitted and the other names, both sorted."""
    permitted = frozenset(name for name in names if _passes(name, own))
    return permitted, tuple(sorted({*names} - permitted))


def orders(plan: Plan) -> Pairs:
    """The retry settings of a plan, as headers for Envoy's router. Envoy sends none of them to a provider."""
    fallback = 0
    if plan.fallback is not NO_FALLBACK:
        fallback = max(len(plan.fallback.context_length), len(plan.fallback.content_filter))
    settings = [("x-envoy-max-retries", str(max(0, plan.max_attempts - 1 + fallback)))]
    if plan.once:
        settings.append((ROUTE, ONCE))
    elif len(plan.candidates) == 1 and not fallback:
        settings.append((ROUTE, AGAIN))
    if plan.try_timeout is not None:
        settings.append(("x-envoy-upstream-rq-per-try-timeout-ms", str(round(plan.try_timeout * 1000))))
    if plan.hedged:
        settings.append(("x-envoy-hedge-on-per-try-timeout", "true"))
    return tuple(settings)


def unwanted(present: Headers, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The response headers that the caller must not get. `more`: names or globs that are configured besides those that
    every caller gets."""
    return _unwanted(tuple([name for name, _ in present]), more)


# Providers send the same headers each time. The cache is small, because a provider can invent names.
@lru_cache(maxsize=64)
def _unwanted(names: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if not _goes_back(name, more)}))


@lru_cache(maxsize=256)
def _goes_back(name: str, more: tuple[str, ...]) -> bool:
    if name in _BACK or name.startswith(_BACK_PREFIXES):
        return True
    if name in _NEVER_BACK or name.startswith(RESERVED_RESPONSE_PREFIXES):
        return False
    return any(fnmatchcase(name, glob) for glob in more)


# Some clients and proxies refuse a header line over 8 KiB; a list of dropped fields takes up to a quarter of that.
_LONGEST_LIST = 2048


_INDEX = re.compile(r"\[\d+\]")


def one_line(names: tuple[str, ...]) -> str:
    """A list of paths. In a long one, paths that differ only in their indices are one: each message of an agent's
    history has the same fields, and their names must not push out the others."""
    text = ", ".join(names)
    if len(text) > _LONGEST_LIST:
        text = ", ".join(dict.fromkeys(_INDEX.sub("[*]", name) for name in names))
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_LIST else text[:_LONGEST_LIST].rpartition(", ")[0] + ", ..."


def dropped_fields(names: tuple[str, ...]) -> Pairs:
    """The header with the names of dropped fields, or nothing if there are none."""
    return (("x-edge-dropped", one_line(names)),) if names else ()


def guardrail_hits(hits: Iterable[RuleHit]) -> Pairs:
    """The header with the rules that found something and what each one did. Rules in shadow mode are left out."""
    names = dict.fromkeys(f"{hit.rule}={hit.action}" for hit in hits if hit.mode == "enforce")
    return ((GUARDRAILS, one_line(tuple(names))),) if names else ()


# The characters of UUIDs, ULIDs, trace ids, and words with a separator. The id is written to logs and a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=~-]{0,127}")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def is_request_id(text: str) -> bool:
    """Whether a caller's request id is valid: by its form and length, and safe for logs."""
    return bool(_UUID.fullmatch(text) or (_REQUEST_ID.fullmatch(text) and redact(text) == text))


def firsts(headers: Headers) -> dict[str, str]:
    """The first value of each header."""
    return dict(reversed(headers))


def first(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of a header, or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


# HTTP has three digits, of which the first is 1 to 5 (RFC 9110, section 15).
_STATUSES = range(100, 600)
NO_STATUS = 502


def status_of(value: str | None) -> int:
    """The status of a response: NO_STATUS for a number that is not a status of HTTP, 0 if there is none."""
    status = int(value or 0)
    return status if status in _STATUSES or not status else NO_STATUS


def check_encoding(values: Mapping[str, str]) -> None:
    """Raises BadRequest for a request body that would have to be decoded."""
    encoding = values.get("content-encoding")
    if encoding not in (None, "", "identity"):
        raise BadRequest(f"a body with content-encoding {encoding!r} is not supported; send it as plain JSON")


def content_length(values: Mapping[str, str]) -> int:
    """The declared length of a body in bytes; 0 if it is missing or not a number."""
    value = values.get("content-length")
    return int(value) if value and value.isascii() and value.isdigit() else 0
