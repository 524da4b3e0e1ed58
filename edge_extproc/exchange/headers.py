"""Which headers may pass, as tables. What is not named here does not reach a provider.

Requests go by an allow-list: a header of the caller reaches a provider only if it means something there and cannot
be a secret of ours. Responses go by a deny-list: what tells of the operator's account, of connections or of us is
removed; the rest (rate limits, request ids) is the caller's to see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ..model.envoy_names import AGAIN, ONCE, ROUTE
from ..model.plan import NO_FALLBACK, Plan
from ..telemetry.redaction import redact
from .commands import Pairs
from .events import Headers

# Means the same to every provider.
_ANYWHERE = frozenset({"accept", "idempotency-key", "traceparent", "tracestate", "user-agent"})

# Of clients that several dialects share. It means something only to a provider of the caller's own dialect.
_SAME_DIALECT_PREFIXES = ("x-stainless-",)

# Not ours to touch: pseudo-headers and framing belong to Envoy; x-request-id carries the hash by which Envoy finds the
# same worker again on a retry; without x-forwarded-proto Envoy finds no route. A filter of the rendered configuration
# takes x-forwarded-* and x-envoy-* away right before the provider.
_ENVOYS = frozenset({"host", "x-request-id", "transfer-encoding", "content-length", "content-type"})
_ENVOYS_PREFIXES = (":", "x-envoy-", "x-forwarded-")

_NEVER_BACK = frozenset(
    {
        "alt-svc",
        "anthropic-organization-id",
        "cf-cache-status",
        "cf-ray",
        "nel",
        "openai-organization",
        "openai-project",
        "report-to",
        "server",
        "set-cookie",
        "strict-transport-security",
        "via",
        "x-powered-by",
    }
)
# Which pages may read an answer, Envoy says (listen.cors).
_NEVER_BACK_PREFIXES = ("access-control-", "x-edge-", "x-envoy-")


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
    """What to set and what to remove, so that a provider sees `credentials`, what may pass of `present`, `defaults`
    where that does not say, and nothing else: above all no credential of the caller or of another provider. `length`
    is None where there is no body, `content_type` where the caller's own stays. `own` has the headers that mean
    something to a provider of the caller's dialect alone; None where the provider's is another one. `removed` is what
    of `present` the host of the provider must not see."""
    kept, others = _split(tuple([name for name, _ in present]), own)
    to_set = {":path": path}
    if content_type is not None:
        to_set["content-type"] = content_type
    if length is not None:
        to_set["content-length"] = str(length)
    if defaults:
        to_set.update({name: value for name, value in defaults if name not in kept})
    to_set.update(credentials)
    return tuple(to_set.items()), tuple([name for name in (*others, *removed) if name not in to_set])


# A client sends the same headers each time; of what a caller makes up, little is remembered.
@lru_cache(maxsize=64)
def _split(names: tuple[str, ...], own: frozenset[str] | None) -> tuple[frozenset[str], tuple[str, ...]]:
    """What may pass, and what may not, sorted."""
    kept = frozenset(name for name in names if _passes(name, own))
    return kept, tuple(sorted({*names} - kept))


def orders(plan: Plan) -> Pairs:
    """The retry settings of a plan, as headers for Envoy's router. None of them leaves Envoy."""
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


def unwanted(present: Headers) -> tuple[str, ...]:
    """The response headers that do not go back to the caller."""
    return tuple(sorted({n for n, _ in present if _stays(n)}))


@lru_cache(maxsize=256)
def _stays(name: str) -> bool:
    return name in _NEVER_BACK or name.startswith(_NEVER_BACK_PREFIXES)


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
    """The header that names what was left out; none where nothing was."""
    return (("x-edge-dropped", one_line(names)),) if names else ()


# What UUIDs, ULIDs and ids of traces are made of, and words with a separator. It goes into logs and into a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=~-]{0,127}")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def is_request_id(text: str) -> bool:
    """Whether a caller may name its request so: in form and length, and without anything that logs must not show."""
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


def content_length(values: Mapping[str, str]) -> int:
    """The declared length of a body in bytes; 0 if there is none, or no number."""
    value = values.get("content-length")
    return int(value) if value and value.isascii() and value.isdigit() else 0
