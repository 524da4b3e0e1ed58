"""What each kind of part counts: images, files, sound, what lies elsewhere, and what only looks like one of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from every_dialect import EVERY_NAME

from edge_extproc.exchange.prompt_size import PromptParts, estimate_prompt, read_prompt
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.model.call import Call

NAMES = EVERY_NAME
BOUNDS = OutputBounds((("*", 10_000),), 100, 200_000, 0, 0)
BLOB = "QUJD" * 10_000  # base64 of 30,000 bytes
BYTES = 30_000


def read(body: Any, operation: Any = "chat") -> PromptParts:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_prompt(Call("openai_chat", operation, "m", True, raw), NAMES)


def of_part(part: Any) -> PromptParts:
    return read({"messages": [{"role": "user", "content": [part]}]})


IMAGES = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BLOB}"}},
    {"type": "input_image", "image_url": "https://x.example/a.png"},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BLOB}},
    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
    {"image": {"format": "png", "source": {"bytes": BLOB}}},
    {"inlineData": {"mimeType": "image/png", "data": BLOB}},
    {"inline_data": {"mime_type": "image/png", "data": BLOB}},
    {"fileData": {"mimeType": "image/png", "fileUri": "https://x.example/a.png"}},
]
FILES = [
    ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BLOB}}, 3_000, 8),
    ({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{BLOB}"}}, 3_000, 8),
    ({"type": "input_file", "file_data": BLOB}, 3_000, 8),
    ({"document": {"format": "pdf", "name": "a", "source": {"bytes": BLOB}}}, 3_000, 8),
    ({"inlineData": {"mimeType": "application/pdf", "data": BLOB}}, 3_000, 8),
    ({"inlineData": {"mimeType": "text/plain", "data": BLOB}}, 0, 3),
    ({"document": {"format": "csv", "name": "a", "source": {"bytes": BLOB}}}, 0, 3),
    ({"type": "input_audio", "input_audio": {"format": "wav", "data": BLOB}}, 0, 30),
    ({"inlineData": {"mimeType": "audio/mp3", "data": BLOB}}, 0, 30),
    ({"video": {"format": "mp4", "source": {"bytes": BLOB}}}, 0, 30),
]
ELSEWHERE = [
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "input_file", "file_url": "https://x.example/a.pdf"},
    {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
    {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
    {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://a/b"}},
    {"document": {"format": "pdf", "name": "a", "source": {"s3Location": {"uri": "s3://a/b"}}}},
]
TEXT = "word " * 5_000
TEXTS = [
    {"type": "text", "text": TEXT},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TEXT}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": TEXT}]}},
    {"document": {"format": "txt", "name": "a", "source": {"text": TEXT}}},
    {"type": "search_result", "source": "https://x.example", "content": [{"type": "text", "text": TEXT}]},
    {"type": "redacted_thinking", "data": TEXT},
    {"type": TEXT},
    {"id": TEXT},
    {"type": "tool_use", "id": "a", "name": "f", "input": {"image_url": TEXT}},
    {"type": "custom_tool_call", "input": TEXT},
    {"functionCall": {"name": "f", "args": {"inlineData": {"mimeType": "image/png", "data": TEXT}}}},
    {"functionResponse": {"name": "f", "response": {"file_id": TEXT}}},
    {"toolResult": {"toolUseId": "a", "content": [{"json": {"bytes": TEXT}}]}},
]


@pytest.mark.parametrize("part", IMAGES)
def test_an_image_is_one_wherever_it_lies(part: Any) -> None:
    found = of_part(part)

    assert (1, 0, False) == (found.images, found.media, found.elsewhere)
    assert found.text < 30


@pytest.mark.parametrize(("part", "least", "divisor"), FILES)
def test_a_file_counts_by_its_kind_and_its_bytes(part: Any, least: int, divisor: int) -> None:
    found = of_part(part)

    assert found.media == pytest.approx(least + BYTES / divisor, rel=0.02)
    assert (0, False) == (found.images, found.elsewhere)
    assert found.text < 30


@pytest.mark.parametrize("part", ELSEWHERE)
def test_what_lies_elsewhere_is_a_whole_context_window(part: Any) -> None:
    found = of_part(part)
    call = Call("openai_chat", "chat", "m", True, b"")

    assert found.elsewhere
    assert BOUNDS.context_window == estimate_prompt(found, call, "gpt-4o", BOUNDS).prompt


@pytest.mark.parametrize("part", TEXTS)
def test_text_counts_wherever_it_stands(part: Any) -> None:
    assert of_part(part).text >= 4_500


@pytest.mark.parametrize("key", ["signature", "thoughtSignature"])
def test_the_seal_of_a_thought_is_not_billed(key: str) -> None:
    assert of_part({"type": "thinking", "thinking": "Hm", key: TEXT}).text < 30


@pytest.mark.parametrize("part", [{"source": 5}, {"inlineData": None}, {"file": ["a"]}, {"image": None}, {"type": 5}])
def test_what_is_of_another_type_breaks_nothing(part: Any) -> None:
    assert (0, 0, False) == (lambda found: (found.images, found.media, found.elsewhere))(of_part(part))


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}}]},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1", "variables": {"a": "b"}}},
    ],
)
def test_what_the_provider_stores_is_elsewhere(field: Any) -> None:
    assert read({"input": "Hello", **field}).elsewhere


def test_a_schema_may_call_its_fields_as_it_likes() -> None:
    schema = {"type": "object", "properties": {"file_ids": {"type": "string"}, "vector_store_ids": {}}}
    found = read({"input": "Hello", "tools": [{"type": "function", "name": "f", "parameters": schema}]})

    assert not found.elsewhere


def test_what_is_no_prompt_is_not_counted() -> None:
    assert read({"messages": [], "metadata": {"a": TEXT}, "user": TEXT, "model": TEXT, "tools": None}).text < 5


def test_a_prompt_of_tokens_counts_each() -> None:
    assert read({"prompt": [[1, 2, 3], [4]]}, "completions").text == 4


@pytest.mark.parametrize("raw", [b"[1]", b"no JSON", b'{"a":' * 5_000])
def test_what_cannot_be_read_counts_by_its_length(raw: bytes) -> None:
    assert -(-len(raw) // 4) == read(raw).text


def test_what_is_only_passed_on_counts_by_its_length() -> None:
    assert 4 == read(b'{"prompt":"a"}', "passed").text


def test_one_model_has_dearer_images_than_all_others() -> None:
    call, found = Call("openai_chat", "chat", "m", True, b""), of_part(IMAGES[0])
    mini, other = (estimate_prompt(found, call, model, BOUNDS).prompt for model in ("gpt-4o-mini", "gpt-4o"))

    assert 43_169 == mini - other


@pytest.mark.parametrize(
    ("model", "hidden"),
    [
        ("o3", 5_000),
        ("openai/o4-mini", 5_000),
        ("gpt-5", 5_000),
        ("gpt-5-chat-latest", 0),
        ("gpt-5.1", 0),
        ("gpt-5.2-pro", 5_000),
        ("gpt-4o", 0),
        ("gemini-2.5-pro", 5_000),
        ("gemini-2.5-flash-lite", 0),
        ("grok-4", 5_000),
        ("claude-sonnet-4-5", 0),
    ],
)
def test_which_models_reason_unasked(model: str, hidden: int) -> None:
    call = Call("openai_chat", "chat", "m", True, b"")

    assert hidden == estimate_prompt(read({"messages": []}), call, model, BOUNDS).hidden


@pytest.mark.parametrize(
    ("asked", "hidden"),
    [
        ({"reasoning": {"max_tokens": 700}}, 700),
        ({"reasoning": {"enabled": True}}, 5_000),
        ({"reasoning": {"enabled": False}}, 0),
        ({"reasoning": {"summary": "auto"}}, 0),
        ({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 700}}}, 700),
        ({"thinking": {"type": "adaptive"}, "additionalModelRequestFields": "odd"}, 8_000),
    ],
)
def test_reasoning_in_other_spellings(asked: Any, hidden: int) -> None:
    call = Call("openai_chat", "chat", "m", True, b"")

    assert hidden == estimate_prompt(read({"messages": [], **asked}), call, "gpt-4o", BOUNDS).hidden
