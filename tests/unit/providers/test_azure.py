"""Where Azure takes each call, and what proves who asks."""

import pytest

from edge_extproc.errors import BadRequest
from edge_extproc.providers.base import ProviderSettings, UpstreamCall
from edge_extproc.providers.credentials.api_key import bearer
from edge_extproc.registry import load

HOST = "https://me.openai.azure.com"
FOUNDRY = "https://me.services.ai.azure.com"


def ask(path, base_url=HOST, model="my-gpt", version=None, **more):
    options = {"api_version": version} if version else {}
    provider = load("providers", "azure").build(ProviderSettings("a", base_url, lambda: "secret", options, **more))
    return provider.request(UpstreamCall("chat", "openai_chat", model, False, path, b"{}"))


@pytest.mark.parametrize(
    ("path", "base_url", "version", "expected"),
    [
        ("/chat/completions", HOST, None, "/openai/v1/chat/completions"),
        ("/responses", HOST, None, "/openai/v1/responses"),
        ("/embeddings", HOST + "/openai/v1", None, "/openai/v1/embeddings"),
        ("/responses", HOST + "/openai/v1", "preview", "/openai/v1/responses?api-version=preview"),
        ("/chat/completions", HOST, "2024-10-21", "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"),
        ("/embeddings", HOST + "/openai", "2024-10-21", "/openai/deployments/my-gpt/embeddings?api-version=2024-10-21"),
        ("/completions", HOST, "2024-10-21", "/openai/deployments/my-gpt/completions?api-version=2024-10-21"),
        ("/images/edits", HOST, "2024-10-21", "/openai/deployments/my-gpt/images/edits?api-version=2024-10-21"),
        ("/images/generations", HOST, "1", "/openai/deployments/my-gpt/images/generations?api-version=1"),
        ("/audio/speech", HOST, "1", "/openai/deployments/my-gpt/audio/speech?api-version=1"),
        ("/audio/transcriptions", HOST, "1", "/openai/deployments/my-gpt/audio/transcriptions?api-version=1"),
        ("/audio/translations", HOST, "1", "/openai/deployments/my-gpt/audio/translations?api-version=1"),
        ("/responses", HOST, "2025-04-01-preview", "/openai/responses?api-version=2025-04-01-preview"),
        ("/files?limit=3", HOST, "2024-10-21", "/openai/files?limit=3&api-version=2024-10-21"),
        ("/chat/completions", FOUNDRY + "/models", "latest", "/models/chat/completions?api-version=latest"),
    ],
)  # fmt: skip
def test_each_call_has_its_place(path, base_url, version, expected):
    assert expected == ask(path, base_url, version=version).path


def test_a_deployments_name_is_one_segment():
    path = ask("/chat/completions", model="a/b?c", version="2024-10-21").path

    assert "/openai/deployments/a%2Fb%3Fc/chat/completions?api-version=2024-10-21" == path
    with pytest.raises(BadRequest):
        ask("/chat/completions", model="..", version="2024-10-21")


def test_a_key_and_a_token_of_entra_go_in_headers_of_their_own():
    assert (("api-key", "secret"),) == ask("/x").headers
    assert (("authorization", "Bearer token"),) == ask("/x", credential=bearer(lambda: "token")).headers


def test_azure_speaks_all_of_openais_formats():
    provider = load("providers", "azure").build(ProviderSettings("a", HOST, None))

    assert ("openai_chat", "openai_responses") == provider.formats("chat", "m")
    assert ("openai_embeddings",) == provider.formats("embeddings", "m")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b'{"statusCode":401,"message":"Unauthorized. Access token is missing"}', "authentication"),
        (429, b'{"error":{"code":"429","message":"slow down"}}', "rate_limit"),
        (
            400,
            b'{"error":{"message":"filtered","type":null,"param":"prompt","code":"content_filter","status":400,'
            b'"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"jailbreak":{}}}}}',
            "content_filter",
        ),
    ],
)
def test_azures_shapes_of_errors_are_understood(status, body, kind):
    fault = load("dialects", "openai_chat").read_error(status, (), body)

    assert (status, kind) == (fault.status, fault.kind)
    assert fault.message
