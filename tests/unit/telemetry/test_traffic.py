"""The figures of the overview, from the counters of workers."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edge_extproc.telemetry import snapshot
from edge_extproc.telemetry.merge import Totals
from edge_extproc.telemetry.traffic import INTERVAL, WINDOW, TrafficHistory


class Workers:
    """Counters as the workers have them, and a clock."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.at = 1000.0
        self.requests = self._counter("edge_requests", "tenant", "model", "provider", "outcome")
        self.tokens = self._counter("edge_tokens", "tenant", "model", "provider", "kind")
        self.cost = self._counter("edge_cost_usd", "tenant", "model", "provider")
        self.cache = self._counter("edge_cache_requests", "result", "tier")
        self.saved = self._counter("edge_cache_saved_cost_usd", "model")
        self.saved_tokens = self._counter("edge_cache_saved_tokens", "model")
        self.tries = self._counter("edge_provider_tries", "provider", "verdict")
        names = ("model", "provider", "stream")
        self.times = Histogram("edge_request_duration_seconds", "x", names, registry=self.registry, buckets=(1, 2, 4))
        self.opened = self._counter("edge_circuits_opened", "provider")
        self.retry_after = self._counter("edge_provider_retry_after", "provider")
        self.refusals = self._counter("edge_provider_account_refusals", "provider", "problem")
        self.renewed = Gauge("edge_credential_renewed_timestamp_seconds", "x", ("provider",), registry=self.registry)
        self.circuits = Gauge("edge_circuits_open", "x", ("provider",), registry=self.registry)
        self.versions = Gauge("edge_config_info", "x", ("version",), registry=self.registry)
        self.open = Gauge("edge_open_requests", "x", registry=self.registry)
        self.sockets = Gauge("edge_open_sockets", "x", registry=self.registry)
        self.history = TrafficHistory(
            lambda: ("b", "a"), lambda: (1, 2), now=lambda: self.at + 1e9, clock=lambda: self.at
        )

    def _counter(self, name: str, *labels: str) -> Counter:
        return Counter(name, "x", labels, registry=self.registry)

    def request(self, tenant: str = "acme", outcome: str = "ok", seconds: float = 0.5, dollars: float = 0.0) -> None:
        self.requests.labels(tenant, "m", "a", outcome).inc()
        self.times.labels("m", "a", "true").observe(seconds)
        self.cost.labels(tenant, "m", "a").inc(dollars)
        self.tokens.labels(tenant, "m", "a", "input").inc(10)

    def record(self, later: float = INTERVAL) -> None:
        self.at += later
        totals = Totals()
        totals.add(snapshot.read(snapshot.take(self.registry)))
        self.history.record(totals)


@pytest.fixture
def workers() -> Workers:
    return Workers()


def test_before_the_first_record_there_is_nothing(workers: Workers) -> None:
    found = workers.history.overview(None)

    assert workers.history.is_due
    assert (0.0, 0, None, []) == (found.requests_per_second, found.requests, found.p50, found.points)


def test_rates_are_of_the_last_minute_and_sums_of_all_time(workers: Workers) -> None:
    workers.record()
    for _ in range(100):
        workers.request(dollars=1.0)
    workers.record(120.0)
    for n in range(30):
        workers.request(outcome="upstream_error" if n < 6 else "ok", seconds=1.5, dollars=0.5)
    workers.record(60.0)
    found = workers.history.overview(None)

    assert (60.0, 0.5, 0.1) == (found.seconds, found.requests_per_second, found.failed_per_second)
    assert (5.0, 900.0) == (found.tokens_per_second, found.dollars_per_hour)
    assert (130, 115.0, {"ok": 124, "upstream_error": 6}) == (found.requests, found.dollars, found.outcomes)
    assert (1.5, 1.99) == (found.p50, found.p99)


def test_a_tenant_sees_its_own_traffic_alone(workers: Workers) -> None:
    workers.record()
    for _ in range(20):
        workers.request("acme")
    workers.request("umbrella", outcome="rejected", dollars=9.0)
    workers.record(10.0)
    found = workers.history.overview("umbrella")

    assert (0.1, 1, {"rejected": 1}, 9.0) == (
        found.requests_per_second,
        found.requests,
        found.outcomes,
        found.dollars,
    )
    assert [1] == [point.requests for point in found.points]
    hidden = (found.p50, found.p99, found.first_token_p50, found.saved_dollars, found.cache_hits, found.state)
    assert (None,) * 6 == hidden
    assert 0 == workers.history.overview("nobody").requests


def test_the_chart_has_slots_of_some_seconds(workers: Workers) -> None:
    for n in range(13):
        workers.record()
        workers.request(outcome="broken_stream" if n == 12 else "ok")
    workers.record()
    points = workers.history.overview(None).points

    assert [3, 3, 3, 3, 1] == [point.requests for point in points]
    assert [0, 0, 0, 0, 1] == [point.failed for point in points]
    assert [6.0, 6.0, 6.0, 6.0, 2.0] == [point.seconds for point in points]


def test_records_beyond_the_window_are_forgotten(workers: Workers) -> None:
    for _ in range(int(WINDOW / INTERVAL) * 2):
        workers.request()
        workers.record()
    points = workers.history.overview(None).points

    assert WINDOW >= sum(point.seconds for point in points) > WINDOW - 10


def test_the_state_of_the_gateway(workers: Workers) -> None:
    workers.record()
    workers.tries.labels("a", "ok").inc(8)
    workers.tries.labels("a", "failed").inc(2)
    workers.tries.labels("a", "refused").inc(5)
    workers.circuits.labels("b").set(1)
    workers.versions.labels("v2").set(2)
    workers.open.set(3)
    workers.sockets.set(2)
    workers.cache.labels("hit", "l1").inc(3)
    workers.cache.labels("miss", "").inc()
    workers.cache.labels("bypass", "").inc(7)
    workers.opened.labels("b").inc(4)
    workers.retry_after.labels("b").inc(2)
    workers.refusals.labels("b", "payment").inc(3)
    workers.renewed.labels("b").set(1_800_000_000)
    workers.request(seconds=1.5)
    workers.saved.labels("m").inc(0.25)
    workers.saved_tokens.labels("m").inc(40)
    workers.record()
    found = workers.history.overview(None)

    assert found.state is not None
    assert (1, 2, 3, 2, {"v2": 2}) == (
        found.state.workers,
        found.state.workers_wanted,
        found.state.open_requests,
        found.state.open_sockets,
        found.state.versions,
    )
    providers = [(p.provider, p.attempts, p.failed, p.circuits_open) for p in found.state.providers]
    assert [("a", 10, 2, 0), ("b", 0, 0, 1)] == providers
    a, b = found.state.providers
    assert (1.5, None) == (a.p50, b.p50)
    assert (4, 2, {"payment": 3}) == (b.circuits_opened, b.retry_after, b.account_refusals)
    assert (None, 1_800_000_000) == (a.credential_renewed, b.credential_renewed and b.credential_renewed.timestamp())
    cache = [(each.result, each.tier, each.requests) for each in found.state.cache]
    assert [("bypass", "", 7), ("hit", "l1", 3), ("miss", "", 1)] == cache
    assert (3, 4, 0.25, 40) == (found.cache_hits, found.cache_lookups, found.saved_dollars, found.saved_tokens)
    assert not workers.history.is_due
