"""Converts tools with free text as input to functions with one string parameter.

OpenAI's formats have custom tools: the model writes the input as plain text, which may have to match a grammar. In
every other format such a tool is a function with one string parameter, `input`. This module makes the function, and
reads the text from the JSON arguments of a call, complete or streamed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from ..codecs.json_values import UNREADABLE, decode, encode
from ..model.call import CustomTool
from ..model.content import NO_EXTRAS, Extras, Json

INPUT = "input"
_PARAMETERS: Mapping[str, Json] = MappingProxyType(
    {
        "type": "object",
        "properties": {INPUT: {"type": "string", "description": "The whole input of the tool, as plain text."}},
        "required": [INPUT],
    }
)


def custom_tool(name: str, text: str | None, format: Json, extras: Extras = NO_EXTRAS, path: str = "") -> CustomTool:
    """`format`: the constraint of the input as OpenAI Responses spells it, or None."""
    rule = _rule(format)
    description = "\n\n".join(part for part in (text, rule) if part)
    parameters = {**_PARAMETERS}
    return CustomTool(name, description or None, parameters, extras=extras, path=path, text=text, format=format)


def _rule(format: Json) -> str:
    """The sentences that tell a model which text the tool accepts."""
    match format:
        case {"type": "grammar", "syntax": str(syntax), "definition": str(definition)}:
            kind = "regular expression" if syntax == "regex" else f"{syntax.capitalize()} grammar"
            return f"Put the whole input into `{INPUT}`, as plain text. It must match this {kind}:\n{definition}"
        case _:
            return f"Put the whole input into `{INPUT}`, as plain text."


def arguments_of_input(text: str) -> str:
    """The JSON arguments that hold an input."""
    return encode({INPUT: text}).decode()


OPENING = '{"input":"'
CLOSING = '"}'


def escaped(text: str) -> str:
    """A piece of an input, escaped for the JSON arguments."""
    return encode(text).decode()[1:-1]


# --- reading the arguments

_BEGINNING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_PREFIXES = re.compile(
    r'\s*(?:\{\s*(?:"(?:i(?:n(?:p(?:u(?:t(?:"\s*(?::\s*)?)?)?)?)?)?)?)?)?',
)
"""Text that may still become `_BEGINNING`."""
_PLAIN = re.compile(r'[^"\\]+')
_ESCAPES: Mapping[str, str] = MappingProxyType({"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"})
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_UNPAIRED = "\N{REPLACEMENT CHARACTER}"


class CustomInputReader:
    """Reads the input from the arguments of one call: `feed` returns what a piece adds to it, `close` the rest. The
    input does not depend on the portions of the arguments.

    A model may write something other than the object of the schema. Text that does not begin like the object is
    buffered until it is complete; `close` then returns the most likely input.
    """

    def __init__(self) -> None:
        self._state: Literal["before", "within", "after", "odd"] = "before"
        self._buffered = ""
        self._high = ""
        """The first half of a surrogate pair."""

    def feed(self, piece: str) -> str:
        match self._state:
            case "after":
                return ""
            case "within":
                return self._within(self._buffered + piece)
            case "odd":
                self._buffered += piece
                return ""
        text = self._buffered + piece
        begun = _BEGINNING.match(text)
        if begun is not None:
            self._state = "within"
            return self._within(text[begun.end() :])
        self._buffered = text
        if _PREFIXES.fullmatch(text) is None:
            self._state = "odd"
        return ""

    def close(self) -> str:
        state, buffered = self._state, self._buffered
        self._state, self._buffered = "after", ""
        if state == "within":  # the reply was cut off
            return self._unpaired()
        return _plain_input(buffered) if state in ("before", "odd") else ""

    def _within(self, text: str) -> str:
        """The text up to the end of the string, or to an incomplete escape."""
        out: list[str] = []
        at = 0
        self._buffered = ""
        while at < len(text):
            plain = _PLAIN.match(text, at)
            if plain is not None:
                out += [self._unpaired(), plain[0]]
                at = plain.end()
            elif text[at] == '"':
                out.append(self._unpaired())
                self._state = "after"
                break
            else:
                length = self._escape(text, at, out)
                if not length:
                    self._buffered = text[at:]
                    break
                at += length
        return "".join(out)

    def _escape(self, text: str, at: int, out: list[str]) -> int:
        """The length of the escape at `at`; 0 if it is incomplete."""
        kind = text[at + 1 : at + 2]
        if not kind:
            return 0
        if kind != "u":
            out += [self._unpaired(), _ESCAPES.get(kind, kind)]
            return 2
        digits = text[at + 2 : at + 6]
        if len(digits) < 4 and re.fullmatch(r"[0-9a-fA-F]*", digits):
            return 0
        if _HEX.fullmatch(digits) is None:  # not an escape of JSON: the letter itself
            out += [self._unpaired(), kind]
            return 2
        code = int(digits, 16)
        if 0xDC00 <= code < 0xE000 and self._high:
            pair = 0x10000 + ((int(self._high, 16) - 0xD800) << 10) + (code - 0xDC00)
            self._high = ""
            out.append(chr(pair))
        elif 0xD800 <= code < 0xDC00:
            out.append(self._unpaired())
            self._high = digits
        else:
            out += [self._unpaired(), _UNPAIRED if 0xDC00 <= code < 0xE000 else chr(code)]
        return 6

    def _unpaired(self) -> str:
        unpaired, self._high = self._high, ""
        return _UNPAIRED if unpaired else ""


def _plain_input(text: str) -> str:
    """The input in arguments that do not match the schema: the member `input`, the only text in the object, a bare JSON
    string, or otherwise the arguments as they are."""
    try:
        value = decode(text.encode("utf-8", "surrogatepass"))
    except UNREADABLE:
        return text
    match value:
        case {"input": str(text_input)} | str(text_input):
            return text_input
        case dict() if len(texts := [each for each in value.values() if isinstance(each, str)]) == 1 == len(value):
            return texts[0]
        case dict() if not value:
            return ""
        case _:
            return text


def input_of(arguments: str) -> str:
    """The input in complete arguments of a call. `CustomInputReader` returns the same for a stream of them."""
    reader = CustomInputReader()
    return reader.feed(arguments) + reader.close()
