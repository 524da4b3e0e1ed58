"""The ports of the response cache, and the type of its entries.

The exchange uses `ResponseCache`, and the `CacheLookup` that it returns for one call. The cache has two tiers: `L1Tier`
(this process) and `L2Tier` (shared by many processes). A tier knows keys and entries. It does not know calls, rules or
Envoy. A third one, `L3Tier` (semantic/), is asked after both: it has replies to calls that mean the same.

A cached reply is stored in its provider's wire format, as one whole body. A caller of the same dialect gets these bytes
unchanged. For a caller of another dialect they are translated, as a reply from the provider would be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

from ..model.call import Call, Chat
from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import Candidate
from ..model.principal import Principal
from ..model.reply import Reply
from ..model.usage import Usage
from ..model.wire_names import WireNames
from .key import CacheKey
from .policy import CachePolicy

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Header names are in lower case."""

State: TypeAlias = Literal["hit", "miss", "bypass", "stale", "semantic"]
"""stale: an expired entry was used, because no provider could answer. semantic: the entry of a call that means the
same."""
Tier: TypeAlias = Literal["memory", "flight", "redis", "l3"]
"""Where a hit came from. memory: L1. redis: L2. flight: the reply to an equal call that was still in progress. l3: the
semantic tier."""

Why: TypeAlias = Literal["no_store", "no_cache", "no_key", "temperature", "absent", "expired", "too_old", "not_allowed"]
"""Why a reply did not come from the cache. no_store, no_cache: the caller's cache-control. no_key: the call depends on
state at the provider, or cannot be read. temperature: the reply is random. too_old: older than the caller's max-age.
not_allowed: this caller could not get the stored reply from its provider, or it cannot be read."""


@frozen_dataclass
class CacheEntry:
    """One complete reply, as it is stored."""

    dialect: str
    """The wire format of `body`."""
    body: bytes
    provider: str
    """The name of the provider in the configuration."""
    model: str
    """The provider's own name of the model."""
    stored_at: float
    """Unix time, seconds."""
    finish: str | None = None
    """The finish reason of the first choice."""
    usage: Usage | None = None
    cost: Decimal | None = None
    """What the reply cost when it was made, US dollars. None: unpriced."""
    dropped: tuple[str, ...] = ()
    """The fields of the original call that the provider's dialect has no place for."""
    ttl: float | None = None
    """Time to live, seconds. None: each tier's own default."""
    stale: float = 0.0
    """For how many seconds after `ttl` the entry may be used if no provider can answer."""
    created: int | None = None
    """When the reply began, Unix time: for a format that says it, if `body` does not."""


@frozen_dataclass
class NewReply:
    """A reply to store, with what the exchange knows about it."""

    reply: Reply
    body: bytes
    """In the dialect of `reply`."""
    provider: str
    model: str
    cost: Decimal | None
    """US dollars. None: unpriced."""
    dropped: tuple[str, ...]


class CacheLookup(Protocol):
    """The cache lookup of one call. Call `look_up` once, `store` at most once, and always `close` at the end."""

    @property
    def state(self) -> State: ...

    @property
    def tier(self) -> Tier | None:
        """The source of a hit. None: no hit."""
        ...

    @property
    def why(self) -> Why | None:
        """Why there was no hit. None: there was one."""
        ...

    @property
    def waited(self) -> float:
        """Seconds spent waiting for an equal call in progress. It is the provider's time, not the gateway's."""
        ...

    @property
    def similarity(self) -> float | None:
        """The cosine of both questions, of a hit in the semantic tier. None: no such hit."""
        ...

    @property
    def key_text(self) -> str | None:
        """The key's digest in hexadecimal, by which the entry can be purged. None: the call is not cached."""
        ...

    @property
    def may_store(self) -> bool:
        """Whether a suitable reply to this call would be stored."""
        ...

    async def look_up(self, more_time: Callable[[float], Awaitable[None]]) -> CacheEntry | None:
        """An entry that answers this call now. A tier that fails is a miss, never an error. The wait is bounded. If it
        may exceed the time that Envoy allows, `more_time` is called first, with the seconds that are needed."""
        ...

    def stale_entry(self) -> CacheEntry | None:
        """An expired entry that may be used because no provider could answer. Sets `state` to stale."""
        ...

    def discard_hit(self) -> None:
        """The entry from `look_up` cannot be read, or this caller may not have it: `state` becomes miss."""
        ...

    def is_storable(self, reply: Reply) -> bool:
        """Whether the rules allow this reply to be stored: it is complete, unfiltered, and of an allowed kind."""
        ...

    def store(self, reply: NewReply) -> None:
        """Stores the reply in both tiers. Does not wait for L2."""
        ...

    def close(self) -> None:
        """Releases the calls that wait for this call's reply."""
        ...


class ResponseCache(Protocol):
    """What the exchange uses."""

    def start_lookup(
        self,
        principal: Principal,
        call: Call,
        routed: Sequence[Candidate],
        headers: Headers,
        read_chat: Callable[[Call], Chat],
        names: WireNames,
    ) -> CacheLookup | None:
        """None if the configuration has no cache for this tenant and model. `routed`: the call's candidates, which are
        part of the key. `read_chat`: the reader of the caller's dialect. `names`: those of all
        dialects. Raises BadRequest for a cache header of the
        caller that cannot be read."""
        ...


@frozen_dataclass
class PurgeSelection:
    """Which entries to purge. An entry must match all fields that are set. No field set selects everything."""

    tenant: str | None = None
    """Entries of this tenant and of its teams. Entries that all tenants share need `shared`."""
    shared: bool = False
    """Entries that all tenants share."""
    model: str | None = None
    """The model name that callers use."""
    digest: bytes | None = None
    """SHA-256 of one key."""


@frozen_dataclass
class TierCounts:
    entries: int
    bytes: int
    evictions: int
    """Since the start of the process."""


class L1Tier(Protocol):
    """A tier in the memory of this process. No method waits. `now` is Unix time in seconds."""

    def get(self, key: CacheKey, now: float) -> CacheEntry | None:
        """An entry that has not expired."""
        ...

    def get_stale(self, key: CacheKey, now: float) -> CacheEntry | None:
        """An entry that has expired, but is within its `stale` seconds."""
        ...

    def put(self, key: CacheKey, entry: CacheEntry, now: float, until: float | None = None) -> None:
        """`until`: the entry expires by this Unix time at the latest."""
        ...

    def purge(self, selection: PurgeSelection) -> int:
        """Returns the number of removed entries."""
        ...

    def counts(self) -> TierCounts: ...


@frozen_dataclass
class L2Result:
    """What L2 has for a key."""

    entry: CacheEntry | None
    token: str | None
    """Our lease: other processes may wait for our reply. Pass it to `put` or to `release`."""
    elsewhere: bool
    """Another process holds the lease: it is sending the same call to a provider now."""
    stale: CacheEntry | None = None
    """An entry that has expired, but is within its `stale` seconds."""


class L2Tier(Protocol):
    """A tier that many processes share. Only `purge` raises."""

    ttl: float
    """Default time to live, seconds."""
    down: str | None
    """Why the store is not used now. None: it is used."""

    @property
    def waiting(self) -> int:
        """The number of queued writes."""
        ...

    async def get(self, key: CacheKey, lease_seconds: float, stale: float = 0.0) -> L2Result:
        """An empty result if there is no entry, it cannot be read, or the store is too slow. With `lease_seconds`, a
        miss takes a lease, on which other processes wait for so long. `stale`: for how many seconds after its expiry an
        entry is still of use."""
        ...

    async def wait(self, key: CacheKey, patience: float) -> CacheEntry | None:
        """The entry that another process is fetching, if it arrives within `patience` seconds."""
        ...

    def put(self, key: CacheKey, entry: CacheEntry, token: str | None) -> None:
        """Queues a write and does not wait. The write may be lost."""
        ...

    def release(self, key: CacheKey, token: str) -> None:
        """Gives the lease back, so that other processes stop waiting."""
        ...

    async def purge(self, selection: PurgeSelection) -> int:
        """Returns the number of removed entries. Raises Unavailable if not everything could be removed."""
        ...

    def watch_purges(self, purged: Callable[[PurgeSelection], object]) -> None:
        """Calls `purged` for each purge by any process that shares the store, with a short delay."""
        ...

    async def close(self) -> None: ...


class CacheListener(Protocol):
    """Receives the events of the tiers, for metrics."""

    def cache_looked_up(self, tier: Tier, seconds: float, *, found: bool) -> None: ...

    def cache_wrote(self, tier: Tier) -> None: ...

    def cache_failed(self, tier: Tier, why: str) -> None:
        """`why` is a label from a small fixed set."""
        ...

    def cache_is_down(self, tier: Tier, *, down: bool) -> None:
        """The tier is not used for now (`down`), or is used again."""
        ...


# --- L3


@frozen_dataclass
class SimilarReply:
    """The reply to a call that means the same."""

    entry: CacheEntry
    key: CacheKey
    """Of that other call."""
    similarity: float
    """The cosine of both questions."""


class SimilarLookup(Protocol):
    """The L3 lookup of one call."""

    async def find(self, oldest: float | None) -> SimilarReply | None:
        """A reply that answers the call. The time is bounded, and a failure is a miss. `oldest`: seconds."""
        ...

    def store(self, entry: CacheEntry, reply: Reply) -> None:
        """Stores the reply to this call, after the response. It may be lost."""
        ...


class L3Tier(Protocol):
    """The semantic tier."""

    @property
    def max_call(self) -> int:
        """Bytes of a call's body. A longer call is not looked up."""
        ...

    @property
    def budget(self) -> float:
        """The longest lookup, seconds."""
        ...

    @property
    def down(self) -> str | None:
        """Why it is not used now. None: it is used."""
        ...

    def begin(
        self,
        tenant: str,
        key: CacheKey,
        chat: Chat,
        routed: Sequence[Candidate],
        headers: Headers,
        names: WireNames,
        rules: CachePolicy,
    ) -> SimilarLookup | None:
        """None if calls of this kind have no similar ones. `key`: of the exact cache."""
        ...

    async def purge(self, selection: PurgeSelection) -> int:
        """Returns the number of removed records. Raises Unavailable if not everything could be removed."""
        ...

    def purge_memory(self, selection: PurgeSelection) -> None:
        """Another process has purged. Removes what is in the memory of this one."""
        ...

    def counts(self) -> TierCounts: ...

    async def close(self) -> None: ...
