"""ext_authz of a worker: a part of the composition root."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .build_access import build_voucher
from .config.schema import Config
from .exchange.check import Checks, Denied, Verdict
from .exchange.ports import Gateway
from .server.authz import AuthzService
from .telemetry import logs
from .telemetry.authz_metrics import AuthzMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def build_authz(config: Config, gateway: Callable[[], Gateway], registry: CollectorRegistry) -> AuthzService:
    """The same identity and rules for any HTTP route; `gateway` gives the one of now."""
    checked = AuthzMetrics(registry).checked

    def tell(verdict: Verdict) -> None:
        checked(verdict.status if isinstance(verdict, Denied) else None)

    return AuthzService(Checks(gateway, build_voucher(config)), logs.report, tell)
