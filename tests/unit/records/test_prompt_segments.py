"""The segments of a prompt: what changes them and what does not, in each wire format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.model.wire_names import WireNames
from edge_extproc.records.prompt_segments import DIGEST_BYTES, MOST_SEGMENTS, Prompt, PromptSegments
from edge_extproc.worker.wiring.gateway import build_dialects

SEGMENTS = PromptSegments(WireNames.of_all([each.wire_names for each in build_dialects().values()]))
KEY = b"the key of a tenant"
BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "tools": [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}],
        "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hello"}],
    },
    "openai_responses": {
        "tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "b"}],
        "instructions": "Be terse.",
        "input": [{"role": "user", "content": "Hello"}, {"role": "user", "content": "Again"}],
    },
    "anthropic_messages": {
        "tools": [{"name": "a", "input_schema": {}}, {"name": "b", "input_schema": {}}],
        "system": [{"type": "text", "text": "Be terse."}, {"type": "text", "text": "And kind."}],
        "messages": [{"role": "user", "content": "Hello"}],
    },
    "bedrock_converse": {
        "toolConfig": {"tools": [{"toolSpec": {"name": "a"}}]},
        "system": [{"text": "Be terse."}],
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
    },
    "gemini_generate": {
        "tools": [{"functionDeclarations": [{"name": "a"}]}],
        "systemInstruction": {"parts": [{"text": "Be terse."}]},
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
    },
}
NAMES = {
    "openai_chat": ["tools[0]", "tools[1]", "messages[0]", "messages[1]"],
    "openai_responses": ["tools[0]", "tools[1]", "instructions", "input[0]", "input[1]"],
    "anthropic_messages": ["tools[0]", "tools[1]", "system[0]", "system[1]", "messages[0]"],
    "bedrock_converse": ["toolConfig", "system", "messages[0]"],
    "gemini_generate": ["tools[0]", "systemInstruction", "contents[0]"],
}


def read(body: Any, key: bytes = KEY) -> Prompt:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = SEGMENTS.of(raw, key)
    assert found is not None
    return found


@pytest.mark.parametrize("dialect", BODIES)
def test_tools_come_before_the_system_prompt_and_this_before_the_messages(dialect: str) -> None:
    found = read(BODIES[dialect])

    assert NAMES[dialect] == list(found.names)
    assert len(found) * DIGEST_BYTES == len(found.digests)
    assert found.names[found.first_message].endswith("[0]")


@pytest.mark.parametrize("dialect", BODIES)
def test_each_segment_has_a_digest_of_its_own(dialect: str) -> None:
    found, body = read(BODIES[dialect]), json.loads(json.dumps(BODIES[dialect]))
    last = next(name for name in ("messages", "input", "contents") if name in body)
    body[last][-1]["role"] = "assistant"
    changed = read(body)

    assert found.digests[:-DIGEST_BYTES] == changed.digests[:-DIGEST_BYTES]
    assert found.digests != changed.digests


def test_white_space_escapes_and_other_fields_change_nothing() -> None:
    body = BODIES["openai_chat"]
    spaced = json.dumps({**body, "temperature": 1, "stream": True, "model": "m"}, indent=3).replace(
        "Hello", "H\\u0065llo"
    )

    assert read(body) == read(spaced.encode())


def test_a_mark_of_the_cache_changes_nothing_wherever_it_moves() -> None:
    body: dict[str, Any] = BODIES["anthropic_messages"]
    mark = {"cache_control": {"type": "ephemeral"}}
    marked = {
        **body,
        "tools": [body["tools"][0], {**body["tools"][1], **mark}],
        "system": [body["system"][0], {**body["system"][1], **mark}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello", **mark}]}],
    }
    converse = BODIES["bedrock_converse"]
    point = {"cachePoint": {"type": "default"}}
    pointed = {**converse, "system": [*converse["system"], point]}

    assert read(body) == read(marked)
    assert read(converse) == read(pointed)
    assert (False, True) == (
        SEGMENTS.has_marks(json.dumps(body).encode()),
        SEGMENTS.has_marks(json.dumps(marked).encode()),
    )


def test_a_line_that_differs_with_each_request_changes_nothing() -> None:
    def system(line: str) -> dict[str, Any]:
        return {
            **BODIES["anthropic_messages"],
            "system": [{"type": "text", "text": line}, {"type": "text", "text": "x"}],
        }

    first, second = (system(f"x-anthropic-billing-header: cc_version={n}; cch={n};") for n in ("1", "2"))

    assert read(first) == read(second)


def test_the_key_is_part_of_each_digest() -> None:
    body = BODIES["openai_chat"]
    ours, theirs = read(body), read(body, b"of another tenant")

    assert ours.names == theirs.names
    pairs = [
        (ours.digests[n : n + DIGEST_BYTES], theirs.digests[n : n + DIGEST_BYTES]) for n in range(0, 32, DIGEST_BYTES)
    ]
    assert [] == [a for a, b in pairs if a == b]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"model": "m"}',
        b'{"messages": []}',
        b'{"messages": null}',
        b'{"previous_response_id": "r", "input": "Hello"}',
        b'{"messages": ' + b"[" * 100_000,
        b'{"messages": [' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"]}",
    ],
)
def test_a_body_without_a_whole_prompt_has_no_segments(body: bytes) -> None:
    assert None is SEGMENTS.of(body, KEY)


def test_a_prompt_of_one_text_is_one_segment() -> None:
    assert ("input",) == read({"input": "Hello"}).names


def test_the_number_of_segments_is_bounded() -> None:
    found = read({"messages": [{"role": "user", "content": str(n)} for n in range(MOST_SEGMENTS * 3)]})

    assert MOST_SEGMENTS == len(found)
    assert MOST_SEGMENTS * DIGEST_BYTES == len(found.digests)


def test_deep_marks_do_not_end_the_worker() -> None:
    inner: Any = 1
    for _ in range(500):
        inner = {"a": inner}

    assert 1 == len(read({"messages": [{"cache_control": 1, "content": inner}]}))
