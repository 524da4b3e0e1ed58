"""A worker that is killed under load takes at most its last seconds of counts with it, also if nobody scrapes."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request

import gateway as gateways
import pytest
from gateway import KEY, RunningGateway, until

pytestmark = pytest.mark.envoy

LOAD_SECONDS = 8.0
# The counters are read once a second; the rest is for a busy machine.
LOST_SECONDS = 4.0
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}).encode()
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


def ask(gateway: RunningGateway) -> None:
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", BODY, HEADERS)
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def counted(gateway: RunningGateway) -> float:
    lines = gateway.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("edge_requests_total{"))


def test_only_the_last_seconds_of_a_killed_worker_are_not_counted(rehearsal_url: str) -> None:
    with RunningGateway(gateways.config(rehearsal_url, models="chat: [{provider: openai, model: chat}]\n")) as gateway:
        before = gateway.child("worker")
        assert before is not None
        ended: list[float] = []
        until_load_ends = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < until_load_ends:
            ask(gateway)
            ended.append(time.monotonic())
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: gateway.child("worker") not in (None, before))
        old = sum(each < killed - LOST_SECONDS for each in ended)

        assert old > 0
        assert old <= counted(gateway) <= len(ended)
