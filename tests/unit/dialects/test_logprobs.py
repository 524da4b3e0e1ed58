"""Probabilities of tokens, of chat hosts and of Gemini, for callers of other formats."""

from __future__ import annotations

from typing import Any

import pytest
from translating import CHAT, GEMINI, RESPONSES, caller_stream, carried, chunk, stream_events, whole

ENTRIES = [
    {
        "token": "Hi",
        "logprob": -0.25,
        "bytes": [72, 105],
        "top_logprobs": [
            {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]},
            {"token": "Yo", "logprob": -2.5, "bytes": [89, 111]},
        ],
    },
    {"token": "é", "logprob": 0, "bytes": [195, 169], "top_logprobs": []},
]
CHOSEN = [{"token": "Hi", "logProbability": -0.25}, {"token": "é", "logProbability": 0}]
TOP = [
    {"candidates": [{"token": "Hi", "logProbability": -0.25}, {"token": "Yo", "logProbability": -2.5}]},
    {"candidates": []},
]
RESULT = {"chosenCandidates": CHOSEN, "topCandidates": TOP}


def from_chat(logprobs: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hié"}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def from_gemini(result: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": "Hié"}]}
    return {"candidates": [{"content": content, "finishReason": "STOP", "logprobsResult": result, "avgLogprobs": -1}]}


def test_a_reply_of_gemini_has_them_for_a_chat_caller() -> None:
    (choice,) = carried(GEMINI, from_gemini(RESULT), CHAT)["choices"]
    assert {"content": ENTRIES, "refusal": None} == choice["logprobs"]

    omitted = {"chosenCandidates": [CHOSEN[0], {"token": "é", "tokenId": 7}], "topCandidates": TOP[:1]}
    assert ENTRIES == carried(GEMINI, from_gemini(omitted), CHAT)["choices"][0]["logprobs"]["content"]


def test_a_reply_of_a_chat_host_has_them_for_a_caller_of_gemini() -> None:
    (candidate,) = carried(CHAT, from_chat({"content": ENTRIES, "refusal": None}), GEMINI)["candidates"]

    assert RESULT == candidate["logprobsResult"]
    assert -0.125 == candidate["avgLogprobs"]


@pytest.mark.parametrize(
    ("source", "body"), [(CHAT, from_chat({"content": ENTRIES, "refusal": None})), (GEMINI, from_gemini(RESULT))]
)
def test_a_caller_of_responses_has_them_at_the_text(source: str, body: dict[str, Any]) -> None:
    (item,) = carried(source, body, RESPONSES)["output"]

    assert ENTRIES == item["content"][0]["logprobs"]


@pytest.mark.parametrize("nothing", [None, {}, {"content": None}, {"content": []}, 7])
def test_a_reply_without_them_has_none(nothing: Any) -> None:
    (candidate,) = carried(CHAT, from_chat(nothing), GEMINI)["candidates"]
    assert not {"logprobsResult", "avgLogprobs"} & candidate.keys()
    assert None is carried(GEMINI, from_gemini(nothing), CHAT)["choices"][0]["logprobs"]
    assert [] == carried(CHAT, from_chat(nothing), RESPONSES)["output"][0]["content"][0]["logprobs"]


def chat_stream() -> list[Any]:
    pieces: list[Any] = [chunk({"content": "Hi"}), chunk({"content": "é"})]
    for each, entry in zip(pieces, ENTRIES, strict=True):
        each["choices"][0]["logprobs"] = {"content": [entry], "refusal": None}
    return [*pieces, chunk({}, "stop"), "[DONE]"]


def gemini_stream() -> list[Any]:
    rows = [("Hi", {"chosenCandidates": CHOSEN[:1], "topCandidates": TOP[:1]})]
    rows.append(("é", {"chosenCandidates": CHOSEN[1:], "topCandidates": TOP[1:]}))
    chunks: list[Any] = [
        {
            "candidates": [
                {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, "logprobsResult": result}
            ]
        }
        for text, result in rows
    ]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    return chunks


STREAMS = [(CHAT, chat_stream()), (GEMINI, gemini_stream())]


@pytest.mark.parametrize(("source", "values"), STREAMS)
def test_a_stream_has_them_for_a_chat_caller(source: str, values: list[Any]) -> None:
    chunks = [each for each in caller_stream(CHAT, stream_events(source, *values)) if each != "[DONE]"]
    entries = [
        entry
        for each in chunks
        for choice in each["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]

    assert ENTRIES == entries


def test_a_stream_has_them_for_a_caller_of_gemini() -> None:
    chunks = caller_stream(GEMINI, stream_events(CHAT, *chat_stream()))
    found = [each for chunk in chunks for each in chunk.get("candidates", ())]

    assert CHOSEN == [one for each in found for one in each.get("logprobsResult", {}).get("chosenCandidates", ())]
    assert -0.125 == found[-1]["avgLogprobs"]


@pytest.mark.parametrize(("source", "values"), STREAMS)
def test_a_stream_has_them_for_a_caller_of_responses(source: str, values: list[Any]) -> None:
    events = caller_stream(RESPONSES, stream_events(source, *values))
    done = next(each for each in events if each["type"] == "response.output_text.done")
    completed = events[-1]["response"]["output"][0]["content"][0]

    assert ENTRIES == done["logprobs"] == completed["logprobs"]


def test_equal_tokens_of_two_chunks_are_two() -> None:
    one = {"chosenCandidates": CHOSEN[:1]}
    rows = [{"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "logprobsResult": one}]} for _ in range(2)]
    rows[-1]["candidates"][0]["finishReason"] = "STOP"
    reply = whole(GEMINI, stream_events(GEMINI, *rows))

    assert 2 == len(reply.choices[0].extras["logprobsResult"]["chosenCandidates"])  # type: ignore[index]
