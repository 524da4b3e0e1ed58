"""The ports of limits: what an exchange asks (`Limiter`), and where counters are kept (`LimitStore`).

Before a call its worst case is taken from every counter that applies, all or nothing, in one step: a *lease*. At its
end the lease is settled to what was used. A lease that nobody settles (its worker died) is lost after a while.

Money is whole micro-dollars: never a float. Every counter's key begins with its tenant.

A file of this room is a store: it exports PLUGIN, a `LimitStoreKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

from ..model.principal import Level, Principal
from ..model.settlement import Settlement

Measure: TypeAlias = Literal["requests", "tokens", "dollars", "concurrent"]
Window: TypeAlias = Literal["minute", "hour", "day", "month"]
Lost: TypeAlias = Literal["charge", "release"]
"""What becomes of a lost lease: its worst case counts as used, or as not used."""

MICRO = 1_000_000
"""Micro-dollars in a dollar."""

MOST_AMOUNT = 10**14 - 1
"""Of one lease in one counter: cjson writes 14 digits of a number. 100 million dollars."""
MOST_COUNTED = 2**53 - 1
"""Where a counter stays: the largest integer that a script of the store computes with exactly."""

Pairs: TypeAlias = tuple[tuple[str, str], ...]


# --- what an exchange asks


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One limit of one holder, compiled from config."""

    tenant: str
    level: Level
    name: str
    """Of the team, user or key; the tenant's own at its level."""
    measure: Measure
    window: Window | None
    """None: at one time (`concurrent`)."""
    maximum: int
    """Requests, tokens, calls or micro-dollars."""
    zone: str = "UTC"
    """Whose clock a calendar window goes by."""
    warn_at: int | None = None
    """From how much on a caller is warned."""
    hard: bool = True
    """False: it only warns."""
    local: bool = False
    """When the store is down: go on with a share of this worker's own; else nobody passes."""
    allow_unpriced: bool = False

    @property
    def label(self) -> str:
        """As a caller is told: `dollars per day of tenant acme`."""
        per = f" per {self.window}" if self.window is not None else " requests at one time"
        return f"{self.measure}{per} of {self.level} {self.name}"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """All that limit one caller."""

    rules: tuple[LimitRule, ...]
    keys: tuple[str, ...]
    """How the counters of each begin: tenant, level, name, measure, window."""
    holder: str
    """Stands for the caller; rules with the same holder are the same."""
    count_dollars: bool
    """Some of them count dollars."""
    requests: CallerLimits | None = None
    """Those of them that count requests, for what is asked about by its headers alone; None where none does."""


class LimitStatus(NamedTuple):
    """How far a rule is used, as this worker knows it. Amounts are in the unit of `LimitRule.maximum`."""

    rule: LimitRule
    maximum: int
    used: int
    """With what calls under way reserve, of this worker and of others."""
    reserved: int
    """By calls under way in this worker."""
    at: float
    """When it was heard, in Unix seconds."""


class ReservationRequest(NamedTuple):
    """The most that a call can come to."""

    tokens: int
    micro_dollars: int | None
    """None: nobody knows its price. 0 also where no rule asks."""
    assumed: int = 0
    """Micro-dollars at the assumed prices, for rules that allow the unpriced."""
    model: str = ""


class Reservation(NamedTuple):
    headers: Pairs
    """For the caller: what is left, and warnings."""


class Limiter(Protocol):
    def rules(self, principal: Principal) -> CallerLimits | None:
        """None where nothing limits this caller."""
        ...

    def raise_if_blocked(self, rules: CallerLimits) -> None:
        """Raises LimitReached where it is known, without asking the store, that this caller must wait."""
        ...

    async def admit(self, exchange_id: str, rules: CallerLimits, ask: ReservationRequest) -> Reservation:
        """Takes the worst case, once for each id. Raises LimitReached, or PolicyUnavailable where the store is down
        and a rule says that then nobody passes."""
        ...

    async def count(self, exchange_id: str, rules: CallerLimits) -> Reservation:
        """Of a call that costs nothing: takes what every request takes, and no tokens, no dollars and no place among
        those under way. Instead of `admit`; raises the same."""
        ...

    def settle(self, settlement: Settlement) -> None:
        """Gives back what was not used. Never waits, never raises; an id that took nothing is nothing."""
        ...


# --- where counters are kept


class WindowCounter(NamedTuple):
    """One counter in the window of now."""

    key: str
    before: str
    """The counter of the window before, "" where it does not count."""
    maximum: int
    hard: bool
    """Refuses, or only counts."""
    expires: int
    """Unix time in seconds at which the counter may be forgotten."""
    slot: bool
    """A call under way: given back in full, whatever became of it."""


class WindowCounters:
    """All of one caller in the windows of now: made once for each window, and asked for each call."""

    __slots__ = ("counters", "packed")

    def __init__(self, counters: Sequence[WindowCounter]) -> None:
        self.counters = tuple(counters)
        self.packed: object | None = None
        """How a store writes them, for itself."""


class ReserveResult(NamedTuple):
    ok: bool
    """All was taken; else nothing."""
    used: tuple[int, ...]
    """What each counter had come to before, with what counts of the window before."""
    before: tuple[int, ...]
    """All of the window before."""


class SettleResult(NamedTuple):
    lease: str
    used: tuple[int, ...]
    """For each counter of the lease what it shall have taken in the end; -1: what it took."""


class LimitStoreDown(Exception):
    """Counters cannot be reached now; whether the last change was made is not known. Its text says why, without a
    secret: it goes into the log and into /readyz."""


class LimitStore(Protocol):
    async def reserve(
        self, lease: str, counters: WindowCounters, amounts: Sequence[int], weight: int, seconds: int, lost: Lost
    ) -> ReserveResult:
        """One atomic step: an amount from what is left of each counter below its maximum. `weight`: how much of the
        windows before counts, in millionths. The lease lasts so many seconds unless it is renewed. Raises
        StoreDown."""
        ...

    async def settle(self, settled: Sequence[SettleResult]) -> None:
        """A lease that was settled already is left alone; a lost one is put right. Raises StoreDown."""
        ...

    async def add(self, amounts: Sequence[tuple[str, int, int]]) -> None:
        """Key, amount and expiry of what was used while the store was down. Raises StoreDown."""
        ...

    async def renew(self, leases: Sequence[str], seconds: int) -> None:
        """Raises StoreDown."""
        ...

    async def check_writable(self) -> None:
        """That it can be reached and written to now. Raises StoreDown."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LimitStoreSettings:
    url: str = ""
    """redis://, rediss:// or unix:// with everything that the client needs."""
    timeout: float = 0.25
    """Seconds for one step."""
    clock: Callable[[], float] | None = None


class LimitStoreKind(Protocol):
    """What a file of this room exports as PLUGIN."""

    def build(self, settings: LimitStoreSettings) -> LimitStore: ...


# --- who is told


class LimitListener(Protocol):
    """What limits tell to metrics and others. Nothing of it waits or raises."""

    def refused(self, rule: LimitRule) -> None: ...

    def warned(self, rule: LimitRule, used: int) -> None:
        """Once a window of a rule in each worker: it has passed `warn_at`, or, where it is soft, its maximum."""
        ...

    def store(self, up: bool, reason: str = "") -> None:
        """The shared store went, or came back. While it is down, each other reason is told once."""
        ...

    def local(self) -> None:
        """A call was admitted by this worker's own share."""
        ...
