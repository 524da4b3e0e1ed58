"""A provider on the loopback, in all wire formats, whose model follows a script.

A prompt names its cell, and each cell has its script: the tool calls of each turn, and the text at the end. A request
that a real provider would refuse gets a 400, and is told in `Cell.problems`.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import request_validators

from clients.formats import Asked, Chat, Claude, Format, Gemini, Json, Responses, Said

MARK = re.compile(rb"cell-(\d{4})")
HOST_PATH = "/host/v1"


@dataclass(frozen=True)
class Call:
    name: str
    """The end of the tool's name."""
    arguments: Json
    result: str = ""
    """What the result of the call must contain."""


Turns = tuple[tuple[Call, ...], ...]


@dataclass(frozen=True)
class Request:
    path: str
    stream: bool
    results: int
    body: Json


@dataclass
class Cell:
    """What the model says in one conversation, and what it was asked."""

    turns: Turns = ()
    text: str = ""
    value: Json | None = None
    """What the caller wants as structured output."""
    thinking: str = ""
    requests: list[Request] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Provider:
    """`with Provider() as provider: provider.url`."""

    def __init__(self) -> None:
        self._cells: list[Cell] = []
        self._lock = threading.Lock()
        self._served = 0
        self.stray: list[str] = []
        """Why requests that name no cell were refused."""
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, cell: Cell) -> str:
        """The name of the cell, which its prompt must contain."""
        self._cells.append(cell)
        return f"cell-{len(self._cells) - 1:04}"

    def cell_of(self, raw: bytes) -> Cell | None:
        found = MARK.search(raw)
        return None if found is None else self._cells[int(found[1])]

    def serial(self) -> int:
        with self._lock:
            self._served += 1
            return self._served


def format_of(path: str) -> Format | None:
    if ":generateContent" in path or ":streamGenerateContent" in path:
        return Gemini()
    if path.endswith("/chat/completions"):
        return Chat(shows_reasoning=path.startswith(HOST_PATH))
    if path.endswith("/responses"):
        return Responses()
    return Claude() if path.endswith("/messages") else None


def answer(cell: Cell, asked: Asked, serial: int) -> Said:
    """What the model says next. Raises ValueError where the request does not go with the script."""
    done = 0
    for turn in cell.turns:
        if done == len(asked.results):
            return _calls(cell, turn, asked, serial)
        told = asked.results[done : done + len(turn)]
        if len(told) < len(turn):
            raise ValueError(f"{len(told)} results of {len(turn)} calls")
        for call in turn:  # an agent may give the results of parallel calls in any order
            result = next((result for result in told if call.result in result), None)
            if result is None:
                raise ValueError(f"the results of {call.name} and others are {told!r}, without {call.result!r}")
            told.remove(result)
        done += len(turn)
    if cell.value is None or asked.results[done:]:
        return Said(cell.text, thinking=cell.thinking, serial=serial)
    takes = [name for name, schema in asked.tools.items() if cell.value.keys() <= _properties(schema).keys()]
    if takes and not asked.has_schema:
        return Said(calls=((takes[0], cell.value),), thinking=cell.thinking, serial=serial)
    return Said(json.dumps(cell.value, ensure_ascii=False), thinking=cell.thinking, serial=serial)


def _calls(cell: Cell, turn: tuple[Call, ...], asked: Asked, serial: int) -> Said:
    if not asked.tools:  # a side task of an agent, such as a title for the session
        return Said("A title", serial=serial)
    calls = []
    for call in turn:
        names = [name for name in asked.tools if name.endswith(call.name)]
        if not names:
            raise ValueError(f"no tool {call.name} in {sorted(asked.tools)}")
        calls.append((names[0], call.arguments))
    return Said("", tuple(calls), cell.thinking, serial, asked.custom)


def stream(form: Format, said: Said) -> list[bytes]:
    """The events of a reply, as they are sent."""
    events = [
        (f"event: {name}\n" if name else "") + f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
        for name, data in form.events(said)
    ]
    if isinstance(form, Chat):
        events.append("data: [DONE]\n\n")
    return [event.encode() for event in events]


def _properties(schema: Json) -> Json:
    found: Json = schema.get("properties") or {}
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        cell = self.provider.cell_of(raw)
        path = self.path.partition("?")[0]
        problems = self.provider.stray if cell is None else cell.problems
        if path.endswith(("/count_tokens", ":countTokens")):
            self._send(200, {"input_tokens": 30} if path.endswith("/count_tokens") else {"totalTokens": 30})
            return
        form = format_of(path)
        if form is None:
            problems.append(f"no such path: {path}")
            self._send(404, {"error": {"message": f"no such path: {path}"}})
            return
        body = json.loads(raw)
        host = "deepseek" if path.startswith(HOST_PATH) else ""
        wrong = request_validators.of(host, form.validator, raw)
        serial = self.provider.serial()
        asked = form.read(path, body)
        if cell is not None:
            cell.requests.append(Request(path, asked.stream, len(asked.results), body))
        try:
            said = answer(cell, asked, serial) if cell is not None else Said("Good.", serial=serial)
        except ValueError as error:
            wrong.append(str(error))
        if wrong:
            problems += wrong
            self._send(400, form.error("; ".join(wrong)))
        elif asked.stream:
            self._stream(form, said)
        else:
            self._send(200, form.whole(said))

    def _send(self, status: int, value: Json) -> None:
        out = json.dumps(value, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def _stream(self, form: Format, said: Said) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for data in stream(form, said):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""
