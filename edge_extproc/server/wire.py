"""Converts Envoy's protobuf messages to events, and commands to protobuf messages.

It is the only module that names ext_proc's messages. It is pure and independent of the transport. It knows nothing of
the meaning of an event or the reason for a command.

It adds nothing to a command, in particular no content-length. Envoy stops a request or response whose body changes its
length while that header does not (details `mismatch_between_content_length_and_the_length_of_the_mutated_body`), so a
command with a body must set or remove the header too. The header is not needed, and ignored, in answers to chunks of a
streamed body whose headers have been sent. For Replace and ImmediateResponse, Envoy makes the header.

A command that is impossible in answer to an event (for example a body in answer to headers) is a bug of the gateway and
raises ValueError. Malformed bytes are an error of Envoy and raise PeerError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never, cast

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import NULL_VALUE, Struct

from ..errors import PeerError
from ..exchange.commands import (
    CONTINUE,
    BodyMode,
    Command,
    Continue,
    Hold,
    ImmediateResponse,
    Pairs,
    Pass,
    Release,
    Replace,
)
from ..exchange.events import (
    NO_METADATA,
    NOTHING,
    Attributes,
    BodyModes,
    Event,
    FilterBodyMode,
    Headers,
    Metadata,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from ..model.envoy_names import ROUTE_NAMESPACE
from ..pb.core_pb2 import HeaderMap, HeaderValueOption
from ..pb.ext_proc_filter_pb2 import ProcessingMode
from ..pb.ext_proc_pb2 import (
    BodyMutation,
    CommonResponse,
    HeaderMutation,
    ProcessingRequest,
    ProcessingResponse,
)

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import ListValue, Value

    from ..pb.type_pb2 import StatusCode

ATTRIBUTES = "envoy.filters.http.ext_proc"
"""The key of Envoy's attributes, whatever the name of the filter is."""

# Parts that are equal in most answers (headers, orders of clusters) are cached as bytes: the maximum number of each.
_MOST_KNOWN = 1024

_EXACT = 2.0**53
"""A Struct has only doubles. Up to this value, every integer is one."""


# --- from Envoy


def to_event(message: bytes) -> Event:
    """Decodes a ProcessingRequest. Raises PeerError."""
    try:
        request = ProcessingRequest.FromString(message)
    except DecodeError as exc:
        raise PeerError("this is not a ProcessingRequest") from exc
    match request.WhichOneof("request"):
        case "request_headers":
            headers = request.request_headers
            return RequestHeaders(
                _pairs(headers.headers),
                headers.end_of_stream,
                _attributes(request),
                _metadata(request),
                _modes(request) if request.HasField("protocol_config") else None,
            )
        case "request_body":
            body = request.request_body
            return RequestBody(body.body, body.end_of_stream)
        case "response_headers":
            headers = request.response_headers
            return ResponseHeaders(
                _pairs(headers.headers),
                headers.end_of_stream,
                _attributes(request),
                _modes(request) if request.HasField("protocol_config") else None,
            )
        case "response_body":
            body = request.response_body
            return ResponseBody(body.body, body.end_of_stream)
        case "request_trailers":
            return RequestTrailers()
        case "response_trailers":
            return ResponseTrailers()
        case _:
            raise PeerError("a ProcessingRequest without a phase")


def _pairs(header_map: HeaderMap) -> Headers:
    return tuple([(h.key, h.raw_value.decode("utf-8", "surrogateescape") or h.value) for h in header_map.headers])


def _attributes(request: ProcessingRequest) -> Attributes:
    # Reading a missing key of a protobuf map would insert it.
    if ATTRIBUTES not in request.attributes:
        return NOTHING
    return _mapping(request.attributes[ATTRIBUTES])


def _metadata(request: ProcessingRequest) -> Metadata:
    if not request.HasField("metadata_context"):
        return NO_METADATA
    return {namespace: _mapping(struct) for namespace, struct in request.metadata_context.filter_metadata.items()}


def _modes(request: ProcessingRequest) -> BodyModes:
    modes = request.protocol_config
    try:
        return BodyModes(_FILTER_MODES[modes.request_body_mode], _FILTER_MODES[modes.response_body_mode])
    except KeyError:
        raise PeerError("an unknown body mode") from None


_FILTER_MODES: dict[int, FilterBodyMode] = {
    ProcessingMode.NONE: "none",
    ProcessingMode.STREAMED: "streamed",
    ProcessingMode.BUFFERED: "buffered",
    ProcessingMode.BUFFERED_PARTIAL: "buffered_partial",
    ProcessingMode.FULL_DUPLEX_STREAMED: "full_duplex_streamed",
    ProcessingMode.GRPC: "grpc",
}


def _mapping(struct: Struct) -> dict[str, object]:
    fields = struct.fields  # whose `items` is slow
    return {key: _plain(fields[key]) for key in fields}


def _plain(value: Value) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _mapping(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case _:
            return None


# --- to Envoy


def _continue(event: type[Event]) -> bytes:
    response = ProcessingResponse()
    getattr(response, _PHASE[event]).SetInParent()
    return response.SerializeToString()


# An event and its answer have the same field name in Envoy's two oneofs.
_PHASE: dict[type[Event], str] = {
    RequestHeaders: "request_headers",
    RequestBody: "request_body",
    RequestTrailers: "request_trailers",
    ResponseHeaders: "response_headers",
    ResponseBody: "response_body",
    ResponseTrailers: "response_trailers",
}
# Most answers are one of these.
_CONTINUE: dict[type[Event], bytes] = {event: _continue(event) for event in _PHASE}
_ONLY_CONTINUE = {event: (answer,) for event, answer in _CONTINUE.items()}

_BODY_MODE: dict[BodyMode, ProcessingMode.BodySendMode] = {
    "none": ProcessingMode.NONE,
    "streamed": ProcessingMode.STREAMED,
    "buffered": ProcessingMode.BUFFERED,
}


def to_answers(event: Event, command: Command) -> tuple[bytes, ...]:
    """The encoded ProcessingResponses that answer `event`. It is one, except for a response body in full-duplex mode.
    Raises ValueError for an impossible command."""
    if command is CONTINUE:
        return _ONLY_CONTINUE[type(event)]
    match command:
        case Hold():
            return ()
        case Pass(body, end):
            return (_streamed(body, end=end),)
        case Release():
            return _released(event, command)
        case _:
            return (to_answer(event, command),)


_HELD = ResponseHeaders((), end=False)
_HELD_REQUEST = RequestHeaders((), end=False)


def _released(event: Event, command: Release) -> tuple[bytes, ...]:
    of_request = isinstance(event, RequestBody | RequestTrailers)
    held = _HELD_REQUEST if of_request else _HELD
    headers = Continue(command.set_headers, command.remove_headers, order=command.order, reroute=command.reroute)
    answers = [_CONTINUE[type(held)] if headers == CONTINUE else to_answer(held, headers)]
    if command.body or command.end:
        answers.append(_streamed(command.body, end=command.end, of_request=of_request))
    if command.trailers:
        answers.append(_CONTINUE[RequestTrailers if of_request else ResponseTrailers])
    return tuple(answers)


def _streamed(body: bytes, *, end: bool, of_request: bool = False) -> bytes:
    response = ProcessingResponse()
    answer = response.request_body if of_request else response.response_body
    streamed = answer.response.body_mutation.streamed_response
    streamed.SetInParent()
    streamed.body = body
    streamed.end_of_stream = end
    return response.SerializeToString()


def to_answer(event: Event, command: Command) -> bytes:
    """The encoded ProcessingResponse that answers `event`. Raises ValueError for an impossible command."""
    if command is CONTINUE:
        return _CONTINUE[type(event)]
    response = ProcessingResponse()
    match command:
        case Continue() if not command.set_headers and command == CONTINUE:
            return _CONTINUE[type(event)]
        case Continue():
            _write_continue(response, event, command)
        case Replace():
            _write_replace(response, event, command)
        case ImmediateResponse():
            _write_reply(response, command)
        case Hold() | Release() | Pass():
            raise ValueError(f"{type(command).__name__} is no single answer")
        case _:
            assert_never(command)
    return response.SerializeToString()


def more_time(seconds: float) -> bytes:
    """An encoded ProcessingResponse that extends Envoy's timeout for the current message by `seconds`."""
    response = ProcessingResponse()
    response.override_message_timeout.FromNanoseconds(int(seconds * 1e9))
    return response.SerializeToString()


def _write_continue(response: ProcessingResponse, event: Event, command: Continue) -> None:
    if command.response_body is not None:
        if not isinstance(event, (RequestHeaders, ResponseHeaders)):
            raise ValueError(f"response_body={command.response_body!r} in answer to {type(event).__name__}")
        response.mode_override.CopyFrom(_override(command.response_body))
    if command.metadata:
        _write_struct(response.dynamic_metadata, command.metadata)
    if command.order:
        response.dynamic_metadata.MergeFromString(_order(command.order))
    match event:
        case RequestHeaders() | ResponseHeaders():
            if command.body is not None:
                raise ValueError(f"a body in answer to {type(event).__name__}; Replace gives one")
            is_request = isinstance(event, RequestHeaders)
            common = (response.request_headers if is_request else response.response_headers).response
        case RequestBody():
            common = response.request_body.response
        case ResponseBody():
            common = response.response_body.response
        case RequestTrailers() | ResponseTrailers():
            if command.body is not None or command.reroute:
                raise ValueError(f"a body or a new route in answer to {type(event).__name__}")
            is_request = isinstance(event, RequestTrailers)
            trailers = response.request_trailers if is_request else response.response_trailers
            trailers.SetInParent()
            _change(trailers.header_mutation, command.set_headers, command.remove_headers)
            return
        case _:
            assert_never(event)
    common.SetInParent()
    if command.set_headers or command.remove_headers:
        _change(common.header_mutation, command.set_headers, command.remove_headers)
    if command.body is not None:
        _write_body(common.body_mutation, command.body)
    if command.reroute:
        common.clear_route_cache = True


def _write_replace(response: ProcessingResponse, event: Event, command: Replace) -> None:
    match event:
        case RequestHeaders():
            common = response.request_headers.response
        case ResponseHeaders():
            common = response.response_headers.response
        case _:
            raise ValueError(f"Replace in answer to {type(event).__name__}")
    common.status = CommonResponse.CONTINUE_AND_REPLACE
    _change(common.header_mutation, command.set_headers, command.remove_headers)
    _write_body(common.body_mutation, command.body)
    if command.metadata:
        _write_struct(response.dynamic_metadata, command.metadata)


def _write_reply(response: ProcessingResponse, command: ImmediateResponse) -> None:
    reply = response.immediate_response
    # Enums of proto3 accept unknown values: Envoy sends a status without a name in the enum (529) to the caller.
    reply.status.code = cast("StatusCode", command.status)
    _set(reply.headers, command.headers)
    reply.body = command.body
    reply.details = command.details
    if command.metadata:
        _write_struct(response.dynamic_metadata, command.metadata)


def _change(mutation: HeaderMutation, set_headers: Pairs, remove_headers: Iterable[str]) -> None:
    _set(mutation, set_headers)
    mutation.remove_headers.extend(remove_headers)


# Concatenated protobuf messages are merged, so parts that are equal in most answers are encoded only once. A header
# value is never cached, because it may be a credential. The cached parts depend only on its length.
def _set(mutation: HeaderMutation, pairs: Pairs) -> None:
    parts: list[bytes] = []
    seen: set[str] | None = None if len(dict(pairs)) == len(pairs) else set()
    for name, value in pairs:
        try:
            raw = value.encode()
        except UnicodeEncodeError:
            raw = value.encode("utf-8", "surrogateescape")
        if seen is None or name not in seen:
            before, after = _around(name, len(raw))
        else:
            before, after = _around(name, len(raw), append=True)
        parts += (before, raw, after)
        if seen is not None:
            seen.add(name)
    mutation.MergeFromString(b"".join(parts))


@lru_cache(maxsize=_MOST_KNOWN)
def _around(name: str, length: int, *, append: bool = False) -> tuple[bytes, bytes]:
    """The encoded bytes before and after a header value of `length` bytes."""
    mutation = HeaderMutation()
    option = mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value = b"\0" * length  # no header name contains a zero byte
    # The first header of a name replaces the existing one; a repeated header (set-cookie) is added. ext_proc of Envoy
    # 1.40 reads only the deprecated field `append` (tests/envoy/test_wire_on_envoy.py). `append_action` is set for
    # later versions.
    if append:
        option.append.value = True
    else:
        option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    encoded = mutation.SerializeToString()
    before, _, after = encoded.partition(value) if value else (encoded, b"", b"")
    return before, after


def _write_body(mutation: BodyMutation, body: bytes) -> None:
    # In proto3 an empty `body` is not encoded. `clear_body` represents it.
    if body:
        mutation.body = body
    else:
        mutation.clear_body = True


@lru_cache
def _override(response_body: BodyMode) -> ProcessingMode:
    # An override replaces the whole mode, so the other fields repeat the configuration.
    return ProcessingMode(
        request_header_mode=ProcessingMode.SEND,
        response_header_mode=ProcessingMode.SEND,
        request_body_mode=ProcessingMode.BUFFERED,
        response_body_mode=_BODY_MODE[response_body],
        request_trailer_mode=ProcessingMode.SKIP,
        response_trailer_mode=ProcessingMode.SKIP,
    )


def _write_struct(into: Struct, values: Mapping[str, object]) -> None:
    into.SetInParent()
    fields = into.fields
    for key, value in values.items():
        if type(value) is str:  # nearly all are
            fields[key].string_value = value
        else:
            _write_value(fields[key], value)


@lru_cache(maxsize=_MOST_KNOWN)
def _order(clusters: tuple[str, ...]) -> bytes:
    """The order of clusters as the priority_group cluster specifier reads it: an encoded Struct."""
    struct = Struct()
    groups = [{"name": f"{n}", "clusters": [{"cluster_name": c, "weight": 1}]} for n, c in enumerate(clusters, 1)]
    _write_struct(struct, {ROUTE_NAMESPACE: {"priority_groups": groups}})
    return struct.SerializeToString()


def _write_value(into: Value, value: object) -> None:
    match value:
        case str():
            into.string_value = value
        case dict():
            _write_struct(into.struct_value, value)
        case bool():
            into.bool_value = value
        case int() | float():
            into.number_value = value
        case None:
            into.null_value = NULL_VALUE
        case Mapping():
            _write_struct(into.struct_value, value)
        case list() | tuple():
            _write_list(into.list_value, value)
        case _:
            raise ValueError(f"metadata cannot hold a {type(value).__name__}")


def _write_list(into: ListValue, values: Iterable[object]) -> None:
    into.SetInParent()
    for value in values:
        _write_value(into.values.add(), value)
