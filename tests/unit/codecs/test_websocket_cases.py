"""The cases of Autobahn's WebSocket suite, as frames for the reader: sections 1 to 7, 9, 10, 12 and 13 of its list.

Each case is read in both directions, whole and byte by byte. The suite itself needs Python 2.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest

from edge_extproc.codecs.websocket import PROTOCOL_ERROR, Deflate, WebSocketFault, WebSocketReader

LARGEST = 32 << 20
INVALID_PAYLOAD = 1007
TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0
Frames = list[tuple[int, bytes, bool, int]]
Messages = list[tuple[str, bytes]]


def f(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0) -> Frames:
    return [(opcode, payload, fin, rsv)]


def close(code: int, reason: bytes = b"") -> Frames:
    return f(CLOSE, struct.pack("!H", code) + reason)


def wire_of(frames: Frames, *, by_client: bool) -> bytes:
    wire = b""
    for opcode, payload, fin, rsv in frames:
        length, masked = len(payload), 0x80 if by_client else 0
        wire += bytes([fin << 7 | rsv << 4 | opcode])
        if length < 126:
            wire += bytes([masked | length])
        elif length < 1 << 16:
            wire += bytes([masked | 126]) + struct.pack("!H", length)
        else:
            wire += bytes([masked | 127]) + struct.pack("!Q", length)
        mask = b"\x0b\xad\xf0\x0d"
        if by_client:
            repeated = (mask * (length // 4 + 1))[:length]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
            wire += mask
        wire += payload
    return wire


# Bytes at a time.
CHOPS = (None, 1, 997)
# For longer cases, byte by byte takes too long.
_LONG = 100_000


@pytest.fixture(params=[True, False], ids=["caller", "provider"])
def read(request: pytest.FixtureRequest) -> Callable[..., tuple[Messages, int | None]]:
    """Returns the messages of frames, and the code of the fault after them. All portions give the same."""

    def read(frames: Frames, deflate: Deflate | None = None) -> tuple[Messages, int | None]:
        by_client = bool(request.param)
        wire = wire_of(frames, by_client=by_client)
        results = []
        for chop in CHOPS:
            size = chop if chop is not None and not (chop == 1 and len(wire) > _LONG) else len(wire) or 1
            reader = WebSocketReader(from_client=by_client, largest=LARGEST, deflate=deflate)
            messages: Messages = []
            code = None
            for at in range(0, len(wire), size):
                try:
                    found = reader.feed(wire[at : at + size])
                except WebSocketFault as fault:
                    found, code = fault.messages, fault.code
                messages += [(message.kind, message.payload) for message in found]
            results.append((messages, code))
        assert results[0] == results[1] == results[2]
        return results[0]

    return read


Read = Callable[..., tuple[Messages, int | None]]
SIZES = (0, 125, 126, 127, 128, 65_535, 65_536)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("opcode", "kind"), [(TEXT, "text"), (BINARY, "binary")])
def test_1_sizes(read: Read, opcode: int, kind: str, size: int) -> None:
    payload = b"*" * size if opcode == TEXT else b"\xfe" * size

    assert ([(kind, payload)], None) == read(f(opcode, payload))


PAYLOAD = b"Hello, world!"
BYTES = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"


@pytest.mark.parametrize(
    ("frames", "messages", "code"),
    [
        pytest.param(f(PING), [("ping", b"")], None, id="2.1"),
        pytest.param(f(PING, PAYLOAD), [("ping", PAYLOAD)], None, id="2.2"),
        pytest.param(f(PING, BYTES), [("ping", BYTES)], None, id="2.3"),
        pytest.param(f(PING, b"\xfe" * 125), [("ping", b"\xfe" * 125)], None, id="2.4 and 2.6"),
        pytest.param(f(PING, b"\xfe" * 126), [], PROTOCOL_ERROR, id="2.5"),
        pytest.param(f(PONG), [("pong", b"")], None, id="2.7"),
        pytest.param(f(PONG, PAYLOAD), [("pong", PAYLOAD)], None, id="2.8"),
        pytest.param(f(PONG, PAYLOAD) + f(PING, b"ping"), [("pong", PAYLOAD), ("ping", b"ping")], None, id="2.9"),
        pytest.param(
            [frame for n in range(10) for frame in f(PING, b"payload-%d" % n)],
            [("ping", b"payload-%d" % n) for n in range(10)],
            None,
            id="2.10 and 2.11",
        ),
    ],
)
def test_2_pings_and_pongs(read: Read, frames: Frames, messages: Messages, code: int | None) -> None:
    assert (messages, code) == read(frames)


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_3_reserved_bits(read: Read, opcode: int, rsv: int) -> None:
    payload = struct.pack("!H", 1000) if opcode == CLOSE else PAYLOAD
    frames = f(TEXT, PAYLOAD) + f(opcode, payload, rsv=rsv) + f(PING)

    assert ([("text", PAYLOAD)], PROTOCOL_ERROR) == read(frames)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", PAYLOAD])
def test_4_reserved_opcodes(read: Read, opcode: int, payload: bytes) -> None:
    assert ([("text", PAYLOAD)], PROTOCOL_ERROR) == read(f(TEXT, PAYLOAD) + f(opcode, payload) + f(PING))


ONE, TWO, THREE, FOUR, FIVE = (b"fragment%d" % n for n in range(1, 6))


@pytest.mark.parametrize(
    ("frames", "messages", "code"),
    [
        pytest.param(f(PING, ONE, False) + f(MORE, TWO), [], PROTOCOL_ERROR, id="5.1"),
        pytest.param(f(PONG, ONE, False) + f(MORE, TWO), [], PROTOCOL_ERROR, id="5.2"),
        pytest.param(f(TEXT, ONE, False) + f(MORE, TWO), [("text", ONE + TWO)], None, id="5.3 to 5.5"),
        pytest.param(
            f(TEXT, ONE, False) + f(PING, b"ping") + f(MORE, TWO),
            [("ping", b"ping"), ("text", ONE + TWO)],
            None,
            id="5.6 to 5.8",
        ),
        pytest.param(f(MORE, ONE) + f(TEXT, PAYLOAD), [], PROTOCOL_ERROR, id="5.9 to 5.11"),
        pytest.param(f(MORE, ONE, False) + f(TEXT, PAYLOAD), [], PROTOCOL_ERROR, id="5.12 to 5.14"),
        pytest.param(
            f(TEXT, ONE, False) + f(MORE, TWO) + f(MORE, THREE, False) + f(TEXT, FOUR),
            [("text", ONE + TWO)],
            PROTOCOL_ERROR,
            id="5.15",
        ),
        pytest.param(2 * (f(MORE, ONE, False) + f(TEXT, TWO, False) + f(MORE, THREE)), [], PROTOCOL_ERROR, id="5.16"),
        pytest.param(2 * (f(MORE, ONE) + f(TEXT, TWO, False) + f(MORE, THREE)), [], PROTOCOL_ERROR, id="5.17"),
        pytest.param(f(TEXT, ONE, False) + f(TEXT, TWO), [], PROTOCOL_ERROR, id="5.18"),
        pytest.param(
            f(TEXT, ONE, False)
            + f(MORE, TWO, False)
            + f(PING, b"ping1")
            + f(MORE, THREE, False)
            + f(MORE, FOUR, False)
            + f(PING, b"ping2")
            + f(MORE, FIVE),
            [("ping", b"ping1"), ("ping", b"ping2"), ("text", ONE + TWO + THREE + FOUR + FIVE)],
            None,
            id="5.19 and 5.20",
        ),
    ],
)
def test_5_fragments(read: Read, frames: Frames, messages: Messages, code: int | None) -> None:
    assert (messages, code) == read(frames)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param(f(TEXT), b"", id="6.1.1"),
        pytest.param(f(TEXT, b"", False) + f(MORE, b"", False) + f(MORE), b"", id="6.1.2"),
        pytest.param(f(TEXT, b"", False) + f(MORE, b"middle", False) + f(MORE), b"middle", id="6.1.3"),
    ],
)
def test_6_1_empty_fragments(read: Read, frames: Frames, expected: bytes) -> None:
    assert ([("text", expected)], None) == read(frames)


_UNFINISHED = [
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
]
_KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
# Of Markus Kuhn's stress test of decoders, as sections 6.5 to 6.23 have it.
SEQUENCES = [
    *(b"hello\x24world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world"),
    *(_KOSME[:end] for end in range(1, len(_KOSME) + 1)),
    *(b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"),
    *(b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf", b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf"),
    *(b"\xfd\xbf\xbf\xbf\xbf\xbf", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x90\x80\x80"),
    *((b"\x80\xbf" * 3)[:end] for end in range(1, 7)),
    bytes(range(0x80, 0xC0)),
    *(b" ".join(bytes([n]) for n in range(a, b)) for a, b in ((0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFE))),
    *_UNFINISHED,
    b"".join(_UNFINISHED),
    *(b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"),
    *(b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"),
    *(b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"),
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80"),
    *(b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbf\xbf"),
    *(b"\xed\xa0\x80\xed\xb0\x80", b"\xed\xaf\xbf\xed\xbf\xbf"),
    *(b"\xef\xbf\xbe", b"\xf0\x9f\xbf\xbe", b"\xf3\xbf\xbf\xbf", b"\xef\xbf\xb9", b"\xef\xbf\xbc"),
]


def is_utf8(sequence: bytes) -> bool:
    try:
        sequence.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("sequence", SEQUENCES, ids=[sequence.hex()[:40] for sequence in SEQUENCES])
def test_6_utf8(read: Read, sequence: bytes) -> None:
    """Whole, and in fragments of one byte. A text that is not UTF-8 is not passed on."""
    fragments = [(TEXT if at == 0 else MORE, sequence[at : at + 1], False, 0) for at in range(len(sequence))]
    expected = ([("text", sequence)], None) if is_utf8(sequence) else ([], INVALID_PAYLOAD)

    assert expected == read(f(TEXT, sequence))
    assert expected == read(fragments + f(MORE))


@pytest.mark.parametrize(
    ("frames", "messages", "code"),
    [
        pytest.param(f(TEXT, PAYLOAD) + close(1000), [("text", PAYLOAD), ("close", b"")], None, id="7.1.1"),
        pytest.param(close(1000) + close(1000), [("close", b"")], None, id="7.1.2"),
        pytest.param(close(1000) + f(PING), [("close", b"")], None, id="7.1.3"),
        pytest.param(close(1000) + f(TEXT, PAYLOAD), [("close", b"")], None, id="7.1.4"),
        pytest.param(f(TEXT, ONE, False) + close(1000) + f(MORE, TWO), [("close", b"")], None, id="7.1.5"),
        pytest.param(
            f(TEXT, b"BAsd7&jh23" * 26_214) + close(1000) + f(PING),
            [("text", b"BAsd7&jh23" * 26_214), ("close", b"")],
            None,
            id="7.1.6",
        ),
        pytest.param(f(CLOSE), [("close", b"")], None, id="7.3.1"),
        pytest.param(f(CLOSE, b"a"), [], PROTOCOL_ERROR, id="7.3.2"),
        pytest.param(close(1000), [("close", b"")], None, id="7.3.3"),
        pytest.param(close(1000, PAYLOAD), [("close", PAYLOAD)], None, id="7.3.4"),
        pytest.param(close(1000, b"*" * 123), [("close", b"*" * 123)], None, id="7.3.5"),
        pytest.param(close(1000, b"*" * 124), [], PROTOCOL_ERROR, id="7.3.6"),
        pytest.param(close(1000, _KOSME + b"\xed\xa0\x80edited"), [], INVALID_PAYLOAD, id="7.5.1"),
    ],
)
def test_7_closes(read: Read, frames: Frames, messages: Messages, code: int | None) -> None:
    assert (messages, code) == read(frames)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_7_7_valid_codes(read: Read, code: int) -> None:
    assert ([("close", b"")], None) == read(close(code))


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535])
def test_7_9_and_7_13_invalid_codes(read: Read, code: int) -> None:
    assert ([], PROTOCOL_ERROR) == read(close(code))


@pytest.mark.parametrize("size", [64, 256, 1_024, 4_096, 65_536, 1 << 20])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_9_messages_in_many_fragments(read: Read, opcode: int, size: int) -> None:
    payload = b"*" * (1 << 18 if size < 4_096 else 4 << 20)
    frames = [
        (opcode if at == 0 else MORE, payload[at : at + size], at + size >= len(payload), 0)
        for at in range(0, len(payload), size)
    ]

    assert ([("text" if opcode == TEXT else "binary", payload)], None) == read(frames)


def test_10_fragments_of_an_odd_size(read: Read) -> None:
    payload = b"*" * 65_536
    frames = [
        (TEXT if at == 0 else MORE, payload[at : at + 1_300], at + 1_300 >= len(payload), 0)
        for at in range(0, len(payload), 1_300)
    ]

    assert ([("text", payload)], None) == read(frames)


_JSON = b'{"id": 1, "tags": ["a", "b"], "text": "The quick brown fox jumps over the lazy dog."} '


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize(("size", "fragment"), [(16, 0), (1_024, 0), (32_768, 0), (8_192, 256), (131_072, 4_096)])
def test_12_and_13_compressed_messages(read: Read, size: int, fragment: int, bits: int, resets: bool) -> None:
    messages = [(_JSON * (size // len(_JSON) + 1))[n : n + size] for n in range(10)]
    compressor = zlib.compressobj(wbits=-bits)
    frames: Frames = []
    for message in messages:
        data = (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
        if resets:
            compressor = zlib.compressobj(wbits=-bits)
        step = fragment or len(data)
        parts = [data[at : at + step] for at in range(0, len(data), step)]
        frames += [
            (TEXT if n == 0 else MORE, part, n == len(parts) - 1, 4 if n == 0 else 0) for n, part in enumerate(parts)
        ]

    assert ([("text", message) for message in messages], None) == read(frames, Deflate(resets))
