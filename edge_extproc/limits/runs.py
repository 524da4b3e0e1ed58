"""The rules of a run, what is left of it, and the error at its end.

A run and each run that it is a part of have one counter for each measure, which all calls of the tenant share. The
maximum is the smallest of those that the configuration gives this caller, and those that any call of the run has
stated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from ..errors import BadRequest, PolicyUnavailable, RunReached
from ..model.run import NO_CAPS, Run, RunCaps
from .base import MAX_COUNT, LimitRule, LimitStore, LimitStoreDown, Measure, Pairs, ReserveResult, WrongParent
from .counters import KEEP_AFTER
from .frames import WindowFrame
from .rate_limit_headers import amount_text, amount_value
from .refusals import exceeds

LEFT = "x-edge-run-left"
# The official SDKs of OpenAI and Anthropic do not retry a response with it.
_NO_RETRY = ("x-should-retry", "false")


async def chain_of(run: Run, ancestry: Callable[[str, str | None], Awaitable[tuple[str, ...]]]) -> tuple[str, ...]:
    """The run and those that it is a part of. `ancestry`: of the store, for a run and its parent. Raises WrongParent,
    also for a run that does not lead to the run of its caller's token."""
    bound = run.bound
    if bound is None:
        return await ancestry(run.id, run.parent)
    # In this order, because the first mention of a run decides its parent.
    await ancestry(bound.id, bound.parent)
    if run.parent is not None and run.parent != bound.id:
        try:
            await ancestry(run.parent, bound.id)
        except WrongParent:  # it has a parent: the check below is of its whole chain
            await ancestry(run.parent, None)
    chain = await ancestry(run.id, run.parent)
    if bound.id not in chain:
        raise WrongParent(f"it is not a part of {bound.id!r}, the run of the caller's token")
    return chain


def run_rules(tenant: str, run: Run, chain: Sequence[str], caps: Iterable[LimitRule]) -> tuple[LimitRule, ...]:
    """`chain`: the run and those that it is a part of. `caps`: those of the caller's configuration."""
    least: dict[Measure, int] = {}
    for cap in caps:
        if cap.hard:
            least[cap.measure] = min(cap.maximum, least.get(cap.measure, MAX_COUNT))
    return tuple(
        LimitRule(
            tenant,
            "run",
            name,
            measure,
            "run",
            least.get(measure, MAX_COUNT),
            allow_unpriced=True,
            stated=stated if name == run.id else None,
        )
        for name in chain
        for measure, stated in _stated(run.caps)
    )


def _stated(caps: RunCaps = NO_CAPS) -> tuple[tuple[Measure, int | None], ...]:
    return (
        ("dollars", caps.micro_dollars),
        ("tokens", caps.tokens),
        ("requests", caps.requests),
        ("seconds", caps.seconds),
    )


def run_headers(frame: WindowFrame, amounts: Sequence[int], result: ReserveResult) -> Pairs:
    """The header with what is left of the run: for each measure with a cap, the least of all its runs."""
    least: dict[Measure, tuple[int, LimitRule]] = {}
    for place in frame.runs:
        rule, maximum = frame.rules.rules[place], result.before[place]
        if maximum < MAX_COUNT:
            remaining = max(0, maximum - result.used[place] - (amounts[place] if result.ok else 0))
            if rule.measure not in least or remaining < least[rule.measure][0]:
                least[rule.measure] = (remaining, rule)
    text = ", ".join(f"{measure}={amount_value(rule, remaining)}" for measure, (remaining, rule) in least.items())
    return ((LEFT, text),) if text else ()


def exceeded_run(
    frame: WindowFrame, amounts: Sequence[int], result: ReserveResult
) -> tuple[LimitRule, int, int] | None:
    """The first rule of a run that refused, its maximum and what is left of it. None: no run refused."""
    for place in frame.runs:
        counter, used, maximum = frame.counters.items[place], result.used[place], result.before[place]
        if exceeds(counter, amounts[place], used, maximum):
            return frame.rules.rules[place], maximum, max(0, maximum - used)
    return None


def run_reached(rule: LimitRule, maximum: int, remaining: int, headers: Pairs) -> RunReached:
    """The error. It has no time to wait, because waiting does not help."""
    text = f"{rule.label} are limited to {amount_text(rule, maximum)}, and {amount_text(rule, remaining)} are left"
    if remaining:
        text += ", less than this request could use; ask for fewer output tokens (max_tokens) or send a shorter prompt"
    return RunReached(text, headers=(*headers, _NO_RETRY))


async def ancestry_of(store: LimitStore, tenant: str, run: Run) -> tuple[str, ...]:
    """The runs that a run is a part of. Raises BadRequest if it has another parent, or PolicyUnavailable."""
    try:
        return await chain_of(run, lambda name, parent: store.ancestry(tenant, name, parent, KEEP_AFTER))
    except WrongParent as error:
        raise BadRequest(f"the run {run.id!r} cannot be used so: {error}", param="x-edge-run-parent") from None
    except LimitStoreDown:
        raise PolicyUnavailable(
            "the caps of this run cannot be checked now; the request was not sent; try again", retry_after=1.0
        ) from None
