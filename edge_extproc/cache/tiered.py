"""The response cache that the exchange uses: a lookup checks the rules, L1, equal calls in progress, L2, and L3, in
order.

A new reply is stored in L1 at once, and a write to L2 is queued. Every wait is bounded: a call goes on without the
cache if L2 is slow or down.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import BadRequest
from ..model.call import Call, Chat
from ..model.plan import Candidate
from ..model.plausible import plausible_or_none
from ..model.principal import Principal
from ..model.reply import Reply
from ..model.wire_names import WireNames
from . import policy
from .base import (
    CacheEntry,
    CacheListener,
    Headers,
    L1Tier,
    L2Tier,
    L3Tier,
    NewReply,
    PurgeSelection,
    SimilarLookup,
    SimilarReply,
    State,
    Tier,
    Why,
)
from .key import CacheKey, CacheOwner, key_of, of_body, of_chat
from .policy import CacheDirectives, CachePolicies, CachePolicy
from .purge import read_selection
from .single_flight import Flight, Flights

MoreTime: TypeAlias = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """Durations in seconds."""

    max_entry: int
    """Bytes of a body. A longer body is not stored."""
    wait: float
    """How long a call waits for an equal call in progress. 0: it does not wait."""
    wait_of_streams: float
    """The same for a streaming call. It is shorter, because its caller expects the first token sooner."""
    message_timeout: float = 4.0
    """The wait after which the agent must request more time from Envoy: a part of ext_proc's `message_timeout`."""
    max_message_timeout: float = 30.0
    """The most time that the agent can request from Envoy (ext_proc `max_message_timeout`)."""


class TieredCache:
    """The `ResponseCache` of one worker."""

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
        """`clock`: Unix time in seconds. `monotonic`: for durations, in seconds."""
        self._rules = rules
        self.bounds = bounds
        self.l1 = l1
        self.l2 = l2
        self.l3: L3Tier | None = None
        """The semantic tier. None: it is not configured."""
        self.flights = Flights()
        self.watcher = watcher
        self.clock = clock
        self.monotonic = monotonic

    def change(self, rules: CachePolicies, bounds: CacheBounds) -> None:
        """Sets other rules and bounds, for lookups that start from now on."""
        self._rules = rules
        self.bounds = bounds

    def start_lookup(
        self,
        principal: Principal,
        call: Call,
        routed: Sequence[Candidate],
        headers: Headers,
        read_chat: Callable[[Call], Chat],
        names: WireNames,
    ) -> TieredLookup | None:
        rules = self._rules.policy_for(principal.tenant, call.model)
        if not rules.enabled:
            return None
        directives = policy.read_directives(headers, rules.max_ttl)
        if directives.no_store:
            return _NO_STORE
        if rules.across_dialects:
            try:
                shape = of_chat(read_chat(call), headers, names, rules.ignore)
            except BadRequest:  # a provider of the same dialect may still accept the call
                return _NO_KEY
        else:
            shape = of_body(call, headers, names, rules.ignore)
        if shape is None:
            return _NO_KEY
        if not policy.is_repeatable(shape.temperature, rules, directives):
            return _RANDOM
        owner = CacheOwner(rules.sharing, principal.tenant, principal.team or "")
        key = key_of(owner, call.model, routed, shape)
        l3 = self.l3
        if l3 is None or len(call.raw) > l3.max_call or not policy.may_be_similar(rules, directives):
            return TieredLookup(self, key, rules, directives, stream=call.stream)

        def begin() -> SimilarLookup | None:
            try:
                chat = read_chat(call)
            except BadRequest:  # as above
                return None
            return l3.begin(principal.tenant, key, chat, routed, headers, names, rules)

        return SimilarCallLookup(self, key, rules, directives, begin, l3.budget, stream=call.stream)

    def fill(self, key: CacheKey, entry: CacheEntry) -> None:
        """Stores an entry of L2 in L1, until it expires in L2."""
        life = entry.ttl if entry.ttl is not None else self.l2.ttl if self.l2 is not None else 0.0
        self.l1.put(key, entry, self.clock(), entry.stored_at + life)

    async def purge(self, selection: PurgeSelection) -> int:
        """Returns the number of entries removed from all tiers. Raises Unavailable if L2 or L3 could not remove all."""
        removed = self.l1.purge(selection)
        try:
            # Before L2, which writes the log of purges last: the other workers follow it.
            if self.l3 is not None:
                removed += await self.l3.purge(selection)
        finally:
            if self.l2 is not None:
                removed += await self.l2.purge(selection)
        return removed

    async def purge_json(self, selection_json: bytes) -> int:
        """`purge` for a selection in an operator's JSON (cache/purge.py). Also raises BadRequest."""
        return await self.purge(read_selection(selection_json))

    def start(self) -> None:
        """From now on, applies to L1 the purges of all processes that share L2."""
        if self.l2 is not None:
            self.l2.watch_purges(self._purged_elsewhere)

    def _purged_elsewhere(self, selection: PurgeSelection) -> None:
        self.l1.purge(selection)
        if self.l3 is not None:
            self.l3.purge_memory(selection)

    async def close(self) -> None:
        if self.l2 is not None:
            await self.l2.close()
        if self.l3 is not None:
            await self.l3.close()


class TieredLookup:
    """The `CacheLookup` of one call. Without a `key`, the call bypasses the cache."""

    __slots__ = (
        "_cache",
        "_directives",
        "_flight",
        "_rules",
        "_stale",
        "_stored",
        "_stream",
        "_token",
        "key",
        "state",
        "tier",
        "waited",
        "why",
    )

    def __init__(
        self,
        cache: TieredCache | None,
        key: CacheKey | None,
        rules: CachePolicy | None,
        directives: CacheDirectives,
        *,
        stream: bool,
        why: Why = "no_cache",
    ) -> None:
        self._cache = cache
        self._rules = rules
        self._directives = directives
        self._stream = stream
        self._flight: Flight | None = None
        self._stored: CacheEntry | None = None
        self._stale: CacheEntry | None = None
        self._token: str | None = None
        self.key = key
        self.state: State = "bypass"
        self.tier: Tier | None = None
        self.waited = 0.0
        self.why: Why | None = why

    @property
    def may_store(self) -> bool:
        return self.key is not None and self.state not in ("hit", "stale", "semantic")

    @property
    def similarity(self) -> float | None:
        return None

    async def look_up(self, more_time: MoreTime) -> CacheEntry | None:
        cache, key = self._cache, self.key
        if cache is None or key is None or self._directives.no_cache:
            return None
        self.state, self.why = "miss", "absent"
        began = cache.monotonic()
        entry = self._if_fresh_enough(cache.l1.get(key, cache.clock()))
        cache.watcher.cache_looked_up("memory", cache.monotonic() - began, found=entry is not None)
        if entry is not None:
            return self._hit(entry, "memory")
        if self._stale_seconds > 0:
            self._stale = cache.l1.get_stale(key, cache.clock())
            if self._stale is not None:
                self.why = "expired"
        patience = cache.bounds.wait_of_streams if self._stream else cache.bounds.wait
        in_progress = cache.flights.under_way(key)
        if in_progress is None:
            self._flight = cache.flights.open(key)
        elif patience > 0:
            await self._ask_for_time(cache, patience, more_time)
            began = cache.monotonic()
            entry = self._if_fresh_enough(await in_progress.wait(patience))
            self.waited = cache.monotonic() - began
            cache.watcher.cache_looked_up("flight", self.waited, found=entry is not None)
            return self._hit(entry, "flight") if entry is not None else None
        return await self._find_in_l2(cache, cache.l2, key, patience, more_time) if cache.l2 is not None else None

    async def _ask_for_time(self, cache: TieredCache, patience: float, more_time: MoreTime) -> None:
        if patience > cache.bounds.message_timeout:
            await more_time(min(patience + cache.bounds.message_timeout, cache.bounds.max_message_timeout))

    @property
    def key_text(self) -> str | None:
        return self.key.digest.hex() if self.key is not None else None

    async def _find_in_l2(
        self, cache: TieredCache, l2: L2Tier, key: CacheKey, patience: float, more_time: MoreTime
    ) -> CacheEntry | None:
        tier: Tier = "redis"
        began = cache.monotonic()
        result = await l2.get(key, cache.bounds.wait, self._stale_seconds)
        self._token, entry = result.token, result.entry
        if result.stale is not None:
            self._stale, self.why = result.stale, "expired"
        cache.watcher.cache_looked_up(tier, cache.monotonic() - began, found=entry is not None)
        if entry is None and result.elsewhere and patience > 0:
            await self._ask_for_time(cache, patience, more_time)
            began, tier = cache.monotonic(), "flight"
            entry = await l2.wait(key, patience)
            self.waited = cache.monotonic() - began
            cache.watcher.cache_looked_up(tier, self.waited, found=entry is not None)
        if entry is None:
            return None
        cache.fill(key, entry)
        if self._if_fresh_enough(entry) is None:
            return None
        self._stored = entry
        self.close()
        return self._hit(entry, tier)

    @property
    def _stale_seconds(self) -> float:
        """For how many seconds after its expiry an entry may still be used."""
        return self._rules.stale if self._rules is not None else 0.0

    def stale_entry(self) -> CacheEntry | None:
        entry, cache = self._if_fresh_enough(self._stale), self._cache
        if entry is None or cache is None:
            return None
        self.state, self.tier = "stale", None
        return entry

    def discard_hit(self) -> None:
        self.state, self.tier, self.why = "miss", None, "not_allowed"

    def is_storable(self, reply: Reply) -> bool:
        return self.may_store and self._rules is not None and policy.is_clean(reply, self._rules)

    def store(self, reply: NewReply) -> None:
        cache, key = self._cache, self.key
        if cache is None or key is None or self._rules is None or len(reply.body) > cache.bounds.max_entry:
            return
        finish = reply.reply.choices[0].finish
        now = cache.clock()
        entry = self._stored = CacheEntry(
            reply.reply.dialect,
            reply.body,
            reply.provider,
            reply.model,
            now,
            finish.reason if finish is not None else None,
            plausible_or_none(reply.reply.usage),
            reply.cost,
            reply.dropped,
            self._directives.ttl if self._directives.ttl is not None else self._rules.ttl,
            self._rules.stale,
            reply.reply.created,
        )
        cache.l1.put(key, entry, now)
        cache.watcher.cache_wrote("memory")
        if cache.l2 is not None:
            cache.l2.put(key, entry, self._token)
            self._token = None

    def close(self) -> None:
        if self._flight is not None:
            self._flight.end(self._stored)
        if self._token is not None and self._cache is not None and self._cache.l2 is not None and self.key is not None:
            self._cache.l2.release(self.key, self._token)
            self._token = None

    def _if_fresh_enough(self, entry: CacheEntry | None) -> CacheEntry | None:
        """The entry, unless it is older than the caller's `max-age`."""
        cache, oldest = self._cache, self._directives.max_age
        if entry is None or cache is None or oldest is None:
            return entry
        if cache.clock() - entry.stored_at <= oldest:
            return entry
        self.why = "too_old"
        return None

    def _hit(self, entry: CacheEntry, tier: Tier) -> CacheEntry:
        self.state, self.tier, self.why = "hit", tier, None
        return entry


class SimilarCallLookup(TieredLookup):
    """The `CacheLookup` of a call that may get the reply to a similar one."""

    __slots__ = ("_begin", "_budget", "_found", "_similar")

    def __init__(
        self,
        cache: TieredCache,
        key: CacheKey,
        rules: CachePolicy,
        directives: CacheDirectives,
        begin: Callable[[], SimilarLookup | None],
        budget: float,
        *,
        stream: bool,
    ) -> None:
        """`begin`: begins the lookup in L3. `budget`: its longest time, seconds."""
        super().__init__(cache, key, rules, directives, stream=stream)
        self._begin = begin
        self._budget = budget
        self._similar: SimilarLookup | None = None
        self._found: SimilarReply | None = None

    @property
    def similarity(self) -> float | None:
        return self._found.similarity if self._found is not None else None

    @property
    def key_text(self) -> str | None:
        """Of the call whose reply is used: its purge removes the reply."""
        return self._found.key.digest.hex() if self._found is not None else super().key_text

    async def look_up(self, more_time: MoreTime) -> CacheEntry | None:
        entry = await super().look_up(more_time)
        if entry is not None:
            return entry
        # Also for a caller who wants no cached reply: the new one is stored, and the chat can be read only now.
        self._similar = self._begin()
        if self._similar is None or self._directives.no_cache or self._cache is None:
            return None
        await self._ask_for_time(self._cache, self._budget, more_time)
        found = self._found = await self._similar.find(self._directives.max_age)
        if found is None:
            return None
        self.close()  # equal calls that wait go on by themselves, and find the same
        self.state, self.tier = "semantic", "l3"
        return found.entry

    def discard_hit(self) -> None:
        super().discard_hit()
        self._found = None

    def store(self, reply: NewReply) -> None:
        super().store(reply)
        if self._similar is not None and self._stored is not None:
            self._similar.store(self._stored, reply.reply)


_NO_STORE, _NO_KEY, _RANDOM = (
    TieredLookup(None, None, None, policy.NO_DIRECTIVES, stream=False, why=why)
    for why in ("no_store", "no_key", "temperature")
)
