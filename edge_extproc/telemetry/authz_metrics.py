"""What ext_authz decided, as metrics of a worker."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from prometheus_client import CollectorRegistry, Counter

OTHER = "other"


class AuthzMetrics:
    def __init__(self, registry: CollectorRegistry, codes: AbstractSet[str] = frozenset()) -> None:
        """`codes`: of refusals, as labels; any other is one, so that labels stay few."""
        checks = Counter("edge_authz_checks", "Requests that ext_authz asked about.", ("result",), registry=registry)
        self._allowed, self._denied, self._failed = (checks.labels(r) for r in ("allowed", "denied", "unavailable"))
        refusals = Counter(
            "edge_authz_refusals", "Requests that ext_authz refused, by why.", ("code",), registry=registry
        )
        self._refusals = {code: refusals.labels(code) for code in (*codes, OTHER)}

    def checked(self, status: int | None, code: str = OTHER) -> None:
        """Both of a refusal; None where it was none."""
        if status is None:
            self._allowed.inc()
            return
        (self._failed if status >= 500 else self._denied).inc()
        self._refusals.get(code, self._refusals[OTHER]).inc()
