"""Guardrails for exchanges in memory, with the detector `words` and a service in the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from player import Stage

from edge_extproc.guardrails.base import Checked, Rule, Service, TextKind, Verdict
from edge_extproc.guardrails.call_guard import Guardrails
from edge_extproc.guardrails.detectors.words import WordDetector, WordsOptions
from edge_extproc.guardrails.masking import PlaceholderKey
from edge_extproc.guardrails.rules import RuleHolder, RuleScope, RuleSelector, ScopedRule
from edge_extproc.model.rule_hit import Action

SECRET = "hunter-secret-42"
KINDS: tuple[TextKind, ...] = (
    "system",
    "user",
    "assistant",
    "thinking",
    "tool_definition",
    "tool_call",
    "tool_result",
    "file_name",
    "url",
    "other",
)


def rule(action: Action, name: str = "no-secrets", **more: Any) -> Rule:
    """A rule about SECRET."""
    settings: dict[str, Any] = {
        "directions": frozenset({"request"}),
        "kinds": frozenset(KINDS),
        "mode": "enforce",
        "detector": WordDetector(WordsOptions(words=(SECRET,), label="secret")),
    }
    if more.get("service") is not None:
        settings["detector"] = None
    return Rule(name=name, action=action, **{**settings, **more})


def guardrails(
    *rules: Rule | ScopedRule, services: Sequence[Service] = (), clock: Callable[[], float] = time.monotonic
) -> Guardrails:
    scoped = [each if isinstance(each, ScopedRule) else ScopedRule(each) for each in rules]
    key = PlaceholderKey("a pepper of the tests")
    return Guardrails(RuleSelector(scoped), lambda tenant, body: key.masker(tenant, body=body), services, clock)


def guarded(*rules: Rule | ScopedRule) -> Stage:
    return Stage().having(guardrails=guardrails(*rules))


def scoped(each: Rule, holder: RuleHolder | None = None, **scope: tuple[str, ...]) -> ScopedRule:
    return ScopedRule(each, RuleScope(**scope), holder)


def placeholder(tenant: str = "acme", value: str = SECRET, label: str = "secret") -> str:
    return PlaceholderKey("a pepper of the tests").masker(tenant).placeholder(value, label)


class ScriptedService:
    """Answers each check with the function's verdict, and keeps what it was asked."""

    def __init__(self, answer: Callable[[Checked], Verdict]) -> None:
        self.asked: list[Checked] = []
        self.is_closed = False
        self._answer = answer

    async def check(self, checked: Checked) -> Verdict:
        self.asked.append(checked)
        return self._answer(checked)

    async def close(self) -> None:
        self.is_closed = True
