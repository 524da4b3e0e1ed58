"""A credential in one header: a key or a token in authorization, x-api-key, api-key or x-goog-api-key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .base import Pairs, UnsignedRequest


@dataclass(frozen=True, slots=True)
class HeaderKey:
    header: str
    key: Callable[[], str] = field(repr=False)
    """Returns the current key. Raises Unavailable if there is none."""
    prefix: str = ""

    def headers(self, request: UnsignedRequest) -> Pairs:
        del request  # the same for every request
        return ((self.header, self.prefix + self.key()),)


def bearer(key: Callable[[], str]) -> HeaderKey:
    return HeaderKey("authorization", key, "Bearer ")
