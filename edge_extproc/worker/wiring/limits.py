"""Builds the limits of a worker from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from ... import registry
from ...accounting.max_outputs import KNOWN
from ...config.schema import Config
from ...exchange.worst_case import OutputBounds
from ...limits.base import Holder, LimitStore, LimitStoreSettings
from ...limits.counter_file import CounterFile
from ...limits.limiter import LimiterSettings
from ...limits.merge import merge_rules
from ...limits.rule_table import RuleTable
from ...limits.service import LimitService
from ...model.managed import EMPTY, ManagedState
from ...telemetry.limit_metrics import LimitMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ...limits.webhook import Webhook


def build_limits(
    config: Config,
    metrics: CollectorRegistry,
    report: Callable[[BaseException], None],
    managed: ManagedState = EMPTY,
) -> LimitService | None:
    """None if no caller has a limit or can get one by the admin API. Raises StartError."""
    if not config.has_limits:
        return None
    webhook = _build_webhook(config, report)
    # Before the metrics: a name can be registered only once, and the next try must find it free.
    counters = build_store(config) or _counter_file(config.counted_file)
    counted = counters.read() if isinstance(counters, CounterFile) else ()
    rules = RuleTable(merge_rules(config, managed.budgets))
    return LimitService(
        rules, _settings(config), counters, LimitMetrics(metrics), webhook, _named_holders(config), counted
    )


def _counter_file(path: Path) -> CounterFile:
    def report(error: OSError) -> None:
        structlog.get_logger().error("counters_not_saved", reason=error.strerror, path=str(path))

    return CounterFile(path, report)


def change_limits(limits: LimitService, config: Config, managed: ManagedState) -> None:
    """Applies the rules of another configuration or of the admin API."""
    limits.replace(RuleTable(merge_rules(config, managed.budgets)), _settings(config), _named_holders(config))


def build_bounds(config: Config) -> OutputBounds:
    limiter = config.limiter
    return OutputBounds(
        max_output=(*limiter.max_output.items(), *KNOWN, ("*", limiter.default_max_output)),
        usual_output=limiter.usual_output,
        context_window=limiter.context_window,
        assumed_input=limiter.assumed_price.input,
        assumed_output=limiter.assumed_price.output,
    )


def _settings(config: Config) -> LimiterSettings:
    limiter = config.limiter
    return LimiterSettings(
        lease_seconds=round(limiter.lease.total_seconds()),
        lost=limiter.lost,
        share_of=None if limiter.replicas == "auto" else config.agent.workers * limiter.replicas,
        assumed=(limiter.assumed_price.input, limiter.assumed_price.output),
        runs=limiter.runs,
    )


def _named_holders(config: Config) -> frozenset[Holder]:
    return frozenset((tenant, level, name) for tenant, level, name, _ in config.allowances())


def _build_webhook(config: Config, report: Callable[[BaseException], None]) -> Webhook | None:
    webhook = config.limiter.webhook
    if webhook is None:
        return None
    from ...limits.webhook import Webhook

    return Webhook(webhook.url, webhook.secret.reveal().encode() if webhook.secret is not None else None, report)


def build_store(config: Config) -> LimitStore | None:
    url = config.limit_store_url()
    if url is None:
        return None
    settings = LimitStoreSettings(url, config.limiter.timeout.total_seconds(), rebuilt=config.rebuilds_limits)
    store: LimitStore = registry.load("limits", "redis").build(settings)
    return store
