"""The sections for Envoy: listener, limits of sizes and counts, timeouts, retries, and its process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, PlainSerializer, WithJsonSchema, model_validator

from ..model.envoy_names import RESERVED_RESPONSE_PREFIXES
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
    """Use a generated certificate, stored in <state_dir>/tls."""
    certificate: ReadableFile | None = None
    """A PEM file with the whole chain, the server's own certificate first."""
    private_key: ReadableFile | None = None
    """The key of the certificate, in PEM."""
    client_ca: ReadableFile | None = None
    """A PEM file with the authorities of client certificates. Absent: no client certificate is requested."""
    client_certificate: Annotated[Literal["optional", "required"], one_of("optional", "required")] = "optional"
    """Whether a caller without a client certificate is refused."""

    @model_validator(mode="after")
    def _either(self) -> TlsConfig:
        has_parts = (self.certificate is not None, self.private_key is not None)
        if self.generate and any(has_parts):
            raise wrong("both generate and a certificate are given", "leave one of them out")
        if not self.generate and not all(has_parts):
            raise wrong("a certificate and a private_key are needed", "give both, or generate: true")
        if self.client_certificate == "required" and self.client_ca is None:
            raise wrong("client certificates are required and cannot be verified", "give client_ca")
        return self


# scheme://host[:port] in lower case, without a path, as browsers send it.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z*]+")


def _origin(text: str) -> str:
    if text != "*" and _ORIGIN.fullmatch(text) is None:
        raise wrong("this is not an origin", "write https://app.example, without a path, or * for all")
    return text


def _some(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not origins:
        raise wrong("no origin is given", "write at least one, or leave cors out")
    return origins


class CorsConfig(ConfigSection):
    """Which web pages may call the gateway from a browser."""

    origins: Annotated[tuple[Annotated[Text, AfterValidator(_origin)], ...], AfterValidator(_some)]
    """Origins such as https://app.example. *: any origin."""


def _response_header(text: str) -> str:
    if re.fullmatch(r"[a-z0-9*][a-z0-9*-]{0,63}", text) is None:
        raise wrong("this is not a header's name", "write it in lower case, such as x-groq-region; * is a glob")
    if text == "set-cookie" or text.startswith(RESERVED_RESPONSE_PREFIXES):
        raise wrong("a provider must not send this header to callers", "leave it out")
    return text


ANY_ADDRESS = "::"
"""Every address of the machine, IPv4 and IPv6."""


class ListenerConfig(ConfigSection):
    """One address for callers."""

    address: IpAddress = "127.0.0.1"
    """The IP address to listen at. 0.0.0.0: every IPv4 address of the machine. "::": every address, IPv4 and IPv6."""
    port: Port = 10000
    """The port to listen at."""
    tls: TlsConfig | None = None
    """Absent: plain HTTP."""
    cors: CorsConfig | None = None
    """Absent: no web page may call the gateway."""


def listener_url(listener: ListenerConfig) -> str:
    """The URL of a listener as this machine reaches it."""
    host = "127.0.0.1" if ip_address(listener.address).is_unspecified else str(listener.address)
    written = f"[{host}]" if ":" in host else host
    return f"{'https' if listener.tls is not None else 'http'}://{written}:{listener.port}"


class ListenConfig(ListenerConfig):
    """The listeners: the gateway's addresses for callers."""

    more: tuple[ListenerConfig, ...] = ()
    """Further listeners. Each has its own tls and cors; all else is the same."""
    response_headers: tuple[Annotated[Text, AfterValidator(_response_header)], ...] = ()
    """Response headers of providers that callers also get, by name or glob, such as anthropic-ratelimit-*. Without
    them, callers get the headers that describe a reply, and no rate limits or names of the operator's account."""

    def listeners(self) -> tuple[tuple[str, ListenerConfig], ...]:
        """Each listener with the path of its settings."""
        return (("listen", self), *((f"listen.more[{n}]", each) for n, each in enumerate(self.more)))


class BodyLimitsConfig(ConfigSection):
    request_body: Size = Field(default="32MiB", validate_default=True)
    """The largest request body; a larger one gets status 413. The whole body is buffered, because a retry sends it
    again."""
    response_body: Size = Field(default="32MiB", validate_default=True)
    """The largest reply that is not a stream. Streams have no such limit."""
    request_headers: Annotated[Size, AfterValidator(_header_size)] = Field(default="60KiB", validate_default=True)
    """The largest size of all request headers together. Envoy refuses more. 1KiB to 8MiB."""
    request_header_count: Count = 100
    """The most request headers."""
    messages: Count = 10_000
    """The most messages of one chat. More get status 413, as with the next three limits. They bound the cost of parsing
    and translating a body. The longest agent runs have some thousands."""
    parts: Count = 20_000
    """The most content parts of all messages of one chat."""
    tools: Count = 2_000
    """The most tools of one chat."""
    json_values: Count = 500_000
    """The most values of one body: members of objects and elements of lists. It allows the longest token list of an
    OpenAI embeddings request."""
    message_timeout: PositiveDuration = timedelta(seconds=5)
    """How long Envoy waits for the agent's answer to one message."""
    connections: Count = 10_000
    """The most concurrent connections of callers."""
    streams_per_connection: Count = 100
    """The most concurrent requests on one HTTP/2 connection."""
    sockets: Count = 1_000
    """The most WebSocket sessions of one tenant in one worker; one more gets status 429."""


class TimeoutsConfig(ConfigSection):
    connect: PositiveDuration = timedelta(seconds=5)
    """The longest time of a connection to a provider, with TLS."""
    first_byte: PositiveDuration = timedelta(seconds=600)
    """The longest time of one attempt until the provider's response begins. A reply that is not a stream begins when it
    is complete."""
    stream_idle: PositiveDuration = timedelta(seconds=600)
    """The longest time without any data on a request in progress. Both values are the defaults of the providers'
    SDKs."""
    request: Duration = timedelta(0)
    """The longest time of a request with all attempts. 0s: no limit, so that long streams are not cut."""
    socket: PositiveDuration = timedelta(minutes=60)
    """The longest time of a WebSocket session. OpenAI ends its own after 60 minutes."""
    socket_idle: PositiveDuration = timedelta(minutes=10)
    """The longest time without any data on a WebSocket, in either direction. Pings are data."""
    receive: PositiveDuration = timedelta(seconds=60)
    """The longest time in which a caller must have sent its request."""
    receive_headers: PositiveDuration = timedelta(seconds=10)
    """The longest time in which a caller must have sent its request headers. Also that of a TLS handshake or, without
    TLS, of the first request line."""
    client_idle: PositiveDuration = timedelta(minutes=15)
    """How long a caller's connection may be idle."""


class BackOffConfig(ConfigSection):
    base: PositiveDuration = timedelta(milliseconds=100)
    """The wait before the first retry. It doubles with each further one, and a random part is removed."""
    max: PositiveDuration = timedelta(seconds=10)
    """The longest wait."""

    @model_validator(mode="after")
    def _ordered(self) -> BackOffConfig:
        if self.max < self.base:
            raise wrong("max is shorter than base", "make it as long or longer")
        return self


class RetryBudgetConfig(ConfigSection):
    """The most concurrent retries of a provider's requests. When a provider is down, all its requests are retried
    elsewhere; with Envoy's defaults (20 %, 3), callers would get its errors."""

    percent: Percent = 100
    """The most retries, as a percentage of the active requests."""
    min_concurrency: Count = 1000
    """This many retries are always allowed."""


class RetriesConfig(ConfigSection):
    attempts: Annotated[Count, AfterValidator(_attempts)] = 3
    """The most attempts of one request, over all candidates."""
    back_off: BackOffConfig = BackOffConfig()
    """The wait before a retry."""
    on_status: tuple[ErrorStatus, ...] = (401, 402, 403, 408, 409, 429, 529)
    """The status codes that are retried, besides every 5xx, resets and refused connections. 401, 402 and 403 concern
    the provider's credential, so they are retried only with another candidate."""
    retry_after: PositiveDuration = timedelta(seconds=60)
    """The longest Retry-After that is obeyed if no other provider is left. With a longer one, the back-off applies."""
    budget: RetryBudgetConfig = RetryBudgetConfig()
    """The most concurrent retries."""


class EnvoyAdminConfig(ConfigSection):
    """Envoy's admin interface, which can stop Envoy. Default: a Unix socket; or a port of 127.0.0.1."""

    socket: AnyPath | None = None
    """The path of the Unix socket. Default: <sockets>/envoy-admin.sock."""
    port: Port | None = None
    """A port of 127.0.0.1, instead of a socket."""

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
    """Major and minor version, in quotes: without them, 1.40 is the number 1.4."""
    istio: Text | None = None
    """The release of Istio, such as "1.30", instead of `version`, if the proxy is Istio's. Istio builds its own Envoy,
    which has fewer capabilities than the same version."""
    capabilities: tuple[Text, ...] | None = None
    """The capabilities of a proxy of your own build, instead of `version`. `edge-extproc render --target custom
    --capabilities FILE` prints them."""
    concurrency: Annotated[
        Count,
        automatic(max(1, cores() // 2)),
        WithJsonSchema(Automatic),
    ] = Field(default="auto", validate_default=True)
    """Envoy's worker threads. auto: half the cores, at least 1."""
    memory: Size | None = None
    """The size of Envoy's heap from which new requests get status 503 (at 95 %; at 90 % Envoy returns free memory).
    Absent: with `up`, 60 % of the memory of the machine or container; with `render`, no limit."""
    admin: EnvoyAdminConfig = EnvoyAdminConfig()
    """Where Envoy's admin interface listens."""
    log_level: LogLevel = "warning"
    """The level of Envoy's own log lines."""
    access_log: Text = "stdout"
    """stdout, off, or the path of a file."""
    source_limit: SourceLimitConfig | None = None
    """A request limit for each source address. Absent: no such limit."""
    raw: Annotated[Mapping[str, JsonValue], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Settings of Envoy that this file does not have, in snake_case. They are merged into the rendered bootstrap:
    objects by key, lists of named objects by name; other values are replaced."""

    @model_validator(mode="after")
    def _one_proxy(self) -> EnvoyConfig:
        if self.istio is not None and "version" in self.model_fields_set:
            raise wrong("both version and istio are given", "leave one of them out", key="istio")
        if self.capabilities is not None and (self.istio is not None or "version" in self.model_fields_set):
            raise wrong("both capabilities and a release are given", "leave one of them out", key="capabilities")
        return self
