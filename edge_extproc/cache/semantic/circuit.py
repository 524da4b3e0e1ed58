"""Stops the use of an embedder or of a store that fails, so that no call waits for it."""

from __future__ import annotations

# Failures in a row after which it is not used for a time.
_MAX_FAILURES = 5
# Seconds. After them, one use is a probe.
_PAUSE = 5.0


class FailureCircuit:
    """Counts failures in a row. `now`: a monotonic time in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._closed_again_at = 0.0
        self.reason: str | None = None
        """Why it is not used now. None: it is used."""

    def permits(self, now: float) -> bool:
        """Whether it may be used. At the end of a pause, the first question starts another pause, and may be sent."""
        if self.reason is None:
            return True
        if now < self._closed_again_at:
            return False
        self._closed_again_at = now + _PAUSE
        return True

    def succeeded(self) -> bool:
        """Returns whether it had not been used before."""
        was_down, self._failures, self.reason = self.reason is not None, 0, None
        return was_down

    def failed(self, reason: str, now: float) -> bool:
        """Returns whether it is not used from now on."""
        self._failures += 1
        if self._failures < _MAX_FAILURES or self.reason is not None:
            return False
        self.reason, self._closed_again_at = reason, now + _PAUSE
        return True
