"""AWS Signature Version 4: headers that prove who asks, over the request as the host will see it.

Pure: time and keys come in as arguments. Signed are the Host header, the date and the session token, and the body by
its hash; no other header, so that what Envoy adds or changes on the way does not break a signature.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from .base import NoCredential, Pairs

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class AwsKeys:
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """With temporary keys."""


class SigV4:
    """Signs for one service in one region, with whatever keys hold now."""

    def __init__(self, keys: Callable[[], AwsKeys], region: str, service: str, clock: Callable[[], float]) -> None:
        """`keys` may raise Unavailable; `clock` gives Unix time in seconds."""
        self._keys = keys
        self._region = region
        self._service = service
        self._clock = clock

    def headers(self, request: NoCredential) -> Pairs:
        return sign(request, self._keys(), self._region, self._service, self._clock())


def sign(request: NoCredential, keys: AwsKeys, region: str, service: str, now: float) -> Pairs:
    """The headers to add to `request`; `now` is Unix time in seconds."""
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


def _canonical(request: NoCredential, signed: list[tuple[str, str]], names: str) -> bytes:
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
    """Without dot segments and doubled slashes, and escaped once more than on the wire: so has every service but S3."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    last = "/" if kept and path.endswith("/") else ""
    return quote("/" + "/".join(kept) + last, safe="/~")


def _pairs(query: str) -> list[tuple[str, str]]:
    """As they are on the wire: escaped already."""
    found = []
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        found.append((name, value))
    return found


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = _hmac(b"AWS4" + secret.encode(), day)
    for part in (region, service, "aws4_request"):
        key = _hmac(key, part)
    return key
