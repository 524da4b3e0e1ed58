"""The port of an upstream credential.

A `Credential` returns headers for a request, without IO. A credential that must be fetched and renewed, such as a token
or temporary keys, is fetched by a `CredentialRefresher` (refresh.py) in the background.

Secrets leave this package only in these headers. No `repr`, error or log line contains them.
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
class UnsignedRequest:
    """A request as the host will receive it, without its credential. A signature covers it."""

    method: str
    host: str
    """The value of the Host header."""
    path: str
    """As it is sent: escaped, with the query."""
    body: bytes = b""


class Credential(Protocol):
    def headers(self, request: UnsignedRequest) -> Pairs:
        """The headers with the credential, names in lower case. Raises Unavailable if there is no valid credential
        now."""
        ...


@dataclass(frozen=True, slots=True)
class FetchedCredential(Generic[T]):
    """A fetched credential and when it expires. Times are Unix time in seconds; None: never."""

    value: T = field(repr=False)
    expires_at: float | None = None
    refresh_at: float | None = None
    """When to fetch it again. None: some time before `expires_at`."""


Fetch: TypeAlias = Callable[[], Awaitable[FetchedCredential[T]]]
"""Fetches a credential. It may raise any exception; only the name of the exception's class is reported."""


@dataclass(frozen=True, slots=True)
class CredentialSettings:
    """The validated configuration of one provider's credential."""

    provider: str
    service: str
    """The provider's service, from `ProviderKind.credentials`. AWS signatures contain it."""
    region: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Callable[[], str]] = field(default_factory=dict, repr=False)
    """Each returns the current secret: a file may be replaced."""


class RefreshedCredential(Protocol):
    """Registers `fetch` with a refresher, and returns a function that returns the current value."""

    def __call__(self, fetch: Fetch[T]) -> Callable[[], T]: ...


class CredentialKind(ABC):
    """The base class of PLUGIN. The name of the file is the configuration's `credential.kind`."""

    fields: frozenset[str] = frozenset()
    """The fields of `credential` that this kind has, besides `kind`."""

    def check(self, names: Collection[str]) -> tuple[str, str] | None:
        """What is wrong with this combination of fields, and how to correct it. None: it is valid."""
        del names
        return None

    def required_extra(self, names: Collection[str]) -> Extra | None:
        """The extra that brings the library of this kind, for this choice of fields; None if it needs none."""
        del names
        return None

    @abstractmethod
    def build(
        self, settings: CredentialSettings, refreshed: RefreshedCredential, clock: Callable[[], float]
    ) -> Credential:
        """Raises ConfigError. Its extra is installed. Fetches nothing yet."""
