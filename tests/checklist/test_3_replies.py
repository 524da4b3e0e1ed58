"""Whole replies: text, calls, thinking, why they ended, usage. One test for each entry of the list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from crossings import DIALECTS
from translating import CHAT, EVERY, GEMINI, MESSAGES, RESPONSES, answer, carried, reply

from edge_extproc.dialects.anthropic_messages import PLUGIN as CLAUDE
from edge_extproc.dialects.gemini_generate import PLUGIN as GOOGLE
from edge_extproc.model.content import RedactedThinking, Text, Thinking, ToolCall
from edge_extproc.model.reply import Finish, FinishReason
from edge_extproc.model.usage import Usage


def claude(*content: Any, stop_reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    return {**head, "content": list(content), "stop_reason": stop_reason, "usage": usage, **more}


def gemini(*parts: Any, finish: Any = "STOP", **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}], **more}


def openai(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}


def message(body: Any) -> Any:
    return body["choices"][0]["message"]


def said(target: str, body: Any) -> str:
    """The text of a reply of `target`."""
    match target:
        case "openai_chat":
            return message(body)["content"] or ""
        case "openai_responses":
            return "".join(c["text"] for item in body["output"] if item["type"] == "message" for c in item["content"])
        case "anthropic_messages":
            return "".join(block["text"] for block in body["content"] if block["type"] == "text")
        case _:
            return "".join(part.get("text", "") for part in body["candidates"][0]["content"]["parts"])


def test_3_1_all_texts_of_a_reply_are_kept_and_not_the_first_alone() -> None:
    body = claude({"type": "text", "text": "a"}, {"type": "text", "text": "b"})

    for target in EVERY:
        assert "ab" == said(target, carried(MESSAGES, body, target))


def test_3_2_there_is_no_content_where_there_are_only_calls() -> None:
    body = claude({"type": "tool_use", "id": "t", "name": "f", "input": {}}, stop_reason="tool_use")

    assert message(carried(MESSAGES, body, CHAT))["content"] is None


def test_3_3_calls_are_kept_in_order_with_their_arguments_as_text() -> None:
    calls = [{"type": "tool_use", "id": id, "name": id, "input": given} for id, given in (("a", {}), ("b", {"x": [1]}))]

    told = message(carried(MESSAGES, claude(*calls, stop_reason="tool_use"), CHAT))["tool_calls"]

    assert [("a", "function", "a", {}), ("b", "function", "b", {"x": [1]})] == [
        (c["id"], c["type"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in told
    ]
    assert "{}" == told[0]["function"]["arguments"]


def test_3_4_thinking_is_shown_and_travels_sealed_and_signed_to_an_openai_caller() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "c2VhbA=="},
    ]

    told = message(carried(MESSAGES, claude(*blocks, {"type": "text", "text": "a"}), CHAT))

    assert ("Hm", blocks) == (told["reasoning_content"], told["thinking_blocks"])


def test_3_4_a_signature_alone_is_no_empty_thought() -> None:
    block = {"type": "thinking", "thinking": "", "signature": "s"}

    told = message(carried(MESSAGES, claude(block), CHAT))

    assert not told.get("reasoning_content")
    assert [block] == told["thinking_blocks"]


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm"},
        {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
                {"type": "text", "text": "a"},
            ]
        },
    ],
)
def test_3_4_thinking_of_openai_like_hosts_is_thinking_to_an_anthropic_caller(thought: dict[str, Any]) -> None:
    told = carried(CHAT, openai({"content": "a", **thought}), MESSAGES)

    assert ["thinking", "text"] == [block["type"] for block in told["content"]]
    assert "Hm" == told["content"][0]["thinking"]


def test_3_5_anthropic_gets_thinking_then_text_then_calls() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{oops}"}}

    told = carried(CHAT, openai({"tool_calls": [call], "content": "a", "reasoning_content": "Hm"}), MESSAGES)

    assert ["thinking", "text", "tool_use"] == [block["type"] for block in told["content"]]
    assert {"raw_arguments": "{oops}"} == told["content"][2]["input"]
    assert [] == carried(CHAT, {**openai({}), "choices": []}, MESSAGES)["content"]


WORDS: list[tuple[str, Any, str, str]] = [
    (MESSAGES, "end_turn", "stop", "end_turn"),
    (MESSAGES, "stop_sequence", "stop", "stop_sequence"),
    (MESSAGES, "max_tokens", "length", "max_tokens"),
    (MESSAGES, "model_context_window_exceeded", "length", "model_context_window_exceeded"),
    (MESSAGES, "refusal", "content_filter", "refusal"),
    (MESSAGES, "pause_turn", "length", "pause_turn"),
    (MESSAGES, "something_new", "length", "max_tokens"),
    (GEMINI, "STOP", "stop", "end_turn"),
    (GEMINI, "MAX_TOKENS", "length", "max_tokens"),
    *((GEMINI, word, "content_filter", "refusal") for word in ("SAFETY", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
    *((GEMINI, word, "content_filter", "refusal") for word in ("IMAGE_SAFETY", "MODEL_ARMOR", "RECITATION")),
    (GEMINI, "MALFORMED_FUNCTION_CALL", "stop", "end_turn"),
    (GEMINI, "UNEXPECTED_TOOL_CALL", "stop", "end_turn"),
    (GEMINI, "SOMETHING_NEW", "length", "max_tokens"),
    (CHAT, "stop", "stop", "end_turn"),
    (CHAT, "length", "length", "max_tokens"),
    (CHAT, "content_filter", "content_filter", "refusal"),
    (CHAT, "eos", "stop", "end_turn"),
    (CHAT, "something_new", "length", "max_tokens"),
]


@pytest.mark.parametrize(("source", "word", "openai_word", "claude_word"), WORDS)
def test_3_6_why_a_reply_ended_is_told_in_a_word_that_the_caller_knows(
    source: str, word: str, openai_word: str, claude_word: str
) -> None:
    body = {
        MESSAGES: claude({"type": "text", "text": "a"}, stop_reason=word),
        GEMINI: gemini({"text": "a"}, finish=word),
        CHAT: openai({"content": "a"}, word),
    }[source]

    if source != CHAT:
        assert openai_word == carried(source, body, CHAT)["choices"][0]["finish_reason"]
    if source != MESSAGES:
        assert claude_word == carried(source, body, MESSAGES)["stop_reason"]


def test_3_6_the_stop_sequence_that_was_met_is_told() -> None:
    body = claude({"type": "text", "text": "a"}, stop_reason="stop_sequence", stop_sequence="END")

    again = json.loads(CLAUDE.write_reply(answer(MESSAGES, body)))

    assert ("stop_sequence", "END") == (again["stop_reason"], again["stop_sequence"])
    other = reply(MESSAGES, Text("a"), finish=Finish("stop_sequence", stop_sequence="END"), source=GEMINI)
    assert "END" == other["stop_sequence"]


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_3_6_who_calls_a_tool_stops_for_it_whatever_the_finish_says(finish: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    told = carried(CHAT, openai({"content": None, "tool_calls": [call]}, finish), MESSAGES)

    assert "tool_use" == told["stop_reason"]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_3_6_a_call_that_was_cut_off_is_not_to_be_run(finish: FinishReason) -> None:
    told = reply(MESSAGES, ToolCall("c", "f", '{"a'), finish=finish, source=CHAT)

    assert "tool_use" != told["stop_reason"]


def test_3_6_a_broken_call_is_never_one_to_be_run() -> None:
    for target in (CHAT, MESSAGES):
        told = reply(target, Text("a"), finish="malformed", source=GEMINI)
        assert "tool" not in json.dumps(told.get("stop_reason", told.get("choices", [{}])[0].get("finish_reason")))
    assert "failed" == reply(RESPONSES, Text("a"), finish="malformed", source=GEMINI)["status"]


def test_3_7_gemini_says_stop_and_means_its_calls() -> None:
    body = gemini({"functionCall": {"name": "f", "args": {}}})

    assert "tool_calls" == carried(GEMINI, body, CHAT)["choices"][0]["finish_reason"]
    assert "tool_use" == carried(GEMINI, body, MESSAGES)["stop_reason"]


def test_3_7_a_prompt_that_gemini_blocked_is_a_filtered_answer() -> None:
    body = {"promptFeedback": {"blockReason": "MODEL_ARMOR"}, "usageMetadata": {"promptTokenCount": 3}}

    told = carried(GEMINI, body, CHAT)

    assert "content_filter" == told["choices"][0]["finish_reason"]
    assert not message(told)["content"]
    assert "refusal" == carried(GEMINI, body, MESSAGES)["stop_reason"]


@pytest.mark.parametrize(("number", "word"), [(1, "stop"), (2, "length"), (3, "content_filter"), (99, "length")])
def test_3_7_numbers_of_finish_reasons_are_read(number: int, word: str) -> None:
    assert word == carried(GEMINI, gemini({"text": "a"}, finish=number), CHAT)["choices"][0]["finish_reason"]


def test_3_9_a_reply_bears_an_id_and_the_name_of_its_kind() -> None:
    body = gemini({"text": "a"}, responseId="r1")

    assert ("chat.completion", True) == (
        (told := carried(GEMINI, body, CHAT))["object"],
        bool(told["id"]),
    )
    assert "response" == (told := carried(GEMINI, body, RESPONSES))["object"]
    assert told["id"].startswith("resp_")
    assert "message" == (told := carried(GEMINI, body, MESSAGES))["type"]
    assert told["id"].startswith("msg_")


def test_3_10_citations_and_ratings_stay_with_their_own_format() -> None:
    rated = gemini({"text": "a"}, finish="STOP")
    rated["candidates"][0]["groundingMetadata"] = {"webSearchQueries": ["q"]}
    rated["candidates"][0]["safetyRatings"] = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}]
    cited = claude({"type": "text", "text": "a", "citations": [{"type": "char_location", "cited_text": "a"}]})

    again = json.loads(GOOGLE.write_reply(answer(GEMINI, rated)))["candidates"][0]
    assert {"webSearchQueries": ["q"]} == again["groundingMetadata"]
    assert rated["candidates"][0]["safetyRatings"] == again["safetyRatings"]
    assert cited["content"] == json.loads(CLAUDE.write_reply(answer(MESSAGES, cited)))["content"]


def test_3_11_cached_tokens_of_anthropic_are_part_of_openais_prompt() -> None:
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 11,
        "output_tokens": 13,
    }
    told = carried(MESSAGES, claude(usage=usage), CHAT)["usage"]

    assert (23, 13, 36) == (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"])
    assert 7 == told["prompt_tokens_details"]["cached_tokens"]
    assert 11 == told["prompt_tokens_details"]["cache_write_tokens"]


def test_3_11_cached_tokens_of_openai_are_beside_anthropics_input() -> None:
    usage = {
        "prompt_tokens": 23,
        "completion_tokens": 13,
        "total_tokens": 36,
        "prompt_tokens_details": {"cached_tokens": 7},
    }
    told = carried(CHAT, openai({"content": "a"}, usage=usage), MESSAGES)["usage"]

    assert (16, 7, 13) == (told["input_tokens"], told["cache_read_input_tokens"], told["output_tokens"])


def test_3_11_thoughts_of_gemini_are_part_of_the_completion() -> None:
    usage = {
        "promptTokenCount": 10,
        "cachedContentTokenCount": 4,
        "toolUsePromptTokenCount": 2,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 6,
        "totalTokenCount": 23,
    }
    told = carried(GEMINI, gemini({"text": "a"}, usageMetadata=usage), CHAT)["usage"]

    assert (12, 11, 23) == (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"])
    assert 6 == told["completion_tokens_details"]["reasoning_tokens"]
    assert 4 == told["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("target", EVERY)
def test_3_11_no_bucket_is_lost_on_the_way(target: str) -> None:
    usage = Usage(input=3, cache_read=5, output=7, reasoning=11)
    told = reply(target, Text("a"), source="another", usage=usage)
    again = DIALECTS[target].read_reply(json.dumps(told).encode()).usage

    assert again is not None
    assert (usage.prompt, usage.cache_read, usage.completion) == (again.prompt, again.cache_read, again.completion)


def test_3_5_parts_that_are_sealed_cross_only_as_such() -> None:
    told = reply(MESSAGES, Thinking("Hm", "s"), RedactedThinking("x"), Text("a"), source=CHAT)

    assert ["thinking", "redacted_thinking", "text"] == [block["type"] for block in told["content"]]
