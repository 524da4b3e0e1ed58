"""The far tier: a store that many share, held so that it can never hold up a call.

A look-up has a budget of a few milliseconds, and goes on behind the call's back if it takes longer: the connection
stays whole, and what comes late is kept near. After some failures in a row the store is left alone until it answers a
ping in time again. Writes wait in a bounded queue. One log line says that the store is down, one that it is back.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from ..errors import BadRequest, Unavailable
from ..telemetry.background import BACKGROUND
from .base import CacheEntry, CacheListener, L2Result, PurgeSelection
from .key import CacheKey, CacheOwner
from .packing import UnreadableEntry, pack, unpack
from .purge import read_selection, write_selection

# So many failures in a row, and the store is left alone.
_MOST_FAILURES = 5
# Look-ups that are under way; more would wait for each other.
_MOST_LOOKUPS = 256
# What may wait to be written.
_MOST_WAITING = 1000
_MOST_WAITING_BYTES = 32 << 20
# While another worker asks a provider, the store is looked at this often, seconds: first and at last.
_LOOK_FIRST, _LOOK_LAST = 0.02, 0.25


class CacheStoreError(Exception):
    """`why` is one of few words: unreachable, refused, full. `reason` says more, without a secret."""

    def __init__(self, why: str, reason: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.reason = reason or why


@dataclass(frozen=True, slots=True)
class FlightLease:
    """Who asks a provider, so that others may wait."""

    token: str
    milliseconds: int
    stale: int = 0
    """An entry that the store keeps for no longer than so many milliseconds is over its time: take the lease."""


@dataclass(frozen=True, slots=True)
class StoreResult:
    value: bytes | None
    leads: bool
    """The lease is ours now."""
    led: bool
    """Somebody else has it."""


class Purges(msgspec.Struct, frozen=True):
    noted: int
    """How many there ever were."""
    told: tuple[str, ...] = ()
    """The last of them, oldest first."""


class CacheStore(Protocol):
    """Names and bytes. Everything raises StoreError and nothing else."""

    def name(self, key: CacheKey) -> str: ...

    def patterns(self, owners: Sequence[str], model: str | None, digest: bytes | None) -> tuple[str, ...]: ...

    async def get(self, name: str, lease: FlightLease | None) -> StoreResult: ...

    async def look(self, name: str) -> StoreResult: ...

    async def put(self, name: str, packed: bytes, milliseconds: int, token: str) -> None: ...

    async def release(self, name: str, token: str) -> None: ...

    async def purge(self, patterns: Sequence[str]) -> int: ...

    async def note_purge(self, told: str) -> None:
        """For the other processes that share the store."""
        ...

    async def purges(self) -> Purges: ...

    async def prove(self) -> None:
        """That it can be reached and written to now."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreTierSettings:
    """Durations in seconds."""

    ttl: float
    budget: float
    """What a look-up may add to a call."""
    compress_above: int
    """Bytes."""
    ask_again: float = 1.0
    """How often a store that is down is asked whether it is back."""
    hear_purges: float = 1.0
    """How often the store is asked what others have purged."""


class StoreTier:
    def __init__(
        self,
        store: CacheStore,
        settings: StoreTierSettings,
        watcher: CacheListener,
        on_late: Callable[[CacheKey, CacheEntry], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_late` is given what came after its call had gone on. `clock` is Unix time."""
        self.ttl = settings.ttl
        self._store = store
        self._settings = settings
        self._watcher = watcher
        self._on_late = on_late
        self._clock = clock
        self._failures = 0
        self.down: str | None = None
        """Why the store is left alone now."""
        self._recovering: asyncio.Task[None] | None = None
        self._lookups: set[asyncio.Task[StoreResult]] = set()
        self._waiting: deque[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = deque()
        self._waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._is_full = False
        self._closed = False
        self._hearing: asyncio.Task[None] | None = None

    @property
    def is_down(self) -> bool:
        return self._recovering is not None

    @property
    def waiting(self) -> int:
        """How many writes are still to be sent."""
        return len(self._waiting)

    # --- look-ups

    async def get(self, key: CacheKey, lease_seconds: float, stale: float = 0.0) -> L2Result:
        """With `lease_seconds`, others wait for us if there is nothing yet."""
        if self.is_down or self._closed:
            return _NOTHING
        if len(self._lookups) >= _MOST_LOOKUPS:
            self._watcher.cache_failed("redis", "busy")
            return _NOTHING
        name = self._store.name(key)
        lease = None
        if lease_seconds > 0:
            lease = FlightLease(secrets.token_hex(8), int(lease_seconds * 1000), int(stale * 1000))
        token = lease.token if lease is not None else None
        asking = asyncio.ensure_future(self._store.get(name, lease))
        self._lookups.add(asking)
        asking.add_done_callback(self._lookups.discard)
        try:
            done, _ = await asyncio.wait((asking,), timeout=self._settings.budget)
        except asyncio.CancelledError:
            if token is not None:  # nobody will, after us
                asking.add_done_callback(lambda _: self.release(key, token))
            raise
        if not done:
            asking.add_done_callback(lambda late: self._late(key, late))
            self._failed(CacheStoreError("slow", "it is slower than cache.redis.budget"))
            # The lease may still become ours: it is given back as if it were.
            return L2Result(None, token, elsewhere=False)
        try:
            answer = asking.result()
        except CacheStoreError as error:
            self._failed(error)
            return L2Result(None, token, elsewhere=False)
        self._failures = 0
        entry = self._read(key, answer.value)
        fresh = entry is not None and self._is_fresh(entry)
        ours = token if answer.leads else None
        return L2Result(entry if fresh else None, ours, elsewhere=answer.led, stale=None if fresh else entry)

    async def wait(self, key: CacheKey, patience: float) -> CacheEntry | None:
        """The reply that another worker is asking for, if it comes within `patience` seconds."""
        name, pause = self._store.name(key), _LOOK_FIRST
        deadline = time.monotonic() + patience
        while not self.is_down and time.monotonic() + pause < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LOOK_LAST)
            try:
                answer = await asyncio.wait_for(self._store.look(name), deadline - time.monotonic())
            except TimeoutError:
                return None
            except CacheStoreError as error:
                self._failed(error)
                return None
            entry = self._read(key, answer.value)
            if entry is not None and self._is_fresh(entry):
                return entry
            if not answer.led:
                return None
        return None

    def _read(self, key: CacheKey, value: bytes | None) -> CacheEntry | None:
        if value is None:
            return None
        try:
            entry = unpack(key.digest, value)
        except UnreadableEntry as error:
            self._watcher.cache_failed("redis", error.why)
            return None
        # The store forgets by itself; a clock or a config that has changed may say sooner.
        return entry if self._clock() < self._ends(entry) + entry.stale else None

    def _ends(self, entry: CacheEntry) -> float:
        """When its time is over."""
        return entry.stored_at + (self.ttl if entry.ttl is None else entry.ttl)

    def _is_fresh(self, entry: CacheEntry) -> bool:
        return self._clock() < self._ends(entry)

    def _late(self, key: CacheKey, asking: asyncio.Task[StoreResult]) -> None:
        if asking.cancelled() or asking.exception() is not None:
            return
        entry = self._read(key, asking.result().value)
        if entry is not None:
            self._on_late(key, entry)

    # --- writes

    def put(self, key: CacheKey, entry: CacheEntry, token: str | None) -> None:
        try:
            packed = pack(key.digest, entry, self._settings.compress_above)
        except ValueError:
            self._watcher.cache_failed("redis", "unwritable")
            return
        name = self._store.name(key)
        milliseconds = max(1, int((self._ends(entry) + entry.stale - self._clock()) * 1000))

        async def write() -> None:
            try:
                await self._store.put(name, packed, milliseconds, token or "")
            except CacheStoreError as error:
                if token is not None and error.why == "full":
                    await self._store.release(name, token)
                raise
            self._watcher.cache_wrote("redis")

        self._later(len(packed), write)

    def release(self, key: CacheKey, token: str) -> None:
        name = self._store.name(key)
        self._later(len(name), lambda: self._store.release(name, token))

    def _later(self, size: int, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.is_down or self._closed:
            return
        if len(self._waiting) >= _MOST_WAITING or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            self._watcher.cache_failed("redis", "write_dropped")
            return
        self._waiting.append((size, write))
        self._waiting_bytes += size
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while self._waiting:
            size, write = self._waiting.popleft()
            self._waiting_bytes -= size
            try:
                await write()
            except CacheStoreError as error:
                if error.why == "full":
                    self._full()
                else:
                    self._failed(error)
            else:
                self._is_full = False

    def _full(self) -> None:
        """It still answers: look-ups go on."""
        self._watcher.cache_failed("redis", "full")
        if not self._is_full:
            self._is_full = True
            structlog.get_logger().warning(
                "cache store full", hint="give it an eviction policy, such as allkeys-lru, or more memory"
            )

    # --- down, and back

    def _failed(self, error: CacheStoreError) -> None:
        self._watcher.cache_failed("redis", error.why)
        self._failures += 1
        if self._failures >= _MOST_FAILURES and not self.is_down and not self._closed:
            structlog.get_logger().warning("cache store down", reason=error.reason)
            self.down = error.reason
            self._watcher.cache_is_down("redis", down=True)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._recovering = BACKGROUND.start("cache_recovery", self._recover)

    async def _recover(self) -> None:
        # Not for ever, whatever a library makes of a cancellation: `close` waits for this.
        while not await self._is_quick():
            if self._closed:
                return
            await asyncio.sleep(self._settings.ask_again)
        self._failures = 0
        self._recovering = None
        self.down = None
        structlog.get_logger().info("cache store back")
        self._watcher.cache_is_down("redis", down=False)

    async def _is_quick(self) -> bool:
        try:
            await self._store.prove()  # connects, if need be
            began = time.monotonic()
            await self._store.prove()
        except CacheStoreError as error:
            if error.why != "full":  # it still answers
                self.down = error.reason
                return False
        return time.monotonic() - began <= self._settings.budget

    # --- the rest

    async def purge(self, selection: PurgeSelection) -> int:
        owners: list[str] = []
        if selection.tenant is not None:
            owners.append(CacheOwner("tenant", selection.tenant).name)
            owners.append(CacheOwner("team", selection.tenant, "").name + "*")
        if selection.shared:
            owners.append("global")
        try:
            gone = await self._store.purge(self._store.patterns(owners or ["*"], selection.model, selection.digest))
            # Afterwards: who hears of it sooner could still find here what it has just let go of.
            await self._store.note_purge(write_selection(selection).decode())
            return gone
        except CacheStoreError as error:
            raise Unavailable(f"the cache's store did not purge all: {error.why}; try again") from error

    def hear_purges(self, purged: Callable[[PurgeSelection], object]) -> None:
        """Tells `purged` of what any process that shares the store purges from now on, a second later. While the store
        is down, nobody can purge it either; what was missed is made up for when it is back."""
        self._hearing = BACKGROUND.start("cache_purges", lambda: self._hear(purged))

    async def _hear(self, purged: Callable[[PurgeSelection], object]) -> None:
        heard: int | None = None
        missed = False
        while not self._closed:
            try:
                found = await self._store.purges()
            except CacheStoreError as error:
                missed = True
                if not self.is_down:
                    self._failed(CacheStoreError("purges_unheard", error.reason))
            else:
                if heard is None:
                    heard = found.noted if not missed else -1
                for selection in _news(heard, found):
                    purged(selection)
                heard = found.noted
            await asyncio.sleep(self._settings.hear_purges)

    async def close(self) -> None:
        """Writes what waits, for a moment."""
        self._closed = True
        for task in (self._recovering, self._hearing):
            if task is not None:
                task.cancel()
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=1.0)
            self._writing.cancel()
        for asking in self._lookups:
            asking.cancel()
        await asyncio.gather(
            *self._lookups,
            *(t for t in (self._recovering, self._hearing, self._writing) if t is not None),
            return_exceptions=True,
        )
        await self._store.close()


_EVERYTHING = PurgeSelection()


def _news(heard: int, found: Purges) -> Sequence[PurgeSelection]:
    """What was purged after the first `heard`; everything, where that cannot be told any more."""
    new = found.noted - heard
    if new == 0:
        return ()
    if not 0 <= new <= len(found.told):
        return (_EVERYTHING,)
    try:
        return [read_selection(each.encode()) for each in found.told[len(found.told) - new :]]
    except BadRequest:  # of another version
        return (_EVERYTHING,)


_NOTHING = L2Result(None, None, elsewhere=False)
