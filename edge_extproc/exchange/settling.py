"""The end of an exchange: its settlement, and what Envoy's access log shows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from ..errors import EdgeError
from ..limits.base import MICRO
from ..model.content import Part, Text
from ..model.explanation import Explanation
from ..model.fault import FaultKind
from ..model.plan import AttemptResult
from ..model.reply import Reply
from ..model.settlement import Outcome, Phase, PhaseTime, Settlement
from ..model.trace import Transcript
from ..model.usage import Usage
from . import verdicts
from .account_faults import account_problem
from .adapt import Lane
from .bill import bill_of, unseen_bill
from .commands import Command, Continue, ImmediateResponse
from .events import (
    Event,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from .handler import Closing
from .phases import ExchangeTimes, Received, RequestFacts, RequestPhase, Sent, request_facts
from .ports import Gateway
from .response import ResponseFacts, ResponsePhase, response_facts
from .runs import session_of
from .states import State

# Dynamic metadata has only doubles; up to this value every integer is exact.
_MOST_EXACT = 1 << 53

# Faults of the request itself: the provider would answer a correct request. Faults of a key, an account or a model name
# are not among them, because the operator fixes those.
_THE_CALLERS: frozenset[FaultKind] = frozenset(
    {"invalid_request", "method", "conflict", "too_large", "context_length", "content_filter"}
)
_SERVERS = 500
"""The first status of a server's failure."""

_PHASES: dict[type[Event], Phase] = {
    RequestHeaders: "request_headers",
    RequestBody: "request_body",
    RequestTrailers: "request_trailers",
    ResponseHeaders: "response_headers",
    ResponseBody: "response_body",
    ResponseTrailers: "response_trailers",
}


class ExchangeRecord:
    """Everything that settlement and Envoy's access log read of an exchange, with its bill. It is made once, at the
    last answer or at the end."""

    __slots__ = ("bill", "request", "response")

    def __init__(self, gateway: Gateway, request: RequestPhase | None, response: ResponsePhase | None) -> None:
        self.request = request_facts(request)
        self.response = response_facts(response)
        self.bill = bill_of(gateway, self.request, self.response)

    @property
    def provider(self) -> str | None:
        """The provider of the reply, which may come from the cache."""
        source = self.response.entry or self.response.candidate
        return source.provider if source is not None else None

    @property
    def lane(self) -> Lane | None:
        """None if no provider was called."""
        sent = self.request.sent
        if sent is None:
            return None
        return sent.open.journal.lane(self.response.candidate or sent.open.plan.at(1))

    @property
    def finish(self) -> str | None:
        body = self.response.body
        if body.tally is not None and body.tally.blocked and body.tally.failed is None:
            return "content_filter"
        if body.tally is not None:
            return body.tally.finish.reason if body.tally.finish is not None else None
        if body.summary is not None:
            return body.summary.finish
        return self.response.entry.finish if self.response.entry is not None else None


def access_log_facts(gateway: Gateway, record: ExchangeRecord) -> Mapping[str, object]:
    """The facts of an exchange for Envoy's access log."""
    request, response, (usage, _, cost, _, _) = record.request, record.response, record.bill
    facts: dict[str, object | None] = {
        "tenant": request.principal.tenant if request.principal is not None else None,
        "key": request.principal.key_id if request.principal is not None else None,
        "route": request.identified.route.path if request.identified is not None else None,
        "model": gateway.models.label(request.call.model) if request.call is not None else None,
        "provider": record.provider,
        "tokens_in": min(usage.prompt, _MOST_EXACT) if usage is not None else None,
        "tokens_out": min(usage.completion, _MOST_EXACT) if usage is not None else None,
        "cost_usd": format(cost, "f") if cost is not None else None,
        "cache": request.lookup.state if request.lookup is not None else None,
        "error": response.fault.kind if response.fault is not None else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def with_facts(gateway: Gateway, record: ExchangeRecord, command: Continue | ImmediateResponse) -> Command:
    """The last command, with the facts for Envoy's access log."""
    metadata = dict(command.metadata or {})
    metadata["edge"] = {**metadata.get("edge", {}), **access_log_facts(gateway, record)}
    return replace(command, metadata=metadata)


def _with_held(gateway: Gateway, settlement: Settlement) -> Settlement:
    """The settlement with what budgets keep of its reservation, so that they can be rebuilt from the ledger."""
    held = gateway.limiter.held(settlement) if gateway.limiter is not None else None
    return settlement if held is None else replace(settlement, held=Decimal(held) / MICRO)


def send(gateway: Gateway, settlement: Settlement, explanation: Explanation | None = None) -> None:
    """Gives a settlement to the ledger, and then to all sinks."""
    if gateway.ledger is not None:
        try:
            gateway.ledger(settlement, explanation)
        except Exception as bug:  # noqa: BLE001 - as below
            gateway.report(bug)
    for sink in gateway.sinks:
        try:
            sink(settlement)
        except Exception as bug:  # noqa: BLE001 - an exception of one sink must not stop the others
            gateway.report(bug)


def settlement_of(
    gateway: Gateway, exchange_id: str, record: ExchangeRecord, times: ExchangeTimes, state: State, why: Closing
) -> Settlement:
    # The local variables have the names of the fields, because the fields are given by position, in their order: a call
    # with so many names takes eight times as long.
    request, response = record.request, record.response
    usage, estimated, cost, unpriced, search_cost = record.bill
    outcome = _outcome(request, response, state, why)
    received, principal, identified = request.received, request.principal, request.identified
    call, lookup, entry, body, fault = request.call, request.lookup, response.entry, response.body, response.fault
    now = gateway.clock.monotonic()
    code = kind = None
    if fault is not None:
        code, kind = fault.code or fault.kind, fault.kind
    method = path = ""
    request_id = trace = trace_id = dialect = session = None
    if received is not None:
        method, path, request_id, trace = received.method, received.path, received.request_id, received.trace
        dialect = received.caller_dialect.name
        in_trace = trace or received.parent
        trace_id = in_trace.trace_id if in_trace is not None else None
        session = session_of(gateway.session_headers, received.values) if gateway.ledger is not None else None
    tenant = team = user = key_id = None
    if principal is not None:
        tenant, team, user, key_id = principal.tenant, principal.team, principal.user, principal.key_id
    operation = guard = None
    if identified is not None:
        dialect, operation, guard = identified.caller_dialect.name, identified.route.operation, identified.guard
    guardrails = guard.hits if guard is not None else ()
    # A rule may have refused the call before its candidates were known.
    model = guard.model if guard is not None else None
    stream, request_bytes, max_output_tokens = False, 0, None
    if call is not None:
        model, stream, request_bytes = call.model, call.stream, len(call.raw)
        max_output_tokens = call.max_output_tokens
    model = gateway.models.label(model) if model else None
    overhead = times.overhead
    cache = cache_tier = similarity = None
    if lookup is not None:
        cache, cache_tier, similarity = lookup.state, lookup.tier, lookup.similarity
        overhead = max(0.0, overhead - lookup.waited)
    saved = saved_cost = None
    if entry is not None and entry.usage is not None:
        saved, saved_cost = entry.usage, entry.cost
    provider = upstream_model = None
    source = entry or response.candidate
    if source is not None:
        provider, upstream_model = source.provider, source.model
    tally, summary = body.tally, body.summary
    response_model = summary.model if summary is not None else tally.model if tally is not None else None
    settlement = Settlement(
        exchange_id,
        outcome,
        response.status,
        code,
        times.started_at,
        now - times.began,  # duration
        overhead,
        body.first_token_at - times.began if body.first_token_at is not None else None,  # time_to_first_token
        tenant,
        team,
        user,
        kind,
        key_id,
        method,
        path,
        dialect,
        operation,
        stream,
        model,
        provider,
        upstream_model,
        record.lane,
        response.attempts,
        record.finish,
        usage,
        estimated,
        False,  # unseen: below
        cost,
        search_cost,
        unpriced,
        None,  # held: below
        (*response.dropped, *response.lost),  # dropped
        tally.garbled if tally is not None else 0,
        request_bytes,
        response.length,  # response_bytes
        request_id,
        trace_id,
        cache,
        cache_tier,
        similarity,
        saved,
        saved_cost,
        request.plan,
        _attempts(record, request.sent, outcome, usage, now) if request.sent is not None else (),  # attempt_results
        trace,
        _transcript(gateway, request, response) if trace is not None else None,
        response_model,
        max_output_tokens,
        tuple([PhaseTime(_PHASES[phase], at - times.began, took) for phase, (at, took) in times.by_event.items()]),
        request.runs[0] if request.runs else None,  # run
        request.runs[1] if len(request.runs) > 1 else None,  # run_parent
        session,
        guardrails,
    )
    cut = response.refused is not None and response.refused.cut
    if usage is not None or entry is not None or body.in_background or not (settlement.may_have_been_used or cut):
        return _with_held(gateway, settlement)
    unseen = unseen_bill(gateway, request, response)
    if unseen is None:
        return _with_held(gateway, settlement)
    usage, estimated, cost, unpriced, _ = unseen
    settlement = replace(settlement, usage=usage, estimated=estimated, cost=cost, unpriced=unpriced, unseen=True)
    return _with_held(gateway, settlement)


def _outcome(request: RequestFacts, response: ResponseFacts, state: State, why: Closing) -> Outcome:
    if why == "error":
        return "gateway_error"
    if response.refused is not None:
        fault = response.refused.fault
        if response.refused.by_gateway:
            return "rejected"
        return "refused" if fault.kind in _THE_CALLERS and fault.status < _SERVERS else "upstream_error"
    if response.body.is_refused:
        return "rejected"
    if response.fault is not None:
        return "broken_stream"
    unseen = request.received is None and response.head is not None  # an earlier filter answered
    if unseen or response.body.unseen or state in (State.OVER, State.REPLIED):
        return "ok"
    if why == "broken":
        return "upstream_error"
    return "stopped" if why == "stopping" else "caller_left"


def _attempts(
    record: ExchangeRecord, sent: Sent, outcome: Outcome, usage: Usage | None, now: float
) -> tuple[AttemptResult, ...]:
    """The result of each attempt."""
    response = record.response
    call, fault = sent.open.parsed.call, response.fault
    last = verdicts.LastAttempt(
        response.candidate,
        response.upstream_status,
        response.head.details if response.head is not None else "",
        outcome in ("upstream_error", "broken_stream"),  # broken
        outcome == "ok",  # whole
        response.body.first_token_at,
        now,
        call.stream,
        usage,
        response.refused.fault.retry_after if response.refused is not None else None,
        account_problem(fault, call.operation) if response.candidate and fault else None,
    )
    return verdicts.attempt_results(sent.open.plan, sent.open.journal, response.attempts, last)


def keeps_transcript(gateway: Gateway, received: Received) -> bool:
    """Whether the trace of this exchange has the texts of the request and the reply."""
    return received.trace is not None and gateway.tracer is not None and gateway.tracer.content


def _transcript(gateway: Gateway, request: RequestFacts, response: ResponseFacts) -> Transcript | None:
    """The texts of the exchange for its trace. An exception is only reported, because the exchange must still be
    settled."""
    read = request.read
    if read is None or read.parsed.call.operation != "chat" or not keeps_transcript(gateway, read.identified.received):
        return None
    try:
        chat = read.parsed.chat()
        reply = _reply(gateway, response)
    except EdgeError:  # a body that cannot be read has no transcript
        return None
    except Exception as bug:  # noqa: BLE001 - a bug here must not prevent the settlement
        gateway.report(bug)
        return None
    messages = tuple((message.role, _text_of(message.parts)) for message in chat.messages)
    return Transcript(messages, "\n".join(_text_of(c.parts) for c in reply.choices) if reply is not None else "")


def _reply(gateway: Gateway, response: ResponseFacts) -> Reply | None:
    """The received part of the reply. None if the caller was refused it."""
    entry, body = response.entry, response.body
    if response.refused is not None and response.refused.by_gateway:
        return None
    if entry is not None:
        return gateway.dialects[entry.dialect].read_reply(entry.body)
    if body.summary is None and body.tally is not None and body.tally.fold is not None:
        return body.tally.fold.reply()
    return body.reply


def _text_of(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, Text))
