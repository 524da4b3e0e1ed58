"""The cache as the exchange sees it: rules, then memory, then equal calls under way, then what many share.

Whatever becomes of the l2 tier, a call goes on after a bounded time. What it brings is kept l1, and sent l2.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import BadRequest
from ..model.call import Call, Chat
from ..model.plan import Candidate
from ..model.principal import Principal
from ..model.reply import Reply
from . import policy
from .base import CacheEntry, CacheListener, Headers, L1Tier, L2Tier, NewReply, PurgeSelection, State, Tier
from .key import CacheKey, CacheOwner, key_of, of_body, of_chat
from .policy import CacheDirectives, CachePolicies, CachePolicy
from .purge import read_selection
from .single_flight import Flight, Flights

MoreTime: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CacheBounds:
    max_entry: int
    """Bytes of a body; a larger one is not kept."""
    wait: float
    """Seconds that a call waits for an equal one; 0: it does not."""
    wait_of_streams: float
    """The same for a call that wants a stream: its caller expects the first word sooner."""
    unasked: float = 4.0
    """What Envoy allows without a word, seconds."""
    most: float = 30.0
    """What Envoy allows at most, seconds."""


class TieredCache:
    def __init__(
        self,
        rules: CachePolicies,
        bounds: CacheBounds,
        l1: L1Tier,
        l2: L2Tier | None,
        watcher: CacheListener,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._rules = rules
        self.bounds = bounds
        self.l1 = l1
        self.l2 = l2
        self.flights = Flights()
        self.watcher = watcher
        self.clock = clock
        self.monotonic = monotonic

    def change(self, rules: CachePolicies, bounds: CacheBounds) -> None:
        """For the turns from now on."""
        self._rules = rules
        self.bounds = bounds

    def turn(
        self,
        principal: Principal,
        call: Call,
        routed: Sequence[Candidate],
        headers: Headers,
        read_chat: Callable[[Call], Chat],
    ) -> TieredLookup | None:
        rules = self._rules.of(principal.tenant, call.model)
        if not rules.enabled:
            return None
        said = policy.wishes(headers, rules.max_ttl)
        if said.no_store:
            return _BYPASS
        if rules.across_dialects:
            try:
                shape = of_chat(read_chat(call), headers, rules.ignore)
            except BadRequest:  # a provider of the same dialect may take it all the same
                return _BYPASS
        else:
            shape = of_body(call, headers, rules.ignore)
        if shape is None or not policy.is_repeatable(shape.temperature, rules, said):
            return _BYPASS
        owner = CacheOwner(rules.sharing, principal.tenant, principal.team or "")
        return TieredLookup(self, key_of(owner, call.model, routed, shape), rules, said, stream=call.stream)

    def fill(self, key: CacheKey, entry: CacheEntry) -> None:
        """Keeps l1 what was found l2."""
        life = entry.ttl if entry.ttl is not None else self.l2.ttl if self.l2 is not None else 0.0
        self.l1.put(key, entry, self.clock(), entry.stored_at + life)

    async def purge(self, selection: PurgeSelection) -> int:
        """How many went, of both tiers. Raises Unavailable where the l2 tier cannot say."""
        gone = self.l1.purge(selection)
        return gone + (await self.l2.purge(selection) if self.l2 is not None else 0)

    async def purge_json(self, wanted: bytes) -> int:
        """The same, as an operator writes it. Raises BadRequest too."""
        return await self.purge(read_selection(wanted))

    def start(self) -> None:
        """Lets go, from now on, of what is purged wherever the l2 tier is shared."""
        if self.l2 is not None:
            self.l2.hear_purges(self.l1.purge)

    async def close(self) -> None:
        if self.l2 is not None:
            await self.l2.close()


class TieredLookup:
    """One call's dealings with the cache; with `key` None, none."""

    __slots__ = (
        "_cache",
        "_flight",
        "_kept",
        "_rules",
        "_said",
        "_stale",
        "_stream",
        "_token",
        "key",
        "state",
        "tier",
        "waited",
    )

    def __init__(
        self,
        cache: TieredCache | None,
        key: CacheKey | None,
        rules: CachePolicy | None,
        said: CacheDirectives,
        *,
        stream: bool,
    ) -> None:
        self._cache = cache
        self._rules = rules
        self._said = said
        self._stream = stream
        self._flight: Flight | None = None
        self._kept: CacheEntry | None = None
        self._stale: CacheEntry | None = None
        self._token: str | None = None
        self.key = key
        self.state: State = "bypass"
        self.tier: Tier | None = None
        self.waited = 0.0

    @property
    def keeps(self) -> bool:
        return self.key is not None and self.state not in ("hit", "stale")

    async def find(self, more_time: MoreTime) -> CacheEntry | None:
        cache, key = self._cache, self.key
        if cache is None or key is None or self._said.no_cache:
            return None
        self.state = "miss"
        began = cache.monotonic()
        entry = self._young(cache.l1.get(key, cache.clock()))
        cache.watcher.cache_looked_up("memory", cache.monotonic() - began, found=entry is not None)
        if entry is not None:
            return self._hit(entry, "memory")
        if self._after > 0:
            self._stale = cache.l1.stale(key, cache.clock())
        patience = cache.bounds.wait_of_streams if self._stream else cache.bounds.wait
        before = cache.flights.under_way(key)
        if before is None:
            self._flight = cache.flights.open(key)
        elif patience > 0:
            await self._announce(cache, patience, more_time)
            began = cache.monotonic()
            entry = self._young(await before.wait(patience))
            self.waited = cache.monotonic() - began
            cache.watcher.cache_looked_up("flight", self.waited, found=entry is not None)
            return self._hit(entry, "flight") if entry is not None else None
        return await self._find_in_l2(cache, cache.l2, key, patience, more_time) if cache.l2 is not None else None

    async def _announce(self, cache: TieredCache, patience: float, more_time: MoreTime) -> None:
        if patience > cache.bounds.unasked:
            await more_time(min(patience + cache.bounds.unasked, cache.bounds.most))

    @property
    def key_text(self) -> str | None:
        return self.key.digest.hex() if self.key is not None else None

    async def _find_in_l2(
        self, cache: TieredCache, l2: L2Tier, key: CacheKey, patience: float, more_time: MoreTime
    ) -> CacheEntry | None:
        tier: Tier = "redis"
        began = cache.monotonic()
        found = await l2.get(key, cache.bounds.wait, self._after)
        self._token, entry = found.token, found.entry
        self._stale = found.stale or self._stale
        cache.watcher.cache_looked_up(tier, cache.monotonic() - began, found=entry is not None)
        if entry is None and found.elsewhere and patience > 0:
            await self._announce(cache, patience, more_time)
            began, tier = cache.monotonic(), "flight"
            entry = await l2.wait(key, patience)
            self.waited = cache.monotonic() - began
            cache.watcher.cache_looked_up(tier, self.waited, found=entry is not None)
        if entry is None:
            return None
        cache.fill(key, entry)
        if self._young(entry) is None:
            return None
        self._kept = entry
        self.close()
        return self._hit(entry, tier)

    @property
    def _after(self) -> float:
        """For how many seconds after its time a reply may be of use."""
        return self._rules.stale if self._rules is not None else 0.0

    def stale(self) -> CacheEntry | None:
        entry, cache = self._young(self._stale), self._cache
        if entry is None or cache is None:
            return None
        self.state, self.tier = "stale", None
        return entry

    def spoiled(self) -> None:
        self.state, self.tier = "miss", None

    def takes(self, reply: Reply) -> bool:
        return self.keeps and self._rules is not None and policy.is_clean(reply, self._rules)

    def keep(self, made: NewReply) -> None:
        cache, key = self._cache, self.key
        if cache is None or key is None or self._rules is None or len(made.body) > cache.bounds.max_entry:
            return
        finish = made.reply.choices[0].finish
        now = cache.clock()
        entry = self._kept = CacheEntry(
            made.reply.dialect,
            made.body,
            made.provider,
            made.model,
            now,
            finish.reason if finish is not None else None,
            made.reply.usage,
            made.cost,
            made.dropped,
            self._said.ttl if self._said.ttl is not None else self._rules.ttl,
            self._rules.stale,
        )
        cache.l1.put(key, entry, now)
        cache.watcher.cache_wrote("memory")
        if cache.l2 is not None:
            cache.l2.put(key, entry, self._token)
            self._token = None

    def close(self) -> None:
        if self._flight is not None:
            self._flight.end(self._kept)
        if self._token is not None and self._cache is not None and self._cache.l2 is not None and self.key is not None:
            self._cache.l2.release(self.key, self._token)
            self._token = None

    def _young(self, entry: CacheEntry | None) -> CacheEntry | None:
        """The entry, if it is as young as the caller wants it."""
        cache, oldest = self._cache, self._said.max_age
        if entry is None or cache is None or oldest is None:
            return entry
        return entry if cache.clock() - entry.stored_at <= oldest else None

    def _hit(self, entry: CacheEntry, tier: Tier) -> CacheEntry:
        self.state, self.tier = "hit", tier
        return entry


_BYPASS = TieredLookup(None, None, None, policy.NO_WISHES, stream=False)
