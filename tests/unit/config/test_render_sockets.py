"""The routes and clusters of WebSockets, which only a provider with `sockets` has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edge_extproc.config.load import parse
from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.errors import ConfigError

ON = "providers: {p: {kind: openai, api_key: {env: KEY}, sockets: true}}\n"


LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
OFF = ON.replace(", sockets: true", "")


def rendered(text: str = "", providers: str = OFF) -> dict[str, Any]:
    rest = """
auth: {pepper: "${PEPPER}"}
callers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}}]}]
models: {}
agent: {workers: 2, sockets: /run}
"""
    environ = {"KEY": "edge-0123456789abcdef0123456789", "PEPPER": "pepper-pepper-pepper"}
    return bootstrap(parse(f"{text}\n{providers}{rest}", "f", environ=environ, base=Path("/state")))


def manager(found: dict[str, Any]) -> dict[str, Any]:
    (listener,) = found["static_resources"]["listeners"]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]  # type: ignore[no-any-return]  # JSON


def cluster(found: dict[str, Any], name: str) -> dict[str, Any]:
    (only,) = [c for c in found["static_resources"]["clusters"] if c["name"] == name]
    return only  # type: ignore[no-any-return]  # JSON


def routes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return manager(found)["route_config"]["virtual_hosts"][0]["routes"]  # type: ignore[no-any-return]  # JSON


def sockets(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [route for route in routes(found) if "upgrade_configs" in route.get("route", {})]


def test_without_sockets_nothing_permits_an_upgrade() -> None:
    found = rendered()

    assert [] == sockets(found)
    assert "upgrade_configs" not in json.dumps(found)
    assert "socket_" not in {c["name"][:7] for c in found["static_resources"]["clusters"]}


def test_all_other_parts_are_as_without_sockets() -> None:
    plain, found = rendered(), rendered(providers=ON)
    removed = [route for route in routes(found) if route in sockets(found)]
    for route in removed:
        routes(found).remove(route)
    clusters = found["static_resources"]["clusters"]
    clusters.remove(cluster(found, "socket_p"))
    text = json.dumps(found).replace("this path has no WebSockets here;", "this gateway does not support WebSockets;")

    assert 2 == len(removed)
    assert plain == json.loads(text)


def test_a_session_has_time_limits_and_streamed_bodies() -> None:
    found = rendered("timeouts: {socket: 20m, socket_idle: 90s}", ON)
    for route in sockets(found):
        action = route["route"]
        assert "90s" == action["idle_timeout"]
        assert "1200s" == action["max_stream_duration"]["max_stream_duration"]
        assert [{"upgrade_type": "websocket"}] == action["upgrade_configs"]
        assert "retry_policy" not in action
        (filter_config,) = route["typed_per_filter_config"].values()
        mode = filter_config["overrides"]["processing_mode"]
        assert {"STREAMED"} == {mode["request_body_mode"], mode["response_body_mode"]}


def test_the_connection_to_the_provider_is_http_1() -> None:
    found = rendered(providers=ON)

    options = cluster(found, "socket_p")["typed_extension_protocol_options"]
    http = options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    assert "http_protocol_options" in http["explicit_http_config"]


def test_a_kind_without_websockets_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no WebSockets"):
        rendered(providers="providers: {p: {kind: anthropic, api_key: {env: KEY}, sockets: true}}\n")


@pytest.mark.parametrize("path", ["/v1/realtime", "/openai/v1/realtime", "/responses", "/openai/responses", LIVE])
def test_the_paths_of_sessions(path: str) -> None:
    pattern = next(
        route["match"]["safe_regex"]["regex"]
        for route in sockets(rendered(providers=ON))
        if "safe_regex" in route["match"]
    )

    assert re.fullmatch(pattern, path)
    assert not re.fullmatch(pattern, f"{path}/x")
    assert not re.fullmatch(pattern, f"/x{path}")


# --- sockets.responses: requests

BRIDGE = "sockets: {responses: requests}"


def test_requests_add_the_routes_and_the_cluster_of_the_workers_own_servers() -> None:
    plain, found = rendered(), rendered(BRIDGE)
    bridge = cluster(found, "responses_bridge")
    endpoints = bridge["load_assignment"]["endpoints"][0]["lb_endpoints"]
    paths = [each["endpoint"]["address"]["pipe"]["path"] for each in endpoints]
    removed = [route for route in routes(found) if route in sockets(found)]
    for route in removed:
        routes(found).remove(route)
    found["static_resources"]["clusters"].remove(bridge)
    text = json.dumps(found).replace("this path has no WebSockets here;", "this gateway does not support WebSockets;")

    assert ["/run/bridge-0.sock", "/run/bridge-1.sock"] == paths
    assert 2 == len(removed)
    assert plain == json.loads(text)


def test_the_first_attempt_to_an_own_server_is_not_encoded_again() -> None:
    hedged = "envoy: {version: '1.39'}"
    text = json.dumps(dynamic_manager(f"{BRIDGE}\n{hedged}"))

    assert '"prefix": "responses_bridge"' in text


def dynamic_manager(text: str) -> dict[str, Any]:
    rest = """
auth: {pepper: "${PEPPER}"}
callers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}}]}]
models: {}
"""
    environ = {"KEY": "edge-0123456789abcdef0123456789", "PEPPER": "pepper-pepper-pepper"}
    config = parse(f"{text}\n{OFF}{rest}", "f", environ=environ, base=Path("/state"))
    return manager(bootstrap(config, passes_over=True))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("envoy: {source_limit: {requests_per_second: 5}}", "leave envoy.source_limit out"),
        ("agent: {tcp: {address: 127.0.0.1}}", "leave agent.tcp out"),
        (
            f"listen: {{tls: {{generate: true, client_ca: {__file__}, client_certificate: required}}}}",
            "a listener without required client certificates",
        ),
    ],
)
def test_what_requests_cannot_have(more: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dynamic_manager(f"{BRIDGE}\n{more}")
