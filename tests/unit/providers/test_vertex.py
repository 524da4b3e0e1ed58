"""Gemini and Claude at Vertex AI: where each call goes, and what is changed in its body."""

import json

import pytest
from recordings import body, recordings

from edge_extproc.errors import BadRequest, Unsupported
from edge_extproc.providers.base import ProviderSettings, UpstreamCall
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
    return provider.request(UpstreamCall(operation, name, model, stream, path, raw))


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
    many = UpstreamCall(
        "embeddings", "gemini_embeddings", "gemini-embedding-2", False, "/models/m:batchEmbedContents", b"{}"
    )

    with pytest.raises(Unsupported, match="accepts one text in a request"):
        build().request(many)


def test_without_a_project_it_is_express_mode():
    provider = load("providers", "vertex").build(ProviderSettings("v", BASE, lambda: "key", {}))
    request = ask("chat", "gemini-2.5-flash", provider=provider)

    assert "/v1/publishers/google/models/gemini-2.5-flash:generateContent" == request.path
    assert (("x-goog-api-key", "key"),) == request.headers


def test_a_name_that_leads_elsewhere_is_refused():
    asked = UpstreamCall("chat", "anthropic_messages", "..", False, "/messages", b"{}")

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


# --- beta flags


def claude(body, *betas, operation="chat", model="claude-sonnet-4-5@20250929"):
    raw = json.dumps({"model": "m", **body}).encode()
    form = "anthropic_messages" if operation == "chat" else "anthropic_count"
    return build().request(UpstreamCall(operation, form, model, False, "/messages", raw, betas=betas))


def test_flags_that_vertex_does_not_know_stay_behind_and_are_named():
    flags = ("claude-code-20250219", "interleaved-thinking-2025-05-14", "prompt-caching-scope-2026-01-05")
    request = claude({}, *flags, "effort-2025-11-24")

    assert "claude-code-20250219,interleaved-thinking-2025-05-14" == dict(request.headers)["anthropic-beta"]
    assert ("anthropic-beta.effort-2025-11-24", "anthropic-beta.prompt-caching-scope-2026-01-05") == request.dropped
    assert ("anthropic-beta",) == request.removed


def test_without_a_flag_that_vertex_knows_there_is_no_header():
    request = claude({}, "effort-2025-11-24")

    assert "anthropic-beta" not in dict(request.headers)
    assert ("anthropic-beta",) == request.removed


def test_a_flag_that_stays_behind_takes_its_fields_along():
    mark = {"type": "ephemeral", "scope": "global"}
    body = {
        "system": [{"type": "text", "text": "scope", "cache_control": mark}],
        "messages": [
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "cache_control": mark}]}]}
        ],
        "tools": [{"name": "a"}, {"name": "b", "defer_loading": True, "input_schema": {"properties": {"scope": {}}}}],
        "output_config": {"effort": "low"},
    }
    flags = ("prompt-caching-scope-2026-01-05", "advanced-tool-use-2025-11-20", "effort-2025-11-24")
    request = claude(body, *flags)
    sent = json.loads(request.body)

    kept = {"type": "ephemeral"}
    assert kept == sent["system"][0]["cache_control"]
    assert kept == sent["messages"][0]["content"][0]["content"][0]["cache_control"]
    assert [{"name": "a"}, {"name": "b", "input_schema": {"properties": {"scope": {}}}}] == sent["tools"]
    assert "output_config" not in sent
    assert (
        "messages[0].content[0].content[0].cache_control.scope",
        "output_config.effort",
        "system[0].cache_control.scope",
        "tools[1].defer_loading",
    ) == request.dropped[3:]


def test_a_field_stays_where_another_flag_or_the_model_itself_permits_it():
    tools = [{"name": "b", "defer_loading": True}]
    flags = ("advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19", "effort-2025-11-24")
    body = {"tools": tools, "output_config": {"effort": "low"}}
    sent = json.loads(claude(body, *flags, model="claude-opus-4-6").body)

    assert (tools, {"effort": "low"}) == (sent["tools"], sent["output_config"])


def test_counting_knows_no_web_search():
    assert "web-search-2025-03-05" in dict(claude({}, "web-search-2025-03-05").headers)["anthropic-beta"]
    counted = claude({}, "web-search-2025-03-05", operation="count_tokens")
    assert ("anthropic-beta.web-search-2025-03-05",) == counted.dropped


def test_flags_of_the_body_are_sorted_out_too():
    request = claude({"anthropic_beta": ["made-up", "context-1m-2025-08-07"]})

    assert ["context-1m-2025-08-07"] == json.loads(request.body)["anthropic_beta"]
    with pytest.raises(BadRequest, match="anthropic_beta must be a list"):
        claude({"anthropic_beta": "x"})
