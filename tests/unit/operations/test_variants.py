"""Spellings of embeddings, images and audio requests that clients use, and replies that do not match their request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_extproc import registry
from edge_extproc.errors import BadRequest, UpstreamError
from edge_extproc.exchange.operation import OperationResponse
from edge_extproc.model.call import Call
from edge_extproc.model.embedding import Embed

OPENAI, GEMINI, TITAN, VERTEX, PASSED = (
    registry.load("operations", name)
    for name in ("openai_embeddings", "gemini_embeddings", "titan_embeddings", "vertex_embeddings", "passed")
)
ONE = "/v1beta/models/m:embedContent"
MANY = "/v1beta/models/m:batchEmbedContents"
PREDICT = "/v1/projects/p/locations/l/publishers/google/models/m:predict"


def read(form: Any, path: str, body: Any) -> Embed:
    found = form.read(form.read_call(json.dumps(body).encode(), "POST", (), path))
    assert isinstance(found, Embed)
    return found


# --- dimensions


@pytest.mark.parametrize("value", [768, "768", 768.0])
def test_dimensions_are_read_as_google_reads_them(value: Any) -> None:
    content = {"parts": [{"text": "a"}]}
    assert 768 == read(GEMINI, ONE, {"content": content, "outputDimensionality": value}).dimensions
    assert 768 == read(GEMINI, ONE, {"content": content, "output_dimensionality": value}).dimensions
    assert 768 == read(GEMINI, MANY, {"requests": [{"content": content, "outputDimensionality": value}]}).dimensions
    instances = {"instances": [{"content": "a"}], "parameters": {"outputDimensionality": value}}
    assert 768 == read(VERTEX, PREDICT, instances).dimensions


@pytest.mark.parametrize("value", [True, "x", 7.5, [768], {}])
def test_dimensions_that_are_no_number_are_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="outputDimensionality"):
        read(GEMINI, ONE, {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": value})
    with pytest.raises(BadRequest, match=r"parameters\.outputDimensionality"):
        read(VERTEX, PREDICT, {"instances": [{"content": "a"}], "parameters": {"outputDimensionality": value}})
    with pytest.raises(BadRequest, match="dimensions"):
        read(OPENAI, "/v1/embeddings", {"model": "m", "input": "a", "dimensions": value})


def test_equal_dimensions_in_two_spellings_do_not_differ() -> None:
    content = {"parts": [{"text": "a"}]}
    rows = [{"content": content, "outputDimensionality": 8}, {"content": content, "outputDimensionality": "8"}]

    assert 8 == read(GEMINI, MANY, {"requests": rows}).dimensions


@pytest.mark.parametrize("value", [0, -1])
def test_vectors_without_a_length_are_refused(value: int) -> None:
    with pytest.raises(BadRequest, match="at least 1"):
        read(OPENAI, "/v1/embeddings", {"model": "m", "input": "a", "dimensions": value})


@pytest.mark.parametrize("indexes", [(1, 0), (None, None), ("0", "1"), (0, None)])
def test_vectors_are_in_the_order_of_their_indexes(indexes: Any) -> None:
    rows = [{"embedding": [float(n)], "index": index} for n, index in enumerate(indexes)]
    answer = OPENAI.read_answer(json.dumps({"data": rows}).encode())

    assert ([1.0, 0.0] if indexes == (1, 0) else [0.0, 1.0]) == [vector[0] for vector in answer.vectors]


# --- other fields of Google's formats


def test_a_single_part_is_read_as_a_list_of_one() -> None:
    assert ("a",) == read(GEMINI, ONE, {"content": {"parts": {"text": "a"}}}).inputs


@pytest.mark.parametrize("name", ["taskType", "title"])
def test_a_purpose_that_is_no_text_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match=name):
        read(GEMINI, ONE, {"content": {"parts": [{"text": "a"}]}, name: 7})


@pytest.mark.parametrize("form", [OPENAI, TITAN])
def test_a_purpose_that_is_lost_is_named_as_the_caller_wrote_it(form: Any) -> None:
    asked = {"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY", "title": "T"}
    _, written = form.write(read(GEMINI, ONE, asked), "amazon.titan-embed-text-v2:0")

    assert ("taskType", "title") == written.dropped


# --- replies


def reply_for(inputs: Any, vectors: int) -> Any:
    raw = json.dumps({"model": "m", "input": inputs}).encode()
    call = OPENAI.read_call(raw, "POST", (), "/v1/embeddings")
    rows = [{"values": [1.0]} for _ in range(vectors)]
    body = json.dumps({"embeddings": rows}).encode()
    formats = {each.name: each for each in (OPENAI, GEMINI)}
    return json.loads(OperationResponse(call, formats, GEMINI.name).whole(body))


def test_each_input_has_its_vector() -> None:
    assert 2 == len(reply_for(["a", "b"], 2)["data"])
    assert 1 == len(reply_for("a", 1)["data"])


@pytest.mark.parametrize(("inputs", "vectors"), [(["a", "b"], 1), (["a"], 2), (["a", "b", "c"], 0)])
def test_a_reply_with_another_number_of_vectors_is_an_error(inputs: Any, vectors: int) -> None:
    with pytest.raises(UpstreamError, match=f"{vectors} embeddings for {len(inputs)} inputs"):
        reply_for(inputs, vectors)


# --- images and audio


def form_call(**fields: str) -> Call:
    lines = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    files = "".join(
        f'--b\r\ncontent-disposition: form-data; name="{name}"; filename="a.png"\r\n\r\nx\r\n'
        for name in ("image[]", "image[]", "mask")
    )
    raw = ("".join(lines) + files + "--b--\r\n").encode()
    headers = (("content-type", "multipart/form-data; boundary=b"),)
    found: Call = PASSED.read_call(raw, "POST", headers, "/v1/images/edits")
    return found


@pytest.mark.parametrize(
    ("value", "is_stream"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)]
)
def test_a_form_says_true_in_several_ways(value: str, is_stream: bool) -> None:
    assert is_stream is form_call(model="gpt-image-1", stream=value).stream


def test_files_of_a_form_stay_as_they_are() -> None:
    """BerriAI/litellm#41625: each `image[]` is sent on once, and as a file."""
    call = form_call(model="gpt-image-1", prompt="blue")
    written = PASSED.splice(call, "other").body

    assert call.raw.replace(b"gpt-image-1", b"other") == written


@pytest.mark.parametrize(
    ("fields", "is_stream"), [({"stream_format": "sse"}, True), ({"stream_format": "audio"}, False), ({}, False)]
)
def test_speech_in_events_is_a_stream(fields: dict[str, str], is_stream: bool) -> None:
    raw = json.dumps({"model": "gpt-4o-mini-tts", "input": "Hi", "voice": "alloy", **fields}).encode()
    call = PASSED.read_call(raw, "POST", (("content-type", "application/json"),), "/v1/audio/speech")

    assert is_stream is call.stream
