"""What an exchange asks of tracing."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, get_args

from ..model.trace import Parent, Trace

Flavour: TypeAlias = Literal["langfuse", "openinference"]
"""A set of span attributes besides those of OpenTelemetry's GenAI conventions."""
FLAVOURS: tuple[str, ...] = get_args(Flavour)


class Tracer(Protocol):
    content: bool
    """Whether a settlement shall tell what was said."""

    def begin(self, parent: Parent | None) -> Trace | None:
        """The span of a new exchange, or None where it is not to be traced."""
        ...
