"""The ports of the cache, and its noun: an `CacheEntry`, one whole clean reply.

The exchange deals with `ResponseCache` and the `CacheLookup` that it gives for one call. A cache has two
tiers: `L1Tier` (this process) and `L2Tier` (shared by many). A tier knows
keys and bytes, and nothing of calls, rules or Envoy.

A reply lies in the cache as its provider would have sent it whole: the body in the provider's own wire format. The
same dialect gets these bytes again, any other one is translated to, as if the provider had answered just now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Literal, Protocol, TypeAlias

from ..model.call import Call, Chat
from ..model.noun import noun
from ..model.plan import Candidate
from ..model.principal import Principal
from ..model.reply import Reply
from ..model.usage import Usage
from .key import CacheKey

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names in lower case."""

State: TypeAlias = Literal["hit", "miss", "bypass", "stale"]
"""stale: given past its time, because no provider could answer."""
Tier: TypeAlias = Literal["memory", "flight", "redis"]
"""Where a hit came from. flight: the reply to an equal call that was under way."""


@noun
class CacheEntry:
    dialect: str
    """In whose format `body` is."""
    body: bytes
    provider: str
    """Who gave it, by its name in config."""
    model: str
    """As that provider knows it."""
    stored_at: float
    """Unix time, seconds."""
    finish: str | None = None
    usage: Usage | None = None
    cost: Decimal | None = None
    """What it cost then, US dollars; None where it was unpriced."""
    dropped: tuple[str, ...] = ()
    """What the caller of then asked for and the provider could not be told."""
    ttl: float | None = None
    """How long it may live, seconds; None: as long as each tier keeps things."""
    stale: float = 0.0
    """For how much longer it may be given where no provider can answer, seconds."""


@noun
class NewReply:
    """A reply, as the exchange that got it knows it."""

    reply: Reply
    body: bytes
    provider: str
    model: str
    cost: Decimal | None
    dropped: tuple[str, ...]


class CacheLookup(Protocol):
    """One call's dealings with the cache: `find` once, `keep` at most once, `close` at the end, whatever it was."""

    @property
    def state(self) -> State: ...

    @property
    def tier(self) -> Tier | None:
        """Of a hit."""
        ...

    @property
    def waited(self) -> float:
        """Seconds that went by while an equal call was answered: its provider's time, not ours."""
        ...

    @property
    def key_text(self) -> str | None:
        """By which the reply can be purged, in hexadecimal; None where it is not kept."""
        ...

    @property
    def keeps(self) -> bool:
        """Whether a good reply to this call would be kept."""
        ...

    async def find(self, more_time: Callable[[float], Awaitable[None]]) -> CacheEntry | None:
        """A reply that may be given now. Never raises for want of a tier; waits a bounded time, and says so through
        `more_time` (seconds) where that is longer than Envoy expects."""
        ...

    def stale(self) -> CacheEntry | None:
        """No provider could answer: a reply past its time that may be given all the same."""
        ...

    def spoiled(self) -> None:
        """What `find` gave cannot be read, or is not for this caller: it is a miss after all."""
        ...

    def takes(self, reply: Reply) -> bool:
        """Whether this very reply may be kept: whole, clean, and of a kind that the rules allow."""
        ...

    def keep(self, made: NewReply) -> None: ...

    def close(self) -> None:
        """Lets go those who wait for this call's reply."""
        ...


class ResponseCache(Protocol):
    def turn(
        self,
        principal: Principal,
        call: Call,
        routed: Sequence[Candidate],
        headers: Headers,
        read_chat: Callable[[Call], Chat],
    ) -> CacheLookup | None:
        """None where config has no cache for this tenant and model. `read_chat` is that of the caller's dialect.
        Raises BadRequest where a header of the caller's that is for the cache cannot be read."""
        ...


@noun
class PurgeSelection:
    """What to purge. Given together, all must fit; nothing given is everything."""

    tenant: str | None = None
    """All that lies under this tenant or one of its teams. What is shared by all tenants goes with `shared`."""
    shared: bool = False
    """What is shared by all tenants."""
    model: str | None = None
    """As callers name it."""
    digest: bytes | None = None
    """Of one key."""


@noun
class TierCounts:
    entries: int
    bytes: int
    evictions: int


class L1Tier(Protocol):
    def get(self, key: CacheKey, now: float) -> CacheEntry | None: ...

    def stale(self, key: CacheKey, now: float) -> CacheEntry | None:
        """One that is over its time, and not over the time after it."""
        ...

    def put(self, key: CacheKey, entry: CacheEntry, now: float, until: float | None = None) -> None:
        """`until`: Unix time by which it must be gone, whatever else holds."""
        ...

    def purge(self, selection: PurgeSelection) -> int:
        """How many went."""
        ...

    def counts(self) -> TierCounts: ...


@noun
class L2Result:
    """What a far tier says of a key."""

    entry: CacheEntry | None
    token: str | None
    """Others may wait for our reply: `put` it or `release` them, with this."""
    elsewhere: bool
    """Another process asks a provider for it now."""
    stale: CacheEntry | None = None
    """One that is over its time, and not over the time after it."""


class L2Tier(Protocol):
    """None of it but `purge` raises."""

    ttl: float
    """Seconds, for entries that say nothing themselves."""
    down: str | None
    """Why the store is left alone now; None: it is not."""

    @property
    def waiting(self) -> int:
        """How many writes are still to be sent."""
        ...

    async def get(self, key: CacheKey, lease_seconds: float, stale: float = 0.0) -> L2Result:
        """Nothing where there is nothing, or nothing that can be read, or nothing in time. With `lease_seconds`, other
        processes wait for us as long as that, if there is nothing yet. `stale`: how many seconds after its time an
        entry may be of use."""
        ...

    async def wait(self, key: CacheKey, patience: float) -> CacheEntry | None:
        """What another process is asking for, if it comes within `patience` seconds."""
        ...

    def put(self, key: CacheKey, entry: CacheEntry, token: str | None) -> None:
        """Some time later, or not at all: it never waits."""
        ...

    def release(self, key: CacheKey, token: str) -> None:
        """Lets go those who wait."""
        ...

    async def purge(self, selection: PurgeSelection) -> int:
        """How many went. Raises Unavailable where it cannot be told."""
        ...

    def hear_purges(self, purged: Callable[[PurgeSelection], object]) -> None:
        """Tells `purged` of what others purge, a moment later."""
        ...

    async def close(self) -> None: ...


class CacheListener(Protocol):
    """Hears what happens in the tiers, for metrics."""

    def cache_looked_up(self, tier: Tier, seconds: float, *, found: bool) -> None: ...

    def cache_wrote(self, tier: Tier) -> None: ...

    def cache_failed(self, tier: Tier, why: str) -> None:
        """`why` is one of few words."""
        ...

    def cache_is_down(self, tier: Tier, *, down: bool) -> None:
        """A tier is left alone for now, or asked again."""
        ...
