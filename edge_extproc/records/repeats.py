"""Repeated requests of one tenant under one idempotency key: the first is sent, the others get its reply.

A record under the tenant and the key is in one of these states:

    begun    a worker sends the request; the record expires unless that worker renews it
    done     the reply, encrypted
    unkept   the request was answered, and its reply was too long to be kept

If the first request has no complete reply, its record is removed, and the next one is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import msgspec

from ..errors import AlreadyAnswered, InProgress, KeyReused, PolicyUnavailable
from ..model.frozen_dataclass import frozen_dataclass
from ..telemetry.background import BACKGROUND
from .base import RecordStore, RecordStoreDown, record_name

_PURPOSE = "repeat"
# A plain reply is one that an earlier version wrote. It is read until it expires.
_BEGUN, _SEALED, _PLAIN, _UNKEPT = b"B", b"E", b"D", b"U"
FINGERPRINT_BYTES = 16
# Seconds. A begun record is renewed several times in its life, so that only a dead worker's record expires.
_LEASE, _RENEWAL = 30.0, 8.0
# Seconds. How long a repeated request waits for the reply, and how often it looks. Envoy waits for 30 s at most.
WAIT = 25.0
_FIRST_POLL, _LAST_POLL = 0.02, 0.5


class IdempotentReply(msgspec.Struct, frozen=True, array_like=True):
    """A complete reply, as the caller got it."""

    status: int
    content_type: str
    body: bytes


_read_reply = msgspec.msgpack.Decoder(IdempotentReply).decode
_write = msgspec.msgpack.Encoder().encode


@frozen_dataclass
class RepeatSettings:
    """Durations in seconds."""

    window: float
    """How long a reply is kept."""
    max_reply: int
    """Bytes of the longest reply that is kept."""
    wait: float = WAIT


class ReplyCipher(Protocol):
    """Encrypts a reply for the record of this tenant and key."""

    def seal(self, tenant: str, id: str, block: bytes) -> bytes: ...

    def open_or_none(self, tenant: str, id: str, sealed: bytes) -> bytes | None:
        """None: it was changed, belongs to another record, or was encrypted with a key that is not configured."""
        ...


class Repeats:
    def __init__(self, store: RecordStore, settings: RepeatSettings, build_cipher: Callable[[], ReplyCipher]) -> None:
        """`build_cipher`: called in a thread when the first request has a key, because it loads a large library."""
        self._store = store
        self.settings = settings
        self._build_cipher = build_cipher
        self._cipher: ReplyCipher | None = None
        self._begun: set[RepeatClaim] = set()
        self._released: deque[RepeatClaim] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(
        self, tenant: str, key: str, fingerprint: bytes, more_time: Callable[[float], Awaitable[None]]
    ) -> RepeatClaim | IdempotentReply:
        """The right to send this request, or the reply to an equal one. `fingerprint`: a digest of the request. Waits
        while an equal request is in progress; `more_time` is called first. Raises KeyReused, InProgress,
        AlreadyAnswered, and PolicyUnavailable."""
        await self._drain()
        cipher = self._cipher
        if cipher is None:
            cipher = self._cipher = await asyncio.to_thread(self._build_cipher)
        name = record_name(_PURPOSE, tenant, key)
        begun = _BEGUN + fingerprint + secrets.token_bytes(8)
        deadline, pause = time.monotonic() + self.settings.wait, _FIRST_POLL
        while True:
            existing = await self._existing(name, begun, first=pause == _FIRST_POLL)
            if existing is None:
                claim = RepeatClaim(self, name, begun, partial(cipher.seal, tenant, key))
                self._begun.add(claim)
                return claim
            reply = _reply(existing, fingerprint, partial(cipher.open_or_none, tenant, key))
            if reply is not None:
                return reply
            if pause == _FIRST_POLL:
                await more_time(self.settings.wait + 4.0)
            if time.monotonic() + pause > deadline:
                raise InProgress("a request with this Idempotency-Key is still in progress", retry_after=1.0)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_POLL)

    async def _existing(self, name: bytes, begun: bytes, *, first: bool) -> bytes | None:
        """The record of an equal request. None: there was none, and ours was added. A request that waits only reads,
        as long as there is a record."""
        try:
            existing = None if first else (await self._store.get([name]))[0]
            return existing if existing is not None else await self._store.claim(name, begun, _LEASE)
        except RecordStoreDown as error:
            raise PolicyUnavailable("the Idempotency-Key cannot be checked now; try again") from error

    async def finish(self, claim: RepeatClaim, reply: IdempotentReply | None) -> None:
        """Keeps the reply. None: it is too long."""
        self._begun.discard(claim)
        fingerprint = claim.begun[1 : 1 + FINGERPRINT_BYTES]
        value = _UNKEPT + fingerprint if reply is None else _SEALED + fingerprint + claim.seal(_write(reply))
        with contextlib.suppress(RecordStoreDown):
            await self._store.replace(claim.name, claim.begun, value, self.settings.window)

    def release(self, claim: RepeatClaim) -> None:
        """The request has no complete reply: the next one may be sent."""
        self._begun.discard(claim)
        self._released.append(claim)
        self._wake.set()

    def start(self) -> None:
        self._task = BACKGROUND.start("idempotency_keys", self._run)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._drain()

    async def _run(self) -> None:
        """Removes the records of released claims at once, and renews the others."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _RENEWAL)
            if self._wake.is_set():
                self._wake.clear()
                await self._drain()
            else:
                await self.renew()

    async def _drain(self) -> None:
        while self._released:
            claim = self._released.popleft()
            with contextlib.suppress(RecordStoreDown):  # then it expires
                await self._store.remove(claim.name, claim.begun)

    async def renew(self) -> None:
        for claim in tuple(self._begun):
            with contextlib.suppress(RecordStoreDown):
                await self._store.replace(claim.name, claim.begun, claim.begun, _LEASE)


def _reply(record: bytes, fingerprint: bytes, opened: Callable[[bytes], bytes | None]) -> IdempotentReply | None:
    """The reply of a record. None: the request is in progress. `opened` decrypts. Raises KeyReused and
    AlreadyAnswered."""
    state, other, rest = record[:1], record[1 : 1 + FINGERPRINT_BYTES], record[1 + FINGERPRINT_BYTES :]
    if other != fingerprint:
        raise KeyReused("this Idempotency-Key was used for another request; use a new one for each request")
    if state == _UNKEPT:
        raise AlreadyAnswered(
            "a request with this Idempotency-Key was answered already, and its reply was too long to be kept"
        )
    if state not in (_SEALED, _PLAIN):
        return None
    block = opened(rest) if state == _SEALED else rest
    try:
        return _read_reply(block if block is not None else b"")
    except msgspec.DecodeError:
        raise AlreadyAnswered(
            "a request with this Idempotency-Key was answered already, and its reply cannot be read: the gateway no "
            "longer has its key, or the record was changed"
        ) from None


class RepeatClaim:
    """The right to send one request. Call `finish` or `release` once."""

    __slots__ = ("_repeats", "begun", "name", "seal")

    def __init__(self, repeats: Repeats, name: bytes, begun: bytes, seal: Callable[[bytes], bytes]) -> None:
        self._repeats = repeats
        self.name = name
        self.begun = begun
        """The value of its record."""
        self.seal = seal
        """Encrypts a reply for its record."""

    @property
    def max_reply(self) -> int:
        return self._repeats.settings.max_reply

    async def finish(self, reply: IdempotentReply | None) -> None:
        await self._repeats.finish(self, reply)

    def release(self) -> None:
        self._repeats.release(self)
