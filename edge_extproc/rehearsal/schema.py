"""Makes a value that a JSON schema allows; the same schema always gives the same value.

It includes only required properties. It ignores `pattern`, `not`, `if`, `multipleOf` and `uniqueItems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

# Deeper than any useful schema, and far below Python's recursion limit.
MAX_DEPTH = 32

_BY_FORMAT = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Unanswerable(ValueError):
    """No value can be made from this schema."""


def sample(schema: object, *, name: str = "value") -> Any:
    """A value for the schema. `name`: the text of an unrestricted string. Raises Unanswerable."""
    try:
        return _sample(schema, schema, name, 0)
    # A keyword with a value of the wrong type raises one of these where the value is used.
    except (AttributeError, TypeError) as exc:
        raise Unanswerable("a keyword of the schema has a value of the wrong type") from exc


def _sample(schema: object, root: object, name: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise Unanswerable("the schema requires an infinite value")
    match schema:
        case True:
            return name
        case Mapping():
            pass
        case _:
            raise Unanswerable(f"a schema is an object, not {schema!r}")
    if "const" in schema:
        return schema["const"]
    match schema:
        case {"enum": [first, *_]}:
            return first
        case {"$ref": str(reference)}:
            return _sample(_resolve(reference, root), root, name, depth + 1)
        case {"anyOf": [first, *_]} | {"oneOf": [first, *_]}:
            return _sample(first, root, name, depth + 1)
        case {"allOf": [_, *_] as parts}:
            return _sample(_merged(schema, parts, root), root, name, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            return _object(schema, root, depth)
        case "array":
            return _array(schema, root, name, depth)
        case "string":
            return _string(schema, name)
        case "integer":
            return _number(schema, 1)
        case "number":
            return _number(schema, 0.5)
        case "boolean":
            return True
        case "null":
            return None
        case unknown:
            raise Unanswerable(f"there is no JSON type {unknown!r}")


def _object(schema: Mapping[str, Any], root: object, depth: int) -> dict[str, Any]:
    properties = schema.get("properties") or {}
    return {
        name: _sample(properties.get(name, {}), root, name, depth + 1)
        for name in schema.get("required") or ()
    }  # fmt: skip


def _array(schema: Mapping[str, Any], root: object, name: str, depth: int) -> list[Any]:
    first = [_sample(item, root, name, depth + 1) for item in schema.get("prefixItems") or ()]
    missing = max(int(schema.get("minItems", 1)) - len(first), 0) if "items" in schema else 0
    return first + [_sample(schema["items"], root, name, depth + 1) for _ in range(min(missing, 100))]


def _string(schema: Mapping[str, Any], name: str) -> str:
    text = _BY_FORMAT.get(schema.get("format", ""), name)
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    return (text + "x" * min(least - len(text), 10_000))[:most]


def _number(schema: Mapping[str, Any], usual: float) -> float:
    """The usual number, or the nearest that the bounds allow."""
    low: float | None = schema.get("minimum")
    high: float | None = schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = above + 1 if isinstance(usual, int) else above + 0.5
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = below - 1 if isinstance(usual, int) else below - 0.5
    if low is not None and usual < low:
        return low
    return high if high is not None and usual > high else usual


def _resolve(reference: str, root: object) -> object:
    """The target of a JSON pointer into the same document."""
    if not reference.startswith("#"):
        raise Unanswerable(f"{reference!r} is outside the schema")
    target = root
    for part in filter(None, reference[1:].split("/")):
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(target, Mapping) or key not in target:
            raise Unanswerable(f"{reference!r} has no target")
        target = target[key]
    return target


def _merged(schema: Mapping[str, Any], parts: list[Any], root: object) -> dict[str, Any]:
    """`allOf` as one object schema: properties and required names of all parts."""
    merged: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
    for part in parts:
        if isinstance(part, Mapping) and isinstance(part.get("$ref"), str):
            part = _resolve(part["$ref"], root)
        if not isinstance(part, Mapping):
            raise Unanswerable(f"a schema is an object, not {part!r}")
        for name, value in part.items():
            match name:
                case "properties":
                    merged[name] = {**merged.get(name, {}), **value}
                case "required":
                    merged[name] = [*merged.get(name, ()), *value]
                case _:
                    merged.setdefault(name, value)
    return merged
