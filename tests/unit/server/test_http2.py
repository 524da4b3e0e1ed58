"""The workers' HTTP/2, against h2's client in memory, and against peers that break the rules."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.server.http2 import connection as http2_connection
from edge_extproc.server.http2 import frames as http2
from edge_extproc.server.http2.connection import Http2Connection
from edge_extproc.server.http2.frames import StreamFault
from edge_extproc.server.http2.request_head import read_timeout
from edge_extproc.server.http2.stream import Http2Stream
from edge_extproc.server.rpc import MAX_MESSAGE, Status, size_of, whole

HEAD = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "agent"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("x-edge-role", "router"),
    ("x-some-bin", "AAA="),
]


class Told(Http2Stream):
    """A stream that notes what it is told."""

    __slots__ = ("told",)

    def __init__(self, id: int, path: str, metadata: Mapping[str, str], send_window: int) -> None:
        super().__init__(id, path, metadata, send_window)
        self.told: list[str] = []

    def readable(self) -> None:
        self.told.append("readable")

    def left(self) -> None:
        self.told.append("left")

    def writable(self) -> None:
        self.told.append("writable")


class Pair:
    """A connection of ours and one of h2's, and what the latter saw."""

    def __init__(self) -> None:
        self.streams: list[Http2Stream] = []
        self.ours = Http2Connection(Told, self.streams.append)
        self.theirs = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.theirs.initiate_connection()
        self.events: list[Event] = []
        self.exchange()

    def exchange(self) -> None:
        """Until neither has anything more to say."""
        while True:
            out = self.theirs.data_to_send()
            if out:
                self.ours.receive(out)
            back = self.ours.take()
            if back:
                self.events += self.theirs.receive_data(back)
            if not out and not back:
                return

    def open(self, head: list[tuple[str, str]] = HEAD, *, end: bool = False) -> int:
        number = self.theirs.get_next_available_stream_id()
        self.theirs.send_headers(number, head, end_stream=end)
        self.exchange()
        return number

    def seen(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def answer(self) -> bytes:
        return b"".join(event.data for event in self.events if isinstance(event, DataReceived))

    def trailers(self) -> dict[str, str]:
        (event,) = self.seen(TrailersReceived)
        assert isinstance(event, TrailersReceived)
        return dict(event.headers)


def message(data: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(data)) + data


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def greeted() -> tuple[Http2Connection, list[Http2Stream]]:
    streams: list[Http2Stream] = []
    connection = Http2Connection(Told, streams.append)
    connection.receive(http2.PREFACE + frame(http2.SETTINGS, 0, 0))
    connection.take()
    return connection, streams


def begin(number: int = 1, flags: int = http2.END_HEADERS) -> bytes:
    return frame(http2.HEADERS, flags, number, Encoder().encode(HEAD))


# --- what must work


def test_a_call_is_told_with_its_path_and_its_text_metadata() -> None:
    pair = Pair()
    pair.open()
    (stream,) = pair.streams

    assert stream.path == "/a.B/C"
    assert stream.metadata["x-edge-role"] == "router"
    assert "x-some-bin" not in stream.metadata
    assert ":path" not in stream.metadata
    assert stream.timeout is None


def test_messages_pass_both_ways_and_trailers_end_the_call() -> None:
    pair = Pair()
    number = pair.open()
    pair.theirs.send_data(number, message(b"one") + message(b"") + message(b"three"), end_stream=True)
    pair.exchange()
    (stream,) = pair.streams
    assert list(stream.messages) == [b"one", b"", b"three"]
    assert stream.ended

    pair.ours.send_message(stream, b"answer")
    pair.ours.finish(stream, Status.OK)
    pair.ours.returned()
    pair.exchange()

    assert pair.answer() == message(b"answer")
    (head,) = pair.seen(ResponseReceived)
    assert isinstance(head, ResponseReceived)
    assert dict(head.headers) == {":status": "200", "content-type": "application/grpc"}
    assert pair.trailers() == {"grpc-status": "0"}
    assert pair.seen(StreamEnded)
    assert not pair.seen(StreamReset)


def test_a_call_that_is_answered_early_is_reset_without_an_error() -> None:
    pair = Pair()
    pair.open()
    pair.ours.finish(pair.streams[0], Status.INTERNAL, "a line\nand 100 % näher")
    pair.exchange()

    (head,) = pair.seen(ResponseReceived)
    assert isinstance(head, ResponseReceived)
    assert dict(head.headers)["grpc-status"] == "13"
    assert dict(head.headers)["grpc-message"] == "a line%0Aand 100 %25 n%C3%A4her"
    (reset,) = pair.seen(StreamReset)
    assert isinstance(reset, StreamReset)
    assert reset.error_code == http2.NO_ERROR


@given(
    messages=st.lists(st.binary(max_size=40_000), max_size=8),
    cuts=st.lists(st.integers(min_value=1, max_value=20_000), min_size=1, max_size=6),
)
def test_messages_are_put_together_however_they_were_cut(messages: list[bytes], cuts: list[int]) -> None:
    connection, streams = greeted()
    connection.receive(begin())
    data = b"".join(message(each) for each in messages)
    wire, at, turn = b"", 0, 0
    while at < len(data):
        size = min(cuts[turn % len(cuts)], http2.MAX_FRAME)
        wire += frame(http2.DATA, 0, 1, data[at : at + size])
        at, turn = at + size, turn + 1
    step = cuts[0]
    for start in range(0, len(wire), step):
        connection.receive(wire[start : start + step])

    assert not connection.closed
    assert list(streams[0].messages) == messages
    assert not streams[0].broken_off


@pytest.mark.parametrize("times", [160, 1_600], ids=["joined", "in parts"])
@pytest.mark.parametrize("cuts", [[1], [1_023], [1_024], [3, 16_384, 1, 2_000, 5], [16_384, 1]])
def test_a_message_of_many_frames_and_its_follower_come_whole(cuts: list[int], times: int) -> None:
    connection, streams = greeted()
    connection.receive(begin())
    large = bytes(range(256)) * times
    data, at, turn = message(large) + message(b"") + message(b"next") + message(large)[:7], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        connection.receive(frame(http2.DATA, 0, 1, data[at : at + size]))
        at, turn = at + size, turn + 1

    assert [large, b"", b"next"] == [whole(each) for each in streams[0].messages]
    assert len(large) + 4 == streams[0].unread
    assert streams[0].broken_off


def test_a_large_message_waits_for_the_peers_windows_and_passes_whole() -> None:
    pair = Pair()
    pair.open()
    (stream,) = pair.streams
    data = bytes(range(256)) * 8192
    pair.ours.send_message(stream, data)
    assert stream.blocked
    pair.ours.finish(stream, Status.OK)
    pair.exchange()
    assert not pair.seen(TrailersReceived)
    while stream.blocked:
        pair.theirs.increment_flow_control_window(65_535)
        pair.theirs.increment_flow_control_window(65_535, stream.id)
        pair.exchange()

    assert pair.answer() == message(data)
    assert pair.trailers() == {"grpc-status": "0"}
    assert isinstance(stream, Told)
    assert stream.told.count("writable") == 1


def test_streams_that_wait_share_the_connections_window() -> None:
    pair = Pair()
    pair.open()
    pair.open()
    for stream in pair.streams:
        pair.ours.send_message(stream, b"x" * 60_000)
        pair.ours.finish(stream, Status.OK)
    pair.exchange()
    assert [stream.blocked for stream in pair.streams] == [False, True]
    pair.theirs.increment_flow_control_window(65_535)
    pair.exchange()

    assert not pair.streams[1].blocked
    assert len(pair.seen(TrailersReceived)) == 2


def test_a_window_that_shrinks_below_nothing_is_waited_for() -> None:
    pair = Pair()
    pair.theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1_000})
    pair.exchange()
    pair.open()
    (stream,) = pair.streams
    pair.ours.send_message(stream, b"x" * 5_000)
    pair.theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
    pair.exchange()
    assert stream.blocked
    assert stream.send_window < 0
    pair.theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
    pair.exchange()

    assert pair.answer() == message(b"x" * 5_000)


def test_a_message_larger_than_the_window_comes_in_whole() -> None:
    pair = Pair()
    number = pair.open()
    data = message(b"x" * (3 * http2.STREAM_WINDOW))
    while data:
        size = min(len(data), pair.theirs.local_flow_control_window(number), http2.MAX_FRAME)
        assert size, "the window is not filled up"
        pair.theirs.send_data(number, data[:size])
        data = data[size:]
        pair.exchange()

    assert [size_of(each) for each in pair.streams[0].messages] == [3 * http2.STREAM_WINDOW]


def test_messages_that_nobody_reads_close_the_window_and_reading_opens_it() -> None:
    pair = Pair()
    number = pair.open()
    (stream,) = pair.streams
    each = message(b"x" * 16_000)
    sent = 0
    while pair.theirs.local_flow_control_window(number) >= len(each):
        pair.theirs.send_data(number, each)
        pair.exchange()
        sent += 1
        assert sent < 1_000, "the window is filled up though nobody reads"
    while stream.messages:
        pair.ours.was_read(stream, len(stream.messages.popleft()))
    pair.exchange()

    assert pair.theirs.local_flow_control_window(number) >= http2.STREAM_WINDOW // 2
    # The other streams never felt it.
    assert pair.theirs.outbound_flow_control_window > http2.CONNECTION_WINDOW // 4


def test_what_was_sent_before_a_reset_is_told_as_left() -> None:
    pair = Pair()
    number = pair.open()
    pair.theirs.reset_stream(number)
    pair.exchange()
    (stream,) = pair.streams
    assert isinstance(stream, Told)
    assert stream.told == ["left"]
    assert stream.gone

    pair.ours.send_message(stream, b"too late")
    pair.ours.finish(stream, Status.OK)
    assert pair.ours.take() == b""


def test_our_settings_are_told() -> None:
    (event,) = Pair().seen(RemoteSettingsChanged)
    assert isinstance(event, RemoteSettingsChanged)
    told = {code: changed.new_value for code, changed in event.changed_settings.items()}

    assert told[SettingCodes.MAX_CONCURRENT_STREAMS] == 10_000
    assert told[SettingCodes.INITIAL_WINDOW_SIZE] == http2.STREAM_WINDOW


def test_a_ping_is_answered_with_what_it_held() -> None:
    connection, _ = greeted()
    connection.receive(frame(http2.PING, 0, 0, b"12345678"))

    assert connection.take() == frame(http2.PING, http2.ACK, 0, b"12345678")


def test_draining_serves_what_is_on_its_way_and_refuses_what_comes_after() -> None:
    connection, streams = greeted()
    connection.drain()
    connection.take()
    connection.receive(begin(1))
    assert len(streams) == 1
    connection.receive(frame(http2.PING, http2.ACK, 0, b"draining"))
    assert connection.take() == frame(http2.GOAWAY, 0, 0, struct.pack(">II", 1, http2.NO_ERROR))
    assert not connection.drained
    connection.receive(begin(3))

    assert connection.take() == frame(http2.RST_STREAM, 0, 3, struct.pack(">I", http2.REFUSED_STREAM))
    assert len(streams) == 1
    connection.finish(streams[0], Status.OK)
    connection.returned()
    assert connection.drained


def test_a_call_counts_as_open_until_its_method_has_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_connection, "MAX_STREAMS", 2)
    connection, streams = greeted()
    for number in (1, 3):
        connection.receive(begin(number) + frame(http2.RST_STREAM, 0, number, b"\0\0\0\0"))
    connection.receive(begin(5))
    assert connection.take() == frame(http2.RST_STREAM, 0, 5, struct.pack(">I", http2.REFUSED_STREAM))
    connection.returned()
    connection.receive(begin(7))

    assert [stream.id for stream in streams] == [1, 3, 7]


def test_headers_in_many_frames_padded_and_with_a_priority_are_put_together() -> None:
    connection, streams = greeted()
    block = Encoder().encode(HEAD)
    first = b"\x03" + struct.pack(">IB", 0, 15) + block[:10] + b"\0\0\0"
    connection.receive(
        frame(http2.HEADERS, http2.PADDED | http2.WITH_PRIORITY, 1, first)
        + frame(http2.CONTINUATION, 0, 1, block[10:20])
        + frame(http2.CONTINUATION, http2.END_HEADERS, 1, block[20:])
        + frame(http2.DATA, http2.PADDED, 1, b"\x02" + message(b"x") + b"\0\0")
    )

    assert streams[0].metadata["x-edge-role"] == "router"
    assert list(streams[0].messages) == [b"x"]


# --- what must not


@pytest.mark.parametrize(
    ("name", "wire", "code"),
    [
        ("DATA of an idle stream", frame(http2.DATA, 0, 1, b"x"), http2.PROTOCOL_ERROR),
        ("RST_STREAM of an idle stream", frame(http2.RST_STREAM, 0, 1, b"\0\0\0\0"), http2.PROTOCOL_ERROR),
        ("WINDOW_UPDATE of an idle stream", frame(http2.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), http2.PROTOCOL_ERROR),
        ("an even stream", begin(2), http2.PROTOCOL_ERROR),
        ("stream 0", begin(0), http2.PROTOCOL_ERROR),
        ("a push", frame(http2.PUSH_PROMISE, 0, 1, b"\0\0\0\2"), http2.PROTOCOL_ERROR),
        ("PING of a stream", frame(http2.PING, 0, 1, b"12345678"), http2.PROTOCOL_ERROR),
        ("a short PING", frame(http2.PING, 0, 0, b"1234"), http2.FRAME_SIZE_ERROR),
        ("SETTINGS of a stream", frame(http2.SETTINGS, 0, 1), http2.PROTOCOL_ERROR),
        ("odd SETTINGS", frame(http2.SETTINGS, 0, 0, b"12345"), http2.FRAME_SIZE_ERROR),
        ("a wordy ACK", frame(http2.SETTINGS, 1, 0, b"123456"), http2.FRAME_SIZE_ERROR),
        ("a bad push setting", frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), http2.PROTOCOL_ERROR),
        ("a tiny frame size", frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 5, 100)), http2.PROTOCOL_ERROR),
        ("a window of 2^31", frame(http2.SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), http2.FLOW_CONTROL_ERROR),
        ("an update by nothing", frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), http2.PROTOCOL_ERROR),
        ("an update too far", frame(http2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), http2.FLOW_CONTROL_ERROR),
        ("a short update", frame(http2.WINDOW_UPDATE, 0, 0, b"\0\0\1"), http2.FRAME_SIZE_ERROR),
        ("GOAWAY of a stream", frame(http2.GOAWAY, 0, 1, b"\0" * 8), http2.PROTOCOL_ERROR),
        ("PRIORITY of nothing", frame(http2.PRIORITY, 0, 0, b"\0" * 5), http2.PROTOCOL_ERROR),
        ("a short PRIORITY", frame(http2.PRIORITY, 0, 1, b"\0" * 4), http2.FRAME_SIZE_ERROR),
        ("CONTINUATION of nothing", frame(http2.CONTINUATION, 4, 1, b""), http2.PROTOCOL_ERROR),
        ("an interrupted block", begin(1, 0) + frame(http2.PING, 0, 0, b"12345678"), http2.PROTOCOL_ERROR),
        ("a block of another", begin(1, 0) + frame(http2.CONTINUATION, 4, 3, b""), http2.PROTOCOL_ERROR),
        ("no header block", frame(http2.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"), http2.COMPRESSION_ERROR),
        ("too short for a priority", frame(http2.HEADERS, 0x24, 1, b"\0"), http2.FRAME_SIZE_ERROR),
        ("padding alone", begin(1) + frame(http2.DATA, http2.PADDED, 1, b"\x05abc"), http2.PROTOCOL_ERROR),
        ("a long frame", struct.pack(">I", 16_385)[1:] + b"\0\0\0\0\0\1", http2.FRAME_SIZE_ERROR),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_rule_of_the_connection_ends_it(name: str, wire: bytes, code: int) -> None:
    connection, streams = greeted()
    connection.receive(wire)

    assert connection.closed
    end = connection.take()
    at = end.rindex(struct.pack(">BBI", http2.GOAWAY, 0, 0)) + 6
    assert struct.unpack_from(">II", end, at)[1] == code
    assert all(stream.gone for stream in streams)
    connection.receive(begin(9))
    assert connection.take() == b""


@pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + begin()])
def test_what_does_not_begin_as_http2_is_hung_up_on(hello: bytes) -> None:
    connection = Http2Connection(Told, lambda _: None)
    connection.receive(hello)

    assert connection.closed


def test_a_preface_may_come_byte_by_byte() -> None:
    connection = Http2Connection(Told, lambda _: None)
    for byte in http2.PREFACE + frame(http2.SETTINGS, 0, 0):
        connection.receive(bytes((byte,)))

    assert connection.greeted
    assert not connection.closed


def test_endless_headers_are_stopped() -> None:
    connection, _ = greeted()
    connection.receive(frame(http2.HEADERS, 0, 1, b"\0" * 16_000))
    for _ in range(10):
        connection.receive(frame(http2.CONTINUATION, 0, 1, b"\0" * 16_000))

    assert connection.closed
    assert struct.pack(">I", http2.ENHANCE_YOUR_CALM) in connection.take()


def test_headers_that_unpack_to_too_much_are_stopped() -> None:
    connection, streams = greeted()
    encoder = Encoder()
    block = encoder.encode([*HEAD, ("x", "y" * 3_000)]) + b"\xbe" * 100  # a hundred times the entry last made
    connection.receive(frame(http2.HEADERS, http2.END_HEADERS, 1, block))

    assert connection.closed
    assert streams == []


@pytest.mark.parametrize(
    "noise",
    [
        frame(http2.PING, 0, 0, b"12345678"),
        frame(http2.SETTINGS, 0, 0),
        frame(http2.PRIORITY, 0, 1, b"\0" * 5),
        frame(http2.DATA, 0, 1),
        frame(http2.WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
    ],
    ids=["PING", "SETTINGS", "PRIORITY", "empty DATA", "WINDOW_UPDATE"],
)
def test_a_peer_that_only_makes_noise_is_hung_up_on(noise: bytes) -> None:
    connection, _ = greeted()
    connection.receive(begin())
    for _ in range(11):
        connection.receive(noise * 1_000)
        connection.take()

    assert connection.closed


def test_a_connection_that_only_waits_is_kept() -> None:
    connection, _ = greeted()
    for _ in range(http2.MAX_IDLE_FRAMES + 1):
        connection.receive(frame(http2.PING, 0, 0, b"12345678"))
        connection.take()

    assert not connection.closed


def test_a_peer_that_sends_more_than_the_window_is_stopped() -> None:
    connection, streams = greeted()
    connection.receive(begin())
    chunk = message(b"x" * 16_000)
    for _ in range(http2.STREAM_WINDOW // len(chunk) * 2 + 4):
        connection.receive(frame(http2.DATA, 0, 1, chunk))

    assert streams[0].gone
    assert not connection.closed
    assert struct.pack(">I", http2.FLOW_CONTROL_ERROR) in connection.take()


@pytest.mark.parametrize(
    ("data", "end", "status"),
    [
        (message(b"zip", compressed=1), False, b"12"),
        (struct.pack(">BI", 0, MAX_MESSAGE + 1), False, b"8"),
        (message(b"whole") + b"\0\0", True, b"13"),
    ],
    ids=["compressed", "too large", "cut"],
)
def test_a_message_that_cannot_be_taken_ends_its_call(data: bytes, end: bool, status: bytes) -> None:
    connection, streams = greeted()
    connection.receive(begin())
    connection.receive(frame(http2.DATA, http2.END_STREAM if end else 0, 1, data))

    assert streams[0].gone
    assert b"grpc-status" + bytes((len(status),)) + status in connection.take()
    connection.receive(begin(3))
    assert len(streams) == 2


@pytest.mark.parametrize(
    "head",
    [
        [*HEAD, (":path", "/late")],
        [*HEAD[:4], (":path", "/twice"), *HEAD[4:]],
        [(":status", "200"), *HEAD],
        [*HEAD, ("X-Upper", "x")],
        [*HEAD, ("connection", "close")],
        [*HEAD, ("te", "gzip")],
        [*HEAD, ("grpc-timeout", "soon")],
        HEAD[1:],
    ],
    ids=["late", "twice", "of a response", "upper", "hop", "te", "timeout", "no method"],
)
def test_a_malformed_request_is_reset(head: list[tuple[str, str]]) -> None:
    connection, streams = greeted()
    connection.receive(frame(http2.HEADERS, http2.END_HEADERS, 1, Encoder().encode(head)))

    assert connection.take() == frame(http2.RST_STREAM, 0, 1, struct.pack(">I", http2.PROTOCOL_ERROR))
    assert streams == []
    connection.receive(begin(3))
    assert len(streams) == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ([(":method", "GET"), *HEAD[1:]], "405"),
        ([pair for pair in HEAD if pair[0] != "content-type"], "415"),
    ],
    ids=["GET", "no content-type"],
)
def test_who_does_not_speak_grpc_is_told_so_in_http(head: list[tuple[str, str]], status: str) -> None:
    pair = Pair()
    pair.open(head, end=True)
    (event,) = pair.seen(ResponseReceived)
    assert isinstance(event, ResponseReceived)

    assert dict(event.headers) == {":status": status}
    assert not pair.seen(ConnectionTerminated)
    assert pair.streams == []


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_noise_never_raises(parts: list[bytes]) -> None:
    connection, _ = greeted()
    for part in parts:
        connection.receive(part)
        connection.take()


@given(
    st.lists(
        st.builds(
            frame,
            st.integers(0, 11),
            st.integers(0, 255),
            st.integers(0, 6),
            st.one_of(st.binary(max_size=40), st.just(Encoder().encode(HEAD)), st.just(message(b"hello"))),
        ),
        max_size=30,
    )
)
def test_frames_at_random_never_raise_and_leave_no_stream_half_told(frames: list[bytes]) -> None:
    connection, streams = greeted()
    for each in frames:
        connection.receive(each)
        for stream in streams:
            if not stream.gone and stream.messages:
                connection.send_message(stream, stream.messages.popleft())
    connection.take()
    connection.lost()

    for stream in streams:
        assert isinstance(stream, Told)
        assert stream.told.count("left") <= 1
        assert stream.gone or stream.finished


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2S", 2.0), ("150m", 0.15), ("1H", 3600.0), ("5M", 300.0), ("7u", 7e-6), ("99999999n", 0.099999999)],
)
def test_a_timeout_is_read(text: str, seconds: float) -> None:
    assert read_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "S", "2", "-1S", "1.5S", "123456789S", "2s", "٣S"])
def test_a_timeout_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StreamFault):
        read_timeout(text)
