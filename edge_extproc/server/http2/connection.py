"""HTTP/2 as a gRPC server needs it, without IO: it takes bytes, returns messages, and collects the bytes to send.

It implements frames (RFC 9113), headers (RFC 7541, `header_blocks`) and gRPC over HTTP/2. The server sends only header
blocks without compression state, data and trailers. A peer that violates a rule of the connection gets a GOAWAY with
the reason; one that violates a rule of a stream gets that stream reset.

Envoy resets each of its streams when it needs no more answers, so resets are no sign of an attack. The work that a peer
can cause is bounded differently: a stream counts as open until its method has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from ..rpc import MAX_STREAMS, CallRefused, Status
from .frames import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECTION_WINDOW,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    DRAINING,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FEW_IDLE_FRAMES,
    FLOW_CONTROL_ERROR,
    FRAME,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    LAST_STREAM,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_HEADERS,
    MAX_IDLE_FRAMES,
    NO_ERROR,
    OK_TRAILERS,
    PADDED,
    PING,
    PREFACE,
    PREFIX,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RESPONSE_HEAD,
    RESPONSE_HEADERS,
    RST_STREAM,
    SETTING,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_WINDOW,
    U32,
    WINDOW_UPDATE,
    ConnectionFault,
    StreamFault,
    _frame,
    header_block_of,
    literal,
    unpadded,
)
from .header_blocks import BadBlock, Fields, HeaderDecoder, TooManyHeaders
from .request_head import RequestHead
from .stream import Http2Stream


class Http2Connection:
    """`new_stream` creates a stream of its arguments. `opened` is called with each stream that may be served, before
    its messages arrive. After `receive`, and after each send, `take` returns the bytes for the peer."""

    def __init__(
        self,
        new_stream: Callable[[int, str, Mapping[str, str], int], Http2Stream],
        opened: Callable[[Http2Stream], None],
    ) -> None:
        self._new_stream = new_stream
        self._opened = opened
        self._buffer = b""
        self._out: list[bytes] = []
        self._streams: dict[int, Http2Stream] = {}
        self._blocked: dict[int, Http2Stream] = {}
        self._headers = HeaderDecoder(MAX_HEADERS)
        self._last = 0
        """The highest stream id that the peer has used."""
        self._begun: tuple[int, int, bytearray] | None = None
        """An incomplete header block: stream, flags, bytes so far."""
        self._receive_window = CONNECTION_WINDOW
        self._send_window = DEFAULT_WINDOW
        self._initial_window = DEFAULT_WINDOW
        self._max_frame = MAX_FRAME
        self._idle_frames = 0
        self._working = 0
        self._refusing = False
        self.greeted = False
        """Whether the peer's preface and settings have arrived."""
        self.closed = False
        """Whether reading has ended. `take` then returns the last bytes."""
        self._send(_frame(SETTINGS, 0, 0, self._settings()))
        self._send(_frame(WINDOW_UPDATE, 0, 0, U32.pack(CONNECTION_WINDOW - DEFAULT_WINDOW)))

    @staticmethod
    def _settings() -> bytes:
        ours = (
            (ENABLE_PUSH, 0),
            (MAX_CONCURRENT_STREAMS, MAX_STREAMS),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (MAX_HEADER_LIST_SIZE, MAX_HEADERS),
        )
        return b"".join(SETTING.pack(name, value) for name, value in ours)

    # --- called by the transport

    def receive(self, data: bytes) -> None:
        """Processes bytes from the peer, in any portions."""
        if self.closed:
            return
        idle = self._idle_frames
        try:
            self._receive(self._buffer + data if self._buffer else data)
        except ConnectionFault as fault:
            self.fail(fault.code, fault.text)
        if self._idle_frames - idle < FEW_IDLE_FRAMES:
            self._idle_frames = 0  # an occasional PING on an idle connection

    def take(self) -> bytes:
        """The bytes to send; empty if there are none."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def fail(self, code: int, text: str) -> None:
        """Ends the connection."""
        self._send(_frame(GOAWAY, 0, 0, U32.pack(self._last) + U32.pack(code) + text.encode()))
        self.lost()

    def lost(self) -> None:
        """Marks the connection as lost."""
        self.closed = True
        self._blocked.clear()
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.gone = True
            stream.left()

    def drain(self) -> None:
        """Requests that the peer opens no more streams. Streams that are already on their way are served. The
        connection stops accepting streams when the peer answers a PING, which it does after them."""
        self._send(_frame(GOAWAY, 0, 0, U32.pack(LAST_STREAM) + U32.pack(NO_ERROR)))
        self._send(_frame(PING, 0, 0, DRAINING))

    @property
    def drained(self) -> bool:
        """Whether the peer opens no more streams and the last method has returned."""
        return self._refusing and not self._working

    def send_message(self, stream: Http2Stream, message: bytes) -> None:
        """Sends a message. Does nothing if the peer has left."""
        if stream.gone or stream.finished:
            return
        self._send_headers(stream)
        size = len(message) + PREFIX.size
        if stream.blocked or size > self._max_frame or size > self._send_window or size > stream.send_window:
            stream._out += PREFIX.pack(0, len(message))
            stream._out += message
            self._push(stream)
            return
        self._send_window -= size
        stream.send_window -= size
        self._send(FRAME.pack(size >> 8, size & 0xFF, DATA, 0, stream.id) + PREFIX.pack(0, len(message)) + message)

    def finish(self, stream: Http2Stream, status: Status, details: str = "") -> None:
        """Ends a call after the bytes that are already queued."""
        if stream.gone or stream.finished:
            return
        stream.finished = True
        trailers = OK_TRAILERS if status is Status.OK else literal(b"grpc-status", b"%d" % status)
        if details:
            # Percent-encoded UTF-8: gRPC allows fewer characters than HTTP/2.
            trailers += literal(b"grpc-message", quote(details, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode())
        stream._trailers = trailers
        self._push(stream)

    def returned(self) -> None:
        """Marks the method of an opened stream as returned."""
        self._working -= 1

    def was_read(self, stream: Http2Stream, size: int) -> None:
        """Records that a message of `size` bytes was read, for flow control."""
        stream.unread -= size
        if stream.receive_window < STREAM_WINDOW // 2:
            self._fill(stream)

    # --- received frames

    def _receive(self, data: bytes) -> None:
        at, end = 0, len(data)
        if not self.greeted:
            if data[: len(PREFACE)] != PREFACE[:end]:
                raise ConnectionFault(PROTOCOL_ERROR, "this is not HTTP/2")
            if end < len(PREFACE) + FRAME.size:
                self._buffer = data
                return
            at = len(PREFACE)
            if data[at + 3] != SETTINGS or data[at + 4] & ACK:
                raise ConnectionFault(PROTOCOL_ERROR, "no SETTINGS after the preface")
            self.greeted = True
        unpack, head = FRAME.unpack_from, FRAME.size
        while end - at >= head:
            upper, lower, kind, flags, number = unpack(data, at)
            size = upper << 8 | lower
            if size > MAX_FRAME:
                raise ConnectionFault(FRAME_SIZE_ERROR, f"a frame of {size} bytes; {MAX_FRAME} at most")
            at += head
            if end - at < size:
                at -= head
                break
            payload = data[at : at + size]
            at += size
            number &= LAST_STREAM  # the highest bit is reserved
            if self._begun is not None and kind != CONTINUATION:
                raise ConnectionFault(PROTOCOL_ERROR, "a header block was interrupted")
            if kind == DATA:
                self._data(flags, number, payload)
            elif kind <= CONTINUATION:
                self._others[kind](self, flags, number, payload)
                if self.closed:
                    return
        self._buffer = data[at:]

    def _idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that bring nothing on")

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if not 0 < number <= self._last:
            raise ConnectionFault(PROTOCOL_ERROR, "DATA for a stream that has not begun")
        self._receive_window -= size
        if self._receive_window < CONNECTION_WINDOW // 2:
            if self._receive_window < 0:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "more bytes than the connection's window")
            self._send(_frame(WINDOW_UPDATE, 0, 0, U32.pack(CONNECTION_WINDOW - self._receive_window)))
            self._receive_window = CONNECTION_WINDOW
        if flags & PADDED:
            payload = unpadded(payload)
        stream = self._streams.get(number)
        if stream is None:
            return  # the stream was reset or answered while this frame was on its way
        if stream.ended:
            self._reset(stream, STREAM_CLOSED)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self._reset(stream, FLOW_CONTROL_ERROR)
            return
        if payload:
            self._idle_frames = 0
        elif not flags & END_STREAM:
            self._idle()
        if stream.finished:
            return  # data after the last answer is not read, and the stream's window is not refilled
        try:
            stream.assemble(payload)
        except CallRefused as refused:
            self._refuse(stream, refused)
            return
        if flags & END_STREAM:
            self._ended(stream)
        elif stream.receive_window < STREAM_WINDOW // 2:
            self._fill(stream)
        stream.readable()

    def _fill(self, stream: Http2Stream) -> None:
        """Refills the window. An incomplete message is received completely; complete messages wait until they are
        read."""
        if stream.unread < STREAM_WINDOW and not (stream.ended or stream.gone or stream.finished):
            self._send(_frame(WINDOW_UPDATE, 0, stream.id, U32.pack(STREAM_WINDOW - stream.receive_window)))
            stream.receive_window = STREAM_WINDOW

    def _ended(self, stream: Http2Stream) -> None:
        stream.ended = True
        if stream.broken_off:
            self._refuse(stream, CallRefused(Status.INTERNAL, "the stream ended within a message"))
        elif stream.finished and not stream.blocked:
            self._streams.pop(stream.id, None)

    def _headers_frame(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "clients' streams have odd numbers")
        payload = header_block_of(flags, payload)
        if flags & END_HEADERS:
            self._header_block(flags, number, payload)
        else:
            self._begun = (number, flags, bytearray(payload))

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._begun is None or self._begun[0] != number:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block = self._begun
        block += payload
        if len(block) > MAX_HEADERS:
            raise ConnectionFault(ENHANCE_YOUR_CALM, f"a header block of more than {MAX_HEADERS} bytes")
        self._idle()
        if flags & END_HEADERS:
            self._begun = None
            self._header_block(first_flags, number, bytes(block))

    def _header_block(self, flags: int, number: int, block: bytes) -> None:
        # Each block is decoded, also for a refused stream, because later blocks depend on the table.
        try:
            fields = self._headers.decode(block)
        except TooManyHeaders:
            raise ConnectionFault(ENHANCE_YOUR_CALM, f"more than {MAX_HEADERS} bytes of headers") from None
        except BadBlock:
            raise ConnectionFault(COMPRESSION_ERROR, "a header block that cannot be decoded") from None
        if number <= self._last:
            self._trailers(flags, number, fields)
            return
        self._last = number
        self._idle_frames = 0
        if self._refusing or self._working >= MAX_STREAMS:
            self._send(_frame(RST_STREAM, 0, number, U32.pack(REFUSED_STREAM)))
            return
        try:
            head = RequestHead(fields)
        except StreamFault as fault:
            self._send(_frame(RST_STREAM, 0, number, U32.pack(fault.code)))
            return
        if head.http_status is not None:
            # The request is not gRPC: answer with an HTTP status.
            self._send(_frame(HEADERS, END_HEADERS | END_STREAM, number, literal(b":status", head.http_status)))
            if not flags & END_STREAM:
                self._send(_frame(RST_STREAM, 0, number, U32.pack(NO_ERROR)))
            return
        stream = self._new_stream(number, head.path, head.metadata, self._initial_window)
        stream.timeout = head.timeout
        stream.ended = bool(flags & END_STREAM)
        self._streams[number] = stream
        self._working += 1
        self._opened(stream)

    def _trailers(self, flags: int, number: int, fields: Fields) -> None:
        """A second header block of a stream (trailers), whose content is not used."""
        stream = self._streams.get(number)
        if stream is None:
            return  # the server reset the stream while this frame was on its way
        if stream.ended or not flags & END_STREAM or any(name[:1] == b":" for name, _ in fields):
            self._reset(stream, PROTOCOL_ERROR)
            return
        self._ended(stream)
        stream.readable()

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if not number:
            raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise ConnectionFault(FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
        self._idle()

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if not 0 < number <= self._last:
            raise ConnectionFault(PROTOCOL_ERROR, "RST_STREAM of a stream that has not begun")
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._leave(stream)
        else:
            self._idle()

    def _settings_frame(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS that says something")
            return
        if len(payload) % SETTING.size:
            raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        self._idle()
        for name, value in SETTING.iter_unpack(payload):
            if name == ENABLE_PUSH and value > 1:
                raise ConnectionFault(PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
            if name == MAX_FRAME_SIZE:
                if not MAX_FRAME <= value < 2**24:
                    raise ConnectionFault(PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
                self._max_frame = value
            elif name == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise ConnectionFault(FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE of {value}")
                change, self._initial_window = value - self._initial_window, value
                for stream in self._streams.values():
                    stream.send_window += change
                    if stream.send_window > LARGEST_WINDOW:
                        raise ConnectionFault(FLOW_CONTROL_ERROR, "a window of 2^31 bytes and more")
        self._send(_frame(SETTINGS, ACK, 0))
        self._push_blocked()

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        del flags, number, payload
        raise ConnectionFault(PROTOCOL_ERROR, "a client must not push")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "PING of a wrong size")
        self._idle()
        if not flags & ACK:
            self._send(_frame(PING, ACK, 0, payload))
        elif payload == DRAINING and not self._refusing:
            self._refusing = True
            self._send(_frame(GOAWAY, 0, 0, U32.pack(self._last) + U32.pack(NO_ERROR)))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        """The peer opens no more streams. Open streams continue."""
        del flags, payload
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY of a stream")
        self._idle()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        increment = U32.unpack(payload)[0] & LARGEST_WINDOW
        if number == 0:
            if not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._send_window += increment
            if self._send_window > LARGEST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "a window of 2^31 bytes and more")
            self._push_blocked()
            return
        if number > self._last:
            raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE of a stream that has not begun")
        stream = self._streams.get(number)
        if stream is None:
            self._idle()
            return
        stream.send_window += increment
        if not increment:
            self._reset(stream, PROTOCOL_ERROR)
        elif stream.send_window > LARGEST_WINDOW:
            self._reset(stream, FLOW_CONTROL_ERROR)
        elif stream.id in self._blocked:
            self._push(stream)
        else:
            self._idle()

    _others: Final = {
        HEADERS: _headers_frame,
        PRIORITY: _priority,
        RST_STREAM: _rst_stream,
        SETTINGS: _settings_frame,
        PUSH_PROMISE: _push_promise,
        PING: _ping,
        GOAWAY: _goaway,
        WINDOW_UPDATE: _window_update,
        CONTINUATION: _continuation,
    }

    # --- sent frames

    def _send(self, frame: bytes) -> None:
        self._out.append(frame)

    def _send_headers(self, stream: Http2Stream) -> None:
        if not stream.headers_sent:
            stream.headers_sent = True
            self._send(RESPONSE_HEAD + U32.pack(stream.id) + RESPONSE_HEADERS)

    def _push_blocked(self) -> None:
        for stream in list(self._blocked.values()):
            if self._send_window <= 0:
                return
            self._push(stream)

    def _push(self, stream: Http2Stream) -> None:
        """Sends the bytes that the windows permit, and the trailers after the last of them."""
        out, written_bytes = stream._out, 0
        while written_bytes < len(out):
            size = min(len(out) - written_bytes, self._max_frame, self._send_window, stream.send_window)
            if size <= 0:
                break
            self._send(_frame(DATA, 0, stream.id, bytes(memoryview(out)[written_bytes : written_bytes + size])))
            self._send_window -= size
            stream.send_window -= size
            written_bytes += size
        del out[:written_bytes]
        if out:
            # Streams that have waited longer are first.
            self._blocked.pop(stream.id, None)
            self._blocked[stream.id] = stream
            return
        if self._blocked.pop(stream.id, None) is not None:
            stream.writable()
        if stream._trailers is not None:
            self._end(stream, stream._trailers)

    def _end(self, stream: Http2Stream, trailers: bytes) -> None:
        block = trailers if stream.headers_sent else RESPONSE_HEADERS + trailers
        stream._trailers = None
        self._send(_frame(HEADERS, END_HEADERS | END_STREAM, stream.id, block))
        if not stream.ended:
            # The answer is complete; the rest of the request is not needed (RFC 9113, section 8.1).
            self._send(_frame(RST_STREAM, 0, stream.id, U32.pack(NO_ERROR)))
        self._streams.pop(stream.id, None)

    def _refuse(self, stream: Http2Stream, refused: CallRefused) -> None:
        if stream.blocked:
            self._reset(stream, CANCEL)  # a partly sent message cannot be withdrawn
            return
        self.finish(stream, refused.status, refused.details)
        self._leave(stream)

    def _reset(self, stream: Http2Stream, code: int) -> None:
        self._send(_frame(RST_STREAM, 0, stream.id, U32.pack(code)))
        self._streams.pop(stream.id, None)
        self._leave(stream)

    def _leave(self, stream: Http2Stream) -> None:
        self._blocked.pop(stream.id, None)
        stream._out.clear()
        stream.gone = True
        stream.left()
