"""Authentication by JSON Web Tokens of OpenID Connect issuers. Configured claims identify the caller.

A token's own statements about its verification are used only as far as the configuration allows: an algorithm from the
configured list, which has only asymmetric ones (a public key must never be used as a shared secret), and a key of the
issuer's set. `jku`, `jwk`, `x5u` and `crit` are not supported.

A verified token is cached by the SHA-256 of the whole token until it expires or the issuer's keys change.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from cachetools import FIFOCache
from joserfc import jws
from joserfc.errors import JoseError

from ..errors import PolicyUnavailable, Unauthenticated
from ..model.principal import Principal
from .base import Clock
from .jwks import IssuerKeys, PublicKey

Reason: TypeAlias = Literal[
    "malformed_token",
    "unknown_issuer",
    "unsupported_algorithm",
    "unknown_key",
    "invalid_signature",
    "expired_token",
    "token_not_yet_valid",
    "wrong_audience",
    "missing_claim",
    "unknown_tenant",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
MAX_TOKEN_LENGTH = 16 * 1024
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_REMEMBERED = 10_000
# Names that may appear in logs and in keys of counters.
_NAME = re.compile(r"[^\x00-\x20\x7f-\x9f\ud800-\udfff][^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,255}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=~-]{0,127}")
# The maximum number of roles in a token.
_MAX_ROLES = 100


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway: float = 30.0
    """Seconds of tolerated clock difference."""
    tenant: str | None = None
    """The tenant of all tokens of this issuer; None: the claim `tenant_claim`."""
    tenant_claim: str = "tenant"
    team_claim: str | None = None
    user_claim: str = "sub"
    roles_claim: str | None = None
    default_roles: tuple[str, ...] | None = None
    """The roles of a token without a roles claim. None: roles do not restrict it, or, with `roles_claim`, it has no
    role."""
    run_claim: str | None = None
    run_parent_claim: str | None = None


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    begins: float
    expires: float


class JwtVerifier:
    def __init__(
        self,
        issuers: Sequence[tuple[IssuerSettings, IssuerKeys]],
        tenants: Mapping[str, tuple[str, ...]],
        clock: Clock = time.time,
    ) -> None:
        """`tenants`: the models of each configured tenant."""
        self._issuers = {settings.issuer: (settings, keys) for settings, keys in issuers}
        for _, keys in issuers:
            keys.on_change = self.forget
        self._tenants = tenants
        self._clock = clock
        self._verified: FIFOCache[bytes, _Verified] = FIFOCache(_REMEMBERED)

    def forget(self) -> None:
        """Clears the cache of verified tokens, because keys have changed."""
        self._verified.clear()

    def principal_of(self, token: str) -> Principal:
        """The caller with this token. Raises Unauthenticated, and PolicyUnavailable if the issuer's keys have not been
        fetched."""
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known = self._verified.get(digest)
        now = self._clock()
        if known is not None:
            if known.begins <= now < known.expires:
                return known.principal
            del self._verified[digest]
        verified = self._verify(token, now)
        self._verified[digest] = verified
        return verified.principal

    def _verify(self, token: str, now: float) -> _Verified:
        verified = verify(token, self._issuers, now)
        principal = self._principal(verified.settings, verified.claims)
        return _Verified(principal, verified.begins, verified.expires)

    def _principal(self, settings: IssuerSettings, claims: Mapping[str, Any]) -> Principal:
        tenant = settings.tenant or name_of(claims, settings.tenant_claim)
        if tenant is None:
            raise refused("missing_claim", f"the token has no claim {settings.tenant_claim} for its tenant")
        if tenant not in self._tenants:
            raise refused("unknown_tenant", "the token's tenant is not known here")
        user = name_of(claims, settings.user_claim)
        if user is None:
            raise refused("missing_claim", f"the token has no claim {settings.user_claim} for its user")
        team = name_of(claims, settings.team_claim) if settings.team_claim is not None else None
        roles = settings.default_roles
        if settings.roles_claim is not None:
            roles = names_of(claims, settings.roles_claim) or roles or ()
        run, parent = (_run(claims, name) for name in (settings.run_claim, settings.run_parent_claim))
        # Labels of keys have no colon, so a token is never confused with a key.
        parent = parent if run is not None else None
        audiences = audiences_of(claims.get("aud"), settings.audiences)
        return Principal(tenant, f"jwt:{user}", self._tenants[tenant], team, user, roles, run, parent, audiences)


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    settings: IssuerSettings
    claims: Mapping[str, Any]
    begins: float
    expires: float
    """Unix time, with the leeway, as `begins`."""


def verify(token: str, issuers: Mapping[str, tuple[IssuerSettings, IssuerKeys]], now: float) -> VerifiedToken:
    """Checks issuer, algorithm, signature, time and audience. Raises Unauthenticated, and PolicyUnavailable if the
    issuer's keys have not been fetched."""
    header, claims = _parts(token)
    issuer = claims.get("iss")
    trusted = issuers.get(issuer) if isinstance(issuer, str) else None
    if trusted is None:
        raise refused("unknown_issuer", "the token's issuer is not trusted here")
    settings, keys = trusted
    algorithm = header.get("alg")
    if algorithm not in settings.algorithms:
        raise refused("unsupported_algorithm", f"the token's algorithm is none of {', '.join(settings.algorithms)}")
    if "crit" in header:
        raise refused("malformed_token", "the token's header has crit, which is not supported")
    key = _key(keys, header.get("kid"))
    if not _is_signed(token, key, str(algorithm)):
        if keys.may_be_replaced():
            raise PolicyUnavailable("the keys of the token's issuer are being fetched; try again", retry_after=1.0)
        raise refused("invalid_signature", "the token's signature is not valid")
    begins, expires = _life(claims, settings.leeway, now)
    if not audiences_of(claims.get("aud"), settings.audiences):
        raise refused("wrong_audience", "the token is not for this gateway (aud)")
    return VerifiedToken(settings, claims, begins, expires)


def looks_like_a_token(credential: str) -> bool:
    return _TOKEN.fullmatch(credential) is not None


def _parts(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if len(token) > MAX_TOKEN_LENGTH or not looks_like_a_token(token):
        raise refused("malformed_token", "this is not a signed JSON Web Token")
    header, claims, _ = token.split(".")
    return _object(header), _object(claims)


def _object(part: str) -> Mapping[str, Any]:
    value: Any = None
    with contextlib.suppress(binascii.Error, msgspec.MsgspecError, RecursionError, ValueError):
        value = msgspec.json.decode(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    if not isinstance(value, dict):
        raise refused("malformed_token", "this is not a signed JSON Web Token")
    return value


def _key(keys: IssuerKeys, kid: object) -> PublicKey:
    if kid is not None and not isinstance(kid, str):
        raise refused("malformed_token", "the token's kid is not a string")
    key = keys.find(kid)
    if key is None:
        if keys.may_be_new():
            raise PolicyUnavailable("the keys of the token's issuer are being fetched; try again", retry_after=1.0)
        raise refused("unknown_key", "the token is signed with a key that its issuer does not have")
    return key


def _is_signed(token: str, key: PublicKey, algorithm: str) -> bool:
    """Whether the token's signature is valid with this key and algorithm."""
    bound = key.get("alg")
    if bound is not None and bound != algorithm:
        return False
    try:
        jws.deserialize_compact(token, key, algorithms=[algorithm])
    except (JoseError, ValueError, TypeError):
        return False
    return True


def _life(claims: Mapping[str, Any], leeway: float, now: float) -> tuple[float, float]:
    expires, begins = _instant(claims, "exp"), _instant(claims, "nbf")
    if expires is None:
        raise refused("missing_claim", "the token has no exp: it would never expire")
    if now >= expires + leeway:
        raise refused("expired_token", "the token has expired")
    if begins is not None and now < begins - leeway:
        raise refused("token_not_yet_valid", "the token is not valid yet (nbf)")
    return (begins or 0.0) - leeway, expires + leeway


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise refused("malformed_token", f"the token's {name} is not a time in seconds")
    return float(value)


def audiences_of(claimed: object, accepted: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the accepted audiences that the claim names."""
    audiences = claimed if isinstance(claimed, list) else [claimed]
    return tuple(each for each in accepted if each in audiences)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name or, if no claim has this name, by a path with dots."""
    if path in claims:
        return claims[path]
    here: Any = claims
    for step in path.split("."):
        here = here.get(step) if isinstance(here, dict) else None
    return here


def name_of(claims: Mapping[str, Any], path: str) -> str | None:
    """The claim, if it is a text that may be in logs."""
    value = _claim(claims, path)
    return value if isinstance(value, str) and _NAME.fullmatch(value) else None


def _run(claims: Mapping[str, Any], path: str | None) -> str | None:
    """The name of a run. Raises Unauthenticated if it is not valid, because the run binds the caller."""
    value = _claim(claims, path) if path is not None else None
    if value is None:
        return None
    if not isinstance(value, str) or _RUN.fullmatch(value) is None:
        raise refused("malformed_token", f"the token's {path} is not the name of a run")
    return value


def names_of(claims: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """The names in a list, or in a text separated by spaces, as in `scope`."""
    value = _claim(claims, path)
    names = value.split(" ") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(dict.fromkeys(name for name in names[:_MAX_ROLES] if isinstance(name, str) and name))


def refused(reason: Reason, message: str) -> Unauthenticated:
    error = Unauthenticated(message)
    error.code = reason
    return error
