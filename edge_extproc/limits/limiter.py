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
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import partial

from ..errors import BudgetReached, LimitReached, PolicyUnavailable, Unpriced
from ..model.plausible import is_plausible
from ..model.principal import Principal
from ..model.settlement import Settlement
from ..model.usage import Usage
from ..telemetry.background import BACKGROUND
from .base import (
    MICRO,
    MOST_AMOUNT,
    CallerLimits,
    LimitListener,
    LimitRule,
    LimitStatus,
    LimitStore,
    LimitStoreDown,
    Lost,
    Pairs,
    Reservation,
    ReservationRequest,
    ReserveResult,
    SettleResult,
    WindowCounter,
    WindowCounters,
)
from .frames import (
    COSTS_NOTHING,
    KINDS,
    NOTHING_LEFT_TO_TELL,
    FinishedCall,
    OpenReservation,
    SeenCounter,
    ToldAmounts,
    WindowFrame,
)
from .memory import MemoryLimitStore
from .rate_limit_headers import HEADERS, _amount, _left, number
from .rule_table import RuleTable
from .windows import Span, Windows

# A counter outlives its window by as long as a call may take, so that late settlements find it.
_KEEP_AFTER = 2 * 86_400
# A slot is given back a moment after the last byte of its answer; a caller may send the next request before that.
_SLOT_WAITS = (0.005, 0.015, 0.04, 0.08)
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
    down_seconds: float = 1.0
    """After a failure the store is left alone for so long."""


class PolicyLimiter:
    """`store` None: memory only. `start` and `close` are for a running event loop."""

    def __init__(
        self,
        book: RuleTable,
        store: LimitStore | None,
        listener: LimitListener,
        settings: LimiterSettings = LimiterSettings(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._store = store
        self._listener = listener
        self._settings = settings
        self._clock = clock
        self._memory = MemoryLimitStore(clock)
        self._windows = Windows()
        self._open: dict[str, OpenReservation] = {}
        self._blocked: OrderedDict[str, tuple[float, LimitRule]] = OrderedDict()
        """Until when a caller can have no request, by holder."""
        self._seen: OrderedDict[str, SeenCounter] = OrderedDict()
        """By how the counters' keys begin."""
        self._frames: dict[int, WindowFrame] = {}
        """By the identity of their rules, which they hold."""
        self._warned: OrderedDict[str, None] = OrderedDict()
        self._queue: deque[FinishedCall | tuple[str, int, int]] = deque(maxlen=_MAX_QUEUE)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._down_until = 0.0
        self._is_down = False
        self._reasons: set[str] = set()
        """Why it is down: those that were told."""
        self._probing = False

    def replace_rules(self, book: RuleTable, settings: LimiterSettings | None = None) -> None:
        """Other rules from now on, with the counters that there are. Calls under way are settled by the rules that they
        began with."""
        self._book = book
        self._settings = settings or self._settings
        # Who had to wait may be allowed more now.
        self._blocked.clear()
        self._warned.clear()
        self._frames.clear()

    # --- the port

    def rules(self, principal: Principal) -> CallerLimits | None:
        return self._book.rules(principal)

    def raise_if_blocked(self, rules: CallerLimits) -> None:
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

    async def admit(self, exchange_id: str, rules: CallerLimits, ask: ReservationRequest) -> Reservation:
        now = self._clock()
        frame = self._frames.get(id(rules))
        if frame is None or now >= frame.until or frame.rules is not rules:
            frame = self._make_frame(rules, now)
        amounts = self._amounts(frame, ask)
        # The minute of the clock slides: of the one before, as much counts as lies within the last 60 seconds.
        weight = int((frame.slides - now) * MICRO / 60) if frame.slides is not None else 0
        if self._store is None:
            taken, counters = self._take_here(exchange_id, frame, frame.counters, amounts, weight), frame.counters
        else:
            taken, counters = await self._take(exchange_id, frame, amounts, weight)
        if not taken.ok:
            for wait in _SLOT_WAITS:
                if taken.ok or not _only_slots(counters, amounts, taken):
                    break
                await asyncio.sleep(wait)
                taken, counters = await self._take(exchange_id, frame, amounts, weight)
        headers = _left(frame, amounts, taken, now)
        if not taken.ok:
            raise self._refusal(frame, counters, amounts, weight, taken, headers, now)
        for place, warn_at in frame.warns:
            if taken.used[place] >= warn_at:
                warnings = self._warnings(frame, taken)
                return Reservation((*headers, ("x-edge-warning", "; ".join(warnings))))
        return Reservation(headers)

    async def count(self, exchange_id: str, rules: CallerLimits) -> Reservation:
        if rules.requests is None:
            return NOTHING_LEFT_TO_TELL
        return await self.admit(exchange_id, rules.requests, COSTS_NOTHING)

    def settle(self, settlement: Settlement) -> None:
        taken = self._open.pop(settlement.exchange_id, None)
        if taken is None:
            return
        spent = self._spent(settlement)
        used = tuple([spent[kind] for kind in taken.frame.kinds])
        if taken.shared:
            self._queue.append(FinishedCall(SettleResult(settlement.exchange_id, used), taken))
            self._wake.set()
            return
        self._memory.settle_now(settlement.exchange_id, used)
        if self._store is None:
            return
        # The shared counters have not heard of it.
        self._queue.extend(
            (counter.key, spent if spent >= 0 else amount, counter.expires)
            for counter, amount, spent in zip(taken.frame.counters.counters, taken.amounts, used, strict=True)
            if not counter.slot
        )
        self._wake.set()

    # --- what is known

    def statuses(self) -> Iterator[LimitStatus]:
        """Of every rule in force that was asked for. It takes some microseconds for each: for a scrape."""
        now = self._clock()
        reserved: dict[str, int] = {}
        for taken in list(self._open.values()):  # copies: a scrape may run in a thread of its own
            for counter, amount in zip(taken.frame.counters.counters, taken.amounts, strict=True):
                reserved[counter.key] = reserved.get(counter.key, 0) + amount
        for seen in list(self._seen.values()):
            rule, heard_of = seen.rule, seen.counter
            maximum = self._book.maximum(rule)
            if maximum is None or heard_of is None:
                continue
            total, at = seen.total, seen.at
            if self._store is None:
                ends = heard_of.expires - _KEEP_AFTER
                total, at = self._memory.total(heard_of, int(max(0.0, ends - now) * MICRO / 60)), now
            yield LimitStatus(rule, maximum, _still(rule, heard_of, total, now), reserved.get(heard_of.key, 0), at)

    @property
    def memory(self) -> MemoryLimitStore:
        """This process's own counters: all that there are where there is no shared store."""
        return self._memory

    # --- off the path

    def start(self) -> None:
        if self._store is not None:
            self._tasks = [
                BACKGROUND.start("settle_limits", partial(self._settle_all, self._store)),
                BACKGROUND.start("renew_leases", partial(self._renew_all, self._store)),
                BACKGROUND.start("probe_limit_store", partial(self._look_after, self._store)),
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
            with contextlib.suppress(LimitStoreDown):
                while self._queue:  # what comes back into it raises
                    await self._settle_some(self._store)
            await self._store.close()

    @property
    def unsettled(self) -> int:
        """How much is still to be written."""
        return len(self._queue)

    async def _settle_all(self, store: LimitStore) -> None:
        while not self._closing:
            if not self._queue:  # a run that failed has left some
                await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._closing:
                try:
                    await self._settle_some(store)
                except LimitStoreDown:
                    await asyncio.sleep(self._settings.down_seconds)

    async def _settle_some(self, store: LimitStore) -> None:
        """What may not have been written goes back into the queue: a lease is settled once, however often it is
        tried."""
        some = [self._queue.popleft() for _ in range(min(len(self._queue), _SETTLE_AT_ONCE))]
        leases = [each for each in some if isinstance(each, FinishedCall)]
        amounts = [each for each in some if not isinstance(each, FinishedCall)]
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

    async def _renew_all(self, store: LimitStore) -> None:
        seconds = self._settings.lease_seconds
        while not self._closing:
            await asyncio.sleep(seconds / 3)
            names = [name for name, taken in self._open.items() if taken.shared]
            for n in range(0, len(names), 1000):
                with contextlib.suppress(LimitStoreDown):
                    await store.renew(names[n : n + 1000], seconds)

    async def _look_after(self, store: LimitStore) -> None:
        """Finds out at the start whether the store can be used, and when it can again though nobody calls."""
        is_known = False
        while not self._closing:
            if self._is_down or not is_known:
                is_known = True
                try:
                    await store.check_writable()
                except LimitStoreDown as error:
                    self._went_down(str(error))
                else:
                    self._came_back()
            await asyncio.sleep(self._settings.down_seconds)

    # --- taking

    def _make_frame(self, rules: CallerLimits, now: float) -> WindowFrame:
        if len(self._frames) >= _MAX_REMEMBERED:
            self._frames.clear()
        spans = tuple(
            self._windows.at(rule.window, rule.zone, now) if rule.window is not None else None for rule in rules.rules
        )
        least: dict[int, LimitRule] = {}
        told: dict[str, list[int]] = {}
        for place, rule in enumerate(rules.rules):
            told.setdefault(rule.measure, []).append(place)
            kind = KINDS[rule.measure]
            if rule.hard and (kind not in least or rule.maximum < least[kind].maximum):
                least[kind] = rule
        counters = [_counter(*each, now) for each in zip(rules.rules, rules.keys, spans, strict=True)]
        seen = [self._seen_of(rule, key) for rule, key in zip(rules.rules, rules.keys, strict=True)]
        if self._store is None:
            for each, counter in zip(seen, counters, strict=True):
                each.counter = counter
        frame = self._frames[id(rules)] = WindowFrame(
            rules,
            # What has no window is looked at now and then, so that its counter is not forgotten.
            min((span.end for span in spans if span is not None), default=int(now) + _KEEP_AFTER // 2),
            spans,
            WindowCounters(counters),
            tuple(KINDS[rule.measure] for rule in rules.rules),
            tuple(seen),
            tuple(least.items()),
            tuple(map(tuple, told.values())),
            tuple(_tells(rule, span) for rule, span in zip(rules.rules, spans, strict=True)),
            tuple((place, rule.warn_at) for place, rule in enumerate(rules.rules) if rule.warn_at is not None),
            next((rule for rule in rules.rules if rule.measure == "dollars" and not rule.allow_unpriced), None),
            next(
                (span.end for rule, span in zip(rules.rules, spans, strict=True) if rule.window == "minute" and span),
                None,
            ),
        )
        return frame

    def _seen_of(self, rule: LimitRule, key: str) -> SeenCounter:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = SeenCounter(rule)
        seen.rule = rule
        self._seen.move_to_end(key)
        while len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return seen

    def _amounts(self, frame: WindowFrame, ask: ReservationRequest) -> list[int]:
        dollars = ask.micro_dollars
        if dollars is None:
            if frame.strict is not None:
                self._listener.refused(frame.strict)
                raise Unpriced(
                    f"what {ask.model!r} costs is not known, and {frame.strict.label} must be kept; ask for a model "
                    "with a price",
                    param="model",
                )
            dollars = ask.assumed
        wanted = (1, ask.tokens, dollars, 1)
        for kind, rule in frame.least:
            if wanted[kind] > rule.maximum:
                self._listener.refused(rule)
                raise _never_fits(rule, wanted[kind])
        return [min(wanted[kind], MOST_AMOUNT) for kind in frame.kinds]

    async def _take(
        self, exchange_id: str, frame: WindowFrame, amounts: Sequence[int], weight: int
    ) -> tuple[ReserveResult, WindowCounters]:
        """What came of it, and by which maxima."""
        store = self._store
        if store is None:
            return self._take_here(exchange_id, frame, frame.counters, amounts, weight), frame.counters
        if self._may_ask():
            # From here on the counters may have changed: a caller who leaves in the meantime is settled too.
            self._open[exchange_id] = OpenReservation(frame, amounts, shared=True)
            settings = self._settings
            try:
                taken = await store.reserve(
                    exchange_id, frame.counters, amounts, weight, settings.lease_seconds, settings.lost
                )
            except LimitStoreDown as error:
                del self._open[exchange_id]
                self._queue.append(FinishedCall(SettleResult(exchange_id, (0,) * len(amounts)), None))
                self._wake.set()
                self._went_down(str(error))
            except BaseException:
                self._probing = False
                raise
            else:
                self._came_back()
                if not taken.ok:
                    del self._open[exchange_id]
                self._remember(frame, amounts, taken)
                return taken, frame.counters
        if not all(rule.local for rule in frame.rules.rules):
            raise PolicyUnavailable(
                "the limits of this caller cannot be checked now, so nothing was sent; try again", retry_after=1.0
            )
        counters = WindowCounters(
            [
                counter._replace(maximum=self._share(seen, counter))
                for seen, counter in zip(frame.seen, frame.counters.counters, strict=True)
            ]
        )
        taken = self._take_here(exchange_id, frame, counters, amounts, weight)
        if taken.ok:
            self._listener.local()
        return taken, counters

    def _take_here(
        self, exchange_id: str, frame: WindowFrame, counters: WindowCounters, amounts: Sequence[int], weight: int
    ) -> ReserveResult:
        settings = self._settings
        taken = self._memory.reserve_now(exchange_id, counters, amounts, weight, settings.lease_seconds, settings.lost)
        if taken.ok:
            self._open[exchange_id] = OpenReservation(frame, amounts, shared=False)
        return taken

    def _may_ask(self) -> bool:
        """While the store is down, one at a time finds out whether it is back."""
        if not self._is_down:
            return True
        if self._probing or time.monotonic() < self._down_until:
            return False
        self._probing = True
        return True

    def _went_down(self, reason: str) -> None:
        self._probing = False
        self._down_until = time.monotonic() + self._settings.down_seconds
        self._is_down = True
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._listener.store(up=False, reason=reason)

    def _came_back(self) -> None:
        if self._is_down:
            self._is_down = self._probing = False
            self._reasons.clear()
            self._listener.store(up=True)

    def _share(self, seen: SeenCounter, counter: WindowCounter) -> int:
        used = seen.total if seen.counter is not None and seen.counter.key == counter.key else 0
        return max(0, counter.maximum - used) // self._settings.share_of

    def _remember(self, frame: WindowFrame, amounts: Sequence[int], taken: ReserveResult) -> None:
        now, ok = self._clock(), taken.ok
        for seen, counter, amount, used in zip(frame.seen, frame.counters.counters, amounts, taken.used, strict=True):
            seen.counter = counter
            seen.total = used + amount if ok else used
            seen.at = now

    def _gave_back(self, taken: OpenReservation, used: Sequence[int]) -> None:
        """What settling changed in the counters, so that nobody has to ask them."""
        now, frame = self._clock(), taken.frame
        for seen, counter, amount, spent in zip(frame.seen, frame.counters.counters, taken.amounts, used, strict=True):
            if spent >= 0 and seen.counter is not None and seen.counter.key == counter.key:
                total = seen.total + spent - amount
                seen.total = total if total > 0 else 0
                seen.at = now

    # --- telling

    def _refusal(
        self,
        frame: WindowFrame,
        counters: WindowCounters,
        amounts: Sequence[int],
        weight: int,
        taken: ReserveResult,
        headers: Pairs,
        now: float,
    ) -> LimitReached:
        """By the rule that makes wait longest."""
        found: list[tuple[float, LimitRule]] = []
        for rule, span, counter, amount, used, before in zip(
            frame.rules.rules, frame.spans, counters.counters, amounts, taken.used, taken.before, strict=True
        ):
            if counter.hard and used + amount > counter.maximum:
                found.append((_wait(rule, span, counter.maximum - amount, used, before, weight, now), rule))
        wait, rule = max(found, key=lambda each: each[0])
        self._listener.refused(rule)
        if rule.measure == "requests":
            self._blocked[frame.rules.holder] = (now + wait, rule)
            while len(self._blocked) > _MAX_REMEMBERED:
                self._blocked.popitem(last=False)
        return _reached(rule, wait, headers)

    def _warnings(self, frame: WindowFrame, taken: ReserveResult) -> list[str]:
        found = []
        for place, warn_at in frame.warns:
            used, rule = taken.used[place], frame.rules.rules[place]
            if used < warn_at:
                continue
            found.append(f"{rule.label}: {used * 100 // max(1, rule.maximum)}% of {_amount(rule, rule.maximum)} used")
            key = frame.counters.counters[place].key
            if key not in self._warned:
                self._warned[key] = None
                while len(self._warned) > _MAX_REMEMBERED:
                    self._warned.popitem(last=False)
                self._listener.warned(rule, used)
        return found

    # --- settling

    def _spent(self, settlement: Settlement) -> tuple[int, int, int, int]:
        """By kinds, in whole units; -1: as was taken."""
        usage = settlement.usage
        if usage is None or settlement.unseen or not is_plausible(usage):
            # A budget errs on its own side: the worst case counts.
            nobody_told = -1 if settlement.may_have_been_used else 0
            return (-1, nobody_told, nobody_told, 0)
        tokens = usage.total
        if settlement.cost is not None:
            dollars = micro_dollars(settlement.cost)
        else:
            dollars = self._assumed(usage) if settlement.unpriced else 0
        return (-1, tokens, min(dollars, MOST_AMOUNT), 0)

    def _assumed(self, usage: Usage) -> int:
        settings = self._settings
        total = usage.prompt * settings.assumed_input + usage.completion * settings.assumed_output
        return -(-total // MICRO)


def _counter(rule: LimitRule, key: str, span: Span | None, now: float) -> WindowCounter:
    if span is None:
        return WindowCounter(key, "", rule.maximum, rule.hard, int(now) + _KEEP_AFTER, slot=True)
    before = f"{key}{span.start - 60}" if rule.window == "minute" else ""
    return WindowCounter(f"{key}{span.start}", before, rule.maximum, rule.hard, span.end + _KEEP_AFTER, slot=False)


def _tells(rule: LimitRule, span: Span | None) -> ToldAmounts:
    limit, left, reset = HEADERS[rule.measure]
    return ToldAmounts((limit, number(rule, rule.maximum)), left, reset, rule, span.end if span is not None else None)


def micro_dollars(dollars: Decimal) -> int:
    """Whole micro-dollars, rounded up; what no counter holds, or what is no number, as the most that one does."""
    if not dollars.is_finite():
        return MOST_AMOUNT
    return min(MOST_AMOUNT, max(0, int((dollars * MICRO).to_integral_value(ROUND_CEILING))))


def _still(rule: LimitRule, counter: WindowCounter, total: int, now: float) -> int:
    """What of `total`, heard in the window of `counter`, counts now."""
    over = now - (counter.expires - _KEEP_AFTER)
    if counter.slot or over < 0:
        return total
    # A minute fades away within the next one.
    return int(total * (1 - over / 60)) if rule.window == "minute" and over < 60 else 0


def _only_slots(counters: WindowCounters, amounts: Sequence[int], taken: ReserveResult) -> bool:
    return all(
        counter.slot
        for counter, amount, used in zip(counters.counters, amounts, taken.used, strict=True)
        if counter.hard and used + amount > counter.maximum
    )


def _wait(rule: LimitRule, span: Span | None, room: int, used: int, before: int, weight: int, now: float) -> float:
    """Seconds until the counter is at `room`, if nobody takes any."""
    if span is None:
        return 1.0
    if rule.window != "minute":
        return max(0.0, span.end - now)
    current = used + -before * weight // MICRO
    if current <= room:  # as soon as enough of the minute before no longer counts
        return max(0.05, span.end - 60 * (room - current) / max(1, before) - now)
    return max(0.05, span.end + 60 * (1 - room / current) - now)


def _reached(rule: LimitRule, wait: float, headers: Pairs) -> LimitReached:
    kind = BudgetReached if rule.measure == "dollars" else LimitReached
    return kind(
        f"{rule.label} is limited to {_amount(rule, rule.maximum)}; try again in {max(1, -int(-wait // 1))} s",
        retry_after=wait,
        headers=headers,
    )


def _never_fits(rule: LimitRule, amount: int) -> LimitReached:
    kind = BudgetReached if rule.measure == "dollars" else LimitReached
    return kind(
        f"this request could use up to {_amount(rule, amount)}, more than {rule.label} allows "
        f"({_amount(rule, rule.maximum)}); ask for fewer output tokens (max_tokens) or send less"
    )
