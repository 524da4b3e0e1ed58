"""Records the last requests to the rehearsal provider, for tests.

Records contain credentials, because tests check them. So recording is off by default, and a repr shows no content.
"""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import dataclass, field

# More requests than a test inspects, and a few bodies of the maximum size.
MAX_RECORDS = 256
MAX_RECORDED_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it was received: header names in lower case, in order, with duplicates."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The joined values of a header. None: it is absent."""
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
    """The last requests. The oldest are removed when there are too many or they are too large."""

    def __init__(self) -> None:
        self._records: deque[Recorded] = deque()
        self._bytes = 0

    def add(self, recorded: Recorded) -> None:
        self._records.append(recorded)
        self._bytes += len(recorded.body)
        while len(self._records) > MAX_RECORDS or (self._bytes > MAX_RECORDED_BYTES and len(self._records) > 1):
            self._bytes -= len(self._records.popleft().body)

    def clear(self) -> None:
        self._records.clear()
        self._bytes = 0

    def all(self) -> tuple[Recorded, ...]:
        return tuple(self._records)
