"""The gRPC shell over a real channel: order, every way out, and what Envoy may hear of an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import grpc
import pytest
from grpc import aio

from edge_extproc.errors import PeerError
from edge_extproc.exchange.commands import CONTINUE, Command, Continue, ImmediateResponse
from edge_extproc.exchange.events import Event, RequestBody, RequestHeaders, ResponseBody
from edge_extproc.exchange.handler import Closing, Interrupt, MoreTime, no_interrupt, no_more_time
from edge_extproc.pb.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from edge_extproc.server.extproc import METHOD, ExtProcService
from edge_extproc.server.grpcio_transport import OPTIONS
from edge_extproc.server.rpc import CallRefused, Status
from edge_extproc.server.serve import serve

# Long enough that only a hanging test ever meets it.
PATIENCE = 30
ROLE = (("x-edge-role", "router"),)


@dataclass
class Script:
    """A handler that answers as told and keeps what it saw."""

    answer: Callable[[Event], Awaitable[Command]]
    metadata: Mapping[str, str]
    events: list[Event] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    fail_on_close: bool = False
    began_to_end: bool = False
    more_time: MoreTime = no_more_time
    interrupt: Interrupt = no_interrupt

    async def handle(self, event: Event) -> Command:
        self.events.append(event)
        return await self.answer(event)

    unfinished = None

    async def before_close(self) -> None:
        self.began_to_end = True
        await asyncio.sleep(0)  # grpcio cancels it here after a reset

    def closed(self, why: Closing) -> None:
        assert self.began_to_end is (why != "stopping")
        self.closings.append(why)
        self.over.set()
        if self.fail_on_close:
            raise RuntimeError("a secret of closed")


async def go_on(event: Event) -> Command:
    return CONTINUE


class Socket(NamedTuple):
    """Where to serve, and by which transport."""

    path: Path
    transport: Literal["http2", "grpcio"]


@dataclass
class Stage:
    """A served ExtProcService and a channel to it."""

    channel: aio.Channel
    scripts: list[Script]
    errors: list[BaseException]
    stop: asyncio.Event
    serving: asyncio.Task[None]

    def call(self, metadata: tuple[tuple[str, str], ...] = ROLE) -> Stream:
        return self.channel.stream_stream(METHOD)(metadata=metadata)

    async def last(self) -> Script:
        """The script of the only stream, when it is over."""
        async with asyncio.timeout(PATIENCE):
            (script,) = self.scripts
            await script.over.wait()
        return script


Stream: TypeAlias = "aio.StreamStreamCall[bytes, bytes]"


@asynccontextmanager
async def staged(
    socket: Socket,
    answer: Callable[[Event], Awaitable[Command]] = go_on,
    *,
    grace: float = PATIENCE,
    fail_on_close: bool = False,
) -> AsyncIterator[Stage]:
    scripts: list[Script] = []
    errors: list[BaseException] = []
    stop, ready = asyncio.Event(), asyncio.Event()

    def open_stream(metadata: Mapping[str, str], local: str | None) -> Script:
        assert local == str(socket.path)
        match metadata.get("x-edge-role"):
            case "router" if stop.is_set():
                raise CallRefused(Status.UNAVAILABLE, "the worker stops")
            case "router" | "upstream":
                scripts.append(Script(answer, metadata, fail_on_close=fail_on_close))
                return scripts[-1]
            case "broken":
                raise RuntimeError("a secret of open_stream")
            case role:
                raise PeerError(f"unknown role {role!r}")

    service = ExtProcService(open_stream, errors.append)
    serving = asyncio.create_task(
        serve(
            f"unix:{socket.path}",
            [service],
            stop,
            grace,
            on_ready=ready.set,
            on_stopping=service.stop,
            drained=service.drained,
            transport=socket.transport,
        )
    )
    try:
        async with asyncio.timeout(PATIENCE), aio.insecure_channel(f"unix:{socket.path}", options=OPTIONS) as channel:
            await ready.wait()
            yield Stage(channel, scripts, errors, stop, serving)
    finally:
        stop.set()
        await serving


@pytest.fixture(params=["http2", "grpcio"])
def socket(tmp_path: Path, request: pytest.FixtureRequest) -> Socket:
    return Socket(tmp_path / "worker.sock", request.param)


def headers(**pairs: str) -> bytes:
    message = ProcessingRequest()
    message.request_headers.SetInParent()
    for key, value in pairs.items():
        message.request_headers.headers.headers.add(key=key, raw_value=value.encode())
    return message.SerializeToString()


def body(data: bytes, *, end: bool = True) -> bytes:
    message = ProcessingRequest()
    message.request_body.body = data
    message.request_body.end_of_stream = end
    return message.SerializeToString()


def response_body(data: bytes, *, end: bool = False) -> bytes:
    message = ProcessingRequest()
    message.response_body.body = data
    message.response_body.end_of_stream = end
    return message.SerializeToString()


async def ask(stream: Stream, message: bytes) -> ProcessingResponse:
    await stream.write(message)
    answer = await stream.read()
    assert isinstance(answer, bytes), f"the stream is over: {await stream.code()}"
    return ProcessingResponse.FromString(answer)


async def test_each_message_gets_one_answer_in_its_order(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        return Continue(body=event.body[::-1]) if isinstance(event, ResponseBody) else CONTINUE

    async with staged(socket, answer) as stage:
        stream = stage.call()
        # All at once: Envoy waits for each answer, but nothing here relies on that.
        for message in (headers(), body(b"q"), *(response_body(b"chunk%d" % n) for n in range(20))):
            await stream.write(message)
        await stream.done_writing()
        answers = [ProcessingResponse.FromString(message) async for message in stream]
        script = await stage.last()

    phases = [answer.WhichOneof("response") for answer in answers]
    assert phases == ["request_headers", "request_body", *["response_body"] * 20]
    assert [a.response_body.response.body_mutation.body for a in answers[2:]] == [
        (b"chunk%d" % n)[::-1] for n in range(20)
    ]
    assert script.closings == ["done"]
    assert stage.errors == []


async def test_a_stream_tells_its_handler_the_metadata(socket: Socket) -> None:
    async with staged(socket) as stage:
        stream = stage.call((*ROLE, ("traceparent", "00-11-22-01"), ("some-bin", b"\xff")))
        await ask(stream, headers())
        await stream.done_writing()
        script = await stage.last()

    assert script.metadata["x-edge-role"] == "router"
    assert script.metadata["traceparent"] == "00-11-22-01"
    assert "some-bin" not in script.metadata


async def test_a_stream_without_messages_is_done(socket: Socket) -> None:
    async with staged(socket) as stage:
        stream = stage.call()
        await stream.done_writing()

        assert await stream.read() is aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        assert (await stage.last()).closings == ["done"]


async def test_a_handler_that_fails_is_told_to_us_and_not_to_envoy(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        raise RuntimeError("a secret of handle")

    async with staged(socket, answer) as stage:
        stream = stage.call()
        await stream.write(headers())

        assert await stream.code() is grpc.StatusCode.INTERNAL
        assert await stream.details() == "stream stopped"
        assert (await stage.last()).closings == ["error"]
    assert [str(error) for error in stage.errors] == ["a secret of handle"]


async def test_a_command_that_does_not_fit_is_a_bug(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        return Continue(body=b"not in answer to headers")

    async with staged(socket, answer) as stage:
        stream = stage.call()
        await stream.write(headers())

        assert await stream.code() is grpc.StatusCode.INTERNAL
        assert (await stage.last()).closings == ["error"]
    assert [type(error) for error in stage.errors] == [ValueError]


async def test_a_handler_that_fails_at_its_end_is_told_to_us_and_not_to_envoy(socket: Socket) -> None:
    async with staged(socket, fail_on_close=True) as stage:
        stream = stage.call()
        await ask(stream, headers())
        await stream.done_writing()

        assert await stream.code() is grpc.StatusCode.INTERNAL
        assert await stream.details() == "stream stopped"
    assert [str(error) for error in stage.errors] == ["a secret of closed"]


@pytest.mark.parametrize("message", [b"", b"\xff\xff\xff", body(b"x")[:-3]], ids=["empty", "garbage", "cut"])
async def test_a_message_that_makes_no_sense_is_envoys_mistake(socket: Socket, message: bytes) -> None:
    async with staged(socket) as stage:
        stream = stage.call()
        await stream.write(message)

        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await stream.details() == "protocol error"
        script = await stage.last()
    assert (script.events, script.closings) == ([], ["error"])
    assert [type(error) for error in stage.errors] == [PeerError]


async def test_an_event_out_of_order_is_envoys_mistake(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        raise PeerError("a body before the headers")

    async with staged(socket, answer) as stage:
        stream = stage.call()
        await stream.write(body(b"x"))

        assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert await stream.details() == "protocol error"


@pytest.mark.parametrize(
    ("metadata", "code", "error"),
    [
        ((("x-edge-role", "cook"),), grpc.StatusCode.INVALID_ARGUMENT, PeerError),
        ((), grpc.StatusCode.INVALID_ARGUMENT, PeerError),
        ((("x-edge-role", "broken"),), grpc.StatusCode.INTERNAL, RuntimeError),
    ],
    ids=["unknown role", "no role", "a bug"],
)
async def test_a_stream_that_cannot_be_opened_is_refused(
    socket: Socket, metadata: tuple[tuple[str, str], ...], code: grpc.StatusCode, error: type[Exception]
) -> None:
    async with staged(socket) as stage:
        stream = stage.call(metadata)

        assert await stream.code() is code
        assert "secret" not in (await stream.details() or "")
    assert [type(raised) for raised in stage.errors] == [error]
    assert stage.scripts == []


async def test_a_caller_that_leaves_cancels_a_busy_handler(socket: Socket) -> None:
    busy, cancelled = asyncio.Event(), asyncio.Event()

    async def answer(event: Event) -> Command:
        busy.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError("waited for ever, and came back")

    async with staged(socket, answer) as stage:
        stream = stage.call()
        await stream.write(headers())
        await busy.wait()
        stream.cancel()
        script = await stage.last()

    assert cancelled.is_set()
    assert script.closings == ["cancelled"]
    assert stage.errors == []


async def test_a_caller_that_leaves_between_messages_closes_once(socket: Socket) -> None:
    async with staged(socket) as stage:
        stream = stage.call()
        await ask(stream, headers())
        stream.cancel()
        script = await stage.last()

    # gRPC either cancels the task or lets the next read say that there is no more.
    assert script.closings in (["cancelled"], ["done"])
    assert stage.errors == []


async def test_many_callers_that_leave_at_any_moment_each_close_once(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        await asyncio.sleep(0)
        return Continue(body=b"y" * 1000) if isinstance(event, ResponseBody) else CONTINUE

    async with staged(socket, answer) as stage:

        async def leave_after(turns: int) -> None:
            stream = stage.call()
            await stream.write(headers())
            for _ in range(turns):
                await asyncio.sleep(0)
            stream.cancel()

        await asyncio.gather(*(leave_after(turns) for turns in range(60)))

    # Only now no stream can begin any more; and to the server one that was cancelled is over before its handler is.
    async with asyncio.timeout(PATIENCE):
        for script in stage.scripts:
            await script.over.wait()
    assert all(len(script.closings) == 1 for script in stage.scripts)
    assert stage.errors == []


async def test_a_stopped_worker_lets_streams_end(socket: Socket) -> None:
    async with staged(socket) as stage:
        stream = stage.call()
        await ask(stream, headers())
        stage.stop.set()
        answer = await ask(stream, body(b"late"))
        await stream.done_writing()
        await stage.serving

    assert answer.WhichOneof("response") == "request_body"
    assert stage.scripts[0].closings == ["done"]


async def test_a_stopped_worker_accepts_the_streams_that_an_open_one_needs(socket: Socket) -> None:
    async with staged(socket) as stage:
        router = stage.call()
        await ask(router, headers())
        stage.stop.set()
        refused = stage.call()
        assert await refused.code() is grpc.StatusCode.UNAVAILABLE
        # A new connection, too.
        async with aio.insecure_channel(f"unix:{socket.path}", options=OPTIONS) as other:
            attempt = other.stream_stream(METHOD)(metadata=(("x-edge-role", "upstream"),))
            answer = await ask(attempt, headers())
            await attempt.done_writing()
            assert await attempt.code() is grpc.StatusCode.OK
        await router.done_writing()
        await stage.serving

    assert answer.WhichOneof("response") == "request_headers"
    assert [script.closings for script in stage.scripts] == [["done"], ["done"]]
    assert stage.errors == []


async def test_a_stopped_worker_cuts_streams_after_its_grace(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        stage.stop.set()
        await asyncio.Event().wait()
        raise AssertionError("waited for ever, and came back")

    async with staged(socket, answer, grace=0.01) as stage:
        stream = stage.call()
        await stream.write(headers())
        await stage.serving

        assert await stream.code() is not grpc.StatusCode.OK
    assert stage.scripts[0].closings == ["stopping"]
    assert stage.errors == []


async def test_a_message_over_four_mebibytes_passes_both_ways(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        return Continue(body=event.body + b"!") if isinstance(event, RequestBody) else CONTINUE

    data = b"x" * (20 * 1024 * 1024)
    async with staged(socket, answer) as stage:
        stream = stage.call()
        answered = await ask(stream, body(data))
        await stream.done_writing()

    assert answered.request_body.response.body_mutation.body == data + b"!"


async def test_a_reply_ends_nothing_by_itself(socket: Socket) -> None:
    async def answer(event: Event) -> Command:
        return ImmediateResponse(401, (("content-type", "application/json"),), b"{}", "edge_unauthenticated")

    async with staged(socket, answer) as stage:
        stream = stage.call()
        answered = await ask(stream, headers(path="/"))
        await stream.done_writing()
        script = await stage.last()

    assert answered.immediate_response.status.code == 401
    assert script.closings == ["done"]
    assert isinstance(script.events[0], RequestHeaders)


async def test_other_methods_are_not_implemented(socket: Socket) -> None:
    async with staged(socket) as stage:
        stream = stage.channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Other")()

        assert await stream.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_answer_that_comes_too_late_is_no_bug(socket: Socket) -> None:
    busy = asyncio.Event()

    async def answer(event: Event) -> Command:
        busy.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return CONTINUE
        raise AssertionError("waited for ever, and came back")

    async with staged(socket, answer) as stage:
        stream = stage.call()
        await stream.write(headers())
        await busy.wait()
        stream.cancel()
        script = await stage.last()

    assert script.closings == ["cancelled"]
    assert stage.errors == []


async def test_a_stream_can_be_answered_while_no_message_waits(socket: Socket) -> None:
    async with staged(socket, go_on) as stage:
        call = stage.call()
        await call.write(headers())
        await call.read()
        await stage.scripts[0].interrupt(ImmediateResponse(400, (), b"no", "edge_guardrail_blocked"))
        message = ProcessingResponse.FromString(await call.read())
        call.cancel()
        script = await stage.last()
        await script.interrupt(ImmediateResponse(400, (), b"no", "edge_guardrail_blocked"))  # nobody gets it

    assert (400, b"no") == (message.immediate_response.status.code, message.immediate_response.body)
    assert stage.errors == []


async def test_the_first_answers_of_a_stream_can_be_written_at_once(socket: Socket) -> None:
    scripts = []

    async def hasty(event: Event) -> Command:
        await asyncio.gather(scripts[0].more_time(1), scripts[0].more_time(2))
        return CONTINUE

    async with staged(socket, hasty) as stage:
        scripts = stage.scripts
        call = stage.call()
        await call.write(body(b"{}"))
        first, second, last = [ProcessingResponse.FromString(await call.read()) for _ in range(3)]
        await call.done_writing()

    assert [1, 2] == [message.override_message_timeout.ToSeconds() for message in (first, second)]
    assert "request_body" == last.WhichOneof("response")


async def test_an_answer_after_the_end_of_its_stream_is_for_nobody(socket: Socket) -> None:
    async with staged(socket, go_on) as stage:
        call = stage.call()
        await call.write(headers())
        await call.read()
        await call.done_writing()
        await call.code()
        script = await stage.last()
        await script.interrupt(ImmediateResponse(400, (), b"no", "edge_guardrail_blocked"))

    assert [] == stage.errors
    assert ["done"] == script.closings


async def test_more_time_is_told_before_the_answer(socket: Socket) -> None:
    scripts = []

    async def slow(event: Event) -> Command:
        await scripts[0].more_time(2.5)
        return CONTINUE

    async with staged(socket, slow) as stage:
        scripts = stage.scripts
        call = stage.call()
        await call.write(body(b"{}"))
        first = ProcessingResponse.FromString(await call.read())
        second = ProcessingResponse.FromString(await call.read())
        await call.done_writing()

    assert 2500 == first.override_message_timeout.ToMilliseconds()
    assert first.WhichOneof("response") is None
    assert "request_body" == second.WhichOneof("response")
