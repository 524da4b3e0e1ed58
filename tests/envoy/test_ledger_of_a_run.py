"""The ledger of a running gateway: what callers used is there after a worker's death and after the stop."""

from __future__ import annotations

import json
import os
import signal
import urllib.request

import pytest
from gateway import KEY, RunningGateway, config, until

pytestmark = pytest.mark.envoy


def _ask(gateway: RunningGateway) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


def test_what_was_used_is_in_the_ledger_even_if_the_worker_is_killed(rehearsal_url: str) -> None:
    with RunningGateway(config(rehearsal_url, more="store: {every: 100ms}")) as gateway:
        for _ in range(3):
            _ask(gateway)
        gateway.all_settled()
        os.kill(gateway.processes()["worker 0"], signal.SIGKILL)
        until(lambda: gateway.usage("--by", "tenant") != [])
        (kept,) = gateway.usage("--by", "tenant,key,outcome")

        assert ("acme", "acme-1", "ok", 3) == (kept["tenant"], kept["key"], kept["outcome"], kept["requests"])
        assert float(str(kept["cost"])) > 0

    # The stop itself brings the rest in.
    rows = gateway.usage("--rows")
    assert 3 == len(rows) == len({row["exchange"] for row in rows})


def test_team_user_and_the_model_that_answered_are_in_every_report(rehearsal_url: str) -> None:
    token = "a-token-of-an-admin-for-tests"
    text = config(rehearsal_url, more="store: {every: 100ms}\n").replace(
        "keys: [{id: acme-1,", "keys: [{id: acme-1, team: search, user: ann,"
    )
    admin = next(line for line in text.splitlines() if line.startswith("admin: "))
    text = text.replace(admin, admin[:-1] + f", tokens: [{{id: root, role: admin, token: {token}}}]}}")
    with RunningGateway(text) as gateway:
        _ask(gateway)
        gateway.all_settled()
        by = "team,user,upstream_model,response_model"
        until(lambda: gateway.usage("--by", by) != [])
        (kept,) = gateway.usage("--by", by)
        query = "by=team&by=user&by=response_model"
        request = urllib.request.Request(
            f"{gateway.admin}/admin/v1/usage?{query}", headers={"authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            (shown,) = json.loads(answer.read())

        assert ("search", "ann", "gpt-4o-mini") == (kept["team"], kept["user"], kept["upstream_model"])
        assert kept["response_model"]
        assert {n: kept[n] for n in ("team", "user", "response_model")} == {
            n: shown[n] for n in ("team", "user", "response_model")
        }
