"""What an exchange asks of tracing."""

from __future__ import annotations

from typing import Protocol

from ..model.trace import Parent, Trace


class Tracer(Protocol):
    content: bool
    """Whether a settlement shall tell what was said."""

    def begin(self, parent: Parent | None) -> Trace | None:
        """The span of a new exchange, or None where it is not to be traced."""
        ...
