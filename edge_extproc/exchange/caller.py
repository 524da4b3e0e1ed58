"""Finds who sent a request."""

from __future__ import annotations

from ..auth.identity_seal import NAMESPACE as SEALED
from ..dialects.base import Dialect
from ..model.envoy_names import CALLERS_ID
from ..model.principal import Principal
from ..model.trace import read_traceparent
from .events import Headers, RequestHeaders
from .headers import firsts, is_request_id
from .phases import Received
from .ports import Gateway
from .route_identity import IDENTITY, sealed_principal


def authenticate(gateway: Gateway, received: Received, event: RequestHeaders) -> Principal:
    """The identity that ext_authz has sealed, if it runs before ext_proc, else that of the request's headers. Raises
    the errors of `Authenticator.authenticate`."""
    if gateway.identity_seal is not None:
        sealed = event.metadata.get(SEALED, {})
        principal = gateway.identity_seal.principal(sealed, received.values.get("x-request-id", ""))
        if principal is not None:
            return principal
    if gateway.route_seal is not None and IDENTITY in received.values:
        values = received.values
        return sealed_principal(
            gateway.route_seal, values[IDENTITY], values.get("x-request-id", ""), gateway.clock.time()
        )
    return gateway.authenticator.authenticate(event.headers)


def received_headers(gateway: Gateway, headers: Headers, traceparent: str | None, dialect: Dialect) -> Received:
    """What the headers of a request say before its caller is known. `traceparent`: from the gRPC stream, if it has one.
    `dialect`: that of errors, if neither the path nor a header shows the caller's."""
    values = firsts(headers)
    path = gateway.routes.canonical(values.get(":path", "").partition("?")[0])
    callers_id = values.get(CALLERS_ID)
    parent = read_traceparent(traceparent or values.get("traceparent"))
    return Received(
        headers,
        values,
        callers_id if callers_id and is_request_id(callers_id) else values.get("x-request-id"),
        values.get(":method", ""),
        path,
        gateway.routes.caller_dialect(path, values) or dialect,
        parent,
        gateway.tracer.begin(parent) if gateway.tracer is not None else None,
    )
