"""Makes the request of one candidate from a call.

The functions are pure: the same call and candidate give the same bytes, whatever was tried before. On the raw lane the
provider uses the caller's dialect: the caller's bytes pass, and only our own fields are changed. On the cross lane the
call is parsed and written in the provider's dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..dialects.base import Dialect
from ..errors import BadRequest, Unavailable, Unsupported
from ..model.call import Call, Chat
from ..model.frozen_dataclass import frozen_dataclass
from ..model.plan import Candidate, LeftOut, Plan
from ..operations.base import OperationFormat
from ..providers.base import Provider, UpstreamCall, UpstreamRequest
from .parsed_call import ParsedCall

if TYPE_CHECKING:
    from .ports import Gateway

Lane: TypeAlias = Literal["raw", "cross"]


@frozen_dataclass
class Adapted:
    request: UpstreamRequest
    dialect: str
    """The wire format of the provider's request and response."""
    lane: Lane
    dropped: tuple[str, ...]
    """Fields of the call that the provider's request lacks."""
    asks_for_json: bool = False
    """The prompt asks for a JSON object, so the reply must be checked."""


def adapt(
    parsed: ParsedCall,
    candidate: Candidate,
    dialects: Mapping[str, Dialect],
    providers: Mapping[str, Provider],
    formats: Mapping[str, OperationFormat],
) -> Adapted:
    """The provider's request. Raises BadRequest (or its subclass Unsupported) if the candidate cannot take this
    call."""
    call, provider = parsed.call, providers[candidate.provider]
    if call.operation != "chat":
        return _operation(parsed, candidate, provider, formats)
    target = dialects[format_of(call, candidate, provider)]
    path = target.path(call.operation, candidate.model, stream=call.stream)
    if target.name == call.dialect:
        if unreadable := call.foreign_reasoning.get(candidate.provider):
            call = replace(call, unreadable=unreadable)
        written = target.splice(call, candidate.model, provider.profile)
        request = provider.request(
            UpstreamCall(
                call.operation, target.name, candidate.model, call.stream, path, written.body, betas=call.betas
            )
        )
        return Adapted(request, target.name, "raw", (*written.dropped, *request.dropped))
    chat = parsed.chat()
    if chat.needed:
        raise Unsupported(chat.needed[0], target.title, _why_needed(chat, call))
    written = target.write_chat(chat, candidate.model, provider.profile)
    request = provider.request(
        UpstreamCall(call.operation, target.name, candidate.model, call.stream, path, written.body)
    )
    # What a header enables has a meaning only in the caller's own format.
    betas = tuple(f"anthropic-beta.{flag}" for flag in call.betas)
    unknown = map(chat.spelling.field, request.dropped)  # a provider has the names of its own format
    dropped = (*betas, *written.dropped, *unknown)
    return Adapted(request, target.name, "cross", dropped, written.asks_for_json)


def _why_needed(chat: Chat, call: Call) -> str:
    """Why a field is essential, and what the operator can set."""
    if chat.needed[0] not in chat.storable:
        return (
            "only a provider of the caller's own format can honour it; leave it out, or send a model of such a provider"
        )
    if call.stored is None:
        return (
            "what it names is stored at a provider of the caller's own format; for other providers, the operator of "
            "this gateway can set the section `conversations` of the configuration"
        )
    return "this gateway does not store what it names: it has expired, was deleted, or lies at another provider"


def first_able(parsed: ParsedCall, plan: Plan, gateway: Gateway) -> tuple[Plan, Adapted]:
    """The plan without candidates whose format cannot carry this call, and the request of the first remaining one.
    Later candidates are checked now too: once Envoy retries, only the caller could get a refusal. Raises the first
    refusal if no candidate remains."""
    call = parsed.call
    able: list[Candidate] = []
    left_out: list[LeftOut] = []
    first: Adapted | None = None
    refusal: BadRequest | Unavailable | None = None
    for candidate in plan.candidates:
        try:
            own = call.format or call.dialect
            if first is None or format_of(call, candidate, gateway.providers[candidate.provider]) != own:
                adapted = adapt(parsed, candidate, gateway.dialects, gateway.providers, gateway.formats)
                first = first or adapted
        except (BadRequest, Unavailable) as error:
            refusal = refusal or error
            # The text of an error can quote the call.
            left_out.append(LeftOut(candidate, "capability", error.param or error.code or ""))
            continue
        able.append(candidate)
    if first is None:
        raise refusal or LookupError("a plan without candidates")
    plan = gateway.planner.restrict(plan, tuple(able))
    return (replace(plan, left_out=(*plan.left_out, *left_out)) if left_out else plan), first


def _operation(
    parsed: ParsedCall, candidate: Candidate, provider: Provider, formats: Mapping[str, OperationFormat]
) -> Adapted:
    call = parsed.call
    target = formats[format_of(call, candidate, provider)]
    if target.name == call.format:
        path, written = target.path(call, candidate.model), target.splice(call, candidate.model)
        upstream_call = UpstreamCall(
            call.operation, target.name, candidate.model, call.stream, path, written.body, call.method, call.betas
        )
        request = provider.request(upstream_call)
        return Adapted(request, target.name, "raw", (*written.dropped, *request.dropped))
    path, written = target.write(parsed.question(), candidate.model)
    upstream_call = UpstreamCall(call.operation, target.name, candidate.model, call.stream, path, written.body)
    return Adapted(provider.request(upstream_call), target.name, "cross", written.dropped)


def format_of(call: Call, candidate: Candidate, provider: Provider) -> str:
    """The wire format for a candidate: the configured one, else the caller's if the host supports it and knows the
    caller's tools, else the host's first. Raises Unsupported if the host does not support the operation."""
    formats = provider.formats(call.operation, candidate.model)
    if not formats:
        raise Unsupported(f"{call.operation} of {call.model!r}", provider.kind)
    if candidate.dialect and call.operation == "chat":
        return candidate.dialect
    own = call.format or call.dialect
    if call.has_own_tools and not provider.profile.callers_tools:
        formats = tuple(name for name in formats if name != own) or formats
    return own if own in formats else formats[0]


def dialect_of(call: Call, candidate: Candidate, gateway: Gateway) -> Dialect:
    """The dialect of this candidate's reply."""
    name = format_of(call, candidate, gateway.providers[candidate.provider])
    return gateway.dialects[gateway.formats[name].error_dialect if call.format else name]
