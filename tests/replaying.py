"""A provider that answers with recorded bytes of a test, and keeps the requests that it got."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


@dataclass
class Answer:
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Replaying:
    """`answer` is the reply to every request from now on. `asked` has the requests since then."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._answer = Answer()
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return self._server.server_port

    def answers(
        self,
        body: bytes = b"{}",
        content_type: str = "application/json",
        status: int = 200,
        *,
        headers: Mapping[str, str] | None = None,
        chunked: bool = False,
    ) -> None:
        """`chunked`: in chunks, and without a content-length."""
        self._answer, self.asked = Answer(status, content_type, body, headers or {}, chunked), []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        replaying = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):  # Envoy closes its idle connections
                    self.close_connection = True

            def _reply(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                replaying.asked.append(Asked(self.command, self.path, headers, self.rfile.read(length)))
                answer = replaying._answer
                self.send_response(answer.status)
                self.send_header("content-type", answer.content_type)
                for name, value in answer.headers.items():
                    if name != "date":
                        self.send_header(name, value)
                if answer.chunked:
                    self.send_header("transfer-encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer.body), answer.body))
                    return
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return replaying._answer.headers.get("date") or super().date_time_string(timestamp)

            do_GET = do_POST = do_DELETE = _reply  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        return Handler


@contextmanager
def replaying() -> Iterator[Replaying]:
    provider = Replaying()
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
