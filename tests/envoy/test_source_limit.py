"""What Envoy itself refuses of one address costs the agent nothing, and nobody else anything."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import pytest
from gateway import RunningGateway

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("source_limit")]


@pytest.fixture(scope="module")
def bounded(rehearsal_url: str) -> Iterator[RunningGateway]:
    text = gateways.config(rehearsal_url, more="envoy: {source_limit: {requests_per_second: 1, burst: 5}}")
    with RunningGateway(text) as found:
        yield found


def call(gateway: RunningGateway, source: str, key: str) -> tuple[int, dict[str, str], Any]:
    port = int(gateway.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(source, 0))
    asked = json.dumps({"model": "rehearsal", "messages": [{"role": "user", "content": "Hello"}]})
    try:
        connection.request("POST", "/v1/chat/completions", asked, {"authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), json.loads(answer.read())
    finally:
        connection.close()


def heard(gateway: RunningGateway) -> float:
    """How many requests the agent has settled."""
    found = re.findall(r"^edge_requests_total\{[^}]*\} (\S+)$", gateway.metrics(), re.MULTILINE)
    return sum(map(float, found))


def test_a_flood_of_wrong_keys_is_stopped_before_the_agent_and_others_go_on(bounded: RunningGateway) -> None:
    before = heard(bounded)
    flood = [call(bounded, "127.0.0.2", "edge-wrong-key-of-nobody") for _ in range(60)]
    good = call(bounded, "127.0.0.3", gateways.KEY)
    statuses = [status for status, _, _ in flood]
    refused = next(answer for answer in flood if answer[0] == 429)

    assert {401, 429} == set(statuses)
    assert 200 == good[0]
    assert "1" == refused[1]["retry-after"]
    assert ("rate_limit_error", "rate_limit_exceeded") == (
        refused[2]["error"]["type"],
        refused[2]["error"]["code"],
    )
    gateways.until(lambda: heard(bounded) - before == statuses.count(401) + 1)
    assert statuses.count(429) > 30
