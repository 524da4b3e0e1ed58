"""Charges a reply that a provider makes in the background (docs/adr/222).

    the call     answered with the status `queued`    → charged with the most that it can cost, recorded
                 a stream that ends before its reply  → charged with the bound of the whole reply, recorded
    its end      read through the gateway             → what it has used, settled once, like a batch of one request

A call in the background whose reply comes at once, or as a stream to its end, is settled like any other.
"""

from __future__ import annotations

from ..codecs.json_values import UNREADABLE, decode_reply
from ..limits.base import ReservationRequest
from ..limits.spending import micro_dollars
from ..model.call import Call
from ..model.plan import Candidate
from ..records.batches import BatchCost, Batches, Charge, OpenBatch
from ..records.completion import to_end
from .batch_results import RESPONSES, name_in
from .batches import BatchAccess, Work, batch_access, book_charge
from .bill import unseen_bill
from .commands import Command, Continue
from .events import ResponseBody
from .large_bodies import AT_ONCE, is_large
from .phases import Identified, RequestFacts
from .ports import Gateway
from .response import Receiving, ResponseFacts, ResponsePhase
from .response_bodies import ReplyBody
from .streamed_body import StreamedBody
from .worst_case import reservation_request

_UNFINISHED = frozenset({"queued", "in_progress"})
_GOOD = range(200, 300)


async def later_work(
    gateway: Gateway, identified: Identified, call: Call, work: Work
) -> BatchAccess | BackgroundAccess | None:
    """None: the exchange has nothing to do with work that goes on after it. Raises what `batch_access` raises."""
    if call.operation == "passed":
        return await batch_access(gateway, identified, call, work)
    if not call.background or gateway.batches is None:
        return None
    return BackgroundAccess(gateway, gateway.batches, identified, call)


class BackgroundAccess:
    """What one exchange does with a reply in the background."""

    __slots__ = ("_batches", "_call", "_gateway", "_identified")

    def __init__(self, gateway: Gateway, batches: Batches, identified: Identified, call: Call) -> None:
        self._gateway = gateway
        self._batches = batches
        self._identified = identified
        self._call = call

    async def respond(
        self, event: ResponseBody, command: Command, phase: ResponsePhase | None, exchange_id: str
    ) -> None:
        """Charges a reply that is not finished, before the caller gets it."""
        if not event.end or not isinstance(phase, Receiving) or not isinstance(command, Continue):
            return
        body = phase.body
        if phase.answered.head.status not in _GOOD or not isinstance(body, ReplyBody):
            return
        try:
            reply = decode_reply(body.raw or event.body)
        except UNREADABLE:
            return
        if not isinstance(reply, dict) or reply.get("status") not in _UNFINISHED:
            return
        body.in_background = True
        await self._charge(name_in(reply.get("id")), exchange_id, phase.answered.candidate)

    async def before_close(self, exchange_id: str, request: RequestFacts, response: ResponseFacts) -> None:
        """Charges a stream that ends before its reply does: the provider completes the reply, which can be read
        later."""
        body, candidate = response.body, response.candidate
        if not isinstance(body, StreamedBody) or body.tally is None or candidate is None or body.in_background:
            return
        id, bill = name_in(body.tally.id), None
        if id is not None and not body.tally.ended and body.tally.finish is None:
            bill = unseen_bill(self._gateway, request, response)
        if bill is None or bill.usage is None:
            return
        body.in_background = True
        micro = micro_dollars(bill.cost) if bill.cost is not None else None
        size = len(self._call.raw)
        cost = BatchCost(1, size, bill.usage.total, micro, micro or 0, (candidate.model,), RESPONSES)
        await to_end(self._record(id, exchange_id, candidate, cost))

    async def _charge(self, id: str | None, exchange_id: str, candidate: Candidate) -> None:
        call = self._call
        runner = self._gateway.large_body_runner if is_large(call.raw) else AT_ONCE
        most = await runner.run(lambda: self._most(candidate))
        cost = BatchCost(1, len(call.raw), most.tokens, most.micro_dollars, most.assumed, (candidate.model,), RESPONSES)
        await self._record(id, exchange_id, candidate, cost)

    async def _record(self, id: str | None, exchange_id: str, candidate: Candidate, cost: BatchCost) -> None:
        """Without an id its usage will never be known, so it stays charged."""
        gateway, call, principal = self._gateway, self._call, self._identified.principal
        charged = gateway.limiter.charge(exchange_id) if gateway.limiter is not None else ()
        batch = OpenBatch(
            id or exchange_id,
            principal.tenant,
            principal.team,
            principal.user,
            principal.key_id,
            candidate.provider,
            RESPONSES,
            self._identified.caller_dialect.name,
            gateway.clock.time(),
            cost,
            tuple(Charge(*each) for each in charged),
            tuple(call.tiers.values()),
        )
        book_charge(gateway, batch)  # first, as for a batch
        if id is not None:
            await self._batches.add(batch)

    def _most(self, candidate: Candidate) -> ReservationRequest:
        gateway = self._gateway
        return reservation_request(
            self._call,
            (candidate,),
            gateway.providers,
            gateway.prices,
            gateway.bounds,
            gateway.prompt_search,
            priced=True,
        )
