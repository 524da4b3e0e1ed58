"""The end of an exchange, told to whoever counts: one settlement, and what Envoy's access log shows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..errors import EdgeError
from ..model.content import Part, Text
from ..model.fault import FaultKind
from ..model.plan import AttemptResult
from ..model.plausible import is_plausible
from ..model.reply import Finish, Reply
from ..model.settlement import Outcome, Phase, PhaseTime, Settlement
from ..model.trace import Transcript
from ..model.usage import Usage
from . import verdicts
from .bill import bill_of, unseen_bill
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
from .phases import RequestState, ResponseState
from .ports import Gateway
from .states import State

# Dynamic metadata knows only doubles; up to here every integer is one.
_MOST_EXACT = 1 << 53

# What a provider says of a request that another one would have been answered for. Not of a key, an account or a model
# that is none: those are the operator's to mend.
_THE_CALLERS: frozenset[FaultKind] = frozenset(
    {"invalid_request", "method", "conflict", "too_large", "context_length", "content_filter"}
)
_SERVERS = 500
"""The first status that blames a server."""

_PHASES: dict[type[Event], Phase] = {
    RequestHeaders: "request_headers",
    RequestBody: "request_body",
    RequestTrailers: "request_trailers",
    ResponseHeaders: "response_headers",
    ResponseBody: "response_body",
    ResponseTrailers: "response_trailers",
}


def facts(gateway: Gateway, heard: RequestState, answer: ResponseState) -> Mapping[str, object]:
    """For Envoy's access log. Makes the bill, which the settlement takes over."""
    usage, _, cost, _ = answer.bill = bill_of(gateway, heard, answer)
    given = answer.cached if answer.cached is not None else answer.candidate
    tally = answer.relay.tally if answer.relay is not None else None
    fault = answer.fault or (tally.failed if tally is not None else None)
    told: dict[str, object | None] = {
        "tenant": heard.principal.tenant if heard.principal is not None else None,
        "key": heard.principal.key_id if heard.principal is not None else None,
        "route": heard.route.path if heard.route is not None else None,
        "model": gateway.models.label(heard.call.model) if heard.call is not None else None,
        "provider": given.provider if given is not None else None,
        "tokens_in": min(usage.prompt, _MOST_EXACT) if usage is not None else None,
        "tokens_out": min(usage.completion, _MOST_EXACT) if usage is not None else None,
        "cost_usd": format(cost, "f") if cost is not None else None,
        "cache": heard.turn.state if heard.turn is not None else None,
        "error": fault.kind if fault is not None else None,
    }
    return {name: value for name, value in told.items() if value is not None}


def settlement_of(
    gateway: Gateway, exchange_id: str, heard: RequestState, answer: ResponseState, state: State, why: Closing
) -> Settlement:
    usage, estimated, cost, unpriced = answer.bill or bill_of(gateway, heard, answer)
    outcome = _outcome(answer, state, why)
    principal, call, turn, cached = heard.principal, heard.call, heard.turn, answer.cached
    tally = answer.relay.tally if answer.relay is not None else None
    finish = tally.finish if tally is not None else _finish_of(answer.reply)
    given = cached if cached is not None else answer.candidate
    # A cache that outlives us may hold what an earlier version believed.
    saved = cached.usage if cached is not None and cached.usage is not None and is_plausible(cached.usage) else None
    fault = answer.fault or (tally.failed if tally is not None else None)
    in_trace = heard.trace or heard.parent
    now = gateway.clock.monotonic()
    settlement = Settlement(
        exchange_id=exchange_id,
        outcome=outcome,
        status=answer.status,
        code=(fault.code or fault.kind) if fault is not None else None,
        kind=fault.kind if fault is not None else None,
        started_at=heard.started_at,
        duration=now - heard.began,
        overhead=max(0.0, heard.overhead - turn.waited) if turn is not None else heard.overhead,
        time_to_first_token=answer.first_token_at - heard.began if answer.first_token_at is not None else None,
        tenant=principal.tenant if principal is not None else None,
        team=principal.team if principal is not None else None,
        user=principal.user if principal is not None else None,
        key_id=principal.key_id if principal is not None else None,
        method=heard.method,
        path=heard.path,
        dialect=heard.voice.name if heard.voice is not None else None,
        operation=heard.route.operation if heard.route is not None else None,
        stream=call.stream if call is not None else False,
        model=gateway.models.label(call.model) if call is not None and call.model else None,
        provider=given.provider if given is not None else None,
        upstream_model=given.model if given is not None else None,
        lane=heard.adapted.lane if heard.adapted is not None else None,
        attempts=answer.attempts,
        finish=finish.reason if finish is not None else cached.finish if cached is not None else None,
        usage=usage,
        estimated=estimated,
        cost=cost,
        unpriced=unpriced,
        dropped=(*answer.dropped, *answer.lost),
        garbled=tally.garbled if tally is not None else 0,
        request_bytes=len(call.raw) if call is not None else 0,
        response_bytes=answer.sent,
        request_id=heard.request_id,
        cache=turn.state if turn is not None else None,
        cache_tier=turn.tier if turn is not None else None,
        saved=saved,
        saved_cost=cached.cost if cached is not None and saved is not None else None,
        plan=heard.plan,
        tries=_tries(heard, answer, outcome, usage, now),
        trace_id=in_trace.trace_id if in_trace is not None else None,
        trace=heard.trace,
        talk=_talk(gateway, heard, answer),
        response_model=answer.reply.model if answer.reply is not None else tally.model if tally else None,
        max_output_tokens=call.max_output_tokens if call is not None else None,
        phases=tuple([PhaseTime(_PHASES[kind], at - heard.began, took) for kind, (at, took) in heard.phases.items()]),
    )
    if usage is not None or cached is not None or not settlement.may_have_been_used:
        return settlement
    unseen = unseen_bill(gateway, heard, answer)
    if unseen is None:
        return settlement
    usage, estimated, cost, unpriced = unseen
    return replace(settlement, usage=usage, estimated=estimated, cost=cost, unpriced=unpriced, unseen=True)


def _outcome(answer: ResponseState, state: State, why: Closing) -> Outcome:
    if answer.bug or why == "error":
        return "gateway_error"
    if answer.fault is not None:
        if answer.ours:
            return "rejected"
        return "refused" if answer.fault.kind in _THE_CALLERS and answer.fault.status < _SERVERS else "upstream_error"
    if answer.relay is not None and answer.relay.tally.failed is not None:
        return "broken_stream"
    if answer.passed or state in (State.OVER, State.REPLIED):
        return "ok"
    return "stopped" if why == "stopping" else "caller_left"


def _tries(
    heard: RequestState, answer: ResponseState, outcome: Outcome, usage: Usage | None, now: float
) -> tuple[AttemptResult, ...]:
    """None where nothing was sent."""
    if heard.open is None:
        return ()
    last = verdicts.LastAttempt(
        answer.candidate,
        answer.status if answer.came is None else answer.came,
        answer.details,
        broken=outcome in ("upstream_error", "broken_stream"),
        whole=outcome == "ok",
        first_token_at=answer.first_token_at,
        ended=now,
        stream=heard.call.stream if heard.call is not None else False,
        usage=usage,
        retry_after=answer.fault.retry_after if answer.fault is not None else None,
    )
    return verdicts.tries_of(heard.open.plan, heard.open.journal, answer.attempts, last)


def tells_talk(gateway: Gateway, heard: RequestState) -> bool:
    return heard.trace is not None and gateway.tracer is not None and gateway.tracer.content


def _talk(gateway: Gateway, heard: RequestState, answer: ResponseState) -> Transcript | None:
    """What was said, for the trace. A bug of ours on the way must not keep the exchange from being settled."""
    call = heard.call
    if not tells_talk(gateway, heard) or call is None or call.operation != "chat":
        return None
    try:
        chat = gateway.dialects[call.dialect].read_chat(call)
        reply = _told(gateway, answer)
    except EdgeError:  # what cannot be read is not told
        return None
    except Exception as bug:  # noqa: BLE001  # whatever it is: the bill comes next
        gateway.report(bug)
        return None
    asked = tuple((message.role, _text_of(message.parts)) for message in chat.messages)
    return Transcript(asked, "\n".join(_text_of(c.parts) for c in reply.choices) if reply is not None else "")


def _told(gateway: Gateway, answer: ResponseState) -> Reply | None:
    """The reply, as far as it is known."""
    if answer.cached is not None:
        return gateway.dialects[answer.cached.dialect].read_reply(answer.cached.body)
    if answer.reply is None and answer.relay is not None and answer.relay.tally.fold is not None:
        return answer.relay.tally.fold.reply()
    return answer.reply


def _text_of(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _finish_of(reply: Reply | None) -> Finish | None:
    return next((c.finish for c in reply.choices if c.finish is not None), None) if reply is not None else None
