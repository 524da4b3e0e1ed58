"""The section `idempotency`: the replies of requests with an Idempotency-Key."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from .part import ConfigSection
from .quantities import Boolean, PositiveDuration, Size


class IdempotencyConfig(ConfigSection):
    enabled: Boolean = True
    """A repeated request of a tenant with the same Idempotency-Key gets the first reply."""
    window: PositiveDuration = timedelta(minutes=10)
    """How long a reply is kept."""
    max_reply: Size = Field(default="1MiB", validate_default=True)
    """A longer reply is not kept; a repeated request then gets status 409."""
