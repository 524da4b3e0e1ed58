"""Metrics of the services of guardrails, for one worker. Labels contain configured names and constants only."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from .plain import PlainCounter, PlainHistogram

# Seconds. A webhook on the same machine takes a millisecond, a classifier of a cloud some hundred.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class GuardrailServiceMetrics:
    """Counts the checks of services, and measures their time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._checks = PlainCounter(
            "edge_guardrail_service_checks",
            "Checks by services of guardrails, by verdict (pass, block, mask, failed).",
            ("rule", "service", "verdict"),
            registry,
        )
        self._failures = PlainCounter(
            "edge_guardrail_service_failures",
            "Checks without a verdict, by reason: timeout, connection, status, answer (not as documented), credential, "
            "size (over max_text), circuit (not sent after earlier failures), other.",
            ("rule", "service", "reason"),
            registry,
        )
        self._spared = PlainCounter(
            "edge_guardrail_service_spared",
            "Checks that sent no request: a stored verdict (cache), or one of an equal check (flight).",
            ("rule", "service", "by"),
            registry,
        )
        self._opened = PlainCounter(
            "edge_guardrail_service_circuits_opened",
            "Times that failures in a row stopped the requests to a service.",
            ("rule", "service"),
            registry,
        )
        self._seconds = PlainHistogram(
            "edge_guardrail_service_seconds",
            "Time of a check with requests to the service.",
            ("rule", "service"),
            _BUCKETS,
            registry,
        )

    def checked(self, rule: str, service: str, verdict: str) -> None:
        self._checks.add(rule, service, verdict)

    def asked(self, rule: str, service: str, seconds: float) -> None:
        """One check sent its requests."""
        self._seconds.by_labels[rule, service].observe(seconds)

    def failed(self, rule: str, service: str, reason: str) -> None:
        self._failures.add(rule, service, reason)

    def spared(self, rule: str, service: str, by: str) -> None:
        self._spared.add(rule, service, by)

    def opened(self, rule: str, service: str) -> None:
        self._opened.add(rule, service)
