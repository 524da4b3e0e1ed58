"""The metrics of one worker.

Every label value is one that config or this file knows, "none" where there is nothing to name, or "other": what a
caller sends can never make a new time series. Children are bound once for each combination and kept, so that settling
an exchange costs a few microseconds.

The names are Prometheus' own convention: base units, `_total` for counters. `merge.py` adds up the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ..errors import EdgeError
from ..model.fault import FaultKind
from ..model.plan import Candidate
from ..model.settlement import Settlement
from ..model.usage import Usage
from . import plain, snapshot
from .cache_metrics import CacheCounts, CacheMetrics
from .credential_metrics import CredentialMetrics
from .queue_metrics import QueueMetrics

OTHER = "other"
NONE = "none"

# Above this many combinations of tenant, model and provider, the rest are one: a scrape must stay affordable.
MAX_SERIES = 2_000

# A thousand times the longest context there is: more is a mistake of the provider's.
MOST_TOKENS = 10_000_000_000

TOKEN_KINDS = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
)
# What we and the providers answer with; anything else is "other".
STATUSES = frozenset(
    {200, 201, 202, 204, 304, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429}
    | {499, 500, 501, 502, 503, 504, 520, 529}
)

# Seconds. A reply takes from a tenth of a second to ten minutes; its first token comes within a minute; what the
# gateway adds is well under 0.1 s, or something is wrong.
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
# From a thousand tokens a second to one.
PER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.15, 0.4, 1.0)
FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0)
OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.5, 2.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PHASE_BUCKETS = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)


@dataclass(frozen=True, slots=True)
class LabelNames:
    """Whatever may stand in a label, besides what this file knows itself."""

    tenants: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    """As callers name them."""
    providers: frozenset[str] = frozenset()
    dialects: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    """Error codes beyond those of errors.py: of authentication, of Envoy's own replies."""


class MetricRegistry(CollectorRegistry):
    """Remembers what was registered: what there is to document."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Collector] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.collectors.append(collector)


class _Series:
    """What is counted for one (tenant, model, provider): plain numbers, a tenth of the time of a counter's `inc`."""

    __slots__ = ("cost", "outcomes", "tokens", "what_where")

    def __init__(self, model: str, provider: str) -> None:
        self.what_where = (model, provider)
        self.outcomes: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.cost: Decimal | None = None
        """Exact: a float that grows by a hundredth of a cent forgets some of them."""


class _Counts(Collector):
    """Shows the plain numbers at a scrape, which may run in a thread of its own: hence the copies."""

    def __init__(self, series: dict[tuple[str, str, str], _Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[CounterMetricFamily]:
        requests = CounterMetricFamily(
            "edge_requests", "Requests that came to their end.", labels=(*_WHO_WHAT_WHERE, "outcome")
        )
        tokens = CounterMetricFamily(
            "edge_tokens", "Tokens used, in kinds that never overlap.", labels=(*_WHO_WHAT_WHERE, "kind")
        )
        costs = CounterMetricFamily(
            "edge_cost_usd", "US dollars that replies cost by the price table.", labels=_WHO_WHAT_WHERE
        )
        for labels, series in list(self._series.items()):
            for outcome, count in list(series.outcomes.items()):
                requests.add_metric((*labels, outcome), count)
            for kind, count in list(series.tokens.items()):
                tokens.add_metric((*labels, kind), count)
            if series.cost is not None:
                costs.add_metric(labels, float(series.cost))
        yield from (requests, tokens, costs)


class _OpenCircuits(Collector):
    """Those that are open, of the candidates that config names and of those that this worker has opened. All workers
    share them, and one that opened a circuit may be gone: the largest number is right."""

    def __init__(self) -> None:
        self.is_open: Callable[[Candidate], bool] = lambda _: False
        self.named: Callable[[], Iterable[Candidate]] = tuple
        self._opened: dict[str, set[Candidate]] = {}

    def opened(self, provider: str, candidate: Candidate) -> None:
        seen = self._opened.setdefault(provider, set())
        if len(seen) < MAX_SERIES:
            seen.add(candidate)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        circuits = GaugeMetricFamily("edge_circuits_open", "Circuits that are open now.", labels=("provider",))
        found: dict[str, set[tuple[str, str]]] = {}
        for provider, seen in list(self._opened.items()):
            closed = {candidate for candidate in list(seen) if not self.is_open(candidate)}
            seen -= closed
            found[provider] = {(candidate.provider, candidate.model) for candidate in list(seen)}
        for candidate in self.named():
            if self.is_open(candidate):
                found.setdefault(candidate.provider, set()).add((candidate.provider, candidate.model))
        for provider, open_now in found.items():
            circuits.add_metric((provider,), len(open_now))
        yield circuits


_WHO_WHAT_WHERE = ("tenant", "model", "provider")


class Metrics:
    """One per worker. `names` may be replaced when config changes; series of names that went stay until the worker
    does, as Prometheus expects of a counter."""

    def __init__(self, names: LabelNames, *, version: str, started_at: float) -> None:
        # Twice the output, for timestamps that nobody asks for.
        disable_created_metrics()
        self.names = names
        self.registry = registry = MetricRegistry()
        self._series: dict[tuple[str, str, str], _Series] = {}

        def counter(name: str, text: str, *labels: str) -> plain.PlainCounter:
            return plain.PlainCounter(name, text, labels, registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> plain.PlainHistogram:
            return plain.PlainHistogram(name, text, labels, buckets, registry)

        self._duration = histogram(
            "edge_request_duration_seconds",
            "From a request's headers to its end.",
            DURATION_BUCKETS,
            "model",
            "provider",
            "stream",
        )
        registry.register(_Counts(self._series))

        self._responses = counter("edge_responses", "Answers, as callers saw them.", "dialect", "status")
        self._errors = counter("edge_errors", "Requests that ended in an error.", "outcome", "code")
        self._auth_failures = counter("edge_auth_failures", "Requests answered with 401.", "reason")
        self._unpriced = counter(
            "edge_unpriced_requests", "Replies whose model has no known price.", "model", "provider"
        )
        self._estimated = counter(
            "edge_estimated_requests", "Replies whose tokens are in part our estimate.", "provider"
        )
        self._unreadable = counter(
            "edge_unreadable_usage",
            "Numbers in reported usage that are no plausible token counts; each is read as missing and estimated.",
            "provider",
        )
        self._attempts = counter("edge_upstream_attempts", "Tries, by who answered last.", "provider")
        self._failovers = counter(
            "edge_failovers", "Requests that took more than one try, by who answered last.", "provider"
        )
        self._circuits = counter(
            "edge_circuits_opened",
            "Times that a provider's model was left alone.",
            "provider",
        )
        self._tries = counter(
            "edge_provider_tries", "Tries, by whose they were and how they ended.", "provider", "verdict"
        )
        self._retry_after = counter(
            "edge_provider_retry_after",
            "Failed tries after which a provider said, by Retry-After, for how long to leave it alone.",
            "provider",
        )
        self._open_circuits = _OpenCircuits()
        registry.register(self._open_circuits)
        self._garbled = counter("edge_garbled_frames", "Frames of a stream that could not be read.", "provider")
        self._dropped = counter(
            "edge_dropped_fields", "Fields of a request that the provider was not told.", "provider"
        )
        self._first_token = histogram(
            "edge_time_to_first_token_seconds",
            "From a request's headers to the first byte of a streamed answer.",
            FIRST_TOKEN_BUCKETS,
            "model",
            "provider",
        )
        self._per_token = histogram(
            "edge_time_per_output_token_seconds",
            "Between two tokens of a streamed answer, on the average of the answer.",
            PER_TOKEN_BUCKETS,
            "model",
            "provider",
        )
        self._overhead = histogram(
            "edge_overhead_seconds", "Time of a request that the agent took.", OVERHEAD_BUCKETS, "lane"
        )
        self._phases = histogram(
            "edge_phase_duration_seconds",
            "Time that the agent took for one phase of a request.",
            PHASE_BUCKETS,
            "phase",
        )
        self._request_bytes = counter("edge_request_bytes", "Bytes of callers' bodies.")
        self._response_bytes = counter("edge_response_bytes", "Bytes of answers' bodies.")
        # The library's own: the thread that writes the lines counts here, too.
        self._lost_lines = Counter(
            "edge_log_lines_dropped",
            "Access lines that were not written: the sink was too slow.",
            registry=registry,
        )
        self._spared_lines = counter(
            "edge_log_lines_spared", "Access lines of refused credentials beyond telemetry.log.refused_per_second."
        )
        self._open = Gauge("edge_open_requests", "Requests in flight.", registry=registry)
        self._cache = CacheMetrics(registry)
        self._lag = histogram(
            "edge_event_loop_lag_seconds", "How late the event loop of a worker wakes a timer.", LAG_BUCKETS
        )
        self._config = Gauge(
            "edge_config_info",
            "Workers that run this version of the configuration and of what the admin API manages.",
            ("version",),
            registry=registry,
        )
        self._config_loaded = Gauge(
            "edge_config_loaded_timestamp_seconds", "When the newest configuration came into force.", registry=registry
        )
        self._version: str | None = None
        self.credentials = CredentialMetrics(registry)
        self.queues = QueueMetrics(registry)
        self._prices = Gauge(
            "edge_price_table_info", "1, for the version of genai-prices in use.", ("version",), registry=registry
        )
        self._prices_made = Gauge(
            "edge_price_table_timestamp_seconds", "When the price table in use was made.", registry=registry
        )
        self._journal_errors = counter("edge_journal_errors", "Rows that could not be written for the ledger.")

        Gauge("edge_workers", "Worker processes that answer.", registry=registry).set(1)
        Gauge("edge_worker_start_time_seconds", "When the youngest worker started.", registry=registry).set(started_at)
        Gauge("edge_build_info", "1.", ("version",), registry=registry).labels(version).set(1)
        ProcessCollector(registry=registry)

    # --- what happens

    def opened(self) -> None:
        self._open.inc()

    def closed(self) -> None:
        self._open.dec()

    def loop_lagged(self, seconds: float) -> None:
        """How much later than asked for the event loop woke somebody."""
        self._lag.of().observe(max(0.0, seconds))

    def configured(self, version: str, loaded_at: float) -> None:
        """Which configuration is in force from now on, and since when (Unix time). To be told so again is nothing."""
        if version == self._version:
            return
        self._version = version
        self._config.clear()
        self._config.labels(version).set(1)
        self._config_loaded.set(loaded_at)

    def priced_by(self, version: str, made_at: float) -> None:
        """Which price table is in use, and since when there is one (Unix time)."""
        self._prices.labels(version).set(1)
        self._prices_made.set(made_at)

    def journal_failed(self) -> None:
        self._journal_errors.add()

    def lines_dropped(self, count: int) -> None:
        self._lost_lines.inc(count)

    def line_spared(self) -> None:
        self._spared_lines.add()

    def circuit_opened(self, candidate: Candidate) -> None:
        provider = _known(candidate.provider, self.names.providers)
        self._circuits.add(provider)
        self._open_circuits.opened(provider, candidate)

    def watch_circuits(
        self, is_open: Callable[[Candidate], bool], named: Callable[[], Iterable[Candidate]] = tuple
    ) -> None:
        """`named`: the candidates that config names, where any circuit is open."""
        self._open_circuits.is_open, self._open_circuits.named = is_open, named

    def settle(self, s: Settlement) -> None:
        names = self.names
        model = _known(s.model, names.models)
        provider = _known(s.provider, names.providers)
        labels = (_known(s.tenant, names.tenants), model, provider)
        series = self._series.get(labels) or self._add(labels)

        series.outcomes[s.outcome] = series.outcomes.get(s.outcome, 0) + 1
        trace_id = s.trace_id
        self._duration.of(*series.what_where, "true" if s.stream else "false").observe(s.duration, trace_id)
        self._overhead.of(s.lane or NONE).observe(s.overhead, trace_id)
        for phase in s.phases:
            self._phases.of(phase.name).observe(phase.seconds)
        status = OTHER if s.status not in STATUSES else str(s.status)
        self._responses.add(_known(s.dialect, names.dialects), NONE if s.status is None else status)
        self._request_bytes.add(by=s.request_bytes)
        self._response_bytes.add(by=s.response_bytes)
        if s.usage is not None:
            _add_up(s.usage, series.tokens)
        if s.cost is not None:
            series.cost = s.cost if series.cost is None else series.cost + s.cost
        if s.time_to_first_token is not None:
            self._first_token.of(model, provider).observe(s.time_to_first_token, trace_id)
            if s.time_per_output_token is not None:
                self._per_token.of(model, provider).observe(s.time_per_output_token)
        if s.attempts:
            self._attempts.add(provider, by=s.attempts)
        if s.attempts > 1:
            self._failovers.add(provider)
        for tried in s.tries:
            self._tries.add(_known(tried.candidate.provider, names.providers), tried.verdict)
            if tried.retry_after is not None:
                self._retry_after.add(_known(tried.candidate.provider, names.providers))
        if s.outcome != "ok":
            self._fail(s)
        if s.unpriced:
            self._unpriced.add(model, provider)
        if s.estimated:
            self._estimated.add(provider)
        if s.usage is not None and s.usage.unreadable:
            self._unreadable.add(provider, by=s.usage.unreadable)
        if s.garbled:
            self._garbled.add(provider, by=s.garbled)
        if s.dropped:
            self._dropped.add(provider, by=len(s.dropped))
        if s.cache is not None:
            self._cache.settle(s, model)

    def snapshot(self) -> bytes:
        """For merge.py."""
        return snapshot.take(self.registry)

    def exposition(self) -> bytes:
        """Of this worker alone, in Prometheus' text format."""
        return generate_latest(self.registry)

    # --- the cache of replies

    def watch_cache(self, counts: Callable[[], CacheCounts]) -> None:
        self._cache.watch(counts)

    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None:
        self._cache.looked_up(tier, seconds, found=found)

    def cache_wrote(self, tier: str) -> None:
        self._cache.wrote(tier)

    def cache_failed(self, tier: str, why: str) -> None:
        self._cache.failed(tier, why)

    def cache_is_down(self, tier: str, *, down: bool) -> None:
        self._cache.is_down(tier, down=down)

    # --- how

    def _add(self, labels: tuple[str, str, str]) -> _Series:
        if len(self._series) >= MAX_SERIES:
            labels = (OTHER, OTHER, OTHER)
            if labels in self._series:
                return self._series[labels]
        series = self._series[labels] = _Series(*labels[1:])
        return series

    def _fail(self, s: Settlement) -> None:
        code = _known(s.code, CODES if s.code in CODES else self.names.codes)
        if code == OTHER and s.kind is not None:
            code = s.kind
        self._errors.add(s.outcome, code)
        if s.outcome == "rejected" and s.status == HTTPStatus.UNAUTHORIZED:
            self._auth_failures.add(code)


def _known(value: str | None, known: frozenset[str]) -> str:
    if value is None:
        return NONE
    return value if value in known else OTHER


def _add_up(usage: Usage, tokens: dict[str, int]) -> None:
    for kind in TOKEN_KINDS:
        count: int = getattr(usage, kind)
        # Whatever a provider says, a counter never goes down, and it stays a number that a float can hold.
        if count > 0:
            tokens[kind] = tokens.get(kind, 0) + min(count, MOST_TOKENS)


def _codes(of: type[EdgeError]) -> Iterator[str]:
    if of.code is not None:
        yield of.code
    for below in of.__subclasses__():
        yield from _codes(below)


CODES = frozenset({*_codes(EdgeError), *get_args(FaultKind)})
"""Error codes that are always told apart. A provider's own words are not among them, as there is no end to those: the
kind of its error stands for them."""
