"""The traffic of the last minutes, for the overview of the admin pages.

The supervisor records the workers' counters every few seconds. Rates are the growth of counters between two records.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from ..model.settlement import HITS
from .merge import Totals
from .rates import FAILED, quantile

INTERVAL = 2.0
"""Seconds between two records."""
WINDOW = 300.0
"""Seconds of records that are kept."""
_RATE_SECONDS = 60.0
# Metrics with the label of the provider alone: family and sample.
_OF_PROVIDERS = (
    ("edge_circuits_open", "edge_circuits_open"),
    ("edge_circuits_opened", "edge_circuits_opened_total"),
    ("edge_provider_retry_after", "edge_provider_retry_after_total"),
    ("edge_credential_renewed_timestamp_seconds", "edge_credential_renewed_timestamp_seconds"),
)
_SLOT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TrafficPoint:
    """The requests of one slot of the chart."""

    at: datetime
    """The end of the slot."""
    seconds: float
    requests: int
    failed: int


@dataclass(frozen=True, slots=True)
class ProviderTraffic:
    """A provider's attempts in the window."""

    provider: str
    attempts: int
    failed: int
    p50: float | None
    """Of the time of a request that ended at this provider, in seconds."""
    p99: float | None
    circuits_open: int
    """Candidates with an open circuit."""
    circuits_opened: int
    """Since the start, as all below."""
    retry_after: int
    """Failed attempts whose response had a Retry-After."""
    account_refusals: dict[str, int]
    """Attempts in which the provider refused the gateway's credential or its unpaid account, by problem."""
    credential_renewed: datetime | None
    """None: the credential is not renewed."""


@dataclass(frozen=True, slots=True)
class CacheTraffic:
    """Calls by the result of their cache lookup, since the start."""

    result: str
    tier: str
    """Of a hit."""
    requests: int


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What is of the whole gateway, and of no tenant."""

    workers: int
    workers_wanted: int
    open_requests: int
    open_sockets: int
    """WebSocket sessions."""
    versions: dict[str, int]
    """The number of workers with each version of the configuration."""
    providers: list[ProviderTraffic]
    cache: list[CacheTraffic]


@dataclass(frozen=True, slots=True)
class Overview:
    """Rates are of the last minute, sums since the gateway started. Times are seconds, money is US dollars."""

    at: datetime
    seconds: float
    """The time that the rates are of; less than a minute after the start."""
    requests_per_second: float
    failed_per_second: float
    tokens_per_second: float
    dollars_per_hour: float
    p50: float | None
    """Of the time of a request. None: there was none, or the user is bound to a tenant."""
    p99: float | None
    first_token_p50: float | None
    requests: int
    outcomes: dict[str, int]
    """Requests by outcome."""
    tokens: int
    dollars: float
    saved_dollars: float | None
    """By replies from the cache. None: the user is bound to a tenant."""
    saved_tokens: int | None
    cache_hits: int | None
    cache_lookups: int | None
    points: list[TrafficPoint]
    state: GatewayState | None
    """None: the user is bound to a tenant."""


class _Counts(NamedTuple):
    """The counters of one tenant, or of all."""

    requests: float = 0.0
    failed: float = 0.0
    tokens: float = 0.0
    dollars: float = 0.0

    def plus(self, other: _Counts) -> _Counts:
        return _Counts(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class _Record:
    at: float
    """Unix time."""
    clock: float
    """Seconds of a monotonic clock."""
    tenants: Mapping[str, _Counts]
    every: _Counts
    durations: Mapping[str, Mapping[float, float]]
    """Buckets by provider."""
    first_tokens: Mapping[str, Mapping[float, float]]
    attempts: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Sums:
    """What only the last record needs."""

    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    """By tenant."""
    saved_dollars: float = 0.0
    saved_tokens: float = 0.0
    cache: dict[tuple[str, str], int] = field(default_factory=dict)
    """By result and tier."""
    open_requests: float = 0.0
    open_sockets: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)
    providers: dict[str, dict[str, float]] = field(default_factory=dict)
    """By the name of the metric and the provider."""
    account_refusals: dict[str, dict[str, int]] = field(default_factory=dict)


class TrafficHistory:
    """`providers`: their names in the configuration. `workers`: those that serve, and those that are configured."""

    def __init__(
        self,
        providers: Callable[[], Iterable[str]] = tuple,
        workers: Callable[[], tuple[int, int]] = lambda: (0, 0),
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._providers = providers
        self._workers = workers
        self._now = now
        self._clock = clock
        self._records: deque[_Record] = deque()
        self._sums = _Sums()

    @property
    def is_due(self) -> bool:
        return not self._records or self._clock() - self._records[-1].clock >= INTERVAL

    def record(self, totals: Totals) -> None:
        before = self._records[-1].tenants if self._records else {}
        tenants = {
            # Tenants without traffic share one tuple over all records.
            name: before[name] if before.get(name) == counts else counts
            for name, counts in _by_tenant(totals).items()
        }
        every = _Counts()
        for counts in tenants.values():
            every = every.plus(counts)
        self._records.append(
            _Record(
                self._now(),
                self._clock(),
                tenants,
                every,
                _buckets(totals, "edge_request_duration_seconds"),
                _buckets(totals, "edge_time_to_first_token_seconds"),
                _attempts(totals),
            )
        )
        self._sums = _sums(totals)
        while self._records[-1].clock - self._records[0].clock > WINDOW:
            self._records.popleft()

    def overview(self, tenant: str | None) -> Overview:
        """`tenant` None: of all tenants, with the state of the gateway."""
        records = list(self._records) or [_Record(self._now(), self._clock(), {}, _Counts(), {}, {}, {})]
        last = records[-1]
        first = next(record for record in records if last.clock - record.clock <= _RATE_SECONDS)
        seconds = last.clock - first.clock
        was, is_ = _counts(first, tenant), _counts(last, tenant)

        def rate(name: str) -> float:
            return _growth(getattr(was, name), getattr(is_, name)) / seconds if seconds else 0.0

        durations = _grown(_joined(first.durations), _joined(last.durations))
        first_tokens = _grown(_joined(first.first_tokens), _joined(last.first_tokens))
        for_all, sums = tenant is None, self._sums
        hits, misses = (
            sum(count for (result, _), count in sums.cache.items() if result in wanted) for wanted in (HITS, ("miss",))
        )
        return Overview(
            at=_moment(last.at),
            seconds=round(seconds, 1),
            requests_per_second=rate("requests"),
            failed_per_second=rate("failed"),
            tokens_per_second=rate("tokens"),
            dollars_per_hour=rate("dollars") * 3600,
            p50=quantile(0.5, durations) if for_all else None,
            p99=quantile(0.99, durations) if for_all else None,
            first_token_p50=quantile(0.5, first_tokens) if for_all else None,
            requests=int(is_.requests),
            outcomes=_outcomes(sums.outcomes, tenant),
            tokens=int(is_.tokens),
            dollars=is_.dollars,
            saved_dollars=sums.saved_dollars if for_all else None,
            saved_tokens=int(sums.saved_tokens) if for_all else None,
            cache_hits=hits if for_all else None,
            cache_lookups=hits + misses if for_all else None,
            points=list(_points(records, tenant)),
            state=self._state(records[0], last) if for_all else None,
        )

    def _state(self, first: _Record, last: _Record) -> GatewayState:
        serving, wanted = self._workers()
        providers = []
        for name in sorted(self._providers()):
            was, is_ = first.attempts.get(name, (0.0, 0.0)), last.attempts.get(name, (0.0, 0.0))
            good, failed = _growth(was[0], is_[0]), _growth(was[1], is_[1])
            durations = _grown(first.durations.get(name, {}), last.durations.get(name, {}))
            counts = {metric: by_provider.get(name, 0.0) for metric, by_provider in self._sums.providers.items()}
            renewed = counts.get("edge_credential_renewed_timestamp_seconds", 0.0)
            providers.append(
                ProviderTraffic(
                    name,
                    attempts=int(good + failed),
                    failed=int(failed),
                    p50=quantile(0.5, durations),
                    p99=quantile(0.99, durations),
                    circuits_open=int(counts.get("edge_circuits_open", 0)),
                    circuits_opened=int(counts.get("edge_circuits_opened_total", 0)),
                    retry_after=int(counts.get("edge_provider_retry_after_total", 0)),
                    account_refusals=self._sums.account_refusals.get(name, {}),
                    credential_renewed=_moment(renewed) if renewed else None,
                )
            )
        cache = [
            CacheTraffic(result, tier, count) for (result, tier), count in sorted(self._sums.cache.items()) if count
        ]
        return GatewayState(
            serving,
            wanted,
            int(self._sums.open_requests),
            int(self._sums.open_sockets),
            dict(self._sums.versions),
            providers,
            cache,
        )


def _points(records: list[_Record], tenant: str | None) -> Iterable[TrafficPoint]:
    start = records[0]
    for record in records[1:]:
        seconds = record.clock - start.clock
        if seconds < _SLOT_SECONDS and record is not records[-1]:
            continue
        was, is_ = _counts(start, tenant), _counts(record, tenant)
        requests, failed = _growth(was.requests, is_.requests), _growth(was.failed, is_.failed)
        yield TrafficPoint(_moment(record.at), round(seconds, 1), int(requests), int(failed))
        start = record


def _counts(record: _Record, tenant: str | None) -> _Counts:
    return record.every if tenant is None else record.tenants.get(tenant, _Counts())


def _growth(was: float, now: float) -> float:
    # Counters begin again at zero if their series are new.
    return now - was if now >= was else now


def _grown(was: Mapping[float, float], now: Mapping[float, float]) -> dict[float, float]:
    return {bound: _growth(was.get(bound, 0.0), count) for bound, count in now.items()}


def _joined(by_provider: Mapping[str, Mapping[float, float]]) -> dict[float, float]:
    counts: dict[float, float] = {}
    for buckets in by_provider.values():
        for bound, count in buckets.items():
            counts[bound] = counts.get(bound, 0.0) + count
    return counts


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _by_tenant(totals: Totals) -> dict[str, _Counts]:
    found: dict[str, _Counts] = {}

    def add(labels: Mapping[str, str], counts: _Counts) -> None:
        found[labels["tenant"]] = found.get(labels["tenant"], _Counts()).plus(counts)

    for labels, count in totals.values("edge_requests", "edge_requests_total"):
        add(labels, _Counts(requests=count, failed=count if labels["outcome"] in FAILED else 0.0))
    for labels, count in totals.values("edge_tokens", "edge_tokens_total"):
        add(labels, _Counts(tokens=count))
    for labels, dollars in totals.values("edge_cost_usd", "edge_cost_usd_total"):
        add(labels, _Counts(dollars=dollars))
    return found


def _buckets(totals: Totals, name: str) -> dict[str, dict[float, float]]:
    """By provider."""
    found: dict[str, dict[float, float]] = {}
    for labels, count in totals.values(name, f"{name}_bucket"):
        counts = found.setdefault(labels["provider"], {})
        bound = float(labels["le"])
        counts[bound] = counts.get(bound, 0.0) + count
    return found


def _attempts(totals: Totals) -> dict[str, tuple[float, float]]:
    """Successful and failed ones."""
    found: dict[str, tuple[float, float]] = {}
    for labels, count in totals.values("edge_provider_tries", "edge_provider_tries_total"):
        good, failed = found.get(labels["provider"], (0.0, 0.0))
        match labels["verdict"]:
            case "ok":
                found[labels["provider"]] = (good + count, failed)
            case "failed":
                found[labels["provider"]] = (good, failed + count)
    return found


def _sums(totals: Totals) -> _Sums:
    outcomes: dict[str, dict[str, int]] = {}
    for labels, count in totals.values("edge_requests", "edge_requests_total"):
        of_tenant = outcomes.setdefault(labels["tenant"], {})
        of_tenant[labels["outcome"]] = of_tenant.get(labels["outcome"], 0) + int(count)

    def sum_of(family: str, sample: str) -> float:
        return sum(value for _, value in totals.values(family, sample))

    cache: dict[tuple[str, str], int] = {}
    for labels, count in totals.values("edge_cache_requests", "edge_cache_requests_total"):
        key = labels["result"], labels["tier"]
        cache[key] = cache.get(key, 0) + int(count)
    refusals: dict[str, dict[str, int]] = {}
    for labels, count in totals.values("edge_provider_account_refusals", "edge_provider_account_refusals_total"):
        if count:
            refusals.setdefault(labels["provider"], {})[labels["problem"]] = int(count)
    return _Sums(
        outcomes,
        saved_dollars=sum_of("edge_cache_saved_cost_usd", "edge_cache_saved_cost_usd_total"),
        saved_tokens=sum_of("edge_cache_saved_tokens", "edge_cache_saved_tokens_total"),
        cache=cache,
        open_requests=sum_of("edge_open_requests", "edge_open_requests"),
        open_sockets=sum_of("edge_open_sockets", "edge_open_sockets"),
        versions={
            labels["version"]: int(count)
            for labels, count in totals.values("edge_config_info", "edge_config_info")
            if count
        },
        providers={
            sample: {labels["provider"]: value for labels, value in totals.values(family, sample)}
            for family, sample in _OF_PROVIDERS
        },
        account_refusals=refusals,
    )


def _outcomes(by_tenant: Mapping[str, Mapping[str, int]], tenant: str | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, outcomes in by_tenant.items():
        if tenant in (None, name):
            for outcome, count in outcomes.items():
                counts[outcome] = counts.get(outcome, 0) + count
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
