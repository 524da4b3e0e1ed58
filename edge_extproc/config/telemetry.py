"""The sections under `telemetry`: what is logged, and where traces go."""

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
        raise wrong("this is no URL", right) from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or url.query or url.fragment:
        raise wrong("this is no address of a collector", right)
    if url.username is not None or url.password is not None:
        raise wrong("this URL holds a user or a password", "leave it out, and give it in headers", show=False)
    return value.rstrip("/")


def _header(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", name):
        raise wrong("this is no header's name", "use up to 64 of a-z 0-9 -")
    return name


class LogConfig(ConfigSection):
    format: Annotated[Literal["json", "console"], one_of("json", "console")] = "json"
    level: Annotated[Literal["debug", "info", "warning", "error"], one_of("debug", "info", "warning", "error")] = "info"
    refused_per_second: Count = 100
    """How many access lines a worker writes in a second for credentials that are good for nobody (401); of the rest
    only the number is told, by edge_log_lines_spared. A flood of wrong keys shall not fill a disk."""


HeaderName = Annotated[Text, AfterValidator(_header)]


class OtlpConfig(ConfigSection):
    """Traces, and the GenAI metrics of OpenTelemetry, to any collector that takes OTLP."""

    endpoint: Annotated[Text, AfterValidator(_endpoint)]
    """Without a path for grpc; with http, /v1/traces and /v1/metrics are put behind it."""
    protocol: Annotated[Literal["grpc", "http"], one_of("grpc", "http")] = "grpc"
    headers: Annotated[Mapping[HeaderName, Secret], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Sent with each export. With any, Envoy makes no span of its own: its configuration would have to hold them."""
    allow_plaintext: Boolean = False
    """Send headers or content over http:// to another machine."""
    sampling: Percent = 100
    """Of the traces that begin here. One that a caller began is followed as the caller says."""
    service: Label = "edge-extproc"
    environment: Label | None = None
    content: Boolean = False
    """Put what was asked and answered into spans, redacted. Whoever reads traces then reads conversations."""
    attributes: tuple[Annotated[Flavour, one_of(*FLAVOURS)], ...] = ()
    """Say it in the words of these tools too, besides those of OpenTelemetry's GenAI conventions."""
    metrics: Boolean = True

    @model_validator(mode="after")
    def _private(self) -> OtlpConfig:
        url = urlsplit(self.endpoint)
        local = url.hostname in ("localhost", "127.0.0.1", "::1")
        if (self.headers or self.content) and url.scheme == "http" and not local and not self.allow_plaintext:
            raise wrong(
                "this URL would send headers or content unencrypted to another machine",
                "use https://, or say allow_plaintext: true",
                key="endpoint",
            )
        if self.protocol == "grpc" and url.path:
            raise wrong("a gRPC endpoint has no path", "leave it out, or use protocol: http", key="endpoint")
        return self


class TelemetryConfig(ConfigSection):
    log: LogConfig = LogConfig()
    otlp: OtlpConfig | None = None
    """Absent: no traces, and nothing of them is loaded."""
