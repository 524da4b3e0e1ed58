"""What a call makes use of is seen in every wire format, however it is spelled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from every_dialect import EVERY_NAME
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.auth.features import FEATURES, features_of


def content(part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]}


@pytest.mark.parametrize(
    ("body", "feature"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}, "tools"),
        (content({"type": "image_url", "image_url": {"url": "https://x/y.png"}}), "images"),
        (content({"type": "input_image", "file_id": "f"}), "images"),
        (content({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}), "images"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}]}, "images"),
        (content({"image": {"format": "png", "source": {"bytes": ""}}}), "images"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, "audio"),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, "audio"),
        (content({"type": "input_audio", "input_audio": {"data": ""}}), "audio"),
        (content({"type": "document", "source": {"type": "text", "data": "x"}}), "files"),
        (content({"type": "file", "file": {"file_id": "f"}}), "files"),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "u", "mimeType": "application/pdf"}}]}]}, "files"),
        ({"web_search_options": {}}, "web_search"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"tools": [{"googleSearch": {}}]}, "web_search"),
        ({"tools": [{"codeExecution": {}}]}, "code_execution"),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "code_execution"),
        ({"tools": [{"type": "mcp", "server_url": "https://x"}]}, "mcp"),
        ({"model": "openai/gpt-4o:online"}, "web_search"),
        ({"plugins": [{"id": "web"}]}, "web_search"),
        ({"search_parameters": {"mode": "on"}}, "web_search"),
        ({"enable_search": True}, "web_search"),
        ({"tools": [{"type": "browser_search"}]}, "web_search"),
        ({"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]}, "web_search"),
        ({"tools": [{"googleMaps": {}}]}, "web_search"),
        ({"tools": [{"file_search": {"file_search_store_names": ["s"]}}]}, "files"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "files"),
        ({"tools": [{"type": "image_generation"}]}, "images"),
        ({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}, "web_search"),
        ({"toolConfig": {"tools": [{"systemTool": {"name": "nova_code_interpreter"}}]}}, "code_execution"),
    ],
)
def test_a_feature_is_seen(body: Any, feature: str) -> None:
    raw = json.dumps(body)
    escaped = "".join(f"\\u{ord(c):04x}" if c.isalpha() else c for c in raw)
    escaped = escaped.replace("\\u0074\\u0072\\u0075\\u0065", "true")

    assert feature in features_of(raw.encode(), EVERY_NAME)
    assert feature in features_of(escaped.encode(), EVERY_NAME)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": 'Say "type": "image" and tools'}]},
        {"tools": [], "functions": None, "audio": None},
        {"model": "m", "response_format": {"type": "json_object"}, "stream": True},
    ],
)
def test_plain_text_uses_nothing(body: Any) -> None:
    assert frozenset() == features_of(json.dumps(body).encode(), EVERY_NAME)


def test_a_key_that_stands_twice_is_looked_at_twice() -> None:
    assert {"tools"} == features_of(b'{"tools":[{"x":1}],"tools":[]}', EVERY_NAME)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_uses_everything(raw: bytes) -> None:
    assert frozenset(FEATURES) == features_of(raw, EVERY_NAME)


@given(
    st.recursive(
        st.none() | st.text() | st.floats() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_read(value: Any) -> None:
    assert features_of(json.dumps(value).encode(), EVERY_NAME) <= frozenset(FEATURES)


def test_where_no_names_are_known_each_body_uses_all_features() -> None:
    assert frozenset(FEATURES) == features_of(b"{}", None)
