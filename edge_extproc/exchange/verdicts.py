"""How each try of an exchange ended, as far as it says something of its provider.

Of the tries before the last one Envoy tells only that they were not good enough: it retries nothing else. A try that
was watched at the upstream level stands in the journal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..model.plan import NO_HOST, AttemptResult, Candidate, Plan, Verdict
from ..model.usage import Usage
from .envoy_faults import VIA_UPSTREAM
from .open import AttemptLog

# What a status tells of the provider: it is down, overloaded or out of quota. Every other answer shows it alive, though
# it may show the caller, the key or the request to be wrong.
_FAILING = frozenset({408, 429})

_NO_HOST = "no_healthy_upstream"

# Envoy's own replies that are about the way to the provider, by the beginning of their details.
_ON_THE_WAY = (
    "upstream_",
    "response_timeout",
    "response_payload_too_large",
)


class LastAttempt(NamedTuple):
    """What the router level saw of the last try."""

    candidate: Candidate | None
    """None where nobody is known to have answered."""
    status: int | None
    details: str
    """Envoy's response code details; "" where no response was heard."""
    broken: bool
    """An answer began that was none, or that broke."""
    whole: bool
    """It came to its end."""
    first_token_at: float | None
    ended: float
    stream: bool
    usage: Usage | None
    retry_after: float | None = None
    """Seconds, as its answer said."""


def is_failing(status: int) -> bool:
    return status >= 500 or status in _FAILING


def is_of_the_provider(status: int, details: str) -> bool:
    """Whether such a response says that its provider could not answer, for no fault of the caller's."""
    return is_failing(status) if details == VIA_UPSTREAM else details.startswith((_NO_HOST, *_ON_THE_WAY))


def verdict_of(last: LastAttempt) -> tuple[Verdict, str]:
    """And why, in a word."""
    if last.status is None or not last.details:
        return "unknown", ""
    if last.details != VIA_UPSTREAM:
        if last.details.startswith(_NO_HOST):
            return "failed", NO_HOST
        return ("failed", "unreachable") if last.details.startswith(_ON_THE_WAY) else ("unknown", "")
    if is_failing(last.status):
        return "failed", str(last.status)
    if last.status >= 400:
        return "ok", str(last.status)
    if last.broken:
        return "failed", "broken"
    # A caller that left and a connection that broke in mid-answer look the same from here.
    return ("ok", "") if last.whole else ("unknown", "")


def tries_of(plan: Plan, journal: AttemptLog, attempts: int, last: LastAttempt) -> tuple[AttemptResult, ...]:
    """`attempts` is Envoy's count; 0 where it has not told."""
    count = max(attempts, *journal.began, *journal.ended)
    verdict, reason = verdict_of(last)
    candidate = last.candidate or plan.at(count)
    # Of a hedged call, an earlier try may have been the slower one, and nothing worse.
    missed: Verdict = "unknown" if plan.hedged else "failed"
    earlier = range(1, count)
    found = []
    if earlier:
        found = [journal.ended.get(n) or AttemptResult(plan.at(n), missed, reason="retried") for n in earlier]
    if plan.hedged and last.candidate is not None:
        found = [each for each in found if each.candidate != candidate]
        found += [AttemptResult(plan.at(count), "unknown")] if plan.at(count) != candidate else []
    number = next((n for n in earlier if plan.at(n) == candidate), count) if earlier else count
    began = journal.began.get(number)
    final = AttemptResult(
        candidate,
        verdict,
        last.status,
        reason,
        first_token=last.first_token_at - began if last.first_token_at is not None and began is not None else None,
        duration=last.ended - began if began is not None else None,
        stream=last.stream,
        usage=last.usage,
        retry_after=last.retry_after if verdict == "failed" else None,
    )
    watched = journal.ended.get(count)
    if watched is None or verdict == "ok":
        return (*found, final)
    if watched.retry_after is None and watched.verdict == "failed":  # some say it only in the body
        watched = replace(watched, retry_after=last.retry_after)
    return (*found, watched)
