"""The section `telemetry`: logs, traces and exported metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from ..telemetry.base import FLAVOURS, Flavour
from .part import ConfigSection, Label, Text, frozen, one_of, thawed
from .quantities import Boolean, Count, Percent
from .secrets import Secret
from .wrong import wrong


def _endpoint(value: str) -> str:
    right = "write http(s)://host:port, such as http://127.0.0.1:4317"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise wrong("this is not a URL", right) from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or url.query or url.fragment:
        raise wrong("this is not an address of a collector", right)
    if url.username is not None or url.password is not None:
        raise wrong("this URL contains a user or a password", "leave it out, and give it in headers", show=False)
    return value.rstrip("/")


def _header(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", name):
        raise wrong("this is not a header's name", "use up to 64 of a-z 0-9 -")
    return name


class LogConfig(ConfigSection):
    format: Annotated[Literal["auto", "json", "console"], one_of("auto", "json", "console")] = "auto"
    """The form of log lines and access lines. console: short lines for people. auto: console if the output is a
    terminal, otherwise json."""
    level: Annotated[Literal["debug", "info", "warning", "error"], one_of("debug", "info", "warning", "error")] = "info"
    """The least important level that is logged. It does not concern access lines."""
    refused_per_second: Count = 100
    """The most access log lines per second and worker for invalid credentials (401), so that a flood of wrong keys does
    not fill a disk. The metric edge_log_lines_spared counts the others."""


HeaderName = Annotated[Text, AfterValidator(_header)]


class OtlpConfig(ConfigSection):
    """Exports traces and OpenTelemetry's GenAI metrics to an OTLP collector."""

    endpoint: Annotated[Text, AfterValidator(_endpoint)]
    """With grpc, without a path. With http, /v1/traces and /v1/metrics are appended."""
    protocol: Annotated[Literal["grpc", "http"], one_of("grpc", "http")] = "grpc"
    """The protocol of the collector's endpoint."""
    headers: Annotated[Mapping[HeaderName, Secret], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Headers of each export. If there are any, Envoy makes no spans, because its configuration would have to contain
    them."""
    allow_plaintext: Boolean = False
    """Send headers or content over http:// to another machine."""
    sampling: Percent = 100
    """The percentage of sampled traces, for those that begin here. For a caller's trace, the caller decides."""
    service: Label = "edge-extproc"
    """The resource attribute service.name."""
    environment: Label | None = None
    """The resource attribute deployment.environment.name."""
    content: Boolean = False
    """Add the redacted content of prompts and replies to spans. Everyone who can read traces can then read it."""
    attributes: tuple[Annotated[Flavour, one_of(*FLAVOURS)], ...] = ()
    """Add the attributes of these tools, in addition to OpenTelemetry's GenAI conventions."""
    metrics: Boolean = True
    """false: only traces are exported."""

    @model_validator(mode="after")
    def _private(self) -> OtlpConfig:
        url = urlsplit(self.endpoint)
        local = url.hostname in ("localhost", "127.0.0.1", "::1")
        if (self.headers or self.content) and url.scheme == "http" and not local and not self.allow_plaintext:
            raise wrong(
                "this URL would send headers or content unencrypted to another machine",
                "use https://, or set allow_plaintext: true",
                key="endpoint",
            )
        if self.protocol == "grpc" and url.path:
            raise wrong("a gRPC endpoint has no path", "leave it out, or use protocol: http", key="endpoint")
        return self


class TelemetryConfig(ConfigSection):
    log: LogConfig = LogConfig()
    """The log lines of the gateway."""
    otlp: OtlpConfig | None = None
    """Absent: no traces, and OpenTelemetry is not imported."""
