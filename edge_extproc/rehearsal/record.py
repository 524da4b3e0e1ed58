"""What reached the rehearsal provider, kept for tests within bounds.

Records hold credentials as they came, for a test asks just that: keep none unless told to, and show none in a repr.
"""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field

# Far more than a test looks back, and a few bodies of the largest size that is accepted.
MAX_RECORDS = 256
MAX_RECORDED_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request, as it came: header names in lower case, in order, repeated where they were repeated."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The values of a header, joined; None if it is not there."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    def as_json(self) -> dict[str, object]:
        return {
            "method": self.method,
            "path": self.target,
            "headers": self.headers,
            "body": base64.b64encode(self.body).decode(),
        }


class Records:
    """The last requests; the oldest go when there are too many or they are too large."""

    def __init__(self) -> None:
        self._kept: deque[Recorded] = deque()
        self._bytes = 0

    def keep(self, recorded: Recorded) -> None:
        self._kept.append(recorded)
        self._bytes += len(recorded.body)
        while len(self._kept) > MAX_RECORDS or (self._bytes > MAX_RECORDED_BYTES and len(self._kept) > 1):
            self._bytes -= len(self._kept.popleft().body)

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def all(self) -> tuple[Recorded, ...]:
        return tuple(self._kept)
