"""JSON Schema and Google's Schema, each in the words of the other."""

from __future__ import annotations

import pytest

from edge_extproc.codecs.openapi_schema import SchemaError, to_json_schema, to_openapi


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "string"}, {"type": "string"}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "TYPE_UNSPECIFIED", "description": "d"}, {"description": "d"}),
        ({"type": "INTEGER", "nullable": True}, {"type": ["integer", "null"]}),
        ({"type": "INTEGER", "nullable": False}, {"type": "integer"}),
        (
            {"type": "STRING", "format": "enum", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"any_of": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
        ),
        ({"nullable": True}, {}),
        ({"type": "ARRAY", "items": {"type": "STRING"}, "minItems": "1"}, None),
        ({"type": "STRING", "example": "x", "format": "date-time"}, None),
        (
            {"ref": "#/defs/A", "defs": {"A": {"type": "STRING"}}},
            {"$ref": "#/defs/A", "$defs": {"A": {"type": "string"}}},
        ),
        ({"additional_properties": {"type": "STRING"}}, {"additionalProperties": {"type": "string"}}),
        ({"description": None}, {}),
        (True, True),
    ],
)
def test_a_schema_of_google_is_told_as_json_schema(schema: object, expected: object) -> None:
    examples = {
        "ARRAY": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "STRING": {"type": "string", "examples": ["x"], "format": "date-time"},
    }

    told = to_json_schema(schema)

    assert told == (expected if expected is not None or not isinstance(schema, dict) else examples[schema["type"]])


def test_the_order_of_properties_is_told_by_their_order() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}, "c": {"type": "STRING"}},
        "propertyOrdering": ["c", "a"],
    }

    told = to_json_schema(schema)

    assert isinstance(told, dict)
    assert list(told) == ["type", "properties"]
    assert list(told["properties"]) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"type": "STRING"}),
        (True, {}),
        ({}, {}),
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        ({"type": "null"}, {"nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": "STRING", "nullable": True}),
        (
            {"oneOf": [{"type": "string"}, {"type": "number"}]},
            {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]},
        ),
        ({"anyOf": [{"type": "null"}]}, {"nullable": True}),
        ({"const": "a"}, {"enum": ["a"], "type": "STRING"}),
        ({"type": "string", "enum": ["a", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
        ({"enum": [None]}, {"nullable": True}),
        ({"allOf": [{"type": "string"}], "description": "d"}, {"type": "STRING", "description": "d"}),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
        ({"type": "string", "examples": ["a"]}, {"type": "STRING", "example": "a"}),
        ({"type": "string", "examples": []}, {"type": "STRING"}),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$defs": {"A": {"type": "array", "items": {"$ref": "#/$defs/B~1C"}}, "B/C": {"type": "integer"}},
                "type": "object",
                "properties": {"a": {"$ref": "#/$defs/A", "description": "d"}},
                "required": ["a"],
            },
            {
                "type": "OBJECT",
                "properties": {"a": {"type": "ARRAY", "items": {"type": "INTEGER"}, "description": "d"}},
                "required": ["a"],
            },
        ),
    ],
)
def test_a_json_schema_is_told_as_google_tells_it(schema: object, expected: object) -> None:
    assert to_openapi(schema) == (expected, frozenset())


def test_what_has_no_word_is_dropped_and_named() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "a": {"type": "string", "format": "uuid"},
            "b": {"type": "integer", "enum": [1, 2]},
            "c": {"type": "string", "examples": ["x", "y"]},
        },
    }

    told, dropped = to_openapi(schema)

    assert told["properties"] == {
        "a": {"type": "STRING"},
        "b": {"type": "INTEGER"},
        "c": {"type": "STRING", "example": "x"},
    }
    assert dropped == {"additionalProperties", "properties.a.format", "properties.b.enum", "properties.c.examples"}


def test_a_format_at_the_root_is_named_alone() -> None:
    assert to_openapi({"type": "string", "format": "uuid"}) == ({"type": "STRING"}, {"format"})


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ({"properties": {"a": {"$ref": "#/$defs/A"}}}, "properties.a", "has no target"),
        ({"properties": {"a": {"$ref": "#"}}}, "properties.a.properties.a", "is recursive"),
        ({"$ref": "https://example.com/a"}, "", "is not within this schema"),
        ({"$ref": 1}, "", "is not within this schema"),
        ({"allOf": [{"type": "string"}, {"minLength": 1}]}, "allOf", "several"),
        ({"items": {"allOf": []}}, "items.allOf", "several"),
        ({"type": "date"}, "type", "not a JSON type"),
        ({"type": []}, "type", "not a JSON type"),
        ({"type": [{}]}, "type", "not a JSON type"),
        ({"items": []}, "items", "must be an object"),
        ({"properties": []}, "properties", "must be an object"),
        ({"anyOf": {}}, "anyOf", "must be a list"),
    ],
)
def test_a_schema_without_an_openapi_form_is_refused(schema: object, path: str, why: str) -> None:
    with pytest.raises(SchemaError, match=why) as refused:
        to_openapi(schema)

    assert refused.value.path == path


def test_references_that_multiply_are_refused() -> None:
    definitions: dict[str, object] = {"A0": {"type": "string"}}
    for level in range(1, 40):
        inner = {"$ref": f"#/$defs/A{level - 1}"}
        definitions[f"A{level}"] = {"type": "object", "properties": {"a": inner, "b": inner}}

    with pytest.raises(SchemaError, match="more than"):
        to_openapi({"$ref": "#/$defs/A39", "$defs": definitions})
