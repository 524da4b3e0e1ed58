"""What the admin API shows of single requests, and of why they went so."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ..limits.base import MICRO
from ..model.explanation import (
    ExplainedAttempt,
    ExplainedCandidate,
    ExplainedLimit,
    ExplainedPromptCache,
    Explanation,
    LeftOutCandidate,
)
from ..store.ledger import TOKENS, LedgerPosition
from .admin_models import Body


class ShownRequest(Body):
    """One settled request. Money is US dollars as text, and null if nothing was used or the price is unknown."""

    exchange: str
    at: datetime
    """When it began."""
    duration_ms: int
    outcome: str
    status: int | None
    """Of the response to the caller."""
    code: str | None
    """The error code of the gateway or of the provider."""
    tenant: str
    team: str | None
    user: str | None
    key: str | None
    operation: str | None
    dialect: str | None
    """The wire format of the caller."""
    model: str | None
    """The name or the pattern in the configuration that the caller's model matched."""
    provider: str | None
    upstream_model: str | None
    """In the request to the provider."""
    response_model: str | None
    attempts: int
    stream: bool
    cache: str | None
    """The result of the cache lookup."""
    tokens: dict[str, int]
    """By kind. Kinds do not overlap."""
    estimated: bool
    """Whether the gateway estimated the tokens, because the provider did not report them."""
    cost: str | None
    unpriced: bool
    saved_tokens: int
    """By a reply from the cache."""
    saved_cost: str
    searches: int
    search_cost: str
    trace_id: str | None
    run: str | None
    run_parent: str | None
    session: str | None
    """The session that the caller has named in a header."""


class ShownCandidate(Body):
    provider: str
    model: str
    score: float | None
    """What the strategy has ordered by: expected US dollars (cheapest) or average seconds (least_latency). None: it has
    no number, or the user is bound to a tenant."""
    weight: int
    probe: bool
    """Its circuit was half open, and this request was the probe."""


class ShownLeftOut(Body):
    provider: str
    model: str
    why: Literal["circuit", "capability", "rights", "account", "hedge"]
    """circuit: it failed recently. capability: it cannot take this call. rights: the caller may not use it. account:
    its account lacks what the call names. hedge: a hedged call has two candidates."""
    detail: str
    """circuit: for how many seconds. capability: the field that its format lacks."""


class ShownReservation(Body):
    """One limit that applied. Money is US dollars as text."""

    rule: str
    measure: str
    maximum: str | int
    used: str | int
    """Before this request, with the reservations of others in progress."""
    reserved: str | int
    settled: str | int
    """What counts in the end."""


class ShownAttempt(Body):
    """Times are milliseconds from the beginning of the request."""

    provider: str
    model: str
    verdict: str
    status: int | None
    reason: str
    """The gateway's code for the failure."""
    began: int | None
    first_byte: int | None
    first_token: int | None
    ended: int | None
    account_problem: str | None
    """What the provider reported about the gateway's account. None for a user who is bound to a tenant."""


class ShownRuleHit(Body):
    """What a guardrail rule did."""

    rule: str
    label: str
    action: str
    mode: str
    direction: str
    count: int


class ShownPromptCache(Body):
    """How much of the prompt the provider has read from its prompt cache, and why not more."""

    reason: Literal["first", "unchanged", "changed", "provider", "unmarked", "idle", "evicted"]
    """first: no earlier turn is known. unchanged: the prompt only grew. changed: a segment has changed. provider: the
    turn before went to another provider or model. unmarked: the provider caches only what a caller marks. idle: the
    turn before was more than five minutes ago. evicted: the provider has not kept it."""
    segment: str
    """The first one that changed, in the caller's spelling: tools[2], system, messages[4]."""
    unchanged: int
    """Segments at the beginning of the prompt that are the same as in the turn before."""
    segments: int
    """Segments of this prompt."""
    readable: int
    """Tokens of the earlier prompt."""
    read: int
    lost: int
    """Tokens that could have been read and were not."""
    dollars: str | None
    """What the lost tokens have cost more. None: nothing was lost, or a price is not known."""
    idle_seconds: int
    """Since the turn before."""


class ShownExplanation(Body):
    """Why a request went as it did. It has no text of the prompt or the reply."""

    caller: Literal["key", "token", "certificate"]
    """What the caller was recognised by."""
    roles: list[str] | None
    refusal: str | None
    """The gateway's own refusal, if it names a limit or a right."""
    limits: list[ShownReservation]
    strategy: str | None
    """None: no plan was made."""
    chosen_by: Literal["model", "rule", "header"]
    """Where the strategy came from: the model's configuration, one of its routing rules, or a header of the caller."""
    rule: int
    """The number of the routing rule that applied, from 1. 0: none."""
    affinity: bool
    """The first candidate has cached the beginning of this prompt, or serves this session."""
    hedged: bool
    candidates: list[ShownCandidate]
    """In the order in which they are tried."""
    left_out: list[ShownLeftOut]
    attempts: list[ShownAttempt]
    lane: str | None
    """raw: the caller's bytes were passed on. cross: the request was translated."""
    dropped: list[str]
    """Fields of the request that the provider's format has no place for."""
    lost: list[str]
    """Parts of the reply that the caller's format has no place for."""
    cache_tier: str | None
    cache_reason: str | None
    """Why the reply did not come from the cache."""
    costs: dict[str, str]
    """US dollars by kind of token. Their sum is the cost of the request."""
    prompt_cache: ShownPromptCache | None
    """None: nobody has asked for it, or the usage is not known."""
    agent_us: int
    """Microseconds that the gateway itself has worked on the request."""
    more: int
    """The number of entries that are missing, because the lists would be too long."""


class ExplainedRequest(ShownRequest):
    guardrails: list[ShownRuleHit]
    """What the guardrail rules did."""
    explain: ShownExplanation | None
    """None: it is older than `store.keep_explanations`, or the ledger keeps none."""


def shown_request(row: dict[str, Any]) -> ShownRequest:
    return ShownRequest(**request_fields(row))


def explained_request(
    row: dict[str, Any], explanation: Explanation | None, *, of_all_tenants: bool
) -> ExplainedRequest:
    """`of_all_tenants`: the user is not bound to a tenant, and sees what is known from requests of all tenants."""
    return ExplainedRequest(
        **request_fields(row),
        guardrails=[ShownRuleHit(**hit) for hit in json.loads(row["guardrails"] or "[]")],
        explain=_explanation(explanation, of_all_tenants=of_all_tenants) if explanation is not None else None,
    )


def position(text: str) -> LedgerPosition:
    """The place in the ledger that `next` of a page names."""
    started, _, exchange = text.partition(".")
    return LedgerPosition(int(started), exchange)


def request_fields(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `ShownRequest`."""
    names = ShownRequest.model_fields.keys() & row.keys()
    return {
        "at": datetime.fromtimestamp(row["started_ms"] / 1000, UTC),
        "tokens": {name: row[name] for name in TOKENS},
        **{name: row[name] for name in names},
    }


def _explanation(e: Explanation, *, of_all_tenants: bool) -> ShownExplanation:
    return ShownExplanation(
        caller=e.caller,
        roles=None if e.roles is None else list(e.roles),
        refusal=e.refusal,
        limits=[_limit(each) for each in e.limits],
        strategy=e.strategy,
        chosen_by=e.chosen_by,
        rule=e.rule,
        affinity=e.affinity,
        hedged=e.hedged,
        candidates=[_candidate(each, scored=of_all_tenants) for each in e.candidates],
        left_out=[_left_out(each) for each in e.left_out],
        attempts=[_attempt(each, of_account=of_all_tenants) for each in e.attempts],
        lane=e.lane,
        dropped=list(e.dropped),
        lost=list(e.lost),
        cache_tier=e.cache_tier,
        cache_reason=e.cache_reason,
        costs=e.costs,
        prompt_cache=shown_prompt_cache(e.prompt_cache),
        agent_us=e.agent_us,
        more=e.more,
    )


def shown_prompt_cache(found: ExplainedPromptCache | None) -> ShownPromptCache | None:
    return None if found is None else ShownPromptCache(**msgspec.structs.asdict(found))


def _limit(limit: ExplainedLimit) -> ShownReservation:
    def amount(value: int) -> str | int:
        return format((Decimal(value) / MICRO).normalize(), "f") if limit.measure == "dollars" else value

    return ShownReservation(
        rule=limit.rule,
        measure=limit.measure,
        maximum=amount(limit.maximum),
        used=amount(limit.used),
        reserved=amount(limit.reserved),
        settled=amount(limit.settled),
    )


def _candidate(c: ExplainedCandidate, *, scored: bool) -> ShownCandidate:
    return ShownCandidate(
        provider=c.provider, model=c.model, score=c.score if scored else None, weight=c.weight, probe=c.probe
    )


def _left_out(c: LeftOutCandidate) -> ShownLeftOut:
    return ShownLeftOut(provider=c.provider, model=c.model, why=c.why, detail=c.detail)


def _attempt(a: ExplainedAttempt, *, of_account: bool) -> ShownAttempt:
    # A status such as 402 shows the state of the gateway's account too.
    hidden = a.account_problem is not None and not of_account
    return ShownAttempt(
        provider=a.provider,
        model=a.model,
        verdict=a.verdict,
        status=None if hidden else a.status,
        reason="failed" if hidden else a.reason,
        began=a.began,
        first_byte=a.first_byte,
        first_token=a.first_token,
        ended=a.ended,
        account_problem=None if hidden else a.account_problem,
    )
