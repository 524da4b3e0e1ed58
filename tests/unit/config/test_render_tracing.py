"""What Envoy is told of tracing. Real Envoy checks it where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running_envoy import envoy_binary

from edge_extproc.config.load import parse
from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.envoy_config.validate import validate
from edge_extproc.errors import ConfigError

KEY = "edge-0123456789abcdef0123456789"


def rendered(otlp: str) -> dict[str, Any]:
    text = f"""
telemetry: {{{otlp}}}
providers: {{p: {{kind: openai, api_key: {KEY}}}}}
auth: {{pepper: pepper-pepper-pepper}}
callers: [{{tenant: dev, keys: [{{id: dev, key: {KEY}}}]}}]
models: {{}}
"""
    return bootstrap(parse(text, "f", environ={}, base=Path("/state")))


def manager(found: dict[str, Any]) -> dict[str, Any]:
    (listener,) = found["static_resources"]["listeners"]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


WANTED = {
    "grpc": "otlp: {endpoint: 'http://127.0.0.1:4317', environment: lab, sampling: 25}",
    "http": "otlp: {endpoint: 'http://127.0.0.1:4318', protocol: http}",
    "tls": "otlp: {endpoint: 'https://collector.example:4317'}",
}


@pytest.mark.envoy
@pytest.mark.parametrize("otlp", WANTED.values(), ids=WANTED)
def test_envoy_takes_it(otlp: str) -> None:
    validate(rendered(otlp), envoy_binary())


def test_envoy_samples_as_config_says() -> None:
    assert {"value": 25} == manager(rendered(WANTED["grpc"]))["tracing"]["random_sampling"]


@pytest.mark.parametrize(
    "otlp", ["", "otlp: {endpoint: 'http://localhost:4317', headers: {authorization: secret-of-it}}"]
)
def test_without_traces_or_with_a_secret_envoy_makes_no_span(otlp: str) -> None:
    found = rendered(otlp)

    assert "tracing" not in manager(found)
    assert "tracing" not in found["layered_runtime"]["layers"][0]["static_layer"]
    assert "otlp" not in {cluster["name"] for cluster in found["static_resources"]["clusters"]}
    assert "secret-of-it" not in str(found)


@pytest.mark.parametrize(
    ("otlp", "told"),
    [
        ("endpoint: collector", "this is not an address of a collector"),
        ("endpoint: 'http://u:p@host'", "this URL contains a user or a password"),
        ("endpoint: 'http://host:x'", "this is not a URL"),
        ("endpoint: 'http://host/path'", "a gRPC endpoint has no path"),
        ("endpoint: 'http://host', headers: {a: b}", "would send headers or content unencrypted"),
        ("endpoint: 'http://host', content: true", "would send headers or content unencrypted"),
        ("endpoint: 'http://localhost', headers: {A_b: c}", "this is not a header's name"),
        ("endpoint: 'http://localhost', attributes: [phoenix]", "this is not one of langfuse, openinference"),
    ],
)
def test_a_mistake_is_told(otlp: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        rendered(f"otlp: {{{otlp}}}")
