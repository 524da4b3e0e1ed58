"""Schemas of Gemini's callers whose root is no object, at providers that accept objects alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import PROVIDERS, provider_request
from crossings import CHAT, DIALECTS, GEMINI, MESSAGES, MODELS, RESPONSES, read_call
from hypothesis import given
from hypothesis import strategies as st
from translating import LEAST, cross, growing, objects, sse

from edge_extproc.dialects.wrapped_roots import RootReader, unwrapped
from edge_extproc.model.content import Text
from edge_extproc.model.reply import Choice, Finish, Reply

LIST = {"type": "ARRAY", "items": {"type": "STRING"}}
ROOTS: list[dict[str, Any]] = [
    {"responseSchema": LIST},
    {"responseJsonSchema": {"type": "array", "items": {"type": "string"}}},
    {"responseSchema": {"type": "INTEGER"}},
    {"responseSchema": {"type": "STRING", "enum": ["a", "b"]}},
    {"responseJsonSchema": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
    {"responseJsonSchema": {"type": ["object", "null"], "properties": {}}},
]
JSON = {"responseMimeType": "application/json"}


def sent_schema(target: str, config: dict[str, Any]) -> Any:
    asked = {**LEAST[GEMINI], "generationConfig": {**JSON, **config}}
    provider = next(each for each in PROVIDERS.values() if each.dialect == target)
    body: Any = json.loads(provider_request(GEMINI, asked, "/v1beta/models/m:generateContent", provider)[0])
    match target:
        case "openai_chat":
            return body["response_format"]["json_schema"]["schema"]
        case "openai_responses":
            return body["text"]["format"]["schema"]
        case "anthropic_messages":
            return body["output_config"]["format"]["schema"]
        case _:
            return json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"])


@pytest.mark.parametrize("config", ROOTS)
@pytest.mark.parametrize("target", [CHAT, RESPONSES, MESSAGES, "bedrock_converse"])
def test_a_root_that_is_no_object_becomes_the_member_of_one(target: str, config: dict[str, Any]) -> None:
    schema = sent_schema(target, config)

    assert "object" == schema["type"]
    assert ["value"] == schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False


def test_definitions_stay_at_the_root() -> None:
    item = {"type": "object", "properties": {"a": {"type": "string"}}}
    schema = {"type": "array", "items": {"$ref": "#/$defs/Item"}, "$defs": {"Item": item}}
    sent = sent_schema(CHAT, {"responseJsonSchema": schema})

    assert {"Item": item} == sent["$defs"]
    assert {"type": "array", "items": {"$ref": "#/$defs/Item"}} == sent["properties"]["value"]


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {}}, {"properties": {}}, {}])
def test_an_object_is_not_wrapped(schema: dict[str, Any]) -> None:
    assert "value" not in json.dumps(sent_schema(CHAT, {"responseJsonSchema": schema}))


def test_callers_of_other_formats_get_what_they_ask_for() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}}
    body, _ = cross(CHAT, RESPONSES, response_format=wanted)

    assert {"type": "array"} == body["text"]["format"]["schema"]


def call_of(config: dict[str, Any]) -> Any:
    raw = json.dumps({**LEAST[GEMINI], "generationConfig": {**JSON, **config}}).encode()
    return read_call(GEMINI, raw, MODELS[GEMINI], stream=True)


def reply_text(text: str, config: dict[str, Any]) -> str:
    reply = Reply(CHAT, "c", "m", (Choice((Text(text),), Finish("stop")),), call=call_of(config))
    body = json.loads(DIALECTS[GEMINI].write_reply(reply))
    return "".join(part["text"] for part in body["candidates"][0]["content"]["parts"])


TEXTS = [
    ('{"value": ["a","b"]}', '["a","b"]'),
    (' {\n "value" : {"a": {}} } \n', '{"a": {}} '),
    ('{"value":3}', "3"),
    ('["a"]', '["a"]'),
    ('{"other": 1}', '{"other": 1}'),
    ('{"value": ["a', '["a'),
    ("", ""),
    ('{"va', '{"va'),
]


@pytest.mark.parametrize(("text", "value"), TEXTS)
def test_the_reply_is_the_value(text: str, value: str) -> None:
    assert value == reply_text(text, {"responseSchema": LIST})
    assert text == reply_text(text, {"responseSchema": {"type": "OBJECT"}})


@pytest.mark.parametrize(("text", "value"), TEXTS)
def test_a_stream_is_the_value(text: str, value: str) -> None:
    writer = DIALECTS[GEMINI].writer(call_of({"responseSchema": LIST}))
    wire = b"".join(writer.write(event) for event in growing(Text(text), source=CHAT))
    parts = [part for each in objects(wire) for part in each["candidates"][0]["content"].get("parts", ())]

    assert value == "".join(part["text"] for part in parts)


def test_a_reply_of_googles_own_format_is_not_changed() -> None:
    text = '{"value": 1}'
    body = {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]}
    written = DIALECTS[GEMINI].write_reply(DIALECTS[GEMINI].read_reply(json.dumps(body).encode()))
    assert text == json.loads(written)["candidates"][0]["content"]["parts"][0]["text"]

    chunk = {**body, "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 1}}
    reader, writer = (
        DIALECTS[GEMINI].reader("text/event-stream"),
        DIALECTS[GEMINI].writer(call_of({"responseSchema": LIST})),
    )
    events = [event for frame in reader.frames(sse(chunk)) for event in reader.read(frame)]
    assert text in json.dumps(objects(b"".join(map(writer.write, events)))).replace('\\"', '"')


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), st.data())
def test_portions_do_not_matter(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"value": value}, indent=data.draw(st.sampled_from([None, 1])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    reader = RootReader()
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert value == json.loads("".join(map(reader.feed, pieces)) + reader.close()) == json.loads(unwrapped(text))
