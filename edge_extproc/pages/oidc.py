"""Signing in with an OpenID Connect provider: the authorization code flow with PKCE.

The browser is sent to the provider with a state, a nonce and a code challenge. It comes back with a code, which this
process exchanges for an ID token. The token is verified by the code that verifies callers' tokens (auth/jwt.py).

The state belongs to one browser, by a cookie, and works once. Nothing of the provider's answers is shown or logged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from ..auth.jwks import Fetch, IssuerKeys
from ..auth.jwt import IssuerSettings, name_of, names_of, verify
from ..config.identity import unforgeable_url
from ..config.oidc import OidcConfig, OidcRoleConfig
from ..errors import EdgeError, PolicyUnavailable
from ..server.admin_access import AdminIdentity

CALLBACK = "/oidc/callback"
START = "/oidc/start"
# Seconds that a user has at the provider, and of users who are there at one time.
STATE_SECONDS, MOST_STATES = 600.0, 1000
# Seconds after which the provider's description of itself is read again.
_METADATA_SECONDS = 3600.0
_MOST_BYTES = 1 << 20
_ERROR = re.compile(r"[a-z_]{1,64}")
_LONGEST_CODE = 4096

Post: TypeAlias = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[bytes]]
"""Takes a URL, the fields of a form and headers; returns the body. Raises OSError or TimeoutError."""


class OidcRefused(Exception):
    """The user cannot sign in. The text is for the user."""


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """What the provider says of itself."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str | None
    by_post: bool
    """The client's secret is sent in the form."""


@dataclass(frozen=True, slots=True)
class _Pending:
    nonce: str
    verifier: str = field(repr=False)
    cookie: str = field(repr=False)
    next_page: str
    expires: float


@dataclass(frozen=True, slots=True)
class OidcUser:
    identity: AdminIdentity
    id_token: str = field(repr=False)
    """For signing out at the provider."""
    next_page: str


class OidcFlow:
    """`tenants`: the names of the tenants. `now`: Unix time. `fetch` and `post`: of HTTP."""

    def __init__(
        self,
        settings: OidcConfig,
        tenants: Callable[[], Mapping[str, object]],
        now: Callable[[], float],
        fetch: Fetch,
        post: Post,
    ) -> None:
        self._settings = settings
        self._tenants = tenants
        self._now = now
        self._fetch = fetch
        self._post = post
        self._provider: tuple[float, OidcProvider] | None = None
        self._keys: IssuerKeys | None = None
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._issuer = IssuerSettings(
            settings.issuer, (settings.client_id,), settings.algorithms, settings.leeway.total_seconds()
        )

    @property
    def redirect_uri(self) -> str:
        return f"{self._settings.url}/ui{CALLBACK}"

    async def begin(self, next_page: str) -> tuple[str, str]:
        """The address at the provider, and the value of the cookie for this browser. Raises OidcRefused."""
        provider = await self._described()
        state, cookie, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(4))
        now = self._now()
        for name in [name for name, each in self._pending.items() if each.expires <= now]:
            del self._pending[name]
        self._pending[state] = _Pending(nonce, verifier, cookie, next_page, now + STATE_SECONDS)
        while len(self._pending) > MOST_STATES:
            self._pending.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        fields = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return _with_query(provider.authorization_endpoint, fields), cookie

    async def finish(self, query: Mapping[str, str], cookie: str) -> OidcUser:
        """The user of a callback. `cookie`: that of the browser. Raises OidcRefused."""
        pending = self._pending.pop(query.get("state", ""), None)
        if pending is None or pending.expires <= self._now() or not _same(pending.cookie, cookie):
            raise OidcRefused("The sign-in took too long, or was begun in another browser. Try again.")
        if query.get("iss", self._settings.issuer) != self._settings.issuer:
            raise OidcRefused("The answer is of another identity provider.")
        if "error" in query:
            reason = query["error"] if _ERROR.fullmatch(query["error"]) else "unknown error"
            raise OidcRefused(f"The identity provider has refused the sign-in: {reason}.")
        code = query.get("code", "")
        if not 0 < len(code) <= _LONGEST_CODE:
            raise OidcRefused("The identity provider has sent no code.")
        token = await self._exchanged(code, pending.verifier)
        claims = await self._verified(token, pending.nonce)
        return OidcUser(self._identity(claims), token, pending.next_page)

    async def sign_out_address(self, id_token: str) -> str | None:
        """Where the user signs out at the provider. None: it has no such page."""
        try:
            provider = await self._described()
        except OidcRefused:
            return None
        if provider.end_session_endpoint is None:
            return None
        fields = {
            "id_token_hint": id_token,
            "client_id": self._settings.client_id,
            "post_logout_redirect_uri": f"{self._settings.url}/ui/sign-in",
        }
        return _with_query(provider.end_session_endpoint, fields)

    # --- the provider

    async def _described(self) -> OidcProvider:
        if self._provider is not None and self._now() - self._provider[0] < _METADATA_SECONDS:
            return self._provider[1]
        url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            provider = self._read(json.loads(await self._fetch(url)))
        except (OSError, TimeoutError, ValueError, KeyError, TypeError, AttributeError):
            if self._provider is not None:  # it is only not reached now
                return self._provider[1]
            raise OidcRefused("The identity provider cannot be reached, or its description is not valid.") from None
        if self._keys is None or self._provider is None or self._provider[1].jwks_uri != provider.jwks_uri:
            # Only the provider itself can make this process fetch them: no pause is needed.
            self._keys = IssuerKeys(provider.jwks_uri, self._fetch, least_between=0.0)
        self._provider = (self._now(), provider)
        return provider

    def _read(self, described: Mapping[str, Any]) -> OidcProvider:
        """Raises ValueError or KeyError for a description that is not of this issuer, or not safe."""
        if described["issuer"] != self._settings.issuer:
            raise ValueError("the description is of another issuer")
        methods = described.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        end = described.get("end_session_endpoint")
        return OidcProvider(
            unforgeable_url(described["authorization_endpoint"]),
            unforgeable_url(described["token_endpoint"]),
            unforgeable_url(described["jwks_uri"]),
            unforgeable_url(end) if end is not None else None,
            "client_secret_basic" not in methods and "client_secret_post" in methods,
        )

    async def _exchanged(self, code: str, verifier: str) -> str:
        """The ID token."""
        provider, settings = await self._described(), self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": settings.client_id,
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        if settings.client_secret is not None:
            secret = settings.client_secret.reveal()
            if provider.by_post:
                form["client_secret"] = secret
            else:
                pair = f"{quote(settings.client_id, safe='')}:{quote(secret, safe='')}"
                headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        try:
            token = json.loads(await self._post(provider.token_endpoint, form, headers))["id_token"]
        except (OSError, TimeoutError, ValueError, KeyError, TypeError):
            raise OidcRefused("The identity provider has not accepted the code.") from None
        if not isinstance(token, str):
            raise OidcRefused("The identity provider has sent no ID token.")
        return token

    async def _verified(self, token: str, nonce: str) -> Mapping[str, Any]:
        keys = self._keys
        if keys is None:  # pragma: no cover - made with the description
            raise OidcRefused("The identity provider has no keys.")
        issuers = {self._settings.issuer: (self._issuer, keys)}
        try:
            try:
                claims = verify(token, issuers, self._now()).claims
            except PolicyUnavailable:  # its keys are new, or have not been fetched
                await keys.fetch_now()
                claims = verify(token, issuers, self._now()).claims
        except EdgeError as error:
            raise OidcRefused(f"The ID token is not valid: {error.message}.") from None
        if not isinstance(claims.get("nonce"), str) or not _same(claims["nonce"], nonce):
            raise OidcRefused("The ID token is of another sign-in.")
        audience = claims.get("aud")
        party = claims.get("azp")
        several = isinstance(audience, list) and len(audience) > 1
        if (several and party is None) or party not in (None, self._settings.client_id):
            raise OidcRefused("The ID token was issued for another client.")
        return claims

    # --- the user

    def _identity(self, claims: Mapping[str, Any]) -> AdminIdentity:
        names = self._settings.claims
        user = name_of(claims, names.user)
        if user is None or name_of(claims, "sub") is None:
            raise OidcRefused(f"The ID token has no claim {names.user} for its user.")
        values = frozenset(names_of(claims, names.roles))
        row = next((each for each in self._settings.roles if each.value in values), None)
        if row is None:
            raise OidcRefused("No role of this gateway is given to you. Ask its administrator.")
        # Ids of tokens and keys have no colon, so a user is never confused with one.
        return AdminIdentity(f"oidc:{user}", row.role, self._tenant(row, claims))

    def _tenant(self, row: OidcRoleConfig, claims: Mapping[str, Any]) -> str | None:
        claim = self._settings.claims.tenant
        if row.role == "admin":
            return None
        if row.tenant is None and claim is None:
            return None
        tenant = row.tenant if row.tenant is not None else name_of(claims, claim or "")
        if tenant is None or tenant not in self._tenants():
            raise OidcRefused("Your tenant is not one of this gateway.")
        return tenant


def _with_query(url: str, fields: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(fields)}"


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


async def post(url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
    """The body of a response with status 200. Raises OSError or TimeoutError."""
    import httpx2  # imported at the first sign-in

    try:
        async with (
            httpx2.AsyncClient(timeout=10.0, follow_redirects=False) as client,
            client.stream("POST", url, data=dict(form), headers={"accept": "application/json", **headers}) as answer,
        ):
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise OSError("the answer is over 1 MiB")
            if answer.status_code != 200:
                raise OSError(f"the token endpoint answered with status {answer.status_code}")
            return body
    except httpx2.HTTPError as error:
        raise OSError(f"the token endpoint cannot be reached: {type(error).__name__}") from error
