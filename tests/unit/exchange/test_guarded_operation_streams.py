"""Streams of operations other than chat: legacy completions and transcripts are restored, masked and blocked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from guarded_kit import BLOCK, COMPLETION, MASK, NAME, SSE, play, sent, stage_of
from guarding import SECRET, ScriptedService, rule
from player import Stage, answered, body, chunks, headers, talk
from reply_guarding import rule as detector_rule

from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.commands import Command, Continue, Pass
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.guardrails.base import Checked, Rule, Verdict
from edge_extproc.model.rule_hit import RuleHit

PATH = "/v1/completions"
STREAM = {**COMPLETION, "stream": True}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(text: str, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    top = {"id": "cmpl", "object": "text_completion", "created": 1, "model": "m", "system_fingerprint": "fp"}
    return event({**top, "choices": [choice], **more})


def completion_of(*texts: str) -> list[bytes]:
    return [*map(piece, texts), piece("", finish="stop"), piece("", choices=[], usage=USAGE) + b"data: [DONE]\n\n"]


def values(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: {")]


def texts_of(out: bytes, index: int = 0) -> str:
    choices = [choice for value in values(out) for choice in value.get("choices", ())]
    return "".join(choice["text"] for choice in choices if choice["index"] == index)


def streamed(stage: Stage, parts: Sequence[bytes], call: Any = STREAM, path: str = PATH, **more: Any) -> bytes:
    events = chunks(*parts, **more)
    _, *commands = play(
        stage, call, answered(content_type=SSE), *events, path=path, end="cancelled" if more else "done"
    )
    last = next((n for n, each in enumerate(commands) if isinstance(each, Pass) and each.end), len(commands) - 1)
    return sent(events[: last + 1], commands[: last + 1])


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_a_completion_is_restored_however_it_is_cut(size: int) -> None:
    text = f"you said {NAME}, and {NAME}."
    stage = stage_of(MASK)
    out = streamed(stage, completion_of(*(text[at : at + size] for at in range(0, len(text), size))))

    assert texts_of(out) == f"you said {SECRET}, and {SECRET}."
    assert out.endswith(b"data: [DONE]\n\n")
    assert [value["id"] for value in values(out)] == ["cmpl"] * len(values(out))
    assert values(out)[-1]["choices"][0]["finish_reason"] == "stop"
    assert values(out)[-1]["system_fingerprint"] == "fp"
    assert b'"usage"' not in out  # the caller did not request it
    (settled,) = stage.settled
    assert settled.outcome == "ok"
    assert settled.usage is not None
    assert (settled.usage.prompt, settled.usage.completion) == (5, 2)


def test_the_requested_usage_is_passed_on() -> None:
    call = {**STREAM, "stream_options": {"include_usage": True}}
    out = streamed(stage_of(MASK), completion_of(f"you said {NAME}"), call)

    assert values(out)[-1]["usage"] == USAGE
    assert texts_of(out) == f"you said {SECRET}"


def test_each_choice_of_a_completion_has_its_own_text() -> None:
    first, second = NAME[:7], NAME[7:]
    parts = [
        piece(first),
        piece("x" + first, 1),
        piece(second, finish="stop"),
        piece(second + "y", 1),
        piece("", 1, "stop"),
    ]
    out = streamed(stage_of(MASK), [*parts, b"data: [DONE]\n\n"])

    assert (texts_of(out), texts_of(out, 1)) == (SECRET, f"x{SECRET}y")
    finishes = [choice["finish_reason"] for value in values(out) for choice in value["choices"]]
    assert finishes.count("stop") == 2


def test_a_completion_that_is_blocked_ends_for_the_caller_and_the_provider() -> None:
    stage = stage_of(BLOCK)
    out = streamed(stage, completion_of("fine, ", "then forbid", "den words follow here and more")[:3], end=False)

    assert texts_of(out) == "fine, then "
    assert values(out)[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert out.endswith(b"data: [DONE]\n\n")
    (settled,) = stage.settled
    assert (settled.outcome, settled.finish, settled.estimated) == ("ok", "content_filter", True)
    assert settled.usage is not None
    assert settled.usage.completion > 0
    assert settled.guardrails == (RuleHit("no-words", "word", "block", "enforce", "reply", 1),)


def test_rules_for_each_kind_of_text_apply() -> None:
    masking = detector_rule("forbidden", "mask", 12, label="word", kinds=frozenset({"tool_call"}))
    out = streamed(stage_of(masking), completion_of("a forb", "idden word"))

    assert texts_of(out).startswith("a WORD_")
    assert texts_of(out).endswith(" word")


def test_a_rule_that_only_counts_keeps_the_bytes() -> None:
    stage = stage_of(replace(BLOCK, mode="shadow"))
    parts = completion_of("a forb", "idden word")

    assert streamed(stage, parts) == streamed(Stage(), parts)
    assert stage.settled[0].guardrails == (RuleHit("no-words", "word", "block", "shadow", "reply", 1),)


def judged(action: Any, **more: Any) -> Rule:
    def answer(checked: Checked) -> Verdict:
        texts = tuple(piece.text.replace("names", "[name]") for piece in checked.pieces)
        if any("forbidden" in piece.text for piece in checked.pieces):
            return Verdict("block", "harm")
        if any("down" in piece.text for piece in checked.pieces):
            raise PolicyUnavailable("the guardrail 'judge' could not be applied")
        return Verdict("mask", "name", texts) if any("[name]" in text for text in texts) else Verdict("pass")

    return rule(action, name="judge", service=ScriptedService(answer), directions=frozenset({"reply"}), **more)


def test_services_judge_a_completion() -> None:
    masked = streamed(stage_of(MASK, judged("mask")), completion_of(f"{NAME} ", "has na", "mes"))
    blocked = streamed(
        stage_of(judged("block", window=50)), completion_of("fine " * 10, "forbidden " * 8)[:2], end=False
    )
    stage = stage_of(judged("mask"))
    refused = streamed(stage, completion_of("it is down"))

    assert texts_of(masked) == f"{SECRET} has [name]"
    assert masked.endswith(b"data: [DONE]\n\n")
    assert texts_of(blocked) == "fine " * 10
    assert values(blocked)[-1]["choices"][0]["finish_reason"] == "content_filter"
    assert b"it is down" not in refused
    assert "'judge'" in values(refused)[-1]["error"]["message"]
    assert stage.settled[0].outcome == "rejected"


def test_a_completion_that_breaks_off_has_its_text_and_an_error() -> None:
    stage = stage_of(MASK)
    out = streamed(stage, completion_of(f"you said {NAME[:9]}")[:1])

    assert texts_of(out.partition(b'data: {"error"')[0]) == f"you said {NAME[:9]}"
    assert b'"error"' in out
    assert stage.settled[0].outcome == "broken_stream"


def test_an_error_within_a_stream_is_passed_on() -> None:
    out = streamed(stage_of(MASK), [piece("x"), event({"error": {"message": "busy", "code": "overloaded"}})])

    assert values(out)[-1]["error"]["message"] == "busy"


# --- transcripts

SPEECH = (
    b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nchat\r\n'
    b'--b\r\ncontent-disposition: form-data; name="stream"\r\n\r\ntrue\r\n'
    b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nsay ' + SECRET.encode() + b"\r\n--b--\r\n"
)


def transcript(*texts: str) -> list[bytes]:
    pieces = [event({"type": "transcript.text.delta", "delta": text, "logprobs": [{"token": text}]}) for text in texts]
    usage = {"type": "tokens", "input_tokens": 4, "output_tokens": 3, "total_tokens": 7}
    return [*pieces, event({"type": "transcript.text.done", "text": "".join(texts), "usage": usage})]


def transcribed(
    stage: Stage,
    parts: Sequence[bytes],
    call: Any = SPEECH,
    path: str = "/v1/audio/transcriptions",
    content_type: str = "multipart/form-data; boundary=b",
    **more: Any,
) -> bytes:
    exchange = stage.exchange()
    events = chunks(*parts, **more)
    begin = (headers(path, ("content-type", content_type)), body(call))
    _, _, _, *commands = talk(exchange, *begin, answered(content_type=SSE), *events)
    exchange.closed("done")
    assert stage.bugs == []
    last = next((n for n, each in enumerate(commands) if isinstance(each, Pass) and each.end), len(commands) - 1)
    return sent(events[: last + 1], commands[: last + 1])


def deltas_of(out: bytes) -> str:
    return "".join(value.get("delta", "") for value in values(out))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_transcript_is_restored_in_its_pieces_and_at_its_end(size: int) -> None:
    text = f"you said {NAME}."
    stage = stage_of(MASK)
    out = transcribed(stage, transcript(*(text[at : at + size] for at in range(0, len(text), size))))

    assert deltas_of(out) == f"you said {SECRET}."
    assert values(out)[-1]["text"] == f"you said {SECRET}."
    assert values(out)[-1]["usage"]["total_tokens"] == 7
    assert NAME.encode() not in out
    assert b"logprobs" not in out
    assert stage.settled[0].usage is not None
    assert stage.settled[0].usage.completion == 3


def test_a_transcript_without_pieces_is_restored() -> None:
    out = transcribed(stage_of(MASK), transcript(f"you said {NAME}.")[1:])

    assert values(out)[-1]["text"] == f"you said {SECRET}."


def test_a_transcript_is_masked_or_blocked() -> None:
    masked = transcribed(stage_of(judged("mask")), transcript("some na", "mes"))
    blocked = transcribed(stage_of(BLOCK), transcript("fine, ", "forbidden", " and more of this"), end=False)

    assert (deltas_of(masked), values(masked)[-1]["text"]) == ("some [name]", "some [name]")
    assert deltas_of(blocked) == "fine, "
    assert values(blocked)[-1]["error"]["code"] == "content_filter"
    assert b"forbidden" not in blocked


def test_pictures_pass_and_their_other_texts_are_restored() -> None:
    picture = "iVBORw0KGgo" + "AQIDBAUG" * 100
    frame = event({"type": "image_generation.completed", "b64_json": picture, "prompt": NAME})
    call = {"model": "chat", "prompt": f"say {SECRET}", "stream": True}
    stage = stage_of(MASK, BLOCK)
    out = transcribed(stage, [frame], call, "/v1/images/generations", "application/json")

    assert values(out) == [{"type": "image_generation.completed", "b64_json": picture, "prompt": SECRET}]


def test_a_command_of_a_stream_is_one_for_each_chunk() -> None:
    events: Sequence[ResponseBody] = chunks(*completion_of("x" * 40))
    head, *commands = play(stage_of(BLOCK), STREAM, answered(content_type=SSE), *events, path=PATH)

    assert isinstance(head, Continue)
    assert head.response_body == "full_duplex"
    ends: list[Command] = [each for each in commands if isinstance(each, Pass) and each.end]
    assert ends == commands[-1:]
