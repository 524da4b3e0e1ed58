"""The supervisor's gRPC client: against both transports of a worker, and against a peer that sends single frames."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

import certificates
import pytest
from ports import free_port

from edge_extproc.server.http2 import frames as http2
from edge_extproc.server.http2.client import CallFailed, UnaryClient
from edge_extproc.server.rpc import CallRefused, Methods, Status, Unary
from edge_extproc.server.serve import serve
from edge_extproc.server.transport import MutualTls

PATIENCE = 30
ECHO, HELD = "/t.T/Echo", "/t.T/Held"
Transport = Literal["http2", "grpcio"]


class Service:
    def __init__(self, methods: Methods) -> None:
        self.methods = methods


@pytest.fixture(params=["http2", "grpcio"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return request.param


@contextlib.asynccontextmanager
async def serving(
    address: str, methods: Methods, transport: Transport = "http2", *, tls: MutualTls | None = None
) -> AsyncIterator[asyncio.Event]:
    """Yields the event that stops the server."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        serve(address, [Service(methods)], stop, PATIENCE, on_ready=ready.set, tls=tls, transport=transport)
    )
    try:
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
            yield stop
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def connected(address: str, tls: MutualTls | None = None) -> AsyncIterator[UnaryClient]:
    client = UnaryClient(address, tls)
    try:
        yield client
    finally:
        await client.close()


async def echo(request: bytes) -> bytes:
    return request


async def long_answer(request: bytes) -> bytes:
    return b"x" * int(request)


async def refuse(request: bytes) -> bytes:
    raise CallRefused(Status.INVALID_ARGUMENT, f"no {request.decode()}: 100 % – sure")


def held(begun: asyncio.Event, go_on: asyncio.Event) -> Callable[[bytes], Awaitable[bytes]]:
    """A method that sets `begun` and waits for `go_on`."""

    async def method(request: bytes) -> bytes:
        begun.set()
        await go_on.wait()
        return request

    return method


METHODS: Methods = {ECHO: Unary(echo), "/t.T/Long": Unary(long_answer), "/t.T/Refuse": Unary(refuse)}


async def failure(calling: Awaitable[bytes]) -> tuple[int, str]:
    with pytest.raises(CallFailed) as caught:
        await calling
    return caught.value.status, caught.value.details


async def test_a_message_is_answered(tmp_path: Path, transport: Transport) -> None:
    address = f"unix:{tmp_path / 's'}"
    async with serving(address, METHODS, transport), connected(address) as client:
        assert b"" == await client.call(ECHO, b"", PATIENCE)
        most = b"y" * (http2.DEFAULT_WINDOW - http2.PREFIX.size)
        assert most == await client.call(ECHO, most, PATIENCE)
        # Over the first window of HTTP/2, over the refill of this client, and again on the same connection.
        for _ in range(2):
            assert b"x" * 20_000_000 == await client.call("/t.T/Long", b"20000000", PATIENCE)


async def test_a_request_over_the_window_is_refused(tmp_path: Path) -> None:
    async with connected(f"unix:{tmp_path / 'nobody'}") as client:
        status, details = await failure(client.call(ECHO, b"y" * http2.DEFAULT_WINDOW, PATIENCE))

    assert (Status.INVALID_ARGUMENT, "the request is over 65535 bytes") == (status, details)


async def test_calls_at_once_share_a_connection(tmp_path: Path, transport: Transport) -> None:
    address = f"unix:{tmp_path / 's'}"
    wanted = [str(number).encode() for number in range(100)]
    async with serving(address, METHODS, transport), connected(address) as client:
        answers = await asyncio.gather(*(client.call(ECHO, each, PATIENCE) for each in wanted))

    assert wanted == answers


async def test_an_error_has_its_status_and_its_details(tmp_path: Path, transport: Transport) -> None:
    address = f"unix:{tmp_path / 's'}"
    async with serving(address, METHODS, transport), connected(address) as client:
        assert (3, "no such: 100 % – sure") == await failure(client.call("/t.T/Refuse", b"such", PATIENCE))
        status, _ = await failure(client.call("/t.T/Other", b"", PATIENCE))
        assert Status.UNIMPLEMENTED == status
        assert b"a" == await client.call(ECHO, b"a", PATIENCE)


async def test_a_call_whose_time_is_up_is_cancelled(tmp_path: Path, transport: Transport) -> None:
    cancelled = asyncio.Event()

    async def slow(request: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    address = f"unix:{tmp_path / 's'}"
    async with serving(address, {**METHODS, "/t.T/Slow": Unary(slow)}, transport), connected(address) as client:
        assert (4, "no response after 0.05 s") == await failure(client.call("/t.T/Slow", b"", 0.05))
        await cancelled.wait()
        assert b"a" == await client.call(ECHO, b"a", PATIENCE)


async def test_without_a_server_a_call_is_unavailable_and_later_it_is_not(tmp_path: Path, transport: Transport) -> None:
    address = f"unix:{tmp_path / 's'}"
    async with connected(address) as client:
        for _ in range(2):
            status, details = await failure(client.call(ECHO, b"", PATIENCE))
            assert (Status.UNAVAILABLE, True) == (status, details.startswith("cannot connect: "))
            async with serving(address, METHODS, transport):
                assert b"a" == await client.call(ECHO, b"a", PATIENCE)


async def test_an_idle_client_does_not_delay_a_stop_and_an_open_call_ends_first(
    tmp_path: Path, transport: Transport
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    address = f"unix:{tmp_path / 's'}"
    async with connected(address) as idle, connected(address) as busy:
        async with serving(address, {**METHODS, HELD: Unary(held(begun, go_on))}, transport) as stop:
            await idle.call(ECHO, b"", PATIENCE)
            calling = asyncio.ensure_future(busy.call(HELD, b"open", PATIENCE))
            await begun.wait()
            stop.set()
            go_on.set()
            assert b"open" == await calling
        assert Status.UNAVAILABLE == (await failure(idle.call(ECHO, b"", PATIENCE)))[0]


# --- TLS


def mutual(directory: Path, name: str = "agents.example") -> MutualTls:
    directory.mkdir()
    pems = certificates.mutual(directory, "agents.example")
    return MutualTls(pems.ca.read_bytes(), pems.certificate.read_bytes(), pems.private_key.read_bytes(), name)


async def test_over_tcp_both_show_their_certificates(tmp_path: Path, transport: Transport) -> None:
    address, tls = f"127.0.0.1:{free_port()}", mutual(tmp_path / "ours")
    stranger = mutual(tmp_path / "strangers")
    async with serving(address, METHODS, transport, tls=tls):
        async with connected(address, tls) as client:
            assert b"x" * 3_000_000 == await client.call("/t.T/Long", b"3000000", PATIENCE)
        other_name = MutualTls(tls.ca, tls.certificate, tls.private_key, "others.example")
        another = MutualTls(tls.ca, stranger.certificate, stranger.private_key, tls.server_name)
        for refused in (other_name, stranger, another):
            async with connected(address, refused) as client:
                assert Status.UNAVAILABLE == (await failure(client.call(ECHO, b"", PATIENCE)))[0]


async def test_a_server_that_does_not_choose_http2_is_left(tmp_path: Path) -> None:
    tls = mutual(tmp_path / "ours")
    context = tls.context()
    context.set_alpn_protocols(["http/1.1"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server, connected(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", tls) as client:
        status, details = await failure(client.call(ECHO, b"", PATIENCE))

    assert (Status.UNAVAILABLE, "cannot connect: the worker speaks no HTTP/2") == (status, details)


def test_a_client_accepts_no_old_tls(tmp_path: Path) -> None:
    context = mutual(tmp_path / "ours").context_of_client()

    assert context.check_hostname
    assert ssl.CERT_REQUIRED is context.verify_mode
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version


# --- a peer that sends what it likes


OK = http2.RESPONSE_HEADERS
PREFIXED = http2.PREFIX.pack(0, 2) + b"hi"


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return http2._frame(kind, flags, stream, payload)


HEADERS = frame(http2.HEADERS, http2.END_HEADERS, OK)
BODY = frame(http2.DATA, 0, PREFIXED)
TRAILERS = frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, http2.OK_TRAILERS)


async def answered(path: Path, *portions: bytes) -> tuple[bytes | CallFailed, bytes]:
    """The result of a call whose peer sends these portions, and what the peer has received in the end."""
    received, ended = bytearray(), asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while http2.PREFACE not in received or b"Echo" not in received:
            received.extend(await reader.read(65536))
        with contextlib.suppress(ConnectionError):
            for portion in portions:
                writer.write(portion)
                await writer.drain()
                await asyncio.sleep(0)
            while more := await reader.read(65536):
                received.extend(more)
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(peer, path):
        async with connected(f"unix:{path}") as client:
            result: bytes | CallFailed
            try:
                result = await client.call(ECHO, b"hi", PATIENCE)
            except CallFailed as failed:
                result = failed
        await ended.wait()
    return result, bytes(received)


@pytest.mark.parametrize(
    "portions",
    [
        pytest.param([HEADERS + BODY + TRAILERS], id="at once"),
        pytest.param([bytes((byte,)) for byte in HEADERS + BODY + TRAILERS], id="byte by byte"),
        pytest.param(
            [HEADERS, frame(http2.DATA, http2.PADDED, b"\x03" + PREFIXED + b"\0\0\0"), TRAILERS], id="padded data"
        ),
        pytest.param(
            [
                frame(
                    http2.HEADERS,
                    http2.END_HEADERS | http2.PADDED | http2.WITH_PRIORITY,
                    b"\x02" + b"\0\0\0\0\x10" + OK + b"\0\0",
                ),
                BODY,
                TRAILERS,
            ],
            id="padded headers with a priority",
        ),
        pytest.param(
            [
                frame(http2.HEADERS, 0, OK[:5]),
                frame(http2.CONTINUATION, 0, OK[5:9]),
                frame(http2.CONTINUATION, http2.END_HEADERS, OK[9:]),
                BODY,
                TRAILERS,
            ],
            id="a continued header block",
        ),
        pytest.param(
            [
                frame(http2.SETTINGS, 0, b"", 0) + frame(http2.SETTINGS, http2.ACK, b"", 0),
                frame(http2.PING, 0, b"draining", 0) + frame(http2.PING, http2.ACK, b"8 bytes.", 0),
                frame(http2.GOAWAY, 0, http2.U32.pack(1) + http2.U32.pack(0), 0),
                frame(http2.PRIORITY, 0, b"\0\0\0\0\x10") + frame(99, 0, b"unknown"),
                frame(http2.DATA, 0, b"of another call", 3) + frame(http2.RST_STREAM, 0, http2.U32.pack(8), 3),
                frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, OK, 5),
                HEADERS + BODY + TRAILERS,
            ],
            id="other frames",
        ),
    ],
)
async def test_a_response_may_come_in_any_form(tmp_path: Path, portions: list[bytes]) -> None:
    result, _ = await answered(tmp_path / "s", *portions)

    assert b"hi" == result


async def test_the_peers_settings_and_pings_are_acknowledged(tmp_path: Path) -> None:
    portions = frame(http2.SETTINGS, 0, b"", 0) + frame(http2.PING, 0, b"draining", 0) + HEADERS + BODY + TRAILERS
    _, received = await answered(tmp_path / "s", portions)

    assert frame(http2.SETTINGS, http2.ACK, b"", 0) in received
    assert frame(http2.PING, http2.ACK, b"draining", 0) in received


def trailers(*fields: tuple[bytes, bytes]) -> bytes:
    block = b"".join(http2.literal(*each) for each in fields)
    return frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, block)


@pytest.mark.parametrize(
    ("portion", "status", "details"),
    [
        (frame(http2.RST_STREAM, 0, http2.U32.pack(2)), Status.UNAVAILABLE, "was reset"),
        (frame(http2.GOAWAY, 0, http2.U32.pack(0) * 2, 0), Status.UNAVAILABLE, "accepts no more calls"),
        (trailers((b":status", b"503")), Status.UNAVAILABLE, "no gRPC status, and the HTTP status '503'"),
        (HEADERS + BODY + trailers((b"grpc-status", b"x")), Status.UNAVAILABLE, "no gRPC status"),
        (HEADERS + trailers((b"grpc-status", b"0")), Status.INTERNAL, "not one uncompressed message"),
        (HEADERS + BODY + BODY + TRAILERS, Status.INTERNAL, "not one uncompressed message"),
        (HEADERS + frame(http2.DATA, 0, b"\1\0\0\0\1x") + TRAILERS, Status.INTERNAL, "not one uncompressed message"),
        (HEADERS + frame(http2.DATA, http2.END_STREAM, PREFIXED), Status.UNAVAILABLE, "no gRPC status"),
        (HEADERS + trailers((b"grpc-status", b"13"), (b"grpc-message", b"a%20b%")), Status.INTERNAL, "a b%"),
        # These end the connection.
        (b"\xff" * 9, Status.UNAVAILABLE, "connection"),
        (frame(http2.HEADERS, http2.END_HEADERS, b"\xff\xff\xff\xff\xff\xff"), Status.UNAVAILABLE, "connection"),
        (frame(http2.CONTINUATION, http2.END_HEADERS, OK), Status.UNAVAILABLE, "connection"),
        (frame(http2.HEADERS, 0, OK[:5]) + BODY, Status.UNAVAILABLE, "connection"),
        (frame(http2.HEADERS, 0, OK) + frame(http2.CONTINUATION, 4, b"", 3), Status.UNAVAILABLE, "connection"),
        (frame(http2.HEADERS, 0, b"\0" * 16_000) + frame(9, 0, b"\0" * 16_000) * 4, Status.UNAVAILABLE, "connection"),
        (frame(http2.HEADERS, http2.END_HEADERS | http2.WITH_PRIORITY, b"\0\0"), Status.UNAVAILABLE, "connection"),
        (HEADERS + frame(http2.DATA, http2.PADDED, b"\x09a"), Status.UNAVAILABLE, "connection"),
    ],
)
async def test_a_wrong_response_is_an_error(tmp_path: Path, portion: bytes, status: Status, details: str) -> None:
    result, _ = await answered(tmp_path / "s", portion)

    assert isinstance(result, CallFailed)
    assert status == result.status
    assert details in result.details


async def test_a_response_that_is_too_large_ends_its_call_alone(
    tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_extproc.server.http2.client.MAX_MESSAGE", 1_000_000)
    begun, go_on = asyncio.Event(), asyncio.Event()
    address = f"unix:{tmp_path / 's'}"
    methods: Methods = {**METHODS, HELD: Unary(held(begun, go_on))}
    async with serving(address, methods, transport), connected(address) as client:
        other = asyncio.ensure_future(client.call(HELD, b"open", PATIENCE))
        await begun.wait()
        too_large = client.call("/t.T/Long", b"1000001", PATIENCE)
        assert (Status.RESOURCE_EXHAUSTED, "the response is over 1000000 bytes") == await failure(too_large)
        assert b"x" * 1_000_000 == await client.call("/t.T/Long", b"1000000", PATIENCE)
        go_on.set()
        assert b"open" == await other


async def test_a_call_ends_on_a_connection_that_accepts_no_more_calls(tmp_path: Path, transport: Transport) -> None:
    """The worker stops while it answers, and the next call begins meanwhile."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    address = f"unix:{tmp_path / 's'}"
    async with connected(address) as client:
        async with serving(address, {**METHODS, HELD: Unary(held(begun, go_on))}, transport) as stop:
            calling = asyncio.ensure_future(client.call(HELD, b"open", PATIENCE))
            await begun.wait()
            stop.set()
            async with asyncio.timeout(PATIENCE / 2):
                while not await is_refused(client):
                    pass
            go_on.set()
            assert b"open" == await calling


async def is_refused(client: UnaryClient) -> bool:
    """A server of grpcio that stops can leave a new connection without an answer: then the call's time ends it."""
    try:
        await client.call(ECHO, b"", 2)
    except CallFailed:
        return True
    return False
