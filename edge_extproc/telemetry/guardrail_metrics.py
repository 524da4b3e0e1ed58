"""The metrics of guardrail rules."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from ..model.rule_hit import RuleHit
from .plain import PlainCounter

# A service has its own labels, so their number is bounded here.
_MOST_LABELS = 1_000
_LABELS = ("rule", "label", "action", "mode", "direction")


class GuardrailMetrics:
    """The counts of one worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = PlainCounter(
            "edge_guardrail_hits", "Calls in which a guardrail rule found something.", _LABELS, registry
        )
        self._findings = PlainCounter(
            "edge_guardrail_findings", "Findings of guardrail rules: places in texts.", _LABELS, registry
        )
        self._seen: set[tuple[str, str]] = set()

    def settle(self, hits: Iterable[RuleHit]) -> None:
        for hit in hits:
            known = (hit.rule, hit.label)
            if known not in self._seen:
                if len(self._seen) >= _MOST_LABELS:
                    known = (hit.rule, "other")
                else:
                    self._seen.add(known)
            labels = (*known, hit.action, hit.mode, hit.direction)
            self._calls.add(*labels)
            self._findings.add(*labels, by=hit.count)
