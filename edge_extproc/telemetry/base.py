"""The tracing port: what an exchange needs to create spans."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, get_args

from ..model.trace import Parent, Trace

Flavour: TypeAlias = Literal["langfuse", "openinference"]
"""A set of span attributes besides those of OpenTelemetry's GenAI conventions."""
FLAVOURS: tuple[str, ...] = get_args(Flavour)


class Tracer(Protocol):
    """Starts the spans of exchanges."""

    content: bool
    """Whether settlements include the prompt and the reply."""

    def begin(self, parent: Parent | None) -> Trace | None:
        """The span of a new exchange, or None if it is not sampled. `parent` is the caller's traceparent."""
        ...
