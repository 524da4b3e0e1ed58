"""What a provider takes instead of a key, and the mistakes that can be made with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.config.load import parse
from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError
from edge_extproc.providers.base import Provider, UpstreamCall
from edge_extproc.worker.wiring.providers import build_providers

HEAD = """
auth: {pepper: "a pepper for tests alone"}
callers: [{tenant: dev, keys: [{id: dev, key: edge-0123456789abcdef0123456789}]}]
models: {m: [{provider: p}]}
"""
ENVIRON = {"AWS_KEY": "AKIDEXAMPLE", "AWS_SECRET": "hush"}


def read(provider: str, base: Path = Path("/nowhere")) -> Config:
    return parse(f"{HEAD}providers: {{p: {provider}}}\n", "f", environ=ENVIRON, base=base)


def mistake(provider: str, base: Path = Path("/nowhere")) -> str:
    with pytest.raises(ConfigError) as found:
        read(provider, base)
    return found.value.message


def built(provider: str, base: Path = Path("/nowhere")) -> Provider:
    return build_providers(read(provider, base))["p"]


def headers_of(provider: Provider) -> dict[str, str]:
    asked = UpstreamCall("chat", "bedrock_converse", "m", False, "/model/m/converse", b"{}")
    return dict(provider.request(asked).headers)


KEYS = "access_key_id: {env: AWS_KEY}, secret_access_key: {env: AWS_SECRET}"


def test_keys_of_config_sign() -> None:
    provider = built(f"{{kind: bedrock, region: eu-west-1, credential: {{kind: aws, {KEYS}}}}}")

    assert "AKIDEXAMPLE/" in headers_of(provider)["authorization"]
    assert "/eu-west-1/bedrock/" in headers_of(provider)["authorization"]
    assert "hush" not in repr(provider)


def test_the_region_is_in_the_address() -> None:
    config = read("{kind: bedrock, region: eu-west-1, api_key: key}")

    assert "https://bedrock-runtime.eu-west-1.amazonaws.com" == config.providers["p"].url


def test_a_key_in_a_file_is_what_it_was_at_load_until_it_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("first\n")
    provider = built("{kind: openai, api_key: {file: key}}", tmp_path)

    assert "Bearer first" == headers_of(provider)["authorization"]


@pytest.mark.parametrize(
    ("provider", "why"),
    [
        (
            "{kind: bedrock, region: x, credential: {kind: gcp}}",
            "there is no such kind of credential; have aws, azure, google; write one of them",
        ),
        ("{kind: bedrock, region: x, credential: {kind: aws, file: f}}", "there is no such file"),
        (
            "{kind: bedrock, region: x, credential: {kind: aws, tenant_id: t}}",
            "a credential of kind aws has no tenant_id; have access_key_id, profile, secret_access_key, session_token",
        ),
        (
            "{kind: bedrock, region: x, credential: {kind: aws, access_key_id: {env: AWS_KEY}}}",
            "access_key_id and secret_access_key belong together",
        ),
        (
            "{kind: bedrock, region: x, credential: {kind: aws, session_token: t}}",
            "a session_token is given without keys",
        ),
        (
            f"{{kind: bedrock, region: x, credential: {{kind: aws, profile: p, {KEYS}}}}}",
            "both keys and a profile are given",
        ),
        ("{kind: bedrock, credential: {kind: aws}}", "region is missing"),
        (
            "{kind: bedrock, base_url: 'https://vpce.example', credential: {kind: aws}}",
            "region is missing",
        ),
        ("{kind: bedrock, region: US East, api_key: k}", "this is not a region"),
        ("{kind: openai, region: us-east-1, api_key: k}", "kind openai has no region; leave it out"),
        ("{kind: bedrock, region: x}", "api_key is missing"),
        (
            "{kind: bedrock, region: x, credential: {kind: google}}",
            "kind bedrock does not accept this credential; have aws",
        ),
        ("{kind: openai, credential: {kind: aws}}", "kind openai does not accept this credential; give api_key"),
        (
            "{kind: bedrock, region: x, api_key: k, credential: {kind: aws}}",
            "both api_key and credential are given",
        ),
        (
            "{kind: bedrock, region: x, credential: {kind: azure, client_secret: s}}",
            "a client_secret needs tenant_id and client_id",
        ),
        (
            "{kind: bedrock, region: x, credential: {kind: azure, tenant_id: t}}",
            "a tenant_id is given without a client_secret",
        ),
        (
            "{kind: bedrock, region: x, credential: {kind: azure, authority: login.example}}",
            "this is not an authority",
        ),
    ],
)
def test_a_mistake_says_what_would_be_right(provider: str, why: str) -> None:
    assert why in mistake(provider)


def test_no_mistake_shows_a_secret() -> None:
    told = mistake("{kind: bedrock, region: x, credential: {kind: aws, access_key_id: AKIAVERYSECRET}}")

    assert "AKIAVERYSECRET" not in told
