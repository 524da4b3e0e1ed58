"""The messages of Google's Live API: what decides the model, the turn and the bill."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc.dialects.gemini_generate.live_messages import (
    Setup,
    begins_turn,
    input_size,
    is_live,
    kind_of,
    merged,
    read_live_usage,
    read_message,
    read_setup,
    with_model,
)
from edge_extproc.dialects.gemini_generate.reply import SearchCount
from edge_extproc.errors import BadRequest
from edge_extproc.model.usage import Usage

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PATH, True),
        (PATH.replace("v1beta", "v1alpha"), True),
        (f"{PATH}Constrained", False),
        (PATH.replace("google.ai", "googleXai"), False),
        ("/v1/realtime", False),
    ],
)
def test_the_path(path: str, expected: bool) -> None:
    assert expected == is_live(path)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"setup": {}}, "setup"),
        ({"clientContent": {}}, "client_content"),
        ({"client_content": {}}, "client_content"),
        ({"realtimeInput": {}}, "realtime_input"),
        ({"tool_response": {}}, "tool_response"),
    ],
)
def test_the_kind_of_a_message_in_both_spellings(message: Any, expected: str) -> None:
    assert expected == kind_of(message)


@pytest.mark.parametrize("message", [{}, {"setup": {}, "clientContent": {}}, {"Setup ": {}}, {"other": 1}])
def test_a_message_of_no_kind_is_refused(message: Any) -> None:
    with pytest.raises(BadRequest, match="exactly one"):
        kind_of(message)


def test_the_setup() -> None:
    message: Any = {
        "setup": {
            "model": "models/m",
            "generation_config": {"maxOutputTokens": "7"},
            "sessionResumption": {"handle": "h"},
        }
    }

    assert Setup("m", 7, "h") == read_setup(message)
    assert "models/other" == with_model(message, "other")["setup"]["model"]  # type: ignore[index,call-overload]
    assert Setup("m", None, None) == read_setup({"setup": {"model": "m", "sessionResumption": {}}})


@pytest.mark.parametrize(
    "setup", [None, [], {"model": 1}, {"model": "tunedModels/x"}, {"model": "m", "generationConfig": 1}]
)
def test_a_setup_that_is_refused(setup: Any) -> None:
    with pytest.raises(BadRequest):
        read_setup({"setup": setup})


def test_what_the_model_answers() -> None:
    assert begins_turn("client_content", {"clientContent": {"turnComplete": True}})
    assert not begins_turn("client_content", {"clientContent": {"turnComplete": False}})
    assert begins_turn("tool_response", {"toolResponse": {}})
    assert not begins_turn("setup", {"setup": {}})


def test_the_size_of_an_input() -> None:
    sound = {"data": "A" * 17_060, "mimeType": "audio/pcm"}
    most, likely = input_size({"realtimeInput": {"audio": sound, "text": "four"}}) or (0, 0)

    assert 17_060 // 64 < most < 17_060
    assert 10 <= likely <= 13
    assert input_size({"realtimeInput": {"audio": {"fileUri": "x"}}}) is None
    many = input_size({"realtimeInput": {"mediaChunks": [{"data": "A", "mimeType": "image/png"}] * 3}})
    assert many is not None
    assert many[0] >= 3 * 2_240


def read(message: Any) -> Any:
    return read_message(json.dumps(message).encode(), SearchCount())


def test_a_message_of_the_provider() -> None:
    parts = [{"text": "Hello"}, {"inlineData": {"data": "A" * 100, "mimeType": "audio/pcm"}}, 1]
    found = read({"serverContent": {"modelTurn": {"parts": parts}}})

    assert (True, False, False, 5, 100) == (
        found.begins,
        found.is_over,
        found.calls,
        found.text_characters,
        found.audio_characters,
    )
    assert read({"toolCall": {}}).calls
    assert read({"serverContent": {"turnComplete": True}}).is_over
    assert "h" == read({"sessionResumptionUpdate": {"newHandle": "h"}}).handle
    assert not read({"serverContent": {"inputTranscription": {"text": "a"}}}).begins


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"{"])
def test_bytes_that_are_no_message(payload: bytes) -> None:
    assert read_message(payload, SearchCount()) is None


@pytest.mark.parametrize(
    "message", [{"serverContent": 1}, {"serverContent": {"modelTurn": [], "groundingMetadata": 1}}]
)
def test_fields_of_unexpected_types_are_no_content(message: Any) -> None:
    assert not read(message).begins


@pytest.mark.parametrize("name", ["response", "candidates"])
def test_the_usage_in_both_names(name: str) -> None:
    usage = read_live_usage({"promptTokenCount": 5, f"{name}TokenCount": 3, "cachedContentTokenCount": 1})

    assert Usage(input=4, cache_read=1, output=3) == usage
    assert read_live_usage({"trafficType": "ON_DEMAND"}) is None
    assert read_live_usage(None) is None


def test_two_counts_of_a_turn() -> None:
    early, late = Usage(input=5, output=1), Usage(input=5, output=9)

    assert early == merged(None, early)
    assert late == merged(early, late)
    assert Usage(input=10, output=10) == merged(late, early)
