"""Makes the explanation of a settled exchange for the ledger. Without a ledger, nothing calls this.

It reads what the exchange already knows, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import isfinite

from ..limits.base import Reservation
from ..limits.frames import KINDS
from ..limits.spending import spent_by
from ..model.explanation import (
    MOST_ENTRIES,
    Credential,
    ExplainedAttempt,
    ExplainedCandidate,
    ExplainedLimit,
    Explanation,
    LeftOutCandidate,
    bounded,
    bounded_texts,
)
from ..model.fault import Fault, FaultKind
from ..model.plan import AttemptResult, LeftOut, Plan
from ..model.settlement import Settlement
from .bill import cost_by_kind
from .events import ResponseHeaders
from .phases import ExchangeTimes, RequestFacts
from .ports import Gateway
from .prompt_cache import PromptCacheWatch
from .settling import ExchangeRecord

# The gateway's texts of these errors name limits, rights and models. Those of others can quote a request.
_WITHOUT_CONTENT: frozenset[FaultKind] = frozenset({"rate_limit", "permission", "overloaded"})


def explain(
    gateway: Gateway,
    record: ExchangeRecord,
    settlement: Settlement,
    times: ExchangeTimes,
    left_out: Sequence[LeftOut],
    prompt_cache: PromptCacheWatch | None,
) -> Explanation | None:
    """None if the caller is not known. `left_out`: the candidates whose account lacks what the call names. An exception
    is only reported, because the exchange must still be settled."""
    try:
        return _explained(gateway, record, settlement, times, left_out, prompt_cache)
    except Exception as bug:  # noqa: BLE001 - a bug here must not prevent the settlement
        gateway.report(bug)
        return None


def _explained(
    gateway: Gateway,
    record: ExchangeRecord,
    settlement: Settlement,
    times: ExchangeTimes,
    by_account: Sequence[LeftOut],
    prompt_cache: PromptCacheWatch | None,
) -> Explanation | None:
    request, response = record.request, record.response
    principal, plan, lookup = request.principal, request.plan, request.lookup
    if principal is None:
        return None
    reserved, dropped, lost, refused = request.reservation, response.dropped, response.lost, response.refused
    left_out = [*by_account, *_by_rights(request, plan), *plan.left_out] if plan is not None else [*by_account]
    planned, rules = (
        plan.candidates if plan is not None else (),
        reserved.rules if reserved is not None else (),
    )
    longest = max(len(dropped), len(lost), len(left_out), len(planned), len(rules), len(settlement.attempt_results))
    more = 0
    if longest > MOST_ENTRIES:
        lists = (dropped, lost, left_out, planned, rules, settlement.attempt_results)
        more = sum([max(0, len(each) - MOST_ENTRIES) for each in lists])
    return Explanation(
        caller=credential_of(principal.key_id),
        roles=bounded_texts(principal.roles) if principal.roles is not None else None,
        refusal=_refusal(refused.fault) if refused is not None and refused.by_gateway else None,
        limits=_limits(reserved, settlement) if reserved is not None and rules else (),
        strategy=plan.strategy if plan is not None else None,
        chosen_by=plan.chosen_by if plan is not None else "model",
        rule=plan.rule if plan is not None else 0,
        affinity=plan is not None and plan.affine,
        hedged=plan is not None and plan.hedged,
        candidates=_candidates(plan) if plan is not None else (),
        left_out=_left_out(left_out) if left_out else (),
        attempts=_attempts(record, settlement, times) if settlement.attempt_results else (),
        lane=settlement.lane,
        dropped=bounded_texts(dropped) if dropped else (),
        lost=bounded_texts(lost) if lost else (),
        cache_tier=settlement.cache_tier,
        cache_reason=lookup.why if lookup is not None else None,
        costs=_costs(gateway, record, settlement) if settlement.cost else {},
        prompt_cache=prompt_cache.explain(gateway, settlement, response.candidate)
        if prompt_cache is not None and response.candidate is not None
        else None,
        agent_us=int(settlement.overhead * 1e6),
        more=more,
    )


def _left_out(left_out: Sequence[LeftOut]) -> tuple[LeftOutCandidate, ...]:
    some = left_out[:MOST_ENTRIES]
    return tuple([LeftOutCandidate(c.provider, bounded(c.model), why, bounded(detail)) for c, why, detail in some])


def credential_of(key_id: str) -> Credential:
    """Labels of keys have no colon."""
    method, colon, _ = key_id.partition(":")
    if not colon:
        return "key"
    return "certificate" if method == "mtls" else "token"


def _refusal(fault: Fault) -> str | None:
    return bounded(fault.message) if fault.kind in _WITHOUT_CONTENT else None


def _limits(reservation: Reservation, settlement: Settlement) -> tuple[ExplainedLimit, ...]:
    spent = spent_by(settlement, *reservation.assumed)
    return tuple(
        [
            ExplainedLimit(
                bounded(rule.label),
                rule.measure,
                rule.maximum,
                used,
                amount,
                amount if (final := spent[KINDS[rule.measure]]) < 0 else final,
            )
            for rule, amount, used in zip(
                reservation.rules[:MOST_ENTRIES], reservation.amounts, reservation.used, strict=False
            )
        ]
    )


def _candidates(plan: Plan) -> tuple[ExplainedCandidate, ...]:
    scores = plan.scores if len(plan.scores) == len(plan.candidates) else ()
    probes = plan.probes
    return tuple(
        [
            ExplainedCandidate(
                each.provider,
                bounded(each.model),
                _score(scores[place]) if scores else None,
                each.weight,
                each in probes if probes else False,
            )
            for place, each in enumerate(plan.candidates[:MOST_ENTRIES])
        ]
    )


def _score(score: float) -> float | None:
    return round(score, 9) if isfinite(score) and score >= 0 else None


def _by_rights(request: RequestFacts, plan: Plan | None) -> Iterable[LeftOut]:
    """The candidates that the caller may not use: those that no later step has left out."""
    if request.read is None or plan is None or request.read.identified.rights is None:
        return ()
    later = {*plan.candidates, *(each.candidate for each in plan.left_out)}
    return [LeftOut(each, "rights") for each in request.read.candidates if each not in later]


def _attempts(record: ExchangeRecord, settlement: Settlement, times: ExchangeTimes) -> tuple[ExplainedAttempt, ...]:
    sent, results, plan = record.request.sent, settlement.attempt_results, record.request.plan
    began = sent.open.journal.began if sent is not None else {}
    response_at = times.by_event.get(ResponseHeaders)
    starts = [_start(result, number, plan, began) for number, result in enumerate(results, 1)]
    attempts, zero, last = [], times.began, len(results) - 1
    for number, result in enumerate(results[:MOST_ENTRIES]):
        start = starts[number]
        end = start + result.duration if start is not None and result.duration is not None else None
        if end is None and number < last and (plan is None or not plan.hedged):
            end = starts[number + 1]  # Envoy retries as soon as an attempt has failed
        attempts.append(
            ExplainedAttempt(
                result.candidate.provider,
                bounded(result.candidate.model),
                result.verdict,
                result.status,
                result.reason,
                int((start - zero) * 1000) if start is not None else None,
                int((response_at[0] - zero) * 1000) if response_at is not None and number == last else None,
                int((start + result.first_token - zero) * 1000)
                if start is not None and result.first_token is not None
                else None,
                int((end - zero) * 1000) if end is not None else None,
                result.account_problem,
            )
        )
    return tuple(attempts)


def _start(result: AttemptResult, number: int, plan: Plan | None, began: dict[int, float]) -> float | None:
    if plan is not None and plan.hedged:
        number = next((n for n in began if plan.at(n) == result.candidate), number)
    return began.get(number)


def _costs(gateway: Gateway, record: ExchangeRecord, settlement: Settlement) -> dict[str, str]:
    """By kind of token. The rest is a price of the call itself, or of a hedged call's other candidate."""
    costs = cost_by_kind(gateway, record.request, record.response, settlement.usage)
    if settlement.search_cost:
        costs["searches"] = settlement.search_cost
    rest = (settlement.cost or Decimal()) - sum(costs.values(), Decimal())
    if rest:
        costs["other"] = rest
    return {kind: format(cost.normalize(), "f") for kind, cost in costs.items()}
