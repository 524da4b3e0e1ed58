"""What an exchange used and what that costs, as far as its answer tells, and an estimate where it does not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from ..accounting.estimate import tokens_of, tokens_of_length
from ..errors import BadRequest
from ..model.call import Call, Chat
from ..model.content import Text
from ..model.plausible import is_plausible
from ..model.usage import Usage
from .operation import estimate
from .ports import Gateway

if TYPE_CHECKING:
    from .progress import Answer, Heard


class Bill(NamedTuple):
    usage: Usage | None
    estimated: bool
    """A part of the usage is our estimate."""
    cost: Decimal | None
    """US dollars."""
    unpriced: bool
    """There would be a cost, if the price were known."""


_FREE = Decimal(0)


def bill_of(gateway: Gateway, heard: Heard, answer: Answer) -> Bill:
    usage, estimated = _usage(gateway, heard, answer)
    if usage is not None and not is_plausible(usage):
        # Nothing that is computed from it would be true: it counts as not told, and limits keep the worst case.
        return Bill(None, True, None, answer.cached is None)
    cost, unpriced = _cost(gateway, answer, usage)
    if cost is not None and usage is not None:
        hedge = _hedge_cost(gateway, heard, answer, usage)
        cost, estimated = cost + hedge, estimated or bool(hedge)
    return Bill(usage, estimated, cost, unpriced)


def _usage(gateway: Gateway, heard: Heard, answer: Answer) -> tuple[Usage | None, bool]:
    """What was used, and whether a part of it is estimated: a stream that did not come to its end says too little or
    nothing, yet its provider bills what it made."""
    if answer.reply is not None:
        return answer.reply.usage, False
    if answer.other is not None and answer.relay is None:
        return answer.other.usage, answer.other.estimated
    if answer.relay is None or heard.call is None:
        return None, False
    tally = answer.relay.tally
    if tally.usage is not None and (tally.ended or tally.finish is not None):
        return tally.usage, False
    usage = tally.usage or Usage(input=_prompt_estimate(gateway, heard.call))
    seen = tokens_of_length(tally.text_length)
    if seen > usage.completion:
        usage = replace(usage, output=usage.output + seen - usage.completion)
    return usage, True


def _prompt_estimate(gateway: Gateway, call: Call) -> int:
    if call.format:
        return estimate(call, gateway.formats[call.format])
    try:
        chat: Chat = gateway.dialects[call.dialect].read_chat(call)
    except BadRequest:  # the provider took it all the same
        return tokens_of_length(len(call.raw))
    return sum(tokens_of(part.text) for m in chat.messages for part in m.parts if isinstance(part, Text))


def _cost(gateway: Gateway, answer: Answer, usage: Usage | None) -> tuple[Decimal | None, bool]:
    candidate = answer.candidate
    if answer.cached is not None:
        return _FREE, False
    if usage is None or candidate is None:
        return None, usage is None and answer.other is not None and answer.other.billed
    provider = gateway.providers[candidate.provider]
    cost = gateway.prices.cost(provider.price_list, candidate.model, usage, host=provider.name)
    return cost, cost is None


def _hedge_cost(gateway: Gateway, heard: Heard, answer: Answer, usage: Usage) -> Decimal:
    """What the slower candidate of a hedged call cost: it read the same prompt, and was stopped before its answer. An
    estimate, and nothing where the call was not hedged or the price is not known."""
    if heard.open is None or not heard.open.plan.hedged or answer.attempts < 2:
        return _FREE
    slower = next((c for c in heard.open.plan.candidates if c != answer.candidate), None)
    ended = {tried.candidate for tried in heard.open.journal.ended.values()}
    if slower is None or slower in ended:  # it failed, which costs nothing
        return _FREE
    provider = gateway.providers[slower.provider]
    read = Usage(input=usage.prompt)
    return gateway.prices.cost(provider.price_list, slower.model, read, host=provider.name) or _FREE
