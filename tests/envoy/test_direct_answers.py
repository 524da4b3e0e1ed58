"""What Envoy answers by itself: health checks on the listener of callers, and browsers' preflights."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway
from replaying import Replaying, replaying

pytestmark = pytest.mark.envoy

PAGE = "https://app.example"
REPLY = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Replaying]:
    with replaying() as found:
        yield found


@pytest.fixture(scope="module")
def closed(provider: Replaying) -> Iterator[RunningGateway]:
    with RunningGateway(gateways.config(provider.url)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def opened(provider: Replaying) -> Iterator[RunningGateway]:
    text = gateways.config(provider.url).replace("listen: {", f'listen: {{cors: {{origins: ["{PAGE}"]}}, ', 1)
    with RunningGateway(text) as gateway:
        yield gateway


def preflight(gateway: RunningGateway, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return httpx.request("OPTIONS", f"{gateway.url}/v1/chat/completions", headers=headers)


def settled(gateway: RunningGateway) -> float:
    return sum(map(float, re.findall(r"^edge_requests_total\{[^}]*\} (\S+)$", gateway.metrics(), re.MULTILINE)))


def test_a_preflight_of_a_configured_origin_is_allowed_without_a_key(opened: RunningGateway) -> None:
    reply = preflight(opened, PAGE)

    assert 200 == reply.status_code
    assert PAGE == reply.headers["access-control-allow-origin"]
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "authorization" in reply.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in reply.headers


def test_a_preflight_of_another_origin_is_refused_and_told_where_to_allow_it(opened: RunningGateway) -> None:
    reply = preflight(opened, "https://other.example")

    assert (403, "origin_not_allowed") == (reply.status_code, reply.json()["error"]["code"])
    assert "listen.cors.origins" in reply.json()["error"]["message"]
    assert "access-control-allow-origin" not in reply.headers


def test_without_configured_origins_each_preflight_is_refused(closed: RunningGateway) -> None:
    reply = preflight(closed, PAGE)

    assert (403, "origin_not_allowed") == (reply.status_code, reply.json()["error"]["code"])


@pytest.mark.parametrize("key", [KEY, "wrong"])
def test_a_page_may_read_answers_and_refusals_and_a_provider_does_not_say_who_may(
    opened: RunningGateway, provider: Replaying, key: str
) -> None:
    provider.answers(json.dumps(REPLY).encode(), headers={"access-control-allow-origin": "https://provider.example"})
    asked = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"origin": PAGE, "authorization": f"Bearer {key}"}
    reply = httpx.post(f"{opened.url}/v1/chat/completions", json=asked, headers=headers)

    assert (200 if key == KEY else 401) == reply.status_code
    assert [PAGE] == reply.headers.get_list("access-control-allow-origin")


def test_a_provider_opens_no_answer_to_pages(closed: RunningGateway, provider: Replaying) -> None:
    provider.answers(json.dumps(REPLY).encode(), headers={"access-control-allow-origin": "*"})
    asked = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"origin": PAGE, "authorization": f"Bearer {KEY}"}
    reply = httpx.post(f"{closed.url}/v1/chat/completions", json=asked, headers=headers)

    assert 200 == reply.status_code
    assert "access-control-allow-origin" not in reply.headers


def test_health_checks_and_preflights_do_not_reach_the_agent(opened: RunningGateway) -> None:
    gateways.until(lambda: httpx.get(f"{opened.url}/healthz").status_code == 200)
    before = settled(opened)
    for _ in range(20):
        assert 200 == httpx.get(f"{opened.url}/healthz").status_code
        preflight(opened, PAGE)
        preflight(opened, "https://other.example")
    httpx.get(f"{opened.url}/v1/models", headers={"authorization": f"Bearer {KEY}"})
    gateways.until(lambda: settled(opened) > before)

    assert before + 1 == settled(opened)


def test_a_health_check_fails_while_no_worker_answers(closed: RunningGateway) -> None:
    gateways.until(lambda: httpx.get(f"{closed.url}/healthz").status_code == 200)
    line = next(line for line in closed.lines if line.startswith("Healthy"))
    worker = int(re.findall(r"worker 0 \(pid (\d+)\)", line)[0])
    os.kill(worker, signal.SIGSTOP)
    try:
        # Envoy's checks of a worker wait for 5 s, and two have to fail.
        gateways.until(lambda: httpx.get(f"{closed.url}/healthz").status_code == 503, patience=60)
        reply = httpx.get(f"{closed.url}/healthz")
    finally:
        os.kill(worker, signal.SIGCONT)
    gateways.until(lambda: httpx.get(f"{closed.url}/healthz").status_code == 200, patience=60)

    assert "not_ready" == reply.json()["error"]["code"]
