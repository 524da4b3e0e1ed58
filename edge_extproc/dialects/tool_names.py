"""Names of tools that every provider accepts.

OpenAI and Bedrock accept 64 letters, digits, `_` and `-`. Google's names begin with a letter or `_`, and may have dots
and colons; Anthropic's may be longer. A name that some provider refuses gets another one in a translated request, which
depends on the name alone, and has its own name again in the reply.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..model.call import Call, Chat, FunctionTool, Tool, ToolChoice
from ..model.content import Message, ToolCall

_LEGAL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_ILLEGAL_SIGN = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST = 64
_DIGEST = 8
# A body without such a value has no such name.
_ODD_NAME = re.compile(
    rb'"(?:name|allowedFunctionNames)"\s*:\s*\[?\s*"(?:[^"\\]{65}|[0-9-]|[^"\\]*(?:\\|[^a-zA-Z0-9_"-]))'
)


def legal_name(name: str) -> str:
    """The same name if every provider accepts it."""
    if _LEGAL.fullmatch(name) or not name:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    plain = _ILLEGAL_SIGN.sub("_", name)
    first = "" if plain[0].isalpha() or plain[0] == "_" else "_"
    return f"{first}{plain}"[: _LONGEST - _DIGEST - 1] + f"_{digest}"


def has_odd_name(call: Call) -> bool:
    """Whether a request may have a name that `legal_name` changes."""
    return _ODD_NAME.search(call.raw) is not None


def own_names(chat: Chat) -> Mapping[str, str]:
    """The caller's name of each tool whose name is another one in a translated request, by that name."""
    names = [tool.name for tool in chat.tools if isinstance(tool, FunctionTool)]
    return {legal: name for name in names if (legal := legal_name(name)) != name}


def with_legal_names(chat: Chat, *, has_calls: bool = True) -> Chat:
    """The chat with such a name for each tool and each call. `has_calls`: whether its messages may have calls."""
    if not has_calls and not chat.tools:
        return chat
    messages = chat.messages if has_calls else ()
    calls = [part.name for message in messages for part in message.parts if isinstance(part, ToolCall)]
    offered = [tool.name for tool in chat.tools if isinstance(tool, FunctionTool)]
    if all(legal_name(name) == name for name in (*calls, *offered)):
        return chat
    return replace(
        chat,
        tools=tuple(map(_named_tool, chat.tools)),
        tool_choice=None if chat.tool_choice is None else _named_choice(chat.tool_choice),
        messages=tuple(map(_named_message, chat.messages)),
    )


def _named_tool(tool: Tool) -> Tool:
    return replace(tool, name=legal_name(tool.name)) if isinstance(tool, FunctionTool) else tool


def _named_choice(choice: ToolChoice) -> ToolChoice:
    """The choice, with the names of all tools if it allows only some of them (OpenAI's formats)."""
    changes: dict[str, Any] = {"name": None if choice.name is None else legal_name(choice.name)}
    if tools := getattr(choice, "tools", ()):
        changes["tools"] = tuple(map(_named_tool, tools))
    return replace(choice, **changes)


def _named_message(message: Message) -> Message:
    if not any(isinstance(part, ToolCall) for part in message.parts):
        return message
    parts = (replace(p, name=legal_name(p.name)) if isinstance(p, ToolCall) else p for p in message.parts)
    return replace(message, parts=tuple(parts))
