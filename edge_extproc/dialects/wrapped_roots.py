"""Schemas of a reply whose root is no object, for formats that accept objects alone.

Gemini accepts a list, a scalar or an enum as a whole reply. OpenAI answers `schema must be a JSON Schema of 'type:
"object"', got 'type: "array"'`, and its guide on structured outputs forbids `anyOf` at the root; Anthropic and Bedrock
follow it. So the schema becomes the one member of an object, and the reply is the value of that member
(docs/adr/354-roots-that-are-no-object.md).
"""

from __future__ import annotations

from dataclasses import replace

from ..codecs.json_values import JsonObject
from ..model.call import Chat
from ..model.content import Json

_MEMBER = "value"
_OPENING = f'{{"{_MEMBER}":'
_ENDS = " \t\r\n}"
_DEFINITIONS = ("$defs", "definitions")
_COMBINED = ("anyOf", "oneOf", "allOf", "enum", "const", "$ref")


def has_object_root(schema: Json) -> bool:
    """Whether each format accepts the root of a schema. What is no schema is refused elsewhere."""
    if not isinstance(schema, dict):
        return True
    kind = schema.get("type")
    return kind == "object" or (
        kind is None and ("properties" in schema or not any(map(schema.__contains__, _COMBINED)))
    )


def with_object_root(chat: Chat) -> Chat:
    """The chat with an object as the root of its schema, if the format of its caller accepts any root."""
    wanted = chat.response_format
    if wanted is None or not wanted.any_root or not isinstance(wanted.schema, dict) or has_object_root(wanted.schema):
        return chat
    inner = {key: value for key, value in wanted.schema.items() if key not in _DEFINITIONS}
    schema: JsonObject = {
        "type": "object",
        "properties": {_MEMBER: inner},
        "required": [_MEMBER],
        "additionalProperties": False,
        **{key: wanted.schema[key] for key in _DEFINITIONS if key in wanted.schema},
    }
    return replace(chat, response_format=replace(wanted, schema=schema))


class RootReader:
    """Reads the value out of the text of a reply, which may come in pieces. Another text stays as it is."""

    __slots__ = ("_begun", "_held", "_passes")

    def __init__(self) -> None:
        self._held = ""
        self._begun = False
        self._passes = False

    def feed(self, text: str) -> str:
        """What is known to be of the value."""
        if self._passes:
            return text
        text = self._held + text
        if not self._begun:
            length = _opening(text)
            if length is None:
                self._held = text
                return ""
            self._begun = length > 0
            self._passes, self._held = not self._begun, ""
            if self._passes:
                return text
            text = text[length:].lstrip()
        known = text.rstrip(_ENDS)
        self._held = text[len(known) :]
        return known

    def close(self) -> str:
        """The rest of the value."""
        rest, self._held = self._held, ""
        return rest.rpartition("}")[0] if self._begun and "}" in rest else rest


def _opening(text: str) -> int | None:
    """The length of the beginning of the object, up to its value. 0: it is another text. None: it is too short."""
    at = 0
    for position, sign in enumerate(text):
        if sign.isspace():
            continue
        if sign != _OPENING[at]:
            return 0
        at += 1
        if at == len(_OPENING):
            return position + 1
    return None


def unwrapped(text: str) -> str:
    """The value of a whole text."""
    reader = RootReader()
    return reader.feed(text) + reader.close()
