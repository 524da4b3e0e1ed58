"""What an older Envoy is given in place of what it cannot do, and what is refused."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import pytest
from config_kit import read

from edge_extproc.config.envoy_versions import VERSIONS, at_version, chains, check, lost
from edge_extproc.config.render_envoy import bootstrap
from edge_extproc.errors import ConfigError

PROVIDERS = "providers: {" + ", ".join(f"{p}: {{kind: openai, api_key: x}}" for p in "abcdefghij") + "}\n"


def config(version: str, models: str, more: str = "agent: {workers: 1}\n"):
    return read(f'envoy: {{version: "{version}"}}\n{more}{PROVIDERS}models: {models}\n', Path("/state"))


def test_any_candidate_may_be_first_and_the_others_follow_as_config_has_them():
    found = {"".join(chain) for chain in chains(config("1.37", "{m: [{provider: a}, {provider: b}, {provider: c}]}"))}

    assert {"ab", "ac", "ba", "bc", "ca", "cb", "abc", "bac", "cab"} == found


def test_a_chain_is_no_longer_than_there_are_tries_and_rules_have_theirs():
    rules = "rules: [{when: {stream: true}, candidates: [{provider: d}, {provider: e}]}]"
    models = f"{{m: {{candidates: [{{provider: a}}, {{provider: b}}, {{provider: c}}], {rules}}}}}"
    found = chains(config("1.37", models, "retries: {attempts: 2}\nagent: {workers: 1}\n"))

    assert {*permutations("abc", 2), *permutations("de", 2)} == set(found)


@pytest.mark.parametrize(("version", "kind"), [("1.36", "aggregate"), ("1.37", "composite"), ("1.39", "composite")])
def test_an_order_is_a_cluster_that_the_agent_names_in_a_header(version, kind):
    found = bootstrap(config(version, "{m: [{provider: a}, {provider: b}]}"))["static_resources"]
    kinds = {c["name"]: c["cluster_type"] for c in found["clusters"] if c["name"].startswith("chain_")}
    manager = found["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = [route["route"] for route in manager["route_config"]["virtual_hosts"][0]["routes"]]

    assert {"chain_a~b", "chain_b~a"} == set(kinds)
    assert {f"envoy.clusters.{kind}"} == {each["name"] for each in kinds.values()}
    assert {"x-edge-cluster"} == {route["cluster_header"] for route in routes}
    assert [kind == "aggregate"] * 3 == ["retry_priority" in route["retry_policy"] for route in routes]
    assert not any("refresh_cluster_on_retry" in route["retry_policy"] for route in routes)


def test_envoy_1_40_is_given_no_chains():
    found = bootstrap(config("1.40", "{m: [{provider: a}, {provider: b}]}"))

    assert not [c["name"] for c in found["static_resources"]["clusters"] if c["name"].startswith("chain_")]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_loss_is_told_and_there_is_none_at_1_40(version):
    assert (version == "1.40") is (lost(config(version, "{m: [{provider: a}]}")) == ())


def test_a_callers_address_is_not_logged_where_it_cannot_be_masked():
    assert "DOWNSTREAM_REMOTE_ADDRESS" not in str(bootstrap(config("1.37", "{m: [{provider: a}]}")))
    assert "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)" in str(bootstrap(config("1.38", "{m: [{provider: a}]}")))


BOTH = "[{provider: a}, {provider: b}]"


@pytest.mark.parametrize(
    ("version", "models", "more", "told"),
    [
        (
            "1.39",
            f"{{m: {{candidates: {BOTH}, fallbacks: {{context_length: n}}}}, n: [{{provider: c}}]}}",
            "agent: {workers: 1}\n",
            r"models\.m\.fallbacks: they need Envoy 1\.40, and envoy\.version is 1\.39",
        ),
        (
            "1.36",
            f"{{m: {{candidates: {BOTH}, hedge: {{}}}}}}",
            "agent: {workers: 1}\n",
            r"models\.m\.hedge: it needs Envoy 1\.37",
        ),
        (
            "1.36",
            f'{{m: {{candidates: {BOTH}, guard: "on"}}}}',
            "agent: {workers: 1}\n",
            r"models\.m\.guard: it needs Envoy 1\.37",
        ),
        ("1.36", f"{{m: {BOTH}}}", "agent: {workers: 2}\n", r"agent\.workers: Envoy 1\.36 cannot bring"),
        (
            "1.37",
            "{m: [" + ", ".join(f"{{provider: {p}}}" for p in "abcdefghij") + "]}",
            "retries: {attempts: 9}\nagent: {workers: 1}\n",
            rf"needs a cluster for each order of candidates, {sum(10 * math.comb(9, k) for k in range(1, 9))} of them",
        ),
    ],
)
def test_what_an_older_envoy_cannot_do_is_refused_with_what_can(version, models, more, told):
    wanted = config(version, models, more)

    with pytest.raises(ConfigError, match=told):
        check(wanted)
    check(at_version(wanted, "1.40"))
