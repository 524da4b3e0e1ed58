"""Sessions of Google's Live API: the model of the setup, and a settlement for each turn."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from limits_kit import dollars, rule
from player import KEY
from socket_player import Socket, socket_stage

from edge_extproc.codecs.websocket import encode
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.owners import ObjectOwners, ProviderAccount

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
SETUP = {"setup": {"model": "models/gemini"}}
ASK = {"clientContent": {"turns": [{"role": "user", "parts": [{"text": "Hello"}]}], "turnComplete": True}}
SOUND = {"realtimeInput": {"audio": {"data": "A" * 6_400, "mimeType": "audio/pcm;rate=16000"}}}
PART = {"serverContent": {"modelTurn": {"parts": [{"text": "Hi there"}]}}}
OVER = {"serverContent": {"turnComplete": True}}


def counted(prompt: object = 5, answer: object = 2, **more: Any) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": prompt, "responseTokenCount": answer}, **more}


def session(*rules: Any, setup: Any = SETUP, stage: Any = None) -> Socket:
    opened = Socket(stage or socket_stage(*rules)).open(PATH)
    if setup is not None:
        assert ["text"] == [message.kind for message in opened.caller(setup)]
        opened.provider({"setupComplete": {}})
    return opened


def facts(settled: list[Any]) -> list[tuple[str, int | None, bool]]:
    return [(each.outcome, each.usage.total if each.usage is not None else None, each.estimated) for each in settled]


def refused(opened: Socket, *events: Any) -> str:
    """The reason of the close."""
    passed = [message.kind for message in opened.caller(*events)]
    assert "ping" == passed[-1]
    (close,) = opened.provider_bytes(b"\x8a\x00")
    assert ("close", 1008) == (close.kind, close.code)
    return close.payload.decode()


# --- the upgrade and the setup


def test_the_provider_gets_its_own_key_and_the_path_of_the_version() -> None:
    command = Socket(socket_stage()).ask(f"{PATH}?key={KEY}&alt=sse", key=None)

    assert isinstance(command, Continue)
    headers = dict(command.set_headers)
    assert PATH == headers[":path"]
    assert "secret-of-google" == headers["x-goog-api-key"]
    assert "socket_google" == headers["x-edge-cluster"]
    assert KEY not in str(headers)


@pytest.mark.parametrize("path", [PATH.replace("BidiGenerateContent", "BidiGenerateContentConstrained"), f"{PATH}/x"])
def test_another_path_is_another_api(path: str) -> None:
    command = Socket(socket_stage()).ask(path)

    assert not isinstance(command, Continue) or PATH not in dict(command.set_headers)[":path"]


def test_an_error_has_googles_format() -> None:
    command = Socket(socket_stage()).ask(PATH, key="wrong")

    assert isinstance(command, ImmediateResponse)
    assert "UNAUTHENTICATED" == json.loads(command.body)["error"]["status"]


@pytest.mark.parametrize("name", ["gemini", "models/gemini"])
def test_the_setup_has_the_providers_name_of_the_model(name: str) -> None:
    (message,) = session(setup=None).caller({"setup": {"model": name, "generationConfig": {"temperature": 1}}})

    expected = {"model": "models/gemini-2.5-flash", "generationConfig": {"temperature": 1}}
    assert expected == json.loads(message.payload)["setup"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"setup": {"model": "models/unknown-model"}}, "unknown-model"),
        ({"setup": {"model": "models/chat"}}, "not at the provider"),
        ({"setup": {}}, "setup.model is missing"),
        ({"setup": {"model": "projects/x/models/y"}}, "models/NAME"),
        (ASK, "the first message"),
        ({**SETUP, **ASK}, "exactly one"),
        ({}, "exactly one"),
        ({"unknown": {}}, "exactly one"),
        ({"setup": {"model": "gemini", "generationConfig": {}, "generation_config": {}}}, "two spellings"),
        ({"setup": {"model": "gemini", "generationConfig": {"maxOutputTokens": "x"}}}, "maxOutputTokens"),
    ],
)
def test_a_first_message_that_is_refused(event: Any, reason: str) -> None:
    assert reason in refused(session(setup=None), event)


def test_a_session_has_one_setup() -> None:
    assert "one setup" in refused(session(), SETUP)


def test_a_model_that_the_caller_may_not_use_is_refused() -> None:
    opened = Socket(socket_stage()).open(PATH, key="edge-key-of-umbrella")

    assert "gemini" in refused(opened, SETUP)


def test_both_kinds_of_messages_have_events() -> None:
    (message,) = session(setup=None).caller_bytes(encode("binary", json.dumps(SETUP).encode(), from_client=True))

    assert ("binary", "models/gemini-2.5-flash") == (message.kind, json.loads(message.payload)["setup"]["model"])


def test_the_session_of_another_tenant_is_not_continued() -> None:
    owners = ObjectOwners(MemoryRecords(), {"google": ProviderAccount("google")})
    asyncio.run(owners.record("google", "umbrella", ["theirs"]))
    stage = socket_stage().having(owners=owners)
    opened = session(stage=stage)
    opened.provider({"sessionResumptionUpdate": {"newHandle": "mine", "resumable": True}})
    theirs = {"setup": {"model": "gemini", "sessionResumption": {"handle": "theirs"}}}
    mine = {"setup": {"model": "gemini", "sessionResumption": {"handle": "mine"}}}

    assert "there is no object" in refused(session(stage=stage, setup=None), theirs)
    assert "text" == session(stage=stage, setup=None).caller(mine)[0].kind


def test_files_of_another_tenant_are_refused() -> None:
    owners = ObjectOwners(MemoryRecords(), {"google": ProviderAccount("google")})
    stage = socket_stage().having(owners=owners)
    uri = "https://generativelanguage.googleapis.com/v1beta/files/theirs"
    part = {"fileData": {"fileUri": uri, "mimeType": "audio/wav"}}
    event = {"clientContent": {"turns": [{"parts": [part]}]}}

    assert "there is no object" in refused(session(stage=stage), event)
    cached = {"setup": {"model": "gemini", "cachedContent": "cachedContents/theirs"}}
    assert "there is no object" in refused(session(stage=stage, setup=None), cached)


# --- turns


@pytest.mark.parametrize(
    "messages",
    [
        (PART, {**OVER, **counted()}),
        (PART, counted(), OVER),
        (PART, OVER, counted()),
        (PART, {**OVER, **counted()}, counted()),
        ({**PART, **counted(5, 1)}, {**PART, **counted(5, 2)}, OVER),
        (PART, counted(5, 1), counted(5, 2), OVER),
    ],
)
@pytest.mark.parametrize("asked", [ASK, SOUND])
def test_a_turn_is_settled_by_its_usage_once(asked: Any, messages: Any) -> None:
    opened = session()
    opened.caller(asked)
    opened.provider(*messages)

    assert [("ok", 7, False)] == facts(opened.close())
    assert 1 == opened.opened


def test_turns_follow_each_other() -> None:
    opened = session()
    for prompt in (5, 20, 40):
        opened.caller(ASK)
        opened.provider(PART, {**OVER, **counted(prompt)})

    assert [("ok", 7, False), ("ok", 22, False), ("ok", 42, False)] == facts(opened.close())


def test_the_step_before_a_call_of_a_function_and_the_one_after_it_are_counted() -> None:
    opened = session()
    opened.caller(ASK)
    opened.provider({"toolCall": {"functionCalls": [{"name": "f"}]}, **counted(5, 2)})
    opened.caller({"toolResponse": {"functionResponses": [{"name": "f", "response": {}}]}})
    opened.provider(PART, {**OVER, **counted(30, 3)})

    assert [("ok", 7, False), ("ok", 33, False)] == facts(opened.close())


def test_a_call_without_usage_goes_on_in_its_turn() -> None:
    opened = session()
    opened.caller(ASK)
    opened.provider({"toolCall": {"functionCalls": [{"name": "f"}]}})
    opened.caller({"toolResponse": {"functionResponses": [{"name": "f", "response": {}}]}})
    opened.provider(PART, {**OVER, **counted(30, 3)})

    assert [("ok", 33, False)] == facts(opened.close())


def test_an_interrupted_turn_and_the_next_one_have_their_own_usage() -> None:
    opened = session()
    opened.caller(ASK)
    opened.provider(PART)
    opened.caller(ASK)
    opened.provider(
        {"serverContent": {"interrupted": True}}, {**OVER, **counted(5, 1)}, PART, {**OVER, **counted(9, 3)}
    )

    assert [("ok", 6, False), ("ok", 12, False)] == facts(opened.close())


def test_a_turn_whose_usage_never_comes_is_estimated_when_the_next_one_begins() -> None:
    opened = session()
    opened.caller(ASK)
    opened.provider(PART, OVER)
    opened.caller(ASK)
    opened.provider(PART, {**OVER, **counted(9, 3)})
    first, second = opened.close()

    assert ("ok", True) == (first.outcome, first.estimated)
    assert ("ok", 12) == (second.outcome, second.usage.total)


def test_sound_pictures_and_text_are_counted_apart() -> None:
    opened = session()
    opened.caller(ASK)
    usage = {
        "promptTokenCount": 100,
        "responseTokenCount": 50,
        "thoughtsTokenCount": 7,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 10},
            {"modality": "AUDIO", "tokenCount": 60},
            {"modality": "VIDEO", "tokenCount": 30},
        ],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 45}, {"modality": "TEXT", "tokenCount": 5}],
    }
    opened.provider(PART, {**OVER, "usageMetadata": usage})
    (settled,) = opened.close()

    read = settled.usage
    assert (10, 90, 5, 45, 7) == (read.input, read.input_audio, read.output, read.output_audio, read.reasoning)


def test_searches_are_counted_once() -> None:
    opened = session()
    opened.caller(ASK)
    grounding = {"groundingMetadata": {"webSearchQueries": ["a", "b"]}}
    opened.provider(
        PART, {"serverContent": grounding}, {"serverContent": {**grounding, "turnComplete": True}, **counted()}
    )
    (settled,) = opened.close()

    assert 2 == settled.usage.searches


@pytest.mark.parametrize("count", [-1, 10**30, "many", 1e308])
def test_usage_that_cannot_be_is_estimated(count: object) -> None:
    opened = session()
    opened.caller(ASK)
    opened.provider(PART, {**OVER, **counted(count, count)})
    (settled,) = opened.close()

    assert settled.estimated
    assert 0 < settled.usage.total < 10_000


def test_a_turn_without_its_end_is_estimated_by_what_came() -> None:
    opened = session()
    opened.caller(ASK)
    sound = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": "A" * 53_300}}
    opened.provider({"serverContent": {"modelTurn": {"parts": [{"text": "x" * 4_000}, sound]}}})
    (settled,) = opened.close()

    assert ("caller_left", True) == (settled.outcome, settled.estimated)
    assert settled.usage.output_audio > 0
    assert settled.usage.output >= 800


# --- limits


def test_a_turn_beyond_a_budget_is_refused_before_it_is_sent() -> None:
    opened = session(dollars(10))

    assert "dollars per day" in refused(opened, ASK)
    assert [("rejected", None, False)] == facts(opened.close())


def test_a_turn_after_speech_is_refused_when_it_begins() -> None:
    opened = session(dollars(10))
    assert ["text"] == [message.kind for message in opened.caller(SOUND)]
    messages = opened.provider(PART)
    settled = opened.close()

    assert [("close", 1008)] == [(message.kind, message.code) for message in messages]
    assert ["rejected"] == [each.outcome for each in settled]
    assert settled[0].cost > 0


def reserved(*events: Any, setup: Any = SETUP) -> int:
    stage = socket_stage(rule("tokens", 10**9))
    opened = session(setup=setup, stage=stage)
    opened.caller(*events)
    limiter: Any = stage.gateway.limiter
    (open_reservation,) = limiter._open.values()
    return sum(open_reservation.amounts)


def test_a_frame_of_a_video_is_reserved_at_its_highest_resolution() -> None:
    frame = {"realtimeInput": {"video": {"data": "AAAA", "mimeType": "image/jpeg"}}}

    assert reserved(frame, ASK) - reserved(ASK) >= 2_240


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"googleSearch": {}}]},
        {"sessionResumption": {"handle": "h"}},
        {"session_resumption": {"handle": "h"}},
        {"cachedContent": "cachedContents/x"},
    ],
)
def test_content_that_the_session_does_not_show_counts_as_a_context_window(more: Any) -> None:
    assert reserved(ASK, setup={"setup": {"model": "gemini", **more}}) > 100_000


def test_the_bound_of_the_output_is_that_of_the_setup() -> None:
    small = reserved(ASK, setup={"setup": {"model": "gemini", "generation_config": {"max_output_tokens": "7"}}})

    assert reserved(ASK) - small > 40


@pytest.mark.parametrize(
    "event",
    [
        {"client_content": {"turns": [], "turn_complete": True}},
        {"realtimeInput": {"text": "Hello"}},
        {"realtimeInput": {"activityEnd": {}}},
    ],
)
def test_messages_that_are_answered_are_reserved(event: Any) -> None:
    assert reserved(event) > 0


@pytest.mark.parametrize(
    "event",
    [
        {"clientContent": {"turns": []}},
        {"realtimeInput": {"activityStart": {}}},
        {"realtimeInput": {"audioStreamEnd": True}},
        {"realtimeInput": {"mediaChunks": [{"data": "AAAA", "mimeType": "audio/pcm"}]}},
    ],
)
def test_messages_that_are_not_answered_reserve_nothing(event: Any) -> None:
    stage = socket_stage(rule("tokens", 10**9))
    opened = session(stage=stage)

    assert ["text"] == [message.kind for message in opened.caller(event)]
    assert 0 == opened.opened
