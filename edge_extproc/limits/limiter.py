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
from typing import NamedTuple, get_args

from ..errors import BudgetReached, LimitReached, PolicyUnavailable, Unpriced
from ..model.plausible import is_plausible
from ..model.principal import Principal
from ..model.settlement import Settlement
from ..model.usage import Usage
from ..telemetry.background import BACKGROUND
from .base import (
    MICRO,
    MOST_AMOUNT,
    Admission,
    Ask,
    Counter,
    Counters,
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


_COSTS_NOTHING = Ask(0, 0)
_NOTHING_LEFT_TO_TELL = Admission(())
# What a rule counts, as an index into what a call asks for and into what it has used.
_KINDS: dict[Measure, int] = {"requests": 0, "tokens": 1, "dollars": 2, "concurrent": 3}


@dataclass(slots=True)
class _Seen:
    """A counter when the shared store last told of it. One for all callers who share it."""

    rule: Rule
    counter: Counter | None = None
    """None: not yet."""
    total: int = 0
    """What the counter had come to, with what counts of the window before."""
    at: float = 0.0


class _Told(NamedTuple):
    """What headers say of a rule, as far as it stays the same."""

    limit: tuple[str, str]
    left: str
    reset: str
    rule: Rule
    ends: float | None


@dataclass(slots=True)
class _Frame:
    """The rules of one caller in the windows of now. Nothing of it changes until one of them ends, so that a call costs
    no more than what is its own."""

    rules: Rules
    until: float
    """When it must be made anew."""
    spans: tuple[Span | None, ...]
    counters: Counters
    kinds: tuple[int, ...]
    seen: tuple[_Seen, ...]
    least: tuple[tuple[int, Rule], ...]
    """Of each kind the narrowest rule that refuses."""
    told: tuple[tuple[int, ...], ...]
    """The rules of each measure, by their places."""
    tells: tuple[_Told, ...]
    warns: tuple[tuple[int, int], ...]
    """Places of rules that warn, and from how much on."""
    strict: Rule | None
    """A budget that wants a known price."""
    slides: int | None
    """When the minute ends, whose part before the call counts."""


@dataclass(slots=True)
class _Open:
    """What one exchange took."""

    frame: _Frame
    amounts: Sequence[int]
    shared: bool


class _Done(NamedTuple):
    """To be written."""

    settled: Settled
    taken: _Open | None
    """None: whether it was taken at all is not known."""


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
        """By how the counters' keys begin."""
        self._frames: dict[int, _Frame] = {}
        """By the identity of their rules, which they hold."""
        self._warned: OrderedDict[str, None] = OrderedDict()
        self._queue: deque[_Done | tuple[str, int, int]] = deque(maxlen=_MAX_QUEUE)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._down_until = 0.0
        self._is_down = False
        self._reasons: set[str] = set()
        """Why it is down: those that were told."""
        self._probing = False

    def replace_book(self, book: Book, settings: LimiterSettings | None = None) -> None:
        """Other rules from now on, with the counters that there are. Calls under way are settled by the rules that they
        began with."""
        self._book = book
        self._settings = settings or self._settings
        # Who had to wait may be allowed more now.
        self._blocked.clear()
        self._warned.clear()
        self._frames.clear()

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
                return Admission((*headers, ("x-edge-warning", "; ".join(warnings))))
        return Admission(headers)

    async def count(self, exchange_id: str, rules: Rules) -> Admission:
        if rules.requests is None:
            return _NOTHING_LEFT_TO_TELL
        return await self.admit(exchange_id, rules.requests, _COSTS_NOTHING)

    def settle(self, settlement: Settlement) -> None:
        taken = self._open.pop(settlement.exchange_id, None)
        if taken is None:
            return
        spent = self._spent(settlement)
        used = tuple([spent[kind] for kind in taken.frame.kinds])
        if taken.shared:
            self._queue.append(_Done(Settled(settlement.exchange_id, used), taken))
            self._wake.set()
            return
        self._memory.settle_now(settlement.exchange_id, used)
        if self._store is None:
            return
        # The shared counters have not heard of it.
        self._queue.extend(
            (counter.key, spent if spent >= 0 else amount, counter.expires)
            for counter, amount, spent in zip(taken.frame.counters.of, taken.amounts, used, strict=True)
            if not counter.slot
        )
        self._wake.set()

    # --- what is known

    def standings(self) -> Iterator[Standing]:
        """Of every rule in force that was asked for. It takes some microseconds for each: for a scrape."""
        now = self._clock()
        reserved: dict[str, int] = {}
        for taken in list(self._open.values()):  # copies: a scrape may run in a thread of its own
            for counter, amount in zip(taken.frame.counters.of, taken.amounts, strict=True):
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
            yield Standing(rule, maximum, _still(rule, heard_of, total, now), reserved.get(heard_of.key, 0), at)

    @property
    def memory(self) -> MemoryStore:
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
            if not self._queue:  # a run that failed has left some
                await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._closing:
                try:
                    await self._settle_some(store)
                except StoreDown:
                    await asyncio.sleep(self._settings.down_seconds)

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

    async def _look_after(self, store: Store) -> None:
        """Finds out at the start whether the store can be used, and when it can again though nobody calls."""
        is_known = False
        while not self._closing:
            if self._is_down or not is_known:
                is_known = True
                try:
                    await store.prove()
                except StoreDown as error:
                    self._went_down(str(error))
                else:
                    self._came_back()
            await asyncio.sleep(self._settings.down_seconds)

    # --- taking

    def _make_frame(self, rules: Rules, now: float) -> _Frame:
        if len(self._frames) >= _MAX_REMEMBERED:
            self._frames.clear()
        spans = tuple(
            self._windows.at(rule.window, rule.zone, now) if rule.window is not None else None for rule in rules.of
        )
        least: dict[int, Rule] = {}
        told: dict[str, list[int]] = {}
        for place, rule in enumerate(rules.of):
            told.setdefault(rule.measure, []).append(place)
            kind = _KINDS[rule.measure]
            if rule.hard and (kind not in least or rule.maximum < least[kind].maximum):
                least[kind] = rule
        counters = [_counter(*each, now) for each in zip(rules.of, rules.keys, spans, strict=True)]
        seen = [self._seen_of(rule, key) for rule, key in zip(rules.of, rules.keys, strict=True)]
        if self._store is None:
            for each, counter in zip(seen, counters, strict=True):
                each.counter = counter
        frame = self._frames[id(rules)] = _Frame(
            rules,
            # What has no window is looked at now and then, so that its counter is not forgotten.
            min((span.end for span in spans if span is not None), default=int(now) + _KEEP_AFTER // 2),
            spans,
            Counters(counters),
            tuple(_KINDS[rule.measure] for rule in rules.of),
            tuple(seen),
            tuple(least.items()),
            tuple(map(tuple, told.values())),
            tuple(_tells(rule, span) for rule, span in zip(rules.of, spans, strict=True)),
            tuple((place, rule.warn_at) for place, rule in enumerate(rules.of) if rule.warn_at is not None),
            next((rule for rule in rules.of if rule.measure == "dollars" and not rule.allow_unpriced), None),
            next(
                (span.end for rule, span in zip(rules.of, spans, strict=True) if rule.window == "minute" and span), None
            ),
        )
        return frame

    def _seen_of(self, rule: Rule, key: str) -> _Seen:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(rule)
        seen.rule = rule
        self._seen.move_to_end(key)
        while len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return seen

    def _amounts(self, frame: _Frame, ask: Ask) -> list[int]:
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
        self, exchange_id: str, frame: _Frame, amounts: Sequence[int], weight: int
    ) -> tuple[Taken, Counters]:
        """What came of it, and by which maxima."""
        store = self._store
        if store is None:
            return self._take_here(exchange_id, frame, frame.counters, amounts, weight), frame.counters
        if self._may_ask():
            # From here on the counters may have changed: a caller who leaves in the meantime is settled too.
            self._open[exchange_id] = _Open(frame, amounts, shared=True)
            settings = self._settings
            try:
                taken = await store.take(
                    exchange_id, frame.counters, amounts, weight, settings.lease_seconds, settings.lost
                )
            except StoreDown as error:
                del self._open[exchange_id]
                self._queue.append(_Done(Settled(exchange_id, (0,) * len(amounts)), None))
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
        if not all(rule.local for rule in frame.rules.of):
            raise PolicyUnavailable(
                "the limits of this caller cannot be checked now, so nothing was sent; try again", retry_after=1.0
            )
        counters = Counters(
            [
                counter._replace(maximum=self._share(seen, counter))
                for seen, counter in zip(frame.seen, frame.counters.of, strict=True)
            ]
        )
        taken = self._take_here(exchange_id, frame, counters, amounts, weight)
        if taken.ok:
            self._listener.local()
        return taken, counters

    def _take_here(
        self, exchange_id: str, frame: _Frame, counters: Counters, amounts: Sequence[int], weight: int
    ) -> Taken:
        settings = self._settings
        taken = self._memory.take_now(exchange_id, counters, amounts, weight, settings.lease_seconds, settings.lost)
        if taken.ok:
            self._open[exchange_id] = _Open(frame, amounts, shared=False)
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

    def _share(self, seen: _Seen, counter: Counter) -> int:
        used = seen.total if seen.counter is not None and seen.counter.key == counter.key else 0
        return max(0, counter.maximum - used) // self._settings.share_of

    def _remember(self, frame: _Frame, amounts: Sequence[int], taken: Taken) -> None:
        now, ok = self._clock(), taken.ok
        for seen, counter, amount, used in zip(frame.seen, frame.counters.of, amounts, taken.used, strict=True):
            seen.counter = counter
            seen.total = used + amount if ok else used
            seen.at = now

    def _gave_back(self, taken: _Open, used: Sequence[int]) -> None:
        """What settling changed in the counters, so that nobody has to ask them."""
        now, frame = self._clock(), taken.frame
        for seen, counter, amount, spent in zip(frame.seen, frame.counters.of, taken.amounts, used, strict=True):
            if spent >= 0 and seen.counter is not None and seen.counter.key == counter.key:
                total = seen.total + spent - amount
                seen.total = total if total > 0 else 0
                seen.at = now

    # --- telling

    def _refusal(
        self,
        frame: _Frame,
        counters: Counters,
        amounts: Sequence[int],
        weight: int,
        taken: Taken,
        headers: Pairs,
        now: float,
    ) -> LimitReached:
        """By the rule that makes wait longest."""
        found: list[tuple[float, Rule]] = []
        for rule, span, counter, amount, used, before in zip(
            frame.rules.of, frame.spans, counters.of, amounts, taken.used, taken.before, strict=True
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

    def _warnings(self, frame: _Frame, taken: Taken) -> list[str]:
        found = []
        for place, warn_at in frame.warns:
            used, rule = taken.used[place], frame.rules.of[place]
            if used < warn_at:
                continue
            found.append(f"{rule.label}: {used * 100 // max(1, rule.maximum)}% of {_amount(rule, rule.maximum)} used")
            key = frame.counters.of[place].key
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
            dollars = micro(settlement.cost)
        else:
            dollars = self._assumed(usage) if settlement.unpriced else 0
        return (-1, tokens, min(dollars, MOST_AMOUNT), 0)

    def _assumed(self, usage: Usage) -> int:
        settings = self._settings
        total = usage.prompt * settings.assumed_input + usage.completion * settings.assumed_output
        return -(-total // MICRO)


def _counter(rule: Rule, key: str, span: Span | None, now: float) -> Counter:
    if span is None:
        return Counter(key, "", rule.maximum, rule.hard, int(now) + _KEEP_AFTER, slot=True)
    before = f"{key}{span.start - 60}" if rule.window == "minute" else ""
    return Counter(f"{key}{span.start}", before, rule.maximum, rule.hard, span.end + _KEEP_AFTER, slot=False)


def _tells(rule: Rule, span: Span | None) -> _Told:
    limit, left, reset = _HEADERS[rule.measure]
    return _Told((limit, _number(rule, rule.maximum)), left, reset, rule, span.end if span is not None else None)


def micro(dollars: Decimal) -> int:
    """Whole micro-dollars, rounded up; what no counter holds, or what is no number, as the most that one does."""
    if not dollars.is_finite():
        return MOST_AMOUNT
    return min(MOST_AMOUNT, max(0, int((dollars * MICRO).to_integral_value(ROUND_CEILING))))


def _still(rule: Rule, counter: Counter, total: int, now: float) -> int:
    """What of `total`, heard in the window of `counter`, counts now."""
    over = now - (counter.expires - _KEEP_AFTER)
    if counter.slot or over < 0:
        return total
    # A minute fades away within the next one.
    return int(total * (1 - over / 60)) if rule.window == "minute" and over < 60 else 0


def _only_slots(counters: Counters, amounts: Sequence[int], taken: Taken) -> bool:
    return all(
        counter.slot
        for counter, amount, used in zip(counters.of, amounts, taken.used, strict=True)
        if counter.hard and used + amount > counter.maximum
    )


def _wait(rule: Rule, span: Span | None, room: int, used: int, before: int, weight: int, now: float) -> float:
    """Seconds until the counter is at `room`, if nobody takes any."""
    if span is None:
        return 1.0
    if rule.window != "minute":
        return max(0.0, span.end - now)
    current = used + -before * weight // MICRO
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


def _left(frame: _Frame, amounts: Sequence[int], taken: Taken, now: float) -> Pairs:
    """Of each measure, the rule of which the least is left."""
    told: list[tuple[str, str]] = []
    tells, used, ok = frame.tells, taken.used, taken.ok
    for places in frame.told:
        chosen, least = places[0], 2.0
        if len(places) > 1:
            for place in places:
                maximum = tells[place].rule.maximum
                share = (maximum - used[place] - (amounts[place] if ok else 0)) / (maximum or 1)
                if share < least:
                    chosen, least = place, share
        limit, left_name, reset_name, rule, ends = tells[chosen]
        left = rule.maximum - used[chosen] - (amounts[chosen] if ok else 0)
        reset = 1 if ends is None else -int(-(ends - now) // 1)
        told += (
            limit,
            (left_name, _number(rule, left if left > 0 else 0)),
            (reset_name, f"{reset if reset > 1 else 1}s"),
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
