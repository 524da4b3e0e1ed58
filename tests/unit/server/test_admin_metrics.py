"""In which format /metrics is shown: the scraper says what it takes."""

from __future__ import annotations

import json

import pytest
from asgi import get

from edge_extproc.server import admin
from edge_extproc.telemetry.background import TaskState


async def ready() -> admin.Readiness:
    return admin.Readiness({})


async def metrics(openmetrics: bool) -> bytes:
    return b"openmetrics" if openmetrics else b"text"


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        (None, b"text"),
        ("*/*", b"text"),
        ("text/plain;version=0.0.4", b"text"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", b"openmetrics"),
    ],
)
async def test_exemplars_are_for_those_who_take_them(accept: str | None, body: bytes) -> None:
    answer = await get(admin.build(ready, metrics), "/metrics", **({"accept": accept} if accept else {}))

    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == (admin.OPENMETRICS if body == b"openmetrics" else admin.TEXT)


@pytest.mark.parametrize("found", [b"envoy_x 1\n", None])
async def test_envoys_own_metrics_have_a_page(found: bytes | None) -> None:
    async def envoy() -> bytes | None:
        return found

    answer = await get(admin.build(ready, metrics, envoy), "/metrics/envoy")

    assert (answer.status, answer.body) == ((200, found) if found is not None else (503, b""))


async def test_without_an_envoy_of_ours_its_page_says_so() -> None:
    assert (await get(admin.build(ready, metrics), "/metrics/envoy")).status == 503


async def test_readiness_tells_of_failed_tasks_and_quarantined_rows() -> None:
    async def limping() -> admin.Readiness:
        tasks = {"ledger": TaskState(3, "OverflowError"), "managed_keys": TaskState(1)}
        return admin.Readiness({"worker 0": True}, {"database": "up"}, tasks, 2)

    answer = await get(admin.build(limping, metrics), "/readyz")

    assert 200 == answer.status  # requests are served all the same
    assert {
        "ready": True,
        "parts": {"worker 0": "serving"},
        "beside": {"database": "up"},
        "tasks": {
            "ledger": {"state": "failed", "failures": 3, "error": "OverflowError"},
            "managed_keys": {"state": "running", "failures": 1},
        },
        "ledger": {"quarantined_rows": 2},
    } == json.loads(answer.body)


async def test_who_confuses_the_ports_learns_which_one_this_is() -> None:
    answer = await get(admin.build(ready, metrics), "/v1/models")

    error = {"code": "not_found", "message": admin.NO_SUCH_PATH}
    assert (404, {"error": error}) == (answer.status, json.loads(answer.body))
