"""Authentication by API keys: `Authorization: Bearer <key>`, or the header that a caller's SDK uses.

A key is stored as HMAC-SHA256(pepper, key). Keys have high entropy, so a slow hash would cost a processor core without
a benefit; the pepper makes a stolen table useless. An unknown key and a wrong key take the same path: one digest, one
lookup by digest, one comparison in constant time. The timing of the lookup reveals nothing of a key, because the
pepper is secret.

An invalid credential gets status 401 with a `code` for the violated rule. A request with two different credentials is
refused: another component could use the one that the gateway does not use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ..errors import ConfigError, Unauthenticated
from ..model.principal import Principal
from .base import AuthSettings, Clock, Headers, KeySettings

Reason: TypeAlias = Literal[
    "missing_api_key",  # no header that could contain a key
    "malformed_api_key",  # a header without a valid key: empty, another scheme, invalid characters
    "duplicate_api_key",  # the same header twice
    "conflicting_api_keys",  # two headers with different keys
    "invalid_api_key",  # an unknown key
    "disabled_api_key",
    "expired_api_key",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Every `code` that this module raises. They are label values of a metric."""

# The headers that may contain a key, and the authentication scheme before it.
CREDENTIAL_HEADERS: dict[str, str | None] = {
    "authorization": "Bearer",  # OpenAI's SDKs and compatible ones
    "x-api-key": None,  # Anthropic's SDKs
    "x-goog-api-key": None,  # Google's SDKs
    "api-key": None,  # Azure's SDKs
}

MAX_KEY_LENGTH = 512
# Bytes. The gateway's own pepper has 32. One with less than 16 could be found by an attacker who has a key and its
# digest.
MIN_PEPPER_LENGTH = 16

_HOW = ", ".join(
    f"{name}: {scheme} <key>" if scheme else f"{name}: <key>" for name, scheme in CREDENTIAL_HEADERS.items()
)
# RFC 9110, section 11.4: the scheme is case-insensitive, and at least one space follows it.
_WITH_SCHEME = {
    name: re.compile(rf"(?i:{scheme}) +([^ ]+)") if scheme else re.compile(r"(.+)", re.DOTALL)
    for name, scheme in CREDENTIAL_HEADERS.items()
}
# No spaces, controls or obs-text, which two parsers could read differently.
_KEY = re.compile(r"[\x21-\x7e]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    digest: str = field(repr=False)
    key_id: str
    principal: Principal
    expires_at: float | None = None
    """Unix time in seconds. The key is invalid from this second on."""
    disabled: bool = False


_NOBODY = KeyRecord("0" * 64, "", Principal("", ""), disabled=True)


def digest(pepper: bytes, key: str) -> str:
    """The stored form of a key: 64 lower-case hexadecimal digits."""
    return hmac.digest(pepper, key.encode(), "sha256").hex()


class _Digester:
    """The function `digest`, with the pepper's part of HMAC (RFC 2104) computed once. Unlike `hmac.digest` it does not
    release the interpreter lock to other threads: that saves 20 µs for each request, measured."""

    def __init__(self, pepper: bytes) -> None:
        block = (hashlib.sha256(pepper).digest() if len(pepper) > _BLOCK else pepper).ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, key: str) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(key.encode())
        outer.update(inner.digest())
        return outer.hexdigest()


# The block size of SHA-256 in bytes.
_BLOCK = 64


class ApiKeys:
    """Authenticates keys by their digests. Raises ConfigError if two records have the same digest."""

    def __init__(self, records: Iterable[KeyRecord], pepper: bytes, clock: Clock = time.time) -> None:
        if len(pepper) < MIN_PEPPER_LENGTH:
            raise ConfigError(f"the pepper of the API keys has {len(pepper)} bytes; give at least {MIN_PEPPER_LENGTH}")
        self._digest = _Digester(pepper).digest
        self._clock = clock
        self._records: dict[str, KeyRecord] = {}
        for record in records:
            if _DIGEST.fullmatch(record.digest) is None:
                raise ConfigError(f"the digest of key {record.key_id!r} is not 64 lower-case hexadecimal digits")
            twin = self._records.setdefault(record.digest, record)
            if twin is not record:
                raise ConfigError(f"{twin.key_id!r} and {record.key_id!r} are the same key; leave one of them out")

    def authenticate(self, headers: Headers) -> Principal:
        return self.principal_of(credential(headers))

    def principal_of(self, key: str) -> Principal:
        """The caller with this key. Raises Unauthenticated."""
        presented = self._digest(key)
        record = self._records.get(presented)
        same = hmac.compare_digest(presented, (record or _NOBODY).digest)
        if record is None or not same:
            raise _refused(
                "invalid_api_key", "the API key is not known here; send a key of this gateway, not of a provider"
            )
        # Only a caller who has the key learns its state.
        if record.disabled:
            raise _refused("disabled_api_key", "this API key is disabled; ask the operator of the gateway for another")
        if record.expires_at is not None and self._clock() >= record.expires_at:
            raise _refused("expired_api_key", "this API key has expired; ask the operator of the gateway for another")
        return record.principal


def credential(headers: Headers, longest: int = MAX_KEY_LENGTH) -> str:
    """The one well-formed credential in these headers. Raises Unauthenticated."""
    keys: dict[str, str] = {}
    for name, value in [pair for pair in headers if pair[0] in CREDENTIAL_HEADERS]:
        if name in keys:
            raise _refused("duplicate_api_key", f"the header {name} was sent more than once")
        keys[name] = _key(name, value, longest)
    if not keys:
        raise _refused("missing_api_key", f"no API key was sent; send one of these headers: {_HOW}")
    if len(keys) > 1 and len(set(keys.values())) > 1:
        raise _refused("conflicting_api_keys", f"{' and '.join(sorted(keys))} contain different API keys; send one")
    return keys.popitem()[1]


def _key(name: str, value: str, longest: int) -> str:
    if not value:
        raise _refused("malformed_api_key", f"the header {name} is empty")
    match = _WITH_SCHEME[name].fullmatch(value)
    if match is None:
        raise _refused("malformed_api_key", f"the header {name} must be {CREDENTIAL_HEADERS[name]!r}, a space, the key")
    key = match[1]
    if len(key) > longest:
        raise _refused("malformed_api_key", f"the key in {name} is longer than {longest} characters")
    if _KEY.fullmatch(key) is None:
        raise _refused("malformed_api_key", f"the key in {name} contains a character that is not allowed in an API key")
    return key


def _refused(reason: Reason, message: str) -> Unauthenticated:
    error = Unauthenticated(message)
    error.code = reason
    return error


class ApiKeyKind:
    def build(self, settings: AuthSettings, clock: Clock = time.time) -> ApiKeys:
        """An authenticator for the configured keys. Raises ConfigError with the id of a key, never the key."""
        return ApiKeys((_record(key, settings.pepper) for key in settings.keys), settings.pepper, clock)


def _record(key: KeySettings, pepper: bytes) -> KeyRecord:
    principal = Principal(key.tenant, key.id, key.models, key.team, key.user, key.roles)
    match key:
        case KeySettings(secret=None, digest=str(stored)):
            pass
        case KeySettings(digest=None) if key.secret is not None:
            secret = key.secret()
            if len(secret) > MAX_KEY_LENGTH or _KEY.fullmatch(secret) is None:
                raise ConfigError(
                    f"key {key.id!r} must be 1 to {MAX_KEY_LENGTH} printable ASCII characters without spaces"
                )
            stored = digest(pepper, secret)
        case _:
            raise ConfigError(f"key {key.id!r} needs either the key itself or its digest, not both")
    return KeyRecord(stored, key.id, principal, key.expires_at, key.disabled)


PLUGIN = ApiKeyKind()
