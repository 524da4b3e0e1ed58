"""The port of an upstream credential.

A `Credential` turns what it holds into headers, at once and without IO: it runs within a request. Where what it holds
has to be fetched and renewed (a token, temporary keys), a `CredentialRefresher` (refresh.py) does that off the path.

Secrets leave this room only in the headers returned here: no `repr`, error or log line shows them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeAlias, TypeVar

from ...config.extras import Extra

T = TypeVar("T")

Pairs: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NoCredential:
    """A request as the host will see it, but for its credential: what a signature covers."""

    method: str
    host: str
    """As the Host header spells it, with the port where it is not the scheme's own."""
    path: str
    """As it goes on the wire: escaped, with the query."""
    body: bytes = b""


class Credential(Protocol):
    def headers(self, request: NoCredential) -> Pairs:
        """The headers that prove it, names in lower case. Raises Unavailable where nothing is held that still
        holds good."""
        ...


@dataclass(frozen=True, slots=True)
class HeldCredential(Generic[T]):
    """Something that proves who asks, and until when. Times are Unix time in seconds; None is never."""

    value: T = field(repr=False)
    expires_at: float | None = None
    look_again_at: float | None = None
    """When to fetch it again, where that does not follow from `expires_at`."""


Fetch: TypeAlias = Callable[[], Awaitable[HeldCredential[T]]]
"""Fetches it anew. May raise anything; only the class of what it raises is told."""


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """What config says of one provider's credential, checked."""

    provider: str
    service: str
    """What the kind of host says of itself to this kind of credential: to AWS, the name of the service that is in a
    signature."""
    region: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Callable[[], str]] = field(default_factory=dict, repr=False)
    """Each gives what holds now: a file may be written anew."""


class RefreshedCredential(Protocol):
    """Starts to hold what `fetch` gives, and gives what holds now (CredentialRefresher.current)."""

    def __call__(self, fetch: Fetch[T]) -> Callable[[], T]: ...


class CredentialKind(ABC):
    """Base class of what a file of this room exports as PLUGIN, for what config may name as `credential.kind`."""

    fields: frozenset[str] = frozenset()
    """The fields of `credential` that this kind has, besides `kind`."""

    def check(self, given: Collection[str]) -> tuple[str, str] | None:
        """What is wrong with the choice of fields, and what would be right; None if it can be used."""
        del given
        return None

    def required_extra(self, given: Collection[str]) -> Extra | None:
        """The extra that brings the library of this kind, for this choice of fields; None if it needs none."""
        del given
        return None

    @abstractmethod
    def build(self, settings: CredentialSettings, keep: RefreshedCredential, clock: Callable[[], float]) -> Credential:
        """Raises ConfigError. Its extra is installed. Fetches nothing yet."""
