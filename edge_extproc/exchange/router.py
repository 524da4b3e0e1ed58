"""THE STORY: one request from headers to bill, one method for each thing that Envoy says.

    request headers     who is calling, and which API is this          → refuse, answer, or wait for the body
    request body        what is asked, whom do we try                  → the request of the first candidate
    response headers    who answered, and how                          → how the body shall come
    response body       the answer, in the caller's words              → bytes
    closed              however it ended: what was used, what it cost  → one settlement

Retries are told in attempt.py. Nothing here knows gRPC, HTTP libraries, or any wire format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypeVar
from urllib.parse import unquote

from ..accounting.estimate import tokens_of, tokens_of_length
from ..auth.base import Rights
from ..auth.vouching import NAMESPACE as VOUCHED
from ..cache.base import Entry, Made, Turn
from ..codecs.content_encoding import Inflater, inflate
from ..codecs.content_type import media_type
from ..config.names import ANSWERED_BY
from ..dialects.base import Dialect, ModelCard, Route
from ..errors import (
    BadRequest,
    CallerError,
    EdgeError,
    LimitReached,
    NoSuchModel,
    NoSuchRoute,
    PeerError,
    PolicyUnavailable,
    Unavailable,
    UpstreamError,
)
from ..limits.base import Admission, Rules
from ..model.call import Call, Chat
from ..model.content import Part, Text
from ..model.fault import Fault
from ..model.plan import Candidate, Plan, Tried
from ..model.principal import Principal
from ..model.reply import Failed, Finish, Fold, fold, unfold
from ..model.reply import Reply as WholeReply
from ..model.settlement import Outcome, Phase, PhaseTime, Settlement
from ..model.trace import Parent, Talk, Trace, read_traceparent
from ..model.usage import Usage
from ..operations.base import Count, Counted
from ..providers.base import Unframer
from ..routing.base import Wish, allows
from . import headers as header_rules
from . import verdicts
from .adapt import Adapted, adapt, format_of
from .commands import CONTINUE, BodyMode, Command, Continue, Pairs, Reply
from .counting import tokens_of_chat
from .envoy_faults import VIA_UPSTREAM, fault_of
from .events import (
    Event,
    Headers,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from .guard import REFUSED
from .handler import Closing, MoreTime, no_more_time
from .headers import first
from .open import OpenExchange
from .operation import OperationAnswer, estimate
from .ports import TELLING_ERRORS, Gateway
from .relay import CrossRelay, RawRelay, Relay
from .states import ROUTER, Order, State
from .worst_case import ask_of

T = TypeVar("T")


@dataclass(slots=True)
class _Heard:
    """What was learned of the request so far."""

    began: float
    started_at: float
    overhead: float = 0.0
    phases: dict[type[Event], list[float]] = field(default_factory=dict)
    """When each kind of event first came, and how long we took for all of its kind."""
    headers: Headers = ()
    method: str = ""
    path: str = ""
    voice: Dialect | None = None
    """In whose words errors are told."""
    route: Route | None = None
    principal: Principal | None = None
    rights: Rights | None = None
    """What this caller may do; None: nothing is forbidden."""
    rules: Rules | None = None
    """What limits this caller; None: nothing does."""
    admission: Admission | None = None
    call: Call | None = None
    plan: Plan | None = None
    adapted: Adapted | None = None
    turn: Turn | None = None
    """Our dealings with the cache; None where there is none."""
    parent: Parent | None = None
    trace: Trace | None = None
    open: OpenExchange | None = None
    """None where nothing was sent."""


@dataclass(slots=True)
class _Answer:
    """What was learned of the response so far."""

    status: int | None = None
    headers: Headers = ()
    details: str = ""
    """Who made it: Envoy's response code details."""
    attempts: int = 0
    candidate: Candidate | None = None
    dropped: tuple[str, ...] = ()
    fault: Fault | None = None
    ours: bool = False
    """The fault is our own refusal."""
    bug: bool = False
    relay: Relay | None = None
    inflater: Inflater | None = None
    unframer: Unframer | None = None
    other: OperationAnswer | None = None
    """Of an operation that is no chat."""
    reply: WholeReply | None = None
    body: bytes | None = None
    """All of a reply in the provider's own words, where it came whole and may be kept."""
    cached: Entry | None = None
    """The reply of another call, given again."""
    passed: bool = False
    """The body goes by without us, so that Envoy may close our stream before its end."""
    first_byte: float | None = None
    sent: int = 0
    bill: tuple[Usage | None, bool, Decimal | None, bool] | None = None
    """See `_bill`; made at the last answer, where there is one."""


class RouterExchange:
    """One HTTP request. `handle` answers each event with one command; `closed` settles, once, on every way out."""

    def __init__(self, gateway: Gateway, traceparent: str | None = None) -> None:
        """`traceparent`: of the span that Envoy has for this request, where it traces."""
        self.id = gateway.new_id()
        self._traceparent = traceparent
        self._gateway = gateway
        self._order = Order(ROUTER)
        self._heard = _Heard(gateway.clock.monotonic(), gateway.clock.time())
        self._answer = _Answer()
        self.more_time: MoreTime = no_more_time
        self._take_body: Callable[[ResponseBody], Command] = _pass
        self._settled = False

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
            self._took(type(event), began)

    def _noted(self, event: Event, command: Command) -> Command:
        """What Envoy's access log shows of an exchange goes with the last answer: `closed` comes too late for it."""
        last = isinstance(command, Reply) or (isinstance(event, ResponseBody) and event.end)
        if not self._gateway.notes or not last or not isinstance(command, Continue | Reply):
            return command
        told = command.metadata or {}
        return replace(command, metadata={**told, "edge": {**told.get("edge", {}), **self._facts()}})

    def _facts(self) -> Mapping[str, object]:
        heard, answer = self._heard, self._answer
        usage, _, cost, _ = answer.bill = self._bill()
        given = answer.cached if answer.cached is not None else answer.candidate
        tally = answer.relay.tally if answer.relay is not None else None
        fault = answer.fault or (tally.failed if tally is not None else None)
        facts: dict[str, object | None] = {
            "tenant": heard.principal.tenant if heard.principal is not None else None,
            "key": heard.principal.key_id if heard.principal is not None else None,
            "route": heard.route.path if heard.route is not None else None,
            "model": self._gateway.models.label(heard.call.model) if heard.call is not None else None,
            "provider": given.provider if given is not None else None,
            "tokens_in": min(usage.prompt, _MOST_EXACT) if usage is not None else None,
            "tokens_out": min(usage.completion, _MOST_EXACT) if usage is not None else None,
            "cost_usd": format(cost, "f") if cost is not None else None,
            "cache": heard.turn.state if heard.turn is not None else None,
            "error": fault.kind if fault is not None else None,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _bill(self) -> tuple[Usage | None, bool, Decimal | None, bool]:
        """What was used, whether a part of that is estimated, what it cost, and whether it has no price."""
        usage, estimated = self._usage()
        cost, unpriced = self._cost(usage)
        if cost is not None and usage is not None:
            hedge = self._hedge_cost(usage)
            cost, estimated = cost + hedge, estimated or bool(hedge)
        return usage, estimated, cost, unpriced

    def _took(self, kind: type[Event], began: float) -> None:
        heard, took = self._heard, self._gateway.clock.monotonic() - began
        heard.overhead += took
        phase = heard.phases.get(kind)
        if phase is None:
            heard.phases[kind] = [began, took]
        else:
            phase[1] += took

    async def _on(self, event: Event) -> Command:
        match event:
            case RequestHeaders():
                return await self._request_headers(event)
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
        heard.headers = event.headers
        heard.method = first(event.headers, ":method") or ""
        heard.path = (first(event.headers, ":path") or "").partition("?")[0]
        heard.parent = read_traceparent(self._traceparent or first(event.headers, "traceparent"))
        if gateway.tracer is not None:
            heard.trace = gateway.tracer.begin(heard.parent)
        heard.voice = gateway.routes.voice(heard.path, event.headers) or gateway.dialects[gateway.default_dialect]
        heard.principal = self._who(event)
        if gateway.access is not None:
            heard.rights = gateway.access.of(heard.principal)
        if gateway.limiter is not None:
            heard.rules = gateway.limiter.rules(heard.principal)
            if heard.rules is not None:
                gateway.limiter.known_refusal(heard.rules)
        dialect, heard.route = gateway.routes.match(heard.method, heard.path)
        if heard.rights is not None:
            heard.rights.may_do(heard.route.operation)
        if heard.route.operation == "models":
            return self._list_models(heard.principal, heard.route)
        passes = heard.route.operation == "passed"
        if event.end and not passes:
            raise BadRequest(f"{heard.method} {heard.path} needs a JSON body, and none was sent")
        encoding = first(event.headers, "content-encoding")
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
            principal = gateway.voucher.principal(found, first(event.headers, "x-request-id") or "")
            if principal is not None:
                return principal
        return gateway.authenticator.authenticate(event.headers)

    def _list_models(self, principal: Principal, route: Route) -> Reply:
        """All that this caller may ask for, or the one that the path names."""
        voice, gateway, rights = _known(self._heard.voice), self._gateway, self._heard.rights

        def listed(name: str) -> bool:
            return allows(principal.models, name) and (rights is None or rights.may_list(name))

        if "{" in route.path:
            name = unquote(self._heard.path.split("/models/", 1)[1])
            candidates = gateway.models.candidates(name) if listed(name) else ()
            if not candidates:
                raise _no_such_model(name)
            body = voice.write_model(ModelCard(name, candidates[0].provider))
        else:
            body = voice.write_models([card for card in gateway.cards if listed(card.id)])
        self._order.replied()
        self._answer.status = 200
        self._answer.sent = len(body)
        return Reply(200, (("content-type", "application/json"),), body, "edge_models")

    # --- 2. what is asked, and whom do we try

    async def _asked(self, body: bytes) -> Command:
        heard, gateway = self._heard, self._gateway
        voice, principal = _known(heard.voice), _known(heard.principal)
        call = self._read_call(body)
        candidates = self._candidates(call)
        heard.call = call
        if heard.rights is not None:
            candidates = heard.rights.narrow(call, candidates)
        if heard.rules is not None:
            await self._reserve(call, candidates, heard.rules)
        if gateway.cache is not None and call.operation == "chat":
            heard.turn = gateway.cache.turn(principal, call, candidates, heard.headers, voice.read_chat)
            reply = await self._from_cache(heard.turn, call, voice) if heard.turn is not None else None
            if reply is not None:
                return reply
        return self._send(call, candidates)

    def _read_call(self, body: bytes) -> Call:
        heard = self._heard
        voice, route = _known(heard.voice), _known(heard.route)
        if not route.format:
            return voice.read_call(body, route.operation, heard.headers, heard.path)
        form, path = self._gateway.formats[route.format], first(heard.headers, ":path") or ""
        return form.read_call(body, heard.method, heard.headers, path)

    def _candidates(self, call: Call) -> tuple[Candidate, ...]:
        """Who may be asked. Raises NoSuchModel, or NoSuchRoute for a path that is not this caller's."""
        gateway, principal, path = self._gateway, _known(self._heard.principal), self._heard.path
        endpoint = gateway.endpoints.at(path) if call.operation == "passed" else None
        if endpoint is not None and not endpoint.admits(principal.tenant):
            raise NoSuchRoute(f"no API at {path!r} for this key")
        if endpoint is not None and (not call.model or allows(principal.models, call.model)):
            return (Candidate(endpoint.provider, call.model),)
        if not call.model:
            raise BadRequest("model is missing: name the model that shall be asked", param="model")
        candidates = gateway.models.candidates(call.model) if allows(principal.models, call.model) else ()
        if not candidates:
            raise _no_such_model(call.model)
        return candidates

    def _send(self, call: Call, candidates: tuple[Candidate, ...]) -> Command:
        """The request of the first candidate that can be asked this, and the way to all of them."""
        heard, gateway, principal = self._heard, self._gateway, _known(self._heard.principal)
        heard.call = call
        if call.operation == "passed" and gateway.endpoints.at(heard.path) is not None:
            # The row has said whom to ask. What such a path makes (a file, a batch) must not be made twice.
            plan = Plan(candidates, once=call.method not in ("GET", "HEAD"))
        else:
            plan = gateway.planner.plan(Wish(call, principal.tenant, principal.key_id, heard.headers), candidates)
        heard.plan = plan
        if call.operation == "count_tokens" and not self._can_count(plan.at(1)):
            return self._estimated_count(call)
        heard.plan, heard.adapted = plan, adapted = self._first_able(call, plan)
        found = OpenExchange(call, plan)
        heard.open = found
        found.journal.began[1] = gateway.clock.monotonic()
        gateway.open.add(self.id, found)
        request = adapted.request
        to_set, to_remove = header_rules.outgoing(
            heard.headers,
            request.headers,
            request.defaults,
            request.path,
            len(request.body) if request.body else None,
            same_dialect=adapted.lane == "raw",
            content_type=None if call.operation == "passed" else "application/json",
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
            metadata={
                **({} if gateway.chains else {"edge.route": {"priority_groups": gateway.groups(plan)}}),
                "edge": edge,
            },
        )

    def _can_count(self, candidate: Candidate) -> bool:
        return bool(self._gateway.providers[candidate.provider].formats("count_tokens", candidate.model))

    def _estimated_count(self, call: Call) -> Reply:
        """The provider of this model counts for nobody. Clients count to see what still fits, and ask often: an
        estimate that says what it is serves them, an error does not (docs/adr/031)."""
        form = self._gateway.formats[call.format]
        question = form.read(call)
        if not isinstance(question, Count):
            raise TypeError(f"{form.name} asks a {type(question).__name__}, not a count")
        body = form.write_answer(Counted(tokens_of_chat(question.chat)), call)
        self._order.replied()
        self._answer.status, self._answer.sent = 200, len(body)
        told = (("content-type", "application/json"), ("x-edge-estimated", "tokens"))
        return Reply(200, told, body, "edge_estimated_count")

    async def _from_cache(self, turn: Turn, call: Call, voice: Dialect) -> Reply | None:
        """A reply that was given before, if there is one that this caller may have."""
        entry = await turn.find(self.more_time)
        if entry is None:
            return None
        try:
            body, content_type = self._again(entry, call, voice)
        except (KeyError, UpstreamError):  # what another version of us has stored
            turn.spoiled()
            return None
        answer = self._answer
        age = max(0, int(self._gateway.clock.time() - entry.stored_at))
        self._order.replied()
        answer.cached, answer.status, answer.sent, answer.dropped = entry, 200, len(body), entry.dropped
        told = (("content-type", content_type), ("age", str(age)), *self._notes())
        return Reply(200, told, body, "edge_cache_hit")

    def _again(self, entry: Entry, call: Call, voice: Dialect) -> tuple[bytes, str]:
        """A stored reply as this caller wants it, whole or as a stream, in the caller's words; and its media type."""
        if voice.name == entry.dialect and not call.stream:
            return entry.body, "application/json"
        reply = self._gateway.dialects[entry.dialect].read_reply(entry.body)
        if not call.stream:
            return voice.write_reply(reply), "application/json"
        return _as_stream(reply, call, voice)

    async def _reserve(self, call: Call, candidates: Sequence[Candidate], rules: Rules) -> None:
        """Takes the most that this call can come to from all that its caller may use, in one step. `closed` settles."""
        gateway = self._gateway
        asked, at_once = gateway.planner.reachable(call.model, candidates)
        ask = ask_of(call, asked, gateway.providers, gateway.prices, _known(gateway.bounds), priced=rules.prices)
        if at_once > 1:  # a hedge: two providers bill
            dollars = ask.micro_dollars * at_once if ask.micro_dollars is not None else None
            ask = replace(ask, micro_dollars=dollars, assumed=ask.assumed * at_once)
        self._heard.admission = await _known(gateway.limiter).admit(self.id, rules, ask)

    def _first_able(self, call: Call, plan: Plan) -> tuple[Plan, Adapted]:
        """The plan without those whose format cannot carry this call, and the request of the first that can. Later
        candidates are tried now too: once Envoy retries, a refusal could only reach the caller."""
        gateway = self._gateway
        able: list[Candidate] = []
        chosen: Adapted | None = None
        refusal: BadRequest | Unavailable | None = None
        for candidate in plan.candidates:
            try:
                own = call.format or call.dialect
                if chosen is None or format_of(call, candidate, gateway.providers[candidate.provider]) != own:
                    adapted = adapt(call, candidate, gateway.dialects, gateway.providers, gateway.formats)
                    chosen = chosen or adapted
            except (BadRequest, Unavailable) as error:
                refusal = refusal or error
                continue
            able.append(candidate)
        if chosen is None:
            raise _known(refusal)
        return gateway.planner.able(plan, tuple(able)), chosen

    # --- 3. who answered, and how

    def _response_headers(self, event: ResponseHeaders) -> Command:
        heard, answer = self._heard, self._answer
        if heard.voice is None:  # a filter before us answered a request that we never saw
            answer.passed = True
            return CONTINUE
        answer.status = int(first(event.headers, ":status") or 0)
        answer.headers = event.headers
        answer.attempts = _int(event.attributes.get("upstream.request_attempt_count"))
        heard.plan = heard.open.plan if heard.open is not None else heard.plan
        details = answer.details = str(event.attributes.get("response.code_details", VIA_UPSTREAM))
        if details == REFUSED and heard.open is not None and heard.open.fault is not None:
            answer.candidate = self._answered_by(heard.open.plan, event)
            return self._error(heard.open.fault, event)
        if details != VIA_UPSTREAM or heard.call is None or heard.plan is None:
            return self._error(fault_of(answer.status, details), event)
        answer.candidate = self._answered_by(heard.plan, event)
        answer.inflater = Inflater.of(first(event.headers, "content-encoding"))
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
        other = answer.other = OperationAnswer(call, formats, self._their_format())
        content_type = first(event.headers, "content-type") or ""
        removed = header_rules.unwanted(event.headers)
        way = "pass" if event.end else other.way(content_type)
        if way == "whole":
            return self._buffered(self._take_operation)
        if way == "listen":
            answer.relay = RawRelay(
                _known(formats[call.format].listener()), voice.writer(call), hide_usage=not call.wants_usage
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
        content_type = first(self._answer.headers, "content-type") or ""
        provider = self._gateway.providers[_known(self._answer.candidate).provider]
        unframer = self._answer.unframer = provider.unframe(theirs.name, content_type)
        content_type = content_type if unframer is None else theirs.stream_type
        streamed = media_type(content_type) == media_type(theirs.stream_type)
        if not (streamed and call.stream):
            return self._buffered(self._take_events if streamed else self._take_reply)
        reader, writer = theirs.reader(content_type), voice.writer(call)
        stream_type = call.stream_type or voice.stream_type
        keeps = (self._heard.turn is not None and self._heard.turn.keeps) or self._tells_talk()
        kept = Fold(theirs.name) if keeps else None
        # The same dialect may be framed in two ways; then its frames cannot pass as they are.
        same_dialect = theirs.name == voice.name and stream_type == theirs.stream_type
        self._answer.relay = (
            RawRelay(reader, writer, hide_usage=not call.wants_usage, fold=kept)
            if same_dialect
            else CrossRelay(reader, writer, fold=kept, named=self._named())
        )
        self._take_body = self._take_stream
        as_it_came = same_dialect and unframer is None
        to_set = self._notes() if as_it_came else (*self._notes(), ("content-type", stream_type))
        removed = (*header_rules.unwanted(self._answer.headers), "content-encoding", "content-length")
        return Continue(set_headers=to_set, remove_headers=removed, response_body="streamed")

    def _buffered(self, take: Callable[[ResponseBody], Command]) -> Command:
        self._take_body = take
        return Continue(
            set_headers=self._notes(),
            remove_headers=header_rules.unwanted(self._answer.headers),
            response_body="buffered",
        )

    # --- 4. the answer, in the caller's words

    def _take_stream(self, event: ResponseBody) -> Command:
        answer, relay, out = self._answer, _known(self._answer.relay), b""
        try:
            data = answer.inflater.feed(event.body) if answer.inflater is not None else event.body
            if answer.unframer is not None:
                out = relay.feed(answer.unframer.feed(data))
                data = answer.unframer.close() if event.end else b""
            out += relay.feed(data) + (relay.close() if event.end else b"")
        except UpstreamError as error:
            # What the provider sends cannot be followed any more: the caller's error event, and silence.
            out += relay.fail(error.fault())
        if out and answer.first_byte is None:
            answer.first_byte = self._gateway.clock.monotonic()
        answer.sent += len(out)
        return CONTINUE if out == event.body else Continue(body=out)

    def _take_reply(self, event: ResponseBody) -> Command:
        """A whole reply. Where the caller asked for a stream, it becomes one."""
        call, voice = _known(self._heard.call), _known(self._heard.voice)
        theirs = self._their_dialect()
        body = self._plain(event.body)
        reply = theirs.read_reply(body)
        id, model = self._named()
        reply = self._answer.reply = replace(reply, id=reply.id or id, model=reply.model or model)
        self._answer.body = body
        if call.stream:
            return self._whole_stream(reply, call, voice)
        if theirs.name == voice.name:
            return self._whole(body, event.body)
        return self._whole(voice.write_reply(reply), event.body)

    def _take_events(self, event: ResponseBody) -> Command:
        """A stream that nobody asked for: folded into the reply that was."""
        voice, theirs = _known(self._heard.voice), self._their_dialect()
        reader = theirs.reader(theirs.stream_type)
        events = [e for frame in reader.frames(self._plain(event.body)) for e in reader.read(frame)]
        events += reader.close()[1]
        reply = self._answer.reply = fold(theirs.name, events)
        broken = next((e.fault for e in events if isinstance(e, Failed)), None)
        if broken is not None:
            return self._error(broken, event)
        return self._whole(voice.write_reply(reply), event.body)

    def _whole_stream(self, reply: WholeReply, call: Call, voice: Dialect) -> Command:
        body, content_type = _as_stream(reply, call, voice)
        return self._whole(body, None, content_type)

    def _take_tapped(self, event: ResponseBody) -> Command:
        """It passes as it came, and is read at its end."""
        answer = self._answer
        encoding = first(answer.headers, "content-encoding")
        _known(answer.other).tap(event.body, end=event.end, encoding=encoding)
        if event.body and answer.first_byte is None:
            answer.first_byte = self._gateway.clock.monotonic()
        answer.sent += len(event.body)
        return CONTINUE

    def _take_operation(self, event: ResponseBody) -> Command:
        return self._whole(_known(self._answer.other).whole(self._plain(event.body)), event.body)

    def _take_error(self, event: ResponseBody) -> Command:
        body = self._plain(event.body)
        return self._error(self._their_fault(body), event)

    def _plain(self, body: bytes) -> bytes:
        answer = self._answer
        if answer.inflater is not None:
            body = inflate(first(answer.headers, "content-encoding"), body)
        return body if answer.unframer is None else answer.unframer.feed(body) + answer.unframer.close()

    def _whole(self, body: bytes, came: bytes | None, content_type: str = "application/json") -> Command:
        """The whole response body; `came` is what Envoy holds now."""
        self._answer.sent = len(body)
        if body == came:
            return CONTINUE
        to_set = (("content-type", content_type), ("content-length", str(len(body))))
        return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)

    # --- what went wrong, in the caller's words

    def _their_fault(self, body: bytes) -> Fault:
        answer = self._answer
        told_by = next((spoken for name, spoken in TELLING_ERRORS.items() if first(answer.headers, name)), None)
        dialect = self._gateway.dialects.get(told_by or "") or self._their_dialect()
        return dialect.read_error(answer.status or 502, answer.headers, body)

    def _error(self, fault: Fault, event: ResponseHeaders | ResponseBody) -> Command:
        """An error of the provider's or of Envoy's, told again by us."""
        voice, answer = _known(self._heard.voice), self._answer
        answer.fault = fault
        if isinstance(event, ResponseHeaders) and not event.end:
            self._take_body = lambda body: self._error(fault, body)
            return self._buffered(self._take_body)
        status, headers, body = voice.write_error(fault)
        answer.status, answer.sent = status, len(body)
        if isinstance(event, ResponseHeaders):  # there is no body to replace
            self._order.replied()
            kept = tuple((n, v) for n, v in answer.headers if n in _ERROR_HEADERS)
            return Reply(status, (*kept, *headers), body, "edge_upstream_error")
        to_set: Pairs = ((":status", str(status)), *headers, ("content-length", str(len(body))))
        return Continue(set_headers=to_set, remove_headers=("content-encoding",), body=body)

    def _refuse(self, fault: Fault, *, ours: bool = False, told: Pairs = ()) -> Reply:
        """Our own answer, now, instead of whatever would come."""
        answer, heard = self._answer, self._heard
        voice = heard.voice or self._gateway.dialects[self._gateway.default_dialect]
        status, headers, body = voice.write_error(fault)
        headers += told
        self._order.replied()
        answer.fault, answer.ours, answer.status, answer.sent = fault, ours, status, len(body)
        return Reply(status, tuple(headers), b"" if heard.method == "HEAD" else body, f"edge_{fault.code or 'error'}")

    # --- 5. the end, whatever it was

    def closed(self, why: Closing) -> None:
        """Settles. Called once or more; the first call counts."""
        if self._settled:
            return
        self._settled = True
        gateway, heard, answer = self._gateway, self._heard, self._answer
        gateway.open.forget(self.id)
        usage, estimated, cost, unpriced = answer.bill or self._bill()
        outcome = self._outcome(why)
        tally = answer.relay.tally if answer.relay is not None else None
        finish = tally.finish if tally is not None else _finish_of(answer.reply)
        cached, turn = answer.cached, heard.turn
        given = cached if cached is not None else answer.candidate
        if turn is not None:
            self._keep(turn, cost)
        fault = answer.fault or (tally.failed if tally is not None else None)
        gateway.settle(
            Settlement(
                exchange_id=self.id,
                outcome=outcome,
                status=answer.status,
                code=(fault.code or fault.kind) if fault is not None else None,
                started_at=heard.started_at,
                duration=gateway.clock.monotonic() - heard.began,
                overhead=max(0.0, heard.overhead - turn.waited) if turn is not None else heard.overhead,
                time_to_first_token=answer.first_byte - heard.began if answer.first_byte is not None else None,
                tenant=heard.principal.tenant if heard.principal is not None else None,
                key_id=heard.principal.key_id if heard.principal is not None else None,
                method=heard.method,
                path=heard.path,
                dialect=heard.voice.name if heard.voice is not None else None,
                operation=heard.route.operation if heard.route is not None else None,
                stream=heard.call.stream if heard.call is not None else False,
                model=gateway.models.label(heard.call.model) if heard.call is not None and heard.call.model else None,
                provider=given.provider if given is not None else None,
                upstream_model=given.model if given is not None else None,
                lane=heard.adapted.lane if heard.adapted is not None else None,
                attempts=answer.attempts,
                finish=finish.reason if finish is not None else cached.finish if cached is not None else None,
                usage=usage,
                estimated=estimated,
                cost=cost,
                unpriced=unpriced,
                dropped=answer.dropped,
                garbled=tally.garbled if tally is not None else 0,
                request_bytes=len(heard.call.raw) if heard.call is not None else 0,
                response_bytes=answer.sent,
                request_id=first(heard.headers, "x-request-id"),
                cache=turn.state if turn is not None else None,
                cache_tier=turn.tier if turn is not None else None,
                saved=cached.usage if cached is not None else None,
                saved_cost=cached.cost if cached is not None else None,
                plan=heard.plan,
                tries=self._tries(outcome, usage),
                trace_id=in_trace.trace_id if (in_trace := heard.trace or heard.parent) is not None else None,
                trace=heard.trace,
                talk=self._talk(),
                response_model=answer.reply.model if answer.reply is not None else tally.model if tally else None,
                max_output_tokens=heard.call.max_output_tokens if heard.call is not None else None,
                phases=tuple(
                    PhaseTime(_PHASES[kind], at - heard.began, took) for kind, (at, took) in heard.phases.items()
                ),
            )
        )

    def _tells_talk(self) -> bool:
        return self._heard.trace is not None and self._gateway.tracer is not None and self._gateway.tracer.content

    def _talk(self) -> Talk | None:
        """What was said, for the trace. A bug of ours on the way must not keep the exchange from being settled."""
        call = self._heard.call
        if not self._tells_talk() or call is None or call.operation != "chat":
            return None
        try:
            chat = self._gateway.dialects[call.dialect].read_chat(call)
            reply = self._told()
        except EdgeError:  # what cannot be read is not told
            return None
        except Exception as bug:  # noqa: BLE001  # whatever it is: the bill comes next
            self._gateway.report(bug)
            return None
        asked = tuple((message.role, _text_of(message.parts)) for message in chat.messages)
        return Talk(asked, "\n".join(_text_of(c.parts) for c in reply.choices) if reply is not None else "")

    def _told(self) -> WholeReply | None:
        """The reply, as far as it is known."""
        answer = self._answer
        if answer.cached is not None:
            return self._gateway.dialects[answer.cached.dialect].read_reply(answer.cached.body)
        if answer.reply is None and answer.relay is not None and answer.relay.tally.fold is not None:
            return answer.relay.tally.fold.reply()
        return answer.reply

    def _keep(self, turn: Turn, cost: Decimal | None) -> None:
        """Gives the cache a reply that came whole and clean, and lets go those who wait for it. A bug of ours on the
        way must not keep the exchange from being settled."""
        try:
            made = self._made(turn, cost)
            if made is not None:
                turn.keep(made)
        except Exception as bug:  # noqa: BLE001  # whatever it is: the caller has his answer, and the bill comes next
            self._gateway.report(bug)
        finally:
            turn.close()

    def _made(self, turn: Turn, cost: Decimal | None) -> Made | None:
        answer = self._answer
        reply = answer.reply
        if answer.candidate is None or answer.fault is not None or answer.bug or not turn.keeps:
            return None
        if answer.relay is not None:
            tally = answer.relay.tally
            whole = tally.ended and tally.failed is None and not tally.garbled
            reply = tally.fold.reply() if whole and tally.fold is not None else None
        if reply is None or not turn.takes(reply):
            return None
        body = answer.body if answer.body is not None else self._their_dialect().write_reply(reply)
        return Made(reply, body, answer.candidate.provider, answer.candidate.model, cost, answer.dropped)

    def _tries(self, outcome: Outcome, usage: Usage | None) -> tuple[Tried, ...]:
        """None where nothing was sent."""
        heard, answer = self._heard, self._answer
        if heard.open is None:
            return ()
        last = verdicts.Last(
            answer.candidate,
            answer.status,
            answer.details,
            broken=outcome in ("upstream_error", "broken_stream"),
            whole=outcome == "ok",
            first_byte=answer.first_byte,
            ended=self._gateway.clock.monotonic(),
            stream=heard.call.stream if heard.call is not None else False,
            usage=usage,
        )
        return verdicts.tries_of(heard.open.plan, heard.open.journal, answer.attempts, last)

    def _outcome(self, why: Closing) -> Outcome:
        answer = self._answer
        if answer.bug or why == "error":
            return "gateway_error"
        if answer.fault is not None:
            return "rejected" if answer.ours else "upstream_error"
        if answer.relay is not None and answer.relay.tally.failed is not None:
            return "broken_stream"
        if answer.passed or self._order.state in (State.OVER, State.REPLIED):
            return "ok"
        return "stopped" if why == "stopping" else "caller_left"

    def _usage(self) -> tuple[Usage | None, bool]:
        """What was used, and whether a part of it is estimated: a stream that did not come to its end says too little
        or nothing, yet its provider bills what it made."""
        answer = self._answer
        if answer.reply is not None:
            return answer.reply.usage, False
        if answer.other is not None and answer.relay is None:
            return answer.other.usage, answer.other.estimated
        if answer.relay is None or self._heard.call is None:
            return None, False
        tally = answer.relay.tally
        if tally.usage is not None and (tally.ended or tally.finish is not None):
            return tally.usage, False
        usage = tally.usage or Usage(input=self._prompt_estimate(self._heard.call))
        seen = tokens_of_length(tally.text_length)
        if seen > usage.completion:
            usage = replace(usage, output=usage.output + seen - usage.completion)
        return usage, True

    def _prompt_estimate(self, call: Call) -> int:
        if call.format:
            return estimate(call, self._gateway.formats[call.format])
        try:
            chat: Chat = self._gateway.dialects[call.dialect].read_chat(call)
        except BadRequest:  # the provider took it all the same
            return tokens_of_length(len(call.raw))
        return sum(tokens_of(part.text) for m in chat.messages for part in m.parts if isinstance(part, Text))

    def _cost(self, usage: Usage | None) -> tuple[Decimal | None, bool]:
        candidate = self._answer.candidate
        if self._answer.cached is not None:
            return Decimal(0), False
        if usage is None or candidate is None:
            other = self._answer.other
            return None, usage is None and other is not None and other.billed
        provider = self._gateway.providers[candidate.provider]
        cost = self._gateway.prices.cost(provider.price_list, candidate.model, usage, host=provider.name)
        return cost, cost is None

    def _hedge_cost(self, usage: Usage) -> Decimal:
        """What the slower candidate of a hedged call cost: it read the same prompt, and was stopped before its answer.
        An estimate, and nothing where the call was not hedged or the price is not known."""
        heard, winner = self._heard, self._answer.candidate
        if heard.open is None or not heard.open.plan.hedged or self._answer.attempts < 2:
            return Decimal(0)
        slower = next((c for c in heard.open.plan.candidates if c != winner), None)
        ended = {tried.candidate for tried in heard.open.journal.ended.values()}
        if slower is None or slower in ended:  # it failed, which costs nothing
            return Decimal(0)
        provider = self._gateway.providers[slower.provider]
        read = Usage(input=usage.prompt)
        return self._gateway.prices.cost(provider.price_list, slower.model, read, host=provider.name) or Decimal(0)

    # --- small facts

    def _their_dialect(self) -> Dialect:
        """Of the provider that answered."""
        gateway, name = self._gateway, self._their_format()
        return gateway.dialects[gateway.formats[name].voice if _known(self._heard.call).format else name]

    def _their_format(self) -> str:
        candidate = _known(self._answer.candidate)
        return format_of(_known(self._heard.call), candidate, self._gateway.providers[candidate.provider])

    def _named(self) -> tuple[str | None, str | None]:
        """The id and the model of a reply whose format tells neither."""
        ids = (first(self._answer.headers, name) for name in _ID_HEADERS)
        return next((id for id in ids if id), None), _known(self._answer.candidate).model

    def _dropped(self) -> tuple[str, ...]:
        """What the provider that answered was not told. Attempts are pure, so the last one can be made again."""
        heard, candidate = self._heard, _known(self._answer.candidate)
        if candidate != _known(heard.plan).at(1):
            # A credential may have ended since that attempt was made: then there is nothing to tell, but an answer.
            with suppress(Unavailable):
                gateway = self._gateway
                heard.adapted = adapt(
                    _known(heard.call), candidate, gateway.dialects, gateway.providers, gateway.formats
                )
        return _known(heard.adapted).dropped

    def _notes(self) -> Pairs:
        """What we tell the caller in headers."""
        dropped, turn = self._answer.dropped, self._heard.turn
        notes: Pairs = (("x-edge-dropped", _header_list(dropped)),) if dropped else ()
        if turn is not None:
            notes = (*notes, ("x-edge-cache", turn.state))
            if turn.key_text is not None:
                notes = (*notes, ("x-edge-cache-key", turn.key_text))
        return notes if self._heard.admission is None else (*notes, *self._heard.admission.headers)


# Dynamic metadata knows only doubles; up to here every integer is one.
_MOST_EXACT = 1 << 53

_PHASES: dict[type[Event], Phase] = {
    RequestHeaders: "request_headers",
    RequestBody: "request_body",
    RequestTrailers: "request_trailers",
    ResponseHeaders: "response_headers",
    ResponseBody: "response_body",
    ResponseTrailers: "response_trailers",
}

# Where AWS tells the id of a reply.
_ID_HEADERS = ("x-amzn-requestid",)

# What an error keeps of the provider's headers where we answer in its place.
_ERROR_HEADERS = frozenset({"request-id", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"})

# Some clients and proxies refuse a header line over 8 KiB; a list of dropped fields is told up to a quarter of that.
_LONGEST_LIST = 2048


def _header_list(names: tuple[str, ...]) -> str:
    text = ", ".join(names).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_LIST else text[:_LONGEST_LIST].rpartition(", ")[0] + ", ..."


def _known(fact: T | None) -> T:
    """Something that an earlier event has established; that it is missing would be a bug of ours."""
    if fact is None:
        raise LookupError("an exchange used what it had not learned yet")
    return fact


def _as_stream(reply: WholeReply, call: Call, voice: Dialect) -> tuple[bytes, str]:
    """All of a stream, and its media type."""
    writer = voice.writer(call)
    return b"".join(writer.write(event) for event in unfold(reply)), call.stream_type or voice.stream_type


def _no_such_model(name: str) -> NoSuchModel:
    return NoSuchModel(f"no model {name!r} for this key; GET /v1/models lists what there is", param="model")


def _text_of(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _pass(event: ResponseBody) -> Command:
    del event
    return CONTINUE


def _int(value: object) -> int:
    return int(value) if isinstance(value, int | float | str) and str(value).replace(".0", "").isdigit() else 0


def _finish_of(reply: WholeReply | None) -> Finish | None:
    return next((c.finish for c in reply.choices if c.finish is not None), None) if reply is not None else None
