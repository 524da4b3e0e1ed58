"""What is read from counters and histograms: failed requests, and quantiles."""

from __future__ import annotations

from collections.abc import Mapping

FAILED = frozenset({"upstream_error", "broken_stream", "gateway_error"})
"""The outcomes that count as failed."""


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """A quantile of a histogram's cumulative buckets, computed like Prometheus' histogram_quantile."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return None
    below, lower = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= q * total:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (q * total - below) / (buckets[bound] - below)
        below, lower = buckets[bound], bound
    return lower
