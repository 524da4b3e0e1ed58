"""The exchanges in flight in this process, by id: how a retry finds what it is a retry of.

The id is made by us for each exchange and cannot be guessed; it travels in Envoy's dynamic metadata, never in a
header. A retry reads what is here, and writes into the journal what only it can see.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..model.call import Call
from ..model.fault import Fault
from ..model.plan import AttemptResult, Candidate, Plan
from .adapt import Adapted
from .ports import Gateway


@dataclass(slots=True)
class AttemptLog:
    """What was seen of the tries of one exchange, by their number, counted from 1."""

    began: dict[int, float] = field(default_factory=dict)
    """When each try was sent on, by the monotonic clock."""
    ended: dict[int, AttemptResult] = field(default_factory=dict)
    """How a try ended that was seen at the upstream level."""


@dataclass(slots=True)
class OpenExchange:
    call: Call
    plan: Plan
    """What is left of it may change between two tries, where a candidate's answer calls for another model."""
    gateway: Gateway
    """What it began with: the plan may name a provider that is elsewhere by now, or nowhere."""
    large: bool = False
    """Work on the body is done off the event loop."""
    written: tuple[Candidate, Adapted] | None = None
    """The last request that was written for a try, and for whom."""
    journal: AttemptLog = field(default_factory=AttemptLog)
    fault: Fault | None = None
    """What the guard found wrong with the last try, whose answer it has refused."""


class OpenExchanges:
    def __init__(self) -> None:
        self._by_id: dict[str, OpenExchange] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, exchange_id: str, exchange: OpenExchange) -> None:
        self._by_id[exchange_id] = exchange

    def find(self, exchange_id: str) -> OpenExchange | None:
        return self._by_id.get(exchange_id)

    def forget(self, exchange_id: str) -> None:
        self._by_id.pop(exchange_id, None)
