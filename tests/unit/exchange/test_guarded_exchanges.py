"""The guardrails of a reply, through the router: what the caller gets, what is settled, how a blocked stream ends."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from calls_with_secrets import CALLS, FORMATS_OF_CALLERS
from guarded_kit import (
    BLOCK,
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
from guarding import SECRET, guardrails
from guarding import rule as request_rule
from player import DIALECTS, Stage, answered, body, chunks, headers, talk, whole
from reply_guarding import rule
from storing import CLAUDE, Storing, hello

from edge_extproc.codecs.sealing import IDEMPOTENT_REPLIES, BlockCipher
from edge_extproc.exchange.commands import CONTINUE, HOLD, Command, Continue, ImmediateResponse, Pass
from edge_extproc.exchange.consumer_routes import ConsumerRoute, ConsumerRoutes
from edge_extproc.exchange.events import BodyModes, ResponseBody, ResponseTrailers
from edge_extproc.exchange.large_bodies import LARGE, InlineRunner
from edge_extproc.exchange.response_bodies import read_stream
from edge_extproc.exchange.streamed_body import STREAM_BLOCKED
from edge_extproc.guardrails.base import Rule
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.reply import Choice, Finish, Reply, fold, unfold
from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.model.usage import Usage
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.repeats import Repeats, RepeatSettings
from edge_extproc.worker.main import open_stream

T = TypeVar("T")


# --- placeholders


def test_a_complete_reply_of_the_callers_format_is_restored() -> None:
    stage = stage_of(MASK)
    _, command = play(stage, HELLO, answered(), whole(reply_of(f"you said {NAME}")))

    assert isinstance(command, Continue)
    reply = json.loads(command.body or b"")
    assert reply["choices"][0]["message"]["content"] == f"you said {SECRET}"
    assert (reply["id"], reply["choices"][0]["finish_reason"], reply["usage"]["total_tokens"]) == ("c", "stop", 7)
    assert ("content-length", str(len(command.body or b""))) in command.set_headers


def test_a_complete_reply_without_a_placeholder_keeps_its_bytes() -> None:
    raw = json.dumps(reply_of("nothing"), indent=2).encode()

    assert play(stage_of(MASK), HELLO, answered(), whole(raw))[1] == CONTINUE


def test_a_reply_of_another_format_is_restored() -> None:
    call = {**HELLO, "model": "claude"}
    reply = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": f"you said {NAME}"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    _, command = play(stage_of(MASK), call, answered(), whole(reply))

    assert isinstance(command, Continue)
    assert json.loads(command.body or b"")["choices"][0]["message"]["content"] == f"you said {SECRET}"


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_a_stream_of_the_callers_format_is_restored(size: int) -> None:
    text = f"you said {NAME}, and {NAME}."
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    events = chunks(*stream_of(*pieces))
    stage = stage_of(MASK)
    head, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert isinstance(head, Continue)
    assert head.response_body == "streamed"
    out = sent(events, commands)
    assert texts_of(out) == f"you said {SECRET}, and {SECRET}."
    assert out.endswith(b"data: [DONE]\n\n")
    assert b'"usage":{' not in out
    (settled,) = stage.settled
    assert settled.outcome == "ok"
    assert settled.usage is not None
    assert (settled.usage.prompt, settled.usage.completion) == (5, 2)


def test_a_complete_reply_for_a_caller_that_requested_a_stream_is_restored() -> None:
    for more in ((), (("content-type", "text/plain"),)):
        kind = dict(more).get("content-type", "application/json")
        event = whole(reply_of(f"you said {NAME}"))
        _, command = play(stage_of(MASK), STREAM, answered(content_type=kind), event)
        assert texts_of(sent([event], [command])) == f"you said {SECRET}"


def test_an_unrequested_stream_is_restored() -> None:
    event = ResponseBody(b"".join(stream_of(f"you said {NAME}")), True)
    _, command = play(stage_of(MASK), HELLO, answered(content_type=SSE), event)

    assert json.loads(sent([event], [command]))["choices"][0]["message"]["content"] == f"you said {SECRET}"


def test_a_stream_without_rules_for_it_keeps_its_bytes() -> None:
    events = chunks(*stream_of(f"you said {NAME}"))
    call = {**STREAM, "messages": [{"role": "user", "content": "hello"}]}
    _, *commands = play(stage_of(MASK), call, answered(content_type=SSE), *events)

    assert sent(events, commands) == sent(events, play(Stage(), call, answered(content_type=SSE), *events)[1:])


def test_a_rule_that_only_counts_keeps_the_bytes() -> None:
    stage = stage_of(replace(BLOCK, mode="shadow"))
    events = chunks(*stream_of("a forb", "idden word"))
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert sent(events, commands) == sent(events, play(Stage(), STREAM, answered(content_type=SSE), *events)[1:])
    assert stage.settled[0].guardrails == (RuleHit("no-words", "word", "block", "shadow", "reply", 1),)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", sorted(FORMATS_OF_CALLERS))
@pytest.mark.parametrize("model", ["chat", "claude", "gemini"])
def test_no_value_goes_up_and_no_placeholder_comes_back(path: str, model: str, stream: bool) -> None:
    """The provider repeats the placeholder in a text and in the arguments of a call."""
    stage, place = stage_of(MASK), path.replace("MODEL", model)
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
    assert SECRET.encode() not in (up.body or b"")
    assert NAME.encode() in (up.body or b"")
    up_path = dict(up.set_headers)[":path"]
    of = DIALECTS[UPSTREAM.get(up_path.rpartition("/")[2], "gemini_generate")]
    finish = Finish("tool_calls")
    parts = (Text(f"you said {NAME} twice: {NAME}"), ToolCall("call_1", "f", json.dumps({"x": [NAME]})))
    reply = Reply(of.name, "id_1", "m", (Choice(parts, finish),), Usage(input=7, output=5), 1)
    if stream:
        writer = of.writer(of.read_call(up.body or b"", "chat", [(":path", up_path)], up_path.partition("?")[0]))
        raw = b"".join(writer.write(event) for event in short_deltas(unfold(reply)))
        events: Sequence[ResponseBody] = chunks(*(raw[start : start + 50] for start in range(0, len(raw), 50)))
        commands = talk(exchange, answered(content_type=of.stream_type), *events)[1:]
    else:
        events = [whole(of.write_reply(reply))]
        commands = talk(exchange, answered(), *events)[1:]
    exchange.closed("done")

    out = sent(events, commands)
    assert NAME.encode() not in out
    to = exchange._caller_dialect
    got = fold(to.name, read_stream(to, out)) if stream else to.read_reply(out)
    text, tool_call = got.choices[0].parts
    assert text == replace(text, text=f"you said {SECRET} twice: {SECRET}")
    assert isinstance(tool_call, ToolCall)
    assert json.loads(tool_call.arguments) == {"x": [SECRET]}
    assert stage.bugs == []


# --- blocks


def test_a_blocked_stream_ends_for_the_caller_and_the_provider() -> None:
    stage = stage_of(BLOCK)
    more = [ResponseBody(chunk({"content": "x" * 20}), False) for _ in range(3)]
    events = [*chunks(*stream_of("fine, ", "then forbid", "den words follow here and more")[:4], end=False), *more]
    head, *commands = play(stage, STREAM, answered(content_type=SSE), *events, end="cancelled")

    assert isinstance(head, Continue)
    assert head.response_body == "full_duplex"
    last = next(n for n, command in enumerate(commands) if isinstance(command, Pass) and command.end)
    out = sent(events[: last + 1], commands[: last + 1])
    assert texts_of(out) == "fine, then "
    assert b'"finish_reason":"content_filter"' in out
    assert out.endswith(b"data: [DONE]\n\n")
    assert set(commands[last + 1 :]) == {CONTINUE}
    (settled,) = stage.settled
    assert (settled.outcome, settled.finish, settled.estimated) == ("ok", "content_filter", True)
    assert settled.usage is not None
    assert settled.usage.completion > 0
    assert settled.guardrails == (RuleHit("no-words", "word", "block", "enforce", "reply", 1),)
    assert "forbidden" not in repr(settled)


def test_the_usage_in_the_chunk_of_a_block_is_settled() -> None:
    stage = stage_of(BLOCK)
    event = ResponseBody(b"".join(stream_of("a forbidden word", "." * 40)), False)
    _, command = play(stage, STREAM, answered(content_type=SSE), event, end="cancelled")

    assert isinstance(command, Pass)
    assert command.end
    (settled,) = stage.settled
    assert settled.usage is not None
    assert (settled.usage.prompt, settled.usage.completion, settled.estimated) == (5, 2, False)


def test_a_stream_in_full_duplex_without_a_finding_passes_whole() -> None:
    stage = stage_of(BLOCK, MASK)
    events = chunks(*stream_of("all ", f"is fine, {NAME[:9]}", NAME[9:]))
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events)

    assert all(isinstance(command, Pass) for command in commands)
    assert [command.end for command in commands if isinstance(command, Pass)] == [False] * (len(events) - 1) + [True]
    assert texts_of(sent(events, commands)) == f"all is fine, {SECRET}"
    assert stage.settled[0].outcome == "ok"


def test_trailers_end_a_stream_in_full_duplex() -> None:
    stage = stage_of(BLOCK)
    events = chunks(*stream_of("all is", " fine"), end=False)
    _, *commands = play(stage, STREAM, answered(content_type=SSE), *events, ResponseTrailers())

    last = commands[-1]
    assert isinstance(last, Pass)
    assert (last.end, last.trailers) == (False, True)
    assert texts_of(sent(events, commands[:-1]) + last.body) == "all is fine"
    assert (stage.settled[0].outcome, stage.settled[0].finish) == ("ok", "stop")


def test_the_last_answer_has_the_facts_for_the_access_log() -> None:
    stage = stage_of(BLOCK).having(adds_access_log_facts=True)
    blocked = chunks(*stream_of("a forbidden word" + "." * 20)[:2], end=False)
    *_, command = play(stage, STREAM, answered(content_type=SSE), *blocked, end="cancelled")
    *_, ended = play(stage, STREAM, answered(content_type=SSE), *chunks(*stream_of("fine")))

    for last in (command, ended):
        assert isinstance(last, Pass)
        assert last.end
        assert last.metadata is not None
        assert last.metadata["edge"]["provider"] == "openai"


@pytest.mark.parametrize("more", [{"chains": True}, {}], ids=["an older Envoy", "another proxy"])
def test_a_proxy_without_full_duplex_drains_a_blocked_stream_and_resets_it(more: Any) -> None:
    stage = stage_of(BLOCK).having(**more)
    exchange = stage.exchange()
    if not more:
        exchange._route = ConsumerRoute("openai", None, BodyModes("buffered", "streamed"), ())
    blocked = chunks(*stream_of("a forbidden word" + "." * 20)[:2], end=False)
    rest = [ResponseBody(chunk({"content": "x"}), False) for _ in range(1100)]
    commands = talk(exchange, headers(), body(STREAM), answered(content_type=SSE), *blocked, *rest)[2:]
    exchange.closed("done")

    head, *passed = commands
    assert isinstance(head, Continue)
    assert head.response_body == "streamed"
    assert sent(blocked, passed[:2]).endswith(b"data: [DONE]\n\n")
    resets = [command for command in passed if isinstance(command, ImmediateResponse)]
    assert [command.details for command in resets] == [STREAM_BLOCKED]
    before = passed[2 : passed.index(resets[0])]
    assert before
    assert all(isinstance(command, Continue) and command.body == b"" for command in before)
    assert stage.settled[0].outcome == "ok"


def test_a_blocked_complete_reply_has_no_content() -> None:
    stage = stage_of(BLOCK)
    _, command = play(stage, HELLO, answered(), whole(reply_of("a forbidden word")))

    assert isinstance(command, Continue)
    reply = json.loads(command.body or b"")
    assert reply["choices"][0]["finish_reason"] == "content_filter"
    assert not reply["choices"][0]["message"].get("content")
    assert reply["usage"]["total_tokens"] == 7
    (settled,) = stage.settled
    assert (settled.outcome, settled.finish) == ("ok", "content_filter")
    assert settled.usage is not None
    assert (settled.usage.prompt, settled.usage.completion) == (5, 2)
    assert settled.guardrails == (RuleHit("no-words", "word", "block", "enforce", "reply", 1),)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_blocked_stream_ends_in_each_format(path: str) -> None:
    call = {**STREAM, "max_tokens": 50}
    events = chunks(*stream_of("a forbidden word" + "." * 40)[:2], end=False)
    _, *commands = play(stage_of(BLOCK), call, answered(content_type=SSE), *events, path=path, end="cancelled")

    out = sent(events, commands)
    assert b"forbidden" not in out
    for ends in {
        "/v1/chat/completions": (b'"content_filter"', b"[DONE]"),
        "/v1/messages": (b'"refusal"', b"event: message_stop"),
    }[path]:
        assert ends in out


@pytest.mark.parametrize("as_stream", [True, False])
def test_a_block_in_a_body_without_a_content_type_for_streams(as_stream: bool) -> None:
    stage, text = stage_of(BLOCK), "a forbidden word" + "." * 40
    raw = b"".join(stream_of(text)) if as_stream else json.dumps(reply_of(text)).encode()
    event = ResponseBody(raw, True)
    head, command = play(stage, STREAM, answered(content_type="text/plain"), event)

    assert isinstance(head, Continue)
    assert head.response_body == "full_duplex"
    out = sent([event], [command])
    assert b"forbidden" not in out
    assert b'"finish_reason":"content_filter"' in out
    assert (stage.settled[0].outcome, stage.settled[0].finish) == ("ok", "content_filter")


def test_a_stream_that_cannot_be_read_further_has_the_checked_text_and_an_error() -> None:
    stage = stage_of(BLOCK)
    gzip = zlib.compressobj(wbits=31)
    begin = gzip.compress(b"".join(stream_of("fine")[:2])) + gzip.flush(zlib.Z_SYNC_FLUSH)
    events = [ResponseBody(begin, False), ResponseBody(b"\xff" * 20, False)]
    head, *commands = play(stage, STREAM, answered(200, ("content-encoding", "gzip"), content_type=SSE), *events)

    assert isinstance(head, Continue)
    out = sent(events, commands)
    assert texts_of(out.partition(b'data: {"error"')[0]) == "fine"
    assert b'"error"' in out
    assert stage.settled[0].outcome == "broken_stream"


def test_damage_after_a_block_is_no_error() -> None:
    stage = stage_of(BLOCK)
    text = stream_of("a forbidden word" + "." * 40)[:2]
    event = ResponseBody(b"".join(text) + b'data: {"error":{"message":"busy"}}\n\n', False)
    _, command = play(stage, STREAM, answered(content_type=SSE), event, end="cancelled")

    assert isinstance(command, Pass)
    assert command.body.endswith(b"data: [DONE]\n\n")
    assert stage.settled[0].outcome == "ok"


def test_a_stream_in_full_duplex_that_never_ends_is_reset() -> None:
    stage = stage_of(BLOCK)
    events = [
        *chunks(*stream_of("fine"), end=False),
        *(ResponseBody(b":" + b"x" * 4000 + b"\n\n", False) for _ in range(1500)),
    ]
    *_, last = play(stage, STREAM, answered(content_type=SSE), *events)

    assert last == CONTINUE
    assert stage.settled[0].outcome == "ok"


# --- what is kept


def test_the_cache_has_placeholders_and_each_reader_gets_its_values() -> None:
    stage = cached_stage(MASK)
    first = play(stage, HELLO, answered(), whole(reply_of(f"you said {NAME}")))
    exchange = stage.exchange()
    hit = talk(exchange, headers(), body(HELLO))[-1]
    exchange.closed("done")
    streamed = stage.exchange()
    again = talk(streamed, headers(), body(STREAM))[-1]
    streamed.closed("done")

    assert isinstance(first[1], Continue)
    assert isinstance(hit, ImmediateResponse)
    assert json.loads(hit.body)["choices"][0]["message"]["content"] == f"you said {SECRET}"
    assert isinstance(again, ImmediateResponse)
    assert texts_of(again.body) == f"you said {SECRET}"
    raw = stage.having(guardrails=None).exchange()
    assert isinstance(
        talk(raw, headers(), body({**HELLO, "messages": [{"role": "user", "content": f"say {NAME}"}]}))[-1],
        ImmediateResponse,
    )


def test_a_cached_reply_is_checked_by_the_rules_of_its_reader() -> None:
    stage = cached_stage()
    play(stage, HELLO, answered(), whole(reply_of("a forbidden word")))
    stage.having(guardrails=guardrails(BLOCK))
    hit = talk(stage.exchange(), headers(), body(HELLO))[-1]

    assert isinstance(hit, ImmediateResponse)
    assert b"forbidden" not in hit.body
    assert json.loads(hit.body)["choices"][0]["finish_reason"] == "content_filter"


def test_a_cached_reply_without_a_finding_keeps_its_bytes() -> None:
    stage, raw = cached_stage(BLOCK), json.dumps(reply_of("fine"), indent=2).encode()
    play(stage, HELLO, answered(), whole(raw))
    hit = talk(stage.exchange(), headers(), body(HELLO))[-1]

    assert isinstance(hit, ImmediateResponse)
    assert hit.body == raw


@pytest.mark.parametrize("call", [HELLO, STREAM])
def test_a_blocked_reply_is_not_cached(call: Any) -> None:
    stage = cached_stage(BLOCK)
    text = "a forbidden word" + "." * 40
    if call is HELLO:
        play(stage, call, answered(), whole(reply_of(text)))
    else:
        play(stage, call, answered(content_type=SSE), ResponseBody(b"".join(stream_of(text)), True))
    stage.having(guardrails=None)

    assert isinstance(talk(stage.exchange(), headers(), body(call))[-1], Continue)


def test_a_repeated_request_gets_the_reply_as_it_was_sent() -> None:
    cipher = BlockCipher(["a key of the tests, long enough"], IDEMPOTENT_REPLIES)
    repeats = Repeats(MemoryRecords(), RepeatSettings(60.0, 10_000, 0.0), lambda: cipher)
    stage = stage_of(MASK).having(repeats=repeats)
    begin = (headers("/v1/chat/completions", ("idempotency-key", "k")), body(HELLO))

    async def both() -> list[Command]:
        first, second = stage.exchange(), stage.exchange()
        events = (*begin, answered(), whole(reply_of(f"you said {NAME}")))
        commands = [await first.handle(event) for event in events]
        first.closed("done")
        return [commands[-1], *[await second.handle(event) for event in begin]]

    sent_first, *_, repeated = asyncio.run(both())
    assert isinstance(sent_first, Continue)
    assert isinstance(repeated, ImmediateResponse)
    assert repeated.body == sent_first.body
    assert SECRET.encode() in repeated.body


@pytest.mark.parametrize("repeats", [True, False], ids=["named in the first reply", "not named in the first reply"])
def test_a_stored_conversation_is_masked_and_restored_in_each_turn(repeats: bool) -> None:
    """The store has what the caller sent and got, as the caller may read it. The provider gets placeholders."""
    stage = Storing().with_store()
    stage.having(guardrails=guardrails(MASK))
    first_reply = {**CLAUDE, "content": [{"type": "text", "text": f"Hello {NAME if repeats else 'you'}"}]}
    second_reply = {**CLAUDE, "content": [{"type": "text", "text": f"You are {NAME}"}]}
    sent_first, first = stage.send(hello(text=f"I am {SECRET}"), first_reply)
    sent_second, second = stage.send(hello(text="Who am I?", previous_response_id=first["id"]), second_reply)

    for request in (sent_first, sent_second):
        assert SECRET not in json.dumps(request)
        assert NAME in json.dumps(request)
    assert second["output"][0]["content"][0]["text"] == f"You are {SECRET}"


def test_a_stored_text_can_block_a_later_turn() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello(text=f"I am {SECRET}"))
    stage.having(guardrails=guardrails(request_rule("block")))
    sent_second, refused = stage.send(hello(text="Who am I?", previous_response_id=first["id"]))

    assert sent_second is None
    assert "no-secrets" in refused["error"]["message"]


def test_a_large_reply_is_checked_off_the_event_loop() -> None:
    ran: list[object] = []

    class Runner(InlineRunner):
        async def run_in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
            ran.append(work)
            return work(*arguments)

    stage = stage_of(BLOCK).having(large_body_runner=Runner())
    for text, count in (("x" * LARGE + "a forbidden word", 1), ("a forbidden word", 0)):
        ran.clear()
        _, command = play(stage, HELLO, answered(), whole(reply_of(text)))
        assert len(ran) == count
        assert isinstance(command, Continue)
        assert b"forbidden" not in (command.body or b"")


def test_what_a_large_call_repeats_is_restored_off_the_event_loop() -> None:
    ran: list[object] = []

    class Runner(InlineRunner):
        async def run_in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
            ran.append(work)
            return work(*arguments)

    call = {"model": "claude", "instructions": f"never say {SECRET}", "input": "x" * LARGE}
    reply = {**CLAUDE, "content": [{"type": "text", "text": "yes"}]}
    stage = stage_of(MASK).having(large_body_runner=Runner())
    _, command = play(stage, call, answered(), whole(reply), path="/v1/responses")

    assert isinstance(command, Continue)
    assert json.loads(command.body or b"")["instructions"] == f"never say {SECRET}"
    assert len(ran) == 1


# --- other operations


def test_a_reply_of_another_operation_is_restored() -> None:
    stage = stage_of(MASK)
    head, command = play(stage, COMPLETION, answered(), whole(completion(f"so {NAME}")), path="/v1/completions")

    assert isinstance(head, Continue)
    assert head.response_body == "buffered"
    assert isinstance(command, Continue)
    assert json.loads(command.body or b"") == completion(f"so {SECRET}")
    assert stage.settled[0].usage is not None
    assert stage.settled[0].usage.prompt == 5


def test_a_reply_of_another_operation_can_be_blocked_or_masked() -> None:
    kinds = frozenset({"assistant"})
    stage = stage_of(replace(BLOCK, kinds=kinds))
    _, blocked = play(stage, COMPLETION, answered(), whole(completion("a forbidden word")), path="/v1/completions")
    masking = stage_of(rule("forbidden", "mask", 12, kinds=kinds, label="word"))
    _, masked = play(masking, COMPLETION, answered(), whole(completion("a forbidden word")), path="/v1/completions")

    assert isinstance(blocked, Continue)
    assert (":status", "400") in blocked.set_headers
    assert json.loads(blocked.body or b"")["error"]["code"] == "content_filter"
    assert b"forbidden" not in (blocked.body or b"")
    assert stage.settled[0].usage is not None
    assert isinstance(masked, Continue)
    assert json.loads(masked.body or b"")["choices"][0]["text"].startswith("a WORD_")


def test_a_reply_of_embeddings_is_checked_too() -> None:
    call = {"model": "vectors", "input": f"say {SECRET}"}
    vectors = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    reply = {"object": "list", "data": vectors, "model": NAME, "usage": usage}
    stage = stage_of(MASK)
    _, command = play(stage, call, answered(), whole(reply), path="/v1/embeddings")

    assert isinstance(command, Continue)
    assert json.loads(command.body or b"") == {**reply, "model": SECRET}
    assert stage.settled[0].usage is not None


def test_a_reply_of_another_operation_that_is_no_json_is_an_error() -> None:
    _, command = play(stage_of(BLOCK), COMPLETION, answered(), whole(b"forbidden"), path="/v1/completions")

    assert isinstance(command, Continue)
    assert (":status", "502") in command.set_headers


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("text/plain; charset=utf-8", b"1\r\nso %s \xe9\n"),
        ("application/x-subrip", b"so %s"),
        ("application/x-ndjson", b'{ "a": "x" }\n{"a":"%s"}\r\n%s'),
        ("", b'{"a":"%s"}'),
    ],
)
def test_a_text_of_another_operation_is_restored_and_can_be_blocked(kind: str, raw: bytes) -> None:
    count = raw.count(b"%s")
    reply = raw % ((NAME.encode(),) * count)
    _, restored = play(stage_of(MASK), COMPLETION, answered(content_type=kind), whole(reply), path="/v1/completions")
    bad = raw % ((b"\\u0066orbidden" if b"{" in raw else b"forbidden",) * count)
    _, blocked = play(stage_of(BLOCK), COMPLETION, answered(content_type=kind), whole(bad), path="/v1/completions")

    assert isinstance(restored, Continue)
    assert restored.body == reply.replace(NAME.encode(), SECRET.encode())
    assert isinstance(blocked, Continue)
    assert (":status", "400") in blocked.set_headers


def test_a_rule_that_only_counts_sees_replies_of_other_operations() -> None:
    stage = stage_of(rule("forbidden", "flag", 12))
    raw = json.dumps(completion("a forbidden word"), indent=2).encode()
    _, passed = play(stage, COMPLETION, answered(), whole(raw), path="/v1/completions")

    assert passed == CONTINUE
    assert [(hit.action, hit.count) for hit in stage.settled[0].guardrails] == [("flag", 1)]


@pytest.mark.parametrize("content_type", ["text/plain; charset=utf-8", "text/vtt", "application/jsonl", ""])
def test_rules_apply_to_the_reply_of_another_operation_whatever_its_type(content_type: str) -> None:
    """A transcript is text/plain. Some hosts send JSON as text, or no type."""

    def played(*rules: Rule, said: bytes | dict[str, Any]) -> tuple[Stage, Continue]:
        stage = stage_of(*rules)
        _, command = play(stage, COMPLETION, answered(content_type=content_type), whole(said), path="/v1/completions")
        assert isinstance(command, Continue)
        return stage, command

    kinds = frozenset({"assistant"})
    restored = played(MASK, said=f"so {NAME}, \xff".encode("latin-1"))[1].body
    masked = played(rule("forbidden", "mask", 12, kinds=kinds, label="word"), said=b"a forbidden word")[1].body
    _, blocked = played(replace(BLOCK, kinds=kinds), said=b"1\n00:00 --> 00:01\na forbidden word")
    _, of_json = played(replace(BLOCK, kinds=kinds), said=completion("a forbidden word"))

    assert f"so {SECRET}, \xff".encode("latin-1") == restored
    assert (masked or b"").startswith(b"a WORD_")
    assert (":status", "400") in blocked.set_headers
    assert b"forbidden" not in (blocked.body or b"") + (of_json.body or b"")


def test_a_stream_of_an_unknown_shape_is_refused_if_a_rule_could_end_it() -> None:
    call = {"model": "chat", "input": f"say {SECRET}", "stream": True}
    events = chunks(b'data: {"some":"%s"}\n\n' % NAME.encode(), b"data: [DONE]\n\n")
    (refused,) = play(stage_of(BLOCK), call, answered(content_type=SSE), path="/v1/files")
    _, *passed = play(stage_of(MASK), call, answered(content_type=SSE), *events, path="/v1/files")

    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400
    assert json.loads(refused.body)["error"]["code"] == "content_filter"
    assert sent(events, passed) == b'data: {"some":"%s"}\n\ndata: [DONE]\n\n' % SECRET.encode()


def test_another_proxy_in_full_duplex_can_end_a_stream_too() -> None:
    stage = stage_of(BLOCK, MASK)
    routes = replace(stage.gateway, consumer=ConsumerRoutes("openai"))
    exchange = open_stream(lambda: routes, lambda: None)({}, None)
    begin = replace(headers(), modes=BodyModes("buffered", "full_duplex_streamed"))
    blocked = chunks(*stream_of("a forbidden word" + "." * 20)[:2], end=False)
    more = ResponseBody(chunk({"content": "x"}), False)
    commands = talk(exchange, begin, body(STREAM), answered(content_type=SSE), *blocked, more)
    exchange.closed("cancelled")

    head, *passed, after = commands[2:]
    assert isinstance(head, Continue)
    assert head.response_body is None
    assert sent(blocked, passed).endswith(b"data: [DONE]\n\n")
    assert isinstance(passed[-1], Pass)
    assert passed[-1].end
    assert after == HOLD
    assert (stage.settled[0].outcome, stage.settled[0].finish) == ("ok", "content_filter")
