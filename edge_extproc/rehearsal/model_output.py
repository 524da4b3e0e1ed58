"""The rehearsal model: it makes the reply to a prompt, independent of wire formats. Equal prompts get equal replies.

Tokens are counted by a simple rule:

* input: one for each word (separated by white space) of every text, tool result and tool argument, 100 for each image
  or document, 10 for each tool;
* output: one for each piece of the stream: a word of text or of thinking, or eight characters of JSON; and one for the
  name of each called tool.
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

# Characters. The reply repeats no more of a prompt.
ECHO_LIMIT = 2_000

Choice = Literal["auto", "none", "required"]
Finish = Literal["stop", "stop_sequence", "length", "tools"]


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, independent of the wire format."""

    text: str
    """The text of the last turn; empty if it has none."""
    results: tuple[str, ...] = ()
    """The tool results of the last turn."""
    messages: int = 1
    images: int = 0
    documents: int = 0
    system: int = 0
    """The number of words of the system prompt."""
    tokens: int = 0
    tools: tuple[Tool, ...] = ()
    choice: Choice = "auto"
    parallel: bool = True
    stop: tuple[str, ...] = ()
    limit: int | None = None
    schema: Mapping[str, object] | None = None
    """The JSON schema of the reply. None: the reply is text."""
    thinking: int = 0
    """The number of words of thinking before the reply."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """A reply of the model, in the pieces of its stream."""

    thinking: tuple[str, ...]
    text: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    finish: Finish
    stopped_by: str | None = None

    @property
    def tokens(self) -> int:
        return len(self.thinking) + len(self.text) + sum(1 + len(call.pieces) for call in self.calls)


def words(text: str) -> int:
    return len(text.split())


def play(prompt: Prompt, tokens: int | None = None) -> ModelOutput:
    """The reply. `tokens`: exactly this many words, regardless of the prompt."""
    thought = _in_words("Let me think about this. " * (prompt.thinking + 1))[: prompt.thinking]
    tools = _tools_to_call(prompt) if tokens is None else ()
    finish: Finish = "tools" if tools else "stop"
    stopped_by = None
    if tokens is not None:
        text_words = tuple(f"{' ' if n else ''}word{n + 1}" for n in range(tokens))
    elif tools:
        text_words = _in_words(
            "" if prompt.choice == "required" else f"I will call {_listed([t.name for t in tools])}."
        )
    elif prompt.schema is not None:
        text_words = _in_eights(orjson.dumps(sample(prompt.schema)).decode())
    else:
        text_words = _in_words(_echo(prompt))
    kept_text, stopped_by = _stopped("".join(text_words), prompt.stop)
    if stopped_by is not None:
        text_words, tools, finish = _in_words(kept_text), (), "stop_sequence"
    calls = tuple(ToolCall(tool.name, _in_eights(orjson.dumps(sample(tool.schema)).decode())) for tool in tools)
    return _limited(ModelOutput(thought, text_words, calls, finish, stopped_by), prompt.limit)


def _tools_to_call(prompt: Prompt) -> tuple[Tool, ...]:
    """The tools to call: those that the prompt names, as in `call a and b`. If a call is required and none is named,
    the first tool."""
    if prompt.choice == "none" or not prompt.tools:
        return ()
    offered = {tool.name: tool for tool in prompt.tools}
    by_name: dict[str, Tool] = {}
    for order in re.finditer(r"\bcall\s+(.+)", prompt.text[:ECHO_LIMIT], re.IGNORECASE):
        for word in re.findall(r"[\w-]+", order[1]):
            if word in offered:
                by_name[word] = offered[word]
            elif word != "and":
                break
    if not by_name and prompt.choice == "required":
        by_name = {prompt.tools[0].name: prompt.tools[0]}
    return tuple(by_name.values())[: None if prompt.parallel else 1]


def _echo(prompt: Prompt) -> str:
    if prompt.results and not prompt.text:
        echo = f"The tools answered: {'; '.join(prompt.results)[:ECHO_LIMIT]}"
    else:
        echo = f"You asked: {prompt.text[:ECHO_LIMIT]}" if prompt.text else "You asked nothing."
    seen = (
        (prompt.messages, "message"),
        (prompt.images, "image"),
        (prompt.documents, "document"),
        (prompt.system, "system word"),
        (len(prompt.tools), "tool"),
    )
    return f"{echo}\n(I see {_listed([f'{n} {what}' + 's' * (n != 1) for n, what in seen if n])}.)"


def _listed(items: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def _in_words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S+(?:\s+\Z)?|\s+\Z", text))


def _in_eights(text: str) -> tuple[str, ...]:
    return tuple(text[at : at + 8] for at in range(0, len(text), 8))


def _stopped(text: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the first stop sequence, and that sequence."""
    matches = [(at, sequence) for sequence in stop if (at := text.find(sequence)) >= 0]
    if not matches:
        return text, None
    at, sequence = min(matches)
    return text[:at], sequence


def _limited(model_output: ModelOutput, limit: int | None) -> ModelOutput:
    """The reply cut to `limit` tokens. The arguments of a call may be incomplete."""
    if limit is None or model_output.tokens <= limit:
        return model_output
    thought = model_output.thinking[:limit]
    remaining = limit - len(thought)
    text = model_output.text[:remaining]
    remaining -= len(text)
    calls: list[ToolCall] = []
    for call in model_output.calls:
        if remaining <= 0:
            break
        calls.append(ToolCall(call.name, call.pieces[: remaining - 1]))
        remaining -= 1 + len(calls[-1].pieces)
    return ModelOutput(thought, text, tuple(calls), "length")
