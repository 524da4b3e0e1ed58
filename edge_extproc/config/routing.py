"""The sections `models` and `routing`: candidates, rules, fallbacks, hedging and circuit breakers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from .. import registry
from .part import ConfigSection, Text, frozen, one_of, thawed
from .quantities import Boolean, Count, Percent, PositiveDuration
from .wrong import wrong


def _strategy(value: str) -> str:
    have = registry.names("routing")
    if value not in have:
        raise wrong(f"there is no such strategy; have {', '.join(have)}", "write one of them")
    return value


def _header(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", value):
        raise wrong("this is not a header's name", "write it in lower case, such as x-edge-strategy")
    return value


def _candidates(value: object) -> object:
    if isinstance(value, list) and not value:
        raise wrong("there are no candidates", "name one: [{provider: openai}]")
    return value


def _model(value: object) -> object:
    """Accepts the short form, a list of candidates."""
    return {"candidates": value} if isinstance(value, list | tuple) else value


Strategy = Annotated[Text, AfterValidator(_strategy)]
HeaderName = Annotated[Text, AfterValidator(_header)]


class CandidateConfig(ConfigSection):
    provider: Text
    """A name of `providers`."""
    model: Text | None = None
    """The provider's name of the model. Default: the requested name."""
    api: Text | None = None
    """The API of the provider. Default: the provider's own `api`."""
    weight: Count = 1
    """Its share for strategies that spread calls."""


Candidates = Annotated[tuple[CandidateConfig, ...], BeforeValidator(_candidates)]


class RuleConditionConfig(ConfigSection):
    """The calls to which a rule applies. All given conditions must hold."""

    tenants: tuple[Text, ...] = ()
    """Names or globs."""
    keys: tuple[Text, ...] = ()
    """Ids of callers' keys, or globs."""
    headers: Annotated[Mapping[HeaderName, Text], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Header names and globs of their values. Callers use such headers to tag calls."""
    stream: Boolean | None = None
    """Whether the call is a stream."""
    min_tokens: Count | None = None
    """The prompt's tokens, estimated as a quarter of the body's bytes."""
    max_tokens: Count | None = None
    """The same as an upper bound."""
    run_used: Percent | None = None
    """From this percentage of a cap of the call's run on. So a run becomes cheaper near its end."""


class RoutingRuleConfig(ConfigSection):
    """The first rule with matching conditions decides."""

    when: RuleConditionConfig
    """The calls to which the rule applies."""
    strategy: Strategy | None = None
    """Default: the model's strategy."""
    candidates: Candidates | None = None
    """Default: the model's candidates."""


class AffinityConfig(ConfigSection):
    session_header: HeaderName | None = None
    """The request header with a session's id. Without it, the beginning of the prompt identifies the session."""


def _affinity(value: object) -> object:
    if value is True or value == "true":
        return {}
    return None if value is False or value == "false" else value


class FallbacksConfig(ConfigSection):
    """Names of other configured models, for calls that this model cannot answer."""

    context_length: Text | None = None
    """The model for prompts that are too long."""
    content_filter: Text | None = None
    """The model for prompts that the provider's filter refuses."""


class HedgeConfig(ConfigSection):
    """When the request also goes to a second candidate. The first answer is used. Both providers charge."""

    quantile: Percent = 95
    """The percentile of recent times to first token after which the second candidate gets the request."""
    at_least: PositiveDuration = timedelta(milliseconds=500)
    """The shortest wait. It is also used until enough times were measured."""


Guard = Annotated[Literal["auto", "on", "off"], one_of("auto", "on", "off")]


class ModelConfig(ConfigSection):
    """A model. A list of candidates alone is the short form."""

    candidates: Candidates
    """The providers that may answer, in order."""
    strategy: Strategy = "failover"
    """The order in which candidates are tried: failover is the given order."""
    affinity: Annotated[
        AffinityConfig | None, BeforeValidator(_affinity, json_schema_input_type=bool | AffinityConfig | None)
    ] = None
    """Calls of one session go to the same candidate. true: a session is identified by the beginning of the prompt."""
    rules: tuple[RoutingRuleConfig, ...] = ()
    """Other candidates or another strategy for some calls."""
    guard: Guard = "auto"
    """Whether a response is held so that a failure can still fail over: a stream until its first token, a reply until
    it is complete. auto: only streams, and only if there is another candidate."""
    fallbacks: FallbacksConfig = FallbacksConfig()
    """Other models for calls that this one cannot answer."""
    hedge: HedgeConfig | None = None
    """When a second candidate is asked at the same time. Absent: never."""


ModelOrCandidates = Annotated[ModelConfig, BeforeValidator(_model, json_schema_input_type=Candidates | ModelConfig)]


class BreakerConfig(ConfigSection):
    """The circuit breaker of each provider and model, shared by the workers of a machine."""

    enabled: Boolean = True
    """false: no candidate is skipped because of its failures."""
    failures: Count = 5
    """Consecutive failures that open the circuit."""
    open: PositiveDuration = timedelta(seconds=30)
    """How long the circuit stays open. Then one call tests the candidate."""
    retry_after: PositiveDuration = timedelta(minutes=10)
    """The longest Retry-After during which the candidate is skipped."""


class RoutingConfig(ConfigSection):
    breaker: BreakerConfig = BreakerConfig()
    """The circuit breakers."""
    strategy_header: HeaderName | None = None
    """The request header in which a caller may choose another strategy. Absent: callers cannot choose."""
    exploration: Percent = 5
    """The percentage of calls that least_latency sends to another candidate than the fastest, to measure it."""
    first_token: PositiveDuration = timedelta(seconds=60)
    """The longest time to the first token of a guarded stream. After it, the request goes to the next candidate."""

    def caller_headers(self, models: Mapping[str, ModelConfig]) -> Iterator[str]:
        """The request headers that routing reads."""
        if self.strategy_header is not None:
            yield self.strategy_header
        for model in models.values():
            if model.affinity is not None and model.affinity.session_header is not None:
                yield model.affinity.session_header
            for rule in model.rules:
                yield from rule.when.headers
