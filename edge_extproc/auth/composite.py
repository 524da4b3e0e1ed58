"""Combines all configured methods of authentication.

A request has one credential, which is a key or a token. A client certificate may be used in addition. Both must belong
to the same tenant; otherwise the request is refused. The key or token determines the caller, because it is more
specific.
"""

from __future__ import annotations

from ..errors import Unauthenticated
from ..model.principal import Principal
from .api_key import CREDENTIAL_HEADERS, MAX_KEY_LENGTH, ApiKeys, credential
from .api_key import REASONS as KEY_REASONS
from .base import Headers
from .jwt import MAX_TOKEN_LENGTH, JwtVerifier, looks_like_a_token
from .jwt import REASONS as TOKEN_REASONS
from .mtls import REASONS as CERTIFICATE_REASONS
from .mtls import Certificates

CONFLICT = "conflicting_credentials"
REASONS: tuple[str, ...] = (*KEY_REASONS, *TOKEN_REASONS, *CERTIFICATE_REASONS, CONFLICT)


class CompositeAuthenticator:
    def __init__(
        self, keys: ApiKeys | None, tokens: JwtVerifier | None = None, certificates: Certificates | None = None
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._certificates = certificates

    def authenticate(self, headers: Headers) -> Principal:
        certified: Principal | None = None
        unknown: Unauthenticated | None = None
        if self._certificates is not None:
            try:
                certified = self._certificates.principal_of(headers)
            except Unauthenticated as error:
                if error.code != "unknown_certificate":
                    raise
                # In a mesh every workload has a certificate. A key can still identify this one.
                unknown = error
        if not has_credential(headers):
            if certified is not None:
                return certified
            if unknown is not None:
                raise unknown
        bearer = self._bearer(headers)
        if certified is not None and certified.tenant != bearer.tenant:
            raise _refused(CONFLICT, "the client certificate and the key or token are of different tenants")
        return bearer

    def _bearer(self, headers: Headers) -> Principal:
        presented = credential(headers, MAX_TOKEN_LENGTH if self._tokens is not None else MAX_KEY_LENGTH)
        if self._tokens is not None and (self._keys is None or looks_like_a_token(presented)):
            return self._tokens.principal_of(presented)
        if self._keys is None:
            raise _refused("missing_api_key", "API keys and tokens are not accepted here; use a client certificate")
        return self._keys.principal_of(presented)


def has_credential(headers: Headers) -> bool:
    return any(name in CREDENTIAL_HEADERS for name, _ in headers)


def _refused(reason: str, message: str) -> Unauthenticated:
    error = Unauthenticated(message)
    error.code = reason
    return error
