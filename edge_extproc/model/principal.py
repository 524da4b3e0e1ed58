"""Who is calling, as far as the rest of the house must know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    tenant: str
    key_id: str
    """The key's label: it may stand in logs and metrics; the key itself may not."""
    models: tuple[str, ...] = ("*",)
    """Names or globs of the models that this caller may ask for."""
    team: str | None = None
    """Within the tenant."""
