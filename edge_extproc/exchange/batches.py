"""Charges a batch when it is created, and corrects the charge when its usage is known (docs/adr/190).

    input file uploaded    what its requests cost at most       → recorded
    batch created          reserved in the caller's limits      → charged, recorded
    status or results      what the batch has used              → settled once

A batch of Anthropic has its requests in the body that creates it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec

from ..codecs.content_type import media_type
from ..codecs.json_values import UNREADABLE, decode_reply
from ..dialects.base import StreamReader
from ..errors import Forbidden
from ..limits.base import MICRO, CallerLimits, ReservationRequest
from ..limits.frames import counts_minute
from ..limits.spending import micro_dollars
from ..model.call import Call
from ..model.content import Json
from ..model.plausible import MOST_DOLLARS
from ..model.settlement import BACKGROUND, BATCH, Booking, Settlement
from ..model.usage import BUCKETS, MOST_TOKENS, Usage
from ..records.batches import MOST_MODELS, BatchCost, Batches, Charge, OpenBatch
from ..records.completion import to_end
from .batch_lines import BatchReading
from .batch_results import MESSAGES, RESPONSES, BatchUsage, ResultLines, ResultsBody, is_known, name_in, read_end
from .commands import Command, Continue
from .events import ResponseBody
from .phases import Identified
from .ports import Gateway
from .response import Receiving, ResponsePhase
from .response_head import Answered
from .settling import send
from .streamed_body import StreamedBody

_GOOD = range(200, 300)
_WHOLE = 200
_FREE = Decimal(0)
_BATCH = re.compile(r"((?:/messages)?/batches)/([^/]+)(?:/cancel)?")
_RESPONSE = re.compile(r"/responses/([^/]+)(?:/cancel)?")
_RESULTS = re.compile(r"/messages/batches/([^/]+)/results")
_CONTENT = re.compile(r"/files/([^/]+)/content")

Step = Literal["upload", "create", "status", "results"]
Work = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Runs one slice of work on the body."""


async def batch_access(gateway: Gateway, identified: Identified, call: Call, work: Work) -> BatchAccess | None:
    """None: the call has nothing to do with a batch that the gateway charges. Raises the error of a request in a batch
    that the caller may not send, and PolicyUnavailable."""
    endpoint = gateway.endpoints.at(identified.received.path)
    if endpoint is None:
        return None
    path, provider, batches = call.target.partition("?")[0], endpoint.provider, gateway.batches
    cost: BatchCost | None = None
    if call.method == "POST" and path in ("/files", "/uploads", MESSAGES):
        reading = BatchReading(gateway, identified, call, provider)
        while await work(reading.step):
            pass
        cost = reading.cost
    if batches is None:
        return None
    step, batch = await _step(batches, provider, call, path, cost)
    if step is None:
        return None
    if step == "create" and path != MESSAGES:
        file = _input_file(call)
        cost = await batches.file(provider, file) if file is not None else None
    return BatchAccess(gateway, batches, identified, provider, path, step, cost, batch)


async def _step(
    batches: Batches, provider: str, call: Call, path: str, cost: BatchCost | None
) -> tuple[Step | None, OpenBatch | None]:
    if call.method == "POST" and path in ("/batches", MESSAGES):
        return "create", None
    if call.method == "POST" and path == "/files":
        return "upload" if cost is not None else None, None
    if call.method not in ("GET", "POST"):
        return None, None
    batch_path, content, results = _BATCH.fullmatch(path), _CONTENT.fullmatch(path), _RESULTS.fullmatch(path)
    response = _RESPONSE.fullmatch(path)
    batch: OpenBatch | None = None
    if response is not None:
        batch = await batches.open(provider, response[1])
        return ("status", batch) if batch is not None else (None, None)
    if batch_path is not None:
        batch = await batches.open(provider, batch_path[2])
    elif results is not None and call.method == "GET":
        batch = await batches.open(provider, results[1])
    elif content is not None and call.method == "GET":
        batch = await batches.of_output(provider, content[1])
    if batch is None:
        return None, None
    return "status" if batch_path is not None else "results", batch


def _input_file(call: Call) -> str | None:
    try:
        body = decode_reply(call.raw)
    except UNREADABLE:
        return None
    return name_in(body.get("input_file_id")) if isinstance(body, dict) else None


class BatchAccess:
    """What one exchange does with a batch."""

    __slots__ = (
        "_batch",
        "_batches",
        "_cost",
        "_gateway",
        "_identified",
        "_is_charged",
        "_is_settled",
        "_path",
        "_provider",
        "_step",
    )

    def __init__(
        self,
        gateway: Gateway,
        batches: Batches,
        identified: Identified,
        provider: str,
        path: str,
        step: Step,
        cost: BatchCost | None,
        batch: OpenBatch | None,
    ) -> None:
        self._gateway = gateway
        self._batches = batches
        self._identified = identified
        self._provider = provider
        self._path = path
        self._step = step
        self._cost = cost
        self._batch = batch
        self._is_charged = False
        self._is_settled = False

    def reservation(self, limits: CallerLimits) -> ReservationRequest | None:
        """The most that a new batch can cost. None: this exchange creates none. Raises Forbidden if that is not known
        and a budget needs it."""
        if self._step != "create":
            return None
        cost = self._cost
        if cost is not None:
            return ReservationRequest(cost.tokens, cost.micro_dollars, cost.assumed, ", ".join(cost.models), batch=True)
        if any(
            rule.hard and rule.measure in ("dollars", "tokens") and not counts_minute(rule) for rule in limits.rules
        ):
            raise Forbidden(
                "the cost of this batch is not known, and a limit needs it: upload its file through this gateway, "
                "as one file with the purpose `batch`, in which each line is a request to an API of this gateway",
                param="input_file_id",
            )
        return ReservationRequest(0, 0, batch=True)

    # --- the response

    def needs_whole(self, answered: Answered) -> bool:
        return self._step != "results" and media_type(answered.head.values.get("content-type", "")).endswith("json")

    def result_lines(self, answered: Answered) -> ResultLines | None:
        """Reads the results of a batch. None: this response has none, or only a part of them."""
        if self._step != "results" or self._batch is None or answered.head.status != _WHOLE:
            return None
        return ResultLines(self._gateway, self._batch)

    async def respond(
        self, event: ResponseBody, command: Command, phase: ResponsePhase | None, exchange_id: str
    ) -> None:
        """Records what a response says, before the caller gets it."""
        if not isinstance(phase, Receiving) or phase.answered.head.status not in _GOOD:
            return
        body, batch = phase.body, self._batch
        if isinstance(body, StreamedBody):
            await self._stream(body)
            return
        if not event.end or not isinstance(command, Continue):
            return
        if isinstance(body, ResultsBody):
            if body.usage is not None and batch is not None:
                await settle(self._gateway, self._batches, batch, body.usage)
            return
        if not body.is_whole:
            return
        reply = _decoded(event.body if command.body is None else command.body)
        id = name_in(reply.get("id")) if isinstance(reply, dict) else None
        match self._step:
            case "upload" if id is not None and self._cost is not None:
                await self._batches.add_file(self._provider, id, self._cost)
            case "create":
                await self._charge(id, exchange_id)
            case "status" if batch is not None:
                end = read_end(batch, reply)
                if end is not None and end.output is not None:
                    await self._batches.add_output(self._provider, end.output, batch.id)
                if end is not None and end.usage is not None:
                    await settle(self._gateway, self._batches, batch, end.usage)
            case _:
                pass

    def listener(self, answered: Answered) -> StreamReader | None:
        """Reads a reply in the background that is fetched as a stream. None: this response is none."""
        batch = self._batch
        if self._step != "status" or batch is None or batch.path != RESPONSES or answered.head.status != _WHOLE:
            return None
        content_type, dialect = answered.head.values.get("content-type", ""), self._gateway.dialects.get(batch.dialect)
        if dialect is None or media_type(content_type) != media_type(dialect.stream_type):
            return None
        return dialect.reader(content_type)

    async def _stream(self, body: StreamedBody) -> None:
        """Settles a reply whose stream has reached its end. The caller may leave then."""
        tally, batch = body.tally, self._batch
        if tally is None or not tally.ended or batch is None or batch.path != RESPONSES or self._is_settled:
            return
        self._is_settled = True
        if tally.usage is not None and is_known(batch, tally.usage):
            used = BatchUsage({name_in(tally.model) or "": tally.usage})
            await to_end(settle(self._gateway, self._batches, batch, used))

    async def _charge(self, id: str | None, exchange_id: str) -> None:
        """A batch was created. Without an id its usage will never be known, so it stays charged."""
        gateway, limiter = self._gateway, self._gateway.limiter
        self._is_charged = True
        charged = limiter.charge(exchange_id) if limiter is not None else ()
        charges = tuple(Charge(*each) for each in charged)
        batch = msgspec.structs.replace(self._new(id or exchange_id), charges=charges)
        book_charge(gateway, batch)  # first: without the record the charge stays, but a record alone would be a credit
        if id is not None:
            await self._batches.add(batch)

    def closed(self, settlement: Settlement) -> None:
        """The exchange has ended. If its reply was not seen, a batch may exist, and its limits keep the reservation."""
        if self._step != "create" or self._is_charged or not settlement.may_have_been_used:
            return
        self._is_charged = True
        # The row of this exchange has what its limits keep.
        book_charge(self._gateway, self._new(settlement.exchange_id), None if settlement.held is None else _FREE)

    def _new(self, id: str) -> OpenBatch:
        principal = self._identified.principal
        return OpenBatch(
            id,
            principal.tenant,
            principal.team,
            principal.user,
            principal.key_id,
            self._provider,
            self._path,
            self._identified.caller_dialect.name,
            self._gateway.clock.time(),
            self._cost,
            (),
            self._identified.runs[:2],
        )


async def settle(gateway: Gateway, batches: Batches, batch: OpenBatch, used: BatchUsage) -> None:
    """Replaces the charge by what the batch has used, once. If that is not known, the charge stays."""
    if used.unknown:
        await batches.settle(batch)
        return
    priced = [(_model(batch, model), usage) for model, usage in used.by_model.items()]
    costs = [_cost(gateway, batch, models, usage) for models, usage in priced]
    if any(cost is not None and cost.total > MOST_DOLLARS for cost in costs):  # no row of the ledger takes it
        await batches.settle(batch)
        return
    charged = _charged(batch)
    is_unpriced = None in costs
    if (is_unpriced and charged is not None) or not await batches.settle(batch):
        return
    micro = None if is_unpriced else micro_dollars(sum((each.total for each in costs if each is not None), _FREE))
    held, correction = _held(batch), None
    if held is not None:  # budgets count what was reserved, and the difference
        correction = _FREE if micro is None else Decimal(micro) / MICRO - held
    if charged is not None:
        _record_entries(gateway, batch, "credit", 0, cost=_Cost(-charged), held=correction, estimated=True)
        correction = None if correction is None else _FREE
    number = 0
    for (models, usage), cost in zip(priced, costs, strict=True):
        rows = list(_rows(usage))
        for place, part in enumerate(rows):
            # The first row has the cost of all of them.
            row_cost = cost if not place or cost is None else _Cost(_FREE)
            _record_entries(
                gateway, batch, "usage", number, models[0], part, row_cost, correction, unpriced=cost is None
            )
            correction = None if correction is None else _FREE
            number += 1
    if gateway.limiter is not None and batch.charges:
        tokens = sum(usage.total for _, usage in priced)
        gateway.limiter.correct(list(_corrections(batch, tokens, micro)))


def _corrections(batch: OpenBatch, tokens: int, micro: int | None) -> Iterator[tuple[str, int, int]]:
    for charge in batch.charges:
        used = micro if charge.is_money else tokens
        if used is not None and used != charge.amount:
            yield charge.key, used - charge.amount, charge.expires


def _model(batch: OpenBatch, named: str) -> tuple[str, ...]:
    """The models that a reply may be of: a reply may name another version than its request."""
    models = batch.cost.models if batch.cost is not None else ()
    if named in models or not models:
        return (named,)
    # The record may not have all models.
    return (named, *models) if len(models) >= MOST_MODELS else models


class _Cost(NamedTuple):
    total: Decimal
    searches: Decimal | None = None
    """The part of it for web searches. None: there were none."""


def _cost(gateway: Gateway, batch: OpenBatch, models: tuple[str, ...], usage: Usage) -> _Cost | None:
    """The highest of the models' costs. A batch is not cheaper for its web searches."""
    provider, prices = gateway.providers.get(batch.provider), gateway.prices
    if provider is None:
        return None
    price_list, host, tokens = provider.price_list, provider.name, replace(usage, searches=0)
    costs = []
    for model in models:
        cost = prices.cost(price_list, model, tokens, host=host, tiers=batch.tiers)
        searched = prices.search_cost(price_list, model, usage.searches, host=host) if usage.searches else _FREE
        if cost is None or searched is None:
            return None
        factor = 1 if batch.path == RESPONSES else prices.batch_factor(price_list, model, host=host)
        costs.append(_Cost(cost * factor + searched, searched if usage.searches else None))
    return max(costs, key=lambda cost: cost.total)


def _charged(batch: OpenBatch) -> Decimal | None:
    """What the ledger has charged."""
    micro = batch.cost.micro_dollars if batch.cost is not None else None
    return None if micro is None else Decimal(micro) / MICRO


def _held(batch: OpenBatch) -> Decimal | None:
    """What budgets have counted. None: no budget applied."""
    amounts = [charge.amount for charge in batch.charges if charge.is_money]
    return Decimal(max(amounts)) / MICRO if amounts else None


def book_charge(gateway: Gateway, batch: OpenBatch, held: Decimal | None = None) -> None:
    """`held`: what budgets count for it, if `batch` does not have it."""
    models = batch.cost.models if batch.cost is not None else ()
    charged = _charged(batch)
    cost = _Cost(charged) if charged is not None else None
    model = models[0] if len(models) == 1 else ""
    held = _held(batch) if held is None else held
    _record_entries(gateway, batch, "charge", 0, model, cost=cost, held=held, estimated=True, unpriced=cost is None)


def _record_entries(
    gateway: Gateway,
    batch: OpenBatch,
    booking: Booking,
    number: int,
    model: str = "",
    usage: Usage | None = None,
    cost: _Cost | None = None,
    held: Decimal | None = None,
    *,
    estimated: bool = False,
    unpriced: bool = False,
) -> None:
    """An entry at the time of the batch's creation, so that it counts in the same windows. Its id is always the same,
    and the ledger takes each id once."""
    if booking == "credit" and batch.cost is not None and len(batch.cost.models) == 1:
        model = batch.cost.models[0]
    account = gateway.batches.account(batch.provider) if gateway.batches is not None else batch.provider
    digest = blake2b(f"{account}\0{batch.id}".encode(errors="surrogateescape"), digest_size=5).hexdigest()
    send(
        gateway,
        Settlement(
            exchange_id=f"{batch.id[:40]}.{digest}.{booking}{number}",
            outcome="ok",
            status=None,
            code=None,
            started_at=batch.started_at,
            duration=0.0,
            overhead=0.0,
            tenant=batch.tenant,
            team=batch.team,
            user=batch.user,
            key_id=batch.key,
            method="",
            path=batch.path,
            dialect=batch.dialect,
            operation=BACKGROUND if batch.path == RESPONSES else BATCH,
            model=gateway.models.label(model) if model else None,
            provider=batch.provider,
            upstream_model=model or None,
            usage=usage,
            estimated=estimated,
            cost=cost.total if cost is not None else None,
            search_cost=cost.searches if cost is not None else None,
            unpriced=unpriced,
            held=held,
            run=batch.runs[0] if batch.runs else None,
            run_parent=batch.runs[1] if len(batch.runs) > 1 else None,
            booking=booking,
        ),
    )


def _rows(usage: Usage) -> Iterator[Usage]:
    """The usage in rows, each of which is plausible for one row of the ledger."""
    remaining = {name: getattr(usage, name) for name in (*BUCKETS, "searches")}
    while True:
        part = {name: min(count, MOST_TOKENS) for name, count in remaining.items()}
        yield Usage(**part)
        remaining = {name: count - part[name] for name, count in remaining.items()}
        if not any(remaining.values()):
            return


def _decoded(raw: bytes) -> Json:
    try:
        return decode_reply(raw)
    except UNREADABLE:
        return None
