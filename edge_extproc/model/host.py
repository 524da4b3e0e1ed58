"""What a host takes otherwise than other hosts of the same wire format, as data.

A provider gives the profile of its host, config may change it, and a dialect writes a request by it. What depends on
the model and not on the host is in the tables of the dialects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, TypeAlias

from .noun import noun

Thoughts: TypeAlias = Literal["as they came", "refused", "reasoning_content", "reasoning_details"]


@noun
class HostProfile:
    """The default is a host of which nothing is known."""

    user_limit: int | None = None
    """The greatest length of the id of an end user; a longer one makes the host refuse the request."""
    strict_ids: bool = False
    """It refuses ids of calls that are longer than OpenAI's own."""
    thoughts: Thoughts = "as they came"
    """What becomes of unsigned thinking in the history, in OpenAI's formats. A host that refuses it gets none. One that
    wants it back gets it under this name, from callers of other formats too. Else only a caller of the same format
    decides."""
    thoughts_required: bool = False
    """It refuses a message with tool calls that has no reasoning: one of another model's gets a substitute."""
    developer_role: bool = False
    """It takes the role `developer` in OpenAI's formats. Other hosts get `system`, which means the same."""
    models: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Names of models at this host, or globs of them, to the model whose facts hold: an alias, a deployment, an ARN."""

    def known_as(self, model: str) -> str:
        """The name by which the tables of models know a model of this host. The first glob that fits holds."""
        return next((known for glob, known in self.models.items() if fnmatchcase(model, glob)), model)


UNKNOWN_HOST = HostProfile()
