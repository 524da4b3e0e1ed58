"""Translates a chat of another dialect into alternating turns of user and assistant, each with its blocks.

Anthropic's Messages and Bedrock's Converse require the same order of turns and blocks. This module has the common part;
the packages of the two formats encode the blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Generic, Literal, TypeAlias, TypeVar, assert_never

from ..codecs.json_values import UNREADABLE, JsonObject, as_object, decode
from ..errors import BadRequest, Unsupported
from ..model.call import Chat, Reasoning
from ..model.content import Json, Part, RedactedThinking, Thinking, ToolCall, ToolResult
from ..model.reply import FinishReason
from .carried import tool_id
from .claude import BUDGETS, LEAST_BUDGET, generation_of
from .dropping import DropList, messages_of, parts_of

B = TypeVar("B")
BlockKind: TypeAlias = Literal["text", "thinking", "call", "result", "media"]

NO_PARAMETERS: Mapping[str, Json] = MappingProxyType({"type": "object", "properties": {}})
FORCED = frozenset({"required", "tool"})
# The finish reason of a reply with tool calls is "tool calls", whatever its provider reports (OpenAI reports "stop" for
# a forced call, Gemini always). Not for a reply that was cut off: its last call is incomplete, and the caller must not
# run it.
CUT_OFF: frozenset[FinishReason] = frozenset({"length", "context_window", "content_filter", "refusal", "pause"})


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


def schema_of(parameters: Json, path: str) -> JsonObject:
    """The schema of a tool's input, which must be the schema of an object. Raises BadRequest."""
    if parameters is None or parameters == {}:
        return dict(NO_PARAMETERS)
    schema = as_object(parameters, path)
    return schema if "type" in schema else {"type": "object", **schema}


def answer_order(part: Part) -> int:
    """The sort key of a part in a reply: thinking, then text, then calls."""
    if isinstance(part, Thinking | RedactedThinking):
        return 0
    return 2 if isinstance(part, ToolCall) else 1


@dataclass(slots=True)
class Turn(Generic[B]):
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

    @abstractmethod
    def _block(self, part: Part, path: str) -> B | None:
        """The block of a part. None: the part is dropped."""

    @abstractmethod
    def _kind(self, block: B) -> BlockKind: ...

    @abstractmethod
    def _strip(self, block: B) -> None:
        """The block without the white space at the end of its text."""

    # fields

    def _refuse(self) -> None:
        chat = self.chat
        if chat.n is not None and chat.n != 1:
            raise Unsupported(self.spelling.field("n"), self.title, "it gives one answer")
        for name in ("logprobs", "top_logprobs"):
            if getattr(chat, name):
                raise Unsupported(self.spelling.field(name), self.title, "it tells no probabilities")
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

    def _rests(self, wanted: Reasoning, fields: JsonObject) -> None:
        """Disables thinking. It is off by default for older models; for the newest ones, only the lowest effort can be
        requested."""
        if self.generation.thinks_unasked:
            fields["output_config"] = {"effort": "low"}
            self.dropped.add(self._reasoning_path(wanted))
        self._drop_extras(wanted.extras, self.spelling.field("reasoning"))

    def _thinks(
        self,
        wanted: Reasoning,
        effort: str | None,
        fields: JsonObject,
        limits: JsonObject,
        limit_name: str,
        turns: list[Turn[B]],
    ) -> bool:
        """Enables thinking, and returns whether it is on. Adds Anthropic's fields to `fields`, and the token limit to
        `limits`."""
        if self.generation.adaptive:
            return self._adapts(wanted, effort, fields)
        if not self.generation.budgets or self._goes_on_without_thinking(turns):
            self.dropped.add(self._reasoning_path(wanted))
            return False
        budget = max(wanted.budget_tokens or BUDGETS.get(effort or "medium", LEAST_BUDGET), LEAST_BUDGET)
        limit = limits.get(limit_name)
        if isinstance(limit, int) and limit <= budget:
            # max_tokens includes thinking. The reply keeps the size that the caller set.
            limits[limit_name] = limit + budget
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget, **self._display(wanted)}
        return True

    def _adapts(self, wanted: Reasoning, effort: str | None, fields: JsonObject) -> bool:
        """Adaptive thinking by an effort. A forced tool call excludes thinking, and has priority over a mere effort,
        which also works without thinking."""
        if effort is not None:
            level = "low" if effort in ("minimal", "none") else effort
            if level not in self.generation.efforts:
                path = self.spelling.field("reasoning.effort")
                raise BadRequest(
                    f"{path} is {effort!r}; {self.model!r} has {', '.join(self.generation.efforts)}", param=path
                )
            fields["output_config"] = {"effort": level}
        if not is_explicit(wanted) and self._forced():
            return False
        self._drop_field("reasoning.budget_tokens", wanted.budget_tokens is not None)
        fields["thinking"] = {"type": "adaptive", **self._display(wanted)}
        return True

    def _display(self, wanted: Reasoning) -> JsonObject:
        extras = dict(wanted.extras)
        display: JsonObject = {"display": extras.pop("display")} if "display" in extras else {}
        self._drop_extras(extras, self.spelling.field("reasoning"))
        return display

    def _goes_on_without_thinking(self, turns: list[Turn[B]]) -> bool:
        """Whether the caller answers a tool call whose turn has no thinking. Thinking with a budget is not possible
        then, because the turn of the call would have to begin with it."""
        if len(turns) < 2 or turns[-1].role != "user":
            return False
        kinds = [(turn.role, [self._kind(block) for block in turn.blocks]) for turn in turns]
        called = kinds[-2][1]
        return ("call" in called and called[0] != "thinking") or goes_on_without_thinking(kinds)

    # tools

    def _forced(self) -> bool:
        choice = self.chat.tool_choice
        return bool(self.chat.tools) and choice is not None and choice.mode in FORCED

    def _called(self, part: ToolCall, path: str) -> JsonObject:
        """The arguments of a call, which must have an id. Raises BadRequest."""
        if not part.id:
            where = self._member(path, "id")
            raise BadRequest(f"{where} is missing: the result of a call names it", param=where)
        arguments = arguments_of(part.arguments)
        if arguments is None:
            where = self._member(path, "arguments")
            raise BadRequest(f"{where} is not a JSON object", param=where)
        self._drop_member(path, "signature", part.signature)
        return arguments

    def _answered(self, part: ToolResult, path: str) -> tuple[str, list[B]]:
        """The id of the call, and the blocks of its result. Raises BadRequest."""
        if not part.call_id:
            where = self._member(path, "call_id")
            raise BadRequest(f"{where} is missing: it says whose result this is", param=where)
        inner = [self._block(each, where) for where, each in parts_of(part.parts, path)]
        return tool_id(part.call_id), [block for block in inner if block is not None]

    # the conversation

    def _conversation(self) -> tuple[list[B], list[Turn[B]]]:
        """The system prompt, and the turns, beginning with the user. Thinking is first in a reply; tool results are
        first in a user turn."""
        system: list[B] = []
        turns: list[Turn[B]] = []
        for path, message in messages_of(self.chat):
            self._drop_if(f"{path}.name", message.name)
            self._drop_extras(message.extras, path)
            located = [self._block(part, where) for where, part in parts_of(message.parts, path)]
            blocks = [block for block in located if block is not None]
            match message.role:
                case "system" | "developer":
                    system += blocks
                case "user" | "tool":
                    _append_blocks(turns, "user", blocks)
                case "assistant":
                    _append_blocks(turns, "assistant", self._first("thinking", blocks))
                case _:
                    assert_never(message.role)
        for turn in turns:
            if turn.role == "user":
                turn.blocks = self._first("result", turn.blocks)
        path = self.spelling.field("messages")
        if not turns:
            raise BadRequest(f"{path} has no turn of the user, and {self.title} needs one", param=path)
        if turns[0].role != "user":
            raise BadRequest(f"{path} begins with the assistant; {self.title} needs a user turn first", param=path)
        last = turns[-1]
        if last.role == "assistant" and self._kind(last.blocks[-1]) == "text":
            self._strip(last.blocks[-1])  # a reply that the model continues must not end in white space
        return system, turns

    def _first(self, kind: BlockKind, blocks: list[B]) -> list[B]:
        return sorted(blocks, key=lambda block: self._kind(block) != kind) if len(blocks) > 1 else blocks


def goes_on_without_thinking(turns: Sequence[tuple[str, Sequence[BlockKind]]]) -> bool:
    """Whether the caller answers a call whose turn does not begin with thinking. The turn of a call begins after the
    last user message without a tool result. Claude refuses thinking with a budget there: `When thinking is enabled, a
    final assistant message must start with a thinking block`."""
    if not turns or not _is_answer(turns[-1]):
        return False
    first = len(turns) - 1
    while first > 0 and (turns[first][0] == "assistant" or _is_answer(turns[first])):
        first -= 1
    kinds_since = [kind for role, kinds in turns[first:] if role == "assistant" for kind in kinds]
    return "call" in kinds_since and kinds_since[0] != "thinking"


def _is_answer(turn: tuple[str, Sequence[BlockKind]]) -> bool:
    return turn[0] == "user" and "result" in turn[1]


def is_explicit(wanted: Reasoning) -> bool:
    """Whether thinking itself is requested, not only an effort."""
    return wanted.mode in ("enabled", "adaptive") or wanted.budget_tokens is not None


def _append_blocks(turns: list[Turn[B]], role: Literal["user", "assistant"], blocks: list[B]) -> None:
    if not blocks:
        return
    if turns and turns[-1].role == role:
        turns[-1].blocks += blocks
    else:
        turns.append(Turn(role, blocks))
