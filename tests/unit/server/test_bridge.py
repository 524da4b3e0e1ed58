"""Sessions of the Responses API that become requests, with a scripted gateway in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed

from edge_extproc.server.bridge import GatewayUnreachable, Headers, ResponsesBridge, StreamedReply

LARGEST = 4096
MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}


def frame(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def completed(number: int, *output: dict[str, Any]) -> list[bytes]:
    response = {"id": f"resp_{number}", "status": "in_progress", "output": []}
    return [
        frame({"type": "response.created", "response": response}),
        frame({"type": "response.completed", "response": {**response, "status": "completed", "output": list(output)}}),
    ]


class Gateway:
    """Answers each request with the next of `replies`. A portion that is None: it waits until the request is ended."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, list[bytes | None]]] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.ended = asyncio.Event()
        self.unreachable = False

    @asynccontextmanager
    async def ask(self, headers: Headers, body: bytes) -> AsyncIterator[StreamedReply]:
        if self.unreachable:
            raise GatewayUnreachable("the gateway does not answer")
        self.requests.append(({name.decode(): value.decode() for name, value in headers}, json.loads(body)))
        status, portions = self.replies.pop(0)
        try:
            yield Scripted(status, portions)
        finally:
            self.ended.set()


class Scripted:
    def __init__(self, status: int, portions: list[bytes | None]) -> None:
        self.status = status
        self._portions = portions

    async def chunks(self) -> AsyncIterator[bytes]:
        for portion in self._portions:
            if portion is None:
                await asyncio.Event().wait()
            else:
                yield portion


Body = Callable[[Gateway, ResponsesBridge, ClientConnection], Awaitable[None]]


def play(tmp_path: Path, body: Body, **headers: str) -> None:
    async def run() -> None:
        gateway = Gateway()
        bridge = ResponsesBridge(gateway.ask, lambda: LARGEST)
        path = str(tmp_path / "b.sock")
        await bridge.start(path)
        try:
            uri = "ws://edge.example/v1/responses"
            given = {"authorization": "Bearer k", **headers}
            async with asyncio.timeout(20), unix_connect(path, uri, additional_headers=given) as session:
                await body(gateway, bridge, session)
        finally:
            await bridge.close()

    asyncio.run(run())


async def ask(session: ClientConnection, **event: Any) -> None:
    await session.send(json.dumps({"type": "response.create", "model": "m", **event}))


async def events(session: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await session.recv()) for _ in range(count)]


def test_a_response_is_a_request_with_the_headers_of_the_upgrade(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        whole = b"".join([*completed(1, MESSAGE), b"data: [DONE]\n\n"])
        gateway.replies.append((200, [whole[:30], whole[30:]]))
        await ask(session, input="Hello", max_output_tokens=9)
        created, ended = await events(session, 2)
        assert ("response.created", "response.completed") == (created["type"], ended["type"])
        ((headers, sent),) = gateway.requests
        assert {"model": "m", "input": "Hello", "max_output_tokens": 9, "stream": True} == sent
        assert ("Bearer k", "edge.example", "r") == (headers["authorization"], headers["host"], headers["x-edge-run"])
        own = {"authorization", "host", "accept", "content-type", "x-request-id", "user-agent", "x-edge-run"}
        assert own == {name.lower() for name in headers}

    unwanted = {
        "cookie": "c",
        "idempotency-key": "i",
        "x-request-id": "u",
        "x-edge-route": "socket",
        "x-forwarded-for": "a",
    }
    play(tmp_path, body, **unwanted, **{"x-edge-run": "r"})


def test_the_last_response_is_continued_by_its_items(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        thought = {"type": "reasoning", "id": "rs_1", "summary": []}
        kept = {**thought, "encrypted_content": "e"}
        gateway.replies += [(200, completed(1, thought, kept, MESSAGE)), (200, completed(2)), (200, completed(3))]
        await ask(session, input="One", store=False)
        await events(session, 2)
        await ask(session, input=[{"role": "user", "content": "Two"}], previous_response_id="resp_1", store=False)
        await events(session, 2)
        await ask(session, input="Three", previous_response_id="resp_1")
        await events(session, 2)
        _, second, third = (sent for _, sent in gateway.requests)
        one = {"type": "message", "role": "user", "content": "One"}
        assert [one, kept, MESSAGE, {"role": "user", "content": "Two"}] == second["input"]
        assert "previous_response_id" not in second
        # The gateway or the provider may know it.
        assert ("Three", "resp_1") == (third["input"], third["previous_response_id"])

    play(tmp_path, body)


def test_items_of_earlier_events_count_if_the_end_has_none(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        created, ended = completed(1)
        done = frame({"type": "response.output_item.done", "output_index": 0, "item": MESSAGE})
        gateway.replies += [(200, [created, done, ended]), (200, completed(2))]
        await ask(session, input="One")
        await events(session, 3)
        await ask(session, input=[], previous_response_id="resp_1")
        await events(session, 2)
        assert MESSAGE == gateway.requests[1][1]["input"][1]

    play(tmp_path, body)


def test_a_conversation_over_the_limit_is_forgotten(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.replies += [(200, completed(1, {"type": "message", "content": "x" * LARGEST})), (200, completed(2))]
        await ask(session, input="One")
        await events(session, 2)
        await ask(session, input="Two", previous_response_id="resp_1")
        await events(session, 2)
        assert "resp_1" == gateway.requests[1][1]["previous_response_id"]

    play(tmp_path, body)


def test_a_warmup_asks_nobody_and_can_be_continued(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        await ask(session, input="One", generate=False)
        _, ended = await events(session, 2)
        assert [] == gateway.requests
        gateway.replies.append((200, completed(1)))
        await ask(session, input="Two", previous_response_id=ended["response"]["id"])
        await events(session, 2)
        assert ["One", "Two"] == [item["content"] for item in gateway.requests[0][1]["input"]]

    play(tmp_path, body)


def test_refusals_of_the_gateway_are_error_events_and_the_session_goes_on(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        error = {"type": "insufficient_quota", "code": "budget_exceeded", "message": "no"}
        gateway.replies += [(429, [json.dumps({"error": error}).encode()]), (503, [b"<html>"]), (200, completed(1))]
        for _ in range(3):
            await ask(session, input="x")
        first, second, *_, last = await events(session, 4)
        assert {"type": "error", "status": 429, "error": error} == first
        assert ("error", 503) == (second["type"], second["status"])
        assert "response.completed" == last["type"]

    play(tmp_path, body)


def test_a_caller_who_is_not_known_any_more_ends_the_session(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.replies.append((401, [b'{"error": {"message": "no"}}']))
        await ask(session, input="x")
        assert 401 == (await events(session, 1))[0]["status"]
        with pytest.raises(ConnectionClosed) as closed:
            await session.recv()
        assert closed.value.rcvd is not None
        assert 1008 == closed.value.rcvd.code

    play(tmp_path, body)


@pytest.mark.parametrize("unreachable", [False, True])
def test_a_response_without_an_end_is_an_error(tmp_path: Path, *, unreachable: bool) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.unreachable = unreachable
        gateway.replies.append((200, completed(1)[:1]))
        await ask(session, input="x")
        *_, last = await events(session, 1 if unreachable else 2)
        assert ("error", 502, "stream_broken") == (last["type"], last["status"], last["error"]["code"])

    play(tmp_path, body)


def test_a_response_can_be_cancelled(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.replies += [(200, [*completed(1)[:1], None]), (200, completed(2))]
        await ask(session, input="x")
        await events(session, 1)
        await session.send('{"type": "response.cancel"}')
        (cancelled,) = await events(session, 1)
        assert ("response.cancelled", "resp_1") == (cancelled["type"], cancelled["response"]["id"])
        await gateway.ended.wait()
        await ask(session, input="y")
        assert "response.completed" == (await events(session, 2))[-1]["type"]

    play(tmp_path, body)


def test_a_response_that_has_ended_cannot_be_cancelled(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.replies.append((200, [*completed(1), None]))
        await ask(session, input="x")
        await events(session, 2)
        await session.send('{"type": "response.cancel"}')
        (error,) = await events(session, 1)
        assert ("error", 400) == (error["type"], error["status"])
        assert not gateway.ended.is_set()

    play(tmp_path, body)


def test_the_request_ends_when_the_caller_leaves(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.replies.append((200, [*completed(1)[:1], None]))
        await ask(session, input="x")
        await events(session, 1)
        await session.close()
        await gateway.ended.wait()

    play(tmp_path, body)


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ("[]", None),
        ('{"type": "session.update"}', "type"),
        ('{"type": "response.steer"}', "type"),
        ('{"type": "response.cancel"}', None),
        ('{"type": "response.create", "background": true}', "background"),
        ('{"type": "response.create", "stream_id": "a"}', "stream_id"),
        ('{"type": "response.create", "input": 3}', "input"),
    ],
)
def test_events_that_are_not_sent(tmp_path: Path, event: str, param: str | None) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        await session.send(event)
        (error,) = await events(session, 1)
        assert ("error", 400, param) == (error["type"], error["status"], error["error"]["param"])
        assert [] == gateway.requests

    play(tmp_path, body)


def test_few_responses_wait(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        gateway.replies.append((200, [*completed(1)[:1], None]))
        await ask(session, input="x")
        await events(session, 1)
        for _ in range(5):
            await ask(session, input="x")
        assert "error" == (await events(session, 1))[0]["type"]
        assert 1 == len(gateway.requests)

    play(tmp_path, body)


@pytest.mark.parametrize(("message", "code"), [("x" * (LARGEST + 1), 1009), (b"binary", 1003)])
def test_messages_that_end_the_session(tmp_path: Path, message: str | bytes, code: int) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        await session.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await session.recv()
        assert closed.value.rcvd is not None
        assert code == closed.value.rcvd.code

    play(tmp_path, body)


def test_a_stopping_worker_ends_the_current_response_first(tmp_path: Path) -> None:
    async def body(gateway: Gateway, bridge: ResponsesBridge, session: ClientConnection) -> None:
        created, ended = completed(1)
        more = asyncio.Event()

        class Slow(Scripted):
            async def chunks(self) -> AsyncIterator[bytes]:
                yield created
                await more.wait()
                yield ended

        @asynccontextmanager
        async def slow(headers: Headers, body: bytes) -> AsyncIterator[StreamedReply]:
            yield Slow(200, [])

        bridge._ask = slow
        gateway.ask = slow  # type: ignore[method-assign]
        for each in bridge._sessions.values():
            each._ask = slow
        await ask(session, input="x")
        await events(session, 1)
        bridge.stop()
        more.set()
        assert "response.completed" == (await events(session, 1))[0]["type"]
        with pytest.raises(ConnectionClosed) as closed:
            await session.recv()
        assert closed.value.rcvd is not None
        assert 1001 == closed.value.rcvd.code
        await bridge.drained()

    play(tmp_path, body)
