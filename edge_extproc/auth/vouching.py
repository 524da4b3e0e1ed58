"""What ext_authz found out, sealed for the ext_proc that runs behind it: so a request is authenticated once.

It travels in Envoy's dynamic metadata, in the namespace of the ext_authz filter, which no caller can write to. The seal
holds besides: it is bound to the request's id, and its key is not the pepper itself but derived from it, for this use
alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

import msgspec

from ..errors import Unauthenticated
from ..model.principal import Principal

NAMESPACE = "envoy.filters.http.ext_authz"
"""Envoy's own name of the filter; it writes its service's metadata there and nowhere else."""
REASON = "unverified_identity"

_PURPOSE = b"edge ext_authz identity v1"


class _Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    key: str
    models: tuple[str, ...]
    team: str | None = None
    user: str | None = None
    roles: tuple[str, ...] | None = None


class IdentitySeal:
    """`pepper`: that of the config, which all workers and replicas share."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, _PURPOSE, "sha256")

    def seal(self, principal: Principal, request_id: str) -> dict[str, str]:
        """The metadata to set."""
        p = principal
        told = msgspec.json.encode(_Sealed(p.tenant, p.key_id, p.models, p.team, p.user, p.roles)).decode()
        return {"identity": told, "seal": self._seal(told, request_id)}

    def principal(self, found: Mapping[str, object], request_id: str) -> Principal | None:
        """None where nobody was vouched for. Raises Unauthenticated where the seal is not ours for this request."""
        told, seal = found.get("identity"), found.get("seal")
        if told is None and seal is None:
            return None
        if (
            not isinstance(told, str)
            or not isinstance(seal, str)
            or not hmac.compare_digest(self._seal(told, request_id).encode(), seal.encode(errors="surrogatepass"))
        ):
            error = Unauthenticated("who is calling was told by another filter, and could not be verified")
            error.code = REASON
            raise error
        s = msgspec.json.decode(told, type=_Sealed)
        return Principal(s.tenant, s.key, s.models, s.team, s.user, s.roles)

    def _seal(self, told: str, request_id: str) -> str:
        message = request_id.encode(errors="surrogatepass") + b"\n" + told.encode(errors="surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()
