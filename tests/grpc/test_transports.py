"""What a transport owes its methods, over real channels: time, space, identity, and a tidy end."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import certificates
import grpc
import hpack
import pytest
from grpc import aio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ports import free_port

from edge_extproc.server.grpcio_transport import OPTIONS
from edge_extproc.server.http2 import frames as http2
from edge_extproc.server.http2 import transport as http2_transport
from edge_extproc.server.rpc import CallRefused, Methods, PeerGone, RpcCall, Status, Streaming, Unary
from edge_extproc.server.serve import serve
from edge_extproc.server.transport import MutualTls
from edge_extproc.telemetry.traces import UNARY

PATIENCE = 30
Transport = Literal["http2", "grpcio"]


@dataclass
class Service:
    methods: Methods = field(default_factory=dict)


@pytest.fixture(params=["http2", "grpcio"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return request.param


@asynccontextmanager
async def serving(
    address: str,
    methods: Methods,
    transport: Transport,
    *,
    grace: float = PATIENCE,
    tls: MutualTls | None = None,
    interceptors: tuple[Any, ...] = (),
) -> AsyncIterator[asyncio.Event]:
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        serve(
            address,
            [Service(methods)],
            stop,
            grace,
            on_ready=ready.set,
            tls=tls,
            interceptors=interceptors,
            transport=transport,
        )
    )
    try:
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
            yield stop
    finally:
        stop.set()
        await running


def streaming(run: Callable[[RpcCall], Awaitable[None]]) -> Methods:
    return {"/t.T/Stream": Streaming(run)}


async def test_a_call_whose_time_is_up_is_cancelled(tmp_path: Path, transport: Transport) -> None:
    cancelled = asyncio.Event()

    async def run(request: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    address = f"unix:{tmp_path / 's'}"
    async with serving(address, {"/t.T/Slow": Unary(run)}, transport), aio.insecure_channel(address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Slow")(b"", timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await cancelled.wait()


async def test_a_method_that_refuses_is_told_and_one_that_fails_is_not(tmp_path: Path, transport: Transport) -> None:
    async def refuse(request: bytes) -> bytes:
        raise CallRefused(Status.NOT_FOUND, f"no {request.decode()}: 100 % sure\nof it")

    async def fail(call: RpcCall) -> None:
        raise RuntimeError("a secret")

    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    address = f"unix:{tmp_path / 's'}"
    methods = {"/t.T/Refuse": Unary(refuse), **streaming(fail)}
    async with serving(address, methods, transport), aio.insecure_channel(address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/t.T/Refuse")("käse".encode())
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "no käse: 100 % sure\nof it"
        call = channel.stream_stream("/t.T/Stream")()
        assert await call.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        if transport == "http2":
            assert "secret" not in (await call.details() or "")


async def test_a_reader_that_is_slow_holds_up_its_writer(tmp_path: Path, transport: Transport) -> None:
    written, total = 0, 400

    async def run(call: RpcCall) -> None:
        nonlocal written
        for _ in range(total):
            await call.write(b"x" * 100_000)
            written += 1

    address = f"unix:{tmp_path / 's'}"
    # Else the reader's gRPC takes more and more, the faster it comes.
    options = (*OPTIONS, ("grpc.http2.bdp_probe", 0))
    async with serving(address, streaming(run), transport), aio.insecure_channel(address, options=options) as channel:
        call = channel.stream_stream("/t.T/Stream")()
        first = await call.read()
        quiet = 0
        while quiet < 20:
            before = written
            # No window holds a refusal back, because it has no data. Meanwhile a writer that is not held up writes.
            with pytest.raises(aio.AioRpcError):
                await channel.unary_unary("/t.T/Unknown")(b"")
            quiet = quiet + 1 if written == before else 0
        assert written < total
        read = 1
        while await call.read() is not aio.EOF:
            read += 1

    assert len(first) == 100_000
    assert read == written == total


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_a_call_knows_the_address_at_which_the_peer_has_reached_it(host: str, transport: Transport) -> None:
    async def run(call: RpcCall) -> None:
        await call.write((call.local or "unknown").encode())

    port = free_port()
    async with serving(f"{host}:{port}", streaming(run), transport):
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            told = await channel.stream_stream("/t.T/Stream")().read()

    known = transport == "http2" or host != "0.0.0.0"  # grpcio does not tell the address of a connection
    assert told == (f"127.0.0.1:{port}".encode() if known else b"unknown")


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


def begin(encoder: hpack.Encoder, number: int, who: str) -> bytes:
    head = [(":method", "POST"), (":scheme", "http"), (":path", "/t.T/Stream"), ("content-type", "application/grpc")]
    return frame(1, 4, number, encoder.encode([*head, ("who", who)]))


async def test_a_call_with_many_messages_lets_others_have_their_turn(tmp_path: Path) -> None:
    seen: list[str] = []
    over = asyncio.Event()

    async def run(call: RpcCall) -> None:
        while await call.read() is not None:
            seen.append(call.metadata["who"])
        if len(seen) == 1_001:
            over.set()

    encoder = hpack.Encoder()
    async with serving(f"unix:{tmp_path / 's'}", streaming(run), "http2"):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        # All of it comes at once, so that nothing but the server decides whose turn it is.
        wire = http2.PREFACE + frame(4, 0, 0, b"")
        for number, who, messages in ((1, "long", 1_000), (3, "short", 1)):
            wire += begin(encoder, number, who) + frame(0, 1, number, struct.pack(">BIB", 0, 1, 7) * messages)
        writer.write(wire)
        async with asyncio.timeout(PATIENCE):
            await over.wait()
        writer.close()

    assert seen.index("short") < 100


async def test_calls_of_a_connection_that_breaks_off_are_told_whether_they_wait_or_work(tmp_path: Path) -> None:
    begun = {"waits": asyncio.Event(), "works": asyncio.Event()}
    ended = {"waits": asyncio.Event(), "works": asyncio.Event()}

    async def run(call: RpcCall) -> None:
        who = call.metadata["who"]
        try:
            assert await call.read() == b"\x07"
            begun[who].set()
            if who == "works":
                await asyncio.Event().wait()
            assert await call.read() is None
            assert call.cut
        finally:
            ended[who].set()

    encoder = hpack.Encoder()
    async with serving(f"unix:{tmp_path / 's'}", streaming(run), "http2"):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(http2.PREFACE + frame(4, 0, 0, b""))
        for number, who in ((1, "waits"), (3, "works")):
            writer.write(begin(encoder, number, who) + frame(0, 0, number, struct.pack(">BIB", 0, 1, 7)))
            await begun[who].wait()
        # Within a message, too.
        writer.write(frame(0, 0, 1, b"\0\0\0"))
        await writer.drain()
        writer.transport.abort()
        for event in ended.values():
            await event.wait()


async def test_a_writer_whose_reader_leaves_is_told(tmp_path: Path, transport: Transport) -> None:
    told: list[str] = []
    over = asyncio.Event()

    async def run(call: RpcCall) -> None:
        try:
            while True:
                await call.write(b"x" * 100_000)
        except PeerGone:
            told.append("gone")
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        finally:
            over.set()

    address = f"unix:{tmp_path / 's'}"
    async with serving(address, streaming(run), transport), aio.insecure_channel(address) as channel:
        call = channel.stream_stream("/t.T/Stream")()
        await call.read()
        call.cancel()
        await over.wait()

    assert told in (["gone"], ["cancelled"])


async def test_a_stop_lets_calls_end_and_takes_no_more(tmp_path: Path, transport: Transport) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def run(request: bytes) -> bytes:
        begun.set()
        await finish.wait()
        return b"done"

    address = f"unix:{tmp_path / 's'}"
    async with serving(address, {"/t.T/Long": Unary(run)}, transport) as stop:
        async with aio.insecure_channel(address) as channel:
            long: Any = channel.unary_unary("/t.T/Long")(b"")
            await begun.wait()
            stop.set()
            async with aio.insecure_channel(address) as other:
                while True:
                    try:
                        await other.unary_unary("/t.T/Nothing")(b"", timeout=1)
                    except aio.AioRpcError as error:
                        if error.code() is grpc.StatusCode.UNAVAILABLE:
                            break
            finish.set()
            assert await long == b"done"


async def test_a_peer_that_says_nothing_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_transport, "_GREETING_SECONDS", 0.01)
    async with serving(f"unix:{tmp_path / 's'}", {}, "http2"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        async with asyncio.timeout(PATIENCE):
            await reader.read()
        writer.close()


@pytest.fixture
def secured(tmp_path: Path) -> tuple[str, MutualTls, certificates.Pems]:
    address = f"127.0.0.1:{free_port()}"
    pems = certificates.mutual(tmp_path, "agents.example")
    tls = MutualTls(
        pems.ca.read_bytes(), pems.certificate.read_bytes(), pems.private_key.read_bytes(), "agents.example"
    )
    return address, tls, pems


async def echo(request: bytes) -> bytes:
    return request


async def test_over_tcp_both_show_their_certificates(
    secured: tuple[str, MutualTls, certificates.Pems], transport: Transport
) -> None:
    address, tls, _ = secured
    async with serving(address, {"/t.T/Echo": Unary(echo)}, transport, tls=tls):
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.private_key, tls.certificate)
        options = (*OPTIONS, ("grpc.ssl_target_name_override", tls.server_name))
        async with aio.secure_channel(address, credentials, options=options) as channel:
            large = b"x" * 3_000_000
            assert await channel.unary_unary("/t.T/Echo")(large) == large


async def test_who_shows_no_certificate_of_the_authority_is_not_served(
    secured: tuple[str, MutualTls, certificates.Pems], transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> None:
    address, tls, _ = secured
    stranger = certificates.mutual(tmp_path_factory.mktemp("stranger"), "agents.example")
    options = (("grpc.ssl_target_name_override", "agents.example"),)
    async with serving(address, {"/t.T/Echo": Unary(echo)}, transport, tls=tls):
        for credentials in (
            grpc.ssl_channel_credentials(tls.ca),
            grpc.ssl_channel_credentials(tls.ca, stranger.private_key.read_bytes(), stranger.certificate.read_bytes()),
        ):
            async with aio.secure_channel(address, credentials, options=options) as channel:
                with pytest.raises(aio.AioRpcError) as caught:
                    await channel.unary_unary("/t.T/Echo")(b"x", timeout=PATIENCE)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_who_speaks_no_http2_over_tls_is_hung_up_on(secured: tuple[str, MutualTls, certificates.Pems]) -> None:
    address, tls, pems = secured
    context = ssl.create_default_context(cafile=str(pems.ca))
    context.load_cert_chain(pems.certificate, pems.private_key)
    host, port = address.split(":")
    async with serving(address, {"/t.T/Echo": Unary(echo)}, "http2", tls=tls):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="agents.example")
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        try:
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == b""
        except ConnectionError:
            pass
        writer.close()


async def test_calls_of_one_message_have_opentelemetrys_spans(tmp_path: Path, transport: Transport) -> None:
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))

    async def refuse(request: bytes) -> bytes:
        raise CallRefused(Status.NOT_FOUND, "nothing there")

    (check, *_) = sorted(UNARY)
    address = f"unix:{tmp_path / 's'}"
    interceptors = (aio_server_interceptor(tracer_provider=provider),)
    methods = {f"/{check}": Unary(echo), "/t.T/Refuse": Unary(refuse)}
    parent = (("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),)
    async with serving(address, methods, transport, interceptors=interceptors):
        async with aio.insecure_channel(address) as channel:
            assert await channel.unary_unary(f"/{check}")(b"x", metadata=parent) == b"x"
            with pytest.raises(aio.AioRpcError, match="nothing there"):
                await channel.unary_unary("/t.T/Refuse")(b"x")

    answered, refused = kept.get_finished_spans()
    assert answered.name.lstrip("/") == check
    assert answered.context.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert (answered.attributes or {})["rpc.grpc.status_code"] == 0
    assert (refused.attributes or {})["rpc.grpc.status_code"] == 5
