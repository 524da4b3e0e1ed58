"""THE STORY: one request from headers to bill, one method for each thing that Envoy says.

    request headers     who is calling, and which API is this          → refuse, answer, or wait for the body
    request body        what is asked, whom do we try                  → the request of the first candidate
    response headers    who answered, and how                          → how the body shall come
    response body       the answer, in the caller's words              → bytes
    closed              however it ended: what was used, what it cost  → one settlement

Retries are told in attempt.py. Nothing here knows gRPC, HTTP libraries, or any wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

from ..auth.vouching import NAMESPACE as VOUCHED
from ..cache.base import CacheEntry, CacheLookup
from ..codecs.content_encoding import Inflater, inflate
from ..codecs.content_type import media_type
from ..codecs.sse import is_stream
from ..dialects.base import Dialect
from ..dialects.dropping import lost_in
from ..errors import (
    BadRequest,
    CallerError,
    EdgeError,
    LimitReached,
    NoSuchRoute,
    PeerError,
    PolicyUnavailable,
    ResponseTooLarge,
    Unavailable,
    UpstreamError,
)
from ..limits.base import CallerLimits
from ..model.call import Call
from ..model.content import Part
from ..model.envoy_names import ANSWERED_BY, CALLERS_ID, NAMESPACE, PROVIDERS_ID, REQUEST_ID
from ..model.fault import Fault
from ..model.globs import allows
from ..model.plan import Candidate, Plan
from ..model.principal import Principal
from ..model.reply import Fold, fold
from ..model.reply import Reply as WholeReply
from ..model.trace import read_traceparent
from ..routing.base import RoutingRequest
from . import headers as header_rules
from .adapt import adapt, dialect_of, first_able, format_of
from .body_shape import check_shape
from .commands import CONTINUE, BodyMode, Command, Continue, ImmediateResponse, Pairs
from .counting import can_count, estimated_count
from .envoy_faults import OF_THE_CALLER, VIA_UPSTREAM, fault_of
from .events import (
    Event,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from .guard import REFUSED
from .handler import Closing, MoreTime, no_more_time
from .headers import firsts
from .large_bodies import is_large
from .listing import list_models, no_such_model
from .open import OpenExchange, OpenExchanges
from .operation import OperationResponse
from .phases import RequestState, ResponseState, require
from .ports import Gateway
from .prompt_size import read_asked
from .relay import UNREADABLE, CrossRelay, RawRelay, Tally, is_lost
from .repeating import as_stream, given, keep
from .rights import permitted
from .settling import facts, settlement_of, tells_talk
from .states import ROUTER, State, StreamOrder
from .verdicts import is_failing, is_of_the_provider
from .worst_case import ask_of, at_once_of

P = ParamSpec("P")
T = TypeVar("T")

# How long Envoy waits where a large body waits for its turn.
_LARGE_SECONDS = 30.0


class RouterExchange:
    """One HTTP request. `handle` answers each event with one command; `closed` settles, once, on every way out."""

    def __init__(self, gateway: Gateway, open_exchanges: OpenExchanges, traceparent: str | None = None) -> None:
        """`traceparent`: of the span that Envoy has for this request, where it traces."""
        self.id = gateway.new_id()
        self._traceparent = traceparent
        self._gateway = gateway
        self._open_exchanges = open_exchanges
        self._order = StreamOrder(ROUTER)
        self._heard = RequestState(gateway.clock.monotonic(), gateway.clock.time())
        self._answer = ResponseState()
        self.more_time: MoreTime = no_more_time
        self._take_body: Callable[[ResponseBody], Command] = _pass
        self._settled = False
        self._has_time = False

    async def handle(self, event: Event) -> Command:
        """Raises PeerError where Envoy broke the order, and whatever a bug of ours raises once a response is on its
        way: both end the stream, which Envoy answers by failing the request."""
        began = self._gateway.clock.monotonic()
        before = self._order.state
        try:
            self._order.heard(event)
            if self._order.state is State.REPLIED:
                return CONTINUE
            return self._noted(event, await self._on(event))
        except PeerError:
            raise
        except EdgeError as error:
            told = error.headers if isinstance(error, LimitReached) else ()
            ours = isinstance(error, CallerError | PolicyUnavailable)
            return self._noted(event, self._refuse(error.fault(), ours=ours, told=told))
        except Exception as bug:
            self._answer.bug = True
            self._gateway.report(bug)
            if before is State.ANSWERING:
                raise
            fault = Fault(500, "api", "the gateway failed on this request; it was logged", "internal")
            return self._noted(event, self._refuse(fault))
        finally:
            self._heard.took(type(event), began, self._gateway.clock.monotonic() - began)

    def _noted(self, event: Event, command: Command) -> Command:
        """What Envoy's access log shows of an exchange goes with the last answer: `closed` comes too late for it. The
        caller's own request id goes with the first, so that whatever answers has it."""
        if isinstance(event, RequestHeaders) and isinstance(command, Continue | ImmediateResponse):
            command = self._identified(command)
        if isinstance(event, ResponseHeaders | ResponseBody) and isinstance(command, ImmediateResponse):
            # Envoy sends it past the filter that writes the id into every other response.
            theirs, ours = self._answer.values.get("x-request-id"), self._heard.request_id
            others = tuple(pair for pair in command.headers if pair[0] != "x-request-id")
            ids = ((PROVIDERS_ID, theirs), ("x-request-id", ours))
            command = replace(command, headers=(*others, *((name, id) for name, id in ids if id)))
        last = isinstance(command, ImmediateResponse) or (isinstance(event, ResponseBody) and event.end)
        if not self._gateway.notes or not last or not isinstance(command, Continue | ImmediateResponse):
            return command
        metadata = dict(command.metadata or {})
        metadata["edge"] = {**metadata.get("edge", {}), **facts(self._gateway, self._heard, self._answer)}
        return replace(command, metadata=metadata)

    def _identified(self, command: Continue | ImmediateResponse) -> Continue | ImmediateResponse:
        chosen = self._heard.request_id
        if chosen is None or CALLERS_ID not in self._heard.values or chosen != self._heard.values[CALLERS_ID]:
            return command
        metadata = dict(command.metadata or {})
        metadata[NAMESPACE] = {**metadata.get(NAMESPACE, {}), REQUEST_ID: chosen}
        return replace(command, metadata=metadata)

    async def _on(self, event: Event) -> Command:
        match event:
            case RequestHeaders():
                command = await self._request_headers(event)
                if self._gateway.asks and isinstance(command, Continue):
                    return replace(command, response_body="none")
                return command
            case RequestBody():
                return await self._asked(event.body)
            case ResponseHeaders():
                return self._response_headers(event)
            case ResponseBody():
                return self._take_body(event)
            case RequestTrailers() | ResponseTrailers():
                return CONTINUE

    # --- 1. who is calling, and which API is this

    async def _request_headers(self, event: RequestHeaders) -> Command:
        heard, gateway = self._heard, self._gateway
        heard.headers, heard.values = event.headers, firsts(event.headers)
        callers = heard.values.get(CALLERS_ID, "")
        heard.request_id = callers if header_rules.is_request_id(callers) else heard.values.get("x-request-id")
        heard.method = heard.values.get(":method", "")
        heard.path = heard.values.get(":path", "").partition("?")[0]
        heard.parent = read_traceparent(self._traceparent or heard.values.get("traceparent"))
        if gateway.tracer is not None:
            heard.trace = gateway.tracer.begin(heard.parent)
        heard.voice = gateway.routes.voice(heard.path, event.headers) or gateway.dialects[gateway.default_dialect]
        heard.principal = self._who(event)
        if gateway.access is not None:
            heard.rights = gateway.access.of(heard.principal)
        if gateway.limiter is not None:
            heard.rules = gateway.limiter.rules(heard.principal)
            if heard.rules is not None:
                gateway.limiter.raise_if_blocked(heard.rules)
        dialect, heard.route = gateway.routes.match(heard.method, heard.path)
        if heard.rights is not None:
            heard.rights.may_do(heard.route.operation)
        if heard.route.operation == "models":
            one = heard.path if "{" in heard.route.path else None
            models = list_models(gateway, require(heard.voice), heard.principal, heard.rights, one)
            return self._own((("content-type", "application/json"),), models, "edge_models")
        passes = heard.route.operation == "passed"
        if event.end and not passes:
            raise BadRequest(f"{heard.method} {heard.path} needs a JSON body, and none was sent")
        encoding = heard.values.get("content-encoding")
        gateway.body_limits.check_request(_int(heard.values.get("content-length")))
        if encoding not in (None, "", "identity"):
            raise BadRequest(f"a body with content-encoding {encoding!r} is not taken; send it as plain JSON")
        if not passes:
            heard.voice = dialect
        if event.end:
            return await self._asked(b"")
        return CONTINUE

    def _who(self, event: RequestHeaders) -> Principal:
        """As ext_authz has found out, where it runs before us; else by the request's own credentials."""
        gateway = self._gateway
        if gateway.voucher is not None:
            found = event.metadata.get(VOUCHED, {})
            principal = gateway.voucher.principal(found, self._heard.values.get("x-request-id", ""))
            if principal is not None:
                return principal
        return gateway.authenticator.authenticate(event.headers)

    # --- 2. what is asked, and whom do we try

    async def _asked(self, body: bytes) -> Command:
        heard, gateway = self._heard, self._gateway
        gateway.body_limits.check_request(len(body))
        voice, principal = require(heard.voice), require(heard.principal)
        heard.large = is_large(body)
        if heard.large:
            await self._take_time(_LARGE_SECONDS)
        call = await self._apart(self._read_call, body)
        candidates = self._candidates(call)
        heard.call = call
        if heard.rights is not None:
            candidates = heard.rights.narrow(call, candidates)
        # What is given again costs nothing, so nothing is reserved before that is looked for (docs/adr/064).
        if gateway.cache is not None and call.operation == "chat":
            heard.turn = await self._apart(
                gateway.cache.start_lookup, principal, call, candidates, heard.headers, voice.read_chat
            )
            reply = await self._from_cache(heard.turn) if heard.turn is not None else None
            if reply is not None:
                return reply
        if heard.rules is not None:
            await self._reserve(call, candidates, heard.rules)
        try:
            return await self._send(call, candidates)
        except Unavailable:
            stale = self._stale()
            if stale is None:
                raise
            return stale

    async def _apart(self, function: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """What costs by the length of the body: of a large one off the event loop."""
        if self._heard.large:
            return await self._gateway.apart.run(partial(function, *arguments, **more))
        return function(*arguments, **more)

    async def _take_time(self, seconds: float) -> None:
        """Envoy is told once a message."""
        if not self._has_time:
            self._has_time = True
            await self.more_time(seconds)

    def _read_call(self, body: bytes) -> Call:
        heard = self._heard
        voice, route = require(heard.voice), require(heard.route)
        check_shape(body, route.operation, self._gateway.shape)
        if not route.format:
            return voice.read_call(body, route.operation, heard.headers, heard.path)
        form, path = self._gateway.formats[route.format], heard.values.get(":path", "")
        return form.read_call(body, heard.method, heard.headers, path)

    def _candidates(self, call: Call) -> Sequence[Candidate]:
        """Who may be asked, by the model's name and by the rules that config has for such calls. Raises NoSuchModel,
        or NoSuchRoute for a path that is not this caller's."""
        gateway, principal, path = self._gateway, require(self._heard.principal), self._heard.path
        endpoint = gateway.endpoints.at(path) if call.operation == "passed" else None
        if endpoint is not None and not endpoint.admits(principal.tenant):
            raise NoSuchRoute(f"no API at {path!r} for this key")
        if endpoint is not None and (not call.model or allows(principal.models, call.model)):
            return (Candidate(endpoint.provider, call.model),)
        if not call.model:
            raise BadRequest("model is missing: name the model that shall be asked", param="model")
        candidates = gateway.models.candidates(call.model) if allows(principal.models, call.model) else ()
        if not candidates:
            raise no_such_model(call.model)
        return gateway.planner.apply_rules(self._wish(call), candidates)

    def _wish(self, call: Call) -> RoutingRequest:
        principal = require(self._heard.principal)
        return RoutingRequest(call, principal.tenant, principal.key_id, self._heard.headers)

    async def _send(self, call: Call, candidates: Sequence[Candidate]) -> Command:
        """The request of the first candidate that can be asked this, and the way to all of them."""
        heard, gateway, principal = self._heard, self._gateway, require(self._heard.principal)
        heard.call = call
        if call.operation == "passed" and gateway.endpoints.at(heard.path) is not None:
            # The row has said whom to ask. What such a path makes (a file, a batch) must not be made twice.
            plan = Plan(tuple(candidates), once=call.method not in ("GET", "HEAD"))
        else:
            plan = gateway.planner.plan(self._wish(call), candidates)
            if heard.rights is not None and plan.fallback:
                plan = replace(plan, fallback=permitted(heard.rights, call, plan.fallback))
        heard.plan = plan
        if call.operation == "count_tokens" and not can_count(gateway, plan.at(1)):
            told = (("content-type", "application/json"), ("x-edge-estimated", "tokens"))
            estimate = await self._apart(estimated_count, call, gateway.formats[call.format])
            return self._own(told, estimate, "edge_estimated_count")
        heard.plan, heard.adapted = plan, adapted = await self._apart(first_able, call, plan, gateway)
        if heard.large:  # what the end may need, which cannot wait
            heard.asked = await self._apart(read_asked, call)
        found = OpenExchange(call, plan, gateway, large=heard.large)
        heard.open = found
        found.journal.began[1] = gateway.clock.monotonic()
        self._open_exchanges.add(self.id, found)
        request = adapted.request
        to_set, to_remove = header_rules.outgoing(
            heard.headers,
            request.headers,
            request.defaults,
            request.path,
            len(request.body) if request.body else None,
            same_dialect=adapted.lane == "raw",
            content_type=None if call.operation == "passed" else "application/json",
            removed=request.removed,
        )
        edge: dict[str, object] = {
            "exchange": self.id,
            "guard": plan.guarded,
            "tenant": principal.tenant,
            "key": principal.key_id,
        }
        if heard.trace is not None:
            to_set = (*to_set, ("traceparent", heard.trace.header))
            # Envoy writes its own span into the header once it has a provider; a filter behind that puts ours back.
            edge["traceparent"] = heard.trace.header
        return Continue(
            set_headers=(*to_set, *header_rules.orders(plan), *gateway.named(plan)),
            remove_headers=to_remove,
            body=request.body if call.raw else None,
            reroute=True,
            metadata={"edge": edge},
            order=gateway.order(plan),
        )

    async def _from_cache(self, turn: CacheLookup) -> ImmediateResponse | None:
        """A reply that was given before, if there is one that this caller may have."""
        entry, heard = await turn.look_up(self._take_time), self._heard
        if entry is None:
            return None
        said = given(self._gateway, heard, entry)
        if said is None:
            turn.discard_hit()
            return None
        if heard.rules is not None:
            try:
                heard.admission = await require(self._gateway.limiter).count(self.id, heard.rules)
            except EdgeError:
                turn.discard_hit()
                raise
        return self._repeated(entry, *said)

    def _stale(self) -> ImmediateResponse | None:
        """A reply past its time, because no provider could answer; if there is one that this caller may have."""
        turn, answer = self._heard.turn, self._answer
        entry = turn.stale_entry() if turn is not None else None
        if turn is None or entry is None:
            return None
        said = given(self._gateway, self._heard, entry)
        if said is None:
            turn.discard_hit()
            return None
        answer.came = answer.status
        return self._repeated(entry, *said)

    def _repeated(self, entry: CacheEntry, body: bytes, content_type: str, lost: tuple[str, ...]) -> ImmediateResponse:
        age = max(0, int(self._gateway.clock.time() - entry.stored_at))
        self._answer.cached, self._answer.dropped, self._answer.lost = entry, entry.dropped, lost
        told = (("content-type", content_type), ("age", str(age)), *self._notes())
        return self._own(told, body, f"edge_cache_{require(self._heard.turn).state}")

    def _own(self, headers: Pairs, body: bytes, details: str) -> ImmediateResponse:
        """Our own good answer, for which nobody needs to be asked."""
        self._order.replied()
        self._answer.status, self._answer.sent = 200, len(body)
        return ImmediateResponse(200, headers, body, details)

    async def _reserve(self, call: Call, candidates: Sequence[Candidate], rules: CallerLimits) -> None:
        """Takes the most that this call can come to from all that its caller may use, in one step. `closed` settles."""
        gateway = self._gateway
        asked, at_once = gateway.planner.billable_candidates(call.model, candidates)
        ask = await self._apart(
            ask_of, call, asked, gateway.providers, gateway.prices, gateway.bounds, priced=rules.count_dollars
        )
        if at_once > 1:
            ask = at_once_of(ask, at_once)
        self._heard.admission = await require(gateway.limiter).admit(self.id, rules, ask)

    # --- 3. who answered, and how

    def _response_headers(self, event: ResponseHeaders) -> Command:
        heard, answer = self._heard, self._answer
        if heard.voice is None:  # a filter before us answered a request that we never saw
            answer.passed, answer.status = True, _status(event)
            if answer.status >= 400:
                details = str(event.attributes.get("response.code_details", ""))
                answer.fault, answer.ours = fault_of(answer.status, details), True
            return CONTINUE
        answer.headers, answer.values = event.headers, firsts(event.headers)
        answer.status = int(answer.values.get(":status", 0))
        answer.attempts = _int(event.attributes.get("upstream.request_attempt_count"))
        heard.plan = heard.open.plan if heard.open is not None else heard.plan
        details = answer.details = str(event.attributes.get("response.code_details", VIA_UPSTREAM))
        if details == REFUSED and heard.open is not None and heard.open.fault is not None:
            answer.candidate = self._answered_by(heard.open.plan, event)
            fault = heard.open.fault
            stale = self._stale() if is_failing(fault.status) else None
            return stale or self._error(fault, event)
        if details != VIA_UPSTREAM or heard.call is None or heard.plan is None:
            stale = self._stale() if is_of_the_provider(answer.status, details) else None
            fault = fault_of(answer.status, details)
            answer.ours = stale is None and fault.code in OF_THE_CALLER
            return stale or self._error(fault, event)
        answer.candidate = self._answered_by(heard.plan, event)
        if is_failing(answer.status) and (stale := self._stale()) is not None:
            return stale
        answer.inflater = Inflater.of(answer.values.get("content-encoding"))
        if answer.status >= 400:
            if event.end:
                return self._error(self._their_fault(b""), event)
            return self._buffered(self._take_error)
        answer.dropped = self._dropped()
        if heard.call.operation != "chat":
            return self._operation_answer(heard.call, heard.voice, event)
        if event.end:
            raise UpstreamError("the provider answered without a body")
        return self._chat_answer(heard.call, heard.voice)

    def _operation_answer(self, call: Call, voice: Dialect, event: ResponseHeaders) -> Command:
        answer, formats = self._answer, self._gateway.formats
        other = answer.other = OperationResponse(call, formats, self._their_format())
        content_type = answer.values.get("content-type", "")
        removed = header_rules.unwanted(event.headers)
        way = "pass" if event.end else other.way(content_type)
        if way == "whole":
            return self._buffered(self._take_operation)
        if way == "listen":
            answer.relay = RawRelay(
                require(formats[call.format].listener()), voice.writer(call), hide_usage=not call.wants_usage
            )
            self._take_body = self._take_stream
            removed = (*removed, "content-encoding", "content-length")
        elif way == "tap":
            self._take_body = self._take_tapped
        else:
            answer.passed = True
        mode: BodyMode = "none" if way == "pass" else "streamed"
        return Continue(set_headers=self._notes(), remove_headers=removed, response_body=mode)

    def _answered_by(self, plan: Plan, event: ResponseHeaders) -> Candidate:
        """Of a hedged call, the count says only how many were asked; the endpoint says who was first. Of a chain, a
        provider without an address may have been passed over."""
        provider = event.attributes.get(ANSWERED_BY)
        by_endpoint = plan.hedged or self._gateway.chains
        return plan.asked(self._answer.attempts, provider if by_endpoint and isinstance(provider, str) else None)

    def _chat_answer(self, call: Call, voice: Dialect) -> Command:
        """A stream is passed on as it comes. What comes in the other way than it was asked for is taken whole."""
        theirs = self._their_dialect()
        content_type = self._answer.values.get("content-type", "")
        provider = self._gateway.providers[require(self._answer.candidate).provider]
        unframer = self._answer.unframer = provider.unframe(theirs.name, content_type)
        content_type = content_type if unframer is None else theirs.stream_type
        streamed = media_type(content_type) == media_type(theirs.stream_type)
        unnamed = call.stream and not streamed and unframer is None and _may_be_events(theirs, content_type)
        if not (streamed and call.stream) and not unnamed:
            return self._buffered(self._take_events if streamed else self._take_reply)
        reader, writer = theirs.reader(theirs.stream_type if unnamed else content_type), voice.writer(call)
        stream_type = call.stream_type or voice.stream_type
        keeps = (self._heard.turn is not None and self._heard.turn.may_store) or tells_talk(self._gateway, self._heard)
        kept = Fold(theirs.name) if keeps else None
        # The same dialect may be framed in two ways; then its frames cannot pass as they are.
        same_dialect = theirs.name == voice.name and stream_type == theirs.stream_type
        self._answer.relay = (
            RawRelay(reader, writer, hide_usage=not call.wants_usage, fold=kept)
            if same_dialect
            else CrossRelay(
                reader, writer, fold=kept, named=self._named(), can_say=_any if theirs is voice else voice.can_say
            )
        )
        self._take_body = self._take_unnamed if unnamed else self._take_stream
        as_it_came = same_dialect and unframer is None and not unnamed
        to_set = self._notes() if as_it_came else (*self._notes(), ("content-type", stream_type))
        removed = (*header_rules.unwanted(self._answer.headers), "content-encoding", "content-length")
        return Continue(set_headers=to_set, remove_headers=removed, response_body="streamed")

    def _buffered(self, take: Callable[[ResponseBody], Command]) -> Command:
        """Raises ResponseTooLarge, which the caller is told before any of the body has come."""
        self._gateway.body_limits.check_response(_int(self._answer.values.get("content-length")))
        self._take_body = partial(self._take_within_limit, take)
        return Continue(
            set_headers=self._notes(),
            remove_headers=header_rules.unwanted(self._answer.headers),
            response_body="buffered",
        )

    # --- 4. the answer, in the caller's words

    def _take_within_limit(self, take: Callable[[ResponseBody], Command], event: ResponseBody) -> Command:
        try:
            self._gateway.body_limits.check_response(len(event.body))
        except ResponseTooLarge as error:
            return self._error(error.fault(), event)
        return take(event)

    def _take_unnamed(self, event: ResponseBody) -> Command:
        """The body of a reply whose content type does not say what it is, to one who asked for a stream. Its first
        bytes tell; what is no stream of events is held until it is whole."""
        answer, relay = self._answer, require(self._answer.relay)
        try:
            answer.held += answer.inflater.feed(event.body) if answer.inflater is not None else event.body
            found = is_stream(answer.held)
            if found:
                answer.inflater, self._take_body = None, self._take_stream
                return self._take_stream(ResponseBody(bytes(answer.held), event.end), event.body)
            most = self._gateway.body_limits.response
            if len(answer.held) > most:
                answer.held.clear()
                out = relay.fail(UpstreamError(f"the provider sent over {most} bytes that are no stream").fault())
            else:
                out = self._held_stream(bytes(answer.held)) if event.end and relay.tally.failed is None else b""
        except UpstreamError as error:
            out = relay.fail(error.fault())
        answer.sent += len(out)
        return Continue(body=out)

    def _held_stream(self, body: bytes) -> bytes:
        """A whole reply as the stream that the caller asked for."""
        answer, call, voice = self._answer, require(self._heard.call), require(self._heard.voice)
        reply = self._their_dialect().read_reply(body)
        id, model = self._named()
        answer.reply = replace(reply, id=reply.id or id, model=reply.model or model)
        answer.lost, answer.relay = lost_in(answer.reply, voice), None
        return as_stream(answer.reply, call, voice)[0]

    def _take_stream(self, event: ResponseBody, came: bytes | None = None) -> Command:
        """`came` is what Envoy holds now, where that is not all of the event."""
        answer, relay, out = self._answer, require(self._answer.relay), b""
        try:
            data = answer.inflater.feed(event.body) if answer.inflater is not None else event.body
            if answer.unframer is not None:
                out = relay.feed(answer.unframer.feed(data))
                data = answer.unframer.close() if event.end else b""
            out += relay.feed(data) + (relay.close() if event.end else b"")
        except UpstreamError as error:
            # What the provider sends cannot be followed any more: the caller's error event, and silence.
            out += relay.fail(error.fault())
        if answer.first_token_at is None and (relay.tally.has_token or (out and self._has_no_tokens())):
            answer.first_token_at = self._gateway.clock.monotonic()
        answer.sent += len(out)
        return CONTINUE if out == (event.body if came is None else came) else Continue(body=out)

    def _take_reply(self, event: ResponseBody) -> Command:
        """A whole reply. Where the caller asked for a stream, it becomes one."""
        call, voice = require(self._heard.call), require(self._heard.voice)
        theirs = self._their_dialect()
        body = self._plain(event.body)
        if _streams_events(theirs) and is_stream(body):
            return self._events(body, event)
        reply = theirs.read_reply(body)
        id, model = self._named()
        reply = self._answer.reply = replace(reply, id=reply.id or id, model=reply.model or model)
        self._answer.body = body
        if call.stream:
            return self._whole_stream(reply, call, voice)
        if theirs.name == voice.name:
            return self._whole(body, event.body)
        self._answer.lost = lost_in(reply, voice)
        return self._whole(voice.write_reply(reply), event.body)

    def _take_events(self, event: ResponseBody) -> Command:
        """A stream that nobody asked for: folded into the reply that was."""
        return self._events(self._plain(event.body), event)

    def _events(self, body: bytes, event: ResponseBody) -> Command:
        call, voice, theirs = require(self._heard.call), require(self._heard.voice), self._their_dialect()
        reader = theirs.reader(theirs.stream_type)
        events = [e for frame in reader.frames(body) for e in reader.read(frame)]
        events += reader.close()[1]
        reply = self._answer.reply = fold(theirs.name, events)
        tally = Tally()
        for each in events:
            tally.note(each)
        broken = tally.failed or (UNREADABLE if is_lost(tally) else None)
        if broken is not None:
            return self._error(broken, event)
        if call.stream:
            return self._whole_stream(reply, call, voice)
        self._answer.lost = lost_in(reply, voice)
        return self._whole(voice.write_reply(reply), event.body)

    def _whole_stream(self, reply: WholeReply, call: Call, voice: Dialect) -> Command:
        body, content_type = as_stream(reply, call, voice)
        self._answer.lost = lost_in(reply, voice)
        return self._whole(body, None, content_type)

    def _take_tapped(self, event: ResponseBody) -> Command:
        """It passes as it came, and is read at its end."""
        answer = self._answer
        encoding = answer.values.get("content-encoding")
        require(answer.other).tap(event.body, end=event.end, encoding=encoding)
        if event.body and answer.first_token_at is None:
            answer.first_token_at = self._gateway.clock.monotonic()
        answer.sent += len(event.body)
        return CONTINUE

    def _take_operation(self, event: ResponseBody) -> Command:
        return self._whole(require(self._answer.other).whole(self._plain(event.body)), event.body)

    def _take_error(self, event: ResponseBody) -> Command:
        body = self._plain(event.body)
        return self._error(self._their_fault(body), event)

    def _plain(self, body: bytes) -> bytes:
        answer = self._answer
        if answer.inflater is not None:
            body = inflate(answer.values.get("content-encoding"), body)
        return body if answer.unframer is None else answer.unframer.feed(body) + answer.unframer.close()

    def _whole(self, body: bytes, came: bytes | None, content_type: str = "application/json") -> Command:
        """The whole response body; `came` is what Envoy holds now."""
        self._answer.sent = len(body)
        if body == came:
            return CONTINUE
        to_set: Pairs = (("content-type", content_type), ("content-length", str(len(body))))
        if self._answer.lost:
            to_set = (*to_set, *self._named_drops())
        return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)

    # --- what went wrong, in the caller's words

    def _their_fault(self, body: bytes) -> Fault:
        answer = self._answer
        dialect = self._gateway.dialect_of_error(answer.values) or self._their_dialect()
        return dialect.read_error(answer.status or 502, answer.headers, body)

    def _error(self, fault: Fault, event: ResponseHeaders | ResponseBody) -> Command:
        """An error of the provider's or of Envoy's, told again by us."""
        voice, answer = require(self._heard.voice), self._answer
        answer.fault = fault
        if isinstance(event, ResponseHeaders) and not event.end:
            self._take_body = lambda body: self._error(fault, body)
            return self._buffered(self._take_body)
        status, headers, body = voice.write_error(fault)
        answer.status, answer.sent = status, len(body)
        if isinstance(event, ResponseHeaders):  # there is no body to replace
            self._order.replied()
            kept = tuple((n, v) for n, v in answer.headers if n in _ERROR_HEADERS)
            return ImmediateResponse(status, (*kept, *headers), body, "edge_upstream_error")
        to_set: Pairs = ((":status", str(status)), *headers, ("content-length", str(len(body))))
        return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)

    def _refuse(self, fault: Fault, *, ours: bool = False, told: Pairs = ()) -> ImmediateResponse:
        """Our own answer, now, instead of whatever would come."""
        answer, heard = self._answer, self._heard
        voice = heard.voice or self._gateway.dialects[self._gateway.default_dialect]
        status, headers, body = voice.write_error(fault)
        headers += told
        self._order.replied()
        answer.fault, answer.ours, answer.status, answer.sent = fault, ours, status, len(body)
        return ImmediateResponse(
            status, tuple(headers), b"" if heard.method == "HEAD" else body, f"edge_{fault.code or 'error'}"
        )

    # --- 5. the end, whatever it was

    def closed(self, why: Closing) -> None:
        """Settles. Called once or more; the first call counts."""
        if self._settled:
            return
        self._settled = True
        self._take_body = _pass  # it was a method of ours: without that circle we are gone at once, not when gc looks
        gateway, heard, answer = self._gateway, self._heard, self._answer
        self._open_exchanges.forget(self.id)
        if answer.relay is not None:
            answer.lost = tuple(sorted(answer.relay.tally.lost))
        settlement = settlement_of(gateway, self.id, heard, answer, self._order.state, why)
        if heard.turn is not None:
            keep(gateway, heard, answer, heard.turn, settlement.cost)
        gateway.settle(settlement)

    # --- small facts

    def _has_no_tokens(self) -> bool:
        """Of a stream whose tokens cannot be seen: images, speech."""
        return self._answer.other is not None and require(self._heard.call).operation != "completions"

    def _their_dialect(self) -> Dialect:
        """Of the provider that answered."""
        return dialect_of(require(self._heard.call), require(self._answer.candidate), self._gateway)

    def _their_format(self) -> str:
        candidate = require(self._answer.candidate)
        return format_of(require(self._heard.call), candidate, self._gateway.providers[candidate.provider])

    def _named(self) -> tuple[str | None, str | None]:
        """The id and the model of a reply whose format tells neither."""
        ids = (self._answer.values.get(name) for name in _ID_HEADERS)
        return next((id for id in ids if id), None), require(self._answer.candidate).model

    def _dropped(self) -> tuple[str, ...]:
        """What the provider that answered was not told. Attempts are pure, so the last one can be made again."""
        heard, candidate = self._heard, require(self._answer.candidate)
        if candidate != require(heard.plan).at(1):
            # A credential may have ended since that attempt was made: then there is nothing to tell, but an answer.
            with suppress(Unavailable):
                gateway = self._gateway
                written = heard.open.written if heard.open is not None else None
                if written is not None and written[0] == candidate:
                    heard.adapted = written[1]
                    return heard.adapted.dropped
                heard.adapted = adapt(
                    require(heard.call), candidate, gateway.dialects, gateway.providers, gateway.formats
                )
        return require(heard.adapted).dropped

    def _named_drops(self) -> Pairs:
        dropped = (*self._answer.dropped, *self._answer.lost)
        return (("x-edge-dropped", header_rules.one_line(dropped)),) if dropped else ()

    def _notes(self) -> Pairs:
        """What we tell the caller in headers."""
        turn, notes = self._heard.turn, self._named_drops()
        if turn is not None:
            notes = (*notes, ("x-edge-cache", turn.state))
            if turn.key_text is not None:
                notes = (*notes, ("x-edge-cache-key", turn.key_text))
        return notes if self._heard.admission is None else (*notes, *self._heard.admission.headers)


# Where AWS tells the id of a reply.
_ID_HEADERS = ("x-amzn-requestid",)

# What an error keeps of the provider's headers where we answer in its place.
_ERROR_HEADERS = frozenset({"request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"})


# What calls itself so is believed, and taken whole: JSON, and error pages.
_TELLING_TYPES = ("application/json", "text/html", "application/xml", "text/xml")


def _streams_events(dialect: Dialect) -> bool:
    return media_type(dialect.stream_type) == "text/event-stream"


def _may_be_events(dialect: Dialect, content_type: str) -> bool:
    """Whether only the body tells. Hosts and proxies send streams as text/plain, as bytes, or without a type."""
    kind = media_type(content_type)
    return _streams_events(dialect) and kind not in _TELLING_TYPES and not kind.endswith("+json")


def _any(part: Part) -> bool:
    """Of a reply that stays in its own format."""
    del part
    return True


def _pass(event: ResponseBody) -> Command:
    del event
    return CONTINUE


def _status(event: ResponseHeaders) -> int:
    return int(firsts(event.headers).get(":status", 0))


def _int(value: object) -> int:
    return int(value) if isinstance(value, int | float | str) and str(value).replace(".0", "").isdigit() else 0
