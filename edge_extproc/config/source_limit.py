"""The limit of requests for each source address. Envoy applies it before the agent sees a request."""

from __future__ import annotations

from pydantic import model_validator

from .part import ConfigSection
from .quantities import Count
from .wrong import wrong


class SourceLimitConfig(ConfigSection):
    """A protection against floods, such as guessed keys or a client in a loop. Set it well above the normal rate of one
    address. Behind a proxy, all callers have the same address."""

    requests_per_second: Count
    """The most requests of one address in a second."""
    burst: Count | None = None
    """The most requests at one moment. Default: twice requests_per_second."""
    addresses: Count = 10_000
    """The number of addresses that Envoy tracks; the least recently used one is dropped. For IPv6, a /64 network counts
    as one address."""

    @model_validator(mode="after")
    def _fits(self) -> SourceLimitConfig:
        if self.burst is not None and self.burst < self.requests_per_second:
            raise wrong(
                "burst is lower than requests_per_second", f"write {self.requests_per_second} or more", key="burst"
            )
        return self

    @property
    def bucket(self) -> int:
        return self.burst if self.burst is not None else 2 * self.requests_per_second
