"""A secret in a file that may be replaced while the gateway runs, such as a mounted Kubernetes secret."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from .base import FetchedCredential

# Seconds between two checks of the file.
REFRESH_INTERVAL = 2.0
# The same limit as in the configuration.
MAX_BYTES = 64 * 1024


class SecretFile:
    """Reads the file when it has changed. If it cannot be read or contains no secret, the fetch fails, and the old
    secret stays in use."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._stamp: tuple[int, int, int] | None = None
        self._text = ""

    async def __call__(self) -> FetchedCredential[str]:
        await asyncio.to_thread(self._read)
        return FetchedCredential(self._text, None, self._clock() + REFRESH_INTERVAL)

    def _read(self) -> None:
        stat = self._path.stat()
        now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if now == self._stamp:
            return
        with self._path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode().removesuffix("\n").removesuffix("\r")
        if len(raw) > MAX_BYTES or not re.fullmatch(r"[\x20-\x7e]+", text):
            raise ValueError("the file contains no secret")
        self._text, self._stamp = text, now
