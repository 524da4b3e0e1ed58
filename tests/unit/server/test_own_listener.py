"""Requests to the gateway's own listener, with an HTTP server on a port of this machine."""

from __future__ import annotations

import asyncio

import pytest
from ports import free_port

from edge_extproc.server.bridge import GatewayUnreachable
from edge_extproc.server.own_listener import OwnListener

WHOLE = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 5\r\n\r\nhello"
CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"


async def ask(listener: OwnListener) -> tuple[int, bytes]:
    async with listener.responses([(b"host", b"edge.example"), (b"authorization", b"k")], b"{}") as reply:
        return reply.status, b"".join([chunk async for chunk in reply.chunks()])


def play(answer: bytes, count: int = 1) -> tuple[list[bytes], list[tuple[int, bytes]]]:
    heads: list[bytes] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"{}"):
                heads.append(head)
                writer.write(answer)
                if answer is CUT:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def run() -> list[tuple[int, bytes]]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        listener = OwnListener(lambda: f"http://127.0.0.1:{port}")
        try:
            return [await ask(listener) for _ in range(count)]
        finally:
            await listener.close()
            await ended.wait()
            server.close()

    return heads, asyncio.run(run())


def test_requests_have_the_given_headers_and_no_cookies() -> None:
    heads, replies = play(WHOLE, 2)

    assert [(200, b"hello")] * 2 == replies
    for head in heads:
        lines = head.lower().split(b"\r\n")
        assert b"post /v1/responses http/1.1" == lines[0]
        assert {b"host: edge.example", b"authorization: k", b"content-length: 2"} == {*lines[1:-2]}


def test_a_cut_reply_is_an_error_of_the_gateway() -> None:
    with pytest.raises(GatewayUnreachable, match="closed the connection"):
        play(CUT)


def test_a_listener_that_does_not_answer() -> None:
    async def run() -> None:
        listener = OwnListener(lambda: f"http://127.0.0.1:{free_port()}")
        try:
            await ask(listener)
        finally:
            await listener.close()

    with pytest.raises(GatewayUnreachable, match="does not answer"):
        asyncio.run(run())
