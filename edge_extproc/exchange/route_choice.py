"""Chooses the route of a request for a proxy that selects routes by a header, before another stream writes the request.

The stream reads the call, sets a header with the provider, and lets the proxy select the route again. It writes no
provider's credential, and it takes the caller's away: the next stream gets the caller's identity in a header that is
sealed for this request and valid for a short time. If no next stream comes, the request reaches the provider without a
key of the caller or of a provider. The provider then sees the sealed identity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..auth.api_key import CREDENTIAL_HEADERS
from ..errors import GuardrailBlocked, PeerError, PolicyUnavailable
from .caller import authenticate
from .candidates import find_candidates, routing_request
from .commands import CONTINUE, HOLD, Command, Continue, Pass, Release
from .events import Event, RequestBody, RequestHeaders, RequestTrailers, ResponseBody
from .handler import MoreTime
from .headers import firsts, is_request_id
from .large_bodies import is_large
from .parsed_call import ParsedCall
from .phases import Identified, Received
from .ports import Gateway
from .read_call import read_call
from .route_identity import IDENTITY, seal_identity

PROVIDER = "x-edge-provider"
"""The header by which the proxy selects a route."""
_ID = "x-request-id"
_LARGE_SECONDS = 30.0
"""How long the proxy waits while a large body waits for a worker thread."""

T = TypeVar("T")


class RouteChooser:
    """One stream that chooses a route. It settles nothing: the stream that writes the request does."""

    def __init__(self, gateway: Gateway, more_time: MoreTime) -> None:
        self._gateway = gateway
        self._more_time = more_time
        self._routes = gateway.consumer
        self._event: RequestHeaders | None = None
        self._duplex = False
        self._response_duplex = False
        self._body = bytearray()

    @property
    def body(self) -> bytes:
        """What has come of the request body."""
        return bytes(self._body)

    async def handle(self, event: Event) -> Command:
        """Raises EdgeError for a request without a route."""
        match event:
            case RequestHeaders():
                modes = self._routes.modes_of(event)
                self._duplex = modes is not None and modes.request == "full_duplex_streamed"
                self._response_duplex = modes is not None and modes.response == "full_duplex_streamed"
                self._event = event
                if event.end:
                    return await self._chosen(b"")
                return HOLD if self._duplex else CONTINUE
            case RequestBody():
                self._body += event.body
                longest = self._gateway.body_limits.request
                if self._duplex and not event.end and len(self._body) <= longest:
                    return HOLD
                return await self._released(end=True)
            case RequestTrailers() if self._duplex:
                return await self._released(end=False)
            case ResponseBody() if self._response_duplex:
                return Pass(event.body, event.end)  # an answer without a body would remove these bytes
            case _:
                return CONTINUE

    async def _released(self, *, end: bool) -> Command:
        body = self.body
        command = await self._chosen(body)
        self._body.clear()
        if not self._duplex:
            return command
        return Release(
            command.set_headers, command.remove_headers, body, end=end, reroute=command.reroute, trailers=not end
        )

    async def _chosen(self, body: bytes) -> Continue:
        event = self._event
        if event is None:  # pragma: no cover - Envoy sends headers first
            raise PeerError("a request without headers")
        values = firsts(event.headers)
        route_id = values.get(_ID, "")
        # Without an id, the sealed identity would be valid for other requests.
        request_id = route_id if is_request_id(route_id) else self._gateway.new_id()
        provider, sealed = await self._choice(event, values, body, request_id)
        credentials = tuple(dict.fromkeys(name for name, _ in event.headers if name in CREDENTIAL_HEADERS))
        of_id = () if request_id == route_id else ((_ID, request_id),)
        return Continue(((PROVIDER, provider), (IDENTITY, sealed), *of_id), credentials, reroute=True)

    async def _choice(
        self, event: RequestHeaders, values: dict[str, str], body: bytes, request_id: str
    ) -> tuple[str, str]:
        gateway, seal = self._gateway, self._gateway.route_seal
        if seal is None:  # pragma: no cover - such a stream chooses no route
            raise PeerError("no seal")
        path = gateway.routes.canonical(values.get(":path", "").partition("?")[0])
        dialect, route = gateway.routes.match(values.get(":method", ""), path)
        received = Received(event.headers, values, request_id, values.get(":method", ""), path, dialect, None, None)
        principal = authenticate(gateway, received, event)
        rights = gateway.access.of(principal) if gateway.access is not None else None
        gateway.body_limits.check_request(len(body))
        identified = Identified(received, principal, rights, None, route, dialect)
        identified, parsed = await self._work(body, lambda: read_call(gateway, identified, body))
        if gateway.guardrails is not None:
            parsed = await self._routed(identified, parsed, request_id, large=is_large(body))
        routing = routing_request(gateway, identified, parsed.call)
        candidates = find_candidates(gateway, identified, routing)
        if rights is not None:
            candidates = rights.narrow(parsed.call, candidates)
        if gateway.taken_out:
            candidates = gateway.taken_out.used(candidates, gateway.clock.time())
        first = candidates[0]
        if parsed.call.operation != "passed":
            plan = gateway.planner.plan(routing, candidates)
            gateway.planner.record(parsed.call.model, plan, (), principal.tenant)  # the next stream plans again
            first = plan.at(1)
        return first.provider, seal_identity(seal, principal, request_id, gateway.clock.time())

    async def _routed(self, identified: Identified, parsed: ParsedCall, request_id: str, *, large: bool) -> ParsedCall:
        """The call with the model that a rule of the guardrails gives it to. The next stream applies all rules."""
        from .request_guardrails import RequestGuard  # not loaded without rules

        async def work(large: bool, function: Callable[[], T]) -> T:
            return await self._gateway.large_body_runner.run(function) if large else function()

        async def take_time(seconds: float) -> None:
            if not large:  # else it has been taken
                await self._more_time(seconds)

        guard = RequestGuard.begin(self._gateway, request_id, identified, parsed.call, work, take_time, large)
        if not guard.routes:
            return parsed
        try:
            return await guard.check(parsed)
        except (GuardrailBlocked, PolicyUnavailable):  # the next stream refuses the call, and settles it
            return parsed

    async def _work(self, body: bytes, function: Callable[[], T]) -> T:
        """Runs work whose time depends on the length of the body: off the event loop for a large body."""
        if not is_large(body):
            return function()
        await self._more_time(_LARGE_SECONDS)
        return await self._gateway.large_body_runner.run(function)
