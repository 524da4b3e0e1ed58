"""Refuses a large request at its headers if the caller has no free concurrency slot.

The reservation itself follows with the body. A small body costs little to read, and its call may be answered from the
cache, which needs no slot (docs/adr/214). Large bodies that are on their way use slots too (docs/adr/333).
"""

from __future__ import annotations

from . import headers as header_rules
from .large_bodies import LARGE
from .phases import Identified
from .ports import Gateway


async def check_slots(gateway: Gateway, exchange_id: str, identified: Identified) -> None:
    """Raises LimitReached. A body without a declared length counts as large if there is no cache."""
    limiter, limits, values = gateway.limiter, identified.limits, identified.received.values
    if limiter is None or limits is None or identified.route.operation == "stored":
        return
    unbounded = "content-length" not in values and gateway.cache is None
    if unbounded or header_rules.content_length(values) >= LARGE:
        await limiter.raise_if_full(exchange_id, limits)
