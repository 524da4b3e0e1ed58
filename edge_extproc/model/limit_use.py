"""How much of a limit is used now, as a worker reports it to the supervisor for the admin API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

LimitKey: TypeAlias = tuple[str, str, str, str, str]
"""Tenant, level, name, measure and window ("now" for concurrent requests) of a limit."""


class LimitUse(msgspec.Struct, frozen=True, array_like=True):
    """Amounts are requests, tokens or micro-dollars, by the measure."""

    limit: LimitKey
    maximum: int
    total: int
    """Used in the current window, with the reservations of calls in progress in all workers."""
    reserved: int
    """The reservations of calls in progress in this worker."""
    until: int | None
    """When the window ends, Unix time in seconds. For a sliding minute: when the current minute ends. None: no
    window."""


def joined(workers: Iterable[Iterable[LimitUse]]) -> dict[LimitKey, LimitUse]:
    """What several workers report of the limits that they share."""
    found: dict[LimitKey, LimitUse] = {}
    for each in (use for worker in workers for use in worker):
        before = found.get(each.limit)
        if before is not None:
            each = LimitUse(
                each.limit,
                max(before.maximum, each.maximum),
                max(before.total, each.total),
                before.reserved + each.reserved,
                each.until,
            )
        found[each.limit] = each
    return found
