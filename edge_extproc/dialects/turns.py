"""Translates a chat of another dialect into alternating messages of user and assistant, each with its blocks.

Anthropic's Messages and Bedrock's Converse require the same order of messages and blocks. This module has the common
part; the packages of the two formats encode the blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Generic, Literal, TypeAlias, TypeVar, assert_never

import msgspec

from ..codecs.json_values import UNREADABLE, JsonObject, as_object, as_text, decode, encode
from ..errors import BadRequest, Unsupported
from ..model.call import Chat, Reasoning
from ..model.content import Json, Part, RedactedThinking, Role, Thinking, ToolCall, ToolResult, plain_text
from ..model.reply import FinishReason
from .carried import tool_id
from .claude import BUDGETS, LEAST_BUDGET, generation_of
from .dropping import DropList, parts_of

B = TypeVar("B")
BlockKind: TypeAlias = Literal["text", "thinking", "call", "result", "media"]

NO_PARAMETERS: Mapping[str, Json] = MappingProxyType({"type": "object", "properties": {}})
FORCED = frozenset({"required", "tool"})
# The finish reason of a reply with tool calls is "tool calls", whatever its provider reports (OpenAI reports "stop" for
# a forced call, Gemini always). Not for a reply that was cut off: its last call is incomplete, and the caller must not
# run it.
CUT_OFF: frozenset[FinishReason] = frozenset(
    {"length", "context_window", "content_filter", "refusal", "pause", "other"}
)


def arguments_of(text: str) -> JsonObject | None:
    """The arguments of a tool call as an object. None: they are not an object. An empty text means no arguments. So
    does null, which Groq's models write for a tool without parameters."""
    if not text.strip():
        return {}
    try:
        value = decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return None
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def arguments_text(value: Json, path: str) -> str:
    """The text of a call's arguments in a request of OpenAI's formats. Some clients send back the object itself, or
    null. Raises BadRequest for any other value."""
    if isinstance(value, dict):
        return encode(value).decode()
    return "" if value is None else as_text(value, path)


RAW_ARGUMENTS = "raw_arguments"
"""The member with the text of arguments that are no object, in a format whose calls have an object."""


def object_of(text: str) -> tuple[JsonObject, bool]:
    """The arguments of a call in the history as an object, and whether they were one. Models produce invalid JSON, and
    their callers return it with the error of the tool: the next request must contain it (docs/adr/199)."""
    arguments = arguments_of(text)
    return ({RAW_ARGUMENTS: text}, False) if arguments is None else (arguments, True)


def object_text(text: str) -> str:
    """The same for a format whose calls have a text, at hosts that decode it. An empty text stays."""
    if not text.strip():
        return text
    arguments, is_object = object_of(text)
    if is_object and (arguments or text.lstrip().startswith("{")):
        return text
    return encode(arguments).decode()


def schema_of(parameters: Json, path: str) -> JsonObject:
    """The schema of a tool's input, which must be the schema of an object. Raises BadRequest."""
    if parameters is None or parameters == {}:
        return dict(NO_PARAMETERS)
    schema = as_object(parameters, path)
    if None in schema.values():  # clients write null for what a schema does not have
        schema = {key: value for key, value in schema.items() if value is not None}
    return schema if "type" in schema else {"type": "object", **schema}


def answer_order(part: Part) -> int:
    """The sort key of a part in a reply: thinking, then text, then calls."""
    if isinstance(part, Thinking | RedactedThinking):
        return 0
    return 2 if isinstance(part, ToolCall) else 1


_GROUPS: Mapping[Role, Literal["user", "assistant"] | None] = MappingProxyType(
    {"user": "user", "tool": "user", "assistant": "assistant", "system": None, "developer": None}
)
"""The group of a message with this role. None: it is part of the system prompt."""


class RoleGroup(msgspec.Struct, Generic[B]):
    """Consecutive messages of one role, as one message."""

    role: Literal["user", "assistant"]
    blocks: list[B]


class Translation(DropList, ABC, Generic[B]):
    """The translation of one chat. B: a block of the format. `dropped` collects the dropped fields."""

    title: ClassVar[str]

    def __init__(self, chat: Chat, model: str) -> None:
        super().__init__(chat)
        self.chat = chat
        self.model = model
        self.generation = generation_of(model)
        self._has_calls = False
        """Whether the conversation has calls. Known after `_conversation`."""

    @abstractmethod
    def _block(self, part: Part, path: str) -> B | None:
        """The block of a part. None: the part is dropped."""

    @abstractmethod
    def _plain(self, text: str) -> B:
        """The block of a text without a cache mark and extras. The text is not blank."""

    @abstractmethod
    def _kind(self, block: B) -> BlockKind: ...

    @abstractmethod
    def _strip(self, block: B) -> None:
        """The block without the white space at the end of its text."""

    # fields

    def _refuse(self) -> None:
        chat = self.chat
        if chat.n is not None and chat.n != 1:
            raise Unsupported(self.spelling.field("n"), self.title, "the API returns one choice per request")
        for name in ("logprobs", "top_logprobs"):
            if getattr(chat, name):
                raise Unsupported(self.spelling.field(name), self.title, "the API returns no token probabilities")
        for path in chat.needed:
            raise Unsupported(path, self.title)
        self._refuse_essential(chat, self.title)

    def _drop_placeless(self) -> None:
        """Drops the fields that the format does not have."""
        for name in ("seed", "presence_penalty", "frequency_penalty"):
            self._drop_field(name, getattr(self.chat, name) is not None)
        self._drop_extras(self.chat.extras, "")

    # thinking

    def _check_effort(self, effort: str | None) -> None:
        if effort is not None and effort not in BUDGETS and effort != "none":
            path = self.spelling.field("reasoning.effort")
            raise BadRequest(f"{path} is {effort!r}; it must be one of none, {', '.join(BUDGETS)}", param=path)

    def _disable_thinking(self, reasoning: Reasoning, fields: JsonObject) -> None:
        """Disables thinking. It is off by default for older models; for the newest ones, only the lowest effort can be
        requested."""
        if self.generation.thinks_unasked:
            fields["output_config"] = {"effort": "low"}
            self.dropped.add(self._reasoning_path(reasoning))
        self._drop_extras(reasoning.extras, self.spelling.field("reasoning"))

    def _enable_thinking(
        self,
        reasoning: Reasoning,
        effort: str | None,
        fields: JsonObject,
        limits: JsonObject,
        limit_name: str,
        groups: list[RoleGroup[B]],
    ) -> bool:
        """Enables thinking, and returns whether it is on. Adds Anthropic's fields to `fields`, and the token limit to
        `limits`."""
        if self.generation.adaptive:
            return self._enable_adaptive(reasoning, effort, fields)
        if not self.generation.budgets or self._goes_on_without_thinking(groups):
            self.dropped.add(self._reasoning_path(reasoning))
            return False
        budget = _budget(reasoning, effort)
        limit = limits.get(limit_name)
        if isinstance(limit, int) and limit <= budget:
            # max_tokens includes thinking. The reply keeps the size that the caller set.
            limits[limit_name] = limit + budget
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget, **self._display(reasoning)}
        return True

    def _enable_adaptive(self, reasoning: Reasoning, effort: str | None, fields: JsonObject) -> bool:
        """Adaptive thinking by an effort. A forced tool call excludes thinking, and has priority over a mere effort,
        which also works without thinking."""
        if effort is not None:
            fields["output_config"] = {"effort": self._nearest(effort)}
        if not is_explicit(reasoning) and self._forced():
            return False
        self._drop_field("reasoning.budget_tokens", reasoning.budget_tokens is not None)
        fields["thinking"] = {"type": "adaptive", **self._display(reasoning)}
        return True

    def _nearest(self, effort: str) -> str:
        """The highest level of the model that is not above the effort, otherwise its lowest."""
        order = list(BUDGETS)
        most = order.index(effort) if effort in order else 0
        levels = [level for level in self.generation.efforts if order.index(level) <= most]
        return levels[-1] if levels else self.generation.efforts[0]

    def _display(self, reasoning: Reasoning) -> JsonObject:
        extras = dict(reasoning.extras)
        display: JsonObject = {"display": extras.pop("display")} if "display" in extras else {}
        self._drop_extras(extras, self.spelling.field("reasoning"))
        return display

    def _goes_on_without_thinking(self, groups: list[RoleGroup[B]]) -> bool:
        """Whether the caller answers a tool call whose turn has no thinking. Thinking with a budget is not possible
        then, because the turn of the call would have to begin with it."""
        if len(groups) < 2 or groups[-1].role != "user":
            return False
        kinds = [(group.role, [self._kind(block) for block in group.blocks]) for group in groups]
        called = kinds[-2][1]
        return ("call" in called and called[0] != "thinking") or goes_on_without_thinking(kinds)

    # tools

    def _forced(self) -> bool:
        choice = self.chat.tool_choice
        return bool(self.chat.tools) and choice is not None and choice.mode in FORCED

    def _arguments_of_call(self, part: ToolCall, path: str) -> JsonObject:
        """The arguments of a call, which must have an id. Raises BadRequest."""
        self._has_calls = True
        if not part.id:
            where = self._member(path, "id")
            raise BadRequest(f"{where} is missing: a tool call needs an id, which its result repeats", param=where)
        arguments, is_object = object_of(part.arguments)
        if not is_object:
            self._drop_member(path, "arguments", part.arguments)
        self._drop_member(path, "signature", part.signature)
        return arguments

    def _call_id_and_blocks(self, part: ToolResult, path: str) -> tuple[str, list[B]]:
        """The id of the call, and the blocks of its result. Raises BadRequest."""
        if not part.call_id:
            where = self._member(path, "call_id")
            raise BadRequest(f"{where} is missing: a tool result needs the id of its call", param=where)
        inner = [self._block(each, where) for where, each in parts_of(part.parts, path)]
        return tool_id(part.call_id), [block for block in inner if block is not None]

    # the conversation

    def _conversation(self) -> tuple[list[B], list[RoleGroup[B]]]:
        """The system prompt, and the groups, beginning with the user. Thinking is first in an assistant message; tool
        results are first in a user message."""
        system: list[B] = []
        groups: list[RoleGroup[B]] = []
        plain, last_role = self._plain, None
        for number, message in enumerate(self.chat.messages):
            if (text := plain_text(message)) is not None:
                if not text or text.isspace():  # both formats refuse it
                    self._drop_if(message.parts[0].path or f"{message.path or f'messages[{number}]'}.content[0]", text)
                    continue
                role = _GROUPS[message.role]
                if role is None:
                    system.append(plain(text))
                elif role == last_role:
                    groups[-1].blocks.append(plain(text))
                else:
                    groups.append(RoleGroup(role, [plain(text)]))
                    last_role = role
                continue
            path = message.path or f"messages[{number}]"
            self._drop_if(f"{path}.name", message.name)
            self._drop_extras(message.extras, path)
            located = [self._block(part, where) for where, part in parts_of(message.parts, path)]
            blocks = [block for block in located if block is not None]
            match message.role:
                case "system" | "developer":
                    system += blocks
                case "user" | "tool":
                    _append_blocks(groups, "user", blocks)
                case "assistant":
                    # Claude refuses a message that ends in thinking. A reply that was cut off can do so.
                    is_thinking = [self._kind(block) == "thinking" for block in blocks]
                    if blocks and all(is_thinking):
                        self.dropped.update(where for where, _ in parts_of(message.parts, path))
                        continue
                    _append_blocks(groups, "assistant", self._first("thinking", blocks))
                case _:
                    assert_never(message.role)
            last_role = groups[-1].role if groups else None
        for group in groups:
            if len(group.blocks) > 1 and group.role == "user":
                group.blocks = self._first("result", group.blocks)
        path = self.spelling.field("messages")
        if not groups:
            raise BadRequest(f"{path} has no user message; {self.title} requires one", param=path)
        if groups[0].role != "user":
            raise BadRequest(
                f"{path} begins with an assistant message; {self.title} requires a user message first", param=path
            )
        last = groups[-1]
        if last.role == "assistant" and self._kind(last.blocks[-1]) == "text":
            self._strip(last.blocks[-1])  # a reply that the model continues must not end in white space
        return system, groups

    def _first(self, kind: BlockKind, blocks: list[B]) -> list[B]:
        return sorted(blocks, key=lambda block: self._kind(block) != kind) if len(blocks) > 1 else blocks


def goes_on_without_thinking(groups: Sequence[tuple[str, Sequence[BlockKind]]]) -> bool:
    """Whether the caller answers a call whose turn does not begin with thinking. The turn of a call begins after the
    last user message without a tool result. Claude refuses thinking with a budget there: `When thinking is enabled, a
    final assistant message must start with a thinking block`."""
    if not groups or not _is_answer(groups[-1]):
        return False
    first = len(groups) - 1
    while first > 0 and (groups[first][0] == "assistant" or _is_answer(groups[first])):
        first -= 1
    kinds_since = [kind for role, kinds in groups[first:] if role == "assistant" for kind in kinds]
    return "call" in kinds_since and kinds_since[0] != "thinking"


def _is_answer(group: tuple[str, Sequence[BlockKind]]) -> bool:
    return group[0] == "user" and "result" in group[1]


def _budget(reasoning: Reasoning, effort: str | None) -> int:
    return max(reasoning.budget_tokens or BUDGETS.get(effort or "medium", LEAST_BUDGET), LEAST_BUDGET)


def thinking_beyond_limit(chat: Chat, model: str) -> int:
    """The tokens by which `Translation` raises the caller's limit, so that a Claude's thinking takes nothing of it."""
    reasoning, generation = chat.reasoning, generation_of(model)
    if reasoning is None or reasoning.mode == "disabled" or generation.adaptive or not generation.budgets:
        return 0
    budget = _budget(reasoning, reasoning.effort if reasoning.effort in BUDGETS else None)
    return budget if chat.max_output_tokens is None or chat.max_output_tokens <= budget else 0


def continues_answers(chat: Chat, model: str) -> bool:
    """Whether the model continues a last message of the assistant. No model does so while it thinks: `When thinking is
    enabled, a final assistant message must start with a thinking block`."""
    reasoning, generation = chat.reasoning, generation_of(model)
    thinks = reasoning is not None and reasoning.mode != "disabled" and reasoning.effort != "none"
    return generation.prefill and not (thinks and generation.budgets)


def is_explicit(reasoning: Reasoning) -> bool:
    """Whether thinking itself is requested, not only an effort."""
    return reasoning.mode in ("enabled", "adaptive") or reasoning.budget_tokens is not None


def _append_blocks(groups: list[RoleGroup[B]], role: Literal["user", "assistant"], blocks: list[B]) -> None:
    if not blocks:
        return
    if groups and groups[-1].role == role:
        groups[-1].blocks += blocks
    else:
        groups.append(RoleGroup(role, blocks))
