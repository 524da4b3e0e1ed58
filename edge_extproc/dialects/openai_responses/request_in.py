"""Parses a Responses request into a Chat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import msgspec

from ...codecs.json_values import (
    as_list,
    as_object,
    as_text,
    maybe_bool,
    maybe_int,
    maybe_list,
    maybe_object,
    maybe_text,
    read_body,
    rest_of,
)
from ...errors import BadRequest
from ...model.call import Call, Chat, Reasoning, ResponseFormat
from ...model.content import NO_EXTRAS, Extras, Json, Message, Opaque, Part, Role, Text, ToolCall, ToolResult
from .. import reading
from ..carried import original_id
from ..crossing import READ_ITEM, WHOLE_ITEM
from ..places import places
from .content import (
    BY_CALLER,
    INSTRUCTIONS,
    MESSAGE,
    RESULT,
    read_assistant_item,
    read_call_item,
    read_content,
    read_picture,
    read_reasoning_item,
)
from .fields import NAME, NEEDED, SCALARS, SPELLING, STORABLE, Item
from .tool_items import read_tool_call, read_tool_output
from .tools import ToolTable, read_tool_choice

# --- the cheap view


class _Probe(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_output_tokens: int | None = None
    background: bool | None = None


probe = msgspec.json.Decoder(_Probe)


def why_no_call(raw: bytes) -> BadRequest:
    """The error for a body that the typed decoder refused."""
    return reading.why_no_call(raw, "max_output_tokens")


_ROLES: Mapping[str, Role] = MappingProxyType(
    {"user": "user", "assistant": "assistant", "system": "system", "developer": "developer"}
)


@dataclass(slots=True)
class InputReader:
    """The items of the input on their way into turns.

    Consecutive items of the assistant are one turn. A second message, or thinking after a message, begins another turn,
    unless calls have no results yet.
    """

    table: ToolTable
    messages: list[Message] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    has_text: bool = False
    has_call: bool = False
    shell_ids: dict[str, str] = field(default_factory=dict)
    """The call ids of local shell calls, by the ids of their items: an output may name either."""

    def close(self) -> None:
        if self.parts:
            self.messages.append(Message("assistant", tuple(self.parts), path=self.parts[0].path))
        self.parts, self.has_text, self.has_call = [], False, False

    def _append(self, parts: Iterable[Part]) -> None:
        if self.has_text and not self.has_call:
            self.close()
        self.parts.extend(parts)

    def add(self, item: Item, path: str, content: str) -> None:
        """`content`: the path of the item's content."""
        if len(item) == 2 and isinstance(text := item.get("content"), str):  # most items of a long history
            match item.get("role"):
                case "user" | "system" | "developer" as role:
                    if self.parts:
                        self.close()
                    self.messages.append(Message(role, (Text(text, None, NO_EXTRAS, content),), None, NO_EXTRAS, path))
                    return
                case "assistant":
                    if self.has_text and not self.has_call:
                        self.close()
                    self.parts.append(Text(text, None, NO_EXTRAS, content))
                    self.has_text = True
                    return
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference"
        match kind:
            case "message":
                self._message(item, path)
            case "reasoning":
                self._append((read_reasoning_item(item, path),))
            case "function_call" if item.get("namespace") is None:
                self._call(read_call_item(item, path))
            case "function_call_output":
                self._result(
                    ToolResult(
                        original_id(as_text(item.get("call_id"), f"{path}.call_id")),
                        read_content(item.get("output"), f"{path}.output"),
                        extras=rest_of(item, RESULT),
                        path=path,
                    )
                )
            case "image_generation_call" if (picture := read_picture(item)) is not None:
                self._append((replace(picture, path=path),))
            case _:
                self._tool_item(item, as_text(kind, f"{path}.type"), path)

    def _tool_item(self, item: Item, kind: str, path: str) -> None:
        call = read_tool_call(item, kind, path, self.table)
        if call is not None:
            if kind == "local_shell_call" and isinstance(id := item.get("id"), str):
                self.shell_ids[id] = call.id
            self._call(call)
        elif (result := read_tool_output(item, kind, path, self.table, self.shell_ids)) is not None:
            self._result(result)
        else:
            self._opaque_item(item, kind, path)

    def _call(self, call: ToolCall) -> None:
        self.parts.append(call)
        self.has_call = True

    def _result(self, result: ToolResult) -> None:
        self.close()
        self.messages.append(Message("tool", (result,), path=result.path))

    def _message(self, item: Item, path: str) -> None:
        role = _ROLES.get(as_text(item.get("role"), f"{path}.role"))
        if role is None:
            raise BadRequest(
                f"{path}.role is {item['role']!r}; it must be one of {', '.join(_ROLES)}", param=f"{path}.role"
            )
        if role != "assistant":
            self.close()
            parts = read_content(item.get("content"), f"{path}.content")
            self.messages.append(Message(role, parts, extras=rest_of(item, MESSAGE), path=path))
        elif (reply := read_assistant_item(item, path)) is not None:
            self._append(reply)
            self.has_text = True
        else:
            self._append((Opaque(NAME, "message", item, path),))

    def _opaque_item(self, item: Item, kind: str, path: str) -> None:
        part = Opaque(NAME, kind, item, path)
        if BY_CALLER.fullmatch(kind):
            self.close()
            extras = READ_ITEM if kind == "additional_tools" else WHOLE_ITEM
            self.messages.append(Message("user", (part,), extras=extras, path=path))
        else:
            self.parts.append(part)


def _read_input(value: Json, table: ToolTable) -> InputReader:
    reader = InputReader(table)
    if isinstance(value, str):
        reader.messages.append(Message("user", (Text(value, path="input"),), path="input"))
    elif value is not None:
        items = as_list(value, "input")
        for item, (path, content) in zip(items, places("input", "content", len(items)), strict=False):
            reader.add(as_object(item, path), path, content)
        reader.close()
    return reader


# --- reading a request: the rest

_LOGPROBS = "message.output_text.logprobs"
_CHAT = frozenset(
    {
        "model",
        "input",
        "instructions",
        "include",
        "metadata",
        "parallel_tool_calls",
        "reasoning",
        "stream",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "user",
        "safety_identifier",
        *SCALARS.names,
    }
)


_FORMAT = frozenset({"type", "name", "schema", "description", "strict"})


def _read_format(value: Json) -> ResponseFormat | None:
    """None: the format is unknown, and stays in the rest of `text`."""
    match value:
        case {"type": "text" | "json_object" as kind, **rest} if not rest:
            return ResponseFormat(kind)
        case dict() if value.get("type") == "json_schema" and value.keys() <= _FORMAT:
            where = "text.format"
            schema = as_object(value.get("schema"), f"{where}.schema")
            return ResponseFormat(
                "json_schema",
                schema,
                maybe_text(value.get("name"), f"{where}.name"),
                maybe_text(value.get("description"), f"{where}.description"),
                maybe_bool(value.get("strict"), f"{where}.strict"),
            )
        case _:
            return None


def _read_reasoning(value: Json) -> Reasoning | None:
    if value is None:
        return None
    config = as_object(value, "reasoning")
    effort = maybe_text(config.get("effort"), "reasoning.effort")
    extras = rest_of(config, frozenset({"effort"}))
    return Reasoning(effort=effort, extras=extras) if effort is not None or extras else None


def _read_user(body: Item) -> tuple[str | None, Extras]:
    """`safety_identifier` is the newer name of `user`. A note records which one the caller used."""
    user = maybe_text(body.get("user"), "user")
    newer = maybe_text(body.get("safety_identifier"), "safety_identifier")
    if newer is None:
        return user, NO_EXTRAS
    return newer, {"safety_identifier": None, **({} if user is None else {"user": user})}


def read_chat(call: Call) -> Chat:
    body = read_body(call.raw)
    table = ToolTable(body)
    reader = _read_input(body.get("input"), table)
    instructions = maybe_text(body.get("instructions"), "instructions")
    if instructions is not None:
        prompt = Text(instructions, path="instructions")
        reader.messages.insert(0, Message("system", (prompt,), extras=INSTRUCTIONS, path="instructions"))
    choice, tools = read_tool_choice(body.get("tool_choice"), table)
    text = dict(maybe_object(body.get("text"), "text") or {})
    response_format = _read_format(text.get("format"))
    if response_format is not None:
        del text["format"]
    include = maybe_list(body.get("include"), "include") or []
    user_spelled = {} if body.get("safety_identifier") is None else {"user": "safety_identifier"}
    user, user_rest = _read_user(body)
    # The gateway stores the reply itself, so no other provider is asked to.
    known = _CHAT if call.stored is None else _CHAT | {"store"}
    extras = {
        **rest_of(body, known),
        **user_rest,
        **({"include": include} if include else {}),
        **({"text": text_rest} if (text_rest := rest_of(text, frozenset())) else {}),
    }
    return Chat(
        dialect=NAME,
        model=call.model,
        messages=tuple(reader.messages),
        stream=call.stream,
        include_usage=call.stream,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=maybe_bool(body.get("parallel_tool_calls"), "parallel_tool_calls"),
        **SCALARS.read(body),
        logprobs=True if _LOGPROBS in include else None,
        top_logprobs=maybe_int(body.get("top_logprobs"), "top_logprobs"),
        response_format=response_format,
        reasoning=_read_reasoning(body.get("reasoning")),
        user=user,
        metadata=maybe_object(body.get("metadata"), "metadata"),
        extras=extras or NO_EXTRAS,
        needed=(
            *(name for name in NEEDED if extras.get(name)),
            *(["include"] if _LOGPROBS in include else []),  # no other format tells them as this one does
        ),
        storable=tuple(name for name in STORABLE if extras.get(name)),
        spelling=SPELLING.but(user_spelled),
    )
