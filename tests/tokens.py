"""An issuer of tokens for tests: its keys, its set of keys, and what it signs."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

ISSUER = "https://issuer.example"
AUDIENCE = "edge"
NOW = 1_800_000_000.0

RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER = RSAKey.generate_key(2048, {"kid": "other"})


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys or (RSA, EC, ED)]}).encode()


def claims(**more: Any) -> dict[str, Any]:
    all_claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "exp": NOW + 60, **more}
    return {name: value for name, value in all_claims.items() if value is not None}


def token(key: Any = RSA, algorithm: str = "RS256", header: dict[str, Any] | None = None, **more: Any) -> str:
    wanted = {"alg": algorithm, "kid": key.kid, **(header or {})}
    return jwt.encode(
        {name: value for name, value in wanted.items() if value is not None}, claims(**more), key, [algorithm]
    )


def by_hand(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"x") -> str:
    """A token that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_with_the_public_key_as_a_secret() -> str:
    """The classic confusion: HS256 with the RSA key's public half."""
    header, body, _ = by_hand({"alg": "HS256", "kid": "rsa"}, claims()).split(".")
    signature = hmac.digest(RSA.as_pem(private=False), f"{header}.{body}".encode(), "sha256")
    return f"{header}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
