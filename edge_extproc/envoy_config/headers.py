"""Which headers come in from callers, and which go out to providers: nothing internal does either."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..config.schema import Config
from ..model.envoy_names import CALLERS_ID, CONTENT_LENGTH, NAMESPACE, NO_RETRY, PROVIDERS_ID, REQUEST_ID, TRACEPARENT
from .envoy_types import Json, core, early_mutation, extension, fields, header_mutation, matcher, mutation_v3

ATTEMPT_COUNT = "x-envoy-attempt-count"
# Only Envoy and we write these; what a caller sends under such a name could steer retries, timeouts or us.
INTERNAL_PREFIXES = ("x-edge-", "x-envoy-")
# What callers may say to us by such a name; nothing of it decides where a call goes or who is calling.
CALLERS_HEADERS = ("x-edge-cache-ttl", NO_RETRY)
# Not for a provider: where the caller is, and how Envoy counts.
NOT_UPSTREAM_PREFIXES = (*INTERNAL_PREFIXES, "x-forwarded-")


def strip_internal_headers(config: Config) -> Json:
    """Before anything reads them. Route-level removal would come after the retry headers were believed."""
    permitted = (*CALLERS_HEADERS, *config.routing.caller_headers(config.models))
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        early_mutation.HeaderMutation(
            mutations=[
                *(_remove(_all_but(prefix, permitted)) for prefix in INTERNAL_PREFIXES),
                # One character more than is valid, so that a longer id is seen to be too long.
                _set(CALLERS_ID, f"%REQ({_ID}):{MAX_REQUEST_ID + 1}%"),
                # Envoy then makes one, wherever it stands: it chooses the worker, so no caller may choose it.
                mutation_v3.HeaderMutation(remove=_ID),
            ]
        ),
    )


_ID = "x-request-id"
MAX_REQUEST_ID = 128
"""Characters of a request id that a caller may send. UUIDs and traces' ids have 36 and less."""


def request_id_added() -> list[Json]:
    """What a reply of Envoy's own is given that does not pass the filters."""
    return [
        fields(
            core.HeaderValueOption(
                append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
                header=core.HeaderValue(key=_ID, value=value),
            )
        )
        for value in (f"%REQ({_ID})%", f"%DYNAMIC_METADATA({NAMESPACE}:{REQUEST_ID})%")
    ]


def request_id() -> Json:
    """The first filter, so the last that a response passes. Every response has the id that the access log shows: the
    caller's own where the agent found it valid, else Envoy's. A provider's goes by another name."""
    return extension(
        "envoy.filters.http.header_mutation",
        header_mutation.HeaderMutation(
            mutations=header_mutation.Mutations(
                response_mutations=[
                    _set(PROVIDERS_ID, f"%RESP({_ID})%"),
                    _set(_ID, f"%REQ({_ID})%"),
                    _set(_ID, f"%DYNAMIC_METADATA({NAMESPACE}:{REQUEST_ID})%"),
                ]
            )
        ),
    )


def _set(name: str, value: str) -> mutation_v3.HeaderMutation:
    """Changes nothing where the value is empty."""
    return mutation_v3.HeaderMutation(
        append=core.HeaderValueOption(
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            header=core.HeaderValue(key=name, value=value),
        )
    )


def _all_but(prefix: str, names: Iterable[str]) -> matcher.StringMatcher:
    """What begins with `prefix` and is none of `names`. Envoy's regular expressions cannot look ahead, so the names
    are spelled out as what each next character is not."""
    rest = frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    if not rest:
        return matcher.StringMatcher(prefix=prefix, ignore_case=True)
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex="(?i)" + prefix + _none_of(rest)))


def _none_of(words: frozenset[str]) -> str:
    """A regular expression of all texts but these."""
    firsts = sorted({word[0] for word in words if word})
    if not firsts:
        return ".+" if "" in words else ".*"
    others = [re.escape(c) + _none_of(frozenset(w[1:] for w in words if w.startswith(c))) for c in firsts]
    classed = "".join(re.escape(c) for c in firsts)
    return f"(?:[^{classed}].*|{'|'.join(others)})" + ("" if "" in words else "?")


def _remove(names: matcher.StringMatcher) -> mutation_v3.HeaderMutation:
    return mutation_v3.HeaderMutation(remove_on_match=mutation_v3.HeaderMutationRemoveOnMatch(key_matcher=names))


def last_headers(*, traced: bool) -> Json:
    """The last word before a provider. A replaced request has lost its content-length, which the agent tells in
    metadata; where it traces, its span is the provider's parent, whatever Envoy's tracer wrote; and nothing internal
    leaves, whatever the agent forgot."""
    restore = mutation_v3.HeaderMutation(
        append=core.HeaderValueOption(
            append_action=core.HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
            header=core.HeaderValue(key="content-length", value=f"%DYNAMIC_METADATA({NAMESPACE}:{CONTENT_LENGTH})%"),
        )
    )
    parent = _set("traceparent", f"%DYNAMIC_METADATA({NAMESPACE}:{TRACEPARENT})%")
    return extension(
        "envoy.filters.http.header_mutation",
        header_mutation.HeaderMutation(
            mutations=header_mutation.Mutations(
                request_mutations=[
                    restore,
                    *([parent] if traced else []),
                    *(_remove(_all_but(prefix, ())) for prefix in NOT_UPSTREAM_PREFIXES),
                ]
            )
        ),
    )
