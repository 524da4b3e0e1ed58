"""What an older Envoy is given in place of what it cannot do, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise, permutations
from pathlib import Path

import pytest
from config_kit import mistake, read

from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.errors import ConfigError
from edge_extproc.proxy.capabilities import CAPABILITIES, releases
from edge_extproc.proxy.envoy_versions import VERSIONS, at_istio, at_version, can_guard, chains, check, lost

BOTH = "[{provider: a}, {provider: b}]"
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
    routes = [route for route in routes if "cluster_header" in route]  # the others answer without a provider

    assert {"chain_a~b", "chain_b~a"} == set(kinds)
    assert {f"envoy.clusters.{kind}"} == {each["name"] for each in kinds.values()}
    assert {"x-edge-cluster"} == {route["cluster_header"] for route in routes}
    assert [kind == "aggregate"] * 3 == ["retry_priority" in route["retry_policy"] for route in routes]
    assert not any("refresh_cluster_on_retry" in route["retry_policy"] for route in routes)


@pytest.mark.parametrize("istio", releases("istio"))
def test_the_proxy_of_an_istio_is_given_nothing_that_it_is_not_built_with(istio):
    wanted = at_istio(config("1.40", "{m: [{provider: a}, {provider: b}]}", "agent: {workers: 2}\n"), istio)
    check(wanted)
    text = str(bootstrap(wanted))

    assert "envoy.clusters.aggregate" in text
    for missing in ("priority_group", "PriorityGroup", "composite", "metadata_matcher", "DynamicMetadataInput"):
        assert missing not in text
    assert "emit_client_span" not in text


def test_an_istio_brings_the_streams_of_a_request_to_one_of_several_workers_and_guards():
    wanted = at_istio(config("1.40", "{m: [{provider: a}, {provider: b}]}", "agent: {workers: 4}\n"), "1.29")
    found = bootstrap(wanted)["static_resources"]
    (agent,) = [each for each in found["clusters"] if each["name"] == "agent"]
    (options,) = agent["typed_extension_protocol_options"].values()
    manager = found["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]

    assert "hash_policy" in options
    assert can_guard(wanted)
    assert [
        "envoy.filters.http.header_mutation",
        "envoy.filters.http.ext_proc",
        "envoy.filters.http.set_filter_state",
        "envoy.filters.http.router",
    ] == [each["name"] for each in manager["http_filters"]]


def test_what_an_istio_cannot_do_is_refused_and_what_it_does_less_well_is_told():
    hedged = at_istio(config("1.40", f"{{m: {{candidates: {BOTH}, hedge: {{}}}}}}"), "1.30")
    with pytest.raises(ConfigError, match=r"models\.m\.hedge: the proxy of Istio 1\.30 has no composite clusters"):
        check(hedged)

    told = " ".join(lost(hedged))
    assert "hedged with a second provider" in told
    assert "held back" not in told


def test_every_target_has_clusters_for_an_order_and_a_later_release_of_a_family_can_all_that_an_earlier_can():
    assert set(CAPABILITIES) == {f"{family}-{each}" for family in ("envoy", "istio") for each in releases(family)}
    for family in ("envoy", "istio"):
        found = [CAPABILITIES[f"{family}-{each}"] for each in releases(family)]

        assert all("aggregate" in each for each in found)
        assert all(earlier <= later for earlier, later in pairwise(found))


def test_a_proxy_is_an_envoy_or_an_istios_and_not_both():
    both = "envoy: {version: '1.38', istio: '1.30'}\n"

    assert "both version and istio are given; leave one of them out" in mistake(both)


def test_an_envoy_that_cannot_guard_is_given_no_guard():
    assert "edge.guard" not in str(bootstrap(config("1.36", "{m: [{provider: a}, {provider: b}]}")))
    assert "edge.guard" in str(bootstrap(config("1.37", "{m: [{provider: a}, {provider: b}]}")))


def test_envoy_1_40_is_given_no_chains():
    found = bootstrap(config("1.40", "{m: [{provider: a}, {provider: b}]}"))

    assert not [c["name"] for c in found["static_resources"]["clusters"] if c["name"].startswith("chain_")]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_loss_is_told_and_there_is_none_at_1_40(version):
    assert (version == "1.40") is (lost(config(version, "{m: [{provider: a}]}")) == ())


def test_a_callers_address_is_not_logged_where_it_cannot_be_masked():
    assert "DOWNSTREAM_REMOTE_ADDRESS" not in str(bootstrap(config("1.37", "{m: [{provider: a}]}")))
    assert "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(24)" in str(bootstrap(config("1.38", "{m: [{provider: a}]}")))


@pytest.mark.parametrize(
    ("version", "models", "more", "told"),
    [
        (
            "1.39",
            f"{{m: {{candidates: {BOTH}, fallbacks: {{context_length: n}}}}, n: [{{provider: c}}]}}",
            "agent: {workers: 1}\n",
            r"models\.m\.fallbacks: Envoy 1\.39 has no priority groups, which they need",
        ),
        (
            "1.36",
            f"{{m: {{candidates: {BOTH}, hedge: {{}}}}}}",
            "agent: {workers: 1}\n",
            r"models\.m\.hedge: Envoy 1\.36 has no composite clusters",
        ),
        (
            "1.36",
            f'{{m: {{candidates: {BOTH}, guard: "on"}}}}',
            "agent: {workers: 1}\n",
            r"models\.m\.guard: Envoy 1\.36 cannot hold a response",
        ),
        ("1.36", f"{{m: {BOTH}}}", "agent: {workers: 2}\n", r"agent\.workers: Envoy 1\.36 cannot send all streams"),
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
