"""The section `mcp`: servers of the Model Context Protocol, their credentials and the prices of their tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from .limits import Dollars
from .part import ConfigSection, Text, frozen, thawed
from .provider import BaseUrl, HeaderSafe, PoolConfig, ProviderEndpointConfig, ProviderTlsConfig, endpoint_of
from .quantities import Boolean, PositiveDuration
from .wrong import wrong


def _server_name(value: str) -> str:
    # It is a part of the path and of the name of an Envoy cluster. A dot would split the names of statistics.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise wrong("this is not a server's name", "use up to 64 of A-Z a-z 0-9 _ -, and begin with a letter or digit")
    return value


def _origin(value: str) -> str:
    right = "write https://host, or https://host:port"
    try:
        url = urlsplit(value)
        host, _ = url.hostname, url.port  # raises ValueError for an invalid port
    except ValueError:
        raise wrong("this is not a URL", right) from None
    if url.scheme not in ("http", "https") or not host or not re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", url.netloc):
        raise wrong("this is not the URL of a host", right)
    if url.path not in ("", "/") or "?" in value or "#" in value:
        raise wrong("this URL has a path, a query or a fragment", right)
    return value.rstrip("/")


# They are the protocol's, Envoy's or the gateway's, or say how the body is to be read.
_NOT_OWN = re.compile(r"(?:mcp|x-edge|x-envoy|x-forwarded)-.*|content-.*|last-event-id|x-request-id|accept|host")
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


def _own_header(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", name):
        raise wrong("this is not a header's name", "use up to 64 of a-z 0-9 -")
    if _NOT_OWN.fullmatch(name) or name in _HOP_BY_HOP:
        raise wrong("this header has a meaning of its own, so it cannot be set", "leave it out")
    return name


OwnHeaders: TypeAlias = Annotated[
    Mapping[Annotated[Text, AfterValidator(_own_header)], HeaderSafe], AfterValidator(frozen), PlainSerializer(thawed)
]
Prices: TypeAlias = Annotated[Mapping[Text, Dollars], AfterValidator(frozen), PlainSerializer(thawed)]


class McpServerConfig(ConfigSection):
    """One server, at the path /mcp/NAME of the gateway."""

    base_url: BaseUrl
    """The URL of its MCP endpoint, such as https://mcp.example.com/mcp."""
    api_key: HeaderSafe | None = None
    """The gateway's own token for this server, sent as Authorization: Bearer. Absent: it gets none."""
    headers: OwnHeaders = Field(default_factory=dict, validate_default=True)
    """Further headers that only the server gets, such as {x-api-key: {env: NAME}}."""
    prices: Prices = Field(default_factory=dict, validate_default=True)
    """US dollars for one call of a tool, by name or by glob. An exact name wins, then the longest glob. A tool without
    a price costs nothing."""
    audiences: tuple[Text, ...] = ()
    """A token of `auth.jwt` must have one of them as its `aud`, such as the URL of the server here. Each must be among
    the issuer's audiences, too. Absent: those are enough. Keys have no audience."""
    allow_plaintext: Boolean = False
    """Send calls and the token over http:// to another machine."""
    timeout: PositiveDuration = timedelta(hours=1)
    """The longest time of one request, and of one stream of notifications."""
    idle_timeout: PositiveDuration = timedelta(minutes=10)
    """The longest time without data."""
    tls: ProviderTlsConfig = ProviderTlsConfig()
    """How the server's certificate is verified."""
    pool: PoolConfig = PoolConfig()
    """The connections to this server."""

    @model_validator(mode="after")
    def _consistent(self) -> McpServerConfig:
        if self.api_key is not None and "authorization" in self.headers:
            raise wrong("both api_key and the header authorization are given", "leave one of them out", key="headers")
        endpoint = self.endpoint
        if not endpoint.tls and not endpoint.is_loopback and not self.allow_plaintext:
            raise wrong(
                "this URL would send calls and the token unencrypted to another machine",
                "use https://, or set allow_plaintext: true",
                key="base_url",
            )
        return self

    @property
    def endpoint(self) -> ProviderEndpointConfig:
        return endpoint_of(self.base_url)

    @property
    def path(self) -> str:
        """The path of its MCP endpoint."""
        return urlsplit(self.base_url).path or "/"


McpServerName = Annotated[Text, AfterValidator(_server_name)]


class McpConfig(ConfigSection):
    url: Annotated[Text, AfterValidator(_origin)] | None = None
    """The gateway's own URL, as callers write it, for the metadata of OAuth. Default: the host of each request."""
    servers: Annotated[Mapping[McpServerName, McpServerConfig], AfterValidator(frozen), PlainSerializer(thawed)] = (
        Field(default_factory=dict, validate_default=True)
    )
    """The servers, by a name of your choice."""
