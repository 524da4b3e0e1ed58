"""The metrics of one worker.

Every label value is a configured name, a constant of this file, "none" if there is no value, or "other". A caller can
therefore never create a new time series. The children of each label combination are created once, so that settling an
exchange costs a few microseconds.

The names follow Prometheus' conventions: base units, `_total` for counters. `merge.py` sums the metrics of all workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from operator import attrgetter
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
from ..model.settlement import SOCKET, Settlement
from ..model.usage import Usage
from . import plain, snapshot
from .cache_metrics import CacheCounts, CacheMetrics
from .conversation_metrics import ConversationMetrics
from .credential_metrics import CredentialMetrics
from .guardrail_metrics import GuardrailMetrics
from .guardrail_service_metrics import GuardrailServiceMetrics
from .queue_metrics import QueueMetrics
from .semantic_metrics import SemanticMetrics
from .socket_metrics import SocketMetrics
from .tool_metrics import ToolMetrics, is_stream_of_notifications

OTHER = "other"
NONE = "none"
SWITCHED = 101
"""The status of a WebSocket."""

# The maximum number of combinations of tenant, model and provider. Further ones are counted under "other", so that the
# cost of a scrape is bounded.
MAX_SERIES = 2_000

# A thousand times the longest context window of a model: a greater count is an error of the provider.
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
    "input_image",
    "output_image",
)
_token_counts = attrgetter(*TOKEN_KINDS)
# The status codes with a label value of their own; any other is "other".
STATUSES = frozenset(
    {200, 201, 202, 204, 304, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429}
    | {499, 500, 501, 502, 503, 504, 520, 529}
)

# Seconds. A reply takes between 0.1 s and ten minutes; its first token takes up to a minute; the gateway's own time is
# normally well under 0.1 s.
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
# Seconds: from a thousand tokens a second to one.
PER_TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.15, 0.4, 1.0)
FIRST_TOKEN_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0)
OVERHEAD_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.5, 2.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PHASE_BUCKETS = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)


@dataclass(frozen=True, slots=True)
class LabelNames:
    """The configured names that may be label values."""

    tenants: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    """As callers name them."""
    providers: frozenset[str] = frozenset()
    dialects: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    """Error codes that errors.py does not define: those of authentication, and of Envoy's own replies."""


class MetricRegistry(CollectorRegistry):
    """A registry that also lists its collectors, for the documentation of metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Collector] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.collectors.append(collector)


class _Series:
    """The counts for one (tenant, model, provider), as plain numbers: ten times faster than a counter's `inc`."""

    __slots__ = ("cost", "outcomes", "tokens", "what_where")

    def __init__(self, model: str, provider: str) -> None:
        self.what_where = (model, provider)
        self.outcomes: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.cost: Decimal | None = None
        """Exact, because a float that grows by a hundredth of a cent loses some of them."""


class _Counts(Collector):
    """Exposes the plain numbers at a scrape. It copies them, because a scrape may run in another thread."""

    def __init__(self, series: dict[tuple[str, str, str], _Series]) -> None:
        self._series = series

    def collect(self) -> Iterator[CounterMetricFamily]:
        requests = CounterMetricFamily(
            "edge_requests", "Finished requests, by outcome.", labels=(*_WHO_WHAT_WHERE, "outcome")
        )
        tokens = CounterMetricFamily(
            "edge_tokens", "Tokens used, by kind; kinds do not overlap.", labels=(*_WHO_WHAT_WHERE, "kind")
        )
        costs = CounterMetricFamily(
            "edge_cost_usd", "Cost of replies in US dollars, by the price table.", labels=_WHO_WHAT_WHERE
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
    """The number of open circuits, over the configured candidates and those whose circuit this worker has opened. All
    workers share the circuits, and the worker that opened one may have ended. The largest number of all workers is
    therefore correct."""

    def __init__(self) -> None:
        self.is_open: Callable[[Candidate], bool] = lambda _: False
        self.named: Callable[[], Iterable[Candidate]] = tuple
        self._opened: dict[str, set[Candidate]] = {}

    def opened(self, provider: str, candidate: Candidate) -> None:
        seen = self._opened.setdefault(provider, set())
        if len(seen) < MAX_SERIES:
            seen.add(candidate)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        circuits = GaugeMetricFamily(
            "edge_circuits_open", "Candidates with an open circuit, for all tenants or for one.", labels=("provider",)
        )
        open_by_provider: dict[str, set[tuple[str, str]]] = {}
        for provider, seen in list(self._opened.items()):
            closed = {candidate for candidate in list(seen) if not self.is_open(candidate)}
            seen -= closed
            open_by_provider[provider] = {(candidate.provider, candidate.model) for candidate in list(seen)}
        for candidate in self.named():
            if self.is_open(candidate):
                open_by_provider.setdefault(candidate.provider, set()).add((candidate.provider, candidate.model))
        for provider, open_now in open_by_provider.items():
            circuits.add_metric((provider,), len(open_now))
        yield circuits


_WHO_WHAT_WHERE = ("tenant", "model", "provider")


class Metrics:
    """The metrics of one worker. `names` may be replaced when the configuration changes. Series of removed names stay
    until the worker ends, as Prometheus expects of counters."""

    def __init__(self, names: LabelNames, *, version: str, started_at: float) -> None:
        # The `_created` timestamps would double the output, and nothing reads them.
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
            "Time from a request's headers to its end.",
            DURATION_BUCKETS,
            "model",
            "provider",
            "stream",
        )
        registry.register(_Counts(self._series))

        self._responses = counter("edge_responses", "Responses to callers, by status.", "dialect", "status")
        self._errors = counter("edge_errors", "Requests that ended in an error.", "outcome", "code")
        self._auth_failures = counter("edge_auth_failures", "Requests answered with 401.", "reason")
        self._unpriced = counter(
            "edge_unpriced_requests", "Replies whose model has no known price.", "model", "provider"
        )
        self._estimated = counter(
            "edge_estimated_requests", "Replies whose token counts are partly estimated.", "provider"
        )
        self._unreadable = counter(
            "edge_unreadable_usage",
            "Implausible token counts in reported usage; each is treated as missing and estimated.",
            "provider",
        )
        self._attempts = counter("edge_upstream_attempts", "Attempts, by the provider of the last one.", "provider")
        self._failovers = counter(
            "edge_failovers", "Requests with more than one attempt, by the provider of the last one.", "provider"
        )
        self._circuits = counter(
            "edge_circuits_opened",
            "Times that a circuit of the provider opened.",
            "provider",
        )
        self._tries = counter(
            "edge_provider_tries", "Attempts, by their own provider and result.", "provider", "verdict"
        )
        self._retry_after = counter(
            "edge_provider_retry_after",
            "Failed attempts whose response had a Retry-After.",
            "provider",
        )
        self._open_circuits = _OpenCircuits()
        registry.register(self._open_circuits)
        self._garbled = counter("edge_garbled_frames", "Unreadable frames in providers' streams.", "provider")
        self._dropped = counter(
            "edge_dropped_fields",
            "Request fields that were dropped because the provider's format has no place for them.",
            "provider",
        )
        self._first_token = histogram(
            "edge_time_to_first_token_seconds",
            "Time from a request's headers to the first token of a streamed reply.",
            FIRST_TOKEN_BUCKETS,
            "model",
            "provider",
        )
        self._per_token = histogram(
            "edge_time_per_output_token_seconds",
            "Time between two tokens of a streamed reply, averaged over the reply.",
            PER_TOKEN_BUCKETS,
            "model",
            "provider",
        )
        self._overhead = histogram(
            "edge_overhead_seconds", "Time of a request that was spent in the agent.", OVERHEAD_BUCKETS, "lane"
        )
        self._phases = histogram(
            "edge_phase_duration_seconds",
            "Time spent in the agent for one phase of a request.",
            PHASE_BUCKETS,
            "phase",
        )
        self._request_bytes = counter("edge_request_bytes", "Bytes of request bodies.")
        self._response_bytes = counter("edge_response_bytes", "Bytes of response bodies.")
        # A counter of the library, which is thread-safe: the thread that writes the lines also increments it.
        self._lost_lines = Counter(
            "edge_log_lines_dropped",
            "Access log lines that were dropped because the output was too slow.",
            registry=registry,
        )
        self._spared_lines = counter(
            "edge_log_lines_spared",
            "Access log lines omitted: refused credentials beyond telemetry.log.refused_per_second.",
        )
        self._open = plain.PlainGauge("edge_open_requests", "Requests in progress.", registry)
        self.sockets = SocketMetrics(registry)
        self._tools = ToolMetrics(registry)
        self._cache = CacheMetrics(registry)
        self.semantic = SemanticMetrics(registry, lambda: self.names.models, lambda: self.names.tenants)
        self._lag = histogram("edge_event_loop_lag_seconds", "Delay of timers in a worker's event loop.", LAG_BUCKETS)
        self._config = Gauge(
            "edge_config_info",
            "Workers that run this version of the configuration and of the admin API's changes.",
            ("version",),
            registry=registry,
        )
        self._config_loaded = Gauge(
            "edge_config_loaded_timestamp_seconds",
            "Unix time at which the newest configuration was applied.",
            registry=registry,
        )
        self._version: str | None = None
        self.credentials = CredentialMetrics(registry)
        self.conversations = ConversationMetrics(registry)
        self._guardrails = GuardrailMetrics(registry)
        self.guardrail_services = GuardrailServiceMetrics(registry)
        self.queues = QueueMetrics(registry)
        self._prices = Gauge(
            "edge_price_table_info", "1 for the version of genai-prices in use.", ("version",), registry=registry
        )
        self._prices_made = Gauge(
            "edge_price_table_timestamp_seconds", "Unix time of the price table in use.", registry=registry
        )
        self._journal_errors = counter(
            "edge_journal_errors",
            "Failures of the journal: ledger rows begin to wait in memory, or a row is lost because too many wait.",
        )

        Gauge("edge_workers", "Worker processes that answer.", registry=registry).set(1)
        Gauge(
            "edge_worker_start_time_seconds", "Unix time at which the youngest worker started.", registry=registry
        ).set(started_at)
        Gauge("edge_build_info", "1 for the version of the gateway.", ("version",), registry=registry).labels(
            version
        ).set(1)
        ProcessCollector(registry=registry)

    # --- events

    def opened(self) -> None:
        self._open.value += 1

    def closed(self) -> None:
        self._open.value -= 1

    def loop_lagged(self, seconds: float) -> None:
        """`seconds`: the delay of a timer."""
        self._lag.by_labels[()].observe(max(0.0, seconds))

    def configured(self, version: str, loaded_at: float) -> None:
        """Records the version of the applied configuration, and since when (Unix time). Repeated calls have no
        effect."""
        if version == self._version:
            return
        self._version = version
        self._config.clear()
        self._config.labels(version).set(1)
        self._config_loaded.set(loaded_at)

    def priced_by(self, version: str, made_at: float) -> None:
        """Records the version of the price table and its date (Unix time)."""
        self._prices.labels(version).set(1)
        self._prices_made.set(made_at)

    def journal_failed(self) -> None:
        self._journal_errors.add()

    def lines_dropped(self, count: int) -> None:
        self._lost_lines.inc(count)

    def line_spared(self) -> None:
        self._spared_lines.add()

    def circuit_opened(self, candidate: Candidate) -> None:
        provider = _label_value(candidate.provider, self.names.providers)
        self._circuits.add(provider)
        self._open_circuits.opened(provider, candidate)

    def watch_circuits(
        self, is_open: Callable[[Candidate], bool], named: Callable[[], Iterable[Candidate]] = tuple
    ) -> None:
        """`named` returns the configured candidates to check, if any circuit is open."""
        self._open_circuits.is_open, self._open_circuits.named = is_open, named

    def settle(self, s: Settlement) -> None:
        """Counts one finished exchange, or what a batch has used."""
        if s.booking in ("charge", "credit"):
            return
        names = self.names
        model = _label_value(s.model, names.models)
        provider = _label_value(s.provider, names.providers)
        labels = (_label_value(s.tenant, names.tenants), model, provider)
        series = self._series.get(labels) or self._add(labels)

        if s.booking is not None:
            self._use(s, series, model, provider)
            return
        series.outcomes[s.outcome] = series.outcomes.get(s.outcome, 0) + 1
        trace_id = s.trace_id
        stream = "true" if s.stream else "false"
        is_session = s.operation == SOCKET and s.status == SWITCHED
        if not is_session and not is_stream_of_notifications(s):
            self._duration.by_labels[(*series.what_where, stream)].observe(s.duration, trace_id)
            self._overhead.by_labels[(s.lane or NONE,)].observe(s.overhead, trace_id)
        phases = self._phases.by_labels
        for phase in s.phases:
            phases[(phase.name,)].observe(phase.seconds)
        status = OTHER if s.status not in STATUSES else str(s.status)
        self._responses.add(_label_value(s.dialect, names.dialects), NONE if s.status is None else status)
        if not is_session:
            self._request_bytes.add(by=s.request_bytes)
            self._response_bytes.add(by=s.response_bytes)
        self._use(s, series, model, provider)
        self._tools.settle(s, model, provider)
        if s.time_to_first_token is not None:
            self._first_token.by_labels[model, provider].observe(s.time_to_first_token, trace_id)
            if s.time_per_output_token is not None:
                self._per_token.by_labels[model, provider].observe(s.time_per_output_token)
        if s.attempts:
            self._attempts.add(provider, by=s.attempts)
        if s.attempts > 1:
            self._failovers.add(provider)
        for attempt in s.attempt_results:
            self._tries.add(_label_value(attempt.candidate.provider, names.providers), attempt.verdict)
            if attempt.retry_after is not None:
                self._retry_after.add(_label_value(attempt.candidate.provider, names.providers))
            if attempt.account_problem is not None:
                refusing = _label_value(attempt.candidate.provider, names.providers)
                self.credentials.refused(refusing, attempt.account_problem, attempt.status)
        if s.outcome != "ok":
            self._fail(s)
        if s.garbled:
            self._garbled.add(provider, by=s.garbled)
        if s.dropped:
            self._dropped.add(provider, by=len(s.dropped))
        if s.guardrails:
            self._guardrails.settle(s.guardrails)
        if s.cache is not None:
            self._cache.settle(s, model)

    def _use(self, s: Settlement, series: _Series, model: str, provider: str) -> None:
        if s.usage is not None:
            _add_up(s.usage, series.tokens)
        if s.cost is not None:
            series.cost = s.cost if series.cost is None else series.cost + s.cost
        if s.unpriced:
            self._unpriced.add(model, provider)
        if s.estimated:
            self._estimated.add(provider)
        if s.usage is not None and s.usage.unreadable:
            self._unreadable.add(provider, by=s.usage.unreadable)

    def snapshot(self) -> bytes:
        """All metrics as bytes for merge.py."""
        return snapshot.take(self.registry)

    def exposition(self) -> bytes:
        """The metrics of this worker alone, in Prometheus' text format."""
        return generate_latest(self.registry)

    # --- the response cache

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

    # --- internals

    def _add(self, labels: tuple[str, str, str]) -> _Series:
        if len(self._series) >= MAX_SERIES:
            labels = (OTHER, OTHER, OTHER)
            if labels in self._series:
                return self._series[labels]
        series = self._series[labels] = _Series(*labels[1:])
        return series

    def _fail(self, s: Settlement) -> None:
        code = _label_value(s.code, CODES if s.code in CODES else self.names.codes)
        if code == OTHER and s.kind is not None:
            code = s.kind
        self._errors.add(s.outcome, code)
        if s.outcome == "rejected" and s.status == HTTPStatus.UNAUTHORIZED:
            self._auth_failures.add(code)


def _label_value(value: str | None, known: frozenset[str]) -> str:
    if value is None:
        return NONE
    return value if value in known else OTHER


def _add_up(usage: Usage, tokens: dict[str, int]) -> None:
    for kind, count in zip(TOKEN_KINDS, _token_counts(usage), strict=True):
        # A counter must not decrease, and a float must be able to hold it, whatever a provider reports.
        if count > 0:
            tokens[kind] = tokens.get(kind, 0) + min(count, MOST_TOKENS)


def _codes(of: type[EdgeError]) -> Iterator[str]:
    if of.code is not None:
        yield of.code
    for below in of.__subclasses__():
        yield from _codes(below)


CODES = frozenset({*_codes(EdgeError), *get_args(FaultKind)})
"""Error codes that have a label value of their own. Providers' own codes are not among them, because their number is
not bounded; the kind of the error is used instead."""
