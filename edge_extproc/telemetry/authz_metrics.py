"""The metrics of ext_authz decisions, for one worker."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from prometheus_client import CollectorRegistry, Counter

OTHER = "other"


class AuthzMetrics:
    """Counts decisions by result, and refusals by error code."""

    def __init__(self, registry: CollectorRegistry, codes: AbstractSet[str] = frozenset()) -> None:
        """`codes`: the error codes that get a label of their own. Any other code is counted as `other`, so that the
        number of series is bounded."""
        checks = Counter(
            "edge_authz_checks", "Requests that ext_authz checked, by result.", ("result",), registry=registry
        )
        self._allowed, self._denied, self._failed = (checks.labels(r) for r in ("allowed", "denied", "unavailable"))
        refusals = Counter(
            "edge_authz_refusals", "Requests that ext_authz refused, by error code.", ("code",), registry=registry
        )
        self._refusals = {code: refusals.labels(code) for code in (*codes, OTHER)}

    def checked(self, status: int | None, code: str = OTHER) -> None:
        """Counts one decision. `status`: the HTTP status of a refusal, or None if the request was allowed."""
        if status is None:
            self._allowed.inc()
            return
        (self._failed if status >= 500 else self._denied).inc()
        self._refusals.get(code, self._refusals[OTHER]).inc()
