"""A guarded reply of every provider's format, for a caller of every format: complete, and as a stream cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from asking import CALLERS, DIALECTS
from cells import each_cell
from hypothesis import given, settings
from hypothesis import strategies as st
from reply_guarding import guard, masker, rule
from thoroughness import examples

from edge_extproc.exchange.relay import CrossRelay
from edge_extproc.guardrails.reply_guard import RuledReply
from edge_extproc.model.call import Call
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.reply import (
    Choice,
    Ended,
    Failed,
    Finish,
    Finished,
    PartDelta,
    Reply,
    ReplyEvent,
    fold,
    unfold,
)
from edge_extproc.model.usage import Usage

EMAIL, PHONE = 'bob "b" <bob@canary.example>', "+49 30 canary"
CALL, (EMAIL_NAME, PHONE_NAME) = masker(EMAIL, PHONE)
INVENTED = "EMAIL_bcdfghjkmnpq"
MASKED_TEXT = f"Write to {EMAIL_NAME}, never {INVENTED}; or call {PHONE_NAME}."
TEXT = MASKED_TEXT.replace(EMAIL_NAME, EMAIL).replace(PHONE_NAME, PHONE)
MASKED_INPUT = {"to": EMAIL_NAME, "numbers": [PHONE_NAME], "note": f"a\nb {INVENTED}"}
INPUT = {"to": EMAIL, "numbers": [PHONE], "note": f"a\nb {INVENTED}"}
PAIRS = [(provider, caller) for provider in CALLERS for caller in CALLERS]
EACH_PAIR = each_cell(("provider", "caller"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
LEAST: dict[str, Any] = {
    "openai_chat": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "openai_responses": {"model": "m", "input": "Hi"},
    "anthropic_messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "gemini_generate": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    "bedrock_converse": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
}
PATHS = {
    "gemini_generate": "/v1beta/models/m:streamGenerateContent?alt=sse",
    "bedrock_converse": "/model/m/converse-stream",
}


def call_of(dialect: str) -> Call:
    """A call that requests a stream with its usage."""
    content = {**LEAST[dialect]}
    if dialect in ("openai_chat", "openai_responses", "anthropic_messages"):
        content["stream"] = True
    if dialect == "openai_chat":
        content["stream_options"] = {"include_usage": True}
    path = PATHS.get(dialect, "/v1/any")
    return DIALECTS[dialect].read_call(json.dumps(content).encode(), "chat", [(":path", path)], path.partition("?")[0])


def reply_of(*texts: str, arguments: Any = None, dialect: str = "openai_chat") -> Reply:
    parts = [Text(text) for text in texts]
    calls = [ToolCall("call_1", "mail", json.dumps(arguments))] if arguments is not None else []
    finish = Finish("tool_calls" if calls else "stop")
    return Reply(dialect, "id_1", "m", (Choice((*parts, *calls), finish),), Usage(input=7, output=5), 1_700_000_000)


def cut(events: Sequence[ReplyEvent], size: int) -> Iterator[ReplyEvent]:
    for event in events:
        if isinstance(event, PartDelta):
            for start in range(0, len(event.text), size):
                yield replace(event, text=event.text[start : start + size])
        else:
            yield event


def streamed(provider: str, reply: Reply, size: int) -> bytes:
    """The provider's stream of a reply, with deltas of `size` characters."""
    writer = DIALECTS[provider].writer(call_of(provider))
    return b"".join(writer.write(event) for event in cut(list(unfold(reply)), size))


def relayed(provider: str, caller: str, stream: bytes, checker: RuledReply, sizes: Sequence[int]) -> CrossRelayed:
    own, to, of = provider == caller, DIALECTS[caller], DIALECTS[provider]
    relay = CrossRelay(
        of.reader(of.stream_type),
        to.writer(call_of(caller)),
        own=own,
        can_contain=(lambda _: True) if own else to.can_contain,
        guard=checker,
    )
    out, start, turn = b"", 0, 0
    while start < len(stream):
        size = sizes[turn % len(sizes)]
        out += relay.feed(stream[start : start + size])
        start, turn = start + size, turn + 1
    return CrossRelayed(relay, out + relay.close(), to)


class CrossRelayed:
    """What a caller got."""

    def __init__(self, relay: CrossRelay, raw: bytes, dialect: Any) -> None:
        self.tally, self.raw = relay.tally, raw
        reader = dialect.reader(dialect.stream_type)
        self.events: list[ReplyEvent] = [event for frame in reader.frames(raw) for event in reader.read(frame)]
        self.events += reader.close()[1]
        self.reply = fold(dialect.name, self.events)


def check_restored(got: CrossRelayed) -> None:
    parts = got.reply.choices[0].parts
    assert "".join(part.text for part in parts if isinstance(part, Text)) == TEXT
    (call,) = [part for part in parts if isinstance(part, ToolCall)]
    assert json.loads(call.arguments) == INPUT
    assert EMAIL_NAME.encode() not in got.raw
    assert not any(isinstance(event, Failed) for event in got.events)
    assert isinstance(got.events[-1], Ended)


@EACH_PAIR
def test_a_stream_has_the_values_of_its_caller(provider: str, caller: str) -> None:
    reply = reply_of(MASKED_TEXT, arguments=MASKED_INPUT)
    for size in (1, 2, 7, len(EMAIL_NAME) - 1, 500):
        stream = streamed(provider, reply, size)
        for checker in (guard(call=CALL), guard(rule("never-there", longest=40), call=CALL)):
            check_restored(relayed(provider, caller, stream, checker, [len(stream)]))


@pytest.mark.parametrize("provider", CALLERS)
def test_a_stream_that_is_cut_at_every_byte_has_them(provider: str) -> None:
    stream = streamed(provider, reply_of(MASKED_TEXT, arguments=MASKED_INPUT), 3)

    check_restored(relayed(provider, provider, stream, guard(call=CALL), [1]))
    check_restored(relayed(provider, "openai_chat", stream, guard(call=CALL), [1]))


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("provider", CALLERS)
@settings(max_examples=examples(40))
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=6), size=st.integers(1, 30))
def test_any_cuts_give_the_same(provider: str, caller: str, sizes: list[int], size: int) -> None:
    stream = streamed(provider, reply_of(MASKED_TEXT, arguments=MASKED_INPUT), size)

    check_restored(relayed(provider, caller, stream, guard(rule("unseen", longest=9), call=CALL), sizes))


@EACH_PAIR
def test_a_block_at_any_place_ends_the_stream_as_a_content_filter_does(provider: str, caller: str) -> None:
    for place in (0, 1, 30, 90):
        text = "." * place + "secret" + "," * 120
        stream = streamed(provider, reply_of(text), 4)
        got = relayed(provider, caller, stream, guard(rule("secret")), [50])

        assert [part.text for part in got.reply.choices[0].parts if isinstance(part, Text)] in ([], ["." * place])
        assert b"secret" not in got.raw
        assert got.tally.blocked
        finish = got.reply.choices[0].finish
        assert finish is not None
        assert finish.reason in ("content_filter", "refusal")
        assert not any(isinstance(event, Failed) for event in got.events)
        assert sum(isinstance(event, Finished) for event in got.events) == 1
        assert isinstance(got.events[-1], Ended)


@EACH_PAIR
def test_a_block_in_the_arguments_of_a_call_ends_the_stream(provider: str, caller: str) -> None:
    stream = streamed(provider, reply_of("fine", arguments={"x": "." * 50 + "secret", "y": "z" * 99}), 4)
    got = relayed(provider, caller, stream, guard(rule("secret")), [50])

    assert b"secret" not in got.raw
    assert got.tally.blocked
    assert not any(isinstance(event, Failed) for event in got.events)
    finish = got.reply.choices[0].finish
    assert finish is not None
    assert finish.reason not in ("tool_calls", "stop")


@EACH_PAIR
def test_what_was_used_before_a_block_is_known(provider: str, caller: str) -> None:
    """The rest of a chunk is read, so the usage at the end of a blocked stream counts."""
    stream = streamed(provider, reply_of("." * 9 + "secret" + "," * 99), 4)
    got = relayed(provider, caller, stream, guard(rule("secret")), [len(stream)])

    assert got.tally.usage is not None
    assert (got.tally.usage.prompt, got.tally.usage.completion) == (7, 5)
    assert got.tally.fold is None


@EACH_PAIR
def test_a_masked_finding_is_masked_in_every_format(provider: str, caller: str) -> None:
    rules = [rule(r"[a-z]+@canary", "mask", label="email")]
    reply = reply_of("mail bob@canary now", arguments={"to": "\nbob@canary", "n": 1})
    for size in (1, 5, 100):
        got = relayed(provider, caller, streamed(provider, reply, size), guard(*rules), [60])
        text, call = got.reply.choices[0].parts
        assert isinstance(text, Text)
        assert isinstance(call, ToolCall)
        assert text.text.startswith("mail EMAIL_")
        assert text.text.endswith(" now")
        assert json.loads(call.arguments)["to"].startswith("\nEMAIL_")
        assert b"bob@canary" not in got.raw


@EACH_PAIR
def test_a_complete_reply_has_the_values_of_its_caller(provider: str, caller: str) -> None:
    of, to = DIALECTS[provider], DIALECTS[caller]
    raw = of.write_reply(reply_of(MASKED_TEXT, arguments=MASKED_INPUT, dialect=provider))
    out = to.write_reply(replace(guard(call=CALL).complete(of.read_reply(raw)), call=call_of(caller)))
    parts = to.read_reply(out).choices[0].parts

    assert "".join(part.text for part in parts if isinstance(part, Text)) == TEXT
    (call,) = [part for part in parts if isinstance(part, ToolCall)]
    assert json.loads(call.arguments) == INPUT


@EACH_PAIR
def test_a_blocked_complete_reply_is_one_of_a_content_filter(provider: str, caller: str) -> None:
    of, to = DIALECTS[provider], DIALECTS[caller]
    raw = of.write_reply(reply_of("a secret", arguments={"x": 1}, dialect=provider))
    out = to.write_reply(replace(guard(rule("secret")).complete(of.read_reply(raw)), call=call_of(caller)))
    reply = to.read_reply(out)

    assert b"secret" not in out
    assert not any(
        isinstance(part, ToolCall) or (isinstance(part, Text) and part.text) for part in reply.choices[0].parts
    )
    finish = reply.choices[0].finish
    assert finish is not None
    assert finish.reason in ("content_filter", "refusal")
    assert (reply.usage.prompt, reply.usage.completion) == (7, 5) if reply.usage is not None else False
