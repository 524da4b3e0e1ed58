"""What replies report of their use, in every shape that a host gives it, and how a passing stream is listened to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.model.reply import Ended, Failed, Finished, Garbled, UsageSeen
from edge_extproc.model.usage import Usage
from edge_extproc.operations.metering.stream import UsageListener
from edge_extproc.operations.metering.usage import usage_of


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, Usage(input=5, output=2)),
        (
            {
                "usage": {
                    "input_tokens": 9,
                    "input_token_details": {"audio_tokens": 4, "cached_tokens": 1},
                    "output_tokens": 3,
                    "output_token_details": {"audio_tokens": 2},
                }
            },
            Usage(input=4, cache_read=1, input_audio=4, output=1, output_audio=2),
        ),
        (
            {
                "data": [{"b64_json": ""}],
                "usage": {
                    "input_tokens": 373,
                    "input_tokens_details": {"text_tokens": 50, "image_tokens": 323},
                    "output_tokens": 1_300,
                    "output_tokens_details": {"text_tokens": 10, "image_tokens": 1_290},
                },
            },
            Usage(input=50, input_image=323, output=10, output_image=1_290),
        ),
        # Without details, the output is images.
        (
            {"data": [{"b64_json": ""}], "usage": {"input_tokens": 50, "output_tokens": 4_160}},
            Usage(input=50, output_image=4_160),
        ),
        (
            {"type": "image_generation.completed", "usage": {"input_tokens": 50, "output_tokens": 272}},
            Usage(input=50, output_image=272),
        ),
        (
            {
                "data": [],
                "usage": {
                    "input_tokens": 5,
                    "input_tokens_details": {"image_tokens": 9},
                    "output_tokens": 3,
                    "output_tokens_details": {"text_tokens": 7},
                },
            },
            Usage(input_image=5, output=3),
        ),
        ({"text": "", "usage": {"input_tokens": 5, "output_tokens": 3}}, Usage(input=5, output=3)),
        ({"usage": {"total_tokens": 57}}, Usage(input=57)),
        ({"meta": {"billed_units": {"input_tokens": 208}}}, Usage(input=208)),
        ({"meta": {"billed_units": {"search_units": 1}}}, None),
        ({"usage": {"type": "duration", "seconds": 7}}, None),
        ({"usage": {"cost_in_usd_ticks": 5}}, None),
        (
            {"usage": {"input_tokens": True, "output_tokens": -1}},
            Usage(prompt_unknown=True, completion_unknown=True, unreadable=2),
        ),
        ({"usage": None}, None),
        ({}, None),
        ([1], None),
    ],
)
def test_usage_is_read_in_every_shape(reply: Any, expected: Usage | None) -> None:
    assert expected == usage_of(reply)


def heard(wire: bytes, *cuts: int) -> tuple[list[Any], bytes]:
    listener, events, passed, at = UsageListener(), [], b"", 0
    for cut in [*sorted(cuts), len(wire)]:
        for frame in listener.frames(wire[at:cut]):
            events += listener.read(frame)
            passed += frame.raw
        at = cut
    frames, last = listener.close()
    return [*events, *last], passed + b"".join(frame.raw for frame in frames)


SPEECH = (
    b'event: speech.audio.delta\ndata: {"type":"speech.audio.delta","audio":"AAAA"}\n\n'
    b": keep\n\ndata: no JSON\n\ndata: [1]\n\n"
    b'data: {"type":"speech.audio.done","usage":{"input_tokens":4,"output_tokens":6,"total_tokens":10}}\n\n'
)


@given(st.lists(st.integers(0, len(SPEECH)), max_size=8))
def test_portions_do_not_matter(cuts: list[int]) -> None:
    assert heard(SPEECH) == heard(SPEECH, *cuts)
    assert SPEECH == heard(SPEECH, *cuts)[1]


def test_what_was_used_and_the_end_are_heard() -> None:
    events, _ = heard(SPEECH)

    assert [UsageSeen(Usage(input=4, output=6))] == [e for e in events if isinstance(e, UsageSeen)]
    assert 2 == sum(isinstance(event, Garbled) for event in events)
    assert events[-1] == Ended()


@pytest.mark.parametrize(
    "wire",
    [
        b'data: {"error":{"message":"busy","code":"overloaded"}}\n\n',
        b'event: error\ndata: {"type":"error","message":"busy","code":"overloaded"}\n\n',
    ],
)
def test_an_error_within_a_stream_is_a_failure_and_the_last_thing_heard(wire: bytes) -> None:
    events, _ = heard(wire + b'data: {"usage":{"total_tokens":1}}\n\n')

    assert [("busy", "overloaded")] == [(e.fault.message, e.fault.code) for e in events if isinstance(e, Failed)]
    assert isinstance(events[-1], Failed)


def test_a_stream_that_tells_its_end_must_come_to_it() -> None:
    assert isinstance(heard(SPEECH[: SPEECH.index(b"data: {", 60)])[0][-1], Failed)
    assert isinstance(heard(b'data: {"choices":[{"text":"a"},7]}\n\n')[0][-1], Failed)


def test_a_stream_of_an_unknown_kind_may_just_end() -> None:
    assert [Ended()] == heard(b'data: {"progress":1}\n\n')[0]


def test_a_finish_of_a_completion_is_an_end() -> None:
    events, _ = heard(b'data: {"choices":[{"text":"a","index":0,"finish_reason":"eos"}]}')

    assert ["other"] == [event.finish.reason for event in events if isinstance(event, Finished)]
    assert events[-1] == Ended()
