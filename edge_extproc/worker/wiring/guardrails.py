"""Builds the guardrails from the configuration. Without a rule, nothing of them is loaded."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ... import registry
from ...config.guardrails import GuardrailRuleConfig
from ...config.schema import Config
from ...errors import ConfigError
from ...providers.credentials.refresh import CredentialRefreshers, RefreshListener
from ...telemetry.guardrail_service_metrics import GuardrailServiceMetrics

if TYPE_CHECKING:
    from ...guardrails.base import Detector, Service
    from ...guardrails.call_guard import Guardrails
    from ...guardrails.rules import RuleScope


class WorkerGuardrails:
    """The guardrails of one configuration, with the secrets of their services."""

    def __init__(self, config: Config, renewed: RefreshListener, metrics: GuardrailServiceMetrics) -> None:
        """Raises ConfigError if a rule cannot work. `renewed`: receives each renewal of a secret. `metrics`: of the
        services."""
        self._config = config
        self._files = _files_of(config)
        self._refreshers = CredentialRefreshers(time.time, renewed)
        self.guardrails = build_guardrails(config, self._refreshers, metrics)

    def serves(self, config: Config) -> bool:
        """Whether another configuration has the same rules, so that what the services have learnt can stay. A rule is
        another one if a file that it names has another content."""
        old = self._config
        return (
            list(old.guardrail_rules()) == list(config.guardrail_rules())
            and old.auth.pepper == config.auth.pepper
            and self._files == _files_of(config)
        )

    async def start(self, patience: float) -> None:
        await self._refreshers.start(patience)

    async def close(self) -> None:
        await self._refreshers.stop()
        if self.guardrails is not None:
            await self.guardrails.close()


def _files_of(config: Config) -> dict[Path, bytes | None]:
    """A hash of each file that the rules' options name. None: it cannot be read."""
    choices = [each for _, rule in config.guardrail_rules() for each in (rule.detect, rule.service) if each is not None]
    return {path: _hash_of(path) for each in choices for _, path in each.options if isinstance(path, Path)}


def _hash_of(path: Path) -> bytes | None:
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return None


def check_detectors(config: Config) -> None:
    """Builds the detector of each rule, as a worker does. Raises ConfigError, which names the rule, if one cannot work:
    its pattern is wrong, or the file that it names."""
    for _, rule in config.guardrail_rules():
        if rule.detect is not None:
            try:
                registry.load(rule.detect.room, rule.detect.name).build(rule.detect.options)
            except ConfigError as error:
                raise ConfigError(f"the guardrail {rule.name!r}: {error.message}") from error


def build_guardrails(
    config: Config, refreshers: CredentialRefreshers, metrics: GuardrailServiceMetrics
) -> Guardrails | None:
    """None if the configuration has no rule. Raises ConfigError if a rule cannot work."""
    rules = list(config.guardrail_rules())
    if not rules:
        return None
    from ...guardrails.base import Rule
    from ...guardrails.call_guard import Guardrails
    from ...guardrails.masking import PlaceholderKey
    from ...guardrails.rules import RuleHolder, RuleSelector, ScopedRule

    built = _Parts(refreshers, metrics)
    scoped = [
        ScopedRule(
            Rule(
                rule.name,
                frozenset(rule.on),
                frozenset(rule.kinds),
                rule.action,
                rule.mode,
                built.detector(rule),
                built.service(rule),
                rule.restore,
                rule.route_to,
                rule.fail,
                rule.when == "during",
                rule.held_characters,
                rule.interval.total_seconds() if rule.interval is not None else None,
            ),
            _scope(rule),
            RuleHolder(*holder) if holder is not None else None,
        )
        for holder, rule in rules
    ]
    key = PlaceholderKey(config.auth.pepper.reveal())
    return Guardrails(
        RuleSelector(scoped), lambda tenant, body: key.masker(tenant, body=body), tuple(built.services.values())
    )


def _scope(rule: GuardrailRuleConfig) -> RuleScope:
    from ...guardrails.rules import RuleScope

    scope = rule.for_
    return RuleScope(scope.tenants, scope.teams, scope.users, scope.keys, scope.roles, scope.models)


class _Parts:
    """The detectors and services of all rules. Two rules with equal options share one detector."""

    def __init__(self, refreshers: CredentialRefreshers, metrics: GuardrailServiceMetrics) -> None:
        self._refreshers = refreshers
        self._metrics = metrics
        self._detectors: list[tuple[object, Detector]] = []
        self.services: dict[str, Service] = {}

    def detector(self, rule: GuardrailRuleConfig) -> Detector | None:
        choice = rule.detect
        if choice is None:
            return None
        for known, detector in self._detectors:
            if known == choice:
                return detector
        built: Detector = registry.load(choice.room, choice.name).build(choice.options)
        self._detectors.append((choice, built))
        return built

    def service(self, rule: GuardrailRuleConfig) -> Service | None:
        choice = rule.service
        if choice is None:
            return None
        from .guardrail_services import build_service

        built = build_service(rule.name, choice.name, choice.options, self._metrics, self._refreshers)
        self.services[rule.name] = built
        return built
