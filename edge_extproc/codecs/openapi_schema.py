"""Converts between JSON Schema and the subset of OpenAPI 3.0 that Google calls Schema.

The module is pure. It knows schemas, and nothing of the calls that contain them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

Json: TypeAlias = object
Schema: TypeAlias = dict[str, Json]

# --- OpenAPI to JSON Schema

# Fields of Schema with the same name in JSON Schema, in both notations of protobuf's JSON.
_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {
        "additional_properties": "additionalProperties",
        "any_of": "anyOf",
        "defs": "$defs",
        "max_items": "maxItems",
        "max_length": "maxLength",
        "max_properties": "maxProperties",
        "min_items": "minItems",
        "min_length": "minLength",
        "min_properties": "minProperties",
        "property_ordering": "propertyOrdering",
        "ref": "$ref",
    }
)
# 64-bit integers, which protobuf's JSON writes as strings.
_COUNTS = frozenset({"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"})
_UNTYPED = "TYPE_UNSPECIFIED"


def to_json_schema(schema: Json) -> Json:
    """A Schema as JSON Schema. Parts that are already JSON Schema stay unchanged."""
    if not isinstance(schema, dict):
        return schema
    spelled = {_SPELLINGS.get(key, key): value for key, value in schema.items() if value is not None}
    nullable, order = spelled.pop("nullable", False), spelled.pop("propertyOrdering", None)
    result: Schema = {}
    for key, value in spelled.items():
        match key:
            case "type":
                if value != _UNTYPED:
                    result[key] = value.lower() if isinstance(value, str) else value
            case "format" if value == "enum":
                pass  # it only states that there is an enum
            case "example":
                result["examples"] = [value]
            case "items" | "additionalProperties":
                result[key] = to_json_schema(value)
            case "anyOf" if isinstance(value, list):
                result[key] = [to_json_schema(each) for each in value]
            case "properties" | "$defs" if isinstance(value, dict):
                result[key] = {name: to_json_schema(each) for name, each in _ordered(value, order)}
            case _:
                result[key] = int(value) if key in _COUNTS and isinstance(value, str) and value.isdigit() else value
    return _nullable(result) if nullable is True else result


def _ordered(properties: Mapping[str, Json], order: Json) -> list[tuple[str, Json]]:
    """JSON Schema has no field for the order in which a model writes properties. The order of `properties` represents
    it."""
    names = [name for name in order if isinstance(name, str)] if isinstance(order, list) else []
    rank = {name: number for number, name in enumerate(names)}
    return sorted(properties.items(), key=lambda item: rank.get(item[0], len(rank)))


def _nullable(schema: Schema) -> Schema:
    match schema:
        case {"type": str(kind)}:
            schema["type"] = [kind, "null"]
        case {"anyOf": list(choices)}:
            schema["anyOf"] = [*choices, {"type": "null"}]
        case _:
            return schema
    match schema:
        case {"enum": list(values)} if None not in values:
            schema["enum"] = [*values, None]
    return schema


# --- JSON Schema to OpenAPI

_PLAIN = frozenset(
    {
        "default",
        "description",
        "example",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "nullable",
        "pattern",
        "propertyOrdering",
        "required",
        "title",
    }
)
# By type. Google refuses a schema with any other format.
_FORMATS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "string": frozenset({"date-time", "enum"}),
        "number": frozenset({"double", "float"}),
        "integer": frozenset({"int32", "int64"}),
    }
)
_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
# Keywords that do not restrict the values of a schema, or that are inlined where they are referenced.
_WITHOUT_MEANING = frozenset({"$comment", "$defs", "$id", "$schema", "definitions"})

# A few references can expand to very many schemas. Google accepts far fewer than this.
_MOST_SCHEMAS = 10_000


class SchemaError(ValueError):
    """A schema without an OpenAPI form. `path` is the position from the schema's root."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path = path
        self.why = why


def to_openapi(schema: Json) -> tuple[Schema, frozenset[str]]:
    """A JSON Schema as a Schema, and the paths of the keywords that have no equivalent. Raises SchemaError if a
    reference is dangling or recursive, or if several schemas must hold at once."""
    narrowing = _Narrowing(schema)
    return narrowing.schema(schema, ""), frozenset(narrowing.dropped)


class _Narrowing:
    def __init__(self, root: Json) -> None:
        self._root = root
        self._within: tuple[str, ...] = ()
        """The references that are currently being inlined."""
        self._count = 0
        self.dropped: set[str] = set()

    def schema(self, value: Json, path: str) -> Schema:
        self._count += 1
        if self._count > _MOST_SCHEMAS:
            raise SchemaError(path, f"with all references inlined, it has more than {_MOST_SCHEMAS} parts")
        if value is True or value == {}:
            return {}
        if not isinstance(value, dict):
            raise SchemaError(path, "a schema must be an object")
        reference = value.get("$ref")
        if reference is not None:
            return self._referred(reference, value, path)
        value = self._merged(value, path)
        result: Schema = {}
        for key, value_of_key in value.items():
            where = f"{path}.{key}" if path else key
            write = _KEYWORDS.get(key)
            if write is not None:
                write(self, result, value_of_key, where)
            elif key in _PLAIN:
                result[key] = value_of_key
            elif key not in _WITHOUT_MEANING:
                self.dropped.add(where)
        self._format(result, value, path)
        return result

    def _referred(self, reference: Json, value: Schema, path: str) -> Schema:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise SchemaError(path, f"the reference {reference!r} is not within this schema")
        if reference in self._within:
            raise SchemaError(path, f"the reference {reference!r} is recursive, which this model does not support")
        target = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, dict) else None
        if target is None:
            raise SchemaError(path, f"the reference {reference!r} has no target")
        beside = {key: each for key, each in value.items() if key != "$ref"}
        around, self._within = self._within, (*self._within, reference)
        worked_in = self.schema(target, path)
        self._within = around
        return {**worked_in, **self.schema(beside, path)}

    @staticmethod
    def _merged(value: Schema, path: str) -> Schema:
        """An `allOf` of one schema is equivalent to that schema."""
        match value.get("allOf"):
            case None:
                return value
            case [dict(only)]:
                return {**only, **{key: each for key, each in value.items() if key != "allOf"}}
            case _:
                raise SchemaError(
                    f"{path}.allOf" if path else "allOf", "this model does not support allOf with several schemas"
                )

    def _type(self, result: Schema, value: Json, where: str) -> None:
        kinds = value if isinstance(value, list) else [value]
        known = [kind for kind in kinds if isinstance(kind, str) and kind in _TYPES]
        if not kinds or len(known) < len(kinds):
            raise SchemaError(where, f"{value!r} is not a JSON type")
        real = [kind for kind in known if kind != "null"]
        if len(real) < len(known):
            result["nullable"] = True
        if len(real) == 1:
            result["type"] = real[0].upper()
        elif real:
            result["anyOf"] = [{"type": kind.upper()} for kind in real]

    def _items(self, result: Schema, value: Json, where: str) -> None:
        result["items"] = self.schema(value, where)

    def _properties(self, result: Schema, value: Json, where: str) -> None:
        if not isinstance(value, dict):
            raise SchemaError(where, "properties must be an object")
        result["properties"] = {name: self.schema(each, f"{where}.{name}") for name, each in value.items()}

    def _any_of(self, result: Schema, value: Json, where: str) -> None:
        if not isinstance(value, list):
            raise SchemaError(where, "it must be a list of schemas")
        real = [each for each in value if each != {"type": "null"}]
        if len(real) < len(value):
            result["nullable"] = True
        schemas = [self.schema(each, f"{where}[{number}]") for number, each in enumerate(real)]
        if len(schemas) == 1:
            result.update({key: each for key, each in schemas[0].items() if key not in result})
        elif schemas:
            result["anyOf"] = schemas

    def _enum(self, result: Schema, value: Json, where: str) -> None:
        values = value if isinstance(value, list) else [value]
        real = [each for each in values if each is not None]
        if len(real) < len(values):
            result["nullable"] = True
        if not all(isinstance(each, str) for each in real):
            self.dropped.add(where)  # a Schema's enums are strings
        elif real:
            result["enum"] = real
            result.setdefault("type", "STRING")

    def _examples(self, result: Schema, value: Json, where: str) -> None:
        match value:
            case [first, *others]:
                result["example"] = first
                if others:
                    self.dropped.add(where)

    def _format(self, result: Schema, value: Schema, path: str) -> None:
        form, kind = value.get("format"), result.get("type")
        if form is None:
            return
        if isinstance(kind, str) and form in _FORMATS.get(kind.lower(), ()):
            result["format"] = form
        else:
            self.dropped.add(f"{path}.format" if path else "format")


def _nothing(narrowing: _Narrowing, result: Schema, value: Json, where: str) -> None:
    """Reported by another function."""


_KEYWORDS: Mapping[str, Callable[[_Narrowing, Schema, Json, str], None]] = MappingProxyType(
    {
        "anyOf": _Narrowing._any_of,
        "const": _Narrowing._enum,
        "enum": _Narrowing._enum,
        "examples": _Narrowing._examples,
        "format": _nothing,
        "items": _Narrowing._items,
        "oneOf": _Narrowing._any_of,
        "properties": _Narrowing._properties,
        "type": _Narrowing._type,
    }
)
