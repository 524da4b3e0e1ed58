"""The attacks: who makes each, what it tries, and what must hold. Each returns what was seen, for docs/security.md."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
from gateway import until
from target import ADMINS_TOKEN, CANARIES, KEYS, PROVIDERS_KEY, Target, chat, completion, http

Run = Callable[[Target], str]


@dataclass(frozen=True)
class Attack:
    who: str
    what: str
    run: Run


ATTACKS: list[Attack] = []


def attack(who: str, what: str) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        ATTACKS.append(Attack(who, what, run))
        return run

    return add


def told(reply: Any) -> str:
    """The status and the code of an error."""
    error = reply.json().get("error", {}) if reply.content.startswith(b"{") else {}
    return " ".join(filter(None, (str(reply.status_code), error.get("code") or error.get("type"))))


def refused(target: Target, data: bytes) -> str:
    """Nothing reached the provider, and the connection was closed with or without a 4xx."""
    target.provider.sends(http(completion()))
    answer = target.raw(data)
    assert not answer or answer.split(b" ")[1].startswith(b"4"), answer[:300]
    assert [] == target.provider.asked
    return "refused"


def request(*lines: str, body: bytes = b"") -> bytes:
    """A chat of acme with these header lines."""
    head = ("POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {KEYS['acme']}", *lines)
    return "".join(f"{line}\r\n" for line in head).encode("latin-1") + b"\r\n" + body


BODY = json.dumps(chat()).encode()
SECOND = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

# --- an outsider

OUTSIDER = "outsider"


@attack(OUTSIDER, "a call without a key")
def _(target: Target) -> str:
    return told(target.ask(headers={"authorization": ""}))


@attack(OUTSIDER, "a call with a key of the right form that does not exist")
def _(target: Target) -> str:
    return told(target.ask(headers={"authorization": f"Bearer {KEYS['acme'][:-1]}8"}))


@attack(OUTSIDER, "two keys that differ in two headers")
def _(target: Target) -> str:
    return told(target.ask(headers={"x-api-key": KEYS["umbrella"]}))


@attack(OUTSIDER, "the key in the query")
def _(target: Target) -> str:
    return told(target.ask("GET", f"/v1/models?key={KEYS['acme']}", headers={"authorization": ""}))


SMUGGLED = {
    "`Content-Length` and `Transfer-Encoding` together": request(
        f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked", body=CHUNKED + SECOND
    ),
    "two different `Content-Length`": request("Content-Length: 4", f"Content-Length: {len(BODY)}", body=BODY + SECOND),
    "`Transfer-Encoding` with an unknown coding": request("Transfer-Encoding: xchunked", body=CHUNKED + SECOND),
    "`Transfer-Encoding` with a tab before the coding and a `Content-Length`": request(
        "Transfer-Encoding:\tchunked", "Content-Length: 5", body=CHUNKED + SECOND
    ),
    "a chunk size that overflows": request("Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n" + BODY),
    "a chunk size that is not hexadecimal": request("Transfer-Encoding: chunked", body=b"0x10\r\n" + BODY),
    "a negative `Content-Length`": request("Content-Length: -1", body=BODY),
    "a space before the colon of a header": request(f"Content-Length : {len(BODY)}", body=BODY),
    "a folded header line": request("X-Folded: a\r\n Transfer-Encoding: chunked", "Content-Length: 5", body=CHUNKED),
    "a NUL in a header": request("X-Nul: a\x00b", f"Content-Length: {len(BODY)}", body=BODY),
    "a request line with a line break in the path": b"GET /v1/models\n HTTP/1.1\r\nHost: x\r\n\r\n",
    "`CONNECT` to an inner address": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n",
    "headers of 100 KiB": request("X-Long: " + "a" * 100_000, f"Content-Length: {len(BODY)}", body=BODY),
    "300 headers": request(*(f"X-{n}: 1" for n in range(300)), f"Content-Length: {len(BODY)}", body=BODY),
}


def _smuggled(data: bytes) -> Run:
    return lambda target: refused(target, data)


@attack(OUTSIDER, "a bare carriage return before another header's name")
def _(target: Target) -> str:
    target.provider.sends(http(completion()))
    target.raw(request("User-Agent: a\rX-Smuggled: b", f"Content-Length: {len(BODY)}", "Connection: close", body=BODY))
    (asked,) = target.provider.asked
    assert b"\r" not in asked.replace(b"\r\n", b"")
    assert b"\nx-smuggled" not in asked.lower()
    return "no header of its own"


for what, data in SMUGGLED.items():
    attack(OUTSIDER, what)(_smuggled(data))


@attack(OUTSIDER, "headers that never end")
def _(target: Target) -> str:
    with socket.create_connection(target.address, timeout=20) as sock:
        sock.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        answer = sock.recv(65536)
    assert not answer or b" 408 " in answer.partition(b"\r\n")[0]
    return "closed after `timeouts.receive_headers`"


@attack(OUTSIDER, "a body that never ends")
def _(target: Target) -> str:
    answer = target.raw(request("Content-Length: 1000", "Connection: close", body=b'{"model": '))
    assert b" 408 " in answer.partition(b"\r\n")[0], answer[:200]
    return "408"


@attack(OUTSIDER, "internal headers that would choose the tenant, the provider or retries")
def _(target: Target) -> str:
    target.provider.sends(http(completion()))
    internal = {
        "x-edge-tenant": "umbrella",
        "x-edge-cluster": "provider_other",
        "x-edge-route": "once",
        "x-envoy-max-retries": "99",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-original-path": "/admin",
    }
    reply = target.ask(fields={"model": "chat"}, headers=internal)
    (asked,) = target.provider.asked
    assert not [name for name in internal if f"\r\n{name}:".encode() in asked.lower()]
    line = until_line(target, reply.headers["x-request-id"])
    assert ("acme", 200) == (line["tenant"], reply.status_code), line
    return "200 as the key's own tenant, one attempt"


@attack(OUTSIDER, "paths that lead out of the API (`/v1/../admin`, `%2e%2e`, `//`)")
def _(target: Target) -> str:
    paths = (
        "/v1/../admin/v1/keys",
        "/v1/%2e%2e/admin/v1/keys",
        "//admin/v1/keys",
        "/v1/models/%2e%2e%2fadmin",
        "/\\admin",
    )
    statuses = set()
    for path in paths:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['acme']}\r\nConnection: close\r\n\r\n"
        statuses.add(target.raw(head.encode()).split(b" ")[1])
    assert statuses <= {b"404", b"400"}, statuses
    return "404"


@attack(OUTSIDER, "an HTTP/2 stream flood: 500 requests, each reset at once")
def _(target: Target) -> str:
    connection = _h2(target)
    for _ in range(500):
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, _h2_headers())
        connection.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    _h2_send(connection, target)
    assert target.serves()
    return "others are served"


@attack(OUTSIDER, "HTTP/2 with a `Transfer-Encoding` header")
def _(target: Target) -> str:
    target.provider.sends(http(completion()))
    connection = _h2(target, validate=False)
    connection.send_headers(1, [*_h2_headers(), ("transfer-encoding", "chunked")])
    connection.send_data(1, BODY, end_stream=True)
    events = _h2_send(connection, target)
    assert not [each for each in events if _status(each) == b"200"]
    assert [] == target.provider.asked
    return "refused"


@attack(OUTSIDER, "HTTP/2 headers that decode to 64 MiB")
def _(target: Target) -> str:
    connection = _h2(target, validate=False)
    connection.send_headers(1, [*_h2_headers(), ("x-big", "a" * 4000), *([("x-big", "a" * 4000)] * 16_000)])
    _h2_send(connection, target)
    assert target.serves()
    return "others are served"


def _h2(target: Target, *, validate: bool = True) -> h2.connection.H2Connection:
    del target
    settings = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=validate, normalize_outbound_headers=validate
    )
    connection = h2.connection.H2Connection(settings)
    connection.initiate_connection()
    connection.remote_settings.max_concurrent_streams = 10_000
    return connection


def _h2_headers() -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":scheme", "http"),
        (":authority", "x"),
        ("authorization", f"Bearer {KEYS['acme']}"),
        ("content-type", "application/json"),
    ]


def _h2_send(connection: h2.connection.H2Connection, target: Target) -> list[h2.events.Event]:
    """What comes back until the gateway says something final, or nothing for two seconds."""
    events: list[h2.events.Event] = []
    with socket.create_connection(target.address, timeout=2) as sock:
        try:
            sock.sendall(connection.data_to_send())
            while not any(isinstance(each, h2.events.StreamEnded | h2.events.ConnectionTerminated) for each in events):
                received = sock.recv(65536)
                if not received:
                    break
                events += connection.receive_data(received)
        except OSError:
            pass  # closed, or nothing comes
    return events


def _status(event: h2.events.Event) -> bytes | None:
    if not isinstance(event, h2.events.ResponseReceived):
        return None
    return next((value for name, value in event.headers or () if name == b":status"), None)


# --- a tenant

TENANT = "tenant"


@attack(TENANT, "a model of another tenant")
def _(target: Target) -> str:
    return told(target.ask(fields={"model": "other"}))


@attack(TENANT, "a model's name twice, the first one allowed")
def _(target: Target) -> str:
    target.provider.sends(http(completion()))
    reply = target.ask(content=b'{"model": "chat", "messages": [{"role": "user", "content": "a"}], "model": "other"}')
    sent = [json.loads(each.partition(b"\r\n\r\n")[2]).get("model") for each in target.provider.asked]
    assert not sent or sent == ["chat"], sent
    return told(reply)


@attack(TENANT, "the path of another tenant's files")
def _(target: Target) -> str:
    return told(target.ask("GET", "/v1/files"))


@attack(TENANT, "another tenant's reply from the cache")
def _(target: Target) -> str:
    same = {"model": "chat", "temperature": 0}
    target.provider.sends(http(completion(id="of-umbrella")))
    target.ask(tenant="umbrella", fields=same)
    target.provider.sends(http(completion(id="of-acme")))
    reply = target.ask(fields=same)
    assert "of-acme" == reply.json()["id"]
    assert 1 == len(target.provider.asked)
    return "its own reply"


@attack(TENANT, "the admin API with a caller's key")
def _(target: Target) -> str:
    host, port = target.admin
    head = f"GET /admin/v1/keys HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {KEYS['acme']}\r\n"
    return target.raw(f"{head}Connection: close\r\n\r\n".encode(), admin=True).split(b" ")[1].decode()


BODIES: dict[str, bytes] = {
    "20,000 messages": json.dumps(chat(messages=[{"role": "user", "content": "a"}] * 20_000)).encode(),
    "3,000 tools": json.dumps(
        chat(tools=[{"type": "function", "function": {"name": f"f{n}", "parameters": {}}} for n in range(3000)])
    ).encode(),
    "a list of 600,000 values": json.dumps(chat(metadata=[0] * 600_000)).encode(),
    "JSON nested 100,000 deep": b'{"model": "chat", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number with 100,000 digits": b'{"model": "chat", "max_tokens": ' + b"9" * 100_000 + b', "messages": []}',
    "a body that is not JSON": b"\x00\xff" * 1000,
    "a body over the limit": b'{"model": "chat", "messages": "' + b"a" * (5 << 20) + b'"}',
    "a negative bound of tokens": json.dumps(chat(max_tokens=-1)).encode(),
}


def _body(content: bytes) -> Run:
    def run(target: Target) -> str:
        target.provider.sends(http(completion()))
        reply = target.ask(content=content)
        assert 400 <= reply.status_code < 500, reply.text[:200]
        assert [] == target.provider.asked
        return told(reply)

    return run


for what, content in BODIES.items():
    attack(TENANT, what)(_body(content))


@attack(TENANT, "a compressed body that expands to 50 MB")
def _(target: Target) -> str:
    target.provider.sends(http(completion()))
    bomb = gzip.compress(b'{"model": "chat", "messages": "' + b"a" * 50_000_000 + b'"}', 1)
    reply = target.ask(content=bomb, headers={"content-encoding": "gzip"})
    assert 400 <= reply.status_code < 500
    assert [] == target.provider.asked
    return told(reply)


@attack(TENANT, "40 calls at once with a limit of 8")
def _(target: Target) -> str:
    target.provider.sends(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n", b": wait\n\n"
    )
    key = f"Authorization: Bearer {KEYS['acme']}"
    body = json.dumps(chat(stream=True)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    socks = [socket.create_connection(target.address, timeout=20) for _ in range(40)]
    try:
        for sock in socks:
            sock.sendall(head + body)
        statuses = [sock.recv(12)[9:12] for sock in socks]
    finally:
        for sock in socks:
            sock.close()
    assert statuses.count(b"200") <= 8, statuses
    assert set(statuses) <= {b"200", b"429"}, statuses
    # The gateway learns that they have left.
    until(lambda: target.ask("GET", "/v1/models").status_code == 200 and _is_free(target))
    return "at most 8 reach the provider, the others get 429"


def _is_free(target: Target) -> bool:
    target.provider.sends(http(completion()))
    return bool(target.ask().status_code == 200)


@attack(TENANT, "30 streams with a budget of a cent, each left after its first bytes")
def _(target: Target) -> str:
    events = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
    target.provider.sends(SSE + events, events)
    body = json.dumps(chat(stream=True, max_tokens=40)).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer edge-key-of-the-poor-0123456789\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    through = 0
    for _ in range(30):
        with socket.create_connection(target.address, timeout=20) as sock:
            sock.sendall(head + body)
            through += sock.recv(12)[9:12] == b"200"
    assert through <= 3, through
    return "the budget ends them"


@attack(TENANT, "a request id with control characters, or of 10,000 characters")
def _(target: Target) -> str:
    target.provider.sends(http(completion()))
    for bad in ("a\tb", "a" * 10_000, "<script>", KEYS["umbrella"]):
        reply = target.ask(headers={"x-request-id": bad})
        assert bad not in reply.headers.get_list("x-request-id")
    return "replaced"


# --- a provider

PROVIDER = "provider"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def _hostile(reply: bytes, repeat: bytes = b"", *, stream: bool = False) -> Run:
    def run(target: Target) -> str:
        target.provider.sends(reply, repeat)
        seen = target.ask(fields={"stream": stream})
        assert seen.status_code >= 500, (seen.status_code, seen.text[:300])
        assert PROVIDERS_KEY not in seen.text
        return told(seen)

    return run


ANSWERS: dict[str, bytes] = {
    "a status of 999": http(completion(), status="999 Odd"),
    "a response that is not HTTP": b"SSH-2.0-OpenSSH_9.0\r\n",
    "a header of 200 KiB": http(completion(), "x-long: " + "a" * 200_000),
    "a header with a NUL": http(completion(), "x-nul: a\x00b"),
    "a `Content-Length` and chunks together": JSON + b"content-length: 5\r\n"
    b"transfer-encoding: chunked\r\n\r\n5\r\n{}{}{\r\n0\r\n\r\n",
    "fewer bytes than its `Content-Length`": JSON + b"content-length: 999\r\n\r\n{",
    "a reply over the limit": http(completion(padding="a" * (3 << 20))),
    "a reply that is not JSON": http(b"<html>"),
    "a compressed reply that expands to 50 MB": http(gzip.compress(b" " * 50_000_000, 1), "content-encoding: gzip"),
    "JSON nested 100,000 deep": http(b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "an error that quotes the gateway's key": http(
        json.dumps({"error": {"message": f"wrong key {PROVIDERS_KEY}", "type": "x", "code": "y"}}).encode(),
        status="500 No",
    ),
    "a 401 that quotes the gateway's key": http(
        json.dumps({"error": {"message": f"wrong key {PROVIDERS_KEY}", "type": "x", "code": "y"}}).encode(),
        status="401 No",
    ),
}
for what, reply in ANSWERS.items():
    attack(PROVIDER, what)(_hostile(reply))


@attack(PROVIDER, "headers that speak for the gateway (`set-cookie`, `x-edge-*`, `x-ratelimit-*`, `access-control-*`)")
def _(target: Target) -> str:
    names = (
        "set-cookie",
        "x-edge-cache",
        "x-edge-dropped",
        "x-ratelimit-remaining-dollars",
        "access-control-allow-origin",
    )
    target.provider.sends(http(completion(), *(f"{name}: hostile" for name in names)))
    reply = target.ask(fields={"model": "chat"})
    assert 200 == reply.status_code
    assert "hostile" not in reply.headers.values()
    return "removed"


@attack(PROVIDER, "a redirect to an inner address")
def _(target: Target) -> str:
    target.provider.sends(http(b"", "location: http://169.254.169.254/latest/meta-data", status="302 Found"))
    reply = target.ask()
    assert 1 == len(target.provider.asked)
    assert "169.254.169.254" not in "".join(reply.headers.values())
    return "not followed, not passed on"


ABSURD: dict[str, Any] = {
    "usage of 10^300 tokens": {"prompt_tokens": 10**300, "completion_tokens": 1},
    "negative usage": {"prompt_tokens": -5, "completion_tokens": -5},
    "usage that is text": {"prompt_tokens": "many", "completion_tokens": {}},
}


def _absurd(usage: Any) -> Run:
    def run(target: Target) -> str:
        target.provider.sends(http(completion(usage=usage)))
        reply = target.ask()
        line = until_line(target, reply.headers["x-request-id"])
        assert 200 == reply.status_code, reply.text[:200]
        assert line["estimated"], line
        assert 0 <= float(line["cost_usd"] or 0) < 1
        return "estimated"

    return run


def until_line(target: Target, request_id: str) -> dict[str, Any]:
    """The agent's line about a request."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in target.gateway.access_lines() if line["request_id"] == request_id]

    until(lambda: bool(lines()))
    return lines()[0]


for what, usage in ABSURD.items():
    attack(PROVIDER, what)(_absurd(usage))


ENDLESS = {
    "an event that never ends": (SSE + b'data: {"id": "', b"a" * 65536),
    "a stream that goes on after its error": (
        SSE + b'data: {"error": {"message": "no"}}\n\n',
        (b": " + b"a" * 8190 + b"\n\n") * 8,
    ),
}


def _endless(reply: bytes, repeat: bytes) -> Run:
    def run(target: Target) -> str:
        target.provider.sends(reply, repeat)
        body = json.dumps(chat(stream=True)).encode()
        answer = target.raw(request(f"Content-Length: {len(body)}", body=body))
        assert b"error" in answer
        assert b"[DONE]" not in answer

        def is_left() -> bool:
            before = target.provider.sent
            return target.ask("GET", "/v1/models").status_code == 200 and target.provider.sent == before

        until(is_left)
        return "an error event, then cut off"

    return run


for what, (reply, repeat) in ENDLESS.items():
    attack(PROVIDER, what)(_endless(reply, repeat))


@attack(PROVIDER, "a stream that breaks off")
def _(target: Target) -> str:
    target.provider.sends(SSE + b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n')
    reply = target.ask(fields={"stream": True})
    assert "[DONE]" not in reply.text
    assert "error" in reply.text
    return "an error event, no `[DONE]`"


@attack(PROVIDER, "a stream of bytes that are not UTF-8")
def _(target: Target) -> str:
    target.provider.sends(SSE + b"data: \xff\xfe\xfd\n\n" * 100 + b"data: [DONE]\n\n")
    reply = target.ask(fields={"stream": True})
    assert reply.status_code in (200, 502)
    return "no other request is disturbed" if target.serves() else "disturbed"


# --- the admin port

ADMIN = "admin port"


def _admin(target: Target, *lines: str, path: str = "/admin/v1/keys", method: str = "GET", body: bytes = b"") -> bytes:
    host, port = target.admin
    given = {line.partition(":")[0].lower() for line in lines}
    lines = (*lines, *((f"Host: {host}:{port}",) if "host" not in given else ()), "Connection: close")
    head = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", *lines))
    return target.raw(head.encode() + b"\r\n" + body, admin=True)


@attack(ADMIN, "no token")
def _(target: Target) -> str:
    return _admin(target).split(b" ")[1].decode()


@attack(ADMIN, "a name that DNS rebinding would give")
def _(target: Target) -> str:
    return _admin(target, "Host: evil.example", f"Authorization: Bearer {ADMINS_TOKEN}").split(b" ")[1].decode()


@attack(ADMIN, "a page of another site")
def _(target: Target) -> str:
    return (
        _admin(target, "Origin: https://evil.example", f"Authorization: Bearer {ADMINS_TOKEN}").split(b" ")[1].decode()
    )


@attack(ADMIN, "a body of 1 GB before any token")
def _(target: Target) -> str:
    answer = _admin(target, "Content-Length: 1000000000", method="POST", body=b"a" * 65536)
    return answer.split(b" ")[1].decode()


@attack(ADMIN, "secrets in the configuration and the metrics that it shows")
def _(target: Target) -> str:
    shown = b"".join(
        _admin(target, f"Authorization: Bearer {ADMINS_TOKEN}", path=path)
        for path in ("/config", "/metrics", "/readyz")
    )
    assert len(shown) > 1000
    assert [] == [canary for canary in CANARIES if canary.encode() in shown]
    return "none"


def everything_at_once(target: Target) -> Iterator[str]:
    """What must hold after all attacks."""
    target.provider.sends(http(completion()))
    with ThreadPoolExecutor(8) as pool:
        statuses = [each.status_code for each in pool.map(lambda _: target.ask(tenant="umbrella"), range(24))]
    assert [200] * 24 == statuses
    yield "both tenants are served"
    assert b" 200 " in _admin(target, path="/readyz").partition(b"\r\n")[0]
    metrics = target.gateway.metrics()
    assert "edge_worker_restarts_total 0" in metrics or "edge_worker_restarts_total{" not in metrics
    yield "no process was restarted"
    log = "\n".join(target.gateway.lines)
    assert [] == [canary for canary in CANARIES if canary in log]
    yield "no secret and no prompt is in the log"
    bugs = [line for line in target.gateway.lines if '"event":"bug"' in line]
    assert [] == bugs, bugs[:3]
    yield "no internal error was logged"
