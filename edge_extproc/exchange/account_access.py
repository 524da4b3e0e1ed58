"""What one exchange does with state at a provider's account: stored objects, batches, encrypted reasoning."""

from __future__ import annotations

from collections.abc import Sequence

from ..limits.base import CallerLimits, ReservationRequest
from ..model.plan import Candidate, Fallback, LeftOut
from ..model.settlement import Settlement
from ..records.completion import to_end
from .background import BackgroundAccess, later_work
from .batches import BatchAccess, Work
from .commands import Command
from .events import ResponseBody
from .object_access import ObjectAccess, object_access
from .parsed_call import ParsedCall
from .phases import Identified, RequestPhase, request_facts
from .ports import Gateway
from .reasoning_access import ReasoningAccess, reasoning_access
from .response import ResponsePhase, response_facts


class AccountAccess:
    """The parts that this exchange needs; None for each that it does not."""

    __slots__ = ("background", "batch", "left_out", "objects", "reasoning")

    def __init__(
        self,
        objects: ObjectAccess | None,
        batch: BatchAccess | None,
        background: BackgroundAccess | None,
        reasoning: ReasoningAccess | None,
    ) -> None:
        self.objects = objects
        self.batch = batch
        self.background = background
        self.reasoning = reasoning
        self.left_out: list[LeftOut] = []
        """The candidates that `able` has left out."""

    def able(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates whose accounts have all state that the call names. Raises BadRequest if there is none."""
        able = self.objects.able(candidates) if self.objects is not None else candidates
        able = able if self.reasoning is None else self.reasoning.able(able)
        if len(able) < len(candidates):
            self.left_out += [LeftOut(each, "account") for each in candidates if each not in able]
        return able

    def permitted(self, fallback: Fallback) -> Fallback:
        """The same for the candidates of a fallback, of which there may be none."""
        if self.objects is not None:
            fallback = self.objects.permitted(fallback)
        return fallback if self.reasoning is None else self.reasoning.permitted(fallback)

    def reservation(self, limits: CallerLimits) -> ReservationRequest | None:
        """The most that a new batch can cost. None: this exchange creates none. Raises Forbidden if that is not known
        and a budget needs it."""
        return None if self.batch is None else self.batch.reservation(limits)

    async def respond(
        self, event: ResponseBody, command: Command, phase: ResponsePhase | None, exchange_id: str
    ) -> Command:
        """The command for a part of the response body, after the state that it contains is recorded. What work costs
        that goes on after the response is recorded as a whole, also if the caller leaves meanwhile."""
        recorded, charges = self._recorded(event, command, phase, exchange_id), self.batch or self.background
        return await (to_end(recorded) if charges is not None and event.end else recorded)

    async def _recorded(
        self, event: ResponseBody, command: Command, phase: ResponsePhase | None, exchange_id: str
    ) -> Command:
        if self.batch is not None:
            await self.batch.respond(event, command, phase, exchange_id)
        if self.background is not None:
            await self.background.respond(event, command, phase, exchange_id)
        if self.reasoning is not None:
            await self.reasoning.note(event, command, phase)
        return command if self.objects is None else await self.objects.respond(event, command, phase)

    async def before_close(
        self, exchange_id: str, request: RequestPhase | None, response: ResponsePhase | None
    ) -> None:
        """The exchange ends now. Its settlement comes after this."""
        if self.background is not None:
            await self.background.before_close(exchange_id, request_facts(request), response_facts(response))

    def closed(self, settlement: Settlement) -> None:
        """The exchange has ended."""
        if self.batch is not None:
            self.batch.closed(settlement)


async def account_access(
    gateway: Gateway,
    identified: Identified,
    parsed: ParsedCall,
    candidates: Sequence[Candidate],
    work: Work,
    *,
    large: bool,
) -> AccountAccess | None:
    """None if the exchange has nothing to do with such state. `work`: runs work on the
    body. `large`: the body is searched off the event loop. Raises NoSuchObject, BadRequest and PolicyUnavailable."""
    later = await later_work(gateway, identified, parsed.call, work)
    objects = await object_access(gateway, identified, parsed.call, candidates, large=large)
    reasoning = await reasoning_access(gateway, identified, parsed.call)
    if reasoning is not None:
        reasoning.annotate(parsed)
    if objects is None and later is None and reasoning is None:
        return None
    batch = later if isinstance(later, BatchAccess) else None
    background = later if isinstance(later, BackgroundAccess) else None
    return AccountAccess(objects, batch, background, reasoning)
