"""What waits in a worker, as metrics."""

from __future__ import annotations

from edge_extproc.telemetry.metrics import LabelNames, Metrics
from edge_extproc.telemetry.queue_metrics import SpanCounts


def test_a_queue_is_looked_at_when_it_is_asked_for():
    metrics, waiting = Metrics(LabelNames(), version="1", started_at=0.0), [1, 2, 3]
    metrics.queues.watch("spans", waiting.__len__)
    metrics.queues.watch_spans(lambda: SpanCounts(5, 6, 7))
    waiting.append(4)
    told = metrics.exposition().decode().splitlines()

    assert 'edge_queue_length{queue="spans"} 4.0' in told
    assert {'edge_spans_total{outcome="sent"} 5.0', 'edge_spans_total{outcome="dropped"} 7.0'} <= set(told)


def test_prices_and_the_journal_are_told_of():
    metrics = Metrics(LabelNames(), version="1", started_at=0.0)
    metrics.priced_by("1.2.3", 77.0)
    metrics.journal_failed()
    told = metrics.exposition().decode().splitlines()

    assert 'edge_price_table_info{version="1.2.3"} 1.0' in told
    assert "edge_price_table_timestamp_seconds 77.0" in told
    assert "edge_journal_errors_total 1.0" in told
