"""A chat of another dialect on its way into a format of turns: user and assistant by turns, each with its blocks.

Anthropic's Messages and Bedrock's Converse ask for the same order of the same things in other words. What both ask for
is here; how a block is spelled, and what each takes, is in their own files.
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
from ..model.content import Json, Message, Part, RedactedThinking, Thinking, ToolCall, ToolResult
from ..model.reply import FinishReason
from .carried import tool_id
from .claude import BUDGETS, LEAST_BUDGET, generation_of
from .dropping import DropList

B = TypeVar("B")
BlockKind: TypeAlias = Literal["text", "thinking", "call", "result", "media"]

NO_PARAMETERS: Mapping[str, Json] = MappingProxyType({"type": "object", "properties": {}})
FORCED = frozenset({"required", "tool"})
# A reply that has tool calls stops for them whatever its provider says (OpenAI says "stop" where a call was forced,
# Gemini always). Not so where it was cut off: its last call is torn, and the caller must not run it.
CUT_OFF: frozenset[FinishReason] = frozenset({"length", "context_window", "content_filter", "refusal", "pause"})
# Extras of other dialects whose absence would change what the caller gets.
_NEEDED_EXTRAS = frozenset({"audio", "functions", "function_call", "modalities", "tool_choice", "web_search_options"})


def arguments_of(text: str) -> JsonObject | None:
    """The arguments of a tool call as an object; None where they are none. No text is no arguments, and so is null,
    which Groq's models write for a tool without parameters."""
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
    """The schema of a tool's input, which must be an object's. Raises BadRequest."""
    if parameters is None or parameters == {}:
        return dict(NO_PARAMETERS)
    schema = as_object(parameters, path)
    return schema if "type" in schema else {"type": "object", **schema}


def answer_order(part: Part) -> int:
    """Thinking, then what is said, then calls."""
    if isinstance(part, Thinking | RedactedThinking):
        return 0
    return 2 if isinstance(part, ToolCall) else 1


@dataclass(slots=True)
class Turn(Generic[B]):
    role: Literal["user", "assistant"]
    blocks: list[B]


class Translation(DropList, ABC, Generic[B]):
    """One chat on its way; a B is a block of the format. `dropped` grows as it is written."""

    title: ClassVar[str]

    def __init__(self, chat: Chat, model: str) -> None:
        super().__init__()
        self.chat = chat
        self.model = model
        self.generation = generation_of(model)

    @abstractmethod
    def _block(self, part: Part, path: str) -> B | None:
        """None for what is left out."""

    @abstractmethod
    def _kind(self, block: B) -> BlockKind: ...

    @abstractmethod
    def _strip(self, block: B) -> None:
        """A text without the white space at its end."""

    # fields

    def _refuse(self) -> None:
        chat = self.chat
        if chat.n is not None and chat.n != 1:
            raise Unsupported("n", self.title, "it gives one answer")
        if chat.logprobs:
            raise Unsupported("logprobs", self.title, "it tells no probabilities")
        if chat.top_logprobs:
            raise Unsupported("top_logprobs", self.title, "it tells no probabilities")
        for name in chat.needed:
            raise Unsupported(name, self.title)
        for name, value in chat.extras.items():
            if name in _NEEDED_EXTRAS and value is not None and value != ["text"]:
                raise Unsupported(name, self.title)

    def _drop_placeless(self) -> None:
        """What has no place in the format at all."""
        for name in ("seed", "presence_penalty", "frequency_penalty"):
            self._drop_if(name, getattr(self.chat, name) is not None)
        self._drop_extras(self.chat.extras, "")

    # thinking

    def _reasoning_name(self, wanted: Reasoning) -> str:
        """What the caller called it."""
        if "reasoning" in self.chat.extras:
            return "reasoning"  # a note of OpenAI's reader
        return "thinking" if wanted.mode is not None or not wanted.effort else "reasoning_effort"

    @staticmethod
    def _check_effort(effort: str | None) -> None:
        if effort is not None and effort not in BUDGETS and effort != "none":
            raise BadRequest(
                f"reasoning_effort is {effort!r}; it must be one of none, {', '.join(BUDGETS)}",
                param="reasoning_effort",
            )

    def _rests(self, wanted: Reasoning, fields: JsonObject) -> None:
        """A Claude shall not think. Off is what the older ones are anyway; the newest can only be asked to think
        little."""
        if self.generation.thinks_unasked:
            fields["output_config"] = {"effort": "low"}
            self.dropped.add(self._reasoning_name(wanted))
        self._drop_extras(wanted.extras, "thinking")

    def _thinks(
        self,
        wanted: Reasoning,
        effort: str | None,
        fields: JsonObject,
        limits: JsonObject,
        limit_name: str,
        turns: list[Turn[B]],
    ) -> bool:
        """Whether a Claude that shall think does; `fields` takes what Anthropic calls it, `limits` the tokens."""
        if self.generation.adaptive:
            return self._adapts(wanted, effort, fields)
        if not self.generation.budgets or self._goes_on_without_thinking(turns):
            self.dropped.add(self._reasoning_name(wanted))
            return False
        budget = max(wanted.budget_tokens or BUDGETS.get(effort or "medium", LEAST_BUDGET), LEAST_BUDGET)
        limit = limits.get(limit_name)
        if isinstance(limit, int) and limit <= budget:
            limits[limit_name] = limit + budget  # thinking counts: the answer keeps the room that the caller gave it
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget, **self._display(wanted)}
        return True

    def _adapts(self, wanted: Reasoning, effort: str | None, fields: JsonObject) -> bool:
        """Thinking whose depth is an effort. A forced tool call cannot be had together with thinking: it wins over a
        mere effort, which the model honours without thinking too."""
        if effort is not None:
            level = "low" if effort in ("minimal", "none") else effort
            if level not in self.generation.efforts:
                raise BadRequest(
                    f"reasoning_effort is {effort!r}; {self.model!r} has {', '.join(self.generation.efforts)}",
                    param="reasoning_effort",
                )
            fields["output_config"] = {"effort": level}
        if not is_explicit(wanted) and self._forced():
            return False
        self._drop_if("thinking.budget_tokens", wanted.budget_tokens is not None)
        fields["thinking"] = {"type": "adaptive", **self._display(wanted)}
        return True

    def _display(self, wanted: Reasoning) -> JsonObject:
        extras = dict(wanted.extras)
        display: JsonObject = {"display": extras.pop("display")} if "display" in extras else {}
        self._drop_extras(extras, "thinking")
        return display

    def _goes_on_without_thinking(self, turns: list[Turn[B]]) -> bool:
        """The caller answers a tool call that was made without thinking, or whose thinking it did not keep. Thinking by
        a budget cannot be switched on there: the turn of the call would have to begin with it."""
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
            raise BadRequest(f"{path}.id is missing: the result of a call names it", param=f"{path}.id")
        arguments = arguments_of(part.arguments)
        if arguments is None:
            raise BadRequest(f"{path}.function.arguments is no JSON object", param=f"{path}.function.arguments")
        self._drop_if(f"{path}.signature", part.signature)
        return arguments

    def _answered(self, part: ToolResult, path: str) -> tuple[str, list[B]]:
        """Whose result it is, and its blocks. Raises BadRequest."""
        if not part.call_id:
            raise BadRequest(
                f"{path}.tool_call_id is missing: it says whose result this is", param=f"{path}.tool_call_id"
            )
        inner = [self._block(p, f"{path}.content[{i}]") for i, p in enumerate(part.parts)]
        return tool_id(part.call_id), [block for block in inner if block is not None]

    # the conversation

    def _conversation(self) -> tuple[list[B], list[Turn[B]]]:
        """The system prompt, and the turns, the user's first: thinking begins an answer, results begin a question."""
        system: list[B] = []
        turns: list[Turn[B]] = []
        for number, message in enumerate(self.chat.messages):
            path = f"messages[{number}]"
            self._drop_if(f"{path}.name", message.name)
            self._drop_extras(message.extras, path)
            blocks = self._blocks(message, path)
            match message.role:
                case "system" | "developer":
                    system += blocks
                case "user" | "tool":
                    _say(turns, "user", blocks)
                case "assistant":
                    _say(turns, "assistant", self._first("thinking", blocks))
                case _:
                    assert_never(message.role)
        for turn in turns:
            if turn.role == "user":
                turn.blocks = self._first("result", turn.blocks)
        if not turns:
            raise BadRequest(f"messages hold no turn of the user, and {self.title} needs one", param="messages")
        if turns[0].role != "user":
            raise BadRequest(f"messages begin with the assistant; {self.title} needs the user first", param="messages")
        last = turns[-1]
        if last.role == "assistant" and self._kind(last.blocks[-1]) == "text":
            self._strip(last.blocks[-1])  # an answer that the model shall go on with may not end in white space
        return system, turns

    def _first(self, kind: BlockKind, blocks: list[B]) -> list[B]:
        return sorted(blocks, key=lambda block: self._kind(block) != kind) if len(blocks) > 1 else blocks

    def _blocks(self, message: Message, path: str) -> list[B]:
        """The blocks of a message. Their paths count as OpenAI's callers do: content and tool calls each from 0."""
        blocks: list[B] = []
        content = calls = 0
        for part in message.parts:
            if isinstance(part, ToolCall):
                where = f"{path}.tool_calls[{calls}]"
                calls += 1
            elif isinstance(part, Thinking | RedactedThinking):
                where = f"{path}.reasoning_content"
            elif isinstance(part, ToolResult):
                where = path
            else:
                where = f"{path}.content[{content}]"
                content += 1
            block = self._block(part, where)
            if block is not None:
                blocks.append(block)
        return blocks


def goes_on_without_thinking(turns: Sequence[tuple[str, Sequence[BlockKind]]]) -> bool:
    """Whether the caller answers a call whose turn does not begin with thinking. The turn of a call begins after the
    last message of the user that holds no result. Claude refuses thinking by a budget there: `When thinking is enabled,
    a final assistant message must start with a thinking block`."""
    if not turns or not _is_answer(turns[-1]):
        return False
    first = len(turns) - 1
    while first > 0 and (turns[first][0] == "assistant" or _is_answer(turns[first])):
        first -= 1
    said = [kind for role, kinds in turns[first:] if role == "assistant" for kind in kinds]
    return "call" in said and said[0] != "thinking"


def _is_answer(turn: tuple[str, Sequence[BlockKind]]) -> bool:
    return turn[0] == "user" and "result" in turn[1]


def is_explicit(wanted: Reasoning) -> bool:
    """Thinking itself is asked for, not only some effort."""
    return wanted.mode in ("enabled", "adaptive") or wanted.budget_tokens is not None


def _say(turns: list[Turn[B]], role: Literal["user", "assistant"], blocks: list[B]) -> None:
    if not blocks:
        return
    if turns and turns[-1].role == role:
        turns[-1].blocks += blocks
    else:
        turns.append(Turn(role, blocks))
