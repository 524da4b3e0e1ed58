"""The L2 tier: a store that many processes share. It never delays a call by more than a few milliseconds.

- A lookup has a time budget. If it takes longer, the call goes on, and the lookup ends in the background. So the
  connection stays usable, and the late entry is stored in L1.
- After some failures in a row the store is not used until it answers a probe in time. One log line says that it is
  down, one that it is back.
- Writes wait in a bounded queue.
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

# After so many failures in a row, the store is not used for a time.
_MAX_FAILURES = 5
# Lookups in progress. More would only wait for each other.
_MAX_LOOKUPS = 256
# The bounds of the write queue.
_MAX_QUEUED = 1000
_MAX_QUEUED_BYTES = 32 << 20
# While another process fetches the reply, the store is polled at this interval, seconds: the first and the longest.
_FIRST_POLL, _LAST_POLL = 0.02, 0.25


class CacheStoreError(Exception):
    """`why` is a metric label: unreachable, refused, full, slow or purges_unheard. `reason` is a longer text for logs,
    without secrets."""

    def __init__(self, why: str, reason: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.reason = reason or why


@dataclass(frozen=True, slots=True)
class FlightLease:
    """The right to fetch the reply for a key, while other processes wait for it."""

    token: str
    """Random; identifies the holder."""
    milliseconds: int
    stale: int = 0
    """An entry whose remaining time in the store is at most so many milliseconds has expired: the lease is taken."""


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What the store has for a name."""

    value: bytes | None
    has_lease: bool
    """The caller holds the lease now."""
    is_leased: bool
    """Another process holds the lease."""


class Purges(msgspec.Struct, frozen=True):
    """The purge log of a store. The field names in the store are `noted` and `told`."""

    total: int = msgspec.field(name="noted")
    """The number of purges since the log began."""
    recent: tuple[str, ...] = msgspec.field(name="told", default=())
    """The last selections as JSON, oldest first."""


class CacheStore(Protocol):
    """A key-value store of names and bytes. All methods raise CacheStoreError and nothing else."""

    def name(self, key: CacheKey) -> str: ...

    def patterns(self, owners: Sequence[str], model: str | None, digest: bytes | None) -> tuple[str, ...]: ...

    async def get(self, name: str, lease: FlightLease | None) -> StoreResult: ...

    async def look(self, name: str) -> StoreResult:
        """Reads without taking a lease."""
        ...

    async def put(self, name: str, packed: bytes, milliseconds: int, token: str) -> None: ...

    async def release(self, name: str, token: str) -> None: ...

    async def purge(self, patterns: Sequence[str]) -> int: ...

    async def note_purge(self, selection: str) -> None:
        """Adds a selection, as JSON, to the purge log that all processes read."""
        ...

    async def purges(self) -> Purges: ...

    async def check_writable(self) -> None:
        """Raises if the store cannot be reached and written to now."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class StoreTierSettings:
    """Durations in seconds."""

    ttl: float
    budget: float
    """How long a call waits for a lookup."""
    compress_above: int
    """Longer entries are compressed. Bytes."""
    probe_interval: float = 1.0
    """How often a store that is down is probed."""
    purge_interval: float = 1.0
    """How often the purge log is read."""


class StoreTier:
    """The `L2Tier` over a `CacheStore`."""

    def __init__(
        self,
        store: CacheStore,
        settings: StoreTierSettings,
        watcher: CacheListener,
        on_late: Callable[[CacheKey, CacheEntry], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_late` receives entries that arrived after their call had gone on. `clock`: Unix time in seconds."""
        self.ttl = settings.ttl
        self._store = store
        self._settings = settings
        self._watcher = watcher
        self._on_late = on_late
        self._clock = clock
        self._failures = 0
        self.down: str | None = None
        """Why the store is not used now. None: it is used."""
        self._recovery_task: asyncio.Task[None] | None = None
        self._lookups: set[asyncio.Task[StoreResult]] = set()
        self._queue: deque[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = deque()
        self._queued_bytes = 0
        self._write_task: asyncio.Task[None] | None = None
        self._is_full = False
        self._closed = False
        self._purge_task: asyncio.Task[None] | None = None

    @property
    def is_down(self) -> bool:
        return self._recovery_task is not None

    @property
    def waiting(self) -> int:
        """The number of queued writes."""
        return len(self._queue)

    # --- lookups

    async def get(self, key: CacheKey, lease_seconds: float, stale: float = 0.0) -> L2Result:
        """With `lease_seconds`, a miss takes a lease, and other processes wait for this reply."""
        if self.is_down or self._closed:
            return _EMPTY
        if len(self._lookups) >= _MAX_LOOKUPS:
            self._watcher.cache_failed("redis", "busy")
            return _EMPTY
        name = self._store.name(key)
        lease = None
        if lease_seconds > 0:
            lease = FlightLease(secrets.token_hex(8), int(lease_seconds * 1000), int(stale * 1000))
        token = lease.token if lease is not None else None
        task = asyncio.ensure_future(self._store.get(name, lease))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)
        try:
            done, _ = await asyncio.wait((task,), timeout=self._settings.budget)
        except asyncio.CancelledError:
            if token is not None:  # the lease may be taken after this call has gone
                task.add_done_callback(lambda _: self.release(key, token))
            raise
        if not done:
            task.add_done_callback(lambda late: self._use_late_result(key, late))
            self._failed(CacheStoreError("slow", "it is slower than cache.redis.budget"))
            # The script may still take the lease, so the token is returned: releasing it is harmless if it was not.
            return L2Result(None, token, elsewhere=False)
        try:
            answer = task.result()
        except CacheStoreError as error:
            self._failed(error)
            return L2Result(None, token, elsewhere=False)
        self._failures = 0
        entry = self._read(key, answer.value)
        fresh = entry is not None and self._is_fresh(entry)
        ours = token if answer.has_lease else None
        return L2Result(entry if fresh else None, ours, elsewhere=answer.is_leased, stale=None if fresh else entry)

    async def wait(self, key: CacheKey, patience: float) -> CacheEntry | None:
        """Polls the store until the reply that another process is fetching arrives, for at most `patience` seconds."""
        name, pause = self._store.name(key), _FIRST_POLL
        deadline = time.monotonic() + patience
        while not self.is_down and time.monotonic() + pause < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_POLL)
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
            if not answer.is_leased:
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
        # The store expires entries itself. A changed clock or configuration may mean an earlier expiry.
        return entry if self._clock() < self._expires_at(entry) + entry.stale else None

    def _expires_at(self, entry: CacheEntry) -> float:
        """Unix time, seconds."""
        return entry.stored_at + (self.ttl if entry.ttl is None else entry.ttl)

    def _is_fresh(self, entry: CacheEntry) -> bool:
        return self._clock() < self._expires_at(entry)

    def _use_late_result(self, key: CacheKey, task: asyncio.Task[StoreResult]) -> None:
        if task.cancelled() or task.exception() is not None:
            return
        entry = self._read(key, task.result().value)
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
        milliseconds = max(1, int((self._expires_at(entry) + entry.stale - self._clock()) * 1000))

        async def write() -> None:
            try:
                await self._store.put(name, packed, milliseconds, token or "")
            except CacheStoreError as error:
                if token is not None and error.why == "full":
                    await self._store.release(name, token)
                raise
            self._watcher.cache_wrote("redis")

        self._enqueue(len(packed), write)

    def release(self, key: CacheKey, token: str) -> None:
        name = self._store.name(key)
        self._enqueue(len(name), lambda: self._store.release(name, token))

    def _enqueue(self, size: int, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.is_down or self._closed:
            return
        if len(self._queue) >= _MAX_QUEUED or self._queued_bytes + size > _MAX_QUEUED_BYTES:
            self._watcher.cache_failed("redis", "write_dropped")
            return
        self._queue.append((size, write))
        self._queued_bytes += size
        if self._write_task is None or self._write_task.done():
            self._write_task = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while self._queue:
            size, write = self._queue.popleft()
            self._queued_bytes -= size
            try:
                await write()
            except CacheStoreError as error:
                if error.why == "full":
                    self._report_full()
                else:
                    self._failed(error)
            else:
                self._is_full = False

    def _report_full(self) -> None:
        """The store refuses writes for want of memory. It still answers, so lookups go on."""
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
        if self._failures >= _MAX_FAILURES and not self.is_down and not self._closed:
            structlog.get_logger().warning("cache store down", reason=error.reason)
            self.down = error.reason
            self._watcher.cache_is_down("redis", down=True)
            self._queue.clear()
            self._queued_bytes = 0
            self._recovery_task = BACKGROUND.start("cache_recovery", self._recover)

    async def _recover(self) -> None:
        # `_closed` is checked because a library may swallow the cancellation, and `close` waits for this task.
        while not await self._is_quick():
            if self._closed:
                return
            await asyncio.sleep(self._settings.probe_interval)
        self._failures = 0
        self._recovery_task = None
        self.down = None
        structlog.get_logger().info("cache store back")
        self._watcher.cache_is_down("redis", down=False)

    async def _is_quick(self) -> bool:
        try:
            await self._store.check_writable()  # connects, if need be
            began = time.monotonic()
            await self._store.check_writable()
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
            purged = await self._store.purge(self._store.patterns(owners or ["*"], selection.model, selection.digest))
            # After the deletion: otherwise another process could clear its L1 and refill it from here.
            await self._store.note_purge(write_selection(selection).decode())
            return purged
        except CacheStoreError as error:
            raise Unavailable(f"the cache store did not purge all entries: {error.why}; try again") from error

    def watch_purges(self, purged: Callable[[PurgeSelection], object]) -> None:
        """Calls `purged` for each purge from now on, at most `purge_interval` later. Purges that this process
        missed while the store was down are applied when it is back."""
        self._purge_task = BACKGROUND.start("cache_purges", lambda: self._poll_purges(purged))

    async def _poll_purges(self, purged: Callable[[PurgeSelection], object]) -> None:
        last_total: int | None = None
        missed = False
        while not self._closed:
            try:
                log = await self._store.purges()
            except CacheStoreError as error:
                missed = True
                if not self.is_down:
                    self._failed(CacheStoreError("purges_unheard", error.reason))
            else:
                if last_total is None:
                    last_total = log.total if not missed else -1
                for selection in _purges_since(last_total, log):
                    purged(selection)
                last_total = log.total
            await asyncio.sleep(self._settings.purge_interval)

    async def close(self) -> None:
        """Sends queued writes for at most a second, then closes the store."""
        self._closed = True
        for task in (self._recovery_task, self._purge_task):
            if task is not None:
                task.cancel()
        if self._write_task is not None:
            await asyncio.wait((self._write_task,), timeout=1.0)
            self._write_task.cancel()
        for lookup in self._lookups:
            lookup.cancel()
        await asyncio.gather(
            *self._lookups,
            *(t for t in (self._recovery_task, self._purge_task, self._write_task) if t is not None),
            return_exceptions=True,
        )
        await self._store.close()


_EVERYTHING = PurgeSelection()


def _purges_since(last_total: int, log: Purges) -> Sequence[PurgeSelection]:
    """The purges after the first `last_total`. Everything, if the log no longer holds all of them."""
    new = log.total - last_total
    if new == 0:
        return ()
    if not 0 <= new <= len(log.recent):
        return (_EVERYTHING,)
    try:
        return [read_selection(each.encode()) for each in log.recent[len(log.recent) - new :]]
    except BadRequest:  # written by another version
        return (_EVERYTHING,)


_EMPTY = L2Result(None, None, elsewhere=False)
