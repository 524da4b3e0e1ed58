"""The identity of a caller, as the stages after authentication see it."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from .frozen_dataclass import frozen_dataclass

Level: TypeAlias = Literal["tenant", "team", "user", "key"]
"""The level of a policy or limit. Those of all levels apply together: each one narrows."""


@frozen_dataclass
class Principal:
    """An authenticated caller."""

    tenant: str
    key_id: str
    """The label of the key or, without a key, of the authentication method. It may appear in logs and metrics; the key
    itself may not."""
    models: tuple[str, ...] = ("*",)
    """Names or globs of the models that this caller may use."""
    team: str | None = None
    """The team within the tenant."""
    user: str | None = None
    roles: tuple[str, ...] | None = None
    """Names of configured roles. One of them must allow the whole call. None: roles do not restrict this caller. ():
    the caller has no role and may do nothing."""
    run: str | None = None
    """The run that the caller's token names: all its calls are a part of it."""
    run_parent: str | None = None
    """The run that `run` is a part of."""
    audiences: tuple[str, ...] | None = field(default=None, compare=False)
    """The configured audiences of the caller's token. None: it has sent no token of an issuer. Another token makes no
    other caller."""
