"""Finds the candidates of a call: those of the model's name, or the provider of a passthrough path."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadRequest, NoSuchRoute
from ..model.globs import allows
from ..model.plan import Candidate
from ..routing.base import RoutingRequest
from .listing import no_such_model
from .phases import Identified
from .ports import Gateway


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
    candidates = gateway.models.candidates(call.model) if allows(principal.models, call.model) else ()
    if not candidates:
        raise no_such_model(call.model)
    return gateway.planner.apply_rules(routing, candidates)
