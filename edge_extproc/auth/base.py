"""The port of authentication: headers in, `Principal` out.

An authenticator sees the headers of one request and nothing else of it; it does no IO of its own on the request's way.
What it raises never holds a credential or a part of one: its text goes to the caller and to the log.

A file of this room is a way of proving who one is: it exports PLUGIN, a `AuthenticatorKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ..model.call import Call, Operation
from ..model.plan import Candidate
from ..model.principal import Principal

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names in lower case. Bytes that are not UTF-8 came through surrogateescape."""

Clock: TypeAlias = Callable[[], float]
"""Unix time in seconds."""


class Authenticator(Protocol):
    def authenticate(self, headers: Headers) -> Principal:
        """Raises Unauthenticated, whose `code` is one of the plugin's stated reasons, or BadRequest."""
        ...


class CallerRights(Protocol):
    """What one caller may do."""

    @property
    def admin(self) -> frozenset[str]:
        """Rights on the admin API: viewer, tenant_admin, admin."""
        ...

    def may_do(self, operation: Operation) -> None:
        """Raises Forbidden, before there is a body."""
        ...

    def may_list(self, model: str) -> bool: ...

    def narrow(self, call: Call, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Those of `candidates` that may serve this call: one at least. Raises Forbidden, which says what is against
        it."""
        ...


class AccessControl(Protocol):
    def of(self, principal: Principal) -> CallerRights | None:
        """None where nothing is forbidden but what `principal.models` leaves out."""
        ...


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What config says of one key, checked. Exactly one of `secret` and `digest` is given."""

    id: str
    """A label; it may stand in logs and metrics."""
    tenant: str
    secret: Callable[[], str] | None = None
    """Gives the key itself; asked once, and not kept."""
    digest: str | None = None
    """The key as it is stored."""
    models: tuple[str, ...] = ("*",)
    expires_at: float | None = None
    """Unix time in seconds."""
    disabled: bool = False
    team: str | None = None
    user: str | None = None
    roles: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class AuthSettings:
    keys: tuple[KeySettings, ...]
    pepper: bytes = field(repr=False)
    """Kept apart from the stored keys: without it their digests are of no use."""


class AuthenticatorKind(Protocol):
    """What a file of this room exports as PLUGIN."""

    def build(self, settings: AuthSettings, clock: Clock) -> Authenticator: ...
