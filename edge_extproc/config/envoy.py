"""What config says of Envoy: its door, its bounds, its patience, how it tries again, and its process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, PlainSerializer, WithJsonSchema, model_validator

from .part import Automatic, ConfigSection, IpAddress, Text, automatic, cores, frozen, one_of, thawed
from .paths import AnyPath, ReadableFile
from .quantities import Boolean, Count, Duration, ErrorStatus, Percent, Port, PositiveDuration, Size
from .source_limit import SourceLimitConfig
from .wrong import wrong


def _header_size(size: int) -> int:
    if not 1024 <= size <= 8192 << 10:
        raise wrong("this size is not between 1KiB and 8MiB", "60KiB is Envoy's own default")
    return size


def _attempts(count: int) -> int:
    if count > 20:
        raise wrong("this number is out of range", "write one from 1 to 20")
    return count


class TlsConfig(ConfigSection):
    """Either `generate`, or a certificate and its key."""

    generate: Boolean = False
    """Use a certificate of our own, kept in <state_dir>/tls."""
    certificate: ReadableFile | None = None
    """A PEM file with the whole chain, the server's own certificate first."""
    private_key: ReadableFile | None = None
    client_ca: ReadableFile | None = None
    """A PEM file with the authorities of client certificates; without it none is asked for."""
    client_certificate: Annotated[Literal["optional", "required"], one_of("optional", "required")] = "optional"

    @model_validator(mode="after")
    def _either(self) -> TlsConfig:
        given = (self.certificate is not None, self.private_key is not None)
        if self.generate and any(given):
            raise wrong("both generate and a certificate are given", "leave one of them out")
        if not self.generate and not all(given):
            raise wrong("a certificate and a private_key are needed", "give both, or generate: true for one of our own")
        if self.client_certificate == "required" and self.client_ca is None:
            raise wrong("a client certificate is required, and none could be verified", "give client_ca")
        return self


# scheme://host[:port], as browsers send it: nothing behind it, and lower case.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z*]+")


def _origin(text: str) -> str:
    if text != "*" and _ORIGIN.fullmatch(text) is None:
        raise wrong("this is no origin", "write https://app.example, without a path, or * for all")
    return text


def _some(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not origins:
        raise wrong("no origin is given", "write at least one, or leave cors out")
    return origins


class CorsConfig(ConfigSection):
    """Which web pages may call the gateway from a browser."""

    origins: Annotated[tuple[Annotated[Text, AfterValidator(_origin)], ...], AfterValidator(_some)]
    """As https://app.example; * is any."""


class ListenConfig(ConfigSection):
    """The gateway's door."""

    address: IpAddress = "127.0.0.1"
    port: Port = 10000
    tls: TlsConfig | None = None
    """Absent: plain HTTP."""
    cors: CorsConfig | None = None
    """Absent: no web page may."""


class BodyLimitsConfig(ConfigSection):
    request_body: Size = Field(default="32MiB", validate_default=True)
    """413 beyond it. The body is held whole: a retry sends it again."""
    response_body: Size = Field(default="32MiB", validate_default=True)
    """Of a reply that is not streamed; streams have none."""
    request_headers: Annotated[Size, AfterValidator(_header_size)] = Field(default="60KiB", validate_default=True)
    """All of them together; beyond it the request is cut off. Envoy counts in KiB, up to 8 MiB."""
    request_header_count: Count = 100
    messages: Count = 10_000
    """Of one chat. 413 beyond it, as beyond the next three; they bound what reading and translating a body costs. The
    longest runs of agents have some thousands."""
    parts: Count = 20_000
    """Of all messages of one chat."""
    tools: Count = 2_000
    json_values: Count = 500_000
    """Of one body: members of objects and elements of lists. Room for the most tokens that OpenAI embeds at once."""
    message_timeout: PositiveDuration = timedelta(seconds=5)
    """How long the agent may think about one message of Envoy's."""
    connections: Count = 10_000
    """Of callers, at one time."""
    streams_per_connection: Count = 100
    """Requests at one time over one HTTP/2 connection."""


class TimeoutsConfig(ConfigSection):
    connect: PositiveDuration = timedelta(seconds=5)
    first_byte: PositiveDuration = timedelta(seconds=600)
    """Of each try: until the provider's response begins. A reply that is not streamed begins when it is whole."""
    stream_idle: PositiveDuration = timedelta(seconds=600)
    """How long nothing may move on a request that is under way. Both are the default of the providers' own SDKs."""
    request: Duration = timedelta(0)
    """Of a whole request with all its tries; 0s: none, so that long streams are not cut."""
    receive: PositiveDuration = timedelta(seconds=60)
    """How long a caller may take to send a request."""
    receive_headers: PositiveDuration = timedelta(seconds=10)
    client_idle: PositiveDuration = timedelta(minutes=15)
    """How long a caller's connection may lie idle."""


class BackOffConfig(ConfigSection):
    base: PositiveDuration = timedelta(milliseconds=100)
    max: PositiveDuration = timedelta(seconds=10)

    @model_validator(mode="after")
    def _ordered(self) -> BackOffConfig:
        if self.max < self.base:
            raise wrong("max is shorter than base", "make it as long or longer")
        return self


class RetryBudgetConfig(ConfigSection):
    """How many of a provider's requests may be retries at one time. When a provider is down, all of its requests are
    retried elsewhere: Envoy's own defaults (20 %, 3) would hand its errors to callers."""

    percent: Percent = 100
    min_concurrency: Count = 1000


class RetriesConfig(ConfigSection):
    attempts: Annotated[Count, AfterValidator(_attempts)] = 3
    """All tries of one request, over all candidates."""
    back_off: BackOffConfig = BackOffConfig()
    on_status: tuple[ErrorStatus, ...] = (408, 409, 429, 529)
    """Besides every 5xx, resets and refused connections."""
    retry_after: PositiveDuration = timedelta(seconds=60)
    """The longest Retry-After that is waited for, where there is no other provider to ask. After a longer one, the
    back-off decides."""
    budget: RetryBudgetConfig = RetryBudgetConfig()


class EnvoyAdminConfig(ConfigSection):
    """Envoy's own admin interface, which can stop it: a Unix socket unless a port of 127.0.0.1 is given."""

    socket: AnyPath | None = None
    port: Port | None = None

    @model_validator(mode="after")
    def _either(self) -> EnvoyAdminConfig:
        if self.socket is not None and self.port is not None:
            raise wrong("both socket and port are given", "leave one of them out")
        return self


LogLevel = Annotated[
    Literal["trace", "debug", "info", "warning", "error", "critical", "off"],
    one_of("trace", "debug", "info", "warning", "error", "critical", "off"),
]


class EnvoyConfig(ConfigSection):
    version: Text = "1.40"
    """Major and minor, in quotes: 1.40 without them is the number 1.4."""
    istio: Text | None = None
    """The release of Istio, as "1.30", where its proxy asks the agent; in place of `version`. Istio builds its own
    Envoy, which can do less than that version."""
    concurrency: Annotated[
        Count,
        automatic(max(1, cores() // 2)),
        WithJsonSchema(Automatic),
    ] = Field(default="auto", validate_default=True)
    """Envoy's worker threads. auto: half the cores, at least 1."""
    admin: EnvoyAdminConfig = EnvoyAdminConfig()
    log_level: LogLevel = "warning"
    access_log: Text = "stdout"
    """stdout, off, or the path of a file."""
    source_limit: SourceLimitConfig | None = None
    """How much one address may send; as much as it likes where not given."""
    raw: Annotated[Mapping[str, JsonValue], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Merged into the rendered bootstrap: objects key by key, lists of things with a name by name, all else replaced.
    For what this file cannot say; Envoy's own field names, in snake_case."""

    @model_validator(mode="after")
    def _one_proxy(self) -> EnvoyConfig:
        if self.istio is not None and "version" in self.model_fields_set:
            raise wrong("both version and istio are given", "leave one of them out", key="istio")
        return self
