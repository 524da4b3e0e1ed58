"""The events of OpenAI's WebSocket APIs: types, usage, and errors."""

from __future__ import annotations

import json

import pytest
from scripted_sockets import USAGE

from edge_extproc.dialects.openai_responses import PLUGIN
from edge_extproc.dialects.openai_responses.socket_events import (
    error_event,
    has_one_type,
    read_event,
    read_head,
    type_of,
    usage_of,
)
from edge_extproc.model.content import Json
from edge_extproc.model.fault import Fault
from edge_extproc.model.usage import Usage


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'{"a": {"type": "inner"}, "type": "response.create"}', "response.create"),
        (b'{"type": 7}', ""),
        (b'{"a": 1}', ""),
        (b"[]", ""),
        (b"{", ""),
        (b'{"type": "\xff"}', ""),
    ],
)
def test_the_type_of_an_event(event: bytes, expected: str) -> None:
    assert expected == type_of(event)


@pytest.mark.parametrize("event", [b"[]", b"1", b"{", b"\xff"])
def test_what_is_no_object_is_no_event(event: bytes) -> None:
    assert read_event(event) is None


def test_realtime_counts_text_audio_and_cached_tokens_apart() -> None:
    response: dict[str, Json] = json.loads(json.dumps({"usage": USAGE["realtime"]}))
    usage = usage_of("realtime", response)

    assert Usage(input=58, cache_read=64, input_audio=10, output=30, output_audio=91) == usage
    assert usage is not None
    assert (132, 121) == (usage.prompt, usage.completion)


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 5, "input_token_details": {"audio_tokens": 9, "cached_tokens": 8}},
        {"input_tokens": -1, "output_tokens": "7"},
        {"output_tokens": 2, "output_token_details": {"audio_tokens": 3}},
        {},
    ],
)
def test_implausible_counts_never_exceed_the_whole(usage: dict[str, Json]) -> None:
    read = usage_of("realtime", {"usage": usage})

    assert read is not None
    assert all(count >= 0 for count in (read.input, read.cache_read, read.input_audio, read.output, read.output_audio))
    assert read.prompt in (0, 5)
    assert read.prompt_unknown or read.completion_unknown


def test_responses_count_as_in_requests() -> None:
    response: dict[str, Json] = json.loads(json.dumps({"usage": USAGE["responses"], "output": []}))

    assert Usage(input=32, cache_read=8, output=8, reasoning=4) == usage_of("responses", response)
    assert usage_of("responses", {"usage": None}) is None


def test_errors_have_the_form_of_each_api() -> None:
    fault = Fault(429, "rate_limit", "too much", "budget_exceeded")
    realtime = json.loads(error_event("realtime", PLUGIN, fault, "event_1"))
    responses = json.loads(error_event("responses", PLUGIN, fault, "event_1"))

    assert ("error", "event_1", "budget_exceeded") == (
        realtime["type"],
        realtime["event_id"],
        realtime["error"]["code"],
    )
    assert ("error", 429, "too much") == (responses["type"], responses["status"], responses["error"]["message"])


def test_what_each_event_is_read_for() -> None:
    head = read_head(b'{"type":"response.output_text.delta","response_id":"r1","delta":"Hi","x":[1]}')

    assert ("response.output_text.delta", "r1", "Hi") == (head.type, head.response_id, head.delta)
    assert "" == read_head(b"\xff").type == read_head(b"[]").type == read_head(b'{"type":1}').type


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'{"type":"input_audio_buffer.append","audio":"AA=="}', True),
        (b'{"type":"input_audio_buffer.append","audio":"AA==","type":"x"}', False),
        (b'{"typ\\u0065":"x","type":"input_audio_buffer.append"}', False),
        (b"{}", False),
    ],
)
def test_whether_no_parser_reads_another_type(event: bytes, expected: bool) -> None:
    assert expected == has_one_type(event)
