"""A token count that is none is read as missing, in every dialect and every operation, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cells import each_cell
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES, events_of
from crossings import DIALECTS as CROSSED
from translating import chunk, sse

from edge_extproc.codecs import aws_eventstream
from edge_extproc.codecs.json_values import TokenCounts
from edge_extproc.dialects.bedrock_converse import PLUGIN as BEDROCK
from edge_extproc.model.reply import Failed, Reply, fold
from edge_extproc.model.usage import MOST_TOKENS, Usage
from edge_extproc.operations.gemini_embeddings import PLUGIN as GEMINI_EMBEDDINGS
from edge_extproc.operations.metering.usage import usage_of
from edge_extproc.operations.titan_embeddings import PLUGIN as TITAN
from edge_extproc.operations.vertex_embeddings import PLUGIN as VERTEX

# As they are spelled in JSON: some are no JSON, and hosts send them all the same.
ABSURD = (
    "18446744073709551615",
    "1000000000000000000000000000000",
    "1e300",
    "1e400",
    "-7",
    '"12"',
    "true",
    "NaN",
    "Infinity",
    "[1]",
    "100000001",
)
CONVERSE = BEDROCK.name
DIALECTS = {**CROSSED, CONVERSE: BEDROCK}
EVERY = (CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE)


def usage_json(source: str, prompt: str, answer: str) -> str:
    names = {
        CHAT: ("prompt_tokens", "completion_tokens"),
        RESPONSES: ("input_tokens", "output_tokens"),
        MESSAGES: ("input_tokens", "output_tokens"),
        GEMINI: ("promptTokenCount", "candidatesTokenCount"),
        CONVERSE: ("inputTokens", "outputTokens"),
    }[source]
    return f'{{"{names[0]}": {prompt}, "{names[1]}": {answer}}}'


def whole_of(source: str) -> dict[str, Any]:
    """A reply of one text; its usage is to be put where "USAGE" stands."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    item["content"] = [{"type": "output_text", "text": "Hi", "annotations": []}]
    return {
        CHAT: {
            "id": "c",
            "model": "m",
            "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
            "usage": 0,
        },
        RESPONSES: {"id": "resp_1", "status": "completed", "model": "m", "output": [item], "usage": 0},
        MESSAGES: {
            "type": "message",
            "id": "msg_1",
            "content": [{"type": "text", "text": "Hi"}],
            "stop_reason": "end_turn",
            "usage": 0,
        },
        GEMINI: {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}], "usageMetadata": 0},
        CONVERSE: {"output": {"message": {"content": [{"text": "Hi"}]}}, "stopReason": "end_turn", "usage": 0},
    }[source]


def with_usage(value: Any, usage: str) -> bytes:
    key = "usageMetadata" if "usageMetadata" in value else "usage"
    return json.dumps(value).replace(f'"{key}": 0', f'"{key}": {usage}').encode()


def read_whole(source: str, usage: str) -> Reply:
    return DIALECTS[source].read_reply(with_usage(whole_of(source), usage))


def read_stream(source: str, usage: str) -> Reply:
    marked = '{"marked": 1}'
    wire: bytes
    match source:
        case "openai_chat":
            wire = sse(chunk({"content": "Hi"}), chunk({}, "stop"), {"choices": [], "usage": {"marked": 1}}, "[DONE]")
        case "openai_responses":
            end = {**whole_of(source), "usage": {"marked": 1}}
            wire = sse({"type": "response.created", "response": end}, {"type": "response.completed", "response": end})
        case "anthropic_messages":
            start = {**whole_of(source), "content": [], "stop_reason": None, "usage": {"input_tokens": 1}}
            wire = sse(
                {"type": "message_start", "message": start},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"marked": 1}},
                {"type": "message_stop"},
            )
        case "gemini_generate":
            wire = sse({**whole_of(source), "usageMetadata": {"marked": 1}})
        case _:
            body = json.dumps({"usage": {"marked": 1}}).replace(marked, usage).encode()
            events = (
                aws_eventstream.event("messageStart", b'{"role":"assistant"}'),
                aws_eventstream.event("messageStop", b'{"stopReason":"end_turn"}'),
                aws_eventstream.event("metadata", body),
            )
            wire = b"".join(events)
    events = events_of(DIALECTS[source], wire.replace(marked.encode(), usage.encode()))
    assert not [event for event in events if isinstance(event, Failed)]
    return fold(source, events)


@each_cell("read", [read_whole, read_stream])
@each_cell("source", EVERY)
@each_cell("absurd", ABSURD)
def test_an_absurd_count_is_missing_and_the_other_one_stands(absurd: str, source: str, read: Any) -> None:
    prompt = read(source, usage_json(source, absurd, "2")).usage
    answer = read(source, usage_json(source, "5", absurd)).usage

    assert prompt is not None
    assert answer is not None
    assert (0, True, 2, False) == (
        prompt.prompt, prompt.prompt_unknown, prompt.completion, prompt.completion_unknown
    )  # fmt: skip
    assert (5, False, 0, True) == (
        answer.prompt, answer.prompt_unknown, answer.completion, answer.completion_unknown
    )  # fmt: skip


@each_cell("read", [read_whole, read_stream])
@each_cell("source", EVERY)
@each_cell("none", ["null", "{}", '"none"', "[]", "7", "true"])
def test_a_reply_without_usage_has_none_or_says_that_nothing_is_known(none: str, source: str, read: Any) -> None:
    """What is not known is estimated when the reply is settled. A stream of Messages has the prompt at its start."""
    usage = read(source, none).usage

    assert usage is None or (usage.completion_unknown, usage.completion) == (True, 0)
    assert usage is None or usage.prompt_unknown or (source, read) == (MESSAGES, read_stream)


@pytest.mark.parametrize("source", EVERY)
def test_absurd_numbers_are_counted_and_whole_ones_are_not(source: str) -> None:
    assert 2 == getattr(read_whole(source, usage_json(source, "-1", '"x"')).usage, "unreadable", None)
    assert 0 == getattr(read_whole(source, usage_json(source, "5", "2")).usage, "unreadable", None)
    assert 0 == getattr(read_whole(source, usage_json(source, "5.0", "null")).usage, "unreadable", None)


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        (CHAT, '"prompt_tokens_details": {"cached_tokens": %s}, "prompt_tokens": 5, "completion_tokens": 2'),
        (RESPONSES, '"input_tokens_details": {"cached_tokens": %s}, "input_tokens": 5, "output_tokens": 2'),
        (MESSAGES, '"cache_read_input_tokens": %s, "input_tokens": 5, "output_tokens": 2'),
        (GEMINI, '"cachedContentTokenCount": %s, "promptTokenCount": 5, "candidatesTokenCount": 2'),
        (CONVERSE, '"cacheReadInputTokens": %s, "inputTokens": 5, "outputTokens": 2'),
    ],
)
def test_an_absurd_detail_does_not_take_the_sum_along(source: str, detail: str) -> None:
    usage = read_whole(source, "{" + detail % "1e300" + "}").usage

    assert usage is not None
    assert (5, 0, 2, 1) == (usage.input, usage.cache_read, usage.completion, usage.unreadable)


@pytest.mark.parametrize(
    "read",
    [
        lambda count: usage_of({"usage": {"prompt_tokens": count, "total_tokens": count}}),
        lambda count: usage_of({"usage": {"input_tokens": count}}),
        lambda count: usage_of({"usage": {"total_tokens": count}}),
        lambda count: GEMINI_EMBEDDINGS.read_usage({"usageMetadata": {"promptTokenCount": count}}),
        lambda count: TITAN.read_usage({"inputTextTokenCount": count}),
        lambda count: VERTEX.read_usage({"predictions": [{"embeddings": {"statistics": {"token_count": count}}}]}),
    ],
)
@pytest.mark.parametrize("absurd", [2**64 - 1, 10**30, 1e300, -7, "12", True])
def test_an_absurd_count_of_an_embedding_is_missing(read: Any, absurd: Any) -> None:
    usage, good = read(absurd), read(7)

    assert (0, True) == (usage.prompt, usage.prompt_unknown)
    assert Usage(input=7) == good


def test_the_greatest_count_is_far_below_what_a_double_or_a_column_holds() -> None:
    counts = TokenCounts()

    assert MOST_TOKENS == counts.of(MOST_TOKENS)
    assert counts.of(MOST_TOKENS + 1) is None
    assert 8 * MOST_TOKENS < 2**53


@pytest.mark.parametrize(
    ("source", "usage"),
    [
        (
            CHAT,
            '{"prompt_tokens": 2168, "completion_tokens": 100, "total_tokens": 2268,'
            ' "prompt_tokens_details": {"cached_tokens": 2161, "cache_write_tokens": 2161}}',
        ),
        (
            RESPONSES,
            '{"input_tokens": 2168, "output_tokens": 100, "total_tokens": 2268,'
            ' "input_tokens_details": {"cached_tokens": 2161, "cache_write_tokens": 2161}}',
        ),
    ],
)
def test_tokens_that_were_read_and_written_are_billed_as_both(source: str, usage: str) -> None:
    found = read_whole(source, usage).usage

    assert found is not None
    assert (7, 2161, 2161, 100) == (found.input, found.cache_read, found.cache_write, found.output)
    assert (2168, 2268) == (found.prompt, found.total)
    written = json.loads(DIALECTS[source].write_reply(read_whole(source, usage)))["usage"]
    assert 2168 == written.get("prompt_tokens", written.get("input_tokens"))


def test_tokens_read_and_tokens_written_beside_each_other_are_disjoint() -> None:
    usage = '{"prompt_tokens": 100, "completion_tokens": 1, "prompt_tokens_details": '
    found = read_whole(CHAT, usage + '{"cached_tokens": 60, "cache_write_tokens": 40}}').usage

    assert found is not None
    assert (0, 60, 40, 100) == (found.input, found.cache_read, found.cache_write, found.prompt)
