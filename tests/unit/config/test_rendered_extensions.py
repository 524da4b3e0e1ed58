"""The extensions that renderings use: each has a row, and what every rendering uses is what every proxy must have."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_kit import read

from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.errors import ConfigError
from edge_extproc.proxy import extensions
from edge_extproc.proxy.capabilities import CAPABILITIES
from edge_extproc.proxy.envoy_versions import at_capabilities
from edge_extproc.proxy.rendered_extensions import EXTENSION_OF_FIELD, EXTENSION_OF_TYPE, WITHOUT_AN_EXTENSION, used_by

ROOT = Path(__file__).parents[3]
LOCAL = "providers: {p: {kind: openai, base_url: 'http://127.0.0.1:1/v1', api_key: x}}\n"
ORDERED = (
    "providers: {p: {kind: openai, api_key: x}, q: {kind: openai, api_key: x}}\n"
    "models: {m: {candidates: [{provider: p}, {provider: q}]}}\n"
)
# Each part of a configuration that adds or takes away an extension.
PARTS = {
    "one provider by TLS": "models: {m: [{provider: p}]}\nproviders: {p: {kind: openai, api_key: x}}\n",
    "a provider of this machine": "models: {m: [{provider: p}]}\n" + LOCAL,
    "an order": ORDERED,
    "no guard": ORDERED.replace("q}]", 'q}], guard: "off"'),
    "agents over TCP": (
        "agent: {workers: 1, tcp: {address: 127.0.0.1, port: 9000, hosts: [agents], allow_plaintext: true}}\n"
    ),
    "ext_authz": "auth: {pepper: pepper-pepper-pepper, trust_ext_authz: true}\n",
    "browsers": "listen: {cors: {origins: ['https://a.example']}}\n",
    "a log file": "envoy: {access_log: /var/log/envoy.log}\n",
    "no log": "envoy: {access_log: 'off'}\n",
    "a source limit": "envoy: {source_limit: {requests_per_second: 50}}\n",
    "memory": "envoy: {memory: 1GiB}\n",
    "traces by gRPC": "telemetry: {otlp: {endpoint: 'http://127.0.0.1:4317', environment: lab}}\n",
    "traces by HTTP": "telemetry: {otlp: {endpoint: 'https://collector.example/v1/traces', protocol: http}}\n",
}


@cache
def rendered(part: str, proxy: str) -> dict[str, Any]:
    text = PARTS[part] + ("" if "models:" in PARTS[part] else "models: {m: [{provider: p}]}\n")
    return bootstrap(at_capabilities(read(text), tuple(sorted(CAPABILITIES[proxy]))))


ALL = [(part, proxy) for part in PARTS for proxy in CAPABILITIES]


# With those that have a listener by TLS.
EXAMPLES = [json.loads(path.read_text()) for path in sorted((ROOT / "envoy" / "examples").glob("*/envoy.json"))]


def test_what_every_rendering_uses_is_what_every_proxy_must_have() -> None:
    found = [used_by(each) for each in (*EXAMPLES, *(rendered(*each) for each in ALL))]

    assert frozenset.intersection(*found) == extensions.NEEDED


@pytest.mark.parametrize("part", PARTS)
def test_each_type_of_a_rendering_has_a_row(part: str) -> None:
    found = frozenset[str]().union(*(used_by(rendered(part, proxy)) for proxy in CAPABILITIES))

    assert set() == found - {*EXTENSION_OF_TYPE.values(), *EXTENSION_OF_FIELD.values()}


def test_each_example_has_rows() -> None:
    """And the patches for Istio."""
    patches = [yaml.safe_load(path.read_text()) for path in (ROOT / "istio").glob("*/envoyfilter.yaml")]
    found = used_by([*EXAMPLES, *patches])

    assert set() == found - {*EXTENSION_OF_TYPE.values(), *EXTENSION_OF_FIELD.values()}
    assert "envoy.transport_sockets.tls" in found


def test_each_row_is_used_by_a_rendering() -> None:
    """So a row that nothing needs is removed, and the parts above are all parts."""
    texts = str([*EXAMPLES, *(rendered(*each) for each in ALL)])
    types = set(re.findall(r"type\.googleapis\.com/([\w.]+)", texts))

    assert {*EXTENSION_OF_TYPE, *WITHOUT_AN_EXTENSION} == types


def test_each_extension_that_the_code_names_has_a_row() -> None:
    """A part of a configuration that is missing above would be found here."""
    code = "".join(path.read_text() for path in (ROOT / "edge_extproc" / "envoy_config").glob("*.py"))
    named = set(re.findall(r'(?:extension\(\s*|"name": )"(envoy\.[\w.]+)"', code))

    unlisted = {"envoy.resource_monitors.global_downstream_max_connections"}
    assert len(named) > 15
    assert set() == named - {*EXTENSION_OF_TYPE.values()} - unlisted


def test_an_unknown_type_is_taken_for_an_extension_that_no_proxy_has() -> None:
    config = {"@type": "type.googleapis.com/envoy.extensions.new.v3.New", "inner": [{"type": "STATIC"}]}

    assert {"envoy.extensions.new.v3.New", "envoy.cluster.static"} == used_by(config)


@pytest.mark.parametrize(
    ("part", "lacks"),
    [
        ("one provider by TLS", "envoy.transport_sockets.tls"),
        ("one provider by TLS", "envoy.cluster.dns"),
        ("one provider by TLS", "envoy.filters.listener.http_inspector"),
        ("browsers", "envoy.filters.http.cors"),
        ("ext_authz", "envoy.filters.http.ext_authz"),
        ("a source limit", "envoy.filters.http.local_ratelimit"),
        ("traces by gRPC", "envoy.tracers.opentelemetry"),
        ("a log file", "envoy.access_loggers.file"),
    ],
)
def test_a_proxy_without_what_one_configuration_needs_is_refused_for_it_alone(part: str, lacks: str) -> None:
    has = {*EXTENSION_OF_TYPE.values(), *EXTENSION_OF_FIELD.values()} - {lacks}
    data = "\n".join(has).encode()
    extensions.capabilities(data, "f")

    with pytest.raises(ConfigError, match=rf"f: this proxy has no {re.escape(lacks)}, and this configuration needs"):
        extensions.check_rendering(rendered(part, "envoy-1.40"), data, "f")


def test_a_proxy_that_has_the_names_of_envoys_build_files_is_accepted() -> None:
    has = {*EXTENSION_OF_TYPE.values(), *EXTENSION_OF_FIELD.values()}
    data = "\n".join(each.replace("envoy.cluster.", "envoy.clusters.") for each in has).encode()

    extensions.check_rendering(rendered("one provider by TLS", "envoy-1.40"), data, "f")
