"""Reserve, then settle: what stands between a call and the counters.

    admit     the worst case of a call is taken from every counter that applies, in one step
    settle    what was used stays, the rest is given back, off the path of requests
    renew     leases of calls under way are kept; those of a dead worker are lost after a while

Without a shared store the counters are this process's own. With one that is down, a rule says whether nobody passes
or each worker goes on with its share of what was left when the store was last heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple, get_args

from ..errors import BudgetReached, LimitReached, PolicyUnavailable, Unpriced
from ..model.principal import Principal
from ..model.settlement import Settlement
from ..model.usage import Usage
from .base import (
    MICRO,
    Admission,
    Ask,
    Entry,
    Listener,
    Lost,
    Measure,
    Pairs,
    Rule,
    Rules,
    Settled,
    Standing,
    Store,
    StoreDown,
    Taken,
)
from .book import Book
from .memory import MemoryStore
from .windows import Span, Windows

# A counter outlives its window by as long as a call may take, so that late settlements find it.
_KEEP_AFTER = 2 * 86_400
# A slot is given back a moment after the last byte of its answer; a caller may send the next request before that.
_SLOT_WAITS = (0.005, 0.015, 0.04, 0.08)
# After a failure the store is left alone for so long.
_DOWN_SECONDS = 1.0
_SETTLE_AT_ONCE = 64
# More than a worker can leave open in hours; what falls out counts as its worst case.
_MAX_QUEUE = 100_000
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    lease_seconds: int = 60
    lost: Lost = "charge"
    share_of: int = 1
    """By how many a limit is divided while the store is down: all workers of all replicas."""
    assumed_input: int = 0
    """Micro-dollars for a million tokens of a model without a price, where a rule allows it."""
    assumed_output: int = 0


_COSTS_NOTHING = Ask(0, 0)
_NOTHING_LEFT_TO_TELL = Admission(())


@dataclass(slots=True)
class _Open:
    """What one exchange took."""

    rules: Rules
    entries: tuple[Entry, ...]
    shared: bool


class _Done(NamedTuple):
    """To be written."""

    settled: Settled
    taken: _Open | None
    """None: whether it was taken at all is not known."""


class _Seen(NamedTuple):
    rule: Rule
    entry: Entry
    total: int
    """What the counter had come to, with what counts of the window before."""
    at: float


class PolicyLimiter:
    """`store` None: memory only. `start` and `close` are for a running event loop."""

    def __init__(
        self,
        book: Book,
        store: Store | None,
        listener: Listener,
        settings: LimiterSettings = LimiterSettings(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._store = store
        self._listener = listener
        self._settings = settings
        self._clock = clock
        self._memory = MemoryStore(clock)
        self._windows = Windows()
        self._open: dict[str, _Open] = {}
        self._blocked: OrderedDict[str, tuple[float, Rule]] = OrderedDict()
        """Until when a caller can have no request, by holder."""
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        """The counters when last heard of, by how their keys begin."""
        self._warned: OrderedDict[str, None] = OrderedDict()
        self._queue: deque[_Done | tuple[str, int, int]] = deque(maxlen=_MAX_QUEUE)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._down_until = 0.0
        self._is_down = False
        self._probing = False

    def replace_book(self, book: Book, settings: LimiterSettings | None = None) -> None:
        """Other rules from now on, with the counters that there are. Calls under way are settled by the rules that they
        began with."""
        self._book = book
        self._settings = settings or self._settings
        # Who had to wait may be allowed more now.
        self._blocked.clear()
        self._warned.clear()

    # --- the port

    def rules(self, principal: Principal) -> Rules | None:
        return self._book.rules(principal)

    def known_refusal(self, rules: Rules) -> None:
        blocked = self._blocked.get(rules.holder)
        if blocked is None:
            return
        until, rule = blocked
        wait = until - self._clock()
        if wait <= 0:
            self._blocked.pop(rules.holder, None)
            return
        self._listener.refused(rule)
        raise _reached(rule, wait, ())

    async def admit(self, exchange_id: str, rules: Rules, ask: Ask) -> Admission:
        now = self._clock()
        spans: list[Span | None] = []
        wanted: list[Entry] = []
        for rule, key in zip(rules.of, rules.keys, strict=True):
            span = self._windows.at(rule.window, rule.zone, now) if rule.window is not None else None
            spans.append(span)
            wanted.append(self._entry(rule, key, span, ask, now))
        entries = tuple(wanted)
        taken, entries = await self._take(exchange_id, rules, entries)
        for wait in _SLOT_WAITS:
            if taken.ok or not _only_slots(entries, taken):
                break
            await asyncio.sleep(wait)
            taken, entries = await self._take(exchange_id, rules, entries)
        headers = _left(rules, spans, entries, taken, now)
        if not taken.ok:
            raise self._refusal(rules, spans, entries, taken, headers, now)
        warnings = self._warnings(rules, entries, taken)
        if warnings:
            headers = (*headers, ("x-edge-warning", "; ".join(warnings)))
        return Admission(headers)

    async def count(self, exchange_id: str, rules: Rules) -> Admission:
        counting = [(rule, key) for rule, key in zip(rules.of, rules.keys, strict=True) if rule.measure == "requests"]
        if not counting:
            return _NOTHING_LEFT_TO_TELL
        of, keys = zip(*counting, strict=True)
        return await self.admit(exchange_id, replace(rules, of=of, keys=keys), _COSTS_NOTHING)

    def settle(self, settlement: Settlement) -> None:
        taken = self._open.pop(settlement.exchange_id, None)
        if taken is None:
            return
        cost = None if settlement.cost is None else micro(settlement.cost)
        used = tuple(
            self._used(rule, entry, settlement, cost) for rule, entry in zip(taken.rules.of, taken.entries, strict=True)
        )
        settled = Settled(settlement.exchange_id, used)
        if not taken.shared:
            self._memory.settle_now((settled,))
            if self._store is None:
                self._gave_back(taken, used)
                return
            # The shared counters have not heard of it.
            self._queue.extend(
                (entry.key, amount if amount >= 0 else entry.amount, entry.expires)
                for entry, amount in zip(taken.entries, used, strict=True)
                if not entry.slot
            )
        else:
            self._queue.append(_Done(settled, taken))
        self._wake.set()

    # --- what is known

    def standings(self) -> Iterator[Standing]:
        """Of every rule in force that was asked for. It takes some microseconds for each: for a scrape."""
        now = self._clock()
        reserved: dict[str, int] = {}
        for taken in list(self._open.values()):  # copies: a scrape may run in a thread of its own
            for entry in taken.entries:
                reserved[entry.key] = reserved.get(entry.key, 0) + entry.amount
        for rule, entry, total, at in list(self._seen.values()):
            maximum = self._book.maximum(rule)
            if maximum is not None:
                yield Standing(rule, maximum, _still(rule, entry, total, now), reserved.get(entry.key, 0), at)

    # --- off the path

    def start(self) -> None:
        if self._store is not None:
            self._tasks = [
                asyncio.create_task(self._settle_all(self._store), name="settle limits"),
                asyncio.create_task(self._renew_all(self._store), name="renew leases"),
            ]

    async def close(self) -> None:
        """What is settled by now is still written, if the store takes it at once."""
        # A cancellation may get lost between a client and asyncio's timeouts; this does not.
        self._closing = True
        self._wake.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            with contextlib.suppress(StoreDown):
                while self._queue:  # what comes back into it raises
                    await self._settle_some(self._store)
            await self._store.close()

    @property
    def unsettled(self) -> int:
        """How much is still to be written."""
        return len(self._queue)

    async def _settle_all(self, store: Store) -> None:
        while not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._closing:
                try:
                    await self._settle_some(store)
                except StoreDown:
                    await asyncio.sleep(_DOWN_SECONDS)

    async def _settle_some(self, store: Store) -> None:
        """What may not have been written goes back into the queue: a lease is settled once, however often it is
        tried."""
        some = [self._queue.popleft() for _ in range(min(len(self._queue), _SETTLE_AT_ONCE))]
        leases = [each for each in some if isinstance(each, _Done)]
        amounts = [each for each in some if not isinstance(each, _Done)]
        try:
            if leases:
                await store.settle([each.settled for each in leases])
                for settled, taken in leases:
                    if taken is not None:
                        self._gave_back(taken, settled.used)
                leases = []
            if amounts:
                await store.add(amounts)
        except BaseException:
            self._queue.extendleft([*amounts, *leases])
            raise

    async def _renew_all(self, store: Store) -> None:
        seconds = self._settings.lease_seconds
        while not self._closing:
            await asyncio.sleep(seconds / 3)
            names = [name for name, taken in self._open.items() if taken.shared]
            for n in range(0, len(names), 1000):
                with contextlib.suppress(StoreDown):
                    await store.renew(names[n : n + 1000], seconds)

    # --- taking

    def _entry(self, rule: Rule, key: str, span: Span | None, ask: Ask, now: float) -> Entry:
        amount = 1
        if rule.measure == "tokens":
            amount = ask.tokens
        elif rule.measure == "dollars":
            amount = self._dollars(rule, ask)
        if rule.hard and amount > rule.maximum:
            self._listener.refused(rule)
            raise _never_fits(rule, amount)
        if span is None:
            return Entry(key, "", 0, rule.maximum, amount, rule.hard, int(now) + _KEEP_AFTER, slot=True)
        before, weight = "", 0
        if rule.window == "minute":
            # The minute of the clock slides: of the one before, as much counts as lies within the last 60 seconds.
            before, weight = f"{key}{span.start - 60}", int((span.end - now) * MICRO / 60)
        return Entry(
            f"{key}{span.start}", before, weight, rule.maximum, amount, rule.hard, span.end + _KEEP_AFTER, slot=False
        )

    def _dollars(self, rule: Rule, ask: Ask) -> int:
        if ask.micro_dollars is not None:
            return ask.micro_dollars
        if rule.allow_unpriced:
            return ask.assumed
        self._listener.refused(rule)
        raise Unpriced(
            f"what {ask.model!r} costs is not known, and {rule.label} must be kept; ask for a model with a price",
            param="model",
        )

    async def _take(
        self, exchange_id: str, rules: Rules, entries: tuple[Entry, ...]
    ) -> tuple[Taken, tuple[Entry, ...]]:
        """What came of it, and by which maxima."""
        store = self._store
        if store is None:
            taken = self._take_here(exchange_id, rules, entries)
            self._remember(rules, entries, taken)
            return taken, entries
        if self._may_ask():
            # From here on the counters may have changed: a caller who leaves in the meantime is settled too.
            self._open[exchange_id] = _Open(rules, entries, shared=True)
            try:
                taken = await store.take(exchange_id, entries, self._settings.lease_seconds, self._settings.lost)
            except StoreDown:
                del self._open[exchange_id]
                self._queue.append(_Done(Settled(exchange_id, (0,) * len(entries)), None))
                self._wake.set()
                self._went_down()
            except BaseException:
                self._probing = False
                raise
            else:
                self._came_back()
                if not taken.ok:
                    del self._open[exchange_id]
                self._remember(rules, entries, taken)
                return taken, entries
        if not all(rule.local for rule in rules.of):
            raise PolicyUnavailable(
                "the limits of this caller cannot be checked now, so nothing was sent; try again", retry_after=1.0
            )
        entries = tuple(
            entry._replace(maximum=self._share(key, entry)) for key, entry in zip(rules.keys, entries, strict=True)
        )
        taken = self._take_here(exchange_id, rules, entries)
        if taken.ok:
            self._listener.local()
        return taken, entries

    def _take_here(self, exchange_id: str, rules: Rules, entries: tuple[Entry, ...]) -> Taken:
        taken = self._memory.take_now(exchange_id, entries, self._settings.lease_seconds, self._settings.lost)
        if taken.ok:
            self._open[exchange_id] = _Open(rules, entries, shared=False)
        return taken

    def _may_ask(self) -> bool:
        """While the store is down, one at a time finds out whether it is back."""
        if not self._is_down:
            return True
        if self._probing or time.monotonic() < self._down_until:
            return False
        self._probing = True
        return True

    def _went_down(self) -> None:
        self._probing = False
        self._down_until = time.monotonic() + _DOWN_SECONDS
        if not self._is_down:
            self._is_down = True
            self._listener.store(up=False)

    def _came_back(self) -> None:
        if self._is_down:
            self._is_down = self._probing = False
            self._listener.store(up=True)

    def _share(self, key: str, entry: Entry) -> int:
        seen = self._seen.get(key)
        used = seen.total if seen is not None and seen.entry.key == entry.key else 0
        return max(0, entry.maximum - used) // self._settings.share_of

    def _remember(self, rules: Rules, entries: tuple[Entry, ...], taken: Taken) -> None:
        seen, now = self._seen, self._clock()
        for rule, key, entry, used in zip(rules.of, rules.keys, entries, taken.used, strict=True):
            seen[key] = _Seen(rule, entry, used + entry.amount if taken.ok else used, now)
            seen.move_to_end(key)
        while len(seen) > _MAX_REMEMBERED:
            seen.popitem(last=False)

    def _gave_back(self, taken: _Open, used: Sequence[int]) -> None:
        """What settling changed in the counters, so that nobody has to ask them."""
        now = self._clock()
        for key, entry, amount in zip(taken.rules.keys, taken.entries, used, strict=True):
            seen = self._seen.get(key)
            if amount >= 0 and seen is not None and seen.entry.key == entry.key:
                self._seen[key] = _Seen(seen.rule, seen.entry, max(0, seen.total + amount - entry.amount), now)

    # --- telling

    def _refusal(
        self,
        rules: Rules,
        spans: Sequence[Span | None],
        entries: Sequence[Entry],
        taken: Taken,
        headers: Pairs,
        now: float,
    ) -> LimitReached:
        """By the rule that makes wait longest."""
        wait, rule = max(
            (
                (_wait(rule, span, entry, used, before, now), rule)
                for rule, span, entry, used, before in zip(
                    rules.of, spans, entries, taken.used, taken.before, strict=True
                )
                if entry.hard and used + entry.amount > entry.maximum
            ),
            key=lambda found: found[0],
        )
        self._listener.refused(rule)
        if rule.measure == "requests":
            self._blocked[rules.holder] = (now + wait, rule)
            while len(self._blocked) > _MAX_REMEMBERED:
                self._blocked.popitem(last=False)
        return _reached(rule, wait, headers)

    def _warnings(self, rules: Rules, entries: Sequence[Entry], taken: Taken) -> list[str]:
        found = []
        for rule, entry, used in zip(rules.of, entries, taken.used, strict=True):
            if rule.warn_at is None or used < rule.warn_at:
                continue
            found.append(f"{rule.label}: {used * 100 // max(1, rule.maximum)}% of {_amount(rule, rule.maximum)} used")
            if entry.key not in self._warned:
                self._warned[entry.key] = None
                while len(self._warned) > _MAX_REMEMBERED:
                    self._warned.popitem(last=False)
                self._listener.warned(rule, used)
        return found

    # --- settling

    def _used(self, rule: Rule, entry: Entry, settlement: Settlement, cost: int | None) -> int:
        """-1: as was taken. `cost` in micro-dollars."""
        if entry.slot:
            return 0
        if rule.measure == "requests":
            return -1
        usage = settlement.usage
        if usage is None:
            return -1 if _may_have_been_used(settlement) else 0
        if rule.measure == "tokens":
            return max(0, usage.total)
        if cost is not None:
            return cost
        return self._assumed(usage) if settlement.unpriced else 0

    def _assumed(self, usage: Usage) -> int:
        settings = self._settings
        total = max(0, usage.prompt) * settings.assumed_input + max(0, usage.completion) * settings.assumed_output
        return -(-total // MICRO)


def micro(dollars: Decimal) -> int:
    """Whole micro-dollars, rounded up."""
    return max(0, int((dollars * MICRO).to_integral_value(ROUND_CEILING)))


def _may_have_been_used(settlement: Settlement) -> bool:
    """Nobody said what was used. Where a provider may have worked for this call, its worst case counts: a budget errs
    on its own side."""
    if settlement.lane is None:  # nothing was sent
        return False
    match settlement.outcome:
        case "rejected":
            return False
        case "upstream_error":
            # The provider's own error costs nothing; that it took too long does not mean that it did nothing.
            return settlement.provider is None and settlement.status == 504
        case _:
            return True


def _still(rule: Rule, entry: Entry, total: int, now: float) -> int:
    """What of `total`, heard in the window of `entry`, counts now."""
    over = now - (entry.expires - _KEEP_AFTER)
    if entry.slot or over < 0:
        return total
    # A minute fades away within the next one.
    return int(total * (1 - over / 60)) if rule.window == "minute" and over < 60 else 0


def _only_slots(entries: Sequence[Entry], taken: Taken) -> bool:
    return all(
        entry.slot
        for entry, used in zip(entries, taken.used, strict=True)
        if entry.hard and used + entry.amount > entry.maximum
    )


def _wait(rule: Rule, span: Span | None, entry: Entry, used: int, before: int, now: float) -> float:
    """Seconds until this amount will fit, if nobody else takes any."""
    if span is None:
        return 1.0
    if rule.window != "minute":
        return max(0.0, span.end - now)
    room = entry.maximum - entry.amount
    current = used + -before * entry.weight // MICRO
    if current <= room:  # as soon as enough of the minute before no longer counts
        return max(0.05, span.end - 60 * (room - current) / max(1, before) - now)
    return max(0.05, span.end + 60 * (1 - room / current) - now)


def _reached(rule: Rule, wait: float, headers: Pairs) -> LimitReached:
    kind = BudgetReached if rule.measure == "dollars" else LimitReached
    return kind(
        f"{rule.label} is limited to {_amount(rule, rule.maximum)}; try again in {max(1, -int(-wait // 1))} s",
        retry_after=wait,
        headers=headers,
    )


def _never_fits(rule: Rule, amount: int) -> LimitReached:
    kind = BudgetReached if rule.measure == "dollars" else LimitReached
    return kind(
        f"this request could use up to {_amount(rule, amount)}, more than {rule.label} allows "
        f"({_amount(rule, rule.maximum)}); ask for fewer output tokens (max_tokens) or send less"
    )


def _left(rules: Rules, spans: Sequence[Span | None], entries: Sequence[Entry], taken: Taken, now: float) -> Pairs:
    """Of each measure, the rule of which the least is left."""
    least: dict[str, tuple[float, Rule, int, float]] = {}
    for rule, span, entry, used in zip(rules.of, spans, entries, taken.used, strict=True):
        maximum = rule.maximum
        left = maximum - used - (entry.amount if taken.ok else 0)
        share = left / (maximum or 1)
        known = least.get(rule.measure)
        if known is None or share < known[0]:
            least[rule.measure] = (share, rule, left if left > 0 else 0, 1.0 if span is None else span.end - now)
    told: list[tuple[str, str]] = []
    for measure, (_, rule, left, reset) in least.items():
        limit_name, left_name, reset_name = _HEADERS[measure]
        told += (
            (limit_name, _number(rule, rule.maximum)),
            (left_name, _number(rule, left)),
            (reset_name, f"{max(1, -int(-reset // 1))}s"),
        )
    return tuple(told)


_HEADERS = {
    measure: tuple(f"x-ratelimit-{what}-{measure}" for what in ("limit", "remaining", "reset"))
    for measure in get_args(Measure)
}


def _number(rule: Rule, amount: int) -> str:
    if rule.measure != "dollars":
        return str(amount)
    whole, rest = divmod(amount, MICRO)
    digits = f"{rest:06d}".rstrip("0")
    return f"{whole}.{digits:0<2}"


def _amount(rule: Rule, amount: int) -> str:
    if rule.measure == "dollars":
        return f"${_number(rule, amount)}"
    return f"{amount} {'requests' if rule.measure in ('requests', 'concurrent') else 'tokens'}"
