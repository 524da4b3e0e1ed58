"""The `Limiter` of one worker: reserves the most that a call can use, and settles it to what was used.

    admit     reserves in every counter that applies, in one step
    settle    queues the used amounts; a background task writes them to the store
    renew     a background task renews the leases of calls in progress; those of a dead worker are lost

Without a shared store, the counters are in this process. While the shared store is down, a rule that is not `local`
refuses all calls, and a `local` rule admits this worker's share of what was left when the store last answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ..errors import LimitReached, PolicyUnavailable, Unpriced
from ..model.limit_use import LimitUse
from ..model.principal import Principal
from ..model.run import Run
from ..model.settlement import Settlement
from ..telemetry.background import BACKGROUND
from .base import (
    MAX_AMOUNT,
    MICRO,
    CallerLimits,
    Charged,
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
    WindowCounters,
)
from .counters import KEEP_AFTER, counter_of, header_fields, remaining_total
from .frames import (
    COSTS_NOTHING,
    KINDS,
    NO_HEADERS,
    FinishedCall,
    LastCount,
    OpenReservation,
    WindowFrame,
    by_measures,
    charged_by,
    counts_minute,
    local_counters,
    record_counts,
    update_counts,
    without_minutes,
)
from .memory import MemoryLimitStore
from .rate_limit_headers import amount_text, limit_headers
from .refusals import exceeds, never_fits, only_slots, reached, wait_for
from .rule_table import RuleTable, counter_key
from .runs import ancestry_of, exceeded_run, run_headers, run_reached
from .slots import Uploads, reserved_by
from .spending import held_of, spent_by
from .uses import uses_of
from .windows import Windows
from .worker_count import WorkerCount

# Seconds. A concurrency slot is released just after the response ends, and a caller may send its next request sooner.
_SLOT_RETRY_DELAYS = (0.005, 0.015, 0.04, 0.08)
_SETTLE_BATCH = 64
# More settlements than a worker collects in hours. One that is dropped counts with its whole reservation.
_MAX_QUEUE = 100_000
_MAX_CACHED = 10_000
# Holders without a name in the configuration that `uses` reports.
_MAX_SEEN = 2_000


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    lease_seconds: int = 60
    lost: Lost = "charge"
    share_of: int | None = 1
    """The number of all workers, by which limits are divided while the store is down. None: it is counted there."""
    assumed: tuple[int, int] = (0, 0)
    """Micro-dollars for a million input and output tokens of a model without a price, for rules with
    `allow_unpriced`."""
    down_seconds: float = 1.0
    """After a failure, the store is not used for so long."""
    runs: bool = False
    """Count runs even if the configuration has no caps of runs, because a call can state some."""


class PolicyLimiter:
    """`store` None: counters in this process only. `start` and `close` need a running event loop."""

    def __init__(
        self,
        rule_table: RuleTable,
        store: LimitStore | None,
        listener: LimitListener,
        settings: LimiterSettings = LimiterSettings(),
        clock: Callable[[], float] = time.time,
        workers: WorkerCount | None = None,
    ) -> None:
        self._rules = rule_table
        self._store = store
        self._listener = listener
        self._settings = settings
        self._clock = clock
        self._memory = MemoryLimitStore(clock)
        self.workers = workers or WorkerCount()
        self._windows = Windows()
        self._open: dict[str, OpenReservation] = {}
        self._uploads = Uploads()
        self._blocked: OrderedDict[str, tuple[float, LimitRule]] = OrderedDict()
        """By holder: until when its requests are refused (Unix time), and by which rule."""
        self._last_counts: OrderedDict[str, LastCount] = OrderedDict()
        """By the prefix of the counters' keys."""
        self._frames: dict[int, WindowFrame] = {}
        """By `id` of their rules. A frame refers to its rules, so the id is not reused."""
        self._runs: OrderedDict[tuple[str, str | None, str | None, str, Run], CallerLimits] = OrderedDict()
        """The rules of recent runs, by caller and run."""
        self._warned: OrderedDict[str, None] = OrderedDict()
        self._queue: deque[FinishedCall | tuple[str, int, int]] = deque(maxlen=_MAX_QUEUE)
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._down_until = 0.0
        self._is_down = False
        self._reasons: set[str] = set()
        """The reasons for being down that were reported."""
        self._probing = False

    def replace_rules(self, rule_table: RuleTable, settings: LimiterSettings | None = None) -> None:
        """Sets other rules. The counters stay. Calls in progress are settled by the rules that they began with."""
        self._rules = rule_table
        self._settings = settings or self._settings
        # A caller who had to wait may have a higher limit now.
        self._blocked.clear()
        self._runs.clear()
        self._warned.clear()
        self._frames.clear()

    # --- the port

    def rules(self, principal: Principal) -> CallerLimits | None:
        return self._rules.rules(principal)

    @property
    def counts_runs(self) -> bool:
        return self._settings.runs or self._rules.caps_runs

    async def with_run(self, principal: Principal, run: Run) -> CallerLimits:
        name = (principal.tenant, principal.team, principal.user, principal.key_id, run)
        known = self._runs.get(name)
        if known is not None:
            self._runs.move_to_end(name)
            return known
        chain = await ancestry_of(self._store or self._memory, principal.tenant, run)
        rules = self._runs[name] = self._rules.with_run(principal, run, chain)
        while len(self._runs) > _MAX_CACHED:
            self._runs.popitem(last=False)
        return rules

    def run_used(self, rules: CallerLimits) -> int:
        shares = [0]
        for rule, key in zip(rules.rules, rules.keys, strict=True):
            last = self._last_counts.get(key) if rule.level == "run" else None
            if last is not None and last.run_maximum is not None:
                total = self._memory.value(key) if self._store is None and rule.measure != "seconds" else last.total
                shares.append(total * 100 // max(1, last.run_maximum))
        return max(shares)

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
        raise reached(rule, wait, ())

    async def raise_if_full(self, exchange_id: str, rules: CallerLimits) -> None:
        full = await self._uploads.open(exchange_id, rules, self._reserved, _SLOT_RETRY_DELAYS)
        if full is not None:
            self._listener.refused(full)
            raise reached(full, 1.0, ())

    async def admit(self, exchange_id: str, rules: CallerLimits, request: ReservationRequest) -> Reservation:
        now = self._clock()
        self._uploads.close(exchange_id)
        frame = self._frames.get(id(rules))
        if frame is None or now >= frame.until or frame.rules is not rules:
            frame = self._make_frame(rules, now)
        amounts = self._amounts(frame, request)
        # A minute is a sliding window: of the previous minute, the part within the last 60 seconds counts.
        weight = int((frame.slides - now) * MICRO / 60) if frame.slides is not None else 0
        if self._store is None:
            counters = frame.counters
            result = self._reserve_locally(exchange_id, frame, counters, amounts, weight)
        else:
            result, counters = await self._reserve(exchange_id, frame, amounts, weight)
        if not result.ok:
            for wait in _SLOT_RETRY_DELAYS:
                if result.ok or not only_slots(counters, amounts, result):
                    break
                await asyncio.sleep(wait)
                result, counters = await self._reserve(exchange_id, frame, amounts, weight)
        headers = limit_headers(frame, amounts, result, now)
        if frame.runs:
            self._record_runs(frame, result)
            headers = (*headers, *run_headers(frame, amounts, result))
        if not result.ok:
            raise self._refusal(frame, counters, amounts, weight, result, headers, now)
        for place, warn_at in frame.warnings:
            if result.used[place] >= warn_at:
                headers = (*headers, ("x-edge-warning", "; ".join(self._warnings(frame, result))))
                break
        return Reservation(headers, frame.rules.rules, amounts, result.used, self._settings.assumed)

    async def count(self, exchange_id: str, rules: CallerLimits) -> Reservation:
        if rules.requests is None:
            return NO_HEADERS
        return await self.admit(exchange_id, rules.requests, COSTS_NOTHING)

    def settle(self, settlement: Settlement) -> None:
        self._uploads.close(settlement.exchange_id)
        reservation = self._open.pop(settlement.exchange_id, None)
        if reservation is None:
            return
        spent = spent_by(settlement, *self._settings.assumed)
        self._finish(settlement.exchange_id, reservation, tuple([spent[kind] for kind in reservation.frame.kinds]))

    def held(self, settlement: Settlement) -> int | None:
        reservation = self._open.get(settlement.exchange_id)
        if reservation is None:
            return None
        dollars = KINDS["dollars"]
        amounts = [n for kind, n in zip(reservation.frame.kinds, reservation.amounts, strict=True) if kind == dollars]
        return held_of(settlement, amounts, *self._settings.assumed)

    def charge(self, exchange_id: str) -> tuple[Charged, ...]:
        reservation = self._open.pop(exchange_id, None)
        if reservation is None:
            return ()
        self._finish(exchange_id, reservation, (-1,) * len(reservation.amounts))
        return charged_by(reservation)

    def correct(self, corrections: Sequence[tuple[str, int, int]]) -> None:
        if self._store is None:
            self._memory.correct(corrections)
            return
        self._queue.extend(corrections)
        self._wake.set()

    def _finish(self, exchange_id: str, reservation: OpenReservation, used: tuple[int, ...]) -> None:
        if reservation.shared:
            self._queue.append(FinishedCall(SettleResult(exchange_id, used), reservation))
            self._wake.set()
            return
        self._memory.settle_now(exchange_id, used)
        if self._store is None:
            return
        # The reservation was made locally while the store was down, so the store needs the used amounts.
        self._queue.extend(
            (counter.key, spent if spent >= 0 else amount, counter.expires)
            for counter, amount, spent in zip(reservation.frame.counters.items, reservation.amounts, used, strict=True)
            if not counter.slot
        )
        self._wake.set()

    # --- for the admin API

    async def uses(self) -> list[LimitUse]:
        """How much is used of the limits of each named holder, and of those that this worker has seen lately. Raises
        LimitStoreDown."""
        recent = (last.rule for last in list(self._last_counts.values())[-_MAX_SEEN:])
        others = [rule for rule in recent if rule.level != "run" and self._rules.maximum(rule) is not None]
        rules = {counter_key(rule): rule for rule in (*others, *self._rules.named())}
        store = self._store or self._memory
        return await uses_of(rules.values(), store.read, self._reserved(), self._clock())

    def _reserved(self) -> dict[str, int]:
        return reserved_by(list(self._open.values()))  # a copy, because a scrape may run in another thread

    # --- for metrics

    def statuses(self) -> Iterator[LimitStatus]:
        """The status of every rule that was used and still exists. Some microseconds for each: for a metrics scrape."""
        now = self._clock()
        reserved = self._reserved()
        for last in list(self._last_counts.values()):  # a copy, as above
            rule, reported = last.rule, last.counter
            maximum = self._rules.maximum(rule)
            if maximum is None or reported is None:
                continue
            total, at = last.total, last.at
            if self._store is None:
                ends = reported.expires - KEEP_AFTER
                total, at = self._memory.total(reported, int(max(0.0, ends - now) * MICRO / 60)), now
            used = remaining_total(rule, reported, total, now)
            yield LimitStatus(rule, maximum, used, reserved.get(reported.key, 0), at)

    @property
    def memory(self) -> MemoryLimitStore:
        """This process's own counters. Without a shared store, there are no others."""
        return self._memory

    # --- background tasks

    def start(self) -> None:
        if self._store is not None:
            self._tasks = [
                BACKGROUND.start("settle_limits", partial(self._settle_all, self._store)),
                BACKGROUND.start("renew_leases", partial(self._renew_all, self._store)),
                BACKGROUND.start("probe_limit_store", partial(self._probe_store, self._store)),
                BACKGROUND.start("count_workers", partial(self.workers.run, self._store)),
            ]

    async def close(self) -> None:
        """Writes the queued settlements, if the store accepts them at once."""
        # The tasks also check this flag: a client library may swallow a cancellation.
        self._closing = True
        self._wake.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._store is not None:
            with contextlib.suppress(LimitStoreDown):
                while self._queue:  # a failure returns items to the queue, and raises
                    await self._settle_some(self._store)
                await self.workers.leave(self._store)
            await self._store.close()

    @property
    def shares(self) -> int | None:
        """The number by which limits are divided while the store is down. None: this worker has no share yet."""
        return self.workers.shares if self._settings.share_of is None else self._settings.share_of

    @property
    def unsettled(self) -> int:
        """The number of settlements that are still to be written."""
        return len(self._queue)

    async def _settle_all(self, store: LimitStore) -> None:
        while not self._closing:
            if not self._queue:  # a failed run leaves items
                await self._wake.wait()
            self._wake.clear()
            while self._queue and not self._closing:
                try:
                    await self._settle_some(store)
                except LimitStoreDown:
                    await asyncio.sleep(self._settings.down_seconds)

    async def _settle_some(self, store: LimitStore) -> None:
        """Writes one batch. After a failure it goes back into the queue: settling a lease twice changes nothing."""
        is_unsure = False
        some = [self._queue.popleft() for _ in range(min(len(self._queue), _SETTLE_BATCH))]
        leases = [each for each in some if isinstance(each, FinishedCall)]
        amounts = [each for each in some if not isinstance(each, FinishedCall)]
        try:
            if leases:
                await store.settle([each.settled for each in leases])
                for settled, reservation in leases:
                    if reservation is not None:
                        update_counts(reservation, settled.used, self._clock())
                leases = []
            is_unsure = True
            if amounts:
                await store.add(amounts)
        except BaseException:  # also a cancellation: the settlements must not be lost
            # An amount that was perhaps given back is not given back again.
            again = [each for each in amounts if each[1] >= 0 or not is_unsure]
            self._queue.extendleft([*again, *leases])
            raise

    async def _renew_all(self, store: LimitStore) -> None:
        seconds = self._settings.lease_seconds
        while not self._closing:
            await asyncio.sleep(seconds / 3)
            names = [name for name, reservation in self._open.items() if reservation.shared]
            for n in range(0, len(names), 1000):
                with contextlib.suppress(LimitStoreDown):
                    await store.renew(names[n : n + 1000], seconds)

    async def _probe_store(self, store: LimitStore) -> None:
        """Checks at the start whether the store can be used. While it is down, checks whether it is back."""
        is_known = False
        while not self._closing:
            if self._is_down or not is_known:
                is_known = True
                try:
                    await store.check_writable()
                except LimitStoreDown as error:
                    self._mark_down(str(error))
                else:
                    self._mark_up()
            await asyncio.sleep(self._settings.down_seconds)

    # --- reserving

    def _make_frame(self, rules: CallerLimits, now: float) -> WindowFrame:
        if len(self._frames) >= _MAX_CACHED:
            self._frames.clear()
        spans = tuple(
            self._windows.at(rule.window, rule.zone, now) if rule.window not in (None, "run") else None
            for rule in rules.rules
        )
        least, by_measure = by_measures(rules)
        counters = [counter_of(*each, now) for each in zip(rules.rules, rules.keys, spans, strict=True)]
        last = [self._last_count(rule, key) for rule, key in zip(rules.rules, rules.keys, strict=True)]
        if self._store is None:
            for each, counter in zip(last, counters, strict=True):
                each.counter = counter
        frame = self._frames[id(rules)] = WindowFrame(
            rules,
            # Without a window, the frame is renewed from time to time, which extends the counter's expiry.
            min((span.end for span in spans if span is not None), default=int(now) + KEEP_AFTER // 2),
            spans,
            WindowCounters(counters),
            tuple(KINDS[rule.measure] for rule in rules.rules),
            tuple(last),
            least,
            by_measure,
            tuple(header_fields(rule, span) for rule, span in zip(rules.rules, spans, strict=True)),
            tuple((place, rule.warn_at) for place, rule in enumerate(rules.rules) if rule.warn_at is not None),
            next((rule for rule in rules.rules if rule.measure == "dollars" and not rule.allow_unpriced), None),
            next(
                (span.end for rule, span in zip(rules.rules, spans, strict=True) if rule.window == "minute" and span),
                None,
            ),
            tuple(place for place, rule in enumerate(rules.rules) if rule.level == "run"),
        )
        return frame

    def _last_count(self, rule: LimitRule, key: str) -> LastCount:
        last = self._last_counts.get(key)
        if last is None:
            last = self._last_counts[key] = LastCount(rule)
        last.rule = rule
        self._last_counts.move_to_end(key)
        while len(self._last_counts) > _MAX_CACHED:
            self._last_counts.popitem(last=False)
        return last

    def _amounts(self, frame: WindowFrame, request: ReservationRequest) -> list[int]:
        dollars = request.micro_dollars
        if dollars is None:
            if frame.strict is not None:
                self._listener.refused(frame.strict)
                raise Unpriced(
                    f"the price of {request.model!r} is not known, and the budget {frame.strict.label} needs one; use "
                    "a model with a price",
                    param="model",
                )
            dollars = request.assumed
        requested = (1, request.tokens, dollars, 1, 0)
        for kind, rule in frame.least:
            if request.batch and counts_minute(rule):
                continue
            if requested[kind] > rule.maximum:
                self._listener.refused(rule)
                raise never_fits(rule, requested[kind])
        amounts = [min(requested[kind], MAX_AMOUNT) for kind in frame.kinds]
        return without_minutes(frame, amounts) if request.batch else amounts

    async def _reserve(
        self, exchange_id: str, frame: WindowFrame, amounts: Sequence[int], weight: int
    ) -> tuple[ReserveResult, WindowCounters]:
        """The result, and the counters with the maxima that were applied."""
        store = self._store
        if store is None:
            return self._reserve_locally(exchange_id, frame, frame.counters, amounts, weight), frame.counters
        if self._may_use_store():
            # Registered before the call: if the caller leaves meanwhile, the reservation is settled too.
            self._open[exchange_id] = OpenReservation(frame, amounts, shared=True)
            lease = (self._settings.lease_seconds, self._settings.lost)
            try:
                result = await store.reserve(exchange_id, frame.counters, amounts, weight, *lease)
            except LimitStoreDown as error:
                del self._open[exchange_id]
                self._queue.append(FinishedCall(SettleResult(exchange_id, (0,) * len(amounts)), None))
                self._wake.set()
                self._mark_down(str(error))
            except BaseException:  # also a cancellation: otherwise no later call would use the store
                self._probing = False
                raise
            else:
                self._mark_up()
                if not result.ok:
                    del self._open[exchange_id]
                record_counts(frame, amounts, result, self._clock())
                return result, frame.counters
        shares = self.shares
        if shares is None or not all(rule.local for rule in frame.rules.rules):
            raise PolicyUnavailable(
                "the limits of this caller cannot be checked now; the request was not sent; try again", retry_after=1.0
            )
        counters = local_counters(frame, shares)
        result = self._reserve_locally(exchange_id, frame, counters, amounts, weight)
        if result.ok:
            self._listener.local()
        return result, counters

    def _reserve_locally(
        self, exchange_id: str, frame: WindowFrame, counters: WindowCounters, amounts: Sequence[int], weight: int
    ) -> ReserveResult:
        settings = self._settings
        result = self._memory.reserve_now(exchange_id, counters, amounts, weight, settings.lease_seconds, settings.lost)
        if result.ok:
            self._open[exchange_id] = OpenReservation(frame, amounts, shared=False)
        return result

    def _may_use_store(self) -> bool:
        """While the store is down, one call at a time uses it after `down_seconds`."""
        if not self._is_down:
            return True
        if self._probing or time.monotonic() < self._down_until:
            return False
        self._probing = True
        return True

    def _mark_down(self, reason: str) -> None:
        self._probing = False
        self._down_until = time.monotonic() + self._settings.down_seconds
        self._is_down = True
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._listener.store(up=False, reason=reason)

    def _mark_up(self) -> None:
        if self._is_down:
            self._is_down = self._probing = False
            self._reasons.clear()
            self._listener.store(up=True)

    def _record_runs(self, frame: WindowFrame, result: ReserveResult) -> None:
        for place in frame.runs:
            last = frame.last_counts[place]
            last.run_maximum = result.before[place]
            if self._store is None:
                last.total = result.used[place]

    # --- refusals and warnings

    def _refusal(
        self,
        frame: WindowFrame,
        counters: WindowCounters,
        amounts: Sequence[int],
        weight: int,
        result: ReserveResult,
        headers: Pairs,
        now: float,
    ) -> LimitReached:
        """The error, by the rule with the longest wait."""
        run = exceeded_run(frame, amounts, result) if frame.runs else None
        if run is not None:
            self._listener.refused(run[0])
            return run_reached(*run, headers)
        waits: list[tuple[float, LimitRule]] = []
        for rule, span, counter, amount, used, before in zip(
            frame.rules.rules, frame.spans, counters.items, amounts, result.used, result.before, strict=True
        ):
            if exceeds(counter, amount, used, before):
                waits.append((wait_for(rule, span, counter.maximum - amount, used, before, weight, now), rule))
        wait, rule = max(waits, key=lambda each: each[0])
        self._listener.refused(rule)
        if rule.measure == "requests":
            self._blocked[frame.rules.holder] = (now + wait, rule)
            while len(self._blocked) > _MAX_CACHED:
                self._blocked.popitem(last=False)
        return reached(rule, wait, headers)

    def _warnings(self, frame: WindowFrame, result: ReserveResult) -> list[str]:
        warnings = []
        for place, warn_at in frame.warnings:
            used, rule = result.used[place], frame.rules.rules[place]
            if used < warn_at:
                continue
            share = used * 100 // max(1, rule.maximum)
            warnings.append(f"{rule.label}: {share}% of {amount_text(rule, rule.maximum)} used")
            key = frame.counters.items[place].key
            if key not in self._warned:
                self._warned[key] = None
                while len(self._warned) > _MAX_CACHED:
                    self._warned.popitem(last=False)
                self._listener.warned(rule, used)
        return warnings
