"""Reads a call from the body of a request, by its route."""

from __future__ import annotations

from dataclasses import replace

from ..model.paths import DEFAULT_MODELS
from .body_shape import check_shape
from .host_terms import with_host_terms
from .parsed_call import ParsedCall
from .phases import Identified
from .ports import Gateway


def _by_body(gateway: Gateway, identified: Identified, body: bytes) -> Identified:
    """The route that the body shows, for a path that several routes have."""
    route = identified.route
    dialect, route = gateway.routes.by_body(identified.caller_dialect, route, body)
    return replace(identified, route=route, caller_dialect=dialect)


def read_call(gateway: Gateway, identified: Identified, body: bytes) -> tuple[Identified, ParsedCall]:
    """The call, and its route, which the body may show. Raises BadRequest, and TooLarge for a body with too many
    items."""
    if identified.route.path in gateway.routes.paths_by_body:
        identified = _by_body(gateway, identified, body)
    received, dialect, route = identified.received, identified.caller_dialect, identified.route
    check_shape(body, route.operation, gateway.shape, gateway.wire_names)
    if not route.format:
        call = dialect.read_call(body, route.operation, received.headers, received.path)
        return identified, ParsedCall(with_host_terms(call, gateway.host_terms), dialect, None)
    _, mark, query = received.values.get(":path", "").partition("?")
    form = gateway.formats[route.format]
    call = form.read_call(body, received.method, received.headers, received.path + mark + query)
    if not call.model and gateway.endpoints.at(received.path) is None:
        default = DEFAULT_MODELS.get(received.path, "")
        if gateway.models.candidates(default):
            call = replace(call, model=default)
    return identified, ParsedCall(with_host_terms(call, gateway.host_terms), dialect, form)
