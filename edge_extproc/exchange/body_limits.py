"""The size limits of request bodies and of complete response bodies.

Envoy's buffer serves both directions and is as large as the larger limit, or larger. So the exact limits are checked
here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config.quantities import write_size
from ..errors import ResponseTooLarge, TooLarge


@dataclass(frozen=True, slots=True)
class BodyLimits:
    request: int = 32 << 20
    response: int = 32 << 20

    def check_request(self, length: int) -> None:
        """Raises TooLarge."""
        if length > self.request:
            raise TooLarge(f"the request body is over the limit of {write_size(self.request)} (limits.request_body)")

    def check_response(self, length: int) -> None:
        """Raises ResponseTooLarge."""
        if length > self.response:
            raise ResponseTooLarge(
                f"the provider's reply is over the limit of {write_size(self.response)} (limits.response_body)"
            )


DEFAULT_LIMITS = BodyLimits()
