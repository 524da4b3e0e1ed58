"""The phases of a request, from its headers to the first attempt.

One step of router.py makes each phase. A phase holds the facts of that step and the phase before it, so a fact can be
read only after it is known. The router keeps the newest phase. Settlement reads it through `RequestFacts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..auth.base import CallerRights
from ..cache.base import CacheLookup
from ..dialects.base import Dialect, Route
from ..limits.base import CallerLimits, Reservation
from ..model.call import Call
from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import Candidate, Plan
from ..model.principal import Principal
from ..model.trace import Parent, Trace
from ..routing.base import RoutingRequest
from .events import Event, Headers
from .open import OpenExchange
from .parsed_call import ParsedCall
from .prompt_size import PromptParts

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.call_guard import CallGuard


@frozen_dataclass
class Received:
    """The request headers have arrived."""

    headers: Headers
    values: Mapping[str, str]
    """The first value of each header."""
    request_id: str | None
    """The request id for the caller: its own if that is valid, else Envoy's."""
    method: str
    path: str
    """Without the query."""
    caller_dialect: Dialect
    """The dialect that the path and the headers suggest."""
    parent: Parent | None
    trace: Trace | None


@frozen_dataclass
class Authenticated:
    """The caller is known."""

    received: Received
    principal: Principal
    runs: tuple[str, ...] = ()
    """The run of the call and the runs that it is a part of, the nearest first."""


@frozen_dataclass
class Identified:
    """The route is known, and what the caller may do on it."""

    received: Received
    principal: Principal
    rights: CallerRights | None
    """None: no role or policy restricts this caller."""
    limits: CallerLimits | None
    """None: no limit applies to this caller."""
    route: Route
    caller_dialect: Dialect
    """The dialect of the route, used for the reply and for every error."""
    runs: tuple[str, ...] = ()
    """As in `Authenticated`."""
    guard: CallGuard | None = None
    """None: no guardrail applies to the call, or its body has not been read."""


@frozen_dataclass
class ReadCall:
    """The request body has been read."""

    identified: Identified
    parsed: ParsedCall
    routing: RoutingRequest
    candidates: Sequence[Candidate]
    """The candidates of the model, before the caller's rights narrow them."""
    large: bool
    """Work on the body runs off the event loop."""


@frozen_dataclass
class Admitted:
    """The cache and the limits have decided."""

    read: ReadCall
    lookup: CacheLookup | None
    """None: no cache applies to this call."""
    reservation: Reservation | None
    """None: nothing has been reserved or counted."""


@frozen_dataclass
class Planned:
    """The order of the candidates is known."""

    admitted: Admitted
    plan: Plan


@frozen_dataclass
class Sent:
    """The request of the first attempt has gone to Envoy."""

    admitted: Admitted
    open: OpenExchange
    """Attempts read it, and write their log into it."""
    prompt: PromptParts | None = None
    """The size of the prompt, read before the end if the body is large and the bill needs it."""


RequestPhase: TypeAlias = Received | Authenticated | Identified | ReadCall | Admitted | Planned | Sent


@frozen_dataclass
class RequestFacts:
    """The facts of a request at its end. A phase that was not reached is None."""

    received: Received | None = None
    principal: Principal | None = None
    identified: Identified | None = None
    read: ReadCall | None = None
    call: Call | None = None
    lookup: CacheLookup | None = None
    plan: Plan | None = None
    sent: Sent | None = None
    runs: tuple[str, ...] = ()
    reservation: Reservation | None = None


def request_facts(phase: RequestPhase | None) -> RequestFacts:
    """The facts. `phase` is the newest one; None if no request headers came."""
    admitted: Admitted | None = None
    plan: Plan | None = None
    if isinstance(phase, Sent):
        admitted, plan = phase.admitted, phase.open.plan
    elif isinstance(phase, Planned):
        admitted, plan = phase.admitted, phase.plan
    elif isinstance(phase, Admitted):
        admitted = phase
    if admitted is not None:
        read, identified = admitted.read, admitted.read.identified
        return RequestFacts(
            identified.received,
            identified.principal,
            identified,
            read,
            read.parsed.call,
            admitted.lookup,
            plan,
            phase if isinstance(phase, Sent) else None,
            identified.runs,
            admitted.reservation,
        )
    match phase:
        case ReadCall(identified=identified):
            caller = identified
            return RequestFacts(caller.received, caller.principal, caller, phase, phase.parsed.call, runs=caller.runs)
        case Identified():
            return RequestFacts(phase.received, phase.principal, phase, runs=phase.runs)
        case Authenticated():
            return RequestFacts(phase.received, phase.principal, runs=phase.runs)
        case Received():
            return RequestFacts(phase)
        case _:
            return RequestFacts()


class ExchangeTimes:
    """The times of an exchange: its beginning, and how long the gateway itself worked on it."""

    __slots__ = ("began", "by_event", "overhead", "started_at")

    def __init__(self, began: float, started_at: float) -> None:
        """`began`: monotonic clock. `started_at`: Unix time. Both in seconds."""
        self.began = began
        self.started_at = started_at
        self.overhead = 0.0
        self.by_event: dict[type[Event], list[float]] = {}
        """For each kind of event: when the first one came, and the seconds spent on all of them."""

    def add(self, kind: type[Event], began: float, seconds: float) -> None:
        self.overhead += seconds
        phase = self.by_event.get(kind)
        if phase is None:
            self.by_event[kind] = [began, seconds]
        else:
            phase[1] += seconds
