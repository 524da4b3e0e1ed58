"""Many workers, one exposition: sums that never go down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_extproc.telemetry.merge import Retired, Workers, merge
from edge_extproc.telemetry.metrics import Metrics, Names


class Worker:
    """What a worker's registry looks like, in small."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.done = Counter("edge_requests", "Done.", ["outcome"], registry=registry)
        self.open = Gauge("edge_open_requests", "Open.", registry=registry)
        self.started = Gauge("edge_worker_start_time_seconds", "Start.", registry=registry)
        self.took = Histogram("edge_took_seconds", "Took.", buckets=(0.1, 1.0), registry=registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)


def value(exposition: bytes, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def two() -> tuple[Worker, Worker]:
    one, other = Worker(), Worker()
    one.done.labels("ok").inc(3)
    one.open.set(2)
    one.started.set(100)
    one.took.observe(0.05)
    other.done.labels("ok").inc(4)
    other.done.labels("rejected").inc(1)
    other.open.set(5)
    other.started.set(70)
    other.took.observe(0.5)
    other.took.observe(5)
    return one, other


def test_counters_and_histograms_are_summed() -> None:
    whole = merge(worker.text() for worker in two())

    assert value(whole, "edge_requests_total", outcome="ok") == 7
    assert value(whole, "edge_requests_total", outcome="rejected") == 1
    assert value(whole, "edge_took_seconds_bucket", le="0.1") == 1
    assert value(whole, "edge_took_seconds_bucket", le="1.0") == 2
    assert value(whole, "edge_took_seconds_bucket", le="+Inf") == 3
    assert value(whole, "edge_took_seconds_count") == 3
    assert value(whole, "edge_took_seconds_sum") == 5.55


def test_gauges_are_summed_unless_a_sum_would_mean_nothing() -> None:
    whole = merge(worker.text() for worker in two())

    assert value(whole, "edge_open_requests") == 7
    assert value(whole, "edge_worker_start_time_seconds") == 100


def test_one_worker_alone_is_shown_as_it_is() -> None:
    worker, _ = two()

    assert merge([worker.text()]) == worker.text()


def test_the_whole_of_a_real_worker_is_read_and_written_again() -> None:
    text = Metrics(Names(), version='0.1\n"x\\', started_at=1.0).exposition()

    assert merge([text]) == text


def test_nobody_is_an_empty_exposition() -> None:
    assert merge([]) == b""
    assert merge([], Retired()) == b""


def test_a_dead_worker_leaves_its_totals_and_takes_its_gauges() -> None:
    one, other = two()
    retired = Retired()
    retired.add(other.text())

    whole = merge([one.text()], retired)

    assert value(whole, "edge_requests_total", outcome="ok") == 7
    assert value(whole, "edge_requests_total", outcome="rejected") == 1
    assert value(whole, "edge_took_seconds_count") == 3
    assert value(whole, "edge_open_requests") == 2


def test_a_worker_that_goes_twice_or_answers_late_is_counted_once() -> None:
    one, other = two()
    workers = Workers()
    workers.heard(1, one.text())
    workers.heard(2, other.text())
    before = workers.exposition()
    workers.gone(2)
    workers.gone(2)
    workers.gone("never seen")
    workers.heard(2, other.text())

    assert value(before, "edge_requests_total", outcome="ok") == 7
    assert value(workers.exposition(), "edge_requests_total", outcome="ok") == 7
    assert value(workers.exposition(), "edge_open_requests") == 2


def test_what_is_no_exposition_is_refused_whole() -> None:
    retired = Retired()

    with pytest.raises(ValueError, match="could not convert"):
        retired.add(b"# TYPE edge_requests counter\nedge_requests_total 3\nedge_requests_total{ nonsense\n")
    assert retired.exposition() == b""


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["work", "scrape", "die"])), max_size=25))
def test_no_order_of_work_scrapes_and_deaths_makes_a_counter_go_down(steps: list[tuple[int, str]]) -> None:
    slots = {slot: (slot, Worker()) for slot in range(3)}
    workers, births, shown, heard = Workers(), 3, 0.0, 0.0
    for slot, step in steps:
        identity, worker = slots[slot]
        match step:
            case "work":
                worker.done.labels("ok").inc()
            case "scrape":
                workers.heard(identity, worker.text())
            case _:
                workers.gone(identity)
                slots[slot] = (births, Worker())
                births += 1
        heard = value(workers.exposition(), "edge_requests_total", outcome="ok") or 0.0
        assert heard >= shown
        shown = heard
    assert heard <= sum(step == "work" for _, step in steps)
