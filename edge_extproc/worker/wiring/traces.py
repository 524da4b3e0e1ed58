"""Builds the traces of a worker from `telemetry.otlp`. Without that section, OpenTelemetry is not imported."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...config.schema import Config
from ...providers.base import gen_ai_provider

if TYPE_CHECKING:
    from ...telemetry.traces import Traces


def build_traces(config: Config, index: int) -> Traces | None:
    """The traces of the worker with this index; None without that section."""
    otlp = config.telemetry.otlp
    if otlp is None:
        return None
    from ...telemetry import traces

    return traces.Traces(
        traces.TraceSettings(
            endpoint=otlp.endpoint,
            protocol=otlp.protocol,
            headers={name: secret.reveal for name, secret in otlp.headers.items()},
            ratio=otlp.sampling / 100,
            service=otlp.service,
            version=__version__,
            instance=f"{socket.gethostname()}-{os.getpid()}-{index}",
            environment=otlp.environment,
            content=otlp.content,
            flavours=otlp.attributes,
            metrics=otlp.metrics,
            hosts={
                name: traces.TracedHost(
                    gen_ai_provider(provider.kind, provider.host), provider.endpoint.host, provider.endpoint.port
                )
                for name, provider in config.providers.items()
            },
        )
    )


def change_traces(traces: Traces, config: Config) -> None:
    """Applies the sampling and the content of another configuration."""
    otlp = config.telemetry.otlp
    if otlp is not None:
        traces.change(otlp.sampling / 100, content=otlp.content, flavours=otlp.attributes)


def unary_interceptors(traces: Traces) -> Sequence[Any]:
    """They make spans for the unary gRPC services."""
    from ...telemetry.traces import interceptors

    return interceptors(traces)
