"""The deviations of a host from other hosts of the same wire format, as data.

A provider has the profile of its host, the configuration may change it, and a dialect encodes requests according to it.
Deviations that depend on the model, not on the host, are in the tables of the dialects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, TypeAlias

from .frozen_dataclass import frozen_dataclass

Thoughts: TypeAlias = Literal["as they came", "refused", "reasoning_content", "reasoning_details"]


@frozen_dataclass
class HostProfile:
    """The default values are for an unknown host."""

    user_limit: int | None = None
    """The maximum length of the end user's id, in characters. The host refuses a request with a longer one."""
    strict_ids: bool = False
    """Whether the host refuses tool call ids that are longer than OpenAI's own."""
    thoughts: Thoughts = "as they came"
    """How unsigned thinking in the history is sent, in OpenAI's formats. "refused": it is not sent. A field name: it is
    sent in this field, also from callers of other formats. "as they came": only a caller of the same format can send
    it."""
    thoughts_required: bool = False
    """Whether the host refuses a message with tool calls and no reasoning. One of another model gets a substitute."""
    thinking_switch: bool = False
    """Whether the host takes `thinking: {"type": "disabled"}` in OpenAI's chat format, for models with this switch."""
    developer_role: bool = False
    """Whether the host takes the role `developer` in OpenAI's formats. Other hosts get `system`."""
    custom_tools: bool = True
    """Whether the host takes OpenAI's custom tools, for models that know them. Other hosts get functions."""
    any_arguments: bool = False
    """Whether the host takes a call in the history whose arguments are no JSON object, in OpenAI's chat format. Other
    hosts get an object with their text."""
    callers_tools: bool = True
    """Whether a host of OpenAI Responses takes the tools of callers that are no functions. If not, a call with such
    tools is sent in its chat format, where they are functions."""
    hosted_tools: frozenset[str] = frozenset()
    """The tools that the host executes and that callers of other formats may be offered there: web_search, web_fetch,
    code_execution."""
    stores_replies: bool = False
    """Whether the host stores replies and conversations, so that a later call can refer to them by their ids."""
    user_least: int = 0
    """The minimum length of the end user's id."""
    strict_messages: bool = False
    """Whether the host refuses fields of a message that OpenAI's first chat format does not have."""
    refusals: bool = False
    """Whether the host takes the field `refusal` of a message. Other hosts get its text as content."""
    server_tools: bool = True
    """Whether a host of Anthropic's format executes Anthropic's server tools, and takes their blocks in a history."""
    models: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Names of aliases, deployments and ARNs at this host (globs allowed), each with the known model behind it."""

    def known_as(self, model: str) -> str:
        """The name of a model of this host in the tables of models. The first matching glob counts."""
        if not self.models:
            return model
        return next((known for glob, known in self.models.items() if fnmatchcase(model, glob)), model)

    def takes_user(self, user: str) -> bool:
        """Whether the host takes this id of an end user."""
        return self.user_least <= len(user) and (self.user_limit is None or len(user) <= self.user_limit)


UNKNOWN_HOST = HostProfile()
