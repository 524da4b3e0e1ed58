"""Renders the rules for headers: no internal header comes in from callers, and none goes out to providers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..config.schema import Config
from ..model.envoy_names import (
    CALLERS_HEADERS,
    CALLERS_ID,
    CONTENT_LENGTH,
    NAMESPACE,
    PROVIDERS_ID,
    REQUEST_ID,
    TRACEPARENT,
)
from .envoy_types import Json, core, early_mutation, extension, fields, header_mutation, matcher, mutation_v3

ATTEMPT_COUNT = "x-envoy-attempt-count"
# Only Envoy and the agent write these headers. From a caller they could control retries, timeouts or the agent.
INTERNAL_PREFIXES = ("x-edge-", "x-envoy-")
# Not for providers: the caller's address, and Envoy's counters.
NOT_UPSTREAM_PREFIXES = (*INTERNAL_PREFIXES, "x-forwarded-")


def strip_internal_headers(config: Config) -> Json:
    """Removes headers before any filter reads them. Removal in a route would be after Envoy has read the retry
    headers."""
    permitted = (*CALLERS_HEADERS, *config.routing.caller_headers(config.models))
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        early_mutation.HeaderMutation(
            mutations=[
                *(_remove(_all_but(prefix, permitted)) for prefix in INTERNAL_PREFIXES),
                # One more character than is valid, so that a longer id is recognized as too long.
                _set(CALLERS_ID, f"%REQ({_ID}):{MAX_REQUEST_ID + 1}%"),
                # Envoy then creates the id in every case. It determines the worker, so callers must not choose it.
                mutation_v3.HeaderMutation(remove=_ID),
            ]
        ),
    )


_ID = "x-request-id"
MAX_REQUEST_ID = 128
"""The maximum characters of a caller's request id. UUIDs and trace ids have at most 36."""


def request_id_added() -> list[Json]:
    """The headers of Envoy's own responses, which do not pass the filters."""
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
    """The first filter, and therefore the last one for responses. Every response has the id of the access log: the
    caller's own if the agent found it valid, otherwise Envoy's. The provider's id has another header."""
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
    """Sets a header; changes nothing if the value is empty."""
    return mutation_v3.HeaderMutation(
        append=core.HeaderValueOption(
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
            header=core.HeaderValue(key=name, value=value),
        )
    )


def _all_but(prefix: str, names: Iterable[str]) -> matcher.StringMatcher:
    """A regular expression for texts that begin with `prefix` and are none of `names`. Envoy's regular expressions have
    no look-ahead, so the excluded names are expressed by their differing characters."""
    rest = frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    if not rest:
        return matcher.StringMatcher(prefix=prefix, ignore_case=True)
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex="(?i)" + prefix + _none_of(rest)))


def _none_of(words: frozenset[str]) -> str:
    """A regular expression for all texts but these."""
    firsts = sorted({word[0] for word in words if word})
    if not firsts:
        return ".+" if "" in words else ".*"
    others = [re.escape(c) + _none_of(frozenset(w[1:] for w in words if w.startswith(c))) for c in firsts]
    classed = "".join(re.escape(c) for c in firsts)
    return f"(?:[^{classed}].*|{'|'.join(others)})" + ("" if "" in words else "?")


def _remove(names: matcher.StringMatcher) -> mutation_v3.HeaderMutation:
    return mutation_v3.HeaderMutation(remove_on_match=mutation_v3.HeaderMutationRemoveOnMatch(key_matcher=names))


def last_headers(*, traced: bool) -> Json:
    """The last header filter before a provider. It restores the content-length of a replaced request from metadata.
    With tracing, it makes the agent's span the provider's parent, whatever Envoy's tracer wrote. It removes all
    internal headers."""
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
