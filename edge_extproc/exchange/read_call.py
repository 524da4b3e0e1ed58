"""Reads a call from the body of a request, by its route."""

from __future__ import annotations

from .body_shape import check_shape
from .host_terms import with_host_terms
from .parsed_call import ParsedCall
from .phases import Identified
from .ports import Gateway


def read_call(gateway: Gateway, identified: Identified, body: bytes) -> ParsedCall:
    """Raises BadRequest, and TooLarge for a body with too many items."""
    received, dialect, route = identified.received, identified.caller_dialect, identified.route
    check_shape(body, route.operation, gateway.shape, gateway.wire_names)
    if not route.format:
        call = dialect.read_call(body, route.operation, received.headers, received.path)
        return ParsedCall(with_host_terms(call, gateway.host_terms), dialect, None)
    form, path = gateway.formats[route.format], received.values.get(":path", "")
    call = form.read_call(body, received.method, received.headers, path)
    return ParsedCall(with_host_terms(call, gateway.host_terms), dialect, form)
