"""Writes docs/configuration.md, the reference of all keys of a configuration, and docs/config.schema.json, the schema
for editors, from the types that read a configuration. `make docs` runs it. A test checks that both are up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_extproc.config import load
from edge_extproc.config.json_schema import json_schema

PAGE = Path(__file__).with_suffix(".md")
SCHEMA = Path(__file__).with_name("config.schema.json")
INTRODUCTION = """\
# All keys of a configuration

This page is generated from the types that read a configuration file. `edge-extproc init` writes a file.
`edge-extproc check FILE` checks it, and names the line of each mistake.

- **Durations** have a unit: `250ms`, `5s`, `2m`, `1h30m`. **Sizes** too: `64KiB`, `32MiB`.
- **Secrets** are `{env: NAME}`, `{file: PATH}`, or a text.
- **Paths** that are relative begin at the directory of the file.
- **Environment variables** are replaced in every value: `${NAME}`, or `${NAME:-default}`. `$$` is one dollar sign.
- Only `true` and `false` are booleans. An unknown key is a mistake, and so is one that is given twice.

## An editor that knows the keys

[config.schema.json](config.schema.json) is the JSON Schema of a file. `edge-extproc schema --output edge.schema.json`
writes the one of the installed version. An editor with the YAML language server finds it by the first line of a
configuration:

```yaml
# yaml-language-server: $schema=edge.schema.json
```

"""
# A default with more characters says less than the section that it stands for.
_LONGEST_DEFAULT = 60


def sections(schema: Mapping[str, Any]) -> dict[str, list[str]]:
    """The paths of each definition, in the order of the first one. `NAME` stands for a name of the user's choice."""
    found: dict[str, list[str]] = {"": [""]}
    waiting = [("", "")]
    while waiting:
        name, path = waiting.pop(0)
        for key, field in _fields(schema, name).items():
            for below, step in _references(field):
                at = f"{path}.{key}{step}".removeprefix(".")
                if below not in found:
                    found[below] = []
                    waiting.append((below, at))
                if at not in found[below]:
                    found[below].append(at)
    return found


def page(schema: Mapping[str, Any]) -> str:
    places = sections(schema)
    top = list(_fields(schema, ""))
    # The definitions below a section follow it.
    names = sorted(places, key=lambda name: top.index(_first(places[name][0])) if name else -1)
    return INTRODUCTION + "\n".join(_section(schema, name, places) for name in names)


def _first(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _section(schema: Mapping[str, Any], name: str, places: Mapping[str, list[str]]) -> str:
    required = (schema["$defs"][name] if name else schema).get("required", ())
    rows = [_row(key, field, key in required, places) for key, field in _fields(schema, name).items()]
    about = schema["$defs"][name].get("description", "") if name else ""
    head = "## The top level" if not name else "## " + _code(places[name][0])
    also = f"Also at {', '.join(_code(each) for each in places[name][1:])}." if places[name][1:] else ""
    paragraphs = [head, *(each for each in (_plain(about), also) if each)]
    table = ["| key | value | default | meaning |", "|---|---|---|---|", *rows]
    return "\n\n".join([*paragraphs, "\n".join(table)]) + "\n"


def _row(key: str, field: Mapping[str, Any], required: bool, places: Mapping[str, list[str]]) -> str:
    default = "required" if required else _default(field)
    meaning = _plain(field.get("description", ""))
    return f"| `{key}` | {_type(field, places)} | {default} | {meaning} |"


def _plain(text: str) -> str:
    """One line in which Markdown finds no tag, no emphasis and no end of a cell."""
    return re.sub(r"[|<*]", r"\\\g<0>", " ".join(text.split()))


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    if default in (None, [], {}):
        return ""
    text = default if isinstance(default, str) else json.dumps(default)
    return f"`{text}`" if len(text) <= _LONGEST_DEFAULT and not isinstance(default, dict) else ""


def _type(field: Mapping[str, Any], places: Mapping[str, list[str]]) -> str:
    if any("env" in each.get("properties", {}) for each in field.get("anyOf", ())):
        return "secret"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(filter(None, (_type(each, places) for each in field["anyOf"]))))
    if "$ref" in field:
        name = _definition(field)
        return f"[section](#{_anchor(places[name][0])})" if name in places else "any value"
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    match field.get("type"):
        case "array":
            return f"list of {_type(field['items'], places)}"
        case "object":
            return f"{_type(field['additionalProperties'], places)} by name"
        case "string" if "ms|s|m|h" in field.get("pattern", ""):
            return "duration"
        case "string" if "KiB" in field.get("pattern", ""):
            return "size"
        case "string":
            return "text"
        case "integer" | "number" as kind:
            return _range(kind, field)
        case "boolean":
            return "boolean"
        case "null" | None:
            return ""
        case other:
            raise ValueError(f"a value of type {other!r} has no name on the page")


def _range(kind: str, field: Mapping[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if high is None:
        return kind
    return f"{kind}, {low} to {high}"


def _fields(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = (schema["$defs"][name] if name else schema).get("properties", {})
    return found


def _references(field: Mapping[str, Any], step: str = "") -> Iterator[tuple[str, str]]:
    """The definitions with keys of their own that a value may have, and the steps to them."""
    if "$ref" in field and _definition(field) != "JsonValue":
        yield _definition(field), step
    for each in field.get("anyOf", ()):
        yield from _references(each, step)
    if isinstance(field.get("items"), dict):
        yield from _references(field["items"], step + "[]")
    if isinstance(field.get("additionalProperties"), dict):
        yield from _references(field["additionalProperties"], step + ".NAME")


def _definition(field: Mapping[str, Any]) -> str:
    reference: str = field["$ref"]
    return reference.removeprefix("#/$defs/")


def _code(path: str) -> str:
    return f"`{path}`"


def _anchor(path: str) -> str:
    """As GitHub makes it of a heading: without punctuation, in lower case."""
    return "".join(each for each in path.lower() if each.isalnum() or each in "_-")


def schema_text() -> str:
    return json.dumps(load.schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json_schema()), "utf-8")
    SCHEMA.write_text(schema_text(), "utf-8")
