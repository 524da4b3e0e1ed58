"""Computes the usage and cost of an exchange: as the response reports it, or as an estimate.

An exchange without the provider's final usage is billed for the greater of the observed output and the call's own bound
(docs/access.md has the table).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from ..accounting.estimate import tokens_of_length
from ..model.bill import Bill
from ..model.call import Call
from ..model.content import Part, Refusal, Text, Thinking, ToolCall
from ..model.plan import Candidate
from ..model.plausible import is_plausible
from ..model.reply import Reply
from ..model.usage import Usage
from .body_reader import NO_BODY, BodyReader
from .phases import RequestFacts
from .ports import Gateway
from .prompt_size import PromptEstimate, estimate_prompt, read_prompt
from .relay import Tally
from .response import ResponseFacts

_FREE = Decimal(0)
_OF_A_HIT = Bill(None, False, _FREE, False)
# The tokens that a provider can add to a request's bytes (files, stored conversations, repeated searches), and the
# longest plausible reply of one choice: the largest context window of a model is 10 million tokens.
_MOST_ADDED = 10_000_000


def bill_of(gateway: Gateway, request: RequestFacts, response: ResponseFacts) -> Bill:
    if response.entry is not None and response.body is NO_BODY:
        return _OF_A_HIT
    usage, estimated = _usage(gateway, request, response)
    if usage is not None and not is_plausible(usage):
        # A bill with such a count would be wrong: the count is unknown, and limits keep the worst case.
        return Bill(None, True, None, response.entry is None)
    cost, unpriced = _cost(gateway, request, response, usage)
    searched: Decimal | None = None
    if cost is not None and usage is not None:
        if usage.searches:
            searched = _search_cost(gateway, response, usage)
        if response.attempts > 1:
            hedge = _hedge_cost(gateway, request, response, usage)
            cost, estimated = cost + hedge, estimated or bool(hedge)
    return Bill(usage, estimated, cost, unpriced, searched)


def _search_cost(gateway: Gateway, response: ResponseFacts, usage: Usage) -> Decimal | None:
    """The part of a cost for web searches, by the price of the candidate's model. None: no provider made the reply."""
    candidate = response.candidate
    if candidate is None or response.entry is not None:
        return None
    provider = gateway.providers[candidate.provider]
    return gateway.prices.search_cost(provider.price_list, candidate.model, usage.searches, host=provider.name)


def unseen_bill(gateway: Gateway, request: RequestFacts, response: ResponseFacts) -> Bill | None:
    """The bill of an exchange whose reply was not seen, though a provider may have made one, or goes on in the
    background: the tokens of the request and its bound on the reply. None if nothing was sent, or if the operation is
    not billed by tokens."""
    call, sent = request.call, request.sent
    if call is None or sent is None or call.operation not in _COUNTED:
        return None
    candidate = response.candidate or sent.open.plan.at(max(sent.open.journal.began, default=1))
    usage = _bound(gateway, request, call, candidate.model)
    provider = gateway.providers[candidate.provider]
    tiers = _tiers(request, candidate)
    costs = [
        gateway.prices.cost(provider.price_list, model, usage, host=provider.name, tiers=tiers)
        for model in (candidate.model, *call.other_models)
    ]
    cost = _highest(costs)
    return Bill(usage, True, cost, cost is None)


def _bound(gateway: Gateway, request: RequestFacts, call: Call, model: str) -> Usage:
    """The tokens of the request, and its bound on the reply."""
    prompt_size, limit = _prompt(gateway, request, call, model), call.max_output_tokens
    output = 0
    if call.operation != "embeddings":
        # The caller's leaving ends a reply, but not one in the background.
        usual = gateway.bounds.output_of(model) if call.background else gateway.bounds.usual_output
        output = (limit if limit is not None else max(usual, prompt_size.hidden)) * call.choices
    return Usage(input=prompt_size.prompt, output=output)


_COUNTED = frozenset({"chat", "completions", "embeddings"})

# How far a provider's count of the prompt may be below our count of the text: tokenizers differ.
_LEAST_REPORTED = (3, 4)


def _usage(gateway: Gateway, request: RequestFacts, response: ResponseFacts) -> tuple[Usage | None, bool]:
    """The usage, and whether a part of it is estimated. A broken stream reports too little or nothing, but its provider
    charges for what it read and generated."""
    body, call = response.body, request.call
    if body.in_background:
        return None, False
    if body.summary is not None and call is not None:
        return _completed(gateway, request, call, response, body.summary.usage, lambda: _length(body.reply))
    if body.tally is None:
        return (body.operation.usage, body.operation.estimated) if body.operation is not None else (None, False)
    is_shown = body.operation is not None and not body.operation.billed  # it was charged before: a stored reply
    if call is None or response.candidate is None or is_shown:
        return None, False
    tally = body.tally
    if tally.usage is not None and (tally.ended or tally.finish is not None):
        return _completed(gateway, request, call, response, tally.usage, lambda: tally.text_length)
    if call.background and not tally.ended:
        return None, False  # the provider completes the reply: see `unseen_bill`
    return _estimated(call, tally, _prompt(gateway, request, call, response.candidate.model)), True


def _completed(
    gateway: Gateway,
    request: RequestFacts,
    call: Call,
    response: ResponseFacts,
    reported: Usage | None,
    length_of_reply: Callable[[], int],
) -> tuple[Usage, bool]:
    """The reported usage with estimates of missing counts, and whether there are any. `length` is in characters, and
    called only if needed."""
    usage = _plausible(reported or Usage(prompt_unknown=True, completion_unknown=True), call)
    estimated = usage.unreadable > 0
    if usage.prompt_unknown:
        estimated = True
        prompt_size = _prompt(
            gateway, request, call, response.candidate.model if response.candidate is not None else call.model
        )
        usage = replace(usage, input=usage.input + max(0, prompt_size.prompt - usage.prompt))
    if usage.completion_unknown:
        length = length_of_reply()
        estimated = estimated or length > 0
        usage = replace(usage, output=usage.output + max(0, tokens_of_length(length) - usage.completion))
    return usage, estimated


def reported_usage(call: Call, body: BodyReader) -> Usage | None:
    """The final usage that a complete reply of a chat reports, without implausible counts; None if there is none."""
    usage = body.summary.usage if body.summary is not None else None
    if body.tally is not None and (body.tally.ended or body.tally.finish is not None):
        usage = body.tally.usage
    return _plausible(usage, call) if usage is not None else None


def _plausible(usage: Usage, call: Call) -> Usage:
    """The usage without counts that are impossible for the size of the call or its bound on the reply."""
    if usage.prompt > len(call.raw) + _MOST_ADDED:
        completion = replace(
            usage,
            input=0,
            cache_read=0,
            cache_write=0,
            cache_write_1h=0,
            input_audio=0,
            input_image=0,
            cached_twice=0,
        )
        usage = replace(completion, prompt_unknown=True, unreadable=usage.unreadable + 1)
    if usage.completion > max(call.max_output_tokens or 0, _MOST_ADDED) * call.choices:
        prompt = replace(usage, output=0, reasoning=0, output_audio=0, output_image=0)
        usage = replace(prompt, completion_unknown=True, unreadable=usage.unreadable + 1)
    return usage


def _length(reply: Reply | None) -> int:
    """Characters of answer, thinking and tool arguments, as a stream's tally counts them."""
    if reply is None:
        return 0
    return sum(_part_length(part) for choice in reply.choices for part in choice.parts)


def _part_length(part: Part) -> int:
    match part:
        case Text() | Thinking() | Refusal():
            return len(part.text)
        case ToolCall():
            return len(part.name) + len(part.arguments)
        case _:
            return 0


def _prompt(gateway: Gateway, request: RequestFacts, call: Call, model: str) -> PromptEstimate:
    read_before = request.sent.prompt if request.sent is not None else None
    return estimate_prompt(read_before or read_prompt(call, gateway.wire_names), call, model, gateway.bounds)


def _estimated(call: Call, tally: Tally, prompt_size: PromptEstimate) -> Usage:
    estimated, reported = tokens_of_length(tally.text_length), _plausible(tally.usage or Usage(), call)
    prompt = prompt_size.text if reported.prompt else prompt_size.prompt
    least, least_total = _LEAST_REPORTED
    if reported.prompt * least_total < prompt * least:
        reported = replace(reported, input=reported.input + prompt - reported.prompt)
    # Choices are generated at the same time: unseen ones count as long as the others.
    estimated = max(estimated, estimated * call.choices // tally.choices)
    if estimated > reported.completion:
        reported = replace(reported, output=reported.output + estimated - reported.completion)
    hidden = 0 if tally.ended or reported.reasoning else prompt_size.hidden * call.choices
    if call.max_output_tokens is not None:
        hidden = min(hidden, max(0, call.max_output_tokens * call.choices - reported.completion))
    return replace(reported, reasoning=reported.reasoning + hidden) if hidden else reported


def _cost(
    gateway: Gateway, request: RequestFacts, response: ResponseFacts, usage: Usage | None
) -> tuple[Decimal | None, bool]:
    candidate = response.candidate
    if response.entry is not None:
        return _FREE, False
    if usage is None or candidate is None:
        operation = response.body.operation
        return None, usage is None and operation is not None and operation.billed
    provider = gateway.providers[candidate.provider]
    tiers = _tiers(request, candidate)
    others = request.call.other_models if request.call is not None else ()
    models = _used_models(response, candidate, others) if others else (candidate.model,)
    price_list, host = provider.price_list, provider.name
    costs = [gateway.prices.cost(price_list, model, usage, host=host, tiers=tiers) for model in models]
    cost = _highest(costs)
    return cost, cost is None


def cost_by_kind(
    gateway: Gateway, request: RequestFacts, response: ResponseFacts, usage: Usage | None
) -> dict[str, Decimal]:
    """The cost of the tokens by the name of their bucket, at the price of the candidate's model; empty if nothing was
    used or the price is not known."""
    candidate = response.candidate
    if candidate is None or usage is None or response.entry is not None:
        return {}
    provider = gateway.providers[candidate.provider]
    tiers = _tiers(request, candidate)
    return gateway.prices.costs(provider.price_list, candidate.model, usage, host=provider.name, tiers=tiers)


def _highest(costs: Sequence[Decimal | None]) -> Decimal | None:
    """None: one of them is not known."""
    if len(costs) == 1:
        return costs[0]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def _used_models(response: ResponseFacts, candidate: Candidate, others: tuple[str, ...]) -> tuple[str, ...]:
    """The models of which one was used, if the body names further ones: the one in the reply or, if the reply names
    none of them, all."""
    body = response.body
    reported_model = (
        body.summary.model if body.summary is not None else body.tally.model if body.tally is not None else None
    )
    return (reported_model,) if reported_model in (candidate.model, *others) else (candidate.model, *others)


def _tiers(request: RequestFacts, candidate: Candidate) -> tuple[str, ...]:
    """The tiers that the provider was asked for: a field that its format lacks was dropped."""
    call, sent = request.call, request.sent
    if call is None or sent is None or not call.tiers:
        return ()
    dropped = sent.open.journal.dropped(candidate)
    return tuple(tier for field, tier in call.tiers.items() if field not in dropped)


def _hedge_cost(gateway: Gateway, request: RequestFacts, response: ResponseFacts, usage: Usage) -> Decimal:
    """An estimate of the cost of a hedged call's slower candidate: it read the same prompt, and was stopped before its
    reply. 0 if the call was not hedged or the price is unknown. Only for more than one attempt."""
    sent = request.sent.open if request.sent is not None else None
    if sent is None or not sent.plan.hedged:
        return _FREE
    slower = next((c for c in sent.plan.candidates if c != response.candidate), None)
    ended = {attempt.candidate for attempt in sent.journal.ended.values()}
    if slower is None or slower in ended:  # a failed attempt costs nothing
        return _FREE
    provider = gateway.providers[slower.provider]
    read = Usage(input=usage.prompt)
    return gateway.prices.cost(provider.price_list, slower.model, read, host=provider.name) or _FREE
