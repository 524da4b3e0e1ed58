"""Makes the plan of a call: the order in which its candidates are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..model.plan import NO_FALLBACK, Candidate, Plan
from .account_access import AccountAccess
from .consumer_routes import ConsumerRoute
from .phases import ReadCall
from .ports import Gateway
from .rights import permitted


def plan_of(
    gateway: Gateway,
    read: ReadCall,
    candidates: Sequence[Candidate],
    account: AccountAccess | None,
    route: ConsumerRoute | None,
) -> Plan:
    """`account`: the state at the provider's account, if the call uses any. `route`: that of a proxy without
    attempts."""
    call, identified = read.parsed.call, read.identified
    taken_out, now = gateway.taken_out or None, 0.0
    if taken_out is not None:
        now = gateway.clock.time()
        candidates = taken_out.used(candidates, now)
    if call.operation == "passed" and gateway.endpoints.at(identified.received.path) is not None:
        # The endpoint names its provider. An object that such a path creates (a file, a batch) must not be created
        # twice.
        return Plan(tuple(candidates), once=call.method not in ("GET", "HEAD"))
    plan = gateway.planner.plan(read.routing, candidates)
    if taken_out is not None and plan.fallback:
        plan = replace(plan, fallback=taken_out.used_fallback(plan.fallback, now))
    if call.background:  # the slower one would go on too
        plan = replace(plan, hedged=False)
    if route is not None:
        return replace(plan, fallback=NO_FALLBACK, guarded=False, hedged=False, max_attempts=1)
    if identified.rights is not None and plan.fallback:
        plan = replace(plan, fallback=permitted(identified.rights, call, plan.fallback))
    if account is not None and plan.fallback:
        plan = replace(plan, fallback=account.permitted(plan.fallback))
    return plan
