"""What config says of a host goes before what its kind knows, and every kind of provider hands a profile on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_extproc.config.load import parse
from edge_extproc.errors import ConfigError
from edge_extproc.exchange.adapt import adapt
from edge_extproc.exchange.parsed_call import ParsedCall
from edge_extproc.model.host import HostProfile
from edge_extproc.model.plan import Candidate
from edge_extproc.providers.base import Provider
from edge_extproc.providers.openai import OPENAI_HOST, OPENAI_PROXY
from edge_extproc.providers.openai_compatible import row
from edge_extproc.registry import load, names
from edge_extproc.worker.wiring.providers import build_providers

CHAT, MESSAGES = load("dialects", "openai_chat"), load("dialects", "anthropic_messages")
KINDS: dict[str, dict[str, Any]] = {
    "anthropic": {},
    "azure": {"base_url": "https://me.openai.azure.com"},
    "bedrock": {"region": "us-east-1"},
    "google": {},
    "openai": {},
    "openai_compatible": {"host": "groq"},
    "vertex": {},
}


HEAD = {
    "auth": {"pepper": "a pepper for tests alone"},
    "callers": [{"tenant": "dev", "keys": [{"id": "dev", "key": "edge-0123456789abcdef0123456789"}]}],
    "models": {"m": [{"provider": "p"}]},
}


def built(**provider: Any) -> Provider:
    told = {**HEAD, "providers": {"p": {"api_key": {"env": "KEY"}, **provider}}}
    return build_providers(parse(json.dumps(told), "f", environ={"KEY": "k"}, base=Path("/nowhere")))["p"]


def sent(provider: Provider, body: dict[str, Any], model: str = "m", dialect: Any = CHAT) -> Any:
    call = dialect.read_call(json.dumps({"model": "m", **body}).encode(), "chat", (), "")
    dialects = {name: load("dialects", name) for name in names("dialects")}
    return json.loads(
        adapt(ParsedCall(call, dialect, None), Candidate("p", model), dialects, {"p": provider}, {}).request.body
    )


@pytest.mark.parametrize("kind", names("providers"))
def test_every_kind_of_provider_has_a_profile_that_config_can_change(kind: str) -> None:
    plain = built(kind=kind, **KINDS[kind])
    changed = built(kind=kind, profile={"user_limit": 7, "models": {"a*": "b"}}, **KINDS[kind])

    assert isinstance(plain.profile, HostProfile)
    assert (7, "b", "c") == (changed.profile.user_limit, changed.profile.known_as("ab"), changed.profile.known_as("c"))
    assert sent(plain, {"messages": [{"role": "user", "content": "Hi"}]}, "claude-sonnet-4-5")


def test_facts_that_are_not_given_stay_the_kinds_own() -> None:
    changed = built(kind="openai", profile={"user_limit": "none", "thoughts": "as_they_came"}).profile

    assert replace(OPENAI_HOST, user_limit=None, thoughts="as they came") == changed


def test_a_hosts_own_tools_can_be_switched_off() -> None:
    assert frozenset() == built(kind="openai", profile={"hosted_tools": []}).profile.hosted_tools
    assert {"web_search"} == built(kind="openai", profile={"hosted_tools": ["web_search"]}).profile.hosted_tools


def test_a_profile_can_begin_with_another_hosts() -> None:
    proxy = {"kind": "openai", "base_url": "https://proxy.example/v1"}

    assert OPENAI_PROXY == built(**proxy).profile
    assert OPENAI_HOST == built(**proxy, profile={"like": "openai"}).profile
    assert row("deepseek").profile == built(**proxy, profile={"like": "deepseek"}).profile


@pytest.mark.parametrize(
    ("profile", "wrong"),
    [
        ({"like": "nobody"}, "no profile of this name"),
        ({"thoughts": "loud"}, "not one of as_they_came"),
        ({"user_limit": "many"}, "user_limit"),
        ({"user_limt": 3}, "user_limt"),
        ({"models": {"a": 3}}, "models"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_would_be_right(profile: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        built(kind="openai", profile=profile)


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com"])
def test_openais_own_addresses_have_openais_profile(host: str) -> None:
    assert OPENAI_HOST == built(kind="openai", base_url=f"https://{host}/v1").profile


@pytest.mark.parametrize("host", ["proxy.example", "openai.com.example", "notopenai.com"])
def test_another_address_of_kind_openai_gets_what_openai_and_others_take(host: str) -> None:
    provider = built(kind="openai", base_url=f"https://{host}/v1")
    said = {"role": "assistant", "content": "a", "reasoning_content": "b"}
    messages = [{"role": "developer", "content": "c"}, said, {"role": "user", "content": "d"}]

    body = sent(provider, {"messages": messages, "user": "u" * 65})

    assert [{"role": "system", "content": "c"}, *messages[1:]] == body["messages"]
    assert "user" not in body


def test_an_alias_is_asked_as_the_model_that_it_stands_for() -> None:
    provider = built(kind="anthropic", profile={"models": {"smart": "claude-opus-4-7"}})
    unknown = built(kind="anthropic")
    asked = {"messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": "high", "temperature": 0.5}
    thinking = {"role": "assistant", "content": [{"type": "thinking", "thinking": "a", "signature": ""}]}
    history = {"max_tokens": 5, "messages": [asked["messages"][0], thinking, asked["messages"][0]]}

    body = sent(provider, asked, "smart")

    assert ("smart", {"type": "adaptive"}, {"effort": "high"}) == (
        body["model"],
        body["thinking"],
        body["output_config"],
    )
    assert "temperature" not in body
    assert 2 == len(sent(provider, history, "smart", MESSAGES)["messages"])
    assert 3 == len(sent(unknown, history, "smart", MESSAGES)["messages"])


def test_a_deployment_takes_what_its_model_takes() -> None:
    azure = {"kind": "azure", "base_url": "https://me.openai.azure.com"}
    asked = {
        "max_tokens": 5,
        "temperature": 0.5,
        "output_config": {"effort": "high"},
        "messages": [{"role": "user", "content": "Hi"}],
    }

    known = sent(built(**azure, profile={"models": {"prod-*": "gpt-5.2"}}), asked, "prod-1", MESSAGES)
    unknown = sent(built(**azure), asked, "prod-1", MESSAGES)

    assert ("prod-1", "high", None) == (known["model"], known.get("reasoning_effort"), known.get("temperature"))
    assert (None, 0.5) == (unknown.get("reasoning_effort"), unknown.get("temperature"))


def test_an_arn_is_asked_as_the_model_behind_it() -> None:
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x"
    bedrock = built(kind="bedrock", region="us-east-1", profile={"models": {arn: "anthropic.claude-sonnet-4-5"}})

    assert ("bedrock_converse", "anthropic_messages") == bedrock.formats("chat", arn)
    assert ("bedrock_count",) == bedrock.formats("count_tokens", arn)
