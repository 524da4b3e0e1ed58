"""Passes the identity of a caller from ext_authz to ext_proc, signed, so that a request is authenticated once.

The identity is in Envoy's dynamic metadata, in the namespace of the ext_authz filter, which callers cannot write to. In
addition it has a signature for this request's id. The key of the signature is derived from the pepper for this use
only.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

import msgspec

from ..errors import Unauthenticated
from ..model.principal import Principal

NAMESPACE = "envoy.filters.http.ext_authz"
"""Envoy's name of the ext_authz filter. Envoy writes the filter's metadata only to this namespace."""
REASON = "unverified_identity"

_PURPOSE = b"edge ext_authz identity v1"


class _Sealed(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    tenant: str
    key: str
    models: tuple[str, ...]
    team: str | None = None
    user: str | None = None
    roles: tuple[str, ...] | None = None
    run: str | None = None
    run_parent: str | None = None
    audiences: tuple[str, ...] | None = None


class IdentitySeal:
    """`pepper`: from the configuration, which all workers and replicas share."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, _PURPOSE, "sha256")

    def seal(self, principal: Principal, request_id: str) -> dict[str, str]:
        """The metadata for this identity and request."""
        p = principal
        sealed = _Sealed(p.tenant, p.key_id, p.models, p.team, p.user, p.roles, p.run, p.run_parent, p.audiences)
        identity = msgspec.json.encode(sealed).decode()
        return {"identity": identity, "seal": self._seal(identity, request_id)}

    def principal(self, metadata: Mapping[str, object], request_id: str) -> Principal | None:
        """The identity in the metadata of ext_authz, or None without one. Raises Unauthenticated if the signature is
        not valid for this request."""
        identity, seal = metadata.get("identity"), metadata.get("seal")
        if identity is None and seal is None:
            return None
        if (
            not isinstance(identity, str)
            or not isinstance(seal, str)
            or not hmac.compare_digest(self._seal(identity, request_id).encode(), seal.encode(errors="surrogatepass"))
        ):
            error = Unauthenticated("the identity in the metadata of ext_authz could not be verified")
            error.code = REASON
            raise error
        s = msgspec.json.decode(identity, type=_Sealed)
        return Principal(s.tenant, s.key, s.models, s.team, s.user, s.roles, s.run, s.run_parent, s.audiences)

    def _seal(self, identity: str, request_id: str) -> str:
        message = request_id.encode(errors="surrogatepass") + b"\n" + identity.encode(errors="surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()
