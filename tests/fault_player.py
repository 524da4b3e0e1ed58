"""A provider that fails in every possible way. The model's name selects the fault.

A model's name is `<anything>.<fault>.<anything>`. It has OpenAI's chat completions and Anthropic's messages, each at
its own path.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, TypeAlias

from two_levels import JSON, PATIENCE, SSE_HEAD, Provider, Seen, answer, chunk, never

Writer: TypeAlias = asyncio.StreamWriter
Fault: TypeAlias = Callable[["Words", Seen, Writer], Awaitable[None]]


class Words:
    """The replies of one dialect."""

    def __init__(self, reply: dict[str, Any], error: dict[str, Any], *events: bytes) -> None:
        self.reply = json.dumps(reply).encode()
        self.error = json.dumps(error).encode()
        self.events = events
        self.text_seen = threading.Event()

    def for_one_request(self, text_seen: threading.Event) -> Words:
        """`text_seen`: set when the caller has text of a stream."""
        words = copy(self)
        words.text_seen = text_seen
        return words

    def error_event(self) -> bytes:
        return b"event: error\ndata: " + self.error + b"\n\n"


def _data(value: dict[str, Any], *, named: bool = False) -> bytes:
    name = f"event: {value['type']}\n".encode() if named else b""
    return name + b"data: " + json.dumps(value).encode() + b"\n\n"


def _openai_chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


OPENAI_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
OPENAI = Words(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi there"}, "finish_reason": "stop"}],
        "usage": OPENAI_USAGE,
    },
    {"error": {"message": "a bad day", "type": "server_error", "param": None, "code": None}},
    _openai_chunk({"role": "assistant", "content": ""}),
    _openai_chunk({"content": "Hi"}),
    _openai_chunk({"content": " there"}),
    _openai_chunk({}, "stop"),
    _data(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": OPENAI_USAGE}
    ),
    b"data: [DONE]\n\n",
)
ANTHROPIC = Words(
    {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hi there"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    },
    {"type": "error", "error": {"type": "api_error", "message": "a bad day"}},
    *(
        _data(value, named=True)
        for value in (
            {
                "type": "message_start",
                "message": {
                    "id": "m",
                    "type": "message",
                    "role": "assistant",
                    "model": "m",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": 5, "output_tokens": 1},
                },
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " there"}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 2},
            },
            {"type": "message_stop"},
        )
    ),
)


# --- faults


def _is_stream(seen: Seen) -> bool:
    return bool(json.loads(seen.body).get("stream"))


def _first_token(words: Words) -> int:
    """The number of events up to the first one with text."""
    return 1 + next(n for n, event in enumerate(words.events) if b'"Hi"' in event)


def _finish(words: Words) -> int:
    return 1 + next(n for n, event in enumerate(words.events) if b'"stop"' in event or b'"end_turn"' in event)


async def good(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        await _stream(writer, *words.events)
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, words.reply, JSON)(seen, writer)


async def _stream(writer: Writer, *events: bytes) -> None:
    writer.write(SSE_HEAD)
    for event in events:
        writer.write(chunk(event))
        await writer.drain()
        # As from a model: each event in a packet of its own.
        await asyncio.sleep(0.005)


async def _until_read(writer: Writer) -> None:
    """Returns when Envoy has read all that was written: a reset overtakes what is in its socket. Both sockets are on
    this machine."""
    await writer.drain()
    here, there = (f":{writer.get_extra_info(name)[1]:04X}" for name in ("sockname", "peername"))

    def is_read() -> bool:
        sockets = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        # The bytes that each socket has to send, and those that its process has to read.
        return all(
            queues == "00000000:00000000"
            for _, local, remote, _, queues, *_ in sockets
            if {local[-5:], remote[-5:]} == {here, there}
        )

    async with asyncio.timeout(PATIENCE):
        while True:
            if is_read():
                return
            await asyncio.sleep(0.005)


async def _half(writer: Writer, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    writer.write(head + body[: len(body) // 2])
    await writer.drain()


def _status(status: int, *headers: tuple[str, str]) -> Fault:
    async def play(words: Words, seen: Seen, writer: Writer) -> None:
        await answer(status, words.error, JSON, *headers)(seen, writer)

    return play


async def reset_before_headers(words: Words, seen: Seen, writer: Writer) -> None:
    writer.transport.abort()


async def reset_after_headers(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        writer.write(SSE_HEAD)
    else:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n")
    await _until_read(writer)
    writer.transport.abort()


async def slow_headers(words: Words, seen: Seen, writer: Writer) -> None:
    await never(seen, writer)


async def slow_first_token(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        await _stream(writer, *words.events[:1])
    else:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n")
        await writer.drain()
    await never(seen, writer)


async def stall_midway(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        await _stream(writer, *words.events[: _first_token(words)])
    else:
        await _half(writer, words.reply)
    await never(seen, writer)


async def cut_in_an_event(words: Words, seen: Seen, writer: Writer) -> None:
    """The body ends without an error, in the middle of an event."""
    if _is_stream(seen):
        n = _first_token(words)
        await _stream(writer, *words.events[:n], words.events[n][:20])
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, words.reply[: len(words.reply) // 2], JSON)(seen, writer)


async def reset_midway(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        await _stream(writer, *words.events[: _first_token(words)])
        # A reset overtakes what the gateway still has.
        assert await asyncio.to_thread(words.text_seen.wait, PATIENCE), "no caller has said that it has text"
    else:
        await _half(writer, words.reply)
        await _until_read(writer)
    writer.transport.abort()


async def cut_after_finish(words: Words, seen: Seen, writer: Writer) -> None:
    """The reply is complete, but its terminator is missing."""
    if _is_stream(seen):
        await _stream(writer, *words.events[: _finish(words)])
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, words.reply[:-1], JSON)(seen, writer)


async def malformed_event(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        n = _first_token(words)
        await _stream(writer, *words.events[:n], b"data: {no json\n\n", *words.events[n:])
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, b"{no json", JSON)(seen, writer)


async def error_first(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        await _stream(writer, words.error_event())
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, words.error, JSON)(seen, writer)


async def error_later(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        await _stream(writer, *words.events[: _first_token(words)], words.error_event())
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, words.reply[:40] + words.error, JSON)(seen, writer)


async def empty_body(words: Words, seen: Seen, writer: Writer) -> None:
    if _is_stream(seen):
        writer.write(SSE_HEAD + b"0\r\n\r\n")
    else:
        await answer(200, b"", JSON)(seen, writer)


async def wrong_content_type(words: Words, seen: Seen, writer: Writer) -> None:
    await answer(200, b"<html>a login page</html>", ("content-type", "text/html"))(seen, writer)


async def gzip_unasked(words: Words, seen: Seen, writer: Writer) -> None:
    stream = _is_stream(seen)
    kind = ("content-type", "text/event-stream") if stream else JSON
    body = gzip.compress(b"".join(words.events) if stream else words.reply)
    await answer(200, body, kind, ("content-encoding", "gzip"))(seen, writer)


async def stream_as_text(words: Words, seen: Seen, writer: Writer) -> None:
    """A stream, whatever was asked for, that does not say that it is one."""
    await answer(200, b"".join(words.events), ("content-type", "text/plain"))(seen, writer)


async def slow_but_alive(words: Words, seen: Seen, writer: Writer) -> None:
    """The first token comes later than the gateway waits for one, and comments come until then."""
    if _is_stream(seen):
        await _stream(writer, words.events[0])
        for _ in range(6):
            await asyncio.sleep(0.6)
            writer.write(chunk(b": still thinking\n\n"))
            await writer.drain()
        for event in words.events[1:]:
            writer.write(chunk(event))
        writer.write(b"0\r\n\r\n")
    else:
        await good(words, seen, writer)


async def broken_off(words: Words, seen: Seen, writer: Writer) -> None:
    """The answer ends for a reason that tells of a failure."""
    failed = [re.sub(rb'"(?:stop|end_turn)"', b'"network_error"', event) for event in (*words.events, words.reply)]
    if _is_stream(seen):
        await _stream(writer, *failed[:-1])
        writer.write(b"0\r\n\r\n")
    else:
        await answer(200, failed[-1], JSON)(seen, writer)


FAULTS: dict[str, Fault] = {
    "reset-before-headers": reset_before_headers,
    "reset-after-headers": reset_after_headers,
    "500": _status(500),
    "503": _status(503),
    "429": _status(429),
    "429-retry-after": _status(429, ("retry-after", "1")),
    "429-much-later": _status(429, ("retry-after", "300")),
    "529": _status(529),
    "401": _status(401),
    "402": _status(402),
    "403": _status(403),
    "slow-headers": slow_headers,
    "slow-first-token": slow_first_token,
    "stall-midway": stall_midway,
    "cut-in-an-event": cut_in_an_event,
    "reset-midway": reset_midway,
    "cut-after-finish": cut_after_finish,
    "malformed-event": malformed_event,
    "error-first": error_first,
    "error-later": error_later,
    "empty-body": empty_body,
    "wrong-content-type": wrong_content_type,
    "stream-as-text": stream_as_text,
    "slow-but-alive": slow_but_alive,
    "broken-off": broken_off,
    "gzip-unasked": gzip_unasked,
    "good": good,
}


class FaultPlayer:
    """`asked` counts requests by the model's name. A model with `held` in its name fails when `release` is set. A
    stream of `reset-midway` is reset when its caller has set the event of the model in `text_seen`."""

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
        self.text_seen: dict[str, threading.Event] = {}
        self.release = threading.Event()
        self.port = 0
        self.server = Provider(self._behave)

    async def _behave(self, seen: Seen, writer: Writer) -> None:
        model = str(json.loads(seen.body)["model"])
        self.asked[model] = self.asked.get(model, 0) + 1
        # Before the first byte of an answer, so the caller of this request finds the event of this request.
        self.text_seen[model] = threading.Event()
        words = (ANTHROPIC if "/messages" in seen.line else OPENAI).for_one_request(self.text_seen[model])
        if "held" in model.split("."):
            await asyncio.to_thread(self.release.wait)
        await next(FAULTS[part] for part in model.split(".") if part in FAULTS)(words, seen, writer)


@contextmanager
def fault_player() -> Iterator[FaultPlayer]:
    """Runs in its own thread, so that the tested code may block this one."""
    player = FaultPlayer()
    with player.server.in_thread(player.release) as player.port:
        yield player
