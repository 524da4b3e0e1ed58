"""A request or a whole reply over its limit is refused at once, and the refusal names the limit."""

from __future__ import annotations

import json

import pytest
from player import Stage, answered, body, chunks, headers, talk, whole

from edge_extproc.exchange.body_limits import BodyLimits
from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse

LIMITS = BodyLimits(request=2048, response=1024)
ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
STREAMED = {**ASKED, "stream": True}
LONG = b" " * 2000


def stage() -> Stage:
    return Stage().having(body_limits=LIMITS)


def refusal(command: Command) -> tuple[int, str, str]:
    assert isinstance(command, ImmediateResponse)
    error = json.loads(command.body)["error"]
    return command.status, error["code"], error["message"]


TOO_LARGE_REQUEST = (413, "request_too_large", "the request body is over the limit of 2KiB (limits.request_body)")
TOO_LARGE_REPLY = (502, "response_too_large", "the provider's reply is over the limit of 1KiB (limits.response_body)")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
def test_a_request_is_refused_by_its_length_before_its_body_comes(path: str) -> None:
    (command,) = talk(stage().exchange(), headers(path, ("content-length", "2049")))

    assert TOO_LARGE_REQUEST == refusal(command)


@pytest.mark.parametrize("length", ["2048", "", "many"])
def test_a_request_within_the_limit_waits_for_its_body(length: str) -> None:
    (command,) = talk(stage().exchange(), headers("/v1/chat/completions", ("content-length", length)))

    assert isinstance(command, Continue)


def test_a_request_without_a_length_is_refused_by_its_body() -> None:
    _, command = talk(stage().exchange(), headers(), body({**ASKED, "user": "x" * 3000}))

    assert TOO_LARGE_REQUEST == refusal(command)


@pytest.mark.parametrize("status", [200, 500])
def test_a_reply_is_refused_by_its_length_before_its_body_comes(status: int) -> None:
    found = stage()
    exchange = found.exchange()
    *_, command = talk(exchange, headers(), body(ASKED), answered(status, ("content-length", "1025")))
    exchange.closed("done")

    assert TOO_LARGE_REPLY == refusal(command)
    assert ("upstream_error", "response_too_large") == (found.settled[0].outcome, found.settled[0].code)


def test_a_reply_without_a_length_is_refused_by_its_body() -> None:
    *_, command = talk(stage().exchange(), headers(), body(ASKED), answered(), whole(LONG))

    assert isinstance(command, Continue)
    assert (":status", "502") in command.set_headers
    assert "response_too_large" == json.loads(command.body or b"")["error"]["code"]


def test_a_stream_has_no_limit() -> None:
    event = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
    stream = answered(200, ("content-length", "9999"), content_type="text/event-stream")
    *_, last = talk(stage().exchange(), headers(), body(STREAMED), stream, *chunks(event * 50, end=False))

    assert Continue() == last


def test_what_may_be_a_stream_is_held_up_to_the_limit() -> None:
    unnamed = answered(content_type="application/octet-stream")
    *_, last = talk(stage().exchange(), headers(), body(STREAMED), unnamed, *chunks(LONG, end=False))

    assert isinstance(last, Continue)
    assert b"over 1024 bytes" in (last.body or b"")
