"""How a response body goes to the caller: chosen from the response headers, once for each response."""

from __future__ import annotations

from functools import partial

from ..codecs.content_encoding import Inflater
from ..codecs.content_type import media_type
from ..model.content import Part
from ..model.fault import Fault
from ..model.frozen_dataclass import frozen_dataclass
from ..model.reply import Fold
from .account_access import AccountAccess
from .account_faults import for_caller
from .adapt import format_of
from .commands import BodyMode, Pairs
from .headers import unwanted
from .json_answers import JsonAnswers
from .operation import OperationResponse
from .phases import Sent
from .ports import Gateway
from .relay import CrossRelay, RawRelay, Relay
from .reply_calls import ReplyCalls
from .response_bodies import (
    BodyReader,
    OperationBody,
    PassedBody,
    ReplyBody,
    StreamedBody,
    TappedBody,
    UnnamedBody,
    UpstreamErrorBody,
    may_be_events,
)
from .response_head import Answered
from .settling import keeps_transcript


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
    *,
    end: bool,
) -> BodyChoice:
    """The reader for an operation other than chat. `end`: no body follows."""
    call, values, candidate = answered.call, answered.head.values, answered.candidate
    upstream_format = format_of(call, candidate, gateway.providers[candidate.provider])
    operation = OperationResponse(call, gateway.formats, upstream_format)
    removed, encoding = unwanted(answered.head.headers, gateway.response_headers), values.get("content-encoding")
    way = "pass" if end else operation.way(values.get("content-type", ""))
    objects, batch = (account.objects, account.batch) if account is not None else (None, None)
    results = batch.results_body(answered) if batch is not None and not end else None
    if results is not None:
        return BodyChoice(results, "streamed", removed)
    readers = [each for each in (objects, batch) if each is not None]
    if way == "whole" or (not end and any(each.needs_whole(answered) for each in readers)):
        return BodyChoice(OperationBody(operation, encoding), "buffered", removed)
    if way == "tap":
        return BodyChoice(TappedBody(operation, encoding, gateway.clock.monotonic), "streamed", removed)
    listener = gateway.formats[call.format].listener() if way == "listen" else None
    if listener is None:
        return BodyChoice(PassedBody(operation), "none", removed)
    relay = RawRelay(listener, answered.caller_dialect.writer(call), hide_usage=not call.wants_usage)
    body = StreamedBody(relay, inflater, None, gateway.clock.monotonic, operation)
    return BodyChoice(body, "streamed", (*removed, "content-encoding", "content-length"))


def chat_body(
    gateway: Gateway,
    sent: Sent,
    answered: Answered,
    inflater: Inflater | None,
    account: AccountAccess | None,
) -> BodyChoice:
    """A requested stream is passed on in chunks. An unrequested stream, or a complete reply, is buffered."""
    call, upstream, caller = answered.call, answered.dialect, answered.caller_dialect
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
        body = ReplyBody(answered, unframer, streamed=streamed, with_content=keeps, json=wants_json)
        return BodyChoice(body, "buffered", removed)
    reader, writer = upstream.reader(upstream.stream_type if unnamed else content_type), caller.writer(call)
    stream_type = call.stream_type or caller.stream_type
    whole = Fold(upstream.name) if keeps else None
    # One dialect may have two framings. Frames of the other one cannot pass unchanged.
    same = upstream.name == caller.name and stream_type == upstream.stream_type
    relay: Relay
    if same:
        watches = [each.watch for each in (ids, reasoning) if each is not None]
        relay = RawRelay(reader, writer, hide_usage=not call.wants_usage, fold=whole, chat=True, watches=watches)
    else:
        relay = CrossRelay(
            reader,
            writer,
            fold=whole,
            named=answered.id_and_model,
            can_contain=_any_part if upstream.name == caller.name else caller.can_contain,
            began_at=answered.began_at,
            own=upstream.name == caller.name,
            json=JsonAnswers() if wants_json else None,
            calls=None if upstream.name == caller.name else ReplyCalls(answered.parsed),
        )
    clock = gateway.clock.monotonic
    to_set: Pairs = () if same and unframer is None and not unnamed else (("content-type", stream_type),)
    return BodyChoice(
        UnnamedBody(answered, relay, inflater, clock, gateway.body_limits.response, json=wants_json)
        if unnamed
        else StreamedBody(relay, inflater, unframer, clock),
        "streamed",
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
