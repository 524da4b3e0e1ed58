"""AWS Signature Version 4: the headers that sign a request.

The functions are pure; time and keys are arguments. The signature covers the Host header, the date, the session token
and the hash of the body. It covers no other header, because Envoy may add or change headers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from .base import Pairs, UnsignedRequest

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsKeys:
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """For temporary keys."""


class SigV4:
    """The credential for one service in one region. It signs with the current keys."""

    def __init__(self, keys: Callable[[], AwsKeys], region: str, service: str, clock: Callable[[], float]) -> None:
        """`keys` may raise Unavailable. `clock`: Unix time in seconds."""
        self._keys = keys
        self._region = region
        self._service = service
        self._clock = clock

    def headers(self, request: UnsignedRequest) -> Pairs:
        return sign(request, self._keys(), self._region, self._service, self._clock())


def sign(request: UnsignedRequest, keys: AwsKeys, region: str, service: str, now: float) -> Pairs:
    """The headers to add to `request`. `now`: Unix time in seconds."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    day = moment[:8]
    signed = [("host", request.host), ("x-amz-date", moment)]
    if keys.session_token is not None:
        signed.append(("x-amz-security-token", keys.session_token))
    names = ";".join(name for name, _ in signed)
    scope = f"{day}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(_canonical(request, signed, names)).hexdigest()
    to_sign = f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"
    signature = _hmac(_signing_key(keys.secret_key, day, region, service), to_sign).hex()
    proof = f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return (*signed[1:], ("authorization", proof))


def _canonical(request: UnsignedRequest, signed: list[tuple[str, str]], names: str) -> bytes:
    path, _, query = request.path.partition("?")
    lines = (
        request.method.upper(),
        _canonical_path(path),
        "&".join("=".join(pair) for pair in sorted(_pairs(query))),
        *(f"{name}:{' '.join(value.split())}" for name, value in signed),
        "",
        names,
        hashlib.sha256(request.body).hexdigest(),
    )
    return "\n".join(lines).encode()


def _canonical_path(path: str) -> str:
    """The path without dot segments and doubled slashes, escaped once more than it is sent, as for every service but
    S3."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    last = "/" if segments and path.endswith("/") else ""
    return quote("/" + "/".join(segments) + last, safe="/~")


def _pairs(query: str) -> list[tuple[str, str]]:
    """The pairs of a query, which are escaped already."""
    pairs = []
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        pairs.append((name, value))
    return pairs


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = _hmac(b"AWS4" + secret.encode(), day)
    for part in (region, service, "aws4_request"):
        key = _hmac(key, part)
    return key
