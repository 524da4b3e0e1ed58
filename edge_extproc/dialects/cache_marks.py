"""Bounds the number of cache marks of a request.

Anthropic and Bedrock refuse a request with more than four (`A maximum of 4 blocks with cache_control may be provided`,
Wei-Shaw/sub2api#176). Hosts of OpenAI's format that know the marks, such as OpenRouter, take any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..model.call import Chat, FunctionTool, Tool
from ..model.content import CacheMark, Document, Image, Message, Part, Text, ToolCall, ToolResult
from .dropping import messages_of, parts_of, tools_of

_MOST = 4
_MARKED = Text | Image | Document | ToolCall | ToolResult


def with_few_marks(chat: Chat) -> Chat:
    """The chat with the first mark of the prompt, which ends what all its calls share, and the last three. `lost` names
    the others."""
    if _count(chat) <= _MOST:
        return chat
    paths = list(_marks(chat))
    lost = frozenset(paths[1 : 1 - _MOST])
    messages = tuple(replace(message, parts=_without(message.parts, path, lost)) for path, message in messages_of(chat))
    tools: list[Tool] = []
    for path, tool in tools_of(chat.tools):
        is_lost = isinstance(tool, FunctionTool) and _mark_path(tool, path) in lost
        tools.append(replace(tool, cache=None) if is_lost and isinstance(tool, FunctionTool) else tool)
    return replace(chat, messages=messages, tools=tuple(tools), lost=tuple(sorted({*chat.lost, *lost})))


def _count(chat: Chat) -> int:
    """The number of marks. It is counted for each call, so it costs no function call for a part."""
    count = 0
    for tool in chat.tools:
        match tool:
            case FunctionTool(cache=CacheMark()):
                count += 1
            case _:
                pass
    for message in chat.messages:
        for part in message.parts:
            match part:
                case ToolResult(parts=inner):
                    count += part.cache is not None
                    for each in inner:
                        match each:
                            case Text(cache=CacheMark()) | Image(cache=CacheMark()) | Document(cache=CacheMark()):
                                count += 1
                            case _:
                                pass
                case (
                    Text(cache=CacheMark())
                    | Image(cache=CacheMark())
                    | Document(cache=CacheMark())
                    | ToolCall(cache=CacheMark())
                ):
                    count += 1
                case _:
                    pass
    return count


def _marks(chat: Chat) -> Iterator[str]:
    """The path of each mark, in the order of the prompt: tools, the system prompt, the conversation."""
    for path, tool in tools_of(chat.tools):
        if isinstance(tool, FunctionTool) and tool.cache is not None:
            yield _mark_path(tool, path)
    for of_system in (True, False):
        for path, message in messages_of(chat):
            if _is_system(message) == of_system:
                yield from _marks_in(message.parts, path)


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _marks_in(parts: Sequence[Part], path: str) -> Iterator[str]:
    for where, part in parts_of(parts, path):
        if isinstance(part, ToolResult):
            yield from _marks_in(part.parts, where)
        if isinstance(part, _MARKED) and part.cache is not None:
            yield _mark_path(part, where)


def _mark_path(marked: _MARKED | FunctionTool, path: str) -> str:
    return (marked.cache.path if marked.cache is not None else "") or f"{path}.cache_control"


def _without(parts: Sequence[Part], path: str, lost: frozenset[str]) -> tuple[Part, ...]:
    kept: list[Part] = []
    for where, part in parts_of(parts, path):
        if isinstance(part, ToolResult):
            part = replace(part, parts=_without(part.parts, where, lost))
        if isinstance(part, _MARKED) and part.cache is not None and _mark_path(part, where) in lost:
            part = replace(part, cache=None)
        kept.append(part)
    return tuple(kept)
