"""The port of a host.

A provider says which wire formats its host speaks, turns a body in one of them into the request that the host takes,
and takes the host's own framing off the answer. It does not know who called, which lane the body came over, or Envoy.
Its credential goes into the headers returned here and nowhere else.

A file of this room is a kind of host: it exports PLUGIN, a `ProviderKind`, which config names as `kind`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from string import Formatter
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from .. import registry
from ..model.call import Operation
from ..model.default_provider import DefaultProvider
from ..model.host import HostProfile
from ..model.noun import noun
from .credentials.base import Credential


@noun
class ProviderSettings:
    """What config says of one provider, checked."""

    name: str
    base_url: str
    """http(s)://host[:port]/path, without a query."""
    api_key: Callable[[], str] | None
    """Gives the key when it is needed, so that no copy of it lies about."""
    options: Mapping[str, str] = field(default_factory=dict)
    credential: Credential | None = None
    """What config names as `credential`: it goes instead of a key."""
    like: HostProfile | None = None
    """What config says to begin with, instead of what the kind knows of the host."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What config says of the host itself: fields of HostProfile by name."""

    def profile(self, known: HostProfile) -> HostProfile:
        """What the kind knows of the host, with what config says instead."""
        known = self.like or known
        return replace(known, **self.facts) if self.facts else known

    @property
    def authority(self) -> str:
        """The host of `base_url` as a Host header spells it, without the port that is the scheme's own."""
        split = urlsplit(self.base_url)
        host = split.hostname or ""
        host = f"[{host}]" if ":" in host else host
        own = 443 if split.scheme == "https" else 80
        return host if split.port in (None, own) else f"{host}:{split.port}"


@noun
class UpstreamCall:
    """What a host shall be asked, in the words of a wire format that it speaks."""

    operation: Operation
    dialect: str
    model: str
    """As this host names it."""
    stream: bool
    path: str
    """Where the dialect says that such a call goes, below the base URL. A host may have its own place for it."""
    body: bytes
    method: str = "POST"
    betas: tuple[str, ...] = ()
    """What the caller switched on by a header, where it speaks this dialect itself."""


@noun
class UpstreamRequest:
    """The full set of what this host must see: headers of an earlier attempt are removed."""

    path: str
    """With the base path and the query."""
    headers: tuple[tuple[str, str], ...]
    """Set whatever the caller sent. Content-type and content-length are not among them."""
    defaults: tuple[tuple[str, str], ...]
    """Set where the caller's own headers, as far as they may travel, do not say."""
    body: bytes
    dropped: tuple[str, ...] = ()
    """What of the caller's this host cannot be told, besides what the dialect could not carry."""
    removed: tuple[str, ...] = ()
    """Headers of the caller's own that this host must not see."""


class Unframer(Protocol):
    """Takes a host's own framing off a stream, so that the stream of the dialect is left."""

    def feed(self, data: bytes) -> bytes:
        """The dialect's own bytes that `data` completes. Raises UpstreamError where the framing is broken."""
        ...

    def close(self) -> bytes:
        """The stream is over. Raises UpstreamError where it ends within a frame."""
        ...


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str:
        """The plugin's name; prices are looked up under `price_list`."""
        ...

    @property
    def price_list(self) -> str:
        """Under which name the price table knows this host."""
        ...

    def formats(self, operation: Operation, model: str) -> tuple[str, ...]:
        """The wire formats in which this host takes such a call, the most natural one first; empty where it takes none
        at all."""
        ...

    @property
    def profile(self) -> HostProfile: ...

    def request(self, asked: UpstreamCall) -> UpstreamRequest: ...

    def unframe(self, dialect: str, content_type: str) -> Unframer | None:
        """None where an answer of this type, to a call in this dialect, comes in the dialect's own framing: nearly
        everywhere."""
        ...


@noun
class HostAddress:
    """One of many hosts of a kind: a row of data."""

    base_url: str
    price_list: str
    needs_key: bool = True
    gen_ai_provider: str = ""
    """As `ProviderKind.gen_ai_provider`; "" for the host's own name."""


class ProviderKind(ABC):
    """Base class of what a file of this room exports as PLUGIN. The configuration and telemetry know no kind by name:
    they read these attributes."""

    default_base_url: str | None = None
    """None if the configuration must give one. `{region}`, or the name of another option, stands for its value."""
    needs_key: bool = True
    hosts: Mapping[str, HostAddress] = MappingProxyType({})
    """The hosts that the configuration may name instead of an address; empty for a kind that is one host."""
    apis: Mapping[str, str] = MappingProxyType({})
    """The values of `api` in the configuration, and the wire format of each."""
    options: frozenset[str] = frozenset()
    """The provider options that this kind has. `region`, `api_version`, `project` and `account` are keys of a provider
    in the configuration; any other name is a key of its `options`."""
    required_options: tuple[str, ...] = ()
    """Options that must always be given."""
    credentials: Mapping[str, str] = MappingProxyType({})
    """The values of `credential.kind` that this kind takes, and the service that each is for."""
    required_with_credential: tuple[str, ...] = ()
    """Options that must be given with a credential, wherever the host is."""
    gen_ai_provider: str = ""
    """`gen_ai.provider.name` of OpenTelemetry's conventions; "" for the kind's own name."""
    profiles: Mapping[str, HostProfile] = MappingProxyType({})
    """What is known of this kind's hosts, by the names that `profile.like` of the configuration may give."""
    default: DefaultProvider | None = None
    """What is served without a configuration file, if a key alone is enough."""

    def address_template(self, options: Mapping[str, str]) -> str | None:
        """The address before `address` fills in the options."""
        host = options.get("host")
        return self.hosts[host].base_url if host is not None else self.default_base_url

    def address(self, options: Mapping[str, str]) -> str | None:
        """The base URL for these options of the configuration; None if this kind has no address of its own."""
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
    """`gen_ai.provider.name` of a provider of this kind and, of a kind with many, this host."""
    plugin: ProviderKind = registry.load("providers", kind)
    if host is not None:
        return plugin.hosts[host].gen_ai_provider or host
    return plugin.gen_ai_provider or kind


def base_path(url: str) -> str:
    """The path of a base URL without its last slash: what a dialect's path is appended to."""
    split: SplitResult = urlsplit(url)
    return split.path.rstrip("/")
