"""Protobuf bytes to events and commands to protobuf bytes."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.errors import PeerError
from edge_extproc.exchange.commands import CONTINUE, HOLD, Command, Continue, ImmediateResponse, Pass, Release, Replace
from edge_extproc.exchange.events import (
    Event,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from edge_extproc.pb.core_pb2 import HeaderMap, HeaderValueOption
from edge_extproc.pb.ext_proc_filter_pb2 import ProcessingMode
from edge_extproc.pb.ext_proc_pb2 import CommonResponse, HeaderMutation, ProcessingRequest, ProcessingResponse
from edge_extproc.server import wire
from edge_extproc.server.rpc import Message
from edge_extproc.server.wire import ATTRIBUTES, to_answer, to_answers, to_event

EVENTS: tuple[Event, ...] = (
    RequestHeaders((), end=False),
    RequestBody(b"", end=True),
    RequestTrailers(),
    ResponseHeaders((), end=False),
    ResponseBody(b"", end=True),
    ResponseTrailers(),
)
PHASES = {
    RequestHeaders: "request_headers",
    RequestBody: "request_body",
    RequestTrailers: "request_trailers",
    ResponseHeaders: "response_headers",
    ResponseBody: "response_body",
    ResponseTrailers: "response_trailers",
}

# What HTTP lets through: no NUL, CR or LF; the bytes above ASCII in any order, UTF-8 or not.
values = st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\x00\r\n"))
names = st.text("abcdefghijklmnopqrstuvwxyz-:", min_size=1, max_size=12)
pairs = st.lists(st.tuples(names, values.map(lambda raw: raw.decode("utf-8", "surrogateescape"))), max_size=6).map(
    tuple
)


def header_map(found: tuple[tuple[str, str], ...]) -> HeaderMap:
    written = HeaderMap()
    for name, value in found:
        written.headers.add(key=name, raw_value=value.encode("utf-8", "surrogateescape"))
    return written


def answered(event: Event, command: Command) -> ProcessingResponse:
    return ProcessingResponse.FromString(to_answer(event, command))


def mutations(found: HeaderMutation) -> tuple[list[tuple[str, bytes]], list[str]]:
    return [(o.header.key, o.header.raw_value) for o in found.set_headers], list(found.remove_headers)


# --- what Envoy says


@given(found=pairs, end=st.booleans())
def test_headers_come_in_order_and_lose_nothing(found: tuple[tuple[str, str], ...], end: bool) -> None:
    request, response = ProcessingRequest(), ProcessingRequest()
    for headers in (request.request_headers, response.response_headers):
        headers.headers.CopyFrom(header_map(found))
        headers.end_of_stream = end

    assert to_event(request.SerializeToString()) == RequestHeaders(found, end)
    assert to_event(response.SerializeToString()) == ResponseHeaders(found, end)


def test_a_header_value_may_come_as_text() -> None:
    message = ProcessingRequest()
    message.request_headers.headers.headers.add(key="x-old", value="as old Envoys did")
    message.request_headers.headers.headers.add(key="x-empty")

    assert to_event(message.SerializeToString()) == RequestHeaders(
        (("x-old", "as old Envoys did"), ("x-empty", "")), end=False
    )


@given(body=st.binary(max_size=100), end=st.booleans())
def test_bodies_come_as_they_are(body: bytes, end: bool) -> None:
    request, response = ProcessingRequest(), ProcessingRequest()
    for found in (request.request_body, response.response_body):
        found.body = body
        found.end_of_stream = end
        found.SetInParent()

    assert to_event(request.SerializeToString()) == RequestBody(body, end)
    assert to_event(response.SerializeToString()) == ResponseBody(body, end)


def by_protobuf(message: bytes) -> Event | None:
    """The body that protobuf decodes. None: it is none."""
    try:
        request = ProcessingRequest.FromString(message)
    except DecodeError:
        return None
    match request.WhichOneof("request"):
        case "request_body":
            return RequestBody(request.request_body.body, request.request_body.end_of_stream)
        case "response_body":
            return ResponseBody(request.response_body.body, request.response_body.end_of_stream)
        case _:
            return None


def of_wire(message: Message) -> Event | None:
    try:
        event = to_event(message)
    except PeerError:
        return None
    return event if isinstance(event, RequestBody | ResponseBody) else None


LARGE = b"{" + b"x" * 70_000 + b"\xff}"


@given(
    kind=st.sampled_from(["request_body", "response_body"]),
    end=st.booleans(),
    more=st.sampled_from([None, "attributes", "metadata", "unknown"]),
    edits=st.lists(
        st.tuples(st.integers(0, 24), st.integers(0, 255), st.sampled_from(["put", "cut", "add"])), max_size=3
    ),
    at_end=st.booleans(),
    cuts=st.lists(st.one_of(st.integers(0, 24), st.integers(0, 70_100), st.integers(70_000, 70_100)), max_size=6),
)
def test_a_large_body_is_read_as_protobuf_reads_it(
    kind: str, end: bool, more: str | None, edits: list[tuple[int, int, str]], at_end: bool, cuts: list[int]
) -> None:
    """Whole and in parts, and damaged near its begin or its end."""
    request = ProcessingRequest()
    body = request.request_body if kind == "request_body" else request.response_body
    body.body, body.end_of_stream = LARGE, end
    if more == "attributes":
        request.attributes[ATTRIBUTES].fields["a"].string_value = "b"
    elif more == "metadata":
        request.metadata_context.filter_metadata["n"].fields["a"].number_value = 1
    message = bytearray(request.SerializeToString())
    message += b"\xfa\x7f\x01x" if more == "unknown" else b""
    assert of_wire(bytes(message)) == by_protobuf(bytes(message)) is not None
    for place, value, edit in edits:
        at = len(message) - 1 - place if at_end else place
        message[at : at + (edit != "add")] = b"" if edit == "cut" else bytes([value])

    places = [0, *sorted(cuts), len(message)]
    parts = tuple(bytes(message[a:b]) for a, b in itertools.pairwise(places))
    assert of_wire(bytes(message)) == of_wire(parts) == by_protobuf(bytes(message))


def test_a_body_of_two_fields_is_the_last_one() -> None:
    first, second = ProcessingRequest(), ProcessingRequest()
    first.request_body.body, second.response_body.body = LARGE, b"last"
    message = first.SerializeToString() + second.SerializeToString()

    assert ResponseBody(b"last", False) == to_event(message)


def test_trailers_are_told_without_their_content() -> None:
    request, response = ProcessingRequest(), ProcessingRequest()
    request.request_trailers.trailers.CopyFrom(header_map((("x-a", "b"),)))
    response.response_trailers.SetInParent()

    assert to_event(request.SerializeToString()) == RequestTrailers()
    assert to_event(response.SerializeToString()) == ResponseTrailers()


def test_attributes_are_plain_values_and_whole_numbers_are_int() -> None:
    message = ProcessingRequest()
    message.response_headers.SetInParent()
    message.attributes[ATTRIBUTES].update(
        {"response.code": 200, "ratio": 0.5, "huge": 1e300, "name": "prov_a", "tls": True, "none": None}
    )
    message.attributes["another.filter"].update({"response.code": 500})

    event = to_event(message.SerializeToString())

    assert isinstance(event, ResponseHeaders)
    assert event.attributes == {
        "response.code": 200,
        "ratio": 0.5,
        "huge": 1e300,
        "name": "prov_a",
        "tls": True,
        "none": None,
    }
    assert type(event.attributes["response.code"]) is int
    assert type(event.attributes["huge"]) is float


def test_metadata_is_told_by_namespace() -> None:
    message = ProcessingRequest()
    message.request_headers.SetInParent()
    message.metadata_context.filter_metadata["edge"].update({"id": "e1", "tries": [1, {"a": None}], "deep": {"b": 2}})
    message.metadata_context.filter_metadata["empty"].SetInParent()

    event = to_event(message.SerializeToString())

    assert isinstance(event, RequestHeaders)
    assert event.metadata == {"edge": {"id": "e1", "tries": [1, {"a": None}], "deep": {"b": 2}}, "empty": {}}


def test_without_attributes_and_metadata_there_are_none() -> None:
    message = ProcessingRequest()
    message.request_headers.SetInParent()

    assert to_event(message.SerializeToString()) == RequestHeaders((), end=False, attributes={}, metadata={})


def test_a_field_that_we_do_not_know_is_skipped() -> None:
    message = ProcessingRequest()
    message.request_body.body = b"x"
    # Field 12, flow_control_init, with an empty message.
    assert to_event(message.SerializeToString() + b"\x62\x00") == RequestBody(b"x", end=False)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_envoys_mistake(message: bytes) -> None:
    try:
        event = to_event(message)
    except PeerError:
        return

    assert isinstance(event, EVENTS_TYPES)


EVENTS_TYPES = tuple(PHASES)


@pytest.mark.parametrize(
    ("message", "told"),
    [(b"", "without a phase"), (b"\x0a", "not a ProcessingRequest"), (b"\x50\x01", "without a phase")],
    ids=["empty", "cut", "only observability_mode"],
)
def test_a_message_without_sense_is_envoys_mistake(message: bytes, told: str) -> None:
    with pytest.raises(PeerError, match=told):
        to_event(message)


# --- what we answer


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_plain_answer_only_says_which_phase_it_answers(event: Event) -> None:
    for command in (CONTINUE, Continue()):
        wanted = ProcessingResponse()
        getattr(wanted, PHASES[type(event)]).SetInParent()

        assert answered(event, command) == wanted


@given(to_set=pairs, to_remove=st.lists(names, max_size=3).map(tuple))
def test_header_changes_arrive_byte_for_byte(to_set: tuple[tuple[str, str], ...], to_remove: tuple[str, ...]) -> None:
    command = Continue(to_set, to_remove)
    wanted = ([(name, value.encode("utf-8", "surrogateescape")) for name, value in to_set], list(to_remove))

    for event in EVENTS:
        answer = getattr(answered(event, command), PHASES[type(event)])
        is_trailers = isinstance(event, RequestTrailers | ResponseTrailers)
        assert mutations(answer.header_mutation if is_trailers else answer.response.header_mutation) == wanted


def test_a_repeated_name_stands_beside_the_first() -> None:
    command = Continue((("set-cookie", "a=1"), ("x", "y"), ("set-cookie", "b=2")))

    options = answered(EVENTS[3], command).response_headers.response.header_mutation.set_headers

    assert [option.append.value for option in options] == [False, False, True]
    assert [option.append_action for option in options[:2]] == [HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD] * 2


@pytest.mark.parametrize(
    ("event", "command_of"),
    [
        (EVENTS[1], lambda key: Continue((("x-api-key", key), ("x-goog-api-key", key)))),
        (EVENTS[1], lambda key: Continue((("authorization", key), ("set-cookie", key), ("set-cookie", key)))),
        (EVENTS[0], lambda key: Replace((("api-key", key),), (), b"{}")),
        (EVENTS[0], lambda key: ImmediateResponse(401, (("www-authenticate", key),), b"{}", "edge_unauthenticated")),
    ],
    ids=["continue", "repeated", "replace", "reply"],
)
def test_of_a_credential_nothing_is_kept_but_its_length(event: Event, command_of: Callable[[str], Command]) -> None:
    class Key(str):
        """A plain string cannot be watched."""

    caches = [found for found in vars(wire).values() if hasattr(found, "cache_info")]
    to_answer(event, command_of("a" * 51))
    before = [found.cache_info().currsize for found in caches]

    key = Key("b" * 51)
    watched = weakref.ref(key)
    assert b"b" * 51 in to_answer(event, command_of(key))
    del key
    gc.collect()

    assert caches
    assert before == [found.cache_info().currsize for found in caches]
    assert watched() is None


@pytest.mark.parametrize("event", [EVENTS[1], EVENTS[4]], ids=["request", "response"])
def test_a_body_travels_and_an_empty_one_clears(event: Event) -> None:
    changed = getattr(answered(event, Continue(body=b"new")), PHASES[type(event)]).response
    cleared = getattr(answered(event, Continue(body=b"")), PHASES[type(event)]).response

    assert changed.body_mutation.body == b"new"
    assert cleared.body_mutation.WhichOneof("mutation") == "clear_body"
    assert changed.status == CommonResponse.CONTINUE
    # Envoy ignores header changes on streamed chunks, and a content-length is the exchange's to say.
    assert not changed.HasField("header_mutation")


def test_a_new_route_is_asked_for_beside_header_changes() -> None:
    answer = answered(EVENTS[1], Continue((("x", "y"),), reroute=True)).request_body.response

    assert answer.clear_route_cache
    assert mutations(answer.header_mutation) == ([("x", b"y")], [])


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [("none", ProcessingMode.NONE), ("streamed", ProcessingMode.STREAMED), ("buffered", ProcessingMode.BUFFERED)],
)
def test_a_mode_for_the_response_body_repeats_the_rest_of_the_configuration(mode: str, wanted: int) -> None:
    answer = answered(EVENTS[3], Continue(response_body=mode))

    assert answer.WhichOneof("response") == "response_headers"
    assert answer.mode_override == ProcessingMode(
        request_header_mode=ProcessingMode.SEND,
        request_body_mode=ProcessingMode.BUFFERED,
        request_trailer_mode=ProcessingMode.SKIP,
        response_header_mode=ProcessingMode.SEND,
        response_body_mode=wanted,
        response_trailer_mode=ProcessingMode.SKIP,
    )


def test_full_duplex_is_requested_with_trailers() -> None:
    mode = answered(EVENTS[3], Continue(response_body="full_duplex")).mode_override

    assert mode.response_body_mode == ProcessingMode.FULL_DUPLEX_STREAMED
    assert mode.response_trailer_mode == ProcessingMode.SEND


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
spaces = st.dictionaries(
    st.text(min_size=1, max_size=5), st.dictionaries(st.text(max_size=5), json_values, max_size=3), max_size=2
)


# A length takes one byte up to 127, and two up to 16,383.
lengths = st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 2_097_152])


def changes(to_set: tuple[tuple[str, str], ...], to_remove: tuple[str, ...] = ()) -> HeaderMutation:
    mutation, before = HeaderMutation(remove_headers=to_remove), set()
    for name, value in to_set:
        option = mutation.set_headers.add()
        option.header.key, option.header.raw_value = name, value.encode("utf-8", "surrogateescape")
        if name in before:
            option.append.value = True
        else:
            option.append_action = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        before.add(name)
    return mutation


@given(pairs, st.lists(names, max_size=3).map(tuple), st.none() | lengths, lengths, st.booleans())
def test_an_answer_with_everything_is_what_protobuf_builds(
    to_set: tuple[tuple[str, str], ...], to_remove: tuple[str, ...], body: int | None, text: int, reroute: bool
) -> None:
    to_set = (*to_set, ("x-long", "v" * text))
    content = None if body is None else b"b" * body
    metadata: dict[str, dict[str, object]] = {"edge": {"text": "t" * text, "n": 1}, "none": {}}
    command = Continue(to_set, to_remove, content, reroute=reroute, metadata=metadata, order=("a", "b" * text))

    for event in (EVENTS[1], EVENTS[4]):
        wanted = ProcessingResponse()
        common = getattr(wanted, PHASES[type(event)]).response
        common.header_mutation.CopyFrom(changes(to_set, to_remove))
        common.clear_route_cache = reroute
        if content:
            common.body_mutation.body = content
        elif content is not None:
            common.body_mutation.clear_body = True
        groups = [
            {"name": f"{n}", "clusters": [{"cluster_name": each, "weight": 1}]}
            for n, each in enumerate(command.order, 1)
        ]
        wanted.dynamic_metadata.update({**metadata, wire.ROUTE_NAMESPACE: {"priority_groups": groups}})
        assert answered(event, command) == wanted


@given(pairs, lengths, lengths, st.integers(100, 599))
def test_a_reply_is_what_protobuf_builds(
    headers: tuple[tuple[str, str], ...], body: int, text: int, status: int
) -> None:
    command = ImmediateResponse(status, headers, b"b" * body, "d" * text, metadata={"edge": {"text": "t" * text}})

    wanted = ProcessingResponse()
    wanted.immediate_response.status.code = status
    wanted.immediate_response.headers.CopyFrom(changes(headers))
    wanted.immediate_response.body, wanted.immediate_response.details = command.body, command.details
    wanted.dynamic_metadata.update(command.metadata)
    assert answered(EVENTS[0], command) == wanted


@given(spaces)
def test_metadata_that_we_set_comes_back_as_it_was(found: dict[str, dict[str, object]]) -> None:
    sent = answered(EVENTS[1], Continue((("x", "y"),), metadata=found)).dynamic_metadata
    message = ProcessingRequest()
    message.request_headers.SetInParent()
    for space, value in sent.fields.items():
        message.metadata_context.filter_metadata[space].CopyFrom(value.struct_value)

    event = to_event(message.SerializeToString())

    assert isinstance(event, RequestHeaders)
    assert event.metadata == found


def test_metadata_holds_json_alone() -> None:
    with pytest.raises(ValueError, match="cannot hold a bytes"):
        to_answer(EVENTS[1], Continue(metadata={"edge": {"x": b"raw"}}))


@pytest.mark.parametrize("event", [EVENTS[0], EVENTS[3]], ids=["request", "response"])
def test_a_replacement_carries_the_whole_message(event: Event) -> None:
    command = Replace((("x-key", "k"),), ("x-api-key",), b"whole", {"edge": {"content_length": "5"}})

    answer = answered(event, command)
    common = getattr(answer, PHASES[type(event)]).response

    assert common.status == CommonResponse.CONTINUE_AND_REPLACE
    assert mutations(common.header_mutation) == ([("x-key", b"k")], ["x-api-key"])
    assert common.body_mutation.body == b"whole"
    assert answer.dynamic_metadata["edge"]["content_length"] == "5"


def test_a_replacement_may_be_empty_and_say_nothing_else() -> None:
    answer = answered(EVENTS[3], Replace((), (), b""))

    assert answer.response_headers.response.body_mutation.clear_body
    assert not answer.HasField("dynamic_metadata")


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
@pytest.mark.parametrize("status", [200, 429, 529, 600])
def test_a_reply_answers_any_phase_with_any_status(event: Event, status: int) -> None:
    command = ImmediateResponse(status, (("content-type", "application/json"),), b"{}", "edge_test")

    answer = answered(event, command)

    assert answer.WhichOneof("response") == "immediate_response"
    assert answer.immediate_response.status.code == status
    assert mutations(answer.immediate_response.headers) == ([("content-type", b"application/json")], [])
    assert answer.immediate_response.body == b"{}"
    assert answer.immediate_response.details == "edge_test"


NO_SUCH_ANSWER = [
    (EVENTS[0], Continue(body=b"x")),
    (EVENTS[3], Continue(body=b"")),
    (EVENTS[2], Continue(body=b"x")),
    (EVENTS[5], Continue(reroute=True)),
    (EVENTS[1], Continue(response_body="streamed")),
    (EVENTS[4], Continue(response_body="none")),
    (EVENTS[1], Replace((), (), b"x")),
    (EVENTS[4], Replace((), (), b"x")),
    (EVENTS[5], Replace((), (), b"x")),
]


@pytest.mark.parametrize(("event", "command"), NO_SUCH_ANSWER)
def test_a_command_that_envoy_cannot_be_told_is_a_bug(event: Event, command: Command) -> None:
    with pytest.raises(ValueError, match=f"in answer to {type(event).__name__}"):
        to_answer(event, command)


# --- a response body in full duplex


def all_answered(event: Event, command: Command) -> list[ProcessingResponse]:
    return [ProcessingResponse.FromString(each) for each in to_answers(event, command)]


CHUNK = ResponseBody(b"x", end=False)


def test_to_hold_is_to_say_nothing() -> None:
    assert () == to_answers(CHUNK, HOLD)


def test_what_passes_is_streamed() -> None:
    (answer,) = all_answered(CHUNK, Pass(b"bytes", end=True))
    streamed = answer.response_body.response.body_mutation.streamed_response

    assert (b"bytes", True) == (streamed.body, streamed.end_of_stream)
    (empty,) = all_answered(CHUNK, Pass(b"", end=False))
    assert "streamed_response" == empty.response_body.response.body_mutation.WhichOneof("mutation")


def test_the_last_bytes_may_have_metadata_and_trailers_after_them() -> None:
    body, trailers = all_answered(
        ResponseTrailers(), Pass(b"bytes", end=False, trailers=True, metadata={"edge": {"cost_usd": "1"}})
    )

    assert b"bytes" == body.response_body.response.body_mutation.streamed_response.body
    assert body.dynamic_metadata["edge"]["cost_usd"] == "1"
    assert "response_trailers" == trailers.WhichOneof("response")


def test_a_release_answers_the_headers_first_and_then_the_body() -> None:
    released = Release(((":status", "503"),), ("content-length",), b"held", end=False, order=("first", "second"))
    headers, body = all_answered(CHUNK, released)

    changed = headers.response_headers.response.header_mutation
    assert [(":status", b"503")] == [(h.header.key, h.header.raw_value) for h in changed.set_headers]
    assert ["content-length"] == changed.remove_headers
    groups = headers.dynamic_metadata["edge.route"]["priority_groups"]
    assert ["first", "second"] == [group["clusters"][0]["cluster_name"] for group in groups]
    assert b"held" == body.response_body.response.body_mutation.streamed_response.body
    (alone,) = all_answered(CHUNK, Release())
    assert "response_headers" == alone.WhichOneof("response")


def test_every_other_command_has_one_answer() -> None:
    assert (to_answer(CHUNK, CONTINUE),) == to_answers(CHUNK, CONTINUE)
    for command in (HOLD, Pass(b"", end=False), Release()):
        with pytest.raises(ValueError, match="is no single answer"):
            to_answer(CHUNK, command)
