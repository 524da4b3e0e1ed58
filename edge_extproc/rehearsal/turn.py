"""What the rehearsal model says: to the same question the same answer. It knows neither OpenAI nor Anthropic, nor HTTP.

Tokens are counted by a rule that anyone can check by hand:

* in: one for each word (what whitespace separates) of every text, tool result and tool argument, 100 for each image or
  document, 10 for each tool offered;
* out: one for each piece streamed: a word of text or of thought, eight characters of JSON; one more for a tool's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import orjson

from .schema import sample

IMAGE_TOKENS = 100
TOOL_TOKENS = 10

# A 20 MB question is not echoed whole.
ECHO_LIMIT = 2_000

Choice = Literal["auto", "none", "required"]
Finish = Literal["stop", "stop_sequence", "length", "tools"]


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question, read from either format."""

    asked: str
    """The text of the last turn; empty if it has none."""
    results: tuple[str, ...] = ()
    """The tool results of the last turn."""
    messages: int = 1
    images: int = 0
    documents: int = 0
    system: int = 0
    """Words of system prompt."""
    tokens: int = 0
    tools: tuple[Tool, ...] = ()
    choice: Choice = "auto"
    parallel: bool = True
    stop: tuple[str, ...] = ()
    limit: int | None = None
    schema: Mapping[str, object] | None = None
    """What the answer must look like, if it must be JSON."""
    thinking: int = 0
    """How many words of thought come first."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer, in the pieces in which it streams."""

    thought: tuple[str, ...]
    said: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish: Finish
    stopped_by: str | None = None

    @property
    def tokens(self) -> int:
        return len(self.thought) + len(self.said) + sum(1 + len(call.pieces) for call in self.calls)


def words(text: str) -> int:
    return len(text.split())


def play(prompt: Prompt, tokens: int | None = None) -> Turn:
    """The answer. `tokens` asks for so many words, whatever was asked."""
    thought = _in_words("Let me think about this. " * (prompt.thinking + 1))[: prompt.thinking]
    named = _tools_to_call(prompt) if tokens is None else ()
    finish: Finish = "tools" if named else "stop"
    stopped_by = None
    if tokens is not None:
        said = tuple(f"{' ' if n else ''}word{n + 1}" for n in range(tokens))
    elif named:
        said = _in_words("" if prompt.choice == "required" else f"I will call {_listed([t.name for t in named])}.")
    elif prompt.schema is not None:
        said = _in_eights(orjson.dumps(sample(prompt.schema)).decode())
    else:
        said = _in_words(_echo(prompt))
    cut, stopped_by = _stopped("".join(said), prompt.stop)
    if stopped_by is not None:
        said, named, finish = _in_words(cut), (), "stop_sequence"
    calls = tuple(ToolCall(tool.name, _in_eights(orjson.dumps(sample(tool.schema)).decode())) for tool in named)
    return _limited(Turn(thought, said, calls, finish, stopped_by), prompt.limit)


def _tools_to_call(prompt: Prompt) -> tuple[Tool, ...]:
    """`call a and b` calls a and b; who must call something calls the first that is offered."""
    if prompt.choice == "none" or not prompt.tools:
        return ()
    offered = {tool.name: tool for tool in prompt.tools}
    named: dict[str, Tool] = {}
    for order in re.finditer(r"\bcall\s+(.+)", prompt.asked[:ECHO_LIMIT], re.IGNORECASE):
        for word in re.findall(r"[\w-]+", order[1]):
            if word in offered:
                named[word] = offered[word]
            elif word != "and":
                break
    if not named and prompt.choice == "required":
        named = {prompt.tools[0].name: prompt.tools[0]}
    return tuple(named.values())[: None if prompt.parallel else 1]


def _echo(prompt: Prompt) -> str:
    if prompt.results and not prompt.asked:
        said = f"The tools answered: {'; '.join(prompt.results)[:ECHO_LIMIT]}"
    else:
        said = f"You asked: {prompt.asked[:ECHO_LIMIT]}" if prompt.asked else "You asked nothing."
    seen = (
        (prompt.messages, "message"),
        (prompt.images, "image"),
        (prompt.documents, "document"),
        (prompt.system, "system word"),
        (len(prompt.tools), "tool"),
    )
    return f"{said}\n(I see {_listed([f'{n} {what}' + 's' * (n != 1) for n, what in seen if n])}.)"


def _listed(items: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def _in_words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S+(?:\s+\Z)?|\s+\Z", text))


def _in_eights(text: str) -> tuple[str, ...]:
    return tuple(text[at : at + 8] for at in range(0, len(text), 8))


def _stopped(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the first stop sequence, and that sequence."""
    found = [(at, sequence) for sequence in stop if (at := text.find(sequence)) >= 0]
    if not found:
        return text, None
    at, sequence = min(found)
    return text[:at], sequence


def _limited(turn: Turn, limit: int | None) -> Turn:
    """No more tokens than allowed: what is left of a call may be half its arguments."""
    if limit is None or turn.tokens <= limit:
        return turn
    thought = turn.thought[:limit]
    left = limit - len(thought)
    said = turn.said[:left]
    left -= len(said)
    calls: list[ToolCall] = []
    for call in turn.calls:
        if left <= 0:
            break
        calls.append(ToolCall(call.name, call.pieces[: left - 1]))
        left -= 1 + len(calls[-1].pieces)
    return Turn(thought, said, tuple(calls), "length")
