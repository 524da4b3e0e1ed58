"""Builds the ext_authz service of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...auth.identity import build_seal, refusal_codes
from ...config.schema import Config
from ...errors import BudgetReached, Forbidden, LimitReached, PolicyUnavailable
from ...exchange.check import AuthzChecker, CheckDenied, Verdict
from ...exchange.ports import Gateway
from ...model.checked import AuthzDecision
from ...server.authz import AuthzService
from ...telemetry import logs
from ...telemetry.authz_metrics import AuthzMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_CODES = (Forbidden.code, LimitReached.code, BudgetReached.code, PolicyUnavailable.code, "internal")


def build_authz(
    config: Config,
    gateway: Callable[[], Gateway],
    registry: CollectorRegistry,
    log: Callable[[AuthzDecision], None] = lambda _: None,
) -> AuthzService:
    """For identity and rules on any HTTP route. `gateway` returns the current one; `log` receives each decision."""
    checked = AuthzMetrics(registry, frozenset((*refusal_codes(config), *filter(None, _CODES)))).checked

    def count(verdict: Verdict) -> None:
        if isinstance(verdict, CheckDenied):
            checked(verdict.status, verdict.code)
        else:
            checked(None)

    return AuthzService(AuthzChecker(gateway, build_seal(config), log), logs.report, count)
