"""What config says of how much one address may send, which Envoy itself keeps: before the agent is asked anything."""

from __future__ import annotations

from pydantic import model_validator

from .part import ConfigSection
from .quantities import Count
from .wrong import wrong


class SourceLimitConfig(ConfigSection):
    """Against floods: whoever guesses keys, or a client that has lost its mind. Set it well above what one honest
    address sends; behind a proxy all callers are one address."""

    requests_per_second: Count
    burst: Count | None = None
    """How many may come at once; twice the requests of a second where not given."""
    addresses: Count = 10_000
    """How many are told apart at one time; the one that was quiet for longest is forgotten. Of IPv6, a /64 is one."""

    @model_validator(mode="after")
    def _fits(self) -> SourceLimitConfig:
        if self.burst is not None and self.burst < self.requests_per_second:
            raise wrong(
                "fewer may come at once than in a second", f"write {self.requests_per_second} or more", key="burst"
            )
        return self

    @property
    def bucket(self) -> int:
        return self.burst if self.burst is not None else 2 * self.requests_per_second
