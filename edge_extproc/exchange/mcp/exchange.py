"""Handles one HTTP request to an MCP server, with one method for each event.

    request headers     identify the caller; GET and DELETE go on        → the server's request, or a refusal
    request body        one message: rights, session, limits, guardrails → the server's request, or a JSON-RPC error
    response headers    the caller's id of the session, the body's mode
    response body       lists and results, as the caller may have them
    closed              the request is settled

Envoy sends request bodies whole, within the limit. A response is whole if it is JSON, and a stream if it has events.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ...codecs.content_type import media_type
from ...codecs.json_rpc import METHOD_NOT_FOUND, RpcFault, RpcId, RpcMessage, read_message
from ...dialects.base import Route
from ...errors import BadRequest, EdgeError, Forbidden, PeerError, Unauthenticated, UpstreamError, WrongMethod
from ...limits.base import MICRO, ReservationRequest
from ...model.fault import Fault, kind_of
from ...model.frozen_dataclass import frozen_dataclass
from ...model.principal import Principal
from .. import headers as header_rules
from ..caller import authenticate, received_headers
from ..commands import CONTINUE, Command, Continue, ImmediateResponse, Pairs
from ..envoy_faults import fault_of
from ..events import Event, RequestBody, RequestHeaders, ResponseBody, ResponseHeaders
from ..handler import Closing, Interrupt, MoreTime, no_interrupt, no_more_time
from ..large_bodies import is_large
from ..mcp_settings import McpServer, McpSettings
from ..phases import Identified, Received
from ..ports import Gateway
from ..request_ids import with_exchange, with_request_id
from ..response_head import ResponseHead
from ..runs import limits_and_runs
from .errors import HEADER_MISMATCH, HeaderMismatch, MethodNotHere, NoSuchServer, NoSuchSession, error_response
from .metadata import PATH, WELL_KNOWN, challenge, check_audience, metadata
from .methods import CALL, CHECKED, OF_REQUESTS, uses_of
from .mirrored import LAST_EVENT, SESSION, check_mirrored, check_once, is_modern
from .permissions import McpPermissions
from .replies import McpReplies
from .settling import McpRecord, settle
from .upstream import upstream_request

if TYPE_CHECKING:  # not loaded without rules
    from .guarding import McpGuard

_METHOD = re.compile(r"[A-Za-z0-9_./-]{1,100}")
"""The methods that the log names: callers can write any text."""
_LARGE_SECONDS = 30.0
"""How long Envoy waits while a large body is read."""
_VERDICT_SECONDS = 30.0
"""How long Envoy waits for the verdict of services."""
_ACCEPTED, _NO_CONTENT = 202, 204
_NOT_FOUND, _REDIRECTS, _ERRORS = 404, 300, 400
_OF_CREDENTIAL = frozenset({401, 403, 407})
_VIA_UPSTREAM = "via_upstream"
_NOT_CONNECTED = ("no_healthy_upstream", "cluster_not_found")
_CONNECTION_FAILURE = "connection_failure"
_JSON, _EVENTS = "application/json", "text/event-stream"
_HEADERS_BACK = frozenset({"mcp-protocol-version", "x-accel-buffering"})


@frozen_dataclass
class McpCaller:
    """Who calls which server, and what of it."""

    identified: Identified
    server: McpServer
    permissions: McpPermissions


class McpExchange:
    """One request."""

    def __init__(self, gateway: Gateway, traceparent: str | None = None, worker: str | None = None) -> None:
        """`traceparent`: that of Envoy's span for this request, if Envoy traces. `worker`: the address of this
        worker."""
        self._traceparent = traceparent
        self._worker = worker
        self.id = gateway.new_id()
        self.more_time: MoreTime = no_more_time
        self.interrupt: Interrupt = no_interrupt
        self._gateway = gateway
        self._times = gateway.clock.monotonic(), gateway.clock.time()
        self._record = McpRecord()
        self._challenge: Pairs = ()
        """The headers of a response with status 401."""
        self._caller: McpCaller | None = None
        self._rpc_id: RpcId | None = None
        self._resumed: str | None = None
        """The server's id of the last event that the caller has got."""
        self._guard: McpGuard | None = None
        self._replies: McpReplies | None = None
        """None: no body of the response is read."""
        self._notes: Pairs = ()
        """Headers of the response about limits."""
        self._is_local = False
        """The response is the gateway's own."""
        self._bug = self._settled = False

    @property
    def unfinished(self) -> str | None:
        record = self._record
        began = record.status is not None and self._replies is not None and not self._is_local
        return self.id if began and not record.whole else None

    async def handle(self, event: Event) -> Command:
        """Raises PeerError if Envoy broke the order."""
        began = self._gateway.clock.monotonic()
        try:
            return with_exchange(await self._answer(event), self.id, self._worker)
        finally:
            self._record.overhead += self._gateway.clock.monotonic() - began

    async def _answer(self, event: Event) -> Command:
        try:
            return await self._on(event)
        except PeerError:
            raise
        except RpcFault as error:
            self._rpc_id = error.id if error.id is not None else self._rpc_id
            is_unknown = error.rpc_code == METHOD_NOT_FOUND
            modern = self._record.received is not None and is_modern(self._record.received.values)
            status = _NOT_FOUND if is_unknown and modern else None
            return self._refuse(error.fault(), event, code=error.rpc_code, status=status)
        except HeaderMismatch as error:
            return self._refuse(error.fault(), event, code=HEADER_MISMATCH)
        except Unauthenticated as error:
            return self._refuse(error.fault(), event, headers=self._challenge)
        except EdgeError as error:
            return self._refuse(error.fault(), event, headers=error.headers)
        except Exception as bug:
            self._bug = True
            self._gateway.report(bug)
            if isinstance(event, ResponseBody):
                raise  # the headers are sent
            return self._refuse(
                Fault(500, "api", "the gateway failed on this request; it was logged", "internal"), event
            )

    async def _on(self, event: Event) -> Command:
        match event:
            case RequestHeaders():
                return with_request_id(await self._request_headers(event), self._record.received)
            case RequestBody():
                return await self._request_body(event)
            case ResponseHeaders():
                return self._response_headers(event)
            case ResponseBody():
                return await self._response_body(event)
            case _:
                return CONTINUE

    # --- the request

    async def _request_headers(self, event: RequestHeaders) -> Continue | ImmediateResponse:
        gateway, record = self._gateway, self._record
        received = received_headers(
            gateway, event.headers, self._traceparent, gateway.dialects[gateway.default_dialect]
        )
        path = received.values.get(":path", "").partition("?")[0]
        received = record.received = replace(received, path=path)
        settings = gateway.mcp
        name = path.removeprefix(WELL_KNOWN if path.startswith(WELL_KNOWN) else PATH)
        server = settings.servers.get(name) if settings is not None else None
        if settings is None or server is None:
            raise NoSuchServer(f"there is no MCP server {name!r:.100}")
        record.server = server.name
        _check_origin(settings, received)
        if path.startswith(WELL_KNOWN):
            return self._metadata(settings, received, server)
        check_once(event.headers)
        try:
            principal = record.principal = authenticate(gateway, received, event)
            check_audience(server, principal)
        except Unauthenticated as error:
            self._challenge = challenge(settings, received, server.name, error)
            raise
        if received.method not in ("POST", "GET", "DELETE"):
            raise WrongMethod("this path takes POST, GET and DELETE")
        caller = self._caller = await self._identify(received, principal, server)
        if received.method == "POST":
            if event.end:
                raise BadRequest("a POST needs a JSON-RPC message as its body, and none was sent")
            gateway.body_limits.check_request(header_rules.content_length(received.values))
            header_rules.check_encoding(received.values)
            if media_type(received.values.get("content-type", "")) != _JSON:
                raise BadRequest(f"the content-type must be {_JSON}")
            return CONTINUE
        if not event.end:
            raise BadRequest(f"a {received.method} has no body here")
        self._check_caller(caller)
        if is_modern(received.values) or SESSION not in received.values:
            # Without a session, the server could send what belongs to another caller.
            raise MethodNotHere(f"{received.method} is for sessions only; send messages by POST")
        record.rpc_method = "stream" if received.method == "GET" else "session/delete"
        session = self._open_session(received, principal, server)
        await self._count(caller)
        self._begin_guard(caller)
        self._begin_reply(caller)
        record.sent = True
        return upstream_request(
            caller.identified, server, session=session, body=None, length=None, resumed=self._resumed
        )

    async def _identify(self, received: Received, principal: Principal, server: McpServer) -> McpCaller:
        gateway = self._gateway
        rights = gateway.access.of(principal) if gateway.access is not None else None
        limits, self._record.runs = await limits_and_runs(gateway.limiter, principal, received.values)
        route = Route(received.method, received.path, "mcp")
        runs = self._record.runs
        identified = Identified(received, principal, rights, limits, route, received.caller_dialect, runs)
        return McpCaller(identified, server, McpPermissions(gateway, principal, rights, server.name))

    def _check_caller(self, caller: McpCaller) -> None:
        """What could be refused before the message is read, but is only with its id. Raises Forbidden and
        LimitReached."""
        caller.permissions.check_server()
        limiter, limits = self._gateway.limiter, caller.identified.limits
        if limiter is not None and limits is not None:
            limiter.raise_if_blocked(limits)

    async def _request_body(self, event: RequestBody) -> Command:
        gateway, record, caller = self._gateway, self._record, self._caller
        if caller is None:
            raise PeerError("a request body came before its headers")
        identified, server, body = caller.identified, caller.server, event.body
        received = identified.received
        record.request_bytes = len(body)
        gateway.body_limits.check_request(len(body))
        large = is_large(body)
        if large:
            await self.more_time(_LARGE_SECONDS)
            message = await gateway.large_body_runner.run(read_message, body, CHECKED)
        else:
            message = read_message(body, CHECKED)
        self._rpc_id = message.id if message.kind == "request" else None
        known = message.method if _METHOD.fullmatch(message.method) else "other"
        record.rpc_method = known if message.method else "response"
        record.is_request = message.kind == "request"
        check_mirrored(received.values, message)
        self._check_caller(caller)
        modern = is_modern(received.values)
        session = None if modern else self._open_session(received, identified.principal, server)
        if message.kind == "response":
            if session is None:
                raise BadRequest("a response needs the session whose request it answers")
        else:
            uses = uses_of(message)
            record.use = uses[0] if len(uses) == 1 else None
            for use in uses:
                caller.permissions.check(use)
        if session is None and message.kind == "notification" and message.method in OF_REQUESTS:
            await self._count(caller)
            self._is_local = record.whole = True
            record.status = _ACCEPTED
            return ImmediateResponse(_ACCEPTED, (), b"", "edge_mcp_notification")
        checked = await self._guarded(caller, message, body, has_time=large)
        await self._reserve(caller, message)
        self._begin_reply(caller)
        record.sent = True
        changed = checked if checked is not body else None
        return upstream_request(
            identified, server, session=session, body=changed, length=len(checked), resumed=self._resumed
        )

    async def _guarded(self, caller: McpCaller, message: RpcMessage, body: bytes, *, has_time: bool) -> bytes:
        """The body for the server. `has_time`: Envoy's time limit is extended already."""
        guard = self._begin_guard(caller)
        if guard is None:
            return body

        async def take_time(seconds: float) -> None:
            if not has_time:  # Envoy accepts one extension for each message
                await self.more_time(seconds)

        try:
            headers = caller.identified.received.headers
            return await guard.check(headers, message, body, self._gateway.large_body_runner, take_time)
        finally:
            self._record.hits = guard.call.hits

    def _begin_guard(self, caller: McpCaller) -> McpGuard | None:
        if self._gateway.guardrails is None:
            return None
        from .guarding import McpGuard  # not loaded without rules

        use = self._record.use
        tool = use.name if use is not None and use.kind == "tools" else ""
        principal, server = caller.identified.principal, caller.server.name
        self._guard = McpGuard.begin(self._gateway.guardrails, principal, server, tool, self.id)
        return self._guard

    def _open_session(self, received: Received, principal: Principal, server: McpServer) -> str | None:
        """The server's own id of the session that the caller names. None: it names none. Raises NoSuchSession."""
        sealed, settings = received.values.get(SESSION), self._gateway.mcp
        if sealed is None or settings is None:
            if LAST_EVENT in received.values:
                raise BadRequest("a stream is resumed within its session; send its id")
            return None
        session = settings.seal.open(server.name, principal, sealed)
        if session is None:
            raise NoSuchSession("there is no such session for this key; begin a new one")
        last = received.values.get(LAST_EVENT)
        if last:
            # Some servers resume any stream, whose session it may be.
            self._resumed = settings.seal.open_event(server.name, principal, last)
            if self._resumed is None:
                raise BadRequest(f"{LAST_EVENT} is not the id of an event that this key has got")
        return session

    async def _reserve(self, caller: McpCaller, message: RpcMessage) -> None:
        """Reserves the price of a call; counts any other message. Raises the errors of `Limiter.admit`."""
        limiter, limits, server = self._gateway.limiter, caller.identified.limits, caller.server
        use = self._record.use
        if message.kind != "request" or message.method != CALL or use is None:
            await self._count(caller)
            return
        price = self._record.price = server.price_of(use.name)
        if limiter is not None and limits is not None:
            micro = int(price * MICRO)
            request = ReservationRequest(0, micro, micro, f"{server.name}/{use.name}")
            self._notes = (await limiter.admit(self.id, limits, request)).headers

    async def _count(self, caller: McpCaller) -> None:
        """Raises the errors of `Limiter.admit`."""
        limiter, limits = self._gateway.limiter, caller.identified.limits
        if limiter is not None and limits is not None:
            self._notes = (await limiter.count(self.id, limits)).headers

    def _begin_reply(self, caller: McpCaller) -> None:
        gateway = self._gateway
        self._replies = McpReplies(
            self._rpc_id,
            caller.permissions.may_see,
            self._guard.call if self._guard is not None else None,
            gateway.large_body_runner,
            gateway.body_limits.response,
            partial(gateway.mcp.seal.seal_event, caller.server.name, caller.identified.principal)
            if gateway.mcp is not None
            else None,
        )

    def _metadata(self, settings: McpSettings, received: Received, server: McpServer) -> ImmediateResponse:
        if not settings.issuers:
            raise NoSuchServer("this gateway accepts no tokens of OAuth")
        if received.method != "GET":
            raise WrongMethod("this path takes GET")
        self._is_local = self._record.whole = True
        self._record.status = 200
        self._record.rpc_method = "metadata"
        return metadata(settings, received, server.name)

    # --- the response

    def _response_headers(self, event: ResponseHeaders) -> Command:
        record, caller = self._record, self._caller
        if self._is_local or caller is None or self._replies is None:
            return CONTINUE  # an earlier filter has answered, or this one
        head = ResponseHead.of(event)
        record.status = head.status
        if head.details != _VIA_UPSTREAM:
            record.refused = head.details.startswith(_NOT_CONNECTED) or _CONNECTION_FAILURE in head.details
            return self._refuse(fault_of(head.status, head.details), event)
        if head.status in _OF_CREDENTIAL or _REDIRECTS <= head.status < _ERRORS:
            record.refused = True
            raise UpstreamError(f"the MCP server answered the gateway with status {head.status}")
        to_set, back = [*self._notes], header_rules.unwanted(event.headers, self._gateway.response_headers)
        session = head.values.get(SESSION)
        if session is not None:
            sealed = self._sealed(caller, session)
            to_set += [(SESSION, sealed)]
        removed = tuple(name for name in back if name not in _HEADERS_BACK and not (name == SESSION and session))
        record.refused = head.status >= _ERRORS
        record.whole = event.end
        kind = media_type(head.values.get("content-type", ""))
        if event.end:
            return Continue(tuple(to_set), removed)
        if head.values.get("content-encoding", "identity") != "identity":
            raise UpstreamError("the MCP server sent a compressed body, which it was not asked for")
        if kind == _EVENTS and head.status < _REDIRECTS:
            record.stream = True
            # Without a charset: events are in UTF-8, and some clients would read another one.
            to_set.append(("content-type", kind))
            return Continue(tuple(to_set), (*removed, "content-length"), response_body="streamed")
        if kind == _JSON:
            to_set.append(("content-type", kind))
            return Continue(tuple(to_set), (*removed, "content-length"), response_body="buffered")
        if head.status >= _ERRORS:
            # The body is a text about the error, and no message. The status is: of a session that has ended, say.
            return self._refuse(_fault_of_server(head.status), event)
        if head.values.get("content-length") == "0" or head.status in (_ACCEPTED, _NO_CONTENT):
            return Continue(tuple(to_set), removed, response_body="buffered")
        raise UpstreamError(f"the MCP server answered with a body of type {kind!r:.60}")

    def _sealed(self, caller: McpCaller, session: str) -> str:
        """The caller's id of a session."""
        settings, principal = self._gateway.mcp, caller.identified.principal
        sealed = settings.seal.seal(caller.server.name, principal, session) if settings is not None else None
        if sealed is None:
            raise UpstreamError("the MCP server sent an id of a session that is not valid")
        return sealed

    async def _response_body(self, event: ResponseBody) -> Command:
        record, replies = self._record, self._replies
        if self._is_local or replies is None:
            return CONTINUE
        if (self._guard is not None and self._guard.asks_about_replies) or is_large(event.body):
            await self.more_time(_VERDICT_SECONDS)
        if record.stream:
            body = await replies.chunk(event.body, end=event.end)
        elif not event.body:
            body = event.body
        else:
            self._gateway.body_limits.check_response(len(event.body))
            if record.status in (_ACCEPTED, _NO_CONTENT):
                body = b""
            else:
                try:
                    body = await replies.body(event.body)
                except UpstreamError:
                    if not record.refused or record.status is None:
                        raise
                    return self._refuse(_fault_of_server(record.status), event)
        record.whole = event.end
        record.answer = replies.answer
        record.response_bytes += len(body)
        if self._guard is not None:
            record.hits = self._guard.call.hits
        return CONTINUE if body == event.body else Continue(body=body)

    # --- the end

    def _refuse(
        self, fault: Fault, event: Event, *, code: int | None = None, status: int | None = None, headers: Pairs = ()
    ) -> ImmediateResponse:
        record = self._record
        record.fault, record.status = fault, status or fault.status
        record.by_gateway = isinstance(event, RequestHeaders | RequestBody)
        self._is_local = True
        return error_response(fault, self._rpc_id, code=code, status=status, headers=headers)

    async def before_close(self) -> None:
        """Nothing waits."""

    def closed(self, why: Closing) -> None:
        """Settles at the first call; later calls do nothing."""
        if self._settled:
            return
        self._settled = True
        settle(self._gateway, self.id, self._record, self._times, "error" if self._bug else why)


def _fault_of_server(status: int) -> Fault:
    return Fault(status, kind_of(status), f"the MCP server answered with status {status}", "mcp_server_error")


def _check_origin(settings: McpSettings, received: Received) -> None:
    """A page of another site must not call a gateway that its user can reach. Raises Forbidden."""
    origin = received.values.get("origin")
    if origin is not None and "*" not in settings.origins and origin not in settings.origins:
        raise Forbidden("this gateway does not allow calls from this origin")
