"""What a proxy says of its extensions becomes the capabilities that are rendered for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from config_kit import mistake, read

from edge_extproc.cli import app
from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.errors import ConfigError, exit_code
from edge_extproc.proxy import extensions
from edge_extproc.proxy.capabilities import CAPABILITIES
from edge_extproc.proxy.envoy_versions import at_capabilities, check, lost

GROUP = "envoy.router.cluster_specifier_plugin.priority_group"
COMPOSITE = "envoy.clusters.composite"
AGGREGATE = ("envoy.clusters.aggregate", "envoy.retry_priorities.previous_priorities")
METADATA = ("envoy.matching.matchers.metadata_matcher", "envoy.matching.inputs.dynamic_metadata")
STATE = ("envoy.filters.http.set_filter_state", "envoy.matching.inputs.filter_state")
LACKS_ALL = "this proxy has no envoy.access_loggers.extension_filters.cel, envoy.filters.http.ext_proc"
EVERYTHING = (*extensions.NEEDED, GROUP, COMPOSITE, *AGGREGATE, *METADATA, *STATE)


def node(*names: str, minor: int = 40, disabled: tuple[str, ...] = ()) -> dict[str, Any]:
    listed = [{"name": name, "category": "any", "disabled": name in disabled} for name in names]
    return {"extensions": listed, "user_agent_build_version": {"version": {"major_number": 1, "minor_number": minor}}}


def said(value: object, version: str | None = None) -> frozenset[str]:
    text = value if isinstance(value, str) else json.dumps(value)
    return frozenset(extensions.capabilities(text.encode(), "f", version))


def without(*names: str) -> list[str]:
    return [each for each in EVERYTHING if each not in names]


@pytest.mark.parametrize("minor", range(36, 41))
def test_a_proxy_with_every_extension_can_what_its_version_can(minor: int) -> None:
    assert CAPABILITIES[f"envoy-1.{minor}"] == said({"node": node(*EVERYTHING, minor=minor)})


def test_a_proxy_without_what_istio_lacks_can_what_istios_can() -> None:
    disabled = (GROUP, COMPOSITE, *METADATA)
    found = said(
        {"version": "0/1.39.1/Clean/RELEASE/BoringSSL", "node": node(*EVERYTHING, minor=39, disabled=disabled)}
    )

    assert CAPABILITIES["istio-1.31"] == found


def test_the_bootstrap_of_a_config_dump_says_the_same() -> None:
    dump = {"configs": [{"@type": "clusters"}, {"bootstrap": {"node": node(*EVERYTHING)}}]}

    assert CAPABILITIES["envoy-1.40"] == said(dump)


def test_the_version_may_be_that_of_the_server_alone_and_a_newer_one_can_what_the_newest_listed_can() -> None:
    alone = {"extensions": [{"name": name} for name in EVERYTHING]}

    assert CAPABILITIES["envoy-1.38"] == said({"version": "0/1.38.4-dev/Modified/RELEASE/BoringSSL", "node": alone})
    assert CAPABILITIES["envoy-1.40"] == said({"node": node(*EVERYTHING, minor=55)})


@pytest.mark.parametrize(("lacks", "release"), [((), "1.40"), ((GROUP,), "1.37"), ((GROUP, COMPOSITE), "1.36")])
def test_a_list_has_the_lowest_version_that_its_names_have(lacks: tuple[str, ...], release: str) -> None:
    names = without(*lacks)

    assert CAPABILITIES[f"envoy-{release}"] == said(names)
    assert CAPABILITIES[f"envoy-{release}"] == said("# of our build\n\n" + "\n".join(f"a.category/{n}" for n in names))


def test_a_list_is_given_its_version() -> None:
    names = without(GROUP, COMPOSITE)

    assert "hash_policy" not in said(names)
    assert {"hash_policy", "held_retry", "masked_address"} <= said(names, "1.38")


@pytest.mark.parametrize(
    ("lacks", "kind", "plugin"),
    [
        ((), None, True),
        ((GROUP,), "envoy.clusters.composite", False),
        ((GROUP, COMPOSITE), "envoy.clusters.aggregate", False),
    ],
)
def test_the_best_order_that_the_proxy_has_is_rendered(lacks: tuple[str, ...], kind: str | None, plugin: bool) -> None:
    found = extensions.capabilities(json.dumps({"node": node(*without(*lacks))}).encode(), "f")
    models = "providers: {a: {kind: openai, api_key: x}, b: {kind: openai, api_key: x}}\n"
    models += "models: {m: [{provider: a}, {provider: b}]}\n"
    config = at_capabilities(read(models), found)
    check(config)
    resources = bootstrap(config)["static_resources"]
    clusters = [each["cluster_type"]["name"] for each in resources["clusters"] if each["name"].startswith("chain_")]

    assert {kind} - {None} == set(clusters)
    assert plugin is ("PriorityGroup" in str(resources["listeners"]))
    assert "metadata.v3.Metadata" in str(resources)


def test_the_guard_is_rendered_only_with_a_matcher_of_its_own() -> None:
    models = "models: {m: [{provider: p}]}\n"

    def guarded(*lacks: str) -> bool:
        found = extensions.capabilities(json.dumps({"node": node(*without(*lacks))}).encode(), "f")
        config = at_capabilities(read(models), found)
        return "edge.guard" in str(bootstrap(config)) and not any("first token" in each for each in lost(config))

    assert guarded(*METADATA)
    assert guarded(*STATE)
    assert not guarded(METADATA[0], STATE[0])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "f: there is no extension in it; it must be the JSON of /server_info"),
        ("# only this\n", "there is no extension in it"),
        ("envoy.clusters.aggregate\nnot one\n", "f: line 2: 'not one' is not the name of an extension"),
        ("admin:\n  port: 1\n", "f: line 1: 'admin:' is not the name of an extension"),
        ("[1]", "f: element 0: '1' is not the name of an extension"),
        ("{", "f: this is not valid JSON"),
        ("{}", "f: there is no node with extensions in it"),
        ('{"configs": [3, {"bootstrap": []}]}', "there is no node with extensions in it"),
        (
            '{"node": {"extensions": [3]}}',
            LACKS_ALL,
        ),
        (
            "envoy.clusters.aggregate",
            LACKS_ALL,
        ),
        (json.dumps({"node": node(*EVERYTHING, minor=35)}), "this proxy is Envoy 1.35; the oldest that works is 1.36"),
        (json.dumps(without(GROUP, COMPOSITE, AGGREGATE[1])), "this proxy cannot try providers in order"),
    ],
)
def test_what_is_no_such_file_is_a_clear_error(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        extensions.capabilities(text.encode(), "f")

    assert told in caught.value.message


def test_bytes_that_are_not_text_and_a_version_that_is_not_known_are_too() -> None:
    with pytest.raises(ConfigError, match="this is not text"):
        extensions.capabilities(b"\xff\xfe", "f")
    with pytest.raises(ConfigError, match=r"--envoy-version: '1\.12' cannot be rendered for"):
        said(list(EVERYTHING), "1.12")


def test_capabilities_of_a_configuration_are_checked() -> None:
    assert "both capabilities and a release" in mistake("envoy: {capabilities: [aggregate], istio: '1.30'}\n")
    for names, told in (("[agregate]", "'agregate' is not a capability"), ("[hash_policy]", "one of priority_group")):
        with pytest.raises(ConfigError, match=told):
            check(read(f"envoy: {{capabilities: {names}}}\n"))


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        ("", ("--target", "custom"), "give --capabilities FILE, or set envoy.capabilities"),
        ("", ("--target", "custom", "--istio", "1.30"), "--istio: a custom proxy has no release of Istio"),
        ("", ("--target", "custom", "--capabilities", "no-such-file"), "cannot read no-such-file"),
        ("", ("--capabilities", "a-file"), "the capabilities of envoy depend on its release"),
        ("[aggregate]", ("--target", "custom", "--envoy-version", "1.38"), "envoy.capabilities need no version"),
    ],
)
def test_options_that_a_custom_proxy_does_not_have_are_refused(
    given: str, options: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(
        "auth: {pepper: pepper-pepper-pepper}\n"
        "callers: [{tenant: t, keys: [{id: k, key: edge-0123456789abcdef0123456789}]}]\n"
        "providers: {a: {kind: openai, api_key: x}}\nmodels: {m: [{provider: a}]}\n"
        f"agent: {{state_dir: {tmp_path}}}\n" + (f"envoy: {{capabilities: {given}}}\n" if given else "")
    )
    told_by = ["render", "--config", str(config), *options]

    assert 0 != exit_code(lambda: app(told_by, result_action="return_value"))
    assert told in capsys.readouterr().err
