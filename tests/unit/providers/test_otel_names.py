"""Traces name a provider as OpenTelemetry's conventions do (gen_ai.provider.name, well-known values)."""

from __future__ import annotations

import pytest

from edge_extproc.config import load
from edge_extproc.worker.wiring.traces import conventional


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("kind: openai", "openai"),
        ("kind: anthropic", "anthropic"),
        ("kind: azure, base_url: 'https://x.openai.azure.com'", "azure.ai.openai"),
        ("kind: bedrock, region: us-east-1", "aws.bedrock"),
        ("kind: google", "gcp.gemini"),
        ("kind: vertex, region: us-east5", "gcp.vertex_ai"),
        ("kind: openai_compatible, host: mistral", "mistral_ai"),
        ("kind: openai_compatible, host: xai", "x_ai"),
        ("kind: openai_compatible, host: groq", "groq"),
        ("kind: openai_compatible, base_url: 'https://example.com/v1'", "openai_compatible"),
    ],
)
def test_a_provider_has_the_name_of_the_conventions(settings: str, name: str) -> None:
    config = load.parse(
        "auth: {pepper: a pepper of the tests}\n"
        "callers: [{tenant: acme, keys: [{id: acme-1, key: edge-key-of-the-tests}]}]\n"
        f"providers: {{it: {{{settings}, api_key: provider-key}}}}\n"
        "models: {chat: [{provider: it}]}\n",
        "edge.yaml",
    )

    assert name == conventional(config.providers["it"])
