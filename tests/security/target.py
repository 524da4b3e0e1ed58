"""The target of the attacks: a gateway with two tenants on real Envoy, and a provider that sends anything."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import httpx2 as httpx
from gateway import RunningGateway, until
from ports import free_port

# Each is searched for in logs, metrics, errors and replies.
KEYS = {"acme": "edge-canary-key-of-acme-0123456789", "umbrella": "edge-canary-key-of-umbrella-0123456789"}
PROVIDERS_KEY = "sk-canary-of-the-provider-0123456789abcdef"
ADMINS_TOKEN = "edge-canary-token-of-the-admin-0123456789"
PEPPER = "canary-pepper-0123456789abcdef"
PROMPT = "canary-prompt-of-acme"
CANARIES = (*KEYS.values(), PROVIDERS_KEY, ADMINS_TOKEN, PEPPER, PROMPT)

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def completion(usage: Any = USAGE, **more: Any) -> bytes:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return json.dumps({**body, **more}).encode()


def http(body: bytes, *headers: str, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    """A whole response."""
    lines = (f"HTTP/1.1 {status}", f"content-type: {content_type}", f"content-length: {len(body)}", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "connection: close")).encode("latin-1") + b"\r\n" + body


@dataclass
class HostileProvider:
    """Sends `reply` to each request, and then closes the connection."""

    reply: bytes = field(default_factory=lambda: http(completion()))
    repeat: bytes = b""
    """Sent after the reply again and again, until the gateway leaves."""
    asked: list[bytes] = field(default_factory=list)
    sent: int = 0
    """The bytes that the gateway took from `repeat`."""

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def sends(self, reply: bytes, repeat: bytes = b"") -> None:
        self.reply, self.repeat, self.asked, self.sent = reply, repeat, [], 0

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            request = _read_request(connection)
            if not request:
                return
            self.asked.append(request)
            connection.sendall(self.reply)
            while self.repeat:
                connection.sendall(self.repeat)
                self.sent += len(self.repeat)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def config(port: int, good: int) -> str:
    return f"""
listen: {{port: {free_port()}}}
admin: {{port: {free_port()}, tokens: [{{id: root, role: admin, token: {ADMINS_TOKEN}}}]}}
agent: {{workers: 1, shutdown_grace: 1s}}
auth: {{pepper: {PEPPER}}}
store: {{}}
cache: {{}}
limits: {{request_body: 4MiB, response_body: 1MiB}}
timeouts: {{receive: 3s, receive_headers: 2s, stream_idle: 4s, first_byte: 4s}}
retries: {{attempts: 1}}
routing: {{breaker: {{enabled: false}}}}
callers:
  - {{tenant: acme, models: [chat, "m-*"], keys: [{{id: acme-1, key: {KEYS["acme"]}}}], limits: {{concurrent: 8}}}}
  - {{tenant: umbrella, keys: [{{id: umbrella-1, key: {KEYS["umbrella"]}}}]}}
  - {{tenant: poor, keys: [{{id: poor-1, key: edge-key-of-the-poor-0123456789}}], limits: {{dollars_per_day: 0.01}}}}
providers:
  openai: {{kind: openai, base_url: "http://127.0.0.1:{port}/v1", api_key: {PROVIDERS_KEY}}}
  good: {{kind: openai, base_url: "http://127.0.0.1:{good}/v1", api_key: {PROVIDERS_KEY}}}
prices: [{{provider: openai, model: "*", input: 100, output: 100}}]
endpoints: {{/v1/files: {{provider: openai, tenants: [umbrella]}}}}
models:
  chat: [{{provider: openai}}]
  other: [{{provider: good}}]
  "m-*": [{{provider: openai}}]
"""


@dataclass
class Target:
    gateway: RunningGateway
    provider: HostileProvider

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.gateway.url.removeprefix("http://").split(":")
        return host, int(port)

    @property
    def admin(self) -> tuple[str, int]:
        host, port = self.gateway.admin.removeprefix("http://").split(":")
        return host, int(port)

    @staticmethod
    def key(tenant: str) -> str:
        return KEYS.get(tenant, "edge-key-of-the-poor-0123456789")

    def ask(self, method: str = "POST", path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
        """A request of acme, by default a chat. `tenant` and `headers` change it; `body` replaces the fields."""
        key = self.key(more.pop("tenant", "acme"))
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", **more.pop("headers", {})}
        if method == "POST" and not more.keys() & {"json", "content"}:
            more["json"] = chat(**more.pop("fields", {}))
        with httpx.Client(base_url=self.gateway.url, timeout=30) as client:
            return client.request(method, path, headers=headers, **more)

    def raw(self, data: bytes, *, admin: bool = False) -> bytes:
        """All that is answered until the gateway closes the connection."""
        with socket.create_connection(self.admin if admin else self.address, timeout=20) as sock:
            answer = b""
            with contextlib.suppress(OSError):
                sock.sendall(data)
                while part := sock.recv(65536):
                    answer += part
            return answer

    def serves(self) -> bool:
        """Whether another tenant is answered, whose provider is not hostile."""
        reply = self.ask(tenant="umbrella", fields={"model": "other"})
        return reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"] == "Hi"


def chat(text: str = PROMPT, **fields: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}


@contextmanager
def attacked() -> Iterator[Target]:
    provider = HostileProvider()
    with good_provider() as good, RunningGateway(config(provider.port, good)) as gateway:
        target = Target(gateway, provider)
        until(target.serves)
        yield target
    shutil.rmtree(gateway.directory, ignore_errors=True)
    provider.close()


@contextmanager
def good_provider() -> Iterator[int]:
    """The port of a provider in a process of its own. In that of the attackers, it would wait while one of them makes a
    large body, and the gateway would report it as slow."""
    processes = multiprocessing.get_context("spawn")
    ours, its = processes.Pipe()
    process = processes.Process(target=_serve_until_closed, args=(its,), daemon=True)
    process.start()
    its.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(10)


def _serve_until_closed(other: Connection) -> None:
    provider = HostileProvider()
    other.send(provider.port)
    with contextlib.suppress(EOFError):
        other.recv()
    provider.close()
