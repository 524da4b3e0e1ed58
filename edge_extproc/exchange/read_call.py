"""Reads a call from the body of a request, by its route."""

from __future__ import annotations

from .body_shape import check_shape
from .parsed_call import ParsedCall
from .phases import Identified
from .ports import Gateway


def read_call(gateway: Gateway, identified: Identified, body: bytes) -> ParsedCall:
    """Raises BadRequest, and TooLarge for a body with too many items."""
    received, dialect, route = identified.received, identified.caller_dialect, identified.route
    check_shape(body, route.operation, gateway.shape, gateway.wire_names)
    if not route.format:
        call = dialect.read_call(body, route.operation, received.headers, received.path)
        return ParsedCall(call, dialect, None)
    form, path = gateway.formats[route.format], received.values.get(":path", "")
    return ParsedCall(form.read_call(body, received.method, received.headers, path), dialect, form)
