"""Services that judge replies: what they get, what the caller gets and when, and what is settled."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from calls_with_secrets import CALLS, FORMATS_OF_CALLERS
from guarded_kit import (
    COMPLETION,
    HELLO,
    MASK,
    NAME,
    SSE,
    STREAM,
    UPSTREAM,
    cached_stage,
    chunk,
    completion,
    play,
    reply_of,
    sent,
    short_deltas,
    stage_of,
    stream_of,
    texts_of,
)
from guarding import KINDS, SECRET, ScriptedService, guardrails
from guarding import rule as request_rule
from player import DIALECTS, Stage, answered, body, chunks, headers, talk, whole
from reply_guarding import rule as detector_rule

from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse, Pass
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.exchange.response_bodies import read_stream
from edge_extproc.guardrails.base import Checked, Rule, Verdict
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.reply import Choice, Finish, Reply, fold, unfold
from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.model.usage import Usage


def judge(checked: Checked) -> Verdict:
    """Blocks what contains `forbidden`, and masks `names`."""
    if any("forbidden" in piece.text for piece in checked.pieces):
        return Verdict("block", "harm")
    texts = tuple(piece.text.replace("names", "[name]") for piece in checked.pieces)
    return Verdict("mask", "name", texts) if texts != tuple(piece.text for piece in checked.pieces) else Verdict("pass")


def down(checked: Checked) -> Verdict:
    del checked
    raise PolicyUnavailable("the guardrail 'judge' could not be applied: its service did not answer within 2 s")


def judged(action: Any = "block", answer: Callable[[Checked], Verdict] = judge, **more: Any) -> Rule:
    more = {"directions": frozenset({"reply"}), "kinds": frozenset(KINDS), "name": "judge", **more}
    return request_rule(action, service=ScriptedService(answer), **more)


def asked(rule: Rule) -> list[list[str]]:
    """The texts of each check."""
    assert isinstance(rule.service, ScriptedService)
    return [[piece.text for piece in each.pieces] for each in rule.service.asked]


def content_of(command: Command) -> Any:
    assert isinstance(command, Continue)
    return json.loads(command.body or b"")["choices"][0]


# --- complete replies


def test_a_service_blocks_a_complete_reply() -> None:
    rule = judged()
    stage = stage_of(rule)
    _, command = play(stage, HELLO, answered(), whole(reply_of("a forbidden word")))

    choice = content_of(command)
    assert (choice["finish_reason"], choice["message"].get("content")) == ("content_filter", None)
    assert asked(rule) == [["a forbidden word"]]
    (settled,) = stage.settled
    assert (settled.outcome, settled.finish) == ("ok", "content_filter")
    assert settled.usage is not None
    assert settled.usage.prompt == 5
    assert settled.guardrails == (RuleHit("judge", "harm", "block", "enforce", "reply", 1),)


def test_a_service_knows_the_call_whose_reply_it_judges() -> None:
    rule = judged()
    play(stage_of(rule), HELLO, answered(), whole(reply_of("fine")))

    assert isinstance(rule.service, ScriptedService)
    (checked,) = rule.service.asked
    (piece,) = checked.pieces
    assert (checked.direction, checked.model, checked.tenant, checked.call_id) == (
        "reply",
        "chat",
        "acme",
        "exchange-1",
    )
    assert (piece.kind, piece.path) == ("assistant", "choices[0].parts[0]")


def test_a_reply_that_passes_keeps_its_bytes() -> None:
    raw = json.dumps(reply_of("fine"), indent=2).encode()

    _, command = play(stage_of(judged()), HELLO, answered(), whole(raw))
    assert command == Continue()


def test_a_service_gets_placeholders_and_the_caller_gets_the_values() -> None:
    rule, masked = judged("mask"), detector_rule("private", "mask", 12, label="word")
    stage = stage_of(MASK, masked, rule)
    _, command = play(stage, HELLO, answered(), whole(reply_of(f"{NAME}, private, names")))

    ((text,),) = asked(rule)
    assert text.startswith(f"{NAME}, WORD_")
    content = content_of(command)["message"]["content"]
    assert content.startswith(f"{SECRET}, WORD_")
    assert content.endswith(", [name]")


def test_a_value_that_the_caller_sent_is_masked_in_the_reply_if_a_rule_says_so() -> None:
    """The model has the value from somewhere else: its placeholder is not restored."""
    masked = detector_rule(SECRET, "mask", 20, label="secret")
    _, command = play(stage_of(MASK, masked, judged()), HELLO, answered(), whole(reply_of(f"{SECRET} and {NAME}")))

    first, _, second = content_of(command)["message"]["content"].partition(" and ")
    assert first.startswith("SECRET_")
    assert second == SECRET


@pytest.mark.parametrize("action", ["block", "mask"])
@pytest.mark.parametrize("call", [HELLO, STREAM])
def test_without_a_verdict_the_reply_is_refused(call: Any, action: str) -> None:
    stage = stage_of(judged(action, down))
    _, command = play(stage, call, answered(), whole(reply_of("some text")))

    if call is HELLO:
        assert isinstance(command, ImmediateResponse)
        assert command.status == 503
    assert isinstance(command, ImmediateResponse | Continue)
    assert b"'judge'" in (command.body or b"")
    assert b"some text" not in (command.body or b"")
    (settled,) = stage.settled
    assert (settled.outcome, settled.code) == ("rejected", "policy_unavailable")
    assert settled.usage is not None
    assert settled.usage.prompt == 5


def test_a_rule_can_let_pass_without_a_verdict() -> None:
    stage = stage_of(judged(answer=down, fail="open"))
    raw = json.dumps(reply_of("fine")).encode()

    assert play(stage, HELLO, answered(), whole(raw))[1] == Continue()
    assert stage.settled[0].guardrails == (RuleHit("judge", "unavailable", "flag", "enforce", "reply", 1),)


@pytest.mark.parametrize("more", [{"mode": "shadow"}, {"action": "flag", "fail": "open"}])
def test_a_rule_that_only_counts_changes_nothing(more: dict[str, Any]) -> None:
    rule = judged(**{"action": "block", **more})
    stage = stage_of(rule)
    raw = json.dumps(reply_of("a forbidden word")).encode()
    events = chunks(*stream_of("a forb", "idden word"))
    _, whole_command = play(stage, HELLO, answered(), whole(raw))
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert whole_command == Continue()
    assert sent(events, commands) == sent(events, play(Stage(), STREAM, answered(content_type=SSE), *events)[1:])
    assert asked(rule) == [["a forbidden word"], ["a forbidden word"]]
    for settled in stage.settled:
        assert [(hit.label, hit.mode) for hit in settled.guardrails] == [("harm", rule.mode)]


def test_all_rules_of_a_reply_are_asked() -> None:
    first, second = judged("mask", name="first"), judged("mask", name="second")
    blocking, only_calls = judged(name="third"), judged(name="calls", kinds=frozenset({"tool_call"}))
    play(stage_of(first, blocking, only_calls, second), HELLO, answered(), whole(reply_of("names")))

    assert asked(first) == [["names"]]
    assert asked(second) == [["[name]"]]
    assert asked(blocking) == [["names"]]
    assert asked(only_calls) == []


# --- streams


def test_the_text_of_a_stream_waits_for_its_window() -> None:
    rule = judged(window=50)
    parts = [f"{number:02} is a fine number. " for number in range(6)]
    events = chunks(*stream_of(*parts))
    stage = stage_of(rule)
    head, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert isinstance(head, Continue)
    assert head.response_body == "full_duplex"
    got = [texts_of(sent([event], [command])) for event, command in zip(events, commands, strict=True)]
    whole_text = "".join(parts)
    assert got == ["", "", "", whole_text[:63], "", "", whole_text[63:], "", "", ""]
    assert asked(rule) == [[whole_text[:63]], [whole_text]]  # what stands before a window is sent with it
    assert stage.settled[0].outcome == "ok"


def test_the_beginning_of_a_finding_is_before_its_window() -> None:
    events = chunks(*stream_of("x" * 50 + "forb", "idden word"))
    _, *commands = play(stage_of(judged(window=50)), STREAM, answered(content_type=SSE), *events[:-1], end="cancelled")

    out = sent(events[: len(commands)], commands)
    assert texts_of(out) == "x" * 50 + "forb"
    assert b'"finish_reason":"content_filter"' in out


def test_a_stream_that_a_service_blocks_ends_for_the_caller_and_the_provider() -> None:
    stage = stage_of(judged(window=50))
    events = chunks(*stream_of("fine. " * 10, "a forbidden word " * 5, "and more"), end=False)
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events, end="cancelled")

    last = next(n for n, command in enumerate(commands) if isinstance(command, Pass) and command.end)
    assert last == 2
    out = sent(events[: last + 1], commands[: last + 1])
    assert texts_of(out) == "fine. " * 10
    assert out.endswith(b"data: [DONE]\n\n")
    (settled,) = stage.settled
    assert (settled.outcome, settled.finish, settled.estimated) == ("ok", "content_filter", True)
    assert settled.usage is not None
    assert settled.usage.completion > 0


def test_a_text_waits_no_longer_than_the_interval() -> None:
    """The clock of the test moves on with each look at it."""
    now = iter(range(1000))
    rule = judged(window=5000, interval=3.0)
    stage = Stage()
    stage.having(guardrails=guardrails(rule, clock=lambda: float(next(now))))
    events = chunks(*stream_of(*["word "] * 7))
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    got = [texts_of(sent([event], [command])) for event, command in zip(events, commands, strict=True)]
    assert got[1:5] == ["", "", "word " * 3, ""]
    assert "".join(got) == "word " * 7


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_service_that_masks_gets_the_whole_text(size: int) -> None:
    text = f"you said {NAME}, and names."
    rule = judged("mask")
    events = chunks(*stream_of(*(text[at : at + size] for at in range(0, len(text), size))))
    _, *commands = play(stage_of(MASK, rule), STREAM, answered(content_type=SSE), *events)

    assert asked(rule) == [[text]]
    out = sent(events, commands)
    assert texts_of(out) == f"you said {SECRET}, and [name]."
    assert out.endswith(b"data: [DONE]\n\n")


def test_a_stream_without_a_verdict_ends_with_an_error_and_its_upstream_is_reset() -> None:
    stage = stage_of(judged(answer=down, window=50))
    events = chunks(*stream_of("some text " * 10, "and more"), end=False)
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events, end="cancelled")

    last = next(n for n, command in enumerate(commands) if isinstance(command, Pass) and command.end)
    assert last == 1
    out = sent(events[: last + 1], commands[: last + 1])
    assert b"some text" not in out
    assert b'"error"' in out
    assert b"'judge'" in out
    (settled,) = stage.settled
    assert (settled.outcome, settled.code, settled.finish) == ("rejected", "policy_unavailable", None)
    assert settled.usage is not None
    assert settled.usage.completion > 0


def test_a_stream_passes_without_a_verdict_if_the_rule_says_so() -> None:
    events = chunks(*stream_of("some text"))
    stage = stage_of(judged(answer=down, fail="open"))
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert texts_of(sent(events, commands)) == "some text"
    assert [hit.label for hit in stage.settled[0].guardrails] == ["unavailable"]


def test_a_detector_can_end_a_stream_before_a_service_does() -> None:
    block = detector_rule("never", name="no-words", longest=8)
    rule = judged()
    stage = stage_of(block, rule)
    events = chunks(*stream_of("fine, ", "never", "x" * 30), end=False)
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events, end="cancelled")

    out = sent(events[: len(commands)], commands)
    assert texts_of(out) == "fine, "
    assert asked(rule) == [["fine, "]]
    assert out.endswith(b"data: [DONE]\n\n")
    assert [hit.rule for hit in stage.settled[0].guardrails] == ["no-words"]


def test_a_reply_that_must_be_complete_and_is_too_long_is_blocked() -> None:
    stage = stage_of(judged("mask"))
    long = "word " * 15_000
    events = chunks(*stream_of(*[long] * 15), end=False)
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events, end="cancelled")

    assert any(isinstance(command, Pass) and command.end for command in commands)
    assert stage.settled[0].guardrails == (RuleHit("judge", "too_long", "block", "enforce", "reply", 1),)


def test_arguments_that_a_service_makes_unreadable_block_the_reply() -> None:
    def broken(checked: Checked) -> Verdict:
        return Verdict("mask", "name", tuple("no JSON" for _ in checked.pieces))

    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"names"}'}}
    events = chunks(chunk({"role": "assistant", "tool_calls": [call]}), chunk({}, "tool_calls"), b"data: [DONE]\n\n")
    _, *commands = play(stage_of(judged("mask", broken)), STREAM, answered(content_type=SSE), *events)

    out = sent(events, commands)
    assert b"no JSON" not in out
    assert b"content_filter" in out


def test_a_stream_that_breaks_off_has_its_judged_text_and_an_error() -> None:
    rule = judged()
    stage = stage_of(rule)
    events = [ResponseBody(b"".join(stream_of("some text")[:2]), False), ResponseBody(b"", True)]
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    out = sent(events, commands)
    assert texts_of(out.partition(b'data: {"error"')[0]) == "some text"
    assert b'"error"' in out
    assert stage.settled[0].outcome == "broken_stream"


@pytest.mark.parametrize("as_stream", [True, False])
@pytest.mark.parametrize("text", ["a forbidden word", "names"])
def test_a_body_without_a_content_type_for_streams_is_judged(as_stream: bool, text: str) -> None:
    raw = b"".join(stream_of(text)) if as_stream else json.dumps(reply_of(text)).encode()
    event = ResponseBody(raw, True)
    rule = judged("mask")
    _, command = play(stage_of(rule), STREAM, answered(content_type="text/plain"), event)

    out = sent([event], [command])
    assert asked(rule) == [[text]]
    if text == "names":
        assert texts_of(out) == "[name]"
    else:
        assert b"forbidden" not in out
        assert b'"finish_reason":"content_filter"' in out


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", sorted(FORMATS_OF_CALLERS))
@pytest.mark.parametrize("model", ["chat", "claude", "gemini"])
@pytest.mark.parametrize("text", ["names", "a forbidden word"])
def test_each_format_of_a_caller_and_a_provider_is_judged(path: str, model: str, stream: bool, text: str) -> None:
    rule = judged("mask")
    stage, place = stage_of(MASK, rule), path.replace("MODEL", model)
    call = json.loads(json.dumps(CALLS["user"][path]).replace("SECRET", SECRET).replace("MODEL", model))
    if stream and "generateContent" in path:
        place = place.replace(":generateContent", ":streamGenerateContent?alt=sse")
    elif stream and path.endswith("converse"):
        place += "-stream"
    elif stream:
        call["stream"] = True
    exchange = stage.exchange()
    up = talk(exchange, headers(place), body(call))[-1]
    assert isinstance(up, Continue)
    up_path = dict(up.set_headers)[":path"]
    of = DIALECTS[UPSTREAM.get(up_path.rpartition("/")[2], "gemini_generate")]
    parts = (Text(f"{NAME} has {text}"), ToolCall("call_1", "f", json.dumps({"x": text, "y": NAME})))
    reply = Reply(of.name, "id_1", "m", (Choice(parts, Finish("tool_calls")),), Usage(input=7, output=5), 1)
    if stream:
        writer = of.writer(of.read_call(up.body or b"", "chat", [(":path", up_path)], up_path.partition("?")[0]))
        raw = b"".join(writer.write(event) for event in short_deltas(unfold(reply)))
        events: Sequence[ResponseBody] = chunks(*(raw[start : start + 50] for start in range(0, len(raw), 50)))
        commands = talk(exchange, answered(content_type=of.stream_type), *events)[1:]
    else:
        events = [whole(of.write_reply(reply))]
        commands = talk(exchange, answered(), *events)[1:]
    exchange.closed("done")

    ended = [n for n, command in enumerate(commands) if isinstance(command, Pass) and command.end]
    last = ended[0] + 1 if ended else len(commands)
    out = sent(events[:last], commands[:last])
    to = exchange._caller_dialect
    got = fold(to.name, read_stream(to, out)) if stream else to.read_reply(out)
    assert SECRET not in json.dumps(asked(rule))
    assert stage.bugs == []
    if text == "names":
        first, tool_call = got.choices[0].parts
        assert isinstance(first, Text)
        assert first.text == f"{SECRET} has [name]"
        assert isinstance(tool_call, ToolCall)
        assert json.loads(tool_call.arguments) == {"x": "[name]", "y": SECRET}
        return
    assert b"forbidden" not in out
    assert [part for part in got.choices[0].parts if isinstance(part, ToolCall)] == []
    assert got.choices[0].finish is not None
    assert got.choices[0].finish.reason in ("content_filter", "refusal")


# --- other replies


def test_a_cached_reply_is_judged_for_each_reader() -> None:
    stage = cached_stage()
    play(stage, HELLO, answered(), whole(reply_of("a forbidden word")))
    stage.having(guardrails=guardrails(judged()))
    hit = talk(stage.exchange(), headers(), body(HELLO))[-1]
    stage.having(guardrails=guardrails(judged(answer=down)))
    refused = talk(stage.exchange(), headers(), body(HELLO))[-1]

    assert isinstance(hit, ImmediateResponse)
    assert json.loads(hit.body)["choices"][0]["finish_reason"] == "content_filter"
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 503


def test_a_blocked_reply_is_not_cached() -> None:
    for call, response in (
        (HELLO, (answered(), whole(reply_of("a forbidden word")))),
        (STREAM, (answered(content_type=SSE), ResponseBody(b"".join(stream_of("a forbidden word")), True))),
    ):
        stage = cached_stage(judged())
        play(stage, call, *response)
        stage.having(guardrails=None)
        assert isinstance(talk(stage.exchange(), headers(), body(call))[-1], Continue)


def test_replies_of_other_operations_are_judged() -> None:
    rule = judged("mask")
    stage = stage_of(MASK, rule)
    path = "/v1/completions"
    _, masked = play(stage, COMPLETION, answered(), whole(completion(f"{NAME} has names")), path=path)
    _, blocked = play(stage, COMPLETION, answered(), whole(completion("forbidden")), path=path)
    _, refused = play(stage_of(judged(answer=down)), COMPLETION, answered(), whole(completion("x")), path=path)

    assert content_of(masked)["text"] == f"{SECRET} has [name]"
    assert isinstance(blocked, Continue)
    assert (":status", "400") in blocked.set_headers
    assert b"forbidden" not in (blocked.body or b"")
    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 503
    assert [hit.direction for hit in stage.settled[1].guardrails if hit.rule == "judge"] == ["reply"]


def test_a_picture_in_a_reply_is_no_text_for_a_service() -> None:
    rule = judged()
    picture = "iVBORw0KGgo" + "AQIDBAUG" * 100
    play(stage_of(rule), COMPLETION, answered(), whole({"data": [{"b64_json": picture}]}), path="/v1/completions")

    assert isinstance(rule.service, ScriptedService)
    (checked,) = rule.service.asked
    assert checked.pieces == ()
    assert [media.path for media in checked.media] == ["data[0].b64_json"]


def test_the_rules_of_a_request_and_a_reply_can_be_one() -> None:
    rule = judged(directions=frozenset({"request", "reply"}))
    _, command = play(stage_of(rule), HELLO, answered(), whole(reply_of("a forbidden word")))

    assert content_of(command)["finish_reason"] == "content_filter"
    assert isinstance(rule.service, ScriptedService)
    assert [each.direction for each in rule.service.asked] == ["request", "reply"]


def test_a_shadow_and_an_enforced_rule_are_asked_once_each() -> None:
    shadow = judged("block", name="shadow", mode="shadow")
    rule = judged("mask")
    events = chunks(*stream_of("a name", "s here"))
    stage = stage_of(rule, shadow)
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert texts_of(sent(events, commands)) == "a [name] here"
    assert asked(rule) == asked(shadow) == [["a names here"]]
    assert replace(shadow, service=None) != rule
