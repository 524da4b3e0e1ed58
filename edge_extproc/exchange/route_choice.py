"""Chooses the route of a request for a proxy that selects routes by a header, before another stream writes the request.

The stream reads the call, sets a header with the provider, and lets the proxy select the route again. It writes no
provider's credential, and it takes the caller's away: the next stream gets the caller's identity in a header that is
sealed for this request and valid for a short time. If no next stream comes, the provider refuses the request, and no
secret has left.
"""

from __future__ import annotations

from dataclasses import replace

from ..auth.api_key import CREDENTIAL_HEADERS
from ..errors import PeerError
from .caller import authenticate
from .candidates import find_candidates, routing_request
from .commands import CONTINUE, HOLD, Command, Continue, Release
from .events import Event, Headers, RequestBody, RequestHeaders, RequestTrailers
from .headers import firsts
from .phases import Identified, Received
from .ports import Gateway
from .read_call import read_call
from .route_identity import CERTIFICATE, IDENTITY, seal_identity

PROVIDER = "x-edge-provider"
"""The header by which the proxy selects a route."""


class RouteChooser:
    """One stream that chooses a route. It settles nothing: the stream that writes the request does."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._routes = gateway.consumer
        self._event: RequestHeaders | None = None
        self._duplex = False
        self.body = b""
        """What has come of the request body."""

    async def handle(self, event: Event) -> Command:
        """Raises EdgeError for a request without a route."""
        match event:
            case RequestHeaders():
                modes = self._routes.modes_of(event)
                self._duplex = modes is not None and modes.request == "full_duplex_streamed"
                self._event = event
                if event.end:
                    return self._chosen(b"")
                return HOLD if self._duplex else CONTINUE
            case RequestBody():
                self.body += event.body
                longest = self._gateway.body_limits.request
                if self._duplex and not event.end and len(self.body) <= longest:
                    return HOLD
                return self._released(end=True)
            case RequestTrailers() if self._duplex:
                return self._released(end=False)
            case _:
                return CONTINUE

    def _released(self, *, end: bool) -> Command:
        command = self._chosen(self.body)
        if not self._duplex:
            return command
        return Release(
            command.set_headers, command.remove_headers, self.body, end=end, reroute=command.reroute, trailers=not end
        )

    def _chosen(self, body: bytes) -> Continue:
        event = self._event
        if event is None:  # pragma: no cover - Envoy sends headers first
            raise PeerError("a request without headers")
        provider, sealed = self._choice(event, body)
        credentials = tuple(dict.fromkeys(name for name, _ in event.headers if name in CREDENTIAL_HEADERS))
        return Continue(((PROVIDER, provider), (IDENTITY, sealed)), credentials, reroute=True)

    def _choice(self, event: RequestHeaders, body: bytes) -> tuple[str, str]:
        gateway, seal = self._gateway, self._gateway.route_seal
        if seal is None:  # pragma: no cover - such a stream chooses no route
            raise PeerError("no seal")
        headers: Headers = tuple(pair for pair in event.headers if pair[0] not in (IDENTITY, CERTIFICATE))
        values = firsts(headers)
        path = gateway.routes.canonical(values.get(":path", "").partition("?")[0])
        dialect, route = gateway.routes.match(values.get(":method", ""), path)
        received = Received(
            headers, values, values.get("x-request-id"), values.get(":method", ""), path, dialect, None, None
        )
        principal = authenticate(gateway, received, replace(event, headers=headers))
        rights = gateway.access.of(principal) if gateway.access is not None else None
        gateway.body_limits.check_request(len(body))
        identified, parsed = read_call(gateway, Identified(received, principal, rights, None, route, dialect), body)
        routing = routing_request(gateway, identified, parsed.call)
        candidates = find_candidates(gateway, identified, routing)
        if rights is not None:
            candidates = rights.narrow(parsed.call, candidates)
        first = candidates[0]
        if parsed.call.operation != "passed":
            plan = gateway.planner.plan(routing, candidates)
            gateway.planner.record(parsed.call.model, plan, (), principal.tenant)  # the next stream plans again
            first = plan.at(1)
        sealed = seal_identity(seal, principal, values.get("x-request-id", ""), gateway.clock.time())
        return first.provider, sealed
