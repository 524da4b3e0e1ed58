"""Tokens of images in Gemini's usage: they have prices of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import CALLERS, DIALECTS, GEMINI

from edge_extproc.model.usage import Usage

USAGE = {
    "promptTokenCount": 1_300,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "IMAGE", "tokenCount": 1_290}],
    "cachedContentTokenCount": 300,
    "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 300}],
    "candidatesTokenCount": 1_300,
    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1_290}],
    "totalTokenCount": 2_600,
}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}


def reply(usage: Any) -> bytes:
    candidate = {"content": {"role": "model", "parts": [PICTURE]}, "finishReason": "STOP", "index": 0}
    return json.dumps({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}).encode()


@pytest.mark.parametrize("number", [False, True])
def test_they_are_read_apart(number: bool) -> None:
    text = json.dumps(USAGE)
    usage = json.loads(text.replace('"IMAGE"', "2").replace('"TEXT"', "1") if number else text)

    assert (
        Usage(input=10, cache_read=300, input_image=990, output=10, output_image=1_290)
        == DIALECTS[GEMINI].read_reply(reply(usage)).usage
    )


@pytest.mark.parametrize("count", [-1, "1290", None, 10**30, True])
def test_a_count_that_cannot_be_read_is_not_a_price(count: Any) -> None:
    rows = [{"modality": "IMAGE", "tokenCount": count}]
    usage = DIALECTS[GEMINI].read_reply(reply({**USAGE, "candidatesTokensDetails": rows})).usage

    assert usage is not None
    assert 1_300 == usage.completion
    assert usage.output_image in (0, 1_290)


def test_more_of_them_than_of_all_are_as_many_as_all() -> None:
    rows = [{"modality": "IMAGE", "tokenCount": 5_000}]
    usage = (
        DIALECTS[GEMINI]
        .read_reply(reply({**USAGE, "promptTokensDetails": rows, "candidatesTokensDetails": rows}))
        .usage
    )

    assert usage is not None
    assert (0, 1_000, 0, 1_300) == (usage.input, usage.input_image, usage.output, usage.output_image)


@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_gets_the_same_sums(caller: str) -> None:
    before = DIALECTS[GEMINI].read_reply(reply(USAGE))
    after = DIALECTS[caller].read_reply(DIALECTS[caller].write_reply(before)).usage

    assert before.usage is not None
    assert after is not None
    assert (before.usage.prompt, before.usage.completion) == (after.prompt, after.completion)
    if caller == GEMINI:
        assert (1_290, 1_290) == (after.output_image, after.input_image + before.usage.cache_read)
