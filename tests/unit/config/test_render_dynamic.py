"""What Envoy is given in files: which file a change is in, and that both sides call a cluster the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from config_kit import TWO, read
from player import Stage

from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.envoy_config.dynamic import DiscoveryFiles, DynamicResources, discovered, render
from edge_extproc.model.plan import Candidate, Plan
from edge_extproc.proxy.cluster_names import cluster_names

FILES = DiscoveryFiles.of(Path("/run/edge"))
MODELS = "models: {m: [{provider: p}, {provider: q}]}\n"
PLAN = Plan((Candidate("p", "m"), Candidate("q", "m")))


def rendered(text: str) -> DynamicResources:
    return render(read(text), FILES)


@pytest.mark.parametrize(
    ("more", "changed"),
    [
        ("callers: [{tenant: late, keys: [{id: dev, key: {env: KEY}}]}]\n", set()),
        ("retries: {attempts: 2, on_status: [408]}\n", {"routes"}),
        ("timeouts: {request: 5m, first_byte: 5s}\n", {"routes"}),
        ("timeouts: {client_idle: 5m}\n", {"listeners"}),
        ("timeouts: {connect: 1s}\n", {"clusters"}),
        ("limits: {request_headers: 8KiB}\n", {"listeners"}),
        ("limits: {connections: 7}\n", {"bootstrap"}),
        ("models: {m: {candidates: [{provider: p}, {provider: q}], hedge: {}}}\n", {"clusters"}),
    ],
)
def test_a_change_is_in_as_few_files_as_can_be(more, changed):
    old, new = rendered(TWO), rendered(TWO + more)

    parts = ("bootstrap", "clusters", "listeners", "routes")
    assert changed == {part for part in parts if getattr(old, part) != getattr(new, part)}


def test_no_cluster_that_stays_changes():
    old, new = rendered(TWO), rendered(TWO.replace("127.0.0.1:2", "127.0.0.1:3") + "limits: {request_body: 64MiB}\n")
    both = old.clusters.keys() & new.clusters.keys()

    assert ["provider_p"] == [name.partition("@")[0] for name in both]
    assert all(old.clusters[name] == new.clusters[name] for name in both)


@pytest.mark.parametrize("version", ["1.36", "1.37", "1.40"])
def test_the_agent_and_envoy_call_each_cluster_the_same(version):
    hedge = "" if version == "1.36" else "h: {candidates: [{provider: p}, {provider: q}], hedge: {}}"
    config = read(
        TWO + f'envoy: {{version: "{version}"}}\nmodels: {{m: [{{provider: p}}, {{provider: q}}], {hedge}}}\n'
    )
    chains = version != "1.40"
    gateway = replace(Stage().gateway, clusters=cluster_names(config, versioned=True), chains=chains)
    plans = [PLAN, replace(PLAN, candidates=PLAN.candidates[:1])] + ([replace(PLAN, hedged=True)] if hedge else [])
    named = {name for plan in plans for name in (*gateway.order(plan), *dict(gateway.cluster_header(plan)).values())}

    assert len(named) > 1
    assert named <= render(config, FILES).clusters.keys()


def test_a_cluster_of_several_names_them_as_they_are_called():
    found = rendered(TWO + "models: {h: {candidates: [{provider: p}, {provider: q}], hedge: {}}}\n").clusters
    pair = next(cluster for name, cluster in found.items() if name.startswith("pair_p"))

    assert {each["name"] for each in pair["cluster_type"]["typed_config"]["clusters"]} <= found.keys()


def test_statistics_go_on_under_the_plain_name():
    assert {"agent", "provider_p", "provider_q"} == {c["alt_stat_name"] for c in rendered(TWO).clusters.values()}


def test_the_listener_asks_the_agent_by_the_name_that_it_has():
    found = rendered(TWO)
    (agent,) = (name for name in found.clusters if name.startswith("agent"))
    text = json.dumps(found.listeners)

    assert f'"cluster_name": "{agent}"' in text
    assert '"cluster_name": "agent"' not in text


def test_what_an_operator_adds_stays_and_may_name_our_clusters():
    extra = {
        "name": "extra",
        "filter_chains": [{"filters": [{"name": "tcp", "typed_config": {"cluster": "provider_p"}}]}],
    }
    own = {"clusters": [{"name": "mine"}], "listeners": [extra]}
    found = rendered(TWO + f"envoy: {{raw: {{static_resources: {json.dumps(own)}}}}}\n")
    (p,) = (name for name in found.clusters if name.startswith("provider_p"))

    assert [{"name": "mine"}] == found.bootstrap["static_resources"]["clusters"]
    assert ["edge", "extra"] == [listener["name"] for listener in found.listeners]
    assert p == found.listeners[1]["filter_chains"][0]["filters"][0]["typed_config"]["cluster"]


def test_the_whole_is_what_a_static_bootstrap_with_a_hedge_would_be():
    config = read(TWO + "models: {h: {candidates: [{provider: p}, {provider: q}], hedge: {}}}\n")

    assert bootstrap(config) == render(config, FILES).whole


def test_a_file_says_what_kind_its_resources_are():
    assert {
        "version_info": "7",
        "resources": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "c"}],
    } == json.loads(discovered("7", "clusters", [{"name": "c"}]))
