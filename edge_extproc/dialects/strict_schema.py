"""Whether OpenAI takes a schema with `strict`.

OpenAI's guide on structured outputs: every object lists all its properties as required and permits no others, and some
keywords are not supported. Other formats have fewer rules for the flag of the same name.
"""

from __future__ import annotations

from ..model.content import Json

_UNSUPPORTED = frozenset(
    {"allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties"}
)
_SUBSCHEMAS = ("anyOf", "prefixItems")
_NAMED_SUBSCHEMAS = ("properties", "$defs", "definitions")


def is_strict(schema: Json) -> bool:
    if not isinstance(schema, dict):
        return isinstance(schema, bool | None)
    if schema.keys() & _UNSUPPORTED:
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        required = schema.get("required")
        names = set(properties) if isinstance(properties, dict) else set()
        listed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        if listed != names or schema.get("additionalProperties") is not False:
            return False
    inner: list[Json] = [schema.get("items")]
    for key in _SUBSCHEMAS:
        listed_schemas = schema.get(key)
        inner += listed_schemas if isinstance(listed_schemas, list) else []
    for key in _NAMED_SUBSCHEMAS:
        subschemas = schema.get(key)
        inner += subschemas.values() if isinstance(subschemas, dict) else []
    return all(map(is_strict, inner))
