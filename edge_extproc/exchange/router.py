"""Handles one request from its headers to its settlement, with one method for each event.

    request headers     identify the caller and the API         → refuse, answer, or wait for the body
    request body        read and check it, find candidates      → the request of the first candidate
    response headers    find the candidate and the outcome      → the mode of the response body
    response body       the reply, in the caller's dialect      → bytes
    closed              compute usage and cost                  → one settlement

The facts of each step are in phases.py and response.py, retries in attempt.py, response bodies in response_bodies.py.
This module knows no gRPC, no HTTP library and no wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..cache.base import CacheEntry, CacheLookup
from ..codecs.content_encoding import Inflater
from ..errors import BadRequest, CallerError, EdgeError, PeerError, PolicyUnavailable, Unavailable, UpstreamError
from ..limits.base import Reservation
from ..model.envoy_names import EXPLAIN
from ..model.fault import Fault
from ..model.plan import Candidate
from ..records.repeats import IdempotentReply
from . import headers as header_rules
from . import idempotency
from .account_access import AccountAccess, account_access
from .adapt import dialect_of, first_able
from .body_choice import BodyChoice, chat_body, error_body, operation_body, read_error
from .body_reader import NO_BODY, BodyReader
from .caller import authenticate, received_headers
from .candidates import find_candidates, of_provider, routing_request
from .commands import CONTINUE, Command, Continue, ImmediateResponse, Pairs
from .consumer_routes import ConsumerRoute
from .counting import can_count, estimated_count
from .envoy_faults import OF_THE_CALLER, VIA_UPSTREAM, fault_of
from .events import Event, RequestBody, RequestHeaders, RequestTrailers, ResponseBody, ResponseHeaders, ResponseTrailers
from .explaining import explain
from .first_request import first_request
from .first_token import REFUSED
from .full_duplex import LAST_CHUNK, passed
from .handler import Closing, Interrupt, MoreTime, no_interrupt, no_more_time
from .large_bodies import LARGE_SECONDS, is_large
from .listing import list_models
from .notes import notes_of, notes_of_request
from .open import OpenExchange, OpenExchanges
from .phases import Admitted, Authenticated, ExchangeTimes, Identified, Planned, ReadCall, Received, RequestPhase, Sent
from .planning import plan_of
from .ports import Gateway
from .prompt_cache import PromptCacheWatch, watch_prompt_cache
from .prompt_for_bill import with_prompt
from .read_call import read_call
from .repeating import Repeated, cached_reply, refuse_uncached, start_lookup, store_reply
from .reply_guardrails import shown
from .request_ids import with_ids_of_response, with_request_id
from .reserving import reserve
from .response import CachedReply, OwnReply, Receiving, RefusedResponse, ResponsePhase, head_of
from .response_bodies import ReplacedBody, take_whole
from .response_head import Answered, ResponseHead
from .response_slices import SLICED, take_large
from .runs import limits_and_runs
from .settling import ExchangeRecord, keeps_transcript, send, settlement_of, with_facts
from .slots import check_slots
from .states import ROUTER, State, StreamOrder
from .stored import ReplyRecorder, serve_stored, with_context
from .verdicts import is_failing, is_of_the_provider

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.call_guard import CallGuard

P = ParamSpec("P")
T = TypeVar("T")

_ERRORS = 400  # The first status of an error response.


class RouterExchange:
    """One HTTP request. `handle` answers each event with one command. `closed` settles once, however it ended."""

    def __init__(
        self,
        gateway: Gateway,
        open_exchanges: OpenExchanges,
        traceparent: str | None = None,
        worker: str | None = None,
        route: ConsumerRoute | None = None,
    ) -> None:
        """`traceparent`: that of Envoy's span for this request, if Envoy traces. `worker`: the address of this worker,
        to which Envoy sends the streams of the attempts. `route`: that of a proxy without attempts (consumer.py)."""
        self.id = gateway.new_id()
        self.more_time: MoreTime = no_more_time
        self.interrupt: Interrupt = no_interrupt
        self._traceparent = traceparent
        self._worker = worker
        self._route = route
        self._gateway = gateway
        self._open_exchanges = open_exchanges
        self._order = StreamOrder(ROUTER)
        self._times = ExchangeTimes(gateway.clock.monotonic(), gateway.clock.time())
        self._received: Received | None = None
        self._request: RequestPhase | None = None
        """The newest phase of the request."""
        self._response: ResponsePhase | None = None
        """The newest phase of the response."""
        self._caller_dialect = gateway.dialects[gateway.default_dialect]
        """Used for every error; the default until the path is known."""
        self._body: BodyReader = NO_BODY
        """Reads the response body."""
        self._account: AccountAccess | None = None
        """State at the provider's account. None: the exchange has nothing to do with any."""
        self._collector: idempotency.ReplyCollector | None = None
        """Keeps the reply for repeated requests. None: the request has no idempotency key."""
        self._recorder: ReplyRecorder | None = None
        """Stores the reply. None: the gateway has no store of conversations."""
        self._guard: CallGuard | None = None
        """The guardrails of this call. None: no rule applies."""
        self._prompt_cache: PromptCacheWatch | None = None
        """Explains what the provider reads from its prompt cache. None: nobody asks for it."""
        self._record: ExchangeRecord | None = None
        self._bug = self._verdict_due = self._settled = self._has_time = False

    @property
    def response(self) -> ResponsePhase | None:
        return self._response

    def error_head(self, fault: Fault) -> Pairs:
        status, headers, _ = self._caller_dialect.write_error(fault)
        return ((":status", str(status)), *headers)

    @property
    def unfinished(self) -> str | None:
        return self.id if self._order.state is State.ANSWERING and isinstance(self._response, Receiving) else None

    async def handle(self, event: Event) -> Command:
        """The command for one event. Raises PeerError if Envoy broke the order. Raises the exception of a bug after the
        response has begun. Both end the stream, and Envoy fails the request."""
        gateway, order, kind = self._gateway, self._order, type(event)
        began, before = gateway.clock.monotonic(), order.state
        try:
            order.advance(event)
            if order.state is State.REPLIED:
                return CONTINUE
            trailers = kind is ResponseTrailers and self._body.in_full_duplex and before is State.ANSWERING
            event = LAST_CHUNK if trailers else event
            command = await self._on(event)
            if self._collector is not None:
                await self._collector.note(event, command, self._response)
            if self._recorder is not None:
                await self._recorder.note(event, command, self._response)
            if type(event) is ResponseBody:
                if self._body.in_full_duplex:
                    return await self._in_full_duplex(event, command, trailers=trailers)
                if event.end and gateway.adds_access_log_facts:
                    await self.before_close()
                elif type(command) is Continue:  # most answers of a stream
                    return command
            return self._annotated(event, command)
        except PeerError:
            raise
        except EdgeError as error:
            by_gateway = isinstance(error, CallerError | PolicyUnavailable)
            return self._annotated(event, self._refuse(error.fault(), by_gateway=by_gateway, headers=error.headers))
        except Exception as bug:  # any bug must become an error response while the caller can still get one
            self._bug = True
            gateway.report(bug)
            if before is State.ANSWERING:
                raise
            fault = Fault(500, "api", "the gateway failed on this request; it was logged", "internal")
            return self._annotated(event, self._refuse(fault))
        finally:
            self._times.add(type(event), began, gateway.clock.monotonic() - began)

    async def _in_full_duplex(self, event: ResponseBody, command: Command, *, trailers: bool) -> Command:
        """The same command for a body that the gateway can end before the provider does."""
        if self._body.is_cut and not event.end:
            event = replace(event, end=True)
            self._order.replied()
        if event.end and self._gateway.adds_access_log_facts:
            await self.before_close()
        return passed(event, self._annotated(event, command), trailers=trailers)

    async def _on(self, event: Event) -> Command:
        match event:
            case ResponseBody():  # first, because a stream has many
                body, gateway = self._body, self._gateway
                outcome: Command | Fault
                if (guarded := self._guard is not None) or len(event.body) > SLICED:
                    outcome = await take_large(body, event, gateway, guarded=guarded)
                else:
                    outcome = take_whole(body, event, gateway.body_limits) if body.is_whole else body.take(event)
                if self._verdict_due:
                    await self._allowed()
                if self._body.asks and not isinstance(outcome, Fault):
                    outcome = await self._body.judged(event, outcome, self.more_time)
                if isinstance(outcome, Fault):
                    return self._error_body(outcome)
                if isinstance(outcome, ImmediateResponse):
                    self._order.replied()
                    return outcome
                account = self._account
                return outcome if account is None else await account.respond(event, outcome, self._response, self.id)
            case RequestHeaders():
                command = await self._request_headers(event)
                if self._gateway.response_phase_opt_in and isinstance(command, Continue):
                    return replace(command, response_body="none")
                return command
            case RequestBody():
                if not isinstance(self._request, Identified):  # pragma: no cover - no other phase expects a body
                    raise PeerError("a request body came before its headers were accepted")
                return await self._request_body(self._request, event.body)
            case ResponseHeaders():
                return await self._response_headers(event)
            case RequestTrailers() | ResponseTrailers():
                return CONTINUE

    def _annotated(self, event: Event, command: Command) -> Command:
        """Adds what other parts of Envoy need. The facts for Envoy's access log are in the last answer, because
        `closed` is too late for it. The caller's request id is in the first, so that every response has it."""
        kind, last = type(event), event.end and type(event) is ResponseBody
        if type(command) is ImmediateResponse:
            last = True
            if kind is ResponseHeaders or kind is ResponseBody:
                command = with_ids_of_response(command, self._received, head_of(self._response))
        elif type(command) is not Continue:
            return command
        if kind is RequestHeaders:
            command = with_request_id(command, self._received)
        if not last or not self._gateway.adds_access_log_facts:
            return command
        self._record = ExchangeRecord(self._gateway, self._request, self._response)
        return with_facts(self._gateway, self._record, command)

    # --- 1. request headers: identify the caller and the API

    async def _request_headers(self, event: RequestHeaders) -> Command:
        gateway = self._gateway
        received = received_headers(gateway, event.headers, self._traceparent, self._caller_dialect)
        self._received, self._request, self._caller_dialect = received, received, received.caller_dialect
        principal = authenticate(gateway, received, event)
        if self._route is not None:
            self._route.check_modes(body=not event.end)
        self._request = Authenticated(received, principal)
        rights = gateway.access.of(principal) if gateway.access is not None else None
        limits, runs = await limits_and_runs(gateway.limiter, principal, received.values)
        if runs:
            self._request = Authenticated(received, principal, runs)
        if gateway.limiter is not None and limits is not None:
            gateway.limiter.raise_if_blocked(limits)
        dialect, route = gateway.routes.match(received.method, received.path)
        # These paths belong to several dialects: the headers show which one the caller uses.
        caller_dialect = received.caller_dialect if route.operation in ("models", "passed") else dialect
        self._caller_dialect = caller_dialect
        identified = self._request = Identified(received, principal, rights, limits, route, caller_dialect, runs)
        if rights is not None and not gateway.routes.alternatives(route):  # else when the body shows the route
            rights.may_do(route.operation)
        if route.operation == "models":
            one = received.path if "{" in route.path else None
            models = list_models(gateway, caller_dialect, principal, rights, one)
            return self._own_reply((("content-type", "application/json"),), models, "edge_models")
        if event.end and route.operation not in ("passed", "stored"):
            raise BadRequest(f"{received.method} {received.path} needs a JSON body, and none was sent")
        gateway.body_limits.check_request(header_rules.content_length(received.values))
        header_rules.check_encoding(received.values)
        if event.end:
            return await self._request_body(identified, b"")
        if limits is not None:
            await check_slots(gateway, self.id, identified)
        return CONTINUE

    # --- 2. request body: read the call, and find its candidates

    async def _request_body(self, identified: Identified, body: bytes) -> Command:
        gateway, large = self._gateway, is_large(body)
        gateway.body_limits.check_request(len(body))
        if large:
            await self._take_time(LARGE_SECONDS)
        if identified.route.operation == "stored":
            answer = await serve_stored(gateway, identified, body, self._take_time)
            return self._own_reply((("content-type", answer.content_type),), answer.body, "edge_stored")
        identified, parsed = await self._work(large, read_call, gateway, identified, body)
        self._request = identified
        if gateway.conversations is not None:
            parsed = await with_context(gateway, identified, parsed)
            large = is_large(parsed.call.raw)
            self._recorder = ReplyRecorder(gateway, identified, parsed.call)
        if gateway.guardrails is not None:  # now, so that everything else sees the masked conversation
            from .request_guardrails import RequestGuard  # not loaded without rules

            guard = RequestGuard.begin(gateway, self.id, identified, parsed.call, self._work, self._take_time, large)
            identified, self._guard = guard.identified, guard.identified.guard
            self._request = identified
            parsed = await guard.check(parsed)
        routing = routing_request(gateway, identified, parsed.call)
        candidates = find_candidates(gateway, identified, routing)
        if self._route is not None:
            candidates = of_provider(candidates, self._route.check_provider(), parsed.call)
        if gateway.keeps_account_state or parsed.call.operation == "passed":
            work = partial(self._work, large)
            self._account = await account_access(gateway, identified, parsed, candidates, work, large=large)
            if self._account is not None:
                candidates = self._account.able(candidates)
        read = self._request = ReadCall(identified, parsed, routing, candidates, large)
        if identified.rights is not None:
            candidates = identified.rights.narrow(parsed.call, candidates)
        if gateway.repeats is not None and idempotency.HEADER in identified.received.values:
            repeated = await idempotency.begin(gateway, identified, body, self._take_time, large=large)
            if isinstance(repeated, IdempotentReply):
                return await self._again(identified, repeated)
            self._collector = repeated
        # A cached reply costs nothing, so the cache is used before anything is reserved (docs/adr/064).
        lookup = None
        if gateway.cache is not None and parsed.call.operation == "chat":
            lookup = await self._work(large, start_lookup, gateway.cache, gateway, read, candidates)
        admitted = self._request = Admitted(read, lookup, None)
        if lookup is not None:
            reply = await self._from_cache(admitted, lookup)
            if reply is not None:
                return reply
        if gateway.limiter is not None and identified.limits is not None:
            limiter, limits = gateway.limiter, identified.limits
            reservation = await reserve(gateway, self.id, read, candidates, limiter, limits, self._account, self._work)
            admitted = self._request = Admitted(read, lookup, reservation)
        if gateway.prompt_caches is not None:
            caches = gateway.prompt_caches
            if caches.settings.always or EXPLAIN in identified.received.values:
                self._prompt_cache = await watch_prompt_cache(gateway, caches, read, self._work)
        try:
            return await self._send(admitted, candidates, body)
        except Unavailable:
            stale = await self._stale(admitted)
            if stale is None:
                raise
            return stale

    async def _work(self, large: bool, function: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Runs work whose time depends on the length of the body: off the event loop for a large body."""
        if large:
            return await self._gateway.large_body_runner.run(partial(function, *arguments, **more))
        return function(*arguments, **more)

    async def _take_time(self, seconds: float) -> None:
        """Extends Envoy's time limit. Envoy accepts one extension for each message."""
        if not self._has_time:
            self._has_time = True
            await self.more_time(seconds)

    async def _from_cache(self, admitted: Admitted, lookup: CacheLookup) -> ImmediateResponse | None:
        """A cached reply that this caller may have. It counts as a request, and costs nothing."""
        entry = await lookup.look_up(self._take_time)
        reply = await self._readable(admitted, lookup, entry) if entry is not None else None
        if entry is None or reply is None:
            refuse_uncached(admitted.read)
            return None
        limiter, limits, reservation = self._gateway.limiter, admitted.read.identified.limits, None
        if limiter is not None and limits is not None:
            try:
                reservation = await limiter.count(self.id, limits)
            except EdgeError:
                lookup.discard_hit()
                raise
            self._request = Admitted(admitted.read, lookup, reservation)
        return self._repeat(lookup, reservation, entry, reply)

    async def _again(self, identified: Identified, reply: IdempotentReply) -> ImmediateResponse:
        """The reply to an equal request with the same idempotency key. It counts as a request, and costs nothing."""
        notes: Pairs = ()
        await self._allowed()
        if self._gateway.limiter is not None and identified.limits is not None:
            notes = (await self._gateway.limiter.count(self.id, identified.limits)).headers
        headers = (("content-type", reply.content_type), ("idempotent-replayed", "true"), *notes)
        return replace(self._own_reply(headers, reply.body, "edge_idempotent_reply"), status=reply.status)

    async def _send(self, admitted: Admitted, candidates: Sequence[Candidate], body: bytes) -> Command:
        """The command with the request of the first candidate that can take this call, and the order of all of them."""
        gateway, read = self._gateway, admitted.read
        parsed, call = read.parsed, read.parsed.call
        plan = plan_of(gateway, read, candidates, self._account, self._route)
        self._request = Planned(admitted, plan)
        if call.operation == "count_tokens" and not can_count(gateway, plan.at(1)):
            await self._allowed()
            estimate = await self._work(read.large, estimated_count, parsed, gateway.formats[call.format])
            headers = (("content-type", "application/json"), ("x-edge-estimated", "tokens"))
            return self._own_reply(headers, estimate, "edge_estimated_count")
        plan, adapted = await self._work(read.large, first_able, parsed, plan, gateway)
        opened = OpenExchange(parsed, plan, gateway, large=read.large)
        opened.journal.began[1] = gateway.clock.monotonic()
        opened.journal.encoded(plan.at(1), adapted)
        sent = self._request = Sent(admitted, opened)
        self._open_exchanges.add(self.id, opened)
        if self._guard is not None and self._guard.during is not None:
            self._guard.during.watch(self._stopped)
        return first_request(gateway, self.id, self._worker, sent, adapted, body, self._route)

    async def _stale(self, admitted: Admitted) -> ImmediateResponse | None:
        """An expired cached reply that this caller may have, for a call that no provider could answer."""
        lookup = admitted.lookup
        entry = lookup.stale_entry() if lookup is not None else None
        if lookup is None or entry is None:
            return None
        reply = await self._readable(admitted, lookup, entry)
        return None if reply is None else self._repeat(lookup, admitted.reservation, entry, reply)

    async def _readable(self, admitted: Admitted, lookup: CacheLookup, entry: CacheEntry) -> Repeated | None:
        """The cached reply for the caller. None: this caller may not have it."""
        if self._guard is not None:
            await self._allowed(lookup)
        reply = await cached_reply(self._gateway, admitted.read, entry)
        if reply is None:
            lookup.discard_hit()
        return reply

    def _repeat(
        self, lookup: CacheLookup, reservation: Reservation | None, entry: CacheEntry, reply: Repeated
    ) -> ImmediateResponse:
        body, content_type, lost = reply
        age = max(0, int(self._gateway.clock.time() - entry.stored_at))
        before = self._response if isinstance(self._response, (ResponseHead, Answered)) else None
        self._response = CachedReply(before, entry, lost, len(body))
        self._order.replied()
        notes = notes_of((*entry.dropped, *lost), self._guard, lookup, reservation)
        headers = (("content-type", content_type), ("age", str(age)), *notes)
        return ImmediateResponse(200, headers, body, f"edge_cache_{lookup.state}")

    async def _allowed(self, lookup: CacheLookup | None = None) -> None:
        """Waits for the verdict of the services that are asked while the provider works. Raises EdgeError."""
        self._verdict_due = False
        if self._guard is not None and self._guard.during is not None:
            take_time = self.more_time if isinstance(self._request, Sent) else self._take_time
            await self._guard.during.allowed(take_time, lookup.discard_hit if lookup is not None else None)

    async def _stopped(self, error: EdgeError) -> None:
        """The verdict has refused the call before the provider has answered, or before its complete reply is here."""
        if self._order.state is State.SENT or (self._verdict_due and self._order.state is State.ANSWERING):
            refusal = self._refuse(error.fault(), by_gateway=True, headers=error.headers)
            await self.interrupt(self._annotated(ResponseHeaders((), False), refusal))

    def _own_reply(self, headers: Pairs, body: bytes, details: str) -> ImmediateResponse:
        """A successful response without a provider."""
        self._order.replied()
        self._response = OwnReply(len(body))
        return ImmediateResponse(200, headers, body, details)

    # --- 3. response headers: find the candidate and the outcome

    async def _response_headers(self, event: ResponseHeaders) -> Command:
        gateway, request = self._gateway, self._request
        if request is None:
            return self._unseen_request(event)
        head = self._response = ResponseHead.of(event)
        sent = request if isinstance(request, Sent) else None
        guards = sent.open.fault if sent is not None and head.details == REFUSED else None
        if sent is None or (head.details != VIA_UPSTREAM and guards is None):
            return await self._envoys_response(sent, head, event)
        candidate = head.candidate(sent.open.plan, by_endpoint=gateway.chains)
        parsed, caller_dialect = sent.open.parsed, sent.admitted.read.identified.caller_dialect
        # Recorded when the request was made. An error response does not name it.
        dropped = sent.open.journal.dropped(candidate) if head.status < _ERRORS else ()
        dialect = dialect_of(parsed.call, candidate, gateway)
        began_at = int(gateway.clock.time())
        said = parsed if self._guard is None else await shown(parsed, self._guard, gateway)
        answered = self._response = Answered(head, candidate, dialect, said, caller_dialect, dropped, began_at)
        if self._guard is not None and self._guard.during is not None:
            self._verdict_due = head.status < _ERRORS and not event.end and self._guard.during.is_open
            if not self._verdict_due:
                await self._allowed()
        if is_failing(guards.status if guards is not None else head.status):
            stale = await self._stale(sent.admitted)
            if stale is not None:
                return stale
        if guards is not None:
            return self._error(guards, event)
        inflater = Inflater.of(head.values.get("content-encoding"))
        if head.status >= _ERRORS:
            if event.end:
                return self._error(read_error(gateway, answered, b""), event)
            return await self._receive(sent, answered, error_body(gateway, answered))
        if not keeps_transcript(gateway, sent.admitted.read.identified.received):
            parsed.forget()
        can_end = not gateway.chains if self._route is None else self._route.can_end_responses
        account, guard = self._account, self._guard
        if parsed.call.operation != "chat":
            body = operation_body(gateway, answered, inflater, account, guard, end=event.end, can_end=can_end)
        elif event.end:
            raise UpstreamError("the provider answered without a body")
        else:
            body = chat_body(gateway, sent, answered, inflater, account, can_end=can_end)
        return await self._receive(sent, answered, body)

    def _unseen_request(self, event: ResponseHeaders) -> Command:
        """An earlier filter answered a request that ext_proc has not seen."""
        head = self._response = ResponseHead.of(event)
        if head.status >= _ERRORS:
            self._refused(fault_of(head.status, head.details), True, head.status, 0)
        return CONTINUE

    async def _envoys_response(self, sent: Sent | None, head: ResponseHead, event: ResponseHeaders) -> Command:
        """Handles a response of Envoy itself."""
        failing = is_of_the_provider(head.status, head.details)
        stale = await self._stale(sent.admitted) if sent is not None and failing else None
        if stale is not None:
            return stale
        fault = fault_of(head.status, head.details)
        return self._error(fault, event, by_gateway=fault.code in OF_THE_CALLER)

    async def _receive(self, sent: Sent, answered: Answered, choice: BodyChoice) -> Command:
        """Begins to read the response body. Raises ResponseTooLarge before the first byte of a body that is too
        long."""
        if choice.body.is_whole:
            self._gateway.body_limits.check_response(header_rules.content_length(answered.head.values))
        elif self._verdict_due:
            await self._allowed()
        if self._collector is not None and choice.mode == "none":
            choice = replace(choice, mode="streamed")  # a body that the gateway does not see cannot be kept
        self._body, self._response = choice.body, Receiving(answered, choice.body)
        notes = notes_of(answered.dropped, self._guard, sent.admitted.lookup, sent.admitted.reservation)
        if self._prompt_cache is not None:
            notes = (*notes, *self._prompt_cache.headers(answered.candidate))
        return Continue((*notes, *choice.to_set), choice.removed, response_body=choice.mode)

    # --- 4. errors, in the caller's dialect

    def _error(self, fault: Fault, event: ResponseHeaders, *, by_gateway: bool = False) -> Command:
        """Writes an error of the provider or of Envoy in the caller's dialect, in place of the response."""
        head = ResponseHead.of(event)
        if not event.end:
            self._refused(fault, by_gateway, head.status, 0)
            self._body = ReplacedBody(fault)
            return Continue(
                set_headers=notes_of_request(self._request),
                remove_headers=header_rules.unwanted(event.headers, self._gateway.response_headers),
                response_body="buffered",
            )
        status, headers, body = self._caller_dialect.write_error(fault)
        self._refused(fault, by_gateway, status, len(body))
        self._order.replied()
        unchanged = tuple(pair for pair in event.headers if pair[0] in header_rules.ERROR_HEADERS)
        return ImmediateResponse(status, (*unchanged, *headers), body, "edge_upstream_error")

    def _error_body(self, fault: Fault) -> Command:
        """Does the same after the response headers have been sent, when the complete body is here."""
        status, headers, body = self._caller_dialect.write_error(fault)
        by_gateway = isinstance(self._response, RefusedResponse) and self._response.by_gateway
        self._refused(fault, by_gateway, status, len(body))
        to_set: Pairs = ((":status", str(status)), *headers, ("content-length", str(len(body))))
        return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)

    def _refuse(self, fault: Fault, *, by_gateway: bool = False, headers: Pairs = ()) -> ImmediateResponse:
        """Responds with an error at once, in place of any other response."""
        status, of_error, body = self._caller_dialect.write_error(fault)
        self._order.replied()
        cut = by_gateway and isinstance(self._request, Sent)
        self._refused(fault, by_gateway, status, len(body), cut=cut)
        content = b"" if self._received is not None and self._received.method == "HEAD" else body
        return ImmediateResponse(status, (*of_error, *headers), content, f"edge_{fault.code or 'error'}")

    def _refused(self, fault: Fault, by_gateway: bool, status: int, length: int, *, cut: bool = False) -> None:
        before = self._response.before if isinstance(self._response, RefusedResponse) else self._response
        before = before if isinstance(before, ResponseHead | Answered | Receiving) else None
        self._response = RefusedResponse(before, fault, by_gateway, status, length, cut=cut)

    # --- 5. the end

    async def before_close(self) -> None:
        """Reads off the event loop what the bill needs of a large body."""
        if not self._settled and self._record is None:
            if self._guard is not None and self._guard.during is not None:
                await self._guard.during.noted()
            request = self._request = await with_prompt(self._gateway, self._request, self._response)
            if self._account is not None:
                await self._account.before_close(self.id, request, self._response)

    def closed(self, why: Closing) -> None:
        """Settles the exchange at the first call; later calls do nothing."""
        if self._settled:
            return
        self._settled = True
        if self._guard is not None and self._guard.during is not None:
            self._guard.during.close()
        gateway = self._gateway
        self._open_exchanges.forget(self.id)
        record = self._record or ExchangeRecord(gateway, self._request, self._response)
        closing: Closing = "error" if self._bug else why
        settlement = settlement_of(gateway, self.id, record, self._times, self._order.state, closing)
        lookup, call = record.request.lookup, record.request.call
        if lookup is not None and call is not None:
            store_reply(gateway, call, record.response, lookup, settlement.cost, keep=not self._bug)
        account, explanation = self._account, None
        if gateway.explains:
            left_out = account.left_out if account is not None else ()
            explanation = explain(gateway, record, settlement, self._times, left_out, self._prompt_cache)
        send(gateway, settlement, explanation)
        if self._prompt_cache is not None:
            self._prompt_cache.closed(settlement, record.response.candidate)
        if account is not None:
            account.closed(settlement)
        if self._collector is not None:  # last, so that it cannot prevent the settlement
            self._collector.close()
