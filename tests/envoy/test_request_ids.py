"""x-request-id on real Envoy: on every answer, the caller's own where it is valid, and in both access lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway, until
from running_envoy import admin_stats, ask_admin

pytestmark = pytest.mark.envoy

GOOD = {"authorization": f"Bearer {KEY}"}
MODELS = """
chat: [{provider: openai, model: rehearsal}]
unreadable: [{provider: openai, model: "rehearsal(body=html)"}]
refused: [{provider: openai, model: "rehearsal-400"}]
empty: [{provider: openai, model: "rehearsal(body=empty)"}]
retry: [{provider: openai, model: rehearsal-503}, {provider: anthropic, model: rehearsal}]
"""
MORE = """
retries: {attempts: 3, back_off: {base: 10ms, max: 50ms}}
routing: {breaker: {enabled: false}}
limits: {request_body: 64KiB, response_body: 64KiB}
envoy: {access_log: stdout}
cache: {}
"""
ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
EACH = {
    "an answer": (200, ASKED, GOOD),
    "a stream": (200, {**ASKED, "stream": True}, GOOD),
    "a second try": (200, {**ASKED, "model": "retry"}, GOOD),
    "an unreadable reply": (502, {**ASKED, "model": "unreadable"}, GOOD),
    "an error of the provider": (400, {**ASKED, "model": "refused"}, GOOD),
    "an empty error": (502, {**ASKED, "model": "empty"}, GOOD),
    "no key": (401, ASKED, {}),
    "no such model for this key": (404, ASKED, {"authorization": f"Bearer {OTHER_KEY}"}),
    "no messages": (400, {"model": "chat"}, GOOD),
    "a body over the limit": (413, {**ASKED, "user": "x" * 70_000}, GOOD),
}


@pytest.fixture(scope="module")
def two(rehearsal_url: str) -> Iterator[RunningGateway]:
    """With two workers: a second try must find the worker of the first."""
    text = gateways.config(rehearsal_url, models=MODELS, more=MORE, workers=2)
    with RunningGateway(text) as gateway, httpx.Client(base_url=gateway.url, timeout=30) as client:
        gateway.client = client  # type: ignore[attr-defined]  # of these tests alone
        yield gateway


def ask(gateway: RunningGateway, what: str, *ids: str) -> httpx.Response:
    _, body, headers = EACH[what]
    client: httpx.Client = gateway.client  # type: ignore[attr-defined]  # see `two`
    sent = [*headers.items(), *(("x-request-id", id) for id in ids)]
    return client.post("/v1/chat/completions", json=body, headers=sent)


def only_id(reply: httpx.Response) -> str:
    (found,) = reply.headers.get_list("x-request-id")
    return str(found)


@pytest.mark.parametrize("what", EACH)
def test_every_answer_has_the_id_that_the_caller_sent(two: RunningGateway, what: str) -> None:
    mine = "job-7:" + what.replace(" ", "_")
    reply = ask(two, what, mine)

    assert (EACH[what][0], mine) == (reply.status_code, only_id(reply))
    until(lambda: any(line["request_id"] == mine for line in two.access_lines()))


@pytest.mark.parametrize("what", EACH)
def test_every_answer_has_an_id_where_the_caller_sent_none(two: RunningGateway, what: str) -> None:
    reply = ask(two, what)

    assert EACH[what][0] == reply.status_code
    assert re.fullmatch(r"[0-9a-f-]{36}", only_id(reply))
    until(lambda: any(line["request_id"] == only_id(reply) for line in two.access_lines()))


def test_envoys_line_has_its_own_id_and_the_callers(two: RunningGateway) -> None:
    named = {what: f"envoy-line:{what.replace(' ', '_')}" for what in EACH}
    for what, id in named.items():
        ask(two, what, id)

    # Envoy writes its lines every second.
    until(lambda: len(lines_of(two, named)) == len(named))
    assert all(re.fullmatch(r"[0-9a-f-]{36}", line["request_id"]) for line in lines_of(two, named))


def lines_of(gateway: RunningGateway, named: dict[str, str]) -> list[dict[str, Any]]:
    return [line for line in gateway.envoy_lines() if (line["edge"] or {}).get("request_id") in named.values()]


@pytest.mark.parametrize(
    "ids", [("x" * 129,), ("two words",), ("<b>",), ("",), ("a", "b"), ("sk-proj-abcdefghijklmnopqrstuvwx123456",)]
)
def test_an_id_that_is_not_valid_is_replaced(two: RunningGateway, ids: tuple[str, ...]) -> None:
    for what in ("an answer", "no key"):
        reply = ask(two, what, *ids)

        assert EACH[what][0] == reply.status_code
        assert re.fullmatch(r"[0-9a-f-]{36}", only_id(reply))
    shown = "\n".join(json.dumps(line) for line in (*two.access_lines(), *two.envoy_lines()))
    assert not any(len(id) > 3 and id in shown for id in ids)


def test_requests_of_one_id_meet_both_workers_and_find_their_own_second_try(two: RunningGateway) -> None:
    # Envoy may have begun before the workers. It then finds them at its next health check.
    until(lambda: 2 == admin_stats(admin_socket(two), "cluster.agent")["cluster.agent.membership_healthy"])
    before = handled(two)
    replies = [ask(two, "a second try", "always-the-same") for _ in range(24)]

    assert {200} == {reply.status_code for reply in replies}
    # One request has two streams. That all 24 choose the same one of two workers by chance: once in eight million.
    until(lambda: sum(handled(two)) >= sum(before) + 48)
    assert all(now > was for now, was in zip(handled(two), before, strict=True))


def handled(gateway: RunningGateway) -> list[int]:
    """Streams that each worker was given, as Envoy counts them."""
    hosts = sorted(agent_hosts(gateway), key=json.dumps)
    found = [int(stat.get("value", 0)) for host in hosts for stat in host["stats"] if stat.get("name") == "rq_total"]
    assert 2 == len(found)
    return found


def admin_socket(gateway: RunningGateway) -> Path:
    return gateway.directory / ".edge" / "run" / "envoy-admin.sock"


def agent_hosts(gateway: RunningGateway) -> list[dict[str, Any]]:
    clusters = json.loads(ask_admin(admin_socket(gateway), "/clusters?format=json"))["cluster_statuses"]
    (agent,) = [each for each in clusters if each["name"].startswith("agent")]
    hosts: list[dict[str, Any]] = agent["host_statuses"]
    return hosts


def test_a_reply_of_the_cache_has_the_id_of_its_own_request(two: RunningGateway) -> None:
    client: httpx.Client = two.client  # type: ignore[attr-defined]  # see `two`
    body = {**ASKED, "temperature": 0, "seed": 4711}
    ids = ["first", "second", "third"]
    replies = [client.post("/v1/chat/completions", json=body, headers={**GOOD, "x-request-id": id}) for id in ids]

    assert ids == [only_id(reply) for reply in replies]
    # Each of the two workers has a cache of its own, so the third is known to one of them.
    assert "hit" in [reply.headers["x-edge-cache"] for reply in replies]


def test_the_providers_own_id_has_another_name_and_the_callers_reaches_no_provider(
    two: RunningGateway, rehearsal_url: str
) -> None:
    reply = ask(two, "an answer", "mine-alone")

    assert reply.headers["x-edge-provider-request-id"].startswith("req_")
    seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
    assert "mine-alone" not in json.dumps(seen[-1]["headers"])
