"""What a gateway knows outlives it, and what it leans on may be down when it starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import pytest
from gateway import RunningGateway, until

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("restart")]

ROOT = "admin-token-of-root"
BUDGET = 0.5


def text_of(url: str) -> str:
    text = gateways.config(url, models="gpt-4o-mini: [{provider: openai}]", more="store: {every: 100ms}", workers=2)
    line = next(each for each in text.splitlines() if each.startswith("admin:"))
    text = text.replace(line, f"{line[:-1]}, tokens: [{{id: root, role: admin, token: {ROOT}}}]}}")
    return text.replace(
        "{tenant: acme,", f"{{tenant: acme, limits: {{dollars_per_month: {BUDGET}, time_zone: Europe/Berlin}},"
    )


def again(before: RunningGateway) -> RunningGateway:
    """The same gateway, started once more where it lies."""
    found = RunningGateway(before.path.read_text())
    shutil.rmtree(found.directory)
    found.directory, found.path = before.directory, before.path
    return found


def answer(request: urllib.request.Request) -> tuple[int, dict[str, str], Any]:
    try:
        with urllib.request.urlopen(request, timeout=20) as found:
            text = found.read()
            return found.status, dict(found.headers), json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.loads(error.read())


def call(gateway: RunningGateway, key: str = gateways.KEY) -> tuple[int, float | None]:
    """The status, and how many dollars are left."""
    body = {"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{gateway.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    status, told, _ = answer(request)
    left = told.get("x-ratelimit-remaining-dollars")
    return status, float(left) if left is not None else None


def manage(gateway: RunningGateway, key: str) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {ROOT}", "content-type": "application/json"}
    body = json.dumps({"tenant": "acme", "id": key}).encode()
    status, _, found = answer(urllib.request.Request(f"{gateway.admin}/admin/v1/keys", body, headers, method="POST"))
    return status, found


def ready(gateway: RunningGateway) -> tuple[int, Any]:
    status, _, found = answer(urllib.request.Request(f"{gateway.admin}/readyz"))
    return status, found


@pytest.fixture(scope="module")
def life(rehearsal_url: str) -> Iterator[dict[str, Any]]:
    """One gateway that has spent something, its Valkey killed on the way, and that was started again without its
    database."""
    with RunningGateway(text_of(rehearsal_url)) as first:
        status, made = manage(first, "lasting")
        assert 201 == status
        # What a call tells is left has its own worst case taken from it; the first one's has nothing but that.
        status, fresh = call(first, made["key"])
        assert 200 == status
        for _ in range(4):
            status, left = call(first, made["key"])
            assert 200 == status
        os.kill(first.processes()["valkey"], signal.SIGKILL)
        found: list[tuple[int, float | None]] = []
        until(lambda: found.append(call(first, made["key"])) or found[-1][0] == 200)
        killed = {"before": left, "after": found[-1][1], "meanwhile": {status for status, _ in found}}
    database = first.directory / ".edge" / "edge.db"
    kept = [path.rename(path.with_name(f"kept-{path.name}")) for path in database.parent.glob("edge.db*")]
    database.mkdir()
    with again(first) as second:
        yield {"gateway": second, "key": made["key"], "fresh": fresh, "killed": killed, "database": (database, kept)}


def test_a_valkey_of_our_own_that_is_killed_comes_back_with_what_was_spent(life: dict[str, Any]) -> None:
    killed = life["killed"]

    assert killed["meanwhile"] <= {200, 503}
    assert BUDGET > life["fresh"] > killed["before"] > 0
    assert life["fresh"] > killed["after"] > 0


def test_after_a_stop_what_was_spent_is_spent_and_a_database_that_is_down_stops_nobody(life: dict[str, Any]) -> None:
    gateway, (database, kept) = life["gateway"], life["database"]
    status, left = call(gateway, life["key"])
    assert 200 == status
    assert left is not None
    assert left < life["fresh"]

    assert (200, "down") == ((found := ready(gateway))[0], found[1]["beside"]["database"])
    assert "edge_database_up 0.0" in gateway.metrics()
    assert 503 == manage(gateway, "not-now")[0]
    told = [line for line in gateway.lines if "started_without_database" in line]
    assert 1 == len(told)

    # It comes back by itself, and what was settled in the meantime is in it.
    database.rmdir()
    for path in kept:
        path.rename(path.with_name(path.name.removeprefix("kept-")))
    until(lambda: "edge_database_up 1.0" in gateway.metrics())
    status, made = manage(gateway, "later")
    assert 201 == status
    assert {200} == {call(gateway, made["key"])[0] for _ in range(4)}
    assert "up" == ready(gateway)[1]["beside"]["database"]


def test_a_first_start_without_its_database_is_none(rehearsal_url: str) -> None:
    gateway = RunningGateway(text_of(rehearsal_url))
    (gateway.directory / ".edge" / "edge.db").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"the database cannot be used: OperationalError; see store\.database"):
        gateway.start()
