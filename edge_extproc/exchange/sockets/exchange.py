"""Handles one WebSocket from its upgrade to its end, with one method for each event.

    request headers     identify the caller, choose the provider        → its request, or 426 and other refusals
    response headers    101: the session begins                         → without the provider's own headers
                        otherwise the provider has refused it           → an error response
    request body        the caller's frames (session.py)                → frames for the provider
    response body       the provider's frames                           → frames for the caller
    closed              responses in progress are settled, then the session

Each response within a session has a settlement of its own (session.py). That of the session has no usage, and is not in
the ledger. Envoy sends bodies as a stream, and waits for the answer to each part of a direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ...auth.identity_seal import NAMESPACE as SEALED
from ...codecs.websocket import WebSocketFault, WebSocketReader, read_extensions
from ...dialects.base import Route
from ...errors import EdgeError, LimitReached, PeerError, Unauthenticated, UpstreamError
from ...model.fault import Fault
from ...model.globs import allows
from ...model.principal import Principal
from ...model.settlement import SOCKET, Outcome, Settlement
from .. import headers as header_rules
from ..caller import authenticate, received_headers
from ..commands import CONTINUE, Command, Continue, ImmediateResponse, Pairs
from ..events import Event, Headers, RequestBody, RequestHeaders, ResponseBody, ResponseHeaders
from ..handler import Closing, Interrupt, MoreTime, no_interrupt, no_more_time
from ..listing import no_such_model
from ..phases import Identified, Received
from ..ports import Gateway
from ..request_ids import with_request_id
from ..route_identity import IDENTITY
from ..runs import limits_and_runs
from ..settling import send
from ..socket_settings import OpenSockets, SocketWatch
from .bridged_session import BridgedSession
from .live_session import LiveSession
from .realtime_session import RealtimeSession
from .responses_session import ResponsesSession
from .session import Outgoing, SocketSession
from .upgrade import (
    HANDSHAKE_BACK,
    Api,
    Target,
    api_of,
    check_origin,
    dialect_of,
    target_of,
    upstream_request,
    with_key,
)

_SWITCHED = 101
_RETRY_SECONDS = 10.0
_SESSIONS: dict[Api, type[SocketSession]] = {
    "realtime": RealtimeSession,
    "responses": ResponsesSession,
    "live": LiveSession,
}
# After the response headers, Envoy can only reset both connections.
_RESET = ImmediateResponse(408, (), b"", "edge_socket_ended")
_TOO_MANY = 429
_UNAVAILABLE = 503


class SocketExchange:
    """One WebSocket."""

    def __init__(
        self,
        current: Callable[[], Gateway],
        began_response: Callable[[], None],
        watch: SocketWatch,
        open_sockets: OpenSockets,
        worker: str | None = None,
    ) -> None:
        """`current` returns the gateway of the configuration that is current. `worker`: the address of this worker."""
        gateway = current()
        self.id = gateway.new_id()
        self.more_time: MoreTime = no_more_time
        self.interrupt: Interrupt = no_interrupt
        self._gateway = gateway
        self._worker = worker
        self._current = current
        self._open_sockets = open_sockets
        self._counted: str | None = None
        """The tenant for whom this socket is counted."""
        self._began_response = began_response
        self._watch = watch
        self._dialect = gateway.dialects[dialect_of("responses")]
        self._began, self._started_at = gateway.clock.monotonic(), gateway.clock.time()
        self._received: Received | None = None
        self._principal: Principal | None = None
        self._identified: Identified | None = None
        self._target: Target | None = None
        self._upgrade: RequestHeaders | None = None
        self._session: SocketSession | None = None
        """None: the upgrade is not complete."""
        self._from_caller: WebSocketReader | None = None
        self._from_provider: WebSocketReader | None = None
        self._refused: tuple[int, Fault, bool] | None = None
        """The status, the error, and whether the gateway itself has refused the upgrade."""
        self._bytes = [0, 0]
        self._bug = self._settled = False

    async def handle(self, event: Event) -> Command:
        """Raises PeerError if Envoy broke the order, and the exception of a bug within a session."""
        began = self._gateway.clock.monotonic()
        try:
            return await self._on(event)
        except PeerError:
            raise
        except EdgeError as error:
            return self._refuse(error.fault(), event, headers=error.headers)
        except Exception as bug:
            self._bug = True
            self._gateway.report(bug)
            if self._session is not None:
                raise
            fault = Fault(500, "api", "the gateway failed on this request; it was logged", "internal")
            return self._refuse(fault, event)
        finally:
            if self._session is not None:
                self._session.spent += self._gateway.clock.monotonic() - began

    async def _on(self, event: Event) -> Command:
        match event:
            case RequestBody():
                return await self._caller_bytes(event)
            case ResponseBody():
                return await self._provider_bytes(event)
            case RequestHeaders():
                return with_request_id(await self._request_headers(event), self._received)
            case ResponseHeaders():
                return self._response_headers(event)
            case _:
                return CONTINUE

    # --- the upgrade

    async def _request_headers(self, event: RequestHeaders) -> Continue:
        gateway = self._gateway
        event = with_key(event)
        path = gateway.routes.canonical((header_rules.first(event.headers, ":path") or "").partition("?")[0])
        api = api_of(path)
        self._dialect = gateway.dialects[dialect_of(api)]
        received = self._received = received_headers(gateway, event.headers, None, self._dialect)
        principal = self._principal = authenticate(gateway, received, event)
        check_origin(gateway, event)
        rights = gateway.access.of(principal) if gateway.access is not None else None
        limits, runs = await limits_and_runs(gateway.limiter, principal, received.values)
        if gateway.limiter is not None and limits is not None:
            gateway.limiter.raise_if_blocked(limits)
        if rights is not None:
            rights.may_do("chat")
        route = Route("GET", received.path if api == "live" else f"/v1/{api}", "chat")
        identified = Identified(received, principal, rights, limits, route, self._dialect, runs)
        self._identified = identified
        target = self._target = target_of(gateway, identified)
        if not self._open_sockets.add(principal.tenant, gateway.sockets.most):
            raise LimitReached(
                f"tenant {principal.tenant} has {gateway.sockets.most} WebSockets at this worker, which is its limit",
                retry_after=_RETRY_SECONDS,
            )
        self._counted, self._upgrade = principal.tenant, event
        return upstream_request(gateway, identified, event, target)

    def _response_headers(self, event: ResponseHeaders) -> Command:
        gateway, identified, target = self._gateway, self._identified, self._target
        values = header_rules.firsts(event.headers)
        status = header_rules.status_of(values.get(":status"))
        if self._refused is not None:
            return CONTINUE
        if identified is None or target is None:
            return CONTINUE  # an earlier filter has answered
        if status != _SWITCHED:
            raise _refusal_of_provider(status)
        try:
            deflate = read_extensions(values.get("sec-websocket-extensions"))
        except WebSocketFault as fault:
            raise UpstreamError(str(fault)) from fault
        of_caller, of_provider = deflate or (None, None)
        limits = gateway.body_limits
        self._from_caller = WebSocketReader(from_client=True, largest=limits.request, deflate=of_caller)
        self._from_provider = WebSocketReader(from_client=False, largest=limits.response, deflate=of_provider)
        of_api = BridgedSession if target.is_bridged else _SESSIONS[target.api]
        self._session = of_api(gateway, identified, target, self._began_response, self._identify)
        self._watch.opened()
        return Continue(remove_headers=_unwanted(event.headers, gateway.response_headers))

    def _identify(self, identified: Identified) -> Identified:
        """The caller by the current configuration: a key may be revoked, or a token expire, while a session is open.
        An identity that another filter has sealed for this request remains as it was."""
        received, gateway = identified.received, self._current()
        if self._upgrade is None or _is_sealed(self._gateway, self._upgrade, received.values):
            return identified
        principal = gateway.authenticator.authenticate(self._upgrade.headers)
        if principal.tenant != identified.principal.tenant:
            raise Unauthenticated("the key of this session now belongs to another tenant; open another session")
        rights = gateway.access.of(principal) if gateway.access is not None else None
        if rights is not None:
            rights.may_do("chat")
        model = self._target.model if self._target is not None else ""
        if model and not allows(principal.models, model):
            raise no_such_model(model)
        return replace(identified, principal=principal, rights=rights)

    # --- the session

    async def _caller_bytes(self, event: RequestBody) -> Command:
        session, reader = self._session, self._from_caller
        if session is None or reader is None:
            if event.body:
                raise PeerError("bytes of a WebSocket came before its upgrade was complete")
            return CONTINUE
        self._bytes[0] += len(event.body)
        try:
            messages = reader.feed(event.body)
        except WebSocketFault as fault:
            out = await session.from_caller(fault.messages)
            session.broken_by_caller(fault, out)
            return self._sent(event, out)
        if session.is_overdue:
            return _RESET
        self._watch.messages(len(messages), from_client=True)
        return self._sent(event, await session.from_caller(messages))

    async def _provider_bytes(self, event: ResponseBody) -> Command:
        session, reader = self._session, self._from_provider
        if session is None or reader is None:
            return CONTINUE
        self._bytes[1] += len(event.body)
        try:
            messages = reader.feed(event.body)
        except WebSocketFault as fault:
            out = await session.from_provider(fault.messages, end=False)
            session.broken_by_provider(fault, out)
            return self._sent(event, out)
        if session.is_overdue:
            return _RESET
        self._watch.messages(len(messages), from_client=False)
        return self._sent(event, await session.from_provider(messages, end=event.end))

    @staticmethod
    def _sent(event: RequestBody | ResponseBody, out: Outgoing) -> Command:
        wire = b"".join(out.parts)
        return CONTINUE if wire == event.body else Continue(body=wire)

    # --- the end

    def _refuse(self, fault: Fault, event: Event, *, headers: Pairs = ()) -> Command:
        status, of_error, body = self._dialect.write_error(fault)
        self._refused = (status, fault, isinstance(event, RequestHeaders))
        code = fault.code or "error"
        return with_request_id(ImmediateResponse(status, (*of_error, *headers), body, f"edge_{code}"), self._received)

    @property
    def unfinished(self) -> str | None:
        return self.id if self._session is not None and self._session.is_responding else None

    async def before_close(self) -> None:
        """Nothing waits."""

    def closed(self, why: Closing) -> None:
        """Settles at the first call; later calls do nothing."""
        if self._settled:
            return
        self._settled = True
        if self._counted is not None:
            self._open_sockets.remove(self._counted)
        if self._session is not None:
            self._session.closed("error" if self._bug else why)
            self._watch.closed()
        settlement = self._settlement(why)
        if self._session is None:
            send(self._gateway, settlement)
            return
        for sink in self._gateway.sinks:
            try:
                sink(settlement)
            except Exception as bug:  # noqa: BLE001 - an exception of one sink must not stop the others
                self._gateway.report(bug)

    def _settlement(self, why: Closing) -> Settlement:
        gateway, received, principal, target = self._gateway, self._received, self._principal, self._target
        status, fault, by_gateway = self._refused or (None, None, False)
        if self._session is not None and self._session.fault is not None:
            fault, by_gateway = self._session.fault, True
        outcome: Outcome = "ok"
        if self._bug:
            outcome = "gateway_error"
        elif fault is not None:
            outcome = "rejected" if by_gateway else "upstream_error"
        elif self._session is None:
            outcome = "stopped" if why == "stopping" else "caller_left"
        return Settlement(
            exchange_id=self.id,
            outcome=outcome,
            status=_SWITCHED if self._session is not None else status,
            code=(fault.code or fault.kind) if fault is not None else None,
            kind=fault.kind if fault is not None else None,
            started_at=self._started_at,
            duration=gateway.clock.monotonic() - self._began,
            overhead=self._session.spent if self._session is not None else 0.0,
            tenant=principal.tenant if principal is not None else None,
            team=principal.team if principal is not None else None,
            user=principal.user if principal is not None else None,
            key_id=principal.key_id if principal is not None else None,
            method=received.method if received is not None else "",
            path=received.path if received is not None else "",
            dialect=self._dialect.name,
            operation=SOCKET,
            stream=True,
            model=gateway.models.label(target.model) if target is not None and target.model else None,
            provider=(target.candidate.provider or None) if target is not None else None,
            upstream_model=(target.candidate.model or None) if target is not None else None,
            attempts=1 if target is not None and not target.is_bridged else 0,
            request_bytes=self._bytes[0],
            response_bytes=self._bytes[1],
            request_id=received.request_id if received is not None else None,
            trace_id=received.parent.trace_id if received is not None and received.parent is not None else None,
        )


def _is_sealed(gateway: Gateway, event: RequestHeaders, values: Mapping[str, str]) -> bool:
    by_filter = gateway.identity_seal is not None and bool(event.metadata.get(SEALED))
    return by_filter or (gateway.route_seal is not None and IDENTITY in values)


def _refusal_of_provider(status: int) -> EdgeError:
    if status in (_TOO_MANY, _UNAVAILABLE):
        return UpstreamError(f"the provider does not open a WebSocket now: it answered with {status}", retry_after=1)
    return UpstreamError(f"the provider does not open a WebSocket: it answered with {status}")


def _unwanted(headers: Headers, more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in header_rules.unwanted(headers, more) if name not in HANDSHAKE_BACK)
