"""The detector of texts that are not JSON of a schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_extproc.config.surroundings import Surroundings
from edge_extproc.errors import ConfigError
from edge_extproc.guardrails.base import Finding
from edge_extproc.guardrails.detectors.json_schema import PLUGIN, JsonSchemaOptions

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def detector(tmp_path: Path, schema: object):
    path = tmp_path / "schema.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema), encoding="utf-8")
    options = JsonSchemaOptions.model_validate({"schema_file": "schema.json"}, context=Surroundings({}, tmp_path))
    return PLUGIN.build(options)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"age": 3}', None),
        (' {"age": 3, "x": [1]}\n', None),
        ("", None),
        ('{"age": "3"}', "schema_violation"),
        ("{}", "schema_violation"),
        ("[1]", "schema_violation"),
        ('{"age": 3', "invalid_json"),
        ('Here it is: {"age": 3}', "invalid_json"),
        ('{"age": "\udc80"}', "invalid_json"),
        ("[" * 5000, "invalid_json"),
    ],
)
def test_a_text_that_is_no_json_of_the_schema_is_found_as_a_whole(tmp_path: Path, text: str, label: str | None) -> None:
    expected = () if label is None else (Finding(0, len(text), label),)

    assert expected == detector(tmp_path, SCHEMA).find(text, "assistant")


def test_a_stream_is_held_as_a_whole(tmp_path: Path) -> None:
    assert detector(tmp_path, SCHEMA).longest > 10**8


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("{", "this is not JSON"),
        ({"type": "number or so"}, "this is no JSON schema"),
        ({"$ref": "https://example.com/schema.json"}, "refers to another document"),
    ],
)
def test_a_schema_that_cannot_work_is_an_error(tmp_path: Path, schema: object, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        detector(tmp_path, schema)
