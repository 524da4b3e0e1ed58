"""From what config says of limits to the limiter of a worker: a part of the composition root."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, cast

import structlog

from ... import registry
from ...accounting.max_outputs import KNOWN
from ...config.limits import MEASURED, AllowanceConfig
from ...config.schema import Config
from ...errors import StartError
from ...exchange.worst_case import OutputBounds
from ...limits.base import MICRO, LimitRule, LimitStatus, LimitStore, LimitStoreSettings, Measure, Window
from ...limits.counter_file import Amounts, CounterFile
from ...limits.limiter import LimiterSettings, PolicyLimiter
from ...limits.rule_table import ANY, RuleTable, counts_dollars
from ...model.principal import Level
from ...store.snapshot import EMPTY, ManagedBudget, ManagedState
from ...telemetry import limit_metrics
from ...telemetry.limit_metrics import LimitMetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ...limits.webhook import Webhook


class WorkerLimits:
    """The limiter of a worker, and those who hear of it."""

    def __init__(
        self,
        config: Config,
        counts: LimitStore | CounterFile,
        metrics: LimitMetrics,
        webhook: Webhook | None,
        managed: ManagedState,
        before: Amounts = (),
    ) -> None:
        """`counts`: the store that workers share, or where the only worker keeps what it counts by itself. `before`:
        what that has counted until now."""
        self._metrics = metrics
        self._webhook = webhook
        self.shared = not isinstance(counts, CounterFile)
        """Whether there is a store that could be down."""
        self.down: str | None = None
        """Why it cannot be used now."""
        self._named = _named(config)
        self._kept = counts if isinstance(counts, CounterFile) else None
        store = None if isinstance(counts, CounterFile) else counts
        self.limiter = PolicyLimiter(RuleTable(rules(config, managed.budgets)), store, self, _settings(config))
        self.limiter.memory.put(before)
        metrics.watch(lambda: levels(self._named, self.limiter.statuses()))

    def manage(self, config: Config, managed: ManagedState) -> None:
        """What the configuration and the admin API say now. What was used stays used."""
        self._named = _named(config)
        self.limiter.replace_rules(RuleTable(rules(config, managed.budgets)), _settings(config))

    def unsettled(self) -> int:
        """How many settlements the store has yet to be told."""
        return self.limiter.unsettled

    def start(self) -> None:
        """In the running event loop."""
        self.limiter.start()
        if self._kept is not None:
            self._kept.start(lambda: self.limiter.memory.counted(counts_dollars))
        if self._webhook is not None:
            self._webhook.start()

    async def close(self) -> None:
        await self.limiter.close()
        if self._kept is not None:
            await self._kept.close()
        if self._webhook is not None:
            await self._webhook.close()

    # --- a Listener

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


def of(
    config: Config,
    registry: CollectorRegistry,
    report: Callable[[BaseException], None],
    managed: ManagedState = EMPTY,
) -> WorkerLimits | None:
    """None where nobody has a limit, nor could be given one. Raises StartError."""
    if not config.has_limits:
        return None
    wanted = config.limiter.webhook
    webhook = None
    if wanted is not None:
        from ...limits.webhook import Webhook

        webhook = Webhook(wanted.url, wanted.secret.reveal().encode() if wanted.secret is not None else None, report)
    # Before the metrics: what was registered once cannot be again.
    counts = _store(config) or CounterFile(config.counted_file, report)
    before = counts.read() if isinstance(counts, CounterFile) else ()
    return WorkerLimits(config, counts, LimitMetrics(registry), webhook, managed, before)


def _settings(config: Config) -> LimiterSettings:
    limiter = config.limiter
    return LimiterSettings(
        lease_seconds=round(limiter.lease.total_seconds()),
        lost=limiter.lost,
        share_of=config.agent.workers * limiter.replicas,
        assumed_input=limiter.assumed_price.input,
        assumed_output=limiter.assumed_price.output,
    )


def _named(config: Config) -> Collection[_Place]:
    return frozenset((tenant, level, name) for tenant, level, name, _ in config.allowances())


def bounds(config: Config) -> OutputBounds:
    limiter = config.limiter
    return OutputBounds(
        max_output=(*limiter.max_output.items(), *KNOWN, ("*", limiter.default_max_output)),
        usual_output=limiter.usual_output,
        context_window=limiter.context_window,
        assumed_input=limiter.assumed_price.input,
        assumed_output=limiter.assumed_price.output,
    )


def rules(config: Config, managed: Sequence[ManagedBudget] = ()) -> list[LimitRule]:
    """Those of config, and those of the admin API, which can only narrow them."""
    found: dict[_Place, dict[tuple[Measure, Window | None], LimitRule]] = {}
    for tenant, level, name, allowance in config.allowances():
        for rule in _rules(tenant, level, name, allowance):
            found.setdefault((tenant, level, name), {})[rule.measure, rule.window] = rule
    for budget in managed:
        level = cast("Level", budget.level)
        place = (budget.tenant, level, budget.name)
        # Without rules of its own, a holder has those of `*`; to be given some must not set it free of them.
        anyone = found.get((budget.tenant, level, ANY), {})
        own = found.setdefault(place, {key: replace(rule, name=budget.name) for key, rule in anyone.items()})
        for rule in _rules(*place, AllowanceConfig.model_validate(budget.allowance)):
            key = (rule.measure, rule.window)
            own[key] = _narrower(own[key], rule) if key in own else rule
    return [rule for rules in found.values() for rule in rules.values()]


_Place: TypeAlias = tuple[str, Level, str]


def _narrower(one: LimitRule, other: LimitRule) -> LimitRule:
    """Both at once, as one rule."""
    # A limit that refuses is tighter than any that only warns.
    tighter = min(one, other, key=lambda rule: (not rule.hard, rule.maximum))
    warn_at = min((rule.warn_at for rule in (one, other) if rule.warn_at is not None), default=None)
    return replace(
        tighter,
        warn_at=warn_at,
        local=one.local and other.local,
        allow_unpriced=one.allow_unpriced and other.allow_unpriced,
    )


# Each is four series, and every worker tells them at every scrape.
MOST_TOLD = 1000


def levels(named: Collection[_Place], standings: Iterable[LimitStatus]) -> list[limit_metrics.LimitLevel]:
    """As metrics tell them. Holders that config does not name are one, `*`, and so are those beyond MOST_TOLD that have
    used the least of their limits; a tenant that config does not name is none. It takes milliseconds for ten thousand
    holders: for a thread beside the event loop."""
    tenants = {tenant for tenant, _, _ in named}
    told: list[LimitStatus] = []
    others: dict[tuple[str, Level, Measure, Window | None], list[LimitStatus]] = {}

    def as_one(standing: LimitStatus) -> None:
        rule = standing.rule
        others.setdefault((rule.tenant, rule.level, rule.measure, rule.window), []).append(standing)

    for standing in standings:
        rule = standing.rule
        if (rule.tenant, rule.level, rule.name) in named:
            told.append(standing)
        elif rule.tenant in tenants:
            as_one(standing)
    if len(told) > MOST_TOLD:
        told.sort(key=_share_used, reverse=True)
        for standing in told[MOST_TOLD:]:
            as_one(standing)
    known = [_level(each, each.rule.name, each.reserved, each.at) for each in told[:MOST_TOLD]]
    # Another worker may know of one who is nearer to the limit: by its values it is told, not by when it was heard.
    return known + [
        _level(max(group, key=_share_used), ANY, sum(each.reserved for each in group), None)
        for group in others.values()
    ]


def _share_used(standing: LimitStatus) -> float:
    return standing.used / max(1, standing.maximum)


def _level(standing: LimitStatus, name: str, reserved: int, at: float | None) -> limit_metrics.LimitLevel:
    rule = standing.rule
    unit = MICRO if rule.measure == "dollars" else 1
    return limit_metrics.LimitLevel(
        (rule.tenant, rule.level, name, rule.measure, rule.window or "now"),
        standing.maximum / unit,
        standing.used / unit,
        reserved / unit,
        at,
    )


def check_store(config: Config, *, with_own: bool) -> None:
    """Raises StartError where the limits of this config could not be kept."""
    if config.own_store_socket() is not None and not with_own:
        raise StartError(
            f"callers have limits and there are {config.agent.workers} workers, which would each count for "
            "themselves: give limiter.url of a Redis or Valkey, or set agent.workers: 1 (`up` starts one of its own)"
        )


def _rules(tenant: str, level: Level, name: str, allowance: AllowanceConfig) -> Sequence[LimitRule]:
    found = []
    for key, (measure, window) in MEASURED.items():
        maximum: int | None = getattr(allowance, key)
        if maximum is None:
            continue
        hard = allowance.mode == "hard"
        found.append(
            LimitRule(
                tenant,
                level,
                name,
                cast("Measure", measure),
                cast("Window | None", window),
                maximum,
                zone=allowance.time_zone,
                # A slot that is in use is no cause for a warning; that all are is.
                warn_at=maximum * allowance.warn_at // 100 if window is not None else None if hard else maximum,
                hard=hard,
                local=allowance.fail == "local",
                allow_unpriced=allowance.unpriced == "allow",
            )
        )
    return found


def _store(config: Config) -> LimitStore | None:
    limiter, own = config.limiter, config.own_store_socket()
    if limiter.url is not None:
        url = limiter.url.reveal()
    elif own is not None:
        url = f"unix://{own}"
    else:
        return None
    store: LimitStore = registry.load("limits", "redis").build(LimitStoreSettings(url, limiter.timeout.total_seconds()))
    return store
