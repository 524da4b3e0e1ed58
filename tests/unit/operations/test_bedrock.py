"""Bedrock's CountTokens and Titan's embeddings, by themselves and across."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore_oracle import converse_request_errors
from player import Stage, answered, body, headers, planner, talk, whole
from recordings import body as recorded_body
from recordings import recordings

from edge_extproc import registry
from edge_extproc.errors import BadRequest, Unsupported, UpstreamError
from edge_extproc.model.embedding import Embed, Embedded
from edge_extproc.model.plan import Candidate
from edge_extproc.model.usage import Usage
from edge_extproc.operations.base import Count
from edge_extproc.providers.base import ProviderSettings
from edge_extproc.routing.base import ModelTable

COUNT = registry.load("operations", "bedrock_count")
TITAN = registry.load("operations", "titan_embeddings")
ANTHROPIC_COUNT = registry.load("operations", "anthropic_count")
GEMINI_COUNT = registry.load("operations", "gemini_count")
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PATH = "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "system": "Be brief"}


def anthropics(**more: Any) -> Count:
    raw = json.dumps({**ASKED, **more}).encode()
    found: Count = ANTHROPIC_COUNT.read(ANTHROPIC_COUNT.read_call(raw, "POST", (), "/v1/messages/count_tokens"))
    return found


@pytest.mark.parametrize("region", ["us.", "eu.", "apac.", "us-gov.", "global.", ""])
def test_1_1_a_count_names_the_model_and_not_its_regions(region: str) -> None:
    path, _ = COUNT.write(anthropics(), f"{region}anthropic.claude-sonnet-4-5-20250929-v1:0")

    assert PATH == path
    assert "/model/eu.amazon.nova/count-tokens" == COUNT.write(anthropics(), "eu.amazon.nova")[0]


def test_anthropics_own_words_are_counted_as_they_are() -> None:
    _, written = COUNT.write(anthropics(thinking={"type": "enabled", "budget_tokens": 1024}), CLAUDE)
    said = json.loads(base64.b64decode(json.loads(written.body)["input"]["invokeModel"]["body"]))

    assert {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1,
        "messages": ASKED["messages"],
        "system": "Be brief",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    } == said
    assert COUNT.write(anthropics(max_tokens=5), CLAUDE)[1].dropped == ()


def test_a_count_that_stays_in_its_format_keeps_the_callers_bytes() -> None:
    """Spaces are tokens, too."""
    said = b'"messages": [{"role":"user",  "content":"Hi"}], "thinking": {"type":"enabled","budget_tokens":  1024}'
    raw = b'{"model": "m", ' + said + b"}"
    question = ANTHROPIC_COUNT.read(ANTHROPIC_COUNT.read_call(raw, "POST", (), "/v1/messages/count_tokens"))
    contents = b'"contents": [{"parts": [{"text":  "Hi"}]}]'
    call = GEMINI_COUNT.read_call(
        b'{"generateContentRequest": {%s}}' % contents, "POST", (), "/v1/models/m:countTokens"
    )

    _, written = COUNT.write(question, CLAUDE)
    _, vertex = registry.load("operations", "vertex_count").write(GEMINI_COUNT.read(call), "m")

    assert said in base64.b64decode(json.loads(written.body)["input"]["invokeModel"]["body"])
    assert b"{%s}" % contents == vertex.body


def test_other_words_are_counted_as_converse_would_send_them() -> None:
    raw = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}).encode()
    call = GEMINI_COUNT.read_call(raw, "POST", (), "/v1beta/models/m:countTokens")
    _, written = COUNT.write(GEMINI_COUNT.read(call), CLAUDE)
    said = json.loads(written.body)["input"]["converse"]

    assert {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]} == said
    assert "" == converse_request_errors(said, CLAUDE, stream=False)


def test_recorded_counts_are_read_and_cross() -> None:
    for recorded in recordings("count_tokens", provider="bedrock"):
        call = COUNT.read_call(recorded_body(recorded["request"]), "POST", (), recorded["endpoint"].split(" ")[1])
        assert call.raw == COUNT.splice(call, CLAUDE).body
        _, written = ANTHROPIC_COUNT.write(COUNT.read(call), "claude-sonnet-4-5")
        assert json.loads(written.body)["messages"]
        if recorded["response"]["status"] == 200:
            answer = COUNT.read_answer(recorded_body(recorded["response"]))
            assert json.loads(recorded_body(recorded["response"])) == json.loads(COUNT.write_answer(answer, call))


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"{", b'{"input":{}}', b'{"input":{"invokeModel":{"body":"?"}}}'])
def test_a_count_of_nothing_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        COUNT.read(COUNT.read_call(raw, "POST", (), PATH))


def test_an_answer_without_a_count_is_an_error_of_the_providers() -> None:
    with pytest.raises(UpstreamError, match="inputTokens"):
        COUNT.read_answer(b"{}")


# --- 3.12: embeddings


def question(*inputs: Any, **more: Any) -> Embed:
    return Embed("m", inputs, len(inputs) == 1, **more)


def test_3_12_titan_takes_exactly_one_text() -> None:
    path, written = TITAN.write(question("Hi", dimensions=256), "amazon.titan-embed-text-v2:0")

    assert "/model/amazon.titan-embed-text-v2%3A0/invoke" == path
    assert {"inputText": "Hi", "dimensions": 256} == json.loads(written.body)
    with pytest.raises(Unsupported, match="one text"):
        TITAN.write(question("a", "b"), "amazon.titan-embed-text-v2:0")
    with pytest.raises(BadRequest, match="input is empty"):
        TITAN.write(question(""), "amazon.titan-embed-text-v2:0")
    with pytest.raises(Unsupported, match="not token numbers"):
        TITAN.write(question((1, 2)), "amazon.titan-embed-text-v2:0")


def test_3_12_the_first_titan_has_no_choice_of_dimensions() -> None:
    _, written = TITAN.write(question("Hi", dimensions=256, task="RETRIEVAL_QUERY"), "amazon.titan-embed-text-v1")

    assert {"inputText": "Hi"} == json.loads(written.body)
    assert ("dimensions", "taskType") == written.dropped


def test_an_answer_of_titan_is_a_vector_and_what_it_used() -> None:
    answer = TITAN.read_answer(b'{"embedding":[1,0.5],"inputTextTokenCount":5}')

    assert Embedded(((1.0, 0.5),), None, Usage(input=5)) == answer
    call = TITAN.read_call(b'{"inputText":"Hi"}', "POST", (), "/model/m/invoke")
    assert {"embedding": [1.0, 0.5], "inputTextTokenCount": 5} == json.loads(TITAN.write_answer(answer, call))
    for broken in (b"{}", b"[]", b"?", b'{"embedding":["x"]}'):
        with pytest.raises(UpstreamError):
            TITAN.read_answer(broken)


def test_a_caller_of_titan_is_read_and_another_body_is_refused() -> None:
    raw = b'{"inputText":"Hi","dimensions":256,"normalize":true}'
    call = TITAN.read_call(raw, "POST", (), "/model/amazon.titan-embed-text-v2%3A0/invoke")

    assert ("amazon.titan-embed-text-v2:0", raw) == (call.model, TITAN.splice(call, "x").body)
    assert Embed(call.model, ("Hi",), True, 256, dropped=("normalize",)) == TITAN.read(call)
    with pytest.raises(BadRequest, match="inputText is missing"):
        TITAN.read_call(b'{"messages":[]}', "POST", (), "/model/m/invoke")
    with pytest.raises(BadRequest, match="dimensions is"):
        TITAN.read(TITAN.read_call(b'{"inputText":"a","dimensions":"x"}', "POST", (), "/model/m/invoke"))


# --- the story


def stage() -> Stage:
    found = Stage()
    settings = ProviderSettings("aws", "https://bedrock-runtime.us-east-1.amazonaws.com", lambda: "key")
    aws = registry.load("providers", "bedrock").build(settings)
    rows = {"claude": [Candidate("aws", CLAUDE)], "titan": [Candidate("aws", "amazon.titan-embed-text-v2:0")]}
    table = ModelTable(rows)
    return found.having(
        providers={**found.gateway.providers, "aws": aws},
        clusters={**found.gateway.clusters, "aws": "provider_aws"},
        models=table,
        planner=planner(table),
    )


def test_an_anthropic_caller_counts_with_a_claude_of_bedrock() -> None:
    told = stage()
    exchange = told.exchange()
    asks = headers("/v1/messages/count_tokens"), body({**ASKED, "model": "claude"})
    commands = talk(exchange, *asks, answered(), whole({"inputTokens": 23}))
    exchange.closed("done")

    sent = dict(commands[1].set_headers)
    assert (PATH, "Bearer key", "application/json") == (sent[":path"], sent["authorization"], sent["accept"])
    assert {"input_tokens": 23} == json.loads(commands[3].body)
    assert "ok" == told.settled[-1].outcome


def test_an_openai_caller_embeds_with_titan() -> None:
    told = stage()
    exchange = told.exchange()
    asks = headers("/v1/embeddings"), body({"model": "titan", "input": ["Hi"]})
    commands = talk(exchange, *asks, answered(), whole({"embedding": [0.5], "inputTextTokenCount": 5}))
    exchange.closed("done")

    assert {"inputText": "Hi"} == json.loads(commands[1].body)
    reply = json.loads(commands[3].body)
    assert ([0.5], 5) == (reply["data"][0]["embedding"], reply["usage"]["prompt_tokens"])
    assert 5 == told.settled[-1].usage.prompt
