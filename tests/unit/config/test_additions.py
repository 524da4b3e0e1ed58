"""Providers and models of the admin API, merged under a configuration file."""

from __future__ import annotations

from typing import Any

import pytest

from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError
from edge_extproc.model.managed import Additions

FILE = """
auth: {pepper: a-pepper-for-these-tests}
admin: {additions: {hosts: ["*.llm.example", api.openai.com], keys: ["LLM_*"]}}
callers: [{tenant: acme, keys: [{id: one, key: a-key-of-these-tests}]}]
providers:
  main: {kind: openai, api_key: sk-main}
models:
  gpt-4o: [{provider: main}]
"""
ENVIRON = {"LLM_KEY": "sk-llm", "PEPPER": "secret"}
SPARE: dict[str, Any] = {
    "kind": "openai_compatible",
    "base_url": "https://eu.llm.example/v1",
    "api_key": {"env": "LLM_KEY"},
}
FAST = [{"provider": "spare", "model": "fast-1"}]


def parsed(providers: Any = None, models: Any = None, text: str = FILE) -> Config:
    additions = Additions(providers if providers is not None else {"spare": SPARE}, models or {})
    return load.parse(text, "edge.yaml", environ=ENVIRON, additions=additions)


def refusal(providers: Any = None, models: Any = None, text: str = FILE) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(providers, models, text)
    return caught.value.message


def test_additions_are_as_those_of_the_file() -> None:
    config = parsed(models={"fast": FAST, "all/*": {"candidates": [{"provider": "main"}], "strategy": "least_latency"}})
    spare = config.providers["spare"]

    assert ("eu.llm.example", "sk-llm") == (spare.endpoint.host, spare.api_key and spare.api_key.reveal())
    assert ("fast-1", "least_latency") == (
        config.models["fast"].candidates[0].model,
        config.models["all/*"].strategy,
    )


def test_the_file_takes_precedence() -> None:
    config = parsed({"main": SPARE, "spare": SPARE}, {"gpt-4o": FAST})

    assert ("openai", "main") == (config.providers["main"].kind, config.models["gpt-4o"].candidates[0].provider)


def test_without_permission_there_are_none() -> None:
    config = parsed(models={"fast": FAST}, text=FILE.replace("admin:", "#"))

    assert (["main"], ["gpt-4o"]) == (list(config.providers), list(config.models))


def test_their_presence_changes_the_version_of_the_configuration() -> None:
    assert parsed({}).fingerprint() != parsed().fingerprint()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"api_key": {"file": "/etc/hostname"}}, "{env: NAME}"),
        ({"api_key": "sk-in-the-database"}, "{env: NAME}"),
        ({"api_key": {"env": "PEPPER"}}, "LLM_*"),
        ({"base_url": "https://evil.example/v1"}, "evil.example"),
        ({"base_url": "https://eu.llm.example.evil.example/v1"}, "evil.example"),
        ({"base_url": "https://${PEPPER}.llm.example/v1"}, "base_url"),
        ({"base_url": "http://eu.llm.example/v1"}, "unencrypted"),
        ({"tls": {"authorities": "/etc/hostname"}}, "cannot have this key"),
        ({"credential": {"kind": "google", "file": "/etc/hostname"}}, "cannot have this key"),
        ({"allow_plaintext": True}, "cannot have this key"),
        ({"shared_account": False}, "cannot have this key"),
        ({"kind": "nonsense"}, "no such kind"),
        ({"kind": "bedrock", "region": "eu-west-1", "base_url": None}, "amazonaws.com"),
    ],
)
def test_what_an_added_provider_may_not_say(change: dict[str, Any], word: str) -> None:
    message = refusal({"spare": {**SPARE, **change}})

    assert message.startswith("added by the admin API: providers.spare")
    assert word in message
    assert not [text for text in ("sk-", "secret") if text in message]


@pytest.mark.parametrize("value", [None, "text", 1, []])
def test_a_provider_is_a_mapping(value: Any) -> None:
    assert "providers.spare: a provider is a mapping" in refusal({"spare": value})


def test_a_model_of_a_provider_that_does_not_exist_is_refused() -> None:
    message = refusal({}, {"fast": FAST})

    assert message.startswith("added by the admin API: models.fast")


def test_mistakes_of_the_file_have_their_places() -> None:
    message = refusal(text=FILE + "nothing: 1\n")

    assert message.startswith("edge.yaml:9:1: nothing")


def test_the_names_of_a_file() -> None:
    text = FILE.replace("sk-main", '"${NOT_SET}"')

    assert {"main"} == load.names_in(text, "providers")
    assert frozenset() == load.names_in(text, "prices")
