"""A real Prometheus scrapes a real gateway: every panel shows something, and no alert fires on a healthy run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway, until
from ports import free_port

from deploy import alerts, dashboards
from edge_extproc.telemetry import catalog

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.envoy

MODELS = """
chat: [{provider: openai, model: gpt-4o-mini}]
claude: [{provider: anthropic, model: claude-haiku-4-5}]
torn: [{provider: openai, model: "rehearsal(drop=3,pace=100ms)"}]
"down-then-up": [{provider: down, model: gpt-4o-mini}, {provider: openai, model: gpt-4o-mini}]
"""
NUMBERS = itertools.count()
# Of the semantic cache: one that is stored, some that mean the same, and one that does not.
QUESTIONS = (
    "What is the capital of Samoa?",
    "What's the capital of Samoa?",
    "Tell me the capital of Samoa.",
    "Could you tell me what the capital of Samoa is?",
    "What is not the capital of Samoa?",
)
LIMITED = "edge-test-key-of-the-limited"
# Needs what a healthy run has not: a cloud's credential, a Redis that fails, a model without a price, a torn stream.
NOT_HERE = {
    "edge_cache_down",
    "edge_cache_errors_total",
    "edge_conversation_removals_total",
    "edge_conversation_unstored_replies_total",
    "edge_credential_renewals_total",
    "edge_credential_renewed_timestamp_seconds",
    "edge_spans_total",
    "edge_provider_account_refusals_total",
    "edge_provider_retry_after_total",
    "edge_garbled_frames_total",
    "edge_limit_warnings_total",
    "edge_unpriced_requests_total",
    "edge_dropped_fields_total",
    "edge_estimated_requests_total",
    "edge_unreadable_usage_total",
    "edge_guardrail_service_spared_total",
    "edge_semantic_errors_total",
    "edge_semantic_hits_total",
    "edge_socket_messages_total",
    "edge_tool_call_duration_seconds",
    "edge_tool_calls_total",
    "edge_tool_cost_usd_total",
}


def prometheus() -> str:
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    return found


class Prometheus:
    def __init__(self, target: str, directory: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ROOT / "deploy" / "prometheus" / "rules.yml")],
            "scrape_configs": [
                {"job_name": "edge", "static_configs": [{"targets": [target]}]},
                {"job_name": "edge-envoy", "metrics_path": "/metrics/envoy", "static_configs": [{"targets": [target]}]},
            ],
        }
        path = directory / "prometheus.yml"
        path.write_text(json.dumps(config))
        self._arguments = [
            prometheus(),
            f"--config.file={path}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--log.level=error",
        ]

    def __enter__(self) -> Prometheus:
        self._process = subprocess.Popen(self._arguments)
        until(self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def query(self, expression: str) -> list[Any]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[Any] = answer["data"]["result"]
        return found

    def active_alerts(self) -> set[str]:
        found = httpx.get(f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found}


Watched: TypeAlias = tuple[RunningGateway, Prometheus]


def traffic(gateway: RunningGateway) -> None:
    """Of each kind that a panel tells of."""
    messages = [{"role": "user", "content": "Hello"}]
    with httpx.Client(base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as client:

        def ask(model: str, **more: Any) -> int:
            body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 50, **more}
            return client.post("/v1/chat/completions", json=body).status_code

        assert [ask(model) for model in ("chat", "chat", "claude")] == [200] * 3
        # Each seed is another call: nothing of these comes from the cache.
        assert [ask(model, stream=True, seed=next(NUMBERS)) for model in ("chat", "claude")] == [200] * 2
        assert [ask("down-then-up", seed=next(NUMBERS)) for _ in range(6)] == [200] * 6
        seed = next(NUMBERS)
        for question in QUESTIONS:
            assert 200 == ask("chat", seed=seed, messages=[{"role": "user", "content": question}])
        stored = client.post("/v1/responses", json={"model": "claude", "input": "Hello"}).json()
        assert client.get(f"/v1/responses/{stored['id']}").is_success
        assert client.get("/v1/responses/resp_of_nobody").is_error
        elsewhere = {"authorization": f"Bearer {OTHER_KEY}"}
        assert client.post("/v1/chat/completions", json={"model": "chat", "messages": []}, headers=elsewhere).is_error
        client.get("/v1/models", headers={"authorization": "Bearer wrong"})
        limited = {"authorization": f"Bearer {LIMITED}"}
        body = {"model": "chat", "messages": messages}
        answers = [client.post("/v1/chat/completions", json=body, headers=limited).status_code for _ in range(3)]
        assert 429 in answers


@pytest.fixture(scope="module")
def watched(
    rehearsal_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningGateway, Prometheus]]:
    more = """
    retries: {attempts: 3, back_off: {base: 10ms, max: 50ms}}
    cache: {semantic: {budget: 1s, shadow: {share: 1}}}
    conversations: {}
    store: {every: 200ms}
    prices: [{provider: openai, model: "rehearsal*", input: 1, output: 1}]
    guardrails:
      rules:
        - {name: greetings, detect: {words: {words: [Hello]}}, action: flag}
        - name: down
          service: {litellm_webhook: {url: "http://127.0.0.1:1"}}
          on: [request]
          action: block
          fail: open
    """
    text = gateways.config(rehearsal_url, more=more, models=MODELS)
    down = f"  down: {{kind: openai, base_url: 'http://127.0.0.1:{free_port()}/v1', api_key: x}}\n"
    limits = "{requests_per_minute: 1, dollars_per_day: 100}"
    limited = f"  - {{tenant: small, limits: {limits}, keys: [{{id: small-1, key: {LIMITED}}}]}}\n"
    text = text.replace("providers:\n", f"{limited}providers:\n{down}", 1)
    with RunningGateway(text) as gateway:
        with Prometheus(gateway.admin.removeprefix("http://"), tmp_path_factory.mktemp("prometheus")) as found:
            traffic(gateway)
            gateway.all_settled()
            until(lambda: found.query("edge_circuits_opened_total > 0"))
            before = found.query("timestamp(edge_workers)")[0]["value"][1]
            traffic(gateway)
            # A rate needs two scrapes on both sides of what moved.
            until(lambda: float(found.query("timestamp(edge_workers)")[0]["value"][1]) > float(before) + 4)
            yield gateway, found


def test_every_panel_shows_something(watched: Watched) -> None:
    _, found = watched
    empty = [
        f"{board.name}: {panel.title}: {query}"
        for board in dashboards.DASHBOARDS
        for panel in board.panels
        for query, _ in panel.queries
        if not found.query(query.replace("$__rate_interval", "1m"))
    ]

    assert empty == []


def test_no_alert_fires_on_a_healthy_run_and_all_are_understood(watched: Watched) -> None:
    _, found = watched
    for alert in alerts.ALERTS:
        found.query(alert.expr)
    rules = httpx.get(f"{found.url}/api/v1/rules").json()["data"]["groups"][0]["rules"]

    assert {rule["health"] for rule in rules} == {"ok"}
    # One provider and one service of guardrails of this run are down, and one of its callers is over its limit.
    down = {"EdgeProviderDown", "EdgeCircuitOpen", "EdgeGuardrailServiceFails"}
    assert found.active_alerts() <= {*down, "EdgeLimitsReject", "EdgeBudgetNear"}


def test_every_metric_of_the_catalogue_is_scraped(watched: Watched) -> None:
    gateway, _ = watched
    families = {line.split()[2] for line in gateway.metrics().splitlines() if line.startswith("# TYPE ")}
    samples = {line.partition("{")[0].split()[0] for line in gateway.metrics().splitlines() if line[:1] != "#"}
    shown = {entry.name for entry in catalog.entries() if entry.name in samples or f"{entry.name}_count" in samples}

    assert {entry.name for entry in catalog.entries()} <= families | {f"{name}_total" for name in families}
    assert {entry.name for entry in catalog.entries()} - shown <= NOT_HERE


def test_an_answer_that_the_provider_breaks_off_is_told_by_envoy(watched: Watched) -> None:
    gateway, found = watched
    body = {"model": "torn", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})

    until(lambda: found.query('envoy_http_downstream_rq_tx_reset{envoy_http_conn_manager_prefix="edge"} > 0'))
    assert found.query('envoy_cluster_upstream_cx_destroy_remote_with_active_rq{envoy_cluster_name="provider_openai"}')


def test_top_shows_a_running_gateway(watched: Watched) -> None:
    gateway, _ = watched
    command = [sys.executable, "-m", "edge_extproc", "top", "--once", "--interval", "5", "--admin", gateway.admin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "140"}) as top:
        while top.poll() is None:
            traffic(gateway)
        shown = top.stdout.read() if top.stdout is not None else ""

    assert 0 == top.returncode
    assert [name for name in ("openai", "anthropic", "acme", "small", "chat", "claude") if name not in shown] == []
