"""JSON Schemas as providers accept them.

Providers refuse a request for a keyword that they do not support in a schema. What is left out is reported by its path
in the caller's schema. Sources: Anthropic's page on structured outputs and the transformation in its Python SDK
(agentjido/req_llm#302, laravel/ai#715, BerriAI/litellm#20813); anthropics/claude-code#5973 for the root of a tool's
schema, and OpenAI's guide on function calling, whose error has the same rule.
"""

from __future__ import annotations

import re
from typing import Any

from ..codecs.json_values import JsonObject, object_in
from ..model.content import Json

_SUBSCHEMA = frozenset({"items", "additionalProperties"})
_SUBSCHEMAS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})
_NAMED_SUBSCHEMAS = frozenset({"properties", "$defs", "definitions", "patternProperties"})
# Keywords that only restrict a value.
_RESTRICTIONS = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength"),
        *("maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
        *("minProperties", "maxProperties", "propertyNames", "dependentRequired", "dependentSchemas"),
        *("not", "if", "then", "else"),
    }
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
# Lookarounds, references to groups, and boundaries of words.
_UNSUPPORTED_PATTERN = re.compile(r"\(\?(?:[=!]|<[=!])|\\[1-9bB]")
_COMBINATIONS = ("anyOf", "oneOf", "allOf")
_DEEPEST = 4


def output_schema(schema: JsonObject, path: str) -> tuple[JsonObject, tuple[str, ...]]:
    """The schema for Anthropic's structured outputs, and the paths of what was left out. Each object that does not say
    otherwise permits no other properties, which is required. `oneOf` is written as `anyOf`."""
    lost: list[str] = []
    return _output(schema, path, lost), tuple(lost)


def _output(schema: Any, path: str, lost: list[str]) -> Any:
    if not isinstance(schema, dict):
        return schema
    closed: JsonObject = {}
    for key, value in schema.items():
        where = f"{path}.{key}"
        if _is_refused(key, value):
            lost.append(where)
        elif key == "minItems" and isinstance(value, int) and value > 1:
            lost.append(where)
            closed[key] = 1
        elif key in _SUBSCHEMA:
            closed[key] = _output(value, where, lost)
        elif key in _SUBSCHEMAS and isinstance(value, list):
            name = "anyOf" if key == "oneOf" and "anyOf" not in schema else key
            closed[name] = [_output(each, f"{where}[{n}]", lost) for n, each in enumerate(value)]
        elif key in _NAMED_SUBSCHEMAS and isinstance(value, dict):
            closed[key] = {name: _output(each, f"{where}.{name}", lost) for name, each in value.items()}
        else:
            closed[key] = value
    kind = closed.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind):
        if closed.get("additionalProperties") is True and closed.get("properties"):
            lost.append(f"{path}.additionalProperties")
            closed["additionalProperties"] = False
        closed.setdefault("additionalProperties", False)
    return closed


def _is_refused(key: str, value: Json) -> bool:
    match key:
        case "format":
            return value not in _FORMATS
        case "pattern":
            return isinstance(value, str) and _UNSUPPORTED_PATTERN.search(value) is not None
        case _:
            return key in _RESTRICTIONS


def strict_schema(schema: JsonObject) -> JsonObject | None:
    """The schema of a tool whose input Anthropic holds to it. None: that is impossible without leaving out a part."""
    closed, lost = output_schema(schema, "")
    return None if lost else closed


def uncombined(schema: JsonObject, path: str) -> tuple[JsonObject, tuple[str, ...]]:
    """The schema of a tool's input without `anyOf`, `oneOf` and `allOf` at its root, and the paths of what was left
    out. The properties of their branches become properties of the root, and those that every alternative requires stay
    required."""
    lost = tuple(f"{path}.{key}" for key in _COMBINATIONS if key in schema)
    return (_flat(schema, schema, 0) if lost else schema), lost


def _flat(schema: JsonObject, root: JsonObject, depth: int) -> JsonObject:
    flat: JsonObject = {"type": "object", **{key: each for key, each in schema.items() if key not in _COMBINATIONS}}
    own = schema.get("properties")
    properties: JsonObject = dict(own) if isinstance(own, dict) else {}
    required = _names(schema.get("required"))
    fixed = frozenset(properties)
    for key in _COMBINATIONS:
        listed = schema.get(key)
        branches = [_resolved(each, root, depth) for each in listed] if isinstance(listed, list) else []
        for branch in branches:
            for name, each in object_in(branch, "properties").items():
                if name not in fixed:
                    properties[name] = _either(properties[name], each) if name in properties else each
        always = [_names(branch.get("required")) for branch in branches]
        if key == "allOf":
            required += [name for names in always for name in names]
        elif always:
            required += [name for name in always[0] if all(name in names for names in always)]
    flat["properties"] = properties
    if required:
        flat["required"] = list(dict.fromkeys(required))
    return flat


def _resolved(branch: Any, root: JsonObject, depth: int) -> JsonObject:
    """A branch as the schema of an object, without combinations."""
    if isinstance(branch, dict) and isinstance(reference := branch.get("$ref"), str):
        match reference.split("/"):
            case ["#", "$defs" | "definitions" as place, name]:
                named = root.get(place)
                branch = named.get(name) if isinstance(named, dict) else None
            case _:
                branch = None
    if not isinstance(branch, dict) or depth >= _DEEPEST:
        return {"properties": {}, "required": []}
    return _flat(branch, root, depth + 1)


def _names(required: Json) -> list[str]:
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _either(first: Json, second: Json) -> Json:
    """A schema that accepts what either of the two accepts."""
    if first == second:
        return first
    inner = first.get("anyOf") if isinstance(first, dict) and first.keys() == {"anyOf"} else None
    known = list(inner) if isinstance(inner, list) else [first]
    return {"anyOf": known if second in known else [*known, second]}
