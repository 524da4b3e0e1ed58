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

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never, cast

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

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
    HeadersResponse,
    ProcessingRequest,
    ProcessingResponse,
    TrailersResponse,
)
from ..pb.ext_proc_pb2 import ImmediateResponse as ImmediateResponseMessage
from ..pb.type_pb2 import HttpStatus
from .protobuf_fields import key, varint
from .rpc import Message, size_of, whole

if TYPE_CHECKING:
    from ..pb.type_pb2 import StatusCode

ATTRIBUTES = "envoy.filters.http.ext_proc"
"""The key of Envoy's attributes, whatever the name of the filter is."""

# Parts that are equal in most answers (headers, orders of clusters) are cached as bytes: the maximum number of each.
_MOST_KNOWN = 1024

_EXACT = 2.0**53
"""A Struct has only doubles. Up to this value, every integer is one."""


# --- from Envoy

# Bytes of a message from which on its body is read without protobuf.
_LARGE = 65_536
# Bytes that hold the two keys and the two lengths before a body.
_HEAD = 16
_BEYOND = 1 << 40
# Keys of the wire format: of a body in a ProcessingRequest, and of the bytes in an HttpBody.
_BODIES: dict[int, type[RequestBody] | type[ResponseBody]] = {0x22: RequestBody, 0x2A: ResponseBody}
_BODY_OF_HTTP_BODY = b"\x0a"
_END_OF_STREAM = {b"": False, b"\x10\x00": False, b"\x10\x01": True}
"""What follows the bytes in an HttpBody, if it has no further fields."""


def to_event(received: Message) -> Event:
    """Decodes a ProcessingRequest. Raises PeerError."""
    size = len(received) if type(received) is bytes else size_of(received)  # nearly all are bytes
    if size >= _LARGE and (event := _large_body(received)) is not None:
        return event
    message = received if type(received) is bytes else whole(received)
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


def _large_body(message: Message) -> RequestBody | ResponseBody | None:
    """The body of a message that has only the fields Envoy writes, in their order. None: the message is another one.
    The body is copied once; protobuf would copy it into the message, and again out of it."""
    parts, total = (message,) if isinstance(message, bytes) else message, size_of(message)
    head = _between(parts, 0, _HEAD)
    kind = _BODIES.get(head[0])
    if kind is None:
        return None
    length, at = _varint(head, 1)
    end = at + length
    if end > total or head[at : at + 1] != _BODY_OF_HTTP_BODY:
        return None
    size, begin = _varint(head, at + 1)
    after = begin + size
    if after > end:
        return None
    rest = _between(parts, after, total)
    is_end = _END_OF_STREAM.get(rest[: end - after])
    if is_end is None:
        return None
    try:  # attributes and metadata may follow
        more = rest[end - after :]
        is_more = bool(more) and ProcessingRequest.FromString(more).WhichOneof("request") is not None
    except DecodeError:
        return None
    return None if is_more else kind(_between(parts, begin, after), is_end)


def _between(parts: Sequence[bytes | bytearray], begin: int, end: int) -> bytes:
    """The bytes from `begin` to `end` of the joined parts."""
    found: list[bytes | bytearray] = []
    at = 0
    for part in parts:
        if at >= end:
            break
        after = at + len(part)
        if after > begin:
            found.append(part if begin <= at and after <= end else part[max(0, begin - at) : end - at])
        at = after
    return bytes(found[0]) if len(found) == 1 else b"".join(found)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of at most 35 bits, and where it ends. A longer one is said to go beyond the end of any message."""
    value = shift = 0
    for byte in message[at : at + 5]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return _BEYOND, at


def _pairs(header_map: HeaderMap) -> Headers:
    try:
        return tuple([(h.key, h.raw_value.decode() or h.value) for h in header_map.headers])
    except UnicodeDecodeError:
        return _pairs_of_any_bytes(header_map)


def _pairs_of_any_bytes(header_map: HeaderMap) -> Headers:
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
    "full_duplex": ProcessingMode.FULL_DUPLEX_STREAMED,
}


def to_answers(event: Event, command: Command) -> tuple[bytes, ...]:
    """The encoded ProcessingResponses that answer `event`. It is one, except for a response body in full-duplex mode.
    Raises ValueError for an impossible command."""
    if command is CONTINUE:
        return _ONLY_CONTINUE[type(event)]
    match command:
        case Continue() | ImmediateResponse() | Replace():
            return (to_answer(event, command),)
        case Hold():
            return ()
        case Pass():
            return _passed(command)
        case Release():
            return _released(event, command)
        case _:
            assert_never(command)


def _passed(command: Pass) -> tuple[bytes, ...]:
    answer = _streamed(command.body, end=command.end)
    if command.metadata:
        metadata = _struct(command.metadata)
        answer = b"".join((answer, _OF_METADATA, varint(len(metadata)), metadata))
    return (answer, _CONTINUE[ResponseTrailers]) if command.trailers else (answer,)


_HELD = ResponseHeaders((), end=False)
_HELD_REQUEST = RequestHeaders((), end=False)


def _released(event: Event, command: Release) -> tuple[bytes, ...]:
    of_request = isinstance(event, RequestBody | RequestTrailers)
    released = _HELD_REQUEST if of_request else _HELD
    headers = Continue(command.set_headers, command.remove_headers, order=command.order, reroute=command.reroute)
    answers = [_CONTINUE[type(released)] if headers == CONTINUE else to_answer(released, headers)]
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
    match command:
        case Continue():
            if not command.set_headers and command == CONTINUE:
                return _CONTINUE[type(event)]
            return _continued(event, command)
        case ImmediateResponse():
            return _replied(command)
        case Replace():
            return _replaced(event, command)
        case Hold() | Release() | Pass():
            raise ValueError(f"{type(command).__name__} is no single answer")
        case _:
            assert_never(command)


def more_time(seconds: float) -> bytes:
    """An encoded ProcessingResponse that extends Envoy's timeout for the current message by `seconds`."""
    response = ProcessingResponse()
    response.override_message_timeout.FromNanoseconds(int(seconds * 1e9))
    return response.SerializeToString()


# The keys of the fields of an answer.
_OF_PHASE = {event: key(ProcessingResponse, field) for event, field in _PHASE.items()}
_OF_RESPONSE = key(HeadersResponse, "response")
"""The same in HeadersResponse and BodyResponse."""
_OF_TRAILERS = key(TrailersResponse, "header_mutation")
_OF_METADATA = key(ProcessingResponse, "dynamic_metadata")
_OF_MODE = key(ProcessingResponse, "mode_override")
_OF_HEADERS = key(CommonResponse, "header_mutation")
_OF_BODY_MUTATION = key(CommonResponse, "body_mutation")
_OF_BODY = key(BodyMutation, "body")
_OF_REPLY = key(ProcessingResponse, "immediate_response")
_OF_STATUS = key(ImmediateResponseMessage, "status")
_OF_REPLY_HEADERS = key(ImmediateResponseMessage, "headers")
_OF_REPLY_BODY = key(ImmediateResponseMessage, "body")
_OF_DETAILS = key(ImmediateResponseMessage, "details")
_OF_FIELDS = key(Struct, "fields")
_OF_ENTRY_KEY = key(Struct, "fields", "key")
_OF_ENTRY_VALUE = key(Struct, "fields", "value")
_OF_STRING = key(Value, "string_value")
_OF_STRUCT = key(Value, "struct_value")

_REROUTED = CommonResponse(clear_route_cache=True).SerializeToString()
# In proto3 an empty `body` is not encoded. `clear_body` represents it.
_CLEARED = CommonResponse(body_mutation=BodyMutation(clear_body=True)).SerializeToString()
_BOOLS = {value: Value(bool_value=value).SerializeToString() for value in (False, True)}
_NULL = Value(null_value=NULL_VALUE).SerializeToString()
_CODE = HttpStatus(code=cast("StatusCode", 1)).SerializeToString()[:1]
"""The key of the only field of HttpStatus."""


def _continued(event: Event, command: Continue) -> bytes:
    kind = type(event)
    if command.response_body is not None and kind is not RequestHeaders and kind is not ResponseHeaders:
        raise ValueError(f"response_body={command.response_body!r} in answer to {kind.__name__}")
    if kind is RequestTrailers or kind is ResponseTrailers:
        if command.body is not None or command.reroute:
            raise ValueError(f"a body or a new route in answer to {kind.__name__}")
        changes = _changes(command.set_headers, command.remove_headers)
        of_phase = _OF_TRAILERS + varint(len(changes)) + changes
        parts = [_OF_PHASE[kind] + varint(len(of_phase)), of_phase]
    else:
        if command.body is not None and kind is not RequestBody and kind is not ResponseBody:
            raise ValueError(f"a body in answer to {kind.__name__}; Replace gives one")
        parts = _common(command)
        size = sum(map(len, parts))
        before = _OF_RESPONSE + varint(size)
        parts[0] = _OF_PHASE[kind] + varint(len(before) + size) + before
    if command.metadata or command.order:
        metadata = _struct(command.metadata) if command.metadata else b""
        if command.order:
            metadata += _order(command.order)
        parts += (_OF_METADATA + varint(len(metadata)), metadata)
    if command.response_body is not None:
        parts.append(_override(command.response_body))
    return b"".join(parts)


def _common(command: Continue) -> list[bytes]:
    """The parts of a CommonResponse, and an empty one before them."""
    parts = [b""]
    if command.set_headers or command.remove_headers:
        changes = _changes(command.set_headers, command.remove_headers)
        parts += (_OF_HEADERS + varint(len(changes)), changes)
    body = command.body
    if body:
        before = _OF_BODY + varint(len(body))
        parts += (_OF_BODY_MUTATION + varint(len(before) + len(body)), before, body)
    elif body is not None:
        parts.append(_CLEARED)
    if command.reroute:
        parts.append(_REROUTED)
    return parts


def _replaced(event: Event, command: Replace) -> bytes:
    response = ProcessingResponse()
    match event:
        case RequestHeaders():
            common = response.request_headers.response
        case ResponseHeaders():
            common = response.response_headers.response
        case _:
            raise ValueError(f"Replace in answer to {type(event).__name__}")
    common.status = CommonResponse.CONTINUE_AND_REPLACE
    common.header_mutation.MergeFromString(_changes(command.set_headers, command.remove_headers))
    if command.body:
        common.body_mutation.body = command.body
    else:
        common.body_mutation.clear_body = True
    if command.metadata:
        response.dynamic_metadata.MergeFromString(_struct(command.metadata))
    return response.SerializeToString()


def _replied(command: ImmediateResponse) -> bytes:
    # Enums of proto3 accept unknown values: Envoy sends a status without a name in the enum (529) to the caller.
    code, body, details = _CODE + varint(command.status), command.body, command.details.encode()
    headers = _changes(command.headers)
    parts = [b"", _OF_STATUS + varint(len(code)), code, _OF_REPLY_HEADERS + varint(len(headers)), headers]
    parts += (_OF_REPLY_BODY + varint(len(body)), body, _OF_DETAILS + varint(len(details)), details)
    parts[0] = _OF_REPLY + varint(sum(map(len, parts)))
    if command.metadata:
        metadata = _struct(command.metadata)
        parts += (_OF_METADATA + varint(len(metadata)), metadata)
    return b"".join(parts)


@lru_cache(maxsize=_MOST_KNOWN)
def _removed(names: tuple[str, ...]) -> bytes:
    return HeaderMutation(remove_headers=names).SerializeToString()


# Concatenated protobuf messages are merged, so parts that are equal in most answers are encoded only once. A header
# value is never cached, because it may be a credential. The cached parts depend only on its length.
def _changes(pairs: Pairs, removed: tuple[str, ...] = ()) -> bytes:
    """An encoded HeaderMutation that sets and removes headers."""
    parts: list[bytes] = []
    repeats = len(dict(pairs)) < len(pairs)
    seen: set[str] = set()
    for name, value in pairs:
        try:
            raw = value.encode()
        except UnicodeEncodeError:
            raw = value.encode("utf-8", "surrogateescape")
        if repeats and name in seen:
            before, after = _around(name, len(raw), append=True)
        else:
            before, after = _around(name, len(raw))
            if repeats:
                seen.add(name)
        parts += (before, raw, after)
    if removed:
        parts.append(_removed(removed))
    return b"".join(parts)


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


@lru_cache
def _override(response_body: BodyMode) -> bytes:
    # An override replaces the whole mode, so the other fields repeat the configuration. Full duplex requires trailers.
    trailers = ProcessingMode.SEND if response_body == "full_duplex" else ProcessingMode.SKIP
    mode = ProcessingMode(
        request_header_mode=ProcessingMode.SEND,
        response_header_mode=ProcessingMode.SEND,
        request_body_mode=ProcessingMode.BUFFERED,
        response_body_mode=_BODY_MODE[response_body],
        request_trailer_mode=ProcessingMode.SKIP,
        response_trailer_mode=trailers,
    )
    return ProcessingResponse(mode_override=mode).SerializeToString()


def _struct(values: Mapping[str, object]) -> bytes:
    """An encoded Struct. Raises ValueError for a value that is not one of JSON's."""
    parts: list[bytes] = []
    for name, value in values.items():
        if type(value) is str:  # nearly all are
            raw = value.encode()
            encoded = _OF_STRING + varint(len(raw)) + raw
        else:
            encoded = _value(value)
        entry = _entry_key(name) + varint(len(encoded))
        parts += (_OF_FIELDS + varint(len(entry) + len(encoded)), entry, encoded)
    return b"".join(parts)


@lru_cache(maxsize=_MOST_KNOWN)
def _entry_key(name: str) -> bytes:
    """The bytes of an entry before the length of its value."""
    raw = name.encode()
    return _OF_ENTRY_KEY + varint(len(raw)) + raw + _OF_ENTRY_VALUE


def _value(value: object) -> bytes:
    match value:
        case bool():
            return _BOOLS[value]
        case str():
            return Value(string_value=value).SerializeToString()
        case dict() | Mapping():  # a dict first: a check of the abstract class takes longer
            struct = _struct(value)
            return _OF_STRUCT + varint(len(struct)) + struct
        case int() | float():
            return Value(number_value=value).SerializeToString()
        case None:
            return _NULL
        case list() | tuple():
            items = ListValue()
            for item in value:
                items.values.add().MergeFromString(_value(item))
            return Value(list_value=items).SerializeToString()
        case _:
            raise ValueError(f"metadata cannot hold a {type(value).__name__}")


@lru_cache(maxsize=_MOST_KNOWN)
def _order(clusters: tuple[str, ...]) -> bytes:
    """The order of clusters as the priority_group cluster specifier reads it: an encoded Struct."""
    groups = [{"name": f"{n}", "clusters": [{"cluster_name": c, "weight": 1}]} for n, c in enumerate(clusters, 1)]
    return _struct({ROUTE_NAMESPACE: {"priority_groups": groups}})
