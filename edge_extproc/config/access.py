"""Access: roles, and the policies of tenants, teams, users and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import AfterValidator, PlainSerializer

from ..model.call import Operation
from .part import ConfigSection, Text, frozen, one_of, thawed
from .quantities import Count
from .wrong import wrong

OPERATIONS: tuple[str, ...] = get_args(Operation)
FEATURES = ("tools", "images", "audio", "files", "web_search", "code_execution", "mcp")

Feature = Annotated[Literal[FEATURES], one_of(*FEATURES)]  # type: ignore[valid-type]  # a list in one place
AdminRight = Annotated[Literal["viewer", "tenant_admin", "admin"], one_of("viewer", "tenant_admin", "admin")]


def _operations(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in value if name not in OPERATIONS]
    if unknown:
        raise wrong(f"there is no such operation; have {', '.join(OPERATIONS)}", "write some of them")
    return value


class McpAccessConfig(ConfigSection):
    """What may be used of an MCP server. Nothing is allowed that is not named."""

    tools: tuple[Text, ...] = ()
    """Names or globs of tools."""
    prompts: tuple[Text, ...] = ()
    """Names or globs of prompts."""
    resources: tuple[Text, ...] = ()
    """URIs or globs of resources; of a template, its text."""


McpServers: TypeAlias = Annotated[Mapping[Text, McpAccessConfig], AfterValidator(frozen), PlainSerializer(thawed)]
"""By the name of the server or a glob. All that match count together."""


class PolicyConfig(ConfigSection):
    """The allowed values. A key that is not given does not restrict."""

    models: tuple[Text, ...] | None = None
    """Names or globs."""
    operations: Annotated[tuple[Text, ...], AfterValidator(_operations)] | None = None
    """chat, count_tokens, models (the list of models) and others."""
    features: tuple[Feature, ...] | None = None
    """What a call may use besides text."""
    max_tokens: Count | None = None
    """The most output tokens of a call. A call without such a bound is refused."""
    providers: tuple[Text, ...] | None = None
    """Names or globs of configured providers."""
    regions: tuple[Text, ...] | None = None
    """Names or globs of the providers' `location`, or of the region of their cloud."""
    mcp: McpServers | None = None
    """The MCP servers, by name or glob, and what may be used of each. It narrows `mcp` of the caller's tenant."""


class RoleConfig(PolicyConfig):
    admin: tuple[AdminRight, ...] = ()
    """Rights on the admin API."""
