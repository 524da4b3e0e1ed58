"""A warning reaches the server that is to hear of it: signed, and again where it failed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json

from limits_kit import dollars, until

from edge_extproc.limits.webhook import Webhook


async def test_a_warning_is_posted_signed_until_it_is_taken() -> None:
    heard: list[tuple[bytes, bytes]] = []
    answers = [b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 204 OK\r\n\r\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))[15:])
        heard.append((head, await reader.readexactly(length)))
        writer.write(answers[len(heard) - 1].replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bugs: list[BaseException] = []
    webhook = Webhook(f"http://127.0.0.1:{port}/hook", b"secret", bugs.append)
    webhook.start()
    webhook.enqueue(dollars(2, hard=False), 1_700_000)
    await until(lambda: len(heard) == 2)
    await webhook.close()
    server.close()

    head, body = heard[1]
    signed = "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert heard[0][1] == body
    assert b"x-edge-signature: " + signed.encode() in head.lower()
    assert ("limit.warning", "acme", "dollars", 1.7, 2.0, False) == (
        told["event"],
        told["tenant"],
        told["measure"],
        told["used"],
        told["limit"],
        told["hard"],
    )
    assert not bugs
