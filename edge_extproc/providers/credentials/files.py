"""A secret in a file that may be written anew while we run: mounted secrets of Kubernetes, a rotating agent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from .base import HeldCredential

# A file that was changed holds within this time.
LOOK_AGAIN = 2.0
# As in config: more is another file.
MAX_BYTES = 64 * 1024


class SecretFile:
    """Reads the file when it has changed. A file that cannot be read, or holds no secret, is a failed fetch: the old
    secret stands."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._text = ""

    async def __call__(self) -> HeldCredential[str]:
        await asyncio.to_thread(self._look)
        return HeldCredential(self._text, None, self._clock() + LOOK_AGAIN)

    def _look(self) -> None:
        stat = self._path.stat()
        now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if now == self._seen:
            return
        with self._path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode().removesuffix("\n").removesuffix("\r")
        if len(raw) > MAX_BYTES or not re.fullmatch(r"[\x20-\x7e]+", text):
            raise ValueError("the file holds no secret")
        self._text, self._seen = text, now
