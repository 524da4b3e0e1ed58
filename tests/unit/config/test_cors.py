"""Which web pages may call the gateway: what may be written, and what Envoy is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_extproc.config.load import parse
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config import dynamic
from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.errors import ConfigError

CORS = "envoy.filters.http.cors"
REST = """
auth: {pepper: "a pepper of the tests"}
callers: [{tenant: dev, keys: [{id: dev, key: edge-test-key-of-tenant-dev}]}]
providers: {}
models: {}
agent: {workers: 1, sockets: /run}
"""


def configuration(text: str) -> Config:
    return parse(text + REST, "f", environ={}, base=Path("/state"))


def rendered(text: str = "") -> dict[str, Any]:
    return bootstrap(configuration(text))


def manager(found: dict[str, Any]) -> Any:
    (listener,) = found["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def policy(found: dict[str, Any]) -> Any:
    (host,) = manager(found)["route_config"]["virtual_hosts"]
    return host.get("typed_per_filter_config", {}).get(CORS)


def test_no_page_may_by_default() -> None:
    found = rendered()

    assert CORS not in [each["name"] for each in manager(found)["http_filters"]]
    assert policy(found) is None


def test_origins_are_exact_and_their_filter_comes_before_what_refuses() -> None:
    found = rendered("listen: {cors: {origins: ['https://a.example', 'http://localhost:3000']}}")
    names = [each["name"] for each in manager(found)["http_filters"]]

    assert [{"exact": "https://a.example"}, {"exact": "http://localhost:3000"}] == policy(found)[
        "allow_origin_string_match"
    ]
    assert names.index(CORS) < names.index("envoy.filters.http.ext_proc")
    assert "allow_credentials" not in policy(found)


def test_a_star_is_any_origin() -> None:
    (only,) = policy(rendered("listen: {cors: {origins: ['*']}}"))["allow_origin_string_match"]

    assert ".*" == only["safe_regex"]["regex"]


@pytest.mark.parametrize(
    ("origins", "why"),
    [
        ("[]", "no origin is given"),
        ("['https://a.example/']", "this is not an origin"),
        ("['https://a.example/path']", "this is not an origin"),
        ("['https://A.example']", "this is not an origin"),
        ("['https://*.example']", "this is not an origin"),
        ("[a.example]", "this is not an origin"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_a_mistake(origins: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        configuration(f"listen: {{cors: {{origins: {origins}}}}}")


def test_the_health_check_names_the_agents_cluster_as_it_is_called(tmp_path: Path) -> None:
    found = dynamic.render(configuration(""), dynamic.DiscoveryFiles.of(tmp_path))
    filters = found.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    (health,) = [each for each in filters if each["name"] == "envoy.filters.http.health_check"]
    (name,) = health["typed_config"]["cluster_min_healthy_percentages"]

    assert name in found.clusters


def test_each_listener_has_its_own_rules() -> None:
    found = rendered("listen: {port: 1, more: [{port: 2, cors: {origins: ['*']}}, {address: '::', port: 3}]}")
    listeners = found["static_resources"]["listeners"]
    managers = [each["filter_chains"][0]["filters"][0]["typed_config"] for each in listeners]

    assert ["edge", "edge-1", "edge-2"] == [each["name"] for each in listeners]
    assert ["edge", "edge-1", "edge-2"] == [each["route_config"]["name"] for each in managers]
    assert [False, True, False] == [CORS in [one["name"] for one in each["http_filters"]] for each in managers]
    assert [(1, None), (2, None), (3, True)] == [
        (address["port_value"], address.get("ipv4_compat"))
        for address in (each["address"]["socket_address"] for each in listeners)
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{port: 1, more: [{port: 1}]}", "listen.more[0].port: port 1 is also the port of listen.port"),
        (
            "{port: 1, more: [{port: 2}, {port: 10001}]}",
            "admin.port: port 10001 is also the port of listen.more[1].port",
        ),
        ("{port: 1, address: '::', more: [{port: 1}]}", "listen.more[0].port: port 1 is also the port of listen.port"),
        ("{port: 1, address: 0.0.0.0, more: [{port: 1}]}", "port 1 is also the port of listen.port"),
    ],
)
def test_two_listeners_cannot_have_one_port(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        configuration(f"listen: {text}")

    assert told in error.value.message


def test_one_port_at_two_addresses_is_no_mistake() -> None:
    assert 2 == len(configuration("listen: {port: 1, more: [{port: 1, address: '::1'}]}").listen.listeners())
