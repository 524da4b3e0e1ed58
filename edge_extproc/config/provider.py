"""Providers: address, credential and connection pool."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from .. import registry
from .credentials import UpstreamCredentialConfig
from .part import ConfigSection, Label, Text, frozen, one_of, thawed
from .paths import ReadableFile
from .quantities import Boolean, Count, PositiveDuration
from .secrets import Secret
from .wrong import wrong


def _provider_name(value: str) -> str:
    # It becomes a part of the name of an Envoy cluster. A dot would split the names of statistics.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise wrong(
            "this is not a provider's name", "use up to 64 of A-Z a-z 0-9 _ -, and begin with a letter or digit"
        )
    return value


def _http_version(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise wrong("this is not one of auto, true, false", "write auto to negotiate it with TLS")


def _kind(value: str) -> str:
    have = registry.names("providers")
    if value not in have:
        raise wrong(f"there is no such kind of provider; have {', '.join(have)}", "write one of them")
    return value


def _region(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value):
        raise wrong("this is not a region", "write one as its cloud does, such as us-east-1 or global")
    return value


def _api_version(value: str) -> str:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(?:-preview)?|preview|latest|v1", value):
        raise wrong("this is not an api version", "write one as Azure does, such as 2024-10-21")
    return value


def _segment(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}", value):
        raise wrong("this cannot be a part of a path", "write the id that the host's console shows")
    return value


def _header_safe(secret: Secret) -> Secret:
    # It is sent in a header, where another character would cause an error that does not name this setting.
    if not re.fullmatch(r"[\x20-\x7e]+", secret.reveal()):
        raise wrong(
            "this secret contains a character that is not allowed in an API key", "give printable ASCII on one line"
        )
    return secret


def _base_url(value: str) -> str:
    right = "write http(s)://host[:port]/path, such as https://api.openai.com/v1"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise wrong("this is not a URL", right) from None
    if url.scheme not in ("http", "https"):
        raise wrong("this URL does not begin with https:// or http://", right)
    if not url.hostname or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", url.hostname) or port == 0:
        raise wrong("this URL has no host", right)
    if url.username is not None or url.password is not None:
        raise wrong("this URL contains a user or a password", "leave it out, and give the key as api_key", show=False)
    if url.query or url.fragment or "?" in value or "#" in value:
        raise wrong("this URL has a query or a fragment", right)
    if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", url.path):
        raise wrong("this URL's path contains a character that is not allowed in a URL", right)
    return value.rstrip("/")


BaseUrl = Annotated[Text, AfterValidator(_base_url)]
HeaderSafe = Annotated[Secret, AfterValidator(_header_safe)]
"""A secret that is sent in a header."""


# Options of the built-in kinds that have fields of their own, each with its own check.


class ProviderTlsConfig(ConfigSection):
    ca: ReadableFile | None = None
    """A PEM file with the trusted authorities. Default: those of the system."""
    server_name: Text | None = None
    """The name in the server's certificate. Default: the host of base_url."""


class PoolConfig(ConfigSection):
    max_connections: Count = 4096
    """The most connections to this provider."""
    max_pending: Count = 10_000
    """The most requests that wait for a connection."""
    max_requests: Count = 20_000
    """The most concurrent requests, including open streams."""
    idle: PositiveDuration = timedelta(seconds=90)
    """How long a connection may be idle. It is shorter than the idle timeouts of providers and of the network, so that
    the gateway closes first."""
    http2: Annotated[Literal["auto"] | bool, BeforeValidator(_http_version)] = "auto"
    """auto: negotiated by TLS; HTTP/1.1 without TLS."""
    keepalive: PositiveDuration = timedelta(seconds=60)
    """Idle time before the first TCP probe. Without probes, NAT tables forget a connection that waits for a slow
    model."""
    dns_refresh: PositiveDuration = timedelta(seconds=30)
    """The interval of DNS lookups if the answer has no time to live."""


@dataclass(frozen=True, slots=True)
class ProviderEndpointConfig:
    """The address of a provider."""

    host: str
    port: int
    tls: bool

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """None: the host is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (self.ip is not None and self.ip.is_loopback)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def endpoint_of(url: str) -> ProviderEndpointConfig:
    """The address of a base URL."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return ProviderEndpointConfig(parts.hostname or "", parts.port or (443 if tls else 80), tls)


# Options that only some kinds of provider have, and a hint for each.
_OPTIONS = {
    "region": "give one, such as us-east-1",
    "api_version": "give one, such as 2024-10-21",
    "project": "give it: it is a part of every path",
    "account": "give the id that the host's console shows",
}


def _limit(value: object) -> object:
    return None if value == "none" else value


class HostProfileConfig(ConfigSection):
    """Differences between this host and the profile of its kind, for a proxy, an alias or a newer release."""

    like: Text | None = None
    """Start from the profile of another host; docs/profiles.md lists them."""
    user_limit: Annotated[
        Count | None, BeforeValidator(_limit, json_schema_input_type=Count | Literal["none"] | None)
    ] = None
    """The longest accepted id of an end user. none: no limit."""
    user_least: Count | None = None
    """The shortest accepted id of an end user."""
    strict_ids: Boolean | None = None
    """The host refuses ids of tool calls that are longer than OpenAI's."""
    thoughts: Annotated[Text, one_of("as_they_came", "refused", "reasoning_content", "reasoning_details")] | None = None
    """Unsigned reasoning in the history. as_they_came: sent only if the caller uses the same dialect. refused: never
    sent. Otherwise: always sent in this field."""
    thoughts_required: Boolean | None = None
    """The host refuses a message with tool calls and without reasoning."""
    thinking_switch: Boolean | None = None
    """It takes thinking with the type disabled, for the models that have this switch."""
    strict_messages: Boolean | None = None
    """The host refuses fields of a message that OpenAI's first chat format does not have."""
    refusals: Boolean | None = None
    """It takes the field refusal of a message."""
    developer_role: Boolean | None = None
    """It takes the role developer."""
    any_arguments: Boolean | None = None
    """It takes a call in the history whose arguments are no JSON object."""
    custom_tools: Boolean | None = None
    """It takes OpenAI's custom tools for the models that know them."""
    callers_tools: Boolean | None = None
    """As a host of OpenAI Responses, it takes custom tools, namespaces and shells of the caller. If false, a call with
    such tools is sent in its chat format."""
    hosted_tools: tuple[Annotated[Text, one_of("web_search", "web_fetch", "code_execution")], ...] | None = None
    """The tools that it executes itself and that callers of other formats may use there. []: none."""
    stores_replies: Boolean | None = None
    """It stores replies of OpenAI Responses, so the gateway does not (section `conversations`)."""
    server_tools: Boolean | None = None
    """As a host of Anthropic's format, it executes Anthropic's server tools."""
    models: Mapping[Text, Text] = Field(default_factory=dict)
    """Models of this provider, by name or glob, and the known model with the same capabilities, such as {my-alias:
    claude-sonnet-4-5}. The first match counts."""

    def overrides(self) -> dict[str, Any]:
        """The given values, as fields of a HostProfile."""
        set_fields = {name: getattr(self, name) for name in self.model_fields_set - {"like", "models"}}
        values = {name: value for name, value in set_fields.items() if value is not None or name == "user_limit"}
        if "thoughts" in values:
            values["thoughts"] = str(values["thoughts"]).replace("as_they_came", "as they came")
        if self.hosted_tools is not None:
            values["hosted_tools"] = frozenset(self.hosted_tools)
        if self.models:
            values["models"] = MappingProxyType(dict(self.models))
        return values


class ProviderConfig(ConfigSection):
    kind: Annotated[Text, AfterValidator(_kind)]
    """The kind of host, such as openai, anthropic, google, azure, vertex, bedrock or openai_compatible."""
    host: Text | None = None
    """A known host of a kind that has many (openai_compatible)."""
    base_url: BaseUrl | None = None
    """Default: the address of the host or of the kind."""
    api_key: HeaderSafe | None = None
    """The gateway's key at this provider."""
    credential: UpstreamCredentialConfig | None = None
    """A cloud credential instead of a key. It is renewed while the gateway runs."""
    region: Annotated[Text, AfterValidator(_region)] | None = None
    """The region of a cloud's host. It is a part of the address and of signatures."""
    api_version: Annotated[Text, AfterValidator(_api_version)] | None = None
    """For azure: with it, paths name a deployment; without it, the v1 API is used."""
    project: Annotated[Text, AfterValidator(_segment)] | None = None
    """For vertex: the cloud project. Without it, and with an api_key, express mode is used."""
    account: Annotated[Text, AfterValidator(_segment)] | None = None
    """For a host with an account id in its address (cloudflare)."""
    api: Text | None = None
    """The kind's API to which chats are sent, such as chat or responses of openai. Default: the caller's dialect if the
    host has it, otherwise the first API of the kind."""
    options: Annotated[Mapping[Label, Text], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Settings of a kind that another distribution adds, by the names that it declares in its `options`."""
    location: Label | None = None
    """A free name of its place, for policies that name regions. Default: the cloud's region."""
    allow_plaintext: Boolean = False
    """Send prompts and the key over http:// to another machine."""
    shared_account: Boolean = True
    """Tenants share this account: what it stores (files, batches, replies) belongs to the tenant that made it. false:
    the ids of such objects are not checked."""
    shared_objects: tuple[Text, ...] = ()
    """Ids of stored objects that all tenants may use, such as a prompt or vector store of the operator; * and ? are
    placeholders."""
    sockets: Boolean = False
    """Callers may open WebSockets to it, for sessions of OpenAI's Realtime and Responses APIs or of Google's Live API.
    false: status 426."""
    profile: HostProfileConfig = HostProfileConfig()
    """Differences from the built-in profile; docs/profiles.md lists the profiles."""
    tls: ProviderTlsConfig = ProviderTlsConfig()
    """How the provider's certificate is verified."""
    pool: PoolConfig = PoolConfig()
    """The connections to this provider."""

    @model_validator(mode="after")
    def _reachable(self) -> ProviderConfig:
        kind = registry.load("providers", self.kind)
        hosts = kind.hosts
        if self.host is not None and self.host not in hosts:
            if not hosts:
                raise wrong(f"kind {self.kind} has no hosts to choose from", "leave it out", key="host")
            raise wrong(f"there is no such host; have {', '.join(sorted(hosts))}", "write one of them", key="host")
        if self.api is not None and self.api not in kind.apis:
            raise wrong(
                f"kind {self.kind} has no such api; have {', '.join(kind.apis)}", "write one of them", key="api"
            )
        needs_key = hosts[self.host].needs_key if self.host is not None else kind.needs_key
        if self.base_url is None and kind.address(self.all_options()) is None:
            right = f"give base_url, or a host: {', '.join(sorted(hosts))}" if hosts else "give base_url"
            raise wrong(f"kind {self.kind} has no default address", right)
        # A server at a base_url may need no key.
        if self.api_key is None and self.credential is None and self.base_url is None and needs_key:
            raise wrong("api_key is missing", "give {env: NAME} or {file: path}")
        if self.sockets and not kind.has_sockets:
            raise wrong(f"kind {self.kind} has no WebSockets", "leave it out", key="sockets")
        self._check_profile()
        self._check_options(kind)
        self._check_credential(kind)
        endpoint = self.endpoint
        if not endpoint.tls and not endpoint.is_loopback and not self.allow_plaintext:
            raise wrong(
                "this URL would send prompts and keys unencrypted to another machine",
                "use https://, or set allow_plaintext: true",
                key="base_url",
            )
        return self

    def _check_profile(self) -> None:
        """Refuses a `like` that no kind of provider has a profile for."""
        like = self.profile.like
        if like is None:
            return
        known = sorted(
            {name for kind in registry.names("providers") for name in registry.load("providers", kind).profiles}
        )
        if like not in known:
            raise wrong(
                f"there is no profile of this name; have {', '.join(known)}", "write one of them", key="profile"
            )

    def _check_options(self, kind: Any) -> None:
        """Refuses options that this kind does not have, and the lack of one that it requires."""
        for name in _OPTIONS:
            if getattr(self, name) is not None and name not in kind.options:
                raise wrong(f"kind {self.kind} has no {name}", "leave it out", key=name)
        own_options = kind.options - _OPTIONS.keys()
        for name in self.options:
            if name not in own_options:
                have = f"; have {', '.join(sorted(own_options))}" if own_options else ""
                raise wrong(f"kind {self.kind} has no option {name!r}{have}", "leave it out", key="options")
        options = self.all_options()
        required = kind.required(
            options, with_credential=self.credential is not None, own_address=self.base_url is None
        )
        missing = next((name for name in required if name not in options), None)
        if missing is not None:
            is_own = missing not in _OPTIONS
            remedy = f"give it: kind {self.kind} needs it" if is_own else _OPTIONS[missing]
            raise wrong(f"{'options.' if is_own else ''}{missing} is missing", remedy)

    def _check_credential(self, kind: Any) -> None:
        if self.credential is None:
            return
        if self.credential.kind not in kind.credentials:
            have = f"; have {', '.join(kind.credentials)}" if kind.credentials else ""
            raise wrong(f"kind {self.kind} does not accept this credential{have}", "give api_key", key="credential")
        if self.api_key is not None:
            raise wrong("both api_key and credential are given", "leave one of them out")

    def all_options(self) -> dict[str, str]:
        """The options that are given, and the host, by name."""
        values = {name: getattr(self, name) for name in ("host", *_OPTIONS)}
        return {**self.options, **{name: value for name, value in values.items() if value is not None}}

    @property
    def url(self) -> str:
        """The base URL without a final slash."""
        if self.base_url is not None:
            return self.base_url
        url: str = registry.load("providers", self.kind).address(self.all_options())
        return url

    @property
    def endpoint(self) -> ProviderEndpointConfig:
        return endpoint_of(self.url)


ProviderName = Annotated[Text, AfterValidator(_provider_name)]
