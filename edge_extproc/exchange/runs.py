"""Reads the run of a call from its headers and from the caller's token.

    x-edge-run         the name of the run
    x-edge-run-parent  the run that it is a part of
    x-edge-run-limit   the most that it may use: dollars=1.50, tokens=200000, requests=40, time=15m

A run that a token names binds the caller: a run that the headers name is then a part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from ..errors import BadRequest
from ..limits.base import MAX_AMOUNT, MICRO, CallerLimits, Limiter
from ..model.envoy_names import RUN, RUN_LIMIT, RUN_PARENT
from ..model.principal import Principal
from ..model.run import NO_CAPS, Run, RunCaps

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+=~-]{0,127}")
_DOLLARS = re.compile(r"\$?(\d{1,8}(?:\.\d{1,6})?)")
_COUNT = re.compile(r"\d{1,12}")
_TIME = re.compile(r"(\d{1,8})([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FORM = "write it as dollars=1.50, tokens=200000, requests=40, time=15m"


async def limits_and_runs(
    limiter: Limiter | None, principal: Principal, values: Mapping[str, str]
) -> tuple[CallerLimits | None, tuple[str, ...]]:
    """The limits of a call; and its run with the runs that it is a part of, the nearest first. Without counters of
    runs, only the parent that the call itself names is known. Raises BadRequest for a header that cannot be read, and
    what `with_run` raises."""
    if RUN not in values and RUN_PARENT not in values and RUN_LIMIT not in values and principal.run is None:
        return limiter.rules(principal) if limiter is not None else None, ()
    run = read_run(principal, values)
    if limiter is None or not limiter.counts_runs:
        if run.caps != NO_CAPS:
            raise BadRequest("this gateway counts no runs, so it cannot apply the limit of one", param=RUN_LIMIT)
        named = (run.id,) if run.parent is None else (run.id, run.parent)
        return limiter.rules(principal) if limiter is not None else None, named
    limits = await limiter.with_run(principal, run)
    return limits, limits.runs


def session_of(headers: tuple[str, ...], values: Mapping[str, str]) -> str | None:
    """The session that the caller names in one of these headers."""
    for name in headers:
        value = values.get(name)
        if value:
            return value
    return None


def read_run(principal: Principal, values: Mapping[str, str]) -> Run:
    """Raises BadRequest."""
    own, parent, bound = _name(values, RUN), _name(values, RUN_PARENT), principal.run
    caps = _caps(values[RUN_LIMIT]) if RUN_LIMIT in values else NO_CAPS
    if bound is None:
        if own is None:
            raise BadRequest(
                f"{RUN_PARENT if parent else RUN_LIMIT} is given without {RUN}, the name of the run", param=RUN
            )
        return Run(own, parent, caps)
    if own is None or own == bound:
        return Run(bound, principal.run_parent, caps)
    # So a run of one token is never that of another one.
    above = bound if parent in (None, bound) else f"{bound}/{parent}"
    return Run(f"{bound}/{own}", above, caps, Run(bound, principal.run_parent))


def _name(values: Mapping[str, str], header: str) -> str | None:
    value = values.get(header)
    if value is not None and _NAME.fullmatch(value) is None:
        raise BadRequest(
            f"{header} must be up to 128 letters, digits and characters of . _ : / @ + = ~ -, and begin with a letter "
            "or digit",
            param=header,
        )
    return value


def _caps(text: str) -> RunCaps:
    found: dict[str, int] = {}
    for part in text.split(","):
        kind, _, value = (each.strip() for each in part.partition("="))
        name = _KINDS.get(kind)
        if name is None or name in found:
            raise BadRequest(f"{RUN_LIMIT} has an unknown or repeated part {part.strip()!r}; {_FORM}", param=RUN_LIMIT)
        found[name] = _amount(kind, value)
    return RunCaps(**found)


_KINDS = {"dollars": "micro_dollars", "tokens": "tokens", "requests": "requests", "time": "seconds"}


def _amount(kind: str, text: str) -> int:
    pattern = _DOLLARS if kind == "dollars" else _TIME if kind == "time" else _COUNT
    match = pattern.fullmatch(text)
    if match is None:
        raise BadRequest(f"{RUN_LIMIT} has an invalid amount of {kind}: {text!r}; {_FORM}", param=RUN_LIMIT)
    if kind == "dollars":
        return min(int(Decimal(match[1]) * MICRO), MAX_AMOUNT)
    return int(match[1]) * _SECONDS[match[2]] if kind == "time" else int(text)
