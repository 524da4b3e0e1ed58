"""A worker is killed in the middle of a call: its concurrency slot is free again after the lease, and what the call had
reserved of a budget stays charged. With the counters of a worker alone, and with those in Valkey."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import gateway as gateways
import pytest
from gateway import KEY, RunningGateway, until

pytestmark = pytest.mark.envoy

PATIENCE = 30.0
# 1,000 tokens of a reply at 5 dollars a million, of the model that the silent provider has.
RESERVED = 0.005
CALLERS = f"""
callers:
  - tenant: acme
    keys: [{{id: acme-1, key: {KEY}, limits: {{concurrent: 1, dollars_per_day: 1}}}}]
limiter: {{lease: 3s}}
"""


def body(model: str, tokens: int) -> bytes:
    return json.dumps(
        {"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": "Hello"}]}
    ).encode()


def ask(running: RunningGateway) -> tuple[int, dict[str, str]]:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"{running.url}/v1/chat/completions", body("gpt-4o-mini", 5), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            answer.read()
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


def saved(running: RunningGateway) -> bool:
    """Whether the file of the only worker's counters has the reservation."""
    path = running.directory / ".edge" / "counted.json"
    return path.exists() and any(
        amount >= RESERVED * 1_000_000 for _, amount, _ in json.loads(path.read_text())["counted"]
    )


def workers_of(running: RunningGateway) -> set[int]:
    assert running.process is not None
    parent, found = running.process.pid, set()
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                found.add(int(child))
    return found


@pytest.mark.parametrize("workers", [1, 2], ids=["memory", "valkey"])
def test_a_slot_is_free_again_and_a_reservation_is_charged(rehearsal_url: str, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a provider that never answers
        text = gateways.config(
            rehearsal_url,
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            models="gpt-4o-mini: [{provider: openai}]",
            workers=workers,
        )
        kept = [line for line in text.splitlines() if "tenant:" not in line and line != "callers:"]
        with RunningGateway("\n".join(kept) + CALLERS) as running:
            host, port = running.url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as caller:
                asked = body("claude-haiku-4-5", 1_000)
                head = (
                    f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
                    f"content-type: application/json\r\ncontent-length: {len(asked)}\r\n\r\n"
                )
                caller.sendall(head.encode() + asked)
                silent.settimeout(PATIENCE)
                provider, _ = silent.accept()
                with provider:
                    assert 429 == ask(running)[0]  # the slot is in use
                    if workers == 1:
                        until(lambda: saved(running))
                    killed = workers_of(running)
                    assert workers == len(killed)
                    for pid in killed:
                        os.kill(pid, signal.SIGKILL)
                    until(lambda: len(workers_of(running) - killed) == workers)

            until(lambda: ask(running)[0] == 200)
            status, headers = ask(running)
            assert 200 == status
            assert 1 - 2 * RESERVED < float(headers["x-ratelimit-remaining-dollars"]) <= 1 - RESERVED
