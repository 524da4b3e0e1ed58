"""Schemas keep what a provider takes, and lose by name what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, EVERY, GEMINI, MESSAGES, RESPONSES, cross, read

from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.dialects.schemas import output_schema, uncombined

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
BOUNDED = {
    "type": "object",
    "properties": {
        "minimum": {"type": "integer", "minimum": 1, "maximum": 10, "description": "kept"},
        "tags": {"type": "array", "minItems": 8, "maxItems": 9, "items": {"type": "string", "maxLength": 5}},
        "id": {"type": "string", "format": "uuid", "pattern": "^a+$"},
        "seen": {"type": ["object", "null"], "properties": {"at": {"type": "integer", "format": "int64"}}},
    },
    "required": ["minimum"],
}
LOST = (
    "properties.minimum.minimum",
    "properties.minimum.maximum",
    "properties.tags.minItems",
    "properties.tags.maxItems",
    "properties.tags.items.maxLength",
    "properties.seen.properties.at.format",
)
# A tool that takes either of two sets of arguments.
CHOICE = {
    "type": "object",
    "properties": {"dry": {"type": "boolean"}},
    "oneOf": [
        {"properties": {"kind": {"const": "id"}, "id": {"type": "string"}}, "required": ["kind", "id"]},
        {"$ref": "#/$defs/ByPath"},
    ],
    "$defs": {
        "ByPath": {
            "type": "object",
            "properties": {"kind": {"const": "path"}, "path": {"type": "string"}},
            "required": ["kind", "path"],
        }
    },
}
UNCOMBINED = {
    "type": "object",
    "properties": {
        "dry": {"type": "boolean"},
        "kind": {"anyOf": [{"const": "id"}, {"const": "path"}]},
        "id": {"type": "string"},
        "path": {"type": "string"},
    },
    "required": ["kind"],
    "$defs": CHOICE["$defs"],
}
# How callers of each format offer one function with these parameters.
OFFER: dict[str, Any] = {
    CHAT: lambda schema, **more: [{"type": "function", "function": {"name": "f", "parameters": schema, **more}}],
    RESPONSES: lambda schema, **more: [{"type": "function", "name": "f", "parameters": schema, **more}],
    MESSAGES: lambda schema, **more: [{"name": "f", "input_schema": schema, **more}],
    GEMINI: lambda schema: [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}],
}


def to_bedrock(source: str, **fields: Any) -> tuple[Any, tuple[str, ...]]:
    written = BEDROCK.write_chat(read(source, **fields), CLAUDE)
    return json.loads(written.body), written.dropped


def schema_sent(target: str, body: Any) -> Any:
    tool = body["toolConfig"]["tools"][0]["toolSpec"] if target == "bedrock" else body["tools"][0]
    match target:
        case "bedrock":
            return tool["inputSchema"]["json"]
        case "anthropic_messages":
            return tool["input_schema"]
        case "openai_chat":
            return tool["function"]["parameters"]
        case "openai_responses":
            return tool["parameters"]
        case _:
            return tool["functionDeclarations"][0]["parametersJsonSchema"]


def test_structured_outputs_of_claude_lose_restrictions_by_name() -> None:
    accepted, lost = output_schema(BOUNDED, "s")

    assert tuple(f"s.{path}" for path in LOST) == lost
    assert accepted == {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "description": "kept"},
            "tags": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "id": {"type": "string", "format": "uuid", "pattern": "^a+$"},
            "seen": {
                "type": ["object", "null"],
                "properties": {"at": {"type": "integer"}},
                "additionalProperties": False,
            },
        },
        "required": ["minimum"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "accepted", "lost"),
    [
        ({"oneOf": [{"type": "string"}]}, {"anyOf": [{"type": "string"}]}, ()),
        ({"type": "string", "pattern": "(?=a)b"}, {"type": "string"}, ("s.pattern",)),
        (
            {"type": "string", "pattern": 7, "enum": ["minimum"]},
            {"type": "string", "pattern": 7, "enum": ["minimum"]},
            (),
        ),
        ({"type": "array", "minItems": 1, "uniqueItems": True}, {"type": "array", "minItems": 1}, ("s.uniqueItems",)),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": True},
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
            ("s.additionalProperties",),
        ),
        # An object with any properties has no equivalent: the provider decides.
        ({"type": "object", "additionalProperties": True}, {"type": "object", "additionalProperties": True}, ()),
    ],
)
def test_each_keyword_of_a_schema(schema: Any, accepted: Any, lost: tuple[str, ...]) -> None:
    assert (accepted, lost) == output_schema(schema, "s")


def test_each_caller_reads_the_lost_restrictions_in_its_own_words() -> None:
    chat = {"type": "json_schema", "json_schema": {"name": "a", "schema": BOUNDED}}
    gemini = {"responseMimeType": "application/json", "responseJsonSchema": BOUNDED}
    cases = {
        "response_format.json_schema.schema": cross(CHAT, MESSAGES, response_format=chat),
        "text.format.schema": cross(
            RESPONSES, MESSAGES, text={"format": {"type": "json_schema", "name": "a", "schema": BOUNDED}}
        ),
        "generationConfig.responseJsonSchema": cross(GEMINI, MESSAGES, generationConfig=gemini),
    }
    for path, (body, dropped) in cases.items():
        assert "maxLength" not in json.dumps(body)
        assert {f"{path}.{each}" for each in LOST} == set(dropped)

    body, dropped = to_bedrock(CHAT, response_format=chat)
    assert "maxLength" not in body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]
    assert {f"response_format.json_schema.schema.{each}" for each in LOST} == set(dropped)


@pytest.mark.parametrize("source", [CHAT, RESPONSES])
def test_a_strict_tool_with_restrictions_is_sent_whole_and_not_strict(source: str) -> None:
    tools = OFFER[source](BOUNDED, strict=True)
    messages, dropped = cross(source, MESSAGES, tools=tools)
    bedrock, dropped_too = to_bedrock(source, tools=tools)

    assert "strict" not in messages["tools"][0]
    assert "strict" not in bedrock["toolConfig"]["tools"][0]["toolSpec"]
    assert BOUNDED == schema_sent(MESSAGES, messages) == schema_sent("bedrock", bedrock)
    assert dropped == dropped_too
    assert 1 == len(dropped)
    assert dropped[0].endswith(".strict")


def test_a_strict_tool_stays_strict_and_its_objects_are_closed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
    body, dropped = cross(CHAT, MESSAGES, tools=OFFER[CHAT](schema, strict=True))

    assert body["tools"][0]["strict"] is True
    assert {"type": "object", "properties": {}, "additionalProperties": False} == schema_sent(MESSAGES, body)[
        "properties"
    ]["a"]
    assert () == dropped


@pytest.mark.parametrize("source", EVERY)
def test_a_choice_at_the_root_of_a_tool_becomes_properties(source: str) -> None:
    tools = OFFER[source](CHOICE)
    for target in (CHAT, RESPONSES, MESSAGES):
        if target != source:
            body, dropped = cross(source, target, tools=tools)

            assert UNCOMBINED == schema_sent(target, body)
            assert [path for path in dropped if path.endswith(".oneOf")] == list(dropped)
            assert 1 == len(dropped)
    body, dropped = to_bedrock(source, tools=tools)
    assert UNCOMBINED == schema_sent("bedrock", body)
    assert 1 == len(dropped)


@pytest.mark.parametrize(
    ("target", "model"), [(CHAT, "qwen3-coder"), (RESPONSES, "gpt-oss-120b"), (GEMINI, "gemini-3")]
)
def test_a_choice_at_the_root_stays_for_models_that_take_it(target: str, model: str) -> None:
    body, dropped = cross(MESSAGES, target, model, tools=OFFER[MESSAGES](CHOICE))

    assert CHOICE == schema_sent(target, body)
    assert () == dropped


@pytest.mark.parametrize(
    ("schema", "flat"),
    [
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"anyOf": [{"properties": {"b": {}}}]}]},
            {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]},
        ),
        (
            {"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {"type": "object", "properties": {"a": {}, "b": {}}},
        ),
        ({"anyOf": "x", "oneOf": [7, {"$ref": "#"}]}, {"type": "object", "properties": {}}),
        (
            {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}, "anyOf": [{"$ref": "#/$defs/A"}]},
            {"type": "object", "properties": {}, "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}},
        ),
    ],
)
def test_every_combination_at_the_root(schema: Any, flat: Any) -> None:
    assert flat == uncombined(schema, "p")[0]


@pytest.mark.parametrize("target", [RESPONSES, MESSAGES])
def test_null_in_a_schema_of_a_tool_is_absent(target: str) -> None:
    """Servers in Go write null for a list without elements."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": None, "description": None}
    body, _ = cross(CHAT, target, tools=OFFER[CHAT](schema))

    assert {"type": "object", "properties": {"a": {"type": "string"}}} == schema_sent(target, body)
