"""Builds the planner from the configured models."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

from ... import registry
from ...accounting.base import Prices
from ...config.routing import ModelConfig, RuleConditionConfig
from ...config.schema import Config
from ...model.envoy_names import NO_RETRY
from ...model.plan import Candidate, Fallback
from ...model.usage import Usage
from ...model.wire_names import WireNames
from ...providers.base import Provider
from ...proxy.envoy_versions import can_guard, check, order_of
from ...routing.affinity import Affinity, PromptPrefix
from ...routing.base import ModelTable, Strategy, StrategySettings
from ...routing.breaker import BreakerSettings, Circuits, CircuitTable
from ...routing.planner import HedgeSettings, ModelRoute, PlannerSettings, RoutingRule, RowPlanner, RuleCondition


def build_planner(
    config: Config,
    models: ModelTable,
    providers: Mapping[str, Provider],
    prices: Prices,
    slots: CircuitTable,
    opened: Callable[[Candidate], None],
    names: WireNames,
) -> RowPlanner:
    """`opened` is called for each circuit breaker that this worker opens. `names`: those of all dialects. Raises
    ConfigError if the proxy is too old for the configured routing."""

    def price(candidate: Candidate, usage: Usage) -> Decimal | None:
        provider = providers[candidate.provider]
        return prices.cost(provider.price_list, candidate.model, usage, host=provider.name)

    check(config)
    routing = config.routing
    # The random numbers spread exploration and protect no secret.
    settings = StrategySettings(price, random.random, time.monotonic, routing.exploration / 100)

    def build(name: str) -> Strategy:
        built: Strategy = registry.load("routing", name).build(settings)
        return built

    prefix = PromptPrefix(names)
    circuits = None
    if routing.breaker.enabled:
        breaker = routing.breaker
        rules = BreakerSettings(breaker.failures, breaker.open.total_seconds(), breaker.retry_after.total_seconds())
        circuits = Circuits(slots, rules, time.monotonic, opened)
    return RowPlanner(
        PlannerSettings(
            rows={name: _row(config, model, prefix) for name, model in config.models.items()},
            label=models.label,
            build=build,
            strategies=registry.names("routing"),
            circuits=circuits,
            strategy_header=routing.strategy_header,
            no_retry_header=NO_RETRY,
            attempts=config.retries.attempts,
            patience=config.retries.retry_after.total_seconds(),
            first_token_timeout=routing.first_token.total_seconds(),
            chains=order_of(config) != "priority_group",
            guards=can_guard(config),
        )
    )


def _row(config: Config, model: ModelConfig, prefix: PromptPrefix) -> ModelRoute:
    return ModelRoute(
        strategy=model.strategy,
        affinity=Affinity(prefix, model.affinity.session_header) if model.affinity is not None else None,
        rules=tuple(
            RoutingRule(
                _condition(r.when),
                r.strategy,
                config.plan_candidates(r.candidates) if r.candidates is not None else None,
            )
            for r in model.rules
        ),
        guard=model.guard,
        fallback=Fallback(
            _others(config, model.fallbacks.context_length), _others(config, model.fallbacks.content_filter)
        ),
        hedge=HedgeSettings(model.hedge.quantile / 100, model.hedge.at_least.total_seconds()) if model.hedge else None,
    )


def _others(config: Config, name: str | None) -> tuple[Candidate, ...]:
    """The candidates of another model. A candidate without a model name gets that model's name."""
    if name is None:
        return ()
    return tuple(replace(c, model=c.model or name) for c in config.plan_candidates(config.models[name].candidates))


def _condition(when: RuleConditionConfig) -> RuleCondition:
    return RuleCondition(
        when.tenants,
        when.keys,
        tuple(when.headers.items()),
        when.stream,
        when.min_tokens,
        when.max_tokens,
        when.run_used,
    )
