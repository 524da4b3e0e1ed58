"""How well a provider does, from what workers have counted."""

from __future__ import annotations

from edge_extproc.telemetry.merge import Totals
from edge_extproc.telemetry.provider_health import WINDOW, ProviderHealth
from edge_extproc.telemetry.snapshot import MetricFamily, Sample


class Gateway:
    """Counts that only grow, as a supervisor sees them at each scrape."""

    def __init__(self, *providers: str) -> None:
        self.now = 0.0
        self.health = ProviderHealth(lambda: providers, lambda: self.now)
        self.tries: dict[tuple[str, str], float] = {}
        self.open: dict[str, float] = {}

    def scraped(self, after: float = 15.0) -> dict[str, float]:
        self.now += after
        totals = Totals()
        tries = [
            Sample("edge_provider_tries_total", (("provider", provider), ("verdict", verdict)), count)
            for (provider, verdict), count in self.tries.items()
        ]
        circuits = [Sample("edge_circuits_open", (("provider", name),), count) for name, count in self.open.items()]
        totals.add(
            [
                MetricFamily("edge_provider_tries", "", "counter", tries),
                MetricFamily("edge_circuits_open", "", "gauge", circuits),
            ]
        )
        self.health.look(totals)
        (family,) = self.health.collect()
        return {sample.labels["provider"]: sample.value for sample in family.samples}


def test_a_provider_that_nobody_asked_is_well():
    assert {"a": 1.0, "b": 1.0} == Gateway("a", "b").scraped()


def test_it_is_the_share_of_tries_that_went_well_and_others_do_not_count():
    gateway = Gateway("a")
    gateway.tries = {("a", "ok"): 3, ("a", "failed"): 1, ("a", "callers_fault"): 50}

    assert {"a": 0.75} == gateway.scraped()


def test_what_is_long_ago_counts_no_more():
    gateway = Gateway("a")
    gateway.tries = {("a", "failed"): 10}
    assert {"a": 0.0} == gateway.scraped()
    gateway.scraped(after=WINDOW)
    gateway.tries["a", "ok"] = 5

    assert {"a": 1.0} == gateway.scraped(after=1.0)


def test_an_open_circuit_tells_of_a_provider_that_is_left_alone():
    gateway = Gateway("a", "b")
    gateway.tries = {("a", "failed"): 10}
    gateway.open = {"a": 1, "b": 0}
    gateway.scraped()
    gateway.scraped(after=WINDOW)

    assert {"a": 0.0, "b": 1.0} == gateway.scraped(after=WINDOW)


def test_many_scrapes_are_not_all_remembered():
    gateway = Gateway("a")
    for _ in range(1000):
        gateway.scraped(after=15.0)

    assert len(gateway.health._attempts) <= WINDOW / 15.0 + 2


def test_a_provider_of_no_configuration_is_not_shown():
    gateway = Gateway("a")
    gateway.tries = {("gone", "failed"): 10}

    assert {"a": 1.0} == gateway.scraped()
