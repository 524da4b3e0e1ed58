"""The ports of rate limits and budgets: `Limiter`, which the exchange uses, and `LimitStore`, which has the counters.

Before a call, the most that it can use is reserved in every counter that applies, in one atomic step, all or nothing.
The store records the reservation as a *lease*. At the end of the call the lease is settled: each counter keeps what was
used. A lease that is neither settled nor renewed in time, because its worker died, is *lost*.

Money is in whole micro-dollars, never a float. Every counter's key begins with its tenant.

A file of this package that is a store exports PLUGIN, a `LimitStoreKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from ..model.principal import Level, Principal
from ..model.run import Run
from ..model.settlement import Settlement

Measure: TypeAlias = Literal["requests", "tokens", "dollars", "concurrent", "seconds"]
"""`seconds`: since the first call of a run."""
Window: TypeAlias = Literal["minute", "hour", "day", "month", "run"]
"""`run`: all calls of one run, whenever they are."""
LimitLevelName: TypeAlias = Level | Literal["run"]
Lost: TypeAlias = Literal["charge", "release"]
"""What happens to a lost lease. charge: the whole reservation counts as used. release: none of it does."""

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

MAX_AMOUNT = 10**14 - 1
"""The largest amount of one lease in one counter, 100 million dollars: Redis's cjson writes 14 digits of a number."""
MAX_COUNT = 2**53 - 1
"""The largest value of a counter: the largest integer that is exact in a Redis script (Lua numbers are doubles)."""

Holder: TypeAlias = tuple[str, Level, str]
"""Tenant, level and name of whom a limit is for."""

MOST = "most"
"""The end of the key with a run's smallest stated maximum. The beginning is the counter's key."""
MAX_RUNS = 8
"""The most runs that are a part of each other."""

Pairs: TypeAlias = tuple[tuple[str, str], ...]


# --- what the exchange uses


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One limit of one tenant, team, user or key, compiled from the configuration."""

    tenant: str
    level: LimitLevelName
    name: str
    """The name of the tenant, team, user, key or run, by `level`."""
    measure: Measure
    window: Window | None
    """None: no window, for `concurrent`."""
    maximum: int
    """Requests, tokens, micro-dollars or seconds, by `measure`."""
    zone: str = "UTC"
    """The IANA time zone of an hour, day or month."""
    warn_at: int | None = None
    """The caller is warned from this amount on."""
    hard: bool = True
    """False: a soft limit. It warns, and never refuses."""
    local: bool = False
    """While the store is down: each worker admits calls up to its own share. False: calls are refused."""
    allow_unpriced: bool = False
    """Whether a budget admits a model without a known price, at an assumed price."""
    stated: int | None = None
    """For a run: the maximum that this call states, which remains a maximum of all later calls of the run."""

    @property
    def label(self) -> str:
        """The rule in messages: `dollars per day of tenant acme`."""
        if self.level == "run":
            return f"{self.measure} of run {self.name}"
        per = f" per {self.window}" if self.window is not None else " requests at one time"
        return f"{self.measure}{per} of {self.level} {self.name}"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """All rules that limit one caller."""

    rules: tuple[LimitRule, ...]
    keys: tuple[str, ...]
    """The prefix of each rule's counter keys: tenant, level, name, measure, window."""
    holder: str
    """Identifies the caller. Equal holders have equal rules."""
    count_dollars: bool
    """Whether any rule counts dollars, so that the price of the call is needed."""
    requests: CallerLimits | None = None
    """Only the rules that count requests or time, for operations without tokens or cost. None: there is none."""
    runs: tuple[str, ...] = ()
    """The run of the call and the runs that it is a part of, the nearest first."""


class LimitStatus(NamedTuple):
    """How much of a limit is used, as this worker last saw it. Amounts are in the unit of `LimitRule.maximum`."""

    rule: LimitRule
    maximum: int
    used: int
    """Including the reservations of calls in progress, in all workers."""
    reserved: int
    """The reservations of calls in progress in this worker."""
    at: float
    """When the store last reported the counter. Unix time, seconds."""


class ReservationRequest(NamedTuple):
    """The most that a call can use."""

    tokens: int
    micro_dollars: int | None
    """None: the price is not known. 0 if no rule counts dollars."""
    assumed: int = 0
    """Micro-dollars at the assumed prices, for rules with `allow_unpriced`."""
    model: str = ""
    """The model's name, for error messages."""
    batch: bool = False
    """The provider answers within hours, so that limits of a minute do not count its tokens."""


class Charged(NamedTuple):
    """What was added to one counter, and may be corrected later."""

    key: str
    is_money: bool
    amount: int
    """Micro-dollars or tokens."""
    expires: int


class Reservation(NamedTuple):
    """An admitted call."""

    headers: Pairs
    """Response headers: the remaining amounts, and warnings."""
    rules: tuple[LimitRule, ...] = ()
    """The rules that applied."""
    amounts: Sequence[int] = ()
    """What was reserved in each."""
    used: Sequence[int] = ()
    """What of each was used or reserved before."""
    assumed: tuple[int, int] = (0, 0)
    """The assumed prices of a million input and output tokens, for rules with `allow_unpriced`, micro-dollars."""


class Limiter(Protocol):
    """What the exchange uses: `rules`, then `admit` or `count`, and `settle` at the end."""

    def rules(self, principal: Principal) -> CallerLimits | None:
        """None if this caller has no limits."""
        ...

    @property
    def counts_runs(self) -> bool:
        """Whether runs are enabled."""
        ...

    async def with_run(self, principal: Principal, run: Run) -> CallerLimits:
        """The rules of the caller, and those of the run and of the runs that it is a part of. Raises BadRequest if the
        run has another parent, or PolicyUnavailable if the store is down."""
        ...

    def run_used(self, rules: CallerLimits) -> int:
        """The highest percentage of a cap of the run that is used, as this worker last saw it. 0 without a run."""
        ...

    def raise_if_blocked(self, rules: CallerLimits) -> None:
        """Raises LimitReached if an earlier refusal says, without a query to the store, that this caller must wait."""
        ...

    async def raise_if_full(self, exchange_id: str, rules: CallerLimits) -> None:
        """For a request whose large body is on its way. Raises LimitReached if the calls and such bodies of this worker
        alone fill a concurrency limit of this caller. The body counts until `admit`, `count` or `settle`."""
        ...

    async def admit(self, exchange_id: str, rules: CallerLimits, request: ReservationRequest) -> Reservation:
        """Reserves the most that the call can use. Call it once for each exchange. Raises LimitReached, or
        PolicyUnavailable if the store is down and a rule is not `local`."""
        ...

    async def count(self, exchange_id: str, rules: CallerLimits) -> Reservation:
        """Counts a request that uses no tokens, no dollars and no concurrency, such as a cache hit. Used instead of
        `admit`; raises the same errors."""
        ...

    def charge(self, exchange_id: str) -> tuple[Charged, ...]:
        """Counts the whole reservation as used, as for a batch whose usage is known much later. Returns the counters
        of tokens and dollars, for `correct`. The exchange has no reservation afterwards."""
        ...

    def correct(self, corrections: Sequence[tuple[str, int, int]]) -> None:
        """Adds amounts, which may be negative, to counters that `charge` has returned: key, amount and expiry."""
        ...

    def held(self, settlement: Settlement) -> int | None:
        """Micro-dollars that budgets will keep of the reservation when this is settled, because the cost is not known.
        None: they will count the cost, or no budget applies."""
        ...

    def settle(self, settlement: Settlement) -> None:
        """Releases what was not used. Never waits and never raises. An exchange without a reservation is ignored."""
        ...


# --- the store of the counters


class WindowCounter(NamedTuple):
    """One rule's counter in its current window."""

    key: str
    before: str
    """The key of the previous window's counter, for a sliding window. "": the window does not slide."""
    maximum: int
    hard: bool
    """Whether the counter refuses above its maximum."""
    expires: int
    """Unix time in seconds from which the counter may be deleted."""
    slot: bool
    """The counter counts concurrent calls: settling always releases the whole amount."""
    kind: Literal["window", "run", "clock"] = "window"
    """run: its maximum is the smallest that any call has stated, and each call defers its expiry. clock: the same, and
    its value is the seconds since its first call."""
    stated: int = -1
    """For the other kinds: the maximum that this call states. -1: none."""


class WindowCounters:
    """All counters of one caller in the current windows. Built once for each window, and used by every call."""

    __slots__ = ("items", "packed")

    def __init__(self, counters: Sequence[WindowCounter]) -> None:
        self.items = tuple(counters)
        self.packed: object | None = None
        """A store's own encoded form of them, cached here."""


class ReserveResult(NamedTuple):
    """The result of one reservation, with one number for each counter."""

    ok: bool
    """True: all amounts were reserved. False: none was."""
    used: tuple[int, ...]
    """Each counter's value before the reservation, with the weighted part of the previous window."""
    before: tuple[int, ...]
    """The whole value of the previous window. Of a run's counter: the maximum that applies."""


class SettleResult(NamedTuple):
    """How one lease is settled."""

    lease: str
    used: tuple[int, ...]
    """For each counter of the lease, the final amount. -1: the reserved amount."""


class LimitStoreDown(Exception):
    """The store cannot be used now. It is not known whether the last change was made. The text gives the reason
    without secrets: it is logged and shown by /readyz."""


class WrongParent(Exception):
    """A run has another parent than a call says, is its own parent, or is a part of too many runs. The text says
    which."""


class LimitStore(Protocol):
    """The counters. All methods raise LimitStoreDown."""

    async def ancestry(self, tenant: str, run: str, parent: str | None, seconds: int) -> tuple[str, ...]:
        """The run, its parent, the parent of that, and so on. The first call of a run decides its parent (None: it has
        none). It is stored for `seconds`. Raises WrongParent."""
        ...

    async def reserve(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        """Adds an amount to each counter in one atomic step, or to none if a hard counter would exceed its maximum.
        `weight`: the part of the previous windows that counts, in millionths. `seconds`: the lease's duration unless it
        is renewed; 0: no lease. `lost`: what happens to the lease after that."""
        ...

    async def settle(self, settled: Sequence[SettleResult]) -> None:
        """Sets the final amounts of leases. A settled lease is not changed again. A lost one is corrected."""
        ...

    async def add(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        """Adds what was used while the store was down: a counter's key, the amount, and the counter's expiry."""
        ...

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        """Extends leases to `seconds` from now."""
        ...

    async def read(self, keys: Sequence[str]) -> Sequence[int]:
        """The value of each counter; 0 if it does not exist."""
        ...

    async def join(self, worker: str, milliseconds: int) -> int:
        """Counts a worker among those that use the store, for this time by the store's clock. Returns their number."""
        ...

    async def leave(self, worker: str) -> None:
        """Counts the worker no longer."""
        ...

    async def check_writable(self) -> None:
        """Raises LimitStoreDown if the store cannot be reached and written to now."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LimitStoreSettings:
    url: str = ""
    """redis://, rediss:// or unix://, with all options of the client."""
    timeout: float = 0.25
    """The longest wait for a connection or a reply, seconds."""
    clock: Callable[[], float] | None = None
    """Unix time, for the memory store. None: the system's."""
    rebuilt: bool = False
    """The supervisor rebuilds lost counters from the ledger. Until it has, nothing is reserved."""


class LimitStoreKind(Protocol):
    """What a store's file exports as PLUGIN."""

    def build(self, settings: LimitStoreSettings) -> LimitStore: ...


# --- events


class LimitListener(Protocol):
    """Receives the limiter's events, for metrics, logs and the webhook. No method waits or raises."""

    def refused(self, rule: LimitRule) -> None: ...

    def warned(self, rule: LimitRule, used: int) -> None:
        """A rule has passed `warn_at`. At most once for each window in each worker."""
        ...

    def store(self, up: bool, reason: str = "") -> None:
        """The shared store went down, or came back. While it is down, each new reason is reported once."""
        ...

    def local(self) -> None:
        """A call was admitted by this worker's own share, because the store is down."""
        ...
