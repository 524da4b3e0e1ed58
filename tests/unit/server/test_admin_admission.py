"""The admin port refuses what it did not ask for before it holds any of it. A real server, and raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from admin_kit import open_api, secret_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from edge_extproc.server import admin, admin_admission
from edge_extproc.server.admin_admission import MAX_BODY, MAX_HEADERS, AdmissionChecks, HeaderTimeoutProtocol

PATIENCE = 20.0


class Running:
    def __init__(self, server: admin.AdminServer) -> None:
        self.port = server.servers[0].sockets[0].getsockname()[1]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, raw: bytes) -> tuple[int, bytes]:
        """Status, and all that comes until the server closes."""
        reader, writer = await self.open()
        writer.write(raw)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        try:
            async with asyncio.timeout(PATIENCE):
                came = await reader.read()
        except ConnectionError:
            came = b""
        finally:
            writer.close()
        return int(came[9:12] or 0), came


async def _length(request: Request) -> JSONResponse:
    return JSONResponse({"length": len(await request.body())})


@contextlib.asynccontextmanager
async def running(**more: Any) -> AsyncIterator[Running]:
    api = open_api()
    app = Starlette(routes=[Route("/length", _length, methods=["POST"]), Mount("/", api.app)])
    server = admin.server(app, "127.0.0.1", 0, admits=api.app.state.gate.admits, **more)
    serving = asyncio.create_task(server.serve())
    await server.until_started()
    try:
        yield Running(server)
    finally:
        server.should_exit = True
        await serving


def request(line: str, *headers: str, body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    head = [f"{line} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


OURS = f"Authorization: Bearer {secret_of('root')}"
CLOSE = "Connection: close"


async def test_who_is_not_admitted_is_told_so_before_any_of_the_body_is_sent() -> None:
    async with running() as at:
        status, came = await at.say(request("POST /admin/v1/keys", f"Content-Length: {1 << 30}"))

    assert 401 == status
    assert "unauthenticated" == json.loads(came.partition(b"\r\n\r\n")[2])["error"]["code"]


@pytest.mark.parametrize("path", ["/admin/v1/keys", "/length"])
async def test_a_body_over_the_limit_is_refused_by_its_length(path: str) -> None:
    async with running() as at:
        status, _ = await at.say(request(f"POST {path}", OURS, f"Content-Length: {MAX_BODY + 1}"))

    assert 413 == status


async def test_a_body_without_a_length_is_read_no_further_than_the_limit() -> None:
    piece = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    async with running() as at:
        sent = piece * (MAX_BODY // 0x8000 + 1)
        status, _ = await at.say(request("POST /length", "Transfer-Encoding: chunked", body=sent))

    assert 413 == status


async def test_a_body_within_the_limit_comes_whole() -> None:
    async with running() as at:
        body = b"a" * MAX_BODY
        status, came = await at.say(request("POST /length", CLOSE, f"Content-Length: {MAX_BODY}", body=body))

    assert (200, {"length": MAX_BODY}) == (status, json.loads(came.partition(b"\r\n\r\n")[2]))


async def test_an_admin_still_makes_keys() -> None:
    body = b'{"tenant": "acme", "id": "made"}'
    async with running() as at:
        status, _ = await at.say(
            request(
                "POST /admin/v1/keys",
                OURS,
                CLOSE,
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                body=body,
            )
        )

    assert 201 == status


async def test_a_body_that_does_not_come_is_given_up() -> None:
    api = open_api()
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "path": "/length",
        "method": "POST",
        "headers": [(b"host", b"localhost"), (b"content-length", b"5")],
    }
    await AdmissionChecks(api.app, lambda path, headers: True, (), seconds=0.01)(scope, receive, send)

    assert 408 == sent[0]["status"]


async def test_huge_headers_are_refused() -> None:
    async with running() as at:
        status, _ = await at.say(request("GET /admin/v1/whoami", "X-Long: " + "a" * 32 * MAX_HEADERS))

    assert status in (0, 400)  # the answer may be lost where the peer is still sending


@pytest.mark.parametrize("before", [b"", request("GET /admin/v1/whoami", OURS)])
async def test_headers_that_do_not_come_close_the_connection(before: bytes) -> None:
    """Also those of a connection's second request."""

    class Hasty(HeaderTimeoutProtocol):
        seconds = 0.05

    server = admin.server(open_api().app, "127.0.0.1", 0)
    server.config.http = server.config.http_protocol_class = Hasty
    serving = asyncio.create_task(server.serve())
    await server.until_started()
    at = Running(server)
    reader, writer = await at.open()
    writer.write(before + b"GET /healthz HTTP/1.1\r\nHost: x")
    async with asyncio.timeout(PATIENCE):
        await reader.read()
    writer.close()
    server.should_exit = True
    await serving


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:10001", 401),
        ("[::1]:10001", 401),
        ("localhost", 401),
        ("LOCALHOST.:1", 401),
        ("ops.example:10001", 401),
        ("evil.example", 421),
        ("localhost.evil.example:10001", 421),
    ],
)
async def test_a_name_that_this_port_does_not_have_is_refused(host: str, status: int) -> None:
    async with running(hosts=["ops.example"]) as at:
        found, _ = await at.say(request("GET /admin/v1/whoami", CLOSE, host=host))

    assert status == found


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Origin: http://127.0.0.1", 200),
        ("Origin: http://evil.example", 403),
        ("Origin: null", 403),
        ("Sec-Fetch-Site: cross-site", 403),
    ],
)
async def test_a_page_of_another_site_is_refused(header: str, status: int) -> None:
    async with running() as at:
        found, _ = await at.say(request("GET /admin/v1/whoami", OURS, CLOSE, header))

    assert status == found


def test_an_address_that_is_not_loopback_has_any_name_unless_config_says_which() -> None:
    def hosts(address: str, *names: str) -> Any:
        door = admin.server(open_api().app, address, 0, hosts=names).config.app
        return getattr(door, "_hosts", "no door")

    assert [(), None, ("a.example",)] == [hosts("::1"), hosts("0.0.0.0"), hosts("0.0.0.0", "a.example")]


def test_the_bounds_leave_room_for_the_longest_request_of_the_api() -> None:
    longest = {"tenant": "a" * 64, "note": "\u2028" * 500, "models": ["m" * 256] * 100, "roles": ["r" * 64] * 32}

    assert len(json.dumps(longest).encode()) * 6 < admin_admission.MAX_BODY


async def test_a_request_for_a_websocket_is_answered_as_any_other() -> None:
    upgrade = (
        "Connection: Upgrade, close",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    )
    async with running() as at:
        status, came = await at.say(request("POST /length", *upgrade, OURS, "Content-Length: 0"))

    assert 200 == status
    assert came.endswith(b'{"length":0}')


async def test_a_client_cannot_choose_its_own_address() -> None:
    """The limit of sign-in attempts counts by address."""

    async def peer(request: Request) -> JSONResponse:
        return JSONResponse({"peer": request.client.host if request.client is not None else None})

    server = admin.server(Starlette(routes=[Route("/peer", peer)]), "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve())
    await server.until_started()
    try:
        forged = request("GET /peer", "X-Forwarded-For: 10.1.2.3", "Connection: close")
        status, came = await Running(server).say(forged)
    finally:
        server.should_exit = True
        await serving

    assert 200 == status
    assert {"peer": "127.0.0.1"} == json.loads(came.partition(b"\r\n\r\n")[2])
