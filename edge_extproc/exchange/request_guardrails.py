"""Applies the guardrails to a request, before anything else uses its body.

The cache, limits and every attempt see the body with placeholders. Only the changed strings of it differ from the
caller's bytes. The store of conversations has the caller's own text: the values of a later turn come from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from ..errors import BadRequest, GuardrailBlocked
from ..guardrails.body_texts import EVERYWHERE, BodyTexts, TextPlaces, read_texts
from ..guardrails.call_guard import CallGuard
from ..guardrails.during_check import raise_if_blocked
from ..guardrails.findings import Findings, Rerouted
from ..model.call import Call
from .parsed_call import ParsedCall
from .phases import Identified
from .ports import Gateway
from .text_places import ChatPlaces

T = TypeVar("T")

_SERVICE_SECONDS = 30.0
"""How long Envoy waits for the services."""
_OF_CHATS = frozenset({"chat", "count_tokens"})


class BodyWork(Protocol):
    """Runs work on a body; the router's `_work`."""

    async def __call__(self, large: bool, function: Callable[[], T], /) -> T: ...


class RequestGuard:
    """Applies the guardrails to the request of one exchange."""

    __slots__ = ("_gateway", "_guard", "_large", "_take_time", "_work", "identified")

    def __init__(
        self,
        gateway: Gateway,
        identified: Identified,
        guard: CallGuard | None,
        work: BodyWork,
        take_time: Callable[[float], Awaitable[None]],
        *,
        large: bool,
    ) -> None:
        self._gateway = gateway
        self._guard = guard
        self.identified = replace(identified, guard=guard) if guard is not None else identified
        """With the guard of this call."""
        self._work = work
        self._take_time = take_time
        self._large = large

    @classmethod
    def begin(
        cls,
        gateway: Gateway,
        exchange_id: str,
        identified: Identified,
        call: Call,
        work: BodyWork,
        take_time: Callable[[float], Awaitable[None]],
        large: bool,
    ) -> RequestGuard:
        """`large`: work on the body runs off the event loop."""
        guardrails, principal = gateway.guardrails, identified.principal
        guard = (
            guardrails.begin(principal, call.model, call.other_models, call_id=exchange_id)
            if guardrails is not None
            else None
        )
        return cls(gateway, identified, guard, work, take_time, large=large)

    @property
    def routes(self) -> bool:
        """Whether a rule may give the call to another model."""
        return self._guard is not None and self._guard.routes

    async def check(self, parsed: ParsedCall) -> ParsedCall:
        """The call as everything else sees it: with placeholders, and with another model if a rule routes it. Raises
        GuardrailBlocked, and PolicyUnavailable without the verdict of a service."""
        guard, call = self._guard, parsed.call
        if guard is None or not guard.checks_requests:
            return parsed
        body, findings = await self._work(self._large, partial(_detect, guard, parsed))
        self._note(guard, findings)
        route = findings.route
        if guard.has_services and findings.body is not call.raw:
            parsed = parsed.with_body(findings.body)
            body = await self._work(self._large, partial(texts_of, parsed))
        # What a path of the provider creates (a file, a batch) would remain there after a block, and so would a reply
        # in the background.
        waits = call.operation == "passed" or call.background
        if guard.asks(during=False) or (waits and guard.asks(during=True)):
            await self._take_time(_SERVICE_SECONDS)
            findings = await guard.apply_services(body, during=None if waits else False)
            self._note(guard, findings)
            route = route or findings.route
        if findings.body is not parsed.call.raw:
            parsed = parsed.with_body(findings.body)
            if guard.asks(during=True):
                body = await self._work(self._large, partial(texts_of, parsed))
        if guard.asks(during=True) and not waits:
            guard.begin_during(body)
        return parsed if route is None else self._routed(parsed, route)

    def _note(self, guard: CallGuard, findings: Findings) -> None:
        guard.add_hits(findings.hits)
        raise_if_blocked(findings)

    def _routed(self, parsed: ParsedCall, route: Rerouted) -> ParsedCall:
        if parsed.call.operation == "passed" and self._gateway.endpoints.at(self.identified.received.path) is not None:
            # The path names the provider, and the rule says that this provider must not get the call.
            raise GuardrailBlocked(route.rule, f"its path has one provider, so {route.model!r} cannot get it")
        return parsed.with_model(route.model)


def _detect(guard: CallGuard, parsed: ParsedCall) -> tuple[BodyTexts, Findings]:
    body = texts_of(parsed)
    return body, guard.apply_detectors(body)


def texts_of(parsed: ParsedCall) -> BodyTexts:
    """The texts of the body, and of the query of a path that goes to the provider as it is."""
    call = parsed.call
    body = read_texts(call.raw, call.content_type, _places(parsed, call))
    query = call.target.partition("?")[2]
    if query:
        body.add_query(query)
    return body


def _places(parsed: ParsedCall, call: Call) -> TextPlaces:
    if call.operation not in _OF_CHATS:
        return EVERYWHERE
    try:
        return ChatPlaces(parsed.chat())
    except BadRequest:  # a host of the caller's format may accept it
        return EVERYWHERE
