"""Says in words why a request went as it did, from the explanation of the admin API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.settlement import HITS

_CALLER = {"key": "an API key", "token": "a signed token (JWT)", "certificate": "a client certificate"}
_CACHE = {
    "no_store": "the caller’s cache-control has no-store",
    "no_cache": "the caller’s cache-control has no-cache",
    "no_key": "the call depends on state at the provider, or its body cannot be read",
    "temperature": "the call has no temperature, or a higher one than the cache allows",
    "absent": "the cache had no reply to an equal call",
    "expired": "the stored reply had expired",
    "too_old": "the stored reply was older than the caller’s max-age",
    "not_allowed": "this caller could not get the stored reply from its provider, or it cannot be read",
}
_TIERS = {"memory": "the worker’s memory", "redis": "the shared store", "flight": "an equal call in progress"}
_ORDER = {
    "failover": "the configured order",
    "round_robin": "by turns, in proportion to the weights",
    "cheapest": "the lowest expected cost first",
    "least_latency": "the lowest average latency first; a few calls go to others, to measure them",
}
_SCORE = {"cheapest": "Expected cost", "least_latency": "Average latency"}
_REASONS = {
    "retried": "it failed, and Envoy tried the next one",
    "unreachable": "there was no connection, or no response in time",
    "no_host": "the provider has no address",
    "broken": "the response broke off or could not be read",
    "credential": "the provider refused the gateway’s credential",
    "payment": "the gateway’s account has no credit or quota",
}

_PROMPT_CACHE = {
    "first": "the first turn that is known",
    "unchanged": "the prompt only grew",
    "provider": "the turn before went to another provider or model",
    "unmarked": "nothing had changed, but no part of the prompt is marked for the cache",
    "evicted": "nothing had changed, but the provider did not have it",
}


def in_words(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a template shows of a request's explanation. None: it has none."""
    explain = request["explain"]
    if explain is None:
        return None
    return {
        "caller": _CALLER[explain["caller"]],
        "order": _order(explain),
        "score": _SCORE.get(explain["strategy"] or "", "Score"),
        "cache": _cache(request, explain),
        "left_out": [{**each, "why": _left_out(each)} for each in explain["left_out"]],
        "attempts": [{**each, "reason": _reason(each)} for each in explain["attempts"]],
        "lane": _lane(request, explain),
        "prompt_cache": prompt_cache_in_words(explain["prompt_cache"]),
    }


def prompt_cache_in_words(found: Mapping[str, Any] | None) -> str:
    """What a turn read from the prompt cache, in words."""
    if found is None:
        return ""
    if found["reason"] == "changed":
        return f"{found['segment']} had changed, after {found['unchanged']} unchanged segments"
    if found["reason"] == "idle":
        return f"nothing had changed, but the turn before was {found['idle_seconds']} s ago"
    reason: str = found["reason"]
    return _PROMPT_CACHE.get(reason, reason)


def _order(explain: Mapping[str, Any]) -> str:
    strategy = explain["strategy"]
    if strategy is None:
        return ""
    source = {
        "model": "the strategy of the model",
        "rule": f"the strategy of the routing rule {explain['rule']} of the model",
        "header": "the strategy that the caller has named in a header",
    }[explain["chosen_by"]]
    words = [f"{strategy}, {source}: {_ORDER.get(strategy, 'the order of this strategy')}."]
    if explain["rule"] and explain["chosen_by"] != "rule":
        words.append(f"The routing rule {explain['rule']} of the model applied.")
    if explain["affinity"]:
        words.append("The first one was moved to the front, because it serves this session or has cached this prompt.")
    if explain["hedged"]:
        words.append("If the first one is slow, the second one is called too, and the first response is used.")
    return " ".join(words)


def _cache(request: Mapping[str, Any], explain: Mapping[str, Any]) -> str:
    if request["cache"] in HITS:
        return f"The reply came from {_TIERS.get(explain['cache_tier'] or '', 'the cache')}."
    if request["cache"] is None:
        return "The cache was not asked: it is off for this model and tenant, or the call has no place in it."
    reason = _CACHE.get(explain["cache_reason"] or "", explain["cache_reason"] or "the reason is not known")
    if request["cache"] == "stale":
        return "No provider could answer, so the caller got an expired reply from the cache."
    return f"The reply did not come from the cache: {reason}."


def _left_out(candidate: Mapping[str, Any]) -> str:
    detail = candidate["detail"]
    match candidate["why"]:
        case "circuit":
            return f"it failed recently, and was not used for another {detail} s"
        case "capability":
            return f"it cannot take this call: {detail}" if detail else "it cannot take this call"
        case "rights":
            return "the caller may not use it"
        case "account":
            return "its account lacks what the call names"
        case _:
            return "a hedged call has two candidates"


def _reason(attempt: Mapping[str, Any]) -> str:
    reason = attempt["reason"]
    return _REASONS.get(reason, f"status {reason}" if reason.isdecimal() else reason)


def _lane(request: Mapping[str, Any], explain: Mapping[str, Any]) -> str:
    if explain["lane"] == "raw":
        return "The caller and the provider use the same format, so the body was passed on."
    if explain["lane"] == "cross":
        return f"The body was translated from {request['dialect'] or 'the caller’s format'}."
    return ""
