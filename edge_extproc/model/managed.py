"""What the admin API manages beside the configuration: keys, revocations, budgets, providers that
are taken out, and providers and models that were added.

It holds digests of keys, not keys. The supervisor writes it to a file (store/snapshot.py), and every worker reads it.
"""

from __future__ import annotations

from typing import Any

import msgspec


class ManagedKey(msgspec.Struct, frozen=True, array_like=True):
    id: str
    digest: str
    tenant: str
    team: str | None
    user: str | None
    models: tuple[str, ...]
    roles: tuple[str, ...]
    expires_ms: int | None


class ManagedBudget(msgspec.Struct, frozen=True, array_like=True):
    """The limits of one tenant, team, user or key. `allowance` has the keys of `limits` in the configuration."""

    tenant: str
    level: str
    name: str
    allowance: dict[str, Any]


class TakenOutProvider(msgspec.Struct, frozen=True, array_like=True):
    """A provider that gets no new attempts."""

    provider: str
    until_ms: int | None
    """Unix milliseconds. None: until an admin puts it back."""


class Additions(msgspec.Struct, frozen=True):
    """Providers and models that admins have added, by name, with the keys and values of the configuration file. They
    hold no secrets."""

    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}


NO_ADDITIONS = Additions()


class ManagedState(msgspec.Struct, frozen=True):
    revision: int = 0
    keys: tuple[ManagedKey, ...] = ()
    revoked: tuple[str, ...] = ()
    """Ids of configured keys that are no longer valid."""
    budgets: tuple[ManagedBudget, ...] = ()
    taken_out: tuple[TakenOutProvider, ...] = ()
    additions: Additions = NO_ADDITIONS


EMPTY = ManagedState()
