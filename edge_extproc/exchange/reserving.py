"""Reserves what a call can cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..limits.base import CallerLimits, Limiter, Reservation
from ..model.plan import Candidate
from .account_access import AccountAccess
from .candidates import most_of
from .phases import ReadCall
from .ports import Gateway


async def reserve(
    gateway: Gateway,
    exchange_id: str,
    read: ReadCall,
    candidates: Sequence[Candidate],
    limiter: Limiter,
    limits: CallerLimits,
    account: AccountAccess | None,
    work: Callable[..., Awaitable[Any]],
) -> Reservation:
    """Reserves the most that this call can cost in all limits of its caller, in one step. The end of the exchange
    settles it. `work`: runs what depends on the length of the body."""
    batch = account.reservation(limits) if account is not None else None
    if batch is not None:
        return await limiter.admit(exchange_id, limits, batch)
    priced = limits.count_dollars
    request = await work(read.large, most_of, gateway, read, candidates, priced=priced)
    return await limiter.admit(exchange_id, limits, request)
