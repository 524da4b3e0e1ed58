"""Prepares a chat for a provider of another format: the tools that it can be offered, and the history that it can read.

A tool that only the caller's format has becomes functions if possible. Otherwise it is left out and named, or the call
is refused if it requires the tool. Parts of the history that only the caller's own providers can read are left out and
named, so that a conversation can continue elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType

from ..errors import Unsupported
from ..model.call import Chat, FunctionTool, HostedTool, ReplacedTool, Tool
from ..model.content import (
    Extras,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    is_among,
    kinds_of,
)
from .dropping import messages_of, parts_of, tools_of
from .history import UniqueIds
from .tool_names import with_legal_names
from .wrapped_roots import with_object_root

# Notes: extras without a value, for a writer of the same dialect. Other writers do not count them as fields.
WHOLE_ITEM: Extras = MappingProxyType({"item": None})
"""A caller's turn whose only part is an Opaque that is beside the messages, not within one."""
READ_ITEM: Extras = MappingProxyType({"item": None, "read": None})
"""An item whose content is in another place of the chat."""
_FORCED = frozenset({"required", "tool"})
NO_RESULT = "No result of this call was given."
CONTINUE = "Continue."
"""The user message after a last message of the assistant."""
_SYSTEM = frozenset({"system", "developer"})
_SUMMARY = "Summary of the conversation so far:"
_RESULT = "The result of an earlier tool call, which is not shown:"
_FAILED_RESULT = "The error of an earlier tool call, which is not shown:"


JSON_PROMPT = (
    "Your whole reply must be one valid JSON object. Begin it with { and end it with }. "
    "Write no other text before or after it, and no code fence."
)


def wants_json(chat: Chat) -> bool:
    """Whether the caller requested a JSON object without a schema."""
    return chat.response_format is not None and chat.response_format.kind == "json_object"


def asking_for_json(chat: Chat) -> Chat:
    """The chat for a format without a JSON mode: the last system message asks for what the caller requested."""
    if not wants_json(chat):
        return chat
    is_prompt = [message.role in ("system", "developer") for message in chat.messages]
    end = is_prompt.index(False) if False in is_prompt else len(is_prompt)
    asking = Message("system", (Text(JSON_PROMPT),))
    # The other messages keep their paths, also if they were known only by their places.
    messages = [replace(message, path=path) for path, message in messages_of(chat)]
    return replace(chat, messages=(*messages[:end], asking, *messages[end:]))


def ending_with_user(chat: Chat, *, prefill: bool) -> Chat:
    """The chat with a user message at the end, for a format whose models answer only the user. System messages after
    the assistant's last message ask for the next one: in the system prompt, they would leave that message as the
    beginning of the answer. `prefill`: whether the model continues a message of the assistant
    (docs/adr/339-last-message-of-the-assistant.md)."""
    messages = chat.messages
    last = len(messages) - 1
    while last >= 0 and (messages[last].role in _SYSTEM or not _has_content(messages[last])):
        last -= 1
    if last < 0 or messages[last].role != "assistant" or isinstance(messages[last].parts[-1], ToolCall):
        return chat
    asking = [message for message in messages[last + 1 :] if message.role in _SYSTEM and _has_content(message)]
    if asking:
        # The other messages keep their paths, also if they were known only by their places.
        located = [replace(message, path=path) for path, message in messages_of(chat)]
        moved = (replace(each, role="user") if each.role in _SYSTEM else each for each in located[last + 1 :])
        return replace(chat, messages=(*located[: last + 1], *moved))
    return chat if prefill else replace(chat, messages=(*messages, Message("user", (Text(CONTINUE),))))


def _has_content(message: Message) -> bool:
    """Whether anything of a message is sent: neither blank text nor thinking alone."""
    return any(
        not isinstance(part, Thinking | RedactedThinking) and not (isinstance(part, Text) and not part.text.strip())
        for part in message.parts
    )


def _no_tool(tool: HostedTool) -> bool:
    """The format has no tools that its hosts execute."""
    del tool
    return False


def portable(chat: Chat, title: str, has_tool: Callable[[HostedTool], bool] = _no_tool) -> Chat:
    """The chat as a format named `title` can take it. `has_tool`: whether the provider has an equivalent of a tool that
    the caller's own provider would execute. `omitted` collects the names of what is missing. Raises Unsupported if the
    caller requires a missing tool."""
    chat = with_object_root(chat)
    omitted = set(chat.lost)
    kinds = kinds_of(chat.messages)
    has_results = is_among(ToolResult, kinds)
    if is_among(Opaque, kinds) or (has_results and _has_replaced_results(chat)):
        chat = _with_replacements(_since_summary(chat))
        chat = replace(chat, messages=_messages(chat, omitted))
    has_calls = is_among(ToolCall, kinds)
    if has_calls or has_results:
        chat, orphans = _without_orphans(_with_single_results(_with_unique_ids(chat)))
        # Parts that were left out are named themselves, instead of the results whose calls they were.
        omitted.update(orphans if len(omitted) == len(set(chat.lost)) else ())
        chat = _with_results(chat) if has_calls else chat
    chat = with_legal_names(chat, has_calls=has_calls)
    tools = _tools(chat, title, omitted, has_tool)
    if not omitted and len(tools) == len(chat.tools) and all(a is b for a, b in zip(tools, chat.tools, strict=True)):
        return chat
    return replace(chat, tools=tools, lost=tuple(sorted(omitted)))


def _with_unique_ids(chat: Chat) -> Chat:
    """The chat with another id for each call whose id was used before, and for its result."""
    ids = [part.id for message in chat.messages for part in message.parts if isinstance(part, ToolCall) and part.id]
    if len(set(ids)) == len(ids):
        return chat
    unique = UniqueIds()
    messages: list[Message] = []
    for number, message in enumerate(chat.messages):
        parts: list[Part] = []
        for part in message.parts:
            if isinstance(part, ToolCall) and part.id:
                part = replace(part, id=unique.of_call(part.id, number))
            elif isinstance(part, ToolResult):
                part = replace(part, call_id=unique.of_result(part.call_id))
            parts.append(part)
        messages.append(replace(message, parts=tuple(parts)))
    return replace(chat, messages=tuple(messages))


def _with_single_results(chat: Chat) -> Chat:
    """The chat with one result for each call. Clients send the result of a call again after they were interrupted;
    many hosts of OpenAI's format accept it, and all other providers refuse it. Both contents are sent."""
    results = [part for message in chat.messages for part in message.parts if isinstance(part, ToolResult)]
    if len({part.call_id for part in results}) == len(results):
        return chat
    joined: dict[str, ToolResult] = {}
    for result in results:
        first = joined.get(result.call_id)
        if first is None:
            joined[result.call_id] = result
        elif result.parts != first.parts:
            joined[result.call_id] = replace(
                first, parts=(*first.parts, *result.parts), is_error=first.is_error or result.is_error
            )
    messages: list[Message] = []
    for path, message in messages_of(chat):
        parts: list[Part] = []
        for where, part in parts_of(message.parts, path):
            # What remains keeps its path, also if it was known only by its place.
            if not isinstance(part, ToolResult):
                parts.append(replace(part, path=where))
            elif (whole := joined.pop(part.call_id, None)) is not None:
                parts.append(replace(whole, path=where))
        if parts or not message.parts:
            messages.append(replace(message, path=path, parts=tuple(parts)))
    return replace(chat, messages=tuple(messages))


def _with_results(chat: Chat) -> Chat:
    """The chat with one result for each call, directly after the message of the call. Every other provider refuses a
    call without a result. A user can interrupt an agent before its tools have ended, and many hosts of OpenAI's format
    accept a history without results, or with a result in a later turn."""
    if _results_follow_calls(chat.messages):
        return chat
    callers = {
        part.id: number
        for number, message in enumerate(chat.messages)
        for part in message.parts
        if isinstance(part, ToolCall) and part.id
    }
    given: set[str] = set()
    added: dict[int, list[Part]] = {}
    """The results that are moved or made, by the number of the message with their calls."""
    ends: dict[int, int] = {}
    """The number of the last message of results alone that directly follows the message with their calls."""
    remaining: list[Message | None] = []
    latest: int | None = None
    """The number of the message whose calls the current message can answer."""
    for number, (path, message) in enumerate(messages_of(chat)):
        is_mixed = False
        if message.role == "assistant":
            latest = number
        elif not any(isinstance(part, ToolResult) for part in message.parts):
            latest = None
        elif latest is not None:
            is_mixed = not all(isinstance(part, ToolResult) for part in message.parts)
            ends[latest] = ends.get(latest, latest) if is_mixed else number
        parts: list[Part] = []
        for where, part in parts_of(message.parts, path):
            # What remains keeps its path, also if it was known only by its place.
            part = replace(part, path=where)
            caller = callers.get(part.call_id) if isinstance(part, ToolResult) else None
            if not isinstance(part, ToolResult) or caller is None or caller > number or part.call_id in given:
                parts.append(part)
                continue
            given.add(part.call_id)
            (parts if caller == latest else added.setdefault(caller, [])).append(part)
        is_emptied = message.parts and not parts
        remaining.append(None if is_emptied else replace(message, path=path, parts=tuple(parts)))
        latest = None if is_mixed else latest
    for id, caller in callers.items():
        if id not in given and caller < len(remaining) - 1:
            added.setdefault(caller, []).append(ToolResult(id, (Text(NO_RESULT),)))
    added_after = {ends.get(caller, caller): results for caller, results in added.items()}
    messages: list[Message] = []
    for number, each in enumerate(remaining):
        messages += [each] if each is not None else []
        if number in added_after:
            messages.append(Message("tool", tuple(added_after[number])))
    return replace(chat, messages=tuple(messages))


def _results_follow_calls(messages: tuple[Message, ...]) -> bool:
    """Whether each call has its result in the messages directly after it. A call in the last message needs none."""
    waiting: set[str] = set()
    for message in messages:
        if message.role == "assistant":
            if waiting:
                return False
            waiting = {part.id for part in message.parts if isinstance(part, ToolCall) and part.id}
        elif waiting:
            waiting -= {part.call_id for part in message.parts if isinstance(part, ToolResult)}
            if waiting and not all(isinstance(part, ToolResult) for part in message.parts):
                return False
    return not waiting or messages[-1].role == "assistant"


def _tools(chat: Chat, title: str, omitted: set[str], has_tool: Callable[[HostedTool], bool]) -> tuple[Tool, ...]:
    offered: list[Tool] = []
    hosted: list[str] = []
    """The kinds of the tools of the provider. None of them can be forced elsewhere."""
    for path, tool in tools_of(chat.tools):
        match tool:
            case ReplacedTool() if tool.functions:
                offered += tool.functions
                omitted.update(tool.lost)
            case HostedTool() if has_tool(tool):
                hosted.append(tool.kind)
                offered.append(tool)
                omitted.update(tool.lost)
            case Opaque():
                hosted.append(tool.kind)
                omitted.add(path)
            case FunctionTool():
                offered.append(tool)
    choice = chat.tool_choice
    if hosted and choice is not None and choice.mode in _FORCED:
        names = {tool.name for tool in offered if isinstance(tool, FunctionTool)}
        if not names or (choice.mode == "tool" and choice.name not in names):
            kind = choice.name if choice.name in hosted else hosted[0]
            raise Unsupported(chat.spelling.field("tool_choice"), title, f"the format has no tool of type {kind!r}")
    return _with_own_names(offered, omitted)


def _with_own_names(offered: list[Tool], omitted: set[str]) -> tuple[Tool, ...]:
    """The tools with one function for each name. Many hosts of OpenAI's format accept two, as clients send them whose
    MCP servers have a tool of the same name; other providers answer "Tool names must be unique". Calls name no more
    than the function, so a second definition is left out, and named if it differs."""
    names = [tool.name for tool in offered if isinstance(tool, FunctionTool)]
    if len(set(names)) == len(names):
        return tuple(offered)
    first: dict[str, FunctionTool] = {}
    kept: list[Tool] = []
    for path, tool in tools_of(tuple(offered)):
        if not isinstance(tool, FunctionTool):
            kept.append(tool)
        elif tool.name not in first:
            first[tool.name] = tool
            kept.append(tool)
        elif tool != first[tool.name]:
            omitted.add(path)
    return tuple(kept)


def _since_summary(chat: Chat) -> Chat:
    """The chat with its last summary as a text of the user, and without the messages that the summary replaces. The
    caller's own provider ignores these, and they can be longer than the context of another model."""
    located = list(messages_of(chat))
    for number in range(len(located) - 1, -1, -1):
        path, message = located[number]
        parts = list(parts_of(message.parts, path))
        for place in range(len(parts) - 1, -1, -1):
            where, part = parts[place]
            if not isinstance(part, Opaque) or not part.summary:
                continue
            rest = tuple(replace(each, path=at) for at, each in parts[place + 1 :])
            messages = (
                *(replace(each, path=at) for at, each in located[:number] if each.role in _SYSTEM),
                Message("user", (Text(f"{_SUMMARY}\n{part.summary}", path=where),), path=path),
                *([replace(message, path=path, parts=rest)] if rest else []),
                *(replace(each, path=at) for at, each in located[number + 1 :]),
            )
            return replace(chat, messages=messages)
    return chat


def _has_replaced_results(chat: Chat) -> bool:
    """Whether the result of a call has a part that other formats get as other parts."""
    return any(
        isinstance(each, Opaque) and each.parts
        for message in chat.messages
        for part in message.parts
        if isinstance(part, ToolResult)
        for each in part.parts
    )


def _with_replacements(chat: Chat) -> Chat:
    """The chat with the parts that replace those of the caller's format alone."""
    messages = [replace(each, path=path, parts=_replaced(each.parts, path)) for path, each in messages_of(chat)]
    return replace(chat, messages=tuple(messages))


def _replaced(parts: Sequence[Part], path: str) -> tuple[Part, ...]:
    replaced: list[Part] = []
    for where, part in parts_of(parts, path):
        if isinstance(part, Opaque) and part.parts:
            replaced += part.parts
        elif isinstance(part, ToolResult):
            replaced.append(replace(part, path=where, parts=_replaced(part.parts, where)))
        else:
            # What remains keeps its path, also if it was known only by its place.
            replaced.append(replace(part, path=where))
    return tuple(replaced)


def _messages(chat: Chat, omitted: set[str]) -> tuple[Message, ...]:
    messages: list[Message] = []
    for path, message in messages_of(chat):
        unreadable = [where for where, part in parts_of(message.parts, path) if _only_native(message, part)]
        if unreadable:
            if message.extras != READ_ITEM:
                omitted.update(unreadable)
            parts = tuple(part for part in message.parts if not _only_native(message, part))
            if not parts:
                continue
            message = replace(message, parts=parts)
        messages.append(message)
    return tuple(messages)


def _only_native(message: Message, part: Part) -> bool:
    """Whether only a provider of the caller's format can read a part of the history, which is from the model or answers
    a part from it. A user's message must stay complete."""
    if not isinstance(part, Opaque):
        return False
    return message.extras in (WHOLE_ITEM, READ_ITEM) or (message.role == "assistant" and part.kind != "function_call")


def _without_orphans(chat: Chat) -> tuple[Chat, set[str]]:
    """The chat with a text of the user for each result whose call is not in the messages before it, and the paths of
    the ids that they lose. Clients that shorten a history cut between the two, and every format refuses a result
    without its call (docs/adr/353-results-without-their-calls.md). A result without an id stays: it is refused."""
    called: set[str] = set()
    messages: list[Message] = []
    lost: set[str] = set()
    for path, message in messages_of(chat):
        message = message if message.path else replace(message, path=path)
        if any(isinstance(part, ToolResult) and part.call_id and part.call_id not in called for part in message.parts):
            parts: list[Part] = []
            for where, part in parts_of(message.parts, path):
                if isinstance(part, ToolResult) and part.call_id and part.call_id not in called:
                    lost.add(f"{where}.{chat.spelling.member('call_id')}")
                    parts.append(Text(_FAILED_RESULT if part.is_error else _RESULT, path=where))
                    parts += (replace(each, path=at) for at, each in parts_of(part.parts, where))
                else:
                    parts.append(replace(part, path=where))
            message = replace(message, role="user", parts=tuple(parts))
        called.update(part.id for part in message.parts if isinstance(part, ToolCall))
        messages.append(message)
    return (replace(chat, messages=tuple(messages)) if lost else chat), lost
