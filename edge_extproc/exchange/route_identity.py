"""The identity of a caller between two streams of one request, in a header: sealed for this request, and valid for a
short time."""

from __future__ import annotations

import base64

from ..auth.identity_seal import IdentitySeal
from ..errors import Unauthenticated
from ..model.principal import Principal

IDENTITY = "x-edge-identity"
"""The header."""
CERTIFICATE = "x-forwarded-client-cert"
"""The header with a client certificate. Only a proxy that removes the caller's own makes it trustworthy."""
_SECONDS = 60.0
"""A queue may hold the request between the two streams."""


def seal_identity(seal: IdentitySeal, principal: Principal, request_id: str, now: float) -> str:
    until = str(int(now + _SECONDS))
    sealed = seal.seal(principal, _bound(until, request_id))
    return f"{until}.{sealed['seal']}.{base64.urlsafe_b64encode(sealed['identity'].encode()).decode()}"


def sealed_principal(seal: IdentitySeal, value: str, request_id: str, now: float) -> Principal:
    """Raises Unauthenticated if the header was not sealed for this request, or too long ago."""
    until, _, rest = value.partition(".")
    signature, _, identity = rest.partition(".")
    try:
        metadata = {"identity": base64.urlsafe_b64decode(identity.encode("ascii")).decode(), "seal": signature}
    except ValueError:
        metadata = {"identity": "", "seal": ""}
    principal = seal.principal(metadata, _bound(until, request_id))
    if principal is None or not until.isdigit() or int(until) < now:
        raise Unauthenticated("the time of this request between two filters was too long; send it again")
    return principal


def _bound(until: str, request_id: str) -> str:
    return f"route\n{until}\n{request_id}"
