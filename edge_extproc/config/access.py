"""Access: roles, and the policies of tenants, teams, users and keys."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator

from ..model.call import Operation
from .part import ConfigSection, Text, one_of
from .quantities import Count
from .wrong import wrong

OPERATIONS: tuple[str, ...] = get_args(Operation)
FEATURES = ("tools", "images", "audio", "files", "web_search", "code_execution", "mcp")

Feature = Annotated[Literal[FEATURES], one_of(*FEATURES)]  # type: ignore[valid-type]  # the tuple is the one list of them
AdminRight = Annotated[Literal["viewer", "tenant_admin", "admin"], one_of("viewer", "tenant_admin", "admin")]


def _operations(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in value if name not in OPERATIONS]
    if unknown:
        raise wrong(f"there is no such operation; have {', '.join(OPERATIONS)}", "write some of them")
    return value


class PolicyConfig(ConfigSection):
    """What is allowed. A key that is not given sets no bound."""

    models: tuple[Text, ...] | None = None
    """Names or globs."""
    operations: Annotated[tuple[Text, ...], AfterValidator(_operations)] | None = None
    """chat, count_tokens, models (the list of them) and so on."""
    features: tuple[Feature, ...] | None = None
    max_tokens: Count | None = None
    """Of an answer; a call that does not bound its answer is refused."""
    providers: tuple[Text, ...] | None = None
    """Names or globs of this config's providers."""
    regions: tuple[Text, ...] | None = None
    """Names or globs of where providers are: their location, or the region of their cloud."""


class RoleConfig(PolicyConfig):
    admin: tuple[AdminRight, ...] = ()
    """Rights on the admin API."""
