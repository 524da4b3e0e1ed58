"""What an exchange used and what that costs, as far as its answer tells, and an estimate where it does not."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from ..accounting.estimate import tokens_of, tokens_of_length
from ..errors import BadRequest
from ..model.call import Call, Chat
from ..model.content import Part, Refusal, Text, Thinking, ToolCall
from ..model.reply import Reply
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
# Tokens that a provider can add to what a request's bytes hold (files, stored conversations, searches in a loop), and
# the longest answer that is believed of one choice: the largest context window of a model is 10 million tokens.
_MOST_ADDED = 10_000_000


def bill_of(gateway: Gateway, heard: Heard, answer: Answer) -> Bill:
    usage, estimated = _usage(gateway, heard, answer)
    cost, unpriced = _cost(gateway, answer, usage)
    if cost is not None and usage is not None:
        hedge = _hedge_cost(gateway, heard, answer, usage)
        cost, estimated = cost + hedge, estimated or bool(hedge)
    return Bill(usage, estimated, cost, unpriced)


def _usage(gateway: Gateway, heard: Heard, answer: Answer) -> tuple[Usage | None, bool]:
    """What was used, and whether a part of it is estimated: a stream that did not come to its end says too little or
    nothing, yet its provider bills what it made."""
    if answer.reply is not None and heard.call is not None:
        return _completed(gateway, heard.call, answer.reply.usage, _length(answer.reply))
    if answer.other is not None and answer.relay is None:
        return answer.other.usage, answer.other.estimated
    if answer.relay is None or heard.call is None:
        return None, False
    tally = answer.relay.tally
    if tally.usage is not None and (tally.ended or tally.finish is not None):
        return _completed(gateway, heard.call, tally.usage, tally.text_length)
    usage, _ = _completed(gateway, heard.call, tally.usage, tally.text_length)
    return _with_answer(usage, tally.text_length), True


def _completed(gateway: Gateway, call: Call, told: Usage | None, length: int) -> tuple[Usage, bool]:
    """The reported usage with an estimate of what it lacks, and whether anything of it is estimated. `length` is how
    many characters the reply has."""
    usage = _plausible(told or Usage(prompt_unknown=True, completion_unknown=True), call)
    estimated = usage.unreadable > 0
    if usage.prompt_unknown:
        estimated = True
        usage = replace(usage, input=usage.input + max(0, _prompt_estimate(gateway, call) - usage.prompt))
    if usage.completion_unknown:
        estimated = estimated or length > 0
        usage = _with_answer(usage, length)
    return usage, estimated


def _with_answer(usage: Usage, length: int) -> Usage:
    """With at least as many tokens as so many characters have."""
    return replace(usage, output=usage.output + max(0, tokens_of_length(length) - usage.completion))


def _plausible(usage: Usage, call: Call) -> Usage:
    """Without the counts that a call of so many bytes, or with such a bound on its answer, cannot have come to."""
    if usage.prompt > len(call.raw) + _MOST_ADDED:
        answer = replace(usage, input=0, cache_read=0, cache_write=0, cache_write_1h=0, input_audio=0, cached_twice=0)
        usage = replace(answer, prompt_unknown=True, unreadable=usage.unreadable + 1)
    if usage.completion > max(call.max_output_tokens or 0, _MOST_ADDED) * call.choices:
        prompt = replace(usage, output=0, reasoning=0, output_audio=0)
        usage = replace(prompt, completion_unknown=True, unreadable=usage.unreadable + 1)
    return usage


def _length(reply: Reply) -> int:
    """Characters of answer, thinking and tool arguments, as a stream's tally counts them."""
    return sum(_part_length(part) for choice in reply.choices for part in choice.parts)


def _part_length(part: Part) -> int:
    match part:
        case Text() | Thinking() | Refusal():
            return len(part.text)
        case ToolCall():
            return len(part.name) + len(part.arguments)
        case _:
            return 0


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
