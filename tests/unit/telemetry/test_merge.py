"""Many workers, one exposition: sums that never go down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from edge_extproc.telemetry import snapshot
from edge_extproc.telemetry.limit_metrics import LimitLevel, LimitMetrics
from edge_extproc.telemetry.merge import RetiredWorkers, Totals, WorkerTotals, merge
from edge_extproc.telemetry.metrics import LabelNames, Metrics


class Worker:
    """What a worker's registry looks like, in small."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.done = Counter("edge_requests", "Done.", ["outcome"], registry=registry)
        self.open = Gauge("edge_open_requests", "Open.", registry=registry)
        self.started = Gauge("edge_worker_start_time_seconds", "Start.", registry=registry)
        self.took = Histogram("edge_took_seconds", "Took.", buckets=(0.1, 1.0), registry=registry)

    def said(self) -> bytes:
        return snapshot.take(self.registry)


def value(totals: Totals, name: str, /, **labels: str) -> float | None:
    for family in text_string_to_metric_families(totals.exposition().decode()):
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
    whole = merge(worker.said() for worker in two())

    assert value(whole, "edge_requests_total", outcome="ok") == 7
    assert value(whole, "edge_requests_total", outcome="rejected") == 1
    assert value(whole, "edge_took_seconds_bucket", le="0.1") == 1
    assert value(whole, "edge_took_seconds_bucket", le="1.0") == 2
    assert value(whole, "edge_took_seconds_bucket", le="+Inf") == 3
    assert value(whole, "edge_took_seconds_count") == 3
    assert value(whole, "edge_took_seconds_sum") == 5.55


def test_of_what_workers_know_of_the_other_workers_the_safe_value_is_shown() -> None:
    """The largest number of workers that one of them has counted, and the smallest number of shares that one has."""
    registries = [CollectorRegistry() for _ in range(3)]
    for registry, counted, shares in zip(registries, (4, 6, 5), (6, 0, 6), strict=True):
        LimitMetrics(registry).watch_workers(lambda n=counted: n, lambda n=shares: n)  # type: ignore[misc]
    whole = merge(snapshot.take(registry) for registry in registries)

    assert (6, 0) == (value(whole, "edge_limit_workers"), value(whole, "edge_limit_shares"))


def test_gauges_are_summed_unless_a_sum_would_mean_nothing() -> None:
    whole = merge(worker.said() for worker in two())

    assert value(whole, "edge_open_requests") == 7
    assert value(whole, "edge_worker_start_time_seconds") == 100


def test_one_worker_alone_is_shown_as_it_is() -> None:
    worker, _ = two()

    assert merge([worker.said()]).exposition() == generate_latest(worker.registry)


def test_the_whole_of_a_real_worker_is_read_and_written_again() -> None:
    metrics = Metrics(LabelNames(), version='0.1\n"x\\', started_at=1.0)

    said, shown = merge([metrics.snapshot()]).exposition(), metrics.exposition()
    # Of the process itself, numbers differ from one moment to the next.
    assert [line for line in said.splitlines() if b"process_" not in line] == [
        line for line in shown.splitlines() if b"process_" not in line
    ]


def test_nobody_is_an_empty_exposition() -> None:
    assert merge([]).exposition() == b""
    assert merge([], RetiredWorkers()).exposition() == b""


def test_of_two_exemplars_the_later_one_is_shown_and_only_in_openmetrics() -> None:
    one, other = two()
    one.took.observe(0.05, {"trace_id": "early"})
    other.took.observe(0.06, {"trace_id": "late"})
    totals = merge([one.said(), other.said()])
    said = totals.exposition(openmetrics=True).decode()

    assert '# {trace_id="late"}' in said
    assert "early" not in said
    assert said.endswith("# EOF\n")
    assert list(openmetrics_families(said))
    assert b"late" not in totals.exposition()


def test_a_dead_worker_leaves_its_totals_and_takes_its_gauges() -> None:
    one, other = two()
    retired = RetiredWorkers()
    retired.add(other.said())

    whole = merge([one.said()], retired)

    assert value(whole, "edge_requests_total", outcome="ok") == 7
    assert value(whole, "edge_requests_total", outcome="rejected") == 1
    assert value(whole, "edge_took_seconds_count") == 3
    assert value(whole, "edge_open_requests") == 2


def test_a_worker_that_goes_twice_or_answers_late_is_counted_once() -> None:
    one, other = two()
    workers = WorkerTotals()
    workers.record(1, one.said())
    workers.record(2, other.said())
    before = workers.totals()
    workers.retire(2)
    workers.retire(2)
    workers.retire("never seen")
    workers.record(2, other.said())

    assert value(before, "edge_requests_total", outcome="ok") == 7
    assert value(workers.totals(), "edge_requests_total", outcome="ok") == 7
    assert value(workers.totals(), "edge_open_requests") == 2


def test_a_reading_that_began_earlier_does_not_replace_a_later_one() -> None:
    workers, worker = WorkerTotals(), Worker()
    first = workers.begin()
    worker.done.labels("ok").inc()
    earlier = worker.said()
    second = workers.begin()
    worker.done.labels("ok").inc()
    workers.record(1, worker.said(), second)
    workers.record(1, earlier, first)

    assert value(workers.totals(), "edge_requests_total", outcome="ok") == 2


@pytest.mark.parametrize("said", [b"", b"edge_requests_total 3", b"\x93\x01\x02\x03"])
def test_what_is_no_snapshot_is_refused_whole(said: bytes) -> None:
    retired = RetiredWorkers()

    with pytest.raises(ValueError):  # noqa: PT011 - msgspec's own words, which are not ours to fix
        retired.add(said)
    assert retired.families() == []


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["work", "scrape", "die"])), max_size=25))
def test_no_order_of_work_scrapes_and_deaths_makes_a_counter_go_down(steps: list[tuple[int, str]]) -> None:
    slots = {slot: (slot, Worker()) for slot in range(3)}
    workers, births, shown, heard = WorkerTotals(), 3, 0.0, 0.0
    for slot, step in steps:
        identity, worker = slots[slot]
        match step:
            case "work":
                worker.done.labels("ok").inc()
            case "scrape":
                workers.record(identity, worker.said())
            case _:
                workers.retire(identity)
                slots[slot] = (births, Worker())
                births += 1
        heard = value(workers.totals(), "edge_requests_total", outcome="ok") or 0.0
        assert heard >= shown
        shown = heard
    assert heard <= sum(step == "work" for _, step in steps)


def levels(*rows: LimitLevel) -> bytes:
    registry = CollectorRegistry()
    LimitMetrics(registry).watch(lambda: rows)
    return snapshot.take(registry)


def test_a_shared_limit_is_told_as_it_was_heard_last_and_what_workers_reserve_is_summed() -> None:
    whose = ("acme", "tenant", "acme", "dollars", "day")
    labels = dict(zip(("tenant", "level", "name", "measure", "window"), whose, strict=True))
    old, new = levels(LimitLevel(whose, 10, 7, 2, 100.0)), levels(LimitLevel(whose, 12, 4, 1, 200.0))
    for said in ([old, new], [new, old]):
        whole = merge(said)
        shown = [value(whole, f"edge_limit_{what}", **labels) for what in ("maximum", "used", "left", "reserved")]

        assert [12, 4, 8, 3] == shown


def test_of_holders_without_a_name_the_nearest_to_its_limit_is_told() -> None:
    whose = ("acme", "user", "*", "requests", "minute")
    labels = dict(zip(("tenant", "level", "name", "measure", "window"), whose, strict=True))
    far, near = levels(LimitLevel(whose, 10, 1, 1, None)), levels(LimitLevel(whose, 10, 9, 0, None))
    for said in ([far, near], [near, far]):
        whole = merge(said)

        assert 9 == value(whole, "edge_limit_used", **labels)
        assert 1 == value(whole, "edge_limit_left", **labels)


def test_a_worker_that_hangs_is_none_to_count_on_but_what_it_counted_stays() -> None:
    workers, (one, other) = WorkerTotals(), two()
    workers.record(1, one.said())
    workers.record(2, other.said())
    workers.mark_silent(2)

    assert value(workers.totals(), "edge_requests_total", outcome="ok") == 7
    assert value(workers.totals(), "edge_open_requests") == 2

    workers.record(2, other.said())
    assert value(workers.totals(), "edge_open_requests") == 7

    workers.mark_silent(2)
    workers.retire(2)
    workers.mark_silent(3)  # which never answered
    assert value(workers.totals(), "edge_requests_total", outcome="ok") == 7
    assert value(workers.totals(), "edge_open_requests") == 2
