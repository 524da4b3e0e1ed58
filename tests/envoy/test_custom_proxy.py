"""`render --target custom`: what a real Envoy says of its extensions, and that it accepts what is rendered from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from istio_kit import lacking
from running_envoy import RunningEnvoy

from edge_extproc.cli import app
from edge_extproc.envoy_config.validate import envoy_path, validate
from edge_extproc.errors import exit_code
from edge_extproc.proxy.capabilities import CAPABILITIES
from edge_extproc.proxy.rendered_extensions import EXTENSION_OF_FIELD, EXTENSION_OF_TYPE

pytestmark = pytest.mark.envoy

CONFIG = """
auth: {pepper: pepper-pepper-pepper}
callers: [{tenant: t, keys: [{id: k, key: edge-0123456789abcdef0123456789}]}]
providers: {a: {kind: openai, api_key: x}, b: {kind: openai, api_key: x}}
models: {m: [{provider: a}, {provider: b}]}
"""
# The version of the tests' Envoy is 1.40.
WITHOUT_ISTIOS = CAPABILITIES["istio-1.32"] | {"client_span"}


def test_the_extension_of_each_type_is_the_one_that_envoy_says(tmp_path: Path) -> None:
    envoy = RunningEnvoy({}, tmp_path, log_level="warning")
    envoy.start()
    try:
        said = json.loads(envoy.admin("/server_info"))["node"]["extensions"]
    finally:
        envoy.stop()
    pairs = {(kind, each["name"]) for each in said for kind in each.get("type_urls", ())}
    names = {each["name"] for each in said}

    assert set() == set(EXTENSION_OF_TYPE.items()) - pairs
    assert set() == set(EXTENSION_OF_FIELD.values()) - names


@pytest.mark.parametrize("path", ["/server_info", "/config_dump"])
@pytest.mark.parametrize(("without", "found"), [("", CAPABILITIES["envoy-1.40"]), (lacking(), WITHOUT_ISTIOS)])
def test_an_envoy_accepts_what_is_rendered_from_its_own_extensions(
    path: str, without: str, found: frozenset[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    envoy = RunningEnvoy({}, tmp_path, log_level="warning", without=without)
    envoy.start()
    try:
        (tmp_path / "proxy.json").write_text(envoy.admin(path))
    finally:
        envoy.stop()
    config, rendered = tmp_path / "edge.yaml", tmp_path / "rendered.json"
    config.write_text(CONFIG + f"agent: {{workers: 2, state_dir: {tmp_path}}}\n")
    said = ["--capabilities", str(tmp_path / "proxy.json"), "--output", str(rendered)]

    assert 0 == exit_code(
        lambda: app(["render", "--config", str(config), "--target", "custom", *said], result_action="return_value")
    )
    bootstrap = json.loads(rendered.read_text())
    validate(bootstrap, envoy_path(), without=without)
    told = capsys.readouterr().err
    if not without:
        assert "" == told
        return
    assert f"give the agent envoy: {{capabilities: [{', '.join(sorted(found))}]}}" in told
    assert "the custom proxy: a slow call cannot be hedged" in told

    # With this line, the agent's configuration renders the same.
    config.write_text(config.read_text() + f"envoy: {{capabilities: [{', '.join(sorted(found))}]}}\n")
    again = tmp_path / "again.json"
    assert 0 == exit_code(
        lambda: app(["render", "--config", str(config), "--output", str(again)], result_action="return_value")
    )
    assert bootstrap == json.loads(again.read_text())
