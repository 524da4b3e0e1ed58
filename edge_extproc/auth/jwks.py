"""The public keys of a token issuer: fetched in the background, and kept while the issuer is unreachable.

A token with an unknown key triggers one fetch, and at most one within a time, however many such tokens arrive. Until
the fetch is done, the key cannot be called wrong. The same applies to a token whose signature does not fit its key: an
issuer may have replaced the key under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from ..telemetry.background import BACKGROUND

PublicKey: TypeAlias = RSAKey | ECKey | OKPKey
Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""Takes a URL and returns the body. Raises OSError or TimeoutError."""

# The maximum number of keys in a set. No issuer has as many.
_MAX_KEYS = 100
_MAX_BYTES = 1 << 20
_TIMEOUT = 5.0
# Bits. Shorter RSA keys can be factored.
_MIN_RSA_BITS = 2048


class InvalidKeySet(Exception):
    """The body is not a valid set of keys."""


class IssuerKeys:
    """The keys of one issuer, by key id."""

    def __init__(
        self,
        url: str,
        fetch: Fetch,
        *,
        refresh: float = 600.0,
        least_between: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        on_error: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._refresh = refresh
        self._least_between = least_between
        self._clock = clock
        self.on_change: Callable[[], None] = _ignore_change
        """Called when the set of keys changes."""
        self._on_error = on_error
        self._keys: Mapping[str, PublicKey] = {}
        self._raw: bytes | None = None
        self._fetched_at: float | None = None
        """When a fetch last succeeded."""
        self._tried_at: float | None = None
        self.attempted = asyncio.Event()
        """The first fetch has succeeded or failed."""
        self._refresh_requested = asyncio.Event()
        self._fetching = False
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def find(self, kid: str | None) -> PublicKey | None:
        """The key with this id. Without an id, the only key of the set, if there is exactly one."""
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def may_be_new(self) -> bool:
        """Whether an unknown key may still exist. In that case a fetch is in progress, or has failed."""
        now = self._clock()
        if self._fetched_at is not None and now - self._fetched_at < self._least_between:
            return False
        if self._tried_at is None or now - self._tried_at >= self._least_between:
            self._refresh_requested.set()
        return True

    def may_be_replaced(self) -> bool:
        """Whether a known key may have been replaced under its id. In that case a fetch is in progress. Unlike
        `may_be_new`, it is false after a failed fetch: then the known keys count."""
        if self._fetching or self._refresh_requested.is_set():
            return True
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < self._least_between:
            return False
        self._refresh_requested.set()
        return True

    def start(self) -> None:
        self._task = BACKGROUND.start("jwks", self._run)

    async def close(self) -> None:
        self._closing = True
        self._refresh_requested.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def fetch_now(self) -> None:
        """Fetches the keys. It never raises: after an error the current keys stay."""
        self._tried_at = self._clock()
        self._fetching = True
        try:
            raw = await self._fetch(self._url)
            keys = read(raw)
        except (OSError, TimeoutError, InvalidKeySet) as error:
            self._on_error(error)
        else:
            self._fetched_at = self._clock()
            if raw != self._raw:
                self._raw, self._keys = raw, keys
                # Tokens of a removed key are no longer valid.
                self.on_change()
        finally:
            self._fetching = False
            self.attempted.set()

    async def _run(self) -> None:
        while not self._closing:
            self._refresh_requested.clear()
            await self.fetch_now()
            wait = self._refresh if self._fetched_at == self._tried_at or self._keys else self._least_between / 6
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._refresh_requested.wait()


def read(raw: bytes) -> dict[str, PublicKey]:
    """The keys of a JSON Web Key Set that can verify signatures, by key id. Raises InvalidKeySet."""
    if len(raw) > _MAX_BYTES:
        raise InvalidKeySet("the set of keys is over 1 MiB")
    try:
        root = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:  # ValueError: invalid UTF-8
        raise InvalidKeySet("the set of keys is not JSON") from error
    listed = root.get("keys") if isinstance(root, dict) else None
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise InvalidKeySet("the body is not a set of keys")
    keys: dict[str, PublicKey] = {}
    for n, each in enumerate(listed):
        key = _key(each)
        if key is not None:
            kid = each.get("kid")
            keys[kid if isinstance(kid, str) else f"\n{n}"] = key
    if not keys:
        raise InvalidKeySet("no key of the set can verify a signature")
    return keys


def _key(member: object) -> PublicKey | None:
    """The public key of a member. None for published secrets, encryption keys and unknown key types."""
    if not isinstance(member, dict) or member.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if member.get("use", "sig") != "sig" or "verify" not in member.get("key_ops", ["verify"]):
        return None
    public: dict[str, str | list[str]] = {
        name: value for name, value in member.items() if name in _PUBLIC and isinstance(value, str)
    }
    try:
        key = import_key(public)
    except Exception:  # noqa: BLE001 - joserfc raises KeyError and exceptions of other libraries for an invalid key
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < _MIN_RSA_BITS:
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None


def _ignore_change() -> None:
    """Does nothing."""


_PUBLIC = frozenset({"kty", "n", "e", "crv", "x", "y", "alg", "kid"})


async def fetch(url: str) -> bytes:
    """The body at a URL. Raises OSError or TimeoutError."""
    import httpx2  # imported only if an issuer is configured

    try:
        async with (
            httpx2.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise OSError(f"the issuer's key URL answered with status {answer.status_code}")
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MAX_BYTES:
                    raise OSError("the issuer's keys are over 1 MiB")
            return body
    except httpx2.HTTPError as error:
        raise OSError(f"the issuer's keys cannot be fetched: {type(error).__name__}") from error
