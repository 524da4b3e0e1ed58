"""The port of a host.

A provider says which wire formats its host speaks, turns a body in one of them into the request that the host takes,
and takes the host's own framing off the answer. It does not know who called, which lane the body came over, or Envoy.
Its credential goes into the headers returned here and nowhere else.

A file of this room is a kind of host: it exports PLUGIN, a `ProviderKind`, which config names as `kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from ..model.call import Operation
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


class ProviderKind(Protocol):
    """What a file of this room exports as PLUGIN."""

    @property
    def default_base_url(self) -> str | None:
        """None where config must give one."""
        ...

    @property
    def needs_key(self) -> bool: ...

    @property
    def hosts(self) -> Mapping[str, HostAddress]:
        """The hosts that config may name instead of an address; empty for a kind that is one host."""
        ...

    @property
    def apis(self) -> Mapping[str, str]:
        """What config may give as `api`, to the wire format that it stands for."""
        ...

    def build(self, settings: ProviderSettings) -> Provider: ...


def base_path(url: str) -> str:
    """The path of a base URL without its last slash: what a dialect's path is appended to."""
    split: SplitResult = urlsplit(url)
    return split.path.rstrip("/")
