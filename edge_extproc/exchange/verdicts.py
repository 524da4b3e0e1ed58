"""The result of each attempt of an exchange, as far as it depends on its provider.

For an attempt before the last one, Envoy reports only that it failed, because it retries only failures. The attempt log
has the results of attempts that the upstream level observed.
"""

from __future__ import annotations

from dataclasses import replace

from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import NO_HOST, AccountProblem, AttemptResult, Candidate, Plan, Verdict
from ..model.usage import Usage
from .envoy_faults import VIA_UPSTREAM
from .open import AttemptLog

# The status codes of a provider that is down, overloaded or out of quota. With any other one it is available, although
# the caller, the key or the request may be wrong.
_FAILING = frozenset({408, 429})

_NO_HOST = "no_healthy_upstream"

# Envoy's own replies that concern the connection to the provider, by the prefix of their details.
_ON_THE_WAY = (
    "upstream_",
    "response_timeout",
    "response_payload_too_large",
)


@frozen_dataclass
class LastAttempt:
    """What the router level knows about the last attempt."""

    candidate: Candidate | None
    """None: the provider that answered is not known."""
    status: int | None
    details: str
    """Envoy's response code details. "": there was no response."""
    broken: bool
    """The response was unreadable, or it broke."""
    whole: bool
    """The response is complete."""
    first_token_at: float | None
    ended: float
    stream: bool
    usage: Usage | None
    retry_after: float | None = None
    """The `Retry-After` of the response, seconds."""
    account_problem: AccountProblem | None = None
    """What the response reports about our account."""


def is_failing(status: int) -> bool:
    return status >= 500 or status in _FAILING


def is_of_the_provider(status: int, details: str) -> bool:
    """Whether the response means that the provider failed, and not the caller."""
    return is_failing(status) if details == VIA_UPSTREAM else details.startswith((_NO_HOST, *_ON_THE_WAY))


def verdict_of(last: LastAttempt) -> tuple[Verdict, str]:
    """The verdict, and the code of the failure."""
    if last.status is None or not last.details:
        return "unknown", ""
    if last.details != VIA_UPSTREAM:
        if last.details.startswith(_NO_HOST):
            return "failed", NO_HOST
        return ("failed", "unreachable") if last.details.startswith(_ON_THE_WAY) else ("unknown", "")
    if last.account_problem is not None:
        return "failed", last.account_problem
    if is_failing(last.status):
        return "failed", str(last.status)
    if last.status >= 400:
        return "ok", str(last.status)
    if last.broken:
        return "failed", "broken"
    # A disconnect of the caller and a broken connection to the provider cannot be distinguished here.
    return ("ok", "") if last.whole else ("unknown", "")


def attempt_results(plan: Plan, journal: AttemptLog, attempts: int, last: LastAttempt) -> tuple[AttemptResult, ...]:
    """The results of all attempts, in order. `attempts`: Envoy's count. 0: it is not known."""
    count = max(attempts, *journal.began, *journal.ended)
    verdict, reason = verdict_of(last)
    candidate = last.candidate or plan.at(count)
    # In a hedged call, an earlier attempt may only have been slower.
    missed: Verdict = "unknown" if plan.hedged else "failed"
    earlier = range(1, count)
    results = []
    if earlier:
        results = [journal.ended.get(n) or AttemptResult(plan.at(n), missed, reason="retried") for n in earlier]
    if plan.hedged and last.candidate is not None:
        results = [each for each in results if each.candidate != candidate]
        results += [AttemptResult(plan.at(count), "unknown")] if plan.at(count) != candidate else []
    number = next((n for n in earlier if plan.at(n) == candidate), count) if earlier else count
    began = journal.began.get(number)
    final = AttemptResult(
        candidate,
        verdict,
        last.status,
        reason,
        last.first_token_at - began if last.first_token_at is not None and began is not None else None,
        last.ended - began if began is not None else None,
        last.stream,
        last.usage,
        last.retry_after if verdict == "failed" else None,
        last.account_problem if verdict == "failed" else None,
    )
    watched = journal.ended.get(count)
    if watched is None or verdict == "ok" or final.account_problem is not None:
        return (*results, final)
    if watched.retry_after is None and watched.verdict == "failed":  # some say it only in the body
        watched = replace(watched, retry_after=last.retry_after)
    return (*results, watched)
