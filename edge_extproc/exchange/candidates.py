"""Finds the candidates of a call, and the most that it can cost with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..auth.base import CallerRights
from ..dialects.base import RaisesLimit
from ..errors import BadRequest, Forbidden, NoSuchRoute
from ..limits.base import ReservationRequest
from ..model.call import Call
from ..model.globs import allows
from ..model.plan import Candidate
from ..model.principal import Principal
from ..routing.base import RoutingRequest
from .adapt import format_of
from .listing import no_such_model
from .parsed_call import ParsedCall
from .phases import Identified, ReadCall
from .ports import Gateway
from .worst_case import hedged_reservation, reservation_request


def routing_request(gateway: Gateway, identified: Identified, call: Call) -> RoutingRequest:
    principal, limits = identified.principal, identified.limits
    used = gateway.limiter.run_used(limits) if gateway.limiter is not None and limits is not None else 0
    return RoutingRequest(call, principal.tenant, principal.key_id, identified.received.values, used)


def find_candidates(gateway: Gateway, identified: Identified, routing: RoutingRequest) -> Sequence[Candidate]:
    """The candidates of the model's name, narrowed by the rules of the configuration. Raises NoSuchModel, or
    NoSuchRoute for a path that this tenant may not use."""
    call, principal, path = routing.call, identified.principal, identified.received.path
    endpoint = gateway.endpoints.at(path) if call.operation == "passed" else None
    if endpoint is not None and not endpoint.admits(principal.tenant):
        raise NoSuchRoute(f"no API at {path!r} for this key")
    if endpoint is not None and (not call.model or allows(principal.models, call.model)):
        return (Candidate(endpoint.provider, call.model),)
    if not call.model:
        raise BadRequest("model is missing: give the name of a model", param="model")
    served = gateway.models.candidates(call.model) if allows(principal.models, call.model) else ()
    if not served:
        raise no_such_model(call.model)
    candidates = gateway.planner.apply_rules(routing, served)
    if call.other_models:
        other_candidates(gateway, principal, identified.rights, call, candidates)
    return candidates


def of_provider(candidates: Sequence[Candidate], provider: str, call: Call) -> Sequence[Candidate]:
    """Those of one provider. Raises NoSuchModel without any."""
    found = tuple(c for c in candidates if c.provider == provider)
    if not found:
        raise no_such_model(call.model)
    return found


def most_of(gateway: Gateway, read: ReadCall, candidates: Sequence[Candidate], *, priced: bool) -> ReservationRequest:
    """The most that a call can use. `priced`: a rule counts dollars."""
    call, identified = read.parsed.call, read.identified
    billable, at_once = gateway.planner.billable_candidates(call.model, candidates)
    if call.other_models:
        others = other_candidates(gateway, identified.principal, identified.rights, call, candidates)
        billable = tuple(dict.fromkeys((*billable, *others)))
    request = reservation_request(
        call,
        billable,
        gateway.providers,
        gateway.prices,
        gateway.bounds,
        gateway.prompt_search,
        priced=priced,
        added=_added_output(gateway, read.parsed, billable),
    )
    return hedged_reservation(request, at_once) if at_once > 1 else request


def _added_output(gateway: Gateway, parsed: ParsedCall, candidates: Sequence[Candidate]) -> int:
    """The most output tokens that the request of a candidate has beyond the caller's limit."""
    call, added = parsed.call, 0
    if call.operation != "chat" or call.max_output_tokens is None:
        return 0
    for candidate in candidates:
        try:
            provider = gateway.providers[candidate.provider]
            target = gateway.dialects[format_of(call, candidate, provider)]
            if target.name != call.dialect and isinstance(target, RaisesLimit):
                added = max(added, target.added_output(parsed.chat(), provider.profile.known_as(candidate.model)))
        except BadRequest:  # this candidate cannot take the call
            continue
    return added


def other_candidates(
    gateway: Gateway, principal: Principal, rights: CallerRights | None, call: Call, candidates: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """What the hosts of `candidates` may use in place of their model, because the body says so. Raises BadRequest for a
    model that a host cannot be allowed to use for this caller: its name is no model of this gateway at that host, or
    the caller may not use it. A candidate of another format does not get these fields."""
    hosts = dict.fromkeys(c.provider for c in candidates if _reads_body(gateway, call, c))
    others: list[Candidate] = []
    for name in call.other_models:
        served = gateway.models.candidates(name) if allows(principal.models, name) else ()
        for host in hosts:
            other = next((c for c in served if (c.provider, c.model) == (host, name)), None)
            if other is None or not may_use(rights, replace(call, model=name), other):
                raise BadRequest(
                    f"the host of {call.model!r} would use {name!r} in its place, and this gateway has no such model "
                    "for this caller at that host; remove it, because the gateway itself fails over between providers",
                    param="models",
                )
            others.append(other)
    return tuple(others)


def _reads_body(gateway: Gateway, call: Call, candidate: Candidate) -> bool:
    try:
        form = format_of(call, candidate, gateway.providers[candidate.provider])
    except BadRequest:
        return False
    return form == (call.format or call.dialect)


def may_use(rights: CallerRights | None, call: Call, candidate: Candidate) -> bool:
    """Whether the rights of a caller allow this call at a candidate."""
    if rights is None:
        return True
    try:
        return bool(rights.narrow(call, (candidate,)))
    except Forbidden:
        return False
