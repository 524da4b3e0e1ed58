"""What a configuration may say of routing: models with their candidates, circuits, and what a caller may ask for."""

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
        raise wrong("this is no header's name", "write it in lower case, x-edge-strategy for instance")
    return value


def _candidates(value: object) -> object:
    if isinstance(value, list) and not value:
        raise wrong("there are no candidates", "name one: [{provider: openai}]")
    return value


def _model(value: object) -> object:
    """The short form: a list of candidates."""
    return {"candidates": value} if isinstance(value, list | tuple) else value


Strategy = Annotated[Text, AfterValidator(_strategy)]
HeaderName = Annotated[Text, AfterValidator(_header)]


class CandidateConfig(ConfigSection):
    provider: Text
    model: Text | None = None
    """The name that the caller asked for where not given."""
    api: Text | None = None
    """Which of the provider's wire formats, where not the one that the provider's own `api` says."""
    weight: Count = 1
    """Its share where calls are spread."""


Candidates = Annotated[tuple[CandidateConfig, ...], BeforeValidator(_candidates)]


class RuleConditionConfig(ConfigSection):
    """Which calls a rule is for: all of it must hold."""

    tenants: tuple[Text, ...] = ()
    """Names or globs; so are keys."""
    keys: tuple[Text, ...] = ()
    """The ids of callers' keys."""
    headers: Annotated[Mapping[HeaderName, Text], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Names to globs of their values: how a caller tags its calls."""
    stream: Boolean | None = None
    min_tokens: Count | None = None
    """Of the prompt, estimated as a fourth of the body's bytes."""
    max_tokens: Count | None = None


class RoutingRuleConfig(ConfigSection):
    """The first rule that fits decides."""

    when: RuleConditionConfig
    strategy: Strategy | None = None
    candidates: Candidates | None = None


class AffinityConfig(ConfigSection):
    session_header: HeaderName | None = None
    """In which callers name their session; else the beginning of the prompt counts."""


def _affinity(value: object) -> object:
    if value is True or value == "true":
        return {}
    return None if value is False or value == "false" else value


class FallbacksConfig(ConfigSection):
    """Names of other models here, to which a call goes that this one cannot answer."""

    context_length: Text | None = None
    """Where the prompt is too long."""
    content_filter: Text | None = None
    """Where the provider's filter refuses it."""


class HedgeConfig(ConfigSection):
    """When a second candidate is asked too: the first to answer wins, and both are billed by their providers."""

    quantile: Percent = 95
    """Of the times to first token of late, in percent."""
    at_least: PositiveDuration = timedelta(milliseconds=500)
    """Also what counts before there were enough answers."""


Guard = Annotated[Literal["auto", "on", "off"], one_of("auto", "on", "off")]


class ModelConfig(ConfigSection):
    """Its candidates alone, as a list, or this."""

    candidates: Candidates
    strategy: Strategy = "failover"
    affinity: Annotated[AffinityConfig | None, BeforeValidator(_affinity)] = None
    """Calls that begin alike go to the same candidate. true: by the beginning of the prompt."""
    rules: tuple[RoutingRuleConfig, ...] = ()
    guard: Guard = "auto"
    """Whether an answer is held back, so that one that fails meanwhile is tried elsewhere: a stream until its first
    token, a reply until it is whole. auto: streams, where there is another candidate."""
    fallbacks: FallbacksConfig = FallbacksConfig()
    hedge: HedgeConfig | None = None


ModelOrCandidates = Annotated[ModelConfig, BeforeValidator(_model, json_schema_input_type=Candidates | ModelConfig)]


class BreakerConfig(ConfigSection):
    """Of each provider and model, shared by the workers of a machine."""

    enabled: Boolean = True
    failures: Count = 5
    """In a row, after which it is left alone."""
    open: PositiveDuration = timedelta(seconds=30)
    """For how long. Then one call is sent there to see."""
    retry_after: PositiveDuration = timedelta(minutes=10)
    """The longest Retry-After for which others are asked in its place."""


class RoutingConfig(ConfigSection):
    breaker: BreakerConfig = BreakerConfig()
    strategy_header: HeaderName | None = None
    """In which a caller may name another strategy for its call. Absent: nowhere."""
    exploration: Percent = 5
    """Of how many calls, in percent, least_latency sends one to another candidate than the fastest, to learn of it."""
    first_token: PositiveDuration = timedelta(seconds=60)
    """How long a guarded stream may take to its first token before the next candidate is asked."""

    def caller_headers(self, models: Mapping[str, ModelConfig]) -> Iterator[str]:
        """Those that callers may send for routing's sake."""
        if self.strategy_header is not None:
            yield self.strategy_header
        for model in models.values():
            if model.affinity is not None and model.affinity.session_header is not None:
                yield model.affinity.session_header
            for rule in model.rules:
                yield from rule.when.headers
