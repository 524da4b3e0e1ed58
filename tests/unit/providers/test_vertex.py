"""Gemini and Claude at Vertex AI: where each call goes, and what is changed in its body."""

import json

import pytest
from recordings import body, recordings

from edge_extproc.errors import BadRequest, Unsupported
from edge_extproc.providers.base import Asked, ProviderSettings
from edge_extproc.providers.credentials.api_key import bearer
from edge_extproc.registry import load

BASE = "https://us-east5-aiplatform.googleapis.com/v1"
ROOT = "/v1/projects/p/locations/us-east5/publishers"
CLAUDE = "claude-3-7-sonnet@20250219"


def build(**more):
    options = more.pop("options", {"project": "p", "region": "us-east5"})
    settings = ProviderSettings("v", BASE, more.pop("key", None), options, bearer(lambda: "token"))
    return load("providers", "vertex").build(settings)


def ask(operation, model, raw=b"{}", stream=False, format=None, provider=None):
    provider = provider or build()
    name = format or provider.formats(operation, model)[0]
    if operation == "chat":
        dialect = load("dialects", name)
        path = dialect.path(operation, model, stream=stream)
    else:
        form = load("operations", name)
        where = f"/v1beta/models/{model}:embedContent"
        path = form.path(form.read_call(raw, "POST", (), where), model)
    return provider.request(Asked(operation, name, model, stream, path, raw))


def test_gemini_goes_below_google():
    assert f"{ROOT}/google/models/gemini-2.5-flash:generateContent" == ask("chat", "gemini-2.5-flash").path
    streamed = ask("chat", "gemini-2.5-flash", stream=True)
    assert f"{ROOT}/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse" == streamed.path
    assert (("authorization", "Bearer token"),) == streamed.headers


@pytest.mark.parametrize(("stream", "verb"), [(False, "rawPredict"), (True, "streamRawPredict")])
def test_claude_goes_below_anthropic_with_only_the_model_moved(stream, verb):
    raw = b'{"model": "claude", "max_tokens" : 5,"stream":true, "unknown":1.0}'
    request = ask("chat", CLAUDE, raw, stream)

    assert f"{ROOT}/anthropic/models/{CLAUDE}:{verb}" == request.path
    assert b'{ "max_tokens" : 5,"stream":true, "unknown":1.0,"anthropic_version":"vertex-2023-10-16"}' == request.body


def test_claude_counts_tokens_at_a_model_of_its_own():
    raw = b'{"model":"claude-sonnet-4-5@latest","messages":[]}'
    request = ask("count_tokens", "claude-sonnet-4-5@latest", raw)

    assert f"{ROOT}/anthropic/models/count-tokens:rawPredict" == request.path
    assert {"model": "claude-sonnet-4-5", "messages": [], "anthropic_version": "vertex-2023-10-16"} == json.loads(
        request.body
    )
    assert CLAUDE == json.loads(ask("count_tokens", CLAUDE, raw).body)["model"]


def test_texts_are_embedded_by_predict_and_later_models_by_content():
    assert ("vertex_embeddings",) == build().formats("embeddings", "text-embedding-005")
    assert ("vertex_embeddings",) == build().formats("embeddings", "gemini-embedding-001")
    assert ("gemini_embeddings",) == build().formats("embeddings", "gemini-embedding-2")
    raw = b'{"content":{"parts":[{"text":"a"}]}}'
    assert f"{ROOT}/google/models/gemini-embedding-2:embedContent" == ask("embeddings", "gemini-embedding-2", raw).path


def test_many_texts_are_refused_where_one_is_the_most():
    many = Asked("embeddings", "gemini_embeddings", "gemini-embedding-2", False, "/models/m:batchEmbedContents", b"{}")

    with pytest.raises(Unsupported, match="embeds one text a request"):
        build().request(many)


def test_without_a_project_it_is_express_mode():
    provider = load("providers", "vertex").build(ProviderSettings("v", BASE, lambda: "key", {}))
    request = ask("chat", "gemini-2.5-flash", provider=provider)

    assert "/v1/publishers/google/models/gemini-2.5-flash:generateContent" == request.path
    assert (("x-goog-api-key", "key"),) == request.headers


def test_a_name_that_leads_elsewhere_is_refused():
    asked = Asked("chat", "anthropic_messages", "..", False, "/messages", b"{}")

    with pytest.raises(BadRequest):
        build().request(asked)


RAW = {r["id"]: r for r in recordings("vertex_raw_predict", "vertex_stream_raw_predict")}


@pytest.mark.parametrize("recorded", RAW.values(), ids=RAW)
def test_a_recorded_request_of_claude_is_made_from_anthropics_own(recorded):
    expected = json.loads(body(recorded["request"]))
    model = recorded["endpoint"].rpartition("/")[2].partition(":")[0]
    given = {key: value for key, value in expected.items() if key != "anthropic_version"} | {"model": "any"}
    request = ask("chat", model, json.dumps(given).encode(), stream="stream" in recorded["api"])

    assert expected == json.loads(request.body)
    assert recorded["endpoint"].split("/publishers")[1] == request.path.split("/publishers")[1]
