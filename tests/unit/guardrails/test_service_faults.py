"""What services and the network do wrong: each fault is a clear error that contains no secret and no text of a call."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from certificates import mutual
from ports import free_port
from scripted_service import Received, answer_json, response, scripted_service
from services_kit import SECRET, new_refreshers, service_of, text_check

from edge_extproc.errors import PolicyUnavailable
from edge_extproc.guardrails.base import Verdict

TEXT = "the text of a caller"
NONE = {"action": "NONE"}


async def fault_of(answer: Any, **more: Any) -> tuple[str, list[Received]]:
    """The message of the error, and the requests."""
    async with scripted_service(lambda request: answer) as server:
        service = service_of("litellm_webhook", **{"url": server.url, "api_key": SECRET, **more})
        try:
            with pytest.raises(PolicyUnavailable) as caught:
                await service.check(text_check(TEXT))
        finally:
            if isinstance(answer, asyncio.Event):
                answer.set()
            await service.close()
    return caught.value.message, server.requests


PREFIX = "the guardrail 'my rule' could not be applied: its service "
ANSWERS = {
    "400": (response(400, b'{"error": "' + TEXT.encode() + b'"}'), "answered with status 400"),
    "401": (answer_json({"error": SECRET}, 401), "answered with status 401"),
    "429": (response(429, b""), "answered with status 429"),
    "503": (response(503, b"<html>"), "answered with status 503"),
    "no JSON": (response(200, b"<html>" + TEXT.encode()), "sent an answer that is not as documented: it is not JSON"),
    "no UTF-8": (response(200, b'{"action": "\xff"}'), "sent an answer that is not as documented: it is not JSON"),
    "deep": (response(200, b"[" * 200_000), "sent an answer that is not as documented: it is not JSON"),
    "empty": (response(200, b""), "sent an answer that is not as documented: it is not JSON"),
    "a list": (response(200, b"[]"), "sent an answer that is not as documented: it is not a JSON object"),
    "compressed": (
        response(200, gzip.compress(b"{}"), "content-encoding: gzip"),
        "sent an answer that is not as documented: it is compressed",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_wrong_answer_gives_no_verdict(case: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer, cause = ANSWERS[case]

    message, _ = await fault_of(answer)

    assert PREFIX + cause == message
    assert SECRET not in caplog.text
    assert TEXT not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with scripted_service(lambda request: NONE) as other:
        message, requests = await fault_of(response(status, b"", f"location: {other.url}/"))

        assert PREFIX + f"answered with status {status}" == message
        assert 1 == len(requests)
        assert [] == other.requests


async def test_an_endless_answer_is_not_stored() -> None:
    message, _ = await fault_of(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b" " * 3_000_000)

    assert message.startswith(PREFIX + "sent an answer that is not as documented: it is longer than ")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-server\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_a_broken_connection_gives_no_verdict(raw: bytes) -> None:
    """The server sends these bytes and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    service = service_of("litellm_webhook", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(PolicyUnavailable, match=r"could not be reached: [A-Za-z]+$"):
        await service.check(text_check(TEXT))
    await service.close()
    server.close()


async def test_a_server_that_does_not_run_gives_no_verdict() -> None:
    service = service_of("litellm_webhook", url=f"http://127.0.0.1:{free_port()}")

    with pytest.raises(PolicyUnavailable, match="could not be reached: ConnectError"):
        await service.check(text_check(TEXT))
    await service.close()


async def test_a_server_that_does_not_answer_ends_at_the_timeout() -> None:
    message, _ = await fault_of(asyncio.Event(), timeout="50ms")

    assert message in (PREFIX + "did not answer within 0.05 s", PREFIX + "did not answer in time")


async def test_a_long_text_is_not_sent() -> None:
    message, requests = await fault_of(NONE, max_text="10B")

    assert PREFIX + f"takes at most 10 bytes of text, and these are {len(TEXT)}" == message
    assert [] == requests


async def test_texts_with_surrogates_are_sent_as_json_escapes() -> None:
    async with scripted_service(lambda request: NONE) as server:
        service = service_of("litellm_webhook", url=server.url)
        verdict = await service.check(text_check("a\ud800b"))
        await service.close()

    assert Verdict("pass") == verdict
    assert "a\ud800b" == json.loads(server.requests[0].body)["texts"][0]


async def test_a_large_text_is_checked() -> None:
    text = "ü" * 300_000

    async with scripted_service(
        lambda request: {"action": "GUARDRAIL_INTERVENED", "texts": request.json["texts"]}
    ) as server:
        service = service_of("litellm_webhook", url=server.url)
        verdict = await service.check(text_check(text))
        await service.close()

    assert (text,) == verdict.texts


async def test_the_headers_of_the_configuration_are_sent_and_not_shown() -> None:
    async with scripted_service(lambda request: NONE) as server:
        service = service_of("agentgateway_webhook", url=server.url, headers={"X-Token": SECRET})
        with pytest.raises(PolicyUnavailable) as caught:
            await service.check(text_check("a"))
        await service.close()

    assert SECRET == server.requests[0].headers["x-token"]
    assert SECRET not in repr(caught.value) + repr(service)


async def test_a_key_in_a_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    refreshers = new_refreshers()
    async with scripted_service(lambda request: {"flagged": False}) as server:
        service = service_of("lakera", None, refreshers, url=server.url, api_key={"file": str(file)})
        await service.check(text_check("a"))
        file.write_text("new")
        await refreshers.start(10.0)
        await service.check(text_check("b"))
        await refreshers.stop()
        await service.close()

    assert ["Bearer old", "Bearer new"] == [request.headers["authorization"] for request in server.requests]


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    pems = mutual(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pems.certificate, pems.private_key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer_json(NONE))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    known, unknown = service_of("litellm_webhook", url=url, ca=str(pems.ca)), service_of("litellm_webhook", url=url)

    assert Verdict("pass") == await known.check(text_check("a"))
    with pytest.raises(PolicyUnavailable, match="could not be reached: ConnectError"):
        await unknown.check(text_check("a"))
    await known.close()
    await unknown.close()
    server.close()
