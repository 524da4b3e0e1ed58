"""What the workers report of a provider: the result of a probe, and the prices of its models."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

ProbeState: TypeAlias = Literal["ok", "warn", "fail"]


class ProviderProbe(msgspec.Struct, frozen=True):
    """The result of one request that no caller has sent."""

    provider: str
    state: ProbeState
    message: str
    """One line without a secret and without a text of the provider."""
    seconds: float | None = None
    """From the start of the connection to the end of the response. None: there was no response."""
    status: int | None = None
    clock_skew: float | None = None
    """Seconds by which this machine's clock is ahead of the provider's."""


class ProviderPrice(msgspec.Struct, frozen=True):
    """The price of one model at a provider, in US dollars for a million tokens, as text. None: it is unknown."""

    provider: str
    model: str
    input: str | None
    output: str | None
