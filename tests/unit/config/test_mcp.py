"""The section `mcp`, what callers may use of servers, and what comes of both for Envoy and the workers."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from config_kit import mistake, read

from edge_extproc.auth.merge import merge_policies
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.proxy.cluster_names import mcp_cluster_names
from edge_extproc.worker.wiring.gateway import metric_names
from edge_extproc.worker.wiring.mcp import build_mcp

SERVERS = """
mcp:
  url: https://gateway.example/
  servers:
    files:
      {base_url: "https://files.example/mcp/", api_key: {env: KEY}, prices: {read: 0.01, "w*": "0.5"}, timeout: 30m}
    local: {base_url: "http://127.0.0.1:9/", idle_timeout: 1m, headers: {x-api-key: {env: OTHER}}}
callers:
  - tenant: dev
    mcp: {files: {tools: [read, "w*"], resources: ["file:///*"]}, "l*": {prompts: ["*"]}}
    keys: [{id: dev, key: {env: KEY}, policy: {mcp: {files: {tools: [read]}}}}]
"""


def test_servers_and_their_defaults() -> None:
    config = read(SERVERS)
    files, local = config.mcp.servers.values()

    assert "https://gateway.example" == config.mcp.url
    assert ("/mcp", "files.example", 443, True) == (
        files.path,
        files.endpoint.host,
        files.endpoint.port,
        files.endpoint.tls,
    )
    assert ({"read": 10_000, "w*": 500_000}, timedelta(minutes=30)) == (dict(files.prices), files.timeout)
    assert ("/", None, timedelta(hours=1), timedelta(minutes=1)) == (
        local.path,
        local.api_key,
        local.timeout,
        local.idle_timeout,
    )
    assert {} == dict(read("").mcp.servers)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("files:\n", "a.b:\n", "this is not a server's name"),
        ("https://files.example/mcp/", "http://files.example/mcp", "unencrypted to another machine"),
        ("https://files.example/mcp/", "ftp://files.example", "does not begin with https://"),
        ("https://files.example/mcp/", "https://files.example/mcp?a=b", "a query or a fragment"),
        ("https://gateway.example/", "gateway.example", "this is not the URL of a host"),
        ("https://gateway.example/", "https://gateway.example/path", "a path, a query or a fragment"),
        ("https://gateway.example/", "https://gateway.example:port", "this is not a URL"),
        ("https://gateway.example/", "https://user@gateway.example", "this is not the URL of a host"),
        ("read: 0.01", "read: -1", "this is not an amount of money"),
        ("timeout: 30m}", "sockets: true}", "sockets"),
        ("timeout: 30m}", "audiences: [a]}", "no issuer has the audience 'a'"),
        ("x-api-key", "X-Key", "this is not a header's name"),
        ("x-api-key", "mcp-session-id", "this header has a meaning of its own"),
        ("x-api-key", "content-type", "this header has a meaning of its own"),
        ("x-api-key", "transfer-encoding", "this header has a meaning of its own"),
        ("timeout: 30m}", "headers: {authorization: x}}", "both api_key and the header authorization are given"),
        ("{files: {tools: [read, ", "{fils: {tools: [read, ", "there is no MCP server 'fils'; have files, local"),
        ("policy: {mcp: {files", "policy: {mcp: {fils", "there is no MCP server 'fils'; have files, local"),
        ("resources: [", "resource: [", "resource"),
    ],
)
def test_mistakes(old: str, new: str, told: str) -> None:
    assert old in SERVERS
    assert told in mistake(SERVERS.replace(old, new))


def test_more_mistakes() -> None:
    assert "there is no MCP server 'x'; have none" in mistake("roles: {r: {mcp: {x: {}}}}")
    assert "MCP needs routes of its own" in mistake(SERVERS + 'envoy: {istio: "1.29"}\n')
    rule = "guardrails: {rules: [{name: r, detect: {words: {words: [a]}}, action: block, for: {models: [MODEL]}}]}\n"
    assert read(SERVERS + rule.replace("MODEL", "files/*")).guardrails.rules
    assert "there is no model 'other/*'" in mistake(SERVERS + rule.replace("MODEL", "other/*"))


def test_what_the_workers_know() -> None:
    config = read(SERVERS)
    settings = build_mcp(config, versioned_clusters=False)
    files = settings.servers["files"]

    assert (("authorization", "Bearer edge-0123456789abcdef0123456789"),) == files.credentials
    assert (("x-api-key", "edge-another-key-0123456789abcdef"),) == settings.servers["local"].credentials
    assert "edge-another-key" not in repr(config)
    assert (Decimal("0.01"), Decimal("0.5"), Decimal(0)) == tuple(map(files.price_of, ("read", "write", "x")))
    assert ("mcp_files", "https://gateway.example") == (files.cluster, settings.url)
    assert settings.grants["dev"].allows("files", "tools", "write")
    assert settings.grants["dev"].allows("local", "prompts", "any")
    assert not settings.grants["dev"].allows("local", "tools", "any")
    access = merge_policies(config)
    assert access is not None
    names = metric_names(config)
    assert {"files/read"} <= names.models
    assert not {"files/w*"} & names.models
    assert {"files", "local"} <= names.providers


def test_the_name_of_a_cluster_changes_with_its_address() -> None:
    first = mcp_cluster_names(read(SERVERS), versioned=True)
    moved = mcp_cluster_names(read(SERVERS.replace("files.example", "other.example")), versioned=True)

    assert first["files"] != moved["files"]
    assert first["local"] == moved["local"]
    assert first["files"].startswith("mcp_files@")


JWT = "auth: {pepper: pepper-pepper-pepper, jwt: [{issuer: i, jwks_url: 'https://i/k', audiences: [a], tenant: dev}]}\n"


def rendered(config: Config) -> tuple[list[Any], list[str]]:
    """The routes of the first listener, and the names of the clusters."""
    resources = bootstrap(config)["static_resources"]
    (manager,) = resources["listeners"][0]["filter_chains"][0]["filters"]
    routes = manager["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
    return routes, [cluster["name"] for cluster in resources["clusters"]]


def test_each_server_has_routes_and_a_cluster() -> None:
    routes, clusters = rendered(read(SERVERS))
    by_name = {route["name"]: route for route in routes}
    before, after = by_name["mcp-files-request"], by_name["mcp-files"]

    assert {"mcp_files", "mcp_local"} <= set(clusters)
    assert "/mcp/files" == before["match"]["path"]
    assert "x-edge-cluster" == before["route"]["cluster_header"] == after["route"]["cluster_header"]
    assert [("x-edge-route", "mcp/files")] == [
        (each["name"], each["string_match"]["exact"]) for each in after["match"]["headers"]
    ]
    assert before["typed_per_filter_config"] == after["typed_per_filter_config"]
    overrides = before["typed_per_filter_config"]["envoy.filters.http.ext_proc"]["overrides"]
    assert "BUFFERED" == overrides["processing_mode"]["request_body_mode"]
    assert {"key": "x-edge-role", "value": "mcp"} in overrides["grpc_service"]["initial_metadata"]
    assert "mcp-files-metadata" not in by_name
    assert names_before_llm(routes) == [name for name in by_name if name.startswith("mcp-")]


def names_before_llm(routes: list[Any]) -> list[str]:
    names = [route["name"] for route in routes]
    first = next(n for n, name in enumerate(names) if name.startswith("llm"))
    return [name for name in names[:first] if "mcp" in name]


def test_the_metadata_has_a_route_where_tokens_are_accepted() -> None:
    routes, _ = rendered(read(JWT + SERVERS))

    assert "/.well-known/oauth-protected-resource/mcp/files" in [route["match"].get("path") for route in routes]


def test_ext_authz_does_not_decide_about_mcp() -> None:
    trusted = "auth: {pepper: pepper-pepper-pepper, trust_ext_authz: true}\n"
    routes, _ = rendered(read(trusted + SERVERS))
    (route,) = [route for route in routes if route["name"] == "mcp-files-request"]

    assert route["typed_per_filter_config"]["envoy.filters.http.ext_authz"]["disabled"]


def test_the_example_of_the_documentation_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text("utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    written = re.sub(r"\{env: \w+\}", "{env: KEY}", example)
    config = read(written)

    assert ["github"] == list(config.mcp.servers)
    assert ("search_*", "get_*", "create_issue") == config.callers[0].mcp["github"].tools


def test_nothing_changes_without_servers() -> None:
    routes, clusters = rendered(read(""))

    assert not [route for route in routes if "mcp" in route["name"]]
    assert not [name for name in clusters if name.startswith("mcp")]
