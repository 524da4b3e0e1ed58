"""Recorded embeddings, counts and completions: what they used, and that they cross whole."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from recordings import body, recordings

from edge_extproc import registry
from edge_extproc.errors import Unsupported
from edge_extproc.model.embedding import Embedded
from edge_extproc.operations.metering.stream import UsageListener
from edge_extproc.operations.metering.usage import usage_of

FORMATS = {name: registry.load("operations", name) for name in registry.names("operations")}
OURS = {"embeddings": "openai_embeddings", "embed_content": "gemini_embeddings", "vertex_predict": "vertex_embeddings"}
COHERES_OWN = {"cohere"}
EMBEDDINGS = {r["id"]: r for r in recordings(*OURS, status=200) if r["provider"] not in COHERES_OWN}
COMPLETIONS = {r["id"]: r for r in recordings("completions", status=200)}
REPORTED = {r["id"]: r for r in recordings("rerank", "images", "audio", "moderations", status=200)}


def read(recorded: dict[str, Any]) -> tuple[Any, Any]:
    form = FORMATS[OURS[recorded["api"]]]
    path = recorded["endpoint"].split(" ", 1)[1]
    return form, form.read_call(body(recorded["request"]), "POST", (), path)


@pytest.mark.parametrize("recorded", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_embeddings_are_metered_and_cross_whole(recorded: dict[str, Any]) -> None:
    form, call = read(recorded)
    told = json.loads(body(recorded["response"]))
    if "data" in told and isinstance(told["data"][0]["embedding"], str):
        assert form.read_usage(told).prompt == told["usage"]["total_tokens"]
        return  # asked for as base64, which passes; across formats numbers are asked for
    answer = form.read_answer(body(recorded["response"]))

    rows = told.get("data") or told.get("embeddings") or told["predictions"]
    assert len(rows) == len(answer.vectors)
    assert len({len(vector) for vector in answer.vectors}) == 1
    assert answer.usage == form.read_usage(told)
    reported = told.get("usage", {}).get("prompt_tokens", told.get("usage", {}).get("total_tokens"))
    if reported is not None:
        assert reported == answer.usage.prompt
    for other in ("openai_embeddings", "gemini_embeddings", "vertex_embeddings"):
        again = FORMATS[other].read_answer(FORMATS[other].write_answer(answer, call))
        assert isinstance(again, Embedded)
        assert answer.vectors == again.vectors


# Only Google can embed an image.
TEXTS = {name: each for name, each in EMBEDDINGS.items() if b"inline_data" not in read(each)[1].raw}


@pytest.mark.parametrize("recorded", TEXTS.values(), ids=TEXTS)
def test_a_question_crosses_and_comes_back_the_same(recorded: dict[str, Any]) -> None:
    form, call = read(recorded)
    asked = form.read(call)
    if not all(isinstance(each, str) for each in asked.inputs):
        with pytest.raises(Unsupported, match="not token numbers"):
            FORMATS["gemini_embeddings"].write(asked, "another-model")
        return
    for other in ("gemini_embeddings", "vertex_embeddings", "openai_embeddings"):
        path, written = FORMATS[other].write(asked, "another-model")
        where = f"/v1beta1/publishers/google{path}" if other == "vertex_embeddings" else f"/v1beta{path}"
        again = FORMATS[other].read(FORMATS[other].read_call(written.body, "POST", (), where))
        assert (asked.inputs, asked.dimensions) == (again.inputs, again.dimensions)


@pytest.mark.parametrize("recorded", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_the_same_format_changes_nothing_but_the_model(recorded: dict[str, Any]) -> None:
    form, call = read(recorded)
    written = form.splice(call, "another-model").body

    assert len(call.raw) - len(written) == (len(call.model) - len("another-model")) * call.raw.count(
        call.model.encode()
    )
    assert call.raw == written.replace(b"another-model", call.model.encode())


@pytest.mark.parametrize("recorded", COMPLETIONS.values(), ids=COMPLETIONS)
def test_completions_are_metered(recorded: dict[str, Any]) -> None:
    raw = body(recorded["response"])
    if not recorded["streaming"]:
        told = json.loads(raw)

        assert told["usage"]["total_tokens"] == usage_of(told).total  # type: ignore[union-attr]  # None fails as well
        return
    listener = UsageListener()
    frames = listener.frames(raw)
    events = [type(event).__name__ for frame in frames for event in listener.read(frame)]
    events += [type(event).__name__ for event in listener.close()[1]]

    assert raw == b"".join(frame.raw for frame in frames)
    assert "Garbled" not in events
    assert "Ended" == events[-1]


@pytest.mark.parametrize("recorded", REPORTED.values(), ids=REPORTED)
def test_what_else_reports_tokens_is_metered(recorded: dict[str, Any]) -> None:
    try:
        told = msgspec.json.decode(body(recorded["response"]))
    except msgspec.DecodeError:
        return  # sound
    reported = told.get("usage") or {}
    counts = [value for key, value in reported.items() if key in ("total_tokens", "input_tokens")]
    usage = usage_of(told)

    assert bool(counts) == (usage is not None)
    assert not counts or max(counts) == (usage.total if "total_tokens" in reported else usage.prompt)  # type: ignore[union-attr]  # not None, as seen above
