"""Rows of hosts: each has an address, and what it takes otherwise is bent and nothing else."""

import json

import pytest

from edge_extproc.dialects.openai_chat import PLUGIN as CHAT
from edge_extproc.model.call import Call
from edge_extproc.providers.base import ProviderSettings, UpstreamCall, base_path
from edge_extproc.providers.openai_compatible import HOSTS
from edge_extproc.registry import load

BODY = (
    b'{"model": "m", "messages": [{"role":"developer", "content": "Be brief"}, {"role": "user","content":"developer"}],'
    b' "max_completion_tokens": 5, "stream":true, "stream_options": {"include_usage":true}, "top_p":1.0, "seed":7}'
)
# What each row makes of the body above, where not what OpenAI takes: renamed fields, removed ones, a role.
BENT = {
    "avian": {"max_tokens": 5},
    "cloudflare": {"max_tokens": 5},
    "cohere": {"max_tokens": 5},
    "deepinfra": {"max_tokens": 5},
    "deepseek": {"max_tokens": 5},
    "huggingface": {"max_tokens": 5},
    "llamacpp": {"max_tokens": 5},
    "lmstudio": {"max_tokens": 5},
    "mistral": {"max_tokens": 5, "stream_options": None, "random_seed": 7},
    "novita": {"max_tokens": 5},
    "nvidia": {"max_tokens": 5},
    "ollama": {"max_tokens": 5},
    "perplexity": {"max_tokens": 5},
    "together": {"max_tokens": 5},
    "zai": {"max_tokens": 5},
}
DEVELOPER = {"github", "openrouter", "xai"}
RESPONSES = {"deepseek", "fireworks", "groq", "openrouter", "vllm", "xai"}


def build(host):
    base_url = HOSTS[host].base_url.replace("{account}", "acc")
    settings = ProviderSettings("p", base_url, lambda: "secret", {"host": host})
    return load("providers", "openai_compatible").build(settings)


def ask(host, raw=BODY, dialect="openai_chat"):
    return build(host).request(UpstreamCall("chat", dialect, "m", True, "/chat/completions", raw))


@pytest.mark.parametrize("host", HOSTS)
def test_a_row_has_an_address_a_credential_and_its_quirks(host):
    row, request, bent = HOSTS[host], ask(host), BENT.get(host, {})
    told = json.loads(request.body)

    assert row.base_url.startswith("https://") is row.needs_key
    assert base_path(row.base_url).replace("{account}", "acc") + "/chat/completions" == request.path
    assert (("authorization", "Bearer secret"),) == request.headers
    assert ("developer" if host in DEVELOPER else "system") == told["messages"][0]["role"]
    assert "developer" == told["messages"][1]["content"]
    assert (bent.get("max_tokens"), None if "max_tokens" in bent else 5) == (
        told.get("max_tokens"),
        told.get("max_completion_tokens"),
    )
    assert bent.get("stream_options", {"include_usage": True}) == told.get("stream_options")
    assert bent.get("random_seed") == told.get("random_seed")
    assert () == request.dropped
    if not bent:
        system = BODY.replace(b'"role":"developer"', b'"role":"system"').replace(b"}, {", b"},{", 1)
        assert (BODY if host in DEVELOPER else system) == request.body


@pytest.mark.parametrize("host", HOSTS)
def test_a_row_says_whether_it_takes_responses(host):
    formats = build(host).formats("chat", "m")

    assert "openai_chat" == formats[0]
    assert (host in RESPONSES) == ("openai_responses" in formats)
    assert BODY == ask(host, dialect="openai_responses").body


def test_the_hosts_own_name_of_a_field_wins():
    request = ask("mistral", b'{"max_tokens":1,"max_completion_tokens":2}')

    assert b'{"max_tokens":1}' == request.body


def test_what_a_host_refuses_is_taken_out_and_named():
    request = ask("mistral", b'{"user":"me","model":"m","store":true,"stream_options":{}}')

    assert (b'{"model":"m"}', ("store", "user")) == (request.body, request.dropped)


@pytest.mark.parametrize("raw", [b"no JSON", b'{"messages":"developer"}', b'{"messages":["developer"]}', b"[]"])
def test_what_cannot_be_read_goes_as_it_is(raw):
    assert raw == ask("zai", raw).body


def test_all_other_bytes_stay():
    call = Call("openai_chat", "chat", "x", False, b'{"model":"x" ,"max_completion_tokens": 5, "a":1.00 }')

    assert b'{"model":"m", "a":1.00,"max_tokens":5 }' == ask("ollama", CHAT.splice(call, "m").body).body


def turns(*roles):
    return [{"role": role, "content": role} for role in roles]


@pytest.mark.parametrize("host", ["moonshot", "vllm", "ollama", "groq", None])
def test_a_host_that_is_not_known_to_take_developers_gets_one_system_turn_first(host):
    settings = ProviderSettings("p", "http://127.0.0.1:1/v1", None, {"host": host} if host else {})
    provider = load("providers", "openai_compatible").build(settings)
    raw = json.dumps({"model": "m", "messages": turns("system", "developer", "user", "developer")}).encode()
    told = json.loads(provider.request(UpstreamCall("chat", "openai_chat", "m", False, "/chat/completions", raw)).body)

    first = {"role": "system", "content": "system\n\ndeveloper"}
    assert [first, *turns("user"), {"role": "system", "content": "developer"}] == told["messages"]


def test_system_turns_that_cannot_be_one_stay_apart_and_those_of_the_caller_too():
    named = {"role": "developer", "content": "a", "name": "b"}
    for messages in ([*turns("system"), named], turns("system", "system", "user")):
        told = json.loads(ask("vllm", json.dumps({"messages": messages}).encode()).body)
        assert [{**m, "role": m["role"].replace("developer", "system")} for m in messages] == told["messages"]


def test_system_turns_of_parts_keep_their_parts():
    part = {"type": "text", "text": "a", "cache_control": {}}
    messages = [{"role": "system", "content": [part]}, *turns("developer")]
    told = json.loads(ask("vllm", json.dumps({"messages": messages}).encode()).body)

    assert [{"role": "system", "content": [part, {"type": "text", "text": "developer"}]}] == told["messages"]


def test_items_of_responses_have_system_for_developer_too():
    items = [*turns("developer", "user"), {"type": "reasoning"}]
    raw = json.dumps({"model": "m", "input": items}).encode()

    assert ["system", "user", None] == [
        item.get("role") for item in json.loads(ask("groq", raw, "openai_responses").body)["input"]
    ]
    assert raw == ask("xai", raw, "openai_responses").body
    for other in (b'{"input":"developer"}', b'["developer"]', b'{"input":["developer"]}'):
        assert other == ask("groq", other, "openai_responses").body


def test_mistral_gets_no_newer_fields_of_openai():
    newer = {"safety_identifier": "u1", "prompt_cache_key": "k", "prompt_cache_retention": "24h"}
    request = ask("mistral", json.dumps({"model": "m", "messages": [], **newer}).encode())

    assert tuple(sorted(newer)) == tuple(sorted(request.dropped))
    assert newer.keys().isdisjoint(json.loads(request.body))
