"""Results of batches: the rules for replies apply to each line, and the other lines pass."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest
from guarded_kit import BLOCK, sent, stage_of
from guarding import ScriptedService, rule
from player import Stage, answered, chunks, headers, talk
from reply_guarding import rule as detector_rule

from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.guardrails.base import Checked, Rule, Verdict

CONTENT = "/v1/files/file-out/content"
OF_MESSAGES = "/v1/messages/batches/msgbatch_1/results"


def openai(text: str, id: str = "a") -> dict[str, Any]:
    reply = {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    return {"custom_id": id, "response": {"status_code": 200, "body": reply}, "error": None}


def anthropic(text: str, id: str = "a") -> dict[str, Any]:
    message = {"id": "m", "type": "message", "content": [{"type": "text", "text": text}]}
    return {"custom_id": id, "result": {"type": "succeeded", "message": message}}


def download(
    stage: Stage, lines: Sequence[Any], path: str = CONTENT, *, at: int = 50, gzipped: bool = False
) -> list[bytes]:
    """The lines that the caller gets."""
    raw = b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)
    raw = gzip.compress(raw) if gzipped else raw
    more = (("content-encoding", "gzip"),) if gzipped else ()
    events = chunks(*(raw[n : n + at] for n in range(0, len(raw), at)))
    exchange = stage.exchange()
    head = answered(200, *more, content_type="application/octet-stream")
    _, begin, *commands = talk(exchange, headers(path, method="GET", end=True), head, *events)
    exchange.closed("done")
    assert stage.bugs == []
    assert isinstance(begin, Continue)
    assert "content-length" in begin.remove_headers
    return sent(events, commands).splitlines(keepends=True)


@pytest.mark.parametrize("at", [1, 50, 100_000])
def test_a_line_that_is_blocked_says_so_and_the_others_pass(at: int) -> None:
    stage = stage_of(BLOCK)
    fine = json.dumps(openai("fine", "b"), indent=None, separators=(", ", ":  ")).encode() + b"\r\n"
    got = download(stage, [openai("a forbidden word"), fine, openai("forbidden, too", "c")], at=at)

    assert got[1] == fine
    for line, id in ((got[0], "a"), (got[2], "c")):
        value = json.loads(line)
        assert (value["custom_id"], value["response"]) == (id, None)
        assert value["error"]["code"] == "guardrail_blocked"
        assert "no-words" in value["error"]["message"]
    assert b"forbidden" not in b"".join(got)
    (settled,) = stage.settled
    assert [(hit.rule, hit.action, hit.count) for hit in settled.guardrails] == [("no-words", "block", 1)] * 2


def test_results_of_anthropic_are_checked_too() -> None:
    got = download(stage_of(BLOCK), [anthropic("a forbidden word"), anthropic("fine", "b")], OF_MESSAGES)

    first, second = map(json.loads, got)
    assert first["result"]["type"] == "errored"
    assert "no-words" in first["result"]["error"]["error"]["message"]
    assert second == anthropic("fine", "b")


def test_a_line_is_masked_and_compressed_results_are_read() -> None:
    masking = detector_rule("forbidden", "mask", 12, label="word")
    got = download(stage_of(masking), [openai("a forbidden word"), openai("fine")], gzipped=True)

    assert json.loads(got[0])["response"]["body"]["choices"][0]["message"]["content"].startswith("a WORD_")
    assert json.loads(got[1]) == openai("fine")


def test_what_is_no_reply_passes() -> None:
    lines = [b"\xff\xfe forbidden\n", b"{ no JSON forbidden\n", b'{"body":"forbidden"}\n', b"the end: forbidden"]

    assert download(stage_of(BLOCK), lines) == lines


def test_a_line_ends_at_a_line_feed_alone() -> None:
    """JSON may have a carriage return between its values."""
    line = json.dumps(openai("a forbidden word")).encode().replace(b'"response": ', b'"response":\r ') + b"\n"
    (got,) = download(stage_of(BLOCK), [line])

    assert json.loads(got)["error"]["code"] == "guardrail_blocked"


@pytest.mark.parametrize("rules", [BLOCK, "judge"])
def test_a_result_that_stops_in_the_middle_is_not_passed_on(rules: Any) -> None:
    whole = json.dumps(openai("a forbidden word")).encode()
    cut = whole[: whole.index(b"word")]
    fine, got = download(stage_of(judged() if rules == "judge" else rules), [openai("fine"), cut])

    assert json.loads(fine) == openai("fine")
    assert b"forbidden" not in got
    assert "not complete JSON" in json.loads(got)["error"]["message"]


def judged(action: Any = "mask", **more: Any) -> Rule:
    def answer(checked: Checked) -> Verdict:
        texts = tuple(piece.text.replace("names", "[name]") for piece in checked.pieces)
        if any("down" in piece.text for piece in checked.pieces):
            raise PolicyUnavailable("the guardrail 'judge' could not be applied")
        if any("forbidden" in piece.text for piece in checked.pieces):
            return Verdict("block", "harm")
        return Verdict("mask", "name", texts) if any("[name]" in text for text in texts) else Verdict("pass")

    return rule(action, name="judge", service=ScriptedService(answer), directions=frozenset({"reply"}), **more)


def test_a_service_judges_each_line() -> None:
    lines = [openai("some names"), openai("forbidden", "b"), openai("it is down", "c"), openai("fine", "d")]
    masked, blocked, refused, fine = map(json.loads, download(stage_of(judged()), lines))

    assert masked == openai("some [name]")
    assert blocked["error"]["code"] == "guardrail_blocked"
    assert (refused["custom_id"], refused["error"]["code"]) == ("c", "policy_unavailable")
    assert fine == openai("fine", "d")


def test_results_that_cannot_be_read_are_not_passed_on() -> None:
    exchange = stage_of(BLOCK).exchange()
    head = answered(200, ("content-encoding", "gzip"), content_type="application/octet-stream")
    *_, last = talk(exchange, headers(CONTENT, method="GET", end=True), head, *chunks(b"\xff" * 40, end=False))

    assert isinstance(last, ImmediateResponse)
    assert last.status == 502
