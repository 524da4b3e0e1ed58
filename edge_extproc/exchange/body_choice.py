"""How a response body goes to the caller: chosen from the response headers, once for each response."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..codecs.content_encoding import Inflater
from ..codecs.content_type import media_type
from ..dialects.base import StreamReader
from ..errors import GuardrailBlocked
from ..model.content import Part
from ..model.fault import Fault
from ..model.frozen_dataclass import frozen_dataclass
from ..model.paths import is_by_model
from ..model.reply import Failed, Fold
from ..operations.metering.texts import TextReader, TextWriter
from .account_access import AccountAccess
from .account_faults import for_caller
from .adapt import format_of
from .batch_results import ResultsBody
from .body_reader import BodyReader
from .commands import BodyMode, Pairs
from .guarded_results import GuardedResultsBody, may_have_lines
from .headers import unwanted
from .json_answers import JsonAnswers
from .operation import OperationResponse
from .phases import Sent
from .ports import Gateway
from .relay import CrossRelay, RawRelay, Relay
from .reply_calls import ReplyCalls
from .reply_guardrails import GuardedOperationBody, is_json, may_be_text
from .response_bodies import (
    OperationBody,
    PassedBody,
    ReplyBody,
    TappedBody,
    UnnamedBody,
    UpstreamErrorBody,
    may_be_events,
)
from .response_head import Answered
from .settling import keeps_transcript
from .streamed_body import StreamedBody

if TYPE_CHECKING:  # not loaded without rules
    from ..guardrails.base import ReplyGuard, ReplyGuards


@frozen_dataclass
class BodyChoice:
    body: BodyReader
    mode: BodyMode
    removed: tuple[str, ...]
    """Response headers that do not go to the caller."""
    to_set: Pairs = ()


def operation_body(
    gateway: Gateway,
    answered: Answered,
    inflater: Inflater | None,
    account: AccountAccess | None,
    guards: ReplyGuards | None = None,
    *,
    end: bool,
    can_end: bool = False,
) -> BodyChoice:
    """The reader for an operation other than chat. `end`: no body follows. `can_end`: Envoy can end a response before
    its provider does. Raises GuardrailBlocked."""
    guard = guards.guard_reply(signs_thinking=False, any_kind=True) if guards is not None else None
    call, values, candidate = answered.call, answered.head.values, answered.candidate
    upstream_format = format_of(call, candidate, gateway.providers[candidate.provider])
    operation = OperationResponse(call, gateway.formats, upstream_format)
    removed, encoding = unwanted(answered.head.headers, gateway.response_headers), values.get("content-encoding")
    way = "pass" if end else operation.way(values.get("content-type", ""))
    objects, batch = (account.objects, account.batch) if account is not None else (None, None)
    results = batch.result_lines(answered) if batch is not None and not end else None
    kind = values.get("content-type", "")
    has_lines = results is not None or (not end and call.method == "GET" and may_have_lines(kind))
    if guard is not None and guards is not None and has_lines:
        lines = GuardedResultsBody(guards, encoding, results, asks=guard.services is not None)
        return BodyChoice(lines, "streamed", (*removed, "content-encoding", "content-length"))
    if results is not None:
        return BodyChoice(ResultsBody(results, encoding), "streamed", removed)
    if guard is not None and not end:
        if is_json(kind) or (guard.can_change and may_be_text(kind)):
            return BodyChoice(GuardedOperationBody(operation, encoding, way, guard, kind), "buffered", removed)
        if media_type(kind) == "text/event-stream":
            if guard.can_block and call.operation == "passed" and not is_by_model(call.target):
                raise GuardrailBlocked(guard.strictest, "the texts of a stream of this path are not known")
            return _guarded_stream(gateway, answered, operation, inflater, guard, removed, can_end=can_end)
    readers = [each for each in (objects, batch) if each is not None]
    if way == "whole" or (not end and any(each.needs_whole(answered) for each in readers)):
        return BodyChoice(OperationBody(operation, encoding), "buffered", removed)
    if way == "tap":
        return BodyChoice(TappedBody(operation, encoding, gateway.clock.monotonic), "streamed", removed)
    listener: StreamReader | None = batch.listener(answered) if batch is not None and not end else None
    if listener is None and way == "listen":
        listener = gateway.formats[call.format].listener()
    if listener is None:
        return BodyChoice(PassedBody(operation), "none", removed)
    relay = RawRelay(listener, answered.caller_dialect.writer(call), hide_usage=not call.wants_usage)
    body = StreamedBody(relay, inflater, None, gateway.clock.monotonic, operation)
    return BodyChoice(body, "streamed", (*removed, "content-encoding", "content-length"))


def _guarded_stream(
    gateway: Gateway,
    answered: Answered,
    operation: OperationResponse,
    inflater: Inflater | None,
    guard: ReplyGuard,
    removed: tuple[str, ...],
    *,
    can_end: bool,
) -> BodyChoice:
    """The reader for a stream that is no chat, whose texts a guard checks."""
    call, writer = answered.call, answered.caller_dialect.writer(answered.call)
    relay: Relay
    reader = TextReader(hide_usage=not call.wants_usage)
    if guard.can_change:
        relay = CrossRelay(reader, TextWriter(lambda fault: writer.write(Failed(fault))), own=True, guard=guard)
    else:
        relay = RawRelay(reader, writer, hide_usage=not call.wants_usage, guard=guard)
    can_end = can_end and guard.can_block
    clock = gateway.clock.monotonic
    body = StreamedBody(relay, inflater, None, clock, operation, in_full_duplex=can_end, services=guard.services)
    mode: BodyMode = "full_duplex" if can_end else "streamed"
    return BodyChoice(body, mode, (*removed, "content-encoding", "content-length"))


def chat_body(
    gateway: Gateway,
    sent: Sent,
    answered: Answered,
    inflater: Inflater | None,
    account: AccountAccess | None,
    *,
    can_end: bool = False,
) -> BodyChoice:
    """A requested stream is passed on in chunks. An unrequested stream, or a complete reply, is buffered. `can_end`:
    Envoy can end a response before its provider does."""
    call, upstream, caller = answered.call, answered.dialect, answered.caller_dialect
    guards = sent.admitted.read.identified.guard
    guard = guards.guard_reply(signs_thinking=upstream.signs_thinking) if guards is not None else None
    objects, reasoning = (account.objects, account.reasoning) if account is not None else (None, None)
    removed = unwanted(answered.head.headers, gateway.response_headers)
    content_type = answered.head.values.get("content-type", "")
    unframer = gateway.providers[answered.candidate.provider].unframe(upstream.name, content_type)
    content_type = content_type if unframer is None else upstream.stream_type
    streamed = media_type(content_type) == media_type(upstream.stream_type)
    unnamed = call.stream and not streamed and unframer is None and may_be_events(upstream, content_type)
    wants_json = answered.candidate in sent.open.journal.asked_for_json
    lookup = sent.admitted.lookup
    keeps = (lookup is not None and lookup.may_store) or keeps_transcript(
        gateway, sent.admitted.read.identified.received
    )
    ids = objects.reply_ids(answered) if objects is not None else None
    if not (streamed and call.stream) and not unnamed:
        body = ReplyBody(answered, unframer, streamed=streamed, with_content=keeps, json=wants_json, guard=guard)
        return BodyChoice(body, "buffered", removed)
    reader, writer = upstream.reader(upstream.stream_type if unnamed else content_type), caller.writer(call)
    stream_type = call.stream_type or caller.stream_type
    fold = Fold(upstream.name) if keeps else None
    # One dialect may have two framings. Frames of the other one cannot pass unchanged.
    same = upstream.name == caller.name and stream_type == upstream.stream_type
    relay: Relay
    watches = [each.watch for each in (ids, reasoning) if each is not None]
    if same and (guard is None or not guard.can_change):
        relay = RawRelay(
            reader, writer, hide_usage=not call.wants_usage, fold=fold, chat=True, watches=watches, guard=guard
        )
    else:
        relay = CrossRelay(
            reader,
            writer,
            fold=fold,
            named=answered.id_and_model,
            cites=caller.cites,
            can_contain=_any_part if upstream.name == caller.name else caller.can_contain,
            began_at=answered.began_at,
            own=upstream.name == caller.name,
            json=JsonAnswers() if wants_json else None,
            calls=None if upstream.name == caller.name else ReplyCalls(answered.parsed),
            guard=guard,
            watches=watches if same else (),
        )
    can_end = can_end and guard is not None and guard.can_block
    clock = gateway.clock.monotonic
    services = guard.services if guard is not None else None
    to_set: Pairs = () if same and unframer is None and not unnamed else (("content-type", stream_type),)
    return BodyChoice(
        UnnamedBody(
            answered,
            relay,
            inflater,
            clock,
            gateway.body_limits.response,
            json=wants_json,
            guard=guard,
            in_full_duplex=can_end,
        )
        if unnamed
        else StreamedBody(relay, inflater, unframer, clock, in_full_duplex=can_end, services=services),
        "full_duplex" if can_end else "streamed",
        (*removed, "content-encoding", "content-length"),
        to_set,
    )


def error_body(gateway: Gateway, answered: Answered) -> BodyChoice:
    """The reader for an error response of a provider."""
    body = UpstreamErrorBody(partial(read_error, gateway, answered), answered.head.values.get("content-encoding"))
    return BodyChoice(body, "buffered", unwanted(answered.head.headers, gateway.response_headers))


def read_error(gateway: Gateway, answered: Answered, body: bytes) -> Fault:
    """The fault, read in the dialect that a response header marks, else in the provider's."""
    head = answered.head
    dialect = gateway.dialect_of_error(head.values) or answered.dialect
    return for_caller(dialect.read_error(head.status or 502, head.headers, body), answered.call.operation)


def _any_part(part: Part) -> bool:
    """The reader for a reply that stays in its own dialect."""
    del part
    return True
