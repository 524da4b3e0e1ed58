"""Parses YAML into plain values, with the line and column of each value.

It accepts a subset of YAML: only true and false are booleans (no on, yes, y), only decimal numbers are numbers (no
0777, no 1:30, no 0x1f), a duplicate key is an error, and tags and merge keys are refused. `${NAME}` and
`${NAME:-default}` in a value are replaced from the environment and always give text; `$$` is one dollar sign.

This module does not know the keys of a configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

Path: TypeAlias = tuple[str | int, ...]

# libyaml is ten times faster; a PyYAML that was built without it still works.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_YAML = "tag:yaml.org,2002:"
# The tags that YAML 1.1 gives to plain scalars. They are ignored: `_scalar` determines the type.
_IMPLICIT = frozenset(_YAML + t for t in ("null", "bool", "int", "float", "timestamp", "value", "merge", "str"))
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "true": True, "false": False}

# Enough for ten thousand callers. A few lines with nested aliases would give millions of values.
MAX_VALUES = 200_000
_TOO_DEEP = "the values are nested too deeply; the README shows the shape of a configuration"
# libyaml stops at a depth of 1000, including the outermost value.
_MAX_DEPTH = 999

_DOLLAR = re.compile(
    r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\{))"
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Counted from 1."""

    line: int
    column: int


FIRST = Place(1, 1)


@dataclass(frozen=True, slots=True)
class ConfigMistake:
    """One line of an error message."""

    place: Place
    path: Path
    text: str
    """What is wrong, a semicolon, and how to correct it."""


class UnreadableDocument(Exception):
    """The text is not a valid document: no YAML, or outside the supported subset."""

    def __init__(self, mistakes: list[ConfigMistake]) -> None:
        super().__init__(f"{len(mistakes)} mistakes")
        self.mistakes = mistakes


@dataclass(slots=True)
class ConfigDocument:
    values: Any = None
    """dict, list, str, int, float, bool and None."""
    places: dict[Path, Place] = field(default_factory=dict)
    """The place of each value."""
    keys: dict[Path, Place] = field(default_factory=dict)
    """The place of the key of each value of a mapping."""
    written: dict[Path, str] = field(default_factory=dict)
    """The text of each scalar before variables are replaced."""

    def place(self, path: Path, *, key: bool = False) -> Place:
        """The place of a value or, if it has none, of the nearest value around it."""
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, FIRST)


def read(text: str, environ: Mapping[str, str]) -> ConfigDocument:
    """Raises UnreadableDocument with all mistakes that were found."""
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        raise UnreadableDocument([_no_yaml(text, exc)]) from exc
    except yaml.reader.ReaderError as exc:
        line = text.encode()[: exc.position].count(b"\n") + 1
        raise UnreadableDocument(
            [ConfigMistake(Place(line, 1), (), "this is not YAML: a control character; remove it")]
        ) from exc
    except RecursionError as exc:
        raise UnreadableDocument([ConfigMistake(FIRST, (), _TOO_DEEP)]) from exc
    if root is None:
        raise UnreadableDocument(
            [ConfigMistake(FIRST, (), "the configuration is empty; see the README for one to start from")]
        )
    reading = _Reading(environ)
    try:
        reading.document.values = reading.value(root, ())
    except RecursionError as exc:
        raise UnreadableDocument([ConfigMistake(FIRST, (), _TOO_DEEP)]) from exc
    if reading.mistakes:
        raise UnreadableDocument(reading.mistakes)
    return reading.document


def _no_yaml(text: str, error: yaml.MarkedYAMLError) -> ConfigMistake:
    """The error as a text of our own: the texts of libyaml and PyYAML differ, and change with their versions."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return ConfigMistake(FIRST, (), "this is not YAML; see the README for a configuration to start from")
    place = _place(mark)
    lines = text.split("\n")[: place.line]
    if _is_deep(lines, mark.column):
        return ConfigMistake(FIRST, (), _TOO_DEEP)
    match error:
        case yaml.composer.ComposerError() if lines[-1][mark.column :].startswith("*"):
            why = "nothing before this alias has its name; write the value out"
        case yaml.composer.ComposerError():
            why = "a second document begins here; write one, without ---"
        case yaml.scanner.ScannerError():
            why = (
                "the text up to here breaks a rule; look for an open quote, a tab, or a colon in a value without quotes"
            )
        case _:
            why = "something else must stand here; look for an open [ or {, and at the indentation"
    hint = "; inside { } or [ ], put ${NAME} in quotes" if "${" in lines[-1] else ""
    return ConfigMistake(place, (), f"this is not YAML: {why}{hint}")


def _is_deep(lines: list[str], column: int) -> bool:
    """Whether the text is nested too deeply. From 0.2.6 on, libyaml stops at this depth; with an older one, Python's
    recursion limit is reached."""
    before = [*lines[:-1], lines[-1][:column]]
    flows = sum(line.count("[") + line.count("{") - line.count("]") - line.count("}") for line in before)
    indented = column - len(before[-1].lstrip(" -?"))
    return max(flows, indented) >= _MAX_DEPTH


class _Reading:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.document = ConfigDocument()
        self.mistakes: list[ConfigMistake] = []
        self._environ = environ
        self._around: list[yaml.Node] = []

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.document.places[path] = _place(node.start_mark)
        if len(self.document.places) > MAX_VALUES:
            self._mistake(node, path, f"more than {MAX_VALUES} values, aliases counted each time; make it smaller")
            raise UnreadableDocument(self.mistakes)
        if any(node is outer for outer in self._around):
            self._mistake(node, path, "this alias contains itself; write the value out")
            return None
        match node:
            case yaml.MappingNode(tag=tag) if tag == _YAML + "map":
                self._around.append(node)
                result: Any = self._mapping(node, path)
                self._around.pop()
            case yaml.SequenceNode(tag=tag) if tag == _YAML + "seq":
                self._around.append(node)
                result = [self.value(item, (*path, n)) for n, item in enumerate(node.value)]
                self._around.pop()
            case yaml.ScalarNode(tag=tag) if tag in _IMPLICIT:
                result = self._scalar(node, path)
            case _:
                result = None
                self._mistake(node, path, f"the tag {node.tag!r} is not supported; remove it")
        return result

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._mistake(key_node, path, "a key must be text; write a name")
                continue
            key = key_node.value
            here = (*path, key)
            if key in values:
                first = self.document.keys[here].line
                self._mistake(key_node, here, f"this key was already given on line {first}; leave one of them out")
                continue
            if key == "<<" and not key_node.style:
                self._mistake(key_node, here, "merge keys are not supported; write the keys out")
                continue
            self.document.keys[here] = _place(key_node.start_mark)
            values[key] = self.value(value_node, here)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> object:
        text: str = node.value
        self.document.written[path] = text
        if "$" in text:
            return self._interpolated(node, path)
        # A plain scalar has the tag of text if no other type fits, or if it is written with !!str.
        if node.style or node.tag == _YAML + "str":
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        return text

    def _interpolated(self, node: yaml.ScalarNode, path: Path) -> str:
        def replace(match: re.Match[str]) -> str:
            if match["escaped"]:
                return "$"
            if match["broken"]:
                self._mistake(
                    node,
                    path,
                    "this ${ does not begin a variable; write ${NAME} or ${NAME:-default}, or $${ for a literal ${",
                )
                return ""
            name, default = match["name"], match["default"]
            # As in a shell, the default also replaces an empty variable.
            if default is not None:
                return self._environ.get(name) or default
            if name not in self._environ:
                self._mistake(
                    node, path, f"environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                )
                return ""
            return self._environ[name]

        return _DOLLAR.sub(replace, str(node.value))

    def _mistake(self, node: yaml.Node, path: Path, text: str) -> None:
        self.mistakes.append(ConfigMistake(_place(node.start_mark), path, text))


def _place(mark: yaml.Mark) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as text: callers[0].keys[1].id. A key with special characters is in quotes."""
    return "".join(_steps(path)).removeprefix(".")


def _steps(path: tuple[str | int, ...]) -> Iterator[str]:
    for step in path:
        if isinstance(step, int):
            yield f"[{step}]"
        else:
            yield "." + (step if re.fullmatch(r"[A-Za-z0-9_*-]+", step) else json.dumps(step))
