"""Who is calling, as far as the rest of the house must know."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .noun import noun

Level: TypeAlias = Literal["tenant", "team", "user", "key"]
"""Where a policy stands. Those of all levels hold at once: each narrows."""


@noun
class Principal:
    tenant: str
    key_id: str
    """The key's label, or how a caller without a key proved who it is: it may stand in logs and metrics; the key itself
    may not."""
    models: tuple[str, ...] = ("*",)
    """Names or globs of the models that this caller may ask for."""
    team: str | None = None
    """Within the tenant."""
    user: str | None = None
    roles: tuple[str, ...] | None = None
    """Names of config's roles, of which one must allow all of a call. None: no role bounds this caller; (): it has
    none, and may do nothing."""
