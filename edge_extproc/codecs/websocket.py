"""Reads and writes the messages of a WebSocket (RFC 6455), with permessage-deflate (RFC 7692).

A reader gets the bytes of one direction, cut anywhere, and returns each complete message with its own bytes, so that a
message that nobody changes passes as it came. wsproto removes masks, checks frames and decodes text. A control frame
within a fragmented message comes before that message.
"""

from __future__ import annotations

import zlib
from typing import Literal, TypeAlias

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits

from ..model.frozen_dataclass import frozen_dataclass

MessageKind: TypeAlias = Literal["text", "binary", "ping", "pong", "close"]

PROTOCOL_ERROR = int(CloseReason.PROTOCOL_ERROR)
TOO_BIG = int(CloseReason.MESSAGE_TOO_BIG)
POLICY = int(CloseReason.POLICY_VIOLATION)
FAILED = int(CloseReason.INTERNAL_ERROR)
NORMAL = int(CloseReason.NORMAL_CLOSURE)

DEFLATE = "permessage-deflate"

_KINDS: dict[Opcode, MessageKind] = {
    Opcode.TEXT: "text",
    Opcode.BINARY: "binary",
    Opcode.PING: "ping",
    Opcode.PONG: "pong",
    Opcode.CLOSE: "close",
}
_MASKED = 0x80
_LENGTH = 0x7F
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_MASK_SIZE = 4
# The bytes that a sender leaves out at the end of a compressed message (RFC 7692, section 7.2.2).
_TAIL = b"\x00\x00\xff\xff"
_WINDOW = 15
_LONGEST_REASON = 123
# A message over a megabyte may be this many times as long as its compressed bytes. Without it, 30 kB of a caller would
# take the time of 32 MB. Base64 of recorded sound and JSON shrink to a half or a tenth.
_FREE_SIZE, _MOST_RATIO = 1 << 20, 64


class WebSocketFault(Exception):
    """The bytes are not those of a WebSocket, or a message is over the limit. `code`: the code to close with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.messages: list[SocketMessage] = []
        """Those that were complete before it."""


@frozen_dataclass
class SocketMessage:
    """One message, or one control frame."""

    kind: MessageKind
    payload: bytes
    """Without masks and compression. Of a close: its reason."""
    wire: bytes
    """Its frames as they came."""
    code: int | None = None
    """The code of a close, if it has one."""


@frozen_dataclass
class Deflate:
    """What both sides have agreed on for permessage-deflate, for one direction."""

    resets: bool = False
    """The sender begins each message with an empty window."""


def read_extensions(header: str | None) -> tuple[Deflate, Deflate] | None:
    """The accepted extension, for the messages of the client and for those of the server. None: there is none. Raises
    WebSocketFault for another extension. `header`: sec-websocket-extensions of the response."""
    if header is None or not header.strip():
        return None
    name, *parameters = (part.strip().lower() for part in header.split(";"))
    if name != DEFLATE or "," in header:
        raise WebSocketFault(PROTOCOL_ERROR, "the provider has accepted an extension that was not offered")
    names = {parameter.partition("=")[0].strip() for parameter in parameters}
    return Deflate("client_no_context_takeover" in names), Deflate("server_no_context_takeover" in names)


def offered_extensions(header: str | None) -> str | None:
    """The first offer of permessage-deflate. None: there is none. `header`: that of the request."""
    offers = (offer.strip() for offer in (header or "").split(","))
    return next((offer for offer in offers if offer.partition(";")[0].strip().lower() == DEFLATE), None)


class _Inflater(Extension):
    """Decompresses messages, up to a size and a ratio. wsproto's own class has no limit, and loses the rest of a
    message after a control frame within it."""

    name = DEFLATE

    def __init__(self, deflate: Deflate, largest: int) -> None:
        self._resets = deflate.resets
        self._largest = largest
        self._stream = zlib.decompressobj(-_WINDOW)
        self._is_compressed = False
        self._is_control = False
        self._size = self._compressed = 0

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        del proto, payload_length
        self._is_control = opcode.iscontrol()
        if rsv.rsv1 and (self._is_control or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if not self._is_control and opcode is not Opcode.CONTINUATION:
            self._is_compressed, self._size, self._compressed = rsv.rsv1, 0, 0
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        del proto
        return data if self._is_control or not self._is_compressed else self._inflated(bytes(data))

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        del proto
        if not fin or self._is_control or not self._is_compressed:
            return None
        rest = b"" if self._stream.eof else self._inflated(_TAIL)
        if self._resets or self._stream.eof:
            self._stream = zlib.decompressobj(-_WINDOW)
        return rest

    def _inflated(self, data: bytes) -> bytes | CloseReason:
        self._compressed += len(data)
        room = min(self._largest, max(_FREE_SIZE, _MOST_RATIO * self._compressed)) - self._size
        try:
            inflated = self._stream.decompress(data, room + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if len(inflated) > room:
            return CloseReason.MESSAGE_TOO_BIG
        self._size += len(inflated)
        return inflated


class WebSocketReader:
    """Reads one direction. `feed` returns the messages that the bytes complete."""

    def __init__(self, *, from_client: bool, largest: int, deflate: Deflate | None = None) -> None:
        """`largest`: the most bytes of a message, before and after decompression."""
        extensions: list[Extension] = [_Inflater(deflate, largest)] if deflate is not None else []
        self._protocol = FrameProtocol(client=not from_client, extensions=extensions)
        self._largest = largest
        self._waiting = bytearray()
        """The beginning of a frame that is not complete."""
        self._wire = bytearray()
        """The complete frames of a message that is not."""
        self._payload = bytearray()
        self._closed = False

    @property
    def is_within_message(self) -> bool:
        """Whether a part of a message has come, and not all of it."""
        return bool(self._waiting or self._wire)

    def feed(self, data: bytes) -> list[SocketMessage]:
        """Raises WebSocketFault, once, with the messages before it. Bytes after it or after a close are ignored, as
        the standard demands."""
        if self._closed:
            return []
        self._waiting += data
        messages: list[SocketMessage] = []
        try:
            self._read_into(messages)
            return messages
        except WebSocketFault as fault:
            self._closed, fault.messages = True, messages
            raise
        finally:
            if self._closed:
                self._waiting.clear()
                self._wire.clear()
                self._payload.clear()

    def _read_into(self, messages: list[SocketMessage]) -> None:
        at = 0
        while not self._closed and (size := self._frame_size(at)) is not None and at + size <= len(self._waiting):
            frame = bytes(self._waiting[at : at + size])
            at += size
            if (message := self._read(frame)) is not None:
                messages.append(message)
        del self._waiting[:at]

    def _frame_size(self, at: int) -> int | None:
        """The size of the frame that begins at `at`, with its header. None: too little has come to tell."""
        waiting = self._waiting
        if len(waiting) < at + 2:
            return None
        length, header = waiting[at + 1] & _LENGTH, 2
        if length in (_TWO_BYTES, _EIGHT_BYTES):
            more = 2 if length == _TWO_BYTES else 8
            if len(waiting) < at + 2 + more:
                return None
            length, header = int.from_bytes(waiting[at + 2 : at + 2 + more], "big"), 2 + more
        if length + len(self._wire) > self._largest:
            raise WebSocketFault(TOO_BIG, f"a message is over {self._largest} bytes")
        return header + length + (_MASK_SIZE if waiting[at + 1] & _MASKED else 0)

    def _read(self, frame: bytes) -> SocketMessage | None:
        """The message that this frame completes."""
        self._protocol.receive_bytes(frame)
        try:
            for part in self._protocol.received_frames():
                content = part.payload
                if isinstance(content, tuple):
                    self._closed = True
                    code, reason = content
                    known = None if code == CloseReason.NO_STATUS_RCVD else int(code)
                    return SocketMessage("close", (reason or "").encode(), frame, known)
                payload = content.encode() if isinstance(content, str) else bytes(content)
                if part.opcode.iscontrol():
                    return SocketMessage(_KINDS[part.opcode], payload, frame)
                self._payload += payload
                if len(self._payload) > self._largest:
                    raise WebSocketFault(TOO_BIG, f"a message is over {self._largest} bytes")
                if part.message_finished:
                    message = SocketMessage(_KINDS[part.opcode], bytes(self._payload), bytes(self._wire) + frame)
                    self._wire.clear()
                    self._payload.clear()
                    return message
        except ParseFailed as error:
            code = int(error.code)
            text = (
                f"a message is over {self._largest} bytes, or compressed too much"
                if code == TOO_BIG
                else "these are no WebSocket frames"
            )
            raise WebSocketFault(code, text) from error
        self._wire += frame
        return None


def encode(kind: MessageKind, payload: bytes, *, from_client: bool, code: int = NORMAL) -> bytes:
    """A message in one frame, not compressed, which is permitted also after permessage-deflate was agreed on. A client
    masks it. `payload` of a close: the beginning of its reason."""
    protocol = FrameProtocol(client=from_client, extensions=[])
    match kind:
        case "text":
            return bytes(protocol.send_data(payload.decode()))
        case "binary":
            return bytes(protocol.send_data(payload))
        case "ping":
            return bytes(protocol.ping(payload))
        case "pong":
            return bytes(protocol.pong(payload))
        case "close":
            reason = payload[:_LONGEST_REASON].decode(errors="ignore")
            return bytes(protocol.close(code, reason))
