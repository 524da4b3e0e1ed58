"""A cluster of one name is always the same: what would change it gives it another name."""

from __future__ import annotations

import pytest
from config_kit import ONE, read

from edge_extproc.envoy_config.clusters import provider_cluster
from edge_extproc.proxy.cluster_names import can_change, cluster_names

CHANGES = (
    "providers: {p: {kind: openai, base_url: 'http://127.0.0.1:2/v1', api_key: {env: KEY}}}\n",
    "providers: {p: {kind: openai, base_url: 'https://127.0.0.1:1/v1', api_key: {env: KEY}}}\n",
    "providers: {p: {kind: openai, base_url: 'https://other.example/v1', api_key: {env: KEY}}}\n",
    *(
        f"providers: {{p: {{kind: openai, api_key: {{env: KEY}}, {more}}}}}\n"
        for more in (
            "pool: {max_connections: 7}",
            "pool: {max_pending: 7}",
            "pool: {max_requests: 7}",
            "pool: {idle: 7s}",
            "pool: {http2: true}",
            "pool: {http2: false}",
            "pool: {keepalive: 7s}",
            "pool: {dns_refresh: 7s}",
            "tls: {server_name: other.example}",
            "location: eu",
        )
    ),
    "timeouts: {connect: 7s}\n",
    "timeouts: {first_byte: 7s}\n",
    "retries: {attempts: 7}\n",
    "retries: {budget: {percent: 7}}\n",
    "retries: {budget: {min_concurrency: 7}}\n",
    "limits: {request_body: 64MiB}\n",
    "callers: [{tenant: late, keys: [{id: dev, key: {env: KEY}}]}]\n",
    "providers: {p: {kind: openai, api_key: {env: OTHER}}}\n",
)


def test_two_configurations_agree_on_a_name_if_and_only_if_they_agree_on_the_cluster():
    found = {}
    for text in ("", ONE, *CHANGES):
        config = read(text)
        name = cluster_names(config, versioned=True)["p"]
        found.setdefault(name, []).append(provider_cluster(config, "p", config.providers["p"]))

    assert all(each == same[0] for same in found.values() for each in same)
    assert len(found) == len({repr(same[0]) for same in found.values()})
    assert len(found) > 15


def test_an_envoy_of_someone_elses_knows_each_by_its_providers_name():
    assert {"p": "provider_p"} == cluster_names(read(""), versioned=False)


@pytest.mark.parametrize(
    ("raw", "can"),
    [
        ("{}", True),
        ("{stats_config: {stats_tags: []}}", True),
        ("{dynamic_resources: {ads_config: {}}}", False),
        ("{stats_config: {stats_matcher: {reject_all: true}}}", False),
    ],
)
def test_an_envoy_whose_resources_or_statistics_are_the_operators_is_told_nothing(raw, can):
    assert can is can_change(read(f"envoy: {{raw: {raw}}}\n"))
