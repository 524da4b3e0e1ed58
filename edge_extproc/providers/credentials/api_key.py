"""A key in a header: Authorization: Bearer, x-api-key, api-key, x-goog-api-key; tokens that are renewed likewise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .base import NoCredential, Pairs


@dataclass(frozen=True, slots=True)
class HeaderKey:
    header: str
    key: Callable[[], str] = field(repr=False)
    """Gives the key that holds now; raises Unavailable where there is none."""
    prefix: str = ""

    def headers(self, request: NoCredential) -> Pairs:
        del request  # the same for every request
        return ((self.header, self.prefix + self.key()),)


def bearer(key: Callable[[], str]) -> HeaderKey:
    return HeaderKey("authorization", key, "Bearer ")
