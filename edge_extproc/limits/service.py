"""The limiter of one worker, with its metrics, its webhook and the file of its counters."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import structlog

from ..model.limit_use import LimitUse
from ..telemetry.limit_metrics import LimitMetrics
from .base import Holder, LimitRule, LimitStore, LimitStoreDown
from .counter_file import Amounts, CounterFile
from .levels import metric_levels
from .limiter import LimiterSettings, PolicyLimiter
from .rule_table import RuleTable, outlives_restart

if TYPE_CHECKING:
    from .webhook import Webhook


class LimitService:
    """Starts and stops the parts together, and passes the limiter's events to metrics, log and webhook."""

    def __init__(
        self,
        rules: RuleTable,
        settings: LimiterSettings,
        counters: LimitStore | CounterFile,
        metrics: LimitMetrics,
        webhook: Webhook | None,
        named: Collection[Holder],
        counted: Amounts = (),
    ) -> None:
        """`counters`: the store that the workers share, or the file of the only worker; `counted` was read from that
        file. `named`: the holders that the configuration names."""
        self._metrics = metrics
        self._webhook = webhook
        self.shared = not isinstance(counters, CounterFile)
        """Whether there is a store that could be down."""
        self.down: str | None = None
        """Why the store cannot be used now. None: it can be used."""
        self._named = named
        self._file = counters if isinstance(counters, CounterFile) else None
        store = None if isinstance(counters, CounterFile) else counters
        self.limiter = PolicyLimiter(rules, store, self, settings)
        self.limiter.memory.put(counted)
        metrics.watch(lambda: metric_levels(self._named, self.limiter.statuses()))
        if store is not None:
            metrics.watch_workers(lambda: self.limiter.workers.counted, lambda: self.limiter.shares or 0)

    def replace(self, rules: RuleTable, settings: LimiterSettings, named: Collection[Holder]) -> None:
        """Applies other rules. Counters keep their values."""
        self._named = named
        self.limiter.replace_rules(rules, settings)

    async def uses(self) -> list[LimitUse]:
        """How much of each limit is used now. Empty while the store is down."""
        try:
            return await self.limiter.uses()
        except LimitStoreDown:
            return []

    def unsettled(self) -> int:
        """The settlements that the store has not yet received."""
        return self.limiter.unsettled

    def start(self) -> None:
        """Needs a running event loop."""
        self.limiter.start()
        if self._file is not None:
            self._file.start(lambda: self.limiter.memory.counted(outlives_restart))
        if self._webhook is not None:
            self._webhook.start()

    async def close(self) -> None:
        await self.limiter.close()
        if self._file is not None:
            await self._file.close()
        if self._webhook is not None:
            await self._webhook.close()

    # --- the LimitListener

    def refused(self, rule: LimitRule) -> None:
        self._metrics.refused(rule.level, rule.measure)

    def warned(self, rule: LimitRule, used: int) -> None:
        self._metrics.warned(rule.level, rule.measure)
        if self._webhook is not None:
            self._webhook.enqueue(rule, used)

    def store(self, up: bool, reason: str = "") -> None:
        log = structlog.get_logger()
        if up:
            log.info("limit store back")
        else:
            log.warning("limit store down", reason=reason)
        if up or self.down is None:
            self._metrics.store(up)
        self.down = None if up else reason

    def local(self) -> None:
        self._metrics.local()
