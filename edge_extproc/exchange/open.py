"""The exchanges in progress in this process, by id: a retry finds its exchange here.

The gateway makes the id for each exchange. It cannot be guessed, and is sent in Envoy's dynamic metadata, never in a
header. A retry reads the open exchange, and writes to its log what only the upstream level sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..model.call import Call
from ..model.fault import Fault
from ..model.plan import AttemptResult, Candidate, Plan
from .adapt import Adapted, Lane
from .parsed_call import ParsedCall
from .ports import Gateway


@dataclass(slots=True)
class AttemptLog:
    """The log of the attempts of one exchange, by their number, counted from 1."""

    began: dict[int, float] = field(default_factory=dict)
    """When each attempt was sent, by the monotonic clock."""
    ended: dict[int, AttemptResult] = field(default_factory=dict)
    """The result of an attempt that ended at the upstream level."""
    encodings: dict[Candidate, tuple[Lane, tuple[str, ...]]] = field(default_factory=dict)
    """The encoding of the last request for each candidate, and the fields that it lacks."""
    asked_for_json: set[Candidate] = field(default_factory=set)
    """The candidates whose prompt asks for a JSON object."""

    def encoded(self, candidate: Candidate, adapted: Adapted) -> None:
        """Records an attempt's request when it is made."""
        self.encodings[candidate] = (adapted.lane, adapted.dropped)
        if adapted.asks_for_json:
            self.asked_for_json.add(candidate)

    def dropped(self, candidate: Candidate) -> tuple[str, ...]:
        encoding = self.encodings.get(candidate)
        return encoding[1] if encoding is not None else ()

    def lane(self, candidate: Candidate) -> Lane:
        """How the request for a candidate was encoded, or that for another one if there was none for it."""
        lane, _ = self.encodings.get(candidate) or next(iter(self.encodings.values()))
        return lane


@dataclass(slots=True)
class OpenExchange:
    parsed: ParsedCall
    plan: Plan
    """The guard replaces the rest of it if a fallback to another model begins."""
    gateway: Gateway
    """The gateway that the exchange began with: a newer one may lack a provider of the plan."""
    large: bool = False
    """Work on the body runs off the event loop."""
    journal: AttemptLog = field(default_factory=AttemptLog)
    fault: Fault | None = None
    """The fault of the last attempt, whose response the guard has refused."""

    @property
    def call(self) -> Call:
        return self.parsed.call


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
