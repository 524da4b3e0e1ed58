from __future__ import annotations

from typing import Any

import pytest

from edge_extproc.rehearsal.schema import Unanswerable, sample


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (True, "value"),
        ({}, "value"),
        ({"const": None}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "string"}, "value"),
        ({"type": ["string", "null"]}, "value"),
        ({"type": "string", "minLength": 8}, "valuexxx"),
        ({"type": "string", "maxLength": 2}, "va"),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": 0}, 0),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "number"}, 0.5),
        ({"type": "number", "exclusiveMinimum": 1}, 1.5),
        ({"type": "number", "exclusiveMaximum": 0}, -0.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": "array"}, []),
        ({"type": "array", "items": {"type": "boolean"}}, [True]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 2}, [1, 2]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"oneOf": [{"type": "boolean"}]}, True),
        ({"type": "object"}, {}),
        ({"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "a"}),
        ({"type": "object", "required": ["a"]}, {"a": "a"}),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"const": 3}}}, 3),
        (
            {
                "allOf": [
                    {"$ref": "#/$defs/a"},
                    {"properties": {"b": {"const": 2}}, "required": ["b"], "title": "B"},
                ],
                "$defs": {"a": {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}},
            },
            {"a": 1, "b": 2},
        ),
    ],
)
def test_the_sample_is_what_the_schema_allows(schema: object, value: Any) -> None:
    assert sample(schema) == value


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "date"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "#"},
        {"allOf": [False]},
        {"type": "object", "required": 7},
        {"type": "object", "required": ["a"], "properties": [1]},
    ],
)
def test_a_schema_without_an_answer_is_refused(schema: object) -> None:
    with pytest.raises(Unanswerable):
        sample(schema)
