"""Tool calls of a reply whose arguments cannot be read, for callers of another format.

A call was cut off if its arguments begin an object that does not end. Then the reply is incomplete, whatever its finish
reason says: some hosts report "tool_calls" or "stop" for a reply that reached a limit. Other arguments that are no
object are the model's mistake, and the call is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..codecs.json_values import JsonObject, encode
from ..errors import UpstreamError
from ..model.content import Part, ToolCall
from ..model.reply import Choice, Finish, Finished, PartDelta, PartEnded, PartStarted, ReplyEvent
from .turns import CUT_OFF, arguments_of, object_of

_WATCHED_LIMIT = 16 * 1024 * 1024
"""Characters of the arguments of one reply. It equals the limit of a frame."""
_NOT_COMPLETE = CUT_OFF | {"malformed"}
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


def is_cut(text: str) -> bool:
    """Whether the arguments of a call begin an object and do not end it."""
    if not text.lstrip().startswith("{") or arguments_of(text) is not None:
        return False
    rest = _STRING.sub("", text)
    if '"' in rest:
        return True
    depth = 0
    for bracket in _BRACKETS.findall(rest):
        depth += 1 if bracket in "[{" else -1
        if depth == 0:
            return False
    return True


def has_object(part: Part) -> bool:
    """Whether a part is no call without readable arguments. Formats whose calls have an object cannot hold others."""
    return not isinstance(part, ToolCall) or arguments_of(part.arguments) is not None


def input_of_call(call: ToolCall) -> JsonObject:
    """The arguments of a complete call, for a format whose calls have an object. The text of arguments that are no
    object is a member of it: an empty object would be the input of another call."""
    return object_of(call.arguments)[0]


def without_cut_calls(choice: Choice) -> Choice:
    """A choice of another dialect, for a format whose calls have an object. It cannot hold a call that was cut off:
    clients would execute it with other arguments."""
    choice = with_cut_finish(choice)
    is_cut = choice.finish is not None and choice.finish.reason in CUT_OFF
    if not is_cut or all(map(has_object, choice.parts)):
        return choice
    return replace(choice, parts=tuple(filter(has_object, choice.parts)))


def with_cut_finish(choice: Choice) -> Choice:
    """A choice of another dialect, with the finish reason of a limit if a call was cut off."""
    arguments = [part.arguments for part in choice.parts if isinstance(part, ToolCall)]
    if not arguments:
        return choice
    finish = _with_limit(choice.finish, arguments)
    return choice if finish is choice.finish else replace(choice, finish=finish)


def _with_limit(finish: Finish | None, arguments: Iterable[str]) -> Finish | None:
    if (finish is not None and finish.reason in _NOT_COMPLETE) or not any(map(is_cut, arguments)):
        return finish
    return Finish("length", finish.raw if finish is not None else None)


@dataclass(slots=True)
class _Arguments:
    """The arguments of a call in a stream."""

    texts: list[str]
    waiting: bool
    """Whether nothing of them was passed on, because they do not begin an object so far."""
    is_other: bool = False
    """Whether they begin something else."""


class CallWatch:
    """Does the same for a stream. A call that has begun cannot be left out: its arguments stay incomplete.
    `has_objects`: the caller's format has an object as the input of a call."""

    def __init__(self, *, has_objects: bool) -> None:
        self._has_objects = has_objects
        self._calls: dict[tuple[int, int], _Arguments] = {}
        self._length = 0

    def checked(self, event: ReplyEvent) -> tuple[ReplyEvent, ...]:
        """The events for the caller. Of a choice, `Finished` is after its calls."""
        match event:
            case PartDelta():
                call = self._calls.get((event.choice, event.part)) if self._calls else None
                return (event,) if call is None else self._grown(call, event)
            case PartStarted(kind="tool_call"):
                self._calls[event.choice, event.part] = _Arguments([], self._has_objects)
            case PartEnded() if (call := self._calls.get((event.choice, event.part))) is not None and call.waiting:
                call.waiting = False
                text = "".join(call.texts)
                if text and not text.isspace():
                    return PartDelta(event.part, encode(object_of(text)[0]).decode(), event.choice), event
            case Finished():
                texts = [call.texts for (choice, _), call in self._calls.items() if choice == event.choice]
                finish = _with_limit(event.finish, map("".join, texts))
                return (event,) if finish is None or finish is event.finish else (replace(event, finish=finish),)
            case _:
                pass
        return (event,)

    def _grown(self, call: _Arguments, event: PartDelta) -> tuple[PartDelta, ...]:
        self._length += len(event.text)
        if self._length > _WATCHED_LIMIT:
            if call.waiting:
                raise UpstreamError(f"the provider sent calls of more than {_WATCHED_LIMIT} characters")
            call.texts.clear()  # nothing is known of so long a call
            return (event,)
        call.texts.append(event.text)
        if not call.waiting:
            return (event,)
        begin = "" if call.is_other else event.text.lstrip()
        if begin.startswith("{"):
            call.waiting = False
            return (replace(event, text="".join(call.texts)),)
        call.is_other = call.is_other or begin != ""
        return ()
