"""Limits that hold over all workers of a whole gateway, whose `up` starts a Valkey of its own."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import gateway as gateways
import openai
import pytest
from valkeys import Valkey

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("limits")]

RUNS_KEY = "edge-key-of-acmes-agents-0123456789"
# gpt-4o-mini, which the rehearsal provider plays under any name: 0.15 and 0.60 dollars a million tokens.
LIMITED = f"""
callers:
  - tenant: acme
    keys:
      - {{id: acme-1, key: {gateways.KEY}, limits: {{requests_per_minute: 8}}}}
      - {{id: acme-2, key: {gateways.OTHER_KEY}, limits: {{dollars_per_day: 0.0098}}}}
      - {{id: acme-3, key: {RUNS_KEY}, limits: {{requests_per_run: 5}}}}
"""


@pytest.fixture(scope="module")
def limited(rehearsal_url: str) -> Iterator[gateways.RunningGateway]:
    text = gateways.config(rehearsal_url, models="gpt-4o-mini: [{provider: openai}]", workers=2)
    kept = [line for line in text.splitlines() if "tenant:" not in line and line != "callers:"]
    with gateways.RunningGateway("\n".join(kept) + LIMITED) as found:
        yield found


def ask(
    url: str, key: str, headers: Mapping[str, str] = MappingProxyType({}), **more: Any
) -> tuple[int, dict[str, str], dict[str, Any]]:
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], **more}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(asked).encode(),
        {"authorization": f"Bearer {key}", "content-type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.load(error)


def test_requests_are_counted_over_all_workers(limited: gateways.RunningGateway) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ask(limited.url, gateways.KEY, max_tokens=5), range(20)))
    good = [answer for answer in found if answer[0] == 200]
    bad = [answer for answer in found if answer[0] == 429]

    assert (8, 12) == (len(good), len(bad))
    assert {str(n) for n in range(8)} == {headers["x-ratelimit-remaining-requests"] for _, headers, _ in good}
    assert all(int(headers["retry-after"]) >= 1 for _, headers, _ in bad)
    assert "requests per minute of key acme-1" in bad[0][2]["error"]["message"]


def test_a_budget_is_held_to_by_the_worst_case(limited: gateways.RunningGateway) -> None:
    status, headers, _ = ask(limited.url, gateways.OTHER_KEY, max_tokens=5)
    first = float(headers["x-ratelimit-remaining-dollars"])
    too_much = ask(limited.url, gateways.OTHER_KEY)
    # The worst case of an answer without a bound is 16,384 tokens of 60 cents a million: 9,830 micro-dollars.
    again = ask(limited.url, gateways.OTHER_KEY, max_tokens=5)

    assert (200, "0.0098") == (status, headers["x-ratelimit-limit-dollars"])
    assert 429 == too_much[0]
    assert "ask for fewer output tokens" in too_much[2]["error"]["message"]
    assert first > float(again[1]["x-ratelimit-remaining-dollars"]) > 0.0088


def test_the_agents_of_a_run_share_its_cap_over_all_workers_and_their_sdk_does_not_retry(
    limited: gateways.RunningGateway,
) -> None:
    def call(n: int) -> tuple[int, dict[str, str], dict[str, Any]]:
        # Ten agents of one run, two calls each.
        run = {"x-edge-run": f"agent-{n % 10}", "x-edge-run-parent": "task"}
        return ask(limited.url, RUNS_KEY, run, max_tokens=5)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = list(threads.map(call, range(20)))
    good = [headers["x-edge-run-left"] for status, headers, _ in found if status == 200]
    bad = [(status, headers["x-should-retry"]) for status, headers, _ in found if status != 200]
    assert ([f"requests={n}" for n in range(5)], 15 * [(429, "false")]) == (sorted(good), bad)

    client = openai.OpenAI(base_url=f"{limited.url}/v1", api_key=RUNS_KEY, max_retries=5)
    before = refusals_of_runs(limited)
    with pytest.raises(openai.RateLimitError) as error:
        client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}], extra_headers={"x-edge-run": "task"}
        )
    assert "requests of run task are limited to 5 requests" in error.value.message
    assert 1 == refusals_of_runs(limited) - before
    # A cap that a call states holds for the run; another run has one of its own.
    stated = {"x-edge-run": "other", "x-edge-run-limit": "requests=1"}
    assert [200, 429, 200] == [
        ask(limited.url, RUNS_KEY, run, max_tokens=5)[0]
        for run in (stated, {"x-edge-run": "other"}, {"x-edge-run": "b"})
    ]


def refusals_of_runs(running: gateways.RunningGateway) -> float:
    label = 'edge_limit_refusals_total{level="run",measure="requests"} '
    return sum(float(line.removeprefix(label)) for line in running.metrics().splitlines() if line.startswith(label))


def test_what_limits_did_is_in_the_metrics(limited: gateways.RunningGateway) -> None:
    ask(limited.url, gateways.OTHER_KEY, max_tokens=100_000)

    assert 'edge_limit_refusals_total{level="key",measure="dollars"}' in limited.metrics()
    assert "valkey" in limited.processes()


def test_serve_does_not_start_with_limits_that_it_could_not_keep(limited: gateways.RunningGateway) -> None:
    alone = gateways.RunningGateway(limited.path.read_text(), verb="serve")
    with pytest.raises(RuntimeError, match=r"2 workers need a shared store for limits .*: set limiter.url"):
        alone.start()


def test_a_store_that_cannot_be_used_says_why_once(rehearsal_url: str) -> None:
    text = gateways.config(
        rehearsal_url,
        workers=2,
        more="""
    cache: {redis: {url: "redis://127.0.0.1:%(port)s/1", password: wrong-secret-password}}
    limiter: {url: "redis://:wrong-secret-password@127.0.0.1:%(port)s/0"}
    """,
    )
    kept = "\n".join(line for line in text.splitlines() if "tenant:" not in line and line != "callers:") + LIMITED
    with (
        Valkey("--requirepass", "another-password") as valkey,
        gateways.RunningGateway(kept % {"port": valkey.port}) as running,
    ):
        # Nobody has called yet.
        told = {"limiter": "down: wrong user or password", "cache": "down: wrong user or password"}
        gateways.until(lambda: readiness(running).get("beside") == told)
        status, _, answer = ask(running.url, gateways.KEY)
        told_by_each = sorted(2 * ["cache store down", "limit store down"])
        gateways.until(lambda: sorted(line["event"] for line in outages(running)) == told_by_each)
        # However many calls it is down for.
        assert {503} == {ask(running.url, gateways.KEY)[0] for _ in range(20)}
        assert sorted(line["event"] for line in outages(running)) == told_by_each

    assert (503, "policy_unavailable") == (status, answer["error"]["code"])
    assert {"wrong user or password"} == {line["reason"] for line in outages(running)}
    assert "wrong-secret-password" not in "\n".join(running.lines)


def readiness(running: gateways.RunningGateway) -> dict[str, Any]:
    with urllib.request.urlopen(f"{running.admin}/readyz") as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def outages(running: gateways.RunningGateway) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in running.lines if line.startswith("{"))
    return [line for line in lines if str(line.get("event")).endswith("store down")]


def test_a_budget_is_what_it_was_after_its_store_was_flushed(rehearsal_url: str) -> None:
    text = gateways.config(
        rehearsal_url,
        models="gpt-4o-mini: [{provider: openai}]",
        workers=2,
        more="""
    store: {every: 100ms}
    limiter: {url: "redis://127.0.0.1:%(port)s/0"}
    """,
    )
    kept = "\n".join(line for line in text.splitlines() if "tenant:" not in line and line != "callers:") + LIMITED
    with Valkey() as valkey, gateways.RunningGateway(kept % {"port": valkey.port}) as running:
        before = []
        for _ in range(3):
            before.append(left_after_call(running))
            # A reservation that is not settled is missing after the next call.
            gateways.until(lambda: answer_of(valkey, b"ZCARD {edge}:leases") == b":0\r\n")
        assert sorted(before, reverse=True) == before
        running.settled(3)
        assert b"+OK\r\n" == answer_of(valkey, b"FLUSHALL")
        # Until the budget is rebuilt, nothing is admitted.
        after: list[float | int] = []

        def admitted() -> bool:
            after.append(left_after_call(running))
            return after[-1] != _REFUSED

        gateways.until(admitted)
        assert after[-1] < before[-1]


def answer_of(valkey: Valkey, command: bytes) -> bytes:
    """A short answer."""
    with socket.create_connection(("127.0.0.1", valkey.port)) as sock:
        sock.sendall(command + b"\r\n")
        return sock.recv(64)


_REFUSED = -1.0


def left_after_call(running: gateways.RunningGateway) -> float:
    """What is left of the budget, with the most that this call can cost reserved."""
    status, headers, _ = ask(running.url, gateways.OTHER_KEY, max_tokens=5)
    assert status in (200, 503)
    return float(headers["x-ratelimit-remaining-dollars"]) if status == 200 else _REFUSED
