"""The ports of authentication (headers in, `Principal` out) and authorization.

An authenticator gets only the headers of a request, and does no IO while a request waits. Its errors never contain a
credential or a part of one, because their text goes to the caller and to the log.

A plugin file of this package is a method of authentication. It exports PLUGIN, an `AuthenticatorKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from ..model.call import Call, Operation
from ..model.plan import Candidate
from ..model.principal import Principal
from .mcp_access import McpKind

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Names are in lower case. Bytes that are not UTF-8 are surrogate escapes."""

Clock: TypeAlias = Callable[[], float]
"""Unix time in seconds."""


class Authenticator(Protocol):
    def authenticate(self, headers: Headers) -> Principal:
        """The caller of a request with these headers. Raises Unauthenticated, whose `code` is one of the plugin's
        REASONS, or BadRequest."""
        ...


class CallerRights(Protocol):
    """The permissions of one caller."""

    @property
    def admin(self) -> frozenset[str]:
        """Rights on the admin API: viewer, tenant_admin, admin."""
        ...

    def may_do(self, operation: Operation) -> None:
        """Checks the operation before the body is read. Raises Forbidden."""
        ...

    def may_use(self, server: str, kind: McpKind | None, name: str) -> None:
        """Checks a tool, prompt or resource of an MCP server; without a kind, the server. Raises Forbidden."""
        ...

    @property
    def restricts_operations(self) -> bool:
        """Whether there are operations that this caller may not use."""
        ...

    def may_list(self, model: str) -> bool: ...

    def narrow(self, call: Call, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """The candidates that may serve this call, at least one. Raises Forbidden with the violated rule."""
        ...


class AccessControl(Protocol):
    def of(self, principal: Principal) -> CallerRights | None:
        """The permissions of a caller. None if only `principal.models` restricts it."""
        ...


@dataclass(frozen=True, slots=True)
class KeySettings:
    """The validated configuration of one key. Exactly one of `secret` and `digest` is set."""

    id: str
    """A label, which may appear in logs and metrics."""
    tenant: str
    secret: Callable[[], str] | None = None
    """Returns the key itself. It is called once, and the key is not stored."""
    digest: str | None = None
    """The stored form of the key."""
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
    """It is stored separately from the keys: without it, their digests are useless."""


class AuthenticatorKind(Protocol):
    """The interface of a plugin file of this package."""

    def build(self, settings: AuthSettings, clock: Clock) -> Authenticator: ...
