"""A retry: Envoy requests the next candidate's request.

router.py makes the first attempt. A retry adapts the call anew and sets all headers, because those of the last attempt
are still there: nothing of the last provider, above all no credential, may reach the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from ..dialects.base import Dialect
from ..errors import BadRequest, PeerError, PolicyUnavailable, Unavailable
from ..model.envoy_names import ANSWERED_BY
from ..model.fault import Fault
from ..model.plan import Candidate
from . import headers as header_rules
from .adapt import adapt
from .commands import Command, Continue, ImmediateResponse, Replace
from .events import (
    Event,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from .handler import Closing, Interrupt, MoreTime, no_interrupt, no_more_time
from .open import OpenExchange, OpenExchanges
from .ports import Gateway
from .states import ATTEMPT, StreamOrder


class AttemptExchange:
    """One attempt after the first. It writes only the log of its exchange."""

    def __init__(self, gateway: Gateway, open_exchanges: OpenExchanges) -> None:
        self._gateway = gateway
        self._open_exchanges = open_exchanges
        self.more_time: MoreTime = no_more_time
        self.interrupt: Interrupt = no_interrupt
        self._order = StreamOrder(ATTEMPT)

    async def handle(self, event: Event) -> Command:
        self._order.advance(event)
        match event:
            case RequestHeaders():
                return await self._request_headers(event)
            case RequestBody() | RequestTrailers() | ResponseHeaders() | ResponseBody() | ResponseTrailers():
                raise PeerError(f"{type(event).__name__} at the upstream level")  # pragma: no cover - not in ATTEMPT
            case _:
                assert_never(event)

    unfinished = None

    async def before_close(self) -> None:
        """Does nothing."""

    def closed(self, why: Closing) -> None:
        """Nothing to settle: the router exchange does."""

    async def _request_headers(self, event: RequestHeaders) -> Command:
        attempt = find_attempt(event, self._open_exchanges)
        return await encode_attempt(event, attempt) if attempt is not None else lost(self._gateway)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of an exchange that this process knows."""

    exchange: OpenExchange
    number: int
    """From 1."""
    provider: str | None = None
    """The provider of the endpoint that Envoy has chosen. None: the number alone determines the candidate."""

    @property
    def candidate(self) -> Candidate:
        return self.exchange.plan.candidate(self.number, self.provider)


def find_attempt(event: RequestHeaders, open_exchanges: OpenExchanges) -> Attempt | None:
    exchange_id = event.metadata.get("edge", {}).get("exchange")
    exchange = open_exchanges.find(exchange_id) if isinstance(exchange_id, str) else None
    number = event.attributes.get("upstream.request_attempt_count")
    provider = event.attributes.get(ANSWERED_BY)
    if exchange is None or not isinstance(number, (int, float)):
        return None
    return Attempt(exchange, int(number), provider if isinstance(provider, str) else None)


async def encode_attempt(event: RequestHeaders, attempt: Attempt) -> Continue | Replace | ImmediateResponse:
    """Runs `write_request`, off the event loop for a large body."""
    if not attempt.exchange.large:
        return write_request(event, attempt)
    gateway = attempt.exchange.gateway
    try:
        return await gateway.large_body_runner.run(write_request, event, attempt)
    except PolicyUnavailable as error:  # too many large bodies are waiting
        return _error_response(gateway.error_dialect(attempt.exchange.call), error.fault())


def write_request(event: RequestHeaders, attempt: Attempt) -> Continue | Replace | ImmediateResponse:
    gateway = attempt.exchange.gateway
    attempt.exchange.journal.began[attempt.number] = gateway.clock.monotonic()
    call, candidate = attempt.exchange.call, attempt.candidate
    try:
        adapted = adapt(attempt.exchange.parsed, candidate, gateway.dialects, gateway.providers, gateway.formats)
    except (BadRequest, Unavailable) as error:  # a credential has expired since the plan was made
        return _error_response(gateway.error_dialect(call), error.fault())
    attempt.exchange.journal.encoded(candidate, adapted)
    request = adapted.request
    length = len(request.body)
    to_set, to_remove = header_rules.outgoing(
        event.headers,
        request.headers,
        request.defaults,
        request.path,
        length if request.body else None,
        own=gateway.wire_names.headers if adapted.lane == "raw" else None,
        content_type=None if call.operation == "passed" else "application/json",
        removed=request.removed,
    )
    if not request.body:
        return Continue(set_headers=to_set, remove_headers=to_remove)
    return Replace(
        tuple([pair for pair in to_set if pair[0] != "content-length"]),
        to_remove,
        request.body,
        # Envoy removes content-length from a replaced request. A later filter restores it from this metadata.
        {"edge": {"content_length": str(length)}},
    )


def lost(gateway: Gateway) -> ImmediateResponse:
    """The response if the worker of the exchange has ended. It is an error, because nothing else is known of the
    call."""
    caller_dialect = gateway.dialects[gateway.default_dialect]
    fault = Fault(503, "overloaded", "the worker of this request is gone; send it again", "worker_lost")
    status, headers, body = caller_dialect.write_error(fault)
    return ImmediateResponse(status, tuple(headers), body, "edge_exchange_unknown")


def _error_response(caller_dialect: Dialect, fault: Fault) -> ImmediateResponse:
    status, headers, body = caller_dialect.write_error(fault)
    return ImmediateResponse(status, tuple(headers), body, f"edge_{fault.code or 'error'}")
