"""Checks that a reply is one JSON object, for a caller of a JSON mode that the provider's format lacks.

Such a model is asked for JSON in the prompt (dialects/crossing.py). It may still put the object into a code fence,
which is removed here, or write other text, which is an error. A reply that was cut off, that calls tools or that
refuses is not checked: a provider with a JSON mode does not promise more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..codecs.json_values import UNREADABLE, decode
from ..model.content import Refusal, Text, ToolCall
from ..model.fault import Fault
from ..model.reply import Choice, Failed, Finished, PartDelta, PartEnded, PartStarted, Reply, ReplyEvent

NOT_JSON = Fault(502, "api", "the model's answer is no JSON object, which the call requires", "malformed_answer")

_COMPLETE = frozenset({"stop", "stop_sequence"})
_FENCE = "```"
# Characters. The first line of a fence is a language.
_LONGEST_FENCE = 40
# What may be the end of the text or the closing fence.
_OPEN_END = re.compile(r"\s*`{0,3}\s*\Z")
_WHOLE_FENCE = re.compile(rf"\s*```[^\n]{{0,{_LONGEST_FENCE}}}\n(.*?)\s*(?:```)?\s*", re.DOTALL)


def _is_object(text: str) -> bool:
    try:
        return isinstance(decode(text.encode("utf-8", "surrogatepass")), dict)
    except UNREADABLE:
        return False


def json_reply(reply: Reply) -> Reply | None:
    """The reply with a plain JSON object as the text of each choice. The same reply if nothing changes. None: a choice
    has another text."""
    choices = [_json_choice(choice) for choice in reply.choices]
    checked = tuple(choice for choice in choices if choice is not None)
    if len(checked) < len(choices):
        return None
    return (
        reply if all(a is b for a, b in zip(checked, reply.choices, strict=True)) else replace(reply, choices=checked)
    )


def _json_choice(choice: Choice) -> Choice | None:
    is_complete = choice.finish is not None and choice.finish.reason in _COMPLETE
    if not is_complete or any(isinstance(part, ToolCall | Refusal) for part in choice.parts):
        return choice
    texts = [part for part in choice.parts if isinstance(part, Text)]
    if _is_object("".join(part.text for part in texts)):
        return choice
    fence = _WHOLE_FENCE.fullmatch(texts[0].text) if len(texts) == 1 else None
    if fence is None or not _is_object(fence[1]):
        return None
    parts = tuple(replace(part, text=fence[1]) if isinstance(part, Text) else part for part in choice.parts)
    return replace(choice, parts=parts)


@dataclass(slots=True)
class _ChoiceText:
    texts: list[str] = field(default_factory=list)
    fenced: bool | None = None
    """Whether the text is in a code fence. None: it is not known yet."""
    held: str = ""
    """Text that may belong to a fence."""
    is_checked: bool = True

    def add(self, text: str) -> str:
        """The text that can be sent now."""
        self.held += text
        if self.fenced is None:
            self._begin()
        if self.fenced is None:
            return ""
        end = len(self.held)
        if self.fenced and (match := _OPEN_END.search(self.held)) is not None:
            end = match.start()
        sent, self.held = self.held[:end], self.held[end:]
        self.texts.append(sent)
        return sent

    def _begin(self) -> None:
        begin = self.held.lstrip()
        if len(begin) < len(_FENCE) and _FENCE.startswith(begin):
            return
        line, newline, rest = begin.partition("\n")
        if not line.startswith(_FENCE) or len(line) > _LONGEST_FENCE:
            self.fenced = False
        elif newline:
            self.fenced, self.held = True, rest

    def end(self) -> str:
        """The rest of the text."""
        rest = "" if self.fenced and self.held.strip() in ("", _FENCE) else self.held
        self.held = ""
        self.texts.append(rest)
        return rest


class JsonAnswers:
    """The same for a stream: the events without the fence. A Failed replaces the end of a reply that is no JSON."""

    def __init__(self) -> None:
        self._choices: dict[int, _ChoiceText] = {}
        self._parts: set[tuple[int, int]] = set()
        """The open parts that are text."""

    def checked(self, events: Iterable[ReplyEvent]) -> list[ReplyEvent]:
        out: list[ReplyEvent] = []
        for event in events:
            match event:
                case PartStarted():
                    state = self._state(event.choice)
                    if event.kind == "text":
                        self._parts.add((event.choice, event.part))
                    elif event.kind in ("tool_call", "refusal"):
                        state.is_checked = False
                    out.append(event)
                case PartDelta() if (event.choice, event.part) in self._parts:
                    if text := self._state(event.choice).add(event.text):
                        out.append(replace(event, text=text))
                case PartEnded() if (event.choice, event.part) in self._parts:
                    self._parts.discard((event.choice, event.part))
                    if text := self._state(event.choice).end():
                        out.append(PartDelta(event.part, text, event.choice))
                    out.append(event)
                case Finished() if self._is_wrong(event):
                    out.append(Failed(NOT_JSON))
                case _:
                    out.append(event)
        return out

    def _state(self, choice: int) -> _ChoiceText:
        return self._choices.setdefault(choice, _ChoiceText())

    def _is_wrong(self, event: Finished) -> bool:
        state = self._state(event.choice)
        return event.finish.reason in _COMPLETE and state.is_checked and not _is_object("".join(state.texts))
