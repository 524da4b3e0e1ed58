"""Handles a stream of a proxy whose configuration is not rendered by this project, and that sends no role.

The exchange itself is the one of router.py, with one attempt. This handler knows which messages the filter sends in
each body mode:

    request   buffered                the body in one message, before the headers leave the proxy
              full_duplex_streamed    the headers are held until the body is here
    response  buffered                the body in one message
              streamed                chunks; the headers have left the proxy before the first one
              full_duplex_streamed    chunks; the headers are held as long as necessary

In all other modes a request or a reply would pass unread, so the request is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import EdgeError, PeerError
from ..model.envoy_names import EXTERNAL_PREFIXES
from .body_choice import read_error
from .commands import CONTINUE, HOLD, Command, Continue, ImmediateResponse, Pairs, Pass, Release
from .consumer_routes import DUPLEX, REQUEST_MODES, ConsumerRoute, destination_of
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
from .headers import is_request_id
from .ports import Gateway
from .response import Receiving, RefusedResponse
from .route_choice import RouteChooser
from .route_identity import CERTIFICATE, IDENTITY
from .router import RouterExchange

NewExchange = Callable[[Gateway, ConsumerRoute], RouterExchange]

_ERRORS = 400
_CLOSED = ConsumerRoute(None, None, None, ())


class ConsumerExchange:
    """One stream. `begin` makes the exchange of a route."""

    def __init__(self, gateway: Gateway, begin: NewExchange) -> None:
        self.more_time: MoreTime = no_more_time
        self.interrupt: Interrupt = no_interrupt
        self._gateway = gateway
        self._routes = gateway.consumer
        self._begin = begin
        self._chooser: RouteChooser | None = None
        self._first: RequestHeaders | None = None
        """The request headers, of a stream that chooses a route."""
        self._exchange: RouterExchange | None = None
        self._route = _CLOSED
        self._pending_command = Continue()
        """The answer to the request headers, in full duplex."""
        self._body = bytearray()
        self._head: ResponseHeaders | None = None
        self._answer = CONTINUE
        """The answer to the response headers."""
        self._status_sent = ""
        self._replied = False
        self._ended = False
        """The response has an end, and Envoy may still send chunks of the provider's body (full duplex)."""

    async def handle(self, event: Event) -> Command:
        if self._replied and isinstance(event, RequestBody | RequestTrailers):
            return HOLD  # sent before Envoy had the response
        if self._ended and isinstance(event, ResponseBody | ResponseTrailers):
            return HOLD
        command = await self._handle(event)
        self._replied = self._replied or isinstance(command, ImmediateResponse)
        return command

    async def _handle(self, event: Event) -> Command:
        command = await self._choose(event)
        if command is not None:
            return command
        match event:
            case RequestHeaders():
                return await self._request_headers(event)
            case RequestBody() | RequestTrailers() if self._exchange is not None and self._route.full_duplex:
                return await self._streamed_request(event, self._exchange)
            case RequestBody() if not event.end and self._route.modes is None:
                raise PeerError("a part of a request body, from a filter without body modes")
            case ResponseHeaders():
                return await self._response_headers(event)
            case ResponseBody() | ResponseTrailers():
                return await self._response_body(event, self._exchange) if self._exchange else self._passed(event)
            case RequestBody() | RequestTrailers():
                return await self._handler(_CLOSED).handle(event)

    unfinished = None
    """A proxy of others does not tell why a stream has ended."""

    async def before_close(self) -> None:
        if self._exchange is not None:
            await self._exchange.before_close()

    def closed(self, why: Closing) -> None:
        if self._exchange is not None:
            self._exchange.closed(why)

    def _handler(self, route: ConsumerRoute) -> RouterExchange:
        if self._exchange is None:
            self._route = route
            self._exchange = self._begin(self._gateway, route)
            self._exchange.more_time, self._exchange.interrupt = self.more_time, self.interrupt
        return self._exchange

    async def _choose(self, event: Event) -> Command | None:
        """The answer of a stream that chooses a route. None: this one does not, or refuses the request."""
        if isinstance(event, RequestHeaders) and self._is_choice(event):
            self._chooser, self._first = RouteChooser(self._gateway, self.more_time), event
            event = self._without_forged(event)
        if self._chooser is None or self._exchange is not None:
            return None
        try:
            return await self._chooser.handle(event)
        except EdgeError as error:
            if isinstance(error, PeerError) or self._first is None:
                raise
            return await self._refused(self._first, self._chooser.body, error)

    def _is_choice(self, event: RequestHeaders) -> bool:
        modes = self._routes.modes_of(event)
        return (
            self._gateway.route_seal is not None
            and self._routes.chooses_for(event)
            and (event.end or (modes is not None and modes.request in REQUEST_MODES))
        )

    async def _refused(self, first: RequestHeaders, body: bytes, error: EdgeError) -> Command:
        """The error of a request without a route: from an exchange, so that it is settled and logged."""
        exchange = self._handler(ConsumerRoute(None, None, DUPLEX, (), error))
        exchange.more_time = no_more_time  # the choice may have extended the time limit of this message
        first = self._without_forged(first)
        command = await exchange.handle(first)
        return (
            command
            if first.end or not isinstance(command, Continue)
            else await exchange.handle(RequestBody(body, True))
        )

    # --- the request

    async def _request_headers(self, event: RequestHeaders) -> Command:
        event, internal = self._without_internal(event)
        destination = destination_of(event)
        provider = self._routes.provider
        if provider is None and destination is not None:
            provider = self._routes.provider_of(destination)
        route = ConsumerRoute(provider, destination, self._routes.modes_of(event), internal)
        command = await self._handler(route).handle(event)
        if isinstance(command, Continue):
            command = replace(command, response_body=None)
            if route.full_duplex and not event.end:
                self._pending_command = command
                return HOLD
        return command

    def _without_internal(self, event: RequestHeaders) -> tuple[RequestHeaders, tuple[str, ...]]:
        """The event without headers that only this project's own configuration makes trustworthy, and the names that
        must not go to the provider."""
        permitted, remaining = self._routes.caller_headers, []
        for name, value in event.headers:
            internal = name.startswith(EXTERNAL_PREFIXES) and name not in permitted
            trusted = name == IDENTITY or not ((internal and name.startswith("x-edge-")) or name == CERTIFICATE)
            if trusted and (name != "x-request-id" or is_request_id(value)):
                remaining.append((name, value))
        names = {name for name, _ in event.headers if name.startswith(EXTERNAL_PREFIXES)}
        return replace(event, headers=tuple(remaining)), tuple(sorted(names))

    def _without_forged(self, event: RequestHeaders) -> RequestHeaders:
        """The event for the first filter: before it, nothing of this project seals an identity."""
        event, _ = self._without_internal(event)
        return replace(event, headers=tuple(pair for pair in event.headers if pair[0] != IDENTITY))

    async def _streamed_request(self, event: RequestBody | RequestTrailers, exchange: RouterExchange) -> Command:
        trailers = isinstance(event, RequestTrailers)
        if isinstance(event, RequestBody):
            self._body += event.body
            if not event.end and len(self._body) <= self._gateway.body_limits.request:
                return HOLD
        body = bytes(self._body)
        self._body.clear()
        command = await exchange.handle(RequestBody(body, True))
        if not isinstance(command, Continue):
            return command
        first = self._pending_command
        # Envoy removes content-length in this mode.
        to_set = tuple(pair for pair in (*first.set_headers, *command.set_headers) if pair[0] != "content-length")
        return Release(
            to_set,
            tuple(dict.fromkeys((*first.remove_headers, *command.remove_headers))),
            body if command.body is None else command.body,
            end=not trailers,
            trailers=trailers,
        )

    # --- the response

    @property
    def _mode(self) -> str:
        return self._route.modes.response if self._route.modes is not None else "buffered"

    async def _response_headers(self, event: ResponseHeaders) -> Command:
        if self._exchange is None:
            # An earlier filter refused a request that this stream has not seen.
            self._route = replace(_CLOSED, modes=self._routes.modes_of(event))
            return CONTINUE
        command = await self._exchange.handle(event)
        if not isinstance(command, Continue) or event.end:
            return replace(command, response_body=None) if isinstance(command, Continue) else command
        self._head, self._answer = event, command
        if self._mode == "buffered":
            # If the filter allows it, a stream is not buffered.
            return command if command.response_body == "streamed" else replace(command, response_body=None)
        answer = replace(command, response_body=None)
        if command.response_body == "buffered":
            if self._mode == "full_duplex_streamed":
                return HOLD
            early = self._early_head(self._exchange)
            removed = ("content-encoding", "content-length")
            answer = replace(
                answer,
                set_headers=(*answer.set_headers, *early),
                remove_headers=tuple(dict.fromkeys((*answer.remove_headers, *removed))),
            )
        set_values = dict((*((n, v) for n, v in event.headers if n == ":status"), *answer.set_headers))
        self._status_sent = set_values.get(":status", "")
        return answer

    def _early_head(self, exchange: RouterExchange) -> Pairs:
        """The status and headers of a reply whose body is not here yet, for a filter that sends the headers first."""
        response = exchange.response
        if isinstance(response, RefusedResponse):
            return exchange.error_head(response.fault)
        if isinstance(response, Receiving) and response.answered.head.status >= _ERRORS:
            return exchange.error_head(read_error(self._gateway, response.answered, b""))
        return (("content-type", "application/json"),) if isinstance(response, Receiving) else ()

    async def _response_body(self, event: ResponseBody | ResponseTrailers, exchange: RouterExchange) -> Command:
        mode = self._answer.response_body
        if self._head is None or self._mode == "buffered":
            return await exchange.handle(event)
        if mode in (None, "none"):
            return self._passed(event)
        if mode == "full_duplex":
            command = await exchange.handle(event)
            self._ended = isinstance(command, Pass) and command.end
            return command
        if mode == "streamed":
            command = await exchange.handle(event)
            if isinstance(command, Continue) and isinstance(event, ResponseBody) and self._in_full_duplex:
                return Pass(event.body if command.body is None else command.body, event.end)
            return command
        return await self._collected(event, exchange)

    @property
    def _in_full_duplex(self) -> bool:
        return self._mode == "full_duplex_streamed"

    def _passed(self, event: ResponseBody | ResponseTrailers) -> Command:
        if isinstance(event, ResponseBody) and self._in_full_duplex:
            return Pass(event.body, event.end)
        return CONTINUE

    async def _collected(self, event: ResponseBody | ResponseTrailers, exchange: RouterExchange) -> Command:
        """The body of a reply that the exchange reads whole."""
        trailers = isinstance(event, ResponseTrailers)
        if isinstance(event, ResponseBody):
            self._body += event.body
            if not event.end and len(self._body) <= self._gateway.body_limits.response:
                return HOLD if self._in_full_duplex else Continue(body=b"")
        body, self._head = bytes(self._body), None
        self._body.clear()
        command = await exchange.handle(ResponseBody(body, True))
        if not isinstance(command, Continue):
            return command
        collected = body if command.body is None else command.body
        if self._in_full_duplex:
            answer, self._ended = self._answer, True
            return Release(
                (*answer.set_headers, *(pair for pair in command.set_headers if pair[0] != "content-length")),
                tuple(dict.fromkeys((*answer.remove_headers, *command.remove_headers, "content-length"))),
                collected,
                end=not trailers,
                trailers=trailers,
            )
        if dict(command.set_headers).get(":status", self._status_sent) != self._status_sent:
            raise PeerError("a reply must become an error, and its status has left the proxy: its body is STREAMED")
        if trailers:
            raise PeerError("a reply with trailers must be replaced, and its body is STREAMED")
        return Continue(body=collected)
