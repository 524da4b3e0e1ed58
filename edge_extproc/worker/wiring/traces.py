"""`telemetry.otlp` of a configuration becomes traces, or nothing: then nothing of OpenTelemetry is loaded."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import __version__, registry
from ...config.provider import ProviderConfig
from ...config.schema import Config
from ...errors import ConfigError

if TYPE_CHECKING:
    from ...telemetry.traces import Traces


def build_traces(config: Config, index: int) -> Traces | None:
    """Of the worker with this index. Raises ConfigError where the packages for it are not installed."""
    wanted = config.telemetry.otlp
    if wanted is None:
        return None
    try:
        from ...telemetry import traces
    except ImportError as error:
        raise ConfigError(
            "telemetry.otlp needs packages that are not installed: pip install 'edge-extproc[otel]'"
        ) from error
    return traces.Traces(
        traces.TraceSettings(
            endpoint=wanted.endpoint,
            protocol=wanted.protocol,
            headers={name: secret.reveal for name, secret in wanted.headers.items()},
            ratio=wanted.sampling / 100,
            service=wanted.service,
            version=__version__,
            instance=f"{socket.gethostname()}-{os.getpid()}-{index}",
            environment=wanted.environment,
            content=wanted.content,
            flavours=wanted.attributes,
            metrics=wanted.metrics,
            hosts={
                name: traces.TracedHost(conventional(provider), provider.endpoint.host, provider.endpoint.port)
                for name, provider in config.providers.items()
            },
        )
    )


def change_traces(traces: Traces, config: Config) -> None:
    """To what another configuration says of sampling and of what is told."""
    wanted = config.telemetry.otlp
    if wanted is not None:
        traces.change(wanted.sampling / 100, content=wanted.content, flavours=wanted.attributes)


def conventional(provider: ProviderConfig) -> str:
    """gen_ai.provider.name of OpenTelemetry's conventions: the `otel_name` of the host or the kind; where it has none,
    the name that the configuration uses for it."""
    kind = registry.load("providers", provider.kind)
    if provider.host is not None:
        return kind.hosts[provider.host].otel_name or provider.host
    return getattr(kind, "otel_name", "") or provider.kind


def unary_interceptors(traces: Traces) -> Sequence[Any]:
    """Spans of the gRPC services that are no streams."""
    from ...telemetry.traces import interceptors

    return interceptors(traces)
