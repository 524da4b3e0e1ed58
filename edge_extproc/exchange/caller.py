"""Finds who sent a request."""

from __future__ import annotations

from ..auth.identity_seal import NAMESPACE as SEALED
from ..model.principal import Principal
from .events import RequestHeaders
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
