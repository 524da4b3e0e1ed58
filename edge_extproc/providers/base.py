"""The port of a provider: a host that serves models.

A provider declares the wire formats of its host, turns a body in one of them into the host's request, and removes the
host's own framing from a stream. It does not know the caller, the lane or Envoy. Its credential is only in the headers
that it returns.

A file of this package is a kind of host. It exports PLUGIN, a `ProviderKind`, and its name is the configuration's
`kind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import lru_cache
from string import Formatter
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from .. import registry
from ..model.call import Operation
from ..model.default_provider import DefaultProvider
from ..model.frozen_dataclass import frozen_dataclass
from ..model.host import HostProfile
from .credentials.base import Credential


@frozen_dataclass
class ProviderSettings:
    """The validated configuration of one provider."""

    name: str
    base_url: str
    """http(s)://host[:port]/path, without a query."""
    api_key: Callable[[], str] | None
    """Returns the current key. It is called for each request, so that no copy is stored."""
    options: Mapping[str, str] = field(default_factory=dict)
    credential: Credential | None = None
    """The configured `credential`, used instead of a key."""
    like: HostProfile | None = None
    """The configured base profile, used instead of the kind's own."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """The configured differences: fields of HostProfile by name."""

    def profile(self, known: HostProfile) -> HostProfile:
        """The host's profile: `known`, the kind's own, with the configured changes."""
        known = self.like or known
        return replace(known, **self.overrides) if self.overrides else known

    @property
    def authority(self) -> str:
        """The value of the Host header: the host of `base_url`, and the port unless it is the scheme's default."""
        split = urlsplit(self.base_url)
        host = split.hostname or ""
        host = f"[{host}]" if ":" in host else host
        default = 443 if split.scheme == "https" else 80
        return host if split.port in (None, default) else f"{host}:{split.port}"


@frozen_dataclass
class UpstreamCall:
    """A call for a host, in a wire format that the host accepts."""

    operation: Operation
    dialect: str
    model: str
    """The host's name of the model."""
    stream: bool
    path: str
    """The dialect's path for the call, below the base URL. The host may use another path."""
    body: bytes
    method: str = "POST"
    betas: tuple[str, ...] = ()
    """The caller's beta flags, if the caller uses this dialect."""


@frozen_dataclass
class UpstreamRequest:
    """The complete request of one attempt. Headers of an earlier attempt are removed first."""

    path: str
    """With the base path and the query."""
    headers: tuple[tuple[str, str], ...]
    """Headers that replace the caller's. Content-type and content-length are not among them."""
    defaults: tuple[tuple[str, str], ...]
    """Headers that are set only if the caller's forwarded headers do not have them."""
    body: bytes
    dropped: tuple[str, ...] = ()
    """Fields of the caller that this host does not accept, in addition to those that the dialect lacks."""
    removed: tuple[str, ...] = ()
    """The caller's headers that this host must not get."""


class Unframer(Protocol):
    """Removes a host's own framing from a stream and returns the dialect's stream."""

    def feed(self, data: bytes) -> bytes:
        """The bytes of all frames that `data` completes. Raises UpstreamError for invalid framing."""
        ...

    def close(self) -> bytes:
        """Ends the stream. Raises UpstreamError if it ends within a frame."""
        ...


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """The plugin's name."""
        ...

    @property
    def price_list(self) -> str:
        """The host's name in the price table. "": the table does not have it."""
        ...

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        """The wire formats in which this host accepts such a call, the preferred one first. Empty: it accepts none."""
        ...

    @property
    def profile(self) -> HostProfile: ...

    def request(self, call: UpstreamCall) -> UpstreamRequest: ...

    def unframe(self, dialect: str, content_type: str) -> Unframer | None:
        """The unframer for a response of this content type to a call in this dialect. None: the response has the
        dialect's own framing, as with nearly all hosts."""
        ...


@frozen_dataclass
class HostAddress:
    """One of the hosts of a kind, as a row of a table."""

    base_url: str
    price_list: str
    needs_key: bool = True
    gen_ai_provider: str = ""
    """`gen_ai.provider.name` of OpenTelemetry's conventions. "": the host's own name."""


class ProviderKind(ABC):
    """The base class of PLUGIN. The configuration and telemetry read these attributes; they have no lists of kinds."""

    default_base_url: str | None = None
    """None: the configuration must give one. `{region}`, or the name of another option, is replaced by its value."""
    needs_key: bool = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    """The hosts that the configuration may name instead of an address. Empty: the kind is one host."""
    apis: Mapping[str, str] = MappingProxyType({})
    """The values of `api` in the configuration, and the wire format of each."""
    options: frozenset[str] = frozenset()
    """The provider options that this kind has. `region`, `api_version`, `project` and `account` are keys of a provider
    in the configuration; any other name is a key of its `options`."""
    required_options: tuple[str, ...] = ()
    """Options that must always be given."""
    credentials: Mapping[str, str] = MappingProxyType({})
    """The values of `credential.kind` that this kind accepts, each with its service (see CredentialSettings)."""
    required_with_credential: tuple[str, ...] = ()
    """Options that must be given with a credential, also with a `base_url`."""
    gen_ai_provider: str = ""
    """`gen_ai.provider.name` of OpenTelemetry's conventions. "": the kind's own name."""
    profiles: Mapping[str, HostProfile] = MappingProxyType({})
    """The profiles of this kind's hosts, by the names for `profile.like` in the configuration."""
    default: DefaultProvider | None = None
    """The models of the built-in configuration, for a kind that needs only a key."""
    has_sockets: bool = False
    """Whether its hosts may have OpenAI's APIs over WebSockets."""
    models_path: str | None = None
    """The path of the list of models below the base URL. A request for it costs nothing, and needs the key. None: the
    kind has no such list."""
    default_hosts: Mapping[str, DefaultProvider] = MappingProxyType({})
    """The same for a kind of many hosts, by the name of the host."""
    local_hosts: Mapping[str, str] = MappingProxyType({})
    """Hosts that the built-in configuration uses if they answer on this machine. The value is the environment variable
    with the host's address, as the host's own tools read it."""

    def address_template(self, options: Mapping[str, str]) -> str | None:
        """The address before `address` fills in the options."""
        host = options.get("host")
        return self.hosts[host].base_url if host is not None else self.default_base_url

    def address(self, options: Mapping[str, str]) -> str | None:
        """The base URL for these options of the configuration. None: this kind has no default address."""
        template = self.address_template(options)
        if template is None:
            return None
        return template.format_map({name: options.get(name, "") for name in placeholders(template)})

    def required(self, options: Mapping[str, str], *, with_credential: bool, own_address: bool) -> tuple[str, ...]:
        """The options that must be given. `own_address`: the configuration gives no `base_url`."""
        template = self.address_template(options) if own_address else None
        with_credentials = self.required_with_credential if with_credential else ()
        return (*self.required_options, *with_credentials, *placeholders(template or ""))

    @abstractmethod
    def build(self, settings: ProviderSettings) -> Provider: ...


def placeholders(template: str) -> tuple[str, ...]:
    """The names in braces."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name)


def gen_ai_provider(kind: str, host: str | None) -> str:
    """`gen_ai.provider.name` of a provider of this kind. `host`: its host, for a kind with many hosts."""
    plugin: ProviderKind = registry.load("providers", kind)
    if host is not None:
        return plugin.hosts[host].gen_ai_provider or host
    return plugin.gen_ai_provider or kind


@lru_cache
def base_path(url: str) -> str:
    """The path of a base URL without a final slash. A dialect's path is appended to it."""
    split: SplitResult = urlsplit(url)
    return split.path.rstrip("/")
